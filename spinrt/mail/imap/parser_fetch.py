"""The arguments of FETCH: data items, sections, partial ranges, CHANGEDSINCE (RFC 3501 6.4.5, RFC 7162 3.1.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from spinrt.mail.imap.command import Arguments, Fetch, FetchItem, SequenceSet, Wanted
from spinrt.mail.imap.cursor import MODSEQ_MAX, NUMBER_MAX, Cursor, SyntaxProblem
from spinrt.mail.imap.response import astring
from spinrt.mail.message.view import Section, SectionKind

ITEMS_MAX = 100
PATH_MAX = 60
"""Part numbers in one section: deeper than any message is parsed."""
KNOWN_COUNT_MAX = 256
"""What clients want, remembered as it was written."""
KNOWN_BYTES_MAX = 512
"""Of one that is remembered: so many of them take a few megabytes at most."""

_PLAIN = frozenset(("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ"))
_MACROS = {
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_KINDS = {kind.value: kind for kind in SectionKind if kind is not SectionKind.WHOLE}
_RFC822 = {
    "RFC822": FetchItem("BODY[]", b"RFC822", Section(), marks_seen=True),
    "RFC822.HEADER": FetchItem("BODY[]", b"RFC822.HEADER", Section(kind=SectionKind.HEADER)),
    "RFC822.TEXT": FetchItem("BODY[]", b"RFC822.TEXT", Section(kind=SectionKind.TEXT), marks_seen=True),
}


def parse_fetch(*, uid: bool) -> Callable[[Cursor], Arguments]:
    """Make the reader of FETCH, or of UID FETCH, which answers with UID whether asked or not."""

    def parse(cursor: Cursor) -> Arguments:
        messages = SequenceSet(cursor.numbered())
        rest = cursor.data[cursor.position :]
        wanted, changed_since = (_wanted_again if len(rest) <= KNOWN_BYTES_MAX else _wanted)(rest, uid)
        cursor.position = cursor.end
        return Fetch(uid, messages, wanted, changed_since)

    return parse


def _wanted(rest: bytes, uid: bool) -> tuple[Wanted, int | None]:
    """Read what stands behind the numbers, to the end of the command: the items, and CHANGEDSINCE or none."""
    cursor = Cursor(rest)
    items = _items(cursor)
    changed_since = _changed_since(cursor)
    cursor.finish()
    names = {item.name for item in items}
    if uid and "UID" not in names:
        items = [_plain_item("UID"), *items]
    if changed_since is not None and "MODSEQ" not in names:
        items.append(_plain_item("MODSEQ"))
    return Wanted.of(items), changed_since


_wanted_again = lru_cache(maxsize=KNOWN_COUNT_MAX)(_wanted)
"""A client wants the same of one message after the other; what cannot be read is not remembered."""


def _plain_item(name: str) -> FetchItem:
    return FetchItem(name, name.encode("ascii"))


def _items(cursor: Cursor) -> list[FetchItem]:
    if not cursor.accept(b"("):
        name = cursor.keyword("a FETCH item") if not cursor.peek(b"(") else ""
        if name in _MACROS:
            return [_plain_item(item) for item in _MACROS[name]]
        return [_item(cursor, name)]
    items = [_item(cursor, cursor.keyword("a FETCH item"))]
    while not cursor.accept(b")"):
        cursor.space()
        items.append(_item(cursor, cursor.keyword("a FETCH item")))
        if len(items) > ITEMS_MAX:
            raise SyntaxProblem(f"more than {ITEMS_MAX} FETCH items")
    return items


def _item(cursor: Cursor, name: str) -> FetchItem:
    # "[" is an atom character: BODY[TEXT] comes as one atom up to the "]", BODY[HEADER.FIELDS as one up to the space.
    word, bracket, rest = name.partition("[")
    if bracket:
        if word not in ("BODY", "BODY.PEEK"):
            raise SyntaxProblem(f"no such FETCH item: {word}[")
        cursor.position -= len(rest)
        return _section_item(cursor, marks_seen=word == "BODY")
    if name in _PLAIN or name == "BODY":
        return _plain_item(name)
    if name in _RFC822:
        return _RFC822[name]
    raise SyntaxProblem(f"no such FETCH item: {name}")


def _section_item(cursor: Cursor, *, marks_seen: bool) -> FetchItem:
    section, text = _section(cursor)
    cursor.expect(b"]")
    partial = _partial(cursor)
    origin = b"<%d>" % partial[0] if partial else b""
    return FetchItem("BODY[]", b"BODY[" + text + b"]" + origin, section, partial, marks_seen)


def _section(cursor: Cursor) -> tuple[Section, bytes]:
    """The section, and how the answer writes it."""
    path: list[int] = []
    while cursor.position < cursor.end and chr(cursor.data[cursor.position]).isdigit():
        path.append(cursor.number(low=1, high=NUMBER_MAX))
        if len(path) > PATH_MAX:
            raise SyntaxProblem(f"section has more than {PATH_MAX} part numbers")
        if not cursor.accept(b"."):
            return Section(tuple(path)), _path_text(path)
    if cursor.peek(b"]") and not path:
        return Section(), b""
    name = cursor.keyword("a section")
    kind = _KINDS.get(name)
    if kind is None or (kind is SectionKind.MIME and not path):
        raise SyntaxProblem(f"no such section: {name}")
    text = (_path_text(path) + b"." if path else b"") + name.encode("ascii")
    if kind not in (SectionKind.FIELDS, SectionKind.FIELDS_NOT):
        return Section(tuple(path), kind), text
    cursor.space()
    names = _field_names(cursor)
    text += b" (" + b" ".join(astring(n) for n in names) + b")"
    return Section(tuple(path), kind, tuple(n.lower() for n in names)), text


def _path_text(path: list[int]) -> bytes:
    return ".".join(map(str, path)).encode("ascii")


def _field_names(cursor: Cursor) -> list[bytes]:
    cursor.expect(b"(")
    names = [cursor.astring("a field name")]
    while not cursor.accept(b")"):
        cursor.space()
        names.append(cursor.astring("a field name"))
    return names


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.accept(b"<"):
        return None
    first = cursor.number()
    cursor.expect(b".")
    count = cursor.number(low=1)
    cursor.expect(b">")
    return first, count


def _changed_since(cursor: Cursor) -> int | None:
    if not cursor.accept(b" "):
        return None
    cursor.expect(b"(")
    if cursor.keyword("CHANGEDSINCE") != "CHANGEDSINCE":
        raise SyntaxProblem("the only modifier of FETCH is CHANGEDSINCE")
    cursor.space()
    modseq = cursor.number(low=1, high=MODSEQ_MAX)
    cursor.expect(b")")
    return modseq
