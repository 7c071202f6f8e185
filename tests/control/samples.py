"""What tests of the domain service share: people, roles, a fixed instant, a hasher that takes no time."""

from __future__ import annotations

import datetime
import hashlib

from gateway.core.model import Permission, Role
from gateway.core.tokens import Digester
from gateway.store.base import Actor

ANN = Actor(name="cli:ann@here", source="cli")
DIGESTER = Digester([b"a pepper for the tests of the service"])
ROLES = {
    "MediaEditor": Role("MediaEditor", Permission.EDITOR, ("/api/v2/sites",)),
    "Boss": Role("Boss", Permission.ADMIN),
}
NOW = datetime.datetime(2026, 3, 1, 12, 30, 45, 678000, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)


class FastHasher:
    """Stands in for argon2 where a test makes many keys; shows nothing of the secret."""

    async def hash(self, secret: str) -> str:
        return f"$argon2id$for-tests${hashlib.sha256(secret.encode()).hexdigest()}"

    async def verify(self, encoded: str, secret: str) -> bool:
        return encoded == await self.hash(secret)
