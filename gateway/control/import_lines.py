"""The lines of an import: JSON objects, each of which says one key, and what may be wrong with them.

Pure. What is wrong is told without a word of the line itself: it holds secrets, and perhaps not
where it should. Imports ``core`` and its own plane.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

import msgspec

from gateway.core.credentials import TOKEN_MAX
from gateway.core.tokens import LOCATOR_DIGITS, is_opaque

REQUIRED = ("tenantId", "name", "permission", "expiresAt")
OPTIONAL = ("description", "environmentId", "intendedUse", "lastFour", "token", "argon2id", "locator")
LARGEST_LINE = 65536
SHORTEST_SECRET = 16
"""Characters of a token beyond its locator: with fewer, somebody's patience is enough to guess it."""
SHORTEST_SHOWN = 24
"""Of a shorter token no part is shown in lists: what is left would be guessed too easily."""
LOCATOR_LENGTHS = range(4, 65)
MOST_MEMORY_KIB, MOST_PASSES, MOST_LANES = 65536, 10, 4
"""What one proof may cost: a string that asks for more could eat the machine."""

_VISIBLE = re.compile(r"[!-+\--~]+").fullmatch  # as credentials are: visible ASCII without the comma
_LAST_FOUR = re.compile(r"[!-~]{4}").fullmatch
_ARGON2ID = re.compile(
    # The numbers in the one way to write them: what verifies takes no other, so that nobody would get in.
    r"\$argon2id\$v=19\$m=(0|[1-9][0-9]{0,6}),t=(0|[1-9][0-9]{0,3}),p=(0|[1-9][0-9]{0,2})"
    r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


class LineError(ValueError):
    """A line says no key that could be kept; the text is what is wrong, without a word of the line."""


class Line(msgspec.Struct, frozen=True):
    """What one line says; its ``repr`` keeps it. There is either a token or a verifier with a locator.

    ``locator`` is None for a token of which none is known.
    """

    said: dict[str, str]
    token: str | None
    verifier: str | None
    locator: str | None
    prefix: str
    last_four: str

    def __repr__(self) -> str:
        return "Line(***)"


def parse_line(content: bytes, prefixes: tuple[str, ...], *, weak: bool = False) -> Line:
    """Return what a line says. Raises LineError.

    ``prefixes`` are those of our own tokens. ``weak``: a token may be so short that it can be guessed.
    """
    said = _members(content)
    token, verifier, locator = said.get("token"), said.get("argon2id"), said.get("locator")
    if token is not None and verifier is not None:
        raise LineError("token and argon2id exclude one another: give one of them")
    if locator is not None:
        _check_locator(locator)
    if token is not None:
        return _with_token(said, token, locator, prefixes, weak=weak)
    if verifier is None:
        raise LineError("there is neither a token nor an argon2id string")
    if locator is None:
        raise LineError("argon2id needs a locator, the leading part of the token that finds the key")
    _check_argon2id(verifier)
    last_four = said.get("lastFour", "")
    if last_four and not _LAST_FOUR(last_four):
        raise LineError("lastFour must be four visible ASCII characters")
    return Line(said, None, verifier, locator, locator, last_four)


def _with_token(
    said: dict[str, str], token: str, locator: str | None, prefixes: tuple[str, ...], *, weak: bool
) -> Line:
    if "lastFour" in said:
        raise LineError("lastFour is read from the token: leave it out")
    if not _VISIBLE(token):
        raise LineError("token must be visible ASCII without spaces and commas: no request could carry it")
    if len(token) > TOKEN_MAX:
        raise LineError(f"token must have at most {TOKEN_MAX} characters")
    own = next((prefix for prefix in prefixes if token.startswith(prefix)), None)
    if own is not None:
        if not is_opaque(token.encode(), own.encode()):
            raise LineError(
                f"token begins with {own} and is no key of that form, so that it would be refused"
            )
        locator = locator or token[: len(own) + LOCATOR_DIGITS]
    if locator is not None and not token.startswith(locator):
        raise LineError("locator must be a leading part of the token")
    if len(token) - len(locator or "") < SHORTEST_SECRET and not weak:
        beyond = " beyond its locator" if locator else ""
        raise LineError(f"token has fewer than {SHORTEST_SECRET} characters{beyond}, and could be guessed")
    shown = len(token) >= SHORTEST_SHOWN
    prefix = token[: len(own or "") + 4] if shown else ""
    return Line(said, token, None, locator, prefix, token[-4:] if shown else "")


def _members(content: bytes) -> dict[str, str]:
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refused)
    except LineError:
        raise
    except UnicodeDecodeError:
        raise LineError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise LineError(f"is not valid JSON at column {error.colno}") from None
    except (ValueError, RecursionError):
        raise LineError("is not valid JSON") from None
    if not isinstance(found, dict):
        raise LineError("is not a JSON object")
    for name in REQUIRED:
        if found.get(name) is None:
            raise LineError(f"{name} is missing")
    for name in found:
        if name not in REQUIRED and name not in OPTIONAL:
            raise LineError(f"has a member that is none of {', '.join((*REQUIRED, *OPTIONAL))}")
    said = {name: value for name, value in found.items() if value is not None}
    for name, value in said.items():
        if not isinstance(value, str):
            raise LineError(f"{name} must be text")
    return said


def _check_locator(locator: str) -> None:
    if not _VISIBLE(locator) or len(locator) not in LOCATOR_LENGTHS:
        raise LineError(
            f"locator must have {LOCATOR_LENGTHS[0]} to {LOCATOR_LENGTHS[-1]} characters of visible ASCII,"
            " without spaces and commas"
        )


def _check_argon2id(text: str) -> None:
    found = _ARGON2ID.fullmatch(text)
    if found is None or not _is_base64(found[4], 8) or not _is_base64(found[5], 16):
        raise LineError("argon2id must be a string such as $argon2id$v=19$m=19456,t=2,p=1$salt$hash")
    memory, passes, lanes = int(found[1]), int(found[2]), int(found[3])
    if memory > MOST_MEMORY_KIB or passes > MOST_PASSES or lanes > MOST_LANES:
        raise LineError(
            f"argon2id asks for more than m={MOST_MEMORY_KIB} (64 MiB), t={MOST_PASSES}, p={MOST_LANES}"
        )
    # RFC 9106 §3.1.
    if not passes or not lanes or memory < 8 * lanes:
        raise LineError("argon2id asks for less than the algorithm allows: t and p from 1, m from 8 times p")


def _is_base64(text: str, least: int) -> bool:
    """Tell whether text is base64 without padding, in the one way to write it, of so many bytes up to 64."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False
    return least <= len(content) <= 64 and base64.b64encode(content).rstrip(b"=") == text.encode()


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise LineError("has a member twice")
    return found


def _refused(_: str) -> NoReturn:
    raise LineError("is not valid JSON")
