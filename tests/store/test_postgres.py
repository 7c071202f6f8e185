"""What is PostgreSQL's own: its faults, its locks, many who start at once, databases that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.store import postgres_link, postgres_pool
from gateway.store.base import DuplicateError, Store, StoreError
from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import migrations, queries
from gateway.store.urls import open_store
from tests.postgres import Server, database_name
from tests.store.samples import ACTOR, a_key, a_tenant, audit, audit_of, audited

PATIENCE_S = 20.0


Open = Callable[[str], Store]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Open stores that are closed at the end."""
    stores: list[Store] = []

    def open_one(url: str) -> Store:
        stores.append(open_store(url))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(postgres_url: str, opened: Open) -> Store:
    return opened(postgres_url)


async def made(store: Store) -> str:
    key = a_key()
    return (await store.insert_key(key, audit_of(key))).id


async def soon(work: Callable[[], Awaitable[str]]) -> str:
    """Do something as soon as the store is back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await work()
        except StoreError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def asked(text: str) -> Steps[list[Row]]:
    return (yield Query(text, literal=True))


async def refusal(work: Awaitable[object]) -> str:
    with pytest.raises(StoreError) as refused:
        await work
    told = str(refused.value)
    assert "\n" not in told
    assert told.startswith(("the store postgresql://", "the database postgresql://", "the password file "))
    return told


# Migrations


async def test_ten_gateways_that_start_at_once_migrate_once(postgres_server: Server, opened: Open) -> None:
    url = postgres_server.create_database(database_name())
    stores = [opened(url) for _ in range(10)]
    applied = await asyncio.gather(*(store.migrate() for store in stores))
    assert sorted(applied, key=len) == [[]] * 9 + [[migration.name for migration in migrations()]]
    assert [tenant.id for tenant in await stores[9].tenants()] == ["default"]


async def test_a_newer_schema_is_refused_and_left_alone(store: Store) -> None:
    await store.write(
        asked("INSERT INTO schema_migrations (version, name, applied_at) VALUES (9999, 'x', 1)")
    )
    assert "schema 9999, newer than this program's" in await refusal(store.migrate())


async def test_a_store_that_nobody_migrated_says_so(postgres_server: Server, opened: Open) -> None:
    store = opened(postgres_server.create_database(database_name()))
    assert "does not have the gateway's schema" in await refusal(store.keys())
    assert "does not have the gateway's schema" in await refusal(made(store))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("users (id int)", "holds tables of another program"),
        ("schema_migrations (version varchar)", "has a table schema_migrations of another program"),
    ],
)
async def test_a_foreign_table_of_our_name_is_told_and_nothing_is_made(
    postgres_server: Server, table: str, says: str, opened: Open
) -> None:
    name = database_name()
    store = opened(postgres_server.create_database(name))
    postgres_server.sql(f"CREATE TABLE public.{table}", name)
    assert says in await refusal(store.migrate())
    made = postgres_server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name)
    assert made == "1"


async def test_other_tables_of_a_shared_database_are_no_hindrance(
    postgres_server: Server, opened: Open
) -> None:
    name = database_name()
    url = postgres_server.create_database(name)
    postgres_server.sql("CREATE TABLE public.orders (id int); GRANT CREATE ON SCHEMA public TO public", name)
    store = opened(url)
    assert await store.migrate()


async def test_a_schema_of_its_own_keeps_it_apart_from_another_program(
    postgres_server: Server, opened: Open
) -> None:
    name = database_name()
    url = postgres_server.create_database(name)
    postgres_server.sql(
        "CREATE TABLE public.users (id int); CREATE TABLE public.schema_migrations (version varchar);"
        f'CREATE SCHEMA gw AUTHORIZATION gateway; ALTER DATABASE "{name}" SET search_path = gw, public',
        name,
    )
    store = opened(url)
    assert await store.migrate()
    await made(store)


async def test_texts_are_ordered_by_their_bytes_whatever_the_language_of_the_database(
    postgres_server: Server, opened: Open
) -> None:
    name = database_name()
    postgres_server.sql(
        f"CREATE DATABASE \"{name}\" OWNER gateway TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'"
    )
    store = opened(postgres_server.url(name))
    await store.migrate()
    for tenant in ("b", "B", "a", "ä", "a-c", "ab", "_"):
        await store.insert_tenant(a_tenant(tenant), audit())
    found = [tenant.id for tenant in await store.tenants()]
    assert found == sorted(found)


async def test_a_database_that_is_not_utf8_is_refused(postgres_server: Server, opened: Open) -> None:
    name = database_name()
    postgres_server.sql(
        f"CREATE DATABASE \"{name}\" OWNER gateway TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    )
    assert "has the encoding LATIN1" in await refusal(opened(postgres_server.url(name)).migrate())


# Faults that are told


async def test_who_is_not_let_in_is_told_why_without_the_password(
    postgres_server: Server, opened: Open
) -> None:
    for url, says in [
        (postgres_server.url("postgres", password="geheim"), "password authentication failed"),
        (postgres_server.url("nowhere"), 'database "nowhere" does not exist'),
        ("postgresql://u:geheim@127.0.0.1:9/gw", "cannot be reached: connection refused"),
        ("postgresql://u:geheim@nowhere.invalid/gw", "cannot be reached: its name is not known"),
        ("postgresql://u:geheim@/gw?host=/nowhere", "cannot be reached: no such file or directory"),
        ("postgresql://u:geheim@/gw?passfile=/nowhere", "cannot be read: no such file or directory"),
        (
            f"postgresql://u:geheim@127.0.0.1:{postgres_server.port}/gw?sslmode=require",
            "rejected SSL upgrade",
        ),
        ("postgresql://u:geheim@db/gw?sslmode=verify-full&sslrootcert=/nowhere", "no such file or directory"),
    ]:
        told = await refusal(opened(url).migrate())
        assert says in told
        assert "geheim" not in told


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\xff\xff\xff\xff", b""])
async def test_what_is_no_postgresql_is_told_in_one_sentence(answer: bytes, opened: Open) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for query in ("", "?sslmode=disable"):
            assert "geheim" not in await refusal(opened(f"postgresql://u:geheim@{place}/gw{query}").keys())


async def test_the_password_may_lie_in_a_file_that_is_its_owners_alone(
    postgres_server: Server, postgres_url: str, tmp_path: Path, opened: Open
) -> None:
    parts = urlsplit(postgres_url)
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{parts.port}:*:{parts.username}:{parts.password}\n")
    url = f"postgresql://{parts.username}@127.0.0.1:{parts.port}{parts.path}?passfile={file}"
    file.chmod(0o640)
    assert "may be read by others" in await refusal(opened(url).tenants())
    file.chmod(0o600)
    assert await opened(url).tenants()


async def test_who_may_not_write_is_told_so(postgres_server: Server, postgres_url: str, store: Store) -> None:
    name = urlsplit(postgres_url).path[1:]
    postgres_server.sql("REVOKE INSERT ON api_keys FROM gateway", name)
    assert "permission denied for table api_keys" in await refusal(made(store))
    assert await store.keys() == []


async def test_what_is_there_already_is_named_and_its_values_are_not(store: Store) -> None:
    key = a_key()
    await store.insert_key(key, audit_of(key))
    twin = a_key(digest=key.digest)
    with pytest.raises(DuplicateError) as refused:
        await store.insert_key(twin, audit_of(twin))
    assert key.digest is not None
    assert "digest" in str(refused.value)
    assert key.digest.hex() not in str(refused.value)


async def test_a_character_that_it_cannot_hold_is_told_without_the_text(store: Store) -> None:
    key = a_key(name="geheim\0")
    assert "geheim" not in await refusal(store.insert_key(key, audit_of(key)))
    assert await store.keys() == []


async def test_what_the_work_raises_comes_through_as_it_is(store: Store) -> None:
    def failing() -> Steps[None]:
        yield Query("tenants")
        raise TimeoutError("of the work's own")

    with pytest.raises(TimeoutError, match="of the work's own"):
        await store.write(failing())
    assert await made(store)


# Connections


async def test_a_restart_of_the_server_is_not_noticed_by_the_next_caller(
    lone_postgres: Server, opened: Open
) -> None:
    store = opened(lone_postgres.migrated_database())
    await asyncio.gather(*(store.tenants() for _ in range(3)))
    for mode in ("fast", "immediate"):
        lone_postgres.restart(mode)
        await made(store)
        lone_postgres.restart(mode)
        await store.keys()
    lone_postgres.stop()
    assert "cannot be reached: connection refused" in await refusal(store.keys())
    assert "cannot be reached: connection refused" in await refusal(made(store))
    lone_postgres.start()
    await made(store)
    assert len(await store.keys()) == 3


async def test_a_frozen_server_is_not_waited_for(
    lone_postgres: Server, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    url = lone_postgres.migrated_database()
    store, fresh = opened(url), opened(url)
    await made(store)
    monkeypatch.setattr(postgres_link, "STATEMENT_S", 0.3)
    monkeypatch.setattr(postgres_pool, "LEND_S", 0.3)
    lone_postgres.freeze()
    for work in (store.keys(), made(store), fresh.keys(), fresh.migrate(), *(made(store) for _ in range(9))):
        assert "answer" in await refusal(work)
    lone_postgres.thaw()
    monkeypatch.setattr(postgres_link, "STATEMENT_S", 5.0)
    monkeypatch.setattr(postgres_pool, "LEND_S", 5.0)
    await soon(lambda: made(store))


async def test_who_finds_no_connection_free_is_told_in_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "LEND_S", 0.5)
    sleepers = [
        asyncio.create_task(store.read(asked("SELECT pg_sleep(2)"))) for _ in range(postgres_pool.SIZE)
    ]
    await asyncio.sleep(0)
    assert "is busy: no connection is free" in await refusal(store.keys())
    await asyncio.gather(*sleepers)
    assert await store.keys() == []


async def test_connections_that_were_long_idle_are_given_up(
    postgres_server: Server, postgres_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "IDLE_S", -0.99)
    await store.tenants()
    name = urlsplit(postgres_url).path[1:]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    deadline = time.monotonic() + PATIENCE_S
    while postgres_server.sql(count) != "0":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_who_goes_away_does_not_undo_what_she_asked_for(
    postgres_url: str, store: Store, opened: Open
) -> None:
    await store.tenants()
    key = a_key()
    asking = asyncio.create_task(store.insert_key(key, audit_of(key)))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await store.close()
    assert await opened(postgres_url).key(key.id) is not None


async def test_a_connection_lost_while_it_commits_leaves_it_open_whether_the_change_was_kept(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    parts = urlsplit(postgres_url)
    armed = False
    carrying: list[asyncio.Task[None]] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if to_server and armed and b"COMMIT\0" in data:
                    break
                writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upper, lower = await asyncio.open_connection("127.0.0.1", parts.port)
        carrying.append(asyncio.create_task(carry(upper, writer, to_server=False)))
        carrying.append(asyncio.create_task(carry(reader, lower, to_server=True)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as line:
        port = line.sockets[0].getsockname()[1]
        store = open_store(postgres_url.replace(f":{parts.port}/", f":{port}/"))
        await made(store)
        armed = True
        assert "whether the change was kept is not known" in await refusal(made(store))
        armed = False
        assert len(await store.keys()) == 1
        await store.close()
        await asyncio.gather(*carrying)


# Writers and their locks


async def test_a_gateway_that_freezes_in_mid_change_holds_the_others_up_for_seconds_only(
    postgres_url: str, store: Store
) -> None:
    frozen = await asyncpg.connect(postgres_url)
    await frozen.execute(queries("postgres")["begin_write"])
    await made(store)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        await frozen.execute("COMMIT")
    frozen.terminate()


async def test_work_beside_other_writers_does_not_wait_for_them(postgres_url: str, store: Store) -> None:
    other = await asyncpg.connect(postgres_url)
    await other.execute(queries("postgres")["begin_write"])
    noted = asked("UPDATE tenants SET updated_at = 77 WHERE id = 'default' RETURNING id")
    assert await store.write(noted, alone=False) == [("default",)]
    await other.execute("COMMIT")
    other.terminate()


async def test_work_beside_a_writer_of_the_same_rows_gives_up_first(postgres_url: str, store: Store) -> None:
    other = await asyncpg.connect(postgres_url)
    await other.execute(queries("postgres")["begin_write"])
    await other.execute("UPDATE tenants SET updated_at = 1")
    noted = asked("UPDATE tenants SET updated_at = 77 WHERE id = 'default' RETURNING id")
    assert "is busy: others hold it locked" in await refusal(store.write(noted, alone=False))
    await other.execute("COMMIT")
    other.terminate()


async def test_a_change_is_durable_where_the_database_would_not_wait_for_its_disk(
    postgres_server: Server, postgres_url: str, store: Store
) -> None:
    name = urlsplit(postgres_url).path[1:]
    postgres_server.sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    shown = asked("SHOW synchronous_commit")
    assert await store.read(asked("SHOW synchronous_commit")) == [("off",)]
    assert await store.write(shown) == [("on",)]


async def test_a_server_that_takes_no_writes_is_no_store(
    postgres_server: Server, postgres_url: str, store: Store, opened: Open
) -> None:
    await made(store)
    name = urlsplit(postgres_url).path[1:]
    postgres_server.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert "takes no writes" in await refusal(opened(postgres_url).keys())


async def test_an_import_keeps_to_short_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.engine.BULK_TRANSACTION_S", 0.0)
    await store.bulk_insert((a_key() for _ in range(2500)), ACTOR)
    imports = [row.entity for row in await audited(store) if row.action == "key.import"]
    assert imports == ["500 keys", "1000 keys", "1000 keys"]
