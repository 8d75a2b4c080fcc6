"""Who may use a runtime: the thread and the process that made it.

Nothing of a runtime is locked, so whoever else uses it would find it half changed. A forked child has a copy of the
memory, but
what it does is not seen by its parent, and effects would be applied twice: it makes a runtime of its own.
"""

from __future__ import annotations

import os
import threading

from spinrt.errors import StateError


class Owner:
    """The thread and process that made something; `check` refuses all others."""

    __slots__ = ("_process", "_thread")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._process = os.getpid()

    def check(self, what: str) -> None:
        """Return when this is the owner.

        Raises:
            StateError: Another thread or a forked child uses it; nothing was changed.
        """
        if os.getpid() != self._process:
            raise StateError(
                f"{what}: found a use in a forked process, expected the one that made it",
                hint="make a runtime of its own after the fork",
            )
        if threading.get_ident() != self._thread:
            raise StateError(
                f"{what}: found a use from another thread, expected the one that made it",
                hint="give each thread a runtime of its own",
            )
