"""One table of modalities: unit, plausible range, filter band, model rate and patch length.

Adding a modality is a row here and a cleaner in ``preprocessing``. Codes that the model
sees (:data:`MODALITY_NAMES`) are fixed by the order of this table, so they do not depend
on what a recording happens to contain: only ever append.
"""

from __future__ import annotations

from dataclasses import dataclass

from biopercept.typed_values import did_you_mean


@dataclass(frozen=True)
class Modality:
    """What biopercept knows about one kind of signal.

    ``unit`` is what loaders convert to and the store keeps, "a.u." where none exists. Samples outside ``plausible`` are
    masked as artefact: no body gives them. ``band_hz`` are the high-pass and low-pass edge of the cleaner, None for no
    such filter. ``model_rate`` is in Hz: a faster signal is stored, low-passed, at this rate, a slower one at its own.
    ``patch_seconds`` is the length of one token. A derived modality is computed from a measured one of ``sources``.
    """

    name: str
    title: str
    unit: str
    plausible: tuple[float, float]
    band_hz: tuple[float | None, float | None]
    model_rate: float
    patch_seconds: float
    is_derived: bool = False
    sources: tuple[str, ...] = ()

    @property
    def patch_samples(self) -> int:
        """Return the samples of one token at the model rate."""
        return round(self.model_rate * self.patch_seconds)


DERIVED_RATE = 4.0
"""Sampling rate of every derived series, Hz."""


def _derived(name: str, title: str, unit: str, plausible: tuple[float, float], *sources: str) -> Modality:
    return Modality(name, title, unit, plausible, (None, None), DERIVED_RATE, 5.0, True, sources)


# Ranges: physiological limits with a margin. Bands: those usual in the literature for the features taken from them.
_TABLE = (
    Modality("ecg", "electrocardiogram", "mV", (-20.0, 20.0), (0.5, 40.0), 128.0, 1.0),
    Modality("bvp", "blood volume pulse", "a.u.", (-1e6, 1e6), (0.5, 8.0), 64.0, 1.0),
    Modality("eda", "electrodermal activity", "uS", (0.0, 100.0), (None, 1.0), 4.0, 5.0),
    Modality("resp", "respiration", "a.u.", (-1e6, 1e6), (0.05, 3.0), 16.0, 4.0),
    Modality("emg", "electromyogram", "mV", (-50.0, 50.0), (20.0, 450.0), 1000.0, 0.5),
    Modality("eeg", "electroencephalogram", "uV", (-2000.0, 2000.0), (1.0, 45.0), 128.0, 1.0),
    Modality("eog", "electrooculogram", "uV", (-5000.0, 5000.0), (0.1, 15.0), 64.0, 1.0),
    Modality("temp", "skin temperature", "degC", (15.0, 45.0), (None, 0.1), 4.0, 10.0),
    Modality("acc", "acceleration", "g", (-16.0, 16.0), (None, 15.0), 32.0, 2.0),
    Modality("hr", "heart rate (device)", "bpm", (25.0, 240.0), (None, None), 1.0, 10.0),
    Modality("spo2", "blood oxygen saturation", "%", (50.0, 100.0), (None, None), 1.0, 10.0),
    Modality("ibi", "inter-beat interval (device)", "s", (0.25, 2.4), (None, None), 4.0, 5.0),
    _derived("heart_rate", "instantaneous heart rate", "bpm", (25.0, 240.0), "ecg", "bvp", "ibi", "hr"),
    _derived("heart_variability", "log change from beat to beat", "log ms", (-5.0, 8.0), "ecg", "bvp", "ibi"),
    _derived("pulse_amplitude", "log pulse amplitude", "log a.u.", (-30.0, 30.0), "bvp"),
    _derived("tonic", "log tonic skin conductance", "log uS", (-12.0, 5.0), "eda"),
    _derived("phasic", "phasic skin conductance", "uS", (-50.0, 50.0), "eda"),
    _derived("resp_rate", "respiration rate", "1/min", (3.0, 60.0), "resp"),
    _derived("resp_amplitude", "log respiration amplitude", "log a.u.", (-30.0, 30.0), "resp"),
    _derived("emg_envelope", "log muscle activity", "log mV", (-20.0, 5.0), "emg"),
    _derived("activity", "log movement intensity", "log g", (-12.0, 4.0), "acc"),
    _derived("eeg_delta", "log EEG power 1-4 Hz", "log uV^2", (-20.0, 20.0), "eeg"),
    _derived("eeg_theta", "log EEG power 4-8 Hz", "log uV^2", (-20.0, 20.0), "eeg"),
    _derived("eeg_alpha", "log EEG power 8-13 Hz", "log uV^2", (-20.0, 20.0), "eeg"),
    _derived("eeg_beta", "log EEG power 13-30 Hz", "log uV^2", (-20.0, 20.0), "eeg"),
    _derived("eeg_gamma", "log EEG power 30-45 Hz", "log uV^2", (-20.0, 20.0), "eeg"),
)

MODALITIES: dict[str, Modality] = {row.name: row for row in _TABLE}
"""Every modality by its name, in the fixed order of the model's codes."""

MODALITY_NAMES: tuple[str, ...] = tuple(MODALITIES)
"""Names in code order: the position is the model's modality code."""

UNKNOWN = "unknown"
"""Modality of a signal that was not recognised: shown by ``inspect``, used by nothing."""

ALIASES: dict[str, str] = {
    "ppg": "bvp",
    "pleth": "bvp",
    "gsr": "eda",
    "rsp": "resp",
    "respiration": "resp",
    "temperature": "temp",
    "accelerometer": "acc",
    "heartrate": "hr",
    "ekg": "ecg",
}
"""Other words for a modality that study files may use."""


def modality_named(name: str) -> Modality:
    """Return the row of a modality given by its name or an alias, in any case.

    Raises KeyError where the word is neither; the message lists the names.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in MODALITIES:
        raise KeyError(
            f"unknown modality {name!r}; known are: {', '.join(MODALITY_NAMES)}{did_you_mean(name, MODALITY_NAMES)}"
        )
    return MODALITIES[key]
