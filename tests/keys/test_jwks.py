"""Of what an issuer publishes only what is safe and of use becomes a key; the rest is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.issuers import ALGORITHMS as CONFIGURABLE
from gateway.core.jws import ALGORITHMS
from gateway.keys.jwks import MAXIMUM_KEYS, Jwks, JwksError, read_jwks
from tests.keys.idp import Signer, number

RS = Signer("r")
ES = Signer("e", "ES256")


def read(*entries: Any, algorithms: tuple[str, ...] = ("RS256",)) -> Jwks:
    return read_jwks(json.dumps({"keys": entries}).encode(), algorithms)


def test_what_may_be_configured_is_what_is_checked() -> None:
    assert set(CONFIGURABLE) == ALGORITHMS


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_key_of_every_kind_is_read(algorithm: str) -> None:
    signer = Signer("k", algorithm)
    assert read(signer.jwk(), algorithms=(algorithm,)).keys == {"k": signer.key.public_key()}


@pytest.mark.parametrize("without", ["alg", "use"])
def test_what_an_entry_may_leave_out_it_may_leave_out(without: str) -> None:
    assert set(read(RS.jwk(**{without: None})).keys) == {"r"}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (RS.jwk(use="enc"), "not for signatures"),
        (RS.jwk(use=["sig"]), "not for signatures"),
        (RS.jwk(key_ops=["sign"]), "not for signatures"),
        (RS.jwk(key_ops="verify"), "not for signatures"),
        (RS.jwk(kid=None), "has no `kid`"),
        (RS.jwk(kid=7), "has no `kid`"),
        (RS.jwk(kid=""), "has no `kid`"),
        (RS.jwk(kid="a\nb"), "has no `kid`"),
        (RS.jwk(alg="PS256"), "not configured"),
        (RS.jwk(alg="RS512"), "not configured"),
        (RS.jwk(alg="none"), "not configured"),
        (RS.jwk(alg={"RS256": 1}), "not configured"),
        (ES.jwk(), "not configured"),
        (ES.jwk(alg=None), "type, curve or size"),
        (ES.jwk(alg="RS256"), "type, curve or size"),
        (Signer("s", bits=1024).jwk(), "type, curve or size"),
        (RS.jwk(n=None), "malformed"),
        (RS.jwk(n=5), "malformed"),
        (RS.jwk(n="a+b/"), "malformed"),
        (RS.jwk(n="", e=""), "malformed"),
        (RS.jwk(e=number(2)), "malformed"),
        (RS.jwk(d=number(5)), "private half"),
        (RS.jwk(kty="rsa"), "not known"),
        (RS.jwk(kty=["RSA"]), "not known"),
        (ES.jwk(alg=None, crv="secp256k1"), "not known"),
        (ES.jwk(alg=None, crv=["P-256"]), "not known"),
        (ES.jwk(alg=None, x=number(1)), "malformed"),
        ({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA"}, "not known"),
        ({"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "AA"}, "malformed"),
        ({"kty": "oct", "k": "AAAA", "kid": "h", "alg": "HS256"}, "symmetric"),
        ({"kty": "oct", "k": "AAAA", "kid": "h", "alg": "RS256"}, "symmetric"),
        ({}, "has no `kid`"),
        ("RSA", "is no object"),
        (None, "is no object"),
    ],
)  # fmt: skip
def test_entry_of_no_use_is_passed_over_and_named(entry: Any, why: str) -> None:
    good = Signer("good")
    found = read(entry, good.jwk())
    assert found.keys == {"good": good.key.public_key()}
    assert len(found.passed_over) == 1
    assert why in found.passed_over[0]


def test_name_that_two_keys_share_is_nobody_s() -> None:
    other = Signer("r", fresh=True)
    found = read(RS.jwk(), other.jwk(), Signer("alone").jwk())
    assert set(found.keys) == {"alone"}
    assert found.passed_over == ("`r` stands for several keys",)


def test_name_may_be_shared_with_an_entry_of_no_use() -> None:
    """RFC 7517 §4.5: keys of different kind may share one, and encryption keys do."""
    assert set(read(RS.jwk(), RS.jwk(use="enc")).keys) == {"r"}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"keys": {}}', b'{"keys": null}', b"<html>", b"\xff\xfe",
        b'{"keys": [], "keys": []}', b'{"keys": [{"kid": "a", "kid": "b"}]}',
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps({"keys": [{}] * (MAXIMUM_KEYS + 1)}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_key_set_is_refused_whole(content: bytes) -> None:
    with pytest.raises(JwksError) as caught:
        read_jwks(content, ("RS256",))
    assert str(caught.value).isprintable()


def test_empty_set_is_a_set() -> None:
    assert read() == Jwks({})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(["RSA", "EC", "OKP", "sig", "RS256", "P-256", "AQAB", "k", *RS.jwk().values()]),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
MEMBERS = st.sampled_from(["kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "key_ops"])


@given(st.lists(VALUES | st.dictionaries(MEMBERS, VALUES, max_size=6), max_size=4))
def test_whatever_is_published_is_read_or_passed_over(entries: list[Any]) -> None:
    found = read(*entries)
    assert len(found.keys) <= len(entries)
    assert all(phrase.isprintable() for phrase in found.passed_over)
