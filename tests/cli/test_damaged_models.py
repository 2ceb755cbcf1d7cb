"""A model's folder with damaged weights or description, from outside: refused in a sentence, and never used in part."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import biopercept
from biopercept.cli.main import build_app
from biopercept.training.checkpoint import DESCRIPTION, WEIGHTS

SHIPPED = Path(biopercept.__file__).parent / "shipped"
N_FLIPS = 200
SENTENCES = ("is damaged", "is not JSON", "is not a biopercept model", "has schema", "does not describe its weights")


APP = cache(build_app)


def refusal(*words: object) -> str:
    """Return the one line with which a command refuses."""
    result = CliRunner().invoke(APP(), [str(word) for word in words])
    assert getattr(result.exception, "exit_code", None) == 2, (words, result.exception, result.output)
    said = str(result.exception)
    assert "\n" not in said and "Traceback" not in said
    return said


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED / "stress-wrist", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "S1.csv"
    path.write_text("time,EDA (uS)\n" + "".join(f"{k / 4},{2 + k % 9 / 50}\n" for k in range(4 * 130)))
    return path


def test_no_flipped_bit_of_a_model_is_predicted_with(model: Path, recording: Path, tmp_path: Path) -> None:
    draw, n_refused = random.Random(0), 0
    for number in range(N_FLIPS):
        path = model / (WEIGHTS, DESCRIPTION)[number % 2]
        whole = path.read_bytes()
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        if number < 60 and path.name == WEIGHTS:
            at = draw.randrange(4000)  # its header
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(bytes([whole[at] ^ 1 << bit]))
        if path.name == WEIGHTS or not is_alike(whole, path.read_bytes()):
            said = refusal("predict", model, recording, "-o", tmp_path / "out", "--device", "cpu", "-q")
            assert path.name in said and any(words in said for words in SENTENCES), said
            n_refused += 1
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(whole[at : at + 1])
    assert n_refused >= N_FLIPS - 3
    assert not (tmp_path / "out").exists()


def is_alike(one: bytes, other: bytes) -> bool:
    """Return whether two texts say the same, as 1e5 and 1E5 do."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


Tensors = dict[str, Any]


def parts(content: bytes) -> tuple[Tensors, bytes]:
    n_bytes = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + n_bytes]), content[8 + n_bytes :]


def whole(header: Tensors, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _edited(change: Callable[[Tensors, str], object]) -> Callable[[bytes], bytes]:
    """Return what changes the header, of which the name of the first tensor is given as well."""

    def edit(content: bytes) -> bytes:
        header, data = parts(content)
        change(header, next(name for name in sorted(header) if not name.startswith("__")))
        return whole(header, data)

    return edit


def _with(rename: Callable[[dict[str, np.ndarray]], object]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        from safetensors.numpy import load, save

        tensors = load(content)
        rename(tensors)
        return save(tensors)

    return edit


def first(tensors: dict[str, np.ndarray]) -> str:
    return min(tensors)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "cut in the header": lambda c: c[:100],
    "cut in the data": lambda c: c[: len(c) // 2],
    "a header longer than the file": lambda c: struct.pack("<Q", 1 << 62) + c[8:],
    "a header that is no JSON": lambda c: c[:8] + b"x" + c[9:],
    "a header nested without end": lambda c: struct.pack("<Q", 200_000) + b'{"a":' * 40_000,
    "places that overlap": _edited(lambda h, one: h[one].update(data_offsets=[0, 8])),
    "places beyond the end": _edited(lambda h, one: h[one].update(data_offsets=[0, 1 << 60])),
    "a shape of 1e12": _edited(lambda h, one: h[one].update(shape=[10**12])),
    "an unknown type": _edited(lambda h, one: h[one].update(dtype="O")),
    "empty": lambda c: b"",
    "another shape": _with(lambda t: t.update({first(t): t[first(t)].reshape(-1)[:1].copy()})),
    "a tensor more": _with(lambda t: t.update(extra=np.zeros(3, np.float32))),
    "a tensor less": _with(lambda t: t.pop(first(t))),
    "one of another name": _with(lambda t: t.update({"x": t.pop(first(t))})),
    "not a number": _with(lambda t: t.update({first(t): np.full_like(t[first(t)], np.nan)})),
    "words for numbers": _with(lambda t: t.update({first(t): np.zeros(t[first(t)].shape, np.int64)})),
}


@pytest.mark.parametrize("kind", BAD)
def test_weights_that_cannot_be_are_refused_though_their_hash_is_right(
    kind: str, model: Path, recording: Path, tmp_path: Path
) -> None:
    content = BAD[kind]((model / WEIGHTS).read_bytes())
    (model / WEIGHTS).write_bytes(content)
    document = json.loads((model / DESCRIPTION).read_text())
    document["weights_sha256"] = hashlib.sha256(content).hexdigest()
    rest = {key: value for key, value in document.items() if key != "description_sha256"}
    document["description_sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    (model / DESCRIPTION).write_text(json.dumps(document))
    said = refusal("predict", model, recording, "-o", tmp_path / "out", "--device", "cpu", "-q")
    assert str(model) in said and len(said) < 2000
    assert not (tmp_path / "out").exists()


def test_no_command_uses_a_damaged_model(model: Path, recording: Path, made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    content = bytearray((model / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 4
    (model / WEIGHTS).write_bytes(content)
    commands = [
        "predict {model} {recording}",
        "explain {model} {recording}",
        "evaluate {model} {store}",
        "train {store} --start-from {model}",
        "pretrain {store} --start-from {model}",
        "cross-validate {store} --start-from {model}",
        "learning-curve {store} --start-from {model}",
    ]
    for command in commands:
        words = command.format(store=store, model=model, recording=recording).split()
        assert f"{WEIGHTS} in {model} is damaged" in refusal(*words, "-o", tmp_path / "out")
        assert not [*(tmp_path / "out").glob("*")]
