"""Corrections by hand are read from the table beside a recording and from its annotations, or every fault is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.corrections import corrections_of, read_corrections
from biopercept.loaders.loading import load_recording
from biopercept.recording import BAD, BEAT_REMOVED, CHANNEL_BAD, POLARITY, Correction

HEAD = "onset\tduration\tkind\tchannel\twho\twhen"


def write(path: Path, *rows: str, head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_rows_become_corrections_of_the_channels_that_are_there(edf_file: Path) -> None:
    write(
        edf_file.with_name("made_corrections.tsv"),
        "2\t1.5\tbad\tn/a\tAnna\t2026-02-03T10:00:00",
        "0.5\t2\tbad\teeg/FP1\tn/a\tn/a",
        "n/a\tn/a\tchannel-bad\tT3\tn/a\tn/a",
        "n/a\tn/a\tpolarity\tECG\t\t",
        "7.25\t0\tbeat-removed\tn/a\t\t",
    )
    source = "made_corrections.tsv"
    assert load_recording(edf_file).corrections == (
        Correction(BAD, 2.0, 1.5, (), "Anna", "2026-02-03T10:00:00", source),
        Correction(BAD, 0.5, 2.0, ("EEG/Fp1",), source=source),
        Correction(CHANNEL_BAD, channels=("EEG/T3",), source=source),
        Correction(POLARITY, channels=("ECG",), source=source),
        Correction(BEAT_REMOVED, 7.25, 0.0, source=source),
    )


def test_columns_may_stand_in_any_order_and_others_beside_them(edf_file: Path) -> None:
    write(edf_file.with_name("made_corrections.tsv"), "blink\tbad\t1\t2", head="why\tkind\tduration\tonset")
    assert [one.span for one in load_recording(edf_file).corrections] == [(2.0, 3.0)]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            "1\t1\tbadd\tn/a",
            "kind is 'badd'; allowed are bad, channel-bad, polarity, beat-added, beat-removed, label; ",
        ),
        ("soon\t1\tbad\tn/a", "onset is 'soon'; a number of seconds is needed"),
        ("1\tinf\tbad\tn/a", "duration is 'inf'; a number of seconds is needed"),
        ("1_0\t1\tbad\tn/a", "onset is '1_0'; a number of seconds is needed"),
        ("1\t-1\tbad\tn/a", "duration is -1; it must not be below 0"),
        ("1\tn/a\tbad\tn/a", "a row of kind bad needs an onset and a duration above 0"),
        ("1\t0\tbad\tn/a", "a row of kind bad needs an onset and a duration above 0"),
        ("n/a\t0\tbeat-added\tECG", "a row of kind beat-added needs an onset, the time of the beat"),
        ("1\t0.1\tbeat-added\tECG", "duration is 0.1; a beat has none, write 0"),
        ("1\t2\tchannel-bad\tEEG", "a row of kind channel-bad is about the full recording, write n/a"),
        ("1\tn/a\tpolarity\tECG", "a row of kind polarity needs onset and duration of the stretch, or n/a in both"),
        ("n/a\tn/a\tpolarity\tn/a", "a row of kind polarity must name its channel"),
        ("n/a\tn/a\tchannel-bad\t", "a row of kind channel-bad must name its channel"),
        ("1\t1\tbad", "3 cells where the header has 4; cells are separated by tabs"),
        ("1\t1\tbad\tEEG/Fp9", "there is no signal or channel 'EEG/Fp9' (there are: EEG (Fp1, T3), A2-A1, ECG, EDA)"),
        ("10.5\t1\tbad\tn/a", "10.5 s lies outside the recording, which spans 0 to 10.000 s"),
        ("-3\t1\tbad\tn/a", "-3 s lies outside the recording, which spans 0 to 10.000 s"),
        ("97.31\t0\tbeat-removed\tn/a", "97.31 s lies outside the recording, which spans 0 to 10.000 s"),
        ("1\t0\tbeat-added\tEDA", "beats are those of ECG, a pulse wave or inter-beat intervals, and EDA is "),
        ("n/a\tn/a\tpolarity\tEDA", "only ECG and pulse waves can be turned, and EDA is "),
    ],
)
def test_what_is_wrong_with_a_row_is_one_sentence_with_its_place(edf_file: Path, row: str, fault: str) -> None:
    write(edf_file.with_name("made_corrections.tsv"), "1\t1\tbad\tn/a", row, head="onset\tduration\tkind\tchannel")
    with pytest.raises(RecordingError) as raised:
        load_recording(edf_file)
    assert str(raised.value).startswith(f"made_corrections.tsv line 3: {fault}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        ("onset\tkind", "the column duration is missing (there are: onset, kind)"),
        (
            "onset,duration,kind",
            "the columns are separated by commas and not by tabs; save the table as tab-separated text",
        ),
        ("", "no header; the first line must name the columns onset, duration, kind, channel, who, when"),
        ("onset\tduration\tkind\tkind", "the column kind is there twice"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, head: str, fault: str) -> None:
    assert read_corrections(write(tmp_path / "a_corrections.tsv", head=head)).faults == (
        f"a_corrections.tsv line 1: {fault}",
    )


def test_all_faults_are_told_at_once(edf_file: Path) -> None:
    write(edf_file.with_name("made_corrections.tsv"), "1\t1\tx\tn/a\t\t", "1\t\tbad\tn/a\t\t", "11\t1\tbad\t\t\t")
    with pytest.raises(RecordingError, match=r"line 2: .*; .* line 3: .*; .* line 4: 11 s lies outside"):
        load_recording(edf_file)


def test_a_stretch_that_ends_after_the_recording_is_applied_and_said(edf_file: Path) -> None:
    write(edf_file.with_name("made_corrections.tsv"), "8\t20\tbad\tn/a\t\t")
    loaded = load_recording(edf_file)
    assert loaded.corrections[0].span == (8.0, 28.0)
    assert loaded.notes[-1] == (
        "made_corrections.tsv line 2: the stretch from 8 to 28 s reaches beyond the recording, which ends at 10.0 s"
    )


@pytest.mark.parametrize("fixture", ["edf_file", "e4_folder", "e4_zip", "wfdb_record"])
def test_they_lie_beside_every_kind_of_recording(fixture: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(fixture)
    name = path.name.removesuffix(".edf").removesuffix(".zip").removesuffix(".hea")
    assert load_recording(path).corrections == ()
    write(path.parent / f"{name}_corrections.tsv", "1\t2\tbad\tn/a\t\t")
    assert [one.span for one in load_recording(path).corrections] == [(1.0, 3.0)]


def test_they_lie_beside_tables_and_below_the_name_of_wfdb_records(tmp_path: Path, wfdb_record: Path) -> None:
    table = tmp_path / "made.csv.gz"
    import gzip

    table.write_bytes(
        gzip.compress(("time,EDA (uS)\n" + "".join(f"{i / 4},{2 + i / 99}\n" for i in range(99))).encode())
    )
    write(tmp_path / "made_corrections.tsv", "1\t2\tbad\tEDA\t\t")
    assert load_recording(table).corrections[0].channels == ("EDA",)
    record = wfdb_record.with_suffix("")
    write(record.with_name(f"{record.name}_corrections.tsv"), "1\t2\tbad\tn/a\t\t")
    assert len(load_recording(record).corrections) == 1


def test_a_table_by_the_full_name_goes_first_and_that_is_said(edf_file: Path) -> None:
    write(edf_file.with_name("made_corrections.tsv"), "1\t2\tbad\tn/a\t\t")
    full = write(edf_file.with_name("made.edf_corrections.tsv"), "5\t2\tbad\tn/a\t\t")
    assert corrections_of(edf_file) == full
    loaded = load_recording(edf_file)
    assert [one.onset_seconds for one in loaded.corrections] == [5.0]
    assert "made.edf_corrections.tsv is read, and not made_corrections.tsv" in loaded.notes


def test_a_table_after_the_names_of_bids_that_is_not_read_is_said(edf_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    path = folder / "sub-01_task-rest_eeg.edf"
    shutil.copy(edf_file, path)
    write(folder / "sub-01_task-rest_corrections.tsv", "1\t2\tbad\tn/a\t\t")
    loaded = load_recording(path)
    assert loaded.corrections == ()
    assert loaded.notes[-1] == (
        "sub-01_task-rest_corrections.tsv is not read: corrections are of one file, and of this one called "
        "sub-01_task-rest_eeg_corrections.tsv"
    )


def test_a_table_of_corrections_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="corrections by hand, and no recording"):
        load_recording(write(tmp_path / "a_corrections.tsv", "1\t2\tbad\tn/a\t\t"))


def annotated(path: Path, suffix: str = ".edf") -> mne.io.BaseRaw:
    """Write EEG with annotations through mne, and return it as mne has it."""
    rate, names = 128.0, ["Fp1", "Fp2", "O1", "O2"]
    samples = 2e-5 * np.random.default_rng(1).standard_normal((4, int(30 * rate)))
    raw = mne.io.RawArray(samples, mne.create_info(names, rate, "eeg", verbose="error"), verbose="error")
    raw.set_annotations(
        mne.Annotations(
            [2.0, 10.0, 15.0, 20.0, 25.0],
            [3.0, 2.5, 1.0, 4.0, 0.0],
            ["BAD_muscle", "bad electrode", "stroop", "Bad_blink", "BAD_instant"],
            ch_names=[(), ("O1", "Fp2"), (), (), ()],
        )
    )
    mne.export.export_raw(path, raw, overwrite=True, verbose="error")
    return raw


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_annotations_that_begin_with_bad_mask_what_they_mask_for_mne(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"marked{suffix}"
    raw = annotated(path)
    recording = load_recording(path)
    assert [interval.label for interval in recording.intervals] == ["stroop"]
    eeg = recording.signal("EEG")
    times = eeg.sample_times()
    is_bad = np.zeros((4, len(times)), dtype=bool)
    for one in recording.corrections:
        begin, end = one.span
        for row in one.rows_in(eeg):
            is_bad[row] |= (times >= begin) & (times < end)
    # mne masks those of single channels when it is told to; what is left of its array is NaN there.
    of_all = raw.get_data(reject_by_annotation="NaN")[2]
    expected = np.tile(np.zeros(len(times), dtype=bool), (4, 1))
    for mark in raw.annotations:
        if mark["description"].lower().startswith("bad"):
            rows = [raw.ch_names.index(name) for name in mark["ch_names"]] or range(4)
            for row in rows:
                expected[row] |= (times >= mark["onset"]) & (times < mark["onset"] + mark["duration"])
    np.testing.assert_array_equal(is_bad, expected)
    assert np.isnan(of_all)[is_bad[2]].all()
    assert recording.notes[-2:] == (
        "annotations that begin with 'bad' and have no duration (1): nothing is masked for them",
        "annotations that begin with 'bad' (3) are taken for bad stretches: BAD_muscle, bad electrode, Bad_blink",
    )


def test_an_annotation_of_a_channel_that_is_not_there_is_said(tmp_path: Path) -> None:
    import edfio

    signal = edfio.EdfSignal(np.sin(np.arange(2560.0)), 256, label="ECG", physical_dimension="mV")
    marks = [edfio.EdfAnnotation(2, 3, "BAD@@X1"), edfio.EdfAnnotation(6, 1, "BAD@@ECG")]
    edfio.Edf([signal], annotations=marks).write(tmp_path / "a.edf")
    loaded = load_recording(tmp_path / "a.edf")
    assert [(one.span, one.channels) for one in loaded.corrections] == [((6.0, 7.0), ("ECG",))]
    assert "the annotation 'BAD' at 2 s names X1, which is not there" in loaded.notes
