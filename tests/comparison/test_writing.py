"""The files of a comparison: read back equal, safe for LaTeX, Markdown and spreadsheets, shown by the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from biopercept.comparison.comparison import compare, write_comparison
from biopercept.errors import StudyError
from biopercept.report.comparison import alike, comparison_figures
from biopercept.report.page import write_report
from biopercept.report.text import latex, markdown
from biopercept.results.comparison import Comparison
from biopercept.results.reading import read_result

pytestmark = pytest.mark.figures


@pytest.fixture
def written(three: Path, tmp_path: Path) -> Path:
    """A folder that ``compare`` wrote."""
    write_comparison(compare([three], n_resamples=2000), tmp_path / "out")
    return tmp_path / "out"


def _read(folder: Path) -> Comparison:
    return read_result(folder / Comparison.FILE, Comparison)


def test_all_files_are_there_and_json_reads_back_equal(three: Path, written: Path) -> None:
    assert {p.name for p in written.iterdir()} == {
        "compare.json", "compare.csv", "compare.md", "compare.tex", "figures",
    }  # fmt: skip
    assert {p.name for p in (written / "figures").iterdir()} == {"critical-difference.svg", "differences.svg"}
    assert _read(written) == compare([three], n_resamples=2000)


def test_no_place_on_this_machine_is_written(three: Path, written: Path) -> None:
    for name in ("compare.json", "compare.csv", "compare.md", "compare.tex"):
        assert str(three.parent) not in (written / name).read_text()


def test_the_table_has_a_row_for_each_pair_with_interval_ends_apart(written: Path) -> None:
    with (written / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    held = _read(written)
    assert [(r["first"], float(r["ci95_low"]), float(r["p_holm"])) for r in rows] == [
        (p.first, p.ci95[0] if p.ci95 else None, p.p_holm) for p in held.pairs
    ]


def test_latex_is_booktabs_with_balanced_groups(written: Path) -> None:
    text = (written / "compare.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert not [line for line in text.splitlines() if "%" in line.replace(r"\%", "") and not line.startswith("%")]


def test_names_from_files_are_letters_and_no_markup(tmp_path: Path, run: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        run(tmp_path / "r" / f"{name}_1&2|$x", [0.5, 0.6, 0.7 if name == "a" else 0.8], model="lstm")
    write_comparison(compare([tmp_path / "r"], n_resamples=2000), tmp_path / "out")
    assert r"a\_1\&2\textbar{}\$x" in (tmp_path / "out" / "compare.tex").read_text()
    assert r"a\_1&2\|\$x" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize("escape", [latex, markdown])
def test_every_special_character_is_escaped(escape: Callable[[str], str]) -> None:
    special = "\\_#$~" + ("&%{}^" if escape is latex else "`*[]<>|!")
    assert all(escape(character) not in (character, "") for character in special)


def test_an_older_comparison_leaves_nothing_behind(three: Path, written: Path) -> None:
    (written / "mine.txt").write_text("mine")
    write_comparison(compare([three / "fair", three / "good"], n_resamples=2000), written)
    assert {p.name for p in (written / "figures").iterdir()} == {"differences.svg"}
    assert (written / "mine.txt").read_text() == "mine"


def test_the_report_shows_findings_tables_and_figures(written: Path, three: Path) -> None:
    page = write_report(written).read_text()
    assert "perceiver-io is better than logistic by 0.102" in page
    assert 'id="comparison-1-critical-difference"' in page and 'id="comparison-1-differences"' in page
    write_comparison(compare([three], n_resamples=2000), three / "compared")
    whole = write_report(three).read_text()
    assert "Which differences are significant" in whole and "Models side by side" in whole


def test_grave_cautions_of_a_comparison_stand_first_on_the_page(three: Path, run: Callable[..., Path]) -> None:
    run(three / "t", [0.9 - 0.01 * i for i in range(20)], model="lda", transductive=True)
    write_comparison(compare([three], n_resamples=2000), three / "compared")
    page = write_report(three / "compared").read_text()
    assert '<li class="grave">Transductive and not: lda' in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 9}, "schema 9"),
        ({"pairs": 3}, "has 3 for 'pairs'; a list "),
        ({"contenders": [{"label": 1}]}, r"has 1 for 'contenders\[1\].label'; text is needed"),
    ],
)
def test_a_damaged_comparison_is_one_sentence(written: Path, change: dict, words: str) -> None:
    document = json.loads((written / "compare.json").read_text())
    (written / "compare.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(StudyError, match=words):
        _read(written)
    del document["findings"]
    (written / "compare.json").write_text(json.dumps(document))
    with pytest.raises(StudyError, match="run compare again"):
        _read(written)


def test_bars_join_only_what_is_not_shown_to_differ() -> None:
    assert alike([1.0, 2.0, 3.0], 0.9) == []
    assert alike([1.0, 1.5, 1.9, 3.0, 3.2], 1.0) == [(0, 2), (3, 4)]
    assert alike([1.0, 1.1, 1.2], 5.0) == [(0, 2)]


def test_equal_comparisons_give_equal_bytes(three: Path) -> None:
    first, second = (comparison_figures(compare([three], n_resamples=2000)) for _ in range(2))
    assert [f.svg for f in first] == [f.svg for f in second]
