"""Selecting messages by lists of UIDs, at a cost that follows the list."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

GROUP_SIZES: Final = (1, 16, 256)
"""Placeholder counts of the prepared statements; a shorter list is padded with its last UID."""


def select_uids(
    connection: sqlite3.Connection, columns: str, mailbox_id: int, uids: Sequence[int]
) -> list[tuple[Any, ...]]:
    """Return ``columns`` of those of the UIDs that exist, ascending by UID, each once.

    Cost: one look-up per UID; a run of consecutive UIDs is one range.
    """
    if len(uids) == 1:
        return connection.execute(_statement(columns, "= ?"), (mailbox_id, uids[0])).fetchall()
    ordered = sorted(set(uids))
    if ordered and ordered[-1] - ordered[0] + 1 == len(ordered):
        within = _statement(columns, "BETWEEN ? AND ?")
        return connection.execute(within, (mailbox_id, ordered[0], ordered[-1])).fetchall()
    found: list[tuple[Any, ...]] = []
    largest = GROUP_SIZES[-1]
    for start in range(0, len(ordered), largest):
        group = ordered[start : start + largest]
        count = next(size for size in GROUP_SIZES if size >= len(group))
        group += [group[-1]] * (count - len(group))
        found += connection.execute(_statement(columns, f"IN ({','.join('?' * count)})"), (mailbox_id, *group))
    return found


@cache
def _statement(columns: str, condition: str) -> str:
    """One of a few: the callers' columns times what `select_uids` asks of the UID."""
    return f"SELECT {columns} FROM messages WHERE mailbox_id = ? AND uid {condition} ORDER BY uid"
