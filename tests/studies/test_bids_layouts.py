"""A data set as those of bids-examples are laid out: every file of it is read, placed and described as it says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from biopercept.recording import Interval, Recording
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study

RATE, SECONDS = 128, 20
LABELS = ("Fp1", "Cz", "VEOG", "TRIG1")


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-300, 300, (len(LABELS), RATE * SECONDS))


def write_eeg(home: Path, stem: str, seed: int) -> None:
    """Write BrainVision files: steps of half a microvolt, and a marker."""
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{stem}.eeg").write_bytes(values(seed).T.astype("<i2").tobytes())
    (home / f"{stem}.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\nMk1=Stimulus,S  1,129,1,0\n"
    )
    (home / f"{stem}.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\n"
        f"DataFile={stem}.eeg\nMarkerFile={stem}.vmrk\nNumberOfChannels={len(LABELS)}\nSamplingInterval={1e6 / RATE}\n"
        "[Channel Infos]\n" + "".join(f"Ch{i}={label},,0.5,µV\n" for i, label in enumerate(LABELS, 1)),
        encoding="utf-8",
    )


def write_table(path: Path, *columns: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join("\t".join(f"{cell:g}" for cell in row) + "\n" for row in zip(*columns, strict=True))
    path.write_bytes(gzip.compress(rows.encode(), mtime=0))


def write_json(path: Path, **content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def wave(seed: int, rate: int) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(0, 1, rate * (SECONDS + 3)), 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ds000000"
    write_json(
        root / "dataset_description.json", Name="Layouts", BIDSVersion="1.10.0", DatasetType="raw", License="CC0"
    )
    for name in ("README", "CHANGES", "participants.json", "task-stroop_eeg.json", "task-stroop_events.json"):
        (root / name).write_text("{}")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\t31\n")
    for folder in ("code", "derivatives/x/sub-01/eeg", "sourcedata/sub-01", "stimuli", "phenotype"):
        (root / folder).mkdir(parents=True)
    # At the top: for every file of the kind, for a task, and for one device of it.
    write_json(root / "physio.json", StartTime=0.0)
    write_json(root / "task-stroop_recording-belt_physio.json", SamplingFrequency=16, Columns=["respiratory"])
    write_json(root / "recording-hand_physio.json", SamplingFrequency=4, Columns=["GSR"], GSR={"Units": "microsiemens"})
    (root / "task-stroop_channels.tsv").write_text(
        "name\ttype\tunits\tstatus\nFp1\tEEG\tuV\tgood\nCz\tEEG\tuV\tbad\nVEOG\tVEOG\tuV\tgood\nTRIG1\tTRIG\tV\tgood\n"
    )
    (root / "task-stroop_events.tsv").write_text("onset\tduration\ttrial_type\n0\t10\trest\n")
    for session in ("1", "2"):
        home = root / "sub-01" / f"ses-{session}"
        for run in ("01", "02"):
            stem = f"sub-01_ses-{session}_task-stroop_run-{run}"
            write_eeg(home / "eeg", f"{stem}_eeg", int(session + run))
            write_table(home / "eeg" / f"{stem}_recording-belt_physio.tsv.gz", wave(int(session + run), 16))
            write_table(home / "eeg" / f"{stem}_recording-hand_physio.tsv.gz", 5 + wave(int(session + run), 4))
    # The subject's start goes before that of the top, the session's before both.
    write_json(root / "sub-01" / "sub-01_recording-belt_physio.json", StartTime=-2.5)
    write_json(root / "sub-01" / "ses-2" / "sub-01_ses-2_recording-hand_physio.json", StartTime=-1.25)
    own = root / "sub-01" / "ses-2" / "eeg"
    (own / "sub-01_ses-2_task-stroop_run-02_events.tsv").write_text("onset\tduration\ttrial_type\n5\t5\twork\n")
    # Behaviour alone: no sessions, answers beside the signals, and a table of a column that is no modality.
    beh = root / "sub-02" / "beh"
    write_table(beh / "sub-02_task-stroop_physio.tsv.gz", wave(7, 100), wave(8, 100))
    write_json(
        beh / "sub-02_task-stroop_physio.json", SamplingFrequency=100, StartTime=-0.5, Columns=["cardiac", "trigger"]
    )
    (beh / "sub-02_task-stroop_beh.tsv").write_text("trial\tresponse\n1\tleft\n")
    (beh / "sub-02_task-stroop_events.tsv").write_text("onset\tduration\ttrial_type\n1\t2\twork\n")
    return root


def recordings(root: Path) -> dict[tuple[str, str, str], Recording]:
    study = load_study(root)
    return {(e.subject, e.session, e.recording): load_entry(study, e) for e in study.entries}


def test_every_recording_of_the_layout_is_found_once(root: Path) -> None:
    assert [(e.subject, e.session, e.recording, len(e.files)) for e in load_study(root).entries] == [
        ("01", "1", "task-stroop_run-01", 3),
        ("01", "1", "task-stroop_run-02", 3),
        ("01", "2", "task-stroop_run-01", 3),
        ("01", "2", "task-stroop_run-02", 3),
        ("02", "", "task-stroop", 1),
    ]


def test_samples_are_the_planted_ones_on_one_clock_by_inherited_starts(root: Path) -> None:
    read = recordings(root)
    for (subject, session, name), recording in read.items():
        if subject == "02":
            continue
        run = name[-2:]
        steps = values(int(session + run))
        np.testing.assert_array_equal(recording.signal("EEG").read(), steps[:2] * 0.5)
        (belt,), (hand,) = recording.signals_of("resp"), recording.signals_of("eda")
        assert (belt.sampling_rate, belt.start_seconds) == (16, -2.5), "the subject's, before the top's"
        assert (hand.sampling_rate, hand.start_seconds) == (4, -1.25 if session == "2" else 0.0)
        np.testing.assert_allclose(belt.read()[0], wave(int(session + run), 16))
        np.testing.assert_allclose(hand.read()[0], 5 + wave(int(session + run), 4))
        assert hand.unit == "uS"
    alone = read[("02", "", "task-stroop")]
    (pulse,) = alone.signals_of("bvp")
    assert (pulse.sampling_rate, pulse.start_seconds) == (100, -0.5)
    assert alone.signal("trigger").modality == "unknown"


def test_tables_at_the_top_describe_every_file_below(root: Path) -> None:
    for (subject, *_), recording in recordings(root).items():
        if subject == "01":
            assert recording.signal("VEOG").modality == "eog"
            assert recording.signal("TRIG1").modality == "unknown"
            assert [one.channels for one in recording.corrections] == [("EEG/Cz",)]


def test_events_are_the_nearest_table_s(root: Path) -> None:
    top, own, beh = (Interval(0, 10, "rest"),), (Interval(5, 5, "work"),), (Interval(1, 2, "work"),)
    assert [entry.intervals for entry in load_study(root).entries] == [top, top, top, own, beh]


def test_acquisitions_tell_recordings_where_nothing_else_does(root: Path) -> None:
    home = root / "sub-02" / "eeg"
    for seed, acquisition in enumerate(("dry", "wet")):
        write_eeg(home, f"sub-02_task-walk_acq-{acquisition}_eeg", seed)
        write_table(home / f"sub-02_task-walk_acq-{acquisition}_recording-hand_physio.tsv.gz", 5 + wave(seed, 4))
    write_eeg(home, "sub-02_task-sit_acq-dry_eeg", 9)
    names = {(e.recording, len(e.files)) for e in load_study(root).entries if e.subject == "02"}
    assert names == {
        ("task-stroop", 1),
        ("task-sit", 1),
        ("task-walk_acq-dry", 2),
        ("task-walk_acq-wet", 2),
    }


def test_other_formats_in_a_data_set_are_read_and_what_is_none_is_told(root: Path) -> None:
    import mne

    home = root / "sub-02" / "eeg"
    home.mkdir()
    info = mne.create_info(["Fp1", "Cz"], 100.0, "eeg")
    raw = mne.io.RawArray(np.random.default_rng(1).normal(0, 1e-5, (2, 2000)), info, verbose="error")
    raw.save(home / "sub-02_task-rest_eeg.fif", verbose="error")
    (home / "sub-02_task-odd_eeg.xyz").write_text("?")
    (home / "sub-02_task-blood_eeg.snirf").write_bytes(b"\x89HDF\r\n\x1a\n")
    study = load_study(root)
    entries = {entry.recording: entry for entry in study.entries if entry.subject == "02"}
    assert load_entry(study, entries["task-rest"]).signal("EEG").n_channels == 2
    assert "sub-02/eeg/sub-02_task-odd_eeg.xyz is of no format that is read; left out" in study.notes
    with pytest.raises(Exception, match=r"SNIRF .* is not read"):
        load_entry(study, entries["task-blood"])
