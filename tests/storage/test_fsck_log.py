"""Checking a log: every flipped byte is found and named, nothing is changed, a torn tail is no damage."""

from __future__ import annotations

import pytest

from spinrt.storage.fsck.finding import Finding, Severity
from spinrt.storage.fsck.log import LogCheck
from spinrt.testing.device import CrashDevice
from tests.storage.support import open_log


def filled(count: int = 14, *, segment_bytes_max: int = 1000) -> CrashDevice:
    """A closed log with several segments, each record synced by itself."""
    device = CrashDevice()
    log = open_log(device, segment_bytes_max=segment_bytes_max)
    for n in range(count):
        log.append(2, (b"%02d" % n * 70,), time_ns=n)
        log.sync()
    log.close()
    return device


def check(device: CrashDevice) -> list[Finding]:
    before = {name: bytes(inode.content) for name, inode in device.names.items()}
    steps = device.step_count
    counted: list[int] = []
    found = list(LogCheck(device, advance=counted.append).findings())
    assert {name: bytes(inode.content) for name, inode in device.names.items()} == before
    assert device.step_count == steps
    assert sum(counted) == sum(map(len, before.values())), found
    return found


def test_good_log_has_no_findings() -> None:
    """And what it saw is what is there."""
    device = filled()
    assert len(device.list()) > 2
    check_ = LogCheck(device)
    assert list(check_.findings()) == []
    log = open_log(device)
    assert (check_.start, check_.end, check_.records) == (log.start, log.durable, 14)


def test_every_flipped_byte_is_found_and_named() -> None:
    """One after the other: the file is named, and an offset at or before the byte, in the same record."""
    device = filled()
    names = device.list()
    for name in names:
        for offset in range(len(device.names[name].content)):
            device.flip(name, offset)
            found = check(device)
            assert found, f"{name} {offset}"
            last = offset >= len(device.names[name].content) - 204 and name == names[-1]
            assert any(_names(finding, name, offset) for finding in found), (name, offset, found)
            if not last:
                assert any(finding.severity is Severity.DAMAGE for finding in found), (name, offset, found)
            device.flip(name, offset)
    assert check(device) == []


def _names(finding: Finding, name: str, offset: int) -> bool:
    return finding.place == f"log/{name}" and finding.offset is not None and offset - 204 < finding.offset <= offset


def test_damage_in_several_places_is_told_one_by_one() -> None:
    """A damaged header, body and chain do not hide what is behind them."""
    device = filled(12, segment_bytes_max=100_000)
    (name,) = device.list()
    record = 64 + 140
    for offset in (64 + record + 10, 64 + 3 * record + 100, 64 + 6 * record + 50):
        device.flip(name, offset)
    found = check(device)
    assert [finding.offset for finding in found] == [64 + record, 64 + 3 * record + 64, 64 + 6 * record]
    assert all(finding.severity is Severity.DAMAGE for finding in found)


def test_several_damaged_records_in_a_row_are_one_finding_up_to_the_next_good_one() -> None:
    """Zeros over two records and a half."""
    device = filled(12, segment_bytes_max=100_000)
    (name,) = device.list()
    record = 64 + 140
    inode = device.names[name]
    inode.content[64 + 2 * record : 64 + 4 * record + 70] = bytes(2 * record + 70)
    found = check(device)
    assert [finding.offset for finding in found] == [64 + 2 * record]


@pytest.mark.parametrize("cut", [1, 70, 150, 203])
def test_torn_tail_is_a_note(cut: int) -> None:
    """The next start cuts it; nothing that was acknowledged is in it, as far as the log can tell."""
    device = filled(3, segment_bytes_max=100_000)
    name = device.list()[-1]
    file = device.open(name, write=True)
    file.truncate(file.size() - cut)
    (found,) = check(device)
    assert found.severity is Severity.NOTE
    assert found.offset == 64 + 2 * 204
    assert "cuts" in found.line()


def test_missing_segment_is_named_by_its_follower() -> None:
    """Whatever the others say of themselves."""
    device = filled()
    names = device.list()
    device.remove(names[1])
    (found,) = [one for one in check(device) if one.severity is Severity.DAMAGE]
    assert found.place == f"log/{names[2]}"


def test_segment_of_another_log_breaks_the_chain() -> None:
    """Every checksum of it is right."""
    mine, other = filled(), CrashDevice()
    log = open_log(other, segment_bytes_max=1000)
    for n in range(14):
        log.append(2, (b"%02d" % (n + 1) * 70,), time_ns=n)
        log.sync()
    log.close()
    name = mine.list()[1]
    mine.names[name] = other.names[name]
    assert any("chain" in finding.problem for finding in check(mine))


def test_torn_creation_of_a_segment_is_a_note() -> None:
    """No record was in it."""
    device = filled(3)
    device.open("00000000000000999999.log", create=True, write=True).append([b"half"])
    (found,) = check(device)
    assert found.severity is Severity.NOTE
