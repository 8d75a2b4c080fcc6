"""The short way to a SHA-256 gives what hashlib gives."""

from __future__ import annotations

import hashlib

from hypothesis import example, given
from hypothesis import strategies as st

from spinrt._core import sha256_of


@given(st.binary(max_size=4096))
@example(b"x" * 55)
@example(b"x" * 64)
@example(b"x" * 2047)
@example(b"x" * 2048)
def test_short_way_gives_what_hashlib_gives(data: bytes) -> None:
    """On both sides of a block, and of the length from which hashlib does it."""
    assert sha256_of(data) == hashlib.sha256(data).digest()
