"""XDF files walked chunk by chunk and checked, so that only what is sound reaches the library that decodes it.

Every length in an XDF file is stated by the file: of a chunk, of a string, the number of samples and of channels. A
library believes them and allocates. Here each is held against the bytes that are there. A chunk that does not hold what
it says is left out, and the walk goes on at the next boundary chunk. Headers are read here, with entities and document
types refused, and handed on in the shortest form that the library needs.

References
----------
XDF specification 1.0, https://github.com/sccn/xdf/wiki/Specifications (chunks, variable-length integers, boundary).
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.sax.saxutils import escape

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import plain_words
from biopercept.loaders.identity import identity_of_entries

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAGIC = b"XDF:"
FILE_HEADER, STREAM_HEADER, SAMPLES, CLOCK_OFFSET, BOUNDARY, STREAM_FOOTER = range(1, 7)
BOUNDARY_SIGNATURE = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_ITEM_BYTES = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "double64": 8, "string": 0}

MOST_BYTES = 2 << 30
"""What may be kept in memory: the times of samples, and of a compressed file, unpacked as it is read, the samples."""
TIME_BYTES = 72
"""What the time of one sample takes while clocks are brought together, and its place in the file."""
LARGEST_CHUNK = 64 << 20
LARGEST_XML = 4 << 20
DEEPEST_XML = 32
MOST_CHANNELS = 4096
MOST_STREAMS = 200
MOST_NOTES = 20
MOST_STRINGS = 1_000_000
_FASTEST = 1e6
_NO_NUMBERS = frozenset(bytes([low, high]) for low in range(0xF0, 0x100) for high in (0x7F, 0xFF))
"""The last two bytes of a float of 64 bits, as the file has them, that is infinite or no number."""
_BLOCK = 1 << 18


@dataclass(frozen=True)
class XdfChannel:
    """What a stream's description says of a channel; empty where it says nothing."""

    label: str = ""
    unit: str = ""
    kind: str = ""


@dataclass
class XdfStream:
    """A stream as its header describes it, and how many samples of it the sound chunks hold.

    ``rate`` is the nominal one in Hz, 0 of an irregular stream. ``places`` are the bytes of the unpacked file at which
    the values of each sample begin, where they are numbers. ``n_offsets`` counts the measurements of its clock.
    """

    stream_id: int
    name: str
    kind: str
    n_channels: int
    rate: float
    channel_format: str
    channels: tuple[XdfChannel, ...]
    can_drop_samples: bool
    n_samples: int = 0
    places: array[int] = field(default_factory=lambda: array("q"))
    n_offsets: int = 0
    n_in_footer: int | None = None

    @property
    def is_text(self) -> bool:
        """Return whether its samples are strings."""
        return self.channel_format == "string"

    @property
    def sample_bytes(self) -> int:
        """Return the bytes of one sample without its time; 0 of strings."""
        return self.n_channels * _ITEM_BYTES[self.channel_format]


Piece = bytes | tuple[int, int]


@dataclass
class XdfContent:
    """What a walk through a file found: streams by number, and the sound pieces of the file in order.

    A piece is bytes, or (offset, length) in the unpacked file. ``started`` is the date and time of the file's header as
    it is written there, empty without one.
    """

    is_packed: bool = False
    streams: dict[int, XdfStream] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=lambda: [MAGIC])
    started: str = ""
    notes: list[str] = field(default_factory=list)
    n_bytes: int = 0
    n_strings: int = 0
    n_damaged: int = 0
    n_unknown: int = 0
    has_broken_times: bool = False

    def say(self, note: str) -> None:
        """Add a note, once, while there are not too many."""
        if note not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(note)

    def keep(self, offset: int, length: int) -> None:
        """Add a piece of the file, joined to the one before where they touch."""
        last = self.pieces[-1]
        if isinstance(last, tuple) and last[0] + last[1] == offset:
            self.pieces[-1] = (last[0], last[1] + length)
        else:
            self.pieces.append((offset, length))


def is_packed(path: Path) -> bool:
    """Return whether a file is compressed by gzip, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Give the unpacked bytes of a file. Raises RecordingError where it cannot be opened."""
    try:
        stream = gzip.open(path, "rb") if is_packed(path) else path.open("rb")  # noqa: SIM115 (closed below)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    with stream:
        yield stream  # type: ignore[misc]


class _Bytes:
    """The bytes of a stream in order, some of which can be put back; ends early where compressed data are damaged."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream = stream
        self._ahead = bytearray()
        self._most = most
        self.at = 0
        self.fault = ""
        self.is_too_large = False

    def take(self, n: int) -> bytes:
        """Return the next n bytes, fewer at the end."""
        while len(self._ahead) < n and not self.fault and not self.is_too_large:
            try:
                more = self._stream.read(max(n - len(self._ahead), _BLOCK))
            except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as fault:
                self.fault = str(fault)
                break
            if not more:
                break
            self._ahead += more
            self.is_too_large = self.at + len(self._ahead) > self._most
        taken = bytes(self._ahead[:n])
        del self._ahead[:n]
        self.at += len(taken)
        return taken

    def put_back(self, content: bytes) -> None:
        """Make bytes that were taken the next ones again."""
        self._ahead[:0] = content
        self.at -= len(content)


def walk(path: Path) -> XdfContent:
    """Return what the sound chunks of a file hold.

    Raises RecordingError where it is no XDF file, holds no stream, or is too large to be kept in memory.
    """
    content = XdfContent(is_packed(path))
    with opened(path) as stream:
        source = _Bytes(stream, MOST_BYTES if content.is_packed else 1 << 62)
        if source.take(len(MAGIC)) != MAGIC:
            raise RecordingError(f"{path.name}: does not begin as XDF ('XDF:'); copy it again or record it again")
        while True:
            begin = source.at
            chunk = _chunk(source)
            if chunk is None:
                break
            tag, body = chunk
            if not tag or not _take_in(path, content, tag, body, (begin, source.at - begin)):
                content.n_damaged += 1
                if not _go_on(source, tag, body):
                    break
            if source.is_too_large:
                break
    if source.is_too_large:
        raise RecordingError(_too_large(path))
    _say_damage(content, source.fault)
    if not content.streams:
        raise RecordingError(
            f"{path.name}: no stream of the XDF file can be used ({'; '.join(content.notes[:3]) or 'it has none'})"
        )
    return content


def _too_large(path: Path) -> str:
    return (
        f"{path.name}: what is kept of the XDF file in memory, times and of a compressed one the samples, needs more"
        f" than {MOST_BYTES >> 20} MB; unpack it, cut it into parts, or export the stream as EDF"
    )


def _say_damage(content: XdfContent, fault: str) -> None:
    if fault:
        content.notes.append(f"the compressed data are cut or damaged ({fault}); what comes before is used")
    if content.n_damaged:
        content.notes.append(f"{content.n_damaged} chunks are cut or damaged and are left out")
    if content.n_unknown:
        content.notes.append(f"{content.n_unknown} chunks belong to no stream that can be used and are left out")


def _varint(content: bytes, at: int) -> tuple[int, int] | None:
    """Return a variable-length integer and the place behind it, or None where there is none."""
    width = content[at] if at < len(content) else 0
    if width not in (1, 4, 8) or at + 1 + width > len(content):
        return None
    return int.from_bytes(content[at + 1 : at + 1 + width], "little"), at + 1 + width


def _chunk(source: _Bytes) -> tuple[int, bytes] | None:
    """Return tag and body of the next chunk, tag 0 where its length cannot be, or None at the end of the file."""
    head = source.take(9)
    if not head:
        return None
    length = _varint(head, 0)
    if length is None or not 2 <= length[0] <= LARGEST_CHUNK:
        return 0, head[1:]
    source.put_back(head[length[1] :])
    body = source.take(length[0])
    if len(body) < length[0]:
        return 0, body
    return int.from_bytes(body[:2], "little"), body[2:]


def _go_on(source: _Bytes, tag: int, body: bytes) -> bool:
    """Move to where chunks go on after a damaged one; False where they do not."""
    if tag and BOUNDARY_SIGNATURE not in body:
        return True  # its length was right, or the next chunk will show that it was not
    source.put_back(body)
    return _go_to_boundary(source)


def _go_to_boundary(source: _Bytes) -> bool:
    """Move behind the next boundary chunk; False where there is none."""
    tail = b""
    while block := source.take(_BLOCK):
        joined = tail + block
        place = joined.find(BOUNDARY_SIGNATURE)
        if place >= 0:
            source.put_back(joined[place + len(BOUNDARY_SIGNATURE) :])
            return True
        tail = joined[-len(BOUNDARY_SIGNATURE) + 1 :]
    return False


def _take_in(path: Path, content: XdfContent, tag: int, body: bytes, place: tuple[int, int]) -> bool:
    """Take in one chunk; False where it does not hold what it says. ``place`` is its (offset, length) in the file."""
    if tag == FILE_HEADER:
        root = _xml(body)
        if root is not None:
            _say_identity(content, root)
        content.started = (root.findtext("datetime") or "").strip()[:64] if root is not None else ""
        return root is not None
    if tag == BOUNDARY:
        return body == BOUNDARY_SIGNATURE
    if tag not in (STREAM_HEADER, SAMPLES, CLOCK_OFFSET, STREAM_FOOTER):
        return False
    if len(body) < 4:
        return False
    stream_id, body = int.from_bytes(body[:4], "little"), body[4:]
    if tag == STREAM_HEADER:
        return _take_header(content, stream_id, body)
    stream = content.streams.get(stream_id)
    if stream is None:
        content.n_unknown += 1
        return True
    if tag == STREAM_FOOTER:
        return _take_footer(content, stream, body)
    if tag == CLOCK_OFFSET:
        if len(body) != 16 or not all(abs(one) < 1e12 for one in struct.unpack("<dd", body)):
            return False
        stream.n_offsets += 1
    elif not _take_samples(content, stream, body, sum(place) - len(body)):
        return False
    elif content.n_bytes > MOST_BYTES:
        raise RecordingError(_too_large(path))
    content.keep(*place)
    return True


def _take_samples(content: XdfContent, stream: XdfStream, body: bytes, begin: int) -> bool:
    """Take in a chunk of samples, whose body begins at that byte of the file; False where it is not what it says."""
    count = _varint(body, 0)
    if count is None:
        return False
    n, at = count
    least = 1 + (stream.sample_bytes or 2 * stream.n_channels)
    if n * least > len(body) - at:
        return False
    if stream.is_text:
        content.n_strings += n * stream.n_channels
        if content.n_strings > MOST_STRINGS or not _are_strings(body, at, n, stream.n_channels):
            return False
    else:
        places = array("q")
        for _ in range(n):
            if at >= len(body):
                return False
            if body[at]:
                content.has_broken_times |= body[at + 7 : at + 9] in _NO_NUMBERS
            at += 9 if body[at] else 1
            places.append(begin + at)
            at += stream.sample_bytes
        if at != len(body):
            return False
        content.n_bytes += n * (TIME_BYTES + (stream.sample_bytes if content.is_packed else 0))
        stream.places.extend(places)
    stream.n_samples += n
    return True


def _are_strings(body: bytes, at: int, n: int, n_channels: int) -> bool:
    """Return whether n samples of strings fill the rest of a chunk."""
    for _ in range(n):
        at += 9 if body[at : at + 1] != b"\x00" else 1
        for _ in range(n_channels):
            length = _varint(body, at)
            if length is None or length[1] + length[0] > len(body):
                return False
            at = length[0] + length[1]
    return at == len(body)


def _xml(body: bytes) -> Element | None:
    """Return the root of plain XML; None where it is broken, nested deeply, or defines entities or a document type."""
    from xml.etree.ElementTree import ParseError, XMLPullParser

    text = body.decode("utf-8", "replace").lstrip("\ufeff").rstrip("\x00")
    if len(body) > LARGEST_XML or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    parser: Any = XMLPullParser(("start", "end"))
    depth = 0
    root: Element | None = None
    try:
        for first in range(0, len(text), 4096):
            parser.feed(text[first : first + 4096])
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                root = element if root is None else root
                if depth > DEEPEST_XML:
                    return None
        parser.close()
    except (ParseError, ValueError):
        return None
    return root


def _take_header(content: XdfContent, stream_id: int, body: bytes) -> bool:
    root = _xml(body)
    if root is None:
        return False
    if stream_id in content.streams or len(content.streams) >= MOST_STREAMS:
        content.say("a stream has a second header, or there are too many streams; the header is left out")
        return True
    stream = _stream(stream_id, root)
    if isinstance(stream, str):
        content.say(stream)
        return True
    _say_identity(content, root)
    content.streams[stream_id] = stream
    content.pieces.append(_header_chunk(stream))
    return True


def stream_of_header(xml: str) -> XdfStream | str:
    """Return a stream as the XML of its header describes it, in a file or on the network, or why it cannot be used."""
    root = _xml(xml.encode("utf-8", "replace"))
    return "its description is no XML that can be read" if root is None else _stream(0, root)


def _say_identity(content: XdfContent, root: Element) -> None:
    """Say that a header names a person, where an element called after a person, or what lies in one, holds a text."""
    for element in root.iter():
        for note in identity_of_entries({element.tag: " ".join(element.itertext())}):
            if note not in content.notes:
                content.say(note)


def _stream(stream_id: int, root: Element) -> XdfStream | str:
    """Return a stream from its header, or why it cannot be used."""
    name = _line(root.findtext("name")) or f"stream {stream_id}"
    n_channels, channel_format = _line(root.findtext("channel_count")), _line(root.findtext("channel_format"))
    if not (n_channels.isascii() and n_channels.isdigit() and len(n_channels) < 9):
        return f"{name}: {n_channels!r} channels; the stream is left out"
    if not 1 <= int(n_channels) <= MOST_CHANNELS:
        return f"{name}: {n_channels} channels, 1 to {MOST_CHANNELS} are read; the stream is left out"
    if channel_format not in _ITEM_BYTES:
        return f"{name}: samples of the unknown kind {channel_format!r}; the stream is left out"
    try:
        rate = float(_line(root.findtext("nominal_srate")))
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= _FASTEST:
        return f"{name}: a nominal rate of {_line(root.findtext('nominal_srate'))!r} Hz; the stream is left out"
    described = root.findall("./desc/channels/channel")[: int(n_channels)]
    channels = [
        XdfChannel(_line(one.findtext("label")), _line(one.findtext("unit")), _line(one.findtext("type")))
        for one in described
    ]
    channels += [XdfChannel()] * (int(n_channels) - len(channels))
    can_drop = _line(root.findtext("./desc/synchronization/can_drop_samples")).lower() == "true"
    kind = _line(root.findtext("type"))
    return XdfStream(stream_id, name, kind, int(n_channels), rate, channel_format, tuple(channels), can_drop)


def _line(text: str | None) -> str:
    """Return a text of a header as one printable line of bounded length."""
    return plain_words((text or "")[:1024], 128)


def _take_footer(content: XdfContent, stream: XdfStream, body: bytes) -> bool:
    root = _xml(body)
    if root is None:
        return False
    count = _line(root.findtext("sample_count"))
    if count.isascii() and count.isdigit() and len(count) < 16 and stream.n_in_footer is None:
        stream.n_in_footer = int(count)
        xml = f"<info><sample_count>{int(count)}</sample_count></info>"
        content.pieces.append(_encoded(STREAM_FOOTER, stream.stream_id, xml))
    return True


def _header_chunk(stream: XdfStream) -> bytes:
    drop = "<desc><synchronization><can_drop_samples>true</can_drop_samples></synchronization></desc>"
    return _encoded(
        STREAM_HEADER,
        stream.stream_id,
        f"<info><name>{escape(stream.name)}</name><channel_count>{stream.n_channels}</channel_count>"
        f"<nominal_srate>{stream.rate!r}</nominal_srate><channel_format>{stream.channel_format}</channel_format>"
        f"{drop if stream.can_drop_samples else ''}</info>",
    )


def _encoded(tag: int, stream_id: int, xml: str) -> bytes:
    body = struct.pack("<HI", tag, stream_id) + xml.encode()
    return b"\x04" + struct.pack("<I", len(body)) + body


class SoundChunks(io.RawIOBase):
    """The sound pieces of an XDF file as one stream of bytes, read in order."""

    def __init__(self, stream: BinaryIO, pieces: list[Piece]) -> None:
        self._stream = stream
        self._pieces = pieces
        self._piece = 0
        self._within = 0
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the piece that is being read; 0 at the end."""
        while self._piece < len(self._pieces):
            piece = self._pieces[self._piece]
            if isinstance(piece, bytes):
                content = piece[self._within : self._within + len(buffer)]
            else:
                self._stream.seek(piece[0] + self._within)
                content = self._stream.read(min(len(buffer), piece[1] - self._within))
            if content:
                buffer[: len(content)] = content
                self._within += len(content)
                self._at += len(content)
                return len(content)
            self._piece, self._within = self._piece + 1, 0
        return 0
