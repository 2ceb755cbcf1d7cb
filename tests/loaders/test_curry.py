"""Curry recordings written in the layouts of Curry 7 and 8, against planted values and the maker's own reader."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.folders import recordings_in
from biopercept.loaders.loading import load_recording

RATE, N = 250, 1000
EEG, OTHERS = ("Fp1", "Cz", "Oz"), ("ECG", "Trigger")
EVENTS = ((250, 7, 250, 250, ""), (500, 8, 500, 625, "stroop, hard"))


def values() -> np.ndarray:
    return np.random.default_rng(8).normal(0, 20, (N, len(EEG) + len(OTHERS))).astype("<f4")


def labels() -> str:
    return (
        "LABELS START\n   ListNrRows = 3\nLABELS END\n\nLABELS START_LIST\t# Do not edit!\n"
        + "".join(f"{one}\n" for one in EEG)
        + "LABELS END_LIST\n\nLABELS_OTHERS START\n   ListNrRows = 2\nLABELS_OTHERS END\n\n"
        + "LABELS_OTHERS START_LIST\t# Do not edit!\n"
        + "".join(f"{one}\n" for one in OTHERS)
        + "LABELS_OTHERS END_LIST\n\n"
        + "SENSORS START\n   ListNrColumns = 3\nSENSORS END\n\nSENSORS START_LIST\t# Do not edit!\n"
        + "1.0\t2.0\t3.0\n" * len(EEG)
        + "SENSORS END_LIST\n\nLANDMARKS START\nLANDMARKS END\n\nLANDMARKS START_LIST\t# Do not edit!\n"
        + "LANDMARKS END_LIST\n"
    )


def write(folder: Path, *, is_new: bool = True, **changes: object) -> Path:
    fields: dict[str, object] = {
        "FileVersion": "805",
        "NumSamples": N,
        "NumChannels": len(EEG) + len(OTHERS),
        "NumTrials": 1,
        "SampleFreqHz": f"{RATE}.000000",
        "TriggerOffsetUsec": 0,
        "DataFormat": "RAW",
        "DataSampOrder": "SAMP",
        "SampleTimeUsec": f"{1e6 / RATE:g}",
        "DataByteOrder": "INTEL",
        "StartYear": 2023,
        "StartMonth": 4,
        "StartDay": 5,
        "StartHour": 6,
        "StartMin": 7,
        "StartSec": 8,
        "StartMillisec": 90,
        "AmplifierInfo": "",
        "PatientName": "Ada Lovelace",
    } | changes
    parameters = "DATA_PARAMETERS START\n" + "".join(f"   {k}\t= {v}\n" for k, v in fields.items())
    parameters += "DATA_PARAMETERS END\n\n"
    for group, unit, n in (("", "uV", len(EEG)), ("_OTHERS", "mV", len(OTHERS))):
        parameters += f"DEVICE_PARAMETERS{group} START\n   DataUnit = {unit}\n   NumChanThisGroup = {n}\n"
        parameters += f"DEVICE_PARAMETERS{group} END\n\n"
    parameters += "IMPEDANCE_VALUES START\nIMPEDANCE_VALUES END\nIMPEDANCE_VALUES START_LIST\n"
    parameters += "1000 " * (len(EEG) + len(OTHERS)) + "\nIMPEDANCE_VALUES END_LIST\n\n"
    events = "NUMBER_LIST START\nNUMBER_LIST END\nNUMBER_LIST START_LIST\t# Do not edit!\n"
    events += "".join(f"{at}\t0\t{kind}\t1\t{first}\t{stop}\t0\t0\t0\t0\t0\n" for at, kind, first, stop, _ in EVENTS)
    events += "NUMBER_LIST END_LIST\n\nREMARK_LIST START\nREMARK_LIST END\nREMARK_LIST START_LIST\t# Do not edit!\n"
    events += "".join(f"{remark}\n" for *_, remark in EVENTS) + "REMARK_LIST END_LIST\n"
    if is_new:
        texts = {"rest.cdt.dpa": parameters + labels(), "rest.cdt.cef": events}
    else:
        texts = {"rest.dap": parameters, "rest.rs3": labels(), "rest.cef": events}
    for name, text in texts.items():
        (folder / name).write_text("\n" + text)
    path = folder / ("rest.cdt" if is_new else "rest.dat")
    path.write_bytes(values().tobytes())
    return path


@pytest.mark.parametrize("is_new", [True, False])
def test_samples_units_events_and_start_are_the_planted_ones(tmp_path: Path, is_new: bool) -> None:
    path = write(tmp_path, is_new=is_new)
    recording = load_recording(path)
    planted = values().T.astype(float)
    eeg = recording.signal("EEG")
    assert (eeg.channel_names, eeg.unit, eeg.sampling_rate) == (EEG, "uV", RATE)
    np.testing.assert_allclose(eeg.read(), planted[:3], rtol=1e-12)
    np.testing.assert_allclose(recording.signal("ECG").read(100, 200)[0], planted[3, 100:200], rtol=1e-12)
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (1.0, 0.0, "7"),
        (2.0, 0.5, "stroop, hard"),
    ]
    assert recording.started_at == datetime(2023, 4, 5, 6, 7, 8, 90000)
    assert recording.name == "rest"
    assert "Ada" not in repr(recording)
    for part in tmp_path.iterdir():
        assert load_recording(part).signal("EEG").n_samples == N, part.name
    assert recordings_in(tmp_path).paths == (path,)


@pytest.mark.parametrize("is_new", [True, False])
def test_mne_reads_the_same(tmp_path: Path, is_new: bool) -> None:
    pytest.importorskip("curryreader")
    path = write(tmp_path, is_new=is_new)
    raw = mne.io.read_raw_curry(path, verbose="error")
    recording = load_recording(path)
    np.testing.assert_allclose(recording.signal("EEG").read(), raw.get_data("eeg") * 1e6, rtol=1e-6)
    np.testing.assert_allclose([i.onset_seconds for i in recording.intervals], raw.annotations.onset)
    assert recording.started_at == raw.info["meas_date"].replace(tzinfo=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"NumTrials": 80}, "80 epochs"),
        ({"DataFormat": "ASCII"}, "raw float"),
        ({"DataSampOrder": "CHAN"}, "sample by sample"),
        ({"DataGuid": "{2912E8D8-F5C8-4E25-A8E7-A1385967DA09}"}, "packed"),
        ({"NumChannels": 2_000_000_000}, "numchannels"),
        ({"NumChannels": 4}, "4 channels, and 5 labels and 5 units"),
        ({"SampleTimeUsec": 8000}, "contradict"),
        ({"SampleTimeUsec": 0, "SampleFreqHz": 0}, "sampling rate"),
        ({"SampleTimeUsec": "nan", "SampleFreqHz": "nan"}, "sampling rate"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(RecordingError, match=words) as fault:
        load_recording(write(tmp_path, **changes))
    assert str(fault.value).startswith("rest.cdt")
    assert "\n" not in str(fault.value)


def test_a_missing_part_and_cut_samples_are_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:10_003])
    recording = load_recording(path)
    assert recording.signal("EEG").n_samples == 500
    assert "rest.cdt is cut: 500 of 1000 samples are there and used" in recording.notes
    (tmp_path / "rest.cdt.dpa").unlink()
    with pytest.raises(RecordingError, match=r"rest\.cdt: a Curry recording .*\.dpa"):
        load_recording(path)


def test_a_channel_that_is_in_no_file_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, is_new=False, NumChannels=4)
    parameters = path.with_suffix(".dap")
    lists = "CHAN_IN_FILE START_LIST\n1\n0\n3\nCHAN_IN_FILE END_LIST\n"
    lists += "CHAN_IN_FILE_OTHERS START_LIST\n2\n4\nCHAN_IN_FILE_OTHERS END_LIST\n"
    parameters.write_text(parameters.read_text() + lists)
    recording = load_recording(path)
    stored = values().reshape(-1)[: N * 4].reshape(-1, 4).T.astype(float)
    assert recording.signal("EEG").channel_names == ("Fp1", "Oz")
    np.testing.assert_allclose(recording.signal("EEG").read(0, N), stored[[0, 2]])
    np.testing.assert_allclose(recording.signal("ECG").read(0, N)[0], stored[1])


@pytest.mark.parametrize("name", ["rest.cdt.dpa", "rest.cdt.cef"])
def test_a_changed_byte_is_refused_or_leaves_a_recording(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    text = tmp_path / name
    content = text.read_bytes()
    rng = np.random.default_rng(2)
    for place in range(0, len(content), 23):
        changed = bytearray(content)
        changed[place] = int(rng.choice(np.frombuffer(b"0129-+./ xN\x00\xb5,=[\n", dtype=np.uint8)))
        text.write_bytes(bytes(changed))
        try:
            for signal in load_recording(path).signals:
                assert signal.read(signal.n_samples - 5).shape == (signal.n_channels, 5)
        except RecordingError as fault:
            assert "rest.cdt" in str(fault)
            assert "\n" not in str(fault)
