"""Pretrain a network on unlabelled windows of several studies at once, and save it as a model folder without a task.

Windows are those that cover every recording from its start, labelled or not, and no label is read.
Each study is normalised by the statistics of its own subjects. To keep test subjects out, give only
the training subjects of a fold (:func:`pretrained_weights` does): a network that was pretrained on
everybody has seen the test subjects' signals. The folder names whom the weights have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biopercept.data.batches import TokenSource, feature_groups, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings, Population
from biopercept.data.windows import IntArray, grid_windows
from biopercept.errors import CheckpointError, SettingsError, StudyError, TrainingError
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.token_inputs import TokenVocabulary
from biopercept.model.tokens import TokenSettings
from biopercept.store.prepared import WindowedRecording
from biopercept.training.checkpoint import (
    DESCRIPTION,
    PRETRAINED,
    SCHEMA,
    StartingPoint,
    read_description,
    read_weights,
    take_weights,
    transferable,
    write_model_folder,
)
from biopercept.training.engine import Engine, seeded
from biopercept.training.loop import Optimisation
from biopercept.training.pretext import PretextNetwork, PretrainingSettings, pretext_perceiver

LossReport = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network that has learnt from unlabelled windows, and how it went.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode, on the CPU.
    history : tuple of (epoch, loss)
    """

    network: BiosignalPerceiver
    vocabulary: TokenVocabulary
    history: tuple[tuple[int, float], ...]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Return its weights by name."""
        return dict(self.network.state_dict())


def unlabelled_inputs(
    recordings: Sequence[WindowedRecording],
    normalisation: NormalisationSettings,
    tokens: TokenSettings,
    *,
    length_seconds: float,
    step_seconds: float,
    feature_names: Sequence[str],
) -> WindowInputs:
    """Return the inputs of the windows that cover these recordings, labels or not.

    Raises
    ------
    StudyError
        Where there is none.
    """
    windows = grid_windows(recordings, length_seconds=length_seconds, feature_names=feature_names)
    if not len(windows):
        raise StudyError(f"the {len(recordings)} recordings have no window of {length_seconds:g} s to pretrain on")
    return WindowInputs(windows, normalisation, step_seconds, raw=tokens.raw, derived=tokens.derived)


def pretrain(
    studies: Sequence[WindowInputs],
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    settings: PretrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
    on_epoch: LossReport | None = None,
) -> PretrainedNetwork:
    """Return a network pretrained on the windows of these studies; every subject in them is used.

    Parameters
    ----------
    studies : sequence of WindowInputs
        One for each study, of :func:`unlabelled_inputs`.
    tokens, model, settings
        Settings of inputs, network and objective.
    seed : int
        Of initialisation, sampling, hiding and dropout.
    start_from : mapping of str to Tensor, optional
        Weights to begin with, where name and shape agree.
    on_epoch : callable, optional
        Told ``(epoch, loss)`` after each epoch.

    Raises
    ------
    SettingsError
        Where studies disagree on the features of a group.
    TrainingError
        Where the loss is not finite.
    CheckpointError
        Where ``start_from`` has nothing in common with the network.
    """
    vocabulary = joint_vocabulary(studies)
    sources = [TokenSource(s, s.fit(s.windows.subjects), tokens, engine.device) for s in studies]
    chances = [_subject_weights(s) for s in studies]
    sizes = torch.tensor([float(len(s.windows)) for s in studies])
    n_steps = max(1, math.ceil(float(sizes.sum()) / settings.batch_size))
    history = []
    with seeded(seed) as generator:
        pretext = PretextNetwork(model, tokens, vocabulary, settings).to(engine.device).train()
        if start_from is not None:
            take_weights(pretext.network, start_from)
        noise = torch.Generator(engine.device).manual_seed(seed)
        optimisation = Optimisation(
            pretext,
            engine,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_fraction=settings.warmup_fraction,
            gradient_clip=settings.gradient_clip,
            n_steps=n_steps * settings.n_epochs,
        )
        for epoch in range(1, settings.n_epochs + 1):
            total = 0.0
            for step in range(n_steps):
                study = int(torch.multinomial(sizes, 1, generator=generator))
                n_rows = min(settings.batch_size, len(studies[study].windows))
                rows = torch.multinomial(chances[study], n_rows, generator=generator).numpy()  # none twice in a batch
                loss = optimisation.step(partial(_loss, pretext, sources[study], rows, noise))
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the pretraining loss is not finite at epoch {epoch}, step {step + 1}; "
                        "lower pretraining.learning_rate or look at the recordings with inspect"
                    )
                total += loss
            history.append((epoch, total / n_steps))
            if on_epoch is not None:
                on_epoch(*history[-1])
    return PretrainedNetwork(pretext.network.cpu().eval(), vocabulary, tuple(history))


def _loss(pretext: PretextNetwork, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
    loss: torch.Tensor = pretext(source.batch(rows), noise, source.layouts.parts(rows))
    return loss


def pretrained_weights(
    inputs: WindowInputs,
    subjects: Collection[str],
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    settings: PretrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Return weights pretrained inside a fold: on the recordings of its training subjects alone.

    Parameters
    ----------
    inputs : WindowInputs
        Of the whole study; only recordings of ``subjects`` are read.
    subjects : collection of str
        The fold's training subjects.
    tokens, model, settings, engine, seed, start_from
        As in :func:`pretrain`.
    """
    windows = inputs.windows
    own = unlabelled_inputs(
        tuple(r for r in windows.recordings if r.subject in set(subjects)),
        inputs.settings,
        tokens,
        length_seconds=windows.length_seconds,
        step_seconds=inputs.step_seconds,
        feature_names=windows.feature_names,
    )
    done = pretrain(
        [own], tokens=tokens, model=model, settings=settings, engine=engine, seed=seed, start_from=start_from
    )
    return transferable(done.weights)


def joint_vocabulary(studies: Sequence[WindowInputs]) -> TokenVocabulary:
    """Return what a network must be able to read for all studies.

    Raises
    ------
    SettingsError
        Where two studies have another number of features in one group.
    """
    counts: dict[str, int] = {}
    names: dict[str, None] = {}
    for study in studies:
        for group, columns in feature_groups(study.windows.feature_names).items():
            if counts.setdefault(group, len(columns)) != len(columns):
                raise SettingsError(
                    f"the stores have {counts[group]} and {len(columns)} features of the group {group!r}; "
                    "prepare the studies with one version of biopercept"
                )
        names.update(dict.fromkeys(study.windows.feature_names))
    found = vocabulary_of(tuple(names))
    return TokenVocabulary(found.patch_samples, counts, found.n_channel_codes)


def _subject_weights(study: WindowInputs) -> torch.Tensor:
    """Return weights under which every subject is drawn equally often."""
    _, owner, count = np.unique(study.windows.subject, return_inverse=True, return_counts=True)
    return torch.from_numpy(1.0 / count[owner])


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A pretrained network with all it takes to ask it about a new recording.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode, on the CPU.
    study : str
        Whose preparation and population these are.
    prepare : dict
        Window and cleaning settings of the study's store.
    population : Population
        Statistics of the study's subjects.
    """

    network: BiosignalPerceiver
    objective: str
    tokens: TokenSettings
    normalisation: NormalisationSettings
    study: str
    prepare: dict[str, Any]
    population: Population


def save_pretrained(
    done: PretrainedNetwork,
    folder: Path,
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    normalisation: NormalisationSettings,
    settings: PretrainingSettings,
    studies: Sequence[dict[str, Any]],
    seed: int,
    start: StartingPoint | None = None,
) -> None:
    """Write a pretrained network as a model folder of kind ``pretrained``, for ``--start-from``.

    Parameters
    ----------
    folder : Path
        Created where absent.
    tokens, model, normalisation, settings
        The settings it was pretrained with.
    studies : sequence of dict
        Per study: ``study``, ``store`` (fingerprint), ``subjects``, ``n_windows``, ``prepare`` (settings) and
        ``population`` (what scaled its inputs, :meth:`Population.to_json`).
    start : StartingPoint, optional
        What it began with; whom that has seen is handed on.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    """
    names = ", ".join(f"{row['study']} ({len(row['subjects'])} subjects)" for row in studies)
    card = (
        f"# A network pretrained without labels ({settings.objective})\n\nIt answers no task. Its weights have seen "
        f"signals of {names}: scores on these people are no scores on unseen people.\n"
    )
    unknown = {"n_windows": None, "prepare": None, "population": None}
    seen = [] if start is None else [{**row, **unknown} for row in start.studies]
    description = {
        "schema": SCHEMA,
        "kind": PRETRAINED,
        "normalisation": asdict(normalisation),
        "tokens": asdict(tokens),
        "model": asdict(model),
        "vocabulary": done.vocabulary.to_json(),
        "pretraining": asdict(settings),
        "studies": [*studies, *seen],
        "start_from": None if start is None else start.described(done.network),
        "seed": seed,
        "history": [list(row) for row in done.history],
    }
    write_model_folder(folder, done.weights, description, card)


def load_pretrained(folder: Path) -> PretrainedNetwork:
    """Return a pretrained network with its queries, for generation of signals or further pretraining.

    Raises
    ------
    CheckpointError
        Where the folder holds no pretrained network or is damaged.
    """
    description = read_description(folder)
    if description["kind"] != PRETRAINED:
        raise CheckpointError(f"{folder} holds a trained model; a pretrained network is needed: run pretrain")
    weights = read_weights(folder, description)
    try:
        model = PerceiverSettings(**description["model"])
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        tokens, objective = TokenSettings(**description["tokens"]), description["pretraining"]["objective"]
        network = pretext_perceiver(model, tokens, vocabulary, objective)
        network.load_state_dict(weights)
        history = tuple((int(epoch), float(loss)) for epoch, loss in description["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); pretrain the network again"
        ) from fault
    return PretrainedNetwork(network.eval(), vocabulary, history)


def load_pretrained_model(folder: Path, study: str | None = None) -> PretrainedModel:
    """Return a pretrained network with the preparation and the scale of one of its studies.

    Parameters
    ----------
    study : str, optional
        One of those it was pretrained on; None: the first.

    Raises
    ------
    CheckpointError
        Where the folder holds no pretrained network, is damaged, lacks the study, or does not keep its scale.
    """
    network, description = load_pretrained(folder).network, read_description(folder)
    held = {row["study"]: row for row in reversed(description["studies"]) if row.get("population")}
    if not held:
        raise CheckpointError(f"{folder} does not keep the scale of its studies; pretrain the network again")
    first = next(row["study"] for row in description["studies"] if row.get("population"))
    if (name := study or first) not in held:
        raise CheckpointError(f"{folder} was not pretrained on {name!r}; it was on {', '.join(held)}")
    try:
        return PretrainedModel(
            network,
            description["pretraining"]["objective"],
            TokenSettings(**description["tokens"]),
            NormalisationSettings(**description["normalisation"]),
            name,
            dict(held[name]["prepare"]),
            Population.from_json(held[name]["population"]),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its study ({fault}); pretrain the network again"
        ) from fault
