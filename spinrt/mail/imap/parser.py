"""The grammar of commands: bytes of one whole command to a `Command` (RFC 3501 9, and the extensions we announce).

FETCH and SEARCH have files of their own. A command that cannot be read raises `SyntaxProblem`; nothing else is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from spinrt.mail.imap import utf7
from spinrt.mail.imap.command import (
    AppendTo,
    Arguments,
    Authenticate,
    Command,
    Copy,
    Create,
    Enable,
    ExpungeUids,
    GetStatus,
    Identify,
    List,
    Login,
    MailboxName,
    NoArguments,
    Rename,
    Select,
    SequenceSet,
    Store,
)
from spinrt.mail.imap.cursor import MODSEQ_MAX, Cursor, SyntaxProblem
from spinrt.mail.imap.parser_fetch import parse_fetch
from spinrt.mail.imap.parser_search import parse_search
from spinrt.mail.store.model import FlagsMode

_HEAD = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]{1,200}) (UID [A-Z]+(?= )|[A-Za-z]{1,20})')
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,200}(?= |\r?\n|\Z)')
Parse = Callable[[Cursor], Arguments]
"""Reads the arguments of one command, from behind its name to the end."""

_SYSTEM_FLAGS = {f.lower(): f for f in ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")}
_STATUS_ITEMS = frozenset(
    ("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ", "SIZE", "DELETED")
)
_LIST_SELECTION = frozenset(("SUBSCRIBED", "SPECIAL-USE", "REMOTE"))
PATTERNS_MAX = 100
"""Mailbox patterns in one LIST."""
PATTERN_BYTES_MAX = 1000
"""Of one mailbox pattern with its reference, as the client sends them: as long as a mailbox name may be."""
_LIST_RETURN = frozenset(("SUBSCRIBED", "CHILDREN", "SPECIAL-USE"))


def parse_command(raw: bytes) -> Command:
    """Read one whole command, literals in place, line end included. Raises SyntaxProblem."""
    match = _HEAD.match(raw)
    if match is None:
        raise SyntaxProblem("a command is a tag, a space and a name")
    tag, cursor = match[1].decode("ascii"), Cursor(raw, match.end())
    known = _BY_SPELLING.get(match[2])
    name, parse = known if known is not None else _named(match[2], cursor)
    arguments = parse(cursor)
    cursor.finish()
    return Command(tag, name, arguments)


def _named(word: bytes, cursor: Cursor) -> tuple[str, Parse]:
    """The command of that name in any case; UID has the rest of its name still before it."""
    name = word.decode("ascii").upper()
    if name == "UID":
        cursor.space()
        name = f"UID {cursor.keyword('a command')}"
    parse = _GRAMMAR.get(name)
    if parse is None:
        raise SyntaxProblem(f"no such command: {name}")
    return name, parse


def tag_of(raw: bytes) -> str | None:
    """The tag that a line starts with, for an answer to a command that could not be read."""
    match = _TAG.match(raw)
    return match[0].decode("ascii") if match else None


_APPEND = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]{1,200}) APPEND ', re.IGNORECASE)


def parse_append_start(raw: bytes) -> Command | None:
    """Read an APPEND up to the header of its message literal, which ``raw`` ends with.

    Returns:
        The command, or none if this is no APPEND, or the literal is its mailbox name and not its message.
    """
    match = _APPEND.match(raw)
    if match is None:
        return None
    cursor = Cursor(raw, match.end())
    if cursor.peek(b"{") and raw.find(b"\n", cursor.position) == len(raw) - 1:
        return None
    name = mailbox_name(cursor)
    cursor.space()
    flags: tuple[str, ...] = ()
    if cursor.peek(b"("):
        flags = store_flags(cursor.flag_list())
        cursor.space()
    moment = None
    if cursor.peek(b'"'):
        moment = cursor.date_time()
        cursor.space()
    if not cursor.peek(b"{"):
        raise cursor.problem("the message as a literal")
    return Command(match[1].decode("ascii"), "APPEND", AppendTo(name, flags, moment))


# -------------------------------------------------------------------------------------------------------------- pieces


def mailbox_name(cursor: Cursor) -> str:
    """A mailbox name as Unicode; INBOX in any case is ``INBOX``."""
    return _decode_name(cursor.astring("a mailbox name"))


def _decode_name(data: bytes) -> str:
    if data.upper() == b"INBOX":
        return "INBOX"
    try:
        return utf7.decode(data)
    except ValueError as error:
        raise SyntaxProblem(str(error)) from None


def store_flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    r"""Flags that a client may set, once each: system flags in their usual case, keywords as they are.

    ``\Recent`` belongs to the server; a client that copies flags from elsewhere may send it, and it is left out.
    """
    found: dict[str, str] = {}
    for flag in flags:
        known = _SYSTEM_FLAGS.get(flag.lower(), flag)
        if known.lower() == "\\recent":
            continue
        if known.startswith("\\") and known not in _SYSTEM_FLAGS.values():
            raise SyntaxProblem(f"flag {known} cannot be set")
        found.setdefault(known.lower(), known)
    return tuple(found.values())


def _options(cursor: Cursor, known: frozenset[str], what: str) -> frozenset[str]:
    """Words in parentheses, each one of ``known``."""
    cursor.expect(b"(")
    found: set[str] = set()
    while not cursor.accept(b")"):
        if found:
            cursor.space()
        word = cursor.keyword(what)
        if word not in known:
            raise SyntaxProblem(f"{what} {word} is not supported")
        found.add(word)
    return frozenset(found)


# ----------------------------------------------------------------------------------------------------------- arguments


def _none(_: Cursor) -> Arguments:
    return NoArguments()


def _login(cursor: Cursor) -> Arguments:
    cursor.space()
    user = cursor.astring("a user name")
    cursor.space()
    return Login(user, cursor.astring("a password"))


def _authenticate(cursor: Cursor) -> Arguments:
    cursor.space()
    mechanism = cursor.keyword("a mechanism")
    initial = None
    if cursor.accept(b" "):
        initial = cursor.data[cursor.position : cursor.end]
        cursor.position = cursor.end
    return Authenticate(mechanism, initial)


def _mailbox(cursor: Cursor) -> Arguments:
    cursor.space()
    return MailboxName(mailbox_name(cursor))


def _select(cursor: Cursor) -> Arguments:
    cursor.space()
    name = mailbox_name(cursor)
    condstore = False
    if cursor.accept(b" "):
        condstore = "CONDSTORE" in _options(cursor, frozenset(("CONDSTORE",)), "SELECT parameter")
    return Select(name, condstore)


def _create(cursor: Cursor) -> Arguments:
    cursor.space()
    name = mailbox_name(cursor)
    special_use: tuple[str, ...] = ()
    if cursor.accept(b" "):  # RFC 6154 3: CREATE name (USE (\Sent))
        cursor.expect(b"(")
        if cursor.keyword("USE") != "USE":
            raise SyntaxProblem("the only parameter of CREATE is USE")
        cursor.space()
        special_use = cursor.flag_list()
        cursor.expect(b")")
    return Create(name, special_use)


def _rename(cursor: Cursor) -> Arguments:
    cursor.space()
    name = mailbox_name(cursor)
    cursor.space()
    return Rename(name, mailbox_name(cursor))


def _reference(cursor: Cursor) -> tuple[str, int]:
    """The reference of LIST and LSUB, and how many bytes of a pattern it takes up."""
    data = cursor.astring("a mailbox name")
    return _decode_name(data), len(data)


def _pattern(cursor: Cursor, taken: int) -> str:
    data = cursor.list_mailbox()
    if taken + len(data) > PATTERN_BYTES_MAX:
        raise SyntaxProblem(f"mailbox pattern of {taken + len(data)} bytes, at most {PATTERN_BYTES_MAX} are taken")
    return _decode_name(data)


def _list(cursor: Cursor) -> Arguments:
    """LIST with the selection and return options of RFC 5258 that RFC 6154 builds on."""
    cursor.space()
    selection: frozenset[str] = frozenset()
    if cursor.peek(b"("):
        selection = _options(cursor, _LIST_SELECTION, "LIST option")
        cursor.space()
    reference, taken = _reference(cursor)
    cursor.space()
    patterns = _patterns(cursor, taken)
    returns: frozenset[str] = frozenset()
    if cursor.accept(b" "):
        if cursor.keyword("RETURN") != "RETURN":
            raise SyntaxProblem("expected RETURN behind the pattern of LIST")
        cursor.space()
        returns = _options(cursor, _LIST_RETURN, "LIST RETURN option")
    return List(reference, patterns, selection, returns)


def _patterns(cursor: Cursor, taken: int) -> tuple[str, ...]:
    if not cursor.accept(b"("):
        return (_pattern(cursor, taken),)
    patterns = [_pattern(cursor, taken)]
    while not cursor.accept(b")"):
        cursor.space()
        patterns.append(_pattern(cursor, taken))
        if len(patterns) > PATTERNS_MAX:
            raise SyntaxProblem(f"more than {PATTERNS_MAX} mailbox patterns")
    return tuple(patterns)


def _lsub(cursor: Cursor) -> Arguments:
    cursor.space()
    reference, taken = _reference(cursor)
    cursor.space()
    return List(reference, (_pattern(cursor, taken),))


def _status(cursor: Cursor) -> Arguments:
    cursor.space()
    name = mailbox_name(cursor)
    cursor.space()
    cursor.expect(b"(")
    items = [_status_item(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        items.append(_status_item(cursor))
    return GetStatus(name, tuple(dict.fromkeys(items)))


def _status_item(cursor: Cursor) -> str:
    item = cursor.keyword("a STATUS item")
    if item not in _STATUS_ITEMS:
        raise SyntaxProblem(f"no such STATUS item: {item}")
    return item


def _append(cursor: Cursor) -> Arguments:
    # A well-formed APPEND is taken apart when its message literal starts; here it has none.
    cursor.space()
    mailbox_name(cursor)
    raise SyntaxProblem("APPEND needs the message as a literal")


def _id(cursor: Cursor) -> Arguments:
    cursor.space()
    if not cursor.accept(b"("):
        if cursor.nstring() is not None:
            raise SyntaxProblem("ID takes NIL or a list")
        return Identify(())
    fields: list[tuple[bytes, bytes | None]] = []
    while not cursor.accept(b")"):
        if fields:
            cursor.space()
        key = cursor.string()
        cursor.space()
        fields.append((key, cursor.nstring()))
        if len(fields) > 30:  # RFC 2971 3.3
            raise SyntaxProblem("ID takes at most 30 pairs")
    return Identify(tuple(fields))


def _enable(cursor: Cursor) -> Arguments:
    cursor.space()
    capabilities = [cursor.keyword("a capability")]
    while cursor.accept(b" "):
        capabilities.append(cursor.keyword("a capability"))
    return Enable(tuple(capabilities))


def _store(uid: bool) -> Callable[[Cursor], Arguments]:
    def parse(cursor: Cursor) -> Arguments:
        messages = SequenceSet(cursor.numbered())
        unchanged_since = None
        if cursor.accept(b"("):
            if cursor.keyword("UNCHANGEDSINCE") != "UNCHANGEDSINCE":
                raise SyntaxProblem("the only modifier of STORE is UNCHANGEDSINCE")
            cursor.space()
            unchanged_since = cursor.number(high=MODSEQ_MAX)
            cursor.expect(b")")
            cursor.space()
        mode = FlagsMode.SET
        if cursor.accept(b"+"):
            mode = FlagsMode.ADD
        elif cursor.accept(b"-"):
            mode = FlagsMode.REMOVE
        item = cursor.keyword("FLAGS")
        if item not in ("FLAGS", "FLAGS.SILENT"):
            raise SyntaxProblem(f"STORE changes FLAGS, not {item}")
        cursor.space()
        return Store(uid, messages, mode, _flags(cursor), item.endswith("SILENT"), unchanged_since)

    return parse


def _flags(cursor: Cursor) -> tuple[str, ...]:
    """A list of flags, or flags without parentheses."""
    if cursor.peek(b"("):
        return store_flags(cursor.flag_list())
    flags = [cursor.flag()]
    while cursor.accept(b" "):
        flags.append(cursor.flag())
    return store_flags(tuple(flags))


def _copy(uid: bool, move: bool) -> Callable[[Cursor], Arguments]:
    def parse(cursor: Cursor) -> Arguments:
        messages = SequenceSet(cursor.numbered())
        return Copy(uid, messages, mailbox_name(cursor), move)

    return parse


def _uid_expunge(cursor: Cursor) -> Arguments:
    cursor.space()
    return ExpungeUids(SequenceSet(cursor.sequence_set()))


_GRAMMAR: dict[str, Parse] = {
    **dict.fromkeys(
        (
            "CAPABILITY",
            "NOOP",
            "LOGOUT",
            "STARTTLS",
            "CHECK",
            "CLOSE",
            "UNSELECT",
            "EXPUNGE",
            "IDLE",
            "NAMESPACE",
        ),
        _none,
    ),
    **dict.fromkeys(("DELETE", "SUBSCRIBE", "UNSUBSCRIBE"), _mailbox),
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "SELECT": _select,
    "EXAMINE": _select,
    "CREATE": _create,
    "RENAME": _rename,
    "LIST": _list,
    "LSUB": _lsub,
    "STATUS": _status,
    "APPEND": _append,
    "ID": _id,
    "ENABLE": _enable,
    "FETCH": parse_fetch(uid=False),
    "UID FETCH": parse_fetch(uid=True),
    "STORE": _store(uid=False),
    "UID STORE": _store(uid=True),
    "COPY": _copy(uid=False, move=False),
    "UID COPY": _copy(uid=True, move=False),
    "MOVE": _copy(uid=False, move=True),
    "UID MOVE": _copy(uid=True, move=True),
    "SEARCH": parse_search(uid=False),
    "UID SEARCH": parse_search(uid=True),
    "UID EXPUNGE": _uid_expunge,
}

_BY_SPELLING = {name.encode("ascii"): (name, parse) for name, parse in _GRAMMAR.items()}
"""As clients write them, which is in capitals."""
