"""What commands of this package wrote is taken for no recording, wherever recordings are looked for."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.folders import recordings_in
from biopercept.loaders.loading import load_recording
from biopercept.loaders.outputs import RESULTS, maker_of
from biopercept.prepare.reuse import COLUMNS
from biopercept.results.audit import Audit
from biopercept.results.command import CommandFile
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import CrossValidation, NumberValidation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.explanation import Explanation
from biopercept.results.generation import Generation
from biopercept.results.groups import Groups
from biopercept.results.reconstruction import Reconstruction
from biopercept.results.tuning import Tuning

KINDS = (
    Audit,
    CommandFile,
    Comparison,
    CrossValidation,
    NumberValidation,
    LearningCurve,
    PersonalCurve,
    Explanation,
    Generation,
    Groups,
    Reconstruction,
    Tuning,
)
TABLES = ("beats.csv", "features.tsv", "S01_predictions.tsv", "summary.csv", "scores.csv", "S01_explanation.csv")
ROWS = "\n".join(["time,ECG (mV)", *(f"{i / 100},{i % 7 / 10}" for i in range(900))])


def test_every_kind_of_result_is_known_by_its_file() -> None:
    assert {kind.FILE for kind in KINDS} <= RESULTS.keys()


@pytest.mark.parametrize("marker", sorted(RESULTS))
def test_tables_beside_a_result_are_no_recordings(tmp_path: Path, marker: str) -> None:
    (tmp_path / marker).write_text(json.dumps({"schema": 1, "biopercept": "0"}))
    for name in TABLES:
        (tmp_path / name).write_text(ROWS)
    maker = RESULTS[marker]
    assert maker_of(tmp_path) == maker and maker_of(tmp_path / "beats.csv") == maker
    with pytest.raises(
        RecordingError, match=f"written by {maker}, and no recordings; name the recordings, or a folder"
    ):
        recordings_in(tmp_path)
    with pytest.raises(RecordingError, match=f"^beats.csv: written by {maker}, and no recording; name the recordings"):
        load_recording(tmp_path / "beats.csv")
    with pytest.raises(RecordingError, match=f"written by {maker}, and no recording"):
        load_recording(tmp_path)


def test_recordings_beside_results_are_found_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    scores, deeper = tmp_path / "scores", tmp_path / "raw"
    scores.mkdir()
    deeper.mkdir()
    (scores / "scores.json").write_text('{"schema": 1}')
    (scores / "predictions.csv").write_text(ROWS)
    (scores / "S01.csv").write_text(ROWS)  # put there by somebody: no command writes such a name
    (deeper / "S02.csv").write_text(ROWS)
    (tmp_path / "study.log.csv").write_text(",".join(COLUMNS) + "\n")
    with h5py.File(tmp_path / "study.h5", "w") as store:
        store.attrs["biopercept_version"] = "0"
    (tmp_path / "study.h5.parts").mkdir()
    with h5py.File(tmp_path / "study.h5.parts" / "S01.h5", "w") as part:
        part.attrs["schema"] = 1
        part.create_group("recordings")
    listing = recordings_in(tmp_path)
    assert [path.name for path in listing.paths] == ["S02.csv", "S01.csv"]
    words = listing.words(tmp_path)
    assert "4 files that cross-validate and prepare wrote are left out" in words


def test_tables_of_a_study_further_down_are_no_recordings(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for name in ("study.yaml", "participants.tsv", "recordings.tsv", "events.tsv"):
        (study / name).write_text("onset\tECG (mV)\n0\t1\n")
    (study / "S01.csv").write_text(ROWS)
    assert [path.name for path in recordings_in(tmp_path).paths] == ["S01.csv"]
    (study / "study.yaml").unlink()
    assert len(recordings_in(tmp_path).paths) == 3


def test_tables_of_others_are_recordings_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "beats.csv").write_text(ROWS)
    assert maker_of(tmp_path / "beats.csv") == ""
    (tmp_path / "features.json").write_text('{"columns": []}')  # of another program
    (tmp_path / "study.log.csv").write_text(ROWS)
    assert [path.name for path in recordings_in(tmp_path).paths] == ["beats.csv", "study.log.csv"]
    assert load_recording(tmp_path / "beats.csv").signals[0].modality == "ecg"
