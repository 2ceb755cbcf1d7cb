"""biopercept: recordings of the body in, predictions of human factors out, with scores that can be trusted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from biopercept.child_processes import wait_passively
from biopercept.version import __version__ as __version__

if TYPE_CHECKING:
    from biopercept.evaluation.crossvalidation import cross_validate as cross_validate
    from biopercept.evaluation.planning import EvaluationRequest as EvaluationRequest
    from biopercept.learning.checkpoint import load_checkpoint as load_checkpoint
    from biopercept.loaders.loading import load_recording as load_recording
    from biopercept.prediction import predict_recording as predict_recording
    from biopercept.prepare import prepare_recording as prepare_recording
    from biopercept.prepare import prepare_study as prepare_study
    from biopercept.recording import Recording as Recording
    from biopercept.reporting.page import write_report as write_report
    from biopercept.store import open_store as open_store
    from biopercept.studies.study import load_study as load_study

wait_passively()  # before anything loads torch

_DOOR = {
    "EvaluationRequest": "biopercept.evaluation.planning",
    "Recording": "biopercept.recording",
    "cross_validate": "biopercept.evaluation.crossvalidation",
    "load_checkpoint": "biopercept.learning.checkpoint",
    "load_recording": "biopercept.loaders.loading",
    "load_study": "biopercept.studies.study",
    "open_store": "biopercept.store",
    "predict_recording": "biopercept.prediction",
    "prepare_recording": "biopercept.prepare",
    "prepare_study": "biopercept.prepare",
    "write_report": "biopercept.reporting.page",
}
"""What a notebook imports from here, and the room it lives in; loaded when asked for, so importing costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'biopercept' has no attribute {name!r}; it offers {', '.join(sorted(_DOOR))}")
    return getattr(import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*_DOOR, "__version__"])
