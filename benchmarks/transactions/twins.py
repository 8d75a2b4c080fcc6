"""What the kernels must produce, computed in Python from the same inputs: their slow and obvious twins."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable
from typing import Final

from benchmarks.transactions.guests import DIRECTORY

TOKEN_SLOTS: Final = 1024
BUILT_LINES: Final = 70
_FIELD: Final = struct.Struct("<HHHHI")
_TOKEN: Final = struct.Struct("<IHHI")


def read(name: str) -> bytes:
    """An input of the kernels."""
    return (DIRECTORY / "src" / name).read_bytes()


def header_parse() -> bytes:
    """The table of fields: where names and values are, and the hashes of the names."""
    head = read("headers.eml").partition(b"\r\n\r\n")[0]
    rows, names = [], 0
    for match in re.finditer(rb"^([^:\r\n]+):[ \t]*((?:[^\r]|\r\n[ \t])*)", head, re.MULTILINE):
        name, value = match[1].lower(), match[2]
        rows.append(_FIELD.pack(names, len(name), match.start(2), len(value), fnv1a(name)))
        names += len(name)
    return b"".join(rows)


def token_count() -> bytes:
    """The hash table: where each word was first, and how often it occurs."""
    slots = [(0, 0, 0, 0)] * TOKEN_SLOTS
    for match in re.finditer(rb"[A-Za-z0-9\x80-\xff]+", read("prose.txt")):
        key = fnv1a(match[0].lower()) | 1
        slot = key % TOKEN_SLOTS
        while slots[slot][0] not in (0, key):
            slot = (slot + 1) % TOKEN_SLOTS
        _, at, size, count = slots[slot] if slots[slot][0] else (key, match.start(), len(match[0]), 0)
        slots[slot] = (key, at, size, count + 1)
    return b"".join(_TOKEN.pack(*slot) for slot in slots)


def base64_decode() -> bytes:
    return base64.b64decode(read("base64.txt"))


def quoted_printable_decode() -> bytes:
    """By substitution: soft line ends go, escapes become bytes, what is neither stays."""
    joined = re.sub(rb"=\r\n", b"", read("quoted.txt"))
    return re.sub(rb"=([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), joined)


def sha256() -> bytes:
    return hashlib.sha256(read("prose.txt")).digest()


def string_building() -> bytes:
    outcomes = ("accepted", "filed", "refused", "put off")
    return "".join(
        f"message={number * number + 1} id={number * 2654435761 & 0xFFFFFFFF:08x} "
        f"size={number % 7 * 1000 + 42} outcome={outcomes[number % 4]}\n"
        for number in range(BUILT_LINES)
    ).encode()


def fnv1a(text: bytes) -> int:
    """The 32-bit hash of Fowler, Noll and Vo, variant 1a."""
    found = 2166136261
    for byte in text:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found


TWINS: Final[dict[str, Callable[[], bytes]]] = {
    "header-parse": header_parse,
    "token-count": token_count,
    "base64-decode": base64_decode,
    "quoted-printable-decode": quoted_printable_decode,
    "sha256": sha256,
    "string-building": string_building,
}
"""Kernel → its twin."""


def hash_of(output: bytes) -> str:
    """What rows show of an output."""
    return hashlib.sha256(output).hexdigest()[:8]
