"""The local log does what every log must."""

from __future__ import annotations

from pathlib import Path

from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice
from spinrt.testing.log import LogConformance


class TestLog(LogConformance):
    def open(self, place: Path) -> Log:
        return Log.open(place / "log", segment_bytes_max=4096)


class TestLogWithoutCompression(LogConformance):
    """Every body as it came."""

    def open(self, place: Path) -> Log:
        return Log.open(place / "log", segment_bytes_max=4096, compression=False)


class TestLogThatWritesThrough(LogConformance):
    """A buffer that is full after two records."""

    def open(self, place: Path) -> Log:
        return Log.open(place / "log", segment_bytes_max=4096, buffer_bytes_max=1000)


class TestLogInMemory(LogConformance):
    """On a device of its own, where the table of places is built anew at each start."""

    devices: dict[Path, CrashDevice]

    def open(self, place: Path) -> Log:
        devices = self.__dict__.setdefault("devices", {})
        device = devices.setdefault(place, CrashDevice())
        return Log.open(place, device=device, segment_bytes_max=4096)
