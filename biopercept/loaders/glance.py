"""What is known of a path before a reader is chosen: its name, whether it is a folder, and its first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

N_FIRST_BYTES = 4096
EDF_SUFFIXES = (".edf", ".bdf", ".rec")
"""How files in EDF and BDF are called."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Glance:
    """What is known of a path before a reader is chosen: the path and, of a file, its first bytes without a BOM."""

    path: Path
    first_bytes: bytes = b""
    is_folder: bool = False

    @property
    def suffix(self) -> str:
        """Return the suffix in lower case, without that of gzip; empty of a folder: its name makes it no file."""
        if self.is_folder:
            return ""
        path = self.path
        return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()

    def is_text(self) -> bool:
        """Return whether it is a file that begins with lines of printed characters."""
        first = self.first_bytes
        is_wide = first.startswith((b"\xff\xfe", b"\xfe\xff"))
        return bool(first) and (is_wide or all(byte > 31 or byte in b"\t\r\n\f" for byte in first))

    def begins(self, *magics: bytes) -> bool:
        """Return whether it is a file that begins with one of these."""
        return self.first_bytes.startswith(magics)


def glance_at(path: Path, *, is_folder: bool) -> Glance:
    """Return what is known of a path before it is read."""
    if is_folder:
        return Glance(path, is_folder=True)
    with path.open("rb") as stream:
        return Glance(path, stream.read(N_FIRST_BYTES).removeprefix(_BOM))
