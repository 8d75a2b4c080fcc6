"""Carried bodies: one name for ever, whatever moved, was given up, crashed or expired meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, DeviceFull, UsageError
from spinrt.storage.carry import CARRIED_BYTES, STORED_BYTES_MAX, decode_carried, encode_carried
from spinrt.storage.fsck.places import check_places
from spinrt.storage.log import BODY_BYTES_MAX, Log
from spinrt.storage.places import PLACES_NAME, Places
from spinrt.storage.record import COMPRESSED, KIND_CARRIED
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.storage.support import open_log

ENOSPC = 28


def body_of(number: int) -> bytes:
    return b"body %d " % number * (70 + number % 50)


def fill(log: Log, count: int) -> dict[int, bytes]:
    """Append so many bodies, some of which are stored compressed; return them by name."""
    made = {}
    for number in range(count):
        made[log.append(7, (body_of(number),), time_ns=number, may_compress=number % 2 == 0)] = body_of(number)
    log.sync()
    return made


def carry(log: Log, name: int) -> int:
    kind, time_ns, stored, _ = log.stored_body(name)
    return log.append_carried(name, kind, time_ns, stored)


def check(log: Log, bodies: dict[int, bytes]) -> None:
    for name, body in bodies.items():
        assert log.holds(name)
        assert log.read_body(name, 0, len(body)) == body
        assert log.read_body(name, 3, 10) == body[3:13]
        record = log.read(name)
        assert (record.position, record.kind, record.body) == (name, 7, body)


def test_carried_bytes_are_as_documented() -> None:
    """The layout in the module's docstring, written out by hand."""
    assert encode_carried(0x0102, 0x8007, 9, b"xyz") == b"\0" * 6 + b"\x01\x02\x80\x07" + b"\0" * 7 + b"\x09xyz"
    assert decode_carried(encode_carried(0x0102, 0x8007, 9, b"xyz")) == (0x0102, 0x8007, 9, b"xyz")


@pytest.mark.parametrize("values", [(2**62, 7, 9, b""), (-1, 7, 9, b""), (1, 0x10000, 9, b""), (1, 7, 2**64, b"")])
def test_what_cannot_be_carried_is_refused(values: tuple[int, int, int, bytes]) -> None:
    """Values without room, and a body that is too long."""
    with pytest.raises(UsageError, match="carried body"):
        encode_carried(*values)
    with pytest.raises(UsageError, match="limit"):
        encode_carried(1, 7, 9, bytes(STORED_BYTES_MAX + 1))


@pytest.mark.parametrize("body", [b"", bytes(CARRIED_BYTES - 1), b"\xff" * 40])
def test_hostile_carried_body_is_refused(body: bytes) -> None:
    """Cut short, or with a name that no log gives."""
    with pytest.raises(CorruptRecord, match="carried body"):
        decode_carried(body)


def test_carried_bodies_keep_their_names(tmp_path: Path) -> None:
    """Before and after sync, after their segments are gone, after reopening, and with the table removed."""
    log = Log.open(tmp_path, segment_bytes_max=4096)
    bodies = fill(log, 40)
    places = {name: carry(log, name) for name in bodies}
    check(log, bodies)
    log.sync()
    check(log, bodies)
    assert min(places.values()) > max(bodies)
    gone = log.expire(min(places.values()))
    assert len(gone) > 3 and log.start > min(bodies) and not log.whole
    check(log, bodies)
    identity = log.identity
    log.close()
    for _ in range(2):
        log = Log.open(tmp_path, segment_bytes_max=4096)
        assert log.identity == identity
        check(log, bodies)
        log.close()
        (tmp_path / PLACES_NAME).unlink()
    assert not {path.name for path in tmp_path.iterdir()} & set(gone)


def test_a_body_that_was_not_carried_is_gone() -> None:
    """Its name means nothing any more, and never anything else."""
    log = open_log(CrashDevice())
    bodies = fill(log, 40)
    kept = dict(list(bodies.items())[::3])
    border = log.end
    for name in kept:
        carry(log, name)
    log.sync()
    log.expire(border)
    check(log, kept)
    for name in bodies.keys() - kept.keys():
        if name < log.start:
            assert not log.holds(name)
            with pytest.raises(CorruptRecord, match="no record"):
                log.read(name)


def test_bodies_are_carried_again_and_again() -> None:
    """Each pass moves them further; the last place counts, and the table keeps one row for each."""
    device = CrashDevice()
    log = open_log(device)
    bodies = fill(log, 20)
    for _ in range(5):
        border = log.end
        for name in bodies:
            carry(log, name)
        log.sync()
        log.expire(border)
        check(log, bodies)
    log.close()
    check(open_log(device), bodies)


def test_body_of_another_log_is_carried_under_its_name() -> None:
    """As a mirror does: names of one generation mean nothing in the other's own positions."""
    source = open_log(CrashDevice())
    bodies = fill(source, 20)
    device = CrashDevice()
    mirror = open_log(device, generation=1)
    for name in bodies:
        kind, time_ns, stored, digest = source.stored_body(name)
        place = mirror.append_carried(name, kind, time_ns, stored)
        assert mirror.stored_body(name) == (kind, time_ns, stored, digest)
        assert place >> 48 == 1
    mirror.sync()
    assert any(source.stored_body(name)[0] & COMPRESSED for name in bodies)
    check(mirror, bodies)
    after = open_log(device.crash())
    check(after, bodies)
    own = after.append(7, (b"own",), time_ns=5)
    assert after.read(own).body == b"own"


def test_a_carried_copy_stands_in_for_a_damaged_body(tmp_path: Path) -> None:
    """The body that is carried under the name of one that is still there takes its place: this is how repair works."""
    log = Log.open(tmp_path, segment_bytes_max=2000)
    bodies = fill(log, 10)
    name = sorted(bodies)[4]
    kept = log.stored_body(name)
    segment = next(one for one in reversed(log.segment_list()) if one.start < name)
    path = tmp_path / segment.name
    content = bytearray(path.read_bytes())
    content[name - segment.start + 70] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptRecord):
        log.read(name)
    log.append_carried(name, *kept[:3])
    check(log, bodies)
    log.close()
    log = Log.open(tmp_path, segment_bytes_max=2000)
    check(log, bodies)
    log.close()


def test_carried_record_of_another_name_is_found() -> None:
    """A table that points elsewhere brings an error, never another body."""
    log = open_log(CrashDevice(), generation=1)
    place = log.append_carried(64, 7, 5, b"of 64")
    assert log._places is not None
    log._places.put(128, place)
    log._places.put(192, log.append(7, (b"plain",), time_ns=5))
    with pytest.raises(CorruptRecord, match="expected the carried body of 128"):
        log.read(128)
    with pytest.raises(CorruptRecord, match="record of kind 7"):
        log.read_body(192, 0, 1)
    with pytest.raises(UsageError, match="kind"):
        log.append(KIND_CARRIED, (b"",), time_ns=5)


def test_a_body_that_was_given_up_is_not_there_until_it_comes_again(tmp_path: Path) -> None:
    log = Log.open(tmp_path, generation=1, segment_bytes_max=2000)
    for name in (64, 128):
        log.append_carried(name, 7, 5, b"false" * 30)
    log.sync()
    log.forget([64])
    for _ in range(2):
        assert (log.holds(64), log.place(64), log.holds(128)) == (False, None, True)
        with pytest.raises(CorruptRecord, match="no record at 64"):
            log.read(64)
        log.close()
        log = Log.open(tmp_path, generation=1, segment_bytes_max=2000)
        assert list(check_places(tmp_path, log)) == []
    log.append_carried(64, 7, 5, b"true")
    assert log.read(64).body == b"true"
    for round_ in range(30):
        log.append(7, (b"%d" % round_ * 200,), time_ns=5)
    log.sync()
    log.forget([128])
    log.expire(log.end)
    log.close()
    log = Log.open(tmp_path, generation=1, segment_bytes_max=2000)
    assert not log.holds(128)
    assert list(check_places(tmp_path, log)) == []
    log.close()


def test_longest_body_can_be_carried() -> None:
    """What the log takes, it can move."""
    log = open_log(CrashDevice(), buffer_bytes_max=1 << 26)
    body = bytes(BODY_BYTES_MAX)
    name = log.append(7, (body,), time_ns=5)
    carry(log, name)
    assert log.read_body(name, 0, len(body)) == body
    with pytest.raises(UsageError, match="limits"):
        log.append(7, (bytes(BODY_BYTES_MAX + 1),), time_ns=5)


def test_full_device_takes_carried_bodies_back_to_where_they_were() -> None:
    """Places that are given up with their records count no more; what was carried before still does."""
    device = FaultDevice(CrashDevice(), error=ENOSPC)
    log = open_log(device)
    bodies = fill(log, 10)
    first, *others = sorted(bodies)
    earlier = carry(log, first)
    log.sync()
    for name in bodies:
        carry(log, name)
    device.fail_at = device.step_count + 1
    with pytest.raises(DeviceFull):
        log.sync()
    device.heal()
    check(log, bodies)
    assert log._carried == {first: earlier}
    carry(log, others[0])
    log.sync()
    check(log, bodies)


def test_nothing_expires_while_somebody_holds() -> None:
    """A copy, or a walk that is under way, finds its segments; the newest segment never goes."""
    log = open_log(CrashDevice())
    bodies = fill(log, 30)
    with log.hold():
        assert log.expire(log.end) == []
        check(log, bodies)
    walk = log.records()
    next(walk)
    assert log.expire(log.end) == []
    walk.close()
    assert log.expire(log.end)
    assert len(log.segment_list()) == 1
    assert log.expire(log.end) == []


PROGRAM = st.lists(
    st.tuples(st.sampled_from(["append", "carry", "sync", "expire", "reopen"]), st.integers(0, 30)), max_size=40
)


@given(PROGRAM, st.integers(0, 2**32), st.integers(1, 150))
@settings(deadline=None, max_examples=150)
def test_any_program_with_a_crash_anywhere_keeps_what_was_carried(
    program: list[tuple[str, int]], seed: int, crash_at: int
) -> None:
    """A body is dropped only when its segment expires without it; every other one that was durable reads back."""
    device = CrashDevice(seed, crash_at=crash_at)
    durable: dict[int, bytes] = {}
    try:
        _run(device, program, durable)
    except Exception as error:
        if not device.lost:
            raise
        assert type(error).__name__ == "PowerLost"
    log = open_log(device.crash())
    check(log, durable)
    log.close()


def _run(device: CrashDevice, program: list[tuple[str, int]], durable: dict[int, bytes]) -> None:
    """Bodies of kind 7 are live for ever; ``expire`` carries them, as retention does, and lets the others go."""
    log = open_log(device, segment_bytes_max=1500)
    fresh: dict[int, bytes] = {}
    for number, (step, value) in enumerate(program):
        match step:
            case "append":
                fresh[log.append(7, (body_of(number * 2),), time_ns=number, may_compress=value % 2 == 0)] = body_of(
                    number * 2
                )
                log.append(8, (b"dead" * value,), time_ns=number)
            case "carry" if durable:
                carry(log, sorted(durable)[value % len(durable)])
            case "sync":
                log.sync()
                durable |= fresh
                fresh.clear()
            case "expire":
                border = log.durable
                for name in sorted(durable):
                    carry(log, name)
                log.sync()
                durable |= fresh
                fresh.clear()
                log.expire(border)
            case "reopen":
                log.close()
                durable |= fresh
                fresh.clear()
                log = open_log(device, segment_bytes_max=1500)
        check(log, durable)


def test_damage_in_old_headers_costs_their_segment_only(tmp_path: Path) -> None:
    """The table is built anew from what can be read; the rest is named, and the log opens."""
    log = Log.open(tmp_path, segment_bytes_max=2000, generation=1)
    names = [64 + 64 * number for number in range(30)]
    places = {name: log.append_carried(name, 7, 5, body_of(name)) for name in names}
    log.close()
    (tmp_path / PLACES_NAME).unlink()
    victim = sorted(path for path in tmp_path.iterdir() if path.suffix == ".log")[3]
    content = bytearray(victim.read_bytes())
    content[70] ^= 1
    victim.write_bytes(content)
    log = Log.open(tmp_path, segment_bytes_max=2000)
    start = int(victim.stem)
    inside = [name for name, place in places.items() if start <= place < start + len(content)]
    assert inside and len(inside) < 10
    assert [name for name in names if not log.holds(name)] == inside
    log.close()


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to look at" * 100, None])
def test_a_bad_table_of_places_is_made_anew(tmp_path: Path, content: bytes | None) -> None:
    """Damaged, empty, or of another log: the log decides."""
    log = Log.open(tmp_path / "log", segment_bytes_max=2000)
    bodies = fill(log, 30)
    for name in bodies:
        carry(log, name)
    log.sync()
    log.expire(max(bodies))
    log.close()
    path = tmp_path / "log" / PLACES_NAME
    if content is None:
        path.unlink()
        Places.open(path, b"another log here", 2**40, 2**30).close()
    else:
        path.write_bytes(content)
    log = Log.open(tmp_path / "log", segment_bytes_max=2000)
    check(log, bodies)
    log.close()
