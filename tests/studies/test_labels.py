"""Numbers and ordered levels of a study: read from any of its tables, kept in the store, every fault told."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import pytest

from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import PrepareRun, prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import labels_from_text, labels_text
from biopercept.store.reading import open_store
from biopercept.studies.labels import labels_of, training_faults
from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults

Writer = Callable[..., Path]
YAML = """\
name: pilot
tasks:
  load: {kind: regression, column: load}
  age: {kind: regression, column: age}
  level: {kind: ordinal, classes: {low: [baseline, relax], high: [stroop]}}
"""
EVENTS = (
    "participant_id\trecording\tonset\tduration\ttrial_type\tload\n"
    "S01\tlab\t0\t60\tbaseline\t10.5\nS01\tlab\t60\t60\tstroop\t80\n"
    "S02\tlab\t0\t60\trelax\tn/a\nS02\tlab\t60.5\t59.5\tstroop\t70\n"
)


def test_numbers_come_from_the_table_that_has_the_column(write_study: Writer) -> None:
    study = load_study(write_study(study=YAML, events=EVENTS))
    first, second = (labels_of(study, entry) for entry in study.entries)
    assert list(first.interval_values) == [{"load": 10.5}, {"load": 80.0}]
    assert list(second.interval_values) == [{}, {"load": 70.0}]
    assert (first.values, second.values) == ({"age": 31.0}, {"age": 28.0})
    assert study.tasks["level"].kind == "ordinal"
    assert study.tasks["level"].class_names == ("low", "high")
    assert (study.tasks["age"].label_is_file, study.tasks["load"].label_is_file) == (True, False)
    assert training_faults(study) == ()


def test_a_column_of_recordings_is_a_number_of_the_whole_recording(write_study: Writer) -> None:
    table = "participant_id\trecording\tpath\tload\nS01\tlab\tdata/S01.csv\t3\nS02\tlab\tdata/S02.csv\tn/a\n"
    study = load_study(
        write_study(study=YAML.replace("  age: {kind: regression, column: age}\n", ""), recordings=table)
    )
    assert [labels_of(study, entry).values for entry in study.entries] == [{"load": 3.0}, {}]


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({}, "the column 'load' of task 'load' is in none of participants.tsv, recordings.tsv and events.tsv"),
        (
            {"events": EVENTS.replace("10.5", "much")},
            "events.tsv line 2, S01 lab at 0 s: load is 'much'; a number is needed",
        ),
        ({"events": EVENTS.replace("80", "1_000")}, "load is '1_000'; a number is needed for task 'load'"),
        (
            {"events": EVENTS, "participants": "participant_id\tage\tload\nS01\t31\t1\nS02\t28\t2\n"},
            "the column 'load' of task 'load' is in participants.tsv and in events.tsv; rename all but one",
        ),
        (
            {"events": EVENTS, "study": YAML.replace("ordinal", "ordered")},
            "the kind of task 'level' is 'ordered'; allowed are classification, ordinal, regression",
        ),
        ({"events": EVENTS.replace("relax", "rest")}, "the label 'rest' .* is under no class of task 'level'"),
    ],
)
def test_every_fault_of_a_number_is_told(write_study: Writer, replaced: dict[str, str], sentence: str) -> None:
    with pytest.raises(StudyFaults, match=sentence):
        load_study(write_study(**{"study": YAML, **replaced}))


def test_a_column_without_any_number_cannot_be_learnt(write_study: Writer) -> None:
    empty = EVENTS.replace("10.5", "n/a").replace("80", "").replace("70", "n/a")
    study = load_study(write_study(study=YAML, events=empty))
    assert training_faults(study) == ("task 'load': the column 'load' has no number in any row",)


def test_the_store_keeps_labels_and_a_changed_number_changes_its_fingerprint(
    write_study: Writer, tmp_path: Path
) -> None:
    settings = PrepareSettings(WindowSettings(20.0, 10.0))

    def prepared(events: str):
        folder = write_study(study=YAML, events=events)
        for number, path in enumerate(sorted((folder / "data").glob("*.csv"))):
            rows = (f"{i / 4},{3 + math.sin(0.05 * i) + 0.1 * math.sin(7.0 * i) + number:.4f}" for i in range(480))
            path.write_text("\n".join(["time,EDA (uS)", *rows]) + "\n")
        study = load_study(folder)
        summary = prepare_study(study, tmp_path / "pilot.h5", settings, run=PrepareRun(isolate=False))
        with open_store(tmp_path / "pilot.h5") as store:
            return study, summary.count("prepared"), store.fingerprint(), [r.labels for r in store.recordings]

    study, n_first, first, labels = prepared(EVENTS)
    assert labels == [labels_of(study, entry) for entry in study.entries]
    _, n_again, again, changed = prepared(EVENTS.replace("80", "81"))
    assert (n_first, n_again) == (2, 0)  # signals are not prepared again for a number
    assert first != again
    assert changed[0].interval_values[1] == {"load": 81.0}


def test_a_store_of_an_older_version_tells_stretches_from_its_windows(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.numbered(made.study(2)))
    with open_store(path) as store:
        full = store.recordings[0].labels
    with h5py.File(path, "a") as held:
        del held.attrs["labels"]
    with open_store(path) as store:
        assert store.recordings[0].labels.intervals == full.intervals
        assert store.recordings[0].labels.interval_values == ()


def test_labels_are_read_back_as_they_were_written(made: ModuleType) -> None:
    labels = {r.key: r.labels for r in made.numbered(made.study(2))}
    assert labels_from_text(labels_text(labels)) == labels


STUDY = """\
name: pilot
tasks:
  stress: {classes: {rest: [baseline, relax], stress: [stroop]}, ignore: [break, pulse]}
  place: {classes: {lab: [inside], field: [outside]}, ignore: [baseline, relax, stroop, break, pulse]}
"""
HEADER = "participant_id\trecording\tonset\tduration\ttrial_type\n"


def tables(*events: str, condition: str = "", overlap: str = "") -> dict[str, str]:
    """The tables of a study with these events of S01 ("onset duration label") and this condition."""
    ignored = STUDY.replace("ignore: [break", "ignore: [inside, outside, break", 1)
    recordings = f"participant_id\trecording\tpath\tcondition\nS01\tlab\tdata/S01.csv\t{condition or 'n/a'}\n"
    rows = "".join("S01\tlab\t" + "\t".join(event.split()) + "\n" for event in events)
    return {
        "study": ignored + (f"overlap: {overlap}\n" if overlap else ""),
        "recordings": recordings + "S02\tlab\tdata/S02.csv\tn/a\n",
        "events": HEADER + rows + "S02\tlab\t0\t60\trelax\nS02\tlab\t60\t60\tstroop\n",
    }


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (
            ("0 60 baseline", "50 60 stroop"),
            "events.tsv line 3, S01 lab: 'stroop' (stress) from 50 to 110 s and 'baseline' (rest) from 0 to 60 s of "
            "events.tsv line 2 are two classes of task 'stress' for the same time; correct one, or list one of the "
            "labels under ignore",
        ),
        (
            ("0 120 baseline", "10 5 break", "20 5 stroop"),
            "events.tsv line 4, S01 lab: 'stroop' (stress) from 20 to 25 s and 'baseline' (rest) from 0 to 120 s of",
        ),
        (("0 120 stroop", "0 120 relax"), "'stroop' (stress) from 0 to 120 s and 'relax' (rest) from 0 to 120 s of"),
        (
            ("0 100 relax", "5 5 baseline", "90 30 stroop"),
            "events.tsv line 4, S01 lab: 'stroop' (stress) from 90 to 120 s and 'relax' (rest) from 0 to 100 s of",
        ),
    ],
)
@pytest.mark.parametrize("overlap", ["", "refuse", "events-win"])
def test_two_classes_for_the_same_time_are_a_fault(
    write_study: Writer, events: tuple[str, ...], sentence: str, overlap: str
) -> None:
    with pytest.raises(StudyFaults) as caught:
        load_study(write_study(**tables(*events, overlap=overlap)))
    assert len(caught.value.faults) == 1
    assert sentence in caught.value.faults[0]


@pytest.mark.parametrize(
    "events",
    [
        ("0 60 baseline", "60 60 stroop"),
        ("0 60.05 baseline", "60 60 stroop"),  # rounding of the table
        ("0 60 baseline", "30 60 relax"),  # one class
        ("0 120 stroop", "0 120 inside"),  # two tasks
        ("0 120 stroop", "10 20 break"),  # ignored
        ("0 60 baseline", "30 0 stroop"),  # a mark without duration, of which no window is cut
    ],
)
def test_what_is_no_contradiction_is_no_fault(write_study: Writer, events: tuple[str, ...]) -> None:
    assert len(load_study(write_study(**tables(*events))).entries[0].intervals) == 2


def test_a_condition_beside_events_of_another_class_is_a_fault_that_names_the_rule(write_study: Writer) -> None:
    with pytest.raises(StudyFaults) as caught:
        load_study(write_study(**tables("60 30 stroop", "90 30 relax", condition="baseline")))
    assert caught.value.faults == (
        "events.tsv line 2, S01 lab: 'stroop' (stress) from 60 to 90 s is of another class of task 'stress' than the "
        "condition 'baseline' (rest); remove the condition, or write 'overlap: events-win' into study.yaml, and it "
        "holds for the rest of the recording",
    )


def test_a_rule_that_is_none_is_refused(write_study: Writer) -> None:
    with pytest.raises(StudyFaults, match="overlap is 'both'; allowed are refuse and events-win"):
        load_study(write_study(**tables("60 30 stroop", overlap="both")))


def test_where_events_win_no_window_lies_in_two_classes(write_study: Writer, tmp_path: Path) -> None:
    """The classes of every second, drawn by hand, against those of the windows and of single times in the store."""
    import numpy as np

    from biopercept.data.windows import DenseLabels
    from biopercept.recording import Interval
    from biopercept.studies.entries import load_entry

    folder = write_study(
        **tables("30 20 stroop", "40 30 outside", "70 10 relax", condition="baseline", overlap="events-win")
    )
    for number, path in enumerate(sorted((folder / "data").glob("*.csv"))):
        values = (f"{i / 4},{3 + math.sin(0.05 * i) + 0.1 * math.sin(7.0 * i) + number:.4f}" for i in range(480))
        path.write_text("\n".join(["time,EDA (uS)", *values]) + "\n")
    study = load_study(folder)
    intervals = load_entry(study, study.entries[0]).intervals
    rest = [Interval(0.0, 30.0, "baseline"), Interval(50.0, 70.0, "baseline")]
    assert [i for i in intervals if i.label == "baseline"] == rest
    truth = np.full(120, "rest", dtype=object)
    truth[30:50] = "stress"
    prepare_study(study, tmp_path / "p.h5", PrepareSettings(WindowSettings(5.0, 1.0)), run=PrepareRun(isolate=False))
    with open_store(tmp_path / "p.h5") as store:
        first = next(r for r in store.recordings if r.subject == "S01")
        task = study.tasks["stress"]
        windows = first.windows
        classes: dict[float, set[str | None]] = {}
        for onset, label in zip(windows.onset[windows.is_labelled], windows.label[windows.is_labelled], strict=True):
            classes.setdefault(float(onset), set()).add(task.class_of(str(label)))
        for onset, names in classes.items():
            stated = names - {None}
            assert len(stated) <= 1, onset
            if stated:
                assert set(truth[int(onset) : int(onset) + 5]) == stated, onset
        assert {name for names in classes.values() for name in names} == {"rest", "stress", None}
        times = np.arange(120) + 0.5
        dense = DenseLabels([(first.labels, first.duration_seconds)], task).at(np.zeros(120, dtype=np.int64), times)
    assert [task.class_names[int(value)] for value in dense] == truth.tolist()


def test_a_rule_changes_what_a_recording_is_made_from(write_study: Writer) -> None:
    from biopercept.prepare.reuse import SourceFiles, source_hash

    def hashed(classes: str) -> str:
        replaced = tables("30 20 stroop", condition="baseline", overlap="events-win")
        replaced["study"] = replaced["study"].replace("rest: [baseline, relax], stress: [stroop]", classes)
        study = load_study(write_study(**replaced))
        return source_hash(study, study.entries[0], SourceFiles())

    apart = hashed("rest: [baseline, relax], stress: [stroop]")
    assert apart != hashed("rest: [baseline, stroop], stress: [relax]")


def test_two_numbers_for_the_same_time_are_a_fault(write_study: Writer) -> None:
    overlapping = EVENTS.replace("S01\tlab\t60\t60\tstroop", "S01\tlab\t30\t60\tbaseline")
    sentence = (
        r"events.tsv line 3, S01 lab: 'baseline' \(80.0\) from 30 to 90 s and 'baseline' \(10.5\) from 0 to 60 s of "
        r"events.tsv line 2 are two numbers of task 'load' for the same time"
    )
    with pytest.raises(StudyFaults, match=sentence):
        load_study(write_study(study=YAML, events=overlapping))
