"""HDF5 written by h5py and by OpenSignals is read in its units; what points out of a file, or lies, is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

RNG = np.random.default_rng(4)
ECG = RNG.normal(0, 1, 2000)
EDA = RNG.uniform(1, 5, 80)
Change = Callable[[Any], None]


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """20 s: ECG at 100 Hz and EDA at 4 Hz that starts 2 s late, described by attributes."""
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("ecg", data=ECG, compression="gzip", chunks=(500,)).attrs.update(
            {"sampling_rate": 100.0, "units": "mV"}
        )
        group = file.create_group("wrist")
        group.attrs["SamplingFrequency"] = 4
        group.create_dataset("eda", data=EDA).attrs.update({"unit": "uS", "start": 2.0})
        file.create_dataset("names", data=np.array([b"a", b"b"]))
    return path


def test_attributes_say_rate_unit_and_start(described: Path) -> None:
    recording = load_recording(described)
    ecg, eda = recording.signals
    assert [(s.name, s.modality, s.unit, s.sampling_rate, s.start_seconds) for s in recording.signals] == [
        ("ecg", "ecg", "mV", 100.0, 0.0),
        ("eda", "eda", "uS", 4.0, 2.0),
    ]
    np.testing.assert_array_equal(ecg.read()[0], ECG)
    np.testing.assert_array_equal(eda.read(10, 20)[0], EDA[10:20])
    assert recording.notes == ("left out are data sets of text, times, references or records: /names",)


def test_the_sidecar_goes_before_the_attributes(described: Path) -> None:
    described.with_suffix(".json").write_text(
        '{"SamplingFrequency": 50, "ecg": {"Units": "uV", "StartTime": 1}, "eda": {"SamplingFrequency": 8}}'
    )
    ecg, eda = load_recording(described).signals
    assert (ecg.sampling_rate, ecg.start_seconds, eda.sampling_rate, eda.start_seconds) == (50, 1, 8, 2)
    np.testing.assert_allclose(ecg.read()[0], ECG / 1000)


@pytest.mark.parametrize("transposed", [False, True])
def test_channels_of_a_matrix_are_named_by_columns_and_its_longer_axis_is_time(
    tmp_path: Path, transposed: bool
) -> None:
    eeg = RNG.normal(0, 10, (1000, 2))
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        one = file.create_dataset("eeg", data=eeg.T if transposed else eeg)
        one.attrs["channel_names"] = np.array(["Fp1", "Cz"], dtype=h5py.string_dtype())
        one.attrs["units"] = "uV"
        file["fs"] = 250.0
    (signal,) = load_recording(path).signals
    assert (signal.channel_names, signal.sampling_rate, signal.unit) == (("Fp1", "Cz"), 250.0, "uV")
    np.testing.assert_array_equal(signal.read(), eeg.T)
    np.testing.assert_array_equal(signal.read(100, 137), eeg.T[:, 100:137])


def test_an_array_of_times_places_the_others_and_gaps_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "made.h5"
    times = np.delete(np.arange(400) / 8, slice(100, 140))
    with h5py.File(path, "w") as file:
        file["time"] = times
        file["eda"] = times + 1
        file["eda"].attrs["units"] = "uS"
        file["other"] = np.zeros(7)
    recording = load_recording(path)
    (eda,) = recording.signals
    assert eda.sampling_rate == 8
    expected = np.arange(400) / 8 + 1
    expected[100:140] = np.nan
    np.testing.assert_array_equal(eda.read()[0], expected)
    assert recording.notes[0] == "not as long as 'time', left out: other"


def test_dates_of_arrays_place_them_on_one_clock(tmp_path: Path) -> None:
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        for name, start in (("ecg", "2024-05-01T10:00:00+00:00"), ("eda", "2024-05-01T10:00:07.5+00:00")):
            file[name] = np.arange(100.0)
            file[name].attrs.update({"fs": 10, "start_time": start})
    recording = load_recording(path)
    assert [signal.start_seconds for signal in recording.signals] == [0, 7.5]
    assert recording.started_at is not None and recording.started_at.isoformat() == "2024-05-01T10:00:00+00:00"


def test_a_matlab_73_file_is_read_by_its_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "made.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["eda"] = EDA.reshape(1, -1)
        file["eda"].attrs["MATLAB_class"] = np.bytes_("double")
        file["fs"] = np.array([[4.0]])
        file["who"] = np.array([[77], [97]], dtype=np.uint16)
        file["who"].attrs["MATLAB_class"] = np.bytes_("char")
        file.create_group("#refs#")["a"] = np.arange(50.0)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2024 HDF5 schema 1.00 .")
    (eda,) = load_recording(path).signals
    assert (eda.name, eda.sampling_rate) == ("eda", 4.0)
    np.testing.assert_array_equal(eda.read()[0], EDA)


def _external_link(file: Any) -> None:
    file["ecg"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_storage(file: Any) -> None:
    file.create_dataset("ecg", (100,), "f8", external=[("/etc/passwd", 0, 800)])


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((100,), "f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (100,))
    file.create_virtual_dataset("ecg", layout)


def _deep(file: Any) -> None:
    group = file
    for _ in range(600):
        group = group.create_group("g")
    group["ecg"] = ECG


def _huge(file: Any) -> None:
    file.create_dataset("ecg", (10**12,), "f8", chunks=(1000,))


def _foreign_filter(file: Any) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((100,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    h5py.h5d.create(file.id, b"ecg", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((100,)), properties)


def _without_rate(file: Any) -> None:
    file["ecg"] = ECG


def _square(file: Any) -> None:
    file["eeg"] = np.zeros((64, 64))
    file["fs"] = 100


def _bad_rate(file: Any) -> None:
    file["ecg"] = ECG
    file["ecg"].attrs["fs"] = "fast"


def _too_long(file: Any) -> None:
    file["ecg"] = ECG
    file["ecg"].attrs["fs"] = 1e-6


def _only_text(file: Any) -> None:
    file["ecg"] = np.array([b"1", b"2"])


def _wide(file: Any) -> None:
    file["eeg"] = np.zeros((5000, 5001), dtype="i1")
    file["fs"] = 100


def _two_clocks(file: Any) -> None:
    file["a/time"] = np.arange(10.0)
    file["b/time"] = np.arange(10.0)


def _bad_start(file: Any) -> None:
    file["ecg"] = ECG
    file["ecg"].attrs.update({"fs": 100, "start": "soon"})


REFUSED = [
    (
        _external_link,
        "made.h5: no array of numbers that could be a signal (left out are links, which are not followed: /ecg)",
    ),
    (
        _external_storage,
        "made.h5: data set '/ecg' lies in other files ('/etc/passwd'), which are not opened",
    ),
    (
        _virtual,
        "made.h5: data set '/ecg' is put together from other files, which are not opened; export it as one file",
    ),
    (_deep, "made.h5: groups in groups, deeper than 16; store the arrays further up"),
    (
        _huge,
        "made.h5: data set '/ecg' promises 8e+12 bytes by its shape (1000000000000,), and 0 are stored; export it "
        "again",
    ),
    (
        _foreign_filter,
        "made.h5: data set '/ecg' is packed by filter 32015, which is not part of HDF5; store it with gzip or unpacked",
    ),
    (
        _without_rate,
        "made.h5: nothing says the sampling rate of ecg; write it in Hz into made.json beside the file: "
        '{"SamplingFrequency": 256}',
    ),
    (
        _square,
        "made.h5: eeg has 64 rows and as many columns, so nothing tells which are times; store the channels as "
        "arrays of their own",
    ),
    (_bad_rate, "made.h5: the sampling rate of ecg is 'fast', allowed is more than 0 up to 1000000 Hz"),
    (_too_long, "made.h5: ecg would last 23148 days at 1e-06 Hz, at most 31 are read; correct the rate"),
    (
        _only_text,
        "made.h5: no array of numbers that could be a signal (left out are data sets of text, times, references or "
        "records: /ecg)",
    ),
    (_wide, "made.h5: eeg would have 5000 channels by its shape (5000, 5001), allowed are 4096"),
    (_two_clocks, "made.h5: more than one array of times (a/time, b/time); keep one in a file"),
    (_bad_start, "made.h5: the start of ecg is 'soon', which is neither seconds nor an ISO date"),
]


@pytest.mark.parametrize(("write", "sentence"), REFUSED, ids=[one.__name__ for one, _ in REFUSED])
def test_what_is_hostile_or_unclear_is_refused_in_one_sentence(tmp_path: Path, write: Change, sentence: str) -> None:
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(RecordingError) as fault:
        load_recording(path)
    assert str(fault.value) == sentence


def test_links_in_circles_and_to_other_files_are_left_out_beside_a_signal(described: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["resp"] = ECG
        other["resp"].attrs["fs"] = 100
    with h5py.File(described, "a") as file:
        file["again"] = h5py.SoftLink("/")
        file["wrist/above"] = file["/"]  # a hard link: the group contains itself
        file["outside"] = h5py.ExternalLink("other.h5", "resp")
    recording = load_recording(described)
    assert [signal.name for signal in recording.signals] == ["ecg", "eda"]
    assert "left out are links, which are not followed: /again, /outside" in recording.notes


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_cut_file_is_refused_by_name(described: Path, share: float) -> None:
    content = described.read_bytes()
    described.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match=r"^made\.h5: cannot be read as HDF5 \(.+\); it is cut or damaged"):
        load_recording(described)


@pytest.fixture
def opensignals(tmp_path: Path) -> Path:
    """One biosignalsplux of two ports, 16 bits, 100 Hz, 500 samples, as OpenSignals lays them out."""
    path = tmp_path / "plux.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("00:07:80:00:00:01")
        group.attrs.update({"device": "biosignalsplux", "sampling rate": np.int32(100), "date": "2024-5-1"})
        group.attrs.update({"time": "9:5:3.7", "channels": np.array([1, 4]), "resolution": np.array([16, 16])})
        for number, sensor in ((1, "ECG"), (4, "EDA")):
            counts = RNG.integers(20_000, 40_000, (500, 1)).astype(np.uint16)
            group.create_dataset(f"raw/channel_{number}", data=counts)
            group[f"raw/channel_{number}"].attrs.update({"sensor": sensor, "label": f"CH{number}"})
        group["raw/nSeq"] = np.arange(500, dtype=np.uint16).reshape(-1, 1)
    return path


def test_opensignals_counts_become_units(opensignals: Path) -> None:
    recording = load_recording(opensignals)
    with h5py.File(opensignals) as file:
        raw = file["00:07:80:00:00:01/raw"]
        ecg, eda = raw["channel_1"][:, 0].astype(float), raw["channel_4"][:, 0].astype(float)
    np.testing.assert_allclose(recording.signal("ECG").read()[0], (ecg / 65536 - 0.5) * 3 / 1.019)
    np.testing.assert_allclose(recording.signal("EDA").read()[0], eda / 65536 * 3 / 0.12)
    assert [(s.unit, s.recognised_by) for s in recording.signals] == [("mV", "format"), ("uS", "format")]
    assert recording.started_at == datetime(2024, 5, 1, 9, 5, 3, 7000)


def test_samples_that_the_counter_of_opensignals_misses_are_missing(opensignals: Path) -> None:
    whole = load_recording(opensignals).signal("ECG").read()[0]
    with h5py.File(opensignals, "a") as file:
        counter = np.arange(500)
        counter[200:] += 30
        file["00:07:80:00:00:01/raw/nSeq"][...] = counter.reshape(-1, 1)
    recording = load_recording(opensignals)
    ecg = recording.signal("ECG")
    expected = np.concatenate([whole[:200], np.full(30, np.nan), whole[200:]])
    np.testing.assert_array_equal(ecg.read()[0], expected)
    np.testing.assert_array_equal(ecg.read(190, 240)[0], expected[190:240])
    assert recording.notes == ("30 samples were lost on their way from the device, by its counter; they are missing",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda group: group.attrs.update({"channels": np.array([1, 2])}),
            "plux.h5: the header of OpenSignals names channel 2, and raw has no channel_2",
        ),
        (
            lambda group: group.attrs.update({"resolution": "16"}),
            "plux.h5: the resolution in the header of OpenSignals are ['16'], which are no whole numbers",
        ),
        (
            lambda group: group["raw"].__delitem__("channel_4") or group.create_dataset("raw/channel_4", (3, 3), "u2"),
            "plux.h5: /00:07:80:00:00:01/raw/channel_4 has the shape (3, 3), expected is a column of counts",
        ),
    ],
)
def test_an_opensignals_file_that_contradicts_itself_is_refused(
    opensignals: Path, change: Change, sentence: str
) -> None:
    with h5py.File(opensignals, "a") as file:
        change(file["00:07:80:00:00:01"])
    with pytest.raises(RecordingError) as fault:
        load_recording(opensignals)
    assert str(fault.value) == sentence


def test_real_opensignals_text_and_hdf5_of_one_recording_agree(reference_data: Path) -> None:
    text = np.loadtxt(reference_data / "formats/opensignals_txt/ecg_sample.txt", comments="#")
    ecg = load_recording(reference_data / "formats/opensignals_h5/ecg_sample.h5").signal("ECG")
    counts = text[:, 2]
    n_samples = min(len(counts), ecg.n_samples)
    np.testing.assert_allclose(ecg.read()[0, :n_samples], ((counts / 2**16 - 0.5) * 3 / 1.019)[:n_samples])
    assert (ecg.sampling_rate, ecg.unit) == (200.0, "mV")
