"""A saved model: a folder of weights (safetensors) and all that their use needs (JSON), self-checking, no pickle.

Weights of another model can be started from: taken where name and shape agree, and said so; whom they have seen is
known.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biopercept.data.normalisation import NormalisationSettings, TrainingStatistics
from biopercept.errors import CheckpointError, SettingsError, StudyError, library_words, listed, the_model
from biopercept.files import content_hash, replacing_folder, write_json, write_text
from biopercept.model.biosignals import BiosignalPerceiver, perceiver_for
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import TokenVocabulary
from biopercept.tasks import CLASSIFICATION, Task
from biopercept.training.calibration import Calibration
from biopercept.training.known_inputs import KnownInputs
from biopercept.typed_values import from_plain, to_plain
from biopercept.version import __version__, version_needed

SCHEMA = 2  # 1: a network for one classification, another for everything else, parts by other names
TRAINED, PRETRAINED = "perceiver-io", "pretrained"
WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "card.md"
_DIGITS = 16
_OF_TASKS = ("queries.", "heads.", "branches.linear.", "branches.conv.fusion.head.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model with all that its use needs.

    * ``network``: in evaluation mode, on the CPU.
    * ``tasks``: what it predicts, in the order of its queries; classes in the order of its outputs, numbers with their
      scale.
    * ``population``: of its training subjects.
    * ``prepare``: window and cleaning settings as plain values: ``predict`` prepares recordings with these.
    * ``training``: subjects, windows, seed, epochs, store fingerprint and scores as plain values.
    * ``calibration``: applied to its probabilities; None where it was trained without, as all models are but those of
      one classification.
    * ``known``: what inputs it knows; None of a model that was made before this was kept.
    """

    network: BiosignalPerceiver
    tasks: tuple[Task, ...]
    feature_names: tuple[str, ...]
    population: TrainingStatistics
    normalisation: NormalisationSettings
    tokens: TokenSettings
    model: PerceiverSettings
    vocabulary: TokenVocabulary
    prepare: dict[str, Any]
    training: dict[str, Any]
    calibration: Calibration | None = None
    known: KnownInputs | None = None

    @property
    def window_seconds(self) -> float:
        """Return the length of the windows that it reads."""
        return float(self.prepare["windows"]["length_seconds"])

    @property
    def is_dense(self) -> bool:
        """Return whether it was trained to predict at single times."""
        return _is_dense(self.training)

    @property
    def is_one_classification(self) -> bool:
        """Return whether it predicts the classes of one task, of whole windows alone."""
        return [task.kind for task in self.tasks] == [CLASSIFICATION] and not self.is_dense


def _is_dense(training: Mapping[str, Any]) -> bool:
    return float(training["settings"].get("dense_weight", 0.0)) > 0


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    import numpy
    import scipy
    import sklearn

    return {
        "biopercept": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
    }


def save_checkpoint(checkpoint: Checkpoint, folder: Path, card: str) -> None:
    """Write a trained model, with its model card (Markdown), as a folder, whole or not at all.

    Raises OutputError where a file cannot be written.
    """
    description = {
        "schema": SCHEMA,
        "kind": TRAINED,
        "tasks": [task.to_json() for task in checkpoint.tasks],
        "feature_names": list(checkpoint.feature_names),
        "normalisation": asdict(checkpoint.normalisation),
        "tokens": asdict(checkpoint.tokens),
        "model": asdict(checkpoint.model),
        "vocabulary": checkpoint.vocabulary.to_json(),
        "prepare": checkpoint.prepare,
        "population": checkpoint.population.to_json(),
        "calibration": to_plain(checkpoint.calibration),
        "training": checkpoint.training,
        **({} if checkpoint.known is None else {"known": to_plain(checkpoint.known)}),
    }
    write_model_folder(folder, checkpoint.network.state_dict(), description, card)


def write_model_folder(
    folder: Path, weights: Mapping[str, torch.Tensor], description: dict[str, Any], card: str
) -> None:
    """Write a model folder; an older one is replaced when the new one is whole, and the user's own files in it stay.

    To the description (plain values) versions and the SHA-256 of the weights and of the description itself are added;
    the card is Markdown.

    Raises OutputError where the folder cannot be written.
    """
    from safetensors.torch import save

    with replacing_folder(folder) as fresh:
        # Written here, with the usual permissions: save_file makes a file that its owner alone can read.
        (fresh / WEIGHTS).write_bytes(save({name: value.contiguous().cpu() for name, value in weights.items()}))
        write_text(fresh / CARD, card)
        whole = {**description, "versions": versions(), "weights_sha256": content_hash(fresh / WEIGHTS)}
        whole = json.loads(json.dumps(whole))
        write_json(fresh / DESCRIPTION, {**whole, "description_sha256": _description_hash(whole)})


def _description_hash(description: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "description_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load_model(folder: Path) -> Checkpoint:
    """Return the trained model that :func:`save_checkpoint` wrote.

    Raises CheckpointError where the folder is no model, is damaged, or is of another schema.
    """
    description = read_description(folder)
    if description["kind"] == PRETRAINED:
        raise CheckpointError(f"{folder} was pretrained and predicts no task yet; give it to train with --start-from")
    weights = read_weights(folder, description)
    with describing(folder, "train the model again"):
        tasks = tuple(Task.from_json(row) for row in description["tasks"])
        tokens, model = TokenSettings(**description["tokens"]), PerceiverSettings(**description["model"])
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        calibration = description["calibration"]
        network = perceiver_for(tasks, model, tokens, vocabulary, traces=_is_dense(description["training"]))
        fill(network, weights)
        checkpoint = Checkpoint(
            network=network.eval(),
            tasks=tasks,
            feature_names=tuple(description["feature_names"]),
            population=TrainingStatistics.from_json(description["population"]),
            normalisation=NormalisationSettings(**description["normalisation"]),
            tokens=tokens,
            model=model,
            vocabulary=vocabulary,
            prepare=description["prepare"],
            training=description["training"],
            calibration=None if calibration is None else from_plain(Calibration, calibration),
            known=None if description.get("known") is None else from_plain(KnownInputs, description["known"]),
        )
        _require_use(checkpoint)
    return checkpoint


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a network all of its weights. Raises ValueError, and changes nothing, where they are not exactly its own."""
    ours = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    theirs = {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}
    for names, words in ((ours.keys() - theirs.keys(), "lack"), (theirs.keys() - ours.keys(), "have beyond it")):
        if names:
            raise ValueError(f"the weights {words} {listed(sorted(names), 3)}")
    for name, (shape, kind) in theirs.items():
        if (shape, kind) != ours[name]:
            raise ValueError(
                f"{name} is {kind} of shape {shape} and the network has {ours[name][1]} of {ours[name][0]}"
            )
    network.load_state_dict(dict(weights))


def _require_use(checkpoint: Checkpoint) -> None:
    """Raise KeyError, TypeError or ValueError where the free parts of a description lack what predictions need."""
    float(checkpoint.prepare["windows"]["step_seconds"])
    _ = checkpoint.window_seconds
    if not checkpoint.tasks or not checkpoint.training["modalities"]:
        raise KeyError("tasks and modalities")
    if checkpoint.known is not None and not checkpoint.known.names <= set(checkpoint.feature_names):
        raise KeyError("known features")


def require_features(model: str, ours: Sequence[str], theirs: Sequence[str], where: str) -> None:
    """Refuse features that are not those which a model reads, in its order: the network knows them by their places.

    ``ours`` are the model's, which ``model`` names; ``theirs`` are of ``where``, such as "this version".

    Raises SettingsError.
    """
    if tuple(ours) == tuple(theirs):
        return
    lacking, new = ([name for name in one if name not in set(other)] for one, other in ((ours, theirs), (theirs, ours)))
    differing = [f"{listed(names)} {words}" for names, words in ((lacking, "missing"), (new, "new")) if names]
    raise SettingsError(
        f"{the_model(model)} reads {len(ours)} features and {where} has {len(theirs)}: "
        f"{', '.join(differing) or 'the same in another order'}; prepare and train the model with one version"
    )


@contextmanager
def describing(folder: Path, remedy: str) -> Iterator[None]:
    """Raise as CheckpointError, with what to do about it, what goes wrong in reading a description's fields."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, MemoryError) as fault:
        raise CheckpointError(f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); {remedy}") from fault
    except (StudyError, SettingsError) as fault:
        raise CheckpointError(f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); {remedy}") from fault


def read_weights(folder: Path, description: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a model folder by name, once their hash is the one that the description gives.

    Raises CheckpointError where the file is missing or damaged, or holds numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}; the model is incomplete: train it again")
    if content_hash(path) != description.get("weights_sha256"):
        raise CheckpointError(
            f"{path.name} in {folder} is damaged (not the SHA-256 that {DESCRIPTION} gives); train the model again"
        )
    try:
        weights = dict(load_file(path))
    except SafetensorError as fault:
        raise CheckpointError(
            f"{path.name} in {path.parent} is not a safetensors file ({fault}); train the model again"
        ) from fault
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise CheckpointError(f"{WEIGHTS} in {folder} holds numbers that are not finite; train the model again")
    return weights


def read_description(folder: Path) -> dict[str, Any]:
    """Return what a model folder says of itself, of a trained model or a pretrained network.

    Raises CheckpointError where the folder is no model, is damaged, or is of another schema.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model: it has no {DESCRIPTION}; give the folder that train wrote")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} is not JSON ({library_words(fault)}); train the model again"
        ) from fault
    if not isinstance(description, dict) or not str(description.get("kind")).startswith((TRAINED, PRETRAINED)):
        raise CheckpointError(f"{DESCRIPTION} in {folder} is not a biopercept model; give the folder that train wrote")
    if description.get("schema") != SCHEMA or description["kind"] not in (TRAINED, PRETRAINED):
        versions, newer = description.get("versions"), version_needed(description, SCHEMA)
        wrote = versions.get("biopercept") if isinstance(versions, dict) else None
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} has schema {description.get('schema')!r} and this biopercept reads {SCHEMA}; "
            f"it was written by biopercept {wrote or 'of another version'}; "
            f"{newer and f'{newer}, or '}make the model again with this one"
        )
    if description.get("description_sha256") != _description_hash(description):
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} is damaged or was edited (not the SHA-256 it gives); train the model again"
        )
    return description


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A saved network, ``pretrained`` or ``perceiver-io``, to start from.

    * ``sha256``: of its weights.
    * ``studies``: ``study``, ``store`` (fingerprint) and ``subjects`` that its weights were fitted to.
    * ``feature_names``: of the features that it reads, in the order of its weights; empty where it does not say.
    * ``tasks``: in the order of its queries; none of a pretrained network.
    * ``modalities``: measured ones that it was fitted to; None where it does not say.
    * ``known``: what inputs it knows; None where it does not say.
    * ``tokens``: its token settings.
    """

    kind: str
    sha256: str
    weights: Mapping[str, torch.Tensor]
    studies: tuple[dict[str, Any], ...]
    feature_names: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    modalities: tuple[str, ...] | None = None
    known: KnownInputs | None = None
    tokens: Mapping[str, Any] = field(default_factory=dict)

    def weights_for(self, feature_names: Sequence[str], tasks: Sequence[Task], folder: Path) -> dict[str, torch.Tensor]:
        """Return the weights for windows with these features and a network of these tasks.

        What belongs to tasks is among them only where each of ``tasks`` is the model's by name and classes.

        Raises SettingsError where the features are not the model's.
        """
        if self.feature_names:
            require_features(folder.name, self.feature_names, feature_names, "the store")
        return {name: value for name, _, value in self._of_tasks(tasks)}

    def _of_tasks(self, tasks: Sequence[Task]) -> Iterator[tuple[str, str, torch.Tensor]]:
        """Give every weight as a network of these tasks has it: its name there, its name here, its values."""
        places = [_place_among(task, self.tasks) for task in tasks]
        ends = list(accumulate(task.n_outputs for task in self.tasks))
        outputs = [k for p in places if p is not None for k in range(ends[p] - self.tasks[p].n_outputs, ends[p])]
        for name, value in self.weights.items():
            if not name.startswith(_OF_TASKS):
                yield name, name, value
            elif tasks and None not in places:
                if name.startswith("heads."):
                    _, number, rest = name.split(".", 2)
                    yield from ((f"heads.{k}.{rest}", name, value) for k, p in enumerate(places) if p == int(number))
                else:
                    yield name, name, value[places if name.startswith("queries.") else outputs]

    def described(
        self, network: nn.Module, tasks: Sequence[Task], tokens: TokenSettings, modalities: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return, as plain values for an output, where the weights of ``network``, made for ``tasks``, began.

        ``modalities`` are the measured ones that it is fitted to: those that the model never had are named, and so are
        settings of its ``tokens`` that give the same weights another meaning.
        """
        given = list(self._of_tasks(tasks))
        taken = matching(network, {name: value for name, _, value in given})
        used = {here for name, here, _ in given if name in taken}
        strange = sorted(set(modalities) - set(modalities if self.modalities is None else self.modalities))
        return {
            "kind": self.kind,
            "weights_sha256": self.sha256,
            "studies": [study["study"] for study in self.studies],
            "n_taken": len(taken),
            "new": [name for name in network.state_dict() if name not in taken],
            "unused": [name for name in self.weights if name not in used],
            **({"sensors_not_seen": strange} if strange else {}),
            **({"other_tokens": other} if (other := self._other_tokens(tokens)) else {}),
        }

    def _other_tokens(self, tokens: TokenSettings) -> dict[str, list[Any]]:
        """Return the model's value and the one here of each token setting that differs; dropout has no say in it."""
        ours = {name: value for name, value in asdict(tokens).items() if not name.endswith("_dropout")}
        return {n: [self.tokens[n], ours[n]] for n in ours if n in self.tokens and self.tokens[n] != ours[n]}

    def overlap(self, study: str, store: str, subjects: Collection[str]) -> tuple[str, ...]:
        """Return which of the subjects of a store (by study name or fingerprint) its weights were fitted to, sorted."""
        used = [part for part in self.studies if part["study"] == study or part["store"] == store]
        return tuple(sorted({s for part in used for s in subjects if has_subject(part, s)}))


def _place_among(task: Task, others: Sequence[Task]) -> int | None:
    """Return where a task that is the same by name, kind, classes in their order, and quantity stands; else None."""
    same = (task.name, task.kind, task.class_names, task.quantity)
    return next((k for k, t in enumerate(others) if (t.name, t.kind, t.class_names, t.quantity) == same), None)


def start_words(described: Mapping[str, Any]) -> str:
    """Return how much of a model that was started from was taken, what began anew, and what found no place."""
    words = [f"{described['n_taken']} of {described['n_taken'] + len(described['new'])} arrays of weights were taken"]
    if described["new"]:
        words.append(f"new are {listed(_parts(described['new']))}")
    if unused := described["unused"]:
        words.append(f"of the model's, {len(unused)} have no place here ({listed(_parts(unused))})")
    if strange := described.get("sensors_not_seen"):
        words.append(f"it never had {listed(strange)}, so what reads these is as new")
    for name, (theirs, ours) in described.get("other_tokens", {}).items():
        words.append(f"its tokens.{name} is {json.dumps(theirs)} and {json.dumps(ours)} here")
    return "; ".join(words)


def _parts(names: Sequence[str]) -> list[str]:
    """Return the parts of a network that weights belong to: ``heads``, ``core``, ``fusion.shapes.bvp``."""
    depth = {"fusion": 3, "branches": 2}
    return list(dict.fromkeys(".".join(n.split(".")[: depth.get(n.partition(".")[0], 1)]) for n in names))


def subject_digest(study: str, subject: str) -> str:
    """Return what stands for a subject in a model that is given away: no name, yet whoever has the study knows whose.

    Names as short as S01 can be guessed from it: it keeps names out of files, and no secret.
    """
    return hashlib.sha256(f"{study}/{subject}".encode()).hexdigest()[:_DIGITS]


def has_subject(part: Mapping[str, Any], subject: str) -> bool:
    """Return whether a part of :func:`studies_seen` has a subject of this id, as it is or by its digest."""
    return subject in part["subjects"] or subject_digest(part["study"], subject) in part["subjects"]


def studies_seen(training: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return ``study``, ``store`` (fingerprint) and ``subjects`` that a trained model was fitted to, from its training.

    A model of several stores has one for each. Those that the weights it started from had seen come after its own.
    """
    subjects = [*training["subjects"], *training["validation_subjects"]]
    alone = {"study": training["study"], "store": training["store"], "subjects": subjects}
    before = training.get("start_from")
    return (*training.get("studies", [alone]), *(() if before is None else before["seen"]))


def load_start(folder: Path) -> StartingPoint:
    """Return the starting point in a model folder that ``pretrain`` or ``train`` wrote.

    Raises CheckpointError where the folder is no model or is damaged.
    """
    description = read_description(folder)
    try:
        if description["kind"] == PRETRAINED:
            studies = tuple({key: row[key] for key in ("study", "store", "subjects")} for row in description["studies"])
            weights = transferable(read_weights(folder, description))
            names = tuple(description.get("feature_names", ()))  # not kept by earlier versions
            sha256, tokens = description["weights_sha256"], description["tokens"]
            return StartingPoint(PRETRAINED, sha256, weights, studies, names, tokens=tokens)
        training, known = description["training"], description.get("known")
        return StartingPoint(
            kind=TRAINED,
            sha256=description["weights_sha256"],
            weights=read_weights(folder, description),
            studies=studies_seen(training),
            feature_names=tuple(description["feature_names"]),
            tasks=tuple(Task.from_json(row) for row in description["tasks"]),
            modalities=tuple(training["modalities"]),
            tokens=dict(description["tokens"]),
            known=None if known is None else from_plain(KnownInputs, known),
        )
    except (KeyError, TypeError, ValueError, StudyError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not say what its weights were fitted to ({fault}); train the model again"
        ) from fault


def transferable(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a pretrained network that others can start from: not the query and head of its own task."""
    return {name: value for name, value in weights.items() if not name.startswith(_OF_TASKS)}


def matching(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the names of the weights that the network has with the same shape."""
    state = network.state_dict()
    return {name for name, value in state.items() if name in weights and weights[name].shape == value.shape}


def take_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Copy into the network every weight that has its name and shape, and return their names; others stay.

    Raises CheckpointError where nothing matches: the networks have nothing in common.
    """
    names = matching(network, weights)
    if not names:
        raise CheckpointError(
            "no weight of the model to start from has the name and shape of one here; use its model settings "
            "(width, n_latents, n_heads) or leave --start-from out"
        )
    state = network.state_dict()
    with torch.no_grad():
        for name in names:
            state[name].copy_(weights[name])
    return names
