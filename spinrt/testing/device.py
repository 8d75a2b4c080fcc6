"""Devices that misbehave on purpose: one that loses power, one that fails at a step, one that is full, one that rots.

All implement ``spinrt.storage.device.Device``. A *step* is an operation that changes something: create, append, sync,
truncate, remove, and sync of the directory. Steps count from 1, so a test can go through all of them: fail at step 1,
2, … until a run gets through. Everything that is left to chance is drawn from a seed.
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

    Of what was not synced any part survives a crash: later writes without earlier ones, whatever the order within the
    sync that was cut off, sectors torn in the middle, names without their files' bytes and bytes without their names.

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
            result += self._surviving_sector(old[start : start + SECTOR_BYTES], new[start : start + SECTOR_BYTES])
        return bytes(result[:size])

    def _surviving_sector(self, old: bytes, new: bytes) -> bytes:
        """The old one, the new one, or now and then one that the head had only begun to write."""
        old, new = old.ljust(SECTOR_BYTES, b"\0"), new.ljust(SECTOR_BYTES, b"\0")
        written = self.random.choice((0, SECTOR_BYTES, self.random.randrange(SECTOR_BYTES)))
        return new[:written] + old[written:]

    def directory(self, name: str) -> Device:
        """A directory of its own on this device: same power, same steps."""
        return _Directory(self, f"{name}/")

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

    def sync(self, prefix: str = "") -> None:
        """Make names durable: those that begin with ``prefix``."""
        crashing = self.step()
        if not crashing or self.random.random() < 0.5:
            others = {name: inode for name, inode in self.durable_names.items() if not name.startswith(prefix)}
            here = {name: inode for name, inode in self.names.items() if name.startswith(prefix)}
            self.durable_names = others | here
        if crashing:
            raise PowerLost("while syncing names")

    def flip(self, name: str, offset: int, mask: int = 0x01) -> None:
        """Damage one byte of a file, durably."""
        inode = self.names[name]
        inode.content[offset] ^= mask
        inode.durable = bytes(inode.content)


@dataclass(frozen=True, slots=True)
class _Directory:
    """The files of a `CrashDevice` whose names begin alike."""

    device: CrashDevice
    prefix: str

    def list(self) -> list[str]:
        return [name.removeprefix(self.prefix) for name in self.device.list() if name.startswith(self.prefix)]

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        return self.device.open(self.prefix + name, create=create, write=write)

    def remove(self, name: str) -> None:
        self.device.remove(self.prefix + name)

    def sync(self) -> None:
        self.device.sync(self.prefix)


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


@dataclass(slots=True)
class Space:
    """Bytes that are left on something; several devices may share it. Give it more, and writing works again."""

    left: int

    def take(self, count: int) -> int:
        """Take up to ``count`` bytes; return how many there were."""
        taken = min(count, max(self.left, 0))
        self.left -= taken
        return taken


class FullDevice:
    """A device on top of another with only so much `Space`: an append writes what fits, then fails with ENOSPC.

    What is cut off or removed gives its space back. A new name takes ``NAME_BYTES``.
    """

    NAME_BYTES = 64

    def __init__(self, inner: Device, space: Space) -> None:
        self.inner = inner
        self.space = space

    def list(self) -> list[str]:
        return self.inner.list()

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        if create:
            self._take_name(name)
        return _FullFile(self.space, self.inner.open(name, create=create, write=write))

    def _take_name(self, name: str) -> None:
        if self.space.left < self.NAME_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        self.space.left -= self.NAME_BYTES

    def remove(self, name: str) -> None:
        file = self.inner.open(name)
        size = file.size()
        file.close()
        self.inner.remove(name)
        self.space.left += size + self.NAME_BYTES

    def sync(self) -> None:
        self.inner.sync()


class _FullFile:
    descriptor = None

    def __init__(self, space: Space, inner: File) -> None:
        self._space = space
        self._inner = inner

    def size(self) -> int:
        return self._inner.size()

    def append(self, buffers: Sequence[bytes]) -> None:
        data = b"".join(buffers)
        fits = self._space.take(len(data))
        self._inner.append([data[:fits]])
        if fits < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        self._inner.sync()

    def read(self, offset: int, length: int) -> bytes:
        return self._inner.read(offset, length)

    def truncate(self, size: int) -> None:
        freed = self._inner.size() - size
        self._inner.truncate(size)
        self._space.left += freed

    def close(self) -> None:
        self._inner.close()


class RottingDevice:
    """A device on top of another that flips one bit of what is read, now and then. What is stored stays as it was.

    Args:
        inner: Does the work.
        seed: Decides which reads, and which bits.
        rate: How often; 0 … 1.
    """

    def __init__(self, inner: Device, seed: int, *, rate: float) -> None:
        self.inner = inner
        self.rate = rate
        self.random = random.Random(seed)
        self.flipped = 0

    def list(self) -> list[str]:
        return self.inner.list()

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        return _RottingFile(self, self.inner.open(name, create=create, write=write))

    def remove(self, name: str) -> None:
        self.inner.remove(name)

    def sync(self) -> None:
        self.inner.sync()

    def rot(self, data: bytes) -> bytes:
        """What is read instead of ``data``."""
        if not data or self.random.random() >= self.rate:
            return data
        self.flipped += 1
        bit = self.random.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


class _RottingFile:
    descriptor = None

    def __init__(self, device: RottingDevice, inner: File) -> None:
        self._device = device
        self._inner = inner

    def size(self) -> int:
        return self._inner.size()

    def append(self, buffers: Sequence[bytes]) -> None:
        self._inner.append(buffers)

    def sync(self) -> None:
        self._inner.sync()

    def read(self, offset: int, length: int) -> bytes:
        return self._device.rot(self._inner.read(offset, length))

    def truncate(self, size: int) -> None:
        self._inner.truncate(size)

    def close(self) -> None:
        self._inner.close()
