"""Logging in and out (``002``, design §8 "Login"), the token that comes of it, and its signing keys.

Failures are sent from addresses of their own, since the gateway counts them by address.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from tests.dialects import shapes
from tests.dialects.client import Answer, basic, call, claims_of, cookie_of, header_of
from tests.dialects.harness import ACME, GLOBEX, PUBLIC_URL, World
from tests.wire.backend import eventually

_addresses = (f"127.9.{high}.{low}" for high, low in itertools.product(range(1, 250), range(1, 250)))


@pytest.fixture
def elsewhere() -> str:
    """An address of loopback that no other test sends from."""
    return next(_addresses)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_success_is_a_302_that_leads_nowhere_and_sets_the_cookie(world: World, method: str) -> None:
    person = world.person("viewer")
    answer = world.call(method, "/login", fields=[person.basic]).expect(302)
    world.keep_secret(cookie_of(answer).value.rpartition(".")[2])
    assert answer.body == b"OK"
    assert answer.value("content-type") == "text/plain; charset=UTF-8"
    assert answer.value("content-length") == "2"
    assert answer.value("location") is None
    assert "Origin" in (answer.value("vary") or "")
    assert "no-store" in (answer.value("cache-control") or ""), "it carries a token"
    cookie = cookie_of(answer)
    assert (cookie["path"], cookie["max-age"], cookie["samesite"]) == ("/", "21600", "Lax")
    assert cookie["httponly"]
    assert cookie["secure"]
    assert cookie["domain"] == "", "none is configured: this host alone"


def test_the_token_says_who_she_is_where_for_one_hour(world: World) -> None:
    person = world.person("editor")
    token = world.log_in(person)
    header, claims = header_of(token), claims_of(token)
    shapes.Members({"alg": "RS256", "typ": "JWT", "kid": shapes.text}).compare(header)
    shapes.Members(
        {
            "iss": PUBLIC_URL,
            "sub": shapes.subject_id,
            "email": person.email,
            "tenant": ACME,
            "role": "editor",
            "permission": "editor",
            "jti": shapes.text,
            "iat": lambda value: type(value) is int,
            "exp": claims["iat"] + 3600,
        }
    ).compare(claims)
    keys = world.call("GET", "/.well-known/jwks.json").expect(200).json["keys"]
    (key,) = [key for key in keys if key["kid"] == header["kid"]]
    assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(key), "the public half alone"
    verified = jwt.decode(token, jwt.PyJWK(key), algorithms=["RS256"], audience="gateway:login")
    assert verified["sub"] == claims["sub"]


@pytest.mark.parametrize("field_name", ["Authorization", "X-API-KEY"])
def test_the_token_passes_the_proxy_with_her_permission(world: World, field_name: str) -> None:
    viewer, editor = world.user("viewer").token, world.user("editor").token
    for token in (viewer, editor):
        eventually(lambda token=token: world.proxy(token, field_name=field_name) == 200)
    assert world.proxy(viewer, "POST", field_name=field_name) == 403
    assert world.proxy(editor, "POST", field_name=field_name) == 200


def test_each_login_makes_another_token(world: World) -> None:
    person = world.person("viewer")
    assert world.log_in(person) != world.log_in(person)


def _without_ids(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return an answer less what names the one request, and its time."""
    request_id = (answer.value("x-request-id") or "-").encode()
    fields = [(n.lower(), v) for n, v in answer.fields if n.lower() not in ("x-request-id", "date")]
    return answer.status, answer.body.replace(request_id, b"-"), sorted(fields)


def test_every_failure_is_one_challenge_in_the_same_words(world: World, elsewhere: str) -> None:
    """A wrong password, an unknown user, no password and an empty one cannot be told apart."""
    person = world.person("viewer")
    answers = [
        world.call(method, "/login", fields=fields, source=elsewhere)
        for method in ("GET", "POST")
        for fields in (
            [basic(person.email, "not the password")],
            [basic("nobody@acme.example", "not the password")],
            [basic(person.email, "")],
        )
    ]
    for answer in answers:
        shapes.problem_of(answer.expect(401))
        assert (answer.value("www-authenticate") or "").startswith('Basic realm="')
        assert answer.values("set-cookie") == []
    assert len({str(_without_ids(answer)) for answer in answers}) == 1, answers


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_password_the_answer_is_a_prompt_for_it(world: World, method: str) -> None:
    answer = world.call(method, "/login").expect(401)
    assert (answer.value("www-authenticate") or "").startswith('Basic realm="')


@pytest.mark.parametrize(
    "value",
    ["Basic", "Basic ", "Basic !!!!", "Basic YWJj", "Basic YQ==x", "Basic /////w==", "Digest a=b", "Bearer x",
     "Basic " + "QQ" * 4000],
    ids=["bare", "empty", "no-base64", "no-colon", "bad-padding", "no-utf8", "digest", "bearer", "long"],
)  # fmt: skip
def test_malformed_credentials_are_refused(world: World, value: str, elsewhere: str) -> None:
    """RFC 7617: what is no user and password proves nobody. (431 where the field is too long.)"""
    answer = world.call("GET", "/login", fields=[("Authorization", value)], source=elsewhere)
    answer.expect(401, 400, *([431] if len(value) > 4096 else []))


def test_a_password_beyond_1_kib_is_refused_like_a_wrong_one(world: World, elsewhere: str) -> None:
    person = world.person("viewer")
    answer = world.call("GET", "/login", fields=[basic(person.email, "x" * 3000)], source=elsewhere)
    answer.expect(401)


def test_org_id_picks_the_organisation(world: World) -> None:
    person = world.person("viewer")
    world.join(person, "editor", GLOBEX)
    assert claims_of(world.log_in(person))["tenant"] == ACME, "the first is her default"
    theirs = claims_of(world.log_in(person, GLOBEX))
    assert (theirs["tenant"], theirs["role"]) == (GLOBEX, "editor")


def test_an_organisation_that_is_not_hers_is_403_whether_it_exists_or_not(
    world: World, elsewhere: str
) -> None:
    person = world.person("admin")
    answers = [
        world.call("GET", f"/login?orgId={name}", fields=[person.basic], source=elsewhere)
        for name in (GLOBEX, "absent")
    ]
    for answer, name in zip(answers, (GLOBEX, "absent"), strict=True):
        shapes.problem_of(answer.expect(403))
        assert answer.values("set-cookie") == []
        answer.body = answer.body.replace(name.encode(), b"-")
    assert _without_ids(answers[0])[1] == _without_ids(answers[1])[1]


@pytest.mark.parametrize("path", ["/console/", "/console/?tab=keys", "/"])
def test_next_leads_to_a_local_path(world: World, path: str) -> None:
    person = world.person("viewer")
    escaped = path.replace("?", "%3F").replace("=", "%3D")
    answer = world.call("GET", f"/login?next={escaped}", fields=[person.basic]).expect(302)
    assert answer.value("location") == path


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example/", "/%5Cevil.example", "%5C%5Cevil.example", "/%09/evil.example",
     "console", "javascript:alert(1)", "/%0d%0aSet-Cookie:a=b", "%20//evil.example", "///evil.example"],
)  # fmt: skip
def test_next_leads_nowhere_else(world: World, target: str) -> None:
    person = world.person("viewer")
    answer = world.call("GET", f"/login?next={target}", fields=[person.basic]).expect(400)
    shapes.problem_of(answer)
    assert "next" in answer.json["detail"]
    assert answer.values("set-cookie") == []


@pytest.mark.parametrize("query", ["orgId=acme&orgId=globex", "next=/a&next=/b", "organisation=acme"])
def test_repeated_and_unknown_parameters_are_refused(world: World, query: str, elsewhere: str) -> None:
    person = world.person("viewer")
    world.call("GET", f"/login?{query}", fields=[person.basic], source=elsewhere).expect(400)


def test_a_disabled_user_cannot_log_in(world: World, elsewhere: str) -> None:
    person = world.person("editor")
    world.cli("users", "set", person.email, "--enabled", "false")
    world.call("GET", "/login", fields=[person.basic], source=elsewhere).expect(401, 403)


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_guessing_is_ended_from_there_and_from_nowhere_else(
    world: World, known: bool, elsewhere: str
) -> None:
    """Pitfall 82: 429 with Retry-After per account and address; a stranger locks nobody out.

    An unknown user is throttled exactly alike. The limit itself is the gateway's to state: at most
    20 attempts are let through here.
    """
    person = world.person("viewer")
    name = person.email if known else f"nobody-{elsewhere}@acme.example"
    statuses = []
    for guess in range(25):
        answer = world.call("GET", "/login", fields=[basic(name, f"guess {guess}")], source=elsewhere)
        statuses.append(answer.status)
        if answer.status == 429:
            break
    assert statuses[-1] == 429, statuses
    assert set(statuses[:-1]) == {401}
    assert 3 <= len(statuses) <= 21
    assert int(answer.value("retry-after") or "0") > 0
    shapes.problem_of(answer)
    if known:
        world.call("GET", "/login", fields=[person.basic], source=elsewhere).expect(429)
        world.call("GET", "/login", fields=[person.basic], source=next(_addresses)).expect(302)


def test_many_right_logins_at_once_all_succeed(world: World, elsewhere: str) -> None:
    person = world.person("viewer")

    def log_in(_: int) -> int:
        return call(world.port, "GET", "/login", fields=[person.basic], source=elsewhere).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(log_in, range(32))) == {302}


def test_a_logged_out_token_is_dead_everywhere(world: World) -> None:
    person = world.person("editor")
    token, other = world.log_in(person), world.log_in(person)
    bearer = [("Authorization", f"Bearer {token}")]
    eventually(lambda: world.proxy(token) == 200)
    world.call("POST", "/logout", fields=bearer).expect(204, 200)
    world.call("GET", "/api/1/api-keys", fields=bearer).expect(401)
    eventually(lambda: world.proxy(token) == 401, why="the proxy still takes a logged-out token")
    assert world.proxy(other) == 200, "another session of hers goes on"


def test_who_is_not_logged_in_cannot_log_out(world: World) -> None:
    """Reading: an API key is no session; 400 or 403, and the key goes on working."""
    world.call("POST", "/logout").expect(401)
    key = world.cli_key("editor")["secretKey"]
    eventually(lambda: world.proxy(key) == 200)
    world.key_caller(key).post("/logout").expect(400, 403)
    assert world.proxy(key) == 200


def test_a_rotated_signing_key_is_honoured_beside_the_new_one(world: World) -> None:
    person = world.person("viewer")
    before = world.log_in(person)
    world.cli("signing-keys", "rotate")
    eventually(
        lambda: header_of(world.log_in(person))["kid"] != header_of(before)["kid"],
        why="logins are still signed by the key before",
    )
    after = world.log_in(person)
    kids = {key["kid"] for key in world.call("GET", "/.well-known/jwks.json").json["keys"]}
    assert {header_of(before)["kid"], header_of(after)["kid"]} <= kids
    for token in (before, after):
        world.call("GET", "/api/1/api-keys", fields=[("X-API-KEY", token)]).expect(200)
        eventually(lambda token=token: world.proxy(token) == 200)


def test_her_role_now_counts_not_the_one_at_login(world: World) -> None:
    person = world.person("editor")
    session = world.session(person)
    eventually(lambda: world.proxy(session.token, "POST") == 200)
    world.cli("users", "set", person.email, "--tenant", ACME, "--role", "viewer")
    session.post("/api/1/api-keys", {"name": "n", "ttl": 1, "permission": "viewer"}).expect(403)
    eventually(lambda: world.proxy(session.token, "POST") == 403)
    world.cli("users", "remove", person.email, "--yes")
    session.get("/api/1/api-keys").expect(401, 403)
    eventually(lambda: world.proxy(session.token) in (401, 403))
