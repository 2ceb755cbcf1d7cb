"""``compare.json``: what :class:`Comparison` holds, as plain values and back, every value checked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from biopercept.errors import StudyError

from .comparisons import Comparison, Contender, Pair
from .fields import Fields
from .reading import read_json

SCHEMA = 1
COMPARISON_FILE = "compare.json"


def comparison_to_json(held: Comparison) -> dict[str, Any]:
    """Return the content of ``compare.json``."""
    document = asdict(held)
    del document["name"]
    return {"schema": SCHEMA, **document}


def load_comparison(folder: Path, name: str = "") -> Comparison:
    """Return what ``compare`` wrote to a folder.

    Raises
    ------
    StudyError
        Where the file is missing, damaged or of another schema.
    """
    path = folder / COMPARISON_FILE
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has schema {content.get('schema')!r}; this version of biopercept reads schema {SCHEMA}"
        )
    held = Fields(path, content, "compare")
    return Comparison(
        name=name or folder.resolve().name,
        task=held.text("task"),
        classes=held.texts("classes"),
        metric=held.text("metric"),
        higher_is_better=held.flag("higher_is_better", default=True),
        split=held.text("split"),
        n_subjects=held.whole("n_subjects") or 0,
        left_out=held.texts("left_out"),
        n_windows=held.whole("n_windows") or 0,
        reference=held.text("reference"),
        n_resamples=held.whole("n_resamples") or 0,
        seed=held.whole("seed") or 0,
        store=held.text("store"),
        contenders=tuple(_contender(part) for part in held.parts("contenders")),
        pairs=tuple(_pair(part) for part in held.parts("pairs")),
        friedman={key: held.part("friedman").number(key) for key in held.part("friedman").content},
        cautions=held.texts("cautions"),
        findings=held.texts("findings"),
        methods=held.texts("methods"),
    )


def _contender(part: Fields) -> Contender:
    return Contender(
        label=part.text("label"),
        model=part.text("model"),
        name=part.text("name"),
        normalisation=part.text("normalisation"),
        mean=part.known("mean"),
        ci95=part.interval("ci95"),
        sd=part.number("sd"),
        average_rank=part.known("average_rank"),
        is_probe=part.flag("is_probe", default=False),
        is_transductive=part.flag("is_transductive", default=False),
    )


def _pair(part: Fields) -> Pair:
    return Pair(
        first=part.text("first"),
        second=part.text("second"),
        n=part.whole("n") or 0,
        mean_difference=part.known("mean_difference"),
        ci95=part.interval("ci95"),
        sd=part.known("sd"),
        wins=part.whole("wins") or 0,
        ties=part.whole("ties") or 0,
        losses=part.whole("losses") or 0,
        rank_sum_positive=part.known("rank_sum_positive"),
        rank_sum_negative=part.known("rank_sum_negative"),
        p=part.known("p"),
        p_holm=part.known("p_holm"),
        p_method=part.text("p_method"),
        n_zero=part.whole("n_zero") or 0,
        rank_biserial=part.number("rank_biserial"),
        rank_biserial_ci95=part.interval("rank_biserial_ci95"),
        dz=part.number("dz"),
        dz_ci95=part.interval("dz_ci95"),
        smallest_detectable=part.number("smallest_detectable"),
        smallest_detectable_adjusted=part.number("smallest_detectable_adjusted"),
        is_established=part.flag("is_established", default=False),
        split_t=part.number("split_t"),
        split_p=part.number("split_p"),
        split_p_holm=part.number("split_p_holm"),
        split_ratio=part.number("split_ratio"),
        n_splits=part.whole("n_splits", optional=True),
    )
