"""External issuers' keys are fetched in the background, and outlive what happens to the issuer."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.jws import Claims, TrustedIssuer, verify
from gateway.core.refusals import Reason
from gateway.keys.clock import boot_clock
from gateway.keys.issuers import MAXIMUM_BYTES, Issuers, IssuerSource, Timing, fetched
from tests.keys.idp import Answer, Idp, Signer, claims

NAME = "https://login.example.com"
# Fetches that come of themselves come at once, those that are asked for once in the test.
QUICK = Timing(refresh_s=0.02, least_s=0.02, most_s=0.02, first_retry_s=0.02, last_retry_s=0.02)
SLOW = Timing(refresh_s=600, least_s=600, most_s=600, early_s=600, first_retry_s=600, last_retry_s=600)
OLD, NEW = Signer("old"), Signer("new", fresh=True)


class Trusted:
    """The other side of the door: what was handed through it last, and a clock that can be set."""

    def __init__(self) -> None:
        self.by_name: dict[str, TrustedIssuer] = {}
        self.told = 0
        self.ahead_s = 0.0

    def trust(self, issuers: Sequence[TrustedIssuer]) -> None:
        self.by_name = {issuer.issuer: issuer for issuer in issuers}
        self.told += 1

    def clock(self) -> float:
        return boot_clock() + self.ahead_s

    @property
    def kids(self) -> set[str]:
        return set(self.by_name[NAME].keys)

    def judge(self, token: str, now_s: float | None = None) -> Claims | Reason:
        return verify(token.encode(), self.by_name, now_s or time.time())


def source(url: str, *, name: str = NAME, algorithms: tuple[str, ...] = ("RS256",)) -> IssuerSource:
    issuer = TrustedIssuer(
        issuer=name,
        audience="gateway",
        algorithms=frozenset(algorithms),
        keys={},
        tenant_claim="org",
        role_claim="groups",
        roles={"authors": "editor"},
    )
    return IssuerSource(issuer, url)


@pytest.fixture
def idp() -> Iterator[Idp]:
    server = Idp(OLD)
    yield server
    server.stop()


@pytest.fixture
def trusted() -> Trusted:
    return Trusted()


@asynccontextmanager
async def following(
    trusted: Trusted, *sources: IssuerSource, timing: Timing = QUICK
) -> AsyncIterator[Issuers]:
    issuers = Issuers(sources, trusted.trust, timing=timing, clock=trusted.clock)
    issuers.start()
    try:
        yield issuers
    finally:
        await issuers.stop()


async def until(true: Callable[[], bool], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


async def asked_again(idp: Idp, times: int = 2) -> None:
    """Wait until the issuer was asked anew, and the answer before that was dealt with."""
    before = idp.asked
    await until(lambda: idp.asked >= before + times)


async def test_issuer_is_known_before_its_keys_are(idp: Idp, trusted: Trusted) -> None:
    Issuers([source(idp.url)], trusted.trust)
    assert trusted.kids == set()
    assert trusted.judge(OLD.token(claims(NAME))) == Reason.TOKEN_INVALID


async def test_token_of_a_fetched_key_proves_whom_it_names(idp: Idp, trusted: Trusted) -> None:
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        found = trusted.judge(OLD.token(claims(NAME, org="acme", groups=["x", "authors"])))
    assert isinstance(found, Claims)
    assert (found.subject, found.tenant_id, found.role) == (f"{NAME}|ann", "acme", "editor")


async def test_token_signed_with_the_public_key_as_a_secret_proves_nothing(
    idp: Idp, trusted: Trusted
) -> None:
    pem = OLD.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": "old"}, claims(NAME, org="acme", groups="authors"))
    ]
    signature = hmac.digest(pem, b".".join(parts), hashlib.sha256)
    token = b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        assert trusted.judge(token) == Reason.TOKEN_INVALID


async def test_keys_roll_over(idp: Idp, trusted: Trusted) -> None:
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        idp.keys.append(NEW.jwk())
        await until(lambda: trusted.kids == {"old", "new"})
        idp.keys.pop(0)
        await until(lambda: trusted.kids == {"new"})
        assert trusted.judge(OLD.token(claims(NAME))) == Reason.TOKEN_INVALID
        assert isinstance(trusted.judge(NEW.token(claims(NAME))), Claims)


async def test_same_keys_again_are_no_news(idp: Idp, trusted: Trusted) -> None:
    """Whoever holds what was verified drops it at every change."""
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        told = trusted.told
        await asked_again(idp, 4)
        assert trusted.told == told


async def test_issuer_that_withdraws_all_is_obeyed(idp: Idp, trusted: Trusted) -> None:
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        idp.keys.clear()
        await until(lambda: trusted.kids == set())


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[], Answer]:
    return lambda: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (answer(500), "answers 500"),
        (answer(404, b'{"keys": []}'), "answers 404"),
        (answer(204), "answers 204"),
        (answer(200, b"<html>busy</html>"), "is not JSON"),
        (answer(200, b'{"keys": 1}'), "no list `keys`"),
        (answer(200, b"[" * 50_000), "is not JSON"),
        (answer(200, b" " * MAXIMUM_BYTES + b'{"keys": []}'), f"more than {MAXIMUM_BYTES} bytes"),
        (answer(302, Location="/other.json"), "redirects (302)"),
        (answer(308, Location="http://127.0.0.1:1/"), "redirects (308)"),
        (answer(200, gzip.compress(b'{"keys": []}'), Content_Encoding="gzip"), "is not JSON"),
        (answer(200, b'{"keys": []}', Content_Length="5000"), "cannot be read"),
        (answer(200, b'{"keys": []}', Content_Length="x"), "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_issuer_in_trouble_leaves_known_keys_in_force_and_is_told_of_once(
    behave: Callable[[], Answer], told: str, idp: Idp, trusted: Trusted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.keys")
    # A shorter wait, for an answer that promises more than comes.
    timing = msgspec.structs.replace(QUICK, within_s=2.0)
    async with following(trusted, source(idp.url), timing=timing):
        await until(lambda: trusted.kids == {"old"})
        assert caplog.messages == []
        idp.behave = behave
        await until(lambda: len(caplog.messages) == 1)
        assert NAME in caplog.messages[0]
        assert "1 known ones are used meanwhile" in caplog.messages[0]
        assert told in caplog.messages[0]
        await asked_again(idp, 3)
        assert len(caplog.messages) == 1
        assert isinstance(trusted.judge(OLD.token(claims(NAME))), Claims)
        idp.behave = None
        await until(lambda: len(caplog.messages) == 2)
        assert caplog.messages[1] == f"the keys of issuer {NAME} can be fetched again"


async def test_no_redirect_is_followed(idp: Idp, trusted: Trusted) -> None:
    elsewhere = Idp(NEW)
    try:
        idp.behave = answer(302, Location=elsewhere.url)
        async with following(trusted, source(idp.url)):
            await asked_again(idp)
        assert elsewhere.asked == 0
        assert trusted.kids == set()
    finally:
        elsewhere.stop()


async def test_slow_answer_is_given_up(idp: Idp, trusted: Trusted, caplog: pytest.LogCaptureFixture) -> None:
    def slow() -> Answer:
        idp.released.wait(30)
        return idp.published()

    idp.behave = slow
    async with following(trusted, source(idp.url), timing=msgspec.structs.replace(QUICK, within_s=0.05)):
        await until(lambda: bool(caplog.messages))
        assert "does not answer within 0.05 s" in caplog.messages[0]
        idp.behave = None
        await until(lambda: trusted.kids == {"old"})


async def test_issuer_that_nobody_runs_takes_nothing_from_another(idp: Idp, trusted: Trusted) -> None:
    gone = Idp()
    gone.stop()
    async with following(trusted, source(gone.url, name="https://gone.example.com"), source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        assert trusted.by_name["https://gone.example.com"].keys == {}


async def test_issuer_whose_certificate_is_not_trusted_is_not_heard(
    trusted: Trusted, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    idp = Idp(OLD, tls=context)
    try:
        async with following(trusted, source(idp.url)):
            await until(lambda: bool(caplog.messages))
        assert "certificate that is not trusted: unable to get local issuer certificate" in caplog.messages[0]
        assert (trusted.kids, idp.asked) == (set(), 0)
    finally:
        idp.stop()


async def test_unknown_key_ids_bring_one_fetch_forward(idp: Idp, trusted: Trusted) -> None:
    async with following(trusted, source(idp.url), timing=SLOW) as issuers:
        await until(lambda: trusted.kids == {"old"})
        assert idp.asked == 1
        idp.keys.append(NEW.jwk())
        issuers.key_missed(NAME)
        await until(lambda: trusted.kids == {"old", "new"})
        idp.keys.append(Signer("third").jwk())
        for _ in range(1000):
            issuers.key_missed(NAME)
            await asyncio.sleep(0)
        assert idp.asked == 2
        # What was asked for in vain is not forgotten: it is done when its time has come.
        trusted.ahead_s = SLOW.early_s + 1
        issuers.key_missed(NAME)
        await until(lambda: "third" in trusted.kids)
        assert idp.asked == 3


async def test_unknown_key_id_asked_for_too_soon_is_fetched_when_its_time_has_come(
    idp: Idp, trusted: Trusted
) -> None:
    timing = msgspec.structs.replace(SLOW, early_s=0.3)
    async with following(trusted, source(idp.url), timing=timing) as issuers:
        await until(lambda: trusted.kids == {"old"})
        issuers.key_missed(NAME)
        await until(lambda: idp.asked == 2)
        idp.keys.append(NEW.jwk())
        await until(lambda: _missed(issuers) and "new" in trusted.kids)


def _missed(issuers: Issuers) -> bool:
    issuers.key_missed(NAME)
    return True


async def test_unknown_issuer_is_nobody_s_business(idp: Idp, trusted: Trusted) -> None:
    async with following(trusted, source(idp.url), timing=SLOW) as issuers:
        await until(lambda: trusted.kids == {"old"})
        issuers.key_missed("https://else.example.com")
        await asyncio.sleep(0)
        assert idp.asked == 1


async def test_keys_of_an_issuer_that_stays_away_end_after_a_day(
    idp: Idp, trusted: Trusted, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        idp.behave = answer(503)
        trusted.ahead_s = QUICK.kept_s - 60
        await asked_again(idp, 3)
        assert trusted.kids == {"old"}
        trusted.ahead_s = QUICK.kept_s + 60
        await until(lambda: trusted.kids == set())
        assert "too old to be used" in caplog.messages[-1]
        idp.behave = None
        await until(lambda: trusted.kids == {"old"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 300.0),
        ("public", 300.0),
        ("max-age=120", 120.0),
        ('public, Max-Age="120"', 120.0),
        ("s-maxage=120", 300.0),
        ("max-age=1", 60.0),
        ("max-age=999999999", 900.0),
        ("max-age=99999999999999999999", 900.0),
        ("max-age=-5", 300.0),
        ("no-store", 60.0),
        ("max-age=600, no-cache", 60.0),
    ],
)
async def test_cache_control_is_followed_within_bounds(header: str | None, seconds: float, idp: Idp) -> None:
    idp.headers = {"Cache-Control": header} if header else {}
    async with aiohttp.ClientSession() as session:
        assert (await fetched(session, idp.url, Timing()))[1] == seconds


async def test_passed_over_keys_are_told_of_once(
    idp: Idp, trusted: Trusted, caplog: pytest.LogCaptureFixture
) -> None:
    idp.keys.append(Signer("weak", bits=1024).jwk())
    async with following(trusted, source(idp.url)):
        await until(lambda: trusted.kids == {"old"})
        await asked_again(idp, 3)
    assert len(caplog.messages) == 1
    assert "`weak` is of a type, curve or size" in caplog.messages[0]


async def test_failures_are_retried_ever_more_slowly(idp: Idp, trusted: Trusted) -> None:
    """Three waits of a doubling second lie before the fourth attempt; the clock is moved, not waited for."""
    idp.behave = answer(503)
    timing = Timing(first_retry_s=100.0, last_retry_s=250.0, early_s=0.0)
    async with following(trusted, source(idp.url), timing=timing) as issuers:
        await until(lambda: idp.asked == 1)
        keeper = issuers._keepers[NAME]
        waits = []
        for attempt in range(2, 6):
            await until(lambda: keeper._due_at > trusted.clock())
            waits.append(keeper._due_at - trusted.clock())
            issuers.key_missed(NAME)
            await until(lambda count=attempt: idp.asked == count)  # type: ignore[misc]
    for wait, longest in zip(waits, (100.0, 200.0, 250.0, 250.0), strict=True):
        assert 0.8 * longest - 1 < wait <= longest


async def test_stopping_twice_is_stopping_once(idp: Idp, trusted: Trusted) -> None:
    issuers = Issuers([source(idp.url)], trusted.trust)
    issuers.start()
    await issuers.stop()
    await issuers.stop()
    assert trusted.kids == set()


async def test_stopping_in_the_middle_of_a_fetch_ends_it(idp: Idp, trusted: Trusted) -> None:
    def never() -> Answer:
        idp.released.wait(30)
        return 200, {}, b""

    idp.behave = never
    async with asyncio.timeout(5), following(trusted, source(idp.url)):
        await until(lambda: idp.asked == 1)


async def test_without_issuers_nothing_runs(trusted: Trusted) -> None:
    before = asyncio.all_tasks()
    async with following(trusted):
        assert asyncio.all_tasks() == before
    assert trusted.by_name == {}
