"""What a page says: numbers equal those of the files, warnings stand where they should, text of a study stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopercept.measures.quality import RatedSignal, RecordingQuality
from biopercept.preprocessing.quality import SignalQuality
from biopercept.report.audit import audit_page, audit_table
from biopercept.report.curves import learning_page, learning_table
from biopercept.report.explanation import _number
from biopercept.report.page import _remarks, _summary_table, audit_section
from biopercept.report.recording_quality import quality_page
from biopercept.report.scores import (
    group_tables,
    methods_text,
    number_table,
    score_table,
    sensor_table,
    subject_table,
    trust_sentences,
)
from biopercept.report.timelines import title_of
from biopercept.report.warnings import warnings_of
from biopercept.results.audit import Audit, Finding, Skipped, Verdict
from biopercept.results.cross_validation import (
    Calibrated,
    ClassScore,
    CrossValidation,
    MissingSensors,
    NumberScore,
    NumberValidation,
    PooledErrors,
    SensorSubset,
    SubjectScore,
)
from biopercept.results.curves import LearningCurve, LearningPoint
from biopercept.results.folder import Results
from biopercept.results.groups import Groups, GroupScore
from biopercept.results.reading import CountedEstimate, Estimate, ResultTable

HOSTILE = "a|b <script>x</script> *c* _d_ [e](f) `g`\n# h"
RUN: dict[str, Any] = {
    "task": "stress", "split": "subject", "n_subjects": 20, "n_windows": 400, "n_folds": 20, "normalisation": "causal",
    "fingerprint": {"store": "ab"},
}  # fmt: skip


def subjects(n: int, accuracy: float = 0.7) -> tuple[SubjectScore, ...]:
    names = [f"S{number:02d}" for number in range(n)]
    return tuple(SubjectScore(participant=name, n_windows=20, balanced_accuracy=accuracy) for name in names)


def classes(model: str = "perceiver-io", mean: float = 0.7, n: int = 20, **changes: Any) -> CrossValidation:
    score = ClassScore(mean=mean, ci95=(mean - 0.05, mean + 0.05), sd=0.1)
    values = {**RUN, "n_subjects": n, "classes": ("rest", "stress"), "balanced_accuracy": score, **changes}
    return CrossValidation(model=model, name=model, subjects=subjects(n), **values)


def numbers(
    model: str = "ridge", mae: float = 4.0, r2: tuple[float, float] = (0.1, 0.3), **more: Any
) -> NumberValidation:
    error = NumberScore(mean=mae, ci95=(mae - 1, mae + 1), worst=9.5, pooled=mae + 0.25, pooled_ci95=(mae, mae + 0.5))
    explained = NumberScore(mean=0.1, pooled=0.2, pooled_ci95=r2)
    return NumberValidation(
        **{**RUN, "task": "load"}, kind="regression", model=model, column="load",
        mae=error, ccc=explained, r2=explained, **more,
    )  # fmt: skip


def sentences(**kinds: Any) -> dict[str, bool]:
    return {warning.text: warning.is_grave for warning in warnings_of(Results(name="made", **kinds))}


def cells(table: Any, row: int = 0) -> dict[str, str]:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_a_score_stands_in_its_table_with_its_interval_its_number_of_subjects_and_windows() -> None:
    row = cells(score_table([classes(mean=0.7119, chance={"majority": 0.6, "dummy": 0.499})]))
    assert row["Balanced accuracy"] == "0.712 [0.662, 0.762]"
    assert (row["Subjects"], row["Windows"], row["Split"]) == ("20", "400", "leave one subject out")
    assert (row["Chance: majority (accuracy)"], row["Chance: class fractions"]) == ("0.600", "0.499")
    assert row["AUROC per subject"] == "n/a"  # not in the file


def test_subjects_stand_lowest_first_and_who_has_no_score_last() -> None:
    rows = (
        SubjectScore(participant="B", n_windows=12, balanced_accuracy=0.9, brier=0.1),
        SubjectScore(participant="none", n_windows=3, balanced_accuracy=None, brier=0.2),
        SubjectScore(participant="A", n_windows=1200, balanced_accuracy=0.41237),
    )
    table = subject_table(replace(classes(), subjects=rows))
    assert [row[0] for row in table.rows] == ["A", "B", "none"]
    assert cells(table)["Balanced accuracy"] == "0.412" and cells(table)["Windows"] == "1,200"
    assert cells(table, 2)["Balanced accuracy"] == "n/a" and cells(table, 2)["Brier score"] == "0.200"


def test_numbers_have_the_unit_of_their_column_and_pooled_scores_their_own_intervals() -> None:
    row = cells(number_table([numbers()]))
    assert row["Task"] == "load, in units of load"
    assert row["Mean absolute error"] == "4.000 [3.000, 5.000]" and row["Error, pooled"] == "4.250 [4.000, 4.500]"
    assert row["R2 pooled"] == "0.200 [0.100, 0.300]" and row["Worst subject (error)"] == "9.500"


def test_fewer_sensors_are_compared_with_all_and_all_with_nothing() -> None:
    score, loss = CountedEstimate(mean=0.7, ci95=(0.6, 0.8), n_subjects=18), CountedEstimate(mean=-0.05, n_subjects=18)
    subsets = tuple(
        SensorSubset(sensors=name, n_windows=n, balanced_accuracy=score, auroc=score, difference=loss)
        for name, n in (("all", 400), ("without eda", 1390))
    )
    table = sensor_table(classes(missing_sensors=MissingSensors(subsets=subsets)))
    assert table is not None and table.title.endswith("2 sets of sensors")
    assert cells(table)["Against all, paired"] == "" and cells(table, 1)["Against all, paired"] == "-0.050"
    assert (cells(table, 1)["Subjects"], cells(table, 1)["Windows"]) == ("18", "1,390")
    assert sensor_table(classes()) is None


def test_what_calibration_changed_is_said_with_both_errors_and_nothing_is_said_without_it() -> None:
    before = Calibrated(
        method="temperature", learnt_from="validation subjects", uncalibrated=PooledErrors(brier=0.2, ece=0.1)
    )
    [sentence] = trust_sentences(classes(calibration=before))
    assert "(temperature), learnt from validation subjects" in sentence
    assert "the Brier score was 0.200 and the calibration error 0.100" in sentence
    assert trust_sentences(classes()) == ()


@pytest.mark.parametrize(("error", "is_said"), [(0.038, True), (0.044, False), (0.09, False)])
def test_a_calibration_error_below_its_own_interval_says_why(error: float, is_said: bool) -> None:
    run = classes(window_seconds=60.0, brier=0.2, brier_ci95=(0.1, 0.3), ece=error, ece_ci95=(0.044, 0.103))
    why = "The calibration error lies below its interval because drawing people again raises it"
    assert any(why in sentence for sentence in trust_sentences(run)) is is_said
    assert any(why in sentence for sentence in methods_text(run)) is is_said
    groups = Groups(
        task="t", positive=None, n_bootstrap=1000, n_permutations=1000, seed=0, least_people=5, differences=(),
        scores=(GroupScore(column="sex", group="f", n_subjects=5, n_windows=50, score="ece", n_defined=5, value=error,
                           ci95=(0.044, 0.103)),),
    )  # fmt: skip
    assert ("a calibration error lies below its interval" in group_tables(groups)[0].title) is is_said


@pytest.mark.parametrize(("n", "is_warned"), [(19, True), (20, False)])
def test_few_subjects_are_warned_of_and_enough_are_not(n: int, is_warned: bool) -> None:
    for kinds in ({"cross_validations": (classes(n=n),)}, {"number_validations": (numbers(),)}):
        if "number_validations" in kinds:
            kinds = {"number_validations": (replace(kinds["number_validations"][0], n_subjects=n),)}
        assert any(text.startswith(f"Only {n} subjects: ") for text in sentences(**kinds)) == is_warned


def test_a_warning_of_the_file_is_not_said_a_second_time_in_other_words() -> None:
    own = "only 9 subjects: intervals are rough and small differences mean nothing"
    assert list(sentences(cross_validations=(classes(n=9, warnings=(own,)),))) == [f"O{own[1:]} (perceiver-io)."]


def test_a_model_is_compared_with_guessing_and_with_the_clock_of_its_own_data_alone() -> None:
    weak, clock = classes(mean=0.54), classes("clock-only", mean=0.9)
    assert sentences(cross_validations=(classes(), replace(clock, fingerprint={"store": "other"}))) == {}
    found = sentences(cross_validations=(weak, clock))
    [better, guessing] = found
    assert better.startswith("perceiver-io is not shown") or better.startswith("The probe clock-only reaches")
    assert all(found.values()) and "0.540 [0.490, 0.590]" in better + guessing
    assert sentences(cross_validations=(classes(), classes("dummy", mean=0.5))) == {}


def test_numbers_no_better_than_their_mean_or_than_a_probe_are_said_to_be() -> None:
    assert sentences(number_validations=(numbers(),)) == {}
    [no_better] = sentences(number_validations=(numbers(r2=(-0.1, 0.3)),)).items()
    assert no_better == (
        "ridge is not shown to predict load better than one number for everybody: its pooled R2 is "
        "0.200 [-0.100, 0.300].", True,
    )  # fmt: skip
    [beaten] = sentences(number_validations=(numbers(), numbers("clock-only", mae=3.5)))
    assert beaten.startswith("The probe clock-only errs by 3.500 [2.500, 4.500] in load where ridge errs by 4.000")
    assert "the probe is of" not in beaten
    of_folds = replace(numbers("clock-only", mae=3.5), split="k-fold", n_folds=5)
    [apart] = sentences(number_validations=(numbers(), of_folds))
    assert apart.endswith(
        "(the probe is of k-fold over subjects, 5 folds; the scores beside it are of leave one subject out, 20 folds)."
    )
    assert sentences(number_validations=(numbers(), numbers("clock-only", mae=4.5))) == {}


def test_a_summary_of_predictions_leaves_zeros_and_long_remarks_out_of_its_table(tmp_path: Path) -> None:
    columns = ("participant_id", "session", "recording", "windows", "share_at_rest", "unlike", "fitted_on", "remarks")
    rows = (("S1", "", "S1", "9", "0.73831", "0.0", "samples", "seen"), ("S2", "", "r", "7", "1.0", "0.0", "", ""))
    table = _summary_table(ResultTable(tmp_path / "summary.csv", columns, rows))
    assert table.columns == ("Subject", "Recording", "Windows", "Windows predicted at rest, share")
    assert table.rows == (("S1", "S1", "9", "0.738"), ("S2", "r", "7", "1.000"))
    assert _remarks(ResultTable(tmp_path / "summary.csv", columns, rows)) == "S1: seen"
    odd = (*rows, ("S3", "", "r", "7", "1.0", "0.2", "", ""))
    assert "Unlike" in _summary_table(ResultTable(tmp_path / "summary.csv", columns, odd)).columns


def test_a_recording_called_as_its_subject_is_named_once() -> None:
    assert (title_of(("S31", "", "S31")), title_of(("S1", "2", "rest"))) == ("S31", "S1, 2, rest")


@pytest.mark.parametrize(
    ("mean", "ends", "words"),
    [(-0.375, (-0.69, -0.0595), "-0.375 [-0.690, -0.059]"), (1.0, (0.758, 1.25), "1.00 [0.76, 1.25]"),
     (0.0, (0.0, 0.0), "0.000 [0.000, 0.000]"), (412.3, None, "412")],
)  # fmt: skip
def test_a_number_and_its_interval_have_the_same_decimals(
    mean: float, ends: tuple[float, float] | None, words: str
) -> None:
    assert _number(Estimate(mean=mean, ci95=ends)) == words


def audit(*findings: Finding, **changes: Any) -> Audit:
    values = {
        "verdict": "ok", "counts": {}, "task": "stress", "classes": ("rest", "stress"), "model": None,
        "normalisation": "causal", "n_subjects": 20, "n_windows": 1400, "n_folds": 5, "seed": 0, "skipped": (),
        "warnings": (), "settings": {}, "fingerprint": {},
    }  # fmt: skip
    return Audit(findings=findings, **{**values, **changes})


def finding(verdict: Verdict, probe: str = "clock-only") -> Finding:
    return Finding(
        probe=probe, subject_matter="design", verdict=verdict, sentence="It is 0.9.", score=0.9, ci95=(0.8, 1)
    )


def test_a_leak_is_grave_a_warning_is_not_and_ok_is_not_warned_of() -> None:
    audits = (audit(finding("leak"), finding("warning", "motion-only"), finding("ok", "quality-only")),)
    assert sentences(audits=audits) == {
        "Audit, clock-only: It is 0.9.": True,
        "Audit, motion-only: It is 0.9.": False,
    }
    assert [row[:3] for row in audit_table(audits[0]).rows] == [
        ("clock-only", "leak", "0.900 [0.800, 1.000]"),
        ("motion-only", "warning", "0.900 [0.800, 1.000]"),
        ("quality-only", "ok", "0.900 [0.800, 1.000]"),
    ]


def test_a_probe_and_an_audit_of_another_split_than_the_scores_say_each_its_own() -> None:
    both = "k-fold over subjects, 5 folds; the scores beside it are of leave one subject out, 20 folds"
    one, alike = audit(finding("warning"), fingerprint={"store": "ab"}), classes(split="k-fold", n_folds=5)
    assert f"Audit, clock-only: It is 0.9. (The probe is of {both}.)" not in sentences(audits=(one,))
    with_chance = replace(one, findings=(replace(one.findings[0], chance=0.5),))
    assert f"Audit, clock-only: It is 0.9. (The probe is of {both}.)" in sentences(
        audits=(with_chance,), cross_validations=(classes(),)
    )
    assert "Audit, clock-only: It is 0.9." in sentences(audits=(with_chance,), cross_validations=(alike,))
    assert audit_section(one, 1, [classes()]).lead[0].endswith(f"Where a probe has a score, it is of {both}.")
    assert both not in audit_section(one, 1, [alike]).lead[0]

    clock = classes("clock-only", mean=0.75, split="k-fold", n_folds=5)
    [beaten] = [words for words in sentences(cross_validations=(classes(), clock)) if "clock-only reaches" in words]
    assert beaten.endswith(f"may be using it (the probe is of {both}).")
    same = replace(clock, split="subject", n_folds=20)
    [beaten] = [words for words in sentences(cross_validations=(classes(), same)) if "clock-only reaches" in words]
    assert beaten.endswith("may be using it.")


def point(**changes: Any) -> LearningPoint:
    values = {"share": 0.5, "subjects_labelled": (3, 4), "task": "stress", "score": "balanced_accuracy"}
    return LearningPoint(**{**values, "mean": 0.7, "ci95": (0.65, 0.75), **changes})


def test_a_curve_warns_of_what_its_own_cross_validations_do_not_say() -> None:
    curve = LearningCurve(model="logistic", points=(point(),), warnings=("LEAK: seen", "UNCHECKED: b"), name="curve")
    assert sentences(learning_curves=(curve,)) == {"LEAK: seen (curve).": True, "UNCHECKED: b (curve).": True}
    scored = classes("logistic", warnings=("LEAK: seen",))
    assert "LEAK: seen (curve)." not in sentences(learning_curves=(curve,), cross_validations=(scored,))


def test_the_markdown_of_a_curve_holds_the_numbers_of_its_table() -> None:
    curve = LearningCurve(model="logistic", points=(point(), point(share=1.0, mean=None, ci95=None)), warnings=())
    page = learning_page(curve)
    for row in learning_table(curve).rows:
        assert f"| {' | '.join(row)} |".replace("[", "\\[").replace("]", "\\]") in page
    assert "0.700 \\[0.650, 0.750\\]" in page and page.count("n/a") == 1


def _columns(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


@pytest.mark.parametrize("page", ["curve", "audit"])
def test_hostile_text_is_text_in_markdown_and_cannot_break_a_table(page: str) -> None:
    if page == "curve":
        text = learning_page(LearningCurve(model=HOSTILE, points=(point(task=HOSTILE),), warnings=(HOSTILE,)))
    else:
        row = replace(finding("leak"), probe=HOSTILE, sentence=HOSTILE, score_name=HOSTILE)
        skipped = (Skipped(probe=HOSTILE, reason=HOSTILE),)
        text = audit_page(audit(row, task=HOSTILE, classes=(HOSTILE, "b"), skipped=skipped))
    assert not re.search(r"(?<!\\)<script|(?<!\\)\*c|(?<!\\)`g|\n# h", text)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) >= 3 and len({_columns(line) for line in table}) == 1


def test_an_audit_without_a_finding_has_a_page_and_an_empty_table() -> None:
    assert audit_table(audit()).rows == ()
    page = audit_page(audit(n_windows=1234))
    assert "20 subjects, 1,234 windows" in page and "## leak" not in page and "Not looked at" not in page


def test_not_a_number_is_never_shown_as_one() -> None:
    row = cells(score_table([classes(brier=float("nan"), ece=float(np.inf))]))
    assert (row["Brier score"], row["Calibration error"]) == ("n/a", "n/a")


def test_the_table_of_quality_names_first_what_lowers_the_index_most() -> None:
    """Motion that is often there and does little is not what spoils a sensor."""
    index = np.array([[0.95, 0.95, 0.95, 0.0, 1.0]])
    shares = {
        "motion": np.array([[1.0, 1.0, 1.0, 0.0, 0.0]]),
        "noise": np.array([[0.0, 0.0, 0.0, 0.0, 1.0]]),
        "spike": np.array([[0.0, 0.0, 0.0, 1.0, 0.0]]),
    }
    signal = RatedSignal("EDA", "eda", ("EDA",), SignalQuality(index, shares, np.ones((1, 5))))
    assert signal.reasons() == ("spike", "motion")  # noise is where nothing is lost
    page = quality_page("made", [RecordingQuality("S01", "", "r", (signal,))], [])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert [cell for cell in cells if "(spike)" in cell] and "spike 20, motion 60" in cells
    assert signal.sensor().reason == "spike"
