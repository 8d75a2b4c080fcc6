"""A damaged data directory put right from its mirror: here, and over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, NotFound
from spinrt.mail.config import Config
from spinrt.mail.control import request
from spinrt.mail.repair import find_mirror, repair_from, repair_identity
from spinrt.mail.store.mirrored import body_names
from spinrt.storage.log import Log
from spinrt.storage.mirror.fetch import Repaired
from spinrt.storage.mirror.frames import StoredBody
from spinrt.storage.mirror.mend import LogMender
from spinrt.storage.pages import LocalPages
from spinrt.storage.tree import walk
from tests.mail.service_support import fetch, message, send, serving
from tests.mail.test_mirror_service import both


def filled(directory: Path) -> tuple[Config, Config]:
    """A source and a standby; the mirrors on its own disk and over there are up to date."""
    source, other = both(directory)
    with serving(other), serving(source) as mail:
        for number in range(8):
            send(mail, message(f"number {number}", body="line\r\n" * 100 * number), "alice@example.org")
        fetch(mail, "alice")
        request(source.data_directory, "mirror.push", {})
    return source, other


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def damage(data: Path) -> tuple[list[bytes], list[int]]:
    """Flip a byte in every page and every body; return what is damaged."""
    pages, log = LocalPages.open(data / "pages"), Log.open(data / "log")
    (*_, newest) = pages.snapshots()
    digests = sorted({entry.digest for item in newest.objects for entry in walk(pages, item)})
    names = list(body_names(pages, None, newest))
    places = [pages._find(digest) for digest in digests]
    segment = log.segments()[0][0]
    start = log.start
    pages.close()
    log.close()
    for place in places:
        flip(data / "pages" / f"{place.pack:020d}.pack", place.offset + 60)
    for name in names:
        flip(data / "log" / segment, name - start + 64 + 3)
    return digests, names


def check_whole(data: Path, digests: list[bytes], names: list[int]) -> None:
    pages, log = LocalPages.open(data / "pages"), Log.open(data / "log")
    for digest in digests:
        pages.get(digest)
    for name in names:
        log.stored_body(name)
    pages.close()
    log.close()


def repaired(source: Config, named: str, digests: list[bytes], positions: list[int]) -> Repaired:
    target = find_mirror(source, named)
    return repair_from(target, repair_identity(source), source.data_directory, digests=digests, positions=positions)


@pytest.mark.parametrize("named", ["disk", "cellar", "path"])
def test_every_page_and_body_comes_back(tmp_path: Path, named: str) -> None:
    source, other = filled(tmp_path)
    digests, names = damage(source.data_directory)
    assert len(digests) > 5
    assert len(names) == 8
    with pytest.raises(CorruptRecord):
        check_whole(source.data_directory, digests, names)
    if named == "cellar":
        with serving(other):
            found = repaired(source, named, digests, names)
    else:
        disk = source.mirror.targets["disk"].directory
        found = repaired(source, str(disk) if named == "path" else named, digests, names)

    assert (found.pages, found.bodies, found.absent) == (digests, names, [])
    check_whole(source.data_directory, digests, names)


def test_what_is_no_mirror_cannot_be_repaired_from(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="attic"):
        find_mirror(None, str(tmp_path / "attic"))


def test_carried_bodies_come_back_and_what_the_mirror_has_not_is_said(tmp_path: Path) -> None:
    """A mirror repaired from its source: its bodies are carried ones. Headers, and records of changes, nobody has."""
    source, _ = filled(tmp_path)
    disk = source.mirror.targets["disk"].directory
    assert disk is not None
    pages, log = LocalPages.open(source.data_directory / "pages"), Log.open(source.data_directory / "log")
    names = list(body_names(pages, None, pages.snapshots()[-1]))
    kept = Log.open(disk / "log")
    places = [kept._find(name)[1] for name in names]
    start, segment = kept.start, kept.segments()[0][0]
    for one in (kept, log, pages):
        one.close()
    for place in places[1:]:
        flip(disk / "log" / segment, place - start + 64 + 5)
    flip(disk / "log" / segment, places[0] - start + 5)

    mender = LogMender(disk / "log", places)
    assert mender.names == names[1:]
    assert mender.hopeless == places[:1]
    bodies = Log.open(source.data_directory / "log")
    mender.mend(names[1], StoredBody(*bodies.stored_body(names[1])))
    with pytest.raises(CorruptRecord, match="not what the record"):
        mender.mend(names[2], StoredBody(*bodies.stored_body(names[1])))
    for name in names[2:]:
        mender.mend(name, StoredBody(*bodies.stored_body(name)))
    bodies.close()

    flip(disk / "log" / segment, places[0] - start + 5)
    again = Log.open(disk / "log")
    for name in names:
        assert again.stored_body(name)
    again.close()


def test_bodies_that_are_in_no_record_any_more_come_back(tmp_path: Path) -> None:
    """A log that lost all its records gets the bodies that a mirror has, under their names."""
    source, _ = filled(tmp_path)
    pages, log = LocalPages.open(source.data_directory / "pages"), Log.open(source.data_directory / "log")
    names = list(body_names(pages, None, pages.snapshots()[-1]))
    log.close()
    pages.close()
    stranger = tmp_path / "stranger"
    LocalPages.open(stranger / "pages").close()
    Log.open(stranger / "log", generation=300).close()

    found = repair_from(
        find_mirror(source, "disk"), repair_identity(source), stranger, positions=[7], missing=[*names, 3]
    )

    assert found.bodies == names
    assert found.absent == [7, 3]
    check_whole(stranger, [], names)
