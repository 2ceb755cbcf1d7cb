"""biopercept: recordings of the body in, predictions of human factors out, with scores that can be trusted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from biopercept.parallel import wait_passively
from biopercept.version import __version__ as __version__

if TYPE_CHECKING:
    from biopercept.evaluation.cross_validation import cross_validate as cross_validate
    from biopercept.evaluation.plan import EvaluationRequest as EvaluationRequest
    from biopercept.inference.prediction import predict_recording as predict_recording
    from biopercept.loaders.loading import load_recording as load_recording
    from biopercept.prepare.recording import prepare_recording as prepare_recording
    from biopercept.prepare.study import prepare_study as prepare_study
    from biopercept.recording import Recording as Recording
    from biopercept.report.page import write_report as write_report
    from biopercept.store.reading import open_store as open_store
    from biopercept.studies.loading import load_study as load_study
    from biopercept.training.checkpoint import load_checkpoint as load_checkpoint

wait_passively()  # before anything loads torch

_DOOR = {
    "EvaluationRequest": "biopercept.evaluation.plan",
    "Recording": "biopercept.recording",
    "cross_validate": "biopercept.evaluation.cross_validation",
    "load_checkpoint": "biopercept.training.checkpoint",
    "load_recording": "biopercept.loaders.loading",
    "load_study": "biopercept.studies.loading",
    "open_store": "biopercept.store.reading",
    "predict_recording": "biopercept.inference.prediction",
    "prepare_recording": "biopercept.prepare.recording",
    "prepare_study": "biopercept.prepare.study",
    "write_report": "biopercept.report.page",
}
"""What a notebook imports from here, and the room it lives in; loaded when asked for, so importing costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'biopercept' has no attribute {name!r}; it offers {', '.join(sorted(_DOOR))}")
    return getattr(import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*_DOOR, "__version__"])
