"""Devices that misbehave on purpose: one that loses power, one that fails at a chosen step.

Both implement ``spinrt.storage.device.Device``. A *step* is an operation that changes something: create, append, sync,
truncate, remove, and sync of the directory. Steps count from 1, so a test can go through all of them: fail at step 1,
2, … until a run gets through.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from spinrt.storage.device import Device, File

SECTOR_BYTES = 512


class PowerLost(Exception):
    """The device is gone; `CrashDevice.crash` gives what is left of it."""


@dataclass(slots=True)
class _Inode:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


class CrashDevice:
    """Files in memory, with what is durable kept apart from what was only written.

    Args:
        seed: Decides what survives a crash.
        crash_at: The step at which power is lost, half-way through it; none for never.
    """

    def __init__(self, seed: int = 0, *, crash_at: int | None = None) -> None:
        self.random = random.Random(seed)
        self.crash_at = crash_at
        self.step_count = 0
        self.lost = False
        self.names: dict[str, _Inode] = {}
        self.durable_names: dict[str, _Inode] = {}

    def crash(self, *, crash_at: int | None = None) -> CrashDevice:
        """Return the device after power came back: all that was synced, and any part of the rest, sector by sector."""
        after = CrashDevice(self.random.randrange(2**32), crash_at=crash_at)
        for name in sorted(self.names.keys() | self.durable_names.keys()):
            written, durable = self.names.get(name), self.durable_names.get(name)
            survives = written is durable or self.random.random() < 0.5
            inode = written if survives else durable
            if inode is not None:
                data = self._surviving_bytes(inode)
                after.names[name] = after.durable_names[name] = _Inode(bytearray(data), data)
        self.lost = True
        return after

    def _surviving_bytes(self, inode: _Inode) -> bytes:
        old, new = inode.durable, bytes(inode.content)
        if old == new:
            return old
        size = self.random.choice((len(old), len(new), self.random.randint(*sorted((len(old), len(new))))))
        result = bytearray()
        for start in range(0, size, SECTOR_BYTES):
            source = new if self.random.random() < 0.5 else old
            result += source[start : start + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")
        return bytes(result[:size])

    def step(self) -> bool:
        """Count a step; tell whether power is lost in it. Raises PowerLost when it is gone already."""
        if self.lost:
            raise PowerLost("the device has no power")
        self.step_count += 1
        self.lost = self.step_count == self.crash_at
        return self.lost

    def list(self) -> list[str]:
        return sorted(self.names)

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        if create:
            if name in self.names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            crashing = self.step()
            self.names[name] = _Inode()
            if crashing:
                raise PowerLost(f"while creating {name}")
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return _CrashFile(self, self.names[name])

    def remove(self, name: str) -> None:
        crashing = self.step()
        del self.names[name]
        if crashing:
            raise PowerLost(f"while removing {name}")

    def sync(self) -> None:
        crashing = self.step()
        if not crashing or self.random.random() < 0.5:
            self.durable_names = dict(self.names)
        if crashing:
            raise PowerLost("while syncing names")

    def flip(self, name: str, offset: int, mask: int = 0x01) -> None:
        """Damage one byte of a file, durably."""
        inode = self.names[name]
        inode.content[offset] ^= mask
        inode.durable = bytes(inode.content)


class _CrashFile:
    descriptor = None

    def __init__(self, device: CrashDevice, inode: _Inode) -> None:
        self._device = device
        self._inode = inode

    def size(self) -> int:
        return len(self._inode.content)

    def append(self, buffers: Sequence[bytes]) -> None:
        data = b"".join(buffers)
        crashing = self._device.step()
        self._inode.content += data[: self._device.random.randint(0, len(data))] if crashing else data
        if crashing:
            raise PowerLost("while writing")

    def sync(self) -> None:
        crashing = self._device.step()
        if not crashing or self._device.random.random() < 0.5:
            self._inode.durable = bytes(self._inode.content)
        if crashing:
            raise PowerLost("while syncing")

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._inode.content[offset : offset + length])

    def truncate(self, size: int) -> None:
        crashing = self._device.step()
        if not crashing or self._device.random.random() < 0.5:
            del self._inode.content[size:]
        if crashing:
            raise PowerLost("while truncating")

    def close(self) -> None:
        pass


class FaultDevice:
    """A device on top of another that fails with an ``OSError`` at a chosen step.

    Args:
        inner: Does the work.
        fail_at: The step that fails; none for no failure.
        error: The ``errno``. An append writes half of its bytes before it fails.
        lasting: Fail at every later step of the same operation too, until `heal`.
    """

    def __init__(
        self, inner: Device, *, fail_at: int | None = None, error: int = errno.EIO, lasting: bool = False
    ) -> None:
        self.inner = inner
        self.fail_at = fail_at
        self.error = error
        self.lasting = lasting
        self.step_count = 0
        self.failed_operation: str | None = None

    def heal(self) -> None:
        """Let everything succeed from now on."""
        self.fail_at = None
        self.failed_operation = None

    def check(self, operation: str) -> None:
        """Count a step; raise when it is the one to fail."""
        self.step_count += 1
        again = self.lasting and operation == self.failed_operation
        if again or (self.step_count == self.fail_at and self.failed_operation is None):
            self.failed_operation = operation
            raise OSError(self.error, os.strerror(self.error))

    def list(self) -> list[str]:
        return self.inner.list()

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        if create:
            self.check("create")
        return _FaultFile(self, self.inner.open(name, create=create, write=write))

    def remove(self, name: str) -> None:
        self.check("remove")
        self.inner.remove(name)

    def sync(self) -> None:
        self.check("sync names")
        self.inner.sync()


class _FaultFile:
    descriptor = None

    def __init__(self, device: FaultDevice, inner: File) -> None:
        self._device = device
        self._inner = inner

    def size(self) -> int:
        return self._inner.size()

    def append(self, buffers: Sequence[bytes]) -> None:
        try:
            self._device.check("append")
        except OSError:
            data = b"".join(buffers)
            self._inner.append([data[: len(data) // 2]])
            raise
        self._inner.append(buffers)

    def sync(self) -> None:
        self._device.check("sync")
        self._inner.sync()

    def read(self, offset: int, length: int) -> bytes:
        return self._inner.read(offset, length)

    def truncate(self, size: int) -> None:
        self._device.check("truncate")
        self._inner.truncate(size)

    def close(self) -> None:
        self._inner.close()
