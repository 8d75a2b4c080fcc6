"""Damaged bodies of a log put right where they lie, from the bytes that a mirror has of them.

A mirror keeps a body as its source stored it, so the record's own digest says whether what came is what was there. The
header of a damaged record must be good; what else is damaged in a log no mirror has.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from spinrt.errors import CorruptRecord
from spinrt.storage.carry import CARRIED_BYTES, decode_carried, encode_carried
from spinrt.storage.device import OsDevice, open_regular
from spinrt.storage.files import device_error
from spinrt.storage.mirror.frames import StoredBody
from spinrt.storage.places import PLACES_NAME
from spinrt.storage.record import HEADER_BYTES, KIND_CARRIED, Header, body_digest, decode_header
from spinrt.storage.segment import load_segment, segment_name, segment_starts


class LogMender:
    """The log in a directory, which nobody has open.

    Args:
        directory: With the segments.
        positions: Of the records whose bodies are damaged.
    """

    def __init__(self, directory: Path, positions: Iterable[int]) -> None:
        self._directory = directory
        self._starts = segment_starts(OsDevice(directory))
        self._records: dict[int, list[Header]] = {}
        self.hopeless: list[int] = []
        """Positions of records whose headers are damaged, or that have no name."""
        for position in positions:
            self._find(position)

    @property
    def names(self) -> list[int]:
        """Names of the bodies to fetch."""
        return sorted(self._records)

    def _find(self, position: int) -> None:
        try:
            header = self._header(position)
            name = self._carried_name(header) if header.kind == KIND_CARRIED else position
        except (CorruptRecord, sqlite3.Error):
            self.hopeless.append(position)
        else:
            self._records.setdefault(name, []).append(header)

    def _header(self, position: int) -> Header:
        start = self._start_of(position)
        segment, _ = load_segment(OsDevice(self._directory), start)
        return decode_header(self._read(start, position, HEADER_BYTES), position, segment.seed)

    def _start_of(self, position: int) -> int:
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            raise CorruptRecord(f"log: no segment has position {position}")
        return self._starts[index]

    def _read(self, start: int, position: int, length: int) -> bytes:
        with closing(OsDevice(self._directory).open(segment_name(start))) as file:
            return file.read(position - start, length)

    def _carried_name(self, header: Header) -> int:
        """Of a carried body: as the table of places says, else as the damaged record says itself."""
        path = self._directory / PLACES_NAME
        if path.exists():
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                row = connection.execute("SELECT name FROM places WHERE place = ?", (header.position,)).fetchone()
            if row is not None:
                return int(row[0])
        start = self._start_of(header.position)
        return decode_carried(self._read(start, header.position + HEADER_BYTES, CARRIED_BYTES)).name

    def mend(self, name: int, body: StoredBody) -> None:
        """Write a body over what is damaged, durably.

        Raises:
            CorruptRecord: It is not what was there; nothing was written.
            DeviceFull, DeviceFailed: The device refused.
        """
        for header in self._records[name]:
            content = body.stored
            if header.kind == KIND_CARRIED:
                content = encode_carried(name, body.kind, body.time_ns, body.stored)
            if len(content) != header.length or body_digest(content) != header.digest:
                raise CorruptRecord(f"body {name}: what came is not what the record at {header.position} had")
            try:
                self._write(header.position, content)
            except OSError as error:
                raise device_error(error, f"repair of the log at {header.position}") from error

    def _write(self, position: int, content: bytes) -> None:
        start = self._start_of(position)
        descriptor = open_regular(self._directory / segment_name(start), os.O_WRONLY)
        try:
            offset = position - start + HEADER_BYTES
            while content:
                written = os.pwrite(descriptor, content, offset)
                content, offset = content[written:], offset + written
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
