"""What a model knows of inputs: distances against plain numpy, each fault in one sentence, and who it was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError
from biopercept.evaluation.trust import selective_risks
from biopercept.inference.familiarity import (
    BY_ID,
    BY_SAMPLES,
    BY_SUBJECT,
    NOT_KNOWN,
    distance_remarks,
    feature_remarks,
)
from biopercept.inference.prediction import OUTSIDE, UNLIKE, Predictions, Truth, predict, require_this_version
from biopercept.inference.prediction_files import PredictionRequest, predict_files, summary_columns, summary_row
from biopercept.model.settings import PerceiverSettings
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.recording import Interval, RecordingLabels
from biopercept.store.prepared import PreparedRecording
from biopercept.training import known_inputs
from biopercept.training.checkpoint import DESCRIPTION, Checkpoint, StartingPoint, load_model, subject_digest
from biopercept.training.engine import Engine
from biopercept.training.final import Provenance, TrainingRequest, measured_modalities, train
from biopercept.training.known_inputs import KnownFeatures, learn_known_inputs, window_sizes
from biopercept.training.settings import FitSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
SETTINGS = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=4, batch_size=32, learning_rate=3e-3),
)


@pytest.fixture(scope="module")
def folder(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known") / "model"
    recordings = made.study(10)
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.STEP}, "cleaning": {}}
    provenance = Provenance("made", "0" * 64, prepare, measured_modalities(recordings))
    train(TrainingRequest(WindowInputs(windows, NormalisationSettings(), made.STEP), SETTINGS, provenance), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Checkpoint:
    return load_model(folder)


def test_the_distance_is_mahalanobis_and_what_is_missing_counts_as_expected() -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(4, 4))
    covariance = mixing @ mixing.T + np.eye(4)
    scale, centre = np.sqrt(np.diag(covariance)), random.normal(size=4)
    correlation = covariance / np.outer(scale, scale)
    lower = tuple(tuple(row[: k + 1].tolist()) for k, row in enumerate(correlation))
    known = KnownFeatures(tuple("abcd"), tuple(centre.tolist()), tuple(scale.tolist()), lower, border=2.0)
    values = random.normal(size=(5, 4)) * 3
    expected = [mahalanobis(row, centre, np.linalg.inv(covariance)) / 2 for row in values]
    np.testing.assert_allclose(known.distances(values), expected)
    partly, filled = values.copy(), values.copy()
    partly[:, [1, 3]] = np.nan
    given, gone = [0, 2], [1, 3]
    slope = covariance[np.ix_(gone, given)] @ np.linalg.inv(covariance[np.ix_(given, given)])
    filled[:, gone] = centre[gone] + (values[:, given] - centre[given]) @ slope.T
    expected = [mahalanobis(row, centre, np.linalg.inv(covariance)) / 2 for row in filled]
    np.testing.assert_allclose(known.distances(partly), expected)
    assert np.isnan(known.distances(np.full((1, 4), np.nan))).all()


@pytest.mark.parametrize("at_once", [1, 100, 1 << 19])
def test_sizes_are_those_of_the_samples_and_too_few_of_them_have_none(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(known_inputs, "_SAMPLES_AT_ONCE", at_once)
    recording = made.recording("A", seed=1)
    samples, mask = recording.samples["EDA"], recording.masks["EDA"]
    mask[:, 80:145] = False
    onset = np.array([30.0, 20.0, 0.0])  # in no order
    size, spread = window_sizes(recording, onset, made.LENGTH)["EDA"]
    for row, first in ((2, 0), (0, 120)):
        part = samples[0, first : first + 80][mask[0, first : first + 80]].astype(np.float64)
        np.testing.assert_allclose([size[row], spread[row]], [np.sqrt(np.mean(part**2)), part.std()], rtol=1e-6)
    assert np.isnan([size[1], spread[1]]).all()


def with_strange_windows(made: ModuleType) -> PreparedRecording:
    """Return a recording whose features leap at windows 20 and 21; lasting, they would be usual soon."""
    recording = made.recording("NEW", seed=5)
    rows = np.flatnonzero(~recording.windows.is_labelled)[20:22]
    recording.windows.features[rows] += 1000.0 * (-1.0) ** np.arange(recording.windows.features.shape[1])
    return recording


def test_of_new_people_few_windows_are_unlike_and_of_planted_faults_all(made: ModuleType, model: Checkpoint) -> None:
    usual = [predict(model, made.recording(f"N{k}", seed=50 + k), ENGINE).familiarity for k in range(8)]
    is_inside = np.arange(35) * made.STEP % made.STAGE_SECONDS <= made.STAGE_SECONDS - made.LENGTH
    assert np.mean([f.is_unlike[is_inside].mean() for f in usual]) < 0.04  # across stages nothing was fitted
    assert all(len(f.distance) == 35 and np.isfinite(f.distance).all() for f in usual)
    strange = with_strange_windows(made)
    found = predict(model, strange, ENGINE).familiarity
    assert found.is_unlike[20:22].all() and not found.is_unlike[:20][is_inside[:20]].any()
    [sentence] = [words for words in found.remarks if "unlike" in words]
    assert sentence.startswith(f"{found.is_unlike.mean():.0%} of the windows are unlike those that the model knows")


def in_nanosiemens(recording: PreparedRecording) -> PreparedRecording:
    return replace(recording, samples={**recording.samples, "EDA": recording.samples["EDA"] * 1000})


def at_another_rate(recording: PreparedRecording) -> PreparedRecording:
    signals = tuple(replace(s, native_sampling_rate=64.0) if s.name == "EDA" else s for s in recording.signals)
    return replace(recording, signals=signals)


def in_another_unit(recording: PreparedRecording) -> PreparedRecording:
    return replace(recording, signals=tuple(replace(s, unit="kOhm") for s in recording.signals))


def mostly_masked(recording: PreparedRecording) -> PreparedRecording:
    mask = recording.masks["EDA"].copy()
    mask[:, 300:] = False
    return replace(recording, masks={**recording.masks, "EDA": mask})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_nanosiemens, "signals outside the range known: EDA in 100% of the windows (root mean square about "),
        (at_another_rate, "the sampling rate is far from those known: EDA at 64 Hz, known at 4 Hz"),
        (in_another_unit, "the unit is not one that the model knows: EDA in kOhm, known in a.u."),
        (mostly_masked, "windows without enough usable samples, more than known: EDA in "),
    ],
)
def test_each_fault_is_one_sentence(
    made: ModuleType, model: Checkpoint, change: Callable[[PreparedRecording], PreparedRecording], words: str
) -> None:
    recording = made.recording("NEW", seed=5)
    before, after = predict(model, recording, ENGINE).remarks, predict(model, change(recording), ENGINE).remarks
    assert not any(sentence.startswith(words) for sentence in before)
    assert len([sentence for sentence in after if sentence.startswith(words)]) == 1


def test_features_outside_their_range_have_their_unit_and_what_is_usual_is_said_plainly(model: Checkpoint) -> None:
    assert model.known is not None
    ranges = {"heart/log_hf": (5.0, 6.9), "heart/pnn50": (0.1, 0.1), "eda/slope_of_old": (0.0, 1.0)}
    known, values = replace(model.known, features=ranges, usual=0.07), np.array([[7.2, 0.5, 3.0]] * 4)
    assert feature_remarks(known, values, tuple(ranges)) == [
        "features outside the range known in most windows: heart/log_hf (about 7.2 log ms^2, known 5 to 6.9 log ms^2), "
        "heart/pnn50 (about 0.5, known 0.1), eda/slope_of_old (about 3, known 0 to 1)"
    ]
    distance = np.array([2.0, 0.5, 0.5, 0.5])
    assert distance_remarks(known, {"heart": distance}, distance) == [
        "25% of the windows are unlike those that the model knows, most by the features of heart; of a new person "
        "like those that it was trained on, about 1% are, and of 19 such people in 20 at most 7%"
    ]


def test_sensors_that_are_absent_or_not_read_are_named(made: ModuleType, model: Checkpoint) -> None:
    changed = replace(model, training={**model.training, "modalities": ["eda", "temp"]})
    recording = made.recording("NEW", seed=5)
    spare = replace(recording.signals[-1], name="SpO2", modality="spo2", derived_from="")
    more = replace(
        recording,
        signals=(*recording.signals, spare),
        samples={**recording.samples, "SpO2": recording.samples["EDA"]},
        masks={**recording.masks, "SpO2": recording.masks["EDA"]},
    )
    remarks = predict(changed, more, ENGINE).remarks
    assert "not in the recording, and the model was trained with it: temp" in remarks
    assert "not read, for the model was trained without it: spo2" in remarks


def test_whom_the_model_was_fitted_to_is_recognised(made: ModuleType, model: Checkpoint) -> None:
    other = made.recording("P01", seed=99)
    of_study = Truth(study="made", tasks={})
    assert predict(model, other, ENGINE, truth=of_study).familiarity.fitted_by == BY_SUBJECT
    assert predict(model, other, ENGINE).familiarity.fitted_by == BY_ID
    assert predict(model, other, ENGINE, truth=Truth(study="elsewhere", tasks={})).familiarity.fitted_by == ""
    copy = replace(made.study(10)[3], subject="X")
    found = predict(model, copy, ENGINE, truth=Truth(study="elsewhere", tasks={}))
    assert found.familiarity.fitted_by == BY_SAMPLES
    assert found.remarks[0].startswith("the model was fitted to this recording, or to a part of it")
    digests = [subject_digest("made", s) for s in (*model.training["subjects"], *model.training["validation_subjects"])]
    given = replace(model, training={**model.training, "subjects": digests, "validation_subjects": []})
    assert predict(given, other, ENGINE, truth=of_study).familiarity.fitted_by == BY_SUBJECT


def test_what_is_kept_is_small_and_an_earlier_model_says_that_it_does_not_know(
    made: ModuleType, model: Checkpoint, folder: Path
) -> None:
    assert model.known is not None and (model.known.n_people, len(model.known.fingerprints)) == (10, 10)
    assert (folder / DESCRIPTION).stat().st_size < 100_000
    found = predict(replace(model, known=None), made.recording("NEW", seed=5), ENGINE)
    assert found.remarks == (NOT_KNOWN,)
    assert {"distance", "unlike", "outside_range"}.isdisjoint(found.columns("stress"))
    row = dict(zip(summary_columns(made.TASK), summary_row(found, "stress"), strict=True))
    assert (row["unlike"], row["outside_range"], row["remarks"]) == (None, None, NOT_KNOWN)
    with pytest.raises(SettingsError, match="the model does not keep what it knows, so no window can be called unlike"):
        found.abstaining(unlike=True)


def test_ranges_and_borders_of_one_person_are_of_stretches_of_time(made: ModuleType) -> None:
    recordings = (made.recording("A", seed=1),)
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings("global"), made.STEP)
    known = learn_known_inputs(inputs, inputs.fit(windows.subjects), ("eda",))
    size, _ = window_sizes(recordings[0], windows.onset, made.LENGTH)["EDA"]
    interval = known.sensors["eda"].size
    assert interval is not None and interval[0] < np.quantile(size, 0.02) and interval[1] > np.quantile(size, 0.98)
    assert interval[1] < 3 * size.max() and known.distances


def labelled(made: ModuleType, model: Checkpoint) -> Predictions:
    intervals = tuple(Interval(60.0 * i, 60.0, label) for i, label in enumerate(made.STAGES))
    return predict(model, made.recording("NEW", seed=5), ENGINE, truth=Truth(RecordingLabels(intervals)))


def test_abstaining_answers_what_risk_against_coverage_says(made: ModuleType, model: Checkpoint) -> None:
    found = labelled(made, model)
    confidence = found.only.values.max(axis=1)
    least = float(np.median(confidence))
    kept = found.abstaining(least)
    assert [bool(why) for why in kept.only.reason] == (confidence < least).tolist()
    assert set(np.array(kept.only.reason)[confidence < least]) == {f"less sure than {least:g}"}
    assert np.array_equal(kept.only.values, found.only.values) and kept.only.n_abstained == (confidence < least).sum()
    label = np.array(found.only.label)
    rows = np.flatnonzero(label != "")
    is_wrong = np.array(found.only.predicted)[rows] != label[rows]
    answered = rows[np.array(kept.only.predicted)[rows] != ""]
    wrong = np.mean(np.array(kept.only.predicted)[answered] != label[answered])
    assert selective_risks(is_wrong, confidence[rows])[len(answered) - 1] == pytest.approx(wrong)
    row = dict(zip(summary_columns(made.TASK), summary_row(kept, "stress"), strict=True))
    assert row["abstained"] == row["withheld"] == int((confidence < least).sum())


def test_windows_that_are_unlike_are_withheld_where_wanted(made: ModuleType, model: Checkpoint) -> None:
    strange = with_strange_windows(made)
    strange.samples["EDA"][:, 40:120] *= 1000.0
    found = predict(model, strange, ENGINE).abstaining(unlike=True)
    is_unlike, is_outside = found.familiarity.is_unlike, found.familiarity.is_outside
    assert is_unlike[20:22].all() and is_outside[:3].all() and not is_outside[3:5].any()
    assert [why == UNLIKE for why in found.only.reason] == is_unlike.tolist()
    assert [why == OUTSIDE for why in found.only.reason] == (is_outside & ~is_unlike).tolist()
    assert not any(name for name, why in zip(found.only.predicted, found.only.reason, strict=True) if why)


@pytest.mark.parametrize("below", [0.0, 1.5, -0.2])
def test_a_sureness_that_is_no_probability_is_refused(made: ModuleType, model: Checkpoint, below: float) -> None:
    with pytest.raises(SettingsError, match=rf"--abstain-below is {below:g}; it must be a probability above 0"):
        labelled(made, model).abstaining(below)


def test_other_features_than_this_version_makes_are_refused_by_name(model: Checkpoint, folder: Path) -> None:
    renamed: dict[str, Any] = {"feature_names": tuple(name.replace("log_rmssd", "rmssd") for name in FEATURE_NAMES)}
    with pytest.raises(SettingsError) as fault:
        require_this_version(replace(model, **renamed), "m")
    assert str(fault.value) == (
        f"the model m reads {len(FEATURE_NAMES)} features and this version has {len(FEATURE_NAMES)}: heart/rmssd "
        "missing, heart/log_rmssd new; prepare and train the model with one version"
    )
    with pytest.raises(SettingsError, match="the same in another order; prepare and train the model with one version"):
        require_this_version(replace(model, feature_names=FEATURE_NAMES[::-1]), "m")
    require_this_version(replace(model, feature_names=FEATURE_NAMES), "m")
    with pytest.raises(SettingsError, match=r"the model in folder model reads \d+ features and this version has"):
        predict_files(PredictionRequest(folder, (folder,)), folder.parent / "out")
    start = StartingPoint("pretrained", "", {}, (), FEATURE_NAMES)
    with pytest.raises(SettingsError, match=r"the model p reads .* and the store has .*: the same in another order"):
        start.weights_for(FEATURE_NAMES[::-1], (), Path("p"))
