"""Studies of many made people, each with two short recordings, to measure what the number of people costs.

    PYTHONPATH=docs python -m measurements people DIR --people 500 --stage-seconds 20

People are those of the sample study with draws of their own; nothing in them was measured on anybody.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from biopercept.sample_data import make_study


def write_people(folder: Path, n_people: int, stage_seconds: int) -> None:
    """Write a study of so many people; each has a chest and a wrist recording of seven stages."""
    chosen = [
        replace(make_study.PLANS[k % len(make_study.PLANS)], subject=f"S{k + 1:05d}", is_broken=False)
        for k in range(n_people)
    ]
    with patch.multiple(make_study, PLANS=chosen, STAGE_SECONDS=stage_seconds):
        make_study.write_study(folder)
