"""What the storage tests share."""

from __future__ import annotations

from pathlib import Path

from spinrt.storage.device import Device
from spinrt.storage.log import Log

NOWHERE = Path("/nonexistent")


def open_log(device: Device, *, segment_bytes_max: int = 4096, buffer_bytes_max: int = 1 << 20) -> Log:
    """Open a log on a test device, with small segments and a salt that does not vary."""
    return Log.open(
        NOWHERE,
        device=device,
        segment_bytes_max=segment_bytes_max,
        buffer_bytes_max=buffer_bytes_max,
        salt=lambda: b"0123456789abcdef",
    )


def bodies(log: Log) -> list[bytes]:
    """Return the bodies of all durable records."""
    return [record.body for record in log.records()]
