"""What a window may know of the recordings of its session that came before its own."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import Moments, NormalisationSettings, Sessions, pooled
from biopercept.data.windows import grid_windows
from biopercept.errors import StudyError
from biopercept.store.prepared import PreparedRecording


def session(made: ModuleType, *offsets: float) -> tuple[PreparedRecording, ...]:
    """Return recordings of one subject, one after the other, each on a level of its own."""
    return tuple(
        replace(made.recording("P01", seed=k, offset=offset), recording=f"part{k}", place=k)
        for k, offset in enumerate(offsets)
    )


def inputs(made: ModuleType, recordings: tuple[PreparedRecording, ...], mode: str, **settings: float) -> WindowInputs:
    """Return the inputs of the recordings' grid windows, normalised over the session."""
    windows = grid_windows(recordings, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    return WindowInputs(windows, NormalisationSettings(mode, scope="session", **settings), made.STEP)


def test_pooled_moments_are_those_of_all_values_together() -> None:
    random = np.random.default_rng(0)
    values = [random.normal(1e6, 2.0, size=(n, 3)) for n in (5, 40, 1)]
    parts = [Moments(np.full((1, 3), len(v)), v.mean(0)[None], v.var(0)[None]) for v in values]
    empty = Moments(np.zeros((1, 3)), np.full((1, 3), np.nan), np.zeros((1, 3)))

    found = pooled([*parts, empty])

    whole = np.concatenate(values)
    np.testing.assert_allclose(found.mean[0], whole.mean(0))
    np.testing.assert_allclose(found.variance[0], whole.var(0), rtol=1e-6)
    assert (found.count == len(whole)).all()
    assert np.isnan(pooled([empty, empty]).mean).all()


def test_the_past_of_a_later_recording_reaches_back_over_the_session(made: ModuleType) -> None:
    recordings = session(made, 0.0, 30.0)
    read = inputs(made, recordings, "causal")
    (own, _), *_ = [m for m, b in zip(read.bank_moments, read.banks, strict=True) if b.modality == "heart_rate"]
    last = np.flatnonzero(read.windows.recording == 1)[-1]
    until = int((read.windows.onset[last] + made.LENGTH) * made.RATE)
    seen = np.concatenate([recordings[0].samples["heart_rate"][0], recordings[1].samples["heart_rate"][0][:until]])

    assert own.count[last, 0] == len(seen)
    np.testing.assert_allclose(own.mean[last, 0], seen.astype(float).mean())
    np.testing.assert_allclose(own.variance[last, 0], seen.astype(float).var(), rtol=1e-6)


def test_a_later_recording_changes_nothing_before_it(made: ModuleType) -> None:
    population = inputs(made, session(made, 0.0, 30.0), "causal").fit(["P01"])
    few, more = (inputs(made, session(made, 0.0, offset), "causal") for offset in (30.0, -50.0))
    first = few.windows.recording == 0

    one, other = few.features(population), more.features(population)

    np.testing.assert_array_equal(one[first], other[first])
    assert not np.allclose(one[~first], other[~first], equal_nan=True)


def test_a_reference_longer_than_the_first_recording_goes_on_in_the_second(made: ModuleType) -> None:
    recordings = session(made, 0.0, 30.0)
    duration = recordings[0].duration_seconds
    read = inputs(made, recordings, "reference", reference_seconds=duration + 40.0)
    np.testing.assert_allclose(read.reference_ends, [duration + 40.0, 40.0])

    (own, _), *_ = [m for m, b in zip(read.bank_moments, read.banks, strict=True) if b.modality == "heart_rate"]

    n = int(40 * made.RATE)
    seen = np.concatenate([recordings[0].samples["heart_rate"][0], recordings[1].samples["heart_rate"][0][:n]])
    np.testing.assert_allclose(own.mean[:, 0], seen.astype(float).mean())


def test_the_whole_session_is_one_where_the_rung_is_transductive(made: ModuleType) -> None:
    read = inputs(made, session(made, 0.0, 30.0), "recording")
    own, _ = read.feature_moments
    assert np.ptp(own.mean[:, 0]) == 0.0


def test_order_is_that_of_places_not_of_the_table(made: ModuleType) -> None:
    recordings = session(made, 0.0, 1.0, 2.0)
    shuffled = (recordings[2], recordings[0], recordings[1])
    assert Sessions.of(shuffled, "session").earlier == ((1, 2), (), (1,))
    assert Sessions.of(shuffled, "recording").earlier == ((), (), ())


def test_sessions_are_a_subject_s_own(made: ModuleType) -> None:
    one, other, third = session(made, 0.0, 1.0, 2.0)
    held = (one, replace(other, subject="P02"), replace(third, session="b"))
    assert Sessions.of(held, "session").members == ((0,), (1,), (2,))


def test_an_unknown_order_is_refused(made: ModuleType) -> None:
    held = tuple(replace(r, place=None) for r in session(made, 0.0, 1.0))
    with pytest.raises(StudyError, match="order of the 2 recordings of P01 is not in the store"):
        Sessions.of(held, "session")
