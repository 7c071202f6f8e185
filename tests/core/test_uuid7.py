"""UUID version 7: the layout of RFC 9562, and that ids sort by time."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.uuid7 import uuid7


def test_the_example_of_the_standard() -> None:
    # RFC 9562 appendix A.6: rand_a is 0xCC3, rand_b 0x18C4DC0C0C07398F.
    entropy = ((0xCC3 << 64) | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert uuid7(0x017F22E279B0, entropy) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_a_later_millisecond_sorts_later(at: int, one: bytes, other: bytes) -> None:
    assert uuid7(at, one) < uuid7(at + 1, other)
    assert uuid.UUID(uuid7(at, one)).version == 7
    assert uuid.UUID(uuid7(at, one)).variant == uuid.RFC_4122
