"""Keys of a SQLite table, read from the pages of two snapshots: which rows are new costs the pages that changed.

A query would read the whole table. Only what is needed of the format is here: table B-trees, their cells' keys, and the
schema table for the place of a root. Pages are checked against their digests before they come here, so what does not
fit is no damage of a disk but not a database; it is an error all the same, never a wrong answer.

Source: https://www.sqlite.org/fileformat2.html, "B-tree Pages", "Record Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator
from typing import Final, NamedTuple, TypeAlias

from spinrt.errors import CorruptRecord

Read: TypeAlias = Callable[[int], bytes]
"""Returns a page of the database; the first is 1."""

HEIGHT_MAX: Final = 20
LEAVES_MAX: Final = 1 << 21
"""Of one table: with pages of 4 KiB, some 400 million short rows. Their numbers are held in memory."""
_LEAF: Final = 0x0D
_INTERIOR: Final = 0x05
_FILE_HEADER_BYTES: Final = 100
_KEY_MAX: Final = (1 << 63) - 1
"""Keys above are negative."""
_SCHEMA_ROOT: Final = 1
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_COLUMNS: Final = 4
"""Of the schema table: type, name, tbl_name, rootpage; the statement behind them is not looked at."""
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)


class Malformed(CorruptRecord):
    """Its pages are what their digests say, and yet it is no database, or not the one that is expected."""


class Cells(NamedTuple):
    """A page of a table's B-tree: where its cells are; the last child of an interior one."""

    page: bytes
    offsets: tuple[int, ...]
    last_child: int


def table_root(read: Read, table: str) -> int:
    """Return the number of the page where the table's B-tree begins.

    Raises:
        Malformed: There is no such table, or no database.
    """
    with _Checked():
        for number in leaves(read, _SCHEMA_ROOT):
            for page, cell in _leaf_cells(read, number):
                _, record = _key(page, cell)
                kind, name, _, root = _columns(page, record)
                if kind == b"table" and name == table.encode() and isinstance(root, int):
                    return root
    raise Malformed(f"index: has no table {table!r}")


def leaves(read: Read, root: int) -> Iterator[int]:
    """Yield the pages that hold the rows of a table, in the order of their keys; only inner pages are read."""
    with _Checked():
        yield from _leaves(read, root, _height(read, root), set())


def keys(read: Read, pages: Iterator[int]) -> Iterator[int]:
    """Yield the keys of the rows in leaf pages, in order. Raises Malformed: they do not ascend from 0."""
    last = -1
    with _Checked():
        for number in pages:
            for page, cell in _leaf_cells(read, number):
                key = _key(page, cell)[0]
                if not last < key <= _KEY_MAX:
                    raise Malformed(f"index: page {number} has row {key} after row {last}")
                last = key
                yield key


def schema_bytes(read: Read) -> int:
    """Return the bytes of all rows of the schema table: SQLite reads them all before anything else."""
    total = 0
    with _Checked():
        for number in leaves(read, _SCHEMA_ROOT):
            total += sum(_varint(page, cell)[0] for page, cell in _leaf_cells(read, number))
    return total


def new_keys(read: Read, root: int, read_before: Read, root_before: int, changed: Container[int]) -> Iterator[int]:
    """Yield the keys of a table's rows that it did not have before, in order.

    Args:
        read: The database now; ``root`` is the table's.
        read_before: The database before; ``root_before`` is the table's.
        changed: Numbers of the pages that are not the same in both.

    Cost: the inner pages of both, and the leaves that changed.
    """
    now, before = list(leaves(read, root)), list(leaves(read_before, root_before))
    shared = {number for number in sorted(set(now) & set(before)) if number not in changed}  # in order: near each other
    gone = keys(read_before, (number for number in before if number not in shared))
    last = next(gone, None)
    for key in keys(read, (number for number in now if number not in shared)):
        while last is not None and last < key:
            last = next(gone, None)
        if last != key:
            yield key


class _Checked:
    """Turns what a malformed page leads to into an error that says so."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, struct.error | IndexError):
            raise Malformed("index: a page is none of a table of a database") from None


def _height(read: Read, root: int) -> int:
    height, number = 0, root
    while (cells := _cells(read, number)).last_child:
        height, number = height + 1, cells.last_child
        if height > HEIGHT_MAX:
            raise Malformed(f"index: table at page {root} is higher than {HEIGHT_MAX} pages")
    return height


def _leaves(read: Read, number: int, height: int, seen: set[int]) -> Iterator[int]:
    """The leaves below a page; ``seen`` are the pages met so far: none comes twice, so this ends."""
    if number in seen:
        raise Malformed(f"index: page {number} is in a table twice")
    seen.add(number)
    if len(seen) > LEAVES_MAX:
        raise Malformed(f"index: a table has more than {LEAVES_MAX} pages")
    if height == 0:
        yield number
        return
    cells = _cells(read, number)
    if not cells.last_child:
        raise Malformed(f"index: page {number} is a leaf, expected an inner page")
    for at in cells.offsets:
        yield from _leaves(read, int(_U32.unpack_from(cells.page, at)[0]), height - 1, seen)
    yield from _leaves(read, cells.last_child, height - 1, seen)


def _leaf_cells(read: Read, number: int) -> Iterator[tuple[bytes, int]]:
    cells = _cells(read, number)
    if cells.last_child:
        raise Malformed(f"index: page {number} is an inner page, expected a leaf")
    for at in cells.offsets:
        yield cells.page, at


def _cells(read: Read, number: int) -> Cells:
    page = read(number)
    at = _FILE_HEADER_BYTES if number == 1 else 0
    kind = page[at]
    if kind not in (_LEAF, _INTERIOR):
        raise Malformed(f"index: page {number} has type {kind}, expected one of a table")
    count = _U16.unpack_from(page, at + 3)[0]
    last_child = _U32.unpack_from(page, at + 8)[0] if kind == _INTERIOR else 0
    first = at + (12 if kind == _INTERIOR else 8)
    return Cells(page, struct.unpack_from(f">{count}H", page, first), last_child)


def _key(page: bytes, cell: int) -> tuple[int, int]:
    """The key of a row, and where its record begins."""
    _, at = _varint(page, cell)  # bytes of the record
    return _varint(page, at)


def _columns(page: bytes, at: int) -> list[int | bytes | None]:
    """The first columns of a record."""
    header_end, position = _varint(page, at)
    header_end += at
    body = header_end
    found: list[int | bytes | None] = []
    while position < header_end and len(found) < _COLUMNS:
        serial, position = _varint(page, position)
        length = (serial - 12) // 2 if serial >= 12 else _INTEGER_BYTES[serial]
        content = page[body : body + length]
        found.append(content if serial >= 12 else int.from_bytes(content, "big"))
        body += length
    return found + [None] * (_COLUMNS - len(found))


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """A number of SQLite's: 7 bits a byte, the highest first; the ninth byte has 8."""
    value = 0
    for _ in range(8):
        byte = page[at]
        at += 1
        value = value << 7 | (byte & 0x7F)
        if byte < 0x80:
            return value, at
    return value << 8 | page[at], at + 1
