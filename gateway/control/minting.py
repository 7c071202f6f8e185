"""Make tokens, and the fields of a key's record that come of its token.

Imports ``core`` and its own plane.
"""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from gateway.control.errors import Busy
from gateway.control.passwords import HasherBusyError
from gateway.core.tokens import Digester, locator_of, make_token

SHOWN_AFTER_PREFIX = 4


class TokenHasher(Protocol):
    """What makes the verifier of record of a token."""

    async def hash(self, secret: str) -> str:
        """Return the argon2id string of ``secret``."""
        ...


class Mint:
    """Makes opaque tokens; keeps none of them."""

    def __init__(self, digester: Digester, hasher: TokenHasher) -> None:
        self._digester = digester
        self._hasher = hasher

    async def make(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """Return a new token and the fields of its record. Raises Busy when too many are being made."""
        token = make_token(prefix, secrets.choice)
        try:
            verifier = await self._hasher.hash(token)
        except HasherBusyError as error:
            raise Busy(str(error)) from None
        return token, {
            "prefix": token[: len(prefix) + SHOWN_AFTER_PREFIX],
            "last_four": token[-4:],
            "digest": self._digester.digest(token.encode("ascii")),
            "pepper_id": self._digester.pepper_ids[0],
            "locator": locator_of(token, prefix),
            "verifier": verifier,
        }
