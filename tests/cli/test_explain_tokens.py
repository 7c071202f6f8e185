"""``explain`` checks a signed token as the data path does, and tells what it found on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.signing import Signing
from gateway.keys.opening import opened_store
from tests.cli.conftest import Gateway
from tests.cli.test_explain import steps
from tests.core.tokens import claims, private_key, signed
from tests.keys.idp import Idp, Signer

CONFIG = """
upstreams: {{a: {{targets: ["http://127.0.0.1:9000"]}}}}
routes: [{{path: /, upstream: a}}]
issuers:
  - issuer: https://idp.test
    jwks_url: {url}
    audience: api
    tenant_claim: org
    role_claim: group
    roles: {{writers: editor}}
"""

Explain = Callable[..., dict[str, str]]
Sign = Callable[..., str]


def now_and_later() -> dict[str, int]:
    now = int(time.time())
    return {"iat": now, "exp": now + 600}


@pytest.fixture
def explain(gateway: Gateway, tmp_path: Path) -> Explain:
    def run(token: str, *arguments: str, url: str = "http://127.0.0.1:9/jwks.json") -> dict[str, str]:
        (tmp_path / "g.yaml").write_text(CONFIG.format(url=url))
        result = gateway("explain", "--config", "g.yaml", "--key-file", "-", *arguments, stdin=token)
        for piece in token.split("."):
            assert piece not in result.stdout, "the token is not shown"
        return steps(result)

    return run


@pytest.fixture
def sign(gateway: Gateway, tmp_path: Path) -> Sign:
    """Return what signs login tokens of ann, a viewer, with the key of the store."""
    arguments = ("--tenant", "default", "--role", "viewer", "--password-stdin")
    assert (
        gateway("users", "add", "ann@example.com", *arguments, stdin="correct horse battery").returncode == 0
    )
    (user,) = json.loads(gateway("users", "list", "--json").stdout)

    def sign(**changes: Any) -> str:
        async def run() -> str:
            url = f"sqlite:///{tmp_path / 'state' / 'gateway' / 'gateway.db'}"
            async with opened_store(url, pepper=None, pepper_file=None) as (store, digester):
                return await Signing(store, digester).sign(
                    claims(iss=..., sub=user["id"], **(now_and_later() | changes))
                )

        return asyncio.run(run())

    return sign


def test_a_login_is_told_with_its_signature_and_what_she_is_now(explain: Explain, sign: Sign) -> None:
    told = explain(sign(role="admin"), "GET", "/x")
    order = "request route credential table token signature login holder permission outcome"
    assert list(told) == order.split()
    assert told["token"] == "signed, of this gateway's own logins"
    assert told["signature"].startswith("made by key sig_")
    assert told["login"].startswith("of subject_")
    assert "active until" in told["login"]
    assert "acts for a user who is viewer there" in told["holder"]
    assert told["permission"] == "viewer, by role viewer (everywhere)"
    assert told["outcome"] == "forwarded to http://127.0.0.1:9000 as GET /x"
    assert explain(sign(), "POST", "/x")["outcome"].startswith("refused with 403 permission_denied")


def test_what_is_wrong_with_a_token_is_told(explain: Explain, sign: Sign) -> None:
    token = sign()
    forged = explain(token[:-8] + "AAAAAAAA", "GET", "/")
    assert forged["signature"].startswith("not made by key sig_")
    assert forged["outcome"].startswith("refused with 401 token_invalid")
    doubled = explain(signed(crit=["exp"]).decode(), "GET", "/")
    assert doubled["token"] == "of three parts, but not in the strict form of a signed token"
    expired = explain(sign(exp=int(time.time()) - 1), "GET", "/")
    assert expired["outcome"].startswith("refused with 401 token_expired")
    assert "signature" not in expired
    other = explain(sign(aud="gateway:assertion"), "GET", "/")
    assert other["token"] == "signed, of this gateway's own logins, not meant for gateway:login"
    stranger = signed(claims(iss="https://stranger.test"), key=private_key("rsa")).decode()
    assert explain(stranger, "GET", "/")["token"] == "signed, by an issuer that is not trusted here"


def test_an_external_token_is_held_against_the_keys_that_its_issuer_has_now(explain: Explain) -> None:
    signer = Signer("k1")
    content = {"iss": "https://idp.test", "aud": "api", "sub": "bob", "org": "default", "group": "writers"}
    token = signer.token(content | now_and_later())
    idp = Idp(signer)
    try:
        told = explain(token, "POST", "/x", url=idp.url)
    finally:
        idp.stop()
    assert told["token"] == "signed, of issuer https://idp.test"
    assert told["signature"] == "made by key k1"
    assert told["login"].startswith("of https%3A%2F%2Fidp.test%7Cbob, ")
    assert told["permission"] == "editor, by role editor (everywhere)"
    assert told["outcome"].startswith("forwarded")
    unreachable = explain(token, "POST", "/x")
    assert "its keys cannot be had: http://127.0.0.1:9/jwks.json " in unreachable["token"]
    assert "a key id that is not known" in unreachable["token"]
    assert unreachable["outcome"].startswith("refused with 401 token_invalid")
