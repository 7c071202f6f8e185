"""Forged, crossed and outlived JWTs at both listeners (pitfall 84): each is 401, in either field.

The forger is given the most: real tokens, the public key, and for crossed kinds even the gateway's
own signature.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.control.signing import Signing
from gateway.keys.opening import opened_store
from tests.dialects.client import call, claims_of, header_of
from tests.dialects.harness import World
from tests.wire.backend import eventually

Content = bytes | str | dict[str, Any]


def b64(data: Content) -> str:
    text = json.dumps(data) if isinstance(data, dict) else data
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Forger:
    """A real login token, and the gateway's own key to sign what it never signed."""

    real: str
    private: rsa.RSAPrivateKey
    stranger: rsa.RSAPrivateKey

    @property
    def claims(self) -> dict[str, Any]:
        return claims_of(self.real)

    @property
    def header(self) -> dict[str, Any]:
        return header_of(self.real)

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def signed(self, claims: Content | None = None, header: Content | None = None) -> str:
        """Return a token under the gateway's own key, with parts as they are given."""
        parts = f"{b64(header or self.header)}.{b64(claims or self.claims)}"
        return f"{parts}.{b64(_rs256(self.private, parts))}"

    def changed(self, **claims: Any) -> str:
        merged = self.claims | claims
        return self.signed({name: value for name, value in merged.items() if value is not ...})

    def headed(self, **header: Any) -> str:
        merged = self.header | header
        return self.signed(header={name: value for name, value in merged.items() if value is not ...})


def _rs256(private: rsa.RSAPrivateKey, text: str) -> bytes:
    return jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(text.encode(), private)


@pytest.fixture(scope="module")
def forger(world: World) -> Forger:
    person = world.person("editor")
    real = world.log_in(person)
    opened = asyncio.run(_private_key(world, header_of(real)["kid"]))
    made = Forger(real, opened, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    passes(world, real)
    passes(world, made.changed(jti="018f0000-0000-7000-8000-000000000001"))  # so that refusals mean something
    return made


async def _private_key(world: World, kid: str) -> rsa.RSAPrivateKey:
    url = f"sqlite:///{world.product.store}"
    async with opened_store(url, pepper=None, pepper_file=None) as (store, digester):
        signing = Signing(store, digester)
        (key,) = [key for key in await signing.list_keys() if key.kid == kid]
        return signing.open_private(key)


def passes(world: World, token: str) -> None:
    eventually(lambda: world.proxy(token) == 200)
    world.call("GET", "/api-keys", fields=[("X-API-KEY", token)]).expect(200)


def refused(world: World, token: str) -> None:
    """Hold both listeners to refusing a token in either field, and to not repeating it."""
    for fields in ([("X-API-KEY", token)], [("Authorization", f"BEARER {token}")]):
        for port, path in ((world.proxy_port, "/x"), (world.port, "/api-keys"), (world.port, "/v1/api-keys")):
            answer = call(port, "GET", path, fields=fields).expect(401)
            assert (answer.value("www-authenticate") or "").startswith('Bearer realm="gateway"')
            assert token not in answer.text


def hs256(forger: Forger, secret: bytes, alg: str = "HS256") -> str:
    parts = f"{b64(forger.header | {'alg': alg})}.{b64(forger.claims)}"
    return f"{parts}.{b64(hmac.digest(secret, parts.encode(), hashlib.sha256))}"


def by_stranger(forger: Forger, **header: Any) -> str:
    parts = f"{b64(forger.header | header)}.{b64(forger.claims)}"
    return f"{parts}.{b64(_rs256(forger.stranger, parts))}"


def stranger_jwk(forger: Forger) -> dict[str, Any]:
    return dict(jwt.algorithms.RSAAlgorithm.to_jwk(forger.stranger.public_key(), as_dict=True))


def parts_of(forger: Forger) -> list[str]:
    return forger.real.split(".")


def doubled(text: str, member: str, value: str) -> str:
    return text.replace("{", "{" + f'"{member}": {value}, ', 1)


FORGED: dict[str, Callable[[Forger], str]] = {
    **{
        f"alg {alg!r}": lambda f, alg=alg: f"{b64(f.header | {'alg': alg})}.{b64(f.claims)}.{b64(b'x')}"
        for alg in ("none", "None", "NONE", "nOnE", "", "RS1", "rs256", "ES256", "dir")
    },
    "alg none, empty signature": lambda f: f"{b64(f.header | {'alg': 'none'})}.{b64(f.claims)}.",
    "alg none, two parts": lambda f: f"{b64(f.header | {'alg': 'none'})}.{b64(f.claims)}",
    "alg missing": lambda f: f.headed(alg=...),
    "alg a list": lambda f: f.headed(alg=["RS256"]),
    "alg number": lambda f: f.headed(alg=256),
    "RS512 declared": lambda f: f.headed(alg="RS512"),
    "PS256 declared": lambda f: f.headed(alg="PS256"),
    "HS256 over the public PEM": lambda f: hs256(f, f.public_pem),
    "HS256 over the stripped PEM": lambda f: hs256(f, f.public_pem.strip()),
    "HS256 over nothing": lambda f: hs256(f, b""),
    "HS256 over the kid": lambda f: hs256(f, f.header["kid"].encode()),
    "HS512 over the public PEM": lambda f: hs256(f, f.public_pem, "HS512"),
    "a stranger's signature": by_stranger,
    "a stranger's signature, his jwk": lambda f: by_stranger(f, jwk=stranger_jwk(f)),
    "a stranger's signature, his jwk, no kid": lambda f: by_stranger(f, jwk=stranger_jwk(f), kid=None),
    "jku": lambda f: by_stranger(f, jku="http://127.0.0.1:1/jwks.json"),
    "x5u": lambda f: by_stranger(f, x5u="http://127.0.0.1:1/x.pem"),
    "kid unknown": lambda f: f.headed(kid="sig_0"),
    "kid missing": lambda f: f.headed(kid=...),
    "kid a path": lambda f: f.headed(kid="../../../../dev/null"),
    "kid SQL": lambda f: f.headed(kid="x' UNION SELECT 'a"),
    "kid NUL": lambda f: f.headed(kid=f.header["kid"] + "\0"),
    "kid a list": lambda f: f.headed(kid=[f.header["kid"]]),
    "crit": lambda f: f.headed(crit=["exp"], exp=1),
    "crit empty": lambda f: f.headed(crit=[]),
    "b64 false": lambda f: f.headed(b64=False, crit=["b64"]),
    "typ of another kind": lambda f: f.headed(typ="logout+jwt"),
    "header twice alg": lambda f: f.signed(header=doubled(json.dumps(f.header), "alg", '"none"')),
    "header twice kid": lambda f: f.signed(header=doubled(json.dumps(f.header), "kid", '"x"')),
    "claims twice sub": lambda f: f.signed(doubled(json.dumps(f.claims), "sub", '"subject_x"')),
    "claims twice exp": lambda f: f.signed(doubled(json.dumps(f.claims), "exp", "1")),
    "claims twice within": lambda f: f.signed(doubled(json.dumps(f.claims), "x", '{"a": 1, "a": 2}')),
    "claims a list": lambda f: f.signed("[]"),
    "claims no JSON": lambda f: f.signed("x"),
    "claims bad UTF-8": lambda f: f.signed(json.dumps(f.claims).encode()[:-1] + b', "x": "\xff"}'),
    "claims NaN": lambda f: f.signed(json.dumps(f.claims)[:-1] + ', "x": NaN}'),
    "claims deep": lambda f: f.signed(json.dumps(f.claims)[:-1] + ', "x": ' + "[" * 1500 + "]" * 1500 + "}"),
    "padding on the signature": lambda f: f.real + "==",
    "padding on the claims": lambda f: ".".join([parts_of(f)[0], parts_of(f)[1] + "=", parts_of(f)[2]]),
    "padding on the header": lambda f: ".".join([parts_of(f)[0] + "=", *parts_of(f)[1:]]),
    "four parts": lambda f: f.real + ".x",
    "five parts (JWE)": lambda f: f.real + ".x.y",
    "leading dot": lambda f: "." + f.real,
    "signature cut": lambda f: f.real[:-8],
    "signature of another token": lambda f: (
        f.changed(sub="subject_x").rpartition(".")[0] + "." + parts_of(f)[2]
    ),
    "last character's spare bits": lambda f: _spare_bits(f.real),
    "plus and slash": lambda f: f.real.rpartition(".")[0] + ".+/" + parts_of(f)[2][2:],
    "comma within": lambda f: f.real.replace(".", ",", 1),
    "issuer another": lambda f: f.changed(iss="https://evil.example"),
    "issuer missing": lambda f: f.changed(iss=...),
    "issuer a list": lambda f: f.changed(iss=[f.claims["iss"]]),
    "audience an assertion's": lambda f: f.changed(aud="gateway:assertion"),
    "audience a key's": lambda f: f.changed(aud="gateway:key"),
    "audience missing": lambda f: f.changed(aud=...),
    "audience empty": lambda f: f.changed(aud=[]),
    "audience in other case": lambda f: f.changed(aud="Gateway:Login"),
    "expired": lambda f: f.changed(iat=int(time.time()) - 7200, exp=int(time.time()) - 60),
    "exp missing": lambda f: f.changed(exp=...),
    "exp text": lambda f: f.changed(exp=str(f.claims["exp"])),
    "exp true": lambda f: f.changed(exp=True),
    "exp null": lambda f: f.changed(exp=None),
    "exp 1e999": lambda f: f.signed(json.dumps(f.claims).replace(str(f.claims["exp"]), "1e999")),
    "exp 400 digits": lambda f: f.signed(json.dumps(f.claims).replace(str(f.claims["exp"]), "9" * 400)),
    "iat missing": lambda f: f.changed(iat=...),
    "not yet": lambda f: f.changed(nbf=int(time.time()) + 3600),
    "sub missing": lambda f: f.changed(sub=...),
    "sub number": lambda f: f.changed(sub=1),
    "jti missing": lambda f: f.changed(jti=...),
    "huge": lambda f: f.changed(x="y" * 20_000),
}


def _spare_bits(token: str) -> str:
    """Return another spelling of the same bytes: 256 of them leave four spare bits in the last character."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_token_is_refused(world: World, forger: Forger, what: str) -> None:
    token = FORGED[what](forger)
    if len(token) > 8192:  # beyond what any credential is read to; some heads are too long for the listener
        for port, path in ((world.proxy_port, "/x"), (world.port, "/api-keys")):
            assert call(port, "GET", path, fields=[("X-API-KEY", token)]).status in (400, 401, 431)
        return
    refused(world, token)


@pytest.mark.parametrize(
    "claims",
    [{"sub": "subject_nobody"}, {"tenant": "nowhere"}, {"tenant": "globex"}, {"tenant": 1}],
    ids=lambda claims: json.dumps(claims),
)
def test_a_good_signature_over_nobody_is_not_enough(
    world: World, forger: Forger, claims: dict[str, Any]
) -> None:
    """Who is nothing in the tenant now is refused, by 401 or ``holder_disabled``, whatever was signed."""
    token = forger.changed(**claims)
    for port, path in ((world.proxy_port, "/x"), (world.port, "/api-keys")):
        call(port, "GET", path, fields=[("X-API-KEY", token)]).expect(401, 403)


def test_claims_of_a_role_are_not_believed(world: World) -> None:
    person = world.person("viewer")
    real = world.log_in(person)
    private = asyncio.run(_private_key(world, header_of(real)["kid"]))
    token = Forger(real, private, private).changed(role="admin", permission="admin")
    passes(world, token)
    assert world.proxy(token, "POST") == 403
    fields = [("X-API-KEY", token)]
    world.call("GET", "/api/1/audit", fields=fields).expect(403)
    assert world.call("GET", "/api/1/session", fields=fields).json["permission"] == "viewer"


def test_a_jwt_key_is_no_login_token_whatever_becomes_of_it(world: World, forger: Forger) -> None:
    """Live it is a key and logs nobody out; revoked, removed, or signed anew it is refused everywhere."""
    caller = world.user("editor")
    live, revoked, removed = (world.qlik_key(caller) for _ in range(3))
    world.user("admin").delete(f"/v1/api-keys/{revoked['id']}").expect(204)
    caller.delete(f"/v1/api-keys/{removed['id']}").expect(204)
    passes(world, live["token"])
    world.key_caller(live["token"]).post("/logout").expect(400, 403)
    for dead in (revoked["token"], removed["token"]):
        eventually(lambda dead=dead: world.proxy(dead) == 401)
        refused(world, dead)
    # The same claims under a fresh signature are another token: it misses the table.
    parts = (
        f"{b64(header_of(live['token']))}.{b64(claims_of(live['token']) | {'exp': int(time.time()) + 60})}"
    )
    refused(world, f"{parts}.{b64(_rs256(forger.private, parts))}")


def test_a_login_token_is_dead_when_its_user_or_tenant_is(world: World) -> None:
    tenant = world.tenant()
    gone, off = world.person("editor", tenant), world.person("editor", tenant)
    tokens = {person.email: world.log_in(person) for person in (gone, off)}
    for token in tokens.values():
        passes(world, token)
    world.cli("users", "remove", gone.email, "--tenant", tenant, "--yes")
    world.cli("users", "set", off.email, "--enabled", "false")
    for token in tokens.values():
        eventually(lambda token=token: world.proxy(token) in (401, 403))
        world.call("GET", "/api-keys", fields=[("X-API-KEY", token)]).expect(401, 403)


def test_a_tenants_switched_off_keys_leave_its_people_alone(world: World) -> None:
    """``api_keys_enabled`` concerns keys: whoever switched them off must be able to switch them on."""
    tenant = world.tenant()
    token = world.log_in(world.person("admin", tenant))
    world.cli("tenants", "set", tenant, "--api-keys-enabled", "false")
    fields = [("X-API-KEY", token)]
    world.call("GET", f"/v1/api-keys/configs/{tenant}", fields=fields).expect(200)
    eventually(lambda: world.proxy(token) == 200)
