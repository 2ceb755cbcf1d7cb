"""Where the paths of a study really lead, links followed; each folder is looked up once, so large tables stay fast."""

from __future__ import annotations

import os
from pathlib import Path


class Places:
    """Follows paths; made for one reading of a study and thrown away, so nothing it remembers grows old."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def real(self, path: Path) -> Path:
        """Return the path with every link followed.

        Raises
        ------
        OSError
            Where links go round in a circle.
        """
        text = os.fspath(path)
        parent, name = os.path.split(text)
        # "..", "." and links at the end mean something only to the system.
        if name in ("", ".", "..") or os.path.islink(text):  # noqa: PTH114
            return path.resolve(strict=False)
        if parent not in self._folders:
            self._folders[parent] = os.path.realpath(parent)
        return Path(self._folders[parent], name)
