"""Signatures are checked off the loop, each token once, and what was found holds as long as its key does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec
import pytest

from gateway.core.jws import own_issuer
from gateway.core.model import KeyTable, VerifyingKey
from gateway.core.refusals import Reason
from gateway.core.sessions import VerifySignature
from gateway.keys.verifier import Verifier
from tests.core.test_sessions import EXTERNAL, external
from tests.core.tokens import KID, NOW_S, TTL_MS, claims, private_key, public_pem, signed

FORGED = signed(key=private_key("rsa2"))


@pytest.fixture
def table() -> KeyTable:
    table = KeyTable()
    table.signing_keys = {KID: VerifyingKey(public_pem("rsa"))}
    return table


@pytest.fixture
def verifier(table: KeyTable) -> Iterator[Verifier]:
    verifier = Verifier(table, waiting_max=3)
    yield verifier
    verifier.close()


def wanted(verifier: Verifier, token: bytes, digest: bytes = b"") -> VerifySignature:
    found = verifier.sessions.judge(token, digest or token, NOW_S)
    assert isinstance(found, VerifySignature), found
    return found


async def told(verifier: Verifier, token: bytes) -> Reason | None:
    future: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()
    assert verifier.verify(wanted(verifier, token), future.set_result)
    return await asyncio.wait_for(future, 5)


async def test_a_good_signature_proves_and_a_bad_one_is_remembered_apart(verifier: Verifier) -> None:
    assert await told(verifier, signed()) is None
    assert await told(verifier, FORGED) is None
    assert set(verifier.sessions.proven) == {signed()}
    assert set(verifier.sessions.refused) == {FORGED}
    session = verifier.sessions.proven[signed()]
    assert session.viewer.expires_at == (NOW_S + 3600) * 1000
    assert verifier.sessions.judge(FORGED, FORGED, NOW_S) is Reason.TOKEN_INVALID


async def test_many_who_wait_for_one_token_cost_one_check(verifier: Verifier) -> None:
    answers: list[Reason | None] = []
    want = wanted(verifier, signed())
    assert all(verifier.verify(want, answers.append) for _ in range(500))
    assert answers == []
    await told(verifier, signed())
    await asyncio.sleep(0)
    assert answers == [None] * 500
    assert verifier.checked == 1


async def test_too_many_tokens_are_turned_away_and_those_that_wait_are_served(verifier: Verifier) -> None:
    answers: list[Reason | None] = []
    tokens = [signed(claims(jti=f"tok_{number}")) for number in range(4)]
    taken = [verifier.verify(wanted(verifier, token), answers.append) for token in tokens]
    assert taken == [True, True, True, False]
    assert await told(verifier, tokens[0]) is None
    while len(answers) < 3:
        await asyncio.sleep(0)
    assert answers == [None] * 3
    assert await told(verifier, tokens[3]) is None, "there is room again"


async def test_a_fault_in_a_check_proves_nothing(
    verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    want = wanted(verifier, signed())
    broken = msgspec.structs.replace(want, envelope=msgspec.structs.replace(want.envelope, signature=None))
    future: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()
    with caplog.at_level(logging.ERROR):
        assert verifier.verify(broken, future.set_result)
        assert await future is Reason.OVERLOADED
    assert not verifier.sessions.proven
    assert "TypeError" in caplog.text


async def test_one_who_waits_and_fails_does_not_keep_the_others_waiting(verifier: Verifier) -> None:
    def fail(_: Reason | None) -> None:
        raise RuntimeError("a fault of one connection")

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    want = wanted(verifier, signed())
    assert verifier.verify(want, fail)
    assert await told(verifier, signed()) is None
    assert [type(fault) for fault in faults] == [RuntimeError]


async def test_what_was_checked_against_a_key_that_is_gone_by_then_proves_nothing(
    verifier: Verifier, table: KeyTable
) -> None:
    future: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()
    assert verifier.verify(wanted(verifier, signed()), future.set_result)
    table.signing_keys = {}
    verifier.rekey()
    assert await future is None
    assert not verifier.sessions.proven
    assert verifier.sessions.judge(signed(), b"d", NOW_S) is Reason.TOKEN_INVALID


async def test_a_rotation_keeps_sessions_and_a_withdrawn_key_ends_them(
    verifier: Verifier, table: KeyTable
) -> None:
    await told(verifier, signed())
    await told(verifier, FORGED)
    version = table.version
    table.signing_keys = {
        KID: VerifyingKey(public_pem("rsa"), NOW_S * 1000),
        "sig_2": VerifyingKey(public_pem("rsa2")),
    }
    verifier.rekey()
    assert set(verifier.sessions.proven) == {signed()}
    assert not verifier.sessions.refused
    assert table.version > version
    await told(verifier, signed(key=private_key("rsa2"), kid="sig_2"))
    table.signing_keys = {"sig_2": VerifyingKey(public_pem("rsa2"))}
    verifier.rekey()
    assert [session.kid for session in verifier.sessions.proven.values()] == ["sig_2"]


async def test_a_session_that_would_outlive_its_retired_key_is_judged_anew(
    verifier: Verifier, table: KeyTable
) -> None:
    forged_to_last = signed(claims(exp=NOW_S + 10 * 86400))
    await told(verifier, forged_to_last)
    table.signing_keys = {KID: VerifyingKey(public_pem("rsa"), NOW_S * 1000)}
    verifier.rekey()
    assert not verifier.sessions.proven
    await told(verifier, forged_to_last)
    (session,) = verifier.sessions.proven.values()
    assert session.viewer.expires_at == NOW_S * 1000 + TTL_MS


async def test_a_key_id_that_comes_back_with_another_key_proves_nothing_of_before(
    verifier: Verifier, table: KeyTable
) -> None:
    await told(verifier, signed())
    table.signing_keys = {KID: VerifyingKey(public_pem("rsa2"))}
    verifier.rekey()
    assert not verifier.sessions.proven


async def test_external_issuers_come_go_and_change_without_touching_our_own(
    verifier: Verifier, table: KeyTable
) -> None:
    await told(verifier, signed())
    version = table.version
    verifier.trust([EXTERNAL])
    assert table.version > version
    await told(verifier, external())
    assert set(verifier.sessions.proven) == {signed(), external()}
    verifier.rekey()
    assert set(verifier.sessions.proven) == {signed(), external()}, "the external ones are kept"
    verifier.trust([msgspec.structs.replace(EXTERNAL, roles={"sites": "viewer"})])
    assert set(verifier.sessions.proven) == {signed()}, "what its claims mean has changed"
    await told(verifier, external())
    verifier.trust([])
    assert set(verifier.sessions.proven) == {signed()}
    assert verifier.sessions.judge(external(), b"d", NOW_S) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "issuer", [own_issuer("other", [], TTL_MS), msgspec.structs.replace(EXTERNAL, issuer="gateway")]
)
def test_nobody_else_can_be_us(verifier: Verifier, issuer: object) -> None:
    with pytest.raises(ValueError, match="itself"):
        verifier.trust([issuer])  # type: ignore[list-item]
    assert verifier.sessions.issuers["gateway"].is_own


def test_a_signing_key_that_cannot_be_read_leaves_the_others(
    table: KeyTable, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    table.signing_keys = {"bad": VerifyingKey("nonsense"), KID: VerifyingKey(public_pem("rsa"))}
    verifier.rekey()
    assert set(verifier.sessions.issuers["gateway"].keys) == {KID}
    assert "bad" in caplog.text


async def test_a_closed_verifier_takes_nothing(verifier: Verifier) -> None:
    verifier.close()
    verifier.close()
    assert not verifier.verify(wanted(verifier, signed()), lambda _: None)
