"""The form of an opaque key, and the digest it is looked up by.

An opaque token is ``<prefix><locator 12><secret 32><check 6>`` in base62; ``check`` is the CRC-32
of what precedes it (six digits, most significant first), so that a mistyped key is refused
without a look-up and secret scanners can tell a leaked one. Pure: randomness is an argument.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

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


class Digests(NamedTuple):
    """The digests of one token that its record keeps, each with the id of its pepper.

    ``older`` is there while a rotation of peppers is not finished: gateways that have only one of
    both peppers find the key all the same.
    """

    digest: bytes
    pepper_id: str
    older_digest: bytes | None = None
    older_pepper_id: str | None = None


class Digester:
    """HMAC-SHA-256 under each pepper, newest first; the peppers themselves never show.

    The two SHA-256 states of each HMAC are prepared once and copied, which costs a third of
    ``hmac.new`` (RFC 2104 §2: H(K xor opad, H(K xor ipad, text))).

    Attributes:
        pepper_ids: a fingerprint of each pepper, which is no secret, newest first.
        has_older: there are several.
    """

    __slots__ = ("_by_id", "_derives", "_older", "_states", "has_older", "pepper_ids")

    def __init__(self, peppers: Sequence[bytes], *, derives: str | None = None) -> None:
        """Take the peppers, newest first, each at least 32 bytes and none twice; raises ValueError otherwise.

        ``derives`` is the id of the one that other keys are derived from; the newest unless said.
        """
        if not peppers or any(len(pepper) < MINIMUM_PEPPER_BYTES for pepper in peppers):
            raise ValueError(f"each pepper must have at least {MINIMUM_PEPPER_BYTES} bytes")
        states = [_hmac_states(pepper) for pepper in peppers]
        self.pepper_ids = tuple(_hmac(each, b"gateway pepper id")[:4].hex() for each in states)
        self._by_id = dict(zip(self.pepper_ids, states, strict=True))
        if len(self._by_id) < len(states):
            raise ValueError("a pepper is there twice")
        self._states, *self._older = states
        self.has_older = bool(self._older)
        self._derives = self._by_id[derives or self.pepper_ids[0]]

    def digest(self, token: bytes) -> bytes:
        """Return the 32-byte digest of ``token`` under the newest pepper."""
        inner, outer = self._states
        inner = inner.copy()
        inner.update(token)
        outer = outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def older_digests(self, token: bytes) -> Iterator[bytes]:
        """Yield the digest of ``token`` under each older pepper in turn."""
        for states in self._older:
            yield _hmac(states, token)

    def digests(self, token: bytes) -> dict[str, bytes]:
        """Return the digest of ``token`` under each pepper, by its id, newest first."""
        return {pepper_id: _hmac(states, token) for pepper_id, states in self._by_id.items()}

    def check_values(self) -> dict[str, bytes]:
        """Return what ties a store to each pepper, by its id: a digest of a constant."""
        return {
            pepper_id: _hmac(states, b"gateway pepper check") for pepper_id, states in self._by_id.items()
        }

    def derived_key(self, label: bytes, pepper_id: str | None = None) -> bytes:
        """Return 32 bytes for one other use of a pepper, which ``label`` names; KeyError for one not here."""
        states = self._derives if pepper_id is None else self._by_id[pepper_id]
        return _hmac(states, b"gateway derived key: " + label)

    def __repr__(self) -> str:
        return f"Digester(pepper_ids={self.pepper_ids!r})"


def kept_digests(digests: Mapping[str, bytes], in_use: Sequence[str]) -> Digests | None:
    """Choose the digests that a record keeps; None where none is under a pepper in use.

    ``digests`` are a token's by pepper; ``in_use`` the store's peppers, oldest first.
    """
    found = [Digests(digests[pepper_id], pepper_id) for pepper_id in reversed(in_use) if pepper_id in digests]
    return Digests(*found[0][:2], *found[1][:2]) if len(found) > 1 else found[0] if found else None


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
