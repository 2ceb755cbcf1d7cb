"""The Markdown page of ``score-generation``: masked signals as reconstructed, beside the strongest baseline."""

from __future__ import annotations

from collections.abc import Sequence

from biopercept.errors import count
from biopercept.report.text import Table, interval_text, markdown, table
from biopercept.results.generation import BETTER, FILLERS, LEVEL, WORSE, Generation, SignalError, SignalScore
from biopercept.results.reading import CountedEstimate

_READING = (
    "Errors are computed within each test subject and averaged over subjects; brackets are 95 % bootstrap intervals "
    "over subjects; differences are paired, network minus the strongest imputation baseline, below 0 where the network "
    "is better."
)


def generation_parts(result: Generation) -> tuple[str | Table, ...]:
    """Return what was found for a terminal: a sentence, how the numbers are read, and the two tables of the page."""
    signals = result.signals
    lead = (
        f"{count(result.n_subjects, 'subject')}, {count(result.n_windows, 'window')} of {result.window_seconds:g} s, "
        f"{count(result.n_folds, 'fold')} over subjects. By RMSE the network is {_verdicts(signals)}."
    )
    titles = ("In normalised units (1 is the scale of the window)", "In the signal's own unit")
    tables = []
    for title, is_normalised, names in zip(titles, (True, False), _ERRORS, strict=True):
        heads, rows = _cells(signals, *names, is_normalised=is_normalised)
        is_number = tuple(place > 1 for place in range(len(heads)))
        tables.append(Table(title, heads, tuple(map(tuple, rows)), is_number))
    return lead, _READING, *tables


_ERRORS = (("rmse", "mae"), ("rmse_unit", "mae_unit"))


def _verdicts(signals: Sequence[SignalScore]) -> str:
    counts = {word: sum(row.verdict == word for row in signals) for word in (BETTER, LEVEL, WORSE)}
    return (
        f"better than the strongest baseline for {counts[BETTER]} of {count(len(signals), 'signal')}, no difference is "
        f"shown for {counts[LEVEL]}, and it is worse for {counts[WORSE]}"
    )


def generation_page(result: Generation) -> str:
    """Return the Markdown page of what was found."""
    signals = result.signals
    counts = {word: sum(row.verdict == word for row in signals) for word in (BETTER, LEVEL, WORSE)}
    fillers = "\n".join(f"- *{name}*: {words}" for name, words in FILLERS.items())
    head = f"""# A hidden sensor, reconstructed from the others

Study {markdown(result.study)}: {result.n_subjects} subjects, {result.n_windows} windows of {result.window_seconds:g} s,
{result.n_folds} folds over subjects, normalisation `{result.normalisation}`, seed {result.seed}. In each fold a
network of {result.parameters:,} parameters was pretrained ({result.n_epochs} epochs, masked, no label) on the
training subjects alone; then each sensor, with all computed from it, was masked in the test subjects' windows and
reconstructed. {result.seconds:.0f} s in all.

Errors are computed within each test subject and averaged over subjects; brackets are 95 % bootstrap intervals over
subjects; differences are paired, network minus the strongest imputation baseline, below 0 where the network is
better. The strongest is picked on these same test subjects, in the baselines' favour. The scale of the window (mean
and standard deviation, by its normalisation) is given to network and baselines alike, so nothing here says that the
level of a person never measured can be reconstructed. The phase of a raw waveform cannot be known from others.
Imputation baselines, fitted on training subjects:

{fillers}

By RMSE the network is better than the strongest baseline for {counts[BETTER]} of {len(signals)} signals, no difference
is shown for {counts[LEVEL]}, and it is worse for {counts[WORSE]}.
"""
    warnings = "".join(f"\n- {markdown(warning)}" for warning in result.warnings)
    return "\n".join(
        [
            head + (warnings and warnings + "\n"),
            "## In normalised units (1 is the scale of the window)\n",
            _table(signals, *_ERRORS[0], is_normalised=True),
            "\n## In the signal's own unit\n",
            _table(signals, *_ERRORS[1], is_normalised=False),
            "",
        ]
    )


def _table(signals: Sequence[SignalScore], squared: str, absolute: str, *, is_normalised: bool) -> str:
    return table(*_cells(signals, squared, absolute, is_normalised=is_normalised)).strip("\n")


def _cells(
    signals: Sequence[SignalScore], squared: str, absolute: str, *, is_normalised: bool
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return headings and rows of one table, as text."""
    ours = ("Correlation", "Verdict (RMSE)") if is_normalised else ("Unit",)
    heads = ("Hidden", "Signal", "Subjects", "Windows", "RMSE", "Strongest baseline", "Difference", "Better for")
    rows = []
    for row in signals:
        last = (_estimate(row.correlation), row.verdict) if is_normalised else (row.unit,)
        rows.append(
            [
                row.sensor,
                row.title,
                str(row.n_subjects),
                f"{row.n_windows:,}",
                *_compared(getattr(row, squared)),
                f"{getattr(row, squared).network_minus_best_filler.n_better} of {row.n_subjects}",
                *_compared(getattr(row, absolute)),
                *last,
            ]
        )
    return (*heads, "MAE", "Strongest baseline", "Difference", *ours), rows


def _compared(error: SignalError) -> tuple[str, str, str]:
    difference = _estimate(error.network_minus_best_filler, is_signed=True)
    return _estimate(error.network), f"{_estimate(error.strongest)} ({error.best_filler})", difference


def _estimate(value: CountedEstimate, *, is_signed: bool = False) -> str:
    return interval_text(value.mean, value.ci95, "{:+.3g}" if is_signed else "{:.3g}", "not defined")
