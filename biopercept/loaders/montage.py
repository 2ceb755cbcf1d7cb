"""Where EEG electrodes sit on the head, by their names in the international 10-20 and 10-05 systems."""

from __future__ import annotations

from functools import lru_cache

Position = tuple[float, float, float]

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_REFERENCES = frozenset({"A1", "A2", "M1", "M2"})


@lru_cache(maxsize=1)
def _positions() -> dict[str, tuple[str, Position]]:
    """Return upper-case name -> (name, position in metres in mne's head frame) of every electrode of the template."""
    import mne

    # The same template under two names: mne 1.13 renamed it and warns about the old one.
    known = mne.channels.get_builtin_montages()
    template = "colin27_1020" if "colin27_1020" in known else "standard_1020"
    montage = mne.channels.make_standard_montage(template)
    info = mne.create_info(montage.ch_names, sfreq=1.0, ch_types="eeg", verbose="error")
    info.set_montage(montage, verbose="error")  # this turns the template's own frame into the head frame
    table: dict[str, tuple[str, Position]] = {}
    for channel in info["chs"]:
        x, y, z = (float(value) for value in channel["loc"][:3])
        table[channel["ch_name"].upper()] = (channel["ch_name"], (x, y, z))
    for old, new in _OLD_NAMES.items():
        table[old] = (old, table[new][1])
    return table


def electrode_name(label: str) -> str | None:
    """Return an electrode's name in the system's own spelling ("FP1" gives "Fp1"), or None where it is not one.

    Earlobes and mastoids (A1, A2, M1, M2) are references, not EEG electrodes: None.
    """
    key = label.strip().upper()
    if key in _REFERENCES or key not in _positions():
        return None
    return _positions()[key][0]


def electrode_position(label: str) -> Position | None:
    """Return an electrode's position in metres (mne's head frame: x right, y front, z up), None if it is not known.

    Old names (T3, T4, T5, T6) are the electrodes T7, T8, P7, P8.
    """
    name = electrode_name(label)
    return None if name is None else _positions()[name.upper()][1]


def is_reference(label: str) -> bool:
    """Return whether a label names an earlobe or a mastoid, or a usual word for the reference."""
    return label.strip().upper() in _REFERENCES | {"REF", "LE", "AR", "AVG", "CAR", "A1A2", "M1M2", "A12", "M12"}
