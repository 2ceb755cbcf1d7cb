"""What is to be predicted in a study: a task maps the study's own labels to classes or levels, or names a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from biopercept.errors import StudyError

Kind = Literal["classification", "ordinal", "regression"]
CLASSIFICATION: Kind = "classification"
ORDINAL: Kind = "ordinal"
REGRESSION: Kind = "regression"
KINDS: tuple[Kind, ...] = (CLASSIFICATION, ORDINAL, REGRESSION)


@dataclass(frozen=True)
class Task:
    """One thing to predict.

    Attributes
    ----------
    name : str
        Key under ``tasks`` in study.yaml.
    kind : "classification", "ordinal" (classes in order, the lowest first) or "regression"
    classes : dict of str to tuple of str
        Class name -> labels (``trial_type`` or ``condition``) that belong to it, in the order of the study file,
        which is the order of the model's outputs. Empty for a regression.
    ignore : tuple of str
        Labels that are known and left out of this task.
    column : str or None
        Numeric column to predict, of events.tsv (a number of each stretch), recordings.tsv or participants.tsv;
        None for classes.
    label_is_file : bool
        True where every recording holds one class (or number) only, so that any statistic of a whole file gives
        the label away; such a task is scored with ``global`` normalisation.
    mean, scale : float
        Of a fitted regression: mean and standard deviation of the numbers among the training subjects, in the unit of
        the study's column; its network gives ``(number - mean) / scale``. 0 and 1 in a study, and for classes.

    Examples
    --------
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
    mean: float = 0.0
    scale: float = 1.0

    @property
    def is_classification(self) -> bool:
        """Return whether the answer is one of a few classes or levels, with probabilities."""
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
        return {
            "name": self.name,
            "kind": self.kind,
            "classes": {name: list(labels) for name, labels in self.classes.items()},
            "ignore": list(self.ignore),
            "column": self.column,
            "label_is_file": self.label_is_file,
            **({} if (self.mean, self.scale) == (0.0, 1.0) else {"mean": self.mean, "scale": self.scale}),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Task:
        """Return the task that :meth:`to_json` wrote.

        Raises
        ------
        StudyError
            Where the document is not such a task.
        """
        try:
            kind = document["kind"]
            if kind not in KINDS:
                raise ValueError(f"kind is {kind!r}")
            column = document["column"]
            return Task(
                name=str(document["name"]),
                kind=kind,
                classes={str(n): tuple(str(x) for x in labels) for n, labels in document["classes"].items()},
                ignore=tuple(str(label) for label in document["ignore"]),
                column=None if column is None else str(column),
                label_is_file=bool(document["label_is_file"]),
                mean=float(document.get("mean", 0.0)),
                scale=float(document.get("scale", 1.0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise StudyError(
                f"a stored task cannot be read ({type(fault).__name__}: {fault}); prepare again"
            ) from fault
