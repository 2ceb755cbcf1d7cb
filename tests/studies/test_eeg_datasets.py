"""Data sets of EEG in one label or rating for each file or clip: made folders in the documented layout, imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import (
    deap_ratings,
    dreamer_person,
    write_deap,
    write_deap_bdf,
    write_deap_table,
    write_dreamer,
    write_stew,
)

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.emotiv import ELECTRODES
from biopercept.loaders.loading import load_recording
from biopercept.loaders.readers.edf import read_triggers
from biopercept.loaders.readers.matlab_pieces import pieces
from biopercept.studies.datasets import deap, dreamer, stew
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study


def test_stew_files_are_microvolts_of_14_electrodes_labelled_by_their_name(tmp_path: Path) -> None:
    write_stew(tmp_path, 1)
    write_stew(tmp_path, 5)
    write_stew(tmp_path, 7, (1, 9))
    (tmp_path / "ratings.txt").write_text("1, 2, 8\n7,1,9\n")
    (tmp_path / "sub07_lo.txt").unlink()
    summary = stew.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings) == (2, 4)
    assert summary.left_out == (
        "sub07: sub07_lo.txt is not there, and one condition alone cannot be told from the person.",
    )
    assert "sub05 has no ratings in ratings.txt." in summary.notes
    study = load_study(tmp_path / "study")
    assert {(e.subject, e.condition): e.columns.get("rating") for e in study.entries} == {
        ("sub01", "rest"): "2",
        ("sub01", "multitasking"): "8",
        ("sub05", "rest"): "n/a",
        ("sub05", "multitasking"): "n/a",
    }
    for entry, size in zip(study.entries[:2], (10.0, 30.0), strict=True):
        (eeg,) = load_entry(study, entry).signals
        assert (eeg.name, eeg.modality, eeg.unit, eeg.sampling_rate, eeg.n_samples) == ("EEG", "eeg", "uV", 128.0, 2560)
        assert eeg.channel_names[:3] + eeg.channel_names[-1:] == ("AF3", "F7", "F3", "AF4")
        samples = eeg.read()
        assert np.allclose(samples.mean(axis=1), 4201 + 10 * np.arange(14), atol=1e-3)
        assert np.allclose(samples.std(axis=1), size / np.sqrt(2), rtol=1e-3)


def test_stew_numbers_that_are_off_the_headsets_offset_have_no_unit(tmp_path: Path) -> None:
    write_stew(tmp_path, 1, level=8190.0)
    recording = load_recording(tmp_path / "sub01_hi.txt")
    assert recording.signals[0].unit == ""
    assert "the numbers do not lie on the offset of an Emotiv headset (about 4200 uV)" in recording.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1, 2\n", "ratings.txt line 1: a person and two ratings are needed, such as '1, 2, 8' ('1, 2')"),
        (
            "1, 2, 8\n2, x, 8\n",
            "ratings.txt line 2: a person and two ratings are needed, such as '1, 2, 8' ('2, x, 8')",
        ),
        ("1, 0, 8\n", "ratings.txt line 1: ratings are from 1 to 9 ('1, 0, 8')"),
    ],
)
def test_stew_ratings_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ratings.txt").write_text(text)
    with pytest.raises(StudyError) as fault:
        stew.read_ratings(tmp_path / "ratings.txt")
    assert str(fault.value) == message


def test_a_stew_file_with_a_damaged_line_is_refused_with_its_number(tmp_path: Path) -> None:
    write_stew(tmp_path, 1)
    file = tmp_path / "sub01_lo.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:9], lines[9][:100], *lines[10:]]) + "\n")
    with pytest.raises(RecordingError, match=r"^sub01_lo\.txt line 10: 14 numbers are needed \('4\.1"):
        load_recording(file)


def test_deap_trials_keep_their_samples_and_what_was_said_of_them(tmp_path: Path) -> None:
    (tmp_path / "data_preprocessed_python").mkdir()
    write_deap(tmp_path / "data_preprocessed_python", 1)
    summary = deap.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (1, 1, ())
    study = load_study(tmp_path / "study")
    (entry,) = study.entries
    assert [(i.onset_seconds, i.duration_seconds) for i in entry.intervals[:2]] == [(3.0, 60.0), (76.0, 60.0)]
    assert [i.label for i in entry.intervals[:4]] == [
        "low arousal, low valence",
        "high arousal, high valence",
        "low arousal, middle valence",
        "high arousal, low valence",
    ]
    cells = list(entry.interval_columns.values())
    given = [[float(cell[name]) for name in ("valence", "arousal", "dominance", "liking")] for cell in cells]
    assert np.array_equal(given, deap_ratings())
    assert study.tasks["valence"].ignore == tuple(f"{a} arousal, middle valence" for a in ("low", "middle", "high"))
    recording = load_entry(study, entry)
    assert {s.name: (s.modality, s.unit) for s in recording.signals} == {
        "EEG": ("eeg", "uV"),
        "hEOG": ("eog", "uV"),
        "vEOG": ("eog", "uV"),
        "zEMG": ("emg", "mV"),
        "tEMG": ("emg", "mV"),
        "GSR": ("eda", ""),
        "respiration": ("resp", "a.u."),
        "plethysmograph": ("bvp", "a.u."),
        "temperature": ("temp", ""),
    }
    eeg = recording.signal("EEG")
    assert (eeg.sampling_rate, eeg.n_channels, eeg.channel_names[3], eeg.channel_names[-1]) == (128.0, 32, "F7", "O2")
    for trial in (0, 7, 39):
        inside = eeg.read(128 * 73 * trial, 128 * (73 * trial + 63))
        assert np.allclose(inside.max(axis=1), 2 * (trial + 1), rtol=0.02)
    assert np.isnan(eeg.read(128 * 63, 128 * 73)).all()


def test_deap_numbers_that_no_scalp_gives_have_no_unit(tmp_path: Path) -> None:
    recording = load_recording(write_deap(tmp_path, 1, scale=100))
    assert recording.signal("EEG").unit == ""
    assert any("which no scalp gives in uV; its unit is not known" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((40, 3)), "s01.dat: not as DEAP's files are: 'labels' has the shape (40, 3), not (40, 4)"),
        ([1, 2], "s01.dat: not as DEAP's files are: 'labels' has no array, not (40, 4)"),
        (np.zeros((40, 4)), "s01.dat: 'labels' holds values that are no ratings (1 to 9)"),
    ],
)
def test_a_deap_file_in_another_layout_is_refused(tmp_path: Path, labels: object, message: str) -> None:
    write_deap(tmp_path, 1, labels=labels)
    with pytest.raises(StudyError) as fault:
        deap.write_study(tmp_path, tmp_path / "study")
    assert str(fault.value).endswith(f"so no study was written in {tmp_path / 'study'}: s01: {message}.")


STARTS = [70 * n + 5 for n in range(40)]
SEEN = [40, *range(1, 40)]


@pytest.mark.parametrize(("status", "high"), [("Status", 0), ("", 0x18FF00)])
def test_deap_recordings_are_labelled_in_the_order_in_which_videos_were_seen(
    tmp_path: Path, status: str, high: int
) -> None:
    write_deap_bdf(tmp_path, 24, STARTS, status, high)
    write_deap_table(tmp_path / "participant_ratings.csv", 24, SEEN)
    assert deap.write_study(tmp_path, tmp_path / "study").left_out == ()
    study = load_study(tmp_path / "study")
    (entry,) = study.entries
    assert [i.onset_seconds for i in entry.intervals] == STARTS
    given = [[float(cell[name]) for name in ("valence", "arousal")] for cell in entry.interval_columns.values()]
    assert np.array_equal(given, deap_ratings()[np.array(SEEN) - 1, :2])
    assert entry.intervals[0].label == "high arousal, low valence"
    assert load_entry(study, entry).signal("EEG").unit == "uV"


def test_triggers_are_those_that_mne_finds(tmp_path: Path) -> None:
    import mne

    write_deap_bdf(tmp_path, 1, STARTS[:5])
    raw = mne.io.read_raw_bdf(tmp_path / "s01.bdf", verbose="error")
    theirs = mne.find_events(raw, "Status", shortest_event=1, verbose="error")
    ours = read_triggers(tmp_path / "s01.bdf")
    assert [(round(64 * seconds), code) for seconds, code in ours] == [(row[0], row[2]) for row in theirs.tolist()]


def test_deap_recordings_without_40_videos_or_without_ratings_are_left_out(tmp_path: Path) -> None:
    write_deap_bdf(tmp_path, 1, STARTS[:39])
    write_deap_bdf(tmp_path, 2, STARTS)
    write_deap_bdf(tmp_path, 3, STARTS)
    table = tmp_path / "participant_ratings.csv"
    write_deap_table(table, 3, SEEN)
    assert deap.write_study(tmp_path, tmp_path / "study").left_out == (
        "s01: s01.bdf: 39 starts of a video in its trigger channel, not 40.",
        "s02: s02.bdf: participant_ratings.csv has no ratings of trial 1.",
    )
    lines = table.read_text().splitlines()
    for change, message in (
        ([*lines, lines[1]], "participant_ratings.csv line 42: trial 1 of participant 3 is there twice"),
        ([lines[0], lines[1].replace("8.0", "11")], "participant_ratings.csv line 2: ratings are from 1 to 9"),
        ([lines[0].replace("Liking", "Loving"), lines[1]], r"participant_ratings.csv line 2: numbers are needed in .*"),
    ):
        table.write_text("\n".join(change) + "\n")
        with pytest.raises(StudyError, match=f"^{message}"):
            deap.write_study(tmp_path, tmp_path / "other")
    table.unlink()
    with pytest.raises(StudyError, match=r"cannot be read \(No such file or directory\); it says how each video was"):
        deap.write_study(tmp_path, tmp_path / "other")


def test_deap_in_both_forms_at_once_is_refused(tmp_path: Path) -> None:
    for name in ("s01.dat", "s01.bdf"):
        (tmp_path / name).touch()
    with pytest.raises(StudyError, match=r"holds both sNN\.dat and sNN\.bdf, the same people twice"):
        deap.write_study(tmp_path, tmp_path / "study")


@pytest.mark.parametrize("packed", [True, False])
def test_dreamer_becomes_a_file_for_each_person_with_its_clips_and_ratings(tmp_path: Path, packed: bool) -> None:
    write_dreamer(tmp_path, [dreamer_person(1), dreamer_person(2)], packed=packed)
    summary = dreamer.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (2, 2, ())
    study = load_study(tmp_path / "study")
    assert [p.columns for p in study.participants] == [
        {"age": "21", "gender": "female"},
        {"age": "22", "gender": "female"},
    ]
    entry = study.entries[1]
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in entry.intervals] == [
        (0.0, 6.0, "neutral"),
        (16.0, 20.0, "low arousal, high valence"),
        (46.0, 7.0, "neutral"),
        (63.0, 21.0, "low arousal, high valence"),
        (94.0, 8.0, "neutral"),
        (112.0, 22.0, "middle arousal, middle valence"),
    ]
    rated = [cells for i, cells in entry.interval_columns.items() if i.label != "neutral"]
    assert [[float(cell[name]) for name in ("arousal", "valence", "dominance")] for cell in rated] == [
        [1, 5, 4],
        [2, 4, 4],
        [3, 3, 4],
    ]
    recording = load_entry(study, entry)
    assert {s.name: (s.modality, s.unit, s.sampling_rate) for s in recording.signals} == {
        "EEG": ("eeg", "uV", 128.0),
        "ECG 1": ("ecg", "", 256.0),
        "ECG 2": ("ecg", "", 256.0),
    }
    eeg, ecg = recording.signal("EEG"), recording.signal("ECG 2")
    assert eeg.channel_names == ELECTRODES
    for onset, seconds, size in ((16, 20, 1.0), (112, 22, 3.0)):
        inside = eeg.read(128 * onset, 128 * (onset + seconds))
        assert np.allclose(inside.mean(axis=1), 4202, atol=0.01)
        assert np.allclose(inside.max(axis=1) - 4202, size, rtol=0.01)
        assert np.allclose(ecg.read(256 * onset, 256 * (onset + seconds)).max() - 2002, size, rtol=0.01)
        assert np.isnan(eeg.read(128 * (onset + seconds), 128 * (onset + seconds + 10))).all()


def test_dreamer_people_that_are_not_as_documented_are_left_out(tmp_path: Path) -> None:
    others = [dreamer_person(n) for n in (1, 2, 3)]
    others[0]["ScoreArousal"] = np.array([[1], [9], [2]])
    others[1]["EEG"]["stimuli"][1, 0] = np.zeros((9, 13))  # type: ignore[index]
    write_dreamer(tmp_path, [*others, dreamer_person(4, level=8190.0)])
    summary = dreamer.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "P01: ScoreArousal is no list of ratings from 1 to 5.",
        "P02: EEG.stimuli{2} has the shape (9, 13), not (samples, 14).",
    )
    assert "P04: its EEG does not lie on the headset's offset (about 4200 uV) and has no unit." in summary.notes
    study = load_study(tmp_path / "study")
    assert [load_entry(study, entry).signal("EEG").unit for entry in study.entries] == ["uV", ""]


def test_a_dreamer_file_of_another_rate_or_version_or_cut_is_refused(tmp_path: Path) -> None:
    file = write_dreamer(tmp_path, [dreamer_person(1)], rate=256)
    with pytest.raises(StudyError, match=r"^DREAMER\.mat: DREAMER\.EEG_SamplingRate is not 128, as in the published f"):
        dreamer.write_study(tmp_path, tmp_path / "study")
    write_dreamer(tmp_path, [dreamer_person(1)])
    whole = file.read_bytes()
    for content, reason in (
        (whole[: len(whole) // 2], "it ends before its last variable does"),
        (b"MATLAB 7.3 MAT-file" + whole[19:], r"it is not a MATLAB file of version 5 \(7\.3 and 4 are others\)"),
        (whole[:400] + bytes(200) + whole[600:], ".*"),
    ):
        file.write_bytes(content)
        with pytest.raises(StudyError, match=rf"^DREAMER\.mat: cannot be read \({reason}\); copy it again$"):
            dreamer.write_study(tmp_path, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_pieces_of_a_matlab_file_are_those_that_scipy_reads(tmp_path: Path) -> None:
    import scipy.io

    content = {
        "a": np.arange(6, dtype=np.int16).reshape(2, 3),
        "s": {"x": np.array([[1.5]]), "deep": {"t": "word", "one": np.uint8(7)}},
        "many": np.array([[(1.0, "p")], [(2.0, "q")]], dtype=[("n", object), ("w", object)]),
    }
    scipy.io.savemat(tmp_path / "x.mat", content, do_compression=True)
    read = dict(pieces(tmp_path / "x.mat", lambda place: place != "s/x"))
    plain = {place: part if isinstance(part, str) else part.tolist() for place, part in read.items()}
    assert plain == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "s/deep/t": "word",
        "s/deep/one": [[7]],
        "many/0/n": [[1.0]],
        "many/0/w": "p",
        "many/1/n": [[2.0]],
        "many/1/w": "q",
    }
