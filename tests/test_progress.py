"""Steps within steps: how much is done, what is heard of it, and what is said of work that was ended early."""

from __future__ import annotations

import pytest

from biopercept.errors import OutputError
from biopercept.progress import each, listening, steps, stopped_words, unwritten_words


def test_steps_within_steps_are_parts_of_the_step_that_is_being_done() -> None:
    heard: list[tuple[float, str]] = []
    listener = listening(lambda done: heard.append((round(done.fraction, 3), done.words)))
    with listener, steps("folds", 4, done=1) as folds:
        for _ in each("repetition", [1, 2]):
            with steps("epoch", 5) as epochs:
                epochs.advance("loss 0.5")
        folds.advance()
    assert heard[:4] == [
        (0.25, ""),
        (0.25, "repetition 1 of 2"),
        (0.25, "repetition 1 of 2, epoch 1 of 5"),
        (0.275, "repetition 1 of 2, epoch 2 of 5, loss 0.5"),
    ]
    assert heard[-1] == (0.5, "")
    assert (0.4, "repetition 2 of 2, epoch 2 of 5, loss 0.5") in heard


def test_a_stack_stands_for_as_many_folds_as_are_in_it() -> None:
    fractions = []
    with listening(lambda done: fractions.append(done.fraction)), steps("folds", 4) as folds:
        with steps("stack", 1, weight=2), steps("epoch", 2) as epochs:
            epochs.advance()
            epochs.advance()
        folds.advance(by=2)
    assert fractions[-3:] == [0.25, 0.5, 0.5]


def test_an_earlier_runs_work_took_no_time_in_this_one() -> None:
    before = []
    with listening(lambda done: before.append(done.fraction_before)), steps("folds", 10, done=4) as folds:
        folds.advance()
    assert before == [0.4, 0.4]


def test_nobody_hears_after_listening_and_errors_leave_nothing_open() -> None:
    heard = []
    listener = listening(lambda done: heard.append(len(done.open)))
    with listener, pytest.raises(ValueError, match="wrong"), steps("folds", 2), steps("epoch", 2):
        raise ValueError("wrong")
    with steps("folds", 2) as folds:
        folds.advance()
    assert heard == [1, 2]
    assert stopped_words() == "stopped; files that were written are whole, what was not finished is lost"


def test_what_is_said_at_an_interrupt_is_what_was_kept() -> None:
    with pytest.raises(KeyboardInterrupt), steps("folds", 5, is_kept=True):
        raise KeyboardInterrupt
    assert stopped_words() == "stopped before the first of 5 folds was finished"
    with (
        pytest.raises(KeyboardInterrupt),
        steps("folds", 5, done=2, is_kept=True),
        steps("people of the fold", 3, is_kept=True) as people,
    ):
        people.advance()
        with steps("epoch", 9):
            raise KeyboardInterrupt
    assert stopped_words() == (
        "stopped; kept are 2 of 5 folds and 1 of 3 people of the fold: the same command without --overwrite goes on "
        "there"
    )
    assert "kept are" not in stopped_words()


def test_what_is_said_where_a_file_cannot_be_written_is_what_was_kept() -> None:
    assert unwritten_words() == ""  # a single file is no long work
    with pytest.raises(OutputError), steps("recordings", 5, done=2, is_kept=True) as done:
        done.advance()
        raise OutputError("the disk is full")
    goes_on = "once there is room, the same command without --overwrite goes on there"
    assert unwritten_words() == f"kept are 3 of 5 recordings: {goes_on}"
    assert unwritten_words() == ""
    with pytest.raises(OSError, match="full"), steps("folds", 4, is_kept=True):
        raise OSError("full")
    assert unwritten_words() == "none of 4 folds was finished"
    with pytest.raises(OutputError):
        for _ in each("recordings", [1, 2]):
            raise OutputError("the disk is full")


def test_what_was_kept_is_said_of_work_that_ends_behind_its_last_step() -> None:
    with steps("folds", 2, is_kept=True) as folds:
        for _ in range(2):
            with steps("people of the fold", 3, is_kept=True) as people:
                people.advance(by=3)
            folds.advance()
    assert stopped_words() == "stopped; kept are 2 of 2 folds: the same command without --overwrite goes on there"
    with steps("recordings", 2):
        pass
    assert unwritten_words() == ""
