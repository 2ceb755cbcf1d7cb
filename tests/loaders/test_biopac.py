"""BIOPAC AcqKnowledge: real files of five versions beside the library, cut, changed and lying."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from loaders.test_conformance import check_recording

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.readers.biopac import _derived, load_biopac
from biopercept.recording import Recording

VERSIONS = ("physio-3.8.1", "physio-4.4.0-c", "physio-5.0.1", "r42_test", "small-unicode-4.4.0")
_GRAPH_CHANNELS, _SAMPLE_TIME = 10, 16  # bytes of the graph header, in every version


def acq(reference_data: Path, name: str) -> Path:
    return reference_data / "formats" / "biopac_acq" / f"{name}.acq"


@pytest.mark.parametrize("name", VERSIONS)
def test_samples_rates_and_markers_are_those_of_the_library(reference_data: Path, name: str) -> None:
    import bioread

    recording = load_recording(acq(reference_data, name))
    file = bioread.read(str(acq(reference_data, name)))
    assert len(recording.signals) == len(file.channels)
    for signal, channel in zip(recording.signals, file.channels, strict=True):
        assert signal.sampling_rate == channel.samples_per_second
        samples = signal.read()[0]
        np.testing.assert_array_equal(samples, channel.data[: len(samples)])
        assert len(channel.data) - len(samples) < 512
        for start, stop in ((0, 1), (17, 18), (len(samples) // 2, len(samples) // 2 + 999), (len(samples) - 3, 10**9)):
            np.testing.assert_array_equal(signal.read(start, stop)[0], samples[max(start, 0) : stop])
    assert [one.label for one in recording.intervals] == [marker.text for marker in file.event_markers]
    assert [one.onset_seconds for one in recording.intervals] == [
        marker.sample_index / file.samples_per_second for marker in file.event_markers
    ]


def test_versions_of_one_recording_hold_the_same_samples(reference_data: Path) -> None:
    """The compressed file is the truth: each of its channels lies in one piece, and no order can be mistaken."""
    truth = load_recording(acq(reference_data, "physio-4.4.0-c"))
    for name in ("physio-3.8.1", "physio-5.0.1", "small-unicode-4.4.0"):
        for one, true in zip(load_recording(acq(reference_data, name)).signals, truth.signals, strict=True):
            np.testing.assert_array_equal(one.read()[0], true.read()[0, : one.n_samples])


def test_a_computed_channel_is_no_skin_conductance_and_units_are_understood(reference_data: Path) -> None:
    recording = load_recording(acq(reference_data, "physio-5.0.1"))
    assert [(signal.modality, signal.unit) for signal in recording.signals] == [
        ("unknown", "uS"),
        ("ecg", "mV"),
        ("resp", "a.u."),
        ("eda", "uS"),
    ]
    assert load_recording(acq(reference_data, "r42_test")).signal("EDA (0 - 35 Hz)").unit == "uS"


@pytest.mark.parametrize(
    ("label", "unit", "modality"),
    [
        ("Rate - ECG100C", "BPM", "hr"),
        ("ECG Rate", "BPM", "hr"),
        ("Heart Rate", "BPM", "hr"),
        ("Rate (RSP)", "BPM", ""),
        ("Rate", "BPM", ""),
        ("ECG R-R Interval", "sec", "unknown"),
        ("ECG100C", "mV", ""),
    ],
)
def test_rates_that_were_computed_are_told_from_what_was_measured(label: str, unit: str, modality: str) -> None:
    assert _derived(label, unit)[0] == modality


def test_the_start_is_that_of_the_first_segment_where_it_is_dated(reference_data: Path) -> None:
    expected = datetime(2016, 2, 2, 16, 30, 56, 276000, tzinfo=UTC)
    assert load_recording(acq(reference_data, "physio-5.0.1")).started_at == expected
    assert load_recording(acq(reference_data, "physio-3.8.1")).started_at is None


def test_segments_are_said(reference_data: Path) -> None:
    notes = load_recording(acq(reference_data, "r42_test")).notes
    begin = "recorded in 2 segments, which follow each other in the file: how long it was stopped between"
    assert f"{begin} them is not in the times" in notes


def test_the_uncertain_end_of_an_old_file_is_left_out_and_said(reference_data: Path) -> None:
    recording = load_recording(acq(reference_data, "physio-3.8.1"))
    assert any("the last 0.20 s, where the order of the channels" in note for note in recording.notes)
    assert recording.signal("EDA - GSR100C").n_samples == 241 * 512


# ---- cut, changed, lying ----


def altered(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "made.acq"
    path.write_bytes(content)
    return path


def refused_or_sound(path: Path) -> Recording | None:
    try:
        recording = load_recording(path)
        for signal in recording.signals:
            assert signal.read(0, 50).shape == (1, min(signal.n_samples, 50))
            assert signal.read(signal.n_samples - 5, signal.n_samples).shape == (1, min(signal.n_samples, 5))
    except RecordingError as fault:
        assert "made.acq" in str(fault)
        assert "cannot be read (Value" not in str(fault).split(":")[1][:20]
        return None
    return recording


@pytest.mark.parametrize("name", ["small-unicode-4.4.0", "r42_test", "physio-4.4.0-c"])
def test_a_file_cut_at_any_place_is_read_in_part_with_a_note_or_refused(
    reference_data: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = acq(reference_data, name).read_bytes()
    whole = load_recording(acq(reference_data, name))
    n_parts = 0
    for share in np.linspace(0.001, 0.999, 20):
        recording = refused_or_sound(altered(tmp_path, content[: int(share * len(content))]))
        if recording is not None:
            n_parts += 1
            assert recording.notes
            for signal in recording.signals:
                np.testing.assert_array_equal(signal.read()[0], whole.signal(signal.name).read()[0, : signal.n_samples])
    assert n_parts >= 2
    assert capfd.readouterr() == ("", "")


def test_a_changed_byte_in_the_headers_never_ends_in_another_error(reference_data: Path, tmp_path: Path) -> None:
    content = acq(reference_data, "r42_test").read_bytes()
    rng = np.random.default_rng(6)
    for place in [*range(0, 40, 2), *rng.integers(40, 5000, 25), *rng.integers(len(content) - 400, len(content), 8)]:
        changed = bytearray(content)
        changed[place] = int(rng.integers(0, 256))
        refused_or_sound(altered(tmp_path, bytes(changed)))


@pytest.mark.parametrize("n_channels", [0, -1, 30_000, 5])
def test_a_number_of_channels_that_lies_is_refused(reference_data: Path, tmp_path: Path, n_channels: int) -> None:
    content = bytearray(acq(reference_data, "r42_test").read_bytes())
    content[_GRAPH_CHANNELS : _GRAPH_CHANNELS + 2] = struct.pack("<h", n_channels)
    with pytest.raises(RecordingError, match=r"made\.acq: .*damaged or not from BIOPAC AcqKnowledge, save it again"):
        load_recording(altered(tmp_path, bytes(content)))


@pytest.mark.parametrize("sample_time", [0.0, -1.0, float("nan"), 1e-300, 1e300])
def test_a_rate_that_cannot_be_is_refused(reference_data: Path, tmp_path: Path, sample_time: float) -> None:
    content = bytearray(acq(reference_data, "r42_test").read_bytes())
    content[_SAMPLE_TIME : _SAMPLE_TIME + 8] = struct.pack("<d", sample_time)
    with pytest.raises(RecordingError, match=r"made\.acq: "):
        load_recording(altered(tmp_path, bytes(content)))


@pytest.mark.parametrize("n_samples", [2_000_000_000, -5])
def test_a_number_of_samples_that_lies_allocates_nothing(reference_data: Path, tmp_path: Path, n_samples: int) -> None:
    import bioread

    path = acq(reference_data, "r42_test")
    header = bioread.read_headers(str(path)).channel_headers[0]
    at = header.offset + header._struct_class.lBufLength.offset
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<i", n_samples)
    recording = refused_or_sound(altered(tmp_path, bytes(content)))
    if recording is not None:
        assert all(signal.n_samples <= 8000 for signal in recording.signals)
        assert any("the file is cut" in note for note in recording.notes)


def test_a_compressed_channel_that_unpacks_to_too_much_is_refused(
    reference_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biopercept.loaders.readers.biopac.MOST_UNPACKED", 1 << 20)
    with pytest.raises(RecordingError, match=r"unpacks to 1 MB and at most 1 MB are kept in memory; save it without"):
        load_biopac(acq(reference_data, "physio-4.4.0-c"))


@pytest.mark.parametrize("content", [b"\x00", b"\x00" * 9000, np.random.default_rng(5).bytes(9000), b"\xff" * 9000])
def test_noise_is_refused_by_name(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecordingError, match=r"made\.acq: .*AcqKnowledge"):
        load_recording(altered(tmp_path, content))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", VERSIONS)
def test_the_rest_conforms(reference_data: Path, name: str) -> None:
    if name == "r42_test":
        pytest.skip("its skin conductance is negative throughout: nothing was connected")
    check_recording(load_recording(acq(reference_data, name)))
