"""Keep-alive, pipelining, 100-continue, early answers, half-close, the pool and its one retry."""

from __future__ import annotations

import threading
import time

import pytest

from tests.wire.backend import OK, PROMPTLY, Backend, Exchange, Gone, answer, eventually, ok
from tests.wire.client import Client, Cut, assert_refused, chunked, get
from tests.wire.product import Product


def test_connections_are_used_again_on_both_sides(gateway: Product, backend: Backend, path: str) -> None:
    with Client(gateway.port) as client:
        for number in range(20):
            response = client.send(get(f"{path}?{number}", key=gateway.keys.viewer)).response()
            assert response.status == 200
            assert not response.says_close
    connections = {id(request.connection) for request in backend.requests_for(path)}
    assert len(connections) == 1


def test_caller_that_asks_to_close_is_closed(gateway: Product, path: str) -> None:
    with Client(gateway.port) as client:
        response = client.send(get(path, "Connection: close", key=gateway.keys.viewer)).response()
        assert response.status == 200
        assert response.says_close
        client.expect_closed()


@pytest.mark.parametrize("line", ["Connection: keep-alive, CLOSE", "Connection: x\r\nConnection: close"])
def test_close_is_found_among_connection_options(
    gateway: Product, backend: Backend, path: str, line: str
) -> None:
    smuggled = get("/never", key=gateway.keys.editor)
    with Client(gateway.port) as client:
        client.send(get(path, line, key=gateway.keys.viewer) + smuggled)
        assert client.response().status == 200
        client.expect_closed()
    assert not backend.requests_for("/never")


def test_a_thousand_pipelined_requests_are_answered_in_order(
    gateway: Product, backend: Backend, path: str
) -> None:
    def number(exchange: Exchange) -> None:
        body = exchange.request.target.partition(b"?")[2]
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    backend.on(path, number)
    key = gateway.keys.viewer
    with Client(gateway.port, timeout=20) as client:
        sender = threading.Thread(
            target=client.send, args=(b"".join(get(f"{path}?{n}", key=key) for n in range(1000)),)
        )
        sender.start()
        assert [int(client.response().body) for _ in range(1000)] == list(range(1000))
        sender.join()


def test_refusals_take_their_turn_among_pipelined_requests(
    gateway: Product, backend: Backend, path: str
) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.1)
        exchange.send(OK)

    backend.on(path, slow)
    good, bad = get(path, key=gateway.keys.viewer), get(path)
    denied = get(path, method="POST", key=gateway.keys.viewer, body=b"abc")
    with Client(gateway.port) as client:
        client.send(good + bad + good + denied + good)
        statuses = [client.response().status for _ in range(3)]
        assert statuses == [200, 401, 200]
        assert client.response().status == 403
    assert len(backend.requests_for(path)) >= 2


def test_pipelined_requests_are_one_at_a_time_at_the_backend(
    gateway: Product, backend: Backend, path: str
) -> None:
    busy, most = 0, 0
    lock = threading.Lock()

    def count(exchange: Exchange) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.01)
        with lock:
            busy -= 1
        exchange.send(OK)

    backend.on(path, count)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer) * 10)
        for _ in range(10):
            assert client.response().status == 200
    assert most == 1


def test_pipelined_bodies_stay_apart(gateway: Product, backend: Backend, path: str) -> None:
    key = gateway.keys.editor
    raw = get(f"{path}?1", method="POST", key=key, body=b"GET /never HTTP/1.1\r\n\r\n")
    raw += get(f"{path}?2", "Transfer-Encoding: chunked", method="PUT", key=key) + chunked(b"ab", b"c" * 300)
    raw += get(f"{path}?3", key=key)
    with Client(gateway.port) as client:
        client.send(raw)
        for _ in range(3):
            assert client.response().status == 200
    one, two, three = backend.requests_for(path)
    assert bytes(one.body) == b"GET /never HTTP/1.1\r\n\r\n"
    assert bytes(two.body) == b"ab" + b"c" * 300
    assert (three.method, bytes(three.body)) == (b"GET", b"")
    assert not backend.requests_for("/never")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "QUERY"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_is_passed_on_for_every_method(
    gateway: Product, backend: Backend, path: str, method: str, framing: str
) -> None:
    smuggled = get("/never", key=gateway.keys.editor)
    key = gateway.keys.editor
    if framing == "length":
        raw = get(path, method=method, key=key, body=smuggled)
    else:
        raw = get(path, "Transfer-Encoding: chunked", method=method, key=key) + chunked(smuggled)
    with Client(gateway.port) as client:
        response = client.send(raw).response(method.encode())
        assert response.status in (200, 400)
        if response.status == 400:
            client.expect_closed()
        else:
            assert bytes(backend.the_request_for(path).body) == smuggled
    assert not backend.requests_for("/never")


def test_empty_chunked_body_and_zero_length_reach_the_backend_framed(
    gateway: Product, backend: Backend, path: str
) -> None:
    key = gateway.keys.editor
    with Client(gateway.port) as client:
        client.send(get(path, "Transfer-Encoding: chunked", method="POST", key=key) + chunked())
        assert client.response().status == 200
        client.send(get(path, method="POST", key=key, body=b""))
        assert client.response().status == 200
    one, two = backend.requests_for(path)
    assert one.values(b"transfer-encoding") == [b"chunked"]
    assert two.values(b"content-length") == [b"0"]


# Expect: 100-continue. The decision comes first.


def expecting(path: str, key: str | None, size: int = 3, version: str = "HTTP/1.1") -> bytes:
    fields = ["Expect: 100-continue", f"Content-Length: {size}"]
    return get(path, *fields, method="POST", key=key, version=version)


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("viewer", 403)])
def test_refused_expectation_gets_no_100(
    gateway: Product, backend: Backend, path: str, who: str, status: int
) -> None:
    key = gateway.keys.viewer if who == "viewer" else None
    with Client(gateway.port) as client:
        response = client.send(expecting(path, key)).response()
        assert response.status == status
        assert response.interim == []
    assert not backend.requests_for(path)


def test_expected_body_over_the_limit_gets_no_100(hasty: Product, backend: Backend, path: str) -> None:
    with Client(hasty.port) as client:
        response = client.send(expecting(path, hasty.keys.editor, 1_000_000)).response()
        assert_refused(response, 413, "body_too_large")
        assert response.interim == []
    assert not backend.requests_for(path)


@pytest.mark.parametrize("spelling", ["100-continue", "100-Continue"])
def test_continue_of_the_backend_is_relayed_once(
    gateway: Product, backend: Backend, path: str, spelling: str
) -> None:
    def go_on(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.read_body()
        exchange.send(OK)

    backend.on(path, go_on)
    raw = expecting(path, gateway.keys.editor).replace(b"100-continue", spelling.encode())
    with Client(gateway.port) as client:
        assert client.send(raw).head().status == 100
        time.sleep(1.3)
        response = client.send(b"abc").response()
        assert (response.status, response.interim) == (200, [])
    assert bytes(backend.the_request_for(path).body) == b"abc"


def test_backend_that_says_continue_twice_is_relayed_once(
    gateway: Product, backend: Backend, path: str
) -> None:
    def twice(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
        exchange.read_body()
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    backend.on(path, twice)
    with Client(gateway.port) as client:
        assert client.send(expecting(path, gateway.keys.editor)).head().status == 100
        response = client.send(b"abc").response()
    assert response.status == 200
    assert [interim.status for interim in response.interim] == []


def test_backend_that_never_says_continue_does_not_hold_the_body_back(
    gateway: Product, backend: Backend, path: str
) -> None:
    begun = time.monotonic()
    with Client(gateway.port) as client:
        assert client.send(expecting(path, gateway.keys.editor)).head().status == 100
        waited = time.monotonic() - begun
        assert waited < 3
        response = client.send(b"abc").response()
        assert (response.status, response.interim) == (200, [])
    assert bytes(backend.the_request_for(path).body) == b"abc"


def test_caller_that_sends_its_body_at_once_needs_no_continue(
    gateway: Product, backend: Backend, path: str
) -> None:
    with Client(gateway.port) as client:
        response = client.send(expecting(path, gateway.keys.editor) + b"abc").response()
        assert response.status == 200
        assert len(response.interim) <= 1
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200


def test_http_1_0_caller_gets_no_100(gateway: Product, backend: Backend, path: str) -> None:
    with Client(gateway.port) as client:
        response = client.send(expecting(path, gateway.keys.editor, version="HTTP/1.0") + b"abc").response()
        assert (response.status, response.interim) == (200, [])
    assert bytes(backend.the_request_for(path).body) == b"abc"


def test_final_answer_to_an_expectation_leaves_no_body_owed(
    gateway: Product, backend: Backend, path: str
) -> None:
    """The backend refuses the body: it must not be left waiting for it, nor read what follows as it."""
    backend.on(path, lambda exchange: exchange.send(OK.replace(b"200 OK", b"422 No")))
    with Client(gateway.port) as client:
        response = client.send(expecting(path, gateway.keys.editor)).response()
        assert (response.status, response.interim) == (422, [])
        if not response.says_close:
            client.send(b"abc" + get(path + "-next", key=gateway.keys.viewer))
            assert client.response().status == 200
    assert backend.requests_for(path)[0].connection.ended.wait(PROMPTLY), (
        "the connection was pooled in mid-request"
    )


def test_early_final_response_is_relayed_and_nothing_after_it_is_read(
    gateway: Product, backend: Backend, path: str
) -> None:
    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 5\r\n\r\nearly")
        exchange.wait_for_end()

    backend.on(path, early)
    head = get(path, "Content-Length: 1000", method="POST", key=gateway.keys.editor)
    with Client(gateway.port) as client:
        client.send(head + b"a" * 100)
        response = client.response()
        assert (response.status, response.body) == (413, b"early")
        assert response.says_close
        client.send_pieces([b"b" * 900, get("/never", key=gateway.keys.editor)])
        client.rest()
    assert backend.the_request_for(path).connection.ended.wait(PROMPTLY)
    assert not backend.requests_for("/never")


def test_early_response_reaches_a_caller_that_is_still_sending(
    gateway: Product, backend: Backend, path: str
) -> None:
    """The connection lingers, so that a reset does not destroy the answer on its way."""

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 401 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
        exchange.half_close()
        exchange.wait_for_end()

    backend.on(path, early)
    head = get(path, "Content-Length: 3000000", method="POST", key=gateway.keys.editor)
    for _ in range(3):
        with Client(gateway.port) as client:
            client.send_pieces([head, *[b"a" * 100_000] * 10])
            response = client.response()
            assert (response.status, response.body) == (401, b"early")


@pytest.mark.parametrize("status", [401, 403, 413])
def test_refusal_reaches_a_caller_that_is_still_sending(hasty: Product, path: str, status: int) -> None:
    key = {401: None, 403: hasty.keys.viewer, 413: hasty.keys.editor}[status]
    head = get(path, "Content-Length: 2000000", method="POST", key=key)
    for _ in range(3):
        with Client(hasty.port) as client:
            client.send_pieces([head, *[b"a" * 100_000] * 20])
            assert client.response().status == status


def test_refusal_waits_for_a_caller_that_reads_only_after_sending(gateway: Product, path: str) -> None:
    head = get(path, "Content-Length: 2000000", method="POST")
    with Client(gateway.port) as client:
        client.send(head)
        for _ in range(20):
            client.send(b"a" * 1000)  # raises where the gateway has reset the connection
            time.sleep(0.05)
        assert client.response().status == 401


# Ends: half-close, aborts, deaths.


def test_caller_that_half_closes_after_its_request_is_answered(
    gateway: Product, backend: Backend, path: str
) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.2)
        exchange.send(OK)

    backend.on(path, slow)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer)).half_close()
        assert client.response().body == b"ok"
        client.expect_closed()


def test_caller_that_half_closes_after_several_requests_gets_all_answers(
    gateway: Product, backend: Backend, path: str
) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer) * 5 + get(path)).half_close()
        assert [client.response().status for _ in range(6)] == [200] * 5 + [401]
        client.expect_closed()


def test_empty_lines_between_requests_take_no_answer_from_who_half_closes(
    gateway: Product, path: str
) -> None:
    with Client(gateway.port) as client:
        client.send((get(path) + b"\r\n") * 100).half_close()
        assert [client.response().status for _ in range(100)] == [401] * 100
        client.expect_closed()


def test_content_cut_short_behind_another_request_is_not_waited_for(
    gateway: Product, backend: Backend, path: str
) -> None:
    upload = get(path + "/cut", method="POST", key=gateway.keys.editor, body=b"abc")[:-1]
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer) + upload).half_close()
        assert client.response().status == 200
        client.expect_closed()
    for request in backend.requests_for(path + "/cut"):
        assert request.connection.ended.wait(PROMPTLY)
        assert not request.complete


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", ["fin", "reset"])
def test_caller_that_ends_in_mid_body_aborts_the_backend(
    gateway: Product, backend: Backend, path: str, framing: str, way: str
) -> None:
    gone = []

    def read(exchange: Exchange) -> None:
        try:
            exchange.read_body()
        except Gone:
            gone.append(True)
            raise

    backend.on(path, read)
    field, part = (
        ("Content-Length: 10", b"abc")
        if framing == "length"
        else ("Transfer-Encoding: chunked", b"3\r\nabc\r\n")
    )
    with Client(gateway.port) as client:
        client.send(get(path, field, method="POST", key=gateway.keys.editor) + part)
        eventually(lambda: backend.requests_for(path))
        if way == "fin":
            client.half_close()
            rest = client.rest()
            assert b" 200 " not in rest
        else:
            client.close()
    request = backend.the_request_for(path)
    assert request.connection.ended.wait(PROMPTLY)
    assert not request.complete


def test_caller_that_goes_away_takes_its_backend_connection_along(
    gateway: Product, backend: Backend, path: str
) -> None:
    ended = threading.Event()

    def wait(exchange: Exchange) -> None:
        if exchange.wait_for_end():
            ended.set()

    backend.on(path, wait)
    client = Client(gateway.port).send(get(path, key=gateway.keys.viewer))
    eventually(lambda: backend.requests_for(path))
    client.reset()
    assert ended.wait(PROMPTLY), "the late response could answer somebody else"


def test_caller_that_goes_away_in_mid_download_stops_the_backend(
    gateway: Product, backend: Backend, path: str
) -> None:
    stopped = threading.Event()

    def pour(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(2000):
                exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            stopped.set()

    backend.on(path, pour)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer))
        assert client.head().status == 200
    assert stopped.wait(5)


# The pool and its one safe retry.


def stale_then_ok(backend: Backend, path: str, way: str) -> list[int]:
    """Warm one connection; the next request on a used connection finds it dead."""
    seen: list[int] = []

    def handler(exchange: Exchange) -> None:
        seen.append(len(exchange.connection.requests))
        if len(exchange.connection.requests) > 1:
            exchange.reset() if way == "reset" else exchange.end()
            return
        ok(exchange)

    backend.on(path, handler)
    return seen


@pytest.fixture
def fresh_pool(gateway: Product, backend: Backend) -> None:
    """End every pooled connection and wait until the gateway knows."""
    backend.end_connections()
    series = 'gateway_upstream_connections{state="idle",upstream="backend"}'
    eventually(lambda: gateway.metric(series) == 0, within=3)


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_stale_connection_is_retried_once_where_it_is_safe(
    gateway: Product, backend: Backend, fresh_pool: None, path: str, method: str, way: str
) -> None:
    seen = stale_then_ok(backend, path, way)
    with Client(gateway.port) as client:
        # After HEAD a connection would rest first.
        for asked in ("GET" if method == "HEAD" else method, method):
            response = client.send(get(path, method=asked, key=gateway.keys.editor)).response(asked.encode())
            if method in ("PUT", "DELETE"):
                assert response.status in (200, 502)
            else:
                assert response.status == 200
    assert seen in ([1, 2, 1], [1, 2] if method in ("PUT", "DELETE") else [1, 2, 1])


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_stale_connection_is_never_retried_for_what_may_not_be_repeated(
    gateway: Product, backend: Backend, fresh_pool: None, path: str, method: str, way: str
) -> None:
    seen = stale_then_ok(backend, path, way)
    with Client(gateway.port) as client:
        first = client.send(get(path, method=method, key=gateway.keys.editor, body=b"")).response()
        assert first.status == 200
        second = client.send(get(path, method=method, key=gateway.keys.editor, body=b"")).response()
        assert_refused(second, 502, "upstream_protocol_error")
    assert seen == [1, 2], "a POST was sent twice"


def test_retry_happens_once_and_on_a_fresh_failure_not_at_all(
    gateway: Product, backend: Backend, fresh_pool: None, path: str
) -> None:
    backend.on(path, lambda exchange: exchange.end())
    with Client(gateway.port) as client:
        response = client.send(get(path, key=gateway.keys.viewer)).response()
        assert_refused(response, 502, "upstream_protocol_error")
    assert len(backend.requests_for(path)) == 1, "a fresh connection that fails is no stale one"


def test_backend_that_dies_after_a_byte_of_response_is_not_asked_again(
    gateway: Product, backend: Backend, fresh_pool: None, path: str
) -> None:
    def die(exchange: Exchange) -> None:
        if len(exchange.connection.requests) > 1:
            exchange.send(b"H")
            exchange.end()
        else:
            exchange.send(OK)

    backend.on(path, die)
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
        response = client.send(get(path, key=gateway.keys.viewer)).response()
        assert_refused(response, 502, "upstream_protocol_error")
    assert len(backend.requests_for(path)) == 2


def test_backend_that_closes_while_idle_is_noticed(gateway: Product, backend: Backend, path: str) -> None:
    """POSTs show it: they are not retried, so each needs a live connection from the start."""

    def close_after(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(OK)
        exchange.end()

    backend.on(path, close_after)
    with Client(gateway.port) as client:
        for _ in range(5):
            response = client.send(get(path, method="POST", key=gateway.keys.editor, body=b"abc")).response()
            assert response.status == 200
            assert backend.requests_for(path)[-1].connection.ended.wait(PROMPTLY)
            time.sleep(0.03)
    assert len(backend.requests_for(path)) == 5


def test_pool_holds_many_at_once_and_answers_never_cross(
    gateway: Product, backend: Backend, path: str
) -> None:
    def echo(exchange: Exchange) -> None:
        body = exchange.read_body()
        time.sleep(0.001)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    backend.on(path, echo)
    wrong: list[object] = []

    def call(caller: int) -> None:
        with Client(gateway.port, timeout=20) as client:
            for turn in range(25):
                body = b"%d-%d" % (caller, turn) * (1 + turn * 40)
                response = client.send(
                    get(path, method="POST", key=gateway.keys.editor, body=body)
                ).response()
                if response.body != body:
                    wrong.append((caller, turn, response))

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_aborted_exchanges_never_answer_the_next_caller(
    gateway: Product, backend: Backend, path: str
) -> None:
    def late(exchange: Exchange) -> None:
        exchange.read_body()
        time.sleep(0.02)
        body = exchange.request.target
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    backend.on(path, late)
    for number in range(15):
        with Client(gateway.port) as gone:
            gone.send(get(f"{path}?gone{number}", key=gateway.keys.viewer))
            time.sleep(0.005)
        with Client(gateway.port) as client:
            target = f"{path}?kept{number}"
            try:
                response = client.send(get(target, key=gateway.keys.viewer)).response()
            except Cut:
                pytest.fail("a good request was cut")
            assert response.body == target.encode()


def test_two_responses_for_one_head_request_stay_in_step(
    gateway: Product, backend: Backend, path: str
) -> None:
    backend.on(path, answer(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"))
    with Client(gateway.port) as client:
        raw = get(path, method="HEAD", key=gateway.keys.viewer) + get(path + "-next", key=gateway.keys.viewer)
        client.send(raw)
        assert client.response(b"HEAD").value("content-length") == b"50"
        assert client.response().body == b"ok"
