"""Tokens of an external issuer pass the proxy as what the configuration makes of their claims."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme

from gateway.cli.demo import DemoBackend
from tests.conftest import Start
from tests.keys.idp import Idp, Signer, base64url, claims
from tests.wire.backend import eventually
from tests.wire.product import Keys, Product, cli

NAME = "https://login.example.com"
SIGNER = Signer("one")
SETTINGS = {
    "roles": {"SitesEditor": {"permission": "editor", "routes": ["/sites"]}},
    "routes": [
        {"path": "/", "upstream": "backend"},
        {"path": "/editors", "upstream": "backend", "roles": ["editor"]},
        {"path": "/others", "upstream": "backend", "tenants": ["somebody-else"]},
    ],
}


@pytest.fixture(scope="module")
def idp() -> Iterator[Idp]:
    server = Idp(SIGNER)
    yield server
    server.stop()


def issuer(idp: Idp, **more: Any) -> dict[str, Any]:
    return {
        "issuer": NAME,
        "jwks_url": idp.url,
        "audience": "gateway",
        "algorithms": ["RS256", "ES256"],
        "tenant_claim": "org",
        "role_claim": "groups",
        "roles": {"staff": "viewer", "authors": "editor", "media": "SitesEditor"},
        **more,
    }


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoBackend]:
    with DemoBackend() as backend:
        yield backend


@pytest.fixture(scope="module")
def trusting(
    idp: Idp, demo: DemoBackend, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    settings = {**SETTINGS, "issuers": [issuer(idp)]}
    product = Product(
        tmp_path_factory.mktemp("trusting") / "gateway", keys, demo.port, settings, control=True
    )
    try:
        eventually(lambda: ask(product, token(["staff"]))[0] == 200, why="the issuer's keys are not there")
        yield product
        product.stop()
    finally:
        product.kill()


def token(groups: object = None, signer: Signer = SIGNER, tenant: object = "default", **more: Any) -> str:
    said = claims(NAME, org=tenant, groups=groups, **more)
    return signer.token({name: value for name, value in said.items() if value is not None})


def ask(
    product: Product,
    credential: str,
    method: str = "GET",
    path: str = "/",
    field: str = "Authorization",
) -> tuple[int, Mapping[str, Any]]:
    """Ask once; return status and what the backend or the refusal says."""
    value = f"Bearer {credential}" if field == "Authorization" else credential
    connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=5)
    with closing(connection):
        connection.request(method, path, headers={field: value})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.mark.parametrize("field", ["Authorization", "X-API-KEY"])
def test_backend_is_told_who_it_is(trusting: Product, field: str) -> None:
    status, told = ask(trusting, token(["authors"]), "POST", field=field)
    assert status == 200
    assert told["identity"] == {
        "X-Gateway-Subject": quote(f"{NAME}|ann", safe=""),
        "X-Gateway-Tenant": "default",
        "X-Gateway-Role": "editor",
        "X-Gateway-Permission": "editor",
    }


@pytest.mark.parametrize(
    ("groups", "method", "path", "outcome"),
    [
        (["staff"], "GET", "/", 200),
        ("staff", "GET", "/", 200),
        (["staff"], "POST", "/", "permission_denied"),
        (["authors"], "DELETE", "/", 200),
        (["x", "authors"], "GET", "/editors", 200),
        (["staff"], "GET", "/editors", "route_denied"),
        (["authors"], "GET", "/others", "route_denied"),
        (["media"], "POST", "/sites/a", 200),
        (["media"], "GET", "/", "route_denied"),
        # Of several the first that the file names counts: authors, media, staff, as it is written out.
        (["staff", "authors"], "POST", "/", 200),
        (["staff", "media"], "GET", "/", "route_denied"),
        (["nobody"], "GET", "/", "route_denied"),
        (["editor"], "GET", "/", "route_denied"),
        ([], "GET", "/", "route_denied"),
        (None, "GET", "/", "route_denied"),
        ({"authors": 1}, "GET", "/", "route_denied"),
        ([["authors"]], "GET", "/", "route_denied"),
    ],
)
def test_role_is_what_the_mapping_says(
    trusting: Product, groups: object, method: str, path: str, outcome: int | str
) -> None:
    status, told = ask(trusting, token(groups), method, path)
    assert outcome == status or (status, told["code"]) == (403, outcome)


@pytest.mark.parametrize("tenant", ["nobody", "", None])
def test_tenant_that_is_not_there_is_refused(trusting: Product, tenant: str | None) -> None:
    status, told = ask(trusting, token(["authors"], tenant=tenant))
    assert (status, told["code"]) == (403, "holder_disabled")


FORGED = Signer("one", fresh=True)


def unsigned(algorithm: str) -> str:
    header = base64url(json.dumps({"alg": algorithm, "kid": "one"}).encode())
    return ".".join([header, token(["authors"]).split(".")[1], base64url(b"x")])


# Made when they are sent, for they end after some minutes.
PROVE_NOTHING: dict[str, Callable[[], str]] = {
    "forged": lambda: token(["authors"], FORGED),
    "another's key": lambda: token(["authors"], Signer("strange")),
    "for another": lambda: token(["authors"], aud="other"),
    "by another": lambda: token(["authors"], iss="https://else.example.com"),
    "as if ours": lambda: token(["authors"], iss="gateway", aud="gateway:login"),
    "ended": lambda: token(["authors"], exp=1),
    "endless": lambda: token(["authors"], exp=None),
    "of nobody": lambda: token(["authors"], sub=None),
    "unsigned": lambda: unsigned("none"),
    "by a secret": lambda: unsigned("HS256"),
    "by another algorithm": lambda: unsigned("ES256"),
}


@pytest.mark.parametrize("what", PROVE_NOTHING)
def test_token_that_proves_nothing_is_refused(trusting: Product, what: str) -> None:
    code = "token_expired" if what == "ended" else "token_invalid"
    status, told = ask(trusting, PROVE_NOTHING[what]())
    assert (status, told["code"]) == (401, code)


def test_external_token_manages_no_keys(trusting: Product) -> None:
    """Its subject is no user of ours: the control API knows nobody of that name."""
    eventually(lambda: "control API at" in trusting.stderr)
    connection = http.client.HTTPConnection("127.0.0.1", trusting.control_port, timeout=5)
    with closing(connection):
        connection.request(
            "GET", "/api/1/api-keys", headers={"Authorization": f"Bearer {token(['authors'])}"}
        )
        assert connection.getresponse().status == 401


def test_issuer_that_goes_down_leaves_its_tokens_valid_and_a_new_key_is_found(
    product: Start, demo: DemoBackend
) -> None:
    idp, new = Idp(SIGNER), Signer("two", "ES256")
    gateway = product({**SETTINGS, "issuers": [issuer(idp)]}, upstream_port=demo.port)
    eventually(lambda: ask(gateway, token(["staff"]))[0] == 200)
    idp.keys = [new.jwk()]
    # The first token of a key that is not known brings the fetch forward, which waits for minutes else.
    eventually(lambda: ask(gateway, token(["authors"], new), "POST")[0] == 200)
    assert idp.asked == 2
    assert ask(gateway, token(["staff"]))[1]["code"] == "token_invalid"
    for i in range(50):
        assert ask(gateway, token(["staff"], Signer(f"storm{i}")))[0] == 401
    assert idp.asked == 2
    idp.stop()
    assert ask(gateway, token(["authors"], new, sub="ben"), "POST")[0] == 200


def test_authority_of_the_environment_is_trusted(product: Start, demo: DemoBackend, tmp_path: Path) -> None:
    """An issuer inside a cluster has a certificate of the cluster's own authority."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    idp = Idp(SIGNER, tls=context)
    try:
        environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        settings = {**SETTINGS, "issuers": [issuer(idp)]}
        gateway = product(settings, upstream_port=demo.port, environment=environment)
        eventually(lambda: ask(gateway, token(["staff"]))[0] == 200, why=gateway.stderr)
    finally:
        idp.stop()


def test_gateway_starts_ready_without_its_issuer(product: Start, demo: DemoBackend) -> None:
    idp = Idp()
    idp.stop()
    gateway = product({**SETTINGS, "issuers": [issuer(idp)]}, upstream_port=demo.port)
    assert ask(gateway, gateway.keys.viewer, field="X-API-KEY")[0] == 200
    assert ask(gateway, token(["staff"]))[1]["code"] == "token_invalid"
    eventually(lambda: f"the keys of issuer {NAME} cannot be fetched" in gateway.stderr)
    assert gateway.stderr.count("cannot be fetched") == 1


def test_tenant_that_switches_its_keys_off_lets_people_in(trusting: Product) -> None:
    """The switch is for keys: a person who logs in elsewhere is none."""
    set_to = ("tenants", "set", "default", "--api-keys-enabled")
    assert cli(*set_to, "false", store=trusting.store).returncode == 0
    try:
        eventually(lambda: ask(trusting, trusting.keys.viewer, field="X-API-KEY")[0] == 403)
        assert ask(trusting, token(["staff"]))[0] == 200
    finally:
        assert cli(*set_to, "true", store=trusting.store).returncode == 0
