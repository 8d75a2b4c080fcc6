"""Power lost in every step of log and pages while a mirror takes over or a primary steps down.

Log and pages lie on a device that loses what was not synced; the book and the index are files, and the index, which
nobody syncs for ever, is sometimes gone afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from spinrt.mail.store import promote as promoting
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.store import Store
from spinrt.storage import datadir
from spinrt.storage.datadir import DataDirectory
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import FileBook, is_mirror
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.pages import LocalPages
from spinrt.testing.device import CrashDevice, PowerLost
from tests.mail.mirror_support import Site, messages
from tests.mail.store_support import USER, run


class Place:
    """A copy of a data directory whose log and pages lie on a device of tests."""

    def __init__(self, source: Path, path: Path, seed: int) -> None:
        shutil.copytree(source, path, ignore=shutil.ignore_patterns("log", "pages"))
        self.path = path
        self.device = CrashDevice(seed)
        self._tables = (path.parent / f"{path.name}-tables-{number}" for number in count())
        for part, suffixes in (("log", (".log",)), ("pages", (".pack", ".snap"))):
            for file in (source / part).iterdir():
                if file.suffix in suffixes:
                    self._seed(f"{part}/{file.name}", file.read_bytes())
        self.device.sync()

    def _seed(self, name: str, content: bytes) -> None:
        file = self.device.open(name, create=True, write=True)
        file.append([content])
        file.sync()
        file.close()

    def lose_power_after(self, steps: int) -> None:
        self.device.crash_at = self.device.step_count + steps

    def crash(self) -> None:
        self.device = self.device.crash()

    def mirror(self, path: Path, *, create: bool = True) -> MirrorDirectory:
        data = DataDirectory.open(path)
        try:
            pages = LocalPages.open(next(self._tables), self.device.directory("pages"))
            log = Log.open(path / "log", device=self.device.directory("log"), opaque_kinds=OPAQUE_KINDS)
        except BaseException:
            data.close()
            raise
        return MirrorDirectory(data, pages, log, _no_log, lambda: 1)

    def store(self, path: Path) -> Store:
        shutil.rmtree(path / "pages", ignore_errors=True)  # the derived table, of pages that are on the device
        devices = {"device": self.device.directory("log"), "pages_device": self.device.directory("pages")}
        return Store.open(path, **devices)

    def stored(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def body() -> None:
            store = self.store(self.path)
            found.update(messages(store, USER))
            await store.close()

        run(body)
        return found


def _no_log(generation: int) -> Log:
    raise AssertionError("it has one")


class Opening:
    """Stands in for what opens stores and mirrors by path."""

    def __init__(self, place: Place) -> None:
        self.open = place.store


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def places(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def place(source: Path, number: int) -> Place:
        made = Place(source, tmp_path / f"{number}", number)
        monkeypatch.setattr(promoting, "open_mirror", made.mirror)
        monkeypatch.setattr(promoting, "Store", Opening(made))
        return made

    monkeypatch.setattr(datadir, "_lock", lambda path, descriptor: None)  # nobody is there to give it up
    yield place


@pytest.mark.parametrize("index_survives", [True, False])
def test_power_lost_during_a_promotion(site: Site, places: Any, index_survives: bool) -> None:
    for step in count(1):
        place: Place = places(site.new, step)
        place.lose_power_after(step)
        done = False
        try:
            promote(place.path)
            done = True
        except PowerLost:
            pass
        place.crash()
        assert is_mirror(place.path) != done, f"step {step}"
        if not done:
            promote(place.path)
            place.crash()
        if not index_survives:
            shutil.rmtree(place.path / "index")
        assert place.stored() == site.mirrored, f"step {step}"
        if done:
            break
    assert step > 10


def test_power_lost_while_stepping_down(site: Site, places: Any) -> None:
    for step in count(1):
        place: Place = places(site.old, step)
        place.lose_power_after(step)
        done = False
        try:
            step_down(place.path)
            done = True
        except PowerLost:
            pass
        place.crash()
        assert is_mirror(place.path) == done, f"step {step}"
        if not done:
            assert place.stored() == site.all, f"step {step}"
            step_down(place.path)
            place.crash()
        _check_aside(place, len(site.all["INBOX"]))
        if done:
            break
    assert step > 10


def _check_aside(place: Place, count: int) -> None:
    """All that the store had can be read in the snapshot that was taken of it."""
    mirror = place.mirror(place.path)
    standing = FileBook(place.path).read()
    assert standing.resync
    (aside,) = (one for one in mirror.pages.snapshots() if one.identity == standing.current)
    assert mirror.log is not None
    names = list(body_names(mirror.pages, None, aside))
    assert len([mirror.log.stored_body(name) for name in names]) == count
    mirror.close()
