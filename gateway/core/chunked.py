"""The chunked transfer coding, decoded strictly and whatever way its bytes are split (RFC 9112 §7.1).

Extensions and trailers are read, bounded and dropped. Pure; imports ``core`` only.
"""

from __future__ import annotations

import enum
import re

from gateway.core.fields import TOKEN

# At most eight hex digits; an extension may hold no control byte (Go CVE-2025-22871, h11 CVE-2025-43859).
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_WHOLE_SIZE_LINE = re.compile(_SIZE_LINE.pattern + rb"\r\n")
_STARTED_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# What a chunk may cost besides its content (Node CVE-2024-22019).
OVERHEAD_MAX = 4096
TRAILER_MAX = 8192
TRAILER_LINES_MAX = 128


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()
    BROKEN = enum.auto()


class ChunkedReader:
    """Decodes one chunked body.

    Attributes:
        rest: what followed the end of the body, once `done`.
    """

    __slots__ = ("_line", "_remaining", "_state", "_trailer_bytes", "_trailer_lines", "rest")

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._line = b""
        self._remaining = 0
        self._trailer_bytes = 0
        self._trailer_lines = 0
        self.rest = b""

    @property
    def done(self) -> bool:
        """Tell whether the last chunk and the trailers have been read."""
        return self._state is _State.DONE

    @property
    def broken(self) -> bool:
        """Tell whether the bytes were not the chunked coding; nothing more is read then."""
        return self._state is _State.BROKEN

    def feed(self, data: bytes) -> bytes:
        """Return the content that these bytes add; look at `done` and `broken` after."""
        if self._state is _State.DATA and len(data) < self._remaining:
            self._remaining -= len(data)
            return data
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and self._state not in (_State.DONE, _State.BROKEN):
            if self._state is _State.SIZE and not self._line:
                at = _take_whole_chunks(data, at, pieces)
                if at == len(data):
                    break
            if self._state is _State.DATA:
                piece = data[at : at + self._remaining]
                pieces.append(piece)
                at += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = _State.DATA_END
            else:
                at = self._feed_line(data, at)
        if self._state is _State.DONE:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_line(self, data: bytes, at: int) -> int:
        """Read on in a line from ``at``; returns where it stopped reading."""
        end = data.find(b"\n", at)
        stop = end + 1 if end >= 0 else len(data)
        line = self._line + data[at:stop]
        if len(line) > (TRAILER_MAX if self._state is _State.TRAILER else OVERHEAD_MAX):
            self._state = _State.BROKEN
        elif end >= 0:
            self._line = b""
            self._state = self._on_line(line)
        elif self._is_hopeless(line):
            self._state = _State.BROKEN
        else:
            self._line = line
        return stop

    def _is_hopeless(self, started: bytes) -> bool:
        """Tell whether a line that is not whole can no longer become a good one."""
        if self._state is _State.DATA_END:
            return started != b"\r"
        if self._state is _State.SIZE:
            return not _STARTED_SIZE_LINE.fullmatch(started)
        # A CR that no LF follows ends no trailer line.
        return b"\r" in started[:-1]

    def _on_line(self, line: bytes) -> _State:
        if line[-2:] != b"\r\n":
            return _State.BROKEN
        line = line[:-2]
        if self._state is _State.SIZE:
            return self._on_size(line)
        if self._state is _State.DATA_END:
            return _State.BROKEN if line else _State.SIZE
        return self._on_trailer(line)

    def _on_size(self, line: bytes) -> _State:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            return _State.BROKEN
        self._remaining = int(match[1], 16)
        return _State.DATA if self._remaining else _State.TRAILER

    def _on_trailer(self, line: bytes) -> _State:
        if not line:
            return _State.DONE
        self._trailer_bytes += len(line)
        self._trailer_lines += 1
        name, colon, value = line.partition(b":")
        good = colon and TOKEN.fullmatch(name) and _VALUE.fullmatch(value)
        within = self._trailer_bytes <= TRAILER_MAX and self._trailer_lines <= TRAILER_LINES_MAX
        return _State.TRAILER if good and within else _State.BROKEN


def _take_whole_chunks(data: bytes, at: int, pieces: list[bytes]) -> int:
    """Take the chunks from ``at`` that are whole and plain; returns where the first other begins.

    A caller may send a megabyte in chunks of one byte (aiohttp CVE-2025-69229): each must be cheap.
    """
    while (match := _WHOLE_SIZE_LINE.match(data, at)) is not None:
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or start - at > OVERHEAD_MAX or data[end : end + 2] != b"\r\n":
            break
        pieces.append(data[start:end])
        at = end + 2
    return at


def encode_chunk(content: bytes) -> bytes:
    """Return ``content``, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(content), content)


LAST_CHUNK = b"0\r\n\r\n"
