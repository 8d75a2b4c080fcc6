"""A cursor over the bytes of a module: integers, names, and the one error that damage ends in.

All numbers of the WebAssembly binary format that are not raw bytes are LEB128: seven bits to a byte, lowest first, the
top bit set on all but the last; an encoding may be longer than needed, up to ``ceil(bits / 7)`` bytes.

Source: WebAssembly Core Specification 2.0, 5.2 "Values".
"""

from __future__ import annotations

from typing import Final

from spinrt.errors import ModuleError

SHOWN_TEXT_MAX: Final = 80


def shown(text: str, characters_max: int = SHOWN_TEXT_MAX) -> str:
    """Return a name from a module as one short line for people: the module's author chose its characters."""
    kept = text if len(text) <= characters_max else text[: characters_max - 1] + "…"
    return kept if kept.isprintable() else ascii(kept)[1:-1]


class Reader:
    """Reads ``code`` from ``at`` up to ``end``. Every failure is a `ModuleError` that names the offset."""

    __slots__ = ("at", "code", "end", "name")

    def __init__(self, code: bytes, name: str, at: int = 0, end: int | None = None) -> None:
        self.code, self.name, self.at = code, name, at
        self.end = len(code) if end is None else end

    def failure(self, found: str, expected: str, at: int | None = None) -> ModuleError:
        """Return (not raise) the error for what stands at an offset, here by default."""
        where = self.at if at is None else at
        return ModuleError(
            f"module {shown(self.name)}: offset {where:#x}: found {found}, expected {expected}",
            hint="spinrt takes core modules of WebAssembly 2.0 with one memory; build the module again",
        )

    def byte(self) -> int:
        """Read one byte."""
        if self.at >= self.end:
            raise self.failure("the end", "more bytes")
        value = self.code[self.at]
        self.at += 1
        return value

    def u32(self) -> int:
        """Read an unsigned 32-bit integer."""
        at = self.at
        if at < self.end and (value := self.code[at]) < 0x80:
            self.at = at + 1
            return value
        return self._integer(32, signed=False)

    def signed(self, bits: int) -> int:
        """Read a signed integer of so many bits: 32, 33 or 64."""
        return self._integer(bits, signed=True)

    def take(self, length: int) -> bytes:
        """Read so many raw bytes."""
        start = self.at
        self.skip(length)
        return self.code[start : self.at]

    def skip(self, length: int) -> None:
        """Pass over so many bytes."""
        if length > self.end - self.at:
            raise self.failure(f"{self.end - self.at} bytes", f"{length}")
        self.at += length

    def count(self) -> int:
        """Read the length of a vector, which is at most what is left: an element takes a byte at least."""
        start = self.at
        value = self.u32()
        if value > self.end - self.at:
            raise self.failure(f"a vector of {value} elements in {self.end - self.at} bytes", "fewer", start)
        return value

    def numbers(self) -> tuple[int, ...]:
        """Read a vector of unsigned integers."""
        count = self.count()
        plain = self.code[self.at : self.at + count]
        if plain.isascii():  # each takes one byte
            self.at += count
            return tuple(plain)
        return tuple([self.u32() for _ in range(count)])

    def text(self) -> str:
        """Read a name."""
        start = self.at
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.failure("a name that is not UTF-8", "UTF-8", start) from None

    def finish(self, what: str) -> None:
        """Check that all was read."""
        if self.at != self.end:
            raise self.failure(f"{self.end - self.at} bytes left in {what}", "none")

    def _integer(self, bits: int, *, signed: bool) -> int:
        start, value, shift = self.at, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.failure("a longer integer", f"at most {bits} bits", start)
        if signed and byte & 0x40:
            value -= 1 << shift
        low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
        if not low <= value < high:
            raise self.failure("a larger integer", f"at most {bits} bits", start)
        return value


def unsigned(value: int) -> bytes:
    """Encode an unsigned integer in as few bytes as it takes."""
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def signed(value: int) -> bytes:
    """Encode a signed integer in as few bytes as it takes."""
    made = bytearray()
    while not -64 <= value < 64:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value & 0x7F)
    return bytes(made)


def named(text: str) -> bytes:
    """Encode a name."""
    raw = text.encode()
    return unsigned(len(raw)) + raw
