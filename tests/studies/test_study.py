"""A study folder becomes what its tables say, or every fault in them is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biopercept.errors import StudyError
from biopercept.recording import Interval
from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults

from .conftest import EVENTS, PARTICIPANTS, RECORDINGS, STUDY, Writer


def faults_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(StudyFaults) as caught:
        load_study(folder)
    return caught.value.faults


def test_a_study_is_what_its_tables_say(write_study: Writer) -> None:
    study = load_study(write_study())
    assert (study.name, study.licence, study.subjects) == ("pilot", "CC0", ("S01", "S02"))
    assert study.participants[1].columns == {"age": "28"}
    entry = study.entries[1]
    assert (entry.subject, entry.session, entry.recording, entry.condition) == ("S02", "", "lab", None)
    assert entry.intervals == (Interval(0.0, 60.0, "relax"), Interval(60.5, 59.5, "stroop"))
    assert entry.files[0].path == (study.folder / "data" / "S02.csv")
    assert study.tasks["stress"].class_of("relax") == "rest"
    assert study.tasks["stress"].class_of("break") is None
    assert not study.tasks["stress"].label_is_file


def test_ids_and_labels_stay_the_text_that_was_written(write_study: Writer) -> None:
    folder = write_study(
        study="name: 2024-01-01\ntasks: {1e3: {classes: {no: [no, 007], yes: [on]}}}\n",
        participants="participant_id\n007\n7\n",
        recordings="participant_id\trecording\tpath\n007\t1e3\tdata/S01.csv\n7\tno\tdata/S02.csv\n",
        events="participant_id\trecording\tonset\tduration\ttrial_type\n007\t1e3\t0\t1\tno\n007\t1e3\t1\t1\ton\n7\tno\t0\t9\t007\n",
    )
    study = load_study(folder)
    assert study.name == "2024-01-01"
    assert study.subjects == ("007", "7")
    assert [entry.recording for entry in study.entries] == ["1e3", "no"]
    assert study.tasks["1e3"].classes == {"no": ("no", "007"), "yes": ("on",)}
    assert study.entries[1].labels == ("007",)


def test_all_faults_are_told_at_once_with_table_and_line(write_study: Writer) -> None:
    folder = write_study(
        study=STUDY + "license: x\n",
        participants=PARTICIPANTS + "S02\t3\n",
        recordings=RECORDINGS + "S03\tlab\tdata/none.csv\n",
        events=EVENTS + "S01\tlab\tx\t1\tstroop\nS01\tlab\t1\t-1\tstroop\nS01\tlab\t1\t1\tnan\nS01\tlab\t1\t1\tstrop\n",
    )
    assert faults_of(folder) == (
        "study.yaml line 8: unknown key 'license'; did you mean licence?",
        "participants.tsv line 4: the participant 'S02' is listed twice",
        "recordings.tsv line 4: the file 'data/none.csv' is not there",
        "events.tsv line 6: onset is 'x'; a number of seconds is needed",
        "events.tsv line 7: duration is '-1'; a finite number of at least 0 is needed",
        "events.tsv line 8: trial_type is 'nan'; a label is needed, or remove the row",
        "the label 'strop' (1 recording, first events.tsv line 9) is under no class of task 'stress' (known are "
        "baseline, relax, stroop, break): add it to a class or to ignore; did you mean stroop?",
    )


def test_the_message_of_many_faults_is_one_line_and_says_how_many(tmp_path: Path) -> None:
    message = str(StudyFaults(tmp_path / "pilot", tuple(f"the {'x' * n} is wrong" for n in range(1, 31))))
    assert message.startswith(f"the study {tmp_path / 'pilot'} has 30 faults: (1) the x is wrong. (2) the xx is wrong.")
    assert message.endswith("(12) the xxxxxxxxxxxx is wrong. And 18 more: biopercept check lists them all.")
    assert "\n" not in message


def test_many_labels_under_no_class_are_one_sentence_with_their_names(write_study: Writer) -> None:
    rows = "".join(f"S01\tlab\t{200 + i}\t1\tx{i}\n" for i in range(30))
    (found,) = faults_of(write_study(events=EVENTS + rows))
    assert found.startswith("the label 'x0' (1 recording, first events.tsv line 6) is under no class of task 'stress'")
    assert found.endswith("".join(f", 'x{i}'" for i in range(2, 30)) + ")")


def many_people(folder: Path, n: int = 594) -> tuple[str, str, str]:
    """Write a file for each of many people; return the three tables that name them."""
    names = [f"S{number:03d}" for number in range(n)]
    for name in names:
        (folder / "data" / f"{name}.csv").write_text(f"time,EDA (uS)\n0,1\n1,{name[1:]}\n")
    participants = "participant_id\tage\n" + "".join(f"{name}\t30\n" for name in names)
    recordings = "participant_id\trecording\tpath\n" + "".join(f"{name}\tlab\tdata/{name}.csv\n" for name in names)
    events = "participant_id\trecording\tonset\tduration\ttrial_type\n" + "".join(
        f"{name}\tlab\t{onset}\t60\t{label}\n" for name in names for onset, label in ((0, "baseline"), (60, "stroop"))
    )
    return participants, recordings, events


@pytest.mark.parametrize(
    ("table", "column", "sentence"),
    [
        ("participants", "participant_id", "participants.tsv line 1: the column 'participant_id' is missing"),
        ("recordings", "participant_id", "recordings.tsv line 1: the column 'participant_id' is missing"),
        ("recordings", "recording", "recordings.tsv line 1: the column 'recording' is missing"),
        ("recordings", "path", "recordings.tsv line 1: the column 'path' is missing"),
        ("events", "recording", "events.tsv line 1: the column 'recording' is missing"),
        ("events", "onset", "events.tsv line 1: the column 'onset' is missing"),
        ("events", "duration", "events.tsv line 1: the column 'duration' is missing"),
        ("events", "trial_type", "events.tsv line 1: the column 'trial_type' is missing"),
    ],
)
def test_one_missing_column_is_one_sentence_in_a_study_of_many(
    write_study: Writer, table: str, column: str, sentence: str
) -> None:
    folder = write_study()
    tables = dict(zip(("participants", "recordings", "events"), many_people(folder), strict=True))
    assert len(load_study(write_study(**tables)).entries) == 594
    lines = [line.split("\t") for line in tables[table].splitlines()]
    place = lines[0].index(column)
    tables[table] = "".join("\t".join([*line[:place], *line[place + 1 :], "x"]) + "\n" for line in lines)
    (found,) = faults_of(write_study(**tables))
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("table", "old", "new", "sentence"),
    [
        ("events", "\tlab\t0\t", "\tlab\tzero\t", "events.tsv line 2: onset is 'zero'; a number of seconds is needed"),
        ("events", "\tbaseline\n", "\tbaseline\tx\n", "events.tsv line 2: 6 cells where the header has 5"),
        ("events", "\tlab\t", "\tfield\t", "events.tsv line 2: no recording 'S000 field' in recordings.tsv"),
        ("recordings", "data/", "dato/", "recordings.tsv line 2: the file 'dato/S000.csv' is not there"),
        ("participants", "S", "P", "recordings of 'S000' (recordings.tsv line 2), who is not in participants.tsv"),
    ],
)
def test_a_fault_of_every_row_is_one_sentence_with_the_count(
    write_study: Writer, table: str, old: str, new: str, sentence: str
) -> None:
    folder = write_study()
    tables = dict(zip(("participants", "recordings", "events"), many_people(folder), strict=True))
    tables[table] = tables[table].replace(old, new)
    found = faults_of(write_study(**tables))
    assert found[0].startswith(sentence)
    n = 1187 if new == "\tfield\t" else 593
    assert f"(so too in {n} more: " in found[0]
    assert len(found) == 1, found


def test_two_faults_of_one_kind_are_both_told(write_study: Writer) -> None:
    found = faults_of(write_study(events=EVENTS + "S01\tlab\tx\t1\tstroop\nS01\tlab\ty\t1\tstroop\n"))
    assert found == (
        "events.tsv line 6: onset is 'x'; a number of seconds is needed",
        "events.tsv line 7: onset is 'y'; a number of seconds is needed",
    )


def test_all_missing_columns_of_a_table_are_one_sentence(write_study: Writer) -> None:
    assert faults_of(write_study(events="participant_id\tonset\nS01\t1\n")) == (
        "events.tsv line 1: the columns 'recording', 'duration', 'trial_type' are missing (there are: participant_id, "
        "onset)",
    )


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_every_table_of_a_spreadsheet_is_the_same(write_study: Writer, line_end: str) -> None:
    plain = load_study(write_study())
    folder = write_study()
    for name in ("study.yaml", "participants.tsv", "recordings.tsv", "events.tsv"):
        text = (folder / name).read_text()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", line_end).encode())
    assert load_study(folder) == plain


def test_comments_on_top_and_empty_cells_behind_are_no_rows(write_study: Writer) -> None:
    plain = load_study(write_study())
    marked = load_study(
        write_study(events="# by hand\n# 2024\n" + EVENTS.replace("\n", "\t\n").replace("type\t", "type"))
    )
    assert marked.entries == plain.entries
    found = faults_of(write_study(events="# by hand\n" + EVENTS + "S01\tlab\tx\t1\tstroop\n"))
    assert found == ("events.tsv line 7: onset is 'x'; a number of seconds is needed",)


@pytest.mark.parametrize(
    ("table", "text", "fault"),
    [
        ("study", "name: a\nname: b\n", "study.yaml line 2: 'name' is given twice (first in line 1)"),
        ("study", "name: a\n\ttasks: {}\n", "study.yaml line 2: found character '\\t' that cannot start any token"),
        (
            "study",
            "name: !!python/object:os.system x\n",
            "study.yaml line 1: the tag tag:yaml.org,2002:python/object:os",
        ),
        ("study", "name: &a x\ndescription: *a\n", "study.yaml line 2: aliases (*name) are not allowed here"),
        ("study", "- a\n", "study.yaml line 1: 'key: value' lines are needed at the top"),
        ("study", "[" * 2000, "study.yaml"),
        ("study", None, "study.yaml is missing; it gives the study's name and tasks"),
        ("study", "signals: {EDA: {modality: edaa}}\n", "study.yaml line 1: unknown modality 'edaa'; known are: ecg"),
        ("study", "tasks: {t: {classes: {a: [x], b: [x]}}}\n", "task 't' lists the label 'x' under a and b"),
        (
            "study",
            "tasks: {t: {kind: rank}}\n",
            "the kind of task 't' is 'rank'; allowed are classification, ordinal, regression",
        ),
        ("study", "tasks: {t: {kind: regression}}\n", "the regression task 't' needs 'column:'"),
        ("participants", "", "participants.tsv is empty; its first line must name the columns participant_id"),
        ("participants", "participant_id\n", "participants.tsv has no rows below its header"),
        (
            "participants",
            "participants_id\nS01\n",
            "'participant_id' is missing (there are: participants_id); did you mean",
        ),
        (
            "participants",
            "participant_id\nS01\ns01\nS02\n",
            "'S01' and 's01' (participants.tsv line 2 and participants.tsv line 3) differ only in case",
        ),
        ("participants", "participant_id\nS01\nS02 \n", "the participant_id 'S02 ' has blanks around it; remove them"),
        ("participants", "participant_id\nS01\nS02\ne\u0301\n", "is not in composed Unicode form (NFC); retype it"),
        ("participants", "participant_id\nS01\nS02\n\u00e9\nE\u0301\n", "'E\\u0301' is not in composed Unicode form"),
        ("participants", "participant_id\nS01\nS02\n..\n", "'..' cannot be part of a file name"),
        ("participants", "participant_id\nS01\nS02\nS\x003\n", "cannot be part of a file name"),
        ("participants", f"participant_id\nS01\nS02\n{'x' * 300}\n", "has 300 characters; 64 are allowed"),
        ("participants", "participant_id\nS1\nS02\n", "recordings of 'S01' (recordings.tsv line 2), who is not in"),
        (
            "recordings",
            RECORDINGS.replace("\t", ","),
            "recordings.tsv line 1: the columns are separated by commas and not by tabs",
        ),
        ("recordings", RECORDINGS + "S01\tlab\n", "recordings.tsv line 4: 2 cells where the header has 3"),
        ("recordings", RECORDINGS + "S01\tlab\tdata/S01.csv\n", "line 4: the file 'data/S01.csv' is listed twice"),
        (
            "recordings",
            RECORDINGS + "S02\tb\tdata/S01.csv\n",
            "listed under two recordings: S01 lab (recordings.tsv line 2) and S02 b (recordings.tsv line 4)",
        ),
        (
            "recordings",
            RECORDINGS + "S02\tb\t../pilot/../x\n",
            "leads out of the study folder; write it as an absolute",
        ),
        (
            "recordings",
            RECORDINGS + "S02\tLAB\tdata/S01.csv\n",
            "'S02__lab' and 'S02__LAB' (recordings.tsv line 3 and recordings.tsv line 4) differ only in",
        ),
        ("events", EVENTS + "S09\tlab\t0\t1\trelax\n", "events.tsv line 6: no recording 'S09 lab' in recordings.tsv"),
        ("events", EVENTS + "S01\tlab\t0\t60\tbaseline\n", "events.tsv line 6: the same row as events.tsv line 2"),
        ("events", EVENTS + "S01\tlab\tinf\t60\tbaseline\n", "onset is 'inf'; a finite number is needed"),
    ],
)
def test_a_fault_is_one_sentence_that_says_where(write_study: Writer, table: str, text: str | None, fault: str) -> None:
    found = faults_of(write_study(**{table: text}))
    assert any(fault in sentence for sentence in found), found


def test_a_table_that_is_not_utf8_is_refused_with_its_line(write_study: Writer) -> None:
    folder = write_study()
    (folder / "participants.tsv").write_bytes("participant_id\nS01\nS02\nJosé\n".encode("latin-1"))
    assert "participants.tsv line 4: not UTF-8; save the file with UTF-8 encoding" in faults_of(folder)


def test_one_content_under_two_people_is_refused(write_study: Writer) -> None:
    folder = write_study()
    (folder / "data" / "S02.csv").write_bytes((folder / "data" / "S01.csv").read_bytes())
    assert faults_of(folder) == (
        "S01.csv of S01 lab (recordings.tsv line 2) and S02.csv of S02 lab (recordings.tsv line 3) have the same "
        "content; one recording under two names would leak across folds",
    )


def write_brainvision(path: Path, samples: bytes, *, named: str) -> None:
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\n"
        f"DataFile={named}\nDataFormat=BINARY\nNumberOfChannels=1\nSamplingInterval=4000\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=Cz,,0.5\n"
    )
    path.with_name(named.replace("$b", path.stem)).write_bytes(samples)


def test_the_content_of_a_recording_is_its_samples_and_not_its_header(write_study: Writer) -> None:
    recordings = "participant_id\trecording\tpath\nS01\tlab\tdata/a.vhdr\nS02\tlab\tdata/b.vhdr\n"
    folder = write_study(recordings=recordings)
    for name, value in (("a", b"\x01\x02"), ("b", b"\x02\x01")):
        write_brainvision(folder / f"data/{name}.vhdr", 5000 * value, named="$b.eeg")
    assert load_study(folder).entries, "two people of one protocol have equal headers"
    write_brainvision(folder / "data/b.vhdr", 5000 * b"\x01\x02", named="other.eeg")
    assert faults_of(folder)[0].startswith(
        "a.vhdr of S01 lab (recordings.tsv line 2) and b.vhdr of S02 lab (recordings.tsv line 3) have the same content"
    )


def test_samples_that_a_header_names_are_part_of_what_prepare_remembers(write_study: Writer) -> None:
    from biopercept.prepare.reuse import SourceFiles

    folder = write_study()
    write_brainvision(folder / "data/S03.vhdr", bytes(4000), named="samples of S03.eeg")
    names = [file.name for file in SourceFiles().of(folder / "data/S03.vhdr")]
    assert names == ["S03.vhdr", "samples of S03.eeg"]


def test_a_link_out_of_the_study_is_refused_and_a_link_within_is_not(write_study: Writer) -> None:
    folder = write_study()
    (folder / "data" / "S01.csv").rename(folder / "S01_original.csv")
    (folder / "data" / "S01.csv").symlink_to(folder / "S01_original.csv")
    assert load_study(folder).entries[0].files[0].path.name == "S01.csv"
    (folder / "S01_original.csv").rename(folder.parent / "outside.csv")
    (folder / "data" / "S01.csv").unlink()
    (folder / "data" / "S01.csv").symlink_to(folder.parent / "outside.csv")
    assert "leads out of the study folder" in faults_of(folder)[0]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(write_study: Writer) -> None:
    plain = load_study(write_study())
    same = load_study(write_study(events="\ufeff" + EVENTS.replace("\n", "\r\n")))
    assert same.entries == plain.entries


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"holds neither recordings.tsv \(a study folder\) nor dataset_description.json"
    ):
        load_study(tmp_path)
    with pytest.raises(StudyError, match=r"there is no folder .*; a study folder or a BIDS data set is needed"):
        load_study(tmp_path / "nothing")


def test_conditions_that_label_whole_files_are_told_apart_from_labelled_stretches(write_study: Writer) -> None:
    recordings = (
        "participant_id\trecording\tpath\tcondition\nS01\ta\tdata/S01.csv\tbaseline\nS01\tb\tdata/S02.csv\tstroop\n"
    )
    study = load_study(write_study(recordings=recordings, events=None))
    assert [entry.condition for entry in study.entries] == ["baseline", "stroop"]
    assert study.tasks["stress"].label_is_file


def test_a_study_without_labels_can_be_loaded(write_study: Writer) -> None:
    assert all(entry.labels == () for entry in load_study(write_study(events=None)).entries)


def test_a_task_survives_the_way_through_json(write_study: Writer) -> None:
    task = load_study(write_study()).tasks["stress"]
    assert type(task).from_json(json.loads(json.dumps(task.to_json()))) == task
    with pytest.raises(StudyError, match="a stored task has no 'classes'; its value is needed; prepare again"):
        type(task).from_json({"name": "x"})


def test_a_manifest_of_many_rows_keeps_every_row(write_study: Writer) -> None:
    rows = "".join(f"S01\tlab\t{i}\t1\tstroop\n" for i in range(100, 20_100))
    assert len(load_study(write_study(events=EVENTS + rows)).entries[0].intervals) == 20_002


def test_an_offset_that_is_nan_is_a_fault_and_one_not_given_is_none(write_study: Writer) -> None:
    lines = RECORDINGS.splitlines()
    rows = [f"{lines[0]}\toffset_seconds", f"{lines[1]}\tnan", f"{lines[2]}\tn/a"]
    (fault,) = faults_of(write_study(recordings="\n".join(rows) + "\n"))
    assert fault == "recordings.tsv line 2: offset_seconds is 'nan'; a finite number is needed"
