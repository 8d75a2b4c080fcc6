"""The messages that are sent: those of the demo, or the user's own; and what the filter says of them.

Left out is what not every server takes as it is, so that all get the same octets: bare CR or LF, NUL, lines of more
than 998 octets, headers that are malformed, and what is large.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.filters.library import SUSPECT, Library
from spinrt.cli.demo_messages import samples
from spinrt.cli.demo_source import open_source
from spinrt.errors import UsageError

BYTES_MAX: Final = 256 * 1024
LINE_BYTES_MAX: Final = 998
"""RFC 5322 2.1.1; aiosmtpd refuses more."""
COUNT_MAX: Final = 300
SOURCE_COUNT_MAX: Final = 4000
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_FIELD_START = re.compile(rb"^[!-9;-~]+[ \t]*:", re.MULTILINE)
_HEAD = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\r\n]*\r\n(?:[ \t]+[^ \t\r\n][^\r\n]*\r\n)*)+\r\n")
"""Fields, each with its continuation lines, and the empty line behind them."""


@dataclass(frozen=True, slots=True)
class Messages:
    """What is sent, in this order, over and over.

    Attributes:
        contents: The messages, CRLF line ends.
        left_out: Messages of the source that are not sent.
        suspects: For each message, whether the filter finds it suspect.
    """

    contents: tuple[bytes, ...]
    left_out: int
    suspects: tuple[bool, ...]

    @property
    def mean_bytes(self) -> int:
        return sum(map(len, self.contents)) // len(self.contents)

    @property
    def mean_fields(self) -> float:
        """Header fields of one message."""
        return sum(map(_count_fields, self.contents)) / len(self.contents)

    def suspects_of(self, count: int) -> int:
        """How many of the first so many that are sent the filter finds suspect."""
        whole, part = divmod(count, len(self.suspects))
        return whole * sum(self.suspects) + sum(self.suspects[:part])

    def write(self, directory: Path) -> Path:
        """One file for each, in their order; for the load."""
        directory.mkdir()
        for number, content in enumerate(self.contents):
            (directory / f"{number:06}.eml").write_bytes(content)
        return directory


def load(mail: Path | None, library: Library) -> Messages:
    """Read the user's own messages, or take the samples.

    Raises:
        UsageError: Nothing is at that path, or nothing that can be sent.
    """
    usable, left_out = _usable(_source(mail))
    if not usable:
        raise UsageError(
            f"{mail}: none of {left_out} messages can be sent to every server",
            hint="well-formed headers, no bare CR or LF, lines of at most 998 octets, at most 256 KiB",
        )
    contents = _spread(usable)
    suspects = tuple(library.decide_content(content).startswith(SUSPECT) for content in contents)
    return Messages(contents, left_out, suspects)


def is_usable(content: bytes) -> bool:
    """Whether every server takes it and every form of the filter sees the same of it."""
    return (
        len(content) <= BYTES_MAX
        and not _BARE.search(content)
        and _HEAD.match(content) is not None
        and max(map(len, content.split(b"\r\n"))) <= LINE_BYTES_MAX
    )


def _count_fields(content: bytes) -> int:
    return len(_FIELD_START.findall(content.partition(b"\r\n\r\n")[0]))


def _source(mail: Path | None) -> Iterator[bytes]:
    if mail is None:
        yield from (sample.wire for sample in samples())
    else:
        yield from (message.wire for message in open_source(mail).messages())


def _usable(contents: Iterable[bytes]) -> tuple[list[bytes], int]:
    usable, left_out = [], 0
    for content in contents:
        if is_usable(content):
            usable.append(content)
            if len(usable) == SOURCE_COUNT_MAX:
                break
        else:
            left_out += 1
    return usable, left_out


def _spread(usable: list[bytes]) -> tuple[bytes, ...]:
    """At most so many, evenly over all."""
    count = min(len(usable), COUNT_MAX)
    return tuple(usable[number * len(usable) // count] for number in range(count))
