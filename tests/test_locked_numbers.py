"""Numbers that a change of structure must not change: weights, predictions and scores of small runs of every kind.

Everything goes through the commands and the files that they write, so that the locks outlive any move of code. On the
kind of machine that wrote the locks (processor, instructions, versions of the libraries; always one thread) files and
weights must be equal to the bit. Elsewhere rounding differs, and a few plain numbers of each run are compared within
tolerances; :func:`test_equal_to_the_bit` is then skipped with a reason that names the two machines.

``BIOPERCEPT_WRITE_LOCKS=1 python -m pytest -s tests/test_locked_numbers.py`` writes the locks again (with ``-k NAME``
those of the named cases) and shows what changed, which is right only where a change of numbers is meant. Weights are
locked tensor by tensor, without their names: of a network that no longer makes parts that no task reads, some are gone
and none are new.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from read_settings import set_what_is_read
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.files import write_json
from biopercept.resources import sample_study
from biopercept.results.audit import Audit
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import CrossValidation, NumberValidation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.folder import FoldsFile
from biopercept.results.generation import Generation
from biopercept.results.predictions import PredictionSidecar, TraceSidecar
from biopercept.results.tuning import Tuning
from biopercept.typed_values import from_plain, to_plain

LOCKS = Path(__file__).with_name("locked_numbers.json")
IS_WRITING = os.environ.get("BIOPERCEPT_WRITE_LOCKS") == "1"

SMALL = (
    "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2",
    "training.n_epochs=2", "training.batch_size=32",
)  # fmt: skip
NO_NETWORK: tuple[str, ...] = ()
WITHOUT_SETTINGS = ("predict", "compare")
TWO_FOLDS = ("--split", "k-fold", "--folds", 2)
# What depends on the machine or the clock, and what is no number: warnings, settings, versions of the layout.
NOT_LOCKED = frozenset({
    "biopercept", "cautions", "fingerprint", "schema", "seconds", "seconds_pretraining", "settings", "store",
    "versions", "warnings",
})  # fmt: skip

# Elsewhere than on the machine of the locks: models of features end within the tolerance of their optimiser, and a
# network's rounding grows with every step of training.
CLOSE, LOOSE = 1e-3, 0.05
FEATURES_ALONE = frozenset(
    {"logistic", "majority-vote", "subjects of one class, logistic", "learning curve", "compared", "prepared"}
)


# --- what is kept of the files of a run ---


def _digest(data: bytes, digits: int = 16) -> str:
    return hashlib.sha256(data).hexdigest()[:digits]


def _without_words(document: Any) -> Any:
    """Return a JSON document without what is not locked and without sentences, which may be worded better."""
    if isinstance(document, dict):
        kept = ((key, value) for key, value in document.items() if key not in NOT_LOCKED)
        pairs = [["" if " " in key else key, _without_words(value)] for key, value in kept]
        return sorted(pairs, key=json.dumps)
    if isinstance(document, list):
        return [_without_words(value) for value in document]
    if isinstance(document, str):
        return None if " " in document else document
    return float(f"{document:.12g}") if isinstance(document, float) else document


def _fields(path: Path) -> dict[str, str]:
    """Return the digest of each field of a JSON document, so that a failure names the field."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return {
        key: _digest(json.dumps(_without_words(value)).encode())
        for key, value in document.items()
        if key not in NOT_LOCKED
    }


def _floats(document: Any, names: frozenset[str] | None = None, *, is_named: bool = True) -> Iterator[float]:
    """Yield the numbers of a JSON document in its order, of all fields or of those with certain names."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in NOT_LOCKED:
                yield from _floats(value, names, is_named=names is None or key in names)
    elif isinstance(document, list):
        for value in document:
            yield from _floats(value, names, is_named=is_named)
    elif isinstance(document, float) and is_named and math.isfinite(document):
        yield document


def _means(path: Path) -> list[float]:
    names = frozenset({"mean", "score", "brier"})
    return list(_floats(json.loads(path.read_text(encoding="utf-8")), names))


def _measured(path: Path) -> list[float]:
    """Return the numbers of a JSON document that were measured, without their names, so that fields may move.

    They are those that need more than six digits; numbers that people choose need fewer.
    """
    floats = _floats(json.loads(path.read_text(encoding="utf-8")))
    return sorted({float(f"{value:.12g}") for value in floats if float(f"{value:.6g}") != value})


def _rows(path: Path) -> list[float]:
    """Return the numbers in the second and in the middle row of a table."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [float(cell) for row in (rows[2], rows[len(rows) // 2]) for cell in row if _is_number(cell)]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _tables(output: Path, pattern: str) -> dict[str, Any]:
    """Return what is locked of the tables and scores below a folder."""
    tables, documents = sorted(output.rglob(pattern)), sorted(output.rglob("scores.json"))
    assert tables
    exact: dict[str, Any] = {str(path.relative_to(output)): _digest(path.read_bytes()) for path in tables}
    exact |= {str(path.relative_to(output)): _fields(path) for path in documents}
    numbers = [value for path in tables for value in _rows(path)]
    return {"exact": exact, "numbers": numbers + [value for path in documents for value in _means(path)]}


def _model(folder: Path) -> dict[str, Any]:
    return {"weights": _weights(folder), "measured": _measured(folder / "model.json")}


def _weights(model: Path) -> list[str]:
    """Return the digest of each tensor, whatever its name; all-zero tensors are alike and left out."""
    from safetensors.numpy import load_file

    tensors = load_file(model / "weights.safetensors").values()
    return sorted(_digest(str(t.shape).encode() + t.tobytes(), 8) for t in tensors if np.any(t))


def _document(path: Path) -> dict[str, Any]:
    return {"exact": {path.name: _fields(path)}, "numbers": _means(path)}


# --- the runs ---


def _run(*words: object, settings: Iterable[str] = (), network: tuple[str, ...] = SMALL) -> None:
    chosen = [] if words[0] in WITHOUT_SETTINGS else set_what_is_read(*words, settings=(*network, *settings))
    if words[0] not in WITHOUT_SETTINGS and "-c" not in words:
        chosen += ["-c", "general"]  # fixed settings: the numbers are of the code, and not of the plan's rules
    outcome = CliRunner().invoke(build_app(), [*map(str, words), *chosen, "-q"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output


@dataclass(frozen=True)
class Runs:
    """The stores and the folder of the runs; each store is made when it is first used."""

    folder: Path
    made: ModuleType

    @cached_property
    def one(self) -> Path:
        """Return a store with one task, of classes."""
        return self.made.store(self.folder / "one.h5", self.made.study(4))

    @cached_property
    def more(self) -> Path:
        """Return a store with classes, an ordinal scale and a number."""
        tasks = (self.made.TASK, self.made.LEVEL, self.made.LOAD)
        return self.made.store(self.folder / "more.h5", self.made.numbered(self.made.study(4)), task=tasks)

    @cached_property
    def planted(self) -> Path:
        """Return a store of eight people who move under stress."""
        people = self.made.planted("motion", n_subjects=8)
        return self.made.store(self.folder / "planted.h5", people, features=self.made.AUDIT_FEATURES)

    @cached_property
    def uneven(self) -> Path:
        """Return a store of six people, of whom two show one class each."""
        people = (*self.made.planted("constant", n_subjects=2), *self.made.planted(n_subjects=6)[2:])
        return self.made.store(self.folder / "uneven.h5", people, features=self.made.AUDIT_FEATURES)

    @cached_property
    def study(self) -> Path:
        """Return a study folder of three people with two tasks, and beside it, prepared from it, ``study.h5``."""
        folder = self.folder / "study"
        folder.mkdir()
        for name, text in _study_files():
            (folder / name).write_text(text, encoding="utf-8")
        windows = ("windows.length_seconds=20", "windows.step_seconds=10")
        _run("prepare", folder, "-o", self.folder / "study.h5", settings=windows, network=NO_NETWORK)
        return folder

    @cached_property
    def model(self) -> Path:
        """Return a model of everybody but P01, from which others start."""
        _run("train", self.one, "-o", self.folder / "general", "--exclude-subjects", "P01")
        return self.folder / "general"


def _study_files() -> Iterator[tuple[str, str]]:
    """Give name and text of the files of a study of skin conductance, with stress and with a load from 10 to 62."""
    times = np.arange(0, 180, 0.25)
    for person in range(3):
        drift = 0.02 * np.random.default_rng(person).normal(size=len(times)).cumsum()
        rows = zip(times, 3 + person + (times // 60 == 1) + drift, strict=True)
        yield f"S{person}.csv", "time,EDA (uS)\n" + "".join(f"{time},{value:.4f}\n" for time, value in rows)
    people = range(3)
    stages = [(0, "baseline", 10), (60, "stroop", 60), (120, "baseline", "n/a")]
    tables = {
        "participants": ["participant_id", *(f"S{person}" for person in people)],
        "recordings": ["participant_id\trecording\tpath", *(f"S{person}\tlab\tS{person}.csv" for person in people)],
        "events": [
            "participant_id\trecording\tonset\tduration\ttrial_type\tload",
            *(f"S{p}\tlab\t{onset}\t60\t{name}\t{load}" for p in people for onset, name, load in stages),
        ],
    }
    yield from ((f"{name}.tsv", "\n".join(lines) + "\n") for name, lines in tables.items())
    classes = "{classes: {rest: [baseline], stress: [stroop]}}"
    yield "study.yaml", f"name: written\ntasks:\n  stress: {classes}\n  load: {{kind: regression, column: load}}\n"


Case = Callable[[Runs], dict[str, Any]]
CASES: dict[str, Case] = {}


def _case(case: Case) -> Case:
    CASES[case.__name__.replace("_", " ")] = case
    return case


def _cross_validated(name: str, store: str, *words: object, settings: Iterable[str] = ()) -> None:
    def case(runs: Runs) -> dict[str, Any]:
        network = NO_NETWORK if name in FEATURES_ALONE else SMALL
        output = runs.folder / name
        _run("cross-validate", getattr(runs, store), "-o", output, *words, settings=settings, network=network)
        return _tables(output, "predictions.csv")

    CASES[name] = case


_cross_validated("classes", "one", *TWO_FOLDS)
_cross_validated("classes with two seeds", "one", *TWO_FOLDS, "--seeds", 2)
_cross_validated("leave one out, global", "one", "--split", "subject", "--normalisation", "global")
_cross_validated("reference", "one", *TWO_FOLDS, "--normalisation", "reference",
                 settings=["normalisation.reference_seconds=60"])  # fmt: skip
_cross_validated("subjects of one class", "uneven", *TWO_FOLDS)
_cross_validated("subjects of one class, logistic", "uneven", *TWO_FOLDS, "--model", "logistic")
_cross_validated("temperature", "one", *TWO_FOLDS, settings=["evaluation.calibration=temperature"])
_cross_validated("isotonic and sets", "planted", *TWO_FOLDS,
                 settings=["evaluation.calibration=isotonic", "evaluation.conformal_coverage=0.9",
                           "evaluation.calibration_folds=3"])  # fmt: skip
_cross_validated("missing sensors", "one", *TWO_FOLDS, "--missing-sensors")
_cross_validated("ordinal", "more", *TWO_FOLDS, "--task", "level")
_cross_validated("regression", "more", *TWO_FOLDS, "--task", "load")
_cross_validated("two tasks", "more", *TWO_FOLDS, "--task", "stress,load",
                 settings=["training.task_weights=[load=0.5]"])  # fmt: skip
_cross_validated("single times", "more", *TWO_FOLDS, "--task", "stress", settings=["training.dense_weight=1"])
_cross_validated("split by time", "one", "--split", "time", "--subjects", "P01,P02",
                 settings=["personalisation.scratch_steps=10"])  # fmt: skip
_cross_validated("stacked", "one", *TWO_FOLDS, settings=["evaluation.folds_at_once=stacked"])
_cross_validated("pretrained in each fold", "one", *TWO_FOLDS, "--pretrain", settings=["pretraining.n_epochs=1"])
for _name in ("logistic", "majority-vote", "cnn-late-fusion", "lstm"):
    _cross_validated(_name, "one", *TWO_FOLDS, "--model", _name)


def _trained(name: str, store: str, *words: object, settings: Iterable[str] = (), starts: bool = False) -> None:
    def case(runs: Runs) -> dict[str, Any]:
        start = ("--start-from", runs.model) if starts else ()
        _run("train", getattr(runs, store), "-o", runs.folder / name, *words, *start, settings=settings)
        return _model(runs.folder / name)

    CASES[name] = case


_trained("final model", "one")
_trained("final model of two tasks", "more", "--task", "stress,load")
_trained("final ordinal model", "more", "--task", "level")
_trained("final model of a number", "more", "--task", "load")
_trained("final model with single times", "more", "--task", "stress", settings=["training.dense_weight=1"])
_trained("final calibrated model", "one", settings=["evaluation.calibration=temperature"])
_trained("model of one person", "one", "--subject", "P01", settings=["personalisation.scratch_steps=5"])
for _method in ("head", "low-rank", "full"):
    _trained(f"model made one's own: {_method}", "one", "--subject", "P01", starts=True,
             settings=[f"personalisation.method={_method}", "personalisation.n_steps=6"])  # fmt: skip
_trained("started from a model", "one", starts=True)


def _predicted(name: str, *words: object, settings: Iterable[str] = (), every: tuple[object, ...] = ()) -> None:
    def case(runs: Runs) -> dict[str, Any]:
        model, output = runs.folder / f"{name}: model", runs.folder / name
        study = runs.study
        _run("train", study.with_suffix(".h5"), "-o", model, *words, settings=settings)
        _run("predict", model, study, "-o", output, "--subjects", "S0,S2", *every, network=NO_NETWORK)
        return _tables(output, "*.tsv")

    CASES[name] = case


_predicted("predicted classes", "--task", "stress")
_predicted("predicted classes and numbers", "--task", "stress,load", settings=["training.dense_weight=1"],
           every=("--every", 5))  # fmt: skip


def _pretrained(objective: str) -> None:
    def case(runs: Runs) -> dict[str, Any]:
        settings = (f"pretraining.objective={objective}", "pretraining.n_epochs=2", "pretraining.batch_size=16")
        _run("pretrain", runs.one, "-o", runs.folder / objective, settings=settings)
        return {"weights": _weights(runs.folder / objective)}

    CASES[f"pretrain, {objective}"] = case


for _objective in ("masked", "contrastive", "alignment"):
    _pretrained(_objective)


@_case
def prepared(runs: Runs) -> dict[str, Any]:
    """Lock what a store holds of a person of the sample study: every array, and some features to read."""
    import h5py

    path = runs.folder / "prepared.h5"
    with sample_study() as study:
        _run("prepare", study, "-o", path, "--subjects", "S01", network=NO_NETWORK)
    digests, features = {}, []

    def keep(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            digests[name] = _digest(json.dumps(np.asarray(member).astype(str).tolist()).encode())
            if name.endswith("features"):
                features.extend(value for value in map(float, member[1]) if math.isfinite(value))

    with h5py.File(path) as store:
        store.visititems(keep)
    assert digests and features
    return {"exact": {path.name: digests}, "numbers": features}


@_case
def personal_curve(runs: Runs) -> dict[str, Any]:
    settings = ("personalisation.n_steps=4", "personalisation.scratch_steps=3", "personalisation.k=[2]",
                "personalisation.methods=[reference, head, low-rank, full, scratch]",
                "normalisation.reference_seconds=60")  # fmt: skip
    output, people = runs.folder / "curve", ("--subjects", "P01,P02,P03")
    _run("personalise", runs.one, "-o", output, "--folds", 2, *people, settings=settings)
    table, curve = output / "personalisation.csv", _document(output / "personalisation.json")
    return {"exact": {**curve["exact"], table.name: _digest(table.read_bytes())}, "numbers": curve["numbers"]}


@_case
def generation(runs: Runs) -> dict[str, Any]:
    settings = ("pretraining.n_epochs=1", "pretraining.batch_size=16")
    _run("score-generation", runs.one, "-o", runs.folder / "generation", "--folds", 2, settings=settings)
    return _document(runs.folder / "generation" / "generation.json")


@_case
def learning_curve(runs: Runs) -> dict[str, Any]:
    words = ("--model", "logistic", "--shares", "0.5,1", *TWO_FOLDS)
    _run("learning-curve", runs.planted, "-o", runs.folder / "learning", *words, network=NO_NETWORK)
    return _document(runs.folder / "learning" / "learning_curve.json")


@_case
def tuned(runs: Runs) -> dict[str, Any]:
    candidates = runs.folder / "candidates.yaml"
    lines = ("network: {}", "trees: {model: boosting}", "joined: {ensemble: [network, trees]}")
    candidates.write_text("\n".join(lines), encoding="utf-8")
    _run("tune", runs.planted, "-o", runs.folder / "tuned", "--candidates", candidates, "--folds", 3)
    return _document(runs.folder / "tuned" / "tuning.json")


@_case
def audit(runs: Runs) -> dict[str, Any]:
    settings = ("audit.n_permutations=20", "audit.n_shifts=100", "audit.n_trees=10")
    _run("audit", runs.planted, "-o", runs.folder / "audit", "--fit", settings=settings)
    return _document(runs.folder / "audit" / "audit.json")


@_case
def compared(runs: Runs) -> dict[str, Any]:
    models = ("logistic", "lda")
    outputs = [runs.folder / "compared" / model for model in models]
    for model, output in zip(models, outputs, strict=True):
        _run("cross-validate", runs.planted, "-o", output, "--model", model, *TWO_FOLDS, network=NO_NETWORK)
    _run("compare", *outputs, "-o", runs.folder / "comparison", network=NO_NETWORK)
    return _document(runs.folder / "comparison" / "compare.json")


# --- the comparison ---


def machine() -> dict[str, str]:
    """Return what the last bits of a result depend on."""
    import torch
    from threadpoolctl import threadpool_info

    libraries = ("torch", "numpy", "scipy", "scikit-learn", "neurokit2")
    blas = sorted(
        {f"{pool['internal_api']} {pool['architecture']}" for pool in threadpool_info() if "architecture" in pool}
    )
    return {
        "processor": _processor(),
        "instructions": f"{torch.backends.cpu.get_cpu_capability()}; {', '.join(blas)}",
        "libraries": ", ".join(f"{name} {version(name)}" for name in libraries),
        "python": platform.python_version(),
        "threads": "1",
    }


def _processor() -> str:
    """Return maker, family, model and stepping of the first processor, where the system tells them."""
    path = Path("/proc/cpuinfo")
    first = path.read_text(encoding="utf-8").split("\n\n")[0] if path.is_file() else ""
    fields = dict(line.partition("\t")[::2] for line in first.splitlines())
    words = [fields[name].strip("\t: ") for name in ("vendor_id", "cpu family", "model", "stepping") if name in fields]
    return " ".join(words) or f"{platform.system()} {platform.machine()} {platform.processor()}"


def differences(locked: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is not equal to the bit; new fields of a document are no difference."""
    found = []
    for name, lock in locked.get("exact", {}).items():
        value = outcome["exact"].get(name)
        if isinstance(lock, dict) and isinstance(value, dict):
            fields = [field for field in lock if value.get(field) != lock[field]]
            found += [f"{name}: {', '.join(fields)} changed"] if fields else []
        elif value != lock:
            found.append(f"{name} {'changed' if value else 'is gone'}")
    if "weights" in locked:
        before, after = Counter(locked["weights"]), Counter(outcome["weights"])
        new, gone = (after - before).total(), (before - after).total()
        if new or gone:
            found.append(f"weights: of {before.total()} tensors {gone} are gone, {new} are new or changed")
    if lost := sorted(set(locked.get("measured", ())) - set(outcome.get("measured", ()))):
        found.append(f"model.json: {', '.join(map(str, lost))} are gone")
    return found


def assert_close(locked: dict[str, Any], outcome: dict[str, Any], tolerance: float) -> None:
    """Compare plain numbers one by one, and each measured number of a model with the nearest."""
    np.testing.assert_allclose(outcome.get("numbers", ()), locked.get("numbers", ()), rtol=tolerance, atol=tolerance)
    numbers = np.array(outcome.get("measured", ()))
    for value in locked.get("measured", ()):
        np.testing.assert_allclose(numbers[np.abs(numbers - value).argmin()], value, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread whatever the environment says."""
    import torch
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield
    torch.set_num_threads(n_threads)


RESULTS: dict[str, Any] = {
    kind.FILE: kind for kind in (Audit, Comparison, FoldsFile, Generation, LearningCurve, PersonalCurve, Tuning)
} | {PersonalCurve.FOLDS: FoldsFile, "generation_folds.json": FoldsFile, "scores.json": CrossValidation}
"""The class of each file of results; of predictions it depends on more than the name."""


def _class_of(path: Path, document: dict[str, Any]) -> Any:
    """Return the class of a result file, or None where it is not one."""
    if document.get("kind") == "regression":
        return NumberValidation
    if path.name.endswith(("_predictions.json", "_trace.json")):
        return PredictionSidecar if path.name.endswith("_predictions.json") else TraceSidecar
    return RESULTS.get(path.name)


@pytest.fixture(scope="module")
def runs(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), made)


def _read() -> dict[str, Any]:
    """Return the locks, with lists for what the file holds in one line each."""
    document: dict[str, Any] = json.loads(LOCKS.read_text(encoding="utf-8"))
    for lock in document["cases"].values():
        for name, kind in (("weights", str), ("measured", float), ("numbers", float)):
            if name in lock:
                lock[name] = [kind(word) for word in lock[name].split()]
    return document


def _write(document: dict[str, Any]) -> None:
    cases = {
        name: {key: value if key == "exact" else " ".join(map(_short, value)) for key, value in lock.items()}
        for name, lock in document["cases"].items()
        if name in CASES
    }
    text = json.dumps({"machine": machine(), "cases": cases}, indent=1, sort_keys=True)
    LOCKS.write_text(text + "\n", encoding="utf-8")


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


@pytest.fixture(scope="module")
def locks() -> Iterator[dict[str, Any]]:
    """Give the locks; where they are written again, write them after the last case."""
    if IS_WRITING and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.exit("locks are written by one process: run without -n", returncode=2)
    document = _read()
    yield document
    if IS_WRITING:
        _write(document)


def test_equal_to_the_bit(locks: dict[str, Any]) -> None:
    """Say in which of the two ways the locks are compared here: passed to the bit, skipped within tolerances."""
    if locks["machine"] != machine():
        pytest.skip(
            f"locked on {locks['machine']}, this is {machine()}: plain numbers are compared, within {CLOSE} for models "
            f"of features and {LOOSE} for networks"
        )


@pytest.mark.parametrize("name", sorted(CASES))
def test_numbers_are_those_that_were_locked(name: str, locks: dict[str, Any], runs: Runs) -> None:
    outcome, locked = CASES[name](runs), locks["cases"].get(name, {})
    if IS_WRITING:
        sys.stdout.write("\n  ".join([f"\n{name}:", *differences(locked, outcome)]))
        locks["cases"][name] = outcome
        return
    if locks["machine"] == machine():
        assert differences(locked, outcome) == []
    assert_close(locked, outcome, CLOSE if name in FEATURES_ALONE else LOOSE)


WRITTEN = {
    "classes": "scores.json folds.json", "ordinal": "scores.json", "regression": "scores.json",
    "two tasks": "stress/scores.json load/scores.json", "missing sensors": "scores.json",
    "isotonic and sets": "scores.json", "split by time": "scores.json", "temperature": "scores.json",
    "pretrained in each fold": "scores.json", "audit": "audit.json", "tuned": "tuning.json nested/folds.json",
    "predicted classes and numbers": "*_predictions.json *_trace.json",
}  # fmt: skip
FOLDERS = {
    "personal curve": "curve",
    "generation": "generation",
    "learning curve": "learning",
    "compared": "comparison",
}
WRITTEN |= {"personal curve": "personalisation.json personalisation_folds.json", "compared": "compare.json",
            "generation": "generation.json generation_folds.json",
            "learning curve": "learning_curve.json share-1/scores.json"}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_files_of_commands_are_read_and_written_again_byte_for_byte(name: str, runs: Runs, tmp_path: Path) -> None:
    folder = runs.folder / FOLDERS.get(name, name)
    if not folder.is_dir():
        CASES[name](runs)
    for pattern in WRITTEN[name].split():
        assert list(folder.rglob(pattern)), pattern
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        kind = _class_of(path, document)
        if kind is not None:
            plain = {"schema": document["schema"]} if "schema" in document else {}
            write_json(tmp_path / "again.json", plain | to_plain(from_plain(kind, document)))
            assert (tmp_path / "again.json").read_bytes() == path.read_bytes(), path
