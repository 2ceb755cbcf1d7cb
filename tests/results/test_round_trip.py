"""Every class of result survives write, read, write byte for byte; what is wrong in a file is named with its place."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest

import biopercept.results
from biopercept.errors import StudyError
from biopercept.results.audit import Audit
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import NumberSubjectScore, SubjectScore
from biopercept.results.curves import GENERAL, LearningCurve, PersonalCurve, PersonalPoint
from biopercept.results.reading import document_of, read_result, read_rows, write_result, write_rows
from biopercept.typed_values import Count, Interval, Span, from_plain, to_plain


def _kinds() -> list[type]:
    """Every dataclass of the room that is a file."""
    modules = [
        importlib.import_module(f"biopercept.results.{m.name}")
        for m in pkgutil.iter_modules(biopercept.results.__path__)
    ]
    own = {value for module in modules for value in vars(module).values() if dataclasses.is_dataclass(value)}
    return sorted((kind for kind in own if hasattr(kind, "SCHEMA")), key=lambda kind: kind.__name__)


KINDS = _kinds()


def made(kind: Any, *, is_full: bool) -> Any:
    """An instance of a dataclass with a value of its type in every field: full, or as empty as its types allow."""
    hints = typing.get_type_hints(kind, include_extras=True)
    values = {}
    for place, part in enumerate(dataclasses.fields(kind)):
        if part.metadata.get("unwritten") or (not is_full and part.metadata.get("omitted")):
            continue
        hint = hints[part.name]
        is_of_itself = typing.get_args(hint)[:1] == (kind,)  # a comparison holds those of its studies, and they none
        values[part.name] = _value(hint, place, is_full=is_full and not is_of_itself)
    if kind is PersonalPoint and not is_full:
        values["tier"] = GENERAL
    return kind(**values)


def _value(hint: Any, place: int, *, is_full: bool) -> Any:
    named = {Count: place, Interval: (-0.1 * place, 1 / 3), Span: (2, 2 + place)}
    if hint in named:
        return named[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _value(inner[0], place, is_full=is_full) if is_full else None
    if origin is typing.Literal:
        return inner[0]
    if origin is Annotated:
        return next(word for word in ("subject", "zero") if inner[1].holds(word))
    if origin is tuple:
        return (_value(inner[0], place, is_full=is_full),)
    if origin in (Mapping, dict):
        return {"ä <b>": _value(inner[1], place, is_full=is_full)} if is_full else {}
    if dataclasses.is_dataclass(hint):
        return made(hint, is_full=is_full)
    return {
        int: place,
        float: 0.1 + place / 7,
        str: f"text {place} é\x1b",
        bool: bool(place % 2),
        Any: [1, {"x": None}],
    }[hint]


def test_the_room_has_the_files_that_commands_write() -> None:
    assert {kind.FILE for kind in KINDS} >= {  # type: ignore[attr-defined]
        "compare.json", "audit.json", "tuning.json", "learning_curve.json", "personalisation.json", "generation.json",
        "scores.json", "folds.json",
    }  # fmt: skip


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "empty"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_write_read_write_gives_the_same_bytes_and_values(kind: Any, is_full: bool, tmp_path: Path) -> None:
    result = made(kind, is_full=is_full)
    write_result(tmp_path / "first.json", result)
    again = read_result(tmp_path / "first.json", kind)
    write_result(tmp_path / "second.json", again)
    assert again == result
    assert (tmp_path / "second.json").read_bytes() == (tmp_path / "first.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_file_has_the_fields_in_the_order_of_the_class(kind: Any) -> None:
    written = [part for part in dataclasses.fields(kind) if not part.metadata.get("unwritten")]
    names = [part.metadata.get("name", part.name) for part in written]
    assert list(document_of(made(kind, is_full=True))) == ["schema", *names]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_absent_field_is_named_unless_it_has_a_default(kind: Any, tmp_path: Path) -> None:
    path, document = tmp_path / kind.FILE, document_of(made(kind, is_full=True))
    for part in dataclasses.fields(kind):
        if part.name not in document:
            continue
        path.write_text(json.dumps({name: value for name, value in document.items() if name != part.name}))
        if part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING:
            with pytest.raises(StudyError) as refused:
                read_result(path, kind)
            assert str(refused.value).startswith(f"{path} has no '{part.name}'; ")
            assert str(refused.value).endswith(f" is needed, run {kind.COMMAND} again")
        else:
            empty = part.default if part.default is not dataclasses.MISSING else part.default_factory()
            assert getattr(read_result(path, kind), part.name) == empty


def _written(folder: Path, kind: Any, change: Callable[[dict[str, Any]], object]) -> Path:
    document = document_of(made(kind, is_full=True))
    change(document)
    path = folder / kind.FILE
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


REFUSED: list[tuple[Any, Callable[[dict[str, Any]], object], str]] = [
    (
        Comparison,
        lambda d: d.update(schema=2),
        "has schema 2; this version of biopercept reads schema 1; a newer biopercept wrote it: install that one",
    ),
    (Comparison, lambda d: d.pop("schema"), "has schema None; this version of biopercept reads schema 1"),
    (Comparison, lambda d: d.update(task=7), "has 7 for 'task'; text is needed"),
    (Comparison, lambda d: d.update(seed=-1), "has -1 for 'seed'; a whole number of 0 or more is needed"),
    (Comparison, lambda d: d.update(seed=True), "has True for 'seed'; a whole number of 0 or more is needed"),
    (Comparison, lambda d: d.update(seed=1.5), "has 1.5 for 'seed'; a whole number of 0 or more is needed"),
    (
        Comparison,
        lambda d: d.update(pairs={}),
        "has {} for 'pairs'; a list [an object with named values, ...] is needed",
    ),
    (Comparison, lambda d: d.update(pairs=[3]), "has 3 for 'pairs[1]'; an object with named values is needed"),
    (Comparison, lambda d: d.update(findings=["a", 1]), "has [a, 1] for 'findings'; a list [text, ...] is needed"),
    (Comparison, lambda d: d["friedman"].update(p="x"), "has 'x' for 'friedman.p'; a number or null is needed"),
    (
        Comparison,
        lambda d: d["pairs"][0].update(p=float("nan")),
        "has nan for 'pairs[1].p'; a number is needed",
    ),
    (
        Comparison,
        lambda d: d["pairs"][0].update(ci95=[0.2, 0.1]),
        "has [0.2, 0.1] for 'pairs[1].ci95'; a list of two numbers, the lower one first, or null is needed",
    ),
    (
        Comparison,
        lambda d: d["pairs"][0].update(p_method="guess"),
        "has 'guess' for 'pairs[1].p_method'; one of exact, normal is needed",
    ),
    (
        Comparison,
        lambda d: d["contenders"][0].pop("mean"),
        "has no 'contenders[1].mean'; a number is needed, run compare again",
    ),
    (
        Audit,
        lambda d: d["findings"][0].update(verdict="fine"),
        "has 'fine' for 'findings[1].verdict'; one of ok, warning, leak is needed",
    ),
    (LearningCurve, lambda d: d.update(points=[]), "has no points; run learning-curve again"),
    (PersonalCurve, lambda d: d.update(curve=[]), "has 0 points of the general model; one is needed"),
]


@pytest.mark.parametrize(("kind", "change", "sentence"), REFUSED, ids=[sentence for *_, sentence in REFUSED])
def test_what_is_wrong_is_one_sentence_with_its_place(
    kind: Any, change: Callable[[dict[str, Any]], object], sentence: str, tmp_path: Path
) -> None:
    path = _written(tmp_path, kind, change)
    with pytest.raises(StudyError) as refused:
        read_result(path, kind)
    assert str(refused.value) == f"{path} {sentence}"


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"schema": 1}'])
def test_a_file_that_is_no_result_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(StudyError, match=r"audit\.json "):
        read_result(tmp_path / "audit.json", Audit)


def test_a_field_that_a_later_version_added_is_not_read_and_does_no_harm(tmp_path: Path) -> None:
    path = _written(tmp_path, Audit, lambda document: document.update(added_later={"x": 1}))
    assert read_result(path, Audit) == made(Audit, is_full=True)


def test_whole_numbers_stand_for_numbers_where_a_script_wrote_them() -> None:
    @dataclasses.dataclass(frozen=True)
    class Made:
        seconds: float

    assert to_plain(from_plain(Made, {"seconds": 3})) == {"seconds": 3.0}


@pytest.mark.parametrize(
    "rows",
    [
        (
            SubjectScore(participant="=S1", n_windows=12, balanced_accuracy=None, auroc=1 / 3, fold="0"),
            SubjectScore(participant="b", n_windows=0, balanced_accuracy=1.0),
        ),
        (NumberSubjectScore(participant="a,b", n_windows=3, mae=0.1, ccc=None, r2=-2.5, fold="x"),),
    ],
)
def test_rows_of_a_table_are_read_back_as_they_were_written(tmp_path: Path, rows: tuple[Any, ...]) -> None:
    write_rows(tmp_path / "scores.csv", rows)
    assert read_rows(tmp_path / "scores.csv", type(rows[0])) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("participant_id,n_windows\nS1,3\n", "has no column 'balanced_accuracy'"),
        (
            "participant_id,n_windows,balanced_accuracy\nS1,3,0.5\nS2,,0.5\n",
            "has no n_windows in row 2; a whole",
        ),
        ("participant_id,n_windows,balanced_accuracy\nS1,3,high\n", "has 'high' in column 'balanced_accuracy', row 1"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as fault:
        read_rows(tmp_path / "scores.csv", SubjectScore)
    assert words in str(fault.value)
