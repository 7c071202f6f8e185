"""Signing keys: sealed in the store, one for all replicas, honoured after rotation until tokens end."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.control.errors import Conflict
from gateway.control.signing import TOKEN_TTL_MS, Signing, jwk, signing_key_view
from gateway.core.tokens import Digester
from gateway.store.base import SigningKey, Store
from tests.control.samples import ANN, DIGESTER
from tests.store.samples import audited

OTHER = Digester([b"another pepper for the tests of signing"])


@pytest.fixture
def signing(store: Store, clock: list[float]) -> Signing:
    return Signing(store, DIGESTER, clock=lambda: clock[0])


def verifies(key: SigningKey, signature: bytes, text: bytes) -> None:
    public = serialization.load_pem_public_key(key.public_pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())


async def test_the_private_half_lies_sealed_and_opens_to_the_right_one(
    signing: Signing, store: Store, tmp_path: Path
) -> None:
    key = await signing.ensure(ANN)
    private = signing.open_private(key)
    assert private.key_size == 2048
    verifies(key, private.sign(b"text", padding.PKCS1v15(), hashes.SHA256()), b"text")
    prime = private.private_numbers().p.to_bytes(128, "big")
    await store.close()
    assert all(prime not in file.read_bytes() for file in tmp_path.iterdir())
    assert "sealed" not in f"{key!r} {signing_key_view(key, 'active')}"


async def test_of_many_that_make_the_first_key_one_wins_for_all(signing: Signing, store: Store) -> None:
    keys = await asyncio.gather(*(signing.ensure(ANN) for _ in range(3)))
    assert len({key.kid for key in keys}) == 1
    assert await signing.list_keys() == [keys[0]]
    assert await signing.ensure(ANN) == keys[0]
    assert [row.action for row in await audited(store)].count("signing_key.create") == 1


async def test_a_retired_key_is_honoured_until_its_last_token_ends(
    signing: Signing, store: Store, clock: list[float]
) -> None:
    first = await signing.ensure(ANN)
    clock[0] += 60
    second = await signing.rotate(ANN)
    retired, active = await signing.list_keys()
    assert (retired.kid, active) == (first.kid, second)
    assert (signing.status(retired), signing.status(active)) == ("retiring", "active")
    assert (await signing.ensure(ANN)).kid == second.kid
    clock[0] += TOKEN_TTL_MS / 1000 - 0.001
    assert signing.status(retired) == "retiring"
    clock[0] += 0.001
    assert signing.status(retired) == "ended"
    assert "signing_key.rotate" in {row.action for row in await audited(store)}


async def test_what_is_signed_is_signed_by_the_key_that_is_active_now(
    signing: Signing, store: Store, clock: list[float]
) -> None:
    await signing.start()
    first = await signing.sign({"aud": "x", "jti": "1"})
    clock[0] += 1
    await Signing(store, DIGESTER, clock=lambda: clock[0]).rotate(ANN)
    second = await signing.sign({"aud": "x", "jti": "2"})
    for key, token, jti in zip(await signing.list_keys(), (first, second), "12", strict=True):
        assert jwt.get_unverified_header(token)["kid"] == key.kid
        claims = jwt.decode(token, key.public_pem, ["RS256"], audience="x")
        assert claims == {"iss": "gateway", "aud": "x", "jti": jti}


async def test_the_private_half_is_opened_once(
    signing: Signing, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    opened: list[str] = []
    real = Signing.open_private

    def counted(self: Signing, key: SigningKey) -> rsa.RSAPrivateKey:
        opened.append(key.kid)
        return real(self, key)

    monkeypatch.setattr(Signing, "open_private", counted)
    await signing.start()
    for _ in range(3):
        await signing.sign({})
    clock[0] += 1
    await signing.rotate(ANN)
    for _ in range(3):
        await signing.sign({})
    assert opened == [key.kid for key in await signing.list_keys()]


async def test_a_key_of_another_pepper_is_told_at_start(signing: Signing, store: Store) -> None:
    await signing.start()
    with pytest.raises(Conflict, match="signing-keys rotate"):
        await Signing(store, OTHER).start()


async def test_how_long_a_retired_key_is_honoured_follows_the_tokens(
    store: Store, clock: list[float]
) -> None:
    signing = Signing(store, DIGESTER, clock=lambda: clock[0], token_ttl_ms=5000)
    await signing.start()
    await signing.rotate(ANN)
    clock[0] += 4.999
    assert {signing.status(key) for key in await signing.list_keys()} == {"retiring", "active"}
    clock[0] += 0.001
    assert {signing.status(key) for key in await signing.list_keys()} == {"ended", "active"}


async def test_another_pepper_or_another_keys_id_opens_nothing(signing: Signing, store: Store) -> None:
    key = await signing.ensure(ANN)
    with pytest.raises(Conflict, match="another pepper"):
        Signing(store, OTHER).open_private(key)
    with pytest.raises(Conflict):
        signing.open_private(msgspec.structs.replace(key, kid="sig_other"))
    for place in (0, 20, -1):
        damaged = bytearray(key.sealed)
        damaged[place] ^= 1
        with pytest.raises(Conflict):
            signing.open_private(msgspec.structs.replace(key, sealed=bytes(damaged)))


async def test_the_public_half_is_a_json_web_key(signing: Signing) -> None:
    key = await signing.ensure(ANN)
    shown = jwk(key)
    assert {name: shown[name] for name in ("kty", "use", "alg", "kid", "e")} == {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key.kid,
        "e": "AQAB",
    }
    n = int.from_bytes(base64.urlsafe_b64decode(shown["n"] + "=="), "big")
    assert n == signing.open_private(key).public_key().public_numbers().n
    assert "=" not in shown["n"]


def test_keys_of_a_pepper_differ_by_use_and_are_no_digest() -> None:
    assert DIGESTER.derived_key(b"one") != DIGESTER.derived_key(b"two")
    assert DIGESTER.derived_key(b"one") != OTHER.derived_key(b"one")
    assert DIGESTER.derived_key(b"one") != DIGESTER.digest(b"one")
    assert len(DIGESTER.derived_key(b"one")) == 32
