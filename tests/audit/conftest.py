"""Audits of made studies, small and each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.audit.audit import AuditRequest, audit
from biopercept.audit.data import AuditData, gather
from biopercept.audit.settings import AuditSettings
from biopercept.data.normalisation import NormalisationSettings
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.results.audit import Audit
from biopercept.store.reading import open_store

SMALL = AuditSettings(n_folds=4, n_permutations=20, n_shifts=100, n_trees=20)

Audited = Callable[..., Audit]
Gathered = Callable[..., AuditData]


def request_of(store: Path, *, mode: str = "global", seed: int = 0) -> AuditRequest:
    """An audit that is quick."""
    normalisation, evaluation = NormalisationSettings(mode), EvaluationSettings(n_bootstrap=400)
    return AuditRequest(EvaluationRequest(store, normalisation=normalisation, evaluation=evaluation, seed=seed), SMALL)


@pytest.fixture(scope="session")
def asked() -> Callable[..., AuditRequest]:
    """Gives the request of a quick audit of a store."""
    return request_of


@pytest.fixture(scope="session")
def planted_store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the store of a made study with one planted leak."""

    @cache
    def give(plant: str = "", seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("planted")
        return made.store(folder / "made.h5", made.planted(plant, seed=seed), features=made.AUDIT_FEATURES)

    return give


@pytest.fixture(scope="session")
def audited(planted_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Gives the audit of a made study with one planted leak."""

    @cache
    def give(plant: str = "", *, mode: str = "global", seed: int = 0) -> Audit:
        return audit(request_of(planted_store(plant, seed), mode=mode, seed=seed), tmp_path_factory.mktemp("audit"))

    return give


@pytest.fixture(scope="session")
def gathered(planted_store: Callable[..., Path]) -> Gathered:
    """Gives the data of an audit of a made study."""

    @cache
    def give(plant: str = "", *, mode: str = "global", seed: int = 0) -> AuditData:
        request = request_of(planted_store(plant, seed), mode=mode, seed=seed)
        return gather(open_store(request.evaluation.store), request.evaluation, request.settings)

    return give
