"""Invariant: any rules text is read or refused, any message is decided, nothing faults, no effect leaves its form."""

from __future__ import annotations

import contextlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import LinkError
from spinrt.runtime.policy import Policy
from spinrt.sandbox.loader import load_extension
from tests.extensions.support import CONFIG, DELIVERY, EVENTS, MESSAGE, SHIPPED, Bench, FakeMessage, envelope

EXTENSION = load_extension(SHIPPED / "delivery")
KEYWORDS = (
    "not always size over under header list detail sender user exists is contains matches and file flag reject stop"
)
WORDS = [
    *re.findall(r"\S+", KEYWORDS),
    "->",
    ";",
    "10K",
    "550",
    "Subject",
    "'a b'",
    '"${list}"',
    "x/${detail}",
    "${list-id}",
]
WORDS += ["'*a?'", "*", "#", "'", '"', "\\Flagged", "\n", "\n"]
RULES = "{} -> {}"
CONDITIONS = [
    "header Subject matches '*a*b'",
    "not list contains .",
    "detail exists",
    "not sender exists",
    "size over 1K",
]
CONDITIONS += ["list matches '*?*'", "header List-Id contains a", "always"]
ACTIONS = ["file '${detail}'", "file a/${list}", "file '${list-id}${list-id}${list-id}${list-id}'", "flag x", "stop"]
ACTIONS += ["header X ${list}", "reject 450 no", "discard"]

valid = st.builds(
    lambda conditions, actions: RULES.format(" and ".join(conditions), "; ".join(actions)),
    st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=4),
    st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=6),
)
texts = st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join), st.lists(valid).map("\n".join))
values = st.one_of(st.binary(max_size=100), st.text("ab<>.*?/ %", max_size=40).map(str.encode))


@settings(max_examples=300, deadline=None)
@given(rules=texts, subject=values, list_id=values, detail=st.none() | st.text(max_size=80))
def test_any_rules_and_messages(rules: str, subject: bytes, list_id: bytes, detail: str | None) -> None:
    """Names that were put together from a message are harmless parts."""
    bench = Bench()
    policy = Policy.granting(CONFIG, MESSAGE, DELIVERY, config={"rules": rules})
    with contextlib.suppress(LinkError):
        bench.runtime.load(EXTENSION, policy)
        message = FakeMessage([("Subject", subject), ("List-Id", list_id)])
        bench.raise_(f"{EVENTS}#deliver", envelope(detail=detail), message)
    for call in bench.effects():
        if call[0] == "file-into" and call[1].startswith("a/"):
            assert re.fullmatch(r"a/[a-z0-9_-][a-z0-9._-]{0,63}", call[1])
