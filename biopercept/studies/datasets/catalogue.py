"""Public data sets that biopercept can import: what is in them, the licence, where to get them, the layout expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import StudyError
from biopercept.studies.datasets import eegmat, flight, noneeg, stress_predict
from biopercept.studies.datasets.writing import ImportSummary
from biopercept.typed_values import did_you_mean


@dataclass(frozen=True)
class Dataset:
    """One public data set.

    Attributes
    ----------
    name : str
        Word for ``biopercept import``.
    content, labels : str
        What was measured on whom; what can be predicted and what to beware of.
    where : str
        The address from which users get it.
    layout : tuple of str
        Files that must lie in SOURCE.
    """

    name: str
    title: str
    content: str
    labels: str
    licence: str
    citation: str
    where: str
    layout: tuple[str, ...]
    write_study: Callable[[Path, Path], ImportSummary]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the function as plain JSON values."""
        values = {key: value for key, value in vars(self).items() if key != "write_study"}
        return {**values, "layout": list(self.layout)}


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
    ),
    Dataset(
        name="flight",
        title="Stress Detection in Flight Crews",
        content="24 people in a flight simulator, five scenarios of 5 to 7 min each: one ECG lead (limb lead II) at "
        "300 Hz and the person's own stress rating, 0 to 10, on every row",
        labels="task 'rating': the rating as a number, a window's mean; task 'level': low (below 4) against high (6 "
        "and above), between them left out. The rating drifts with the scenario and follows the body by some seconds: "
        "a clock alone tells low from high better than simple features of the heart did (balanced accuracy 0.76 "
        "against 0.62 to 0.67), so read the clock-only score beside every other",
        licence=str(flight.DEFINITION["licence"]),
        citation=str(flight.DEFINITION["citation"]),
        where="https://github.com/0Patrice/StressDetectionInFlightCrews",
        layout=("PNNScNMRF_mV.csv[.gz], columns Time;Value;Stress (s, mV, 0 to 10)",),
        write_study=flight.write_study,
    ),
)

DATASETS: dict[str, Dataset] = {row.name: row for row in _ROWS}
"""Every data set by its name."""


def dataset_named(name: str) -> Dataset:
    """Return a data set of the catalogue.

    Raises StudyError where the name is not in it; the message lists the names.
    """
    if name not in DATASETS:
        raise StudyError(
            f"there is no data set {name!r}; known are {', '.join(DATASETS)}{did_you_mean(name.lower(), DATASETS)}"
        )
    return DATASETS[name]
