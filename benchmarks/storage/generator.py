"""Mail from a seed, alike in kind and size to what people get: for what depends on content, as compression does.

Nothing of it was part of what the dictionary for message bodies was trained with: its words are made of syllables,
drawn with the frequencies of natural language (Zipf's law), and names and hosts are others. Sizes are log-normal with
a median of 4 KiB, as the surveys of mail servers find them; a share of the messages carries an attachment, half of
which no compression makes smaller than base64 allows.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

MEDIAN_BYTES: Final = 4096
SIGMA: Final = 1.0
"""Of the logarithm of sizes."""
MAX_BYTES: Final = 256 * 1024
VOCABULARY: Final = 8000
HTML_SHARE: Final = 0.4
ATTACHMENT_SHARE: Final = 0.06
_SYLLABLES: Final = tuple(a + b for a in "bdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "os"))


class Generator:
    """Gives messages, always the same for one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = ["".join(self._random.choices(_SYLLABLES, k=1 + n % 4)) for n in range(VOCABULARY)]
        self._weights = list(accumulate(1 / (n + 2.7) for n in range(VOCABULARY)))
        self._people = [self._name() for _ in range(200)]

    def messages(self, count: int) -> Iterator[bytes]:
        """Yield so many messages, in the form in which they come by SMTP."""
        for number in range(count):
            yield self.message(number)

    def message(self, number: int) -> bytes:
        room = min(int(self._random.lognormvariate(0, SIGMA) * MEDIAN_BYTES), MAX_BYTES)
        parts = [self._text(room)]
        if self._random.random() < HTML_SHARE:
            half = self._text(room // 2)
            parts = [half, self._html(half)]
        if self._random.random() < ATTACHMENT_SHARE:
            parts.append(self._attachment(room * 4))
        return self._head(number, len(parts) > 1) + self._joined(parts, number)

    def _name(self) -> str:
        first, last = (self._words[self._random.randrange(VOCABULARY)].capitalize() for _ in range(2))
        return f"{first} {last} <{first.lower()}.{last.lower()}@{self._words[self._random.randrange(50)]}.test>"

    def _head(self, number: int, multipart: bool) -> bytes:
        sender, recipient = self._random.choice(self._people), self._random.choice(self._people)
        moment = f"{number % 24:02d}:{number % 60:02d}:{number * 7 % 60:02d} +0000"
        kind = f'multipart/mixed; boundary="{number:024x}"' if multipart else "text/plain; charset=utf-8"
        lines = [
            f"Received: from gate{number % 9}.{recipient.partition('@')[2][:-1]} (gate [198.51.100.{number % 250}])",
            f"\tby in.hub.test with ESMTPS id {self._random.randbytes(8).hex()}; Fri, 20 Nov 2026 {moment}",
            f"From: {sender}",
            f"To: {recipient}",
            f"Subject: {' '.join(self._some_words(6))}",
            f"Date: Fri, 20 Nov 2026 {moment}",
            f"Message-ID: <{self._random.randbytes(12).hex()}@{sender.partition('@')[2]}",
            "MIME-Version: 1.0",
            f"Content-Type: {kind}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def _some_words(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def _text(self, room: int) -> bytes:
        words, lines = self._some_words(max(room // 6, 1)), []
        for at in range(0, len(words), 11):
            lines.append(" ".join(words[at : at + 11]) + (".\r\n" if at % 33 else ".\r\n\r\n"))
        return "".join(lines).encode()[:room] + b"\r\n"

    def _html(self, text: bytes) -> bytes:
        colour = self._random.randrange(1 << 24)
        rows = (
            f'<tr><td align="left" style="color:#{colour:06x};padding:4px {n % 7}px">{line}</td></tr>\r\n'
            for n, line in enumerate(text.decode(errors="replace").split("\r\n"))
            if line
        )
        return ('<html><body><table width="100%">\r\n' + "".join(rows) + "</table></body></html>\r\n").encode()

    def _attachment(self, room: int) -> bytes:
        """Half of them are compressed already, as pictures and documents are; the rest is text of some kind."""
        count = room * 3 // 4
        content = self._random.randbytes(count) if self._random.random() < 0.5 else self._text(count)
        return base64.encodebytes(content).replace(b"\n", b"\r\n")

    def _joined(self, parts: list[bytes], number: int) -> bytes:
        if len(parts) == 1:
            return parts[0]
        boundary = f"--{number:024x}".encode()
        return (
            b"".join(boundary + b"\r\nContent-Type: text/x-part\r\n\r\n" + part for part in parts)
            + boundary
            + b"--\r\n"
        )
