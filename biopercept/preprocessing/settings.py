"""Every number that cleaning uses, in one table.

Filter bands, plausible ranges and model rates of the modalities stand in
:data:`biopercept.modalities.MODALITIES`; everything else that decides what is masked, bridged
or detected stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from biopercept.errors import SettingsError
from biopercept.typed_values import FROM_0, refuse_outside


@dataclass(frozen=True)
class CleaningSettings:
    """What cleaning masks, bridges, filters and detects.

    Attributes
    ----------
    powerline_hz : float
        Mains frequency, 50 or 60 Hz; 0 for no notch.
    bridge_seconds, slow_bridge_seconds : float
        Gaps up to this long are crossed by a straight line so that filters need not restart; the bridged
        samples stay masked. The second is for EDA, respiration, temperature and oxygen.
    flat_seconds, resp_flat_seconds, eda_flat_seconds : float
        A run of equal samples this long is a lost electrode, not a body: fast signals, respiration, and EDA
        (whose wearable sensors have coarse steps).
    clip_seconds : float
        A run at the highest or lowest value of the channel this long is saturation (fast signals).
    heart_min_seconds : float
        Shortest segment in which beats are looked for, seconds.
    heart_min_correlation : float
        A beat whose shape correlates less than this with its neighbours' mean shape is no beat.
    heart_max_deviation : float
        A beat interval longer than the local median interval by more than this fraction, or as many times shorter, is
        not used.
    heart_max_step : float
        A beat interval that differs from those before and after, from both to the same side, by more than this
        fraction of the local median is not used; where intervals change little from beat to beat, less is enough.
    heart_min_coverage : float
        Where accepted intervals cover less than this fraction of the surrounding 20 s, none is used.
    heart_max_hole_seconds : float
        Heart rate is interpolated over rejected beats for up to this long, never over missing samples.
    pulse_agreement : float
        Largest fraction by which a pulse interval may differ from the device's own heart rate.
    ecg_min_mv : float
        Standard deviation of filtered ECG below which there is no ECG, mV.
    eda_min_us : float
        Skin conductance below this is an electrode off the skin, uS.
    eda_max_slope : float
        Skin conductance that changes faster is an artefact, uS/s.
    eda_tonic_hz : float
        Border between tonic and phasic skin conductance, Hz.
    eda_min_seconds : float
        Shortest segment in which tonic and phasic are separated, seconds.
    scr_min_us : float
        Smallest skin conductance response that is counted, uS.
    resp_min_seconds : float
        Shortest segment in which breaths are looked for, seconds.
    resp_min_share : float
        Fraction of power (of 0.05-3 Hz) at 0.05-1 Hz, beyond what an even noise has there, below which a segment is
        not breathing.
    resp_max_deviation : float
        A breath whose period is longer or shorter than its neighbours' median by more than this factor is not used.
    resp_min_amplitude : float
        A breath smaller than this fraction of the recording's large breaths (upper quartile) is not used.
    emg_min_mv : float
        Standard deviation of filtered EMG below which there is no EMG, mV.
    emg_envelope_seconds : float
        Length of the moving root mean square of EMG, seconds.
    eeg_min_uv, eeg_max_uv : float
        Standard deviation of a filtered EEG channel outside which it is bad, uV.
    eeg_max_deviation : float
        Robust z of a channel's log standard deviation beyond which it is bad.
    eeg_min_correlation : float
        Largest correlation with any other channel (median over seconds) below which a channel is bad;
        used with at least 6 channels.
    eeg_artefact_uv : float
        A second of EEG whose largest deviation is beyond this counts as doubtful, uV.
    in_band_share : float
        Size after filtering, as a fraction of the change from sample to sample before; below it a signal is only hum.

    References
    ----------
    Kleckner et al. (2018), doi:10.1109/TBME.2017.2758643 (EDA); Bigdely-Shamlo et al. (2015),
    doi:10.3389/fninf.2015.00016 (EEG bad channels); Lipponen & Tarvainen (2019),
    doi:10.1080/03091902.2019.1640306 (beat correction).
    """

    powerline_hz: float = 50.0
    bridge_seconds: float = 0.25
    slow_bridge_seconds: float = 2.0
    flat_seconds: float = 1.0
    resp_flat_seconds: float = 10.0
    eda_flat_seconds: float = 60.0
    clip_seconds: float = 0.1
    heart_min_seconds: float = 10.0
    heart_min_correlation: float = 0.6
    heart_max_deviation: float = 0.7
    heart_max_step: float = 0.25
    heart_min_coverage: float = 0.5
    heart_max_hole_seconds: float = 3.0
    pulse_agreement: float = 0.25
    ecg_min_mv: float = 0.005
    eda_min_us: float = 0.01
    eda_max_slope: float = 10.0
    eda_tonic_hz: float = 0.05
    eda_min_seconds: float = 20.0
    scr_min_us: float = 0.01
    resp_min_seconds: float = 20.0
    resp_min_share: float = 0.5
    resp_max_deviation: float = 2.0
    resp_min_amplitude: float = 0.1
    emg_min_mv: float = 1e-4
    emg_envelope_seconds: float = 0.25
    eeg_min_uv: float = 0.5
    eeg_max_uv: float = 200.0
    eeg_max_deviation: float = 5.0
    eeg_min_correlation: float = 0.3
    eeg_artefact_uv: float = 150.0
    in_band_share: float = 0.005

    def __post_init__(self) -> None:
        """Refuse values that are no numbers or below zero.

        Raises SettingsError: names the setting, its value and what is allowed.
        """
        refuse_outside("cleaning", self, {FROM_0: [row.name for row in fields(self)]})
        if self.powerline_hz not in (0, 50, 60):
            raise SettingsError(
                f"cleaning.powerline_hz is {self.powerline_hz!r}; allowed are 50, 60, or 0 for no notch."
            )
