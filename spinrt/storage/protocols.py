"""What the parts of storage promise each other: the log, snapshots, and the store that holds their pages.

An implementation passes ``spinrt.testing.log`` or ``spinrt.testing.page_store``. The local ones are
``spinrt.storage.log.Log`` and ``spinrt.storage.pages.LocalPages``. Words and invariants: docs/design/storage.md; bytes:
docs/formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from spinrt.storage.record import Record

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
        """Return all of them, the oldest first (``snapshot.in_order``)."""
        ...

    def delete(self, identity: bytes) -> None:
        """Remove a snapshot, and what only it referred to. Raises NotFound."""
        ...

    def close(self) -> None:
        """Give up what is open. Closing twice does nothing."""
        ...


class Log(Protocol):
    """Records in one order, for ever. All methods may be called from any thread.

    A record's *position* is above that of every record before it. It is the *name* of its body for ever, wherever the
    body lies later (docs/design/storage.md, "Carrying").
    """

    @property
    def identity(self) -> bytes:
        """16 bytes that tell this log from any other; the same at every start."""
        ...

    @property
    def start(self) -> int:
        """No record below it is there any more, but under its name if it was carried."""
        ...

    @property
    def whole(self) -> bool:
        """Whether nothing ever expired."""
        ...

    @property
    def end(self) -> int:
        """Position after everything appended."""
        ...

    @property
    def durable(self) -> int:
        """Position after everything durable."""
        ...

    def append(
        self,
        kind: int,
        parts: Sequence[bytes | memoryview],
        *,
        time_ns: int,
        references: Iterable[int] = (),
        sha256: bytes | None = None,
        may_compress: bool = False,
    ) -> int:
        """Append one record and return its position. After a crash a prefix of what was appended is there, with all
        that `sync` returned for; no record is torn.

        Args:
            kind: 0 … 32767, for the reader; 1 is the log's own.
            parts: The body, in pieces, 16 MiB - 18 in all.
            references: Positions of records that this one needs; when one of them was given up, this one is refused.
            sha256: Of the body, when the caller has it.
            may_compress: The body may be stored in another form. It is read as it was given.

        Raises:
            DeviceFull: No room; not appended. `is_lost` tells which earlier records are gone with it.
            DeviceFailed: The log takes nothing more.
            UsageError: Such a record cannot be.
        """
        ...

    def append_carried(self, name: int, kind: int, time_ns: int, stored: bytes) -> int:
        """Append the body of that name once more, as `stored_body` of this log or another gave it; return its place.

        From now on the name leads to it. Durable, and raises, as `append`.
        """
        ...

    def sync(self) -> int:
        """Make all that was appended before the call durable; return `durable`.

        Raises:
            DeviceFull: All that was not durable is given up; the log goes on.
            DeviceFailed: The log takes nothing more.
        """
        ...

    def is_lost(self, position: int) -> bool:
        """Tell whether the record at a position was given up."""
        ...

    def read(self, name: int) -> Record:
        """Return the record of that name, durable or not. Raises CorruptRecord: none is there, or it is damaged."""
        ...

    def read_body(self, name: int, offset: int, length: int) -> bytes:
        """Return bytes of the plain body of that name. Raises CorruptRecord as `read`; UsageError: not in the body."""
        ...

    def stored_body(self, name: int) -> tuple[int, int, bytes, bytes]:
        """Return (kind, with bit 15 when ``stored`` is a zstd frame; time; stored; its digest of 16 bytes)."""
        ...

    def holds(self, name: int) -> bool:
        """Tell whether there is a record of that name."""
        ...

    def place(self, name: int) -> int | None:
        """Return the position of the record that has the body of that name."""
        ...

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the durable records from the first at or after a record's start, a ``next_position`` or 0.

        Raises CorruptRecord: Damage, which is named.
        """
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Let nothing expire inside."""
        ...

    def expire(self, position: int) -> list[str]:
        """Give up what lies before a position, in the pieces that the log is stored in; return their names.

        What is needed of it was carried and is durable. Pieces that reach beyond the position stay, and the newest.
        """
        ...

    def close(self) -> None:
        """Sync, and give up what is open. Closing twice does nothing."""
        ...
