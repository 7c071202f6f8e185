"""Make a request target fit to be kept: no secret in it, no byte that could forge a line.

Pure; imports ``core`` only.

Promise: what leaves is printable ASCII of bounded length. Values of query parameters with the name
of a secret are masked, and so is anything, wherever it stands, that has the form of a token.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gateway.core.tokens import BODY_DIGITS, CHECK_DIGITS, check_digits

MASK = b"***"
LONGEST_TARGET = 8192

# As whole words of a parameter's name: api_key, X-Amz-Signature, access.token, clientSecret.
_SECRET_WORDS = frozenset(
    b"key apikey token secret password passwd passwort pwd pass passphrase sig signature code auth "
    b"authorization credential credentials jwt bearer session sessionid sid otp pin assertion ticket".split()
)
_SECRET_ENDINGS = (b"key", b"token", b"secret", b"password", b"signature", b"credential")
_WORDS = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A key of ours; and three base64url parts of which the first holds the beginning of an encoded '{"'.
# Whole words are matched, since a search from each "eyJ" would take milliseconds for a target of many.
_TOKEN = re.compile(rb"gw_[A-Za-z0-9]+_[A-Za-z0-9]+")
_DOTTED = re.compile(rb"[A-Za-z0-9_.-]+")
# As long as an opaque key at least; its check digits then tell it from a hash or an id.
_LONG_WORD = re.compile(rb"[A-Za-z0-9_-]{%d,}" % BODY_DIGITS)
_USERINFO = re.compile(rb"(?<=//)[^/?#@]*@")


def presentable_target(target: bytes) -> str:
    """Return ``target`` with its secrets masked, as printable ASCII (other bytes as ``\\xNN``)."""
    if len(target) > LONGEST_TARGET:
        target = target[:LONGEST_TARGET]
    suspect = b"?" in target or b"%" in target or b"gw_" in target or b"eyJ" in target or b"@" in target
    if suspect or len(target) >= BODY_DIGITS:
        target = _mask(target)
    return target.decode("ascii", "backslashreplace")


def _mask(target: bytes) -> bytes:
    path, mark, query = target.partition(b"?")
    path = _mask_tokens(_USERINFO.sub(MASK + b"@", path))
    if not mark:
        return path
    return path + mark + b"&".join(map(_mask_parameter, query.split(b"&")))


def _mask_parameter(parameter: bytes) -> bytes:
    # A semicolon separated parameters once, and some backends still read it so; to others it is a
    # part of the value, so what follows a secret's first piece is hidden with it.
    shown = []
    for piece in parameter.split(b";"):
        name, equals, value = piece.partition(b"=")
        if value and _is_secret_name(name):
            shown.append(name + equals + MASK)
            break
        shown.append(_mask_tokens(name) + equals + _mask_tokens(value))
    return b";".join(shown)


def _mask_tokens(text: bytes) -> bytes:
    if b"%" in text:
        plain = unquote_to_bytes(text)
        if _mask_plain(plain) != plain:
            return MASK
    return _mask_plain(text)


def _mask_plain(text: bytes) -> bytes:
    if b"eyJ" in text:
        text = _DOTTED.sub(_mask_jwts, text)
    if b"gw_" in text:
        text = _TOKEN.sub(MASK, text)
    return _LONG_WORD.sub(_mask_opaque, text) if len(text) >= BODY_DIGITS else text


def _mask_jwts(match: re.Match[bytes]) -> bytes:
    parts = match[0].split(b".")
    shown = []
    at = 0
    while at < len(parts):
        start = parts[at].find(b"eyJ")
        if 0 <= start < len(parts[at]) - 3 and at + 2 < len(parts) and parts[at + 1]:
            shown.append(parts[at][:start] + MASK)
            at += 3
        else:
            shown.append(parts[at])
            at += 1
    return b".".join(shown)


def _mask_opaque(match: re.Match[bytes]) -> bytes:
    word = match[0]
    is_key = check_digits(word[:-CHECK_DIGITS]).encode("ascii") == word[-CHECK_DIGITS:]
    return MASK if is_key else word


@lru_cache(maxsize=1024)
def _is_secret_name(name: bytes) -> bool:
    name = unquote_to_bytes(name)
    words = {word.lower() for word in _WORDS.findall(name)}
    return not words.isdisjoint(_SECRET_WORDS) or name.lower().endswith(_SECRET_ENDINGS)
