"""The ladder: what each rung may know, against plain numpy, and that nothing later or untrained is known."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import (
    MODES,
    NormalisationSettings,
    TrainingStatistics,
    cumulative_moments,
    moments_until,
)
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError


def inputs_of(made: ModuleType, recordings, mode: str, **settings: float) -> WindowInputs:
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    return WindowInputs(windows, NormalisationSettings(mode=mode, **settings), made.STEP)


def test_running_moments_equal_numpy_even_far_from_zero() -> None:
    random = np.random.default_rng(0)
    values, is_real = 1e6 + random.normal(size=500), random.random(500) < 0.8
    found = moments_until(cumulative_moments(values, is_real), np.array([0, 7, 500]))
    assert found.count.tolist() == [0, is_real[:7].sum(), is_real.sum()]
    assert np.isnan(found.mean[0])
    np.testing.assert_allclose(found.mean[1:], [values[:7][is_real[:7]].mean(), values[is_real].mean()], rtol=1e-12)
    np.testing.assert_allclose(found.variance[1:], [values[:7][is_real[:7]].var(), values[is_real].var()], rtol=1e-6)


def test_causal_scaling_of_a_signal_is_mean_and_spread_of_its_past_with_the_training_spread_as_prior(
    made: ModuleType,
) -> None:
    recordings = made.study(4)
    inputs = inputs_of(made, recordings, "causal", prior_seconds=30.0)
    population = inputs.fit(("P02", "P03"))
    bank = next(i for i, b in enumerate(inputs.banks) if b.modality == "heart_rate")
    affine = inputs.signal_affine(bank, population)
    windows = inputs.windows
    row = int(np.flatnonzero((windows.subject == "P01") & (windows.onset == 80.0))[0])
    past = recordings[0].read("heart_rate")[0][0, : int(100.0 * made.RATE)].astype(np.float64)
    within = np.mean([r.read("heart_rate")[0].astype(np.float64).var() for r in recordings[1:3]])
    n, prior = len(past), 30.0 * made.RATE
    assert affine.centre[row, 0] == pytest.approx(past.mean(), rel=1e-9)
    assert affine.spread[row, 0] == pytest.approx(np.sqrt((n * past.var() + prior * within) / (n + prior)), rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "is_moved"), [("causal", False), ("reference", False), ("global", False), ("recording", True)]
)
def test_what_comes_after_a_window_changes_its_inputs_only_in_the_transductive_rung(
    made: ModuleType, mode: str, is_moved: bool
) -> None:
    recordings = made.study(4)
    changed = made.recording("P01", seed=0)
    for name in changed.samples:
        changed.samples[name][:, int(200 * made.RATE) :] += 50.0
    changed.windows.features[changed.windows.onset + made.LENGTH > 200.0] += 50.0
    before = inputs_of(made, recordings, mode, reference_seconds=60.0)
    after = inputs_of(made, (changed, *recordings[1:]), mode, reference_seconds=60.0)
    training = ("P02", "P03")
    early = (before.windows.subject == "P01") & (before.windows.onset + made.LENGTH <= 200.0)
    pairs = [(before.features(before.fit(training))[early], after.features(after.fit(training))[early])]
    for bank in range(len(before.banks)):
        one, other = (i.signal_affine(bank, i.fit(training)) for i in (before, after))
        pairs += [(one.centre[early], other.centre[early]), (one.spread[early], other.spread[early])]
    assert any(not np.array_equal(a, b, equal_nan=True) for a, b in pairs) == is_moved


@pytest.mark.parametrize("mode", MODES)
def test_another_subjects_data_never_reaches_the_population(made: ModuleType, mode: str) -> None:
    recordings = made.study(4)
    moved = made.recording("P04", seed=0, offset=1000.0)
    one, other = (inputs_of(made, r, mode).fit(("P01", "P02")) for r in (recordings, (*recordings[:3], moved)))
    assert one == other
    assert one != inputs_of(made, recordings, mode).fit(("P01", "P03"))


def test_features_of_an_absent_sensor_stay_missing(made: ModuleType) -> None:
    inputs = inputs_of(made, made.study(4), "causal")
    values = inputs.features(inputs.fit(("P01", "P02")))
    is_last = inputs.windows.subject == "P04"
    assert np.isnan(values[is_last][:, 1:]).all()
    assert np.isfinite(values[~is_last]).all()


def test_global_scaling_gives_the_training_windows_zero_mean_and_unit_spread(made: ModuleType) -> None:
    inputs = inputs_of(made, made.study(4), "global")
    population = inputs.fit(("P01", "P02", "P03"))
    statistics = population.of_channel("heart_rate", "heart_rate")
    held = [r.read("heart_rate")[0].astype(np.float64).ravel() for r in made.study(4)[:3]]
    assert statistics.centre == pytest.approx(np.concatenate(held).mean())
    assert statistics.spread == pytest.approx(np.concatenate(held).std(), rel=1e-6)


def test_a_population_survives_json(made: ModuleType) -> None:
    inputs = inputs_of(made, made.study(3), "causal")
    population = inputs.fit(("P01",))
    assert TrainingStatistics.from_json(population.to_json()) == population


def test_a_channel_never_seen_takes_its_modalitys_mean_and_an_unknown_modality_is_said_to_be_unknown(
    made: ModuleType,
) -> None:
    inputs = inputs_of(made, made.study(3), "causal")
    population = inputs.fit(("P01",))
    assert population.of_channel("tonic", "other") == population.of_channel("tonic", "tonic")
    assert not population.has_modality("eeg")


def test_an_unknown_rung_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(SettingsError, match="'zscore'; allowed are raw, global, causal, reference, recording"):
        NormalisationSettings(mode="zscore")
