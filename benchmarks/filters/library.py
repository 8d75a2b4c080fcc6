"""The filter's shared library, and what a program in Python does to ask it. Standard library alone.

The library is called without giving up the interpreter's lock: a call is shorter than giving it up.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = "X-Bench-Filter"
NAMES = ("from", "subject", "list-id", "x-priority")
"""The header fields that the filter reads, as src/filter.h orders them."""
BODY_BYTES_MAX = 1024
ANSWER_BYTES_MAX = 32
SUSPECT = b"suspect"

_FIELD = re.compile(
    rb"^(" + b"|".join(name.encode() for name in NAMES) + rb")[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)


class _Bytes(ctypes.Structure):
    _fields_ = (("ptr", ctypes.c_char_p), ("len", ctypes.c_size_t))


class _Input(ctypes.Structure):
    _fields_ = (("fields", _Bytes * len(NAMES)), ("body", _Bytes))


@dataclass(slots=True)
class Tally:
    """What one filter did; written when its process ends."""

    messages: int = 0
    suspects: int = 0

    def note(self, answer: bytes) -> None:
        """The filter gave that answer to one message."""
        self.messages += 1
        self.suspects += answer.startswith(SUSPECT)

    def write(self, path: Path) -> None:
        """As two numbers in one line."""
        path.write_text(f"{self.messages} {self.suspects}\n")

    @classmethod
    def read(cls, path: Path) -> Tally:
        """OSError, ValueError: it was not written, or is no tally."""
        messages, suspects = path.read_text().split()
        return cls(int(messages), int(suspects))


class Library:
    """The filter as a function."""

    def __init__(self, path: Path) -> None:
        self._decide = ctypes.PyDLL(str(path)).filter_decide
        self._decide.argtypes = (ctypes.POINTER(_Input), ctypes.c_char_p)
        self._decide.restype = ctypes.c_size_t

    def decide(self, fields: Sequence[bytes | None], body: bytes) -> bytes:
        """The value of the header field to add.

        Args:
            fields: Values of `NAMES`, without line ends; none where the message has no such field.
            body: Its beginning.
        """
        given = _Input()
        for place, value in zip(given.fields, fields, strict=True):
            if value is not None:
                place.ptr, place.len = value, len(value)
        given.body.ptr, given.body.len = body, len(body)
        answer = ctypes.create_string_buffer(ANSWER_BYTES_MAX)
        self._decide(given, answer)
        return answer.value

    def decide_content(self, content: bytes) -> bytes:
        """The same for a whole message with CRLF line ends."""
        return self.decide(*parts_of(content))


def parts_of(content: bytes) -> tuple[list[bytes | None], bytes]:
    """What the filter reads of a message: values of `NAMES`, the first of each name, and the beginning of the body."""
    head, _, body = content.partition(b"\r\n\r\n")
    found: dict[bytes, bytes] = {}
    for match in _FIELD.finditer(head):
        found.setdefault(match[1].lower(), match[2].replace(b"\r\n", b""))
    return [found.get(name.encode()) for name in NAMES], body[:BODY_BYTES_MAX]
