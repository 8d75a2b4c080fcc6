"""One flipped byte in a pack is found again by trying: its checksums, and then the page's digest, say when it is right.

In a header 255 other values at each place are tried, in a page's bytes single bits first, then, of pages that are not
longer than 8 KiB, every other value: some hundred milliseconds. What is longer or worse comes from a mirror.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final
from zlib import crc32

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.device import Device, File
from spinrt.storage.fsck.finding import Finding, Mend, repaired
from spinrt.storage.pack import (
    ENTRY_BYTES,
    HEADER_BYTES,
    Entry,
    EntryHeader,
    checksum_seed,
    decode_entry,
    decode_pack,
    decompress,
    is_whole,
    pack_name,
    pack_numbers,
    walk_pack,
)

BYTES_TRIED_MAX: Final = 8192
_BITS: Final = tuple(1 << bit for bit in range(8))
_OTHERS: Final = tuple(mask for mask in range(1, 256) if mask not in _BITS)


def mend_packs(device: Device, place: str, mend: Mend) -> Iterator[Finding]:
    """Put right what can be found by trying, in all packs on a device; yield what was. Raises OSError."""
    for number in pack_numbers(device.list()):
        with contextlib.closing(device.open(pack_name(number))) as file:
            yield from _mend_pack(file, number, place, mend)


def _mend_pack(file: File, number: int, place: str, mend: Mend) -> Iterator[Finding]:
    name = pack_name(number)
    head = file.read(0, HEADER_BYTES)
    if not _is_pack(head, number):
        found = _tried(head, lambda data: _is_pack(data, number))
        if found is None:
            return
        yield _put(name, found, 0, "pack header", place, mend)
        head = file.read(0, HEADER_BYTES)
    seed = checksum_seed(decode_pack(head, number))
    for bad in walk_pack(file, file.size(), seed):
        found = _mend_entry(file, bad, seed) if isinstance(bad, Entry) else _mend_header(file, bad.offset, seed)
        if found is not None:
            yield _put(name, found, bad.offset, f"entry at {bad.offset}", place, mend)


def _put(name: str, found: tuple[int, int], start: int, subject: str, place: str, mend: Mend) -> Finding:
    offset, right = found
    mend(name, start + offset, right)
    return repaired(f"{place}/{name}", start + offset, subject, f"one byte was wrong; it is {right:#04x} again")


def _is_pack(data: bytes, number: int) -> bool:
    try:
        decode_pack(data, number)
    except (CorruptRecord, FormatUnknown):
        return False
    return True


def mended_head(head: bytes, number: int) -> bytes | None:
    """Return what a damaged header of a pack must be; none unless one byte of it is wrong."""
    found = _tried(head, lambda data: _is_pack(data, number))
    return None if found is None else head[: found[0]] + bytes((found[1],)) + head[found[0] + 1 :]


def _is_page(header: EntryHeader, stored: bytes, seed: int) -> bool:
    try:
        if is_whole(header, stored, seed):
            decompress(stored, header.compressed, header.digest, "entry")
            return True
    except CorruptRecord:
        pass
    return False


def _mend_header(file: File, offset: int, seed: int) -> tuple[int, int] | None:
    """Where no entry is, one may be whose header is damaged."""

    def fits(data: bytes) -> bool:
        header = decode_entry(data, seed)
        return header is not None and _is_page(header, file.read(offset + ENTRY_BYTES, header.stored_bytes), seed)

    return _tried(file.read(offset, ENTRY_BYTES), fits)


def _mend_entry(file: File, entry: Entry, seed: int) -> tuple[int, int] | None:
    header = entry.header
    if entry.whole:
        return None
    stored = file.read(entry.offset + ENTRY_BYTES, header.stored_bytes)
    found = _tried(stored, lambda data: crc32(data, seed) == header.body_crc and _is_page(header, data, seed))
    return None if found is None else (ENTRY_BYTES + found[0], found[1])


def _tried(data: bytes, fits: Callable[[bytes], bool]) -> tuple[int, int] | None:
    """Return offset and value of the byte that makes it fit, or none."""
    changed = bytearray(data)
    for masks in (_BITS, _OTHERS if len(data) <= BYTES_TRIED_MAX else ()):
        for offset, octet in enumerate(data):
            for mask in masks:
                changed[offset] = octet ^ mask
                if fits(bytes(changed)):
                    return offset, octet ^ mask
            changed[offset] = octet
    return None
