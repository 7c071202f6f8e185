"""What a field name means is remembered, but a caller cannot fill the memory with it."""

from __future__ import annotations

import tracemalloc

from gateway.core.fields import Kind, classify_request_field, classify_response_field
from gateway.core.grammar import connection_options
from gateway.core.http1 import parse_request_head
from gateway.core.limits import Limits


def test_long_names_that_nobody_repeats_are_not_kept() -> None:
    """Before authentication, 4096 names of 30 KiB each would stay for good."""
    tracemalloc.start()
    try:
        for number in range(500):
            name = b"X-%d-" % number + b"a" * 30000
            head = b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": 1"
            assert not isinstance(parse_request_head(head, Limits()), str)
            assert classify_response_field(name) is Kind.PLAIN
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000, f"{held} bytes are held"


def test_long_connection_values_that_nobody_repeats_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            value = b",".join(b"%x" % option for option in range(number * 7, number * 7 + 4000))
            assert len(connection_options(value)) == 4000
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000, f"{held} bytes are held"


def test_a_head_that_was_read_keeps_no_connection_options() -> None:
    tracemalloc.start()
    try:
        heads = []
        for number in range(100):
            named = b",".join(b"%x" % option for option in range(number * 7, number * 7 + 800))
            head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + named
            heads.append(parse_request_head(head, Limits()))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000, f"{held} bytes are held"


def test_a_long_spelling_is_judged_like_a_short_one() -> None:
    long = b"a" * 5000
    assert classify_request_field(b"X-Gateway-" + long) is Kind.DROPPED
    assert classify_request_field(b"x_forwarded_" + long) is Kind.DROPPED
    assert classify_request_field(long + b" ") is Kind.INVALID
    assert classify_request_field(long) is Kind.PLAIN
