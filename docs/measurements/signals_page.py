"""The page of breathing, skin responses and EEG band power: worst errors of the grids, and differences to Welch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from biopercept.preprocessing.eeg import BANDS
from measurements import brain, breathing, skin
from measurements.planted_signals import Samples

_INTRODUCTION = """# Breathing, skin responses and EEG band power beside planted ones

Written by `make measurements`; the code is `docs/measurements`. Everything goes through the whole cleaning.
"""

_BREATHING = f"""## Breaths a minute

A chest band of {breathing.SECONDS:.0f} s around a level of 100. Each cell has the largest error of the mean rate, per
minute, and the least fraction of the time for which a rate is given, over sampling rates of
{", ".join(map(str, breathing.SAMPLING_RATES))} Hz.
"""

_SKIN = f"""## Skin responses

{skin.SECONDS:.0f} s of a level of 2 uS and a response every 20 s (time constants 0.75 and 4 s: its peak is after 1.5 s,
half of it is lost 3.6 s later), 0.3 uS high unless stated, on white noise of 0.0005 uS. Sampled at
{", ".join(map(str, skin.SAMPLING_RATES))} Hz; each cell has the worst of these. Errors are medians over the responses
of a recording. A height is from onset to peak: what earlier responses lose in the time and the fall of a level are part
of it, a steady rise of the level is not. Half recovery is measured in the signal as it is, so that a level that moves
or an earlier response changes it.
"""

_BRAIN = """## EEG band power beside Welch's method

Ours: the logarithm of the mean over time of each second's power (`exp` of the series). Beside it: the sum over the band
of the density by `mne.time_frequency.psd_array_welch` (Hann windows of 4 s, half overlapping) of the samples as
recorded, less the average of the same channels. Log units: 0.1 is 10 %. Given is the median over channels, and in
brackets the largest distance of any.

They differ because a Butterworth band has slopes and Welch's bins have the width of their window, so that what lies
just outside a band counts in both with different weights: most in delta, where the spectrum is steep, and at the border
of a strong rhythm. The *features* are means of the logarithm of each second, which lie below the logarithm of the mean:
by about one over the number of independent values in a second (0.17 in delta, 0.03 in gamma), more where a rhythm waxes
and wanes. Of the recordings (EEGMAT, Zyma et al. 2019, PhysioNet), Subject00_1 and Subject10_2 have an alpha rhythm at
11.5 to 12.5 Hz with ten times the density of beta: its flank counts in beta here. In all, the last second is flat,
which is masked here and counts in Welch's average.
"""


def page(eeg_files: Sequence[Path]) -> str:
    """Return the whole page as Markdown; minutes. ``eeg_files`` are compared with Welch's method as well."""
    parts = [_INTRODUCTION, _BREATHING, _breathing_table(breathing.grid()), _SKIN, _skin_table(skin.grid())]
    parts += [_BRAIN, _brain_table(eeg_files)]
    return "\n".join(parts).rstrip() + "\n"


def _breathing_table(outcomes: Mapping[tuple[str, float, int], breathing.Outcome]) -> str:
    rows = []
    for name in breathing.DIFFICULTIES:
        cells = []
        for per_minute in breathing.PER_MINUTE:
            some = [outcomes[name, per_minute, rate] for rate in breathing.SAMPLING_RATES]
            cells.append(f"{_largest(one.error for one in some):.2f} ({min(one.coverage for one in some):.2f})")
        rows.append([name, *cells])
    return table(["breaths a minute", *map(str, breathing.PER_MINUTE)], rows)


def _skin_table(outcomes: Mapping[tuple[str, float], skin.Outcome]) -> str:
    header = ["difficulty", "missed", "false", "height, %", "onset, s", "rise time, s", "half recovery, s"]
    rows = []
    for name in skin.DIFFICULTIES:
        some = [outcomes[name, rate] for rate in skin.SAMPLING_RATES]
        rows.append(
            [
                name,
                str(max(one.missed for one in some)),
                str(max(one.extra for one in some)),
                f"{_largest(one.height for one in some):.0f}",
                *(f"{_largest(getattr(one, key) for one in some):.2f}" for key in ("onset", "rise", "half_recovery")),
            ]
        )
    return table(header, rows)


def _brain_table(eeg_files: Sequence[Path]) -> str:
    named = [(f"made, {rate} Hz", brain.differences(brain.made_eeg(rate))) for rate in brain.SAMPLING_RATES]
    named += [(path.stem, brain.differences(brain.real_eeg(path))) for path in eeg_files]
    rows = [[name, *(_spread(off[band]) if band in off else "–" for band in BANDS)] for name, off in named]
    return table(["recording", *(band.removeprefix("eeg_") for band in BANDS)], rows)


def _spread(off: Samples) -> str:
    return f"{np.median(off):+.3f} ({np.abs(off).max():.2f})"


def _largest(errors: Iterable[float]) -> float:
    """Return the error of the largest size, with its sign; NaN of none."""
    known = [error for error in errors if np.isfinite(error)]
    return max(known, key=abs) if known else np.nan


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"
