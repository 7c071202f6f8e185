"""The kept table: what is read back is what was written, or nothing; and its age is never taken on trust."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import ColdKey, Freshness, KeyTable, LiveKey, Permission, TenantState, VerifyingKey
from gateway.core.policy import KeyPolicy
from gateway.core.tokens import Digester
from gateway.keys.keeper import Keeper
from gateway.keys.kept import SLICE
from gateway.keys.kept_file import KeptFileError
from gateway.keys.replica import Replica
from gateway.keys.restoring import Kept, KeptPlace
from gateway.store.base import (
    Delta,
    LiveRow,
    LoadStart,
    Position,
    Scopes,
    TokenFacts,
    Unchanged,
    Users,
)
from tests.store.samples import a_tenant

PEPPER = b"a pepper for the tests of the kept table"
DIGESTER = Digester([PEPPER])
RULE = Freshness(bound_s=300, fresh_s=5)
POLICY = KeyPolicy()
BOOT = "boot one"
NAME = "tenant-whose-name-is-nobodys-business"


class Clock:
    """A boot clock, and the name of its run."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Written:
    """A replica that was loaded, and the place where it is kept."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.path = path
        self.place = place(path, self.clock)
        self.table = KeyTable()
        self.replica = replica(self.table)
        self.keeper = Keeper(self.place, self.replica)
        self.number = 1

    async def load(self, rows: list[LiveRow], users: list[tuple[str, str, str]] | None = None) -> None:
        self.replica.count_load()
        self.replica.begin_load(
            LoadStart(
                position=Position(self.number, "id 1"),
                scopes=Scopes((a_tenant("default"), a_tenant(NAME, api_keys_enabled=False)), ("qs_live_",)),
                users=Users(None, users or []),
                tokens=TokenFacts((("kid", "PEM", None),), [("jti", 5)], whole=True),
                peppers=tuple(DIGESTER.check_values().items()),
                canary_at=77,
                offset_s=1e9,
            ),
            self.clock.now,
        )
        self.replica.apply_loaded([self.replica.build(row) for row in rows])
        await self.replica.end_load()

    def change(self, *rows: LiveRow, users: Users | None = None) -> None:
        """Apply a change that follows, read now."""
        self.number += 1
        build = self.replica.build
        self.replica.apply(
            Delta(
                position=Position(self.number, f"id {self.number}"),
                keys=[build(row) for row in rows],
                scopes=None,
                users=users,
                tokens=None,
                more=False,
                committed_at=[],
                canary_at=None,
                offset_s=1e9,
            ),
            self.clock.now,
            self.clock.now,
        )

    def unchanged(self) -> None:
        self.replica.apply(Unchanged(1e9), self.clock.now, self.clock.now)


def place(path: Path, clock: Clock, **fields: Any) -> KeptPlace:
    values: dict[str, Any] = {"freshness": RULE, "policy": POLICY, "clock": clock, "boot": BOOT}
    return KeptPlace(path, fields.pop("digester", DIGESTER), **(values | fields))


def replica(table: KeyTable) -> Replica:
    return Replica(
        table,
        POLICY,
        pepper_ids=DIGESTER.pepper_ids,
        propagated=lambda _: None,
        rekeyed=lambda: None,
    )


def row(digest: bytes | None = None, **fields: Any) -> LiveRow:
    values: dict[str, Any] = {
        "id": f"apk_{secrets.token_hex(6)}",
        "subject_id": "s",
        "tenant_id": "default",
        "environment_id": None,
        "role": "viewer",
        "permission": "viewer",
        "expires_at": 2_000_000_000_000,
        "revoked_at": None,
    }
    return LiveRow(digest or secrets.token_bytes(32), **(values | fields))


def cold(locator: str, **fields: Any) -> LiveRow:
    return msgspec.structs.replace(row(**fields), digest=None, locator=locator, verifier="$argon2id$made-up")


CONTENT = (
    "by_digest",
    "cold",
    "cold_lengths",
    "tenants",
    "users",
    "signing_keys",
    "ended_tokens",
    "prefixes",
)


def content(table: KeyTable) -> dict[str, Any]:
    """Return all of a table that decisions read, but for the number of the load that keys bear."""
    found = {name: getattr(table, name) for name in CONTENT}
    plain = msgspec.structs.replace
    found["by_digest"] = {digest: plain(key, load=0) for digest, key in table.by_digest.items()}
    found["cold"] = {
        locator: plain(each, key=plain(each.key, load=0)) for locator, each in table.cold.items()
    }
    return found


async def restored(kept: Kept) -> tuple[KeyTable, Replica]:
    table = KeyTable()
    copy = replica(table)
    copy.restore(kept.table, kept.dated)
    return table, copy


@pytest.fixture
async def written(tmp_path: Path) -> AsyncIterator[Written]:
    made = Written(tmp_path / "table")
    yield made
    await made.keeper.stop()


@pytest.fixture
async def kept(written: Written) -> Written:
    """A table of a few slices that has been written."""
    rows = [row(environment_id=f"e{n % 3}", revoked_at=n % 7 or None) for n in range(2 * SLICE + 3)]
    rows += [
        row(sub_type="user", subject_id="user_1"),
        cold("gw_live_abcdefabcdef"),
        cold("apk_1", id="apk_1"),
    ]
    await written.load(rows, [("user_1", "default", "editor")])
    await written.keeper.turn()
    return written


async def test_what_is_read_back_is_what_was_written(kept: Written) -> None:
    kept.clock.now += 100
    table, copy = await restored(await kept.place.read())
    assert content(table) == content(kept.table)
    assert len(table.by_digest) == 2 * SLICE + 4
    assert (table.synced_at, table.store_offset_s) == (1000.0, 1e9)
    assert (copy.position, copy.canary_at, copy.whole) == (Position(1, "id 1"), 77, True)
    assert copy.peppers == kept.replica.peppers
    assert table.outage, "nothing has been read"
    assert copy.synced.is_set()
    # What many keys share is one object again.
    assert len({id(key.scope) for key in table.by_digest.values()}) == 4


async def test_nothing_of_it_is_in_clear_and_it_is_for_its_owner_alone(kept: Written) -> None:
    kept.clock.now += 20
    kept.unchanged()
    await kept.keeper.turn()
    stamp = kept.path.with_name("table.stamp")
    for path in (kept.path, stamp):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == kept.path.parent.stat().st_uid
    seen = kept.path.read_bytes() + stamp.read_bytes()
    some = next(iter(kept.table.by_digest.items()))
    for word in (
        some[0],
        b"apk_",
        b"default",
        NAME.encode(),
        b"gw_live_",
        b"PEM",
        b"$argon2id$",
        BOOT.encode(),
    ):
        assert word not in seen
    assert {path.name for path in kept.path.parent.iterdir()} == {"table", "table.stamp"}, "nothing is left"


async def test_a_stamp_dates_the_table_anew_while_nothing_in_it_changes(kept: Written) -> None:
    before = kept.path.read_bytes()
    kept.clock.now += 250
    kept.change()  # a canary: the position moves on, and no decision depends on it
    await kept.keeper.turn()
    assert kept.path.read_bytes() == before
    kept.clock.now += 250
    found = await kept.place.read()
    assert found.dated.synced_at == 1250
    assert found.table.facts.sync.position == Position(2, "id 2")


async def test_what_changed_is_never_dated_by_a_stamp(kept: Written) -> None:
    """A revocation that the file does not have must not be covered up by a younger date."""
    digest = next(iter(kept.table.by_digest))
    kept.clock.now += 1
    kept.change(row(digest, revoked_at=7))
    kept.keeper.start()
    await kept.keeper.stop()
    kept.clock.now += 10
    found = await kept.place.read()
    assert found.dated.synced_at == 1000
    assert found.table.facts.sync.position == Position(1, "id 1")


async def test_what_changed_is_written_when_its_time_has_come(kept: Written) -> None:
    digest = next(iter(kept.table.by_digest))
    kept.clock.now += RULE.bound_s / 4
    kept.change(row(digest, revoked_at=7))
    await kept.keeper.turn()
    table, copy = await restored(await kept.place.read())
    assert table.by_digest[digest].revoked_at == 7
    assert content(table) == content(kept.table)
    assert copy.position == Position(2, "id 2")


async def test_a_table_that_changes_while_it_is_written_is_kept_as_it_was_at_the_end(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    rows = [row() for _ in range(3 * SLICE)] + [cold(f"gw_test_{n:012}") for n in range(20)]
    await written.load(rows, [("user_1", "default", "editor")])
    pause, pauses = asyncio.sleep, 0

    async def stirring(seconds: float) -> None:
        """Change something of each kind whenever the writer lets others run."""
        nonlocal pauses
        pauses += 1
        digests = list(written.table.by_digest)
        renewed, again = chance.sample(digests, 2)
        written.change(
            row(again, revoked_at=pauses),
            row(older_digest=renewed),
            row(),
            cold(f"gw_live_{pauses:012}"),
            row(locator=f"gw_live_{pauses - 1:012}"),
            row(locator=f"gw_test_{pauses:012}"),
            users=Users(
                frozenset({"user_1", f"user_{pauses}"}),
                [(f"user_{pauses}", "default", "viewer")] * (pauses % 2),
            ),
        )
        written.replica._writer.drop_keys([chance.choice(digests)])  # as a sweep does
        await pause(0)

    monkeypatch.setattr("gateway.keys.keeper.asyncio.sleep", stirring)
    await written.keeper.turn()
    assert pauses >= 3
    at_the_end = content(written.table)
    monkeypatch.undo()
    table, copy = await restored(await written.place.read())
    assert content(table) == at_the_end
    assert copy.position == written.replica.position


async def test_nothing_is_written_while_all_keys_are_being_read_again(kept: Written) -> None:
    kept.clock.now += 200
    kept.change(row())
    kept.replica.lose()
    before = kept.path.read_bytes()
    await kept.keeper.turn()
    assert kept.path.read_bytes() == before
    assert not kept.path.with_name("table.stamp").exists()


async def test_the_last_thing_a_gateway_does_is_to_date_its_table(kept: Written) -> None:
    kept.clock.now += 100
    kept.unchanged()
    kept.keeper.start()
    await kept.keeper.stop()
    assert (await kept.place.read()).dated.synced_at == 1100


async def test_a_table_that_was_read_anew_while_it_was_written_is_not_kept(
    kept: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, before, loads = asyncio.sleep, kept.path.read_bytes(), 0

    async def reading_anew(seconds: float) -> None:
        nonlocal loads
        monkeypatch.undo()
        loads += 1
        await kept.load([row()])
        await pause(0)

    kept.change(row())
    monkeypatch.setattr("gateway.keys.keeper.asyncio.sleep", reading_anew)
    await kept.keeper.turn()
    assert loads == 1
    assert kept.path.read_bytes() == before
    await kept.keeper.turn()
    assert len((await kept.place.read()).table.keys) == 1


async def test_a_fault_of_ours_that_keeps_less_than_there_is_is_found_out(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written.load([row() for _ in range(SLICE)])
    pause = asyncio.sleep

    async def unnoted(seconds: float) -> None:
        written.table.by_digest[secrets.token_bytes(32)] = next(iter(written.table.by_digest.values()))
        await pause(0)

    with monkeypatch.context() as fault:
        fault.setattr("gateway.keys.keeper.asyncio.sleep", unnoted)
        await written.keeper.turn()
    assert "does not hold what it says" in await refused(written.place)


async def test_a_file_that_was_taken_away_is_written_again(kept: Written) -> None:
    kept.path.unlink()
    kept.clock.now += 200
    kept.unchanged()
    await kept.keeper.turn()
    await kept.keeper.turn()
    assert (await kept.place.read()).dated.synced_at == 1200


async def test_a_place_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "directory"
    blocked.write_text("a file")
    written = Written(blocked / "table")
    await written.load([row()])
    for _ in range(3):
        await written.keeper.turn()
        written.clock.now += 100
    (told,) = caplog.messages
    assert "cannot be kept at" in told
    blocked.unlink()
    await written.keeper.turn()
    assert len((await written.place.read()).table.keys) == 1
    await written.keeper.stop()


# -- What is refused, and in which words.


async def refused(place: KeptPlace) -> str:
    with pytest.raises(KeptFileError) as refusal:
        await place.read()
    sentence = str(refusal.value)
    assert "\n" not in sentence
    return sentence


def stamped(kept: Written) -> Path:
    return kept.path.with_name("table.stamp")


async def test_a_table_is_used_up_to_the_bound_and_not_beyond(kept: Written) -> None:
    kept.clock.now += RULE.bound_s
    await kept.place.read()
    kept.clock.now += 1
    assert "is 301 s old, more than 300 s" in await refused(kept.place)


async def test_a_grace_prolongs_the_bound(kept: Written) -> None:
    patient = place(kept.path, kept.clock, freshness=Freshness(300, 5, 600))
    kept.clock.now += 900
    assert (await patient.read()).dated == (1000, 1e9, False)
    kept.clock.now += 1
    assert "more than 900 s" in await refused(patient)


async def test_a_table_of_the_future_is_refused(kept: Written) -> None:
    kept.clock.now -= 1
    assert "in the future" in await refused(kept.place)


@pytest.mark.parametrize("boot", ["boot two", None])
async def test_after_another_start_of_the_machine_nothing_proves_the_age(
    kept: Written, boot: str | None
) -> None:
    # The new boot clock happens to be where the old one was.
    assert "nothing proves the age" in await refused(place(kept.path, kept.clock, boot=boot))


async def test_after_another_start_a_grace_is_had_once(kept: Written) -> None:
    rule = Freshness(300, 5, 600)
    later = Clock()
    later.now = 20.0
    again = place(kept.path, later, boot="boot two", freshness=rule, wall=lambda: 1e9 + 1100)
    found = await again.read()
    assert found.dated.synced_at == 20 - 300
    assert found.dated.offset_s == 1e9 + 1100 - 20
    table, _ = await restored(found)
    assert rule.state(table, later.now + 0.001) == "grace"
    assert rule.state(table, later.now + 599) == "grace"
    assert rule.state(table, later.now + 601) == "stale"
    # Whoever starts again does not begin another.
    later.now += 500
    assert (await again.read()).dated.synced_at == 20 - 300
    later.now += 101
    assert "is 901 s old" in await refused(again)


async def test_after_another_start_what_is_old_by_the_wall_clock_has_that_much_less_grace(
    kept: Written,
) -> None:
    later = Clock()
    later.now = 20.0

    def started(age_s: float) -> KeptPlace:
        rule = Freshness(300, 5, 600)
        return place(kept.path, later, boot=f"b {age_s}", freshness=rule, wall=lambda: 1e9 + 1000 + age_s)

    assert "is 901 s old, more than 900 s" in await refused(started(901))
    assert (await started(700).read()).dated == (20 - 700, 1e9 + 1700 - 20, True)


async def test_a_wall_clock_that_was_set_back_brings_no_expired_key_to_life(kept: Written) -> None:
    later = Clock()
    later.now = 20.0
    again = place(kept.path, later, boot="b", freshness=Freshness(300, 5, 600), wall=lambda: 5.0)
    found = await again.read()
    assert found.dated.offset_s + later.now == 1e9 + 1000, "the store's clock stands where it was read last"
    # The first real reading is believed, also where this machine's clock was ahead.
    table, copy = await restored(found)
    copy.apply(Unchanged(1e9 + 3), later.now, later.now)
    assert table.store_offset_s == 1e9 + 3


async def test_an_old_copy_is_as_old_as_it_is(kept: Written) -> None:
    old = kept.path.read_bytes()
    kept.clock.now += 250
    kept.change(row())
    await kept.keeper.turn()
    kept.clock.now += 51
    kept.unchanged()
    await kept.keeper.turn()
    kept.path.write_bytes(old)
    assert "is 301 s old" in await refused(kept.place), "the stamp is another file's"


async def test_an_old_stamp_is_as_old_as_it_is(kept: Written) -> None:
    kept.clock.now += 10
    kept.unchanged()
    await kept.keeper.turn()
    old = stamped(kept).read_bytes()
    kept.clock.now += 250
    kept.unchanged()
    await kept.keeper.turn()
    stamped(kept).write_bytes(old)
    assert (await kept.place.read()).dated.synced_at == 1010


async def test_a_table_under_another_pepper_is_refused(kept: Written) -> None:
    other = place(kept.path, kept.clock, digester=Digester([b"another pepper, just as long as the first"]))
    assert "made under another pepper" in await refused(other)


async def test_a_table_is_read_under_any_pepper_at_hand(kept: Written) -> None:
    both = place(
        kept.path, kept.clock, digester=Digester([b"another pepper, just as long as the first", PEPPER])
    )
    await both.read()


async def test_once_a_pepper_is_retired_no_start_needs_it(written: Written) -> None:
    newer = b"another pepper, just as long as the first"
    both = Digester([newer, PEPPER], derives=DIGESTER.pepper_ids[0])
    keeper = Keeper(place(written.path, written.clock, digester=both), written.replica)
    alone = place(written.path, written.clock, digester=Digester([newer]))
    await written.load([row()])
    await keeper.turn()
    assert "under another pepper" in await refused(alone)
    written.replica.peppers = tuple(Digester([newer]).check_values().items())
    written.clock.now += 100  # and it is time to write again
    await keeper.turn()
    written.unchanged()
    await keeper.turn()
    await keeper.stop()
    assert (await alone.read()).dated.synced_at == written.clock.now


async def test_a_table_whose_keys_need_a_pepper_that_is_not_here_is_refused(written: Written) -> None:
    other = Digester([b"another pepper, just as long as the first"])
    written.keeper._place = place(written.path, written.clock)
    await written.load([row()])
    written.replica.peppers += tuple(other.check_values().items())
    await written.keeper.turn()
    assert f"needs pepper {other.pepper_ids[0]}" in await refused(written.place)


async def test_a_table_made_under_another_key_policy_is_refused(kept: Written) -> None:
    strict = place(kept.path, kept.clock, policy=KeyPolicy(api_keys_enabled=False))
    assert "key_policy.api_keys_enabled" in await refused(strict)


async def test_no_table_is_no_table(tmp_path: Path) -> None:
    assert "there is no kept table" in await refused(place(tmp_path / "none", Clock()))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: path.chmod(0o640), "open to others (mode 0640, not 0600)"),
        (lambda path: path.chmod(0o602), "open to others"),
        (
            lambda path: path.rename(path.with_name("x")).parent.joinpath("table").symlink_to("x"),
            "symbolic link",
        ),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "is not a file"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file"),
        (lambda path: path.write_bytes(b""), "something else"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" * 10), "something else"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"table 1", b"table 2", 1)),
            "another version",
        ),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "goes on after its end"),
    ],
    ids=["group", "world", "link", "pipe", "directory", "empty", "other", "version", "longer"],
)
async def test_what_is_not_private_or_not_a_table_is_refused(kept: Written, spoil: Any, word: str) -> None:
    spoil(kept.path)
    assert word in await refused(kept.place)
    assert os.path.lexists(kept.path), "what is refused stays"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_of_somebody_else_is_refused(kept: Written) -> None:
    os.chown(kept.path, 12345, 12345)
    assert "belongs to another user" in await refused(kept.place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_under_root_the_directorys_owner_is_kept(kept: Written) -> None:
    os.chown(kept.path.parent, 12345, 12345)
    os.chown(kept.path, 12345, 12345)
    kept.clock.now += 200
    kept.change(row())
    await kept.keeper.turn()
    assert kept.path.stat().st_uid == 12345
    await kept.place.read()


def borders(content: bytes) -> list[int]:
    """Return where each frame begins, and the end."""
    at, found = 21 + 32, []
    while at < len(content):
        found.append(at)
        at += 5 + int.from_bytes(content[at + 1 : at + 5], "big")
    return [*found, at]


async def test_every_cut_is_found_out(kept: Written) -> None:
    whole = kept.path.read_bytes()
    at = borders(whole)
    assert at[-1] == len(whole)
    for end in {*at[:-1], *(border + 3 for border in at[:-1]), len(whole) - 1, 20, 40}:
        kept.path.write_bytes(whole[:end])
        await refused(kept.place)
    # Not even if the frame before the cut says that it is the last.
    kept.path.write_bytes(whole[: at[-3]] + b"\1" + whole[at[-3] + 1 : at[-2]])
    await refused(kept.place)


async def test_frames_that_were_moved_left_out_or_mixed_are_found_out(kept: Written) -> None:
    whole = kept.path.read_bytes()
    at = borders(whole)
    frames = [whole[a:b] for a, b in itertools.pairwise(at)]
    head = whole[: at[0]]
    kept.clock.now += 200
    kept.table.version += 1
    await kept.keeper.turn()
    other = kept.path.read_bytes()
    others = [other[a:b] for a, b in itertools.pairwise(borders(other))]
    assert len(others) == len(frames)
    assert other != whole
    swapped = [frames[1], frames[0], *frames[2:]]
    mixed = [others[0], *frames[1:]]
    for wrong in (swapped, frames[1:], frames[:1] * 2 + frames[1:], mixed, [*frames[:-1], others[-1]]):
        kept.path.write_bytes(head + b"".join(wrong))
        await refused(kept.place)
    kept.path.write_bytes(head + b"".join(frames))
    await kept.place.read()


async def test_no_byte_can_be_changed(tmp_path: Path) -> None:
    written, chance = Written(tmp_path / "table"), random.Random(7)
    await written.load([row() for _ in range(5)])
    await written.keeper.turn()
    written.clock.now += 100
    written.unchanged()
    await written.keeper.turn()
    await written.keeper.stop()
    for path in (written.path, stamped(written)):
        original = path.read_bytes()
        for at in range(len(original)):
            flip = 1 << chance.randrange(8)
            path.write_bytes(original[:at] + bytes([original[at] ^ flip]) + original[at + 1 :])
            try:
                found = written.place._read()
            except KeptFileError:
                continue
            # A stamp that names another file says nothing of this one, which is as old as it says itself.
            assert path != written.path
            assert len("gateway kept stamp 1\n") <= at < len("gateway kept stamp 1\n") + 32
            assert found.dated.synced_at == 1000
        path.write_bytes(original)
    assert (await written.place.read()).dated.synced_at == 1100


texts = st.text(max_size=12)
live_keys = st.builds(
    LiveKey,
    who=texts.map(lambda id: f"X-Gateway-Key-Id: {quote(id)}\r\nX-Gateway-Subject: s\r\n".encode()),
    scope=st.sampled_from([b"", b"scope", b"other"]),
    tenant_id=texts,
    environment_id=st.none() | texts,
    role=texts,
    permission=st.sampled_from(Permission),
    expires_at=st.integers(0, 2**53),
    revoked_at=st.none() | st.integers(0, 2**53),
    user_id=st.none() | texts,
)


@settings(max_examples=30, deadline=None, database=None)
@given(
    keys=st.dictionaries(st.binary(min_size=32, max_size=32), live_keys, max_size=6),
    colds=st.dictionaries(st.from_regex(rb"[ -~]{1,9}", fullmatch=True), live_keys, max_size=4),
    users=st.dictionaries(texts, st.dictionaries(texts, st.sampled_from(Permission), max_size=3), max_size=4),
    tenants=st.dictionaries(texts, st.booleans(), max_size=4),
    ended=st.dictionaries(texts, st.integers(0, 2**53), max_size=4),
    signing=st.dictionaries(texts, st.tuples(texts, st.none() | st.integers(0, 2**53)), max_size=3),
    prefixes=st.lists(st.binary(max_size=8), max_size=3),
)
def test_whatever_a_table_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    keys: dict[bytes, LiveKey],
    colds: dict[bytes, LiveKey],
    users: dict[str, dict[str, Permission]],
    tenants: dict[str, bool],
    ended: dict[str, int],
    signing: dict[str, tuple[str, int | None]],
    prefixes: list[bytes],
) -> None:
    async def there_and_back() -> None:
        written = Written(tmp_path_factory.mktemp("kept") / "table")
        table = written.table
        await written.load([])
        table.by_digest, table.users, table.ended_tokens = keys, users, ended
        table.tenants = {tenant: TenantState(on) for tenant, on in tenants.items()}
        table.signing_keys = {kid: VerifyingKey(*key) for kid, key in signing.items()}
        table.prefixes = tuple(prefixes)
        table.cold = {locator: ColdKey(key, locator, "$argon2id$") for locator, key in colds.items()}
        await written.keeper.turn()
        await written.keeper.stop()
        copy = (await written.place.read()).table
        assert (copy.keys, copy.cold, copy.users) == (table.by_digest, table.cold, table.users)
        assert (copy.tenants, copy.ended_tokens) == (table.tenants, table.ended_tokens)
        assert (copy.signing_keys, tuple(copy.facts.prefixes)) == (table.signing_keys, table.prefixes)

    asyncio.run(there_and_back())
