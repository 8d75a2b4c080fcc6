"""The files of snapshots in the directory of a page store: read, mended from their pages, written, removed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Final

from spinrt.errors import CorruptRecord, NotFound
from spinrt.storage.device import Device
from spinrt.storage.protocols import Snapshot
from spinrt.storage.snapshot import FILE_BYTES_MAX, SUFFIX, decode_named, encode_snapshot

_trace: Final = logging.getLogger("spinrt.storage")


class SnapshotDirectory:
    """One file for each snapshot."""

    def __init__(
        self, device: Device, damaged: dict[str, CorruptRecord], repaired: list[str], *, read_only: bool
    ) -> None:
        """``damaged`` and ``repaired`` get the names of files that are found so."""
        self._device = device
        self._damaged = damaged
        self._repaired = repaired
        self._read_only = read_only

    def load(self, get: Callable[[bytes], bytes]) -> dict[bytes, Snapshot]:
        """Return the snapshots that are there, by id; ``get`` reads a page. A damaged file is mended from its page.

        Raises:
            OSError: The device refused.
        """
        loaded = {}
        for name in self._device.list():
            if not name.endswith(SUFFIX):
                continue
            try:
                found = self._read(name)
            except CorruptRecord as error:
                try:
                    found = _from_page(name, get)
                except (CorruptRecord, NotFound, ValueError):
                    self._damaged[name] = error
                    continue
                self._mend(name, found, error)
            loaded[found.identity] = found
        return loaded

    def _read(self, name: str) -> Snapshot:
        with contextlib.closing(self._device.open(name)) as file:
            data = file.read(0, FILE_BYTES_MAX + 1)
        return decode_named(data, name)

    def _mend(self, name: str, found: Snapshot, error: CorruptRecord) -> None:
        if self._read_only:
            self._damaged[name] = error
            return
        _trace.warning("%s; written anew", error)
        self.write(name, encode_snapshot(found))
        self._repaired.append(name)

    def write(self, name: str, encoded: bytes) -> None:
        """Write a snapshot's file, durable on return; one that is there is never without its name. Raises OSError."""
        there = name in self._device.list()
        with contextlib.closing(self._device.open(name, create=not there, write=True)) as file:
            if there:
                file.truncate(0)
            file.append([encoded])
            file.sync()
        self._device.sync()

    def remove(self, name: str) -> None:
        """Remove a snapshot's file, durable on return, if it is there. Raises OSError."""
        if name in self._device.list():
            self._device.remove(name)
            self._device.sync()


def _from_page(name: str, get: Callable[[bytes], bytes]) -> Snapshot:
    """Return a snapshot from its page. Raises CorruptRecord, NotFound; ValueError for a name that names none."""
    identity = bytes.fromhex(name.removesuffix(SUFFIX).partition("-")[2])
    return decode_named(get(identity) + identity, name)
