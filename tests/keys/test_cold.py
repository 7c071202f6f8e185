"""Cold keys are proven off the loop: right ones let in for good, wrong ones refused, nobody told too much."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import argon2
import pytest

from gateway.core.cold import VerifyKey
from gateway.core.model import ColdKey
from gateway.core.refusals import Reason
from gateway.keys.argon2id import Argon2Threads
from gateway.keys.cold import ColdProver
from gateway.keys.suspects import FAILURES
from tests.core.test_cold import cold_key

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
TOKEN = b"locator.secret"


def a_cold_key(token: bytes = TOKEN, locator: str = "locator") -> ColdKey:
    return ColdKey(cold_key().key, locator.encode(), QUICK.hash(token))


class Threads(Argon2Threads):
    """Real threads whose work begins when the test says so."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        self.asked: list[bytes] = []
        self.may = threading.Event()
        self.may.set()

    def verify(self, verifier: str, token: bytes) -> asyncio.Future[bool]:
        self.asked.append(token)
        loop = asyncio.get_running_loop()

        async def held() -> bool:
            await loop.run_in_executor(None, self.may.wait)
            return await super(Threads, self).verify(verifier, token)

        return loop.create_task(held())


class Case:
    """A prover and what it said."""

    def __init__(self, threads: Threads) -> None:
        self.counts: Counter[str] = Counter()
        self.found: list[tuple[ColdKey, bytes]] = []
        self.now = 1000.0
        self.threads = threads
        self.prover = ColdProver(
            clock=lambda: self.now,
            proven=lambda cold, token: self.found.append((cold, token)),
            counted=lambda result: self.counts.update([result]),
            threads=threads,
        )

    def begin(
        self, cold: ColdKey, token: bytes, source: str = "192.0.2.1"
    ) -> asyncio.Future[Reason | None] | None:
        told: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()
        wanted = VerifyKey(b"digest of " + token, token, cold)
        return told if self.prover.verify(wanted, told.set_result, source) else None

    async def asked(self, cold: ColdKey, token: bytes) -> Reason | None:
        told = self.begin(cold, token)
        assert told is not None
        return await asyncio.wait_for(told, 10)


@pytest.fixture
async def case() -> Case:
    case = Case(Threads())
    yield case
    case.threads.may.set()
    case.prover.close()


async def test_the_right_token_is_proven_and_told_who_writes_it_back(case: Case) -> None:
    cold = a_cold_key()
    assert await case.asked(cold, TOKEN) is None
    assert case.prover.proofs.proven[b"digest of " + TOKEN] is cold
    assert case.found == [(cold, TOKEN)]
    assert case.counts == {"ok": 1}


@pytest.mark.parametrize(
    "verifier",
    ["", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$AAAA", QUICK.hash("x")],
    ids=["empty", "nonsense", "cut", "another token's"],
)
async def test_a_wrong_token_or_an_unreadable_string_proves_nothing(case: Case, verifier: str) -> None:
    cold = ColdKey(cold_key().key, b"locator", verifier)
    assert await case.asked(cold, TOKEN) is None
    assert not case.prover.proofs.proven
    assert case.prover.proofs.refused[b"digest of " + TOKEN, b"locator"] is cold
    assert case.found == []
    assert case.counts == {"failed": 1}


async def test_those_who_show_the_same_token_at_once_are_told_together(case: Case) -> None:
    cold = a_cold_key()
    case.threads.may.clear()
    told = [case.begin(cold, TOKEN) for _ in range(5)]
    await asyncio.sleep(0)
    case.threads.may.set()
    assert await asyncio.gather(*[each for each in told if each]) == [None] * 5
    assert case.threads.asked == [TOKEN]
    assert case.counts == {"ok": 1}


async def test_a_flood_runs_argon2id_no_oftener_than_its_budget_and_the_rest_is_told_to_come_back(
    case: Case,
) -> None:
    cold = a_cold_key()
    told = [case.begin(cold, b"locator.wrong %d" % n) for n in range(200)]
    waiting = [each for each in told if each is not None]
    while case.counts["failed"] < len(waiting):
        await asyncio.sleep(0.005)
    for n in range(200):
        case.begin(cold, b"locator.wrong again %d" % n)
        await asyncio.sleep(0.001)
    assert case.counts["failed"] <= FAILURES.quota
    assert case.counts["refused"] > 300
    assert case.counts["ok"] == 0


async def test_what_waits_for_a_budget_goes_on_by_itself(case: Case) -> None:
    cold = a_cold_key()
    for n in range(FAILURES.quota):
        await case.asked(cold, b"locator.wrong %d" % n)
    told = case.begin(cold, TOKEN)
    assert told is not None
    await asyncio.sleep(0.01)
    assert not told.done()
    case.now += 1.0
    assert await asyncio.wait_for(told, 10) is None
    assert case.counts == {"failed": FAILURES.quota, "ok": 1}


async def test_who_was_displaced_is_told_that_there_is_no_room(case: Case) -> None:
    cold = a_cold_key()
    case.threads.may.clear()
    flood = [case.begin(cold, b"locator.wrong %d" % n) for n in range(12)]
    own = case.begin(cold, TOKEN, "192.0.2.2")
    assert own is not None
    await asyncio.sleep(0)
    displaced = [each for each in flood if each is not None and each.done()]
    assert [each.result() for each in displaced] == [Reason.OVERLOADED]
    case.threads.may.set()
    assert await asyncio.wait_for(own, 10) is None
    assert case.found == [(cold, TOKEN)]


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("unknown", "unknown", True),
    ],
)
async def test_addresses_of_one_host_s_network_are_one_caller(
    case: Case, first: str, second: str, together: bool
) -> None:
    cold = a_cold_key()
    case.threads.may.clear()
    for n in range(12):
        case.begin(cold, b"locator.wrong %d" % n, first)
    assert (case.begin(cold, TOKEN, second) is None) is together


async def test_a_proof_that_fails_of_itself_lets_nobody_in(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: str, __: bytes) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.set_exception(MemoryError())
        return future

    case.threads.verify = broken  # type: ignore[method-assign]
    assert await case.asked(a_cold_key(), TOKEN) is Reason.OVERLOADED
    assert not case.prover.proofs.proven
    assert not case.prover.proofs.refused
    assert "could not be proven: MemoryError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_closed_prover_takes_nothing(case: Case) -> None:
    case.prover.close()
    case.prover.close()
    assert case.begin(a_cold_key(), TOKEN) is None
