"""Selecting messages by lists of UIDs, at a cost that follows the list."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

GROUP_SIZES: Final = (1, 16, 256)
"""Placeholder counts of the prepared statements; a shorter list is padded with its last UID."""


def select_uids(
    connection: sqlite3.Connection, columns: str, mailbox_id: int, uids: Sequence[int]
) -> Iterator[tuple[Any, ...]]:
    """Yield ``columns`` of those of the UIDs that exist, ascending by UID, each once.

    Cost: one look-up per UID; a run of consecutive UIDs is one range.
    """
    if len(uids) == 1:
        sql = f"SELECT {columns} FROM messages WHERE mailbox_id = ? AND uid = ?"
        yield from connection.execute(sql, (mailbox_id, uids[0]))
        return
    ordered = sorted(set(uids))
    if ordered and ordered[-1] - ordered[0] + 1 == len(ordered):
        sql = f"SELECT {columns} FROM messages WHERE mailbox_id = ? AND uid BETWEEN ? AND ? ORDER BY uid"
        yield from connection.execute(sql, (mailbox_id, ordered[0], ordered[-1]))
        return
    largest = GROUP_SIZES[-1]
    for start in range(0, len(ordered), largest):
        group = ordered[start : start + largest]
        count = next(size for size in GROUP_SIZES if size >= len(group))
        group += [group[-1]] * (count - len(group))
        marks = ",".join("?" * count)
        sql = f"SELECT {columns} FROM messages WHERE mailbox_id = ? AND uid IN ({marks}) ORDER BY uid"
        yield from connection.execute(sql, (mailbox_id, *group))
