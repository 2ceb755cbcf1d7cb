"""A BIDS data set is a study: recordings are found by entities, several physio files are one recording."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from biopercept.recording import Interval
from biopercept.studies.loading import load_entry, load_study
from biopercept.studies.structure import StudyFaults

TASKS = "tasks: {load: {classes: {rest: [rest], work: [arithmetic]}}}\n"


def write_physio(path: Path, column: str, value: float, start: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".tsv.gz").write_bytes(gzip.compress(f"{value}\n".encode() * 400, mtime=0))
    sidecar = {
        "SamplingFrequency": 4,
        "StartTime": start,
        "Columns": [column],
        column: {"Units": "uS", "Modality": "eda"},
    }
    path.with_name(path.name + ".json").write_text(json.dumps(sidecar))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    root.mkdir()
    about = {"Name": "Pilot", "License": "CC0", "HowToAcknowledge": "A. Author, 2020", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\tn/a\n")
    for number, subject in enumerate(("01", "02"), 1):
        home = root / f"sub-{subject}" / "ses-a" / "beh"
        stem = f"sub-{subject}_ses-a_task-lab_run-1"
        write_physio(home / f"{stem}_recording-left_physio", "EDA", number)
        write_physio(home / f"{stem}_recording-right_physio", "EDA", number + 0.5, start=-3.0)
        (home / f"{stem}_events.tsv").write_text(
            "onset\tduration\ttrial_type\n0\t50\trest\n50\t50\tarithmetic\n99\tn/a\tbeep\n"
        )
    return root


def test_recordings_are_found_by_their_entities(dataset: Path) -> None:
    study = load_study(dataset)
    assert (study.name, study.licence, study.citation) == ("Pilot", "CC0", "A. Author, 2020")
    assert [(e.subject, e.session, e.recording) for e in study.entries] == [
        ("01", "a", "task-lab_run-1"),
        ("02", "a", "task-lab_run-1"),
    ]
    assert [file.path.name for file in study.entries[0].files] == [
        "sub-01_ses-a_task-lab_run-1_recording-left_physio.tsv.gz",
        "sub-01_ses-a_task-lab_run-1_recording-right_physio.tsv.gz",
    ]
    assert study.entries[0].intervals == (Interval(0, 50, "rest"), Interval(50, 50, "arithmetic"))
    assert any("1 event left out, their onset, duration or trial_type is n/a" in note for note in study.notes)
    assert study.participants[0].columns == {"age": "30"}


def test_two_physio_files_are_one_recording_on_one_clock(dataset: Path) -> None:
    study = load_study(dataset)
    recording = load_entry(study, study.entries[1])
    assert [(s.start_seconds, float(s.read(0, 1)[0, 0])) for s in recording.signals] == [(0.0, 2.0), (-3.0, 2.5)]


def test_study_yaml_at_the_top_gives_tasks_and_its_labels_are_checked(dataset: Path) -> None:
    (dataset / "study.yaml").write_text(TASKS)
    assert load_study(dataset).tasks["load"].class_of("arithmetic") == "work"
    (dataset / "study.yaml").write_text(TASKS.replace("[rest]", "[relax]"))
    with pytest.raises(
        StudyFaults,
        match=r"the label 'rest' \(2 recordings, first sub-01/ses-a/.*_events.tsv line 2\) is under no class of",
    ):
        load_study(dataset)


def test_what_macos_writes_beside_every_file_is_no_part_of_the_data_set(dataset: Path) -> None:
    (dataset / "task-lab_events.tsv").write_text("onset\tduration\ttrial_type\n0\t10\trest\n")
    whole = load_study(dataset)
    for path in [path for path in dataset.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    (dataset / "sub-01" / ".DS_Store").write_bytes(b"Bud1")
    again = load_study(dataset)
    assert again.entries == whole.entries
    assert again.notes == whole.notes


def test_a_task_entity_that_is_a_label_is_the_condition_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(TASKS)
    for number, task in enumerate(("rest", "arithmetic")):
        write_physio(tmp_path / "sub-1" / "physio" / f"sub-1_task-{task}_physio", "EDA", number)
    study = load_study(tmp_path)
    assert {entry.recording: entry.condition for entry in study.entries} == {
        "task-arithmetic": "arithmetic",
        "task-rest": "rest",
    }
    assert study.tasks["load"].label_is_file
    assert study.subjects == ("1",)


def test_all_faults_of_a_data_set_are_told_at_once(dataset: Path) -> None:
    home = dataset / "sub-01" / "ses-a" / "beh"
    (home / "sub-01_ses-a_task-lab_run-1_recording-left_physio.json").unlink()
    write_physio(home / "sub-02_ses-a_task-x_physio", "EDA", 9)
    (home / "sub-01_ses-a_task-gone_eeg.edf").symlink_to(dataset / "gone.edf")
    (home / "sub-01_ses-a_task-out_eeg.edf").symlink_to(__file__)
    (dataset / "participants.tsv").write_text("participant_id\nsub-01\n")
    with pytest.raises(StudyFaults) as caught:
        load_study(dataset)
    found = "\n".join(caught.value.faults)
    assert (
        "recording-left_physio.tsv.gz: its sidecar, the same name with .json, is missing beside it and in the folders "
        "above" in found
    )
    assert "sub-02_ses-a_task-x_physio.tsv.gz: its name says another subject or session than its folders" in found
    assert "task-gone_eeg.edf: a link whose target is not there; fetch the data first" in found
    assert "task-out_eeg.edf: a link that leads out of the data set" in found
    assert "recordings of '02', who is not in participants.tsv" in found


def test_two_files_that_cannot_be_told_apart_are_refused(dataset: Path) -> None:
    write_physio(
        dataset / "sub-01" / "ses-a" / "physio" / "sub-01_ses-a_task-lab_run-1_recording-left_physio", "EDA", 7
    )
    with pytest.raises(StudyFaults, match="are two physio files of one subject, session, task and run"):
        load_study(dataset)


def test_sidecars_and_events_are_inherited_from_above(dataset: Path) -> None:
    plain = load_study(dataset)
    samples = [signal.read() for entry in plain.entries for signal in load_entry(plain, entry).signals]
    for sidecar in dataset.glob("sub-*/ses-a/beh/*.json"):
        content = json.loads(sidecar.read_text())
        sidecar.unlink()
        side = "left" if "left" in sidecar.name else "right"
        (dataset / f"task-lab_recording-{side}_physio.json").write_text(json.dumps(content))
    for events in dataset.glob("sub-*/ses-a/beh/*_events.tsv"):
        (dataset / "task-lab_events.tsv").write_bytes(events.read_bytes())
        events.unlink()
    study = load_study(dataset)
    assert study.entries == plain.entries
    again = [load_entry(study, entry) for entry in study.entries]
    for one, other in zip(samples, (s for r in again for s in r.signals), strict=True):
        assert (one == other.read()).all()
    assert [s.start_seconds for s in again[0].signals] == [0.0, -3.0]


def test_of_events_the_nearest_table_alone_applies(dataset: Path) -> None:
    (dataset / "task-lab_events.tsv").write_text("onset\tduration\ttrial_type\n7\t1\tfar\n")
    assert all("far" not in entry.labels for entry in load_study(dataset).entries)
    for events in dataset.glob("sub-01/ses-a/beh/*_events.tsv"):
        events.unlink()
    (dataset / "sub-01" / "sub-01_task-lab_events.tsv").write_text("onset\tduration\ttrial_type\n7\t1\tnear\n")
    assert load_study(dataset).entries[0].intervals == (Interval(7, 1, "near"),)


def test_the_names_that_bids_gives_physiological_columns_are_known(tmp_path: Path) -> None:
    home = tmp_path / "sub-1" / "func"
    home.mkdir(parents=True)
    (home / "sub-1_task-rest_physio.tsv.gz").write_bytes(gzip.compress(b"1\t2\n" * 400))
    content = {"SamplingFrequency": 50, "StartTime": 0, "Columns": ["cardiac", "respiratory"]}
    (tmp_path / "task-rest_physio.json").write_text(json.dumps(content))
    study = load_study(tmp_path)
    found = [(s.name, s.modality, s.unit) for s in load_entry(study, study.entries[0]).signals]
    assert found == [("cardiac", "bvp", "a.u."), ("respiratory", "resp", "a.u.")]


@pytest.mark.parametrize("damage", ["no column", "no sidecar"])
def test_a_fault_of_every_recording_is_one_sentence(dataset: Path, damage: str) -> None:
    for number in range(3, 60):
        home = dataset / f"sub-{number:02d}" / "ses-a" / "beh"
        stem = f"sub-{number:02d}_ses-a_task-lab_run-1"
        write_physio(home / f"{stem}_physio", "EDA", number)
        (home / f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n0\t50\trest\n")
    (dataset / "participants.tsv").unlink()
    for path in dataset.glob("sub-*/ses-a/beh/*_events.tsv") if damage == "no column" else ():
        path.write_text("begin\tduration\ttrial_type\n0\t50\trest\n")
    for path in dataset.glob("sub-*/ses-a/beh/*_physio.json") if damage == "no sidecar" else ():
        path.unlink()
    with pytest.raises(StudyFaults) as caught:
        load_study(dataset)
    n = 58 if damage == "no column" else 60
    named = [fault for fault in caught.value.faults if "no recording found" not in fault]
    assert len(named) == 1, named
    assert f"(so too in {n} more: " in named[0]


def test_a_changed_sidecar_above_is_seen(dataset: Path) -> None:
    from biopercept.prepare.reuse import SourceFiles, source_hash

    def hashes() -> list[str]:
        study = load_study(dataset)
        return [source_hash(study, entry, SourceFiles()) for entry in study.entries]

    above = dataset / "task-lab_physio.json"
    above.write_text(json.dumps({"SamplingFrequency": 4, "StartTime": 1.0}))
    before = hashes()
    above.write_text(json.dumps({"SamplingFrequency": 4, "StartTime": 2.0}))
    assert all(one != other for one, other in zip(before, hashes(), strict=True))


def test_a_link_to_the_parent_is_not_followed_round_and_round(dataset: Path) -> None:
    (dataset / "sub-01" / "ses-loop").symlink_to(dataset)
    (dataset / "sub-01" / "ses-a" / "eeg").symlink_to(dataset)
    assert len(load_study(dataset).entries) == 2


def write_eeg(home: Path, stem: str, start: str = "22:00:00") -> None:
    """Write 20 s of an EDF: Fp1, Cz and a channel called AUX at 64 Hz; and tables beside it that BIDS describes."""
    import datetime

    import edfio
    import numpy as np

    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(stem.encode()))  # no two recordings are alike
    units = {"Fp1": "uV", "Cz": "uV", "AUX": "", "TRIG1": "uV"}
    signals = [
        edfio.EdfSignal(rng.normal(0, 10, 1280), 64, label=label, physical_dimension=unit)
        for label, unit in units.items()
    ]
    edfio.Edf(signals, starttime=datetime.time.fromisoformat(start)).write(home / f"{stem}_eeg.edf")
    (home / f"{stem}_channels.tsv").write_text(
        "name\ttype\tunits\tstatus\tstatus_description\n"
        "Fp1\tEEG\tuV\tbad\tloose electrode\nCz\tEEG\tuV\tgood\tn/a\n"
        "AUX\tGSR\tuS\tn/a\tn/a\nTRIG1\tTRIG\tn/a\tbad\tn/a\n"
        "Oz\tEEG\tuV\tbad\tn/a\n"
    )


@pytest.fixture
def full_dataset(tmp_path: Path) -> Path:
    """A data set in the layout of bids-examples: two sessions, runs, eeg, motion and physio, derivatives, scans.tsv."""
    root = tmp_path / "full"
    for number, session in enumerate(("a", "b"), 3):
        home = root / "sub-01" / f"ses-{session}"
        for run in (1, 2):
            stem = f"sub-01_ses-{session}_task-lab_run-{run}"
            write_eeg(home / "eeg", stem)
            write_physio(home / "eeg" / f"{stem}_physio", "EDA", number * run, start=-2.0)
        motion = f"sub-01_ses-{session}_task-lab_run-1_tracksys-imu_motion"
        write_physio(home / "motion" / motion, "EDA", number / 2)
        (home / f"sub-01_ses-{session}_scans.tsv").write_text(
            "filename\tacq_time\n"
            f"eeg/sub-01_ses-{session}_task-lab_run-1_eeg.edf\t2020-05-01T10:00:00.000\n"
            f"motion/{motion}.tsv.gz\t2020-05-01T10:00:07.500\n"
        )
    (root / "dataset_description.json").write_text('{"Name": "Full", "BIDSVersion": "1.10.0"}')
    (root / "task-lab_events.tsv").write_text("onset\tduration\ttrial_type\n0\t10\trest\n")
    write_eeg(root / "derivatives" / "cleaned" / "sub-01" / "ses-a" / "eeg", "sub-01_ses-a_task-lab_run-1_desc-clean")
    return root


def test_sessions_runs_and_data_types_are_recordings_and_derivatives_are_none(full_dataset: Path) -> None:
    study = load_study(full_dataset)
    assert [(e.session, e.recording, len(e.files), e.intervals) for e in study.entries] == [
        ("a", "task-lab_run-1", 3, (Interval(0, 10, "rest"),)),
        ("a", "task-lab_run-2", 2, (Interval(0, 10, "rest"),)),
        ("b", "task-lab_run-1", 3, (Interval(0, 10, "rest"),)),
        ("b", "task-lab_run-2", 2, (Interval(0, 10, "rest"),)),
    ]


def test_scans_place_two_devices_and_physio_counts_from_the_recording(full_dataset: Path) -> None:
    study = load_study(full_dataset)
    recording = load_entry(study, study.entries[0])
    starts = {signal.source: signal.start_seconds for signal in recording.signals}
    assert {name.rpartition("_")[2]: start for name, start in starts.items()} == {
        "eeg.edf": 0.0,
        "physio.tsv.gz": -2.0,
        "motion.tsv.gz": 7.5,
    }


def test_channels_say_types_units_and_what_is_bad(full_dataset: Path) -> None:
    study = load_study(full_dataset)
    recording = load_entry(study, study.entries[1])
    eeg, aux = recording.signal("EEG"), recording.signal("AUX")
    assert eeg.channel_names == ("Fp1", "Cz")
    assert (aux.modality, aux.unit) == ("eda", "uS")
    assert recording.signal("TRIG1").modality == "unknown"
    assert [(one.kind, one.channels, one.source) for one in recording.corrections] == [
        ("channel-bad", ("EEG/Fp1",), "loose electrode"),
        ("channel-bad", ("TRIG1/TRIG1",), "channels.tsv"),
    ]
    notes = [note.partition(": ")[2] for note in recording.notes]
    assert "bad by channels.tsv: EEG/Fp1 (loose electrode), TRIG1/TRIG1 (channels.tsv)" in notes
    assert f"channels.tsv calls 'Oz' bad, which {study.entries[1].files[0].path.name} does not have" in notes


def test_the_study_goes_before_the_types_of_channels(full_dataset: Path) -> None:
    (full_dataset / "study.yaml").write_text("name: full\nsignals:\n  AUX: {modality: resp}\n")
    study = load_study(full_dataset)
    assert load_entry(study, study.entries[1]).signal("AUX").modality == "resp"


def test_electrodes_stand_where_their_table_says_in_a_frame_that_is_known(full_dataset: Path) -> None:
    home = full_dataset / "sub-01" / "ses-a" / "eeg"
    (home / "sub-01_ses-a_electrodes.tsv").write_text("name\tx\ty\tz\nFp1\t-20\t90\t30\nCz\tn/a\tn/a\tn/a\n")
    frame = home / "sub-01_ses-a_coordsystem.json"
    frame.write_text('{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm"}')
    study = load_study(full_dataset)
    fp1, cz = load_entry(study, study.entries[1]).signal("EEG").channels
    assert fp1.position == (-0.02, 0.09, 0.03)
    template = load_entry(study, study.entries[3]).signal("EEG").channels  # the other session has no such table
    assert cz.position == template[1].position != template[0].position
    frame.write_text('{"EEGCoordinateSystem": "CTF", "EEGCoordinateUnits": "mm"}')
    recording = load_entry(study, study.entries[1])
    assert recording.signal("EEG").channels == template
    assert any(
        note.endswith(
            "sub-01_ses-a_electrodes.tsv: positions in the coordinate system 'CTF', unit 'mm', are not used (CapTrak "
            "in m, cm or mm is); electrodes are placed by their names"
        )
        for note in recording.notes
    )


def test_a_time_of_scans_that_is_none_is_a_fault(full_dataset: Path) -> None:
    scans = full_dataset / "sub-01" / "ses-a" / "sub-01_ses-a_scans.tsv"
    scans.write_text(scans.read_text().replace("2020-05-01T10:00:00.000", "noon"))
    with pytest.raises(
        StudyFaults, match=r"sub-01_ses-a_scans\.tsv line 2: acq_time is 'noon', which is no ISO date and"
    ):
        load_study(full_dataset)
