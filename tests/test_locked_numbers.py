"""Numbers that a change of structure must not change: weights, predictions and scores of small runs of every kind.

Everything goes through the commands and the files that they write, so that the locks outlive any move of code. On the
processor and with the versions that the locks were written with, files and weights must be equal to the bit; elsewhere
rounding differs, so scores are compared, closely for models of features and loosely for networks.

``BIOPERCEPT_WRITE_LOCKS=1 python -m pytest tests/test_locked_numbers.py`` writes them anew, which is right only where
a change of numbers is meant.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from biopercept.cli.main import build_app

LOCKS = Path(__file__).with_name("locked_numbers.json")
IS_WRITING = os.environ.get("BIOPERCEPT_WRITE_LOCKS") == "1"
SMALL = (
    "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2",
    "training.n_epochs=2", "training.batch_size=32",
)  # fmt: skip
TWO_FOLDS = ("--split", "k-fold", "--folds", 2)
# What depends on the machine, the clock or the wording, and not on the numbers.
NOT_LOCKED = {
    "fingerprint",
    "seconds",
    "seconds_pretraining",
    "warnings",
    "versions",
    "store",
    "sha256",
    "created",
    "version",
}


def _run(*words: object, settings: tuple[str, ...] = (), network: tuple[str, ...] = SMALL) -> None:
    given = [word for text in (*network, *settings) for word in ("--set", text)]
    outcome = CliRunner().invoke(build_app(), [*map(str, words), *given, "-q"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output


@pytest.fixture(scope="module")
def stores(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a store of classes, and one of classes, an ordinal scale and a number."""
    folder = tmp_path_factory.mktemp("stores")
    numbered = made.numbered(made.study(4))
    return {
        "one": made.store(folder / "one.h5", made.study(4)),
        "more": made.store(folder / "more.h5", numbered, task=(made.TASK, made.LEVEL, made.LOAD)),
        "planted": made.store(
            folder / "planted.h5", made.planted("motion", n_subjects=8), features=made.AUDIT_FEATURES
        ),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def model(stores: dict[str, Path], folder: Path) -> Path:
    _run("train", stores["one"], "-o", folder / "general", "--exclude-subjects", "P01")
    return folder / "general"


def _numbers(document: Any) -> Any:
    """Return a result document without what depends on machine, clock or wording; floats to 12 digits."""
    if isinstance(document, dict):
        return {key: _numbers(value) for key, value in document.items() if key not in NOT_LOCKED}
    if isinstance(document, list):
        return [_numbers(value) for value in document]
    return float(f"{document:.12g}") if isinstance(document, float) else document


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _json(path: Path) -> str:
    document = _numbers(json.loads(path.read_text(encoding="utf-8")))
    return _digest(json.dumps(document, sort_keys=True).encode())


def _table(path: Path) -> str:
    return _digest(path.read_bytes())


def _weights(model: Path) -> list[str]:
    """Return the digest of each tensor, whatever its name; all-zero tensors are alike and left out."""
    tensors = load_file(model / "weights.safetensors").values()
    return sorted(_digest(str(t.shape).encode() + t.tobytes()) for t in tensors if np.any(t))


def _scores(path: Path) -> list[float]:
    """Return the main numbers of a scores.json, for comparison on other machines."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = ("balanced_accuracy", "auroc", "mae", "ccc", "macro_f1")
    values = (document[name]["mean"] for name in names if isinstance(document.get(name), dict))
    return [round(value, 9) for value in values if value is not None]


def _cross_validation(output: Path) -> dict[str, Any]:
    names = sorted(str(p.relative_to(output)) for p in output.rglob("predictions.csv"))
    files = {name: _table(output / name) for name in names}
    documents = {str(p.relative_to(output)): _json(p) for p in sorted(output.rglob("scores.json"))}
    scores = [value for name in documents for value in _scores(output / name)]
    return {"exact": {**files, **documents}, "scores": scores}


Case = Callable[[dict[str, Path], Path, Path], dict[str, Any]]
CASES: dict[str, Case] = {}
FEATURE_MODELS = ("logistic", "majority-vote", "audit")  # fitted the same on every processor, but for rounding


def _cross_validated(name: str, store: str, *words: object, settings: tuple[str, ...] = ()) -> None:
    network = () if name in FEATURE_MODELS else SMALL

    def case(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
        _run("cross-validate", stores[store], "-o", folder / name, *words, settings=settings, network=network)
        return _cross_validation(folder / name)

    CASES[name] = case


def _trained(name: str, store: str, *words: object, settings: tuple[str, ...] = (), from_model: bool = False) -> None:
    def case(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
        start = ("--start-from", model) if from_model else ()
        _run("train", stores[store], "-o", folder / name, *words, *start, settings=settings)
        return {"exact": {"weights": _weights(folder / name)}, "scores": []}

    CASES[name] = case


CLASSES = ("--task", "stress")
_cross_validated("classes", "one", *TWO_FOLDS)
_cross_validated("classes with two seeds", "one", *TWO_FOLDS, "--seeds", 2)
_cross_validated("leave one out, global", "one", "--split", "subject", "--normalisation", "global")
_cross_validated("reference", "one", *TWO_FOLDS, "--normalisation", "reference",
                 settings=("normalisation.reference_seconds=60",))  # fmt: skip
_cross_validated("temperature", "one", *TWO_FOLDS, settings=("evaluation.calibration=temperature",))
_cross_validated("isotonic and sets", "planted", *TWO_FOLDS,
                 settings=("evaluation.calibration=isotonic", "evaluation.conformal_coverage=0.9",
                           "evaluation.calibration_folds=3"))  # fmt: skip
_cross_validated("missing sensors", "one", *TWO_FOLDS, settings=("evaluation.missing_sensors=single",))
_cross_validated("ordinal", "more", *TWO_FOLDS, "--task", "level")
_cross_validated("regression", "more", *TWO_FOLDS, "--task", "load")
_cross_validated(
    "two tasks", "more", *TWO_FOLDS, "--task", "stress,load", settings=("training.task_weights=[load=0.5]",)
)
_cross_validated("single times", "more", *TWO_FOLDS, *CLASSES, settings=("training.dense_weight=1",))
_cross_validated("split by time", "one", "--split", "time", "--subjects", "P01,P02",
                 settings=("personalisation.scratch_steps=10",))  # fmt: skip
_cross_validated("stacked", "one", *TWO_FOLDS, settings=("evaluation.folds_at_once=stacked",))
_cross_validated("pretrained in each fold", "one", *TWO_FOLDS, "--pretrain", settings=("pretraining.n_epochs=1",))
_cross_validated("logistic", "one", *TWO_FOLDS, "--model", "logistic")
_cross_validated("majority-vote", "one", *TWO_FOLDS, "--model", "majority-vote")
_cross_validated("cnn-late-fusion", "one", *TWO_FOLDS, "--model", "cnn-late-fusion")
_cross_validated("lstm", "one", *TWO_FOLDS, "--model", "lstm")
_trained("final model", "one")
_trained("final model of two tasks", "more", "--task", "stress,load")
_trained("final ordinal model", "more", "--task", "level")
_trained("final model with single times", "more", *CLASSES, settings=("training.dense_weight=1",))
_trained("final calibrated model", "one", settings=("evaluation.calibration=temperature",))
_trained("model of one person", "one", "--subject", "P01", settings=("personalisation.scratch_steps=5",))
for _method in ("head", "low-rank", "full"):
    _trained(f"model made one's own: {_method}", "one", "--subject", "P01", from_model=True,
             settings=(f"personalisation.method={_method}", "personalisation.n_steps=6"))  # fmt: skip
_trained("started from a model", "one", from_model=True)


def _pretrained(name: str) -> None:
    def case(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
        settings = (f"pretraining.objective={name}", "pretraining.n_epochs=2", "pretraining.batch_size=16")
        _run("pretrain", stores["one"], "-o", folder / name, settings=settings)
        return {"exact": {"weights": _weights(folder / name)}, "scores": []}

    CASES[f"pretrain, {name}"] = case


for _objective in ("masked", "contrastive", "alignment"):
    _pretrained(_objective)


def _case(case: Case) -> Case:
    CASES[case.__name__.replace("_", " ").strip()] = case
    return case


@_case
def personal_curve(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
    settings = ("personalisation.n_steps=4", "personalisation.scratch_steps=3", "personalisation.k=[1, 2]",
                "personalisation.methods=[reference, head, low-rank, full, scratch]",
                "normalisation.reference_seconds=60")  # fmt: skip
    _run("personalise", stores["one"], "-o", folder / "curve", "--folds", 2, settings=settings)
    names = ("personalisation.csv", "personalisation.json")
    return {"exact": {names[0]: _table(folder / "curve" / names[0]), names[1]: _json(folder / "curve" / names[1])},
            "scores": []}  # fmt: skip


@_case
def generation(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
    settings = ("pretraining.n_epochs=1", "pretraining.batch_size=16")
    _run("score-generation", stores["one"], "-o", folder / "generation", "--folds", 2, settings=settings)
    path = folder / "generation" / "generation.json"
    return {"exact": {path.name: _json(path)}, "scores": []}


@_case
def learning_curve(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
    _run("learning-curve", stores["one"], "-o", folder / "learning", "--model", "logistic", network=())
    path = folder / "learning" / "learning_curve.json"
    return {"exact": {path.name: _json(path)}, "scores": []}


@_case
def audit(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
    settings = ("audit.n_permutations=20", "audit.n_shifts=100", "audit.n_trees=10")
    _run("audit", stores["planted"], "-o", folder / "audit", settings=settings, network=())
    return {"exact": {"audit.json": _json(folder / "audit" / "audit.json")}, "scores": []}


@_case
def compared(stores: dict[str, Path], folder: Path, model: Path) -> dict[str, Any]:
    for name in ("logistic", "lda"):
        _run(
            "cross-validate",
            stores["planted"],
            "-o",
            folder / "compared" / name,
            "--model",
            name,
            *TWO_FOLDS,
            network=(),
        )
    folders = (folder / "compared" / name for name in ("logistic", "lda"))
    _run("compare", *folders, "-o", folder / "comparison", network=())
    return {"exact": {"compare.json": _json(folder / "comparison" / "compare.json")}, "scores": []}


@pytest.fixture(scope="module")
def locks() -> Iterator[dict[str, Any]]:
    """Give the locks; when they are written anew, write them after the last case."""
    document: dict[str, Any] = {} if IS_WRITING else json.loads(LOCKS.read_text(encoding="utf-8"))
    yield document
    if IS_WRITING:
        LOCKS.write_text(json.dumps({"machine": _machine(), **document}, indent=1, sort_keys=True) + "\n")


def _machine() -> str:
    """Return what bits depend on: processor and versions of what computes."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    kinds = ("vendor_id", "cpu family", "model\t", "stepping")
    processor = " ".join(line.split(":")[1].strip() for kind in kinds for line in lines if line.startswith(kind))
    first = " ".join(processor.split()[:4]) if processor else platform.processor()
    return f"{first}; torch {torch.__version__}; numpy {np.__version__}; python {platform.python_version()}"


@pytest.mark.parametrize("name", sorted(CASES))
def test_numbers_are_those_that_were_locked(
    name: str, locks: dict[str, Any], stores: dict[str, Path], folder: Path, model: Path
) -> None:
    outcome = CASES[name](stores, folder, model)
    if IS_WRITING:
        locks[name] = outcome
        return
    if locks["machine"] == _machine():
        assert outcome == locks[name]
    tolerance = 1e-6 if name in FEATURE_MODELS else 0.25  # a network's rounding grows with every step
    np.testing.assert_allclose(outcome["scores"], locks[name]["scores"], rtol=tolerance, atol=tolerance)
