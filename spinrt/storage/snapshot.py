"""The bytes of a snapshot: a small file that names the roots of its objects.

All numbers are unsigned and big-endian. The file's name is its position (20 decimal digits), ``-``, its id in hex,
``.snap``. All but the id itself is a page of the page store, too, by that very digest: the snapshot is there when its
name is, and a file that was torn or damaged is written anew from the page::

    offset size
     0      8   magic      b"SPINSNAP"
     8      4   version    1
    12      4   length     of the whole file
    16     32   parent     id of the snapshot before it, or zeros
    48     16   log        identity of the log
    64      8   position   everything before it is in the snapshot, nothing behind it
    72      8   time       nanoseconds since 1970-01-01 UTC
    80      2   label      bytes of the label
    82      2   objects    how many
    84          label      UTF-8
                objects    one behind the other, in order of their names
                id         32 bytes: SHA-256 of all before it

Object, 50 bytes and then its name::

     0      2   name       bytes of the name
     2      2   kind       what the object is, for its reader
     4      1   depth      levels of nodes
     5      1   zero
     6      4   page       bytes of a page
    10      8   size       bytes of the object
    18     32   root       digest of the root node, or of the only page, or zeros

A node of an object's map is a page of its own: b"N", its level (1 is just above the pages), the count of digests (2
bytes), then up to 128 digests of what lies one level below; zeros stand for a hole. Which counts there are follows from
the object's size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from spinrt.errors import CorruptRecord, FormatUnknown, UsageError
from spinrt.storage.protocols import DIGEST_BYTES, FAN_OUT, HOLE, PAGE_BYTES_MAX, Object, Snapshot

SUFFIX: Final = ".snap"
FILE_BYTES_MAX: Final = PAGE_BYTES_MAX + DIGEST_BYTES
"""All but its id is kept as a page, too."""
NAME_BYTES_MAX: Final = 512
LABEL_BYTES_MAX: Final = 200
SIZE_MAX: Final = 2**48
KIND_INDEX: Final = 1
"""The mail index, a SQLite database."""
KIND_CONFIGURATION: Final = 2
"""A file of the configuration."""
KIND_EXTENSION: Final = 3
"""A file of an extension."""

_MAGIC: Final = b"SPINSNAP"
_VERSION: Final = 1
_LOG_IDENTITY_BYTES: Final = 16
_FRONT: Final = struct.Struct(">8sII32s16sQQHH")
_OBJECT: Final = struct.Struct(">HHBxIQ32s")
_NO_PARENT: Final = bytes(DIGEST_BYTES)


def seal(
    *,
    parent: bytes | None,
    log_identity: bytes,
    position: int,
    time_ns: int,
    objects: tuple[Object, ...],
    label: str = "",
) -> Snapshot:
    """Return a snapshot with its id.

    Raises:
        UsageError: It cannot be stored: a name twice, something too long or out of range.
    """
    ordered = tuple(sorted(objects))
    draft = Snapshot(HOLE, parent, log_identity, position, time_ns, ordered, label)
    return draft._replace(identity=sha256(_covered(draft)).digest())


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot's file. Raises UsageError unless it came from `seal` or `decode_snapshot`."""
    covered = _covered(snapshot)
    if sha256(covered).digest() != snapshot.identity:
        raise UsageError(f"snapshot {snapshot.identity.hex()}: its content has another id; make it with `seal`")
    return covered + snapshot.identity


def _covered(snapshot: Snapshot) -> bytes:
    _check(snapshot)
    label = snapshot.label.encode()
    parts = [label]
    for item in snapshot.objects:
        name = item.name.encode()
        parts += [_OBJECT.pack(len(name), item.kind, item.depth, item.page_bytes, item.size, item.root), name]
    length = _FRONT.size + sum(map(len, parts)) + DIGEST_BYTES
    if length > FILE_BYTES_MAX:
        raise UsageError(f"snapshot: {len(snapshot.objects)} objects take {length} bytes, limit {FILE_BYTES_MAX}")
    front = _FRONT.pack(
        _MAGIC,
        _VERSION,
        length,
        snapshot.parent or _NO_PARENT,
        snapshot.log_identity,
        snapshot.position,
        snapshot.time_ns,
        len(label),
        len(snapshot.objects),
    )
    return b"".join([front, *parts])


def _check(snapshot: Snapshot) -> None:
    """Raise UsageError unless every field of the snapshot can be stored and means something."""
    names = [item.name for item in snapshot.objects]
    problem = None
    if sorted(set(names)) != names:
        problem = "expected objects in order of their names, each name once"
    elif len(snapshot.label.encode()) > LABEL_BYTES_MAX or not snapshot.label.isprintable():
        problem = f"the label is longer than {LABEL_BYTES_MAX} bytes or not printable"
    elif len(snapshot.log_identity) != _LOG_IDENTITY_BYTES or snapshot.parent == _NO_PARENT:
        problem = "the log's or the parent's identity is none"
    elif not (0 <= snapshot.position < 2**63 and 0 <= snapshot.time_ns < 2**63):
        problem = f"position {snapshot.position} or time {snapshot.time_ns} is out of range"
    else:
        problem = next(filter(None, map(_object_problem, snapshot.objects)), None)
    if problem is not None:
        raise UsageError(f"snapshot: {problem}")


def _object_problem(item: Object) -> str | None:
    if not 0 < len(item.name.encode()) <= NAME_BYTES_MAX or not item.name.isprintable():
        return f"object {item.name[:40]!r}: expected a printable name of 1 … {NAME_BYTES_MAX} bytes"
    if not (0 <= item.kind < 2**16 and 0 < item.page_bytes <= PAGE_BYTES_MAX and 0 <= item.size <= SIZE_MAX):
        return f"object {item.name!r}: kind, page size or size is out of range"
    if item.depth != depth_of(item.size, item.page_bytes):
        return f"object {item.name!r}: depth {item.depth}, expected {depth_of(item.size, item.page_bytes)}"
    if len(item.root) != DIGEST_BYTES:
        return f"object {item.name!r}: root of {len(item.root)} bytes"
    return None


def depth_of(size: int, page_bytes: int) -> int:
    """Return how many levels of nodes an object of that size has."""
    depth, reach = 0, page_bytes
    while reach < size:
        depth, reach = depth + 1, reach * FAN_OUT
    return depth


def decode_snapshot(data: bytes, name: str) -> Snapshot:
    """Check and return a snapshot; ``name`` is for the message.

    Raises:
        CorruptRecord: Anything in it is wrong.
        FormatUnknown: Written by a newer version.
    """
    if len(data) < _FRONT.size + DIGEST_BYTES or len(data) > FILE_BYTES_MAX:
        raise _damaged(name, f"{len(data)} bytes, expected {_FRONT.size + DIGEST_BYTES} … {FILE_BYTES_MAX}")
    magic, version, length, parent, log_identity, position, time_ns, label_bytes, count = _FRONT.unpack_from(data)
    if magic != _MAGIC:
        raise _damaged(name, f"magic is {magic!r}, expected {_MAGIC!r}")
    if length != len(data) or sha256(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
        raise _damaged(name, "length or digest is wrong")
    if version != _VERSION:
        raise FormatUnknown(
            f"snapshot {name}: format version {version}, expected {_VERSION}",
            hint="it was written by a newer spinrt; run that version",
        )
    end = _FRONT.size + label_bytes
    try:
        label = data[_FRONT.size : end].decode()
        objects = _decode_objects(data[end:-DIGEST_BYTES], count)
        found = Snapshot(
            data[-DIGEST_BYTES:],
            None if parent == _NO_PARENT else parent,
            log_identity,
            position,
            time_ns,
            objects,
            label,
        )
        encode_snapshot(found)
    except (UnicodeDecodeError, struct.error, UsageError) as error:
        raise _damaged(name, str(error)) from None
    return found


def decode_named(data: bytes, name: str) -> Snapshot:
    """As `decode_snapshot`, of the file of that name. Raises CorruptRecord, too, when the name is another one's."""
    found = decode_snapshot(data, name)
    if snapshot_name(found) != name:
        raise _damaged(name, f"holds snapshot {found.identity.hex()}")
    return found


def _decode_objects(data: bytes, count: int) -> tuple[Object, ...]:
    objects, offset = [], 0
    for _ in range(count):
        name_bytes, kind, depth, page_bytes, size, root = _OBJECT.unpack_from(data, offset)
        start = offset + _OBJECT.size
        offset = start + name_bytes
        objects.append(Object(data[start:offset].decode(), kind, size, page_bytes, depth, root))
    if offset != len(data):
        raise UsageError(f"objects end at {offset}, expected {len(data)}")
    return tuple(objects)


def _damaged(name: str, what: str) -> CorruptRecord:
    return CorruptRecord(f"snapshot {name}: {what}", hint="a mirror may still have it")


def in_order(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Return snapshots, the oldest first.

    Those of one log by position, then time. Positions of two logs do not compare, so between logs the time decides; as
    clocks go back, one counts as no older than those of its log that come before it.
    """
    reached: dict[bytes, int] = {}
    dated: list[tuple[int, Snapshot]] = []
    for one in sorted(snapshots, key=_place_in_log):
        time_ns = reached[one.log_identity] = max(one.time_ns, reached.get(one.log_identity, 0))
        dated.append((time_ns, one))
    return [one for _, one in sorted(dated, key=lambda pair: (pair[0], *_place_in_log(pair[1])))]


def _place_in_log(snapshot: Snapshot) -> tuple[int, int, bytes]:
    return snapshot.position, snapshot.time_ns, snapshot.identity


def snapshot_name(snapshot: Snapshot) -> str:
    """Return the name of a snapshot's file."""
    return f"{snapshot.position:020d}-{snapshot.identity.hex()}{SUFFIX}"
