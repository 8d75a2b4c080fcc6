"""Segments of the log that are gone: the bodies that they had come back from a mirror, or to a mirror."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spinrt.cli.main import DAMAGED, OK, main
from spinrt.errors import CorruptRecord
from spinrt.mail.store.gap import close_gap
from spinrt.mail.store.missing import missing_names
from spinrt.mail.store.model import Expunge
from spinrt.mail.store.store import Store
from spinrt.storage.mirror.directory import MirrorDirectory
from tests.mail.mirror_support import messages, mirror_to, stored
from tests.mail.store_support import USER, deliver, inbox, run
from tests.mail.test_mirror_takeover_kill import killed_at


class Site:
    """A store of several segments and its mirror."""

    def __init__(self, path: Path) -> None:
        self.data, self.mirror = path / "data", path / "mirror"
        self.mail: dict[str, Any] = {}
        MirrorDirectory.open(self.mirror, segment_bytes_max=8192).close()
        run(self._fill)

    async def _fill(self) -> None:
        store = Store.open(self.data, segment_bytes_max=8192)
        await store.ensure_account(USER)
        for number in range(16):
            await deliver(store, os.urandom(2000), id_=f"{number}")
        await store.snapshot("before")
        await store.submit(Expunge(inbox(store), (1, 2), deleted_only=False))
        await mirror_to(store, self.mirror)
        self.mail = messages(store, USER)
        await store.close()

    def lose(self, data: Path, count: int) -> None:
        for segment in sorted((data / "log").glob("*.log"))[:count]:
            segment.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def fsck(capsys: pytest.CaptureFixture[str], expected: int, *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["fsck", *map(str, arguments), "--json"]) == expected, capsys.readouterr().out
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_bodies_of_lost_segments_come_back_from_the_mirror(
    site: Site, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that both need. Of what only the source's older snapshot needs, what the mirror never had is said."""
    site.lose(site.data, count)
    found = fsck(capsys, DAMAGED, "--data", site.data)
    assert sum("is not in the log" in one["problem"] for one in found["findings"]) >= 4

    found = fsck(capsys, DAMAGED, "--data", site.data, "--repair", "--from", site.mirror)

    left = [one for one in found["findings"] if one["severity"] == "damage"]
    assert len(left) == 2, "the two messages that were expunged before the first update"
    assert all("needed by snapshot" in one["subject"] for one in left)
    assert stored(site.data) == site.mail
    assert main(["snapshot", "list", "--config", str(config(site))]) == OK
    assert main(["snapshot", "delete", "before", "--config", str(config(site))]) == OK
    assert not fsck(capsys, OK, "--data", site.data)["damaged"]


@pytest.mark.parametrize("lost", [(1,), (2, 3), (1, 3)])
def test_a_log_goes_on_behind_a_gap(site: Site, lost: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """What was before the gap is not asked of the mirror, and is not lost with it."""
    segments = sorted((site.data / "log").glob("*.log"))
    assert len(segments) > 4
    for number in lost:
        segments[number].unlink()
    fsck(capsys, DAMAGED, "--data", site.data)
    fsck(capsys, DAMAGED, "--data", site.data, "--repair")
    assert segments[0].exists(), "without a mirror nothing is given up"

    found = fsck(capsys, OK, "--data", site.data, "--repair", "--from", site.mirror)

    assert {one["severity"] for one in found["findings"]} == {"repaired"}
    assert not segments[0].exists()
    assert stored(site.data) == site.mail


def test_closing_a_gap_that_was_killed_is_done_again(site: Site, tmp_path: Path) -> None:
    """Before each step: nothing that was there is lost."""
    segments = sorted((site.data / "log").glob("*.log"))
    segments[1].unlink()
    expected = None
    for step in range(1000):
        data = tmp_path / f"copy-{step}"
        shutil.copytree(site.data, data)
        killed = killed_at(step, lambda data=data: close_gap(data))  # type: ignore[misc]
        close_gap(data)
        missing = missing_names(data)
        assert not (data / "log" / segments[0].name).exists()
        expected = missing if expected is None else expected
        assert 0 < len(missing) < 5
        assert missing == expected, f"step {step}"
        shutil.rmtree(data)
        if not killed:
            break
    assert step > 5


def _no_bodies(data: Path) -> None:
    with closing(sqlite3.connect(data / "index" / "mail.sqlite")) as index:
        index.execute("DROP TABLE bodies")


def _no_snapshot(data: Path) -> None:
    for file in (data / "pages").glob("*.pack"):
        file.write_bytes(b"")


@pytest.mark.parametrize("harm", [_no_bodies, _no_snapshot])
def test_nothing_is_given_up_while_nobody_knows_what_is_needed(site: Site, harm: Callable[[Path], None]) -> None:
    segments = sorted((site.data / "log").glob("*.log"))
    segments[1].unlink()
    harm(site.data)
    with pytest.raises(CorruptRecord, match="cannot be read"):
        close_gap(site.data)
    assert segments[0].exists()


def test_a_gap_that_no_index_covers_stays(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    segments = sorted((site.data / "log").glob("*.log"))
    segments[2].unlink()
    (site.data / "index" / "mail.sqlite").unlink()

    fsck(capsys, DAMAGED, "--data", site.data, "--repair", "--from", site.mirror)

    assert segments[0].exists()


def config(site: Site) -> Path:
    path = site.data.parent / "spinrt.yaml"
    path.write_text(f"hostname: mx.example.org\ndomains: [example.org]\ndata_directory: {site.data}\n")
    return path


def test_what_a_mirror_lost_comes_with_the_next_update(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = (site.mirror / "log").glob("*.log")
    mirror = MirrorDirectory.open(site.mirror, segment_bytes_max=8192)
    assert mirror.log is not None
    mirror.log.append(0x7FFF, [bytes(1000)], time_ns=1)
    mirror.close()
    segment.unlink()
    fsck(capsys, DAMAGED, "--data", site.mirror)

    fsck(capsys, DAMAGED, "--data", site.mirror, "--repair")

    async def update() -> None:
        store = Store.open(site.data)
        await deliver(store, b"one more", id_="one more")
        sender = await mirror_to(store, site.mirror)
        assert sender.traffic.bodies_moved == 14 + 1
        await store.close()

    run(update)
    assert not fsck(capsys, OK, "--data", site.mirror)["damaged"]


def test_whether_everything_was_looked_at_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert fsck(capsys, OK, "--data", site.data)["complete"]
    assert not fsck(capsys, OK, "--data", site.data, "--quick")["complete"]
    assert fsck(capsys, OK, "--data", site.mirror)["complete"]
    main(["fsck", "--data", str(site.data), "--quick"])
    assert "not everything was checked" in capsys.readouterr().out
    with closing(sqlite3.connect(site.data / "index" / "mail.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 1")
    assert not fsck(capsys, OK, "--data", site.data)["complete"]
