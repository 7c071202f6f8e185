"""Logging in and out, and whom a login token proves, on a store and a clock of the test's own."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

import jwt
import msgspec
import pytest

from gateway.control.domain import DomainService
from gateway.control.errors import Busy, Forbidden, Unauthenticated
from gateway.control.login import LoggedIn, LoginService, WrongLogin
from gateway.control.login_tokens import RELOADS, LoginTokens
from gateway.control.passwords import Argon2Pool, HasherBusyError, nobodys_hash
from gateway.control.signing import Signing
from gateway.control.throttle import LIMITS, Throttled
from gateway.core.jws import Claims
from gateway.core.model import Permission
from gateway.core.refusals import Reason
from gateway.store.base import Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher
from tests.store.samples import audited

EMAIL, PASSWORD, HERE = "ann@example.com", "a password of hers", "203.0.113.7"
ISSUER = "https://keys.example.com"


class CountingHasher(FastHasher):
    """Counts the checks of passwords."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.busy = False

    async def verify(self, encoded: str, secret: str) -> bool:
        if self.busy:
            raise HasherBusyError("too many")
        self.checked.append(encoded)
        if self.gate is not None:
            await self.gate.wait()
        return await super().verify(encoded, secret)


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def domain(store: Store, clock: list[float]) -> DomainService:
    return DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])


@pytest.fixture
def signing(store: Store, clock: list[float]) -> Signing:
    return Signing(store, DIGESTER, clock=lambda: clock[0], issuer=ISSUER)


@pytest.fixture
async def logins(
    store: Store, domain: DomainService, signing: Signing, hasher: CountingHasher
) -> AsyncIterator[LoginService]:
    await domain.add_user(ANN, EMAIL, tenant="default", role="editor", password=PASSWORD)
    await domain.add_tenant(ANN, "acme")
    await domain.add_user(ANN, EMAIL, tenant="acme", role="admin")
    await domain.add_tenant(ANN, "globex")
    logins = LoginService(store, DIGESTER, domain, signing, hasher)
    yield logins
    await logins.close()


async def log_in(
    logins: LoginService, email: str = EMAIL, password: str = PASSWORD, **fields: Any
) -> LoggedIn:
    return await logins.log_in(email, password, **({"address": HERE} | fields))


def by_secret(claims: Mapping[str, Any], kid: str, secret: str) -> str:
    """Return a token signed with HMAC, which libraries refuse to do with a public key."""
    header = {"alg": "HS256", "typ": "JWT", "kid": kid}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.digest(secret.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


async def reason_of(logins: LoginService, token: str | bytes) -> Reason | None:
    found = await logins.login_claims(token)
    return found if isinstance(found, Reason) else None


async def test_the_token_says_who_she_is_and_where(logins: LoginService, signing: Signing) -> None:
    login = await log_in(logins, "ANN@example.com")
    (key,) = await signing.list_keys()
    header = jwt.get_unverified_header(login.token)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": key.kid}
    claims = jwt.decode(
        login.token, key.public_pem, ["RS256"], {"verify_exp": False, "verify_iat": False},
        audience="gateway:login", issuer=ISSUER,
    )  # fmt: skip
    issued_at = NOW_MS // 1000
    assert claims == {
        "iss": ISSUER,
        "aud": "gateway:login",
        "sub": login.person.user.id,
        "email": EMAIL,
        "tenant": "default",
        "role": "editor",
        "permission": "editor",
        "iat": issued_at,
        "exp": issued_at + 3600,
        "jti": claims["jti"],
    }
    assert (login.expires_at, login.tenant_id) == ((issued_at + 3600) * 1000, "default")
    assert login.token not in repr(login)
    other = jwt.decode((await log_in(logins)).token, options={"verify_signature": False})
    assert other["jti"] != claims["jti"]


async def test_the_organisation_is_hers_to_choose_among_her_own(logins: LoginService) -> None:
    there = await log_in(logins, organisation="acme")
    principal, session = await logins.session_of(there.token)
    assert (principal.tenant_id, principal.permission) == ("acme", Permission.ADMIN)
    assert session.user_id == there.person.user.id
    for organisation in ("globex", "nowhere", ""):
        with pytest.raises(Forbidden):
            await log_in(logins, organisation=organisation)


async def test_every_failure_is_one_and_costs_one_check(
    logins: LoginService, domain: DomainService, hasher: CountingHasher
) -> None:
    await domain.add_user(ANN, "bob@example.com", tenant="default", role="viewer", password=PASSWORD)
    await domain.enable_user(ANN, "bob@example.com", enabled=False)
    failures = [
        (EMAIL, "a wrong password"),
        (EMAIL, "x" * 5000),
        (EMAIL, PASSWORD + "\0"),
        ("nobody@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("x" * 5000, PASSWORD),
        ("bob@example.com", PASSWORD),
        ("bob@example.com", "a wrong password"),
    ]
    texts = set()
    for count, (email, password) in enumerate(failures, 1):
        with pytest.raises(WrongLogin) as refused:
            await log_in(logins, email, password)
        texts.add(str(refused.value))
        assert len(hasher.checked) == count
    assert len(texts) == 1


async def test_a_made_up_hash_is_checked_as_long_as_a_real_one() -> None:
    """The work of argon2id is in the parameters that the string states; a malformed one costs nothing."""
    pool, seen = Argon2Pool(threads=1), []
    real = await pool.hash(PASSWORD)
    for _ in range(2):
        seen.append(made := nobodys_hash())
        assert [len(part) for part in made.split("$")] == [len(part) for part in real.split("$")]
        assert made.split("$")[:4] == real.split("$")[:4]
        assert not await pool.verify(made, PASSWORD)
    assert seen[0] != seen[1]
    pool.close()


async def test_guesses_are_limited_alike_for_who_exists_and_who_does_not(
    logins: LoginService, hasher: CountingHasher
) -> None:
    for email in (EMAIL, "nobody@example.com", "no address"):
        hasher.checked.clear()
        for _ in range(LIMITS.per_pair):
            with pytest.raises(WrongLogin):
                await log_in(logins, email, "a wrong password")
        with pytest.raises(Throttled):
            await log_in(logins, email, PASSWORD)
        assert len(hasher.checked) == LIMITS.per_pair
    assert await log_in(logins, address="203.0.113.8")


async def test_200_logins_at_once_of_one_user_all_succeed(logins: LoginService) -> None:
    done = await asyncio.gather(*(log_in(logins) for _ in range(200)))
    assert len({login.token for login in done}) == 200


async def test_of_200_wrong_logins_at_once_only_the_limit_is_checked(
    logins: LoginService, hasher: CountingHasher
) -> None:
    done = await asyncio.gather(
        *(log_in(logins, password="a wrong password") for _ in range(200)), return_exceptions=True
    )
    kinds = [type(outcome) for outcome in done]
    assert (kinds.count(WrongLogin), kinds.count(Throttled)) == (LIMITS.per_pair, 200 - LIMITS.per_pair)
    assert len(hasher.checked) == LIMITS.per_pair


async def test_a_caller_who_goes_away_takes_no_attempt_back(
    logins: LoginService, hasher: CountingHasher
) -> None:
    hasher.gate = asyncio.Event()
    for _ in range(LIMITS.per_pair):
        task = asyncio.ensure_future(log_in(logins, password="a wrong password"))
        checked = len(hasher.checked)
        while len(hasher.checked) == checked:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    hasher.gate.set()
    await logins.close()
    with pytest.raises(Throttled):
        await log_in(logins)


async def test_a_full_queue_is_busy_and_counts_for_nothing(
    logins: LoginService, hasher: CountingHasher
) -> None:
    hasher.busy = True
    for _ in range(LIMITS.per_pair + 1):
        with pytest.raises(Busy):
            await log_in(logins, password="a wrong password")
    hasher.busy = False
    assert await log_in(logins)


async def test_a_session_is_what_she_is_now(
    logins: LoginService, domain: DomainService, clock: list[float]
) -> None:
    token = (await log_in(logins)).token
    assert (await logins.session_of(token))[0].permission is Permission.EDITOR
    await domain.set_role(ANN, EMAIL, tenant="default", role="viewer")
    assert (await logins.session_of(token))[0].permission is Permission.VIEWER
    await domain.enable_user(ANN, EMAIL, enabled=False)
    with pytest.raises(Forbidden):
        await logins.session_of(token)
    await domain.enable_user(ANN, EMAIL, enabled=True)
    await domain.remove_user(ANN, EMAIL, tenant="default")
    with pytest.raises(Forbidden):
        await logins.session_of(token)
    await domain.remove_user(ANN, EMAIL)
    with pytest.raises(Forbidden):
        await logins.session_of(token)


async def test_a_token_lives_as_long_as_it_says(
    store: Store, logins: LoginService, domain: DomainService, clock: list[float]
) -> None:
    short = Signing(store, DIGESTER, clock=lambda: clock[0], issuer=ISSUER, token_ttl_ms=60_000)
    brief = LoginService(store, DIGESTER, domain, short, FastHasher())
    login = await log_in(brief)
    assert login.expires_at == (NOW_MS // 1000 + 60) * 1000
    clock[0] = login.expires_at / 1000 - 0.001
    assert await reason_of(brief, login.token) is None
    clock[0] = login.expires_at / 1000
    assert await reason_of(brief, login.token) is Reason.TOKEN_EXPIRED
    with pytest.raises(Unauthenticated):
        await brief.session_of(login.token)


async def test_logging_out_ends_this_login_for_good_everywhere(
    store: Store, logins: LoginService, domain: DomainService, signing: Signing
) -> None:
    token, other = (await log_in(logins)).token, (await log_in(logins)).token
    principal, session = await logins.session_of(token)
    replica = LoginService(store, DIGESTER, domain, signing, FastHasher())
    assert await reason_of(replica, token) is None
    for _ in range(2):
        await logins.log_out(session, principal.actor(HERE))
    for service in (logins, replica):
        assert await reason_of(service, token) is Reason.TOKEN_INVALID
        assert await reason_of(service, other) is None
    rows = [row for row in await audited(store) if row.action == "login.logout"]
    assert [(row.actor, row.entity, row.kind) for row in rows] == [(EMAIL, session.jti, "ended_token")]


async def test_tokens_of_another_kind_or_make_are_none(
    logins: LoginService, signing: Signing, domain: DomainService, store: Store
) -> None:
    good = (await log_in(logins)).token
    claims = jwt.decode(good, options={"verify_signature": False})
    key = await domain.create_key(ANN, tenant="default", name="k", permission="viewer", form="jwt")
    head, _, signature = good.split(".")
    (active,) = await signing.list_keys()
    refused = {
        "a key": key.token,
        "an assertion": await signing.sign({**claims, "aud": "gateway:assertion"}),
        "two audiences": await signing.sign({**claims, "aud": ["gateway:login", "gateway:key"]}),
        "no audience": await signing.sign({k: v for k, v in claims.items() if k != "aud"}),
        "another issuer": await signing.sign({**claims, "iss": "https://elsewhere.example.com"}),
        "no jti": await signing.sign({k: v for k, v in claims.items() if k != "jti"}),
        "no exp": await signing.sign({k: v for k, v in claims.items() if k != "exp"}),
        "another's signature": f"{key.token.rpartition('.')[0]}.{signature}",
        "none": jwt.encode(claims, "", "none", {"kid": active.kid}),
        "public key as secret": by_secret(claims, active.kid, active.public_pem),
        "no kid": jwt.encode(claims, signing.open_private(active), "RS256"),
        "padding": good + "=",
        "nothing": "",
        "words": "not.a.token",
        "not ASCII": "é.é.é",
        "one part": head,
    }
    for name, token in refused.items():
        assert await reason_of(logins, token) is Reason.TOKEN_INVALID, name
    assert isinstance(await logins.login_claims(good), Claims)


async def test_a_rotated_key_signs_and_counts_at_once_beside_the_old_one(
    store: Store, logins: LoginService, signing: Signing, domain: DomainService
) -> None:
    replica = LoginService(store, DIGESTER, domain, signing, FastHasher())
    before = (await log_in(logins)).token
    assert await reason_of(replica, before) is None
    await Signing(store, DIGESTER).rotate(ANN)
    after = (await log_in(logins)).token
    assert await reason_of(replica, after) is None
    kids = [jwt.get_unverified_header(token)["kid"] for token in (before, after)]
    assert kids == [key.kid for key in await signing.list_keys()]
    for token in (before, after):
        assert await reason_of(logins, token) is None


async def test_an_unknown_key_id_has_the_keys_read_only_now_and_then(
    store: Store, clock: list[float], logins: LoginService
) -> None:
    class Counted(Signing):
        reads = 0

        async def list_keys(self) -> Any:
            Counted.reads += 1
            return await super().list_keys()

    now = [0.0]
    counted = Counted(store, DIGESTER, clock=lambda: clock[0], issuer=ISSUER)
    tokens = LoginTokens(store, counted, monotonic=lambda: now[0])
    good = (await log_in(logins)).token.encode()
    assert isinstance(await tokens.claims(good), Claims)
    stranger = by_secret({"iss": ISSUER}, "somebody's", "secret").encode()
    for _ in range(50):
        assert await tokens.claims(stranger) is Reason.TOKEN_INVALID
        assert isinstance(await tokens.claims(good), Claims)
    assert Counted.reads == 1 + RELOADS.quota
    now[0] += RELOADS.window_s / RELOADS.quota
    for _ in range(50):
        assert await tokens.claims(stranger) is Reason.TOKEN_INVALID
    assert Counted.reads == 2 + RELOADS.quota


async def test_logins_and_failures_are_audited_without_what_was_typed(
    logins: LoginService, store: Store
) -> None:
    login = await log_in(logins, request_id="r1")
    for _ in range(3):
        with pytest.raises(WrongLogin):
            await log_in(logins, password="canary-password", request_id="r2")
    with pytest.raises(WrongLogin):
        await log_in(logins, "canary-name", "canary-password")
    rows = [row for row in await audited(store) if row.action.startswith("login.")]
    told = sorted((row.action, row.actor, row.entity, row.source, row.tenant_id) for row in rows)
    user_id = login.person.user.id
    assert told == sorted(
        [
            ("login.success", EMAIL, user_id, HERE, "default"),
            ("login.failure", "stranger", user_id, HERE, None),
            ("login.failure", "stranger", "stranger", HERE, None),
        ]
    )
    assert "canary" not in str([msgspec.structs.asdict(row) for row in rows])


async def test_nothing_that_was_typed_or_signed_is_logged_or_told(
    logins: LoginService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    token = (await log_in(logins)).token
    work: list[Awaitable[Any]] = [
        log_in(logins, password="canary-password"),
        log_in(logins, "canary-name", "canary-password"),
        log_in(logins, organisation="nowhere"),
        logins.session_of(token + "canary"),
    ]
    for refused in work:
        with pytest.raises(Exception) as error:
            await refused
        said.append(f"{error.value!r} {error.value}")
    text = f"{caplog.text} {said}"
    assert "canary" not in text
    assert PASSWORD not in text
    assert token.rpartition(".")[2] not in text


async def test_the_csrf_token_is_of_the_login_and_of_the_pepper(
    logins: LoginService, store: Store, domain: DomainService, signing: Signing
) -> None:
    assert logins.csrf_token("one") == logins.csrf_token("one") != logins.csrf_token("two")
    assert len(logins.csrf_token("one")) == 64
    replica = LoginService(store, DIGESTER, domain, signing, FastHasher())
    assert replica.csrf_token("one") == logins.csrf_token("one")
