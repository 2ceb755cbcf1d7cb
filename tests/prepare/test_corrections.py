"""Corrections are written as they will be read: checked against the recording, appended, taken back, nothing lost."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import edfio
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import biopercept as bp
from biopercept.cli.main import build_app
from biopercept.errors import BioperceptError, SettingsError
from biopercept.prepare.corrections import corrections_in, undo_corrections, write_corrections
from biopercept.prepare.sources import Source, sources_of
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.recording import BAD, BEAT_ADDED, BEAT_REMOVED, CHANNEL_BAD, POLARITY, Correction

HEAD = "onset\tduration\tkind\tchannel\twho\twhen\n"
BEATS = 0.7 + np.cumsum(0.8 + 0.04 * np.sin(np.arange(70) / 3))
MISSED, FALSE = 30, 50


def ecg_of(beats: np.ndarray, seconds: float = 60.0, rate: int = 250) -> np.ndarray:
    at = np.arange(int(seconds * rate)) / rate
    waves = [
        np.exp(-0.5 * ((at - beat) / 0.012) ** 2) - 0.2 * np.exp(-0.5 * ((at - beat - 0.03) / 0.01) ** 2)
        for beat in beats
    ]
    return np.asarray(np.sum(waves, axis=0) + np.random.default_rng(2).normal(0, 0.01, len(at)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A minute of ECG, in which one beat is missing and one is false, and of EDA."""
    beats = np.sort([*np.delete(BEATS[BEATS < 59], MISSED), BEATS[FALSE] + 0.4])
    signals = [
        edfio.EdfSignal(ecg_of(beats), 250, label="ECG", physical_dimension="mV"),
        edfio.EdfSignal(2 + 0.3 * np.sin(np.arange(240) / 15), 4, label="EDA", physical_dimension="uS"),
    ]
    edfio.Edf(signals).write(tmp_path / "one.edf")
    return tmp_path / "one.edf"


def source(path: Path) -> Source:
    return sources_of([path])[0]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build_app(), ["correct", *map(str, arguments)])


def test_what_is_written_is_what_cleaning_then_applies(path: Path) -> None:
    wanted = [
        Correction(BEAT_ADDED, float(BEATS[MISSED]), 0.0),
        Correction(BEAT_REMOVED, float(BEATS[FALSE]) + 0.5, 0.0),
        Correction(BAD, 2.0, 3.5, ("eda",)),
    ]
    written = write_corrections(source(path), wanted, who="Anna\tB.")
    # The false beat is 0.1 s before what was given: the row has its time.
    assert written.notes == (f"the beat that is removed is at {BEATS[FALSE] + 0.4:.3f} s, 0.100 s from what was given",)
    table = path.with_name("one_corrections.tsv")
    assert written.changed == (table,)
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert [row[2:5] for row in rows[1:]] == [
        ["bad", "EDA", "Anna B."],
        ["beat-removed", "ECG", "Anna B."],
        ["beat-added", "ECG", "Anna B."],
    ]
    clean = clean_recording(bp.load_recording(path))
    planted = BEATS[BEATS < 59]
    np.testing.assert_allclose(clean.beats.times, planted, atol=0.004)
    np.testing.assert_allclose(clean.beats.intervals[1:], np.diff(planted), atol=0.008)
    assert clean.notes[0] == "corrected by hand: 1 beat removed, 1 added, 3.5 s marked bad in EDA."
    assert list(written.to_frame()["kind"]) == ["bad", "beat-removed", "beat-added"]


def test_beats_are_those_of_the_wave_as_the_same_call_leaves_it(path: Path, tmp_path: Path) -> None:
    at = float(BEATS[5])
    turned, removed = Correction(POLARITY, channels=("ECG",)), Correction(BEAT_REMOVED, at, 0.0, ("ECG",))
    (tmp_path / "twice").mkdir()
    twice = Path(shutil.copy(path, tmp_path / "twice" / "one.edf"))
    write_corrections(source(twice), [turned])
    [after] = write_corrections(source(twice), [removed]).notes
    [in_one] = write_corrections(source(path), [turned, removed]).notes
    assert in_one == after
    assert in_one.endswith(" 0.033 s from what was given")  # the wave that pointed down follows the R-peak
    assert not any(note.startswith("not corrected") for note in clean_recording(bp.load_recording(path)).notes)


def test_a_beat_within_what_the_same_call_marks_bad_is_refused(path: Path) -> None:
    at = float(BEATS[5])
    with pytest.raises(SettingsError, match="no beat of ECG within"):
        write_corrections(source(path), [Correction(BAD, at - 1, 2.0), Correction(BEAT_REMOVED, at, 0.0, ("ECG",))])
    assert not path.with_name("one_corrections.tsv").exists()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Correction(BEAT_REMOVED, 59.8, 0.0), "no beat of ECG within 0.15 s of 59.8 s; the nearest are at "),
        (Correction(BEAT_ADDED, float(BEATS[10]) + 0.1, 0.0), "there is a beat 0.100 s from it, nearer than any heart"),
        (Correction(BEAT_ADDED, 97.3, 0.0), "beat-added: 97.3 s lies outside the recording, which spans 0 to 60.000 s"),
        (Correction(BEAT_ADDED, float("nan"), 0.0), "beat-added: the time is nan; a number of seconds is needed"),
        (Correction(BEAT_ADDED, 5.0, 0.0, ("EDA",)), "beat-added: beats are those of ECG, a pulse wave or inter-beat"),
        (
            Correction(BAD, 1.0, 1.0, ("EGC",)),
            "there is no signal or channel 'EGC' (there are: ECG, EDA)",
        ),
        (Correction(BAD, 61.0, 1.0), "bad: 61 s lies outside the recording, which spans 0 to 60.000 s"),
        (Correction(POLARITY), "polarity: the channel must be named"),
        (Correction(CHANNEL_BAD, 1.0, 2.0, ("EDA",)), "channel-bad: it is about the full recording"),
        (Correction(POLARITY, channels=("EDA",)), "polarity: only ECG and pulse waves can be turned, and EDA is"),
    ],
)
def test_what_would_have_no_effect_is_refused_and_nothing_is_written(
    path: Path, wanted: Correction, words: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        write_corrections(source(path), [Correction(BAD, 1.0, 1.0), wanted])
    assert words in str(raised.value)
    assert corrections_in(source(path)).rows == {}


def test_what_the_table_says_already_is_refused_and_what_reaches_beyond_the_recording_is_said(path: Path) -> None:
    wanted = [
        Correction(BAD, -5.0, 10.0),
        Correction(POLARITY, channels=("ECG",)),
        Correction(BAD, 55.0, 20.0, ("EDA",)),
    ]
    written = write_corrections(source(path), wanted)
    assert written.notes == (
        "bad from -5 to 5 s reaches beyond the recording, which spans 0 to 60.000 s",
        "bad of EDA from 55 to 75 s reaches beyond the recording, which spans 0 to 60.000 s",
    )
    before = path.with_name("one_corrections.tsv").read_text()
    for again in wanted:
        with pytest.raises(SettingsError, match="it is in the table already; nothing was changed"):
            write_corrections(source(path), [again])
    with pytest.raises(SettingsError, match="it is in the table already"):
        write_corrections(source(path), [Correction(BAD, 20.0, 1.0), Correction(BAD, 20.0, 1.0)])
    assert path.with_name("one_corrections.tsv").read_text() == before


def test_rows_columns_and_words_that_are_not_ours_stay(path: Path) -> None:
    table = path.with_name("one_corrections.tsv")
    table.write_text("why\tkind\tonset\tduration\nblink & cough\tbad\t1\t2\n")
    write_corrections(source(path), [Correction(BAD, 10.0, 2.0)])
    lines = table.read_text().splitlines()
    assert lines[0] == "why\tkind\tonset\tduration\tchannel\twho\twhen"
    assert lines[1] == "blink & cough\tbad\t1\t2\tn/a\tn/a\tn/a"
    assert lines[2].startswith("n/a\tbad\t10\t2\tn/a\tn/a\t20")
    undo_corrections(source(path))
    assert table.read_text().splitlines() == lines[:2]
    undo_corrections(source(path))
    assert table.read_text().splitlines() == lines[:1]  # another's column: the table stays


def test_a_malformed_table_is_never_written_to(path: Path) -> None:
    table = path.with_name("one_corrections.tsv")
    table.write_text(HEAD + "1\t2\tworse\tn/a\t\t\n")
    before = table.read_bytes()
    with pytest.raises(BioperceptError, match=r"one_corrections\.tsv line 2: kind is 'worse'"):
        write_corrections(source(path), [Correction(BAD, 10.0, 2.0)])
    assert table.read_bytes() == before
    listed = run(path, "--list")
    assert listed.exit_code == 2
    assert "worse" in listed.stdout and "fault: one_corrections.tsv line 2: kind is 'worse'" in listed.stdout


def test_what_one_call_wrote_is_taken_back_together(path: Path) -> None:
    write_corrections(source(path), [Correction(BAD, 1.0, 1.0)])
    write_corrections(source(path), [Correction(BAD, 5.0, 1.0), Correction(BAD, 8.0, 1.0)])
    table = path.with_name("one_corrections.tsv")
    undo_corrections(source(path))
    assert [row["onset"] for row in corrections_in(source(path)).rows[table]] == ["1"]
    undo_corrections(source(path))
    assert not table.exists()
    with pytest.raises(SettingsError, match="no corrections by hand to take back"):
        undo_corrections(source(path))


def test_two_who_write_at_once_lose_nothing(path: Path) -> None:
    def write(first: int) -> None:
        for number in range(5):
            for _ in range(200):
                try:
                    write_corrections(source(path), [Correction(BAD, float(first + number), 0.5)])
                    break
                except BioperceptError as fault:
                    assert "another process is writing" in str(fault)

    both = [threading.Thread(target=write, args=(first,)) for first in (0, 20)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    rows = corrections_in(source(path)).rows[path.with_name("one_corrections.tsv")]
    assert {float(row["onset"]) for row in rows} == {*range(5), *range(20, 25)}


def test_a_beat_added_by_hand_is_removed_by_hand(path: Path) -> None:
    plain = clean_recording(bp.load_recording(path)).beats.times
    added = float(BEATS[MISSED])
    write_corrections(source(path), [Correction(BEAT_ADDED, added, 0.0)])
    write_corrections(source(path), [Correction(BEAT_REMOVED, added + 0.02, 0.0)])
    np.testing.assert_array_equal(clean_recording(bp.load_recording(path)).beats.times, plain)


def test_where_another_file_has_the_name_the_table_is_called_after_the_whole_file(path: Path) -> None:
    path.with_name("one.csv").write_text("time,EDA (uS)\n")
    written = write_corrections(source(path), [Correction(CHANNEL_BAD, channels=("EDA",))])
    assert [table.name for table in written.changed] == ["one.edf_corrections.tsv"]
    assert bp.load_recording(path).corrections[0].channels == ("EDA",)


@pytest.mark.parametrize(
    ("beside", "shares"),
    [
        ("one.acq", True),
        ("one.snirf", True),
        ("one.xdf", True),
        ("one.json", False),
        ("one.notes.docx", False),
        ("one.jpg", False),
    ],
)
def test_every_format_that_is_known_shares_the_name_and_other_files_do_not(
    path: Path, beside: str, shares: bool
) -> None:
    path.with_name(beside).write_bytes((b"XDF:" if shares else b"{}") + bytes(200))
    written = write_corrections(source(path), [Correction(CHANNEL_BAD, channels=("EDA",))])
    wanted = "one.edf_corrections.tsv" if shares else "one_corrections.tsv"
    assert [table.name for table in written.changed] == [wanted]


def test_parts_of_a_recording_do_not_share_its_name(tmp_path: Path) -> None:
    from biopercept.loaders.folders import recordings_beside

    header = tmp_path / "rest.vhdr"
    header.write_text("Brain Vision Data Exchange Header File Version 1.0\nDataFile=rest.eeg\nMarkerFile=rest.vmrk\n")
    header.with_suffix(".eeg").write_bytes(bytes(400))
    header.with_suffix(".vmrk").write_text("Brain Vision Data Exchange Marker File, Version 1.0\n")
    assert recordings_beside(header) == recordings_beside(header.with_suffix(".eeg")) == ()
    header.with_suffix(".edf").write_bytes(b"0       " + bytes(400))
    assert recordings_beside(header) == (header.with_suffix(".edf"),)


@pytest.fixture
def study(path: Path) -> Path:
    """Two devices of one recording, the second 12.5 s late, and a recording of one."""
    folder = path.parent
    at = np.arange(160) / 4
    for name, level in (("late", 2), ("other", 3)):
        rows = "".join(f"{t},{level + 0.3 * np.sin(t)}\n" for t in at)
        (folder / f"{name}.csv").write_text("time,EDA (uS)\n" + rows)
    (folder / "study.yaml").write_text("name: s\ndescription: d\nlicence: CC0\n")
    (folder / "participants.tsv").write_text("participant_id\nS01\nS02\n")
    (folder / "recordings.tsv").write_text(
        "participant_id\trecording\tpath\toffset_seconds\n"
        "S01\tlab\tone.edf\t0\nS01\tlab\tlate.csv\t12.5\nS02\tlab\tother.csv\t0\n"
    )
    return folder


def test_in_a_study_rows_go_beside_the_file_that_they_are_of_on_its_own_clock(study: Path) -> None:
    late, one = study / "late_corrections.tsv", study / "one_corrections.tsv"
    result = run(study, "--subject", "S01", "--bad", "20:25", "--json")
    assert result.exit_code == 0, result.output
    tables = {table["path"]: table["corrections"] for table in json.loads(result.stdout)["tables"]}
    assert [tables[str(path)][0]["onset"] for path in (one, late)] == ["20", "7.5"]
    run(study, "--subject", "S01", "--bad", "30:31", "--channel", "EDA_2")
    assert late.read_text().splitlines()[2].startswith("17.5\t1\tbad\tEDA\t")
    assert run(study, "--subject", "S01", "--bad", "3:4").exit_code == 0  # the second device was not running
    assert len(one.read_text().splitlines()) == 3 and len(late.read_text().splitlines()) == 3
    source = next(one for one in sources_of([study]) if one.subject == "S01")
    loaded = source.load()
    assert sorted(one.span for one in loaded.corrections) == [(3, 4), (20, 25), (20, 25), (30, 31)]


def test_undo_in_a_study_takes_back_the_last_call_from_every_file(study: Path) -> None:
    run(study, "--subject", "S01", "--bad", "20:25")
    run(study, "--subject", "S01", "--bad", "3:4")
    run(study, "--subject", "S01", "--undo")
    assert [len((study / f"{name}_corrections.tsv").read_text().splitlines()) for name in ("one", "late")] == [2, 2]
    run(study, "--subject", "S01", "--undo")
    assert not list(study.glob("*_corrections.tsv"))


def test_which_recording_of_a_study_must_be_one(study: Path) -> None:
    result = run(study, "--bad", "1:2")
    assert isinstance(result.exception, SettingsError)
    assert str(result.exception) == (
        "2 recordings are meant, and one is corrected at a time; choose it with --subject, --session and --recording; "
        "there are: S01 lab; S02 lab"
    )
    of_a_file = run(study / "one.edf", "--subject", "S01", "--list").exception
    assert "choose one of a study; the path is a recording" in str(of_a_file)


def test_the_command_takes_all_kinds_at_once_and_prints_the_table(path: Path) -> None:
    words = ["--bad", "1:2", "--bad", "3:4.5", "--bad-channel", "eda", "--polarity", "ecg", "--who", "Anna"]
    result = run(path, *words, "--remove-beat", str(BEATS[FALSE] + 0.45), "--add-beat", str(BEATS[MISSED]))
    assert result.exit_code == 0, result.output
    kinds = [line.split()[2] for line in result.stdout.splitlines()[1:]]
    assert kinds == ["kind", "bad", "bad", "channel-bad", "polarity", "beat-removed", "beat-added"]
    assert f"written: {path.with_name('one_corrections.tsv')}" in result.stderr
    assert run(path, "--list").stdout == result.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give something to correct, such as --bad 120:135, or one of --list and --undo"),
        (("--list", "--undo"), "--list and --undo cannot be done in one go; give one of them"),
        (("--bad", "135:120"), "--bad is '135:120'; A:B is needed, seconds from the recording's start, B after A"),
        (("--bad", "120"), "--bad is '120'; A:B is needed, seconds from the recording's start, B after A"),
        (("--list", "--who", "AB"), "--who is written beside corrections; --list and --undo write none"),
        (
            ("--polarity", "ECG", "--channel", "ECG"),
            "--channel says what --bad, --add-beat and --remove-beat are of; give one of them",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(path: Path, words: tuple[str, ...], sentence: str) -> None:
    assert str(run(path, *words).exception) == sentence


@pytest.mark.parametrize("words", [("--list",), ("--undo",), ("--bad", "1:2")])
def test_a_path_that_leads_nowhere_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    fault = run(tmp_path / "none.edf", *words).exception
    assert isinstance(fault, BioperceptError) and "no such file or folder" in str(fault)


def test_from_python_the_same_is_written(path: Path) -> None:
    missed = float(BEATS[MISSED])
    wanted = [bp.Correction("bad", 20, 5), bp.Correction("bad", 3, 1, ("ECG",)), bp.Correction("beat-added", missed)]
    written = bp.correct(path, wanted, who="Anna")
    assert list(written.to_frame()["channel"]) == ["n/a", "ECG", "ECG"]
    spans = [one.span for one in bp.load_recording(path).corrections]
    np.testing.assert_allclose(spans, [(20, 25), (3, 4), (missed, missed)], atol=1e-6)
    with pytest.raises(SettingsError, match=r"a correction is of kind bad, .*, and not 'beat'"):
        bp.Correction("beat", 20)
    with pytest.raises(SettingsError, match="a bad stretch lasts inf s; a duration above 0 is needed"):
        bp.Correction("bad", 20)


def test_inspect_and_check_say_what_was_corrected_and_what_is_wrong_with_it(study: Path) -> None:
    runner, app = CliRunner(), build_app()
    run(study / "one.edf", "--bad-channel", "EDA", "--bad", "1:2")
    shown = runner.invoke(app, ["inspect", str(study / "one.edf"), "--json"])
    report = json.loads(shown.stdout)["recordings"][0]
    assert report["corrected"] == "1 s marked bad, EDA marked bad throughout"
    assert [one["kind"] for one in report["corrections"]] == ["bad", "channel-bad"]
    assert [signal["reason"] for signal in report["signals"]] == ["", "it is marked bad by hand"]
    assert "corrected by hand: 1 s marked" in runner.invoke(app, ["inspect", str(study / "one.edf")]).stdout
    assert "corrected by hand: 1 recording\n" in runner.invoke(app, ["check", str(study)]).stdout
    (study / "lates_corrections.tsv").write_text(HEAD)
    notes = json.loads(runner.invoke(app, ["check", str(study), "--json"]).stdout)["notes"]
    assert "lates_corrections.tsv is read with no recording of the study; its name is that of none" in notes
    (study / "late_corrections.tsv").write_text(HEAD + "1\t2\tworse\tn/a\t\t\n1\t2\tbad\tECG\t\t\n")
    checked = json.loads(runner.invoke(app, ["check", str(study), "--json"]).stdout)["faults"]
    assert [one for one in checked if "corrections" in one] == [
        "late_corrections.tsv line 2: kind is 'worse'; allowed are bad, channel-bad, polarity, beat-added, "
        "beat-removed, label"
    ]
    (study / "late_corrections.tsv").write_text(HEAD + "1\t2\tbad\tECG\t\t\n")
    checked = json.loads(runner.invoke(app, ["check", str(study), "--json", "--recordings"]).stdout)["faults"]
    assert any("late_corrections.tsv line 2: there is no signal or channel 'ECG'" in one for one in checked)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A study of one recording: a minute of rest, then one of task, on a clock 5 s after the file's."""
    edfio.Edf([edfio.EdfSignal(2 + 0.3 * np.sin(np.arange(500) / 15), 4, label="EDA", physical_dimension="uS")]).write(
        tmp_path / "one.edf"
    )
    tables = {
        "study.yaml": "name: made\ntasks: {load: {classes: {low: [rest], high: [task]}, ignore: [break]}}\n",
        "participants.tsv": "participant_id\nP1\n",
        "recordings.tsv": "participant_id\trecording\tpath\toffset_seconds\nP1\tlab\tone.edf\t5\n",
        "events.tsv": "participant_id\trecording\tonset\tduration\ttrial_type\n"
        "P1\tlab\t5\t60\trest\nP1\tlab\t65\t60\ttask\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def labels_in(study: Path) -> list[tuple[float, float, str]]:
    intervals = sources_of([study])[0].load().intervals
    return [(one.onset_seconds, one.duration_seconds, one.label) for one in intervals]


def test_a_label_set_by_hand_is_what_a_study_says_and_prepare_cuts_windows_by(labelled: Path, tmp_path: Path) -> None:
    outcome = run(labelled, "--label", "25:45=task", "--label", "95:125=", "--bad", "6:7", "--who", "Anna")
    assert outcome.exit_code == 0, outcome.output
    table = labelled / "one_corrections.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert rows[0][-1] == "label"
    # On the clock of the file, which begins 5 s later than the recording's.
    assert [(row[0], row[1], row[2], row[-1]) for row in rows[1:]] == [
        ("1", "1", "bad", "n/a"),
        ("20", "20", "label", "task"),
        ("90", "30", "label", "n/a"),
    ]
    assert labels_in(labelled) == [(5, 20, "rest"), (25, 20, "task"), (45, 20, "rest"), (65, 30, "task")]
    assert "3 labels" not in outcome.output
    assert "2 labels set" in clean_recording(sources_of([labelled])[0].load()).notes[0]
    store = tmp_path / "made.h5"
    prepared = CliRunner().invoke(
        build_app(),
        [
            "prepare",
            str(labelled),
            "-o",
            str(store),
            "--set",
            "windows.length_seconds=10",
            "--set",
            "windows.step_seconds=10",
        ],
    )
    assert prepared.exit_code == 0, prepared.output
    with bp.open_store(store) as opened:
        recording = opened.recordings[0]
        windows = recording.windows
        rows = zip(windows.onset.tolist(), map(str, windows.label), windows.is_labelled.tolist(), strict=True)
        assert sorted((onset, label) for onset, label, is_labelled in rows if is_labelled) == [
            (5.0, "rest"), (15.0, "rest"), (25.0, "task"), (35.0, "task"), (45.0, "rest"), (55.0, "rest"),
            (65.0, "task"), (75.0, "task"), (85.0, "task"),
        ]  # fmt: skip
        assert [one.label for one in recording.labels.intervals] == ["rest", "task", "rest", "task"]
    assert run(labelled, "--undo").exit_code == 0
    assert not table.exists()
    assert labels_in(labelled) == [(5, 60, "rest"), (65, 60, "task")]


def test_of_several_files_a_label_stands_once_and_on_the_clock_of_the_first(labelled: Path) -> None:
    (labelled / "two.edf").write_bytes((labelled / "one.edf").read_bytes())
    other = edfio.read_edf(labelled / "two.edf")
    other.signals[0].update_data(other.signals[0].data + 0.5)
    other.write(labelled / "two.edf")
    with (labelled / "recordings.tsv").open("a") as table:
        table.write("P1\tlab\ttwo.edf\t-3\n")
    assert run(labelled, "--label", "25:45=task").exit_code == 0
    assert (labelled / "one_corrections.tsv").read_text().splitlines()[1].startswith("20\t20\tlabel")
    assert not (labelled / "two_corrections.tsv").exists()
    assert labels_in(labelled)[:3] == [(5, 20, "rest"), (25, 20, "task"), (45, 20, "rest")]


def test_a_label_of_a_file_alone_is_among_its_intervals(path: Path) -> None:
    assert run(path, "--label", "10:20=calm").exit_code == 0
    for recording in (bp.load_recording(path), source(path).load()):
        assert [(one.onset_seconds, one.duration_seconds, one.label) for one in recording.intervals] == [
            (10, 10, "calm")
        ]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("10:20", "--label is '10:20'; A:B=NAME is needed, and A:B= where there is no label"),
        ("20:10=rest", "--label is '20:10'; A:B is needed, seconds from the recording's start, B after A"),
        (
            "10:20=rset",
            "label: the label 'rset' is under no class of task 'load' (known are rest, task, break): add it to a class "
            "or to ignore in study.yaml; did you mean rest?",
        ),
    ],
)
def test_a_label_that_the_study_does_not_take_is_refused(labelled: Path, option: str, sentence: str) -> None:
    outcome = run(labelled, "--label", option)
    assert str(outcome.exception) == sentence
    assert not (labelled / "one_corrections.tsv").exists()


@pytest.mark.parametrize(
    ("first", "second"), [("10:20=rest", "10:20=task"), ("10:40=rest", "20:30="), ("20.5:30=break", "10:21=rest")]
)
def test_labels_of_one_command_that_contradict_each_other_are_refused(first: str, second: str, labelled: Path) -> None:
    outcome = run(labelled, "--label", "50:60=task", "--label", first, "--label", second)
    assert str(outcome.exception) == (
        f"--label {first} and --label {second} say two things of one stretch; give the one that holds, or one command "
        "after the other: the later goes before the earlier"
    )
    assert not (labelled / "one_corrections.tsv").exists()
    assert run(labelled, "--label", "10:20=task", "--label", "20:30=break", "--label", "8:12=task").exit_code == 0
    assert labels_in(labelled)[1:4] == [(8, 4, "task"), (12, 8, "task"), (20, 10, "break")]


def test_a_label_beside_a_condition_is_refused_where_it_is_written_and_where_it_is_read(labelled: Path) -> None:
    (labelled / "events.tsv").unlink()
    (labelled / "recordings.tsv").write_text("participant_id\trecording\tpath\tcondition\nP1\tlab\tone.edf\trest\n")
    why = "its label is the condition 'rest' of recordings.tsv, which holds throughout: no stretch of it is set by hand"
    assert str(run(labelled, "--label", "10:20=task").exception) == f"label: {why}"
    table = labelled / "one_corrections.tsv"
    table.write_text(HEAD.replace("when", "when\tlabel") + "10\t10\tlabel\tn/a\t\t\ttask\n")
    with pytest.raises(BioperceptError, match=r"one_corrections\.tsv, P1 lab: its label is the condition 'rest'"):
        sources_of([labelled])


def test_malformed_rows_of_labels_are_named(path: Path) -> None:
    table = path.with_name("one_corrections.tsv")
    table.write_text(HEAD + "10\t10\tlabel\tn/a\t\t\n")
    assert corrections_in(source(path)).faults == (
        "one_corrections.tsv line 2: a row of kind label needs a column label (n/a in it: no label)",
    )
    head = HEAD.replace("when", "when\tlabel")
    table.write_text(head + "10\t10\tlabel\tECG\t\t\tx\n10\tn/a\tlabel\tn/a\t\t\tx\n")
    assert corrections_in(source(path)).faults == (
        "one_corrections.tsv line 2: a row of kind label is about the recording; write n/a as its channel",
        "one_corrections.tsv line 3: a row of kind label needs an onset and a duration above 0",
    )
