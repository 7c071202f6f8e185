"""When a key was last used, as every dialect shows it, and what counts as use of the control API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.store.base import Store
from gateway.store.usage import note_uses
from tests.control.api import Api
from tests.control.samples import ANN, NOW_MS


@pytest.fixture
def used() -> list[str]:
    return []


@pytest.fixture
async def api(store: Store, clock: list[float], used: list[str]) -> AsyncIterator[Api]:
    async with Api(store, clock).serving(used=used.append) as api:
        yield api


async def shown(api: Api, who: str, made: dict[str, Any]) -> dict[str, Any]:
    """Return the one key in each place where it is shown."""
    (record,) = await api.service.list_keys()
    places = {
        "000 get": f"/api/1/api-keys/{made['keyId']}",
        "000 list": "/api/1/api-keys",
        "003 get": f"/v1/api-keys/{record.id}",
        "003 list": "/v1/api-keys",
        "004 get": f"/api-keys/{record.id}",
        "004 list": "/api-keys",
    }
    found = {}
    for place, path in places.items():
        told = await api.ask("GET", path, who)
        assert told.status == 200, told
        content = told.json["data"] if isinstance(told.json, dict) and "data" in told.json else told.json
        found[place] = content[0] if isinstance(content, list) else content
    return {place: key["lastUsedAt"] for place, key in found.items()}


async def test_every_dialect_shows_when_a_key_was_last_used(api: Api) -> None:
    boss = await api.user("boss", "admin")
    made = await api.made(boss)
    assert set((await shown(api, boss, made)).values()) == {None}
    (record,) = await api.service.list_keys()
    await api.store.write(note_uses([(record.id, NOW_MS)]))
    assert set((await shown(api, boss, made)).values()) == {"2026-03-01T12:30:45.678Z"}


async def test_a_key_that_is_used_here_is_told_and_nothing_else_is(api: Api, used: list[str]) -> None:
    boss = await api.user("boss", "admin")
    made = await api.made(boss, permission="editor")
    assert (await api.ask("GET", "/api/1/api-keys", "nobody")).status == 401
    assert used == []
    assert (await api.ask("GET", "/api/1/api-keys", made["apiToken"])).status == 200
    (record,) = await api.service.list_keys()
    assert used == [record.id]
    await api.service.revoke_key(ANN, record.id)
    assert (await api.ask("GET", "/api/1/api-keys", made["apiToken"])).status == 401
    assert used == [record.id]
