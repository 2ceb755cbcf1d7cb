"""The table of shipped models: name, study, task, settings and seed, and what nobody can read from data or scores."""

from __future__ import annotations

from dataclasses import dataclass

from biopercept.version import NOT_FOR

LARGEST_BYTES, LARGEST_BYTES_TOGETHER = 3_000_000, 10_000_000
"""What a model, and all of them together, may take in the wheel."""
SCORES, ACROSS, AUDIT = "scores", "across-studies", "audit"
"""What is written below the working folder: folds over people, over studies, and the audit (of several of each)."""


@dataclass(frozen=True)
class Recipe:
    """One model: how it is made, and what its card says beside what is measured.

    * ``studies``: words of ``biopercept import``; licence and citation are those of the imported studies. Several are
      joined.
    * ``task``: one, or several with commas between; of several studies the first is one that all have.
    * ``not_for``, ``unknown``: sentences of the card.
    * ``first``: what a recording needs before predictions mean something.
    * ``windows``: ``section.key=value`` of ``prepare``; empty: as planned for the study. Several studies need one.
    """

    name: str
    title: str
    studies: tuple[str, ...]
    task: str
    first: str
    not_for: tuple[str, ...]
    unknown: tuple[str, ...]
    config: str = "auto"
    seed: int = 0
    windows: tuple[str, ...] = ()

    def steps(self, data: str, work: str, split: tuple[str, ...], n_jobs: int = 1) -> dict[str, list[str]]:
        """Return the commands that make it, by what each writes below ``work``, in their order.

        ``data`` is the folder of the public data sets; ``split`` are options of ``cross-validate`` for its folds. A
        model is one network, so one network a fold is scored. Of several studies each is tested by models of the
        others as well, on the task that all have, and audited by itself.
        """
        stores, settings = [f"{work}/{study}.h5" for study in self.studies], ["-c", self.config]
        cut = [word for change in self.windows for word in ("--set", change)]
        jobs, alone = ["-j", str(n_jobs)], ["--seeds", "1", "--device", "cpu"]
        steps = {study: ["import", study, f"{data}/{study}", "-o", f"{work}/{study}"] for study in self.studies} | {
            f"{study}.h5": ["prepare", f"{work}/{study}", "-o", f"{work}/{study}.h5", *settings, *cut, *jobs]
            for study in self.studies
        }

        def fitted(task: str) -> list[str]:
            return [*settings, "--task", task, "--seed", str(self.seed)]

        def scored(name: str, task: str, *options: str) -> list[str]:
            return ["cross-validate", *stores, "-o", f"{work}/{name}", *fitted(task), *options, *alone, *jobs]

        def audited(name: str, study: str, *options: str) -> list[str]:
            common = fitted(self.task.partition(",")[0])
            return ["audit", f"{work}/{study}.h5", "-o", f"{work}/{name}", *common, *options, "--overwrite"]

        if len(self.studies) == 1:
            steps[SCORES] = scored(SCORES, self.task, *split, "--missing-sensors")
            steps[AUDIT] = audited(AUDIT, *self.studies, "--model-scores", f"{work}/{SCORES}")
        else:
            each = ("--split", "study", "--set", "evaluation.missing_sensors=single")
            steps[SCORES] = scored(SCORES, self.task, *split)
            steps[ACROSS] = scored(ACROSS, self.task.partition(",")[0], *each)
            steps |= {f"{AUDIT}-{study}": audited(f"{AUDIT}-{study}", study) for study in self.studies}
        trained = [*stores, "-o", f"{work}/model", *fitted(self.task), "--scores", f"{work}/{SCORES}"]
        return {**steps, "model": ["train", *trained, "--device", "cpu", "--overwrite"]}


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="stress-wrist",
        title="rest or mental stress from a wristband (pulse, skin conductance, temperature, movement)",
        studies=("stress-predict",),
        task="stress",
        first="It scales a recording by its own past, so the first minutes of a recording say little; a recording "
        "should begin at rest.",
        not_for=(
            *NOT_FOR,
            "Exercise, walking or manual work: nobody in the study moved much, and movement changes all that it reads.",
            "Chest belts, finger sensors or watches: an Empatica E4 on the wrist is all that it has seen.",
            "Stress of hours or days: its stress is a Stroop test and an interview of a few minutes each.",
        ),
        unknown=(
            "Population: the data set says that its people were healthy and gives no age, sex, medication or skin tone "
            "of them, so nothing is known of how it differs between them.",
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
        studies=("eegmat",),
        task="workload",
        first="It scales a recording by the past of its session: give the recordings of a session as a study, rest "
        "first, as in the laboratory. A recording by itself has only its own past.",
        not_for=(
            *NOT_FOR,
            "Degrees of workload: it knows rest and serial subtraction, and nothing between or beyond.",
            "Tasks with movement or speech: its EEG was chosen and cleaned by its authors to be free of artefacts.",
            "Children, patients and older people: 18 volunteers of 16 to 26 years took part.",
        ),
        unknown=(
            "Population: 15 women and 3 men of 16 to 26 years (mean 18.3); 6 of the 18 counted badly, in the words of "
            "the data set. The scores of groups among them were not compared, and 3 men are too few to.",
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
        studies=("noneeg",),
        task="state",
        first="It scales a recording by its own past, so the first minutes of a recording say little; a recording "
        "should begin at rest.",
        not_for=(
            *NOT_FOR,
            "Emotions, or workload in general: each of its states is one task of one laboratory, of a few minutes.",
            "Raw pulse waves: heart rate came from an oximeter's own output, once a second.",
            "Physical work of other kinds: its physical stress is standing, walking and slow jogging on a treadmill.",
        ),
        unknown=(
            "Population: 6 women and 14 men of 19 to 33 years (mean 26.1); the scores of groups among them were not "
            "compared.",
            "Device: one wristband at 8 Hz and one oximeter at 1 Hz; others were not seen.",
            "Protocol: one session of about 38 minutes; mixtures of the states were not seen.",
            "Order of conditions: the same for everybody, so recovery, habituation and drift of sensors cannot be told "
            "from the state.",
        ),
    ),
    # Tasks: `stress` is the one that all three have, so each sensor is learnt with it; `state` tells kinds of stress
    # apart and has the windows of movement, which would lie unused. `workload` of eegmat is `stress` there, window by
    # window: a second query would learn the same labels again, and count that study twice.
    Recipe(
        name="base",
        title="rest or stress, and four states, from any of nine sensors; made to start from (--start-from base)",
        studies=("stress-predict", "noneeg", "eegmat"),
        task="stress,state",
        windows=("windows.length_seconds=30", "windows.step_seconds=10"),
        first="It is a beginning for models of a study of your own (train or cross-validate, --start-from base). Its "
        "predictions can be read as those of the other models, after a start at rest; where one of these is made for "
        "your sensors, prefer it.",
        not_for=(
            *NOT_FOR,
            "Proof that it helps: whether a model that starts from it is better than one from new weights is measured "
            "in docs/measurements/studies.md, and is to be measured again on your study, on people it has not seen.",
            "Combinations of sensors from several of its studies: EEG and skin conductance were never worn together.",
            "Physical work under `stress`: windows of it have the task `state` alone.",
        ),
        unknown=(
            "Population: people of three laboratories: 34 of whom age and sex are not given (stress-predict), 20 of 19 "
            "to 33 years, 6 of them women (noneeg), 18 of 16 to 26 years, 15 of them women (eegmat). The scores of "
            "groups among them were not compared.",
            "Device: two kinds of wristband, one oximeter, one EEG system; which sensor a window has tells its "
            "study, and so its protocol and its share of stress.",
            "Protocol: its stress is a Stroop test, an interview, counting backwards, serial subtraction and a horror "
            "film, which need not be one state of the body; what one study teaches of another is little (card, by "
            "study).",
            "Order of conditions: rest comes first in all three, so recovery, habituation and drift of sensors cannot "
            "be told from the state.",
        ),
    ),
)
