"""Who counts as one subject in averages: a name of one study, and a file by itself."""

from __future__ import annotations

from pathlib import Path

from biopercept.measures.files import _who
from biopercept.prepare.sources import Source
from biopercept.studies.structure import Study


def test_two_studies_with_the_same_name_have_two_subjects_and_recordings_of_one_have_one() -> None:
    def source(path: str, subject: str, study: Study | None) -> Source:
        return Source(subject, f"{path}_{subject}", subject, Path(path), study)

    study = Study(Path("a"), "a", "", "", (), ())
    assert _who(source("a", "S01", study)) != _who(source("b", "S01", study))
    assert _who(source("a", "S01", study)) == _who(source("a", "S01", study))
    assert _who(source("x/rest.edf", "rest", None)) != _who(source("x/task.edf", "task", None))
