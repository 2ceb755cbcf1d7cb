"""The scores of finished cross-validations, printed on the terminal."""

from __future__ import annotations

from pathlib import Path

from biopercept.errors import StudyError

from .discovery import load_numbers, load_results
from .number_views import number_table
from .tables import score_table, terminal_table, turned


def print_scores(folder: Path) -> None:
    """Print the score table of a finished cross-validation, or of every one in a parent folder, to stdout.

    Raises
    ------
    StudyError
        Where the folder holds no finished cross-validation, or one that is damaged.
    """
    from rich.console import Console

    found, numbers = load_results(folder).cross_validations, load_numbers(folder)
    if not (found or numbers):
        raise StudyError(f"{folder} holds no finished cross-validation; scores.json is needed")
    console = Console(markup=False, highlight=False, emoji=False)
    if found:
        console.print(terminal_table(turned(score_table(found))))
    if numbers:
        console.print(terminal_table(turned(number_table(numbers))))
