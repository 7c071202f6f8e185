"""Where the pepper comes from, and that a store and its pepper stay together."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.keys.peppers import PepperError, open_digester
from gateway.store.base import Store
from gateway.store.urls import open_store
from tests.store.samples import a_key, audit_of

PEPPER = "a pepper of my own making, long enough"

OPENER = """
import asyncio, sys
from gateway.keys.peppers import open_digester
from gateway.store.urls import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.migrate()
    print((await open_digester(store)).digest(b"token").hex())
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    yield store
    await store.close()


async def test_a_store_makes_its_own_pepper_once(store: Store, tmp_path: Path) -> None:
    first = await open_digester(store)
    file = tmp_path / "gateway.db.pepper"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes().strip()) >= 32
    content = file.read_bytes()
    again = await open_digester(store)
    assert again.digest(b"token") == first.digest(b"token")
    assert file.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir() if "pepper" in entry.name] == ["gateway.db.pepper"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act on somebody else's file")
async def test_a_pepper_made_by_root_belongs_to_the_database_owner(store: Store, tmp_path: Path) -> None:
    os.chown(tmp_path / "gateway.db", 12345, 12346)
    await open_digester(store)
    found = (tmp_path / "gateway.db.pepper").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, f"sqlite://{tmp_path}/gateway.db"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    digests = {process.communicate(timeout=60)[0] for process in openers}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_openers_in_the_very_same_moment_agree(tmp_path: Path) -> None:
    async def opened(path: Path, start: threading.Barrier) -> bytes:
        store = open_store(f"sqlite://{path}")
        await store.migrate()
        start.wait()
        try:
            return (await open_digester(store)).digest(b"token")
        finally:
            await store.close()

    with ThreadPoolExecutor(6) as pool:
        for round_ in range(8):
            start = threading.Barrier(6)
            path = tmp_path / str(round_) / "gateway.db"
            openers = [pool.submit(lambda: asyncio.run(opened(path, start))) for _ in range(6)]  # noqa: B023
            assert len({opener.result(timeout=30) for opener in openers}) == 1


async def test_a_given_pepper_ties_the_store_in_every_way_of_giving_it(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"\n{PEPPER}\r\n")
    by_text = await open_digester(store, pepper=PEPPER)
    by_file = await open_digester(store, pepper_file=file)
    assert by_text.digest(b"t") == by_file.digest(b"t")
    assert not (tmp_path / "gateway.db.pepper").exists()


async def test_another_pepper_is_refused(store: Store, tmp_path: Path) -> None:
    await open_digester(store, pepper=PEPPER)
    with pytest.raises(PepperError, match=r"is not the one that the keys in \S+ were made with"):
        await open_digester(store, pepper=PEPPER + "!")
    (tmp_path / "gateway.db.pepper").write_text("x" * 40)
    with pytest.raises(PepperError, match="is not the one"):
        await open_digester(store)


async def test_a_lost_pepper_is_never_replaced_in_silence(store: Store, tmp_path: Path) -> None:
    await open_digester(store)
    key = a_key()
    await store.insert_key(key, audit_of(key))
    (tmp_path / "gateway.db.pepper").unlink()
    with pytest.raises(PepperError, match=r"is missing: put back \S+gateway\.db\.pepper"):
        await open_digester(store)
    assert not (tmp_path / "gateway.db.pepper").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"short", "too short"),
        (b"x" * 31, "too short"),
        (b"x" * 40 + b"\n" + b"y" * 40 + b"\n", "2 lines: several peppers are not supported"),
        (b"x" * 70_000, "too large"),
    ],
)
async def test_an_unfit_pepper_file_is_one_sentence_that_does_not_show_it(
    store: Store, tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(PepperError, match=says) as refused:
        await open_digester(store, pepper_file=file)
    assert "xxxx" not in str(refused.value)
    assert str(file) in str(refused.value)


async def test_a_pepper_file_that_cannot_be_read_is_one_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PepperError, match="cannot be read: No such file"):
        await open_digester(store, pepper_file=tmp_path / "nowhere")
    with pytest.raises(PepperError, match="cannot be read: Is a directory"):
        await open_digester(store, pepper_file=tmp_path)


async def test_a_given_text_of_several_lines_is_refused(store: Store) -> None:
    with pytest.raises(PepperError, match="2 lines"):
        await open_digester(store, pepper=f"{PEPPER}\n{PEPPER}")
