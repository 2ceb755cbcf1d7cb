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
        ({"events": EVENTS.replace("10.5", "much")}, "events.tsv, S01 lab at 0 s: load is 'much'; a number is needed"),
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
