"""Keys that are signed JWTs: what they say, and that their digest alone tells whether they live."""

from __future__ import annotations

import jwt
import pytest

from gateway.control.domain import DomainService
from gateway.control.errors import Busy, Unauthenticated
from gateway.control.passwords import Argon2Pool, HasherBusyError
from gateway.control.service import KeyService
from gateway.control.signing import Signing
from gateway.core.envelope import KEY_AUDIENCE, TOKEN_MAX
from gateway.store.base import Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher

ISSUER = "https://keys.example.com"


@pytest.fixture
def signing(store: Store, clock: list[float]) -> Signing:
    return Signing(store, DIGESTER, clock=lambda: clock[0], issuer=ISSUER)


@pytest.fixture
def domain(store: Store, clock: list[float], signing: Signing) -> DomainService:
    return DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0], signing=signing)


async def test_the_token_says_whose_key_it_is_and_until_when(domain: DomainService, signing: Signing) -> None:
    made = await domain.create_key(ANN, tenant="default", name="k", permission="viewer", ttl="1d", form="jwt")
    (key,) = await signing.list_keys()
    assert jwt.get_unverified_header(made.token) == {"alg": "RS256", "typ": "JWT", "kid": key.kid}
    claims = jwt.decode(
        made.token, key.public_pem, ["RS256"], {"verify_exp": False, "verify_iat": False},
        audience=KEY_AUDIENCE,
    )  # fmt: skip
    assert claims == {
        "iss": ISSUER,
        "aud": KEY_AUDIENCE,
        "sub": made.record.subject_id,
        "subType": "apiKey",
        "tenantId": "default",
        "jti": made.record.id,
        "iat": NOW_MS // 1000,
        "exp": NOW_MS // 1000 + 86_400,
    }


async def test_the_record_finds_it_by_its_id_and_tells_it_by_its_end(domain: DomainService) -> None:
    first, second = [
        await domain.create_key(ANN, tenant="default", name="k", permission="viewer", form="jwt")
        for _ in range(2)
    ]
    assert (first.record.locator, first.record.is_jwt) == (first.record.id, True)
    assert (first.record.prefix, first.record.last_four) == (first.token[:4], first.token[-4:])
    assert first.record.digest == DIGESTER.digest(first.token.encode())
    assert first.record.digest != second.record.digest
    opaque = await domain.create_key(ANN, tenant="default", name="k", permission="viewer")
    assert not opaque.record.is_jwt


async def test_it_lives_by_its_digest_whatever_becomes_of_the_signing_keys(
    domain: DomainService, signing: Signing, clock: list[float]
) -> None:
    made = await domain.create_key(ANN, tenant="default", name="k", permission="viewer", form="jwt")
    await signing.rotate(ANN)
    clock[0] += 2 * signing.token_ttl_ms / 1000
    assert (await domain.principal_of_key(made.token.encode())).key_id == made.record.id
    claims = jwt.decode(made.token, options={"verify_signature": False})
    again = await signing.sign(claims)
    with pytest.raises(Unauthenticated):
        await domain.principal_of_key(again.encode())
    await domain.revoke_key(ANN, made.record.id)
    with pytest.raises(Unauthenticated):
        await domain.principal_of_key(made.token.encode())


async def test_a_successor_has_the_form_of_the_key_before(domain: DomainService) -> None:
    made = await domain.create_key(ANN, tenant="default", name="k", permission="viewer", form="jwt")
    rotated = (await domain.rotate_key(ANN, made.record.id)).successor
    claims = jwt.decode(rotated.token, options={"verify_signature": False})
    assert (claims["jti"], claims["sub"]) == (rotated.record.id, made.record.subject_id)
    assert (rotated.record.locator, rotated.record.is_jwt) == (rotated.record.id, True)
    assert claims["exp"] == rotated.record.expires_at // 1000


async def test_the_longest_issuer_and_tenant_still_make_a_key(store: Store) -> None:
    pool, longest = Argon2Pool(threads=1), "t" * 64
    signing = Signing(store, DIGESTER, issuer=f"https://{'h' * 253}:65535")
    service = KeyService(store, DIGESTER, pool, ROLES, signing=signing)
    await service.add_tenant(ANN, longest)
    made = await service.create_key(ANN, tenant=longest, name="k", permission="viewer", form="jwt")
    assert 1024 < len(made.token) < TOKEN_MAX
    assert await pool.verify(made.record.verifier, made.token)
    pool.close()


async def test_too_many_at_once_is_busy_and_leaves_no_key(store: Store) -> None:
    class Full(FastHasher):
        async def hash(self, secret: str) -> str:
            raise HasherBusyError("too many")

    service = KeyService(store, DIGESTER, Full(), ROLES)
    with pytest.raises(Busy):
        await service.create_key(ANN, tenant="default", name="k", permission="viewer", form="jwt")
    assert await store.keys() == []
