"""What the page says beside scores: people, training, features, signals, plan, commands, several studies."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.errors import StudyError
from biopercept.report.drawing import FigureData
from biopercept.report.layout import PictureBudget
from biopercept.report.page import write_report
from biopercept.report.score_figures import training_figure
from biopercept.report.score_sections import score_sections
from biopercept.report.study_sections import people_section
from biopercept.report.text import Table
from biopercept.results.command import add_command
from biopercept.results.cross_validation import CrossValidation, load_cross_validation
from biopercept.results.reading import read_table
from biopercept.results.training import training_courses
from biopercept.store.reading import open_store

pytestmark = pytest.mark.figures
Write = Callable[..., Path]


def text_of(path: Path) -> str:
    page = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.replace("<wbr>", ""))).split())


def csv_of(page: Path, name: str) -> list[list[str]]:
    """Return the cells of the CSV file that a figure carries."""
    [content] = re.findall(f'download="{name}" href="data:text/csv;charset=utf-8;base64,([^"]*)"', page.read_text())
    return list(csv.reader(io.StringIO(base64.b64decode(content).decode())))


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def test_a_csv_file_holds_no_formula_and_no_number_where_none_is_known() -> None:
    data = FigureData(("=x", "n"), (("+1", 0.123456789), ("a,b", float("nan")), ("c", None), ("d", 1234567)))
    assert data.csv.decode() == "'=x,n\n'+1,0.123457\n\"a,b\",\nc,\nd,1234567\n"


def write_log(folder: Path, lines: Sequence[object]) -> Path:
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return folder


def test_losses_of_every_fit_are_in_the_figure_and_its_data(finished: Path) -> None:
    history = [[[1, 2.0, None], [2, 1.5, 0.75]], [[1, 3.0, None]]]
    lines = [{"fold": f"0{n}", "repetition": 0, "seconds": 1.0, "history": h} for n, h in enumerate(history)]
    write_log(finished, [*lines, {"fold": "03", "repetition": 0, "seconds": 1.0, "history": []}])
    rows = csv_of(write_report(finished), "model-training.csv")
    assert rows == [
        ["epoch", "fold 00", "fold 01", "fold 00", "fold 01"],
        ["1", "2", "3", "", ""],
        ["2", "1.5", "", "0.75", ""],
    ]
    assert "2 fits (2 folds)" in text_of(finished / "report.html")


def test_a_model_without_epochs_has_no_training_figure_and_a_damaged_log_is_named(finished: Path) -> None:
    assert training_figure(training_courses(finished), "ridge") is None
    write_log(finished, [{"fold": "1"}])
    with pytest.raises(StudyError, match=r"log\.jsonl is damaged in line 1; run cross-validate again"):
        write_report(finished)


def write_people(folder: Path, rows: Sequence[Sequence[str]], name: str = "alpha") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "study.yaml").write_text(f"name: {name}\n", encoding="utf-8")
    return folder


def people(run: CrossValidation) -> list[tuple[str, ...]]:
    ages = (20, 24, 28, 30, 35, 40, 41, 62)
    rows = [
        (s.participant, str(age), "FM"[age > 29], f"met at gate {age}")
        for s, age in zip(run.subjects, ages, strict=True)
    ]
    return [("participant_id", "age", "sex", "remark"), *rows, ("S99", "99", "F", "never scored")]


def test_participants_are_counted_by_what_the_table_says_of_those_scored(
    tmp_path: Path, write_validation: Write
) -> None:
    folder = write_validation(tmp_path / "out" / "cv", study="alpha")
    write_people(tmp_path / "out" / "study", people(load_cross_validation(folder)))
    text = text_of(write_report(tmp_path / "out"))
    assert "Age: mean 35.0, SD 13.1, 20 to 62 (n = 8)." in text and "Sex: F 3, M 5 (n = 8)." in text
    assert "gate" not in text and "S99" not in text  # free text may name a person


def test_a_table_of_another_study_with_the_same_people_is_not_taken(tmp_path: Path, write_validation: Write) -> None:
    folder = write_validation(tmp_path / "out" / "cv", study="alpha")
    write_people(tmp_path / "out" / "study", people(load_cross_validation(folder)), name="beta")
    assert "Age: " not in text_of(write_report(tmp_path / "out"))


def test_minutes_that_windows_share_count_once(finished: Path) -> None:
    run = load_cross_validation(finished)
    [table] = people_section(run, None, ("", "")).tables
    starts = np.array([30.0 * place + 120.0 * (place // 6) for place in range(24)])  # windows of 60 s, six a stage
    covered = {label: len(starts[place::2]) for place, label in enumerate(run.classes)}
    assert column(table, "rest: windows") == [str(covered["rest"])] * 8
    assert column(table, "rest: min") == ["7.0"] * 8  # two stages of 5 * 30 + 60 s


def test_every_model_is_shown_in_detail(demo: Path) -> None:
    text = text_of(write_report(demo))
    for model in ("perceiver-io", "logistic", "clock-only (probe)"):
        assert f"{model} in detail" in text
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert 'id="model-2-reliability"' in page and 'id="model-3-subjects"' in page
    assert 'id="model-3-reliability"' not in page  # of a probe the subjects are enough


def test_pictures_that_would_make_the_page_too_large_are_left_out_and_named(finished: Path) -> None:
    run = load_cross_validation(finished)
    full = [s for s in score_sections([run], "", "", PictureBudget(10**9)) if s.anchor == "model"]
    bare = [s for s in score_sections([run], "", "", PictureBudget(1000)) if s.anchor == "model"]
    assert len(full[0].figures) == 3 and full[0].lead == ()
    assert bare[0].figures == () and bare[0].tables == full[0].tables
    assert (
        bare[0]
        .lead[0]
        .startswith("3 figures left out, as this page would be too large with more: see perceiver/figures")
    )


def test_a_page_stays_small_however_many_studies_there_are(tmp_path: Path, write_validation: Write) -> None:
    for number in range(6):
        write_validation(tmp_path / f"s{number}", study=f"study{number}", fingerprint={"store": str(number) * 64})
    assert write_report(tmp_path).stat().st_size < 3_500_000


def test_several_studies_begin_with_one_table_of_their_scores(tmp_path: Path, write_validation: Write) -> None:
    for study, model, skill in (("alpha", "ridge", 2.0), ("alpha", "dummy", 0.0), ("beta", "ridge", 0.5)):
        write_validation(
            tmp_path / study / model, study=study, model=model, skill=skill, fingerprint={"store": study * 10}
        )
    page = write_report(tmp_path)
    text, runs = text_of(page), [load_cross_validation(tmp_path / s / "ridge") for s in ("alpha", "beta")]
    means = [f"{run.balanced_accuracy.mean:.3f}" for run in runs]
    assert text.index("Studies side by side") < text.index("Key numbers: alpha", text.index("Read this first"))
    assert re.search(rf"alpha stress 8 192 0\.500 {means[0]} \[.*?beta stress 8 192 0\.500 {means[1]} \[", text)
    assert page.read_text().index("Methods: alpha</h2>") < page.read_text().index("Key numbers: beta</h2>")
    contents = page.read_text().partition('<nav aria-label="Contents"')[2].partition("</nav>")[0]
    assert re.findall(r"<b>(.*)</b>", contents) == ["alpha", "beta"]
    before, *groups = contents.split("<b>")
    assert '">Studies side by side</a>' in before and 'class="grouped"' not in before
    for group in groups:
        assert re.findall(r'class="grouped">(.*)</a>', group)[0] == "Key numbers" and ">Methods</a>" in group


def test_one_study_has_no_such_table(demo: Path) -> None:
    page = write_report(demo)
    assert "Studies side by side" not in text_of(page)
    assert 'class="grouped"' not in page.read_text(encoding="utf-8")


def test_the_commands_stand_on_the_page_and_where_none_was_written_it_says_so(demo: Path) -> None:
    add_command(demo / "cross-validation" / "logistic", ("biopercept", "cross-validate", "a b.h5"), is_first=True)
    text = text_of(write_report(demo))
    assert "cross-validation/logistic biopercept cross-validate 'a b.h5'" in text
    assert "cross-validation/perceiver-io not written down: made from Python, or by an older version" in text


@pytest.fixture
def scored(made: ModuleType, tmp_path: Path, write_validation: Write) -> Path:
    """A folder with a store, and scores that say that they are of it."""
    folder = tmp_path / "out"
    folder.mkdir()
    names = tuple(f"S{n}" for n in range(6))
    path = made.store(folder / "made.h5", [made.recording(name, seed=1, effect=2.0) for name in names])
    with open_store(path) as store:
        fingerprint = store.fingerprint()
        keys = [(r.subject, r.session, r.recording) for r in store.recordings]
    assert keys[0] == ("S0", "", "protocol")
    cv = write_validation(folder / "cv", subjects=names, fingerprint={"store": fingerprint}, study="made")
    table = (cv / "predictions.csv").read_text().replace("run1", "protocol")
    (cv / "predictions.csv").write_text(table)
    return folder


def test_features_and_signals_come_from_the_store_that_was_scored(scored: Path) -> None:
    page = write_report(scored)
    text, rows = text_of(page), csv_of(page, "features-effects.csv")
    assert "labelled windows of 6 people" in text and "none can be below" in text
    assert rows[0][:5] == ["feature", "unit", "first", "second", "people"]
    assert {row[0] for row in rows[1:]} <= {"heart/hr_mean", "eda/scl_mean", "eda/phasic_sd"}
    assert float(rows[1][8]) > 1  # the planted effect
    signals = csv_of(page, "signals-signals.csv")
    assert signals[0][:3] == ["time (min)", "EDA (a.u.) lowest", "EDA (a.u.) highest"]
    assert signals[0][-1] == "probability of stress"
    assert all(float(row[1]) <= float(row[2]) for row in signals[1:] if row[1])


def test_the_envelope_of_a_signal_is_its_lowest_and_highest_value(scored: Path) -> None:
    rows = csv_of(write_report(scored), "signals-signals.csv")
    run = load_cross_validation(scored / "cv")
    half = np.median([s.balanced_accuracy or 0.0 for s in run.subjects])
    nearest = min(run.subjects, key=lambda s: (abs((s.balanced_accuracy or 0.0) - half), s.balanced_accuracy or 0.0))
    with open_store(scored / "made.h5") as store:
        [recording] = [r for r in store.recordings if r.subject == nearest.participant]
        samples, _ = recording.read("EDA")
    low, high = (np.array([float(row[place]) for row in rows[1:]]) for place in (1, 2))
    assert low.min() == pytest.approx(samples.min(), rel=1e-5)
    assert high.max() == pytest.approx(samples.max(), rel=1e-5)


def test_a_store_that_was_not_scored_says_nothing(scored: Path, made: ModuleType) -> None:
    (scored / "made.h5").unlink()
    made.store(scored / "made.h5", [made.recording(f"S{n}", seed=7, effect=2.0) for n in range(6)])
    text = text_of(write_report(scored))
    assert "Features by condition" not in text and "Signals with predictions" not in text


def test_a_store_that_lies_elsewhere_is_given(scored: Path, tmp_path: Path) -> None:
    (scored / "made.h5").rename(tmp_path / "elsewhere.h5")
    assert "Features by condition" not in text_of(write_report(scored))
    assert "Features by condition" in text_of(write_report(scored, beside=[tmp_path / "elsewhere.h5"]))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(StudyError, match="is no store"):
        write_report(scored, beside=[tmp_path / "nothing"])


def test_hostile_names_in_participants_are_text(tmp_path: Path, write_validation: Write) -> None:
    folder = write_validation(tmp_path / "out" / "cv", study="alpha")
    rows = people(load_cross_validation(folder))
    rows = [(rows[0][0], "<i>age", *rows[0][2:]), *((a, b, f"<b>{c}", d) for a, b, c, d in rows[1:])]
    write_people(tmp_path / "out" / "study", rows)
    page = write_report(tmp_path / "out").read_text(encoding="utf-8")
    assert "<i>age" not in page and "<b>F" not in page and "&lt;b&gt;F" in page


def test_a_table_of_participants_need_not_name_more_than_the_scored(tmp_path: Path, write_validation: Write) -> None:
    run = load_cross_validation(write_validation(tmp_path / "cv"))
    write_people(tmp_path, people(run))
    table = read_table(tmp_path / "participants.tsv")
    lead = people_section(replace(run, subjects=run.subjects), table, ("", "")).lead
    assert any(words.startswith("Age: ") for words in lead)
