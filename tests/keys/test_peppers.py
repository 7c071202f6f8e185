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

from gateway.core.tokens import Digester
from gateway.keys.peppers import PepperError, open_digester, write_peppers
from gateway.store.base import Store
from gateway.store.peppers import begin_rotation, end_rotation, peppers_in_use
from gateway.store.urls import open_store
from tests.store.samples import a_key, audit, audit_of, now_ms, pepper_of

PEPPER = "a pepper of my own making, long enough"
NEWER = "a newer pepper of my own making, as long"

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
        (b"x" * 40 + b"\n\nshort\n", "line 3 of .* is too short"),
        (b"".join(b"xxxx%036d\n" % n for n in range(5)), "5 peppers: at most 4"),
        ((b"x" * 40 + b"\n") * 2, "the same pepper twice"),
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


async def rotated(store: Store) -> None:
    """Begin to use the newer pepper, as ``pepper rotate`` does."""
    newer = pepper_of(Digester([NEWER.encode()]))
    await store.write(begin_rotation(newer, lambda _: None, audit(kind="pepper", entity=newer.id)))


async def test_the_newest_pepper_comes_first_before_and_while_it_is_in_use(store: Store) -> None:
    await open_digester(store, pepper=PEPPER)
    newest_first = Digester([NEWER.encode(), PEPPER.encode()]).pepper_ids
    before = await open_digester(store, pepper=f"{NEWER}\n{PEPPER}")
    await rotated(store)
    after = await open_digester(store, pepper=f"{NEWER}\n{PEPPER}")
    assert before.pepper_ids == after.pepper_ids == newest_first


async def test_peppers_in_the_wrong_order_are_put_right_once_the_store_knows_better(store: Store) -> None:
    await open_digester(store, pepper=PEPPER)
    await rotated(store)
    found = await open_digester(store, pepper=f"{PEPPER}\n{NEWER}")
    assert found.pepper_ids == Digester([NEWER.encode(), PEPPER.encode()]).pepper_ids


async def test_what_is_derived_of_a_pepper_is_the_same_on_every_gateway_of_a_rotation(store: Store) -> None:
    keys = [(await open_digester(store, pepper=PEPPER)).derived_key(b"label")]
    keys.append((await open_digester(store, pepper=f"{NEWER}\n{PEPPER}")).derived_key(b"label"))
    await rotated(store)
    keys.append((await open_digester(store, pepper=f"{NEWER}\n{PEPPER}")).derived_key(b"label"))
    assert len(set(keys)) == 1


async def test_each_pepper_that_keys_still_need_must_be_there(store: Store, tmp_path: Path) -> None:
    await open_digester(store, pepper=PEPPER)
    await rotated(store)
    older, newer = await store.read(peppers_in_use())
    file = tmp_path / "secret"
    for content, lacking in ((PEPPER, newer), (NEWER, older)):
        file.write_text(content)
        with pytest.raises(
            PepperError, match=f"{file} lacks pepper {lacking}, which keys in .* add its line"
        ):
            await open_digester(store, pepper_file=file)
    await store.write(end_rotation([older], now_ms(), audit(kind="pepper", entity=older)))
    assert (await open_digester(store, pepper=NEWER)).pepper_ids == (newer,)
    with pytest.raises(PepperError, match=f"is not the one .* \\(pepper {newer}\\)"):
        await open_digester(store, pepper=PEPPER)


async def test_a_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_peppers(file, [b"one"], owner=tmp_path, replace=False)
    with pytest.raises(FileExistsError):
        write_peppers(file, [b"two"], owner=tmp_path, replace=False)
    assert file.read_bytes() == b"one\n"
    write_peppers(file, [b"two", b"one"], owner=tmp_path, replace=True)
    assert file.read_bytes() == b"two\none\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
