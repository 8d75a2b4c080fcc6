"""What an update carried, counted where it is sent or taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Counts of one update. ``sent_bytes`` and ``received_bytes`` are whole frames of this side, before TLS."""

    pages_offered: int = 0
    pages_moved: int = 0
    page_bytes: int = 0
    """Of pages as stored, that is compressed."""
    bodies_offered: int = 0
    bodies_moved: int = 0
    body_bytes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def add_page(self, stored: bytes) -> None:
        self.pages_moved += 1
        self.page_bytes += len(stored)

    def add_body(self, stored: bytes) -> None:
        self.bodies_moved += 1
        self.body_bytes += len(stored)
