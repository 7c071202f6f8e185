"""Signed tokens are read strictly, and only what an issuer signed in its own way proves anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.envelope import TrustedIssuer, read_unverified
from gateway.core.jws import LEEWAY_S, Claims, own_issuer, signature_holds, suits, verify
from gateway.core.refusals import Reason
from tests.core.tokens import (
    KID,
    NOW_S,
    TTL_MS,
    claims,
    ours,
    part,
    private_key,
    public_pem,
    signed,
    signed_text,
)

ISSUER = "https://idp.example.com/"


def judged(token: bytes, now_s: float = NOW_S, **retired: int) -> Claims | Reason:
    issuer = ours(**retired)
    return verify(token, {issuer.issuer: issuer}, now_s)


def hs256(secret: bytes, **header: Any) -> bytes:
    """Return a token whose MAC is made with a public text as the secret (CVE-2022-29217)."""
    members = json.dumps({"alg": "HS256", "typ": "JWT", "kid": KID} | header)
    message = part(members.encode()) + b"." + part(json.dumps(claims()).encode())
    return message + b"." + part(hmac.new(secret, message, hashlib.sha256).digest())


def unsigned(algorithm: str, signature: bytes = b"") -> bytes:
    header = json.dumps({"alg": algorithm, "typ": "JWT", "kid": KID})
    return b".".join((part(header.encode()), part(json.dumps(claims()).encode()), signature))


def own_jwk() -> dict[str, str]:
    numbers = private_key("rsa2").public_key().public_numbers()
    n = part(numbers.n.to_bytes(256, "big")).decode()
    return {"kty": "RSA", "kid": KID, "n": n, "e": "AQAB"}


def non_canonical() -> bytes:
    """Return a good token whose last character is another way to write the same bytes."""
    token = signed()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1:])
    other = token[:-1] + alphabet[last ^ 1 : (last ^ 1) + 1]
    decoded = [base64.urlsafe_b64decode(t.rpartition(b".")[2] + b"==") for t in (token, other)]
    assert decoded[0] == decoded[1]
    return other


def test_a_login_token_of_ours_says_who_bears_it() -> None:
    assert judged(signed()) == Claims(
        issuer="gateway",
        kid=KID,
        subject="subject_ann",
        user_id="subject_ann",
        tenant_id="default",
        role="editor",
        token_id="tok_1",
        issued_at=NOW_S * 1000,
        expires_at=(NOW_S + 3600) * 1000,
        email="ann@example.com",
    )


GOOD_HEADER = json.dumps({"alg": "RS256", "typ": "JWT", "kid": KID})
GOOD_CLAIMS = json.dumps(claims())
DEEP = "[" * 2000 + "]" * 2000

FORGED = {
    "public key as HMAC secret": lambda: hs256(public_pem("rsa").encode()),
    "public key as HMAC secret, RS256 said": lambda: hs256(public_pem("rsa").encode(), alg="RS256"),
    "none": lambda: unsigned("none"),
    "none with a signature": lambda: unsigned("none", b"AAAA"),
    "None": lambda: unsigned("None", b"AAAA"),
    "no signature": lambda: unsigned("RS256"),
    "a stranger's key": lambda: signed(key=private_key("rsa2")),
    "a key brought along": lambda: signed(key=private_key("rsa2"), jwk=own_jwk()),
    "another RSA scheme": lambda: signed(algorithm="PS256"),
    "another digest": lambda: signed(algorithm="RS512"),
    "an elliptic curve": lambda: signed(algorithm="ES256", key=private_key("p256")),
    "alg no text": lambda: signed(alg=["RS256"]),
    "alg missing": lambda: signed(alg=...),
    "alg in lower case": lambda: signed(alg="rs256"),
}
HEADERS = {
    "kid missing": lambda: signed(kid=...),
    "kid empty": lambda: signed(kid=""),
    "kid unknown": lambda: signed(kid="sig_2"),
    "kid a path": lambda: signed(kid="../../dev/null"),
    "kid SQL": lambda: signed(kid="' OR '1'='1"),
    "kid a number": lambda: signed(kid=1),
    "kid an object": lambda: signed(kid={"a": 1}),
    "kid control character": lambda: signed(kid=KID + "\n"),
    "crit": lambda: signed(crit=["exp"]),
    "crit empty": lambda: signed(crit=[]),
    "b64 critical": lambda: signed(crit=["b64"], b64=False),
    "jwk": lambda: signed(jwk=own_jwk()),
    "jku": lambda: signed(jku="http://127.0.0.1:9/jwks"),
    "x5u": lambda: signed(x5u="http://127.0.0.1:9/x5u"),
    "x5c": lambda: signed(x5c=["AAAA"]),
    "typ of another kind": lambda: signed(typ="secevent+jwt"),
    "typ a number": lambda: signed(typ=1),
}
FORMS = {
    "padding at the end": lambda: signed() + b"=",
    "padding in the middle": lambda: signed().replace(b".", b"=.", 1),
    "a fourth part": lambda: signed() + b".AAAA",
    "five parts": lambda: signed() + b".AAAA.AAAA",
    "two parts": lambda: signed().rpartition(b".")[0],
    "an empty part": lambda: b".".join((part(GOOD_HEADER.encode()), b"", b"AAAA")),
    "plus and slash": lambda: signed()[:-2] + b"+/",
    "another way to write it": non_canonical,
    "impossible length": lambda: signed()[:-1],
    "trailing line feed": lambda: signed() + b"\n",
    "header no JSON": lambda: signed_text("{", GOOD_CLAIMS),
    "header an array": lambda: signed_text("[]", GOOD_CLAIMS),
    "claims an array": lambda: signed_text(GOOD_HEADER, "[1]"),
    "claims a text": lambda: signed_text(GOOD_HEADER, '"exp"'),
    "claims null": lambda: signed_text(GOOD_HEADER, "null"),
    "claims followed by more": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS + "{}"),
    "not UTF-8": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS).replace(b".", b".__8", 1),
    "a byte order mark": lambda: signed_text(GOOD_HEADER, "\ufeff" + GOOD_CLAIMS),
    "alg twice": lambda: signed_text(GOOD_HEADER[:-1] + ', "alg": "RS256"}', GOOD_CLAIMS),
    "sub twice": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "sub": "subject_ann"}'),
    "sub twice, once escaped": lambda: signed_text(
        GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "s\\u0075b": "subject_bob"}'
    ),
    "a member twice, deep down": lambda: signed_text(
        GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "x": [{"a": 1, "a": 2}]}'
    ),
    "nested without end": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + f', "x": {DEEP}}}'),
    "infinite": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "x": 1e999}'),
    "Infinity": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "x": Infinity}'),
    "NaN": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + ', "x": NaN}'),
    "a number of 5,000 digits": lambda: signed_text(GOOD_HEADER, GOOD_CLAIMS[:-1] + f', "x": {"9" * 5000}}}'),
    "too long": lambda: signed(claims(x="a" * 8192)),
}
CLAIMS = {
    "iss another": lambda: signed(claims(iss="https://evil.example.com")),
    "iss missing": lambda: signed(claims(iss=...)),
    "iss a list": lambda: signed(claims(iss=["gateway"])),
    "aud of a JWT key": lambda: signed(claims(aud="gateway:key")),
    "aud of an assertion": lambda: signed(claims(aud="gateway:assertion")),
    "aud missing": lambda: signed(claims(aud=...)),
    "aud an empty list": lambda: signed(claims(aud=[])),
    "aud several": lambda: signed(claims(aud=["gateway:login", "gateway:assertion"])),
    "aud with another type": lambda: signed(claims(aud=["gateway:login", 1])),
    "aud an object": lambda: signed(claims(aud={"gateway:login": 1})),
    **{
        f"{name} {word}": lambda name=name, value=value: signed(claims(**{name: value}))
        for name in ("exp", "iat", "nbf")
        for word, value in {
            "true": True,
            "text": str(NOW_S),
            "null": None,
            "negative": -1,
            "after the year 9999": 1e15,
            "a list": [NOW_S],
        }.items()
    },
    "exp missing": lambda: signed(claims(exp=...)),
    "iat missing": lambda: signed(claims(iat=...)),
    "iat in the future": lambda: signed(claims(iat=NOW_S + LEEWAY_S + 1)),
    "nbf in the future": lambda: signed(claims(nbf=NOW_S + LEEWAY_S + 1)),
    **{
        f"{name} {word}": lambda name=name, value=value: signed(claims(**{name: value}))
        for name in ("sub", "jti", "tenant", "role")
        for word, value in {
            "missing": ...,
            "empty": "",
            "a number": 1,
            "null": None,
            "a list": ["x"],
            "too long": "x" * 256,
            "control character": "a\r\nX-Gateway-Role: editor",
            "a lone surrogate": "\ud800",
        }.items()
    },
}


@pytest.mark.parametrize("name", [*FORGED, *HEADERS, *FORMS, *CLAIMS])
def test_what_is_not_wholly_right_is_refused(name: str) -> None:
    token = (FORGED | HEADERS | FORMS | CLAIMS)[name]()
    assert judged(token) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("text", ["1e999", "-Infinity", "NaN"])
def test_an_end_that_never_comes_is_none(text: str) -> None:
    payload = GOOD_CLAIMS.replace(f'"exp": {NOW_S + 3600}', f'"exp": {text}')
    assert payload != GOOD_CLAIMS
    assert judged(signed_text(GOOD_HEADER, payload)) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("changes", "now_s", "expected"),
    [
        ({}, NOW_S + 3599.999, None),
        ({}, NOW_S + 3600, Reason.TOKEN_EXPIRED),
        ({"exp": NOW_S + 0.5}, NOW_S + 0.4, None),
        ({"exp": NOW_S + 0.5}, NOW_S + 0.5, Reason.TOKEN_EXPIRED),
        ({"exp": 0}, NOW_S, Reason.TOKEN_EXPIRED),
        ({"nbf": NOW_S + LEEWAY_S}, NOW_S, None),
        ({"iat": NOW_S + LEEWAY_S}, NOW_S, None),
        ({"iat": NOW_S + LEEWAY_S + 1}, NOW_S + 1, None),
    ],
)
def test_times_hold_to_the_instant(changes: dict[str, float], now_s: float, expected: Reason | None) -> None:
    found = judged(signed(claims(**changes)), now_s)
    assert (found if isinstance(found, Reason) else None) is expected


def test_a_retired_key_is_honoured_until_its_tokens_end() -> None:
    token = signed(claims(exp=NOW_S + 86400))
    retired_at = (NOW_S + 60) * 1000
    found = judged(token, NOW_S + 61, sig_1=retired_at)
    assert isinstance(found, Claims)
    assert found.expires_at == retired_at + TTL_MS
    assert judged(token, NOW_S + 3660, sig_1=retired_at) is Reason.TOKEN_EXPIRED


def test_a_key_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="PEM"):
        own_issuer("gateway", [(KID, "nonsense", None)], TTL_MS)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", ...])
def test_the_usual_types_are_taken(typ: object) -> None:
    assert isinstance(judged(signed(typ=typ)), Claims)


def external(**changes: Any) -> TrustedIssuer:
    values: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": "https://api.example.com",
        "algorithms": frozenset(("RS256", "ES256", "EdDSA")),
        "keys": {
            "rsa": private_key("rsa").public_key(),
            "ec": private_key("p256").public_key(),
            "ed": private_key("ed").public_key(),
            "p384": private_key("p384").public_key(),
            "short": private_key("short").public_key(),
        },
        "tenant_claim": "org",
        "role_claim": "groups",
        "roles": {"admins": "editor", "media": "MediaEditor", "all": "viewer"},
    }
    return TrustedIssuer(**(values | changes))


def external_claims(**changes: Any) -> dict[str, Any]:
    return claims(
        **({"iss": ISSUER, "aud": "https://api.example.com", "org": "acme", "groups": "all"} | changes)
    )


def judged_external(
    content: dict[str, Any], kid: str = "rsa", key: str = "rsa", algorithm: str = "RS256"
) -> Any:
    token = signed(content, key=private_key(key), algorithm=algorithm, kid=kid)
    own = ours()
    return verify(token, {ISSUER: external(), own.issuer: own}, NOW_S)


@pytest.mark.parametrize(
    ("kid", "key", "algorithm"), [("rsa", "rsa", "RS256"), ("ec", "p256", "ES256"), ("ed", "ed", "EdDSA")]
)
def test_an_external_issuers_token_is_taken_under_a_name_that_is_no_users(
    kid: str, key: str, algorithm: str
) -> None:
    found = judged_external(external_claims(), kid, key, algorithm)
    assert found.subject == f"{ISSUER}|subject_ann"
    assert found.user_id is None
    assert (found.tenant_id, found.role, found.token_id) == ("acme", "viewer", "tok_1")


@pytest.mark.parametrize(
    ("kid", "key", "algorithm"),
    [
        ("ec", "rsa", "RS256"),
        ("rsa", "p256", "ES256"),
        ("ed", "p256", "ES256"),
        ("rsa", "rsa", "RS512"),
        ("short", "short", "RS256"),
        ("p384", "p256", "ES256"),
        (KID, "rsa", "RS256"),
    ],
)
def test_an_algorithm_works_with_its_own_kind_of_key_alone(kid: str, key: str, algorithm: str) -> None:
    assert judged_external(external_claims(), kid, key, algorithm) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("claimed", "role"),
    [
        ("all", "viewer"),
        (["all", "media"], "MediaEditor"),
        (["all", "nothing"], "viewer"),
        ("nothing", ""),
        (["nothing", 1, {"all": 1}, ["all"]], ""),
        ({"all": 1}, ""),
        (None, ""),
        (True, ""),
    ],
)
def test_the_first_mapped_role_counts_and_no_other(claimed: object, role: str) -> None:
    assert judged_external(external_claims(groups=claimed)).role == role


@pytest.mark.parametrize(
    ("changes", "tenant"),
    [({}, "acme"), ({"org": ...}, ""), ({"org": ""}, ""), ({"org": "default"}, "default")],
)
def test_the_tenant_is_what_its_claim_says(changes: dict[str, Any], tenant: str) -> None:
    assert judged_external(external_claims(**changes)).tenant_id == tenant


@pytest.mark.parametrize(
    "changes",
    [
        {"org": 1},
        {"org": ["acme"]},
        {"org": "a\n"},
        {"sub": ...},
        {"jti": 1},
        {"aud": "other"},
        {"aud": "https://api.example.com/"},
        {"aud": ["a", "b"]},
        {"iss": ISSUER.rstrip("/")},
        {"exp": ...},
        {"iat": ...},
    ],
)
def test_an_external_token_that_is_not_right_is_refused(changes: dict[str, Any]) -> None:
    assert judged_external(external_claims(**changes)) is Reason.TOKEN_INVALID


def test_one_audience_among_several_will_do_for_an_external_issuer() -> None:
    assert isinstance(judged_external(external_claims(aud=["a", "https://api.example.com"])), Claims)


def test_an_external_key_cannot_speak_for_us() -> None:
    token = signed(key=private_key("p256"), algorithm="ES256", kid="ec")
    own = ours()
    assert verify(token, {ISSUER: external(), own.issuer: own}, NOW_S) is Reason.TOKEN_INVALID


def test_no_algorithm_that_shares_a_secret_suits_any_key() -> None:
    for name in ("HS256", "HS512", "none", "None", "", "ES256K", "RS1"):
        assert not suits(name, public_pem("rsa").encode())
        assert not suits(name, private_key("rsa").public_key())
    assert suits("ES384", private_key("p384").public_key())
    assert not suits("ES256", private_key("p384").public_key())


@given(position=st.integers(min_value=0), replacement=st.integers(min_value=0, max_value=255))
@settings(max_examples=200)
def test_no_changed_byte_goes_unnoticed(position: int, replacement: int) -> None:
    token = bytearray(signed())
    position %= len(token)
    if token[position] == replacement:
        return
    token[position] = replacement
    assert judged(bytes(token)) is Reason.TOKEN_INVALID


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    ["alg", "kid", "typ", "crit", "iss", "aud", "sub", "exp", "iat", "nbf", "jti", "tenant", "role"]
)


@given(
    header=st.dictionaries(_MEMBERS, _JSON, max_size=3), payload=st.dictionaries(_MEMBERS, _JSON, max_size=4)
)
def test_whatever_a_token_says_the_answer_is_a_value(header: dict[str, Any], payload: dict[str, Any]) -> None:
    text = json.dumps({"alg": "RS256", "kid": KID} | header)
    found = judged(signed_text(text, json.dumps(claims() | payload)))
    assert isinstance(found, Claims | Reason)
    if isinstance(found, Claims):
        assert math.isfinite(found.expires_at)
        assert found.subject.isprintable()


@given(token=st.binary(max_size=100) | st.from_regex(rb"[A-Za-z0-9_=-]{0,30}(\.[A-Za-z0-9_=-]{0,30}){0,4}"))
def test_garbage_is_no_envelope(token: bytes) -> None:
    assert read_unverified(token) is None


def test_what_is_shown_of_a_token_is_not_the_token() -> None:
    token = signed()
    envelope = read_unverified(token)
    assert envelope is not None
    assert signature_holds(envelope, ours())
    for piece in token.decode().split("."):
        assert piece not in repr(envelope)
    assert "subject_ann" not in repr(envelope)
