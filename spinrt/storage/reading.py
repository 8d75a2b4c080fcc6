"""Records read out of segments that are on the device, checked, from any thread.

Owns the open files. Does not own which segments there are, nor records that are not written yet (``log``).
"""

from __future__ import annotations

from typing import Final

from spinrt._core import record_frame, record_part
from spinrt.errors import CorruptRecord, UsageError
from spinrt.storage.device import Device
from spinrt.storage.files import OpenFiles
from spinrt.storage.record import COMPRESSED, HEADER_BYTES, Header, body_bytes, check_body, decode_header, plain_body
from spinrt.storage.segment import Segment, damage_error

READ_AHEAD_BYTES: Final = 256 * 1024
FIRST_READ_BYTES: Final = 16 * 1024
KEPT_BYTES_MAX: Final = 1024 * 1024
"""A longer body is decompressed anew for each range that is asked of it."""
WHOLE_MAX: Final = 65_536
"""Records that are remembered to be as they should be; then it begins anew."""


class RecordReader:
    """Reads whole records and ranges of their bodies."""

    def __init__(self, device: Device) -> None:
        self._files = OpenFiles(device)
        self._kept: tuple[int, bytes] = (-1, b"")
        """The last body that was decompressed for a range of it, and its position; replaced as a whole."""
        self._whole: set[int] = set()
        """Positions of plain bodies that were checked before a range of them was given out."""

    def stored(self, segment: Segment, position: int, about: int = FIRST_READ_BYTES) -> tuple[Header, bytes]:
        """Return the record at that position: its header, and its body as it is stored, checked.

        Args:
            about: How long the body may be: what is longer takes a second read.

        Raises:
            CorruptRecord: No record is there, or its bytes are wrong.
            StorageError: It cannot be read.
        """
        header, data = self._read_from(segment, position, 0, about)
        body = data
        if len(body) < header.length:
            body = self._files.read(segment, position + HEADER_BYTES, header.length)
        body = body[: header.length]
        self._check_body(segment, header, body)
        return header, body

    def header(self, segment: Segment, position: int) -> Header:
        """Return the header of the record at that position. Raises as `stored`."""
        return self._read_from(segment, position, 0, 0)[0]

    def part(self, segment: Segment, position: int, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` of the plain body of the record at that position.

        The header is always checked, the digest when all of the body is asked for, or when it is compressed; of other
        bodies before the first range is given out, and not again.

        Raises:
            CorruptRecord, StorageError: As `stored`.
            UsageError: The range does not lie in the body.
        """
        if offset <= READ_AHEAD_BYTES:
            data = self._files.read(segment, position, HEADER_BYTES + offset + length)
            part = record_part(data, position, segment.seed, offset, length)
            if part is not None:
                if position in self._whole or body_bytes(data) == length:
                    return part
                return self._first_part(segment, position, offset, length)
            frame = record_frame(data, position, segment.seed)
            if frame is not None:
                return body_range(position, plain_body(position, frame), offset, length)
        return self._part_checked(segment, position, offset, length)

    def kept(self, position: int) -> bytes | None:
        """Return the plain body of the record there if it is the last one that was kept."""
        kept_position, body = self._kept
        return body if kept_position == position else None

    def keep(self, position: int, body: bytes) -> None:
        """Keep a plain body, unless it is long: readers of ranges come back."""
        if len(body) <= KEPT_BYTES_MAX:
            self._kept = position, body

    def _part_checked(self, segment: Segment, position: int, offset: int, length: int) -> bytes:
        """What `part` does for ranges far inside or of compressed bodies, and the words for what is wrong."""
        kept = self.kept(position)
        if kept is not None:
            return body_range(position, kept, offset, length)
        header, data = self._read_from(segment, position, offset, length)
        if header.kind & COMPRESSED:
            return body_range(position, self._decompressed(segment, position), offset, length)
        check_range(position, offset, length, header.length)
        if position not in self._whole:
            return self._first_part(segment, position, offset, length)
        if len(data) != length:
            raise damage_error(segment, position, CorruptRecord(f"record at {position}: body is cut short"))
        if length == header.length:
            self._check_body(segment, header, data)
        return data

    def _first_part(self, segment: Segment, position: int, offset: int, length: int) -> bytes:
        """A range of a body that is checked first: whoever gets ranges could not tell that another part is damaged."""
        body = self.stored(segment, position, READ_AHEAD_BYTES)[1]
        if len(self._whole) >= WHOLE_MAX:
            self._whole.clear()
        self._whole.add(position)
        return body_range(position, body, offset, length)

    def _decompressed(self, segment: Segment, position: int) -> bytes:
        body = plain_body(position, self.stored(segment, position)[1])
        self.keep(position, body)
        return body

    def _read_from(self, segment: Segment, position: int, offset: int, length: int) -> tuple[Header, bytes]:
        """Return the record's header and up to ``length`` bytes from ``offset`` of what follows it."""
        try:
            if offset <= READ_AHEAD_BYTES:
                data = self._files.read(segment, position, HEADER_BYTES + offset + length)
                header = decode_header(data, position, segment.seed)
                return header, data[HEADER_BYTES + offset :]
            header = decode_header(self._files.read(segment, position, HEADER_BYTES), position, segment.seed)
        except CorruptRecord as error:
            raise damage_error(segment, position, error) from None
        return header, self._files.read(segment, position + HEADER_BYTES + offset, length)

    def _check_body(self, segment: Segment, header: Header, body: bytes) -> None:
        try:
            check_body(header, body)
        except CorruptRecord as error:
            raise damage_error(segment, header.position, error) from None

    def drop(self, segment: Segment) -> None:
        """Close the segment's file, which is about to be removed."""
        self._files.drop(segment)
        self._kept = (-1, b"")

    def close(self) -> None:
        self._files.close()


def check_range(position: int, offset: int, length: int, size: int) -> None:
    """Raise UsageError unless the range lies in a body of that size."""
    if offset < 0 or length < 0 or offset + length > size:
        raise UsageError(f"read of record at {position}: range {offset}+{length}, the body has {size} bytes")


def body_range(position: int, body: bytes, offset: int, length: int) -> bytes:
    """Return a range of a whole body. Raises UsageError: it does not lie in it."""
    check_range(position, offset, length, len(body))
    return body[offset : offset + length]
