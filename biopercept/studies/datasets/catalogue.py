"""Public data sets that biopercept can import: what is in them, the licence, where to get them, the layout expected."""

from __future__ import annotations

from biopercept.errors import StudyError
from biopercept.studies.datasets import (
    affective_road,
    case,
    cogwear,
    deap,
    dreamer,
    eegmat,
    exam_stress,
    flight,
    induced_stress,
    k_emocon,
    maus,
    noneeg,
    stew,
    stress_predict,
    wesad,
)
from biopercept.studies.datasets.description import Dataset
from biopercept.typed_values import did_you_mean

_REAL = "the data themselves"

_ROWS = (
    Dataset(
        name="stress-predict",
        title="Stress-Predict",
        content="35 people, Empatica E4 on the wrist (BVP 64 Hz, EDA and temperature 4 Hz, acceleration "
        "32 Hz), 51-60 min each",
        labels="task 'stress': Stroop and interview against baseline and relaxation, hyperventilation ignored; 34 "
        "people. "
        "The order is fixed: a clock alone predicts the label, so read the clock-only score beside every other",
        licence=str(stress_predict.DEFINITION["licence"]),
        citation=str(stress_predict.DEFINITION["citation"]),
        where="https://doi.org/10.3390/s22218135 (its data availability statement links the repository)",
        layout=(
            "Raw_data/SXX/{ACC,BVP,EDA,HR,IBI,TEMP,tags_SXX}.csv",
            "Processed_data/Improved_All_Combined_hr_rsp_binary.csv",
            "Processed_data/Time_logs.xlsx",
        ),
        write_study=stress_predict.write_study,
        dropped="S01 (did not follow the protocol), and people whose label borders neither a tag nor the time log "
        "supports; hyperventilation is ignored",
        alarms=(
            "balanced accuracy above 0.85",
            "a clock alone reaches 0.94: a score near it is a clock's",
        ),
        files=("Raw_data, Processed_data: clone or download the whole repository",),
        checked_on=_REAL,
    ),
    Dataset(
        name="eegmat",
        title="EEG During Mental Arithmetic Tasks (PhysioNet)",
        content="36 people, 19 EEG channels and ECG at 500 Hz, 182 s of rest and 62 s of serial subtraction",
        labels="task 'workload': arithmetic against rest. Each file has one label and rest was recorded first",
        licence=str(eegmat.DEFINITION["licence"]),
        citation=str(eegmat.DEFINITION["citation"]),
        where="https://physionet.org/content/eegmat/1.0.0/",
        layout=("SubjectNN_1.edf", "SubjectNN_2.edf", "subject-info.csv"),
        write_study=eegmat.write_study,
        dropped="people with one of the two files; the count quality is one value for a person and no label",
        alarms=("balanced accuracy above 0.90", "rest comes first: compare with the clock-only score"),
        files=("the whole folder, 184 MB as a zip (183634285 bytes)",),
        checked_on=_REAL,
    ),
    Dataset(
        name="noneeg",
        title="Non-EEG Dataset for Assessment of Neurological Status (PhysioNet)",
        content="20 people, wrist acceleration, temperature and EDA at 8 Hz, SpO2 and heart rate at 1 Hz, about 38 min",
        labels="task 'state': relax, physical, emotional, cognitive. The order is fixed: read the "
        "clock-only score beside every other",
        licence=str(noneeg.DEFINITION["licence"]),
        citation=str(noneeg.DEFINITION["citation"]),
        where="https://physionet.org/content/noneeg/1.0.0/",
        layout=("[Dataset/]SubjectN_AccTempEDA.{hea,dat,atr}", "[Dataset/]SubjectN_SpO2HR.{hea,dat}"),
        write_study=noneeg.write_study,
        dropped="people whose notes are not the protocol's eight stages",
        alarms=("a clock-only score close to the model's: the order of the states is the same for everybody",),
        files=("the whole folder",),
        checked_on=_REAL,
    ),
    Dataset(
        name="flight",
        title="Stress Detection in Flight Crews",
        content="24 people in a flight simulator, five scenarios of 5 to 7 min each: one ECG lead (limb lead II) at "
        "300 Hz and the person's own stress rating, 0 to 10, on every row",
        labels="task 'rating': the rating as a number, a window's mean; task 'level': low (below 4) against high (6 "
        "and above); it follows the body by some seconds",
        licence=str(flight.DEFINITION["licence"]),
        citation=str(flight.DEFINITION["citation"]),
        where="https://github.com/0Patrice/StressDetectionInFlightCrews",
        layout=("PNNScNMRF_mV.csv[.gz], columns Time;Value;Stress (s, mV, 0 to 10)",),
        write_study=flight.write_study,
        dropped="windows whose mean rating lies from 4 to 6, in the task 'level'; rows without a rating",
        alarms=(
            "a clock-only score close to the model's: the rating drifts with the scenario, and a clock alone tells low "
            "from high better than simple features of the heart did (balanced accuracy 0.76 against 0.62 to 0.67)",
        ),
        files=("the folder of the files named P01Sc1MRF_mV.csv and so on",),
        checked_on=_REAL,
    ),
    wesad.DATASET,
    induced_stress.DATASET,
    exam_stress.DATASET,
    case.DATASET,
    k_emocon.DATASET,
    cogwear.DATASET,
    deap.DATASET,
    dreamer.DATASET,
    stew.DATASET,
    maus.DATASET,
    affective_road.DATASET,
)

DATASETS: dict[str, Dataset] = {row.name: row for row in _ROWS}
"""Every data set by its name."""

NOT_OFFERED = {
    "drivedb (PhysioNet, Stress Recognition in Automobile Drivers)": "its records are drives, and nothing found says "
    "which are of one driver, so that people cannot be kept apart; the presses in its marker channel do not say what "
    "they begin, and its headers give the skin conductance no unit. Single records are read (WFDB)",
    "AMIGOS": "its prepared MATLAB files are filtered and averaged, so that nothing in them tells the headset's "
    "microvolts from counts of its converter, and no page found states them, or the unit of its ECG and GSR",
    "SWELL-KW": "its raw signals are Poly5 files of TMSi (.S00, 2048 Hz), which are not read; programs that read them "
    "differ in which channel is the heart's and in the unit of the skin's, and nothing found says on which clock the "
    "conditions of each minute are. Its tables of features are no signals",
    "CLAS": "the folders, the blocks and 256 Hz are confirmed (Part1/by_block/1_ecg_*.csv, 1_gsr_ppg_*.csv); in which "
    "unit ECG and GSR are, and what their column of times counts, could not be",
    "CogLoad, Snake": "two forms are published: rows of 30 s at 1 Hz of all people in random order (the challenge of "
    "2020), which are no recordings, and CogDatasets.rar, whose files nothing found describes",
}
"""Data sets that are asked for and cannot be imported: title -> why."""


def dataset_named(name: str) -> Dataset:
    """Return a data set of the catalogue.

    Raises StudyError where the name is not in it; the message lists the names.
    """
    if name not in DATASETS:
        raise StudyError(
            f"there is no data set {name!r}; known are {', '.join(DATASETS)}{did_you_mean(name, DATASETS)}"
        )
    return DATASETS[name]
