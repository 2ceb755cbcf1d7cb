"""FIF recordings that mne writes: units, types, events, gaps, bad channels, split files, and files that lie."""

from __future__ import annotations

import gc
import gzip
import struct
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.recognition import electrode_position
from biopercept.recording import BAD, CHANNEL_BAD

RATE = 250.0
SECONDS = 20
TYPES = {
    "Fp1": "eeg",
    "Cz": "eeg",
    "E17": "eeg",
    "A1": "eeg",
    "EDA": "eeg",
    "heart": "ecg",
    "eye": "eog",
    "GSR1": "gsr",
    "skin": "temperature",
    "belt": "resp",
    "LA1": "seeg",
    "foo": "misc",
    "STI 014": "stim",
}
FACTORS = {"Fp1": 1e6, "Cz": 1e6, "E17": 1e6, "heart": 1e3, "eye": 1e6, "GSR1": 1e6, "skin": 1.0, "belt": 1.0}
"""From the SI unit of mne to ours."""


def samples() -> np.ndarray:
    """Return values of every channel in SI units, with triggers of 5 samples at 2, 4 and 6 s."""
    rng = np.random.default_rng(7)
    scale = np.array([{"temperature": 1.0, "gsr": 1e-6, "misc": 1.0, "resp": 1.0}.get(t, 1e-5) for t in TYPES.values()])
    values = rng.normal(size=(len(TYPES), int(RATE * SECONDS))) * scale[:, None]
    values[-1] = 0
    for second, code in ((2, 7), (4, 255), (6, 7)):
        values[-1, int(RATE * second) : int(RATE * second) + 5] = code
    return values


def make_raw(*, first_sample: int = 0) -> mne.io.BaseRaw:
    info = mne.create_info(list(TYPES), RATE, list(TYPES.values()), verbose="error")
    return mne.io.RawArray(samples(), info, first_samp=first_sample, verbose="error")


def save(raw: mne.io.BaseRaw, path: Path, **options: object) -> Path:
    raw.save(path, fmt="double", overwrite=True, verbose="error", **options)
    return path


@pytest.fixture
def fif_file(tmp_path: Path) -> Path:
    """Return a file with a start, bad channels, annotations, and an identity that must not be seen."""
    raw = make_raw(first_sample=1000)
    raw.set_meas_date(datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
    raw.info["bads"] = ["Cz", "heart"]
    raw.info["subject_info"] = {"first_name": "Ada", "last_name": "Lovelace", "birthday": datetime(1815, 12, 10).date()}
    begin = raw.first_time
    raw.set_annotations(
        mne.Annotations(
            [begin + 1, begin + 8, begin + 12, begin + 15],
            [3, 0.5, 2, 0],
            ["stroop", "BAD_muscle", "bad blink", "BAD boundary"],
            orig_time=raw.info["meas_date"],
            ch_names=[(), (), ("Fp1",), ()],
        )
    )
    return save(raw, tmp_path / "rest_raw.fif")


def test_samples_are_in_our_units_and_the_stated_type_decides(fif_file: Path) -> None:
    recording = load_recording(fif_file)
    values = dict(zip(TYPES, samples(), strict=True))
    eeg = recording.signal("EEG")
    assert eeg.channel_names == ("Fp1", "Cz", "E17"), "a sensor of a net is EEG where the file says so"
    found = {signal.name: (signal.modality, signal.unit) for signal in recording.signals}
    assert found["heart"] == ("ecg", "mV")
    assert found["eye"] == ("eog", "uV")
    assert found["GSR1"] == ("eda", "uS")
    assert found["skin"] == ("temp", "degC")
    assert found["belt"][0] == "resp"
    assert found["LA1"][0] == found["foo"][0] == found["A1"][0] == "unknown"
    assert found["EDA"] == ("eda", "V"), "volts of a channel called EDA are no conductance and stay unused"
    assert "STI 014" not in found
    for signal in recording.signals:
        for row, name in zip(signal.read(100, 1100), signal.channel_names, strict=True):
            if name in FACTORS:
                np.testing.assert_allclose(row, values[name][100:1100] * FACTORS[name], rtol=1e-9)


def test_events_annotations_and_bad_channels(fif_file: Path) -> None:
    recording = load_recording(fif_file)
    marks = [(round(i.onset_seconds, 6), round(i.duration_seconds, 6), i.label) for i in recording.intervals]
    assert marks == [(1.0, 3.0, "stroop"), (2.0, 0.02, "7"), (4.0, 0.02, "255"), (6.0, 0.02, "7")]
    bad = {(c.kind, round(c.onset_seconds, 6), round(c.span[1], 6), c.channels) for c in recording.corrections}
    assert bad == {
        (CHANNEL_BAD, 0.0, np.inf, ("EEG/Cz",)),
        (CHANNEL_BAD, 0.0, np.inf, ("heart",)),
        (BAD, 8.0, 8.5, ()),
        (BAD, 12.0, 14.0, ("EEG/Fp1",)),
        (BAD, 14.5, 15.5, ()),
    }
    assert recording.started_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC) + timedelta(seconds=1000 / RATE)


def test_no_name_or_birthday_is_anywhere(fif_file: Path) -> None:
    recording = load_recording(fif_file)
    text = repr((recording, recording.notes, recording.intervals, recording.corrections)).lower()
    assert not any(word in text for word in ("ada", "lovelace", "1815"))


def test_a_skip_of_the_recorder_is_missing_samples_and_not_zeros(tmp_path: Path) -> None:
    raw = make_raw()
    raw.set_annotations(mne.Annotations([5.0], [4.0], ["BAD_ACQ_SKIP"]))
    recording = load_recording(save(raw, tmp_path / "skip_raw.fif", buffer_size_sec=1.0))
    eeg = recording.signal("EEG").read()
    is_missing = np.isnan(eeg).all(axis=0)
    np.testing.assert_array_equal(np.flatnonzero(is_missing), np.arange(5 * 250, 9 * 250))
    assert np.isfinite(eeg[:, ~is_missing]).all()
    assert any("1 gap, 4.0 s" in note for note in recording.notes)


def test_measured_positions_are_used_and_those_on_a_sphere_are_not(tmp_path: Path) -> None:
    raw = make_raw()
    places = {"Fp1": (-0.03, 0.09, 0.03), "Cz": (0.001, 0.01, 0.12), "E17": (0.05, 0.0, 0.09)}
    landmarks = {"nasion": (0, 0.1, 0), "lpa": (-0.08, 0, 0), "rpa": (0.081, 0, 0)}
    raw.set_montage(mne.channels.make_dig_montage(places, **landmarks, coord_frame="head"), on_missing="ignore")
    eeg = load_recording(save(raw, tmp_path / "head_raw.fif")).signal("EEG")
    np.testing.assert_allclose([c.position for c in eeg.channels], list(places.values()), atol=1e-6)
    sphere = {"nasion": (0, 0.095, 0), "lpa": (-0.095, 0, 0), "rpa": (0.095, 0, 0)}
    raw.set_montage(mne.channels.make_dig_montage(places, **sphere, coord_frame="head"), on_missing="ignore")
    eeg = load_recording(save(raw, tmp_path / "sphere_raw.fif")).signal("EEG")
    assert [c.position for c in eeg.channels] == [electrode_position("Fp1"), electrode_position("Cz"), None]


def test_split_files_are_one_recording_and_a_missing_part_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    info = mne.create_info(["Fp1", "Cz"], 1000.0, "eeg")
    raw = mne.io.RawArray(rng.normal(size=(2, 200_000)) * 1e-5, info, verbose="error")
    path = save(raw, tmp_path / "long_raw.fif", split_size="2MB", buffer_size_sec=10)
    parts = sorted(tmp_path.glob("*.fif"))
    assert len(parts) > 1
    recording = load_recording(path)
    assert recording.signal("EEG").n_samples == 200_000
    np.testing.assert_allclose(recording.signal("EEG").read(99_000, 150_000), raw.get_data()[:, 99_000:150_000] * 1e6)
    later = load_recording(parts[1] if parts[1] != path else parts[0])
    assert any("later part" in note for note in later.notes)
    next(part for part in parts if part.name == "long_raw-2.fif").unlink()
    cut = load_recording(path)
    assert cut.signal("EEG").n_samples < 200_000
    assert any("not there" in note for note in cut.notes)


@pytest.mark.parametrize("name", ["/etc/x-1.fif", "../long-1.fif", "long_raw.fif"])
def test_a_next_part_outside_the_folder_or_that_closes_the_circle_is_refused(tmp_path: Path, name: str) -> None:
    info = mne.create_info(["Fp1", "Cz"], 1000.0, "eeg")
    raw = mne.io.RawArray(np.zeros((2, 200_000)), info, verbose="error")
    path = save(raw, tmp_path / "long_raw.fif", split_size="2MB", buffer_size_sec=10)
    content = path.read_bytes()
    tag = content.index(struct.pack(">iI", 118, 10))
    size = struct.unpack(">i", content[tag + 8 : tag + 12])[0]
    new = name.encode().ljust(size, b"\x00")[:size] if len(name) <= size else pytest.fail("the name is too long")
    path.write_bytes(content[: tag + 16] + new + content[tag + 16 + size :])
    with pytest.raises(RecordingError, match=r"long_raw\.fif"):
        load_recording(path)


def test_a_packed_file_is_read_and_a_bomb_is_not(
    tmp_path: Path, fif_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    packed = tmp_path / "rest_raw.fif.gz"
    packed.write_bytes(gzip.compress(fif_file.read_bytes()))
    plain = load_recording(fif_file).signal("EEG").read(1000, 2000)
    np.testing.assert_array_equal(load_recording(packed).signal("EEG").read(1000, 2000), plain)
    content = fif_file.read_bytes()
    bomb = tmp_path / "bomb_raw.fif.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as stream:
        stream.write(content[:56] + struct.pack(">iIii", 300, 4, 2_000_000_000, 0))
        for _ in range(20):
            stream.write(bytes(1 << 22))
    with pytest.raises(RecordingError, match=r"bomb_raw\.fif\.gz: unpacks to more than"):
        load_recording(bomb)
    packed.write_bytes(packed.read_bytes()[:-2000])
    with pytest.raises(RecordingError, match=r"rest_raw\.fif\.gz.*cut"):
        load_recording(packed)
    gc.collect()
    assert not list(spare.iterdir()), "what was unpacked is removed"


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.7, 0.999])
def test_a_file_that_is_cut_is_refused_by_name(fif_file: Path, share: float) -> None:
    content = fif_file.read_bytes()
    fif_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match=r"rest_raw\.fif"):
        load_recording(fif_file)


def test_a_chain_of_tags_that_goes_back_ends(fif_file: Path) -> None:
    content = bytearray(fif_file.read_bytes())
    content[56 + 12 : 56 + 16] = struct.pack(">i", 36)
    fif_file.write_bytes(bytes(content))
    with pytest.raises(RecordingError, match="before its end"):
        load_recording(fif_file)


def test_a_changed_byte_is_refused_in_one_sentence_or_leaves_a_recording(fif_file: Path) -> None:
    content = fif_file.read_bytes()
    rng = np.random.default_rng(5)
    outcomes = []
    for place in rng.integers(0, 4000, 30):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        fif_file.write_bytes(bytes(changed))
        try:
            outcomes.append(load_recording(fif_file).signals[0].read(0, 10).shape[1] == 10)
        except RecordingError as fault:
            assert str(fault).startswith("rest_raw.fif: ")
            assert "\n" not in str(fault)
            outcomes.append(True)
    assert all(outcomes)


def test_nothing_is_said_on_the_terminal(fif_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_recording(fif_file).signal("EEG").read(0, 10)
    assert capfd.readouterr() == ("", "")


def test_a_piece_costs_the_memory_of_a_piece_however_long_the_recording(tmp_path: Path) -> None:
    peaks = []
    for seconds in (10, 30, 600):
        info = mne.create_info([f"EEG {number:03}" for number in range(16)], RATE, "eeg")
        path = tmp_path / f"length{seconds}_raw.fif"
        save(mne.io.RawArray(np.zeros((16, int(RATE * seconds))), info, verbose="error"), path)
        tracemalloc.start()
        load_recording(path).signals[0].read(1000, 1250)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 1_000_000 < 16 * RATE * 600 * 8
