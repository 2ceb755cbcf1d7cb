"""One check that every loader passes, on files written by other libraries and on real ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biopercept.loaders.loading import load_recording
from biopercept.loaders.recognition import SignalOverride
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.recording import Recording

from . import test_brainvision, test_curry, test_eeglab, test_egi, test_mff, test_mne_formats, test_text_devices

REAL = (
    "eegmat/Subject00_1.edf",
    "eegmat/Subject13_2.edf",
    "stress-predict/Raw_data/S02",
    "stress-predict/Raw_data/S35",
    "noneeg/Dataset/Subject1",
    "noneeg/Dataset/Subject7_SpO2HR.hea",
    "formats/edf/short_psg.edf",
    "formats/edf/test.edf",
    "formats/edf/test_subsecond.edf",
    "formats/edf/test_uneven_samp.edf",
    "formats/edf/duplicate_channel_labels.edf",
    "formats/bdf/test.bdf",
    "formats/bdf/test_bdf_stim_channel.bdf",
    "formats/bittium_faros/testfile_read.EDF",
    "formats/opensignals_h5/eda_slow_signal.edf",
    "formats/opensignals_h5/ecg_sample.h5",
    "formats/opensignals_h5/eda_hot_surface.h5",
    "formats/opensignals_h5/emg_bursts.h5",
    "formats/opensignals_h5/bvp_motion_artifact.h5",
    "formats/empatica_e4_devicely",
    "formats/empatica_e4_flirt",
    "formats/wfdb_multifreq_drivedb/drive17a.hea",
    "formats/wfdb_multifreq_drivedb/drive17b.hea",
    "formats/wfdb_samples/100.hea",
    "formats/wfdb_samples/041s.hea",
    "formats/wfdb_samples/03700181.hea",
    "formats/wfdb_samples/a103l.hea",
    "formats/wfdb_samples/a103l.mat",
    "formats/brainvision/test_old_layout_latin1_software_filter.vhdr",
    "formats/eeglab_set/eeglab_data.set",
    "formats/egi_raw/test_egi.raw",
    "formats/fif/test_bin_raw.fif",
    "formats/xdf/minimal.xdf",
    "formats/xdf/clock_resets.xdf",
    "formats/xdf/empty_streams.xdf",
    "formats/biopac_acq/physio-3.8.1.acq",
    "formats/biopac_acq/physio-4.4.0-c.acq",
    "formats/biopac_acq/physio-5.0.1.acq",
    "formats/biopac_acq/small-unicode-4.4.0.acq",
    "formats/garmin_fit/activity-small-fenix2-run.fit",
    "formats/garmin_fit/garmin-edge-500-activity.fit",
    "formats/opensignals_txt/bvp_sample.txt",
    "formats/opensignals_txt/ecg_sample.txt",
    "formats/opensignals_txt/eda_hot_surface.txt",
    "formats/openbci_txt/OpenBCI_GUI-v6-blinks-jawClench-alpha.txt",
    "formats/shimmer_consensys_csv/read_test_data.csv",
    "formats/muse_mindmonitor_csv/read_test_data.csv",
    "formats/garmin_csv/acc.csv",
    "formats/garmin_csv/data.csv",
    "formats/biovotion_everion",
    "formats/biovotion_everion/CsvData_signals_EV-EC39-7079-57A8.csv",
    "formats/biovotion_everion/CsvData_features_EV-EC39-7079-57A8.csv",
    "formats/biovotion_everion/CsvData_sensor_data_EV-EC39-7079-57A8.csv",
    "formats/bittium_faros/ACC.csv",
    "formats/bittium_faros/ECG.csv",
    "formats/heartpy_csv_mat_log/data3.csv",
)


def check_recording(recording: Recording) -> None:
    """Hold a recording to what every loader promises."""
    names = [signal.name.lower() for signal in recording.signals]
    assert names, "a recording without signals must have been refused"
    assert len(set(names)) == len(names)
    assert all(name.isprintable() and "/" not in name and 0 < len(name) <= 64 for name in names)
    onsets = [interval.onset_seconds for interval in recording.intervals]
    assert onsets == sorted(onsets)
    assert all(0 <= onset <= recording.duration_seconds + 1 for onset in onsets)
    for signal in recording.signals:
        assert signal.modality == UNKNOWN or signal.modality in MODALITIES
        assert (signal.modality == UNKNOWN) == (not signal.recognised_by)
        assert 0 < signal.sampling_rate < 1e6
        assert np.isfinite(signal.start_seconds)
        assert len(set(signal.channel_names)) == signal.n_channels >= 1
        whole = signal.read()
        assert whole.dtype == np.float64
        assert whole.shape == (signal.n_channels, signal.n_samples)
        assert not np.isinf(whole).any()
        # A piece is the same as the piece of the whole, at odd places, and nothing lies outside.
        for start, stop in ((0, 1), (signal.n_samples // 3, signal.n_samples // 3 + 37), (signal.n_samples - 5, 10**9)):
            first, last = max(start, 0), min(stop, signal.n_samples)
            np.testing.assert_array_equal(signal.read(start, stop), whole[:, first:last])
        assert signal.read(5, 5).shape == (signal.n_channels, 0)
        row = MODALITIES.get(signal.modality)
        if row is not None and signal.unit == row.unit and row.unit != "a.u." and np.isfinite(whole).any():
            # A factor of 1000 too much or too little shows here: most samples lie where a body can be
            # (EEG and EOG without a high-pass may sit on an offset of some mV).
            slack = 20 if signal.modality in ("eeg", "eog") else 1
            low, high = row.plausible
            assert slack * low <= float(np.nanmedian(whole)) <= slack * high, signal.name


@pytest.mark.parametrize("where", REAL)
def test_every_real_recording_conforms(reference_data: Path, where: str) -> None:
    check_recording(load_recording(reference_data / where))


def test_a_real_file_whose_units_were_changed_by_hand_conforms_without_them(reference_data: Path) -> None:
    nonsense = {label: SignalOverride("resp") for label in ("Vb", "ReRef")}  # EEG in siemens and degrees
    check_recording(load_recording(reference_data / "formats/brainvision/test.vhdr", overrides=nonsense))


@pytest.mark.parametrize("fixture", ["edf_file", "e4_folder", "e4_zip", "wfdb_record"])
def test_every_made_recording_conforms(request: pytest.FixtureRequest, fixture: str) -> None:
    check_recording(load_recording(request.getfixturevalue(fixture)))


MADE: tuple[Callable[[Path], Path], ...] = (
    test_curry.write,
    test_mff.write,
    test_egi.write,
    test_eeglab.write,
    lambda folder: test_eeglab.as_hdf5(test_eeglab.write(folder, embedded=True)),
    test_mne_formats.neuroscan,
    test_mne_formats.nihon,
    test_mne_formats.persyst,
    test_mne_formats.nicolet,
)
"""Writers of formats that there are no real files of here, or not of every kind."""


@pytest.mark.parametrize("write", MADE)
def test_every_recording_in_a_documented_layout_conforms(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    check_recording(load_recording(write(tmp_path)))


@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
def test_samples_as_text_conform(tmp_path: Path, orientation: str) -> None:
    steps = np.random.default_rng(3).integers(1, 3000, (len(test_brainvision.CHANNELS), 1000))
    header = test_brainvision.write(tmp_path, steps)
    nonsense = {"Temp": SignalOverride("resp")}
    check_recording(
        load_recording(test_brainvision.as_text(header, steps, orientation=orientation), overrides=nonsense)
    )


def test_a_session_of_polar_flow_conforms(tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    path.write_text(test_text_devices.flow("".join(f",00:00:{i:02},{60 + i},,,,,,,\n" for i in range(60))))
    check_recording(load_recording(path))


def test_a_made_table_conforms(write_table: Callable[..., Path]) -> None:
    rows = "".join(f"{i / 32},{np.sin(i):.4f},{0.5:.2f}\n" for i in range(320))
    check_recording(load_recording(write_table("time,BVP,EDA (uS)\n" + rows)))


@pytest.mark.parametrize("where", ["eegmat/Subject00_1.edf", "formats/wfdb_multifreq_drivedb/drive17a.hea"])
def test_loading_reads_no_samples_and_a_piece_costs_a_piece(reference_data: Path, where: str) -> None:
    load_recording(reference_data / where).signals[0].read(0, 10)  # imports are not the samples
    tracemalloc.start()
    recording = load_recording(reference_data / where)
    ecg = recording.signal("ECG")
    ecg.read(1000, 1100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000 < ecg.n_samples * 8 * 25


@pytest.mark.parametrize("fixture", ["edf_file", "e4_zip", "wfdb_record"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.1, 0.33, 0.5, 0.77, 0.99])
def test_a_file_cut_anywhere_is_loaded_in_part_and_says_so_or_is_refused_by_name(
    request: pytest.FixtureRequest, fixture: str, share: float
) -> None:
    from biopercept.errors import RecordingError

    path: Path = request.getfixturevalue(fixture)
    victim = path.with_suffix(".dat") if fixture == "wfdb_record" else path
    content = victim.read_bytes()
    victim.write_bytes(content[: int(len(content) * share)])
    try:
        recording = load_recording(path)
    except RecordingError as error:
        assert path.stem in str(error)
    else:
        check_recording(recording)
        assert recording.notes


@pytest.mark.parametrize(
    "suffix",
    [
        ".edf",
        ".bdf",
        ".csv",
        ".zip",
        ".hea",
        ".tsv.gz",
        ".dat",
        ".vhdr",
        ".set",
        ".fif",
        ".raw",
        ".cdt",
        ".dap",
        ".mff",
        "",
    ],
)
@pytest.mark.parametrize("content", [b"\x00", bytes(np.random.default_rng(5).integers(0, 256, 5000, dtype=np.uint8))])
def test_random_bytes_under_any_suffix_are_refused_by_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    from biopercept.errors import RecordingError

    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="noise"):
        load_recording(path)


@pytest.mark.parametrize("fixture", ["edf_file", "e4_folder", "wfdb_record"])
def test_a_changed_byte_in_a_header_is_refused_or_leaves_a_recording_that_conforms(
    request: pytest.FixtureRequest, fixture: str
) -> None:
    from biopercept.errors import RecordingError

    path: Path = request.getfixturevalue(fixture)
    victims = [path] if path.is_file() else sorted(path.glob("*.csv"))
    rng = np.random.default_rng(11)
    for victim in victims:
        content = victim.read_bytes()
        header = min(len(content), 1792 if fixture == "edf_file" else 200)
        for place in range(0, header, max(header // (15 if fixture == "e4_folder" else 120), 1)):
            changed = bytearray(content)
            changed[place] = int(rng.choice(np.frombuffer(b"0129-+./ xN\x00\xb5,", dtype=np.uint8)))
            victim.write_bytes(bytes(changed))
            try:
                recording = load_recording(path)
                for signal in recording.signals:
                    samples = signal.read(0, 100)
                    assert samples.shape == (signal.n_channels, min(signal.n_samples, 100))
                    assert not np.isinf(samples).any()
            except RecordingError as error:
                assert path.stem in str(error)
        victim.write_bytes(content)
