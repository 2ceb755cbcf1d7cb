"""Pretrain a network on unlabelled windows of several studies at once, and save it as a model folder without a task.

Windows are those that cover every recording from its start, labelled or not, and no label is read.
Each study is normalised by the statistics of its own subjects. To keep test subjects out, give only the training
subjects of a fold: a network that was pretrained on everybody has seen the test subjects' signals. The folder names
whom the weights have seen.

Three tasks need no labels:

* ``masked``: patches, segments and whole sensors are hidden (a sensor with everything computed from it), and
  queries ask for them: within a sensor, and from the other sensors. As BERT and masked autoencoders do.
* ``contrastive``: at hidden positions the output must be nearer to a code of the true patch than to codes of other
  hidden patches of that modality. As wav2vec 2.0, without its codebook; distractors come from the whole batch.
* ``alignment``: the window as encoded from one sensor alone must be found among the windows as encoded from another
  alone. As CLIP.

References
----------
J. Devlin et al., "BERT", NAACL 2019, doi:10.18653/v1/N19-1423. K. He et al., "Masked autoencoders are scalable vision
learners", CVPR 2022, doi:10.1109/CVPR52688.2022.01553 (hidden tokens are absent, not replaced). A. Baevski et al.,
"wav2vec 2.0", NeurIPS 2020, doi:10.48550/arXiv.2006.11477. A. Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", ICML 2021, doi:10.48550/arXiv.2103.00020.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biopercept.data.batches import TokenSource, feature_groups, in_order, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings, TrainingStatistics
from biopercept.data.windows import IntArray, grid_windows
from biopercept.errors import CheckpointError, SettingsError, StudyError, TrainingError, counted
from biopercept.files import only_writer
from biopercept.model.biosignals import BiosignalPerceiver, PatchQueries, queries_of
from biopercept.model.layers import initialise
from biopercept.model.settings import PerceiverSettings, TokenDropout, TokenSettings
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import hide_tokens, token_layout
from biopercept.ranks import Ranks
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.checkpoint import (
    PRETRAINED,
    SCHEMA,
    StartingPoint,
    describing,
    load_start,
    read_description,
    read_weights,
    require_features,
    take_weights,
    write_model_folder,
)
from biopercept.training.engine import Engine, Group, engine_for, group_of, seed_for, seeded, threads
from biopercept.training.loop import Optimisation, fewer_windows
from biopercept.training.model_card import plan_lines
from biopercept.training.objective import cell_weights, contrastive_loss, patch_loss
from biopercept.training.resuming import KeptFit, kept_fit, random_states, resuming_until_written, set_random_states
from biopercept.training.settings import ALIGNMENT, CONTRASTIVE, MASKED, FitSettings, PretrainingSettings
from biopercept.typed_values import not_among

LossReport = Callable[[int, float], None]
SUMMARY = "summary"
"""Name of the query whose output stands for a whole window in ``alignment``."""


def pretext_perceiver(
    model: PerceiverSettings, tokens: TokenSettings, vocabulary: TokenVocabulary, objective: str
) -> BiosignalPerceiver:
    """Return a new network that reconstructs patches; for ``alignment`` it summarises windows, too."""
    summary = {SUMMARY: model.width} if objective == ALIGNMENT else {}
    return BiosignalPerceiver(model, tokens, vocabulary, summary, reconstructs=True)


class PretextNetwork(nn.Module):
    """A network with all queries, and the small maps that only pretraining needs.

    Dropouts of tokens in the token settings are not used: the objective hides tokens itself.
    """

    def __init__(
        self,
        model: PerceiverSettings,
        tokens: TokenSettings,
        vocabulary: TokenVocabulary,
        settings: PretrainingSettings,
    ) -> None:
        super().__init__()
        open_tokens = replace(tokens, modality_dropout=0.0, channel_dropout=0.0, time_dropout=0.0, token_dropout=0.0)
        self.settings = settings
        self.network = pretext_perceiver(model, open_tokens, vocabulary, settings.objective)
        read = tokens.lengths_read(vocabulary)
        width = model.width
        if settings.objective == CONTRASTIVE:
            self.projections = nn.ModuleDict({m: nn.Linear(width, width) for m in read})
            self.truths = nn.ModuleDict(
                {m: nn.Sequential(nn.Linear(n, width), nn.GELU(), nn.Linear(width, width)) for m, n in read.items()}
            )
            initialise(self.projections)
            initialise(self.truths)

    def forward(
        self,
        inputs: TokenInputs,
        generator: torch.Generator | None = None,
        parts: Sequence[IntArray] = (),
        group: Group | None = None,
    ) -> Tensor:
        """Return the objective's loss on a batch of windows, a number; 0 where the batch offers nothing to learn.

        ``parts`` are positions of windows with like sensors, which are encoded together (see ``batches``); none: all.
        In a ``group`` this process computes some of the windows. What is hidden, queried and
        compared is of the whole batch all the same.
        """
        inputs = self.network.fusion.settings.part_read(inputs)
        if self.settings.objective == ALIGNMENT:
            return self._alignment(inputs, generator, parts, group)
        visible, hidden = self.hide(inputs, generator)
        patches = [self._ask(s, h, generator) for s, h in zip(inputs.sensors, hidden, strict=True) if bool(h.any())]
        if not patches:
            return self._nothing()
        queries, truths = zip(*patches, strict=True)
        if group is None:
            predicted = self._predicted(visible, queries, generator, parts)
        else:
            rows = group.rows(len(truths[0]))
            mine = self._predicted(
                visible.rows(rows), [q.rows(rows) for q in queries], group.generator, group.parts(parts)
            )
            predicted = group.gathered(mine, len(truths[0]))
        pairs = zip(queries, predicted, truths, strict=True)
        if self.settings.objective == MASKED:
            losses = [patch_loss(t, v, q.is_asked) for q, t, v in pairs]
        else:
            losses = [self._contrast(q, t, v) for q, t, v in pairs]
        return torch.stack(losses).mean()  # every signal weighs the same

    def _predicted(
        self,
        visible: TokenInputs,
        queries: Sequence[PatchQueries],
        generator: torch.Generator | None,
        parts: Sequence[IntArray],
    ) -> Sequence[Tensor]:
        """Return for each query its patches (B, Q, L), or what stands for them where they are told apart (B, Q, D)."""
        latents = self._encode(visible, generator, parts)
        if self.settings.objective == MASKED:
            return self.network.read_out(latents, generator, patches=queries).patches
        vectors = [self.network.query_codes.of_patches(q) for q in queries]
        return tuple(self.network.decode(latents, vectors, generator))

    def hide(
        self, inputs: TokenInputs, generator: torch.Generator | None = None
    ) -> tuple[TokenInputs, tuple[Tensor, ...]]:
        """Return the inputs with tokens hidden at random, and which patches (B, C, P) of each signal were."""
        s = self.settings
        chances = TokenDropout(modality=s.sensor_masking, time=s.stretch_masking, token=s.patch_masking)
        visible = hide_tokens(inputs, chances, True, generator)
        return visible, tuple(b.is_real & ~a.is_real for a, b in zip(visible.sensors, inputs.sensors, strict=True))

    def _ask(
        self, sensor: SensorPatches, hidden: Tensor, generator: torch.Generator | None
    ) -> tuple[PatchQueries, Tensor]:
        """Return queries for some hidden patches of each window, and the truth (B, Q, L)."""
        flat = hidden.flatten(1)
        order = torch.rand(flat.shape, device=flat.device, generator=generator).masked_fill(~flat, -1.0)
        positions = order.topk(min(self.settings.n_queries, flat.shape[1]), dim=1).indices
        queries = queries_of(sensor, positions, flat.gather(1, positions))
        patches = sensor.patches.flatten(1, 2)
        return queries, patches.gather(1, positions[..., None].expand(-1, -1, patches.shape[-1]))

    def _contrast(self, queries: PatchQueries, predicted: Tensor, truth: Tensor) -> Tensor:
        rows, modality = queries.is_asked, queries.modality
        codes, true_codes = self.projections[modality](predicted[rows]), self.truths[modality](truth[rows])
        return contrastive_loss(codes, true_codes, self.settings.temperature)

    def _encode(self, inputs: TokenInputs, generator: torch.Generator | None, parts: Sequence[IntArray]) -> Tensor:
        if len(parts) < 2:
            return self.network.encode(inputs, generator)
        device = inputs.masks()[0].device

        def encode(part: IntArray) -> Tensor:
            return self.network.encode(inputs.rows(torch.from_numpy(part).to(device)).without_absent(), generator)

        return in_order(parts, encode)

    def _alignment(
        self,
        inputs: TokenInputs,
        generator: torch.Generator | None,
        parts: Sequence[IntArray],
        group: Group | None,
    ) -> Tensor:
        mask = torch.cat(inputs.masks(), 1)
        layout = token_layout(inputs, mask)
        has = torch.stack([(mask & (layout.sensor == s)).any(1) for s in range(layout.n_sensors)], 1)  # (B, S)
        pairs = [(a, b) for a, b in combinations(range(layout.n_sensors), 2) if int((has[:, a] & has[:, b]).sum()) > 1]
        if not pairs:
            return self._nothing()
        chosen = int(torch.randint(len(pairs), (1,), device=mask.device, generator=generator))
        rows = has[:, pairs[chosen][0]] & has[:, pairs[chosen][1]]
        alone = [inputs.with_mask(mask & (layout.sensor == sensor)) for sensor in pairs[chosen]]
        if group is None:
            summaries = [self._summary(one, generator, parts) for one in alone]
        else:
            mine, own_parts = group.rows(len(mask)), group.parts(parts)
            computed = [self._summary(one.rows(mine), group.generator, own_parts) for one in alone]
            summaries = group.gathered(computed, len(mask))
        one, other = (summary[rows] for summary in summaries)
        return contrastive_loss(one, other, self.settings.temperature, both_ways=True)

    def _summary(self, inputs: TokenInputs, generator: torch.Generator | None, parts: Sequence[IntArray]) -> Tensor:
        summary: Tensor = self.network.read_out(self._encode(inputs, generator, parts), generator).tasks[SUMMARY]
        return summary

    def _nothing(self) -> Tensor:
        nothing: Tensor = 0.0 * self.network.core.latents().sum()
        return nothing


@dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network that has learnt from unlabelled windows, in evaluation mode on the CPU, with the loss of each epoch."""

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

    Raises StudyError where there is none.
    """
    windows = grid_windows(recordings, length_seconds=length_seconds, feature_names=feature_names)
    if not len(windows):
        raise StudyError(f"the {len(recordings)} recordings have no window of {length_seconds:g} s to pretrain on")
    return WindowInputs(windows, normalisation, step_seconds, raw=tokens.raw, derived=tokens.derived)


@dataclass(frozen=True, eq=False)
class PretrainingRequest:
    """What a network is pretrained on, and how.

    * ``studies``: one for each study, of :func:`unlabelled_inputs`; every subject in them is used.
    * ``start_from``: weights to begin with, where name and shape agree.
    * ``on_epoch``: given ``(epoch, loss)`` after each epoch.
    * ``group``: of the processes that do this together; None: this one alone.
    """

    studies: tuple[WindowInputs, ...]
    tokens: TokenSettings
    model: PerceiverSettings
    settings: PretrainingSettings
    engine: Engine
    seed: int
    start_from: Mapping[str, torch.Tensor] | None = None
    on_epoch: LossReport | None = None
    group: Group | None = None


def pretrain(request: PretrainingRequest) -> PretrainedNetwork:
    """Return a network pretrained on the windows of some studies.

    Where the memory of a card is too small for a batch, it begins anew with half as many windows in one, with a notice;
    not where several processes share the work, which would have to agree.

    Raises SettingsError where studies disagree on the features of a group, batches are too small to be shared, or not
    even one window has room on the card.
    Raises TrainingError where the loss is not finite. Raises CheckpointError where ``start_from`` has nothing in common
    with the network. Raises UnfinishedError where another process of the group has ended.
    """
    while True:
        try:
            return _pretrained(request)
        except torch.cuda.OutOfMemoryError as fault:
            if request.group is not None:
                raise
            fewer = fewer_windows(request.settings.batch_size, "pretraining", fault)
            request = replace(request, settings=replace(request.settings, batch_size=fewer))


def _pretrained(request: PretrainingRequest) -> PretrainedNetwork:
    studies, settings, engine, seed = request.studies, request.settings, request.engine, request.seed
    vocabulary = joint_vocabulary(studies)
    sources = [TokenSource(s, s.fit(s.windows.subjects), request.tokens, engine.device) for s in studies]
    chances = [cell_weights(s.windows.subject, np.zeros(len(s.windows), dtype=np.int64)) for s in studies]
    sizes = torch.tensor([float(len(s.windows)) for s in studies])
    n_steps = max(1, math.ceil(float(sizes.sum()) / settings.batch_size))
    history: list[tuple[int, float]] = []
    with ExitStack() as stack:
        generator = stack.enter_context(seeded(seed))
        pretext = PretextNetwork(request.model, request.tokens, vocabulary, settings).to(engine.device).train()
        if request.start_from is not None:
            take_weights(pretext.network, request.start_from)
        noise = torch.Generator(engine.device).manual_seed(seed)
        _require_windows(request)
        optimisation = Optimisation(pretext, engine, settings, n_steps * settings.n_epochs, request.group)
        kept = stack.enter_context(_kept_pretraining(request, pretext))
        if _read(kept, request.group):
            history = _taken(kept, pretext, optimisation, (generator, noise))
        done = stack.enter_context(kept.epochs(settings.n_epochs, done=len(history)))
        for epoch in range(len(history) + 1, settings.n_epochs + 1):
            total = 0.0
            if request.group is not None:
                request.group.seed(engine.device, seed, epoch)
            for step in range(n_steps):
                study = int(torch.multinomial(sizes, 1, generator=generator))
                n_rows = min(settings.batch_size, len(studies[study].windows))
                rows = torch.multinomial(chances[study], n_rows, generator=generator).numpy()  # none twice in a batch
                loss = optimisation.step(partial(_loss, pretext, sources[study], rows, noise, request.group))
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the pretraining loss is not finite at epoch {epoch}, step {step + 1}; "
                        "lower pretraining.learning_rate or look at the recordings with inspect"
                    )
                total += loss
            history.append((epoch, total / n_steps))
            if request.on_epoch is not None:
                request.on_epoch(*history[-1])
            if kept.is_on:
                tensors = {f"network.{name}": value for name, value in pretext.state_dict().items()}
                tensors |= optimisation.kept() | random_states((generator, noise))
                kept.note(tensors, {"history": history}, len(history))
            done.advance(f"loss {history[-1][1]:.3f}")
    return PretrainedNetwork(pretext.network.cpu().eval(), vocabulary, tuple(history))


def _require_windows(request: PretrainingRequest) -> None:
    """Raise SettingsError where a batch has fewer windows than there are processes."""
    least = min(request.settings.batch_size, *(len(study.windows) for study in request.studies))
    if request.group is not None and least < (n := request.group.ranks.n_ranks):
        raise SettingsError(f"{n} processes share batches of {least} windows; each needs one: start fewer of them")


def _read(kept: KeptFit, group: Group | None) -> bool:
    """Take the state that an earlier run left, the first process's in all; return whether there is one."""
    is_there = kept.read()
    if group is None:
        return is_there
    state = group.same((kept.tensors, kept.values) if is_there else None)
    if state is not None:
        kept.tensors, kept.values = state
    return state is not None


def _kept_pretraining(request: PretrainingRequest, pretext: nn.Module) -> AbstractContextManager[KeptFit]:
    """Return the state of a pretraining by what it depends on: the data by its windows and statistics."""
    rows = [rows for s in request.studies for rows in (s.windows.recording, s.windows.onset)]
    data = [(s.fit(s.windows.subjects).to_json(), s.settings, s.step_seconds) for s in request.studies]
    shared = () if request.group is None else (request.group.ranks.n_ranks,)
    how = (request.tokens, request.model, request.settings, request.engine, request.seed, *shared)
    return kept_fit(pretext, *rows, data, *how)


def _taken(
    kept: KeptFit, pretext: nn.Module, optimisation: Optimisation, generators: Sequence[torch.Generator]
) -> list[tuple[int, float]]:
    """Go on where a state was noted, and return the losses of the epochs before."""
    pretext.load_state_dict(kept.under("network"))
    optimisation.take(kept)
    set_random_states(kept.under("random"), generators)
    return [(int(epoch), loss) for epoch, loss in kept.values["history"]]


def _loss(
    pretext: PretextNetwork, source: TokenSource, rows: IntArray, noise: torch.Generator, group: Group | None
) -> torch.Tensor:
    loss: torch.Tensor = pretext(source.batch(rows), noise, source.layouts.parts(rows), group)
    return loss


def joint_vocabulary(studies: Sequence[WindowInputs]) -> TokenVocabulary:
    """Return what a network must be able to read for all studies.

    Raises SettingsError where two studies have another number of features in one group.
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
        require_features("to be pretrained", studies[0].windows.feature_names, study.windows.feature_names, "a store")
        names.update(dict.fromkeys(study.windows.feature_names))
    vocabulary = vocabulary_of(tuple(names))
    return TokenVocabulary(vocabulary.patch_samples, counts, vocabulary.n_channel_codes)


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
    names = ", ".join(f"{row['study']} ({counted(len(row['subjects']), 'subject')})" for row in studies)
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
        network.load_state_dict(weights)
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
