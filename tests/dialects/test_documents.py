"""Every curl of the five documents, run as it stands there, at the instant of its sample.

The gateway's wall clock stands at that instant (libfaketime; its monotonic clocks run on; ``002`` is
run at ``003``'s, two hours before its own), its control listener has a certificate for the documents'
hosts, and curl is told where those hosts are: so even the URLs are the documents' own. Changed are
credentials and identifiers alone, and the proxy's scheme, which is plain HTTP. The documents' curls
have lost some line ends and one quote to their formatting; the arguments are what they mean.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects import shapes
from tests.dialects.client import claims_of, cookie_of
from tests.dialects.documents import Documents
from tests.dialects.harness import Person
from tests.dialects.shapes import instant
from tests.wire.backend import Backend, eventually

PAGES = "https://your-tenant.us.qlikcloud.com/api/v1/api-keys"
JSON = "Content-type: application/json"


@pytest.fixture(scope="module")
def at(
    tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend
) -> Iterator[Callable[[str], Documents]]:
    """The gateway whose clock stands at an instant; started when it is first asked for."""
    running: dict[str, Documents] = {}

    def at(instant: str) -> Documents:
        if instant not in running:
            running[instant] = Documents(tmp_path_factory.mktemp("documents"), shared_backend.port, instant)
        return running[instant]

    yield at
    for made in running.values():
        made.product.stop()


@pytest.fixture(scope="module")
def documents(at: Callable[[str], Documents]) -> Documents:
    return at("2023-01-26 11:56:38.564")


@pytest.fixture(scope="module")
def jane(documents: Documents) -> Person:
    """The admin of the tenant whose configuration is 003's sample."""
    documents.cli("tenants", "add", "your-tenant")
    documents.cli(
        "tenants", "set", "your-tenant", "--api-keys-enabled", "true", "--max-keys-per-user", "5",
        "--max-api-key-expiry", "PT24H", "--scim-external-client-expiry", "P365D",
    )  # fmt: skip
    return documents.person("admin", "your-tenant", email="jane@your-tenant.example")


def test_003_creates_lists_shows_changes_and_deletes_a_key(documents: Documents, jane: Person) -> None:
    login = documents.token(jane)
    sub = claims_of(login)["sub"]
    holder = ("-H", f"Authorization: Bearer {login}")
    wish = f'{{"sub":"{sub}","expiry":"PT24H","subType":"user","description":"a description"}}'

    created = documents.curl(PAGES, "-X", "POST", *holder, "-H", JSON, "-d", wish).expect(201)
    token = created.json["token"]
    documents.keep_secret(token.rpartition(".")[2])
    shown = {
        "id": claims_of(token)["jti"],
        "sub": sub,
        "expiry": "2023-01-27T11:56:38.564Z",
        "status": "active",
        "created": "2023-01-26T11:56:38.564Z",
        "subType": "user",
        "tenantId": "your-tenant",
        "description": "a description",
        "lastUpdated": "2023-01-26T11:56:38.564Z",
        "createdByUser": sub,
    }
    shapes.Members(shapes.QLIK_CREATED.expected | shown).compare(created.json)
    _claims_say(token, sub)

    holder = ("-H", f"Authorization: Bearer {token}")  # "Bearer <API-key>", from here on as documented
    page = documents.curl(PAGES, *holder).expect(200).json
    assert page["data"] == [page["data"][0]], "one key was made"
    shapes.Members(shapes.QLIK_KEY.expected | shown).compare(page["data"][0])
    assert "token" not in page["data"][0]
    assert shapes.uri(page["links"]["self"]["href"])

    one = f"{PAGES}/{created.json['id']}"
    assert documents.curl(one, *holder).expect(200).json == page["data"][0]

    replace = '[{"op":"replace","path":"/description","value":"my new description"}]'
    changed = documents.curl(one, "-X", "PATCH", *holder, "-H", JSON, "-d", replace).expect(204)
    assert changed.body == b""
    assert documents.curl(one, *holder).json == page["data"][0] | {"description": "my new description"}

    assert documents.curl(one, "-X", "DELETE", *holder).expect(204).body == b""
    login = documents.token(jane)
    documents.curl(one, "-H", f"Authorization: Bearer {login}").expect(404)


def _claims_say(token: str, sub: str) -> None:
    """The claims of a key's JWT: what clients of 003 read, within the times of its record."""
    claims = claims_of(token)
    expected: dict[str, Any] = {
        "aud": "gateway:key",
        "sub": sub,
        "jti": shapes.text,
        "tenantId": "your-tenant",
        "iat": int(instant("2023-01-26T11:56:38Z").timestamp()),
        "exp": lambda value: 0 <= instant("2023-01-27T11:56:38.564Z").timestamp() - value <= 1,
    }
    found = claims | {"aud": claims["aud"][0] if isinstance(claims["aud"], list) else claims["aud"]}
    shapes.Members(expected).compare(found)


def test_003_shows_and_changes_the_configuration_of_a_tenant(documents: Documents, jane: Person) -> None:
    holder = ("-H", f"Authorization: Bearer {documents.token(jane)}")
    where = f"{PAGES}/configs/your-tenant"
    shown = documents.curl(where, *holder).expect(200).json
    shapes.Members(
        {
            "api_keys_enabled": True,
            "max_keys_per_user": 5,
            "max_api_key_expiry": "PT24H",
            "scim_externalClient_expiry": "P365D",
        }
    ).compare(shown)
    replace = '[{"op":"replace","path":"/api_keys_enabled","value":true}]'
    assert documents.curl(where, "-X", "PATCH", *holder, "-H", JSON, "-d", replace).expect(204).body == b""
    assert documents.curl(where, *holder).json == shown


def test_002_logs_in_and_the_token_passes_the_proxy(
    documents: Documents, jane: Person, tmp_path: Path
) -> None:
    """The sample's ``Connection: keep-alive`` says what HTTP/1.1 means without it; it is not asked for."""
    file = tmp_path / "cookiefile"
    answer = documents.curl(
        "-c", str(file), "-u", f"{jane.email}:{jane.password}", "https://login.cqloud.com/login"
    )
    assert (answer.status, answer.body) == (302, b"OK")
    assert answer.value("content-type") == "text/plain; charset=UTF-8"
    assert answer.value("date") == "Thu, 26 Jan 2023 11:56:38 GMT"
    assert answer.value("vary") == "Origin"
    assert answer.value("content-length") == "2"
    assert (answer.value("connection") or "keep-alive").lower() == "keep-alive"
    assert answer.value("location") is None, "clients with -L would follow it"
    cookie = cookie_of(answer)
    assert (cookie["path"], cookie["domain"].lstrip("."), cookie["max-age"]) == ("/", "cqloud.com", "21600")
    assert cookie["httponly"]
    assert cookie["secure"]
    token = cookie.value
    documents.keep_secret(token.rpartition(".")[2])
    assert f"\tcqloudLoginToken\t{token}" in file.read_text(), "the cookie file holds the token"

    # "A token is valid for one hour."
    now = int(instant("2023-01-26T11:56:38Z").timestamp())
    assert (claims_of(token)["iat"], claims_of(token)["exp"]) == (now, now + 3600)
    for field in (f"Authorization: BEARER {token}", f"X-API-KEY: {token}"):
        sites = "http://media-sites.cqloud.com/api/v2/sites"
        asked = ("--request", "GET", "--url", sites, "--header", "Accept: */*", "--header", field)
        eventually(lambda asked=asked: documents.curl(*asked).status == 200)


SECRET_WISH = """{
"name": "CI Pipeline",
"description": "Used for automated deployments",
"tenantId": "tenant_acme",
"environmentId": "environment_prod",
"expiresAt": "2025-01-15T10:30:00Z",
"intendedUse": "ci-cd"
}"""


def test_004_creates_a_key_beside_its_own_subject(at: Callable[[str], Documents]) -> None:
    documents = at("2024-01-15 10:30:00.000")
    documents.cli("tenants", "add", "tenant_acme")
    documents.cli(
        "environments", "add", "environment_prod", "--tenant", "tenant_acme", "--prefix", "qs_live_"
    )
    login = documents.token(documents.person("editor", "tenant_acme"))
    created = documents.curl(
        "-X", "POST", "https://api.example.com/api-keys", "-H", f"Authorization: Bearer {login}",
        "-H", "Content-Type: application/json", "-d", SECRET_WISH,
    ).expect(201).json  # fmt: skip
    token = created["secretKey"]
    documents.keep_secret(token)
    at_once, a_year_on = instant("2024-01-15T10:30:00Z"), instant("2025-01-15T10:30:00Z")
    documented = {
        "tenantId": "tenant_acme",
        "environmentId": "environment_prod",
        "name": "CI Pipeline",
        "description": "Used for automated deployments",
        "prefix": token[: len("qs_live_xxxx")],
        "lastFour": token[-4:],
        "secretKey": lambda value: value.startswith("qs_live_"),
        "createdBySubjectId": claims_of(login)["sub"],
        "createdAt": lambda value: shapes.date_time(value) and instant(value) == at_once,
        "expiresAt": lambda value: shapes.date_time(value) and instant(value) == a_year_on,
        "status": "active",
        "intendedUse": "ci-cd",
    }
    shapes.Members(shapes.SECRET_CREATED.expected | documented).compare(created)
    assert created["subjectId"] != created["createdBySubjectId"], "it has a subject of its own"


def test_000_creates_a_key_of_the_organisation(at: Callable[[str], Documents]) -> None:
    documents = at("2025-01-07 15:37:36.228")
    documents.cli("tenants", "add", "my-company")
    documents.cli_key("viewer", "my-company")  # so that the sample's is number 2
    login = documents.token(documents.person("editor", "my-company", email="bob@mycompany.com"))
    answer = documents.curl(
        "--request", "POST", "--url", "https://users.cqloud.com/api/1/api-keys",
        "--header", "Content-Type: application/json", "--header", f"Authorization: BEARER {login}",
        "--data",
        '{\n"name": "Example_Key",\n"description": "Key description example.",\n'
        '"ttl": 180,\n"permission": "MediaEditor"\n}',
    ).expect(201)  # fmt: skip
    documents.keep_secret(answer.json["apiToken"])
    documented = {
        "name": "Example_Key",
        "description": "Key description example.",
        "ttl": 180,
        "permission": "MediaEditor",
        "keyId": "2",
        "ownerId": "my-company",
        "createdBy": "bob@mycompany.com",
        "createdAt": "2025-01-07T15:37:36.228Z",
        "expireAt": "2025-07-06T15:37:36.228Z",
        "apiToken": shapes.text,
    }
    shapes.Members(documented).compare(answer.json)
    created, ends = instant(answer.json["createdAt"]), instant(answer.json["expireAt"])
    assert ends - created == datetime.timedelta(days=180)


def test_a_month_counts_from_the_date_of_creation(at: Callable[[str], Documents]) -> None:
    """Pitfall 73: a day that the next month lacks becomes its last."""
    documents = at("2028-01-31 10:00:00.000")
    login = documents.token(documents.person("editor"))
    made = documents.curl(
        PAGES, "-X", "POST", "-H", f"Authorization: Bearer {login}", "-H", JSON,
        "-d", '{"description": "d", "expiry": "P1M"}',
    ).expect(201).json  # fmt: skip
    documents.keep_secret(made["token"].rpartition(".")[2])
    assert made["expiry"] == "2028-02-29T10:00:00.000Z"
