"""Which figures a folder of results gets, in order; and writing them to its ``figures`` folder."""

from __future__ import annotations

from pathlib import Path

from biopercept.files import write_bytes

from .drawing import Drawing
from .number_results import NumberLine, is_of_numbers, load_lines, load_number_validation
from .number_views import line_figure, number_figure
from .prediction_results import PredictionFolder, Predictions, RecordingKey
from .results import CrossValidation
from .score_figures import confusion_figure, reliability_figure, subjects_figure
from .score_files import load_cross_validation
from .sensor_views import sensor_figure
from .text import score
from .time_figures import overview_figure, quality_figure, timeline_figure
from .trust_figures import risk_figure

MOST_TIMELINES = 6
"""Timelines of new recordings that a page shows."""


def data_figures(held: CrossValidation) -> tuple[Drawing, ...]:
    """Return the figures of what was scored: labels over time, and quality where it is known."""
    drawn = (overview_figure(held.predictions) if len(held.predictions) else None, quality_figure(held.predictions))
    return tuple(figure for figure in drawn if figure)


def score_figures(held: CrossValidation) -> tuple[Drawing, ...]:
    """Return the figures of scores: subjects, confusion matrix, reliability, risk against coverage, fewer sensors."""
    painters = (subjects_figure, confusion_figure, reliability_figure, risk_figure, sensor_figure)
    drawn = [paint(held) for paint in painters]
    return tuple(figure for figure in drawn if figure)


def subject_timelines(held: CrossValidation) -> tuple[Drawing, ...]:
    """Return timelines of the worst, the median and the best subject, so that the choice flatters nobody.

    Of a subject with several recordings the one with most windows is drawn.
    """
    rows = sorted(
        (s for s in held.subjects if s.balanced_accuracy is not None),
        key=lambda s: (s.balanced_accuracy or 0.0, s.participant),
    )
    if not rows:
        return ()
    chosen = {rows[-1]: "Best", rows[len(rows) // 2]: "Median", rows[0]: "Worst"}
    figures = []
    for subject, word in reversed(chosen.items()):
        key = _longest(held.predictions, subject.participant)
        if key is not None:
            note = f"{word} subject by balanced accuracy ({score(subject.balanced_accuracy)}), {held.model}: "
            figures.append(timeline_figure(held.predictions.of_recording(key), f"timeline-{word.lower()}", note))
    return tuple(figures)


def _longest(predictions: Predictions, participant: str) -> RecordingKey | None:
    keys = [key for key in predictions.recordings if key[0] == participant]
    return max(keys, key=lambda key: (predictions.keys.count(key), key), default=None)


def prediction_timelines(folder: PredictionFolder) -> tuple[Drawing, ...]:
    """Return timelines of the first recordings of a folder of ``predict``, and their numbers and traces."""
    held = [windows for _, windows in folder.recordings if len(windows)][:MOST_TIMELINES]
    lines: tuple[NumberLine, ...] = load_lines(folder.folder, MOST_TIMELINES)
    return (
        *(
            timeline_figure(windows.of_recording(windows.keys[0]), f"timeline-{number}")
            for number, windows in enumerate(held, 1)
        ),
        *(line_figure(line, f"line-{number}") for number, line in enumerate(lines, 1)),
    )


def figures_of(held: CrossValidation) -> tuple[Drawing, ...]:
    """Return every figure of one cross-validation."""
    return (*score_figures(held), *data_figures(held), *subject_timelines(held))


def write_figures(folder: Path) -> tuple[Path, ...]:
    """Draw the figures of a finished cross-validation into ``folder/figures`` (SVG) and return their paths.

    Of several tasks those of each, in the task's own folder.

    Raises
    ------
    StudyError
        Where the folder is not a finished cross-validation.
    OutputError
        Where a figure cannot be written; those written before stay whole.
    """
    if not (folder / "scores.json").is_file():
        below = sorted(path.parent for path in folder.glob("*/scores.json"))
        if below:
            return tuple(path for place in below for path in write_figures(place))
    paths = []
    is_numbers = (folder / "scores.json").is_file() and is_of_numbers(folder)
    drawn = (
        (number_figure(load_number_validation(folder)),) if is_numbers else figures_of(load_cross_validation(folder))
    )
    for figure in drawn:
        path = folder / "figures" / f"{figure.name}.svg"
        write_bytes(path, figure.svg)
        paths.append(path)
    return tuple(paths)
