"""Attenuations by pattern: a list of texts in which ``*`` stands for anything, nothing included."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from spinrt.runtime.capability import Grant

Matcher: TypeAlias = Callable[[str], object]
"""Gives something true when the grant covers a text."""

PATTERNS_MAX = 1000


def read_patterns(grant: Grant, key: str, prepare: Callable[[str], str] = str) -> Matcher:
    """Return the matcher of a grant's patterns under ``key``; without that key everything matches.

    Args:
        grant: The grant.
        key: Name of the attenuation.
        prepare: Brings a pattern into the form that texts are matched in; ValueError refuses it.

    Raises:
        ConfigError: No list of patterns stands there.
    """
    if key not in grant.attenuations:
        return lambda text: True
    patterns = grant.attenuations[key]
    expected = f"a list of at most {PATTERNS_MAX} patterns, such as {_EXAMPLES.get(key, 'name*')!r}"
    if not isinstance(patterns, list) or len(patterns) > PATTERNS_MAX:
        raise grant.refuse(key, patterns, expected)
    expressions = []
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise grant.refuse(key, pattern, expected)
        try:
            expressions.append(_expression(prepare(pattern)))
        except ValueError as error:
            raise grant.refuse(key, pattern, str(error)) from None
    return re.compile("|".join(expressions) or r"(?!)", re.DOTALL).fullmatch


def read_switch(grant: Grant, key: str) -> bool:
    """Return a grant's truth value under ``key``, true without it.

    Raises:
        ConfigError: Something else stands there.
    """
    found = grant.attenuations.get(key, True)
    if not isinstance(found, bool):
        raise grant.refuse(key, found, "true or false")
    return found


_EXAMPLES = {"mailboxes": "INBOX/lists/*", "flags": "$*", "headers": "X-Spam-*", "addresses": "*@example.org"}


def _expression(pattern: str) -> str:
    # The text is a guest's choice. What stands between two stars is best found at its first place, so nothing there is
    # ever tried again (an atomic group); only the last star gives back. That takes length times length steps at most.
    first, *between = [re.escape(part) for part in re.split(r"\*+", pattern)]
    if not between:
        return f"(?:{first})"
    last = between.pop()
    return f"(?:{first}{''.join(f'(?>.*?{part})' for part in between)}.*{last})"
