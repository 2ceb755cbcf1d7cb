"""The Markdown page of a selection: every candidate tried, what was chosen where, and the score of the procedure."""

from __future__ import annotations

from biopercept.report.text import percent, table
from biopercept.results.tuning import NestedScore, TunedScore, Tuning


def tuning_page(tuning: Tuning) -> str:
    """Return the page of a selection."""
    parts = [
        f"# Selection for the task {_cell(tuning.task)}\n",
        " ".join(tuning.findings) + "\n",
        "Balanced accuracy and AUROC in per cent, means over subjects with 95 % bootstrap intervals over subjects; "
        "guessing by class fractions reaches "
        f"{100 * tuning.chance['dummy']:.1f}. Seconds are of all inner fits of a candidate.\n",
        "## Nested score\n",
        _nested(tuning.nested),
        "## Candidates\n",
        _candidates(tuning),
        "\n".join(f"- {_cell(one.name)} could not be fitted: {_cell(one.reason)}" for one in tuning.failed),
        "## What each outer fold chose\n",
        _folds(tuning),
        _warnings(tuning),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _cell(text: object) -> str:
    """Return text that cannot end a table's cell or start a tag."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _percent(estimate: TunedScore, *, signed: bool = False) -> str:
    return percent({"mean": estimate.mean, "ci95": estimate.ci95}, signed=signed)


def _nested(nested: NestedScore) -> str:
    heads = ("balanced accuracy", "AUROC", "worst subject", "subjects", "inner score of the winners")
    scores, worst = nested.balanced_accuracy, nested.balanced_accuracy.worst
    row = (
        _percent(scores),
        _percent(nested.auroc),
        "" if worst is None else f"{100 * worst:.1f}",
        str(scores.n_subjects),
        _share(nested.inner_balanced_accuracy_of_winners),
    )
    return table(heads, [row])


def _candidates(tuning: Tuning) -> str:
    heads = (
        "candidate", "changes", "inner balanced accuracy", "inner AUROC", "against the best", "seconds", "parameters",
        "times chosen",
    )  # fmt: skip
    rows = [
        (
            _cell(candidate.name),
            _cell(", ".join(f"{key} {value}" for key, value in candidate.changes.items())),
            _percent(candidate.inner_balanced_accuracy),
            _percent(candidate.inner_auroc),
            "" if number == 0 else _percent(candidate.difference_to_best, signed=True),
            f"{candidate.seconds:.0f}",
            str(candidate.parameters),
            str(candidate.times_chosen),
        )
        for number, candidate in enumerate(tuning.candidates)
    ]
    return table(heads, rows)


def _folds(tuning: Tuning) -> str:
    rows = [
        (
            _cell(fold.fold),
            str(len(fold.test)),
            _cell(fold.chosen),
            _share(fold.ranking[0].balanced_accuracy),
            _cell(fold.ranking[1].name) if len(fold.ranking) > 1 else "",
            _share(fold.ranking[1].balanced_accuracy) if len(fold.ranking) > 1 else "",
        )
        for fold in tuning.outer_folds
    ]
    return table(("fold", "test subjects", "chosen", "its inner score", "second", "its inner score"), rows)


def _share(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.1f}"


def _warnings(tuning: Tuning) -> str:
    whose: dict[str, list[str]] = {}
    for candidate in tuning.candidates:
        for warning in candidate.warnings:
            whose.setdefault(warning, []).append(candidate.name)
    everybody = len(tuning.candidates)
    lines = [
        f"- {'all' if len(names) == everybody else _cell(', '.join(names))}: {_cell(warning)}"
        for warning, names in whose.items()
    ]
    return "## Warnings\n\n" + "\n".join(lines) if lines else ""
