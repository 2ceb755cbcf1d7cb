"""What is corrected before it is saved: steps that are undone, refusals with reasons, commands that do the same."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.desktop.editing import Edits
from biopercept.errors import SettingsError
from biopercept.prepare.corrections import corrections_in, undo_corrections, write_corrections
from biopercept.prepare.sources import Source, sources_of
from biopercept.recording import BAD, BEAT_ADDED, BEAT_REMOVED, LABEL
from biopercept.viewing.timeline import timeline_of


@pytest.fixture
def source(study: Path) -> Source:
    return sources_of([study])[0]


@pytest.fixture
def edits(source: Source) -> Edits:
    return Edits(timeline_of(source.load()), source)


def kinds(edits: Edits) -> list[str]:
    return [one.kind for one in edits.pending]


def test_steps_are_undone_and_done_again_and_a_new_step_ends_what_was_undone(edits: Edits) -> None:
    edits.mark_bad(10.0, 12.5)
    edits.mark_bad(20.0, 21.0, "EEG/C3")
    edits.undo()
    assert [one.onset_seconds for one in edits.pending] == [10.0]
    edits.redo()
    assert [one.channels for one in edits.pending] == [(), ("EEG/C3",)]
    edits.undo()
    edits.mark_channel_bad("EDA")
    assert not edits.can_redo
    assert kinds(edits) == ["bad", "channel-bad"]
    for _ in range(5):
        edits.undo()
    assert edits.pending == ()
    assert not edits.can_undo


def test_a_channel_and_a_polarity_are_taken_back_as_they_were_set(edits: Edits) -> None:
    edits.turn("ECG")
    assert edits.is_turned("ECG")
    edits.turn("ECG")
    assert not edits.is_turned("ECG")
    edits.mark_channel_bad("EEG/Fp1")
    edits.mark_channel_bad("EEG/Fp1")
    assert edits.pending == ()
    edits.undo()
    assert kinds(edits) == ["channel-bad"]


def test_beats_are_added_removed_and_moved_and_what_was_added_just_goes(edits: Edits) -> None:
    before = edits.beats("ECG")
    edits.add_beat(26.0, "ECG") if np.abs(before - 26.0).min() > 0.3 else edits.add_beat(25.6, "ECG")
    added = edits.pending[0].onset_seconds
    assert added in edits.beats("ECG")
    edits.move_beat(added, added + 0.02, "ECG")
    assert [one.kind for one in edits.pending] == [BEAT_ADDED]
    edits.remove_beat(added + 0.05, "ECG")
    assert edits.pending == ()
    edits.move_beat(float(before[10]) + 0.01, float(before[10]) + 0.05, "ECG")
    assert sorted(kinds(edits)) == [BEAT_ADDED, BEAT_REMOVED]
    np.testing.assert_allclose(edits.beats("ECG")[10], before[10] + 0.05, atol=1e-3)
    assert len(edits.beats("ECG")) == len(before)
    edits.undo()
    np.testing.assert_array_equal(edits.beats("ECG"), before)


def test_labels_that_are_set_cut_those_that_are_there(edits: Edits) -> None:
    edits.set_label(20.0, 40.0, "break")
    assert [(one.onset_seconds, one.end_seconds, one.label) for one in edits.labels()] == [
        (0, 20, "rest"),
        (20, 40, "break"),
        (40, 60, "task"),
    ]
    edits.set_label(25.0, 30.0, "")
    assert [one.label for one in edits.labels()] == ["rest", "break", "break", "task"]
    assert edits.label_names() == ("rest", "task", "break")


def test_what_would_have_no_effect_is_refused_with_the_reason(edits: Edits) -> None:
    before = edits.beats("ECG")
    cases = [
        (lambda: edits.add_beat(float(before[5]) + 0.1, "ECG"), "beat-added at .* there is a beat 0.1.* s from it"),
        (lambda: edits.remove_beat(float(before[5]) + 0.4, "ECG"), r"no beat of ECG within 0\.15 s of"),
        (lambda: edits.add_beat(5.0, "EDA"), "the beats are those of ECG, and not of EDA"),
        (lambda: edits.turn("EDA"), "only ECG and pulse waves can be turned"),
        (lambda: edits.mark_bad(80.0, 90.0), "lies outside the recording"),
        (lambda: edits.set_label(1.0, 2.0, "rset"), "the label 'rset' is under no class of task 'load'"),
        (lambda: edits.mark_bad(1.0, 2.0, "heart_rate"), "heart_rate was not measured, but derived"),
    ]
    for act, sentence in cases:
        with pytest.raises(SettingsError, match=sentence):
            act()
        assert edits.pending == ()
    edits.mark_bad(1.0, 2.0)
    with pytest.raises(SettingsError, match="that is done already"):
        edits.mark_bad(1.0, 2.0)
    edits.add_beat(float((before[40] + before[41]) / 2), "ECG")
    added = edits.pending[-1].onset_seconds
    with pytest.raises(SettingsError, match="it lies in a stretch that is marked bad"):
        edits.mark_bad(added - 0.1, added + 0.1)


def test_a_store_and_what_is_saved_already_are_not_corrected(source: Source) -> None:
    timeline = timeline_of(source.load())
    with pytest.raises(SettingsError, match="a store is not corrected"):
        Edits(timeline, None).mark_bad(1.0, 2.0)
    edits = Edits(timeline, source)
    edits.turn("ECG")
    edits.mark_bad(40.0, 50.0)
    write_corrections(source, edits.pending)
    again = Edits(timeline_of(source.load()), source)
    with pytest.raises(SettingsError, match="it lies in a stretch that is marked bad"):
        again.add_beat(45.0, "ECG")
    assert again.is_turned("ECG")
    with pytest.raises(SettingsError, match="polarity of ECG is saved already"):
        again.turn("ECG")


def test_the_commands_write_what_saving_writes(edits: Edits, source: Source, study: Path) -> None:
    before = edits.beats("ECG")
    edits.mark_bad(40.0, 42.5)
    edits.mark_bad(20.25, 21.0, "EEG/C3")
    edits.mark_channel_bad("EEG/Fp1")
    edits.move_beat(float(before[10]), float(before[10]) + 0.05, "ECG")
    edits.set_label(25.0, 30.0, "break")
    edits.set_label(50.0, 55.0, "")
    write_corrections(source, edits.pending, "A B")
    saved = rows(source)
    assert {row[2] for row in saved} == {BAD, BEAT_ADDED, BEAT_REMOVED, LABEL, "channel-bad"}
    undo_corrections(source)
    assert rows(source) == []
    commands = edits.commands("A B")
    assert len(commands) == 3  # of everything, of EEG/C3, of ECG
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["biopercept", "correct", str(study)]
        outcome = CliRunner().invoke(build_app(), words[1:])
        assert outcome.exit_code == 0, outcome.output
    assert rows(source) == saved


def test_a_label_that_was_set_again_is_a_command_of_its_own(edits: Edits, source: Source) -> None:
    for begin, label in ((25.0, "break"), (40.0, "rest"), (28.0, "rest"), (29.0, "")):
        edits.set_label(begin, begin + 5, label)
    write_corrections(source, edits.pending)
    saved = rows(source)
    undo_corrections(source)
    commands = edits.commands()
    assert len(commands) == 3
    for command in commands:
        outcome = CliRunner().invoke(build_app(), shlex.split(command)[1:])
        assert outcome.exit_code == 0, outcome.exception
    assert rows(source) == saved


def test_a_turned_wave_is_saved_before_its_beats_are_corrected(edits: Edits, source: Source) -> None:
    edits.turn("ECG")
    with pytest.raises(SettingsError, match="beats are looked for anew in a wave that was turned"):
        edits.remove_beat(float(edits.beats("ECG")[3]), "ECG")
    (command,) = edits.commands()
    assert command.endswith("--subject P1 --recording lab --polarity ECG")
    assert CliRunner().invoke(build_app(), shlex.split(command)[1:]).exit_code == 0
    assert [row[2:4] for row in rows(source)] == [("polarity", "ECG")]


def rows(source: Source) -> list[tuple[str, ...]]:
    """What is in the table, without when it was written, in any order."""
    tables = corrections_in(source).rows.values()
    return sorted(tuple(cell for name, cell in row.items() if name != "when") for table in tables for row in table)
