"""The page of a recording as a file: the same bytes each time, figures without a script, of a modest size."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from biopercept.measures.recording import measured_and_cleaned, whole_recording
from biopercept.recording import Interval, Recording, Signal
from biopercept.report.recordings.page import page_of_recording
from measurements.planted_hearts import pulse_of, regular_heart
from measurements.planted_signals import skin_of

pytestmark = pytest.mark.figures

SECONDS = 900.0


@pytest.fixture(scope="module")
def page() -> str:
    return made()


def made() -> str:
    heart = regular_heart(SECONDS, 72.0)
    signals = (
        Signal.from_samples("BVP", "bvp", "a.u.", 64.0, pulse_of(heart, SECONDS, 64.0)),
        Signal.from_samples("EDA", "eda", "uS", 4.0, skin_of(np.arange(20.0, SECONDS, 12.0), 0.3, SECONDS, 4.0)),
        Signal.from_samples("TEMP", "temp", "degC", 4.0, np.full(round(4 * SECONDS), 33.0)),
    )
    name = "_</svg><script>alert(1)</script>$x$"
    recording = Recording("S1", "", "made", signals, (Interval(0.0, SECONDS, name),))
    features, clean = measured_and_cleaned(recording, rows="whole")
    return page_of_recording(features, clean, whole_recording(clean))


def figures(page: str) -> list[bytes]:
    return [base64.b64decode(one) for one in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)]


def test_the_same_recording_gives_the_same_bytes(page: str) -> None:
    assert made() == page


def test_figures_are_well_formed_and_run_nothing(page: str) -> None:
    drawn = figures(page)
    assert len(drawn) == 7
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert not [one for one in root.iter() if one.tag.endswith(("script", "foreignObject"))]
        links = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_a_quarter_of_an_hour_stays_small_with_the_numbers_of_its_figures(page: str) -> None:
    assert len(page) < 1_300_000
    assert page.count("<a data-csv") == 5  # of 7 figures; the waves of two have too many samples
