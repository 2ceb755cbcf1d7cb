"""Plans of made studies of many shapes: each line as it should be, with its reason, and what cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_tables import Stages, people, write_study

from biopercept.planning.fingerprint import fingerprint_of_study
from biopercept.planning.network import Size, network_settings
from biopercept.planning.rules import plan_of
from biopercept.recording import Signal
from biopercept.results.plan import SettingsPlan
from biopercept.results.reading import document_of, read_result, write_result
from biopercept.studies.loading import load_study


def made(folder: Path, people: Mapping[str, Stages], **shape: Any) -> SettingsPlan:
    """Return the plan of a study that :func:`write_study` makes, of the same ``shape``."""
    return plan_of(fingerprint_of_study(load_study(write_study(folder, people, **shape))))


def _bytes_read() -> int:
    """Return how many bytes this process has read so far; 0 where the system does not say."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().split()[1]) if counts.is_file() else 0


def because(plan: SettingsPlan, setting: str) -> str:
    return next(line.because for line in plan.lines if line.setting == setting)


def values(plan: SettingsPlan) -> dict[str, object]:
    """Return the values of the plan but for those that depend on nothing here."""
    left_out = ("model.", "training.learning_rate", "evaluation")
    return {name: value for name, value in plan.values.items() if not name.startswith(left_out)}


def test_long_stages_of_a_wristband_have_windows_of_two_minutes(tmp_path: Path) -> None:
    plan = made(tmp_path, people(24, ("rest", 600), ("task", 400), ("rest", 500)))
    assert values(plan) == {
        "windows.length_seconds": 120.0,
        "windows.step_seconds": 30.0,
        "normalisation.mode": "causal",
        "normalisation.scope": "recording",
        "tokens.raw": False,
        "tokens.longest_seconds": 120.0,
        "training.n_epochs": 20,
        "training.validation_fraction": 0.0,
    }
    assert because(plan, "windows.length_seconds").endswith("; labelled stretches last 400 to 600 s")
    assert because(plan, "windows.step_seconds") == "most people then have at least 10 windows of each class"
    assert because(plan, "tokens.raw") == "raw samples of eda, temp carry nothing beyond their series and features"
    assert plan.warnings == (
        "task 't': all people had one order (rest, task, rest), so drift over time can pass for the label; see 'audit'",
    )


def test_files_of_three_minutes_have_windows_of_one_and_begin_them_often(tmp_path: Path) -> None:
    plan = made(tmp_path, people(8, ("rest", 180), ("task", 180)), are_files=True)
    assert (plan.values["windows.length_seconds"], plan.values["windows.step_seconds"]) == (60.0, 15.0)
    assert because(plan, "windows.length_seconds").endswith(
        "120 s would leave most people 1 window of 'rest' that share nothing"
    )
    assert (
        because(plan, "windows.step_seconds")
        == "every 30 s would leave most people 5 windows of a class; so there are 9"
    )
    # One label per file, and each person has both in one session.
    assert (plan.values["normalisation.mode"], plan.values["normalisation.scope"]) == ("causal", "session")
    assert because(plan, "normalisation.scope") == (
        "the label is the file, and 8 of 8 people have several in a session: its past reaches over them"
    )
    assert plan.study.file_seconds is not None
    assert plan.study.file_seconds == pytest.approx((180, 180, 180), rel=0.02)  # from the size of the text


def test_a_label_that_is_the_file_of_people_with_one_file_each_is_said_to_be_nothing_else(tmp_path: Path) -> None:
    who = {f"P{i}": [("rest" if i % 2 else "task", 300.0)] for i in range(8)}
    plan = made(tmp_path, who, are_files=True)
    assert plan.values["normalisation.mode"] == "global"
    assert because(plan, "normalisation.mode") == "each person has one class only: a scale of their own hides it"
    assert plan.warnings == (
        "task 't': nobody has two classes, so whatever tells people apart passes for it, and no score within a person "
        "is defined",
    )


def test_of_few_people_nobody_is_set_aside_and_updates_are_enough_whatever_the_number_of_windows(
    tmp_path: Path,
) -> None:
    plan = made(tmp_path, people(8, ("rest", 240), ("task", 240)))
    assert plan.values["training.validation_fraction"] == 0.0
    assert plan.values["evaluation.calibration_folds"] == 5  # nobody else could be learnt from
    assert plan.values["model.linear_branch"] is plan.values["model.conv_branch"] is True
    assert plan.values["training.n_epochs"] == 96
    assert because(plan, "training.n_epochs") == (
        "208 windows make 3 updates an epoch; about 300 updates were enough in trials, and more overfitted"
    )
    epochs = [{s: v for s, v, _ in network_settings(Size(20, n, 0))}["training.n_epochs"] for n in (500, 3000, 30_000)]
    assert epochs == [38, 7, 6]


def test_the_estimate_of_time_is_what_was_measured_within_a_half_and_said_to_be_one() -> None:
    """Of 34 people with a wristband: 2 epochs of 20 folds took 285 s of a processor, its start included."""
    size = Size(34, 2929, 0)
    assert 60 * size.minutes(2) * 20 / 34 == pytest.approx(285, rel=0.5)
    reasons = {setting: because for setting, _, because in network_settings(size)}
    assert reasons["evaluation.n_seeds"] == (
        "leave-one-subject-out with these settings is estimated at 28 processor minutes of an Intel Xeon a repetition; "
        "up to 3 within 190 are averaged"
    )


def test_sixty_people_spare_some_to_stop_by(tmp_path: Path) -> None:
    plan = made(tmp_path, people(60, ("rest", 400), ("task", 400)))
    assert plan.values["training.validation_fraction"] == 0.15
    assert plan.values["training.n_epochs"] == 24
    assert "evaluation.calibration_folds" not in plan.values
    assert plan.values["evaluation.n_seeds"] == 2  # three would take more than the budget of time
    assert {s: v for s, v, _ in network_settings(Size(60, 60_000, 0))}["evaluation.n_seeds"] == 1


def test_the_shortest_of_five_classes_settles_the_windows(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e"]
    tasks = "{t: {classes: {" + ", ".join(f"{name}: [{name}]" for name in names) + "}}}"
    plan = made(tmp_path, people(12, *[(name, 600.0) for name in names[:4]], ("e", 100.0)), tasks=tasks)
    assert plan.values["windows.length_seconds"] == 30.0
    assert because(plan, "windows.length_seconds").endswith(
        "60 s would leave most people 1 window of 'e' that share nothing"
    )
    assert [made.name for made in plan.study.tasks[0].classes] == names
    assert plan.study.tasks[0].classes[4].seconds == 1200.0


def test_one_sensor_alone_and_movement_alone(tmp_path: Path) -> None:
    stages = people(10, ("rest", 600), ("task", 600))
    one = made(tmp_path / "one", stages, sensors={"EDA": ("uS", 4)})
    assert [s.modality for s in one.study.sensors or ()] == ["eda"]
    assert one.values["windows.length_seconds"] == 120.0
    acc = made(tmp_path / "acc", stages, sensors={"acc_x": ("g", 8), "acc_y": ("g", 8), "acc_z": ("g", 8)})
    assert acc.values["windows.length_seconds"] == 60.0
    assert "movement" in because(acc, "windows.length_seconds")


def test_what_moves_is_said_and_what_does_not_is_not(tmp_path: Path) -> None:
    stages = {f"P{i}": [("rest", 300.0), ("task", 300.0)][:: -1 if i % 2 else 1] for i in range(6)}
    still = made(tmp_path / "still", stages)
    assert still.warnings == ()  # the order differs from person to person
    moving = made(tmp_path / "moving", stages, sensors={"EDA": ("uS", 4), "ACC": ("g", 4)})
    assert moving.warnings == (
        "acceleration is measured: what people do with their hands can pass for their state; see 'audit'",
    )


@pytest.mark.parametrize(
    ("n_people", "is_raw", "reason"),
    [
        (59, False, "of 59 people little can be learnt from raw {} that their series and features lack"),
        (60, True, "{} can be read directly"),
    ],
)
def test_eeg_alone_has_windows_of_ten_seconds_and_is_read_raw_where_people_are_many(
    n_people: int, is_raw: bool, reason: str, tmp_path: Path
) -> None:
    eeg = dict.fromkeys(("Fz", "Cz", "Pz", "Oz"), ("uV", 100))
    plan = made(tmp_path, people(n_people, ("rest", 60), ("task", 60)), sensors=eeg)
    assert (plan.values["windows.length_seconds"], plan.values["windows.step_seconds"]) == (10.0, 5.0)
    assert plan.values["tokens.longest_seconds"] == 20.0
    assert plan.values["tokens.raw"] is is_raw
    assert because(plan, "tokens.raw") == reason.format("4 channels of EEG at 100 Hz")


def test_numbers_of_each_trial_need_no_three_windows_of_each(tmp_path: Path) -> None:
    trials = [(f"film{i}", 70.0) for i in range(10)]
    plan = made(tmp_path, people(6, *trials), tasks="{mood: {kind: regression, column: mood}}", columns="mood")
    assert plan.values["windows.length_seconds"] == 60.0
    assert because(plan, "windows.length_seconds").endswith(
        "120 s would leave no window of P01, P02, P03, P04 and 2 more"
    )
    assert plan.study.tasks[0].classes == ()
    assert not plan.study.tasks[0].is_file_label


def test_stretches_of_one_window_are_not_cut_more_often_for_nothing(tmp_path: Path) -> None:
    plan = made(tmp_path, people(4, *[("rest", 10.0), ("task", 10.0)] * 3))
    assert (plan.values["windows.length_seconds"], plan.values["windows.step_seconds"]) == (10.0, 5.0)
    assert because(plan, "windows.step_seconds") == (
        "stretches are hardly longer than a window: most people have 3 windows anyhow"
    )


def test_a_study_without_labels_is_not_described_by_labels(tmp_path: Path) -> None:
    plan = made(tmp_path, people(3, ("rest", 60)), tasks="{}")
    assert because(plan, "windows.length_seconds").endswith("; no labelled stretch says how long they may be")
    assert because(plan, "normalisation.mode") == ("nothing is labelled, and a recording's own past is an honest scale")
    assert "training.n_epochs" not in plan.values


def test_a_rating_and_numbers_have_windows_of_no_class(tmp_path: Path) -> None:
    stages = people(3, ("rest", 300))
    sensors = {"EDA": ("uS", 4.0), "Joy": ("", 4.0)}
    joy = made(tmp_path / "a", stages, tasks="{joy: {kind: regression, signal: Joy}}", sensors=sensors)
    assert because(joy, "windows.step_seconds") == "most people then have at least 19 windows"
    short = people(3, *[("film", 70.0)] * 3)
    numbers = made(tmp_path / "b", short, tasks="{mood: {kind: regression, column: mood}}", columns="mood")
    assert because(numbers, "windows.step_seconds") == (
        "stretches are hardly longer than a window: most people have 3 windows anyhow"
    )


def test_one_person_is_told_what_can_be_done(tmp_path: Path) -> None:
    plan = made(tmp_path, people(1, ("rest", 600), ("task", 600)))
    assert plan.warnings == (
        "task 't': one person has labels, so nobody can be left out; 'cross-validate --split time' scores later "
        "windows by earlier ones, and 'train --subject' makes a model of that person",
    )


def test_a_class_of_one_person_and_people_whom_windows_lose_are_named(tmp_path: Path) -> None:
    who = {**people(9, ("rest", 600)), "P10": [("rest", 600), ("task", 600)]}
    assert made(tmp_path / "a", who).warnings[0] == (
        "task 't': class 'task' is of one person only: left out, nobody has shown it; list its labels under ignore, or "
        "join it to another class"
    )
    # Three seconds of a class are shorter than any window for heart and skin.
    who = {**people(9, ("rest", 600), ("task", 600)), "P10": [("rest", 600), ("task", 3)]}
    plan = made(tmp_path / "b", who)
    assert plan.values["windows.length_seconds"] == 120.0
    assert plan.losses == (
        "windows of 120 s lose class 'task' of task 't' of P10 (1 of 10 people), whose stretches last at most 3 s",
    )


def test_where_most_people_have_no_window_of_a_class_the_step_has_another_reason_than_their_number(
    tmp_path: Path,
) -> None:
    plan = made(tmp_path, {**people(9, ("rest", 600), ("task", 3)), "P10": [("rest", 600), ("task", 300)]})
    assert because(plan, "windows.step_seconds") == (
        "half a window, at most 30 s; most people have no window of 'task' at any step"
    )
    assert not [line for line in plan.lines if " 0 windows" in line.because]


def test_windows_longer_than_every_stretch_are_a_fault(tmp_path: Path) -> None:
    write_study(tmp_path, people(5, ("rest", 300), ("task", 90)))
    plan = plan_of(fingerprint_of_study(load_study(tmp_path)), 120.0)
    assert plan.faults == (
        "windows of 120 s are longer than every labelled stretch of class 'task' of task 't', which last at most 90 s: "
        "none would be cut; set windows.length_seconds below that",
    )
    assert plan_of(fingerprint_of_study(load_study(tmp_path)), 90.0).faults == ()


def test_nothing_is_read_but_the_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of 3 GiB, all but its first lines a hole: read to its end it would be refused, or take minutes."""
    write_study(tmp_path, {"P1": [("rest", 600), ("task", 600)]})
    table = tmp_path / "P1_all.csv"
    n_lines = 1000
    lines = table.read_text().splitlines()[: n_lines + 1]
    table.write_text("\n".join(lines) + "\n")
    with table.open("r+b") as stream:
        stream.truncate(3 << 30)
    monkeypatch.setattr(Signal, "read", lambda *_: pytest.fail("a signal was read"))
    study = load_study(tmp_path)
    fingerprint_of_study(study)  # what is imported for it
    before = _bytes_read()
    made_of = fingerprint_of_study(study)
    assert [s.modality for s in made_of.sensors or ()] == ["eda", "temp"]
    assert _bytes_read() - before < 4 << 20


def test_the_same_study_has_the_same_plan_whatever_came_before_and_it_reads_back(tmp_path: Path) -> None:
    plan = made(tmp_path, people(6, ("rest", 300), ("task", 300)))
    assert plan_of(fingerprint_of_study(load_study(tmp_path))) == plan
    write_result(tmp_path / SettingsPlan.FILE, plan)
    assert document_of(read_result(tmp_path / SettingsPlan.FILE, SettingsPlan)) == document_of(plan)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stress-predict", (120.0, 30.0, "causal", "recording", False)),
        ("noneeg", (60.0, 30.0, "causal", "recording", False)),
        ("eegmat", (10.0, 5.0, "causal", "session", False)),
    ],
)
def test_shared_studies_have_the_windows_and_the_scaling_of_their_presets(
    name: str, expected: tuple[object, ...], reference_data: Path, tmp_path: Path
) -> None:
    from biopercept.studies.datasets.catalogue import DATASETS

    DATASETS[name].write_study(reference_data / name, tmp_path / "study")
    plan = plan_of(fingerprint_of_study(load_study(tmp_path / "study")))
    settings = (
        "windows.length_seconds",
        "windows.step_seconds",
        "normalisation.mode",
        "normalisation.scope",
        "tokens.raw",
    )
    assert tuple(plan.values[setting] for setting in settings) == expected
