"""A page of a timeline read back as a browser and its script read it: elements, and arrays that are packed in it."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np

from biopercept.recording import FloatArray


class Elements(HTMLParser):
    """The page as a browser sees its elements: scripts by id, and all that is open at a time."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self._id: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "script":
            self._id = dict(attrs).get("id") or f"code {len(self.scripts)}"

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._id = None

    def handle_data(self, data: str) -> None:
        if self._id is None:
            self.text += data
        else:
            self.scripts[self._id] = self.scripts.get(self._id, "") + data


class Read:
    """What the script of a page reads from it, unpacked here again."""

    def __init__(self, page: str) -> None:
        self.elements = Elements(page)
        self.data = json.loads(self.elements.scripts["data"])

    def unpacked(self, row: dict[str, Any]) -> dict[str, FloatArray]:
        content = zlib.decompress(base64.b64decode(self.elements.scripts[f"blob-{row['blob']}"]))
        out, at = {}, 0
        for stream in row["streams"]:
            n = stream["rows"] * stream["columns"]
            numbers = np.zeros(n, dtype=np.uint64)
            for plane in range(stream["planes"]):
                numbers |= np.frombuffer(content, np.uint8, n, at).astype(np.uint64) << np.uint64(8 * plane)
                at += n
            values = numbers.reshape(stream["rows"], stream["columns"])
            if stream.get("float"):
                out[stream["name"]] = values.astype("<u4").view("<f4").astype(np.float64)
            else:
                signed = values.astype(np.int64)
                if stream["delta"]:
                    signed = np.cumsum((signed >> 1) ^ -(signed & 1), axis=1)
                out[stream["name"]] = signed.astype(np.float64)
        assert at == len(content)
        return out

    def level(
        self, signal: int, place: int = -1
    ) -> tuple[dict[str, Any], FloatArray, FloatArray, dict[str, FloatArray]]:
        """Return the head, lowest and highest by channel and bin, NaN in gaps, and all arrays of a level."""
        head = self.data["signals"][signal]["levels"][place]
        parts = self.unpacked(head)
        step, offset = np.array(head["step"])[:, None], np.array(head["offset"])[:, None]
        is_gap = parts.get("gap", np.zeros_like(parts["lowest"])) > 0
        highest = parts["lowest"] + parts.get("width", 0.0)
        values = (np.where(is_gap, np.nan, one * step + offset) for one in (parts["lowest"], highest))
        return head, *values, parts
