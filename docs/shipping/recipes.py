"""The table of shipped models: name, study, task, settings and seed, and what nobody can read from data or scores."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_BYTES, LARGEST_BYTES_TOGETHER = 3_000_000, 10_000_000
"""What a model, and all of them together, may take in the wheel."""


@dataclass(frozen=True)
class Recipe:
    """One model: how it is made, and what its card says beside what is measured.

    * ``study``: word of ``biopercept import``; licence and citation are those of the imported study.
    * ``not_for``, ``unknown``: sentences of the card.
    * ``first``: what a recording needs before predictions mean something.
    """

    name: str
    title: str
    study: str
    task: str
    first: str
    not_for: tuple[str, ...]
    unknown: tuple[str, ...]
    config: str = "auto"
    seed: int = 0

    def steps(self, data: str, work: str, split: tuple[str, ...], n_jobs: int = 1) -> dict[str, list[str]]:
        """Return the commands that make it, by what each writes below ``work``, in their order.

        ``data`` is the folder of the public data sets; ``split`` are options of ``cross-validate`` for its folds. A
        model is one network, so one network a fold is scored.
        """
        study, store, scores, settings = f"{work}/study", f"{work}/store.h5", f"{work}/scores", ["-c", self.config]
        fitted = [*settings, "--task", self.task, "--seed", str(self.seed)]
        return {
            "study": ["import", self.study, f"{data}/{self.study}", "-o", study],
            "store": ["prepare", study, "-o", store, *settings, "-j", str(n_jobs)],
            "scores": [
                *("cross-validate", store, "-o", scores, *fitted, *split, "--seeds", "1", "--missing-sensors"),
                *("--device", "cpu", "-j", str(n_jobs)),
            ],
            "audit": ["audit", store, "-o", f"{work}/audit", *fitted, "--model-scores", scores, "--overwrite"],
            "model": [
                *("train", store, "-o", f"{work}/model", *fitted, "--scores", scores),
                *("--device", "cpu", "--overwrite"),
            ],
        }


_OF_NOBODY = (
    "Decisions about a person: no diagnosis, no hiring, no grading, no supervision at work.",
    "Alarms: how often it would be wrong in a day of ordinary life was not measured.",
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="stress-wrist",
        title="rest or mental stress from a wristband (pulse, skin conductance, temperature, movement)",
        study="stress-predict",
        task="stress",
        first="It scales a recording by its own past, so the first minutes of a recording say little; a recording "
        "should begin at rest.",
        not_for=(
            *_OF_NOBODY,
            "Exercise, walking or manual work: nobody in the study moved much, and movement changes all that it reads.",
            "Chest belts, finger sensors or watches: an Empatica E4 on the wrist is all that it has seen.",
            "Stress of hours or days: its stress is a Stroop test and an interview of a few minutes each.",
        ),
        unknown=(
            "Population: the study gives no age, sex, health, medication or skin tone of its people, so nothing is "
            "known of how it differs between them.",
            "Device: other wristbands have other optics, electrodes and ranges; skin conductance is low in many of "
            "these recordings (0.13 to 0.5 uS).",
            "Protocol: hyperventilation was left out; other tasks, and stress without a task, were not seen.",
            "Order of conditions: the same for everybody, so recovery, habituation and drift of sensors cannot be told "
            "from the state.",
            "Threshold: among other people it may rank windows well and still call too many, or too few, stress.",
        ),
    ),
    Recipe(
        name="workload-eeg",
        title="rest or mental arithmetic from EEG and ECG, or from either alone",
        study="eegmat",
        task="workload",
        first="It scales a recording by the past of its session: give the recordings of a session as a study, rest "
        "first, as in the laboratory. A recording by itself has only its own past.",
        not_for=(
            *_OF_NOBODY,
            "Degrees of workload: it knows rest and serial subtraction, and nothing between or beyond.",
            "Tasks with movement or speech: its EEG was chosen and cleaned by its authors to be free of artefacts.",
            "Children, patients and older people: healthy university students took part.",
        ),
        unknown=(
            "Population: young adults of one university; the scores of groups among them were not compared.",
            "Device: one system with 19 channels of the 10/20 scheme at 500 Hz, referenced to the ears; headsets with "
            "few or dry electrodes, and EEG that nobody cleaned (filters, ICA), were not seen.",
            "Protocol: one minute of one task after three minutes of rest; whether it reads effort, arousal or the "
            "eyes is not known.",
            "Order of conditions: rest always comes first and each file is one condition, so drift over the session "
            "can pass for workload.",
        ),
    ),
    Recipe(
        name="states-wrist",
        title="relaxation, physical, emotional or cognitive stress from a wristband and an oximeter",
        study="noneeg",
        task="state",
        first="It scales a recording by its own past, so the first minutes of a recording say little; a recording "
        "should begin at rest.",
        not_for=(
            *_OF_NOBODY,
            "Emotions, or workload in general: each of its states is one task of one laboratory, of a few minutes.",
            "Raw pulse waves: heart rate came from an oximeter's own output, once a second.",
            "Physical work of other kinds: its physical stress is standing, walking and slow jogging on a treadmill.",
        ),
        unknown=(
            "Population: healthy adults at one university; the scores of groups among them were not compared.",
            "Device: one wristband at 8 Hz and one oximeter at 1 Hz; others were not seen.",
            "Protocol: one session of about 38 minutes; mixtures of the states were not seen.",
            "Order of conditions: the same for everybody, so recovery, habituation and drift of sensors cannot be told "
            "from the state.",
        ),
    ),
)
