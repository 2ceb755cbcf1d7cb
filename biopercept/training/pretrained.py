"""Pretrained networks as model folders: pretrained on stores, written with whom they have seen, and read again.

A folder of kind ``pretrained`` predicts no task. ``--start-from`` begins a training with its weights, and what
reconstructs signals reads the network with the preparation and the scale of one of its studies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings, TrainingStatistics
from biopercept.errors import CheckpointError, StudyError, count
from biopercept.files import only_writer
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import TokenVocabulary
from biopercept.ranks import Ranks
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.checkpoint import (
    PRETRAINED,
    SCHEMA,
    StartingPoint,
    describing,
    fill,
    load_start,
    read_description,
    read_weights,
    write_model_folder,
)
from biopercept.training.engine import engine_for, group_of, seed_for, threads
from biopercept.training.model_card import plan_lines
from biopercept.training.pretraining import (
    LossReport,
    PretrainedNetwork,
    PretrainingRequest,
    pretext_perceiver,
    pretrain,
    unlabelled_inputs,
)
from biopercept.training.resuming import resuming_until_written
from biopercept.training.settings import FitSettings
from biopercept.typed_values import not_among


@dataclass(frozen=True, eq=False)
class StoresRequest:
    """Stores to pretrain on, and how; ``fit.pretraining`` is set, ``fit.start_from`` may be.

    Of whichever store only ``subjects`` are read (None: all), without those ``excluded``. ``plan`` is the document that
    says why the settings are what they are, where they follow from the data.
    """

    stores: tuple[Path, ...]
    fit: FitSettings
    normalisation: NormalisationSettings
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    plan: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class PretrainedStores:
    """A network pretrained on some stores: the names of their studies, and the loss of each epoch.

    ``is_written``: by this process, the first of those that torchrun started.
    """

    studies: tuple[str, ...]
    history: tuple[tuple[int, float], ...]
    is_written: bool = True


def pretrain_on_stores(request: StoresRequest, output: Path, *, on_epoch: LossReport | None = None) -> PretrainedStores:
    """Pretrain on the wanted subjects of some stores and write the model folder.

    Raises StudyError where a named subject is in no store, nobody is left, or the recordings have no window. Raises
    SettingsError, TrainingError, CheckpointError: as :func:`pretrain`, and where the model to start from cannot be
    read. Raises OutputError where a file cannot be written. Raises UnfinishedError where another process ended that
    torchrun has started.
    """
    fit = request.fit
    assert fit.pretraining is not None
    ranks = Ranks.of(os.environ)
    with ExitStack() as stack:
        group = stack.enter_context(group_of(ranks))
        start = load_start(Path(fit.start_from)) if fit.start_from else None
        engine = engine_for(request.device, fit.training.precision, ranks)
        stores = [stack.enter_context(open_store(path)) for path in request.stores]
        if ranks.is_first:
            stack.enter_context(only_writer(output))
        stack.enter_context(threads(fit.training.n_threads))
        studies: list[WindowInputs] = []
        described: list[dict[str, Any]] = []
        for store, recordings in zip(stores, _wanted(stores, request.subjects, request.excluded), strict=True):
            if not recordings:
                continue
            inputs = unlabelled_inputs(
                recordings,
                request.normalisation,
                fit.tokens,
                length_seconds=store.window_length_seconds,
                step_seconds=store.step_seconds,
                feature_names=store.feature_names,
            )
            studies.append(inputs)
            described.append({
                "study": store.name,
                "store": store.fingerprint(),
                "subjects": list(inputs.windows.subjects),
                "n_windows": len(inputs.windows),
                "prepare": dict(store.settings),
                "population": inputs.fit(inputs.windows.subjects).to_json(),
            })  # fmt: skip
        pretraining = PretrainingRequest(
            studies=tuple(studies),
            tokens=fit.tokens,
            model=fit.model,
            settings=fit.pretraining,
            engine=engine,
            seed=seed_for(request.seed, "pretrain"),
            start_from=None if start is None else start.weights_for(stores[0].feature_names, (), Path(fit.start_from)),
            on_epoch=on_epoch,
            group=group,
        )
        with resuming_until_written(output) if ranks.is_first else nullcontext():
            done = pretrain(pretraining)
            if ranks.is_first:
                save_pretrained(done, pretraining, Origin(described, request.seed, start, request.plan), output)
    return PretrainedStores(tuple(row["study"] for row in described), done.history, ranks.is_first)


def _wanted(
    stores: Sequence[StudyStore], subjects: tuple[str, ...] | None, excluded: tuple[str, ...]
) -> list[tuple[WindowedRecording, ...]]:
    """Return the wanted recordings of each store; a subject must be known to one of them."""
    known = {r.subject for store in stores for r in store.recordings}
    if unknown := sorted((set(subjects or ()) | set(excluded)) - known):
        raise StudyError(f"no recording of subject {not_among(unknown, sorted(known))}")
    kept = (known if subjects is None else set(subjects)) - set(excluded)
    if not kept:
        raise StudyError("no subject is left; check --subjects and --exclude-subjects")
    return [tuple(r for r in store.recordings if r.subject in kept) for store in stores]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a pretrained network comes from, as its folder says it.

    Each of ``studies`` has ``study``, ``store`` (fingerprint), ``subjects``, ``n_windows``, ``prepare`` (settings) and
    ``population`` (what scaled its inputs). ``seed`` is the user's; whom ``start`` has seen is handed on; ``plan`` is
    the document that says why the settings are what they are, where they follow from the data.
    """

    studies: Sequence[dict[str, Any]]
    seed: int
    start: StartingPoint | None = None
    plan: dict[str, Any] | None = None


def save_pretrained(done: PretrainedNetwork, request: PretrainingRequest, origin: Origin, folder: Path) -> None:
    """Write a pretrained network as a model folder of kind ``pretrained``, for ``--start-from``.

    Raises OutputError where a file cannot be written.
    """
    studies, start = origin.studies, origin.start
    names = ", ".join(f"{row['study']} ({count(len(row['subjects']), 'subject')})" for row in studies)
    card = (
        f"# A network pretrained without labels ({request.settings.objective})\n\nIt predicts no task. "
        f"Its weights have seen signals of {names}: scores on these people are no scores on unseen people.\n"
        + "".join(f"{line}\n" for line in plan_lines(origin.plan))
    )
    unknown = {"n_windows": None, "prepare": None, "population": None}
    seen = [] if start is None else [{**row, **unknown} for row in start.studies]
    description = {
        "schema": SCHEMA,
        "kind": PRETRAINED,
        "normalisation": asdict(request.studies[0].settings),
        "tokens": asdict(request.tokens),
        "model": asdict(request.model),
        "vocabulary": done.vocabulary.to_json(),
        "feature_names": list(request.studies[0].windows.feature_names),
        "pretraining": asdict(request.settings),
        "studies": [*studies, *seen],
        "start_from": None if start is None else start.described(done.network, (), request.tokens),
        "seed": origin.seed,
        "history": [list(row) for row in done.history],
    }
    if origin.plan is not None:
        description["plan"] = origin.plan
    write_model_folder(folder, done.weights, description, card)


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A pretrained network, in evaluation mode on the CPU, with all it takes to reconstruct signals of a new recording.

    The settings of preparation and the population are those of ``study``. ``feature_names`` are empty where the model
    was made before they were kept.
    """

    network: BiosignalPerceiver
    objective: str
    tokens: TokenSettings
    normalisation: NormalisationSettings
    study: str
    prepare: dict[str, Any]
    population: TrainingStatistics
    feature_names: tuple[str, ...] = ()


def load_pretrained(folder: Path, study: str | None = None) -> PretrainedModel:
    """Return a pretrained network with the preparation and the scale of one of its studies; None: of the first.

    Raises CheckpointError where the folder holds no pretrained network, is damaged, lacks the study, or does not keep
    its scale.
    """
    description = read_description(folder)
    if description["kind"] != PRETRAINED:
        raise CheckpointError(
            f"{folder.resolve().name} was trained to predict and has no heads for signals; a network that 'biopercept "
            "pretrain --objective masked' wrote can reconstruct them"
        )
    weights = read_weights(folder, description)
    with describing(folder, "pretrain the network again"):
        studies = {row["study"]: row for row in reversed(description["studies"]) if row.get("population")}
        first = next((row["study"] for row in description["studies"] if row.get("population")), None)
        tokens, objective = TokenSettings(**description["tokens"]), description["pretraining"]["objective"]
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        network = pretext_perceiver(PerceiverSettings(**description["model"]), tokens, vocabulary, objective)
        fill(network, weights)
        normalisation = NormalisationSettings(**description["normalisation"])
    if first is None:
        raise CheckpointError(f"{folder} does not keep the scale of its studies; pretrain the network again")
    if (name := study or first) not in studies:
        raise CheckpointError(f"{folder} was not pretrained on {name!r}; it was on {', '.join(studies)}")
    with describing(folder, "pretrain the network again"):
        return PretrainedModel(
            network=network.eval(),
            objective=objective,
            tokens=tokens,
            normalisation=normalisation,
            study=name,
            prepare=dict(studies[name]["prepare"]),
            population=TrainingStatistics.from_json(studies[name]["population"]),
            feature_names=tuple(description.get("feature_names", ())),
        )
