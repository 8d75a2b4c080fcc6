"""Reading the lexical elements of one command (RFC 3501 9): atoms, strings, literals, numbers, lists, dates.

The cursor walks over the raw bytes of one whole command. Literals lie in place, ``{3}CRLF`` and three bytes, as they
came.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

NUMBER_MAX = 2**32 - 1
MODSEQ_MAX = 2**63 - 1
DEPTH_MAX = 50
"""Nested lists and search keys of one command."""

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*+)"')
_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}\r?\n")
_NUMBER = re.compile(rb"\d{1,20}")
_ESCAPE = re.compile(rb"\\(.)")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_SEQUENCE = re.compile(rb"(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?(?:,(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?)*+")
_ONE_RANGE = re.compile(rb" (\d{1,10}|\*)(?::(\d{1,10}|\*))? ")
_DATE = re.compile(rb'("?)(\d{1,2})-([A-Za-z]{3})-(\d{4})\1')
_DATE_TIME = re.compile(rb'"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"')
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower().encode(): number for number, name in enumerate(MONTHS, 1)}


class SyntaxProblem(Exception):
    """The command cannot be read; the text is for the client, behind BAD."""


class Cursor:
    """A position in one command. Every method reads what it names or raises `SyntaxProblem`."""

    __slots__ = ("_depth", "data", "end", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.end = len(data)
        if data.endswith(b"\n"):
            self.end -= 2 if data.endswith(b"\r\n") else 1
        self._depth = 0

    def problem(self, expected: str) -> SyntaxProblem:
        """A problem at this place, with what stands there."""
        found = self.data[self.position : min(self.end, self.position + 20)]
        text = found.decode("ascii", "backslashreplace") if found else "the end of the command"
        shown = "".join(c if c.isprintable() else "?" for c in text)
        return SyntaxProblem(f"expected {expected}, found {shown}")

    def at_end(self) -> bool:
        return self.position >= self.end

    def finish(self) -> None:
        """The command must end here."""
        if self.position < self.end:
            raise self.problem("the end of the command")

    def peek(self, text: bytes) -> bool:
        return self.data.startswith(text, self.position, self.end)

    def accept(self, text: bytes) -> bool:
        """Pass over that text if it stands here."""
        if self.peek(text):
            self.position += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        if not self.accept(text):
            raise self.problem("a space" if text == b" " else repr(text.decode("ascii")))

    def space(self) -> None:
        if self.position >= self.end or self.data[self.position] != 0x20:
            raise self.problem("a space")
        self.position += 1

    def _match(self, pattern: re.Pattern[bytes], expected: str) -> re.Match[bytes]:
        match = pattern.match(self.data, self.position, self.end)
        if match is None:
            raise self.problem(expected)
        self.position = match.end()
        return match

    def enter(self) -> None:
        """Count one level of nesting; leave with `leave`."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise SyntaxProblem(f"nested deeper than {DEPTH_MAX} levels")

    def leave(self) -> None:
        self._depth -= 1

    # ------------------------------------------------------------------------------------------------------- strings

    def atom(self, expected: str = "an atom") -> str:
        return self._match(_ATOM, expected)[0].decode("ascii")

    def keyword(self, expected: str) -> str:
        """An atom in upper case."""
        return self.atom(expected).upper()

    def string(self) -> bytes:
        """A quoted string or a literal. 8-bit bytes are let through in quotes, as many clients send them."""
        if self.peek(b'"'):
            text = self._match(_QUOTED, "a quoted string")[1]
            return _ESCAPE.sub(rb"\1", text) if b"\\" in text else text
        size = int(self._match(_LITERAL, "a string")[1])
        start, self.position = self.position, self.position + size
        if self.position > self.end:
            raise SyntaxProblem("literal is longer than the command")
        return self.data[start : self.position]

    def _string_next(self) -> bool:
        return self.position < self.end and self.data[self.position] in b'"{'

    def astring(self, expected: str = "a string") -> bytes:
        if self._string_next():
            return self.string()
        return self._match(_ASTRING, expected)[0]

    def list_mailbox(self) -> bytes:
        """A mailbox pattern: an astring in which wildcards may stand."""
        if self._string_next():
            return self.string()
        return self._match(_LIST_MAILBOX, "a mailbox pattern")[0]

    def nstring(self) -> bytes | None:
        if self.data[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    # ------------------------------------------------------------------------------------------------------- numbers

    def number(self, *, low: int = 0, high: int = NUMBER_MAX) -> int:
        value = int(self._match(_NUMBER, "a number")[0])
        if not low <= value <= high:
            raise SyntaxProblem(f"number {value} is not from {low} to {high}")
        return value

    def sequence_set(self) -> tuple[tuple[int, int], ...]:
        """Ranges with 0 for ``*``."""
        text = self._match(_SEQUENCE, "a set of message numbers")[0]
        ranges: list[tuple[int, int]] = []
        for piece in text.split(b","):
            low, colon, high = piece.partition(b":")
            first = _sequence_number(low)
            ranges.append((first, _sequence_number(high) if colon else first))
        return tuple(ranges)

    def numbered(self) -> tuple[tuple[int, int], ...]:
        """A space, a sequence set and a space; one number or range, which is what clients send, in one match."""
        match = _ONE_RANGE.match(self.data, self.position, self.end)
        if match is not None:
            low, high = match.groups()
            first = _sequence_number(low)
            self.position = match.end()
            return ((first, first if high is None else _sequence_number(high)),)
        self.space()
        ranges = self.sequence_set()
        self.space()
        return ranges

    # --------------------------------------------------------------------------------------------------- flags, dates

    def flag(self) -> str:
        return self._match(_FLAG, "a flag")[0].decode("ascii")

    def flag_list(self) -> tuple[str, ...]:
        """Flags in parentheses, possibly none."""
        self.expect(b"(")
        flags: list[str] = []
        while not self.accept(b")"):
            if flags:
                self.space()
            flags.append(self.flag())
        return tuple(flags)

    def date(self) -> date:
        match = self._match(_DATE, "a date such as 1-Jan-2025")
        try:
            return date(int(match[4]), _month(match[3]), int(match[2]))
        except ValueError:
            raise SyntaxProblem(f"no such day: {match[0].decode('ascii')}") from None

    def date_time(self) -> tuple[int, int]:
        """Seconds since 1970 UTC, and minutes east of UTC."""
        match = self._match(_DATE_TIME, 'a date and time such as "01-Jan-2025 12:00:00 +0000"')
        zone = (int(match[8]) * 60 + int(match[9])) * (-1 if match[7] == b"-" else 1)
        try:
            day = date(int(match[3]), _month(match[2]), int(match[1]))
            seconds = min(int(match[6]), 59)  # a leap second is the second before it
            moment = datetime(day.year, day.month, day.day, int(match[4]), int(match[5]), seconds)
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=zone)))
            return int(moment.astimezone(UTC).timestamp()), zone  # a moment that has no date in UTC overflows
        except (ValueError, OverflowError):
            raise SyntaxProblem(f"no such date and time: {match[0].decode('ascii')}") from None


def _month(name: bytes) -> int:
    number = _MONTH_NUMBERS.get(name.lower())
    if number is None:
        raise SyntaxProblem(f"no such month: {name.decode('ascii')}")
    return number


def _sequence_number(text: bytes) -> int:
    if text == b"*":
        return 0
    value = int(text)
    if not 1 <= value <= NUMBER_MAX:
        raise SyntaxProblem(f"message number {value} is not from 1 to {NUMBER_MAX}")
    return value
