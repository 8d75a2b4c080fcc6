"""What the storage tests share."""

from __future__ import annotations

import threading
from pathlib import Path

from spinrt.storage.device import Device, File
from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice

NOWHERE = Path("/nonexistent")


def open_log(
    device: Device,
    *,
    segment_bytes_max: int = 4096,
    buffer_bytes_max: int = 1 << 20,
    generation: int = 0,
    compression: bool = True,
) -> Log:
    """Open a log on a test device, with small segments and a salt that does not vary."""
    return Log.open(
        NOWHERE,
        device=device,
        segment_bytes_max=segment_bytes_max,
        buffer_bytes_max=buffer_bytes_max,
        salt=lambda: b"0123456789abcdef",
        generation=generation,
        compression=compression,
    )


def bodies(log: Log) -> list[bytes]:
    """Return the bodies of all durable records."""
    return [record.body for record in log.records()]


class GatedDevice(CrashDevice):
    """Once `close_gate` was called, each sync of a file says that it began and waits for a permit."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.permits: threading.Semaphore | None = None

    def close_gate(self) -> None:
        self.permits = threading.Semaphore(0)

    def open_gate(self) -> None:
        permits, self.permits = self.permits, None
        if permits is not None:
            permits.release(1000)

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        file = super().open(name, create=create, write=write)
        sync = file.sync

        def gated() -> None:
            permits = self.permits
            if permits is not None:
                self.entered.release()
                permits.acquire()
            sync()

        file.sync = gated  # type: ignore[method-assign]
        return file
