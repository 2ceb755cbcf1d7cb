"""Batches for the Perceiver: patches against plain slicing, gaps as masks, and no way for session time to get in."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.signals import channel_code
from biopercept.data.windows import grid_windows, labelled_windows
from biopercept.errors import SettingsError
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import TokenInputs

CPU = torch.device("cpu")


def source_of(made: ModuleType, recordings, mode: str = "causal", *, grid: bool = False):
    columns = {"length_seconds": made.LENGTH, "feature_names": made.FEATURES}
    windows = grid_windows(recordings, **columns) if grid else labelled_windows(recordings, made.TASK, **columns)
    inputs = WindowInputs(windows, NormalisationSettings(mode=mode, clip=1e6), made.STEP)
    return inputs, TokenSource(inputs, inputs.fit([r.subject for r in recordings]), TokenSettings(), CPU)


def sensor(batch: TokenInputs, modality: str):
    return next(s for s in batch.sensors if s.modality == modality)


def test_a_patch_is_the_slice_of_the_signal_at_the_windows_time(made: ModuleType) -> None:
    recordings = made.study(3)
    inputs, source = source_of(made, recordings, "raw")
    row = int(np.flatnonzero((inputs.windows.subject == "P02") & (inputs.windows.onset == 70.0))[0])
    found = sensor(source.batch(np.array([row])), "heart_rate")
    plain = recordings[1].read("heart_rate")[0][0, int(70 * made.RATE) : int(90 * made.RATE)].reshape(4, 20)
    np.testing.assert_allclose(found.patches[0, 0].numpy(), plain, rtol=1e-6)
    assert found.times[0].tolist() == [2.5, 7.5, 12.5, 17.5]
    assert found.is_real.all()


def test_a_gap_is_a_mask_and_what_lies_in_it_changes_nothing(made: ModuleType) -> None:
    def with_gap(junk: float):
        held = made.recording("P01", seed=0)
        gap = slice(int(70 * made.RATE), int(76 * made.RATE))
        held.masks["heart_rate"][:, gap] = False
        held.samples["heart_rate"][:, gap] = junk
        return held

    batches = []
    for junk in (0.0, 999.0):
        inputs, source = source_of(made, (with_gap(junk), *made.study(3)[1:]))
        row = int(np.flatnonzero((inputs.windows.subject == "P01") & (inputs.windows.onset == 70.0))[0])
        batches.append(sensor(source.batch(np.array([row])), "heart_rate"))
    assert batches[0].is_real[0, 0].tolist() == [False, True, True, True]
    np.testing.assert_allclose(batches[0].quality[0, 0].numpy(), [0.0, 0.8, 1.0, 1.0], atol=1e-6)
    assert torch.equal(batches[0].patches, batches[1].patches)
    half = batches[0].patches[0, 0, 1]  # its first second lies in the gap: filled with the mean of the rest
    torch.testing.assert_close(half[:4], half[4:].mean().expand(4))


def test_an_absent_sensor_is_absent_tokens(made: ModuleType) -> None:
    inputs, source = source_of(made, made.study(3))
    mixed = source.batch(np.arange(len(inputs.windows)))
    is_last = torch.from_numpy(inputs.windows.subject == "P03")
    assert not sensor(mixed, "eda").is_real[is_last].any()
    assert sensor(mixed, "eda").is_real[~is_last].all()
    alone = source.batch(np.flatnonzero(is_last.numpy()))
    assert {s.modality for s in alone.sensors} == {"heart_rate"}
    assert {g.name for g in alone.features} == {"heart"}


def test_features_that_no_training_subject_had_are_absent_tokens(made: ModuleType) -> None:
    recordings = made.study(3)
    inputs, _ = source_of(made, recordings)
    source = TokenSource(inputs, inputs.fit(["P03"]), TokenSettings(), CPU)  # P03 has no EDA
    batch = source.batch(np.arange(len(inputs.windows)))
    assert {s.modality for s in batch.sensors} == {"heart_rate"}
    assert {g.name for g in batch.features} == {"heart"}


def test_how_much_was_measured_is_no_token_where_nothing_was(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "FEATURES", ("heart/mean_nn", "heart/coverage", *made.FEATURES[2:]))
    recordings = made.study(3)
    for recording in recordings:
        recording.windows.features[:, 1] = 0.5
    recordings[0].windows.features[::2, 0] = np.nan
    recordings[0].windows.features[::2, 1] = 0.0
    inputs, source = source_of(made, recordings)
    [heart] = [group for group in source.batch(np.arange(len(inputs.windows))).features if group.name == "heart"]
    is_known = np.isfinite(inputs.windows.raw_features()[:, 0])
    assert not is_known.all() and is_known.any()
    np.testing.assert_array_equal(heart.is_real.numpy(), np.column_stack([is_known, is_known]))


def test_raw_signals_are_not_clipped(made: ModuleType) -> None:
    windows = labelled_windows(made.study(3), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings("raw"), made.STEP)
    source = TokenSource(inputs, inputs.fit(["P01"]), TokenSettings(), CPU)
    assert float(sensor(source.batch(np.arange(len(windows))), "heart_rate").patches.max()) > 60


def test_the_time_of_a_window_in_its_session_has_no_way_into_a_batch(made: ModuleType) -> None:
    """The same minutes, once at the start of a session and once an hour later, give equal batches."""
    early = made.recording("P01", seed=0)
    late = replace(
        early,
        subject="P01",
        signals=tuple(replace(s, start_seconds=3600.0) for s in early.signals),
        duration_seconds=early.duration_seconds + 3600.0,
        windows=replace(early.windows, onset=early.windows.onset + 3600.0),
    )
    others = made.study(3)[1:]
    for mode in ("raw", "global", "causal", "recording"):
        batches = []
        for held in (early, late):
            inputs, source = source_of(made, (held, *others), mode)
            batches.append(source.batch(np.flatnonzero(inputs.windows.subject == "P01")))
        for one, other in zip(batches[0].sensors, batches[1].sensors, strict=True):
            for name in ("patches", "is_real", "times", "rate", "quality", "channels"):
                assert torch.equal(getattr(one, name), getattr(other, name)), (mode, one.modality, name)
        for one, other in zip(batches[0].features, batches[1].features, strict=True):
            assert torch.equal(one.values, other.values), (mode, one.name)


def test_a_slower_signal_is_brought_to_the_models_patch_length(made: ModuleType) -> None:
    held = made.recording("P01", seed=0)
    slow = replace(next(s for s in held.signals if s.name == "EDA"), sampling_rate=2.0, n_samples=720)
    ramp = np.arange(720, dtype=np.float32)[None]
    changed = replace(
        held,
        signals=tuple(slow if s.name == "EDA" else s for s in held.signals),
        samples={**held.samples, "EDA": ramp},
        masks={**held.masks, "EDA": np.ones((1, 720), dtype=bool)},
    )
    inputs, source = source_of(made, (changed, *made.study(3)[1:]), "raw")
    row = int(np.flatnonzero((inputs.windows.subject == "P01") & (inputs.windows.onset == 60.0))[0])
    batch = source.batch(np.array([row]))
    patches = sensor(batch, "eda").patches
    assert patches.shape == (1, 1, 4, 20)
    assert torch.all(patches[0, 0].diff(dim=-1) >= 0)
    assert abs(float(patches[0, 0, 1].mean()) - (60 * 2 + 10 + 4.5)) < 1e-3


def test_a_window_shorter_than_a_patch_reads_nothing_after_its_end(made: ModuleType) -> None:
    batches = []
    for later in (0.0, 77.0):
        held = made.recording("P01", seed=0)
        held.samples["EDA"][:, int(63 * made.RATE) :] += later
        windows = labelled_windows(
            (held, *made.study(3)[1:]), made.TASK, length_seconds=3.0, feature_names=made.FEATURES
        )
        inputs = WindowInputs(windows, NormalisationSettings("causal"), made.STEP)
        source = TokenSource(inputs, inputs.fit(["P02"]), TokenSettings(features=False), CPU)
        row = int(np.flatnonzero((windows.subject == "P01") & (windows.onset == 60.0))[0])
        batches.append(sensor(source.batch(np.array([row])), "eda"))
    assert batches[0].is_real.all()
    assert torch.equal(batches[0].patches, batches[1].patches)


def test_channel_codes_depend_on_the_name_alone() -> None:
    assert channel_code("x") == channel_code(" X ")
    assert len({channel_code(n) for n in ("x", "y", "z")}) == 3


def test_windows_longer_than_a_learned_time_code_are_refused(made: ModuleType) -> None:
    inputs, _ = source_of(made, made.study(3))
    short = TokenSettings(time_code="learned", longest_seconds=made.LENGTH - 5.0)
    with pytest.raises(SettingsError, match=r"has codes up to 15 s, and times up to 20 s are to be coded; set longest"):
        TokenSource(inputs, inputs.fit(["P01"]), short, CPU)
    TokenSource(inputs, inputs.fit(["P01"]), replace(short, longest_seconds=made.LENGTH), CPU)
