"""Any split of a byte stream into reads gives the same answers and the same bytes at the backend."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.backend import Backend
from tests.wire.client import Client, chunked, get
from tests.wire.product import Product

VARYING = re.compile(rb"(?i)(x-request-id|date): [^\r]*|\"request_id\":\s*\"[^\"]*\"")


def stream_of(names: Sequence[str], product: Product, path: str) -> bytes:
    """Join a pipeline from named pieces; some are refusals, some break the connection."""
    viewer, editor = product.keys.viewer, product.keys.editor
    chunk = "Transfer-Encoding: chunked"
    pieces = {
        "get": get(path, key=viewer),
        "refused": get(path),
        "post": get(path, method="POST", key=editor, body=b"hello\r\n\r\n"),
        "chunks": get(path, chunk, method="PUT", key=editor)
        + b"3;e=1\r\nabc\r\n" + chunked(b"d" * 20, trailers=b"T: t\r\n"),
        "denied": get(path, method="POST", key=viewer, body=b"GET / HTTP/1.1\r\n\r\n"),
        "head": get(path, method="HEAD", key=viewer),
        "empty lines": b"\r\n\r\n" + get(path, key=viewer),
        "bad field": get(path, "Bad : field", key=viewer),
        "bad chunk": get(path, chunk, method="POST", key=editor) + b"3\r\nabcX\r\n0\r\n\r\n",
        "bad version": get(path, key=viewer, version="HTTP/1.3"),
        "bare LF": b"GET " + path.encode() + b" HTTP/1.1\nHost: a\r\n\r\n",
        "two lengths": get(path, "Content-Length: 5", method="POST", key=editor, body=b"hello"),
        "last": get(path, "Connection: close", key=viewer),
    }  # fmt: skip
    return b"".join(pieces[name] for name in names)


GOOD = ["get", "refused", "post", "chunks", "denied", "head", "empty lines"]
ENDS = ["bad field", "bad chunk", "bad version", "bare LF", "two lengths", "last"]


def play(
    product: Product, backend: Backend, path: str, stream: bytes, at: Sequence[int]
) -> tuple[bytes, list[object]]:
    """Send ``stream`` cut at ``at``; return the answers and what the backend read, less what varies."""
    begun = len(backend.requests_for(path))
    edges = [0, *sorted(set(at)), len(stream)]
    with Client(product.port) as client:
        client.send_pieces((stream[a:b] for a, b in itertools.pairwise(edges) if a < b), pause=0.001)
        answers = client.rest()
    requests = [
        (VARYING.sub(b"", request.raw_head), bytes(request.body), request.complete)
        for request in backend.requests_for(path)[begun:]
        if request.complete
    ]
    return VARYING.sub(b"", answers), list(requests)


def answers_in(stream: bytes) -> int:
    """Count the status lines."""
    return len(re.findall(rb"HTTP/1\.1 \d\d\d ", stream))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    names=st.lists(st.sampled_from(GOOD), max_size=4),
    end=st.sampled_from(ENDS),
    cuts=st.lists(st.integers(0, 1500), max_size=12),
)
def test_any_split_gives_the_same_exchange(
    gateway: Product, backend: Backend, names: list[str], end: str, cuts: list[int]
) -> None:
    path = "/split"
    stream = stream_of([*names, end], gateway, path)
    whole = play(gateway, backend, path, stream, [])
    split = play(gateway, backend, path, stream, [cut % len(stream) for cut in cuts])
    assert split == whole
    assert answers_in(whole[0]) == len(names) + 1


def test_byte_by_byte_gives_the_same_exchange(gateway: Product, backend: Backend, path: str) -> None:
    for end in ENDS:
        stream = stream_of([*GOOD, end], gateway, path)
        whole = play(gateway, backend, path, stream, [])
        assert play(gateway, backend, path, stream, range(0, len(stream), 3)) == whole, end
        assert answers_in(whole[0]) == len(GOOD) + 1
