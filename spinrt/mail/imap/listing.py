"""LIST and LSUB: which names a pattern means and with which attributes (RFC 3501 6.3.8, RFC 5258, RFC 6154)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from spinrt.mail.imap import utf7
from spinrt.mail.imap.command import List
from spinrt.mail.imap.response import astring
from spinrt.mail.store.model import Mailbox
from spinrt.mail.store.names import INBOX, SEPARATOR, is_inbox, parents

_WILD_RUN = re.compile(r"[*%]+")

Breathe = Callable[[], Awaitable[None]]
"""Lets other sessions have their turn (`Session.breathe`); awaited before each name is matched with a pattern."""


class Pattern:
    """A mailbox pattern: ``*`` is any text, ``%`` any text without the separator.

    Matching follows all ways at once, a bit for each place in the pattern, so its cost is the length of the name times
    that of the pattern in machine words, whatever wildcards there are. The parser bounds the pattern.
    """

    def __init__(self, pattern: str) -> None:
        tokens = _WILD_RUN.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        if is_inbox(tokens[: len(INBOX)]) and tokens[len(INBOX) : len(INBOX) + 1] in ("", SEPARATOR):
            tokens = INBOX + tokens[len(INBOX) :]
        self._literals: dict[str, int] = {}
        self._star = self._percent = 0
        for index, token in enumerate(tokens):
            if token == "*":
                self._star |= 1 << index
            elif token == "%":
                self._percent |= 1 << index
            else:
                self._literals[token] = self._literals.get(token, 0) | 1 << index
        self._accept = 1 << len(tokens)

    def matches(self, name: str) -> bool:
        wild = self._star | self._percent
        places = 1 | (1 & wild) << 1
        for character in name:
            stay = places & (self._star if character == SEPARATOR else wild)
            places = (places & self._literals.get(character, 0)) << 1 | stay
            places |= (places & wild) << 1
            if not places:
                return False
        return bool(places & self._accept)


async def list_lines(
    arguments: List, mailboxes: list[Mailbox], subscribed: list[str], breathe: Breathe
) -> AsyncIterator[bytes]:
    """The untagged LIST responses."""
    if arguments.patterns == ("",):
        yield b'* LIST (\\Noselect) "/" ""\r\n'
        return
    patterns = [Pattern(arguments.reference + pattern) for pattern in arguments.patterns]
    existing = {mailbox.name: mailbox for mailbox in mailboxes}
    above = {parent for name in existing for parent in parents(name)}
    subscriptions = set(subscribed)
    names = subscriptions if "SUBSCRIBED" in arguments.selection else set(existing) | above
    for name in sorted(await _matching(names, patterns, breathe), key=_order):
        mailbox = existing.get(name)
        if "SPECIAL-USE" in arguments.selection and (mailbox is None or mailbox.special_use is None):
            continue
        attributes = _attributes(mailbox, has_children=name in above)
        if "SUBSCRIBED" in arguments.selection | arguments.returns and name in subscriptions:
            attributes.append("\\Subscribed")
        yield _line(b"LIST", attributes, name)


async def lsub_lines(arguments: List, subscribed: list[str], breathe: Breathe) -> AsyncIterator[bytes]:
    r"""The untagged LSUB responses; with ``%`` a name above a subscribed one is ``\Noselect`` (RFC 3501 6.3.9)."""
    wanted = arguments.reference + arguments.patterns[0]
    pattern = Pattern(wanted)
    names: dict[str, list[str]] = {name: [] for name in await _matching(subscribed, [pattern], breathe)}
    if wanted.endswith("%"):
        above = {parent for name in subscribed for parent in parents(name)}
        for parent in await _matching(above, [pattern], breathe):
            names.setdefault(parent, ["\\Noselect"])
    for name in sorted(names, key=_order):
        yield _line(b"LSUB", names[name], name)


async def _matching(names: Iterable[str], patterns: list[Pattern], breathe: Breathe) -> list[str]:
    """Those of the names that one of the patterns means."""
    found = []
    for name in names:
        for pattern in patterns:
            await breathe()
            if pattern.matches(name):
                found.append(name)
                break
    return found


def _attributes(mailbox: Mailbox | None, *, has_children: bool) -> list[str]:
    attributes = ["\\HasChildren" if has_children else "\\HasNoChildren"]
    if mailbox is None:
        attributes.insert(0, "\\Noselect")
    elif mailbox.special_use is not None:
        attributes.append(mailbox.special_use)
    return attributes


def _order(name: str) -> tuple[bool, str]:
    return name != INBOX, name


def _line(command: bytes, attributes: list[str], name: str) -> bytes:
    return b'* %b (%b) "/" %b\r\n' % (command, " ".join(attributes).encode("ascii"), astring(utf7.encode(name)))
