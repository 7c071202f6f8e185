"""JSON in which two readers could see different things is refused, quickly, and without a 500."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.http.faults import FaultError
from gateway.control.http.strict_json import DEEPEST, read_json, shown_name

LARGEST = 65536


@pytest.mark.parametrize(
    ("content", "member", "words"),
    [
        (b'{"a":1,"a":1}', "a", "more than once"),
        (b'{"a":1,"\\u0061":2}', "a", "more than once"),
        (b'{"x":[{"b":1,"b":2}]}', "b", "more than once"),
        (b'{"a":NaN}', None, "NaN"),
        (b'{"a":-Infinity}', None, "-Infinity"),
        (b'{"a":1e999}', None, "out of range"),
        (b'{"a":-1e999}', None, "out of range"),
        (b'{"a":' + b"1" * 21 + b"}", None, "digits"),
        (b'{"a":-' + b"1" * 5000 + b"}", None, "digits"),
        (b'{"a":"\\ud800"}', "a", "surrogate"),
        (b'{"a":{"b":["x","\\udc00\\ud800"]}}', "a.b[1]", "surrogate"),
        (b'{"\\ud800":1}', "?", "surrogate"),
        (b'{"a":"x\\u0000"}', "a", "NUL"),
        (b'["\\u0000"]', "[0]", "NUL"),
        (b'{"a":"\x00"}', None, "valid JSON"),
        (b'{"a":1}{"b":2}', None, "valid JSON"),
        (b'{"a":1,}', None, "valid JSON"),
        (b"{'a':1}", None, "valid JSON"),
        (b'{"a":01}', None, "valid JSON"),
        (b'{"a":+1}', None, "valid JSON"),
        (b'{"a":1_0}', None, "valid JSON"),
        (b'{"a":tru}', None, "valid JSON"),
        (b'{"a":1}//x', None, "valid JSON"),
        (b'{"a"', None, "valid JSON"),
        (b'"\\', None, "valid JSON"),
        (b" ", None, "valid JSON"),
        (b'\xef\xbb\xbf{"a":1}', None, "valid JSON"),
        ('{"a":1}'.encode("utf-16"), None, "UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), None, "valid JSON"),
        (b'{"a":"\xff"}', None, "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', None, "UTF-8"),
        (b'{"a":"\xc0\x80"}', None, "UTF-8"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), None, "deeper"),
        (b'{"a":' * 5000, None, "deeper"),
        (b"[" * LARGEST, None, "deeper"),
    ],
)
def test_what_is_not_one_clear_document_is_refused(content: bytes, member: str | None, words: str) -> None:
    with pytest.raises(FaultError) as refused:
        read_json(content)
    fault = refused.value.fault
    assert (fault.status, fault.member) == (400, member)
    assert words in fault.detail


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a":"[[[[{{{{"}', {"a": "[[[[{{{{"}),
        (b'{"a":"\\"[{","b":"\\\\"}', {"a": '"[{', "b": "\\"}),
        (b'{"a":"\\\\u0000"}', {"a": "\\u0000"}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"[" * DEEPEST + b"]" * DEEPEST, json.loads("[" * DEEPEST + "]" * DEEPEST)),
        (b"[-0, 0.5, 1E3, 99999999999999999999]", [0, 0.5, 1000.0, 99999999999999999999]),
        (b'\t\r\n {"a":null} ', {"a": None}),
    ],
)
def test_what_is_one_is_read(content: bytes, value: Any) -> None:
    assert read_json(content) == value


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_is_sent_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(FaultError):
        read_json(content)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**18), 10**18)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_others_write_is_read_as_they_meant_it(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "piece",
    [b'"', b'"\\', b"\\", b'\\"', b"[]", b'""', b'{"":', b'"\\u0000",', b"1e", b"9", b'[""],'],
    ids=repr,
)
def test_no_content_takes_more_time_than_its_size_is_worth(piece: bytes) -> None:
    def spent(size: int) -> float:
        content = (piece * (size // len(piece) + 1))[:size]
        began = time.process_time()
        with pytest.raises(FaultError):
            read_json(content)
        return time.process_time() - began

    # Quadratic time would make it 64 times as much, and seconds: the margin is for noise.
    small = max(min(spent(LARGEST // 8) for _ in range(3)), 0.0005)
    assert min(spent(LARGEST) for _ in range(3)) < 30 * small


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a", "a"),
        ("", '""'),
        ("a\x1b[31m\u202eb", "a?[31m?b"),
        ("é", "?"),
        ("x" * 61, "x" * 60 + "…"),
    ],
)
def test_a_name_is_shown_short_and_visible(name: str, shown: str) -> None:
    assert shown_name(name) == shown
