"""Files of one recording are put on one clock where study.yaml says so, as planted, and else left with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biopercept.loaders.loading import load_recording
from biopercept.measures.quality import recording_quality
from biopercept.prepare.alignment import clocks_of, load_aligned, load_placed_aligned
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import PrepareRun, prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import Channel, Interval, Signal
from biopercept.report.recording_quality import quality_page
from biopercept.store.reading import open_store
from biopercept.studies.entries import FilePart, load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults

OFFSET, PPM = 1.2, 80.0
STRETCH = 1 + PPM * 1e-6


def on_another_clock(part: FilePart) -> FilePart:
    """The same file by a clock whose zero is 1.2 s late and of which a second lasts 80 ppm longer."""
    signals = tuple(signal.on_clock(-OFFSET / STRETCH, 1 / STRETCH) for signal in part.signals)
    return replace(part, signals=signals)


def worst_error(part: FilePart, offset: float, stretch: float, zero: float = 0.0) -> float:
    end = max(signal.end_seconds for signal in part.signals)
    return max(abs(offset + stretch * at - (zero + OFFSET + STRETCH * at)) for at in (0.0, end))


def slower(signal: Signal, by: int) -> Signal:
    samples = signal.read()[:, ::by]
    return signal.with_samples(samples, signal.sampling_rate / by)


@pytest.mark.realdata
@pytest.mark.parametrize("subject", ["S05", "S12", "S20"])
def test_axes_of_a_wristband_find_each_other_at_another_rate(reference_data: Path, subject: str) -> None:
    """One half has the axes x and y at 32 Hz, the other z at 16 Hz, shifted and stretched."""
    recording = load_recording(reference_data / "stress-predict" / "Raw_data" / subject)
    [acc] = recording.signals_of("acc")
    one = acc.with_samples(acc.read()[:2], 32.0)
    other = replace(slower(acc.with_samples(acc.read()[2:], 32.0), 2), channels=(Channel("z"),))
    first, second = FilePart("a", (replace(one, channels=acc.channels[:2]),), ()), FilePart("b", (other,), ())
    second = on_another_clock(second)
    clocks, notes = clocks_of([first, second])
    assert worst_error(second, clocks[1].seconds, clocks[1].stretch) < 1 / 16
    assert notes[0].startswith("b is aligned to a by motion: offset +1.")


@pytest.mark.realdata
def test_a_pulse_wave_and_the_devices_intervals_find_each_other(reference_data: Path) -> None:
    recording = load_recording(reference_data / "stress-predict" / "Raw_data" / "S05")
    pulse = FilePart("BVP", recording.signals_of("bvp"), ())
    beats = on_another_clock(FilePart("IBI", recording.signals_of("ibi"), ()))
    clocks, notes = clocks_of([pulse, beats])
    assert notes[0].startswith("IBI is aligned to BVP by heart rate: offset +1.")
    # The slower series has a value per beat.
    assert worst_error(beats, clocks[1].seconds, clocks[1].stretch) < float(
        np.median(recording.signals_of("ibi")[0].read())
    )


@pytest.mark.realdata
def test_a_heart_rate_smoothed_beyond_recognition_is_not_aligned(reference_data: Path) -> None:
    """The device's own rate follows its pulse by some twenty seconds, and hardly: no clock may be read off it."""
    recording = load_recording(reference_data / "stress-predict" / "Raw_data" / "S05")
    parts = [FilePart(m, recording.signals_of(m), ()) for m in ("bvp", "hr")]
    clocks, notes = clocks_of(parts)
    assert (clocks[1].seconds, clocks[1].stretch) == (0.0, 1.0)
    assert notes[0].startswith("hr is not aligned to bvp, its clock stays as it is (by heart rate: only 0 of ")


def write_study(folder: Path, *, align: str = "align: auto\n", strangers: bool = False) -> Path:
    """Write a person with two wristbands, the second on another clock, an hour at 32 Hz and 16 Hz."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    seconds = 1500.0
    fine = 64.0
    times = np.arange(int(seconds * fine)) / fine
    moves = np.convolve(rng.normal(size=len(times)), np.ones(6) / 6, "same") * (rng.random(len(times)) > 0.5)
    other = np.convolve(rng.normal(size=len(times)), np.ones(6) / 6, "same") if strangers else moves
    ours = np.arange(0.0, seconds - 1, 1 / 32)
    theirs = np.arange(0.0, seconds - 5, 1 / 16)

    def rows(at: np.ndarray, motion: np.ndarray, seed: int) -> str:
        noise = 0.02 * np.random.default_rng(seed).normal(size=(3, len(at)))
        g = np.stack([0.6 * motion, 0.5 * motion, 1 + 0.7 * motion]) + noise
        return "".join(f"{t:.6f},{x:.5f},{y:.5f},{z:.5f}\n" for t, x, y, z in zip(at, *g, strict=True))

    (folder / "left.csv").write_text(
        "time,acc_x (g),acc_y (g),acc_z (g)\n" + rows(ours, np.interp(ours, times, moves), 1)
    )
    seen = np.interp(OFFSET + STRETCH * theirs, times, other)
    (folder / "right.csv").write_text("time,acc_x (g),acc_y (g),acc_z (g)\n" + rows(theirs, seen, 2))
    (folder / "study.yaml").write_text(f"name: two\n{align}tasks: {{s: {{classes: {{a: [rest], b: [work]}}}}}}\n")
    (folder / "participants.tsv").write_text("participant_id\nS01\n")
    (folder / "recordings.tsv").write_text(
        "participant_id\trecording\tpath\toffset_seconds\nS01\tlab\tleft.csv\t0\nS01\tlab\tright.csv\t0\n"
    )
    (folder / "right_corrections.tsv").write_text(
        "onset\tduration\tkind\tchannel\twho\twhen\n1000\t10\tbad\tn/a\tme\tn/a\n"
    )
    return folder


def test_a_study_says_that_its_files_are_aligned_and_the_store_says_how(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "two"))
    recording, placed = load_placed_aligned(study, study.entries[0])
    assert (placed[0].shift_seconds, placed[0].stretch) == (0.0, 1.0)
    assert abs(placed[1].shift_seconds - OFFSET + (placed[1].stretch - STRETCH) * 1500) < 1 / 16
    assert abs(placed[1].shift_seconds - OFFSET) < 1 / 16
    left, right = recording.signals
    assert right.start_seconds == placed[1].shift_seconds
    [correction] = recording.corrections
    assert correction.onset_seconds == pytest.approx(OFFSET + STRETCH * 1000, abs=1 / 16)
    assert any(n.startswith("right.csv is aligned to left.csv by motion: offset +1.") for n in recording.notes)
    output = tmp_path / "s.h5"
    summary = prepare_study(study, output, PrepareSettings(WindowSettings(60, 60)), run=PrepareRun(isolate=False))
    assert any("right.csv is aligned to left.csv by motion" in note for note in summary.rows[0].notes)
    with open_store(output) as store:
        starts = {
            signal.name: signal.start_seconds for signal in store.recordings[0].signals if not signal.derived_from
        }
    assert sorted(starts.values()) == pytest.approx([left.start_seconds, right.start_seconds])


def test_the_page_of_quality_draws_the_clock_and_what_is_left(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "two"))
    [aligned] = load_aligned(study, study.entries[0]).aligned
    assert (aligned.name, aligned.reference, aligned.quantity) == ("right.csv", "left.csv", "motion")
    found = aligned.alignment
    assert found.n == len(found.pieces) <= found.n_sought == 8
    times = np.array([0.0, 700.0, 1400.0])
    seconds, sd = found.line(times)
    assert np.all(np.abs(seconds - (OFFSET + (STRETCH - 1) * times)) < 1 / 32)
    assert sd[1] < min(sd[0], sd[2])
    assert sd[0] == pytest.approx(found.offset_sd)
    recording = recording_quality(load_aligned(study, study.entries[0]))
    page = quality_page("two", [recording], [])
    assert f"offset +{found.offset_seconds:.3f} s" in page
    assert f"residual {found.residual_seconds:.3f} s over {found.n} of 8 pieces. Dots are" in page
    assert page.count("Clock of right.csv beside left.csv, by motion") >= 1


def test_nothing_is_aligned_unless_the_study_says_so(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "two", align=""))
    recording = load_aligned(study, study.entries[0])
    assert [signal.start_seconds for signal in recording.signals] == [0.0, 0.0]
    assert not any("aligned" in note for note in recording.notes)
    aligned = replace(study, is_aligned=True)
    plain = load_entry(aligned, study.entries[0])
    assert [signal.start_seconds for signal in plain.signals] == [0.0, 0.0]
    assert any(note.startswith("align is auto: its files are aligned where") for note in plain.notes)


def test_files_that_are_of_two_people_keep_their_clocks(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "two", strangers=True))
    recording = load_aligned(study, study.entries[0])
    assert [signal.start_seconds for signal in recording.signals] == [0.0, 0.0]
    [note] = [note for note in recording.notes if "aligned" in note]
    assert note.startswith("right.csv is not aligned to left.csv, its clock stays as it is (by motion: only ")


def test_markers_of_one_name_in_both_files_go_before_motion() -> None:
    still = Signal.from_samples("EDA", "eda", "uS", 4.0, np.ones(4000))
    at = [10.0, 400.0, 900.0]
    first = FilePart("a", (still,), tuple(Interval(OFFSET + STRETCH * t, 0.0, "beep") for t in at))
    second = FilePart("b", (still,), tuple(Interval(t, 0.0, "beep") for t in at))
    clocks, notes = clocks_of([first, second])
    assert (clocks[1].seconds, clocks[1].stretch) == (pytest.approx(OFFSET), pytest.approx(STRETCH, abs=1e-9))
    assert notes[0].startswith("b is aligned to a by events: offset +1.200 s")
    clocks, notes = clocks_of([first, replace(second, events=())])
    assert notes == [
        "b is not aligned to a, its clock stays as it is (they share neither events nor motion nor heart rate)"
    ]


def test_another_word_for_align_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(StudyFaults, match=r"study.yaml line 2: align is 'always'; allowed are none and auto"):
        load_study(write_study(tmp_path / "two", align="align: always\n"))
