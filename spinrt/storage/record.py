"""The bytes of the log: segment headers and records.

A *segment* is a file. Its name is the position of its first byte (20 decimal digits, ``.log``); position minus that is
the offset in the file, so the segment header has positions of its own. All numbers are unsigned and big-endian.

Segment header, 64 bytes, durable before any record follows it::

    offset size
     0      8   magic      b"SPINLOG\\n"
     8      4   version    2; 1 in segments from before bodies could be compressed or carried
    12      8   start      position of this header; equals the file's name
    20      8   previous   position where the segment before it ends (0 for the first). Lower than ``start`` when
                           records were given up because the device was full; such positions are never used again
    28     16   chain      chain value of the last record before this segment (zeros for the first)
    44     16   salt       seeds the checksums of this segment: random; from version 2 on, the first half is that of
                           the log's first segment, which tells the log from any other when older segments are gone
    60      4   crc        CRC-32 of bytes 0..59

Record, 64 bytes of header and then the body::

    offset size
     0      2   magic      b"R\\x01" (the second byte is the version of this header)
     2      2   kind       bits 0 .. 14: meaning of the body; the log looks into none but CARRIED (``carry``).
                           Bit 15: the body is stored as one zstd frame (``compress``)
     4      4   length     bytes of body as stored, 0 .. BODY_BYTES_MAX
     8      8   position   position of this header
    16      8   time       nanoseconds since 1970-01-01 UTC, given by the writer
    24      4   unsynced   everything before ``position - unsynced`` was durable when this record was appended
    28     16   digest     first 16 bytes of the SHA-256 of the body as stored (so a check decompresses nothing)
    44     16   chain      first 16 bytes of the SHA-256 of the previous record's chain and bytes 0..43 of this header
    60      4   crc        CRC-32 of bytes 0..59, seeded with the CRC-32 of the segment's salt

A record counts when its header's checksum, its position and its body's digest are right and its chain follows from the
record before. *Why CRC-32* (``zlib``) and not CRC-32C: it only has to say whether 60 bytes can be believed before their
length is used, both do that equally well, and the standard library has it in C; bodies and order are covered by the
stronger digests. *Why SHA-256*: processors compute it, and a message in one record has its SHA-256 computed already.
*Why a salt*: a message's bytes must not be able to pass for a record when recovery looks for one.
*Why unsynced*: writes that were never synced may reach the disk in any order, so a bad record with a good one behind it
is no damage by itself. It is damage when the good one says that the bad one's bytes were durable.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final, NamedTuple
from zlib import crc32

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.compress import BODY_BYTES_MAX, decompress

HEADER_BYTES: Final = 64
COMPRESSED: Final = 0x8000
"""The bit of a record's kind that says that its body is stored as a zstd frame."""
KIND_MAX: Final = COMPRESSED - 1
KIND_CARRIED: Final = 0x0001
KIND_PROMOTED: Final = 0x0002
"""Body: identity of the snapshot that a mirror was promoted from. What follows builds on it, not on what is before."""
DIGEST_BYTES: Final = 16
RECORD_MAGIC: Final = b"R\x01"
SEGMENT_MAGIC: Final = b"SPINLOG\n"
SEGMENT_VERSION: Final = 2
SEGMENT_VERSIONS: Final = frozenset({1, SEGMENT_VERSION})
SALT_SHARED_BYTES: Final = 8
"""Of the salt: the same in all segments of a log."""
CHAIN_START: Final = bytes(DIGEST_BYTES)

_FRONT: Final = struct.Struct(">2sHIQQI16s")
_CRC: Final = struct.Struct(">I")
_SEGMENT: Final = struct.Struct(">8sIQQ16s16s")
_CRC_OFFSET: Final = HEADER_BYTES - _CRC.size
_LENGTH_OFFSET: Final = 4
_CHAIN_OFFSET: Final = _FRONT.size

assert _FRONT.size + DIGEST_BYTES + _CRC.size == HEADER_BYTES
assert _SEGMENT.size + _CRC.size == HEADER_BYTES


class Header(NamedTuple):
    """A record's header, its checksum already found right."""

    kind: int
    length: int
    position: int
    time_ns: int
    unsynced: int
    digest: bytes
    front: bytes
    chain: bytes


class Record(NamedTuple):
    """A whole record. ``next_position`` is where the next one may start (or the next segment's header)."""

    position: int
    kind: int
    """Without the bit `COMPRESSED`."""
    time_ns: int
    stored: bytes
    """The body as it is in the log."""
    next_position: int
    compressed: bool = False

    @property
    def body(self) -> bytes:
        """The plain body; decompressed at each look. Raises CorruptRecord, FormatUnknown."""
        return plain_body(self.position, self.stored) if self.compressed else self.stored


class SegmentHeader(NamedTuple):
    start: int
    previous_end: int
    chain: bytes
    salt: bytes
    version: int = SEGMENT_VERSION


def plain_body(position: int, frame: bytes) -> bytes:
    """Return the body of the record there that is stored as a frame. Raises CorruptRecord, FormatUnknown."""
    try:
        return decompress(frame)
    except CorruptRecord as error:
        raise CorruptRecord(f"record at {position}: {error}", hint=error.hint) from None


def body_digest(body: bytes) -> bytes:
    """Return the digest of a body."""
    return sha256(body).digest()[:DIGEST_BYTES]


def chain_after(chain: bytes, front: bytes) -> bytes:
    """Return the chain value of a record whose first 44 header bytes are ``front``."""
    return sha256(chain + front).digest()[:DIGEST_BYTES]


def log_identity(salt: bytes) -> bytes:
    """Return the 16 bytes that tell the log whose segments have that salt from any other."""
    return sha256(b"spinrt log " + salt[:SALT_SHARED_BYTES]).digest()[:DIGEST_BYTES]


def checksum_seed(salt: bytes) -> int:
    """Return the number that seeds the checksums of a segment with that salt."""
    return crc32(salt)


def decode_header(data: bytes, position: int, seed: int) -> Header:
    """Check and return the header that starts ``data``.

    Raises:
        CorruptRecord: Too short, or magic, checksum, length or position is wrong. The message says which.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptRecord(f"record at {position}: header has {len(data)} bytes, expected {HEADER_BYTES}")
    (crc,) = _CRC.unpack_from(data, _CRC_OFFSET)
    magic, kind, length, stated, time_ns, unsynced, digest = _FRONT.unpack_from(data)
    if magic != RECORD_MAGIC:
        raise CorruptRecord(f"record at {position}: magic is {magic!r}, expected {RECORD_MAGIC!r}")
    found = crc32(data[:_CRC_OFFSET], seed)
    if found != crc:
        raise CorruptRecord(f"record at {position}: header checksum is {found:08x}, expected {crc:08x}")
    if stated != position:
        raise CorruptRecord(f"record at {position}: header says position {stated}")
    if length > BODY_BYTES_MAX:
        raise CorruptRecord(f"record at {position}: body of {length} bytes, limit {BODY_BYTES_MAX}")
    front, chain = data[:_CHAIN_OFFSET], data[_CHAIN_OFFSET:_CRC_OFFSET]
    return Header(kind, length, position, time_ns, unsynced, digest, front, chain)


def body_bytes(data: bytes) -> int:
    """Return how long a body is, as stored, by the header that starts ``data`` and was checked."""
    return int.from_bytes(data[_LENGTH_OFFSET : _LENGTH_OFFSET + 4], "big")


def check_body(header: Header, body: bytes) -> None:
    """Raise CorruptRecord unless ``body`` is the header's whole body."""
    if len(body) != header.length:
        raise CorruptRecord(f"record at {header.position}: body has {len(body)} bytes, expected {header.length}")
    if body_digest(body) != header.digest:
        raise CorruptRecord(f"record at {header.position}: body does not match its digest")


def check_chain(header: Header, previous: bytes) -> None:
    """Raise CorruptRecord unless the record follows the one whose chain value is ``previous``."""
    if chain_after(previous, header.front) != header.chain:
        raise CorruptRecord(f"record at {header.position}: does not follow the record before it (chain)")


def encode_segment(header: SegmentHeader) -> bytes:
    """Return the 64 bytes of a segment header."""
    covered = _SEGMENT.pack(SEGMENT_MAGIC, header.version, *header[:4])
    return covered + _CRC.pack(crc32(covered))


def decode_segment(data: bytes, name: str) -> SegmentHeader:
    """Check and return a segment header; ``name`` is for the message.

    Raises:
        CorruptRecord: Too short, or magic or checksum is wrong.
        FormatUnknown: Written by a newer version.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptRecord(f"log segment {name}: header has {len(data)} bytes, expected {HEADER_BYTES}")
    magic, version, start, previous_end, chain, salt = _SEGMENT.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _CRC_OFFSET)
    if magic != SEGMENT_MAGIC:
        raise CorruptRecord(f"log segment {name}: magic is {magic!r}, expected {SEGMENT_MAGIC!r}")
    if crc32(data[:_CRC_OFFSET]) != crc:
        raise CorruptRecord(f"log segment {name}: header checksum is wrong")
    if version not in SEGMENT_VERSIONS:
        raise FormatUnknown(
            f"log segment {name}: format version {version}, expected 1 … {SEGMENT_VERSION}",
            hint="it was written by a newer spinrt; run that version",
        )
    return SegmentHeader(start, previous_end, chain, salt, version)
