"""Every row of the refusal table: status, code, challenge, and a backend that saw nothing."""

from __future__ import annotations

import concurrent.futures
from typing import NamedTuple

import pytest

from gateway.core.tokens import make_token
from tests.wire.backend import Backend, Exchange, eventually
from tests.wire.client import Client, Cut, Response, assert_date, assert_refused, get
from tests.wire.product import Keys, Product, cli, free_port, make_key


def mistyped(token: str) -> str:
    """Change one digit, as a slip of the hand does: the check digits no longer fit."""
    swap = "A" if token[20] != "A" else "B"
    return token[:20] + swap + token[21:]


def stranger() -> str:
    """A token of the right form that nobody was given."""
    return make_token("gw_live_", lambda alphabet: alphabet[7])


def bearer(text: str) -> str:
    return f"Authorization: {text}"


class Row(NamedTuple):
    """``fields`` may hold the names of keys in braces."""

    name: str
    fields: list[str]
    code: str
    status: int = 401


UNAUTHENTICATED = [
    Row("nothing", [], "credential_missing"),
    Row("key in the query", ["X-Other: 1"], "credential_missing"),
    Row("key in a cookie", ["Cookie: X-API-KEY={viewer}; cqloudLoginToken={viewer}"], "credential_missing"),
    Row("basic", ["Authorization: Basic dXNlcjpwYXNz"], "credential_missing"),
    Row("digest", ['Authorization: Digest username="x", realm="y"'], "credential_missing"),
    Row("aws4", ["Authorization: AWS4-HMAC-SHA256 Credential=x"], "credential_missing"),
    Row("key under a name like ours", ["X_API_KEY: {viewer}"], "credential_missing"),
    Row("key under apikey", ["apikey: {viewer}"], "credential_missing"),
    Row("proxy authorization", ["Proxy-Authorization: Bearer {viewer}"], "credential_missing"),
    Row("empty X-API-KEY", ["X-API-KEY:"], "credential_malformed"),
    Row("blank X-API-KEY", ["X-API-KEY:   "], "credential_malformed"),
    Row("bare Bearer", ["Authorization: Bearer"], "credential_malformed"),
    Row("bare Bearer and blanks", ["Authorization: Bearer  "], "credential_malformed"),
    Row("bare BEARER", ["Authorization: BEARER"], "credential_malformed"),
    Row("comma in bearer", ["Authorization: Bearer {viewer},x"], "credential_malformed"),
    Row("two words", ["Authorization: Bearer {viewer} x"], "credential_malformed"),
    Row("tab after Bearer", ["Authorization: Bearer\t{viewer}"], "credential_malformed"),
    Row("two words in X-API-KEY", ["X-API-KEY: {viewer} x"], "credential_malformed"),
    Row("comma in X-API-KEY", ["X-API-KEY: {viewer},{viewer}"], "credential_malformed"),
    Row("not ASCII", ["X-API-KEY: {viewer}é"], "credential_malformed"),
    Row("not ASCII in bearer", ["Authorization: Bearer é{viewer}"], "credential_malformed"),
    Row("over 8 KiB", ["X-API-KEY: " + "a" * 8200], "credential_malformed"),
    Row("bearer over 8 KiB", ["Authorization: Bearer " + "a" * 8200], "credential_malformed"),
    Row("known prefix, short", ["X-API-KEY: gw_live_abc"], "credential_malformed"),
    Row("only the prefix", ["X-API-KEY: gw_live_"], "credential_malformed"),
    Row("known prefix, long", ["X-API-KEY: {viewer}0"], "credential_malformed"),
    Row("known prefix, cut by one", ["X-API-KEY: {cut}"], "credential_malformed"),
    Row("mistyped", ["X-API-KEY: {mistyped}"], "credential_malformed"),
    Row("mistyped in bearer", ["Authorization: Bearer {mistyped}"], "credential_malformed"),
    Row("right form, unknown", ["X-API-KEY: {stranger}"], "key_unknown"),
    Row("right form, unknown, in bearer", ["Authorization: Bearer {stranger}"], "key_unknown"),
    Row("another form", ["X-API-KEY: some-imported-key-0123456789"], "key_unknown"),
    Row("other case of the key", ["X-API-KEY: {upper}"], "key_unknown"),
    Row("JWT shape", ["Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln"], "token_invalid"),
    Row("revoked", ["X-API-KEY: {revoked}"], "key_revoked"),
    Row("revoked in bearer", ["Authorization: Bearer {revoked}"], "key_revoked"),
    Row("repeated and equal", ["X-API-KEY: {viewer}", "X-API-KEY: {viewer}"], "conflicting_credentials", 400),
    Row("repeated", ["X-API-KEY: {viewer}", "x-api-key: {editor}"], "conflicting_credentials", 400),
    Row(
        "repeated bearer",
        [bearer("Bearer {viewer}"), bearer("Bearer {viewer}")],
        "conflicting_credentials",
        400,
    ),
    Row(
        "two that differ", ["X-API-KEY: {viewer}", bearer("Bearer {editor}")], "conflicting_credentials", 400
    ),
    Row("good and junk", ["X-API-KEY: {editor}", bearer("Bearer junk")], "conflicting_credentials", 400),
    Row(
        "good and another behind a tab",
        ["X-API-KEY: {viewer}", bearer("Bearer\t{editor}")],
        "conflicting_credentials",
        400,
    ),
    Row("junk and good", ["X-API-KEY: junk", bearer("Bearer {editor}")], "conflicting_credentials", 400),
]


@pytest.fixture(scope="session")
def names(keys: Keys) -> dict[str, str]:
    upper = keys.viewer.upper()
    return {
        "viewer": keys.viewer,
        "editor": keys.editor,
        "revoked": keys.revoked,
        "cut": keys.viewer[:-1],
        "mistyped": mistyped(keys.viewer),
        "stranger": stranger(),
        "upper": upper,
    }


def challenge(response: Response, code: str) -> None:
    """Hold WWW-Authenticate to RFC 6750 §3 and §3.1."""
    values = response.values("www-authenticate")
    if response.status == 401:
        assert len(values) == 1
        assert values[0].startswith(b'Bearer realm="gateway"')
        if code == "credential_missing":
            assert values[0] == b'Bearer realm="gateway"', "no error parameter without a credential"
        else:
            assert b'error="invalid_token"' in values[0]
    elif response.status == 403:
        assert b'error="insufficient_scope"' in values[0]
    else:
        assert values == []


@pytest.mark.parametrize("target", ["/never", "/never/absent?x-api-key={viewer}&access_token={viewer}"])
@pytest.mark.parametrize("row", UNAUTHENTICATED, ids=lambda row: row.name)
def test_credential_is_refused_with_its_reason(
    gateway: Product, backend: Backend, names: dict[str, str], row: Row, target: str
) -> None:
    before = backend.received
    with Client(gateway.port) as client:
        fields = [text.format(**names).encode() for text in row.fields]
        client.send(get(target.format(**names), *fields))
        response = client.response()
        assert_refused(response, row.status, row.code)
        challenge(response, row.code)
        echo = response.raw_head + response.body
        for secret in names.values():
            assert secret.encode() not in echo, "a credential is echoed"
        good = client.send(get("/", key=gateway.keys.viewer)).response()
        assert good.status == 200, "a refusal without a body keeps the connection"
    new = backend.requests[-1]
    assert new.target == b"/"
    assert backend.received - before == len(new.raw_head)


GOOD = [
    ["X-API-KEY: {viewer}"],
    ["x-api-key:{viewer}"],
    ["X-API-KEY: \t{viewer} \t"],
    ["Authorization: Bearer {viewer}"],
    ["Authorization: BEARER {viewer}"],
    ["authorization: bearer {viewer}"],
    ["Authorization: bEaReR   {viewer}"],
    ["Authorization: X-API-KEY {viewer}"],
    ["X-API-KEY: {viewer}", "Authorization: Bearer {viewer}"],
    ["X-API-KEY: {viewer}", "Authorization: Basic dXNlcjpwYXNz"],
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda fields: " + ".join(fields))
def test_credential_is_read_from_both_headers_and_removed(
    gateway: Product, backend: Backend, names: dict[str, str], path: str, fields: list[str]
) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, *(text.format(**names) for text in fields)))
        assert client.response().status == 200
    request = backend.the_request_for(path)
    assert names["viewer"].encode() not in request.raw_head
    assert not request.values(b"x-api-key")
    basic = [b"Basic dXNlcjpwYXNz"] if "Basic" in fields[-1] else []
    assert request.values(b"authorization") == basic, "another scheme is the backend's business"


VIEWER_MAY = ["GET", "HEAD", "OPTIONS"]
WRITES = ["POST", "PUT", "PATCH", "DELETE", "QUERY", "PROPFIND", "MKCOL", "COPY", "MOVE", "REPORT", "PURGE"]


@pytest.mark.parametrize("method", WRITES)
def test_viewer_may_not_write_and_editor_may(
    gateway: Product, backend: Backend, path: str, method: str
) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, method=method, key=gateway.keys.viewer, body=b""))
        response = client.response()
        assert_refused(response, 403, "permission_denied")
        challenge(response, "permission_denied")
        assert not backend.requests_for(path)
        client.send(get(path, method=method, key=gateway.keys.editor, body=b""))
        assert client.response().status == 200
    assert backend.the_request_for(path).method == method.encode()


@pytest.mark.parametrize("method", VIEWER_MAY)
def test_viewer_may_read(gateway: Product, backend: Backend, path: str, method: str) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, method=method, key=gateway.keys.viewer))
        assert client.response(method.encode()).status == 200
    assert backend.the_request_for(path).method == method.encode()


@pytest.mark.parametrize("method", ["SOURCE", "LOCK", "SUBSCRIBE", "M-SEARCH", "LINK", "ACL"])
def test_a_viewer_reaches_the_backend_by_no_other_method(
    gateway: Product, backend: Backend, path: str, method: str
) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, method=method, key=gateway.keys.viewer))
        response = client.response()
        assert_refused(response, (403, 501), ("permission_denied", "not_implemented"))
    assert not backend.requests_for(path)


def test_refused_request_with_a_body_is_not_followed_by_what_the_body_says(
    gateway: Product, backend: Backend, path: str
) -> None:
    smuggled = get("/never", key=gateway.keys.editor)
    with Client(gateway.port) as client:
        client.send(get(path, method="POST", key=gateway.keys.viewer, body=smuggled))
        assert_refused(client.response(), 403, "permission_denied")
        if client.is_quiet(0.1):
            assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
        else:
            client.expect_closed()
    assert not backend.requests_for("/never")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (["Expect: 200-ok"], 417, "expectation_failed"),
        (["Expect: 100-continue, x=y"], 417, "expectation_failed"),
        (["Expect: 100-continue", "Expect: other"], 417, "expectation_failed"),
        (["Expect:"], (417, 200), "expectation_failed"),
    ],
    ids=["other", "list", "two lines", "empty"],
)
def test_other_expectations_fail_after_authentication(
    gateway: Product, backend: Backend, fields: list[str], status: int | tuple[int, ...], code: str
) -> None:
    with Client(gateway.port) as client:
        client.send(get("/never-expect", *fields, method="POST", body=b"abc"))
        assert_refused(client.response(), 401, "credential_missing")
    with Client(gateway.port) as client:
        client.send(get("/never-expect", *fields, method="POST", body=b"abc", key=gateway.keys.editor))
        response = client.response()
        if response.status != 200:
            assert_refused(response, status, code)
            assert not backend.requests_for("/never-expect")
        else:
            assert 200 in (status if isinstance(status, tuple) else (status,))


def test_head_gets_a_refusal_without_a_body(gateway: Product) -> None:
    with Client(gateway.port) as client:
        client.send(get("/x", method="HEAD"))
        response = client.response(b"HEAD")
        assert_refused(response, 401, "credential_missing", method=b"HEAD")
        challenge(response, "credential_missing")
        client.send(get("/x", key=gateway.keys.viewer))
        assert client.response().status == 200, "bytes of a body followed the answer to HEAD"


def test_what_does_not_exist_is_revealed_only_to_those_who_are_let_in(routed: Product) -> None:
    answers = {}
    for target in ("/plain", "/absent"):
        with Client(routed.port) as client:
            anonymous = client.send(get(target)).response()
            unknown = client.send(get(target, key=stranger())).response()
            revoked = client.send(get(target, key=routed.keys.revoked)).response()
            viewer = client.send(get(target, key=routed.keys.viewer)).response()
            writing = client.send(get(target, method="DELETE", key=routed.keys.viewer)).response()
            answers[target] = [r.code for r in (anonymous, unknown, revoked)], viewer.status, writing.status
    reasons = ["credential_missing", "key_unknown", "key_revoked"]
    assert answers["/plain"] == (reasons, 200, 403)
    assert answers["/absent"] == (reasons, 404, 403)


def test_no_route_is_told_as_not_found(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        response = client.send(get("/absent", key=routed.keys.viewer)).response()
        assert_refused(response, 404, "no_route")
        assert client.send(get("/plain", key=routed.keys.viewer)).response().status == 200


def test_route_of_another_tenant_is_denied(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        response = client.send(get("/elsewhere", key=routed.keys.editor)).response()
        assert_refused(response, 403, "route_denied")
        challenge(response, "route_denied")
    assert not backend.requests_for("/elsewhere")


def test_route_narrowed_to_roles_denies_the_others(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        response = client.send(get("/plain/deeper/x", key=routed.keys.editor)).response()
        assert_refused(response, 403, "route_denied")
        assert client.send(get("/plain/deepe", key=routed.keys.editor)).response().status == 200


def test_role_ends_at_its_prefixes(routed: Product, backend: Backend) -> None:
    token = make_key(routed.store, "SitesEditor", "sites", "--config", str(routed.config))["secretKey"]

    def known() -> bool:
        with Client(routed.port) as client:
            return client.send(get("/sites", key=token)).response().status == 200

    eventually(known, within=2, why="a created key works within a second or two")
    with Client(routed.port) as client:
        for target, status in (("/sites/1", 200), ("/sites?x", 200), ("/sites/", 200), ("/plain", 403)):
            response = client.send(get(target, method="PUT", key=token, body=b"x")).response()
            assert response.status == status, target
            if status == 403:
                assert response.code == "route_denied"


def test_backend_that_refuses_connections_is_unreachable(routed: Product) -> None:
    with Client(routed.port) as client:
        for _ in range(2):
            response = client.send(get("/nobody", key=routed.keys.viewer)).response()
            assert_refused(response, 502, "upstream_unreachable")


def test_loop_is_detected_by_our_own_via(gateway: Product, backend: Backend, path: str) -> None:
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
        via = backend.the_request_for(path).value(b"via")
        assert via
        assert via.startswith(b"1.1 ")
        client.send(get(path, b"Via: " + via, key=gateway.keys.viewer))
        assert_refused(client.response(), 508, "loop_detected")
    with Client(gateway.port) as client:
        client.send(get(path, b"Via: 1.0 other, " + via, b"Via: 1.1 last", key=gateway.keys.viewer))
        assert_refused(client.response(), 508, "loop_detected")
    assert len(backend.requests_for(path)) == 1
    with Client(gateway.port) as client:
        client.send(get(path + "?foreign", "Via: 1.0 other, 1.1 gateway", key=gateway.keys.viewer))
        assert client.response().status == 200, "somebody else's Via is no loop"
    merged = b", ".join(backend.requests_for(path)[-1].values(b"via"))
    assert merged.replace(b" ", b"") == (b"1.0 other, 1.1 gateway, " + via).replace(b" ", b"")


def test_every_answer_has_one_date_and_a_request_id_of_its_own(gateway: Product, path: str) -> None:
    seen = set()
    with Client(gateway.port) as client:
        for key in (None, gateway.keys.viewer, None, gateway.keys.viewer):
            response = client.send(get(path, key=key)).response()
            assert_date(response)
            request_id = response.value("x-request-id")
            assert request_id
            seen.add(request_id)
    assert len(seen) == 4


@pytest.mark.parametrize("given", ["abc-DEF_1.2", "a", "a" * 128])
def test_request_id_of_the_caller_is_kept(gateway: Product, backend: Backend, path: str, given: str) -> None:
    with Client(gateway.port) as client:
        response = client.send(get(path, f"X-Request-Id: {given}", key=gateway.keys.viewer)).response()
        refusal = client.send(get(path, f"X-Request-Id: {given}")).response()
    assert response.value("x-request-id") == given.encode()
    assert backend.the_request_for(path).value(b"x-request-id") == given.encode()
    assert refusal.problem["request_id"] == given


@pytest.mark.parametrize("given", ["a" * 129, "a b", 'a"b', "a{b}", "", "a/b", "a,b", "é"])
def test_request_id_that_is_not_plain_is_replaced(
    gateway: Product, backend: Backend, path: str, given: str
) -> None:
    with Client(gateway.port) as client:
        response = client.send(get(path, f"X-Request-Id: {given}", key=gateway.keys.viewer)).response()
    mine = response.value("x-request-id")
    assert mine
    assert mine != given.encode("latin-1")
    assert backend.the_request_for(path).value(b"x-request-id") == mine


def test_repeated_request_id_reaches_the_backend_once(gateway: Product, backend: Backend, path: str) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, "X-Request-Id: one", "X-Request-Id: two", key=gateway.keys.viewer))
        response = client.response()
    assert response.status in (200, 400)
    if response.status == 200:
        assert backend.the_request_for(path).value(b"x-request-id") == response.value("x-request-id")


def test_expired_key_is_told_to_its_holder(gateway: Product, product: type[Product]) -> None:
    """A key whose lifetime ends while the gateway runs is refused from that instant on."""
    store = gateway.store
    made = cli(
        "keys", "create", "--tenant", "default", "--name", "brief", "--permission", "viewer", "--ttl", "2s",
        "--json", store=store,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"no lifetime shorter than a day can be asked for: {made.stderr}")
    import json

    token = json.loads(made.stdout)["secretKey"]

    def code() -> str | None:
        with Client(gateway.port) as client:
            response = client.send(get("/x", key=token)).response()
            return "served" if response.status == 200 else response.code

    eventually(lambda: code() == "served", within=1.8, why="the new key was not served")
    eventually(lambda: code() == "key_expired", within=4, why="the key outlived its expiry")


def test_connections_above_the_cap_are_told_or_closed_and_it_recovers(product: type[Product]) -> None:
    small = product({"limits": {"connections": 20}})
    idle = [Client(small.port) for _ in range(20)]
    try:
        for client in idle:
            assert client.send(get("/x", key=small.keys.viewer)).response().status == 200
        with Client(small.port) as one_more:
            one_more.send_pieces([get("/x", key=small.keys.viewer)])
            try:
                response = one_more.response()
            except (ConnectionError, Cut):
                pass  # closed without a word is allowed too
            else:
                assert_refused(response, 503, "overloaded")
                assert response.value("retry-after")
        for client in idle:
            assert client.send(get("/x", key=small.keys.viewer)).response().status == 200
    finally:
        for client in idle:
            client.close()

    def served() -> bool:
        try:
            with Client(small.port) as client:
                return client.send(get("/x", key=small.keys.viewer)).response().status == 200
        except Exception:
            return False

    eventually(served, why="it did not recover after the crowd had gone")


def test_running_out_of_file_descriptors_does_not_stop_the_gateway(product: type[Product]) -> None:
    tight = product({"limits": {"connections": 10000}}, files=120)
    crowd: list[Client] = []
    try:
        for _ in range(200):
            crowd.append(Client(tight.port))
        assert tight.process.poll() is None
        used = cpu_seconds(tight.process.pid)
        eventually(lambda: True)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(crowd[0].is_quiet, 0.5).result()
        assert cpu_seconds(tight.process.pid) - used < 0.4, "accepting spins while no descriptor is free"
    finally:
        for client in crowd:
            client.close()

    def served() -> bool:
        try:
            with Client(tight.port, timeout=1) as client:
                return client.send(get("/x", key=tight.keys.viewer)).response().status == 200
        except Exception:
            return False

    eventually(served, within=8, why="it did not recover by itself")


def cpu_seconds(pid: int) -> float:
    from pathlib import Path

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_backend_that_never_accepts_times_out(product: type[Product]) -> None:
    """A listener whose queue is full drops SYNs: the connect itself gets no answer."""
    import contextlib
    import socket

    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        slow = product({"timeouts": {"connect": "500ms"}}, upstream_port=port)
        with Client(slow.port) as client:
            response = client.send(get("/x", key=slow.keys.viewer)).response()
            assert_refused(response, (504, 502), ("upstream_timeout", "upstream_unreachable"))
            assert (response.status, response.code) == (504, "upstream_timeout")


def test_no_backend_at_all_is_502_for_posts_too(product: type[Product]) -> None:
    alone = product(upstream_port=free_port())
    with Client(alone.port) as client:
        response = client.send(get("/x", method="POST", body=b"abc", key=alone.keys.editor)).response()
        assert_refused(response, 502, "upstream_unreachable")
    assert "Traceback" not in alone.stderr


def test_silent_backend_is_a_gateway_timeout(hasty: Product, backend: Backend, path: str) -> None:
    ended = []

    def silent(exchange: Exchange) -> None:
        exchange.read_body()
        ended.append(exchange.wait_for_end(5))

    backend.on(path, silent)
    with Client(hasty.port) as client:
        response = client.send(get(path, key=hasty.keys.viewer)).response()
        assert_refused(response, 504, "upstream_timeout")
    eventually(lambda: ended == [True], why="the connection whose answer would come late was kept")
