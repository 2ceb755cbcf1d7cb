"""BrainVision recordings against mne's reader, planted values, and headers that lie."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.readers.brainvision import read_brainvision_header
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import BAD

RATE = 250
CHANNELS = (
    "Fp1,,0.5,µV",
    "Cz,,,",
    "ECG,,0.01,mV",
    "GSR,,0.001,µS",
    "Temp,,0.1,C",
    "EOG,,2e-6,V",
    "Belt\\1 upper,,1,ARU",
)
FACTORS = (0.5, 1.0, 0.01, 0.001, 0.1, 2.0, 1.0)
"""From a stored step to the unit of ours: uV, uV, mV, uS, degC, uV, whatever the file says."""
MARKERS = (
    "New Segment,,1,1,0,20240229235959500000",
    "Stimulus,S  1,251,1,0",
    "Response,R\\1 2,501,50,0",
    "Bad Interval,Bad Interval,626,125,1",
    "Comment,grün,750,1,0",
)


def write(
    folder: Path,
    steps: np.ndarray,
    *,
    common: Sequence[str] = (),
    kind: str = "INT_16",
    orientation: str = "MULTIPLEXED",
    channels: Sequence[str] = CHANNELS,
    markers: Sequence[str] = MARKERS,
    encoding: str = "utf-8",
    name: str = "rest",
) -> Path:
    """Write steps, (n_channels, n_samples), and return the header's path."""
    stored = steps if orientation == "VECTORIZED" else steps.T
    types = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}
    (folder / f"{name}.eeg").write_bytes(np.ascontiguousarray(stored).astype(types[kind]).tobytes())
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "; written by a test, for Müller",
        "",
        "[Common Infos]",
        *(common or (f"DataFile={name}.eeg", f"MarkerFile={name}.vmrk")),
        "DataFormat=BINARY",
        f"DataOrientation={orientation}",
        f"NumberOfChannels={len(channels)}",
        f"SamplingInterval={1e6 / RATE:g}",
        "[Binary Infos]",
        f"BinaryFormat={kind}",
        "[Channel Infos]",
        *(f"Ch{number}={line}" for number, line in enumerate(channels, 1)),
        "[Comment]",
        "Ch1=not a channel,,7,V",
    ]
    (folder / f"{name}.vhdr").write_bytes("\r\n".join(lines).encode(encoding))
    marker_lines = [
        "Brain Vision Data Exchange Marker File, Version 1.0",
        "[Common Infos]",
        f"DataFile={name}.eeg",
        "[Marker Infos]",
        *(f"Mk{number}={line}" for number, line in enumerate(markers, 1)),
    ]
    (folder / f"{name}.vmrk").write_bytes("\r\n".join(marker_lines).encode(encoding))
    return folder / f"{name}.vhdr"


def as_text(header: Path, steps: np.ndarray, *, orientation: str, decimal: str = ".") -> Path:
    """Make the recording at a header one whose samples are text: a line of labels or a column of them, then numbers."""
    labels = [line.split(",")[0].replace("\\1 ", "") for line in CHANNELS]
    numbers = [[f"{value:.2f}".replace(".", decimal) for value in row] for row in steps]
    if orientation == "VECTORIZED":
        lines = [" ".join([label, *row]) for label, row in zip(labels, numbers, strict=True)]
        skipped = ("SkipLines=0", "SkipColumns=1")
    else:
        lines = ["  ".join(labels), *(" ".join(row) for row in zip(*numbers, strict=True))]
        skipped = ("SkipLines=1", "SkipColumns=0")
    header.with_suffix(".eeg").write_text("\r\n".join(lines) + "\r\n")
    text = header.read_text(encoding="utf-8").replace("DataFormat=BINARY", "DataFormat=ASCII")
    text = text.replace("DataOrientation=MULTIPLEXED", f"DataOrientation={orientation}")
    text = text.replace("[Binary Infos]", "\n".join(["[ASCII Infos]", f"DecimalSymbol={decimal}", *skipped, ""]))
    header.write_text(text.replace("BinaryFormat=INT_16\n", ""), encoding="utf-8")
    return header


@pytest.fixture
def steps() -> np.ndarray:
    """Return stored values of every channel of four seconds, the same numbers in every type of sample."""
    return np.random.default_rng(3).integers(-3000, 3000, (len(CHANNELS), 4 * RATE))


@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
@pytest.mark.parametrize("kind", ["INT_16", "INT_32", "IEEE_FLOAT_32"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_every_layout_gives_the_planted_values_in_the_unit_of_the_header(
    tmp_path: Path, steps: np.ndarray, orientation: str, kind: str, encoding: str
) -> None:
    recording = load_recording(write(tmp_path, steps, orientation=orientation, kind=kind, encoding=encoding))
    planted = steps * np.array(FACTORS)[:, None]
    modalities = {signal.name: (signal.modality, signal.unit) for signal in recording.signals}
    assert modalities == {
        "EEG": ("eeg", "uV"),
        "ECG": ("ecg", "mV"),
        "GSR": ("eda", "uS"),
        "Temp": ("temp", "degC"),
        "EOG": ("eog", "uV"),
        "Belt, upper": ("unknown", "ARU"),
    }
    np.testing.assert_allclose(recording.signal("EEG").read(), planted[:2], rtol=1e-6)
    for row, signal in enumerate(recording.signals[1:], 2):
        np.testing.assert_allclose(signal.read()[0], planted[row], rtol=1e-6)
        np.testing.assert_allclose(signal.read(301, 404)[0], planted[row, 301:404], rtol=1e-6)


def test_markers_are_intervals_and_a_bad_interval_is_about_its_channel(tmp_path: Path, steps: np.ndarray) -> None:
    recording = load_recording(write(tmp_path, steps, encoding="latin-1"))
    marks = [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals]
    assert marks == [(1.0, 0.0, "Stimulus/S  1"), (2.0, 0.2, "Response/R, 2"), (2.996, 0.0, "Comment/grün")]
    (bad,) = recording.corrections
    assert (bad.kind, bad.onset_seconds, bad.duration_seconds, bad.channels) == (BAD, 2.5, 0.5, ("EEG/Fp1",))
    assert recording.started_at == datetime(2024, 2, 29, 23, 59, 59, 500000)


def test_a_recording_that_was_stopped_and_went_on_is_masked_around_the_join(tmp_path: Path, steps: np.ndarray) -> None:
    markers = ("New Segment,,1,1,0,20240101120000000000", "New Segment,,501,1,0,20240101121500000000")
    recording = load_recording(write(tmp_path, steps, markers=markers))
    (join,) = recording.corrections
    assert (join.kind, join.span, join.source) == (BAD, (1.5, 2.5), "New Segment")
    assert any("joined" in note for note in recording.notes)
    assert recording.intervals == ()


@pytest.mark.parametrize("suffix", [".eeg", ".vmrk"])
def test_the_samples_and_the_markers_find_their_header(tmp_path: Path, steps: np.ndarray, suffix: str) -> None:
    header = write(tmp_path, steps)
    assert load_recording(header.with_suffix(suffix)).signal("EEG").n_samples == steps.shape[1]
    header.rename(tmp_path / "other.vhdr")
    with pytest.raises(RecordingError, match=r"rest\."):
        load_recording(header.with_suffix(suffix))


def test_a_header_that_was_renamed_with_its_samples_is_read_and_says_so(tmp_path: Path, steps: np.ndarray) -> None:
    write(tmp_path, steps, common=("DataFile=old.eeg", "MarkerFile=old.vmrk"))
    recording = load_recording(tmp_path / "rest.vhdr")
    assert [note for note in recording.notes if "old.eeg" in note and "rest.eeg" in note]
    assert len(recording.intervals) == 3


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.eeg", "sub/x.eeg", "..\\secret.eeg", "C:\\x.eeg", ".."])
@pytest.mark.parametrize("field", ["DataFile", "MarkerFile"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, steps: np.ndarray, name: str, field: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (tmp_path / "secret.eeg").write_bytes(bytes(steps.astype("<i2").T.tobytes()))
    names = {"DataFile": "rest.eeg", "MarkerFile": "rest.vmrk"} | {field: name}
    header = write(folder, steps, common=[f"{key}={value}" for key, value in names.items()])
    with pytest.raises(RecordingError, match=r"rest\.vhdr.*outside its folder"):
        load_recording(header)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NumberOfChannels=7", "NumberOfChannels=2000000000", "NumberOfChannels"),
        ("NumberOfChannels=7", "NumberOfChannels=-7", "NumberOfChannels"),
        ("NumberOfChannels=7", "NumberOfChannels=9", "number 8"),
        ("SamplingInterval=4000", "SamplingInterval=nan", "SamplingInterval"),
        ("SamplingInterval=4000", "SamplingInterval=0", "SamplingInterval"),
        ("BinaryFormat=INT_16", "BinaryFormat=INT_7", "BinaryFormat"),
        ("DataFormat=BINARY", "DataFormat=MORSE", "neither BINARY nor ASCII"),
        ("DataFormat=BINARY", "DataFormat=BINARY\r\nSegmentationType=MARKERBASED", "continuous"),
        ("DataOrientation=MULTIPLEXED", "DataOrientation=SIDEWAYS", "DataOrientation"),
        ("[Common Infos]", "[Other Infos]", "Common Infos"),
    ],
)
def test_a_header_that_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, steps: np.ndarray, old: str, new: str, words: str
) -> None:
    header = write(tmp_path, steps)
    content = header.read_bytes()
    assert old.encode() in content
    header.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(RecordingError, match=words) as fault:
        load_recording(header)
    assert "rest.vhdr" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_an_unknown_unit_is_kept_and_a_resolution_that_is_none_leaves_its_channel_out(
    tmp_path: Path, steps: np.ndarray
) -> None:
    channels = ("Fp1,,0.5,furlong", "Fp2,,0,µV", "Cz,,nan,µV", "Pz,,0.1,µV", *CHANNELS[4:])
    recording = load_recording(write(tmp_path, steps, channels=channels))
    assert {(s.unit, s.channel_names) for s in recording.signals_of("eeg")} == {("furlong", ("Fp1",)), ("uV", ("Pz",))}
    assert sum("resolution" in note for note in recording.notes) == 2
    said = load_recording(tmp_path / "rest.vhdr", overrides={"Fp1": SignalOverride(unit="mV")})
    np.testing.assert_allclose(said.signals_of("eeg")[0].read()[0], steps[0] * 500.0)


def test_samples_that_are_cut_are_used_as_far_as_they_go_unless_they_lie_channel_by_channel(
    tmp_path: Path, steps: np.ndarray
) -> None:
    header = write(tmp_path, steps, common=("DataFile=rest.eeg", f"DataPoints={steps.shape[1]}"))
    samples = header.with_suffix(".eeg")
    samples.write_bytes(samples.read_bytes()[:-1001])
    recording = load_recording(header)
    n_there = (steps.size * 2 - 1001) // (2 * len(steps))
    assert recording.signal("EEG").n_samples == n_there
    np.testing.assert_array_equal(recording.signal("EEG").read()[1], steps[1, :n_there])
    assert any("cut" in note for note in recording.notes)
    vectorized = tmp_path / "vectorized"
    vectorized.mkdir()
    common = ("DataFile=rest.eeg", f"DataPoints={steps.shape[1]}")
    header = write(vectorized, steps[:, :-100], common=common, orientation="VECTORIZED")
    with pytest.raises(RecordingError, match="no channel can be told from the next"):
        load_recording(header)


@pytest.mark.parametrize("name", ["test", "test_old_layout_latin1_software_filter"])
def test_real_samples_and_markers_are_those_of_mne(reference_data: Path, name: str) -> None:
    path = reference_data / "formats/brainvision" / f"{name}.vhdr"
    raw = mne.io.read_raw_brainvision(path, verbose="error")
    header = read_brainvision_header(path)
    recording = load_recording(path)
    factors = {channel["ch_name"]: channel["range"] for channel in raw.info["chs"]}
    n_compared = 0
    for signal in recording.signals:
        if signal.unit != "uV" or signal.modality == "unknown":
            continue
        for row, label in zip(signal.read(), signal.channel_names, strict=True):
            (known,) = raw.get_data(picks=[label])
            np.testing.assert_allclose(row, known / factors[label], rtol=1e-9, atol=1e-9)
            n_compared += 1
    assert n_compared >= 24
    assert list(header.labels) == raw.ch_names
    assert recording.started_at == raw.info["meas_date"].replace(tzinfo=None)
    known = [(round(a["onset"], 6), a["description"]) for a in raw.annotations if a["description"] != "New Segment/"]
    assert [(round(i.onset_seconds, 6), i.label) for i in recording.intervals] == known


def test_brainvision_and_fif_of_one_recording_are_equal(reference_data: Path) -> None:
    vision = load_recording(reference_data / "formats/brainvision/test.vhdr")
    fif = load_recording(reference_data / "formats/fif/test_bin_raw.fif")
    eeg = vision.signal("EEG")
    rows = fif.signal("EEG").read()[: eeg.n_channels]  # the first 26 channels are the EEG with a known unit
    np.testing.assert_allclose(eeg.read(), rows, rtol=1e-5, atol=1e-3)
    assert np.ptp(rows) > 10
    marks = [i for i in vision.intervals if i.label.startswith(("Stimulus/", "Event/"))]
    assert [i.label for i in fif.intervals] == [i.label.rpartition("/")[2].lstrip("S") for i in marks]
    np.testing.assert_allclose([i.onset_seconds for i in fif.intervals], [i.onset_seconds for i in marks], atol=1e-9)


def test_a_changed_byte_in_a_header_is_refused_or_conforms(tmp_path: Path, steps: np.ndarray) -> None:
    header = write(tmp_path, steps)
    rng = np.random.default_rng(11)
    for file in (header, header.with_suffix(".vmrk")):
        content = file.read_bytes()
        for place in range(0, len(content), 11):
            changed = bytearray(content)
            changed[place] = int(rng.choice(np.frombuffer(b"0129-+./ xN\x00\xb5,=[\n", dtype=np.uint8)))
            file.write_bytes(bytes(changed))
            try:
                recording = load_recording(header)
            except RecordingError as fault:
                assert "rest" in str(fault)
            else:
                assert all(np.isfinite(signal.read(0, 20)).all() for signal in recording.signals)
        file.write_bytes(content)


@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_samples_as_text_are_those_of_the_binary_file(
    tmp_path: Path, steps: np.ndarray, orientation: str, decimal: str
) -> None:
    header = write(tmp_path, steps)
    stored = load_recording(header)
    binary = {signal.name: signal.read() for signal in stored.signals}
    recording = load_recording(as_text(header, steps, orientation=orientation, decimal=decimal))
    assert {s.name for s in recording.signals} == set(binary)
    for signal in recording.signals:
        np.testing.assert_allclose(signal.read(), binary[signal.name], rtol=1e-12)
        np.testing.assert_allclose(signal.read(200, 300), binary[signal.name][:, 200:300], rtol=1e-12)
    assert recording.intervals == stored.intervals != ()


def test_text_that_mne_reads_is_read_alike(tmp_path: Path, steps: np.ndarray) -> None:
    header = as_text(write(tmp_path, steps), steps, orientation="MULTIPLEXED")
    raw = mne.io.read_raw_brainvision(header, verbose="error")
    recording = load_recording(header)
    np.testing.assert_allclose(recording.signal("EEG").read()[0], raw.get_data("Fp1")[0] * 1e6, rtol=1e-9)


def test_text_with_too_few_numbers_is_refused_and_words_among_them_are_missing(
    tmp_path: Path, steps: np.ndarray
) -> None:
    header = as_text(write(tmp_path, steps), steps, orientation="MULTIPLEXED")
    samples = header.with_suffix(".eeg")
    lines = samples.read_text().splitlines()
    lines[5] = lines[5].replace(lines[5].split()[0], "1e40999999990")
    samples.write_text("\n".join(lines) + "\n")
    recording = load_recording(header)
    assert np.flatnonzero(np.isnan(recording.signal("EEG").read()[0])).tolist() == [4]
    assert "1 cells of rest.eeg are no numbers and count as missing" in recording.notes
    samples.write_text("\n".join([*lines[:10], "1 2 3"]) + "\n")
    with pytest.raises(RecordingError, match=r"rest\.vhdr: rest\.eeg does not hold 7 channels .*line 11 has 3 numbers"):
        load_recording(header)
