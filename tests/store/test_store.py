"""The store: what goes in comes out, from one file that is whole or not there, and damage never passes for data."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from biopercept.errors import OutputError, StoreError
from biopercept.recording import Channel
from biopercept.store import reading
from biopercept.store.prepared import PreparedRecording, StoredSignal, StoredWindows, recording_key, safe_file_stem
from biopercept.store.reading import StudyStore, open_store
from biopercept.store.writing import StoreHeader, write_recording_part, write_store
from biopercept.tasks import Task

TASK = Task("stress", classes={"rest": ("rest",), "stress": ("strêss",)})
HEADER = StoreHeader(
    "made", (TASK,), {"windows": {"length_seconds": 60.0, "step_seconds": 30.0}, "cleaning": {}}, ("heart/a", "eda/b")
)
NAMES = ("EEG", "a/b", "..", "tonic (derived)", "ünï\n")


def recording_of(subject: str, *, n_samples: int = 1000, seed: int = 0) -> PreparedRecording:
    """Return a made recording with awkward names, masks and positions."""
    random = np.random.default_rng([seed, *subject.encode()])
    signals, samples, masks, quality, reasons = [], {}, {}, {}, {}
    for i, name in enumerate(NAMES):
        channels = (Channel("Fp1", (0.01, -0.02, 1 / 3)), Channel("x"))[: 1 + i % 2]
        mask = random.random((len(channels), n_samples)) > 0.2
        signals.append(StoredSignal(name, "eeg", "uV", 128.0 / (i + 1), 250.1, 0.1 * i, channels, n_samples, "EEG"))
        samples[name] = np.where(mask, random.normal(size=mask.shape), 0).astype(np.float32)
        masks[name] = mask
        if i:
            quality[name] = random.random((len(channels), 9)).astype(np.float32)
            reasons[name] = random.integers(0, 1 << 31, (len(channels), 9)).astype(np.uint32)
    features = random.normal(size=(4, 2)).astype(np.float32)
    features[1, 0] = np.nan
    windows = StoredWindows(
        onset=np.array([0.0, 30.0, 1 / 3, 60.0]),
        label=np.array(["rest", "strêss", "=1+1", ""]),
        stage=np.array([0, 1, 7, -1], dtype=np.int32),
        is_labelled=np.array([True, True, True, False]),
        features=features,
        quality=random.random((4, len(NAMES))).astype(np.float32),
    )
    return PreparedRecording(
        subject,
        "",
        "lab_1",
        99.5,
        tuple(signals),
        samples,
        masks,
        windows,
        quality,
        {"too short": 3},
        ("a note – one",),
        reasons=reasons,
        reason_names=("missing", "ünï"),
    )


def write(folder: Path, *recordings: PreparedRecording, name: str = "made.h5", header: StoreHeader = HEADER) -> Path:
    """Write a store of recordings and return its path."""
    sources = []
    for recording in recordings:
        part = folder / f"{safe_file_stem(recording.key)}.part"
        write_recording_part(part, recording, source_hash="s", settings_hash="t")
        sources.append((recording.key, part))
    write_store(folder / name, header, sources)
    return folder / name


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Return a store of two recordings."""
    return write(tmp_path, recording_of("S1"), recording_of("s1"))


def test_everything_of_a_recording_comes_back_as_it_went_in(store_path: Path) -> None:
    original = recording_of("S1")
    with open_store(store_path, verify=True) as store:
        assert (store.name, store.tasks, store.feature_names) == ("made", {"stress": TASK}, ("heart/a", "eda/b"))
        assert (store.window_length_seconds, store.step_seconds) == (60.0, 30.0)
        held = store.recording(original.key)
        assert held.signals == original.signals
        for part in ("key", "subject", "session", "recording", "duration_seconds", "notes", "left_out"):
            assert getattr(held, part) == getattr(original, part)
        for column, values in vars(original.windows).items():
            np.testing.assert_array_equal(getattr(held.windows, column), values)
        for name in NAMES:
            for got, put in zip(held.read(name), original.read(name), strict=True):
                assert got.dtype == put.dtype
                np.testing.assert_array_equal(got, put)
            np.testing.assert_array_equal(held.read_quality(name), original.read_quality(name))
            np.testing.assert_equal(held.read_reasons(name), original.reasons.get(name))
        assert held.reason_names == original.reason_names


def test_what_spoils_most_of_a_signal_is_told_of_each_recording(tmp_path: Path) -> None:
    bits = {"a/b": np.array([[0, 2, 3, 2], [0, 0, 1, 2]], dtype=np.uint32)}
    path = write(tmp_path, replace(recording_of("S1"), reasons=bits, reason_names=("missing", "flat")))
    with open_store(path, verify=True) as store:
        assert store.recordings[0].main_reasons() == {"a/b": ("flat", 0.5)}
        assert list(store.to_frame()["spoilt"]) == ["a/b: flat (50 %)"]


def test_a_store_of_an_older_version_knows_no_reasons(tmp_path: Path) -> None:
    path = write(tmp_path, replace(recording_of("S1"), reasons={}, reason_names=()))
    with h5py.File(path) as file:
        assert "reasons" not in file["recordings/S1__lab%5F1"]
    with open_store(path, verify=True) as store:
        assert store.recordings[0].reason_names == ()
        assert store.recordings[0].main_reasons() == {}
        assert store.recordings[0].read_reasons("a/b") is None


@pytest.mark.parametrize(("start", "stop"), [(0, None), (10, 20), (990, 5000), (-5, 3), (2000, 2100), (20, 10)])
def test_a_stretch_is_the_same_from_a_store_and_from_memory_and_clipped_to_the_signal(
    store_path: Path, start: int, stop: int | None
) -> None:
    original = recording_of("S1")
    first, last = max(start, 0), 1000 if stop is None else min(stop, 1000)
    expected = original.samples["a/b"][:, first : max(first, last)]
    with open_store(store_path) as store:
        for held in (store.recording(original.key), original):
            samples, mask = held.read("a/b", start, stop)
            np.testing.assert_array_equal(samples, expected)
            assert mask.shape == expected.shape


def test_samples_read_may_be_changed_without_changing_what_is_read_next(store_path: Path) -> None:
    with open_store(store_path) as store:
        store.recordings[0].read("EEG")[0][:] = 7
        assert not (store.recordings[0].read("EEG")[0] == 7).any()


def test_a_store_in_another_process_is_opened_there_anew(store_path: Path) -> None:
    with open_store(store_path) as store:
        copy = pickle.loads(pickle.dumps(store))
        with copy:
            assert copy.fingerprint() == store.fingerprint()


def test_a_closed_store_says_so(store_path: Path) -> None:
    with open_store(store_path) as store:
        recording = store.recordings[0]
        recording.read("EEG")
    with pytest.raises(StoreError, match=r"made\.h5 was closed"):
        recording.read("EEG")


def test_an_unknown_signal_or_recording_is_refused_with_what_there_is(store_path: Path) -> None:
    with open_store(store_path) as store:
        with pytest.raises(StoreError, match=r"S1 lab_1 has no signal 'ECG'; it has: EEG, a/b"):
            store.recording("S1__lab%5F1").read("ECG")
        with pytest.raises(StoreError, match="has no recording 'S9'; it has 2 others"):
            store.recording("S9")


def test_the_bytes_depend_neither_on_the_order_nor_on_where_the_recordings_came_from(tmp_path: Path) -> None:
    first, second = recording_of("S1"), recording_of("S2")
    once = write(tmp_path, first, second)
    again = write(tmp_path, second, first, name="again.h5")
    write_store(tmp_path / "copied.h5", HEADER, [(r.key, once) for r in (second, first)])
    assert once.read_bytes() == again.read_bytes() == (tmp_path / "copied.h5").read_bytes()


def test_the_fingerprint_changes_with_one_sample_one_label_and_the_tasks_and_with_nothing_else(tmp_path: Path) -> None:
    def fingerprint(recording: PreparedRecording, header: StoreHeader = HEADER) -> str:
        with open_store(write(tmp_path, recording, recording_of("S2"), header=header)) as store:
            return store.fingerprint()

    base = recording_of("S1")
    samples = {name: values.copy() for name, values in base.samples.items()}
    samples["EEG"][0, 5] += 1
    label = base.windows.label.copy()
    label[0] = "strêss"
    changed = {
        fingerprint(base),
        fingerprint(replace(base, samples=samples)),
        fingerprint(replace(base, windows=replace(base.windows, label=label))),
        fingerprint(base, replace(HEADER, tasks=(replace(TASK, ignore=("x",)),))),
    }
    assert len(changed) == 4
    assert fingerprint(base) in changed


def test_keys_of_different_recordings_differ() -> None:
    parts = ["", "a", "b", "_", "a_b", "a_", "_b", "%5F", "A", "..", "/", "\u00e9", "e\u0301", "x" * 300]
    keys = [recording_key(s, t, r) for s in parts for t in parts for r in parts]
    assert len(set(keys)) == len(keys)
    stems = [safe_file_stem(key).lower() for key in keys]
    assert len(set(stems)) == len(stems)
    assert max(map(len, stems)) < 100
    assert not any(c in stem for stem in stems for c in "/\0")


def test_a_flipped_bit_in_the_samples_is_found_and_the_recording_named(store_path: Path) -> None:
    with open_store(store_path) as store:
        place = store.hdf5()["recordings/s1__lab%5F1/signals/EEG"].id.get_offset() + 11
    content = bytearray(store_path.read_bytes())
    content[place] ^= 4
    store_path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged in 1 of 2 recordings \(s1__lab%5F1\)"):
        open_store(store_path, verify=True)
    damaged = "recording s1__lab%5F1 in .* is damaged: it is not what was written"
    with open_store(store_path) as store:  # without being asked to: whatever is read of it, and nothing else
        for read in (lambda r: r.read("EEG"), lambda r: r.windows):
            with pytest.raises(StoreError, match=damaged):
                read(store.recording("s1__lab%5F1"))
        [other] = [recording for recording in store.recordings if recording.key != "s1__lab%5F1"]
        assert len(other.windows)


def test_what_was_found_whole_is_not_looked_at_again_in_a_process(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    hashing = reading.is_intact
    monkeypatch.setattr(reading, "is_intact", lambda group: looked.append(group.name) or hashing(group))
    for _ in range(2):
        with open_store(store_path) as store:
            for recording in store.recordings:
                assert len(recording.windows) and recording.read(recording.signals[0].name)
    assert len(looked) == len(set(looked)) == 2


def test_no_changed_byte_outside_the_samples_is_taken_for_data(tmp_path: Path) -> None:
    path = write(tmp_path, recording_of("S1", n_samples=8))
    whole = path.read_bytes()
    with open_store(path) as store:
        expected = _everything(store)
    random = np.random.default_rng(3)
    n_found = 0
    for place in random.choice(len(whole), 400, replace=False):
        content = bytearray(whole)
        content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        try:
            with open_store(path, verify=True) as store:
                assert _everything(store) == expected, f"byte {place} changed what is read and nothing said so"
        except StoreError:
            n_found += 1
    assert n_found > 200


def _everything(store: StudyStore) -> str:
    rows = [store.fingerprint(), store.name, str(store.tasks), store.biopercept_version]
    for recording in store.recordings:
        rows += [recording.subject, str(recording.signals), str(recording.notes), str(vars(recording.windows))]
        rows += [str(recording.read(signal.name)) for signal in recording.signals]
    return "\n".join(rows)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_store_is_refused(store_path: Path, share: float) -> None:
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreError, match=r"made\.h5 (is not an HDF5 file|cannot be read as HDF5)"):
        open_store(store_path)


def test_what_is_no_store_is_refused_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path / "absent.h5")
    with pytest.raises(StoreError, match="is not a file"):
        open_store(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(StoreError, match=r"other\.h5 is an HDF5 file but no store of biopercept"):
        open_store(tmp_path / "other.h5")


def test_a_store_of_a_newer_schema_says_which_version_is_needed(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as raw:
        raw.attrs.modify("schema", 2)
        raw.attrs.create("biopercept_version", np.bytes_(b"7.1.0"))
    with pytest.raises(
        StoreError, match=r"has schema 2, this biopercept reads schema 1; use biopercept 7\.1\.0 or newer"
    ):
        open_store(store_path)


@pytest.mark.parametrize("kind", ["soft", "external link", "external data", "virtual", "chunked", "text attribute"])
def test_what_leads_out_of_the_file_or_is_not_plain_data_is_refused(
    store_path: Path, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x01" * 4000)
    with h5py.File(store_path, "r+") as raw:
        signals = raw["recordings/S1__lab%5F1/signals"]
        shape = signals["EEG"].shape
        attributes = dict(signals["EEG"].attrs)
        del signals["EEG"]
        if kind == "soft":
            signals["EEG"] = h5py.SoftLink("/recordings/s1__lab%5F1/signals/EEG")
        elif kind == "external link":
            signals["EEG"] = h5py.ExternalLink("secret", "/x")
        elif kind == "external data":
            signals.create_dataset("EEG", shape, "<f4", external=[(str(secret), 0, 4000)])
        elif kind == "virtual":
            signals.create_virtual_dataset("EEG", h5py.VirtualLayout(shape, "<f4"))
        elif kind == "chunked":
            signals.create_dataset("EEG", shape, "<f4", chunks=True, compression="gzip")
        else:
            signals.create_dataset("EEG", data=np.zeros(shape, "<f4"))
            attributes["name"] = ["EEG", "EEG"]
        if kind not in ("soft", "external link"):
            for name, value in attributes.items():
                signals["EEG"].attrs[name] = value
    with open_store(store_path) as store:
        recording = store.recording("S1__lab%5F1")
        with pytest.raises(StoreError, match=r"refused|no store of biopercept has"):
            recording.read("EEG")
        assert not recording.is_intact()


def test_a_claimed_size_that_the_file_does_not_hold_is_refused_before_memory_is_taken(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as raw:
        group = raw["recordings/S1__lab%5F1"]
        del group["features"]
        group.create_dataset("features", (10**9, 2), "<f4")
    with open_store(store_path) as store, pytest.raises(StoreError, match=r"claims 8000000000 bytes"):
        _ = store.recording("S1__lab%5F1").windows


def test_samples_that_are_not_finite_are_never_stored(tmp_path: Path) -> None:
    recording = recording_of("S1")
    recording.samples["EEG"][0, 3] = np.inf
    with pytest.raises(StoreError, match="signal EEG of S1__lab%5F1 holds numbers that are not finite"):
        write_recording_part(tmp_path / "part", recording, source_hash="s", settings_hash="t")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_leaves_the_old_one(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store_path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        OutputError, match=r"cannot write made\.h5 in .*: No space left on device; what was there is unchanged"
    ):
        write_store(store_path, replace(HEADER, study="other"), [("S1__lab%5F1", store_path)])
    assert store_path.read_bytes() == before
    assert not [p for p in store_path.parent.iterdir() if p.name.endswith(".tmp")]


_REPLACE = """
import sys
from dataclasses import replace
from pathlib import Path
from biopercept.errors import OutputError
from biopercept.store.reading import open_store
from biopercept.store.writing import StoreHeader, write_store
path = Path(sys.argv[1])
with open_store(path) as store:
    keys = [r.key for r in store.recordings]
    header = StoreHeader("new", tuple(store.tasks.values()), dict(store.settings), store.feature_names)
try:
    write_store(path, header, [(key, path) for key in keys])
except OutputError as fault:
    print(fault, file=sys.stderr)
    sys.exit(fault.exit_code)
"""


@pytest.fixture(scope="module")
def faultio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Library that makes the n-th file operation fail or kill; skips where it cannot be built."""
    source = Path(__file__).resolve().parents[3] / "shared" / "tools" / "faultio.c"
    compiler = shutil.which("cc")
    if not source.is_file() or compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux, a C compiler and ../shared/tools/faultio.c")
    library = tmp_path_factory.mktemp("faultio") / "faultio.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize(("fault", "sticky"), [("KILL", False), ("ENOSPC", True), ("ENOSPC", False), ("SHORT", False)])
def test_after_a_fault_at_any_file_operation_the_store_is_the_old_or_the_new_one(
    store_path: Path, tmp_path: Path, faultio: Path, fault: str, sticky: bool
) -> None:
    log = tmp_path / "log"

    def run(n: int) -> int:
        log.unlink(missing_ok=True)
        environment = {**os.environ, "LD_PRELOAD": str(faultio), "FAULT_PATH": "made.h5", "FAULT_N": str(n)}
        environment |= {"FAULT_ERR": fault, "FAULT_LOG": str(log), "OMP_NUM_THREADS": "1"}
        environment |= {"FAULT_STICKY": "1"} if sticky else {}
        done = subprocess.run(
            [sys.executable, "-c", _REPLACE, store_path], env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode

    before = store_path.read_bytes()
    assert run(0) == 0
    after = store_path.read_bytes()
    n_operations = len(log.read_text().splitlines())
    assert n_operations > 20
    places = [2, n_operations // 2, n_operations - 2, n_operations - 1, n_operations]  # ..., sync, rename, sync
    for n in places:
        store_path.write_bytes(before)
        code = run(n)
        assert code in {"KILL": (-9,), "ENOSPC": (74,), "SHORT": (0, 74)}[fault], n
        assert store_path.read_bytes() in ((after,) if code == 0 else (before, after))
        for leftover in tmp_path.glob(".made.h5.*.tmp"):
            leftover.unlink()
    store_path.write_bytes(before)
    assert run(0) == 0
    assert store_path.read_bytes() == after
