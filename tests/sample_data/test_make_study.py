"""The sample study is what its program makes, its plants are there, and a clock tells nothing."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import edfio
import numpy as np
import pytest

from biopercept.recording import Recording
from biopercept.resources import sample_study
from biopercept.sample_data.make_study import DEFINITION, PLANS, SEED, stage_labels, write_study
from biopercept.sample_data.physiology import draw_person
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.structure import Study


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with sample_study() as path:
        yield path


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder)


@pytest.fixture(scope="module")
def recordings(study: Study) -> dict[str, Recording]:
    return {entry.subject: load_entry(study, entry) for entry in study.entries}


def _table(path: Path) -> np.ndarray:
    return np.loadtxt(gzip.decompress(path.read_bytes()).decode().splitlines()[1:], delimiter=",")


@pytest.mark.parametrize("subject", ["S07", "S09"])
def test_the_program_makes_the_samples_that_are_committed(folder: Path, tmp_path: Path, subject: str) -> None:
    write_study(tmp_path, [subject])
    committed = edfio.read_edf(folder / "recordings" / f"{subject}_chest.edf")
    again = edfio.read_edf(tmp_path / "recordings" / f"{subject}_chest.edf")
    assert again.labels == committed.labels
    for ours, theirs in zip(again.signals, committed.signals, strict=True):
        # One digital step is left to processors that round sines differently.
        assert np.abs(ours.digital.astype(int) - theirs.digital.astype(int)).max() <= 1
    name = f"recordings/{subject}_wrist.csv.gz"
    tables = [_table(root / name) for root in (folder, tmp_path)]
    np.testing.assert_allclose(tables[0], tables[1], atol=1.01e-2, rtol=0)
    assert (tmp_path / "study.yaml").read_bytes() == (folder / "study.yaml").read_bytes()


def test_the_study_is_small_and_complete(folder: Path, study: Study) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 6_000_000
    assert study.subjects == tuple(plan.subject for plan in PLANS)
    assert "MADE" in str(DEFINITION["description"])
    assert all(len(entry.files) == 2 for entry in study.entries)
    assert not study.tasks["stress"].label_is_file


def test_recordings_hold_every_sensor_at_its_own_rate_and_no_note(recordings: dict[str, Recording]) -> None:
    rates = {signal.modality: (signal.sampling_rate, signal.unit) for signal in recordings["S01"].signals}
    assert rates == {
        "ecg": (128.0, "mV"),
        "eeg": (128.0, "uV"),
        "resp": (16.0, "a.u."),
        "eda": (4.0, "uS"),
        "temp": (4.0, "degC"),
    }
    assert recordings["S01"].signals_of("eeg")[0].channel_names == ("Fz", "Cz", "Pz", "Oz")
    assert all(recording.notes == () for recording in recordings.values())


def test_one_has_no_eeg_one_a_broken_channel_one_a_late_wrist_device(
    recordings: dict[str, Recording],
) -> None:
    assert [subject for subject, r in recordings.items() if not r.signals_of("eeg")] == ["S05"]
    eeg = recordings["S07"].signals_of("eeg")[0].read()
    assert np.flatnonzero(np.ptp(eeg, axis=1) == 0).tolist() == [2]
    ecg = recordings["S07"].signals_of("ecg")[0].read(150 * 128, 180 * 128)
    assert np.ptp(ecg) == 0
    starts = {subject: r.signals_of("eda")[0].start_seconds for subject, r in recordings.items()}
    assert {subject for subject, start in starts.items() if start == 12.5} == {"S09"}
    assert sum(start == 0 for start in starts.values()) == 9


def test_at_every_moment_half_of_the_people_rest() -> None:
    for stage in zip(*(plan.order for plan in PLANS), strict=True):
        assert Counter(stage) == {"R": 5, "S": 5}


def test_the_first_rest_is_the_baseline_whatever_comes_first() -> None:
    assert stage_labels("SSRSR") == ["stroop", "interview", "baseline", "stroop", "relax"]


def test_hearts_beat_faster_under_stress_in_those_who_respond(recordings: dict[str, Recording]) -> None:
    import neurokit2

    rises = {}
    for plan in PLANS:
        recording = recordings[plan.subject]
        ecg = recording.signals_of("ecg")[0].read()[0]
        peaks = neurokit2.ecg_peaks(neurokit2.ecg_clean(ecg, 128), 128)[1]["ECG_R_Peaks"] / 128
        rates: dict[bool, list[float]] = {True: [], False: []}
        for interval in recording.intervals:
            inside = peaks[(peaks >= interval.onset_seconds) & (peaks < interval.end_seconds)]
            rates[interval.label in ("stroop", "interview")].append(60 / float(np.median(np.diff(inside))))
        rises[plan.subject] = np.mean(rates[True]) - np.mean(rates[False])
    responders = [rise for plan in PLANS if plan.response > 0.5 for rise in [rises[plan.subject]]]
    assert 4 < np.mean(responders) < 8
    assert min(responders) > 2
    assert max(rises["S04"], rises["S08"]) < 3


def test_baselines_of_people_differ_more_than_rest_and_stress_do() -> None:
    rates = [draw_person(np.random.default_rng([SEED, i]), 1.0).heart_rate for i in range(200)]
    assert np.std(rates) > 6.0
