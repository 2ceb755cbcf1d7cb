"""Next-step forecasting: a network that tells each patch of a signal from what had ended before, against persistence.

Trained by teacher forcing with causal masking (:func:`next_patches`), without any label. A patch is scored in the
window's own normalised units, where it and the one before it were measured.

For each step the tokens are read again with all that ended after the step began hidden, so the true past teaches
every step at once and nothing of the future can. Perceiver AR ties latents to positions instead; with few latents over
many signals on one time axis the mask is exact and the tokens are made once.

References
----------
C. Hawthorne et al., "General-purpose, long-context autoregressive modeling with Perceiver AR", ICML 2022,
doi:10.48550/arXiv.2202.07765.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import Fold
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import CheckpointError, StudyError
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.files import only_writer, write_json, write_text
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.report.text import table
from biopercept.store.reading import open_store
from biopercept.training.engine import Engine, engine_for, seed_for, threads
from biopercept.training.loop import EpochReport, FitRequest, FittedNetwork, fit_network
from biopercept.training.objective import cell_weights, patch_loss
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.version import __version__
from experiments.samples import sample_store
from experiments.units import UnitDone, run_units

VERSION = 1
"""Raised whenever what this experiment does changes, so that no older result is taken for a new one."""

SIGNALS = ("eda", "resp", "temp")
"""Signals whose patches are long, so that a window has few steps; each step reads all tokens again."""

_QUICK = """
**This is the quick run**: four subjects, one signal and hardly any training. It shows that the experiment works;
its figures are no result.
"""
_GRACE_SECONDS = 1e-3  # times are sums of float32


@dataclass(frozen=True)
class ForecastErrors:
    """Squared errors of the next patch, mean over patches and then over subjects, in squared normalised units.

    Attributes
    ----------
    network, last_patch, last_value : float
        Of the network; of repeating the patch before; of holding the last sample before.
    subjects_better : int
        Subjects for whom the network errs less than the better of the two persistent answers.
    """

    network: float
    last_patch: float
    last_value: float
    n_subjects: int
    n_patches: int
    subjects_better: int


@dataclass(frozen=True, eq=False)
class ForecastObjective:
    """Huber's loss of every patch of one signal that has a past, told from that past."""

    windows: WindowTable
    modality: str

    generators = ()
    """It draws nothing itself."""

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each window is drawn, (len(rows),): subjects weigh the same."""
        return cell_weights(self.windows.subject[rows], np.zeros(len(rows), dtype=np.int64))

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the loss of a batch."""
        return self._loss(network, source, rows, noise)

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss of windows that are not trained on."""
        network.eval()
        with torch.inference_mode():
            losses = [
                len(part) * float(self._loss(network, source, part, None))
                for part in np.array_split(rows, -(-len(rows) // 64))
            ]
        return sum(losses) / len(rows)

    def _loss(
        self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator | None
    ) -> torch.Tensor:
        assert isinstance(network, BiosignalPerceiver)
        batch = source.batch(rows)
        sensor = signal_of(batch, self.modality)
        told = next_patches(network, batch, self.modality, noise)
        return patch_loss(told.flatten(1, 2), sensor.patches.flatten(1, 2), _has_past(sensor).flatten(1))


def fit_forecaster(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    modality: str,
    *,
    settings: FitSettings,
    engine: Engine,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> FittedNetwork[BiosignalPerceiver]:
    """Return a network trained to tell the next patch of a signal from the past of all signals.

    Raises StudyError where no training recording has the signal. Raises TrainingError where the loss is not finite.

    Parameters
    ----------
    inputs : WindowInputs
        Causally normalised; series that were filtered over whole recordings know a little of their future.
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    modality : str
        Of the signal; windows of recordings that lack it are left out.
    settings, engine, seed, on_epoch
        As in :class:`~biopercept.training.loop.FitRequest`.
    """
    has_it = with_modality(inputs.windows, modality)
    if not has_it[training].any():
        raise StudyError(f"no training recording has {modality}, so its next patches cannot be learnt")

    def make(vocabulary: TokenVocabulary) -> BiosignalPerceiver:
        return BiosignalPerceiver(settings.model, settings.tokens, vocabulary, {}, reconstructs=True)

    rows, held = training[has_it[training]], validation[has_it[validation]]
    request = FitRequest(inputs, rows, held, settings, engine, seed, on_epoch)
    return fit_network(request, make, ForecastObjective(inputs.windows, modality))


def forecast_errors(
    network: BiosignalPerceiver, source: TokenSource, windows: WindowTable, rows: IntArray, modality: str
) -> ForecastErrors:
    """Return how far the next patches told are from the true ones, beside answers that nothing changes.

    Raises StudyError where no patch can be scored.

    Parameters
    ----------
    source : TokenSource
        Of ``windows``, normalised as in training.
    rows : int64 array
        Windows of subjects that were not trained on.
    """
    rows = rows[with_modality(windows, modality)[rows]]
    sums: dict[str, NDArray[np.float64]] = {}
    with torch.inference_mode():
        for row in np.array_split(rows, -(-len(rows) // 64)) if len(rows) else ():
            batch = source.batch(row)
            sensor = signal_of(batch, modality)
            answers = (next_patches(network.eval(), batch, modality), *_persistent(sensor))
            scored = _has_past(sensor)
            errors = [(((a - sensor.patches) ** 2).mean(-1) * scored).sum((1, 2)) for a in answers]
            totals = torch.stack([*errors, scored.sum((1, 2)).float()], 1).double().cpu().numpy()
            for subject, numbers in zip(windows.subject[row], totals, strict=True):
                sums[str(subject)] = sums.get(str(subject), np.zeros(4)) + numbers
    known = np.array([held for held in sums.values() if held[3] > 0])
    if not len(known):
        raise StudyError(f"no window has two patches of {modality} in a row, so nothing can be forecast")
    means = known[:, :3] / known[:, 3:]
    better = int(np.sum(means[:, 0] < means[:, 1:].min(axis=1)))
    network_error, last_patch, last_value = (float(v) for v in means.mean(axis=0))
    return ForecastErrors(network_error, last_patch, last_value, len(known), int(known[:, 3].sum()), better)


def with_modality(windows: WindowTable, modality: str) -> NDArray[np.bool_]:
    """Return which windows are of recordings that have a signal of the modality, (n_windows,)."""
    has_it = np.array([any(s.modality == modality for s in r.signals) for r in windows.recordings], dtype=bool)
    return np.asarray(has_it[windows.recording])


def _has_past(sensor: SensorPatches) -> torch.Tensor:
    """Return which patches were measured, and the one before them too, (B, C, P)."""
    before = torch.nn.functional.pad(sensor.is_real[..., :-1], (1, 0))
    return sensor.is_real & before


def _persistent(sensor: SensorPatches) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each patch as the one before it, and as the last sample before it, (B, C, P, L)."""
    before = torch.cat((torch.zeros_like(sensor.patches[:, :, :1]), sensor.patches[:, :, :-1]), 2)
    return before, before[..., -1:].expand_as(before)


def next_patches(
    network: BiosignalPerceiver, inputs: TokenInputs, modality: str, generator: torch.Generator | None = None
) -> Tensor:
    """Return each patch of a signal as told from what had ended when it began, all steps at once.

    Feature tokens, which have no time, are not read. Inputs must themselves be causal: series that were
    filtered, and normalisation that was measured, over the whole window know its end.

    Parameters
    ----------
    network : BiosignalPerceiver
        That reconstructs patches.
    modality : str
        Of a signal in ``inputs``.
    generator : torch.Generator or None

    Returns
    -------
    Tensor (B, C, P, L)
        Finite everywhere; a step with no past is told from nothing.
    """
    sensor = signal_of(inputs, modality)
    b, c, p = sensor.is_real.shape
    tokens, mask = network.fusion(inputs, generator)
    starts = sensor.times - 0.5 * MODALITIES[modality].patch_seconds  # (B, P)
    ends = _token_ends(network, inputs)  # (B, N)
    past = mask[:, None] & (ends[:, None] <= starts[:, :, None] + _GRACE_SECONDS)  # (B, P, N)
    steps = tokens[:, None].expand(-1, p, -1, -1).flatten(0, 1)  # (B P, N, D)
    latents = network.core.encode(steps, past.flatten(0, 1), generator)
    queries = network.query_codes.of_patches(queries_of(sensor)).view(b, c, p, -1)  # (B, C, P, D)
    each = queries.transpose(1, 2).flatten(0, 1)  # (B P, C, D)
    told: Tensor = network.patches[modality](network.decode(latents, [each], generator)[0])
    return told.view(b, p, c, -1).transpose(1, 2)


def forecast(network: BiosignalPerceiver, inputs: TokenInputs, modality: str, n_steps: int) -> Tensor:
    """Return the patches (B, C, n_steps, L) that follow a signal's last, each told from those before it.

    The answers are fed back; feature tokens are not read, as in :func:`next_patches`.

    Raises SettingsError where the steps lead beyond the table of a learned time code.
    """
    known = TokenInputs(inputs.sensors)
    last = float(signal_of(known, modality).times.nan_to_num(0.0).max())
    network.fusion.settings.require_reach(last + n_steps * MODALITIES[modality].patch_seconds)
    told = []
    for _ in range(n_steps):
        sensor = signal_of(known, modality)
        longer = _with_next_place(sensor)
        asked = queries_of(_last_place(longer))
        patch = network(known, patches=(asked,)).patches[0][:, :, None]  # (B, C, 1, L)
        told.append(patch)
        filled = replace(longer, patches=torch.cat((sensor.patches, patch), 2))
        known = TokenInputs(tuple(filled if s is sensor else s for s in known.sensors))
    return torch.cat(told, 2)


def _token_ends(network: BiosignalPerceiver, inputs: TokenInputs) -> Tensor:
    """Return when each token's stretch ends (B, N), seconds; infinity for features."""
    settings = network.fusion.settings
    ends = [
        (s.times + 0.5 * MODALITIES[s.modality].patch_seconds)[:, None].expand(-1, s.is_real.shape[1], -1).flatten(1)
        for s in inputs.sensors
        if settings.reads(s.modality)
    ]
    n_features = len(inputs.features) if settings.features else 0
    return torch.cat((*ends, ends[0].new_full((len(ends[0]), n_features), torch.inf)), 1)


def signal_of(inputs: TokenInputs, modality: str) -> SensorPatches:
    """Return the first signal of a modality.

    Raises CheckpointError where the inputs have none.
    """
    for sensor in inputs.sensors:
        if sensor.modality == modality:
            return sensor
    present = ", ".join(s.modality for s in inputs.sensors)
    raise CheckpointError(f"The inputs have no {modality} to go on with; they have {present or 'no signal'}.")


def _with_next_place(sensor: SensorPatches) -> SensorPatches:
    """Return the signal with one more patch, empty but real, of full quality, after its last."""
    after = sensor.times[:, -1:] + MODALITIES[sensor.modality].patch_seconds
    return replace(
        sensor,
        patches=torch.cat((sensor.patches, torch.zeros_like(sensor.patches[:, :, :1])), 2),
        is_real=torch.cat((sensor.is_real, sensor.is_real.any(2, keepdim=True)), 2),
        times=torch.cat((sensor.times, after), 1),
        quality=torch.cat((sensor.quality, torch.ones_like(sensor.quality[:, :, :1])), 2),
    )


def _last_place(sensor: SensorPatches) -> SensorPatches:
    return replace(
        sensor,
        patches=sensor.patches[:, :, -1:],
        is_real=sensor.is_real[:, :, -1:],
        times=sensor.times[:, -1:],
        quality=sensor.quality[:, :, -1:],
    )


@dataclass(frozen=True)
class ForecastFold:
    """One signal of one fold of a study, as a unit of work; the attributes are those of the plan."""

    request: EvaluationRequest
    fold: Fold
    modality: str
    plan_identity: str

    @property
    def name(self) -> str:
        """Return what the fit is called."""
        return f"forecasting {self.modality} {self.fold.name} seed {self.request.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        plan = json.loads(self.plan_identity)
        return {"experiment": VERSION, "plan": plan, "fold": asdict(self.fold), "modality": self.modality}

    def run(self) -> dict[str, Any]:
        """Fit a network on the training subjects and return its errors on the test subjects."""
        with open_store(self.request.store) as store:
            plan = plan_evaluation(store, self.request)
            fit, engine, rows = plan.request.fit, engine_for("cpu"), plan.windows.rows_of
            seed = seed_for(self.request.seed, self.fold.name, self.modality)
            training, validation = rows(self.fold.training), rows(self.fold.validation)
            fitted = fit_forecaster(
                plan.inputs, training, validation, self.modality, settings=fit, engine=engine, seed=seed
            )
            source = TokenSource(plan.inputs, fitted.population, fit.tokens, engine.device)
            errors = forecast_errors(fitted.network, source, plan.windows, rows(self.fold.test), self.modality)
        return {"modality": self.modality, **asdict(errors)}


def run_forecasting(
    output: Path, *, seed: int, quick: bool, n_jobs: int = 1, anew: bool = False, on_unit: UnitDone | None = None
) -> dict[str, Any]:
    """Run or resume forecasting of the sample study's slow signals; write ``forecasting.json``, ``forecasting.md``.

    Raises BusyError where another process is writing there. Raises SettingsError where units were lost with their
    process; the finished ones are kept.

    Parameters
    ----------
    output, seed, n_jobs, anew, on_unit
        As in :func:`~experiments.units.run_units`.
    quick : bool
        Four subjects, one signal and hardly any training: a trial, and no result.
    """
    with only_writer(output), threads(1), sample_store(output, quick=quick) as store:
        request = EvaluationRequest(
            store.path,
            fit=FitSettings(
                tokens=TokenSettings(derived=False, features=False),
                training=TrainingSettings(n_epochs=1 if quick else 16, batch_size=16),
            ),
            evaluation=EvaluationSettings(split="k-fold", n_folds=2 if quick else 5),
            seed=seed,
            device="cpu",
        )
        plan = plan_evaluation(store, request)
        known = json.dumps(plan.identity(), sort_keys=True)
        signals = SIGNALS[-1:] if quick else SIGNALS
        folds = [ForecastFold(request, fold, modality, known) for modality in signals for fold in plan.folds]
        units = run_units(folds, output, n_jobs=n_jobs, anew=anew, on_unit=on_unit)
        document = {
            "version": __version__,
            "seed": seed,
            "quick": quick,
            "folds": len(plan.folds),
            "cpu_seconds": sum(unit["cpu_seconds"] for unit in units),
            "signals": [_over_folds([unit["result"] for unit in units], modality) for modality in signals],
        }
        write_json(output / "forecasting.json", document)
        write_text(output / "forecasting.md", forecasting_page(document))
    return document


def _over_folds(results: Sequence[Mapping[str, Any]], modality: str) -> dict[str, Any]:
    """Return the errors of one signal as means over the subjects of all folds."""
    rows = [row for row in results if row["modality"] == modality]
    n_subjects = [row["n_subjects"] for row in rows]
    means = {
        name: float(np.average([row[name] for row in rows], weights=n_subjects))
        for name in ("network", "last_patch", "last_value")
    }
    counts = {name: sum(row[name] for row in rows) for name in ("n_subjects", "n_patches", "subjects_better")}
    return {"modality": modality, "patch_seconds": MODALITIES[modality].patch_seconds, **means, **counts}


def forecasting_page(document: Mapping[str, Any]) -> str:
    """Return the Markdown page of what ``run_forecasting`` found."""
    rows = [
        (
            row["modality"],
            f"{row['patch_seconds']:g}",
            f"{row['network']:.3f}",
            f"{row['last_patch']:.3f}",
            f"{row['last_value']:.3f}",
            f"{row['subjects_better']} of {row['n_subjects']}",
            f"{row['n_patches']:,}",
        )
        for row in document["signals"]
    ]
    heads = ("Signal", "Patch, s", "Network", "Last patch again", "Last value held", "Network is best for", "Patches")
    return f"""# Next-step forecasting of the sample study

Written by `python -m experiments forecast{" --quick" if document["quick"] else ""} -o OUT --seed {document["seed"]}` \
with biopercept {document["version"]}; {document["cpu_seconds"] / 60:.1f} CPU minutes on one thread.
The study is **made**: a low error says that the network can do it, and nothing about people.
{_QUICK if document["quick"] else ""}
A network predicts each patch of a signal from what had ended before it in all signals of the window (30 s), trained
without labels on other subjects ({document["folds"]} folds over subjects). Errors are squared, in normalised units,
means over patches and then over the subjects whom the network has not seen. Two answers that need no network stand
beside it: the patch before once more, and the last sample before held.
{table(heads, rows)}"""
