"""How long measuring a recording takes beside NeuroKit2 called for each window in the plain way, one processor.

The plain way is what its examples do: cut the signal into windows and give each to ``ecg_process``, ``ppg_process``,
``eda_process`` and ``rsp_process``, then the peaks to ``hrv_time`` and ``hrv_frequency``. EEG and motion, which we
measure too, are not in its time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.loaders.loading import load_recording
from biopercept.measures.recording import recording_features
from biopercept.preprocessing.windows import WindowSettings, cut_windows
from biopercept.recording import FloatArray, Recording, Signal


@dataclass(frozen=True)
class Timing:
    """Seconds for one recording; ``n_failed`` windows raised an error in NeuroKit2, of ``n_windows`` by signal."""

    recording: str
    minutes: float
    ours: float
    theirs: float
    n_windows: int
    n_failed: int


def page(paths: Sequence[Path]) -> str:
    """Return the page: a row per recording."""
    rows = [_timing(path) for path in paths]
    lines = [
        "# Times",
        "",
        "Written by `make measurements`; the code is `docs/measurements`. Seconds on one processor of the machine that",
        "wrote the page, libraries imported before; compare the ratio, not the seconds. Windows of 60 s every 30 s.",
        "",
        "| recording | minutes | all measures of `features` | NeuroKit2 for each window | ratio | windows, failed |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.recording} | {row.minutes:.0f} | {row.ours:.2f} s | {row.theirs:.1f} s | "
            f"{row.theirs / row.ours:.0f} | {row.n_windows}, {row.n_failed} |"
            for row in rows
        ),
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
    ]
    return "\n".join(lines)


def _timing(path: Path) -> Timing:
    recording = load_recording(path)
    _plain(recording, n_most=1)  # imports, and what is made once
    recording_features(recording)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, _ = _timed(lambda: recording_features(load_recording(path)))
        theirs, (n_windows, n_failed) = _timed(lambda: _plain(recording))
    return Timing(recording.name, recording.duration_seconds / 60, ours, theirs, n_windows, n_failed)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _plain(recording: Recording, n_most: int | None = None) -> tuple[int, int]:
    """Measure window by window with NeuroKit2; return how many windows of signals there were and how many failed."""
    settings = WindowSettings()
    onsets = cut_windows((), recording.duration_seconds, settings).onset[:n_most]
    n_windows = n_failed = 0
    for signal in recording.signals:
        if signal.modality not in _PLAIN:
            continue
        samples = signal.read()[0]
        for onset in onsets:
            first = round((float(onset) - signal.start_seconds) * signal.sampling_rate)
            window = samples[max(first, 0) : first + round(settings.length_seconds * signal.sampling_rate)]
            n_windows += 1
            try:
                _PLAIN[signal.modality](window, signal)
            except Exception:  # whatever a library raises in a window is one window that it does not measure
                n_failed += 1
    return n_windows, n_failed


def _heart(process: str, peaks: str) -> Callable[[FloatArray, Signal], None]:
    def measured(window: FloatArray, signal: Signal) -> None:
        import neurokit2 as nk

        rate = int(signal.sampling_rate)
        _, info = getattr(nk, process)(window, sampling_rate=rate)
        nk.hrv_time(info[peaks], sampling_rate=rate)
        nk.hrv_frequency(info[peaks], sampling_rate=rate)

    return measured


def _skin(window: FloatArray, signal: Signal) -> None:
    import neurokit2 as nk

    nk.eda_process(window, sampling_rate=int(signal.sampling_rate))


def _breathing(window: FloatArray, signal: Signal) -> None:
    import neurokit2 as nk

    nk.rsp_process(window, sampling_rate=int(signal.sampling_rate))


_PLAIN: dict[str, Callable[[FloatArray, Signal], None]] = {
    "ecg": _heart("ecg_process", "ECG_R_Peaks"),
    "bvp": _heart("ppg_process", "PPG_Peaks"),
    "eda": _skin,
    "resp": _breathing,
}
