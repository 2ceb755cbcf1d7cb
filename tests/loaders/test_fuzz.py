"""Damaged headers and text of every format: a recording that conforms, or one sentence that names the file.

Real headers are changed when the tests run, where the real files lie beside the checkout, and those of files that the
tests write. Each is read in a process apart, so that a crash, a hang and a bomb are seen. ``FUZZ_EXAMPLES`` says how
many changes each file gets; ``make fuzz`` sets more.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from biopercept.errors import RecordingError
from biopercept.loaders.reading_process import reading_apart
from biopercept.loaders.reading_service import GIGABYTES, SECONDS
from biopercept.prepare.sources import recording_at
from biopercept.recording import Recording

N_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "8"))
_FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"
_LARGEST = 3 << 20
_PER_FOLDER = 2
_TROUBLE = re.compile(r"reading it (ended|took|needs)|a fault of ours")


def _corpus() -> list[Path]:
    """Return small real files of every format, a few of each: headers are what is changed, not samples."""
    if not _FORMATS.is_dir():
        return []
    chosen: list[Path] = []
    for folder in sorted(path for path in _FORMATS.iterdir() if path.is_dir()):
        by_suffix: dict[str, list[Path]] = {}
        for file in sorted(folder.rglob("*"), key=lambda one: one.stat().st_size):
            if file.is_file() and 0 < file.stat().st_size <= _LARGEST and file.suffix.lower() not in (".md", ".txt.md"):
                by_suffix.setdefault(file.suffix.lower(), []).append(file)
        chosen += [file for files in by_suffix.values() for file in files[:_PER_FOLDER]]
    return chosen


@st.composite
def changes(draw: DrawFn) -> tuple[float, list[tuple[float, str, bytes]]]:
    """What is done to a file: the part of it that is changed, and each change's place in that, kind and bytes."""
    part = draw(st.sampled_from([0.005, 0.05, 1.0]))
    text = st.sampled_from(
        [b"-1", b"0", b"nan", b"1e40999999990", b"99999999999999999999", b"1e308", b"\x00", b"\xff\xff\xff\x7f", b"\n",
         b"\t", b",", b"\"", b"../../etc/passwd", b"http://localhost/x", b"<script>", b"=1+1", b"\xff\xfe", b" " * 40]
    )  # fmt: skip
    content = st.one_of(text, st.binary(min_size=1, max_size=8))
    kinds = st.sampled_from(["replace", "insert", "delete", "cut", "repeat"])
    return part, draw(st.lists(st.tuples(st.floats(0, 1), kinds, content), min_size=1, max_size=4))


def changed(content: bytes, what: tuple[float, list[tuple[float, str, bytes]]]) -> bytes:
    part, several = what
    for where, kind, new in several:
        place = int(where * min(max(part * len(content), 64), len(content)))
        if kind == "replace":
            content = content[:place] + new + content[place + len(new) :]
        elif kind == "insert":
            content = content[:place] + new + content[place:]
        elif kind == "delete":
            content = content[:place] + content[place + len(new) :]
        elif kind == "repeat":
            content = content[:place] + content[place : place + 200] * 3 + content[place:]
        elif place > 0:
            content = content[:place]
    return content


@pytest.fixture(scope="module", autouse=True)
def process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECONDS, "15")
        patch.setenv(GIGABYTES, "2")
        with reading_apart():
            yield


def holds(path: Path) -> None:
    """Hold a file, whatever it is, to one of the two outcomes that are allowed."""
    began = time.monotonic()
    try:
        recording = recording_at(path)
        _conforms(recording)
    except RecordingError as fault:
        assert not _TROUBLE.search(str(fault)), fault
        assert path.name in str(fault) or path.stem in str(fault), f"the sentence names no file: {fault}"
        assert "\n" not in str(fault)
    assert time.monotonic() - began < 60


def _conforms(recording: Recording) -> None:
    """Hold a recording to what a loader promises whatever it read, without judging amplitudes that were damaged."""
    assert recording.signals, "a recording without signals must have been refused"
    names = [signal.name.lower() for signal in recording.signals]
    assert len(set(names)) == len(names) and all(name.isprintable() and "/" not in name for name in names)
    assert all(np.isfinite(one.onset_seconds) and one.duration_seconds >= 0 for one in recording.intervals)
    for signal in recording.signals:
        assert 0 < signal.sampling_rate < 1e6 and np.isfinite(signal.start_seconds)
        assert len(set(signal.channel_names)) == signal.n_channels >= 1
        some = signal.read(0, 100_000)
        assert some.shape == (signal.n_channels, min(signal.n_samples, 100_000))
        assert some.dtype == np.float64 and not np.isinf(some).any()


def _fuzzed(source: Path, folder: Path) -> None:
    """Change a file many times, each time among copies of the files that lie beside it."""
    beside = [
        file for file in source.parent.iterdir() if file.is_file() and file.stem == source.stem and file != source
    ]
    for file in beside:
        shutil.copy2(file, folder / file.name)
    content = source.read_bytes()

    @settings(
        max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(changes())
    def check(what: tuple[float, list[tuple[float, str, bytes]]]) -> None:
        (folder / source.name).write_bytes(changed(content, what))
        holds(folder / source.name)

    check()


@pytest.mark.parametrize("source", _corpus(), ids=lambda path: str(path.relative_to(_FORMATS)))
def test_a_damaged_real_file_conforms_or_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    _fuzzed(source, tmp_path)


@pytest.mark.parametrize("fixture", ["edf_file", "e4_zip", "wfdb_record"])
def test_a_damaged_made_file_conforms_or_is_refused_by_name(
    request: pytest.FixtureRequest, fixture: str, tmp_path: Path
) -> None:
    source: Path = request.getfixturevalue(fixture)
    (tmp_path / "fuzzed").mkdir()
    _fuzzed(source if source.is_file() else source.with_suffix(".hea"), tmp_path / "fuzzed")


_CELLS = st.one_of(
    st.floats().map(repr), st.text(max_size=6), st.sampled_from(["", "1,5", "1e40999999990", "NaN", "12:00:01"])
)


@settings(max_examples=4 * N_EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(
    st.lists(st.lists(_CELLS, min_size=1, max_size=4), max_size=12),
    st.sampled_from(["time,EDA (uS)\n", "EDA;ECG\n", "", "# a\n% b\n", "timestamp\teda\n"]),
    st.sampled_from([",", ";", "\t"]),
)
def test_any_table_conforms_or_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], header: str, mark: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_table.csv"
    path.write_text(header + "\n".join(mark.join(row) for row in rows), encoding="utf-8", errors="replace")
    holds(path)
