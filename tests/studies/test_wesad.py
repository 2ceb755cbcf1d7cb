"""WESAD in the documented layout: imported, checked, loaded in right units with the authors' labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import wesad_person, write_wesad

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.studies.datasets import wesad
from biopercept.studies.loading import load_entry, load_study

PROTOCOL = {0: 3, 1: 20, 5: 2, 2: 10, 6: 2, 3: 8, 7: 1, 4: 7}


def test_chest_and_wrist_are_read_in_their_units_on_one_clock(tmp_path: Path) -> None:
    recording = load_recording(write_wesad(tmp_path, "S2", wesad_person("S2", PROTOCOL)))
    means = {s.name: (s.modality, s.unit, s.sampling_rate, s.read().mean(axis=1).tolist()) for s in recording.signals}
    assert means["chest ACC"] == ("acc", "g", 700.0, [0.5, 0.25, -1.0])
    assert means["wrist ACC"] == ("acc", "g", 32.0, [1.0, 0.0, -0.5])
    assert means["chest EDA"] == ("eda", "uS", 700.0, [5.25])
    assert means["wrist EDA"] == ("eda", "uS", 4.0, [0.75])
    assert means["chest EMG"][:3] == ("emg", "mV", 700.0)
    assert means["chest Temp"] == ("temp", "degC", 700.0, [30.5])
    assert means["wrist TEMP"] == ("temp", "degC", 4.0, [33.5])
    assert means["chest ECG"][:3] == ("ecg", "mV", 700.0)
    assert means["wrist BVP"][:3] == ("bvp", "a.u.", 64.0)
    assert means["chest Resp"][:3] == ("resp", "a.u.", 700.0)
    assert {signal.end_seconds for signal in recording.signals} == {53.0}
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (3.0, 20.0, "baseline"),
        (25.0, 10.0, "stress"),
        (37.0, 8.0, "amusement"),
        (46.0, 7.0, "meditation"),
    ]


def test_import_takes_the_labels_and_leaves_out_who_cannot_be_trusted(tmp_path: Path) -> None:
    write_wesad(tmp_path / "WESAD", "S2", wesad_person("S2", PROTOCOL))
    write_wesad(tmp_path / "WESAD", "S10", wesad_person("S10", {1: 21, 2: 10, 0: 1}), protocol=0)
    write_wesad(tmp_path / "WESAD", "S3", wesad_person("S4", PROTOCOL))
    write_wesad(tmp_path / "WESAD", "S5", {"signal": {}, "label": np.array([9])})
    (tmp_path / "WESAD" / "S6").mkdir()
    summary = wesad.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "S3: S3.pkl says that it is of 'S4'.",
        "S5: S5.pkl: 'label' holds values that are no labels of WESAD (0 to 7).",
        "S6: S6.pkl is not there, which holds its labels.",
    )
    assert "S10: no sample is labelled amusement, meditation." in summary.notes
    study = load_study(tmp_path / "study")
    assert study.subjects == ("S2", "S10")
    assert [i.label for i in study.entries[0].intervals] == ["baseline", "stress", "amusement", "meditation"]
    recording = load_entry(study, study.entries[1])
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (0.0, 21.0, "baseline"),
        (21.0, 10.0, "stress"),
    ]
    assert {"classes": study.tasks["stress"].classes, "ignore": study.tasks["stress"].ignore} == {
        "classes": {"rest": ("baseline", "amusement"), "stress": ("stress",)},
        "ignore": ("meditation",),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": 3}, "S2.pkl: not as WESAD's files are: a dictionary with 'signal', 'label' and 'subject'"),
        ({"label": 3, "signal": {"wrist": {"EDA": np.ones(8)}}}, "S2.pkl: 'label' is no array of numbers"),
        ({"signal": {"chest": {"ACC": np.zeros((5, 2))}}}, "S2.pkl: chest ACC has the shape (5, 2), not (samples, 3)"),
        ({"signal": {"chest": {"ECG": [1.0]}}}, "S2.pkl: chest ECG is no array"),
        ({"signal": {"chest": {}}}, "S2.pkl: none of WESAD's signals is in the file"),
    ],
)
def test_a_file_in_another_layout_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_wesad(tmp_path, "S2", {"subject": "S2", "signal": {}, "label": np.array([1]), **change})
    with pytest.raises(RecordingError) as fault:
        load_recording(path)
    assert str(fault.value) == message


def test_devices_of_different_length_are_said(tmp_path: Path) -> None:
    content = wesad_person("S2", PROTOCOL)
    content["signal"]["wrist"] = {"EDA": np.full((400, 1), 0.5)}  # type: ignore[index]
    notes = load_recording(write_wesad(tmp_path, "S2", content)).notes
    assert "the chest's signals last 53 s, the wrist's 100 s: they may not be on one clock" in notes
    assert "wrist BVP: not in the file" in notes
