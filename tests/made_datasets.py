"""Small folders in the documented layouts of public data sets, with values that the tests know."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

START = 1_361_382_919.0
"""2013-02-20 17:55:19 in UTC."""


def e4_time(seconds: float, *, is_date: bool) -> str:
    """Return a time as an E4 file gives it: unix seconds, or the date that stands in PhysioNet's copies."""
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S}" if is_date else f"{seconds:.6f}"


def write_e4(folder: Path, *, seconds: int, start: float = START, is_date: bool = False, eda: float = 1.5) -> None:
    """Write ACC, BVP, EDA, HR, IBI and TEMP of a session with a constant EDA of ``eda`` uS and 33 degC."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = e4_time(start, is_date=is_date)
    pulse = np.sin(2 * np.pi * 1.2 * np.arange(64 * seconds) / 64) * (50 + eda)
    (folder / "EDA.csv").write_text(f"{begin}\n4.000000\n" + f"{eda}\n" * (4 * seconds))
    (folder / "TEMP.csv").write_text(f"{begin}\n4.000000\n" + "33.0\n" * (4 * seconds))
    (folder / "BVP.csv").write_text(f"{begin}\n64.000000\n" + "".join(f"{v:.3f}\n" for v in pulse))
    axes = f"{begin}, {begin}, {begin}\n32.000000, 32.000000, 32.000000\n"
    (folder / "ACC.csv").write_text(axes + "64,0,-32\n" * (32 * seconds))
    (folder / "HR.csv").write_text(f"{e4_time(start + 10, is_date=is_date)}\n1.000000\n" + "72.0\n" * (seconds - 10))
    beats = "".join(f"{0.8 * n + 5:.4f},0.8\n" for n in range(20))
    (folder / "IBI.csv").write_text(f"{begin}, IBI\n{beats}")


def write_tags(folder: Path, presses: list[float], *, start: float = START, is_date: bool = False) -> None:
    """Write tags.csv with presses of the button, given in seconds from the start."""
    (folder / "tags.csv").write_text("".join(f"{e4_time(start + press, is_date=is_date)}\n" for press in presses))


# Seconds of the presses: baseline from 20 to 200 (the second and third), then a minute for each stage.
FIRST_VERSION = [5.0, 20.0, 200.0, *(260.0 + 60 * n for n in range(10))]
SECOND_VERSION = [10.0, 190.0, *(250.0 + 60 * n for n in range(7))]


def write_session(source: Path, session: str, name: str, presses: list[float], eda: float = 1.5) -> Path:
    """Write a session of 15 min of the PhysioNet study of induced stress and exercise, and return its folder."""
    folder = source / "Wearable_Dataset" / session / name
    write_e4(folder, seconds=900, is_date=True, eda=eda)
    write_tags(folder, presses, is_date=True)
    return folder


GRADES = (
    "GRADES - MIDTERM 1\n------\n\nS01 \u2013 78\nS02 \u2013 82\n\nGRADES - MIDTERM 2\n---\nS01 \u2013 90\n\n"
    "GRADES - FINAL (OUT OF 200)\n---\nS01 \u2013 182\nS02 \u2013 180\n"
)
NINE = 1_539_439_200.0
"""2018-10-13 09:00 in US central summer time."""


def write_exams(source: Path) -> None:
    """Write five exams of two students, a minute each, that begin before and after nine o'clock."""
    begins = {"S1/Midterm 1": -30.0, "S1/Final": 20.0, "S2/Midterm 1": -90.0, "S2/Midterm 2": 0.0, "S2/Final": -10.0}
    for number, (name, begin) in enumerate(begins.items()):
        write_e4(source / "Data" / name, seconds=60, start=NINE + begin, eda=1.0 + number)
    (source / "StudentGrades.txt").write_text(GRADES, encoding="utf-8")


def wesad_person(subject: str, seconds: dict[int, int]) -> dict[str, object]:
    """Return what SX.pkl holds: labels of so many seconds each, in this order, and constant signals that differ."""
    labels = np.concatenate([np.full(700 * n, label, dtype=np.int32) for label, n in seconds.items()])
    n, total = len(labels), sum(seconds.values())
    chest = {
        "ACC": np.tile([0.5, 0.25, -1.0], (n, 1)),
        "ECG": np.sin(2 * np.pi * 1.2 * np.arange(n) / 700)[:, None],
        "EMG": np.full((n, 1), 0.01),
        "EDA": np.full((n, 1), 5.25),
        "Temp": np.full((n, 1), 30.5),
        "Resp": np.full((n, 1), 2.5),
    }
    wrist = {
        "ACC": np.tile([64.0, 0.0, -32.0], (32 * total, 1)),
        "BVP": np.sin(2 * np.pi * 1.2 * np.arange(64 * total) / 64)[:, None],
        "EDA": np.full((4 * total, 1), 0.75),
        "TEMP": np.full((4 * total, 1), 33.5),
    }
    return {"subject": subject, "signal": {"chest": chest, "wrist": wrist}, "label": labels}


def write_wesad(folder: Path, subject: str, content: object, protocol: int = 2) -> Path:
    """Write SX/SX.pkl below a folder and return it."""
    file = folder / subject / f"{subject}.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


RESPIBAN_COUNTS = {"ECG": 49152, "EDA": 26214, "EMG": 49152, "TEMP": 32768, "RESPIRATION": 49152}
"""0.75 mV, 10 uS, 0.75 mV, 25 degC and 25 %."""
QUEST = """\
# Subj;S2;;;
# ORDER;Base;TSST;Medi 1;Fun;Medi 2;sRead;
# START;0.02;0.3;0.55;1.1;1.2;2;
# END;0.22;0.5;1;1.18;1.25;2.05;
;;;
# PANAS;1;1;3
# DIM;7;2;;
# DIM;5;4;;
# DIM;7;1;;
# DIM;8;3;;
# DIM;6;2;;
"""


def write_respiban(path: Path, z_counts: Sequence[int], *, started: str, rate: int = 700) -> None:
    """Write SX_respiban.txt: constant counts, and of the accelerometer 0 g, 1 g and a z axis of these counts."""
    fields = {
        "sensor": ["ECG", "EDA", "EMG", "TEMP", "XYZ", "XYZ", "XYZ", "RESPIRATION"],
        "device name": "RespiBan",
        "column": ["nSeq", "DI", *(f"CH{n}" for n in range(1, 9))],
        "time": started,
        "channels": list(range(1, 9)),
        "date": "2013-2-20",
        "device": "biosignalsplux",
        "sampling rate": rate,
        "label": [f"CH{n}" for n in range(1, 9)],
        "resolution": [16] * 8,
    }
    ecg, eda, emg, temp, resp = RESPIBAN_COUNTS.values()
    rows = [f"{n}\t0\t{ecg}\t{eda}\t{emg}\t{temp}\t33000\t38000\t{z}\t{resp}\t" for n, z in enumerate(z_counts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# OpenSignals Text File Format\n# {json.dumps({'00:07:80:D8:AB:58': fields})}\n# EndOfHeader\n"
    path.write_text(head + "\n".join(rows) + "\n")


def zip_folder(folder: Path, archive: Path) -> None:
    """Put the files of a folder into a zip, under their names alone."""
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.iterdir()):
            target.write(file, file.name)


CASE_HEADER = "daqtime,ecg,bvp,gsr,rsp,skt,emg_zygo,emg_coru,emg_trap,video"


def write_case(folder: Path, number: int, clips: list[int], seconds: int = 2) -> None:
    """Write a person of CASE: each clip lasts so many seconds and is rated (5 + clip / 10, clip) throughout."""
    data = folder / "data" / "interpolated"
    for name in ("physiological", "annotations"):
        (data / name).mkdir(parents=True, exist_ok=True)
    fast, slow = range(1000 * seconds * len(clips)), range(0, 1000 * seconds * len(clips), 50)
    rows = [f"{t},0.25,35.5,{20 + number},30.5,31.25,5,6,7,{clips[t // (1000 * seconds)]}" for t in fast]
    (data / "physiological" / f"sub_{number}.csv").write_text("\n".join([CASE_HEADER, *rows]) + "\n")
    rated = [(t, clips[t // (1000 * seconds)]) for t in slow]
    lines = [f"{t},{5 + clip / 10},{clip},{clip}" for t, clip in rated]
    (data / "annotations" / f"sub_{number}.csv").write_text("\n".join(["jstime,valence,arousal,video", *lines]) + "\n")


def write_kemocon(folder: Path, number: int, ratings: list[tuple[int, int]], *, n_devices: int = 1) -> None:
    """Write a person of K-EmoCon: 200 s from START, the baseline from 10 s on, the debate from 150 s to 190 s."""
    home = folder / "e4_data" / str(number)
    home.mkdir(parents=True)
    for sensor, rate, value in (("BVP", 64, 3.5), ("EDA", 4, 0.5 + number), ("TEMP", 4, 32.5), ("HR", 1, 71.0)):
        rows = [f"{(START + n / rate) * 1000:.3f},{number},{value},A{n % n_devices:05d}" for n in range(200 * rate)]
        (home / f"E4_{sensor}.csv").write_text("\n".join(["timestamp,pid,value,device_serial", *rows]) + "\n")
    table = folder / "metadata" / "subjects.csv"
    table.parent.mkdir(exist_ok=True)
    if not table.exists():
        table.write_text("pid,initTime,startTime,endTime\n")
    with table.open("a") as stream:
        stream.write(f"{number},{(START + 10) * 1000:.0f},{(START + 150) * 1000:.0f},{(START + 190) * 1000:.0f}\n")
    own = folder / "emotion_annotations" / "self_annotations" / f"P{number}.self.csv"
    own.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{5 * n},{arousal},{valence},1" for n, (arousal, valence) in enumerate(ratings, 1)]
    own.write_text("\n".join(["seconds,arousal,valence,cheerful", *lines]) + "\n")


def write_cogwear(folder: Path, start: float, eda: float, temperature: str = "temp", names: str = "eda") -> None:
    """Write one condition of CogWear: 30 s of BVP, EDA and temperature with unix seconds."""
    folder.mkdir(parents=True)
    for name, column, rate, value in (("bvp", "bvp", 64, 12.5), (names, "eda", 4, eda), ("temp", temperature, 4, 33.5)):
        rows = [f"{value},{start + n / rate:.4f}" for n in range(30 * rate)]
        (folder / f"empatica_{name}.csv").write_text("\n".join([f"{column},time", *rows]) + "\n")


def write_stew(folder: Path, number: int, rating: tuple[int, int] = (2, 8), *, level: float = 4200.0) -> None:
    """Write a person of STEW: 20 s of rest (10 uV of 10 Hz) and of the test (30 uV of 6 Hz), on ``level``."""
    for part, hertz, size in (("lo", 10, 10.0), ("hi", 6, 30.0)):
        wave = size * np.sin(2 * np.pi * hertz * np.arange(20 * 128) / 128)
        rows = level + number + 10 * np.arange(14) + wave[:, None]
        np.savetxt(folder / f"sub{number:02d}_{part}.txt", rows, fmt="%16.7e", delimiter="")
    with (folder / "ratings.txt").open("a") as stream:
        stream.write(f"{number}, {rating[0]}, {rating[1]}\n")


def deap_ratings() -> np.ndarray:
    """Return ratings of 40 videos: arousal 2 or 8 in turn, valence 3, 7 or 5 exactly, dominance 4, liking 6."""
    trials = np.arange(40)
    arousal, valence = np.where(trials % 2, 8.0, 2.0), np.array([3.0, 7.0, 5.0])[trials % 3]
    return np.column_stack([valence, arousal, np.full(40, 4.0), np.full(40, 6.0)])


def write_deap(folder: Path, number: int, *, scale: int = 2, labels: object = None) -> Path:
    """Write a person of DEAP as prepared for Python: in trial t a 10-Hz wave of ``scale`` times t + 1 in all EEG."""
    wave = np.sin(2 * np.pi * 10 * np.arange(8064) / 128)
    data = np.zeros((40, 40, 8064), dtype=np.int8 if scale == 2 else np.int16)
    data[:, :32] = np.rint(scale * np.outer(np.arange(1, 41), wave))[:, None]
    data[:, 32:] = np.arange(8)[:, None]
    file = folder / f"s{number:02d}.dat"
    file.write_bytes(pickle.dumps({"labels": deap_ratings() if labels is None else labels, "data": data}, 2))
    return file


def write_deap_bdf(folder: Path, number: int, starts: list[int], status: str = "Status", high: int = 0) -> None:
    """Write a recording of DEAP of 64 Hz: triggers 4 at these seconds, others around; ``high`` are the bits above."""
    import edfio

    n = 64 * (max(starts) + 61)
    codes = np.full(n, high)
    for start in starts:
        for second, code in ((start - 2, 3), (start, 4), (start + 60, 5)):
            codes[64 * second : 64 * second + 8] += code
    wave = 20 * np.sin(2 * np.pi * 10 * np.arange(n) / 64)
    limits = {"physical_range": (-8388608, 8388607), "digital_range": (-8388608, 8388607)}
    signals = [
        edfio.BdfSignal(wave, 64, label="Fp1", physical_dimension="uV", physical_range=(-262144, 262143)),
        edfio.BdfSignal(codes.astype(float), 64, label=status, physical_dimension="Boolean", **limits),
    ]
    edfio.Bdf(signals, annotations=None).write(folder / f"s{number:02d}.bdf")


def write_deap_table(file: Path, person: int, videos: list[int]) -> None:
    """Write participant_ratings.csv: the videos in the order in which they were seen, rated as ``deap_ratings``."""
    ratings = deap_ratings()
    rows = [
        f"{person},{trial},{video},{trial * 1000},{','.join(str(cell) for cell in ratings[video - 1])},"
        for trial, video in enumerate(videos, 1)
    ]
    header = "Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,Liking,Familiarity"
    file.write_text("\n".join([header, *rows]) + "\n")


def dreamer_person(number: int, *, n_clips: int = 3, level: float = 4200.0) -> dict[str, object]:
    """Return what DREAMER.mat holds of a person: clip k lasts 20 + k s, with a wave of k + 1 uV, rated k + 1 to 3."""

    def cells(kind: str, seconds: int) -> np.ndarray:
        rate, channels = {"EEG": (128, 14), "ECG": (256, 2)}[kind]
        made = np.empty((n_clips, 1), dtype=object)
        for clip in range(n_clips):
            time = np.arange(rate * (seconds + clip)) / rate
            wave = (clip + 1) * np.sin(2 * np.pi * 8 * time) + number
            made[clip, 0] = np.tile(wave[:, None], channels) + (level if kind == "EEG" else 2000.0)
        return made

    signals = {kind: {"baseline": cells(kind, 6), "stimuli": cells(kind, 20)} for kind in ("EEG", "ECG")}
    scores = np.arange(n_clips, dtype=np.uint8)[:, None]
    scored = {"ScoreValence": 5 - scores, "ScoreArousal": scores + 1, "ScoreDominance": np.full_like(scores, 4)}
    return {"Age": str(20 + number), "Gender": "female", **signals, **scored}


def write_dreamer(folder: Path, people: list[dict[str, object]], rate: int = 128, *, packed: bool = True) -> Path:
    """Write DREAMER.mat with these people."""
    import scipy.io

    data, names = np.empty((1, len(people)), dtype=object), np.empty((1, 14), dtype=object)
    data[0] = people
    names[0] = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
    about = {"EEG_SamplingRate": rate, "ECG_SamplingRate": 256, "EEG_Electrodes": names, "noOfSubjects": len(people)}
    file = folder / "DREAMER.mat"
    scipy.io.savemat(file, {"DREAMER": {"Data": data, **about}}, do_compression=packed)
    return file


def write_maus(folder: Path, person: str, seconds: int = 20) -> None:
    """Write a person of MAUS: six trials, the first 2 s shorter, the n-th a pulse about n times the person's level.

    Levels are those of :data:`MAUS_LEVELS` and, of everybody, a thousandth of the person's number more.
    """
    home = folder / "Data" / "Raw_data" / person
    home.mkdir(parents=True)
    header = "Trial 1:0back,Trial 2:2back,Trial 3:3back,Trial 4:2back,Trial 5:3back,Trial 6:0back"
    for name, level in MAUS_LEVELS.items():
        rate = 256 if name != "pixart" else 100 if person < "007" else 102.5
        n = int(rate * seconds)
        wave = 0.2 * np.sin(2 * np.pi * 1.2 * np.arange(n) / rate)
        values = np.outer(np.ones(n), np.arange(1, 7)) * (level + int(person) / 1000) + wave[:, None]
        lines = [",".join(f"{value:.4f}" for value in row) for row in values]
        ends = n - int(2 * rate)
        lines[ends:] = ["," + line.split(",", 1)[1] for line in lines[ends:]]
        (home / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")


MAUS_LEVELS = {"inf_ecg": 0.1, "inf_gsr": 2.0, "inf_ppg": 1.0, "pixart": 10.0}


def write_affective_road(folder: Path, drives: dict[str, int], *, seconds: int = 240) -> None:
    """Write drives of AffectiveROAD, each rated from so many rows on: 0.25 in its first half and 0.75 in its second.

    The wristbands begin at START, the drive 20 s later; it lasts the ``seconds`` but the last 40.
    """
    names = ("Subj_metric/Annot_Subjective_metric", "E4/Annot_E4_Left", "E4/Annot_E4_Right")
    for name, key in zip(names, ("Drive_id", "Drive-id", "Drive-id"), strict=True):
        table = folder / "Database" / f"{name}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{key},Z_Start,Z_End,City_Start,City_End,Z_Start,Z_End"]
        for drive, rated in drives.items():
            start = rated if key == "Drive_id" else 80
            end = start + 4 * (seconds - 60)
            lines.append(f"{drive},{start},{start + 40},{start + 40},{end - 40},{end - 40},{end}")
        table.write_text("\n".join(lines) + "\n")
    for number, (drive, rated) in enumerate(drives.items(), 1):
        for wrist, eda in (("Left", 1.5 + number), ("Right", 5.5 + number)):
            write_e4(folder / "Database" / "E4" / f"{number}-E4-{drive}" / wrist, seconds=seconds, eda=eda)
        half = 2 * (seconds - 60)
        rows = ["0"] * rated + ["0.25"] * half + ["0.75"] * half
        (folder / "Database" / "Subj_metric" / f"SM_{drive}.csv").write_text("\n".join(["stress", *rows]) + "\n")


def _made_wesad(folder: Path) -> None:
    for number, subject in enumerate(("S2", "S3")):
        content = wesad_person(subject, {1: 20 + number, 2: 20, 3: 10})
        content["signal"]["chest"]["EDA"] *= 1 + number  # type: ignore[index]
        write_wesad(folder, subject, content)


def _made_wesad_devices(folder: Path) -> None:
    for number, subject in enumerate(("S2", "S3")):
        home = folder / subject
        write_respiban(home / f"{subject}_respiban.txt", [28000 + number] * (90 * 700), started="18:55:29.0")
        write_e4(home / f"{subject}_E4_Data", seconds=120, eda=1.5 + number)
        (home / f"{subject}_quest.csv").write_text(QUEST)


def _made_induced_stress(folder: Path) -> None:
    write_session(folder, "STRESS", "S01", FIRST_VERSION)
    write_session(folder, "STRESS", "f01", SECOND_VERSION, eda=2.5)
    write_session(folder, "AEROBIC", "f01", [30.0, 100.0, 200.0, 300.0], eda=3.5)
    (folder / "Stress_Level_v1.csv").write_text(",Baseline,Stroop,TMCT\nS01,2,7.5,\n")


def _made_case(folder: Path) -> None:
    for number in (1, 2):
        write_case(folder, number, [10, 3, 11, 1, 11, 7, 11, 5, 11, 2, 11, 8, 11, 4, 11, 6, 12], seconds=4)


def _made_kemocon(folder: Path) -> None:
    for number in (1, 4):
        write_kemocon(folder, number, [(3, 2)] * 4 + [(1, 5)] * 4)


def _made_cogwear(folder: Path) -> None:
    for number in range(2):
        for step, condition in enumerate(("baseline", "cognitive_load")):
            home = folder / "pilot" / str(number) / condition
            write_cogwear(home, START + 500 * step + 5000 * number, 1.0 + 2 * number + step)


def _made_maus(folder: Path) -> None:
    for person in ("002", "008"):
        write_maus(folder, person, seconds=12)


MADE: dict[str, Callable[[Path], None]] = {
    "wesad": _made_wesad,
    "wesad of devices": _made_wesad_devices,
    "induced-stress": _made_induced_stress,
    "exam-stress": write_exams,
    "case": _made_case,
    "k-emocon": _made_kemocon,
    "cogwear": _made_cogwear,
    "maus": _made_maus,
    "affective-road": lambda folder: write_affective_road(folder, {"GM1": 12, "GM2": 100, "AD1": 40}, seconds=100),
}
"""A folder of two people in the documented layout, by the data set's name (and what it is read by)."""
