"""The local page store does what every page store must."""

from __future__ import annotations

from pathlib import Path

from spinrt.storage.pages import LocalPages
from spinrt.testing.page_store import PageStoreConformance


class TestLocalPages(PageStoreConformance):
    def open(self, place: Path) -> LocalPages:
        return LocalPages.open(place)


class TestLocalPagesInSmallPacks(PageStoreConformance):
    """Every few pages a new pack, and nothing kept that is not referred to."""

    def open(self, place: Path) -> LocalPages:
        return LocalPages.open(place, pack_bytes_max=8192, unused_keep_s=0)
