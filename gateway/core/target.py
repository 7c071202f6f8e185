"""What a request target means, and in how many ways its path could be read.

Routing and the backend must see the same path (Envoy CVE-2019-9901, Traefik CVE-2025-32431), so
whatever a backend may normalise away is a doubt, and a route refuses doubts unless it says
otherwise. The target itself is never rewritten here. Pure.
"""

from __future__ import annotations

import re

import msgspec

# RFC 3986 characters, and `{}|^` and the backtick, which browsers send raw. Never `<>"#`, space or control.
TARGET_BYTES = bytes(b for b in range(0x21, 0x7F) if b not in b'<>"#')
# A clean path needs no further look: no escape, parameter, empty or dot segment.
SUSPICIOUS = re.compile(rb"[%;\\]|//|/\.")

_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_ENCODED_BACKSLASH = re.compile(rb"%5[Cc]")
_DOT_SEGMENT = re.compile(rb"(?:^|[/\\])\.{1,2}(?:[/\\;]|$)")
_PARAMETER = re.compile(rb";[^/]*")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class PathView(msgspec.Struct, frozen=True, gc=False):
    """How a path reads.

    Attributes:
        readings: the decoded path, and what a backend may take it for (slashes merged, parameters
            dropped); every reading must lead to the same policy. ``%2F`` and ``%5C`` stay encoded.
        encoded_slash: the path has ``%2F``.
        unsafe: it has a dot segment, ``%5C``, a control byte, a malformed escape, or is not UTF-8.
    """

    readings: tuple[bytes, ...]
    encoded_slash: bool = False
    unsafe: bool = False


def view_path(path: bytes) -> PathView:
    """Look at a raw path, which begins with a slash, in every way a backend might."""
    if not SUSPICIOUS.search(path):
        return PathView((path,))
    decoded = _ESCAPE.sub(_decode_one, path)
    separated = _ENCODED_SLASH.sub(b"/", _ENCODED_BACKSLASH.sub(rb"\\", decoded))
    unsafe = bool(
        _MALFORMED_ESCAPE.search(path)
        or _DOT_SEGMENT.search(separated)
        or b"\\" in separated
        or _CONTROL.search(decoded)
        or not _is_utf8(decoded)
    )
    return PathView(_readings(decoded), b"%2f" in decoded.lower(), unsafe)


def _decode_one(escape: re.Match[bytes]) -> bytes:
    """Decode one escape once, but leave an encoded separator or percent sign as it is."""
    return _DECODED[escape[0]]


def _decoded_escapes() -> dict[bytes, bytes]:
    """Return what each escape stands for: a stranger may send thousands in a path, so each must be cheap."""
    digits = "0123456789abcdefABCDEF"
    escapes = {
        b"%%%b" % (high + low).encode(): bytes((int(high + low, 16),)) for high in digits for low in digits
    }
    return {escape: escape if octet in b"/\\%" else octet for escape, octet in escapes.items()}


_DECODED = _decoded_escapes()


def _is_utf8(path: bytes) -> bool:
    """Tell whether the decoded path is UTF-8; an overlong ``/`` (C0 AF) is not."""
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _readings(decoded: bytes) -> tuple[bytes, ...]:
    merged = re.sub(rb"/{2,}", b"/", decoded)
    bare = _PARAMETER.sub(b"", decoded)
    bare_merged = re.sub(rb"/{2,}", b"/", bare)
    return tuple(dict.fromkeys((decoded, merged, bare, bare_merged)))


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query with its question mark (or nothing) of an origin-form target."""
    path, mark, query = target.partition(b"?")
    return path, mark + query


def rewrite_target(target: bytes, strip_prefix: bytes, add_prefix: bytes) -> bytes | None:
    """Return the target with leading segments removed and others put in front, or None if unsafe.

    Segments are counted, not compared, so that an escape within the prefix changes nothing; the
    path has been matched against the prefix before. The result is looked at again (Traefik
    CVE-2026-48020): one leading slash, no dot segment.
    """
    path, query = split_target(target)
    for _ in range(strip_prefix.rstrip(b"/").count(b"/")):
        cut = path.find(b"/", 1)
        path = path[cut:] if cut > 0 else b"/"
    path = add_prefix.rstrip(b"/") + path
    if path.startswith(b"//") or _DOT_SEGMENT.search(path):
        return None
    return path + query
