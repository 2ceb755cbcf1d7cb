"""What is to be predicted in a study: a task maps the study's own labels to classes or levels, or names a column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from biopercept.errors import StudyError
from biopercept.typed_values import FieldError, from_plain, omitted, to_plain

Kind = Literal["classification", "ordinal", "regression"]
CLASSIFICATION: Kind = "classification"
ORDINAL: Kind = "ordinal"
REGRESSION: Kind = "regression"
KINDS: tuple[Kind, ...] = (CLASSIFICATION, ORDINAL, REGRESSION)


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
        return label not in self.ignore if self.is_regression else self.class_of(label) is not None

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
