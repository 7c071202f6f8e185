"""The description against the application that it describes: nothing missing, nothing made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import validate

from gateway import __version__
from gateway.control.assembly import control_api
from gateway.control.dialects.login import LoginDialect
from gateway.control.dialects.login_shapes import CookieForm
from gateway.control.domain import DomainService
from gateway.store.base import Store
from tests.control.samples import DIGESTER, ROLES, FastHasher

METHODS = {"get", "post", "put", "patch", "delete"}
INSTANTS = {"at", "created", "expiry", "lastUpdated"}
PAGES = {"/openapi.json", "/docs", "/docs/"}

Description = dict[str, Any]


def application(store: Store, *origins: str) -> web.Application:
    """Return the control API as it is served; nobody can log in, which describes the same."""
    service = DomainService(store, DIGESTER, FastHasher(), ROLES)
    nobody = cast(Any, None)
    login = LoginDialect(service, nobody, nobody, CookieForm("loginCookie", 60))
    return control_api(service, nobody, login=login, cookie="loginCookie", origins=origins, secure=False)


@pytest.fixture
async def client(store: Store, aiohttp_client: Any) -> TestClient[Any, Any]:
    return cast(TestClient[Any, Any], await aiohttp_client(application(store)))


@pytest.fixture
async def description(client: TestClient[Any, Any]) -> Description:
    async with client.get("/openapi.json") as response:
        assert response.status == 200
        return dict(await response.json())


def operations(description: Description) -> Iterator[tuple[str, str, Description]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolved(description: Description, value: Description) -> Description:
    """Return what a reference stands for."""
    while "$ref" in value:
        place: Any = description
        for step in value["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        value = place
    return value


def answer(description: Description, operation: Description, status: int) -> Description:
    return resolved(description, operation["responses"][str(status)])


def body_of(description: Description, method: str, path: str) -> Description:
    content = description["paths"][path][method]["requestBody"]["content"]
    return resolved(description, content["application/json"]["schema"])


def query_of(description: Description, method: str, path: str) -> dict[str, Description]:
    parameters = description["paths"][path][method]["parameters"]
    return {each["name"]: each for each in parameters if each["in"] == "query"}


async def test_it_is_valid_openapi_3_1(description: Description) -> None:
    assert description["openapi"].startswith("3.1.")
    assert description["info"]["version"] == __version__
    validate(cast(Any, description))


async def test_every_route_is_described_and_every_description_is_routed(store: Store) -> None:
    app = application(store)
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and not route.resource.canonical.startswith("/docs/")
    }
    # RFC 9110 §9.3.2: HEAD is served wherever GET is, and goes without saying.
    unsaid = {("head", path) for method, path in served if method == "get"}
    async with TestClient(TestServer(app)) as client, client.get("/openapi.json") as response:
        described = {(method, path) for method, path, _ in operations(await response.json())}
    assert {(m, p) for m, p in served - unsaid if p not in PAGES} == described
    assert unsaid <= served


async def test_each_operation_has_its_own_name_and_words(description: Description) -> None:
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(names) == len(set(names))
    tags = {tag["name"]: tag["description"] for tag in description["tags"]}
    assert all(tags.values()), tags
    for method, path, operation in operations(description):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert set(operation["tags"]) <= set(tags), (method, path)
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                assert parameter["description"], (path, parameter["name"])


async def test_words_are_for_those_who_call(description: Description) -> None:
    """Exceptions, and the numbers that this project gives its documents, tell them nothing."""
    told = [operation["description"] for _, _, operation in operations(description)]
    told += [schema.get("description", "") for schema in description["components"]["schemas"].values()]
    for text in told:
        for word in ("Raises", "Attributes:", "``000``", "``001``", "``002``", "``003``", "``004``"):
            assert word not in text, text


async def test_the_path_and_its_parameters_agree(description: Description) -> None:
    for method, path, operation in operations(description):
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, (method, path)


async def test_every_operation_tells_the_faults_of_the_listener(description: Description) -> None:
    for method, path, operation in operations(description):
        told = set(operation["responses"])
        assert {"400", "500", "503"} <= told, (method, path)
        if "requestBody" in operation:
            assert {"408", "413", "415"} <= told, (method, path)
        if operation["security"] and "password" not in operation["security"][0]:
            assert {"401", "403", "429"} <= told, (method, path)


async def test_faults_have_the_shape_of_their_dialect(description: Description) -> None:
    for method, path, operation in operations(description):
        errors = path.startswith(("/v1/", "/api/v1/"))
        content_type = "application/json" if errors else "application/problem+json"
        for status in operation["responses"]:
            if int(status) >= 400:
                content = answer(description, operation, int(status))["content"]
                if status == "431":  # told before anybody knows which dialect is spoken
                    assert list(content) == ["application/problem+json"], (method, path)
                    continue
                assert list(content) == [content_type], (method, path, status)
                schema = resolved(description, content[content_type]["schema"])
                assert ("errors" in schema["properties"]) is errors, (method, path, status)


@pytest.mark.parametrize(
    ("status", "header"), [(401, "WWW-Authenticate"), (429, "Retry-After"), (503, "Retry-After")]
)
async def test_what_goes_with_a_fault_is_told(description: Description, status: int, header: str) -> None:
    operation = description["paths"]["/api-keys"]["post"]
    headers = answer(description, operation, status)["headers"]
    assert resolved(description, headers[header])["required"] is True
    assert resolved(description, headers["X-Request-Id"])["required"] is True


@pytest.mark.parametrize(
    ("method", "path", "security"),
    [
        ("get", "/api-keys", [{"apiKey": []}, {"bearer": []}, {"cookie": []}]),
        ("post", "/api-keys", [{"apiKey": []}, {"bearer": []}, {"cookie": [], "csrf": []}]),
        ("get", "/login", [{"password": []}]),
        ("post", "/login", [{"password": []}]),
        ("get", "/.well-known/jwks.json", []),
    ],
)
async def test_each_operation_says_how_callers_prove_who_they_are(
    description: Description, method: str, path: str, security: Any
) -> None:
    assert description["paths"][path][method]["security"] == security


async def test_the_schemes_are_those_that_the_listener_reads(description: Description) -> None:
    schemes = description["components"]["securitySchemes"]
    assert schemes["apiKey"] | {"description": ""} == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "",
    }
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["cookie"]["in"], schemes["cookie"]["name"]) == ("cookie", "loginCookie")
    assert schemes["csrf"]["name"] == "X-CSRF-Token"
    assert schemes["password"]["scheme"] == "basic"


@pytest.mark.parametrize(
    ("method", "path", "member", "bounds"),
    [
        ("post", "/api/1/api-keys", "ttl", {"type": "integer", "minimum": 1, "maximum": 365}),
        ("post", "/api/1/api-keys", "name", {"type": "string", "minLength": 1, "maxLength": 100}),
        ("post", "/api/1/api-keys", "description", {"type": "string", "maxLength": 1000}),
        ("post", "/v1/api-keys", "subType", {"enum": ["externalClient", "user"]}),
    ],
)
async def test_bounds_of_members_are_told(
    description: Description, method: str, path: str, member: str, bounds: Description
) -> None:
    schema = body_of(description, method, path)
    assert schema["additionalProperties"] is False
    assert bounds.items() <= schema["properties"][member].items()


@pytest.mark.parametrize("path", ["/api/1/api-keys", "/v1/api-keys", "/api-keys"])
async def test_bounds_of_parameters_are_told(description: Description, path: str) -> None:
    limit = query_of(description, "get", path)["limit"]
    assert limit["required"] is False
    assert {"type": "integer", "minimum": 1, "maximum": 100}.items() <= limit["schema"].items()


async def test_no_parameter_of_a_query_can_be_null(description: Description) -> None:
    for method, path, _ in operations(description):
        for name, parameter in query_of(description, method, path).items():
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), (path, name)
            assert parameter["schema"].get("default", "") is not None, (path, name)


async def test_what_is_told_at_a_time_is_a_date_and_time(description: Description) -> None:
    told = [
        (name, member, schema)
        for name, component in description["components"]["schemas"].items()
        for member, schema in component.get("properties", {}).items()
        if component.get("additionalProperties") is not False
        and (member.endswith("At") or member in INSTANTS)
    ]
    assert told
    for name, member, schema in told:
        options = schema.get("anyOf", [schema])
        assert "date-time" in {option.get("format") for option in options}, (name, member)


async def test_a_patch_may_be_sent_as_what_it_is(description: Description) -> None:
    content = description["paths"]["/v1/api-keys/{id}"]["patch"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/json-patch+json"}


async def test_a_body_that_may_be_left_out_is_said_to_be(description: Description) -> None:
    rotate = description["paths"]["/api-keys/{id}/rotate"]["post"]
    assert rotate["requestBody"]["required"] is False
    assert description["paths"]["/api-keys"]["post"]["requestBody"]["required"] is True


async def test_what_was_made_links_to_what_can_be_done_with_it(description: Description) -> None:
    made = description["paths"]["/api/1/api-keys"]["post"]["responses"]["201"]
    shown = description["paths"]["/api/1/api-keys/{keyId}"]["get"]["operationId"]
    assert made["links"][shown] == {"operationId": shown, "parameters": {"keyId": "$response.body#/keyId"}}


async def test_the_secret_is_told_only_where_a_key_is_made(description: Description) -> None:
    secret = {"apiToken", "token", "secretKey"}
    telling = {
        (method, path)
        for method, path, operation in operations(description)
        for status in ("200", "201")
        if status in operation["responses"]
        for content in answer(description, operation, int(status)).get("content", {}).values()
        if secret & set(resolved(description, content["schema"]).get("properties", {}))
    }
    assert telling == {
        ("post", "/api/1/api-keys"),
        ("post", "/v1/api-keys"),
        ("post", "/api/v1/api-keys"),
        ("post", "/api-keys"),
        ("post", "/api-keys/{id}/rotate"),
    }


async def test_it_is_kept_until_it_changes(client: TestClient[Any, Any]) -> None:
    async with client.get("/openapi.json") as first:
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "public, no-cache"
        assert first.headers["Content-Type"] == "application/json"
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        async with client.get("/openapi.json", headers={"If-None-Match": known}) as again:
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] == tag
    async with client.get("/openapi.json", headers={"If-None-Match": '"other"'}) as changed:
        assert changed.status == 200


async def test_it_says_where_the_api_is(store: Store, aiohttp_client: Any) -> None:
    client = await aiohttp_client(application(store, "https://keys.example.com"))
    async with client.get("/openapi.json") as response:
        servers = [server["url"] for server in (await response.json())["servers"]]
    assert servers == ["https://keys.example.com", "/"]
