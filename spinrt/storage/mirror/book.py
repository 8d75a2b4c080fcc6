"""What a mirror knows of itself beside its pages and bodies: the file ``MIRROR`` in its data directory.

One JSON object, replaced as a whole; a data directory that has it is a mirror, and nobody takes mail there. Which
snapshot is *current* cannot be told from the snapshots alone, as positions of two logs do not compare. So the identity
of an update is written down as *incoming* before its snapshot becomes visible: after a crash the current one is the
incoming one if it is there, else the one before.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from spinrt.errors import CorruptRecord, FormatUnknown, StateError
from spinrt.storage.device import open_regular, sync_directory
from spinrt.storage.protocols import Snapshot

BOOK_NAME: Final = "MIRROR"
BOOK_BYTES_MAX: Final = 16 * 1024 * 1024
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """What the book says."""

    current: bytes | None = None
    """Identity of the snapshot that the last finished update brought."""
    incoming: bytes | None = None
    """The one that was about to become visible."""
    previous: bytes | None = None
    """What was current before; it stays until the next update is there, whatever the schedule says."""
    complete: bool = False
    """Whether all bodies that the current snapshot needs were found here."""
    aside: tuple[bytes, ...] = ()
    """Snapshots of a history that was left; they stay until they are deleted by hand."""
    left: dict[bytes, int] = field(default_factory=dict)
    """When they were set aside, in nanoseconds by this machine's clock."""
    resync: bool = False
    """Whether the next source may take the mirror back to a snapshot before the current one."""
    updated_ns: int = 0
    """When the last update became visible, by this machine's clock; 0: never."""
    settled_bytes: int = 0
    """Of the log, after the bodies that nothing needs were last taken out."""
    log_end: int = 0
    """Of the log when the last update was durable."""
    last: dict[str, int] = field(default_factory=dict)
    """Traffic of the last update."""
    arrived: dict[bytes, int] = field(default_factory=dict)
    """When each snapshot became visible here, in nanoseconds by this machine's clock: what it says of its own time is
    its source's word, and must not decide what stays."""

    def settled(self, present: set[bytes]) -> Standing:
        """Return it as it is after a crash, given the snapshots that are there."""
        there = self if self.incoming is None or self.incoming not in present else self.advanced(self.incoming)
        return replace(
            there,
            current=there.current if there.current in present else None,
            incoming=None,
            previous=there.previous if there.previous in present else None,
            aside=tuple(one for one in self.aside if one in present),
            left={one: when for one, when in self.left.items() if one in present},
            arrived={one: when for one, when in self.arrived.items() if one in present},
        )

    def arrival(self, snapshot: Snapshot) -> int:
        """When a snapshot came; of one that is not in the book, its own time, but not after the last update."""
        return self.arrived.get(snapshot.identity) or min(snapshot.time_ns, self.updated_ns or snapshot.time_ns)

    def advanced(self, current: bytes) -> Standing:
        """Return it with another current snapshot; the one before is *previous*."""
        previous = self.previous if current == self.current else self.current
        return replace(self, current=current, incoming=None, previous=previous)


class Book(Protocol):
    """Keeps the standing of one mirror, whole or not at all."""

    def read(self) -> Standing: ...

    def write(self, standing: Standing) -> None:
        """Make it durable. Raises OSError."""
        ...


class FileBook:
    """The book of a data directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / BOOK_NAME

    def read(self) -> Standing:
        """Return what is written; a fresh standing when there is no book.

        Raises:
            CorruptRecord: The file is no book.
            FormatUnknown: A newer version wrote it.
        """
        try:
            with os.fdopen(open_regular(self._path, os.O_RDONLY), "rb") as file:
                data = file.read(BOOK_BYTES_MAX)
        except FileNotFoundError:
            return Standing()
        return decode_standing(data, str(self._path))

    def write(self, standing: Standing) -> None:
        new = self._path.with_name(f"{BOOK_NAME}.new")
        descriptor = open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_standing(standing))
            file.flush()
            os.fsync(descriptor)
        new.rename(self._path)
        sync_directory(self._path.parent)


def is_mirror(directory: Path) -> bool:
    """Whether a data directory is a mirror."""
    return (directory / BOOK_NAME).exists()


def refuse_mirror(directory: Path) -> None:
    """Raise StateError if a data directory is a mirror."""
    if is_mirror(directory):
        raise StateError(
            f"data directory {directory}: is a mirror: nobody takes mail there",
            hint="`spinrt mirror promote` makes it the primary",
        )


def encode_standing(standing: Standing) -> bytes:
    found = asdict(standing)
    found["current"] = _hex(standing.current)
    found["incoming"] = _hex(standing.incoming)
    found["previous"] = _hex(standing.previous)
    found["aside"] = [one.hex() for one in standing.aside]
    found["left"] = {one.hex(): when for one, when in standing.left.items()}
    found["arrived"] = {one.hex(): when for one, when in standing.arrived.items()}
    return json.dumps({"version": _VERSION, **found}, indent=1).encode() + b"\n"


def decode_standing(data: bytes, name: str) -> Standing:
    """Check and return a standing; ``name`` is for the message."""
    try:
        found = json.loads(data)
        version = found["version"]
        if version != _VERSION:
            raise FormatUnknown(
                f"{name}: format version {version!r:.20}, expected {_VERSION}", hint="run the spinrt that wrote it"
            )
        return Standing(
            current=_identity(found["current"]),
            incoming=_identity(found["incoming"]),
            previous=_identity(found.get("previous")),
            complete=bool(found.get("complete")),
            aside=tuple(bytes.fromhex(one) for one in found["aside"]),
            left=_times(found.get("left", {})),
            resync=bool(found["resync"]),
            updated_ns=int(found["updated_ns"]),
            settled_bytes=int(found["settled_bytes"]),
            log_end=int(found.get("log_end", 0)),
            last={str(key): int(value) for key, value in found["last"].items()},
            arrived=_times(found.get("arrived", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptRecord(
            f"{name}: is not what a mirror writes: {error}", hint="restore it; the snapshots are not touched"
        ) from None


def _hex(identity: bytes | None) -> str | None:
    return None if identity is None else identity.hex()


def _times(found: dict[str, int]) -> dict[bytes, int]:
    return {bytes.fromhex(key): int(value) for key, value in found.items()}


def _identity(found: Any) -> bytes | None:
    return None if found is None else bytes.fromhex(found)
