"""Uploads that follow one another on one connection, over a backend connection that is warm."""

from __future__ import annotations

from tests.wire.backend import Backend
from tests.wire.client import Client
from tests.wire.product import Product

BODY = b"x" * (1 << 20)


def test_a_large_upload_goes_on_when_its_first_bytes_came_with_the_head(
    gateway: Product, backend: Backend, path: str
) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nX-API-KEY: %b\r\nContent-Length: %d\r\n\r\n"
    upload = head % (path.encode(), gateway.keys.editor.encode(), len(BODY)) + BODY
    with Client(gateway.port) as client:
        # From the second on the backend's connection is a warm one, lent in the same step.
        for _ in range(8):
            assert client.send(upload).response(b"POST").status == 200
