"""What is SQLite's own: files, owners, locks, processes, other databases at the same path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.keys.clock import boot_clock
from gateway.store.base import LiveRow, Reload, Store, StoreError
from gateway.store.sqlite_files import refuse_network, told_as_store_error
from gateway.store.texts import migrations, queries
from gateway.store.urls import open_store
from tests.store.samples import ACTOR, a_key, audit_of, audited

# Makes keys until told to stop, and prints each one's id once it is durable.
WRITER = """
import asyncio, sys
from gateway.store.urls import open_store
from tests.store.samples import a_key, audit_of

async def main(url, count):
    store = open_store(url)
    await store.migrate()
    for _ in range(count):
        key = a_key()
        await store.insert_key(key, audit_of(key))
        print(key.id, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def writer(path: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite://{path}", str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


async def made(path: Path) -> Store:
    store = open_store(f"sqlite://{path}")
    await store.migrate()
    return store


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_all_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state" / "gateway.db"
    previous = os.umask(0)
    try:
        store = await made(path)
        follower = store.follow(boot_clock)
        await follower.begin_load()
        key = a_key()
        await store.insert_key(key, audit_of(key))
    finally:
        os.umask(previous)
    files = sorted(entry.name for entry in path.parent.iterdir())
    assert files == ["gateway.db", "gateway.db-shm", "gateway.db-wal"]
    assert {mode(entry) for entry in path.parent.iterdir()} == {0o600}
    assert mode(path.parent) == 0o700
    await follower.close()
    await store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act on somebody else's file")
async def test_root_leaves_files_to_the_owner_of_the_database(path: Path) -> None:
    os.chown(path.parent, 12345, 12346)
    store = await made(path)
    follower = store.follow(boot_clock)
    await follower.begin_load()
    key = a_key()
    await store.insert_key(key, audit_of(key))
    owners = {(entry.name, entry.stat().st_uid, entry.stat().st_gid) for entry in path.parent.iterdir()}
    assert owners == {(f"gateway.db{end}", 12345, 12346) for end in ("", "-wal", "-shm")}
    await follower.close()
    await store.close()


async def test_commits_are_durable_and_the_log_is_left_empty(path: Path) -> None:
    store = await made(path)
    follower = store.follow(boot_clock)
    await follower.begin_load()
    assert [batch async for batch in follower.batches(lambda row: row.id)] == []
    key = a_key()
    await store.insert_key(key, audit_of(key))
    await store.close()
    assert path.with_name("gateway.db-wal").stat().st_size == 0
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("SELECT id FROM api_keys").fetchall() == [(key.id,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() in {("wal",), ("delete",)}
    connection.close()
    await follower.close()


async def test_a_locked_store_is_one_sentence_and_recovers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.sqlite_files.BUSY_TIMEOUT_S", 0.1)
    store = await made(path)
    key = a_key()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"^the store \S+ is locked by another process: try again$"):
        await store.insert_key(key, audit_of(key))
    assert await store.keys() == []
    lock.execute("ROLLBACK")
    lock.close()
    await store.insert_key(key, audit_of(key))
    await store.close()


async def test_reading_and_starting_need_no_lock(path: Path) -> None:
    store = await made(path)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert await store.migrate() == []
    assert len(await store.tenants()) == 1
    lock.close()
    await store.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello, this is no database at all" * 100, "damaged or not a SQLite database"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "damaged or not a SQLite database|could not be used"),
    ],
    ids=["text", "a broken header"],
)
async def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    store = open_store(f"sqlite://{path}")
    with pytest.raises(StoreError, match=says):
        await store.migrate()
    assert path.read_bytes() == content
    await store.close()


async def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    store = open_store(f"sqlite://{path}")
    with pytest.raises(StoreError, match="of another program"):
        await store.migrate()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()
    await store.close()


async def test_a_newer_schema_is_refused_by_writer_and_reader(path: Path) -> None:
    store = await made(path)
    newer = migrations()[-1].version + 1
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (?, 'future', 0)", (newer,))
    connection.close()
    with pytest.raises(StoreError, match="newer than this program's"):
        await store.migrate()
    follower = store.follow(boot_clock)
    with pytest.raises(StoreError, match="newer than this program's"):
        await follower.begin_load()
    await follower.close()
    await store.close()


@pytest.mark.parametrize("where", ["directory", "no parent", "not writable"])
async def test_a_path_that_cannot_hold_a_store_is_one_sentence(tmp_path: Path, where: str) -> None:
    if where == "directory":
        path = tmp_path / "d"
        path.mkdir()
    elif where == "no parent":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "gateway.db"
    else:
        path = Path("/proc/gateway.db")
    store = open_store(f"sqlite://{path}")
    with pytest.raises(StoreError, match=re.escape(str(path))) as refused:
        await store.migrate()
    assert "\n" not in str(refused.value)
    await store.close()


async def test_a_store_that_cannot_be_written_says_what_must_be_writable(path: Path) -> None:
    await (await made(path)).close()
    missing = path.parent / "none" / "g.db"
    for url in (f"file:{path}?mode=ro", f"file:{missing}?mode=rw"):
        with pytest.raises(StoreError, match="its file and its directory must be writable"):  # noqa: SIM117
            with told_as_store_error(path), contextlib.closing(sqlite3.connect(url, uri=True)) as reader:
                reader.execute("PRAGMA user_version = 1")


async def test_a_file_that_vanished_is_not_made_anew_behind_its_owners_back(path: Path) -> None:
    store = await made(path)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be found"):
        await store.keys()
    key = a_key()
    with pytest.raises(StoreError, match="cannot be found"):
        await store.insert_key(key, audit_of(key))
    assert not path.exists()
    await store.close()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    share = tmp_path / "a share"
    share.mkdir()
    escaped = str(share).replace(" ", r"\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {escaped} {kind} rw 0 0\n")
    with pytest.raises(StoreError, match=re.escape(f"network file system ({kind})")):
        refuse_network(share, mounts)
    refuse_network(tmp_path, mounts)


def test_a_local_mount_over_a_network_one_is_fine(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"host:/x {tmp_path} nfs rw 0 0\n/dev/sdb {tmp_path} ext4 rw 0 0\n")
    refuse_network(tmp_path, mounts)


def test_twenty_processes_making_keys_and_the_store_itself_agree(path: Path) -> None:
    writers = [writer(path, 3) for _ in range(20)]
    outputs = [process.communicate(timeout=60) for process in writers]
    assert [process.returncode for process in writers] == [0] * 20, outputs
    printed = {line for out, _ in outputs for line in out.split()}
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT id, number FROM api_keys ORDER BY number").fetchall()
        changes = connection.execute("SELECT number FROM changes ORDER BY number").fetchall()
        assert connection.execute("SELECT number FROM change_counter").fetchone() == (61,)
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (61,)
    connection.close()
    assert {row[0] for row in rows} == printed
    assert [row[1] for row in rows] == list(range(1, 61))
    assert changes == [(number,) for number in range(1, 62)]


def test_killed_writers_lose_nothing_that_they_printed(path: Path) -> None:
    printed: set[str] = set()
    for round_ in range(12):
        process = writer(path, 100_000)
        assert process.stdout is not None
        for _ in range(3 + round_):
            printed.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        printed |= {line for line in rest.splitlines(keepends=True) if line.endswith("\n")}
    printed = {line.strip() for line in printed}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT id, number FROM api_keys ORDER BY number").fetchall()
        audited = connection.execute("SELECT entity FROM audit WHERE kind = 'key'").fetchall()
        changed = connection.execute("SELECT entity FROM changes WHERE kind = 'key'").fetchall()
    connection.close()
    kept = {row[0] for row in rows}
    assert printed <= kept
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1))
    assert {row[0] for row in audited} == {row[0] for row in changed} == kept


async def test_a_follower_reads_what_a_killed_writer_left_in_the_log(path: Path) -> None:
    process = writer(path, 100_000)
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    process.kill()
    process.communicate()
    store = open_store(f"sqlite://{path}")
    follower = store.follow(boot_clock)
    await follower.begin_load()
    assert first in [key async for batch in follower.batches(lambda row: row.id) for key in batch]
    await follower.close()
    await store.close()


async def test_an_import_lets_revocations_through_again_and_again(path: Path) -> None:
    store = await made(path)
    key = a_key()
    await store.insert_key(key, audit_of(key))
    revoked = 0
    async with asyncio.TaskGroup() as group:
        bulk = group.create_task(store.bulk_insert((a_key() for _ in range(30_000)), ACTOR))
        while not bulk.done():
            await asyncio.to_thread(lambda: asyncio.run(_revoke(path, key.id)))
            revoked += 1
    assert bulk.result() == 30_000
    # Had the import been one transaction, the first would have waited for all of it.
    assert revoked > 3
    await store.close()


async def test_an_import_on_a_slow_disk_keeps_to_small_transactions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.engine.BULK_TRANSACTION_S", 0.0)
    store = await made(path)
    await store.bulk_insert((a_key() for _ in range(3500)), ACTOR)
    imports = [row.entity for row in await audited(store) if row.action == "key.import"]
    assert sorted(imports) == ["1000 keys"] * 3 + ["500 keys"]
    await store.close()


async def _revoke(path: Path, key_id: str) -> None:
    store = open_store(f"sqlite://{path}")
    record = await store.key(key_id)
    assert record is not None
    await store.revoke_key(key_id, 1, "ann", audit_of(record))
    await store.close()


async def test_changes_trimmed_from_the_log_ask_for_a_full_load(path: Path) -> None:
    store = await made(path)
    follower = store.follow(boot_clock)
    start = (await follower.begin_load()).position
    for _ in range(3):
        key = a_key()
        await store.insert_key(key, audit_of(key))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM changes WHERE number = ?", (start.number + 2,))
    connection.close()

    def build(row: LiveRow) -> str:
        return row.id

    outcome = await follower.poll(start, build)
    assert outcome == Reload(f"changes are missing between {start.number} and {start.number + 3}")
    await follower.close()
    await store.close()


def test_texts_use_portable_forms_only() -> None:
    for name, text in queries("sqlite").items():
        assert not re.search(r"\?|now\(|FOR UPDATE|ANY\s*\(|datetime\(|IFNULL|json_", text, re.IGNORECASE), (
            name
        )
        numbers = {int(number) for number in re.findall(r"\$(\d+)", text)}
        assert numbers == set(range(1, len(numbers) + 1)), name


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))
