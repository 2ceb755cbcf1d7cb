"""Pickles give arrays and plain containers, whatever protocol wrote them, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders import numpy_pickle
from biopercept.loaders.loading import load_recording
from biopercept.loaders.numpy_pickle import read_arrays

AS_PYTHON_2 = (
    b"(dp0\nS'label'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
    b"(I1\n(I3\ntp8\ncnumpy\ndtype\np9\n(S'i2'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
    b"S'\\x01\\x00\\x02\\x00\\x03\\x00'\np15\ntp16\nbs."
)
"""What Python 2 wrote by default for {'label': numpy.array([1, 2, 3], dtype='i2')}."""


def written(folder: Path, content: bytes) -> Path:
    path = folder / "S2.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_those_that_were_written(tmp_path: Path, protocol: int) -> None:
    generator = np.random.default_rng(3)
    content = {
        "subject": "S2",
        "signal": {"chest": {"ACC": generator.normal(size=(50, 3)), "EDA": generator.normal(size=50)}},
        "label": np.arange(20, dtype=np.int32),
        "big endian": np.arange(5, dtype=">f4"),
        "by columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "rest": [1, 2.5, None, True, (b"x", "y")],
    }
    read = read_arrays(written(tmp_path, pickle.dumps(content, protocol=protocol)))
    assert isinstance(read, dict)
    assert list(read) == list(content)
    for mine, theirs in (
        (read["signal"]["chest"]["ACC"], content["signal"]["chest"]["ACC"]),  # type: ignore[index]
        (read["signal"]["chest"]["EDA"], content["signal"]["chest"]["EDA"]),  # type: ignore[index]
        *((read[key], content[key]) for key in ("label", "big endian", "by columns")),
    ):
        assert np.array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert read["subject"] == "S2"
    assert read["rest"] == [1, 2.5, None, True, [b"x", "y"]]


def test_what_python_2_wrote_in_text_is_read(tmp_path: Path) -> None:
    read = read_arrays(written(tmp_path, AS_PYTHON_2))
    assert isinstance(read, dict)
    assert read["label"].tolist() == [1, 2, 3]


class _Runs:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def _text(module: str, name: str, arguments: str) -> bytes:
    return f"c{module}\n{name}\n({arguments}tR.".encode()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pickle.dumps(_Runs(os.mkdir, "made"), protocol=2), "the name posix.mkdir, which no array needs"),
        (_text("numpy.f2py", "os.mkdir", "S'made'\n"), "the name numpy.f2py.os.mkdir, which no array needs"),
        (b"\x80\x04\x8c\nnumpy.f2py\x8c\x08os.mkdir\x93\x8c\x04made\x85R.", "the name numpy.f2py.os.mkdir, which no"),
        (_text("builtins", "getattr", "cpathlib\nPath\nS'mkdir'\n"), "the name builtins.getattr, which no array"),
        (_text("numpy", "load", "S'x.npy'\n"), "the name numpy.load, which no array needs"),
        (_text("numpy", "dtype.newbyteorder", "S'<'\n"), "the name numpy.dtype.newbyteorder, which no array needs"),
        (pickle.dumps(np.array([{}], dtype=object)), "an array in an unknown form"),
        (pickle.dumps(np.array(["text"])), "an array of type"),
        (pickle.dumps(np.zeros(2, dtype=[("a", "f8")])), "an array of anything but plain numbers"),
        (pickle.dumps({1, 2}), "objects that are neither arrays nor plain containers"),
        (b"\x80\x02\x82\x01.", "objects that are neither arrays nor plain containers"),
        (b"Pfile\n.", "objects that are neither arrays nor plain containers"),
        (b"S'x'\n(tR.", "a call of something that makes no array"),
        (b"cnumpy\nndarray\n(tR.", "a call of something that makes no array"),
        (b"cnumpy\ndtype\n(S'f8'\ntR.", "something that is neither an array nor a plain container"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'f8'\ntR.", "an array without"),
        (AS_PYTHON_2.replace(b"(I3\ntp8", b"(I4\ntp8"), "an array of shape (4,) with 6 bytes"),
        (AS_PYTHON_2.replace(b"(I3\ntp8", b"(I-3\ntp8"), "an array in an unknown form"),
    ],
)
def test_whatever_is_no_array_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordingError) as fault:
        read_arrays(written(tmp_path, content))
    assert str(fault.value).startswith(f"S2.pkl: this pickle holds {what}")
    assert str(fault.value).endswith("; only arrays of numbers and plain containers are read; nothing in it was run")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("length", [1, 10, 100, 200, len(AS_PYTHON_2) - 1])
def test_a_cut_pickle_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(RecordingError, match=r"^S2.pkl: this pickle is damaged or cut \(\w+\); nothing in it was run$"):
        read_arrays(written(tmp_path, AS_PYTHON_2[:length]))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of four thousand million places
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes longer than the file
        b"\x80\x03" + b"]" * 30_000 + b"a" * 29_999 + b".",  # lists in lists
        b"\x80\x03" + b"N0" * 150_000 + b"N.",  # more instructions than any file has
        b"\x80\x03]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x03]q\x00" + b"".join(b"](" + b"h%c" % n * 9 + b"eq%c" % (n + 1) for n in range(15)) + b".",
    ],
)
def test_a_small_file_that_asks_for_much_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RecordingError, match=r"^S2.pkl: this pickle .* nothing in it was run$"):
        read_arrays(written(tmp_path, content))


def test_a_pickle_beyond_the_limit_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_pickle, "LARGEST_PICKLE", 10)
    with pytest.raises(RecordingError, match=r"^S2.pkl: larger than 0 GB, which no file of this data set is$"):
        read_arrays(written(tmp_path, AS_PYTHON_2))


@pytest.mark.parametrize("name", ["S2.pkl", "other.pkl", "other.bin", "S2/S3.pkl", "s1.dat"])
def test_a_pickle_of_no_known_data_set_stays_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({"label": np.arange(3)}, protocol=2))
    with pytest.raises(RecordingError, match=r": a Python pickle, which is not read; a pickle can run anything"):
        load_recording(path)
