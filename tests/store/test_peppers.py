"""What a store knows of its peppers, and how the digests of its records go from one to the next."""

from __future__ import annotations

import secrets

import msgspec
import pytest

from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.store.base import Delta, KeyRecord, LiveRow, Position, Reload, SigningKey, Store
from gateway.store.operations import key_by_digest
from gateway.store.peppers import (
    Found,
    Pepper,
    UnfinishedError,
    begin_rotation,
    cold_key,
    end_rotation,
    forget_digests,
    keep_digests,
    keys_only_under,
    peppers,
    peppers_in_use,
    tie_pepper,
)
from gateway.store.signing import keep_signing_key, signing_keys
from tests.store.samples import a_key, audit, audit_of, audited, now_ms, pepper_of

OLD, NEW = b"an old pepper of well over 32 bytes", b"a new pepper of well over 32 bytes"
ONE = Digester([OLD])
BOTH = Digester([NEW, OLD])
NEW_ID, OLD_ID = BOTH.pepper_ids


async def keep(store: Store, token: bytes, **fields: object) -> KeyRecord:
    """Keep a key made under the old pepper."""
    record = a_key(**({"digest": ONE.digest(token), "pepper_id": OLD_ID} | fields))
    return await store.insert_key(record, audit_of(record))


async def tied(store: Store) -> None:
    await store.write(tie_pepper(pepper_of(ONE)))


async def rotating(store: Store) -> None:
    await tied(store)
    await store.write(begin_rotation(pepper_of(BOTH), lambda _: None, audit(kind="pepper", entity=NEW_ID)))


async def retire_old(store: Store) -> None:
    await store.write(end_rotation([OLD_ID], now_ms(), audit(kind="pepper", entity=OLD_ID)))


def seen(record: KeyRecord, token: bytes) -> Found:
    return Found(record.id, BOTH.digests(token), digest=ONE.digest(token))


def proven(record: KeyRecord, token: bytes, **changes: object) -> Found:
    return msgspec.structs.replace(Found(record.id, BOTH.digests(token), None, record.verifier), **changes)


async def live_rows(store: Store) -> dict[str, LiveRow]:
    follower = store.follow(boot_clock)
    try:
        await follower.begin_load()
        return {row.id: row async for batch in follower.batches(lambda row: row) for row in batch}
    finally:
        await follower.close()


async def what_followed(store: Store, position: Position) -> Delta[LiveRow] | Reload:
    follower = store.follow(boot_clock)
    try:
        found = await follower.poll(position, lambda row: row)
    finally:
        await follower.close()
    assert isinstance(found, (Delta, Reload))
    return found


async def position_of(store: Store) -> Position:
    follower = store.follow(boot_clock)
    try:
        return (await follower.begin_load()).position
    finally:
        await follower.close()


async def test_the_first_pepper_ties_the_store(store: Store) -> None:
    assert await store.read(peppers()) == []
    one, other = pepper_of(ONE), pepper_of(Digester([NEW]))
    assert await store.write(tie_pepper(one)) == [one]
    assert await store.write(tie_pepper(other)) == [one]
    assert await store.read(peppers()) == [one]


async def test_a_rotation_puts_the_newer_pepper_last_whatever_the_clock_says(store: Store) -> None:
    await tied(store)
    newer = msgspec.structs.replace(pepper_of(BOTH), since=1)
    await store.write(begin_rotation(newer, lambda _: None, audit(kind="pepper", entity=NEW_ID)))
    assert await store.read(peppers_in_use()) == [OLD_ID, NEW_ID]
    assert (await audited(store))[0].entity == NEW_ID


async def test_a_second_rotation_waits_for_the_end_of_the_first(store: Store) -> None:
    await rotating(store)
    third = Pepper("03030303", b"check", now_ms())
    with pytest.raises(UnfinishedError):
        await store.write(begin_rotation(third, lambda _: None, audit(kind="pepper")))
    await retire_old(store)
    await store.write(begin_rotation(third, lambda _: None, audit(kind="pepper")))
    assert await store.read(peppers_in_use()) == [NEW_ID, third.id]


async def test_a_rotation_seals_signing_keys_anew_where_they_can_be_opened(store: Store) -> None:
    await tied(store)
    for kid in ("sig_1", "sig_2"):
        key = SigningKey(kid, "pem", b"sealed", OLD_ID, now_ms())
        await store.write(keep_signing_key(key, audit(kind="signing_key", entity=kid), rotate=True))
    reseal = {"sig_1": None, "sig_2": b"sealed anew"}
    await store.write(begin_rotation(pepper_of(BOTH), lambda key: reseal[key.kid], audit(kind="pepper")))
    kept = {key.kid: (key.sealed, key.pepper_id) for key in await store.read(signing_keys())}
    assert kept == {"sig_1": (b"sealed", OLD_ID), "sig_2": (b"sealed anew", NEW_ID)}


async def test_a_key_that_was_seen_is_kept_under_both_peppers_and_found_by_either(store: Store) -> None:
    await rotating(store)
    token = b"a token"
    record = await keep(store, token)
    position = await position_of(store)
    assert await store.write(keep_digests([seen(record, token)])) == 1
    kept = await store.key(record.id)
    assert kept is not None
    assert (kept.digest, kept.pepper_id) == (BOTH.digest(token), NEW_ID)
    assert (kept.older_digest, kept.older_pepper_id) == (ONE.digest(token), OLD_ID)
    for digest in (BOTH.digest(token), ONE.digest(token)):
        assert await store.read(key_by_digest(digest)) == kept
    delta = await what_followed(store, position)
    assert isinstance(delta, Delta)
    assert [(row.id, row.digest, row.older_digest) for row in delta.keys] == [
        (record.id, BOTH.digest(token), ONE.digest(token))
    ]


async def test_nothing_is_written_before_the_newer_pepper_is_in_use(store: Store) -> None:
    await tied(store)
    record = await keep(store, b"a token")
    position = await position_of(store)
    assert await store.write(keep_digests([seen(record, b"a token")])) == 0
    assert await store.key(record.id) == record
    assert await position_of(store) == position


async def test_a_gateway_that_knows_the_older_pepper_alone_writes_what_it_can(store: Store) -> None:
    await rotating(store)
    record = await keep(store, b"cold", digest=None, pepper_id=None)
    found = msgspec.structs.replace(proven(record, b"cold"), digests=ONE.digests(b"cold"))
    assert await store.write(keep_digests([found])) == 1
    row = (await live_rows(store))[record.id]
    assert (row.digest, row.pepper_id, row.older_digest) == (ONE.digest(b"cold"), OLD_ID, None)


async def test_what_was_written_meanwhile_is_not_written_again(store: Store) -> None:
    await rotating(store)
    record = await keep(store, b"a token")
    assert await store.write(keep_digests([seen(record, b"a token")])) == 1
    assert await store.write(keep_digests([seen(record, b"a token")])) == 0


async def test_a_record_that_changed_meanwhile_stays_as_it_is(store: Store) -> None:
    await rotating(store)
    cold = await keep(store, b"cold", digest=None, pepper_id=None)
    warm = await keep(store, b"warm")
    wrong = [
        proven(cold, b"cold", verifier="another string"),
        proven(warm, b"warm"),
        msgspec.structs.replace(seen(warm, b"warm"), digest=secrets.token_bytes(32)),
        msgspec.structs.replace(proven(cold, b"cold"), key_id="apk_gone"),
    ]
    assert await store.write(keep_digests(wrong)) == 0
    assert await store.key(cold.id) == cold
    assert await store.key(warm.id) == warm


async def test_a_token_that_two_records_share_is_kept_for_the_first(store: Store) -> None:
    await tied(store)
    first, second = [await keep(store, b"same", digest=None, pepper_id=None) for _ in range(2)]
    digests = ONE.digests(b"same")
    found = [Found(each.id, digests, None, each.verifier) for each in (first, second)]
    assert await store.write(keep_digests(found)) == 1
    assert [(await store.key(each.id)).digest for each in (first, second)] == [digests[OLD_ID], None]  # type: ignore[union-attr]


async def test_a_proven_key_is_warm_under_every_pepper_in_use(store: Store) -> None:
    await rotating(store)
    record = await keep(store, b"cold", digest=None, pepper_id=None)
    assert (await live_rows(store))[record.id].verifier == record.verifier
    assert await store.write(keep_digests([proven(record, b"cold")])) == 1
    row = (await live_rows(store))[record.id]
    assert (row.digest, row.older_digest) == (BOTH.digest(b"cold"), ONE.digest(b"cold"))
    assert (row.verifier, row.locator) == (None, None)


async def test_keys_that_were_never_seen_under_the_newer_pepper_are_named(store: Store) -> None:
    await rotating(store)
    unseen, carried = [await keep(store, token) for token in (b"1", b"2")]
    await keep(store, b"3", revoked_at=now_ms(), revoked_by="x")
    await keep(store, b"4", expires_at=now_ms() - 1)
    await store.write(keep_digests([seen(carried, b"2")]))
    assert await store.read(keys_only_under([OLD_ID], now_ms())) == [unseen]


async def test_the_end_of_a_rotation_makes_unseen_keys_cold_and_has_everybody_read_again(
    store: Store,
) -> None:
    await rotating(store)
    unseen, carried = [await keep(store, token) for token in (b"1", b"2")]
    await store.write(keep_digests([seen(carried, b"2")]))
    position = await position_of(store)
    await retire_old(store)
    assert isinstance(await what_followed(store, position), Reload)
    rows = await live_rows(store)
    assert (rows[unseen.id].locator, rows[unseen.id].verifier) == (unseen.locator, unseen.verifier)
    assert rows[carried.id].verifier is None
    assert await store.write(keep_digests([proven(unseen, b"1")])) == 1
    kept = await store.key(unseen.id)
    assert kept is not None
    assert (kept.digest, kept.older_digest) == (BOTH.digest(b"1"), None)


async def test_a_signing_key_that_nobody_can_open_ends_with_its_pepper(store: Store) -> None:
    await rotating(store)
    key = SigningKey("sig_1", "pem", b"sealed", OLD_ID, now_ms())
    await store.write(keep_signing_key(key, audit(kind="signing_key", entity="sig_1"), rotate=True))
    await retire_old(store)
    assert [key.retired_at is None for key in await store.read(signing_keys())] == [False]


async def test_digests_under_a_retired_pepper_are_forgotten_in_portions(store: Store) -> None:
    await rotating(store)
    records = [await keep(store, b"%d" % n) for n in range(5)]
    await store.write(keep_digests([seen(records[4], b"4")]))
    await retire_old(store)
    after: str | None = ""
    portions = 0
    while after is not None:
        after = await store.write(forget_digests(OLD_ID, after, 2))
        portions += 1
    assert portions == 3
    kept = [await store.key(record.id) for record in records]
    assert [(each.digest, each.pepper_id) for each in kept[:4] if each] == [(None, None)] * 4
    assert kept[4] is not None
    assert (kept[4].pepper_id, kept[4].older_digest, kept[4].older_pepper_id) == (NEW_ID, None, None)


@pytest.mark.parametrize(
    ("token", "finds"),
    [
        ("abc-1234", "abc-12"),
        ("abc-12", "abc-"),
        ("abc-99zz", "abc-99"),
        ("abd", "ab"),
        ("ab", None),
        ("abc", "ab"),
        ("a", None),
        ("zz", None),
        ("warm-1", None),
        ("", None),
        ("apk_signed", None),
        ("ünicode", None),
    ],
)
async def test_a_cold_key_is_found_by_the_longest_locator_that_begins_a_token(
    store: Store, token: str, finds: str | None
) -> None:
    for locator in ("ab", "abc-", "abc-12", "abc-1x", "abc-99", "abb", "b"):
        await keep(store, locator.encode(), digest=None, pepper_id=None, locator=locator)
    await keep(store, b"warm", locator="warm")
    await keep(store, b"w", locator="abc-123", digest=None, pepper_id=None, verifier="")
    await keep(store, b"s", digest=None, pepper_id=None, id="apk_s", locator="apk_s")
    found, prefixes = await store.read(cold_key(token, None))
    assert (found.locator if found is not None else None) == finds
    assert prefixes == []


async def test_a_signed_cold_key_is_found_by_its_id_alone(store: Store) -> None:
    await keep(store, b"s", digest=None, pepper_id=None, id="apk_s", locator="apk_s")
    await keep(store, b"x", digest=None, pepper_id=None, locator="apk_t")
    assert [
        found.id if found is not None else None
        for found, _ in [
            await store.read(cold_key("eyJ.e.s", each)) for each in ("apk_s", "apk_t", "apk_u", "a")
        ]
    ] == ["apk_s", None, None, None]


async def test_a_change_that_rotates_has_nobody_read_everything_again(store: Store) -> None:
    await tied(store)
    position = await position_of(store)
    await store.write(begin_rotation(pepper_of(BOTH), lambda _: None, audit(kind="pepper", entity=NEW_ID)))
    assert isinstance(await what_followed(store, position), Delta)


def test_what_was_found_keeps_its_secrets_from_its_repr() -> None:
    assert repr(Found("apk_1", {"1": b"digest"}, b"digest", "$argon2id$")) == "Found('apk_1')"
