"""The packs on a device: which there are, reading entries from any of them, writing the newest.

Owns the files. What a page's bytes mean is in ``pack``; which pages there are is in ``page_table``. Reads may come from
several threads; everything else from one at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Final

from spinrt.errors import CorruptRecord, NotFound
from spinrt.storage.device import Device, File
from spinrt.storage.files import OpenFiles, device_error
from spinrt.storage.pack import (
    ENTRY_BYTES,
    HEADER_BYTES,
    REPAIR_HINT,
    SALT_BYTES,
    Entry,
    Gap,
    checksum_seed,
    decode_entry,
    decode_pack,
    encode_entry,
    encode_pack,
    is_whole,
    pack_name,
    pack_numbers,
    walk_pack,
)
from spinrt.storage.page_table import BUILD_ANEW, TABLE_NAME, Place, strange_row
from spinrt.storage.protocols import PAGE_BYTES_MAX
from spinrt.storage.write_out import begin_write_out

_NO_ENTRY: Final = f"if {TABLE_NAME} is wrong, {BUILD_ANEW}; else a mirror may still have the page"
_ENTRY_LENGTHS: Final = range(ENTRY_BYTES + 1, ENTRY_BYTES + PAGE_BYTES_MAX + 1)
BUFFER_BYTES_MAX: Final = 256 * 1024
"""Entries wait in memory up to so many bytes."""


def _new_salt() -> bytes:
    return os.urandom(SALT_BYTES)


class Packs:
    """The packs of one page store."""

    def __init__(self, device: Device, salt: Callable[[], bytes] = _new_salt) -> None:
        self._device = device
        self._new_salt = salt
        self._files = OpenFiles(device)
        self._salts: dict[int, bytes] = {}
        self._last = 0
        self.damaged: dict[str, CorruptRecord] = {}
        """Packs whose header is damaged, by name."""
        self.writer: PackWriter | None = None

    def load(self, known_salts: dict[int, bytes], *, clean: bool) -> dict[int, int]:
        """Look at the packs that are there; return the size of each.

        Args:
            known_salts: Of packs, from the table: with them a pack can be read whose header is damaged.
            clean: Remove those whose creation was torn.

        Raises:
            FormatUnknown: A newer version wrote one.
            OSError: The device refused.
        """
        sizes = {}
        for number in pack_numbers(self._device.list()):
            self._last = number
            name = pack_name(number)
            with contextlib.closing(self._device.open(name)) as file:
                size, header = file.size(), file.read(0, HEADER_BYTES)
            try:
                self._salts[number] = decode_pack(header, number)
            except CorruptRecord as error:
                if size <= HEADER_BYTES and number not in known_salts:
                    if clean:
                        self._device.remove(name)
                    continue
                self.damaged[name] = error
                if number not in known_salts:
                    continue
                self._salts[number] = known_salts[number]
            sizes[number] = size
        return sizes

    def _learn(self, number: int) -> None:
        """Find a pack that another process wrote since. Raises NotFound, CorruptRecord, DeviceFailed."""
        name = pack_name(number)
        try:
            with contextlib.closing(self._device.open(name)) as file:
                self._salts[number] = decode_pack(file.read(0, HEADER_BYTES), number)
        except FileNotFoundError:
            raise NotFound(f"pack {name}: is gone") from None
        except OSError as error:
            raise device_error(error, f"read of {name}") from error

    def numbers(self) -> list[int]:
        """Return the packs that can be read, ascending."""
        return sorted(self._salts)

    def salt(self, number: int) -> bytes:
        return self._salts[number]

    def walk(self, number: int, offset: int = HEADER_BYTES, end: int | None = None) -> Iterator[Entry | Gap]:
        """Yield what is in a pack; see `spinrt.storage.pack.walk_pack`. Raises OSError."""
        with contextlib.closing(self._device.open(pack_name(number))) as file:
            yield from walk_pack(file, file.size() if end is None else end, self._seed(number), offset)

    def read(self, place: Place, digest: bytes) -> tuple[bytes, bool]:
        """Return the stored bytes of a page, and whether they are compressed.

        Raises:
            CorruptRecord: The entry is damaged, or of another page, or cannot be where the table says.
            NotFound: The pack is gone.
            DeviceFull, DeviceFailed: The device refused.
        """
        number, offset, length = place
        if not (number > 0 and offset >= HEADER_BYTES and length in _ENTRY_LENGTHS):
            raise strange_row(digest, f"pack {number}, offset {offset}, {length} bytes, where no entry can be")
        name = pack_name(number)
        if number not in self._salts:
            self._learn(number)
        data = self._files.read_named(number, name, offset, length)
        if len(data) < ENTRY_BYTES:
            raise strange_row(digest, f"offset {offset} lies outside its pack {name}")
        seed = self._seed(number)
        header = decode_entry(data[:ENTRY_BYTES], seed)
        if header is not None and (header.digest, header.entry_bytes) != (digest, length):
            found = f"page {header.digest.hex()} of {header.entry_bytes} bytes"
            raise strange_row(digest, f"offset {offset} of {name} has {found}, the row says {length} bytes")
        stored = data[ENTRY_BYTES:]
        if header is None or not is_whole(header, stored, seed):
            what = "found no entry" if header is None else "the entry does not fit its checksum"
            raise CorruptRecord(f"{where(place, digest)}: {what}", hint=_NO_ENTRY if header is None else REPAIR_HINT)
        return stored, header.compressed

    def _seed(self, number: int) -> int:
        return checksum_seed(self._salts[number])

    def begin(self) -> PackWriter:
        """Begin a new pack. Raises OSError."""
        self._last += 1
        salt = self._new_salt()
        try:
            self.writer = PackWriter(self._device, self._last, salt)
        except OSError:
            with contextlib.suppress(OSError):  # an empty one costs a name, and goes at the next start
                if pack_name(self._last) in self._device.list():
                    self.remove_file(self._last)
            raise
        self._salts[self._last] = salt
        return self.writer

    def finish(self) -> None:
        """End the pack that is being written; what is in it was synced."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def give_up(self) -> None:
        """End the pack that is being written after a failure, without what was not synced."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        with contextlib.suppress(OSError):  # what is left of it is a gap, which costs room and nothing else
            if writer.synced > HEADER_BYTES:
                writer.truncate()
            else:
                writer.close()
                self._salts.pop(writer.number, None)
                self.remove_file(writer.number)

    def remove(self, number: int) -> None:
        """Remove a pack that nothing lies in. Raises OSError."""
        self._salts.pop(number, None)
        self.remove_file(number)
        self._device.sync()

    def remove_file(self, number: int) -> None:
        self._files.drop_key(number)
        self._device.remove(pack_name(number))

    def close(self) -> None:
        self.finish()
        self._files.close()


class PackWriter:
    """The pack that is being written."""

    def __init__(self, device: Device, number: int, salt: bytes) -> None:
        """Begin a pack; its header is durable before anything follows it. Raises OSError."""
        self._file: File = device.open(pack_name(number), create=True, write=True)
        self.number = number
        self.salt = salt
        self.seed = checksum_seed(salt)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.end = self.synced = HEADER_BYTES
        try:
            self._file.append([encode_pack(number, salt)])
            self._file.sync()
            device.sync()
        except OSError:
            self._file.close()
            raise

    def append(self, digest: bytes, stored: bytes, compressed: bool, plain_bytes: int) -> Place:
        """Add an entry; return where it will be. Raises OSError."""
        place = Place(self.number, self.end, ENTRY_BYTES + len(stored))
        self._waiting += (encode_entry(digest, stored, compressed, plain_bytes, self.seed), stored)
        self._waiting_bytes += place.entry_bytes
        self.end += place.entry_bytes
        if self._waiting_bytes > BUFFER_BYTES_MAX:
            self.flush()
        return place

    def is_waiting(self, place: Place) -> bool:
        """Tell whether an entry is in memory only."""
        return place.pack == self.number and place.offset >= self.end - self._waiting_bytes

    def flush(self) -> None:
        """Write what waits. Raises OSError."""
        if self._waiting:
            self._file.append(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
            if self._file.descriptor is not None:
                begin_write_out(self._file.descriptor)

    def sync(self) -> None:
        """Make all that was appended durable. Raises OSError."""
        self.flush()
        if self.synced < self.end:
            self._file.sync()
            self.synced = self.end

    def truncate(self) -> None:
        """Cut off what is not durable, and close."""
        try:
            self._file.truncate(self.synced)
        finally:
            self._file.close()

    def close(self) -> None:
        self._file.close()


def where(place: Place, digest: bytes) -> str:
    """Name an entry in a message."""
    return f"pack {pack_name(place.pack)}, offset {place.offset}: page {digest.hex()}"
