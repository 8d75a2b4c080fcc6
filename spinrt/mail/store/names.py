"""Names of mailboxes: what is allowed, and what is above or below what.

Names are Unicode with ``/`` as separator. ``INBOX`` in any case means ``INBOX``, as the first component too, so that
``inbox/lists`` is below the inbox (RFC 3501 section 5.1; RFC 9051 section 5.1).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from spinrt.errors import UsageError

SEPARATOR: Final = "/"
INBOX: Final = "INBOX"
COMPONENT_BYTES_MAX: Final = 255
NAME_BYTES_MAX: Final = 1000
USER_BYTES_MAX: Final = 320
NAMES_KEPT: Final = 4096
"""Names found right that are remembered: each delivery names an account and a mailbox, mostly the same ones."""
SPECIAL_USES: Final = (
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Junk", "\\Junk"),
    ("Trash", "\\Trash"),
    ("Archive", "\\Archive"),
)
"""Mailboxes that every account has beside INBOX, with their use (RFC 6154)."""

_WILDCARDS: Final = frozenset("*%")


def is_inbox(part: str) -> bool:
    """Tell whether a name's first component is ``INBOX`` in any case; only ASCII letters have two cases here."""
    return part.isascii() and part.upper() == INBOX


@lru_cache(maxsize=NAMES_KEPT)
def canonical_name(name: str) -> str:
    """Check a mailbox name and return it with ``INBOX`` written as such.

    Raises:
        UsageError: Empty or too long, as a whole or in a component; control characters, lone surrogates or wildcards.
    """
    if name == INBOX:
        return name
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UsageError(f"mailbox name {ascii(name)[:80]}: not Unicode text") from None
    if not 0 < size <= NAME_BYTES_MAX:
        raise UsageError(f"mailbox name: {size} bytes, expected 1 … {NAME_BYTES_MAX}")
    parts = name.split(SEPARATOR)
    for part in parts:
        _check_component(name, part)
    if is_inbox(parts[0]):
        parts[0] = INBOX
    return SEPARATOR.join(parts)


def _check_component(name: str, part: str) -> None:
    if not part:
        raise UsageError(f"mailbox name {name[:80]!r}: empty part between separators")
    if len(part.encode()) > COMPONENT_BYTES_MAX:
        raise UsageError(f"mailbox name {name[:80]!r}: a part is longer than {COMPONENT_BYTES_MAX} bytes")
    if not part.isprintable() and any(unicodedata.category(character) == "Cc" for character in part):
        raise UsageError(f"mailbox name {name[:80]!r}: control character")
    if not _WILDCARDS.isdisjoint(part):
        raise UsageError(f"mailbox name {name[:80]!r}: '*' and '%' are wildcards")


@lru_cache(maxsize=NAMES_KEPT)
def check_user(user: str) -> None:
    """Raise UsageError unless ``user`` can name an account."""
    try:
        size = len(user.encode())
    except UnicodeEncodeError:
        raise UsageError(f"account name {ascii(user)[:80]}: not Unicode text") from None
    if not 0 < size <= USER_BYTES_MAX:
        raise UsageError(f"account name: {size} bytes, expected 1 … {USER_BYTES_MAX}")
    if any(unicodedata.category(character) == "Cc" for character in user):
        raise UsageError(f"account name {user[:80]!r}: control character")


def parents(name: str) -> list[str]:
    """Return the names above, from the top: ``a/b/c`` gives ``a`` and ``a/b``."""
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:count]) for count in range(1, len(parts))]


def below(name: str) -> tuple[str, str]:
    """Return the range of names below: those from the first (inclusive) to the second (exclusive), in code order."""
    return name + SEPARATOR, name + chr(ord(SEPARATOR) + 1)
