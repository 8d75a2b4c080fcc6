"""The bytes between a source and its mirror.

A *frame* is type (u8), length (u32) and so many bytes of payload, at most ``PAYLOAD_BYTES_MAX``. All numbers are
unsigned and big-endian; a *varint* has 7 bits in each byte, lowest first, and the top bit set in all but the last.
S is the source, M the mirror::

    1  HELLO    S to M  magic b"SPINMIR\\n", version u16, purpose u8 (1 update, 2 fetch), generation u16,
                        identity of its log (16)
    2  WELCOME  M to S  version u16, identities (32 each) of its snapshots: the current one first, then from new to old
    3  BEGIN    S to M  identity of the base (32; zeros: none), then the snapshot as it is stored
    4  PAGES    S to M  object u16 (its place in the snapshot), count u16, count digests (32 each), then count varints:
                        the first page number, then differences; ascending, ascending over frames of one object too
    5  BODIES   S to M  count u16, then count varints: the first name, then differences; ascending over frames too
    6  WANT     M to S  one bit for each entry of the oldest PAGES or BODIES not answered yet, the first in the top bit
    7  PAGE     S to M  compressed u8 (0 or 1), the page as it is stored
    8  BODY     S to M  kind u16, time u64, digest (16) of what follows, the body as it is stored
    9  END      S to M  pages sent u64, bodies sent u64
    10 DONE     M to S  identity of the snapshot (32): it is durable there
    11 REFUSED  either  code, message and hint, each u16 and so many bytes of UTF-8; the last frame
    12 FETCH    S to M  name u64 of one body, or digest (32) of one page
    13 ABSENT   M to S  nothing: what was fetched is not there

PAGE and BODY come for the wanted entries alone, in the order of the offers. At most ``OFFERS_MAX`` offers are open.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

from spinrt.errors import PeerProtocolError, SpinError, error_of
from spinrt.storage.protocols import DIGEST_BYTES

MAGIC: Final = b"SPINMIR\n"
VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024 + 64
"""The largest snapshot with the identity of its base."""
OFFERS_MAX: Final = 2
"""Offers whose contents are not all sent: one under way, one asked ahead, so that no round trip is waited for."""
OFFER_PAGES_MAX: Final = 1024
OFFER_BODIES_MAX: Final = 1024
WELCOME_SNAPSHOTS_MAX: Final = 1024
NO_SNAPSHOT: Final = bytes(DIGEST_BYTES)
BODY_DIGEST_BYTES: Final = 16
LOG_IDENTITY_BYTES: Final = 16
TEXT_BYTES_MAX: Final = 2048
"""Of each text in REFUSED."""
VARINT_BYTES_MAX: Final = 10

_FRAME: Final = struct.Struct(">BI")
_HELLO: Final = struct.Struct(">8sHBH16s")
_PAGES: Final = struct.Struct(">HH")
_U16: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")
_BODY: Final = struct.Struct(">HQ16s")
_END: Final = struct.Struct(">QQ")


class Kind(IntEnum):
    """Types of frames."""

    HELLO = 1
    WELCOME = 2
    BEGIN = 3
    PAGES = 4
    BODIES = 5
    WANT = 6
    PAGE = 7
    BODY = 8
    END = 9
    DONE = 10
    REFUSED = 11
    FETCH = 12
    ABSENT = 13


class Purpose(IntEnum):
    """What a connection is for."""

    UPDATE = 1
    FETCH = 2


class Frame(NamedTuple):
    kind: Kind
    payload: bytes


class Hello(NamedTuple):
    purpose: Purpose
    generation: int
    log_identity: bytes


class PageOffer(NamedTuple):
    """Pages of one object: numbers ascending, with their digests."""

    object_index: int
    numbers: Sequence[int]
    digests: Sequence[bytes]


class StoredBody(NamedTuple):
    """A body as it lies in a log. ``kind`` says whether it is compressed; ``digest`` is of ``stored``."""

    kind: int
    time_ns: int
    stored: bytes
    digest: bytes


class FrameReader:
    """Takes bytes as they come, gives whole frames; holds at most one frame and what was fed last."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are whole. Raises PeerProtocolError: an unknown type, or too long."""
        while len(self._data) >= _FRAME.size:
            kind, length = _FRAME.unpack_from(self._data)
            if length > PAYLOAD_BYTES_MAX:
                raise PeerProtocolError(f"mirror: frame of {length} bytes, limit {PAYLOAD_BYTES_MAX}")
            try:
                known = Kind(kind)
            except ValueError:
                raise PeerProtocolError(f"mirror: frame of unknown type {kind}") from None
            end = _FRAME.size + length
            if len(self._data) < end:
                return
            payload = bytes(memoryview(self._data)[_FRAME.size : end])
            del self._data[:end]
            yield Frame(known, payload)


def encode(kind: Kind, *parts: bytes) -> bytes:
    """Return a whole frame. Raises ValueError: too long."""
    length = sum(map(len, parts))
    if length > PAYLOAD_BYTES_MAX:
        raise ValueError(f"mirror: frame of {length} bytes, limit {PAYLOAD_BYTES_MAX}")
    return b"".join((_FRAME.pack(kind, length), *parts))


def encode_hello(hello: Hello) -> bytes:
    return encode(Kind.HELLO, _HELLO.pack(MAGIC, VERSION, *hello))


def decode_hello(payload: bytes) -> Hello:
    if len(payload) < _HELLO.size:
        raise PeerProtocolError(f"mirror: HELLO of {len(payload)} bytes, expected {_HELLO.size}")
    magic, version, purpose, generation, identity = _HELLO.unpack_from(payload)
    if magic != MAGIC:
        raise PeerProtocolError(f"mirror: HELLO begins with {magic!r}, expected {MAGIC!r}")
    _check_version(version)
    if len(payload) != _HELLO.size:
        raise PeerProtocolError(f"mirror: HELLO of {len(payload)} bytes, expected {_HELLO.size}")
    try:
        return Hello(Purpose(purpose), generation, identity)
    except ValueError:
        raise PeerProtocolError(f"mirror: HELLO for an unknown purpose {purpose}") from None


def encode_welcome(identities: Sequence[bytes]) -> bytes:
    return encode(Kind.WELCOME, _U16.pack(VERSION), *identities[:WELCOME_SNAPSHOTS_MAX])


def decode_welcome(payload: bytes) -> list[bytes]:
    if len(payload) < _U16.size:
        raise PeerProtocolError("mirror: WELCOME without a version")
    _check_version(_U16.unpack_from(payload)[0])
    count, rest = divmod(len(payload) - _U16.size, DIGEST_BYTES)
    if rest or count > WELCOME_SNAPSHOTS_MAX:
        raise PeerProtocolError(f"mirror: WELCOME of {len(payload)} bytes")
    return _split(payload, _U16.size, count)


def _check_version(version: int) -> None:
    if version != VERSION:
        raise PeerProtocolError(
            f"mirror: the other side speaks version {version}, this one {VERSION}", hint="run the same spinrt on both"
        )


def encode_pages(offer: PageOffer) -> bytes:
    head = _PAGES.pack(offer.object_index, len(offer.numbers))
    return encode(Kind.PAGES, head, *offer.digests, encode_ascending(offer.numbers))


def decode_pages(payload: bytes) -> PageOffer:
    if len(payload) < _PAGES.size:
        raise PeerProtocolError("mirror: PAGES without a count")
    object_index, count = _PAGES.unpack_from(payload)
    numbers_at = _PAGES.size + count * DIGEST_BYTES
    _check_count("PAGES", count, OFFER_PAGES_MAX)
    if len(payload) < numbers_at:
        raise PeerProtocolError(f"mirror: PAGES of {len(payload)} bytes for {count} entries")
    return PageOffer(object_index, decode_ascending(payload, numbers_at, count), _split(payload, _PAGES.size, count))


def encode_bodies(names: Sequence[int]) -> bytes:
    return encode(Kind.BODIES, _U16.pack(len(names)), encode_ascending(names))


def decode_bodies(payload: bytes) -> list[int]:
    if len(payload) < _U16.size:
        raise PeerProtocolError("mirror: BODIES without a count")
    (count,) = _U16.unpack_from(payload)
    _check_count("BODIES", count, OFFER_BODIES_MAX)
    return decode_ascending(payload, _U16.size, count)


def _check_count(name: str, count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise PeerProtocolError(f"mirror: {name} of {count} entries, expected 1 to {limit}")


def encode_want(wanted: Sequence[bool]) -> bytes:
    bits = bytearray((len(wanted) + 7) // 8)
    for place, want in enumerate(wanted):
        if want:
            bits[place >> 3] |= 0x80 >> (place & 7)
    return encode(Kind.WANT, bytes(bits))


def decode_want(payload: bytes, count: int) -> list[bool]:
    if len(payload) != (count + 7) // 8:
        raise PeerProtocolError(f"mirror: WANT of {len(payload)} bytes for {count} entries")
    return [bool(payload[place >> 3] & (0x80 >> (place & 7))) for place in range(count)]


def encode_page(stored: bytes, compressed: bool) -> bytes:
    return encode(Kind.PAGE, bytes((compressed,)), stored)


def decode_page(payload: bytes) -> tuple[bytes, bool]:
    if len(payload) < 2 or payload[0] > 1:
        raise PeerProtocolError("mirror: PAGE is malformed")
    return payload[1:], bool(payload[0])


def encode_body(body: StoredBody) -> bytes:
    return encode(Kind.BODY, _BODY.pack(body.kind, body.time_ns, body.digest), body.stored)


def decode_body(payload: bytes) -> StoredBody:
    if len(payload) < _BODY.size:
        raise PeerProtocolError(f"mirror: BODY of {len(payload)} bytes, expected {_BODY.size} or more")
    kind, time_ns, digest = _BODY.unpack_from(payload)
    return StoredBody(kind, time_ns, payload[_BODY.size :], digest)


def encode_end(pages: int, bodies: int) -> bytes:
    return encode(Kind.END, _END.pack(pages, bodies))


def decode_end(payload: bytes) -> tuple[int, int]:
    if len(payload) != _END.size:
        raise PeerProtocolError(f"mirror: END of {len(payload)} bytes, expected {_END.size}")
    pages, bodies = _END.unpack(payload)
    return pages, bodies


def encode_refused(error: SpinError) -> bytes:
    texts = [text.encode()[:TEXT_BYTES_MAX] for text in (error.code, str(error), error.hint)]
    return encode(Kind.REFUSED, *(_U16.pack(len(text)) + text for text in texts))


def decode_refused(payload: bytes) -> SpinError:
    """Return the error that the other side tells of; what cannot be read is an error, too."""
    texts: list[str] = []
    at = 0
    for _ in range(3):
        length = _U16.unpack_from(payload, at)[0] if len(payload) >= at + _U16.size else TEXT_BYTES_MAX + 1
        at += _U16.size + length
        if length > TEXT_BYTES_MAX or at > len(payload):
            raise PeerProtocolError("mirror: REFUSED is malformed")
        text = payload[at - length : at].decode("utf-8", "replace")
        texts.append("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text))
    return error_of(texts[0], f"the other side: {texts[1]}", texts[2])


def encode_fetch(wanted: int | bytes) -> bytes:
    return encode(Kind.FETCH, _U64.pack(wanted) if isinstance(wanted, int) else wanted)


def decode_fetch(payload: bytes) -> int | bytes:
    """Return the name of a body, or the digest of a page."""
    if len(payload) == _U64.size:
        return int(_U64.unpack(payload)[0])
    if len(payload) == DIGEST_BYTES:
        return payload
    raise PeerProtocolError(f"mirror: FETCH of {len(payload)} bytes")


def encode_ascending(numbers: Sequence[int]) -> bytes:
    """Return varints: the first number, then differences."""
    encoded = bytearray()
    for difference in _differences(numbers):
        rest = difference
        while rest >= 0x80:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
    return bytes(encoded)


def _differences(numbers: Sequence[int]) -> Iterable[int]:
    if not numbers:
        return []
    return [numbers[0], *(later - earlier for earlier, later in pairwise(numbers))]


def decode_ascending(data: bytes, at: int, count: int) -> list[int]:
    """Return ``count`` numbers that fill the rest of ``data``; each below 2**64 and above the one before it."""
    numbers: list[int] = []
    value = 0
    for _ in range(count):
        difference, at = _varint(data, at)
        value += difference
        if value >= 1 << 64 or (numbers and not difference):
            raise PeerProtocolError("mirror: numbers do not ascend")
        numbers.append(value)
    if at != len(data):
        raise PeerProtocolError(f"mirror: {len(data) - at} bytes behind the last number")
    return numbers


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * VARINT_BYTES_MAX, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise PeerProtocolError("mirror: a number is cut short or too long")


def _split(payload: bytes, at: int, count: int) -> list[bytes]:
    return [payload[at + place * DIGEST_BYTES : at + (place + 1) * DIGEST_BYTES] for place in range(count)]
