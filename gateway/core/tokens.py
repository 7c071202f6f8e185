"""The form of an opaque key, and the digest it is looked up by.

An opaque token is ``<prefix><locator 12><secret 32><check 6>`` in base62; ``check`` is the CRC-32
of what precedes it (six digits, most significant first), so that a mistyped key is refused
without a look-up and secret scanners can tell a leaked one. Pure: randomness is an argument.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence

DEFAULT_PREFIX = "gw_live_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LOCATOR_DIGITS = 12
SECRET_DIGITS = 32
CHECK_DIGITS = 6
BODY_DIGITS = LOCATOR_DIGITS + SECRET_DIGITS + CHECK_DIGITS
MINIMUM_PEPPER_BYTES = 32

# Three look-ups of two digits each are cheaper than six divisions.
_PAIRS: dict[bytes, int] = {
    (a + b).encode(): 62 * i + j for i, a in enumerate(ALPHABET) for j, b in enumerate(ALPHABET)
}


def make_token(prefix: str, choose: Callable[[str], str]) -> str:
    """Return a new opaque token; ``choose`` picks one of the characters it is given (``secrets.choice``)."""
    stem = prefix + "".join(choose(ALPHABET) for _ in range(LOCATOR_DIGITS + SECRET_DIGITS))
    return stem + check_digits(stem.encode("ascii"))


def check_digits(stem: bytes) -> str:
    """Return the six base62 digits of the CRC-32 of ``stem``, most significant first."""
    rest = zlib.crc32(stem)
    digits = ""
    for _ in range(CHECK_DIGITS):
        rest, digit = divmod(rest, 62)
        digits = ALPHABET[digit] + digits
    return digits


def locator_of(token: str, prefix: str) -> str:
    """Return the look-up part of an opaque token: its prefix and the locator."""
    return token[: len(prefix) + LOCATOR_DIGITS]


def is_opaque(token: bytes, prefix: bytes) -> bool:
    """Tell whether ``token``, which begins with ``prefix``, has the form of an opaque token."""
    if len(token) != len(prefix) + BODY_DIGITS or not token[len(prefix) :].isalnum():
        return False
    check = _PAIRS[token[-6:-4]] * 14776336 + _PAIRS[token[-4:-2]] * 3844 + _PAIRS[token[-2:]]
    return check == zlib.crc32(token[:-CHECK_DIGITS])


class Digester:
    """HMAC-SHA-256 under each pepper, newest first; the peppers themselves never show.

    The two SHA-256 states of each HMAC are prepared once and copied, which costs a third of
    ``hmac.new`` (RFC 2104 §2: H(K xor opad, H(K xor ipad, text))).
    """

    __slots__ = ("_states", "pepper_ids")

    def __init__(self, peppers: Sequence[bytes]) -> None:
        """Take the peppers, newest first, each at least 32 bytes; raises ValueError otherwise."""
        if not peppers or any(len(pepper) < MINIMUM_PEPPER_BYTES for pepper in peppers):
            raise ValueError(f"each pepper must have at least {MINIMUM_PEPPER_BYTES} bytes")
        self._states = tuple(_hmac_states(pepper) for pepper in peppers)
        self.pepper_ids = tuple(_hmac(states, b"gateway pepper id")[:4].hex() for states in self._states)

    def digest(self, token: bytes) -> bytes:
        """Return the 32-byte digest of ``token`` under the newest pepper."""
        inner, outer = self._states[0]
        inner = inner.copy()
        inner.update(token)
        outer = outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def check_value(self) -> bytes:
        """Return what ties a store to its newest pepper: a digest of a constant."""
        return _hmac(self._states[0], b"gateway pepper check")

    def derived_key(self, label: bytes) -> bytes:
        """Return 32 bytes for one other use of the newest pepper, which ``label`` names."""
        return _hmac(self._states[0], b"gateway derived key: " + label)

    def __repr__(self) -> str:
        return f"Digester(pepper_ids={self.pepper_ids!r})"


_States = tuple["hashlib._Hash", "hashlib._Hash"]


def _hmac_states(key: bytes) -> _States:
    if len(key) > 64:
        key = hashlib.sha256(key).digest()
    key = key.ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in key)), hashlib.sha256(bytes(b ^ 0x5C for b in key))


def _hmac(states: _States, text: bytes) -> bytes:
    inner, outer = states[0].copy(), states[1].copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.digest()
