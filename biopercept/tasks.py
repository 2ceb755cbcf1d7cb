"""What is to be predicted in a study: a task maps its labels to classes or levels, or names a column or a rating."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from biopercept.errors import StudyError
from biopercept.typed_values import FieldError, from_plain, omitted, to_plain

Kind = Literal["classification", "ordinal", "regression"]
CLASSIFICATION: Kind = "classification"
ORDINAL: Kind = "ordinal"
REGRESSION: Kind = "regression"
KINDS: tuple[Kind, ...] = (CLASSIFICATION, ORDINAL, REGRESSION)
LAG_STEP_SECONDS = 0.5
"""A lag is estimated no finer than this: a mean over a window hardly changes in less."""


@dataclass(frozen=True)
class Task:
    """One thing to predict: the key under ``tasks`` in study.yaml, and what it means.

    ``classes`` map each name to the labels (``trial_type`` or ``condition``) that belong to it, in the order of the
    study file, which is that of the model's outputs and, for an ordinal task, from the lowest up; empty for a
    regression, which predicts a numeric ``column`` of events.tsv (a number of each interval), recordings.tsv or
    participants.tsv. Labels of ``ignore`` are known and left out of this task. ``label_is_file``: every recording holds
    one class (or number) only, so that any statistic of the file reveals the label; such a task is scored with
    ``global`` normalisation. A fitted regression's network gives ``(number - mean) / scale``, with mean and standard
    deviation of the training subjects' numbers in the unit of the column.

    A task may name a ``signal`` of the recordings in place of labels: a continuous rating (slider, joystick). Of a
    window it has the mean, which is the number of a regression; classes and levels are ``ranges`` of it, each from its
    lower end to just below its upper (the highest includes it), and what lies between two is left out. A rating follows
    the body by ``lag_seconds``: what is stated at 10 s is of the body at ``10 - lag_seconds``. With ``max_lag_seconds``
    above 0 the lag of a number is not known yet: it is estimated up to there, on the people a model is fitted to.

    >>> stress = Task("stress", classes={"rest": ("baseline", "relax"), "stress": ("stroop",)}, ignore=("break",))
    >>> stress.class_of("relax"), stress.class_of("break")
    ('rest', None)
    """

    name: str
    kind: Kind = "classification"
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    column: str | None = None
    label_is_file: bool = False
    mean: float = omitted(0.0)
    scale: float = omitted(1.0)
    signal: str | None = omitted(None)
    ranges: dict[str, tuple[float, float]] = omitted({})
    lag_seconds: float = omitted(0.0)
    max_lag_seconds: float = omitted(0.0)

    @property
    def is_classification(self) -> bool:
        """Return whether a class or a level is predicted, with probabilities."""
        return self.kind != REGRESSION

    @property
    def is_ordinal(self) -> bool:
        """Return whether its classes are levels, the lowest first."""
        return self.kind == ORDINAL

    @property
    def is_regression(self) -> bool:
        """Return whether a number is predicted and no class."""
        return self.kind == REGRESSION

    @property
    def is_of_labels(self) -> bool:
        """Return whether its classes are words of the study's tables; a number or a rating has no such words."""
        return self.is_classification and self.signal is None

    @property
    def lags(self) -> tuple[float, ...]:
        """Return the lags that its rating may have, seconds; none where it has one lag, or no rating."""
        n_steps = int(self.max_lag_seconds / LAG_STEP_SECONDS + 1e-9) if self.signal else 0
        return tuple(step * LAG_STEP_SECONDS for step in range(n_steps + 1)) if n_steps else ()

    @property
    def quantity(self) -> str:
        """Return the column or the rating whose unit its numbers have; empty where classes are words."""
        return self.signal or self.column or ""

    @property
    def n_outputs(self) -> int:
        """Return the numbers that a network gives: a logit per class, one per step between levels, or one number."""
        return 1 if self.is_regression else len(self.classes) - self.is_ordinal

    @property
    def n_values(self) -> int:
        """Return the numbers of a prediction: a probability per class or level, or one number."""
        return 1 if self.is_regression else len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes in the order of the study file."""
        return tuple(self.classes)

    @staticmethod
    def classes_of(tasks: Iterable[Task]) -> tuple[str, ...]:
        """Return the classes of several tasks in the order of the study file, each once."""
        return tuple(dict.fromkeys(name for task in tasks for name in task.classes))

    @property
    def labels(self) -> tuple[str, ...]:
        """Return every label that belongs to a class."""
        return tuple(label for labels in self.classes.values() for label in labels)

    def class_of(self, label: str) -> str | None:
        """Return the class of a label; None where the task ignores it or does not know it."""
        for name, labels in self.classes.items():
            if label in labels:
                return name
        return None

    def uses(self, label: str) -> bool:
        """Return whether windows under this label can be targets: the label has a class, or a number is not ignored."""
        return self.class_of(label) is not None if self.is_of_labels else label not in self.ignore

    def place_of(self, rating: float) -> int | None:
        """Return which of the classes a rating lies in, counted from 0; None where it lies in none.

        >>> task = Task("x", classes={"low": (), "high": ()}, signal="joy", ranges={"low": (0, 3), "high": (5, 10)})
        >>> [task.place_of(rating) for rating in (0.0, 2.9, 3.0, 4.0, 5.0, 10.0)]
        [0, 0, None, None, 1, 1]
        """
        highest = max((high for _, high in self.ranges.values()), default=0.0)
        for place, name in enumerate(self.classes):
            low, high = self.ranges[name]
            if low <= rating < high or rating == high == highest:
                return place
        return None

    def knows(self, label: str) -> bool:
        """Return whether the label belongs to a class or is ignored by name."""
        return self.class_of(label) is not None or label in self.ignore

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that :meth:`from_json` reads back."""
        return dict(to_plain(self))

    @staticmethod
    def from_json(document: Any) -> Task:
        """Return the task that :meth:`to_json` wrote. Raises StudyError where the document is not such a task."""
        try:
            task = from_plain(Task, document)
            if absent := sorted(to_plain(Task("")).keys() - document.keys()):  # defaults are for code, not for files
                raise FieldError(absent[0], "its value")
            return task
        except FieldError as fault:
            raise StudyError(f"{fault.sentence('a stored task')}; prepare again") from fault


def disagreement(task: Task, other: Task | None, study: str) -> str:
    """Return why the task of a study cannot stand for a model's task of that name; empty where it can.

    Classes are the same by their names, whatever the labels that each side counts to them.
    """
    if other is None:
        return f"study {study!r} has no task {task.name!r}"
    which = f"task {task.name!r} of study {study!r}"
    if other.kind != task.kind:
        return f"{which} is a {other.kind} and the model's is a {task.kind}"
    theirs, ours = tuple(other.classes), tuple(task.classes)
    if theirs != ours and (task.is_ordinal or set(theirs) != set(ours)):
        return f"{which} has the classes {', '.join(theirs)} and the model's are {', '.join(ours)}"
    if other.ranges != task.ranges:
        return f"{which} divides its rating into other ranges than the model's"
    return ""
