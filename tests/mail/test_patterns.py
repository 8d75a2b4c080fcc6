"""Patterns of grants: what a star means, and that no text takes long."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.host.patterns import read_patterns
from spinrt.runtime.capability import Grant


def matches(patterns: list[str], text: str) -> bool:
    return bool(read_patterns(Grant("x", (), {"mailboxes": patterns}), "mailboxes")(text))


def plainly(pattern: str, text: str) -> bool:
    """The same, one character after the other."""

    @cache
    def rest(at: int, want: int) -> bool:
        if want == len(pattern):
            return at == len(text)
        if pattern[want] == "*":
            return rest(at, want + 1) or (at < len(text) and rest(at + 1, want))
        return at < len(text) and text[at] == pattern[want] and rest(at + 1, want + 1)

    return rest(0, 0)


@given(st.text("ab.*\n", min_size=1, max_size=10), st.text("ab.\n", max_size=14))
def test_a_star_stands_for_anything(pattern: str, text: str) -> None:
    """Line ends and nothing at all included; all other characters stand for themselves."""
    assert matches([pattern], text) == plainly(pattern, text)


def test_one_of_several_patterns_is_enough() -> None:
    """They are alternatives, each for the whole text."""
    assert matches(["a*b", "c"], "c") and matches(["a*b", "c"], "axb")
    assert not matches(["a*b", "c"], "cc") and not matches([], "a")


@pytest.mark.parametrize("pattern", ["*a" * 20 + "*b", "*" + "a*" * 20 + "b", "x" + "*a*b" * 10 + "*c"])
def test_no_text_takes_long(pattern: str) -> None:
    """Texts are chosen by guests; trying all places of all stars would take longer than there is time."""
    assert not matches([pattern], "a" * 1000)
    assert not matches([pattern], "x" + "ab" * 500 + "d")
