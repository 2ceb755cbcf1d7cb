"""What a study says of one recording: labelled stretches, and numbers of stretches or of the whole recording."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from biopercept.errors import StoreError
from biopercept.recording import Interval

_TOLERANCE_SECONDS = 1e-6  # onsets are sums of floats


@dataclass(frozen=True)
class RecordingLabels:
    """The labels of one recording, as its study's tables give them.

    Attributes
    ----------
    intervals : tuple of Interval
        Labelled stretches, seconds on the recording's clock.
    interval_values : tuple of mapping of str to float
        For each stretch its numbers by column, missing ones left out; empty where no task asks for any.
    condition : str
        Label of the whole recording; empty where there is none.
    values : mapping of str to float
        Numbers of the whole recording (or of its participant) by column.
    """

    intervals: tuple[Interval, ...] = ()
    interval_values: tuple[Mapping[str, float], ...] = ()
    condition: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    def is_empty(self) -> bool:
        """Return whether nothing is said."""
        return not (self.intervals or self.condition or self.values)

    def numbers(self, column: str) -> tuple[tuple[Interval, float], ...]:
        """Return the stretches that have a number in a column, with it."""
        pairs = zip(self.intervals, self.interval_values, strict=False)
        return tuple((interval, held[column]) for interval, held in pairs if column in held)

    def value_of(self, column: str, label: str, onset: float, length_seconds: float) -> float:
        """Return the number of a window in a column; NaN where the study gives none, or two that differ.

        Parameters
        ----------
        column : str
        label : str
            Of the stretch that the window was cut from; empty for a window that was cut without regard to labels,
            which is then given the number of any stretch it lies wholly inside.
        onset, length_seconds : float
            The window, seconds on the recording's clock.
        """
        if column in self.values:
            return self.values[column]
        found = {
            value
            for interval, value in self.numbers(column)
            if label in ("", interval.label)
            and interval.onset_seconds <= onset + _TOLERANCE_SECONDS
            and onset + length_seconds <= interval.end_seconds + _TOLERANCE_SECONDS
        }
        return found.pop() if len(found) == 1 else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that :meth:`from_json` reads back."""
        rows: list[list[Any]] = [[i.onset_seconds, i.duration_seconds, i.label] for i in self.intervals]
        for row, held in zip(rows, self.interval_values, strict=False):
            if held:
                row.append(dict(held))
        return {"intervals": rows, "condition": self.condition, "values": dict(self.values)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RecordingLabels:
        """Return the labels that :meth:`to_json` wrote.

        Raises
        ------
        StoreError
            Where the document is not of that form.
        """
        try:
            rows = document["intervals"]
            return RecordingLabels(
                tuple(Interval(float(row[0]), float(row[1]), str(row[2])) for row in rows),
                tuple({str(k): float(v) for k, v in (row[3] if len(row) > 3 else {}).items()} for row in rows),
                str(document["condition"]),
                {str(k): float(v) for k, v in document["values"].items()},
            )
        except (KeyError, TypeError, ValueError, LookupError, AttributeError) as fault:
            raise StoreError(f"the stored labels are damaged ({fault}); prepare the study again") from fault


def labels_text(labels: Mapping[str, RecordingLabels]) -> str:
    """Return the labels of several recordings, by key, as one JSON text."""
    return json.dumps({key: held.to_json() for key, held in sorted(labels.items())}, sort_keys=True)


def labels_from_text(text: str) -> dict[str, RecordingLabels]:
    """Return the labels that :func:`labels_text` wrote.

    Raises
    ------
    StoreError
        Where the text is not of that form.
    """
    try:
        held = json.loads(text).items()
    except (ValueError, AttributeError, RecursionError) as fault:
        raise StoreError(f"the stored labels are damaged ({fault}); prepare the study again") from fault
    return {str(key): RecordingLabels.from_json(document) for key, document in held}
