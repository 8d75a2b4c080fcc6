"""What the parts of storage promise each other: snapshots, and the store that holds their pages.

An implementation passes ``spinrt.testing.page_store``. The local one is ``spinrt.storage.pages.LocalPages``. Words and
invariants: docs/design/storage.md; bytes: docs/formats/pages.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

PAGE_BYTES_MAX: Final = 65_536
DIGEST_BYTES: Final = 32
FAN_OUT: Final = 128
"""Digests in one node of an object's map."""
HOLE: Final = bytes(DIGEST_BYTES)
"""Stands in a node for a page, or a node, that is not there: it reads as zero bytes."""


class Object(NamedTuple):
    """A sequence of equal pages, the last of which may be shorter, as a Merkle tree of digests.

    ``depth`` counts the levels of nodes: at 0 ``root`` is the only page itself. An empty object has root `HOLE`.
    """

    name: str
    kind: int
    size: int
    """Bytes."""
    page_bytes: int
    depth: int
    root: bytes


class Snapshot(NamedTuple):
    """A consistent cut: all objects as they were when everything before ``position`` of the log was applied."""

    identity: bytes
    """SHA-256 of its stored bytes (`spinrt.storage.snapshot.seal` fills it in)."""
    parent: bytes | None
    """The snapshot before it; need not exist any more."""
    log_identity: bytes
    """16 bytes: which log ``position`` is of."""
    position: int
    time_ns: int
    """Since 1970-01-01 UTC."""
    objects: tuple[Object, ...]
    """In order of their names, each once."""
    label: str


class PageStore(Protocol):
    """Pages by the digest of their content, and the snapshots that need them. All methods may be called from any
    thread."""

    def put(self, content: bytes) -> bytes:
        """Store a page of 1 … `PAGE_BYTES_MAX` bytes; return its SHA-256. One that is known is not written again.

        Durable after `sync`. A page that no snapshot refers to may be gone after the next start.

        Raises:
            UsageError: Empty, or too long.
            DeviceFull, DeviceFailed: Not stored.
        """
        ...

    def put_stored(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        """Store a page as another store gave it (`get_stored`).

        Raises:
            CorruptRecord: The bytes are not those of that digest. Nothing was stored.
            DeviceFull, DeviceFailed: Not stored.
        """
        ...

    def get(self, digest: bytes) -> bytes:
        """Return a page's content.

        Raises:
            NotFound: No such page.
            CorruptRecord: What is stored is damaged; pack, offset and digest are named.
            DeviceFailed: It cannot be read.
        """
        ...

    def get_stored(self, digest: bytes) -> tuple[bytes, bool]:
        """Return a page as it is stored, and whether that is compressed. Raises as `get`."""
        ...

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell for each digest whether there is such a page."""
        ...

    def sync(self) -> None:
        """Make all that was put durable. Raises DeviceFull, DeviceFailed."""
        ...

    def commit(self, snapshot: Snapshot) -> None:
        """Sync, then make the snapshot durable and visible, all or nothing. One that is there already is left alone.

        Raises:
            UsageError: Not sealed; or a page of it is not there (looked for below what no other snapshot has).
            DeviceFull, DeviceFailed: There is no such snapshot.
        """
        ...

    def snapshots(self) -> list[Snapshot]:
        """Return all of them, by position, then time."""
        ...

    def delete(self, identity: bytes) -> None:
        """Remove a snapshot, and what only it referred to. Raises NotFound."""
        ...

    def close(self) -> None:
        """Give up what is open. Closing twice does nothing."""
        ...
