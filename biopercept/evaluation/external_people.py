"""Whom an external validation scores: people the model was fitted to are refused or marked, what is unlike is said.

They are found by study and subject, and by the samples of the recordings, as far as the model keeps fingerprints of
them, or the store that it was trained on is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from biopercept.data.duplicates import blocks_of, shared_pairs
from biopercept.data.inputs import WindowInputs
from biopercept.data.windows import WindowTable
from biopercept.errors import SettingsError, listed, the_model
from biopercept.evaluation.plan import copied_subjects, seen_subjects
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.inference.familiarity import NOT_KNOWN
from biopercept.inference.shift import NONE as UNMOVED
from biopercept.results.cross_validation import ExternalModel, FittedOn
from biopercept.store.prepared import WindowedRecording, title_of
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.checkpoint import Checkpoint, StartingPoint
from biopercept.training.final import measured_modalities
from biopercept.training.known_inputs import UNLIKE_FRACTION, KnownInputs, largest_of

SAME = "the same study and subject"
"""How most people are known that the model was fitted to."""


@dataclass(frozen=True)
class ExternalRequest:
    """Which saved model is scored on whom, and how.

    Attributes
    ----------
    model : Path
        Its folder.
    task : str or None
        One of the model's tasks, or several with commas between them; None: all that the study has.
    trained_on : Path or None
        The store that the model was trained on: recordings are then compared with it by their samples, too.
    is_seen_allowed : bool
        Whether people whom the model was fitted to are scored all the same, and the scores then called a leak.
    adapt : str
        How the threshold is moved to each recording without labels: none, past or all, as ``predict`` does it.
    """

    model: Path
    task: str | None = None
    trained_on: Path | None = None
    is_seen_allowed: bool = False
    adapt: str = UNMOVED
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 0
    device: str = "auto"


def refuse_seen(request: ExternalRequest, seen: Mapping[str, str], n_subjects: int) -> None:
    """Refuse to score people whom the model was fitted to, each given with how that is known.

    Raises SettingsError unless it is allowed.
    """
    if not seen or request.is_seen_allowed:
        return
    raise SettingsError(
        f"{the_model(request.model.name)} was fitted to {len(seen)} of the {n_subjects} subjects to be scored: "
        f"{_who(seen)}; leave them out with --exclude-subjects {','.join(sorted(seen))}, or score them all the same "
        "with --allow-seen, and the scores are then marked as a leak"
    )


def _who(seen: Mapping[str, str]) -> str:
    """Return the people by how they are known: "S01, S02 (the same study and subject)"."""
    by_reason: dict[str, list[str]] = {}
    for subject, why in sorted(seen.items()):
        by_reason.setdefault(why, []).append(subject)
    return "; ".join(f"{listed(subjects)} ({why})" for why, subjects in by_reason.items())


def sensor_words(checkpoint: Checkpoint, recordings: Sequence[WindowedRecording]) -> tuple[str, ...]:
    """Return what the model was trained with and nobody here has, and what it was not trained with."""
    known, present = checkpoint.training["modalities"], measured_modalities(recordings)
    lacking, ignored = [m for m in known if m not in present], [m for m in present if m not in known]
    words = []
    if lacking:
        words.append(f"the model was trained with {', '.join(known)}, and nobody here has {', '.join(lacking)}")
    if ignored:
        words.append(f"{', '.join(ignored)} of this study is not read: the model was trained without it")
    return tuple(words)


def unlike_words(checkpoint: Checkpoint, inputs: WindowInputs) -> tuple[str, ...]:
    """Return how many of the windows are unlike those that the model knows, or that this is not known."""
    if checkpoint.known is None:
        return (NOT_KNOWN,)
    windows = inputs.windows
    by_sensor = checkpoint.known.distances_by_sensor(inputs.features(checkpoint.population), windows.feature_names)
    is_unlike = np.nan_to_num(largest_of(by_sensor, len(windows))) > 1.0
    by_person = {person: float(is_unlike[windows.subject == person].mean()) for person in windows.subjects}
    many = [person for person, fraction in by_person.items() if fraction > checkpoint.known.usual]
    of_people = f"; more than {checkpoint.known.usual:.0%} of {listed(many)}" if many else ""
    return (
        f"{is_unlike.mean():.1%} of the windows are unlike those that the model knows (of new people like those that "
        f"it was trained on, about {UNLIKE_FRACTION:.0%} are){of_people}",
    )


def compared_people(
    request: ExternalRequest, store: StudyStore, start: StartingPoint, windows: WindowTable, known: KnownInputs | None
) -> tuple[ExternalModel, tuple[str, ...]]:
    """Return the model with whom it was fitted to, and what every output says of it.

    Raises SettingsError where somebody who is scored was among those, and that is not allowed.
    """
    by_identity = dict.fromkeys(seen_subjects(store, start, windows.subjects), SAME)
    ways, by_content = ["identity"], {}
    if request.trained_on is not None:
        ways.append("content")
        with open_store(request.trained_on) as trained:
            by_content = _copies(trained, start, windows, request)
    elif known is not None:
        ways.append("content")
        by_content = {who: f"the samples of {key}" for who, key in copied_subjects(known, windows).items()}
    seen = {**by_content, **by_identity}
    refuse_seen(request, seen, len(windows.subjects))
    model = ExternalModel(
        model=request.model.resolve().name,
        weights_sha256=start.sha256,
        fitted_on=tuple(
            FittedOn(study=part["study"], store=part["store"], n_subjects=len(set(part["subjects"])))
            for part in start.studies
        ),
        compared_by=tuple(ways),
        seen=tuple(sorted(seen)),
        adapt=None if request.adapt == UNMOVED else request.adapt,
    )
    studies = listed([f"{part.study} ({part.n_subjects} subjects)" for part in model.fitted_on])
    looked = "study, subject and samples" if by_content or len(ways) > 1 else "study and subject alone"
    sentence = (
        f"external validation: {the_model(model.model, 'the saved model')} (weights {start.sha256[:12]}), fitted to "
        f"{studies}, was scored {'unchanged' if model.adapt is None else 'with its threshold moved'}; who was among "
        f"those was looked for by {looked}"
    )
    named = [start.overlap(part["study"], part["store"], windows.subjects) for part in start.studies]
    alike = sorted({s for part in named for s in part} - set(seen)) if len(ways) == 1 else []
    doubt = (
        f"{len(alike)} subjects have an id that somebody the model was fitted to has in another study "
        f"({listed(alike, 4)}); --trained-on STORE tells whether their recordings are the same"
    )
    leak = (
        f"LEAK: the model had been fitted to {len(seen)} of the {len(windows.subjects)} subjects scored: {_who(seen)}"
    )
    return model, (*((leak,) if seen else ()), sentence, *((doubt,) if alike else ()))


def _copies(
    trained: StudyStore, start: StartingPoint, windows: WindowTable, request: ExternalRequest
) -> dict[str, str]:
    """Return whose recordings hold samples of somebody the model was fitted to, with whose."""
    fingerprint = trained.fingerprint()
    used = [part for part in start.studies if part["store"] == fingerprint]
    if not used:
        raise SettingsError(
            f"{the_model(request.model.name)} was not trained on {trained.path.name}, or the store was prepared again "
            "since; give the store that it was trained on, or leave --trained-on out"
        )
    fitted = start.overlap(used[0]["study"], fingerprint, {r.subject for r in trained.recordings})
    before = [r for r in trained.recordings if r.subject in fitted]
    here = [windows.recordings[i] for i in np.unique(windows.recording)]
    blocks = [blocks_of(recording) for recording in (*before, *here)]
    copies: dict[str, str] = {}
    for one, other, fraction in shared_pairs(blocks):
        if one < len(before) <= other:
            theirs, ours = before[one], here[other - len(before)]
            copies[ours.subject] = f"{fraction:.0%} of the samples of {title_of(ours)} are those of {title_of(theirs)}"
    return copies
