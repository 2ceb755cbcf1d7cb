"""biopercept: recordings of the body in, predictions of human factors out, with scores that can be trusted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from biopercept.parallel import wait_passively
from biopercept.version import __version__ as __version__

if TYPE_CHECKING:
    from biopercept.evaluation.plan import EvaluationRequest as EvaluationRequest
    from biopercept.notebook import compare as compare
    from biopercept.notebook import correct as correct
    from biopercept.notebook import cross_validate as cross_validate
    from biopercept.notebook import evaluate as evaluate
    from biopercept.notebook import explain as explain
    from biopercept.notebook import features as features
    from biopercept.notebook import load_model as load_model
    from biopercept.notebook import load_recording as load_recording
    from biopercept.notebook import load_study as load_study
    from biopercept.notebook import open_store as open_store
    from biopercept.notebook import predict as predict
    from biopercept.notebook import prepare_recording as prepare_recording
    from biopercept.notebook import prepare_study as prepare_study
    from biopercept.notebook import quality as quality
    from biopercept.notebook import reconstruct as reconstruct
    from biopercept.notebook import sample_study as sample_study
    from biopercept.notebook import train as train
    from biopercept.notebook import write_recording_page as write_recording_page
    from biopercept.notebook import write_report as write_report
    from biopercept.recording import Correction as Correction
    from biopercept.recording import Recording as Recording

wait_passively()  # before anything loads torch

_FUNCTIONS = (
    "compare", "correct", "cross_validate", "evaluate", "explain", "features", "load_model", "load_recording",
    "load_study", "open_store", "predict", "prepare_recording", "prepare_study", "quality", "reconstruct",
    "sample_study", "train", "write_recording_page", "write_report",
)  # fmt: skip
_DOOR = {
    "EvaluationRequest": "biopercept.evaluation.plan",
    "Correction": "biopercept.recording",
    "Recording": "biopercept.recording",
    **dict.fromkeys(_FUNCTIONS, "biopercept.notebook"),
}
"""What a notebook imports from here, and the room it lives in; loaded when asked for, so importing costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'biopercept' has no attribute {name!r}; it offers {', '.join(sorted(_DOOR))}")
    return getattr(import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*_DOOR, "__version__"])
