"""The page: every figure and number is there, data is text, nothing comes from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from biopercept.errors import OutputError
from biopercept.report.page import write_report
from biopercept.results.cross_validation import load_validation

pytestmark = pytest.mark.figures

TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "p",
    "h1",
    "h2",
    "nav",
    "a",
    "main",
    "section",
    "ul",
    "li",
    "dl",
    "div",
    "dt",
    "dd",
    "figure",
    "img",
    "figcaption",
    "b",
    "table",
    "caption",
    "thead",
    "tr",
    "th",
    "tbody",
    "td",
    "details",
    "summary",
    "pre",
    "footer",
    "wbr",
    "script",
    "span",
}
VOID = {"meta", "img", "wbr"}


class Page(HTMLParser):
    """What a browser would make of the page: tags, attributes, text; and whether tags are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "wbr":
            self.words.append("\0")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace(" \0 ", "").split())

    def figures(self) -> list[str]:
        return [str(attrs["id"]) for tag, attrs in self.tags if tag == "figure"]


def images(page: Page) -> list[str]:
    sources = [str(attrs["src"]) for tag, attrs in page.tags if tag == "img"]
    head = "data:image/svg+xml;base64,"
    assert all(source.startswith(head) for source in sources)
    return [base64.b64decode(source[len(head) :]).decode("utf-8") for source in sources]


def test_the_page_of_a_demo_holds_every_figure_and_number(demo: Path) -> None:
    page = Page(write_report(demo))
    assert page.figures() == [
        "scores-models", "data-data-overview", "data-quality", "model-subjects", "model-confusion", "model-reliability",
        "timelines-timeline-worst", "timelines-timeline-median", "timelines-timeline-best",
        "model-2-subjects", "model-2-confusion", "model-2-reliability", "model-3-subjects",
        "predictions-1-timeline-1", "predictions-1-timeline-2", "preparation-missing-data",
    ]  # fmt: skip
    assert all(svg.startswith("<?xml") and svg.rstrip().endswith("</svg>") for svg in images(page))
    for words in (
        "3 cross-validations, 2 predicted recordings, 8 prepared recordings",
        "n = 8 subjects",
        "0.803", "0.760 to 0.840", "pooled 0.792", "0.701 [0.660, 0.740]",  # AUROC and macro-F1
        "Chance: majority (accuracy)", "0.690", "0.499",
        "0.183", "0.046",  # Brier score and calibration error
        "leave one subject out", "causal", "250,000", "13.5 min", "ab" * 32, "2.13.0",
        "60 s, one every 30 s", "2,000 resamples", "never at the held-out ones",
        "unlabelled: 41, too short: 7", "broken.edf is empty", "the file is empty",
    ):  # fmt: skip
        assert words in page.text, words


def test_warnings_come_before_the_numbers_and_name_the_clock(demo: Path) -> None:
    text = Page(write_report(demo)).text
    caution = text.index("The probe clock-only reaches a balanced accuracy of")
    assert text.rindex("Read this first") < caution < text.rindex("Key numbers")


def test_hostile_ids_are_text_in_the_page_and_in_every_figure(hostile_demo: Path) -> None:
    path = write_report(hostile_demo)
    raw, page = path.read_text(encoding="utf-8"), Page(path)
    assert {tag for tag, _ in page.tags} <= TAGS
    for shown in (
        "<script>alert(1)</script>",
        "=1+1",
        "[bold]x[/bold]",
        r"$\zzz$",
        r"a\x1b[31mb",
        r"r\u202etxt",
        "{{7*7}} %s {0}",
        "_x",
    ):
        assert shown in page.text, shown
    assert "\x1b" not in raw and "\u202e" not in raw and "<script>alert" not in raw and " 49 %s" not in raw
    drawn = "".join(images(page))
    assert "<script" not in drawn and "\x1b" not in drawn and "\u202e" not in drawn
    assert r"$\zzz$" in drawn and "=1+1" in drawn and "_x" in drawn


def test_hostile_model_task_and_class_names_are_text(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    classes = ("_a</style><script>", r"$\frac$", "\"'><img src=x onerror=y>")
    folder = write_validation(
        tmp_path / "out", classes=classes, model="<b>m</b>", task="{{ 1 }}<i>", split="&lt;x", warnings=["<u>w</u>"],
        fingerprint={"<k>": "<v>"}, n_windows_left_out={"<r>": 3}, scores_by_class={classes[0]: {"<f>": 0.5}},
    )  # fmt: skip
    page = Page(write_report(folder))
    assert {tag for tag, _ in page.tags} <= TAGS
    assert all("onerror" not in attrs for _, attrs in page.tags)
    for shown in (*classes, "<b>m</b>", "{{ 1 }}<i>", "&lt;x", "<u>w</u>", "<k>", "<v>", "<r>"):
        assert shown in page.text, shown
    assert "<script" not in "".join(images(page))


def test_the_page_loads_nothing_and_runs_its_own_scripts_alone(demo: Path) -> None:
    path = write_report(demo)
    page = Page(path)
    rules = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    hashes = {
        tag: [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(f"<{tag}>(.*?)</{tag}>", path.read_text(encoding="utf-8"), re.DOTALL)
        ]
        for tag in ("script", "style")
    }
    assert len(hashes["script"]) >= 2
    assert rules == [
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; "
        "img-src data:"
    ]
    visible = re.sub(r'src="data:image/svg\+xml;base64,[^"]*"', "", path.read_text(encoding="utf-8"))
    visible = re.sub(r"'sha256-[^']*'|<script>.*?</script>", "", visible, flags=re.DOTALL)
    assert not re.search(r"https?://|//[a-z]|javascript:|@import|url\(", visible, re.IGNORECASE)
    addresses = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and "href" in attrs]
    assert all(address.startswith(("#", "data:text/csv;")) for address in addresses)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_links_of_the_contents_lead_to_sections(demo: Path) -> None:
    page = Page(write_report(demo))
    anchors = [str(attrs["id"]) for _, attrs in page.tags if "id" in attrs]
    assert len(set(anchors)) == len(anchors)
    addresses = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and "href" in attrs]
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(anchors)


def test_the_same_results_give_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    first, second = write_report(demo, tmp_path / "a.html"), write_report(demo, tmp_path / "b.html")
    assert first.read_bytes() == second.read_bytes()


def test_the_page_carries_no_folder_of_the_machine(
    tmp_path: Path, write_validation: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/jane.doe")
    folder = write_validation(tmp_path / "out", warnings=["/home/jane.doe/study is odd"])
    text = write_report(folder).read_text(encoding="utf-8")
    assert "jane.doe" not in text and "~/study is odd" in text and str(tmp_path) not in text


def test_two_tasks_in_one_folder_are_told_apart(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    write_validation(tmp_path / "a", task="stress")
    write_validation(tmp_path / "b", task="workload", fingerprint={"store": "cd" * 32})
    page = Page(write_report(tmp_path))
    assert "Key numbers: stress" in page.text and "Key numbers: workload" in page.text
    assert "scores-models" not in page.figures()


def headings(page: Path) -> list[str]:
    return [re.sub("<[^>]*>", "", text) for text in re.findall("<h2[^>]*>(.*?)</h2>", page.read_text(encoding="utf-8"))]


def test_headings_of_several_studies_carry_the_study_and_none_stands_twice(
    tmp_path: Path, write_validation: Callable[..., Path]
) -> None:
    for place, study in enumerate(("alpha", "beta_two", "beta_two")):
        write_validation(tmp_path / str(place), study=study, fingerprint={"store": str(place) * 64})
    titles = headings(write_report(tmp_path))
    assert len(titles) == len(set(titles))
    assert {"Key numbers: alpha (0)", "Methods: beta_two (1)", "Methods: beta_two (2)"} <= set(titles)


def test_a_title_replaces_the_name_of_the_folder(finished: Path) -> None:
    text = write_report(finished, title="Stress at <work>_1").read_text(encoding="utf-8")
    assert "<h1>Stress at &lt;work&gt;_<wbr>1</h1>" in text
    assert "<title>Stress at &lt;work&gt;_1 - biopercept</title>" in text
    assert "perceiver: 1 cross-validation" in text


def test_the_middle_subject_is_not_called_the_median(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    page = Page(write_report(write_validation(tmp_path / "out")))
    run = load_validation(tmp_path / "out")
    half = statistics.median(s.balanced_accuracy for s in run.subjects)
    nearest = min(run.subjects, key=lambda s: abs(s.balanced_accuracy - half))
    words = f"Nearest to the median of {half:.3f} by balanced accuracy: {nearest.participant} ("
    assert words in page.text and "Median subject" not in page.text


def test_a_folder_of_predictions_alone_has_a_page(tmp_path: Path, write_prediction_folder: Callable[..., Path]) -> None:
    page = Page(write_report(write_prediction_folder(tmp_path / "predicted")))
    assert page.figures() == ["predictions-1-timeline-1", "predictions-1-timeline-2"]
    assert "2 recordings with 60 windows, 2 withheld" in page.text


def test_a_page_of_predictions_names_the_model_and_says_first_what_was_remarked(
    tmp_path: Path, write_prediction_folder: Callable[..., Path]
) -> None:
    folder = write_prediction_folder(tmp_path / "predicted")
    for number, path in enumerate(sorted(folder.glob("*_predictions.json"))):
        about = json.loads(path.read_text()) | {
            "model": "calm<b>",
            "remarks": ["one; two", "ECG is unlike"][: 2 - number],
        }
        path.write_text(json.dumps(about))
    text = Page(write_report(folder)).text
    first = text.split("Read this first")[-1].partition("New recordings")[0]
    assert "predicted: 2 of 2 recordings: one; two." in first and "1 of 2 recordings: ECG is unlike." in first
    assert "its card says (calm<b>)" in first
    assert "By the model calm<b>: 2 recordings with 60 windows" in text


def test_an_output_that_is_a_folder_is_refused(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder; give the name of a file that ends in \.html"):
        write_report(demo, tmp_path)


def test_a_link_of_that_name_is_replaced_and_not_followed(demo: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (demo / "report.html").symlink_to(outside)
    write_report(demo)
    assert outside.read_text() == "mine" and not (demo / "report.html").is_symlink()
