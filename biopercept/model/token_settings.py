"""What becomes a token, how it is encoded, and what is hidden or changed in training: the settings, checked."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import nn

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.patch_embeddings import PATCH_EMBEDDINGS
from biopercept.model.time_codes import TIME_CODES, time_code

_GRACE_SECONDS = 1e-3  # lengths of windows are numbers of samples


@dataclass(frozen=True)
class TokenSettings:
    """What becomes a token, how it is encoded, and what is hidden in training.

    Attributes
    ----------
    raw : bool
        Patches of measured signals.
    derived : bool
        Patches of derived series (heart rate, tonic EDA, ...).
    features : bool
        One token per feature group.
    patch_embedding : str
        How the samples of a patch become a vector: ``linear`` or ``convolutional`` (see ``patch_embeddings``).
    time_code : str
        How time becomes one, of tokens and of queries: ``fourier``, ``sinusoidal`` or ``learned`` (see ``time_codes``).
    time_bands : int
        Frequencies of the time code (not of the learned one).
    longest_seconds : float
        Period of the slowest wave of the time code, reach of the learned one, and time over which latents are spread
        (``rotary_latents``), seconds: at least the window length.
    highest_hz : float
        Fastest wave of the time code, Hz; half the rate of the shortest patches. A bin of the learned code is half its
        period long.
    position_bands : int
        Frequencies per axis of the electrode code.
    shape_floor : float
        Spread (in normalised units) below which a patch is no longer blown up to unit spread, so that
        noise on a flat stretch does not look like signal.
    modality_dropout : float
        Chance that a training sample loses sensors; then 1 to all but one of those it has, each number
        equally likely. A sensor goes with all derived from it: raw, derived series, features.
    channel_dropout : float
        Chance that a channel, a series or a feature token of a training sample is hidden.
    time_dropout : float
        Mean share of each sensor's time that is hidden, as one stretch, in training.
    token_dropout : float
        Chance that a single token is hidden in training.
    """

    raw: bool = True
    derived: bool = True
    features: bool = True
    patch_embedding: str = "linear"
    time_code: str = "fourier"
    time_bands: int = 16
    longest_seconds: float = 120.0
    highest_hz: float = 0.5
    position_bands: int = 4
    shape_floor: float = 0.1
    modality_dropout: float = 0.3
    channel_dropout: float = 0.15
    time_dropout: float = 0.1
    token_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not (self.raw or self.derived or self.features):
            raise SettingsError(
                "The token settings raw, derived and features are all false; at least one must be true."
            )
        for name, allowed in (("patch_embedding", PATCH_EMBEDDINGS), ("time_code", TIME_CODES)):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"The token setting {name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}."
                )
        for name in (field.name for field in fields(self) if field.name.endswith("dropout")):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingsError(
                    f"The token setting {name} is {getattr(self, name)}; it must be at least 0 and below 1."
                )
        for name in ("time_bands", "position_bands", "longest_seconds", "highest_hz", "shape_floor"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"The token setting {name} is {getattr(self, name)}; it must be above 0.")

    def reads(self, modality: str) -> bool:
        """Return whether signals of this modality become tokens."""
        return self.derived if MODALITIES[modality].is_derived else self.raw

    def time_encoding(self, width: int) -> nn.Module:
        """Return the code of time that these settings name, for tokens and for queries alike."""
        return time_code(
            self.time_code,
            width,
            n_bands=self.time_bands,
            longest_seconds=self.longest_seconds,
            highest_hz=self.highest_hz,
        )

    def require_reach(self, seconds: float) -> None:
        """Refuse times that lie beyond the table of a learned time code; waves go on and code any time.

        Parameters
        ----------
        seconds : float
            Latest time that is to be coded, from the window's start.

        Raises
        ------
        SettingsError
            Naming the two times.
        """
        if self.time_code == "learned" and seconds > self.longest_seconds + _GRACE_SECONDS:
            raise SettingsError(
                f"The learned time code (time_code) has codes up to {self.longest_seconds:g} s, and times up to "
                f"{seconds:g} s are to be coded; set longest_seconds to at least that or choose another time_code."
            )
