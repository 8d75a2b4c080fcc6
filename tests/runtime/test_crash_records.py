"""Crash records: a fault is written down, and replays to the same fault; whatever is damaged is refused by name."""

from __future__ import annotations

import logging
import stat
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound, QuotaExceeded, SpinError
from spinrt.runtime.capability import Functions
from spinrt.runtime.crash import SECTIONS, CrashRecord, HostCall, Outcome, decode_record, encode_record
from spinrt.runtime.crash_keeper import Bounds, CrashKeeper, list_records
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.replay import replay
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.supervisor import Supervision
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import LIFECYCLE, WORDS, exporter, guest, importer, interfaces, words

ADD, ECHO, LOOK = f"{EVENTS}#add", f"{EVENTS}#echo", f"{EVENTS}#look"
RECORDING = Supervision(faults=0, crash_records=True)
KEEP_ALL = Bounds(pause_s=0.0)


@dataclass
class HandClock:
    """Moves only when it is moved."""

    now_s: float = 1000.0

    def wall_ns(self) -> int:
        return 1_790_000_000 * 10**9 + int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s


@dataclass
class World:
    """A runtime that keeps crash records."""

    directory: Path
    bounds: Bounds = KEEP_ALL
    functions: dict[str, Any] = field(default_factory=dict)
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.runtime = Runtime(interfaces=interfaces(), clock=self.clock)
        self.runtime.export(Functions(HOST, self.functions))
        self.keeper = self.runtime.keep_crashes(self.directory, bounds=self.bounds)

    def define(self, name: str, **options: Any) -> Event:
        return self.runtime.define(name, **options)

    def load(self, body: str, *handlers: str, **options: Any) -> Any:
        made = guest("bad", body, imports=(HOST,), handlers=handlers, **options)
        return self.runtime.load(made, Policy.granting(HOST, supervision=RECORDING))

    def records(self) -> list[Path]:
        self.keeper.close()
        return list_records(self.directory)

    def record(self) -> CrashRecord:
        (path,) = self.records()
        return decode_record(path.read_bytes(), path.name)


def replayed(record: CrashRecord) -> Any:
    """Written, read again, and replayed."""
    again = decode_record(encode_record(record), "test")
    assert again == record
    return replay(again, "test")


COUNTING = f"""
{BUMP}
(func (export "{ADD}") (param i32 i32) (result i32)
  (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
  (if (i32.eq (i32.load (i32.const 64)) (local.get 1)) (then unreachable))
  (i32.load (i32.const 64)))
"""


@pytest.mark.parametrize("tier", [0, 1, 2])
def test_a_fault_is_recorded_and_replays_to_the_same(tmp_path: Path, tier: int) -> None:
    """Arguments, versions and limits are in it; so is the place where it failed."""
    world = World(tmp_path / "crashes")
    event = world.define(ADD, default=0, tier=tier)
    world.load(COUNTING, "add")
    assert event.raise_(7, 1) == 0
    record = world.record()
    about = record.about
    assert (about.extension, about.version, about.event, about.export) == ("bad", "1.0.0", ADD, ADD)
    assert (about.fault.code, about.again.code, about.calls_complete) == ("extension.trap", "extension.trap", True)
    assert about.time == "2026-09-21T14:30:00.000Z"
    assert record.arguments == struct.pack("<II", 7, 1)
    found = replayed(record)
    assert found.same
    assert found.backtrace == found.recorded_backtrace
    assert len(found.backtrace) == 1
    assert found.backtrace[0].function == 1


def test_replay_with_other_arguments_tells_another_outcome(tmp_path: Path) -> None:
    """It is run, not looked up."""
    world = World(tmp_path)
    event = world.define(ADD, default=0)
    world.load(COUNTING, "add")
    event.raise_(7, 1)
    record = replace(world.record(), arguments=struct.pack("<II", 7, 9))
    found = replayed(record)
    assert (found.same, found.outcome) == (False, Outcome())


CALLING = f"""
(import "{HOST}" "shout" (func $shout (param i32 i32 i32)))
(import "{HOST}" "note" (func $note (param i32 i32)))
{BUMP} (data (i32.const 64) "abc")
(func (export "{ECHO}") (param i32 i32) (result i32)
  (call $note (i32.const 64) (i32.const 3))
  (call $shout (local.get 0) (local.get 1) (i32.const 32))
  (if (i32.eq (i32.load8_u (i32.load (i32.const 32))) (i32.const 66)) (then unreachable))
  (i32.const 32))
"""


def test_host_calls_are_recorded_and_answered_from_the_record(tmp_path: Path) -> None:
    """What they promised in the second run does not happen, and the replay needs none of them."""
    applied: list[str] = []

    @dataclass
    class Promise:
        text: str

        def apply(self) -> None:
            applied.append(self.text)

    functions = {
        "note": lambda call, text: call.journal.append(Promise(text)),
        "shout": lambda call, text: text.upper(),
    }
    world = World(tmp_path, functions=functions)
    event = world.define(ECHO, default="none")
    world.load(CALLING, "echo")
    assert event.raise_("a word") == "A WORD"
    assert applied == ["abc"]
    assert event.raise_("but") == "none"
    assert applied == ["abc"]
    found = replayed(world.record())
    assert found.same
    assert [(call.function.partition("#")[2], call.arguments) for call in found.calls] == [
        ("note", ("abc",)),
        ("shout", ("but",)),
    ]
    assert found.asked == 2


def test_a_host_function_that_refuses_is_the_same_fault_again(tmp_path: Path) -> None:
    """Its error comes from the record."""

    def shout(call: Any, text: str) -> str:
        raise QuotaExceeded("too loud", hint="whisper")

    world = World(tmp_path, functions={"note": lambda call, text: None, "shout": shout})
    event = world.define(ECHO, default="none")
    world.load(CALLING, "echo")
    assert event.raise_("but") == "none"
    found = replayed(world.record())
    assert (found.same, found.outcome) == (True, Outcome("extension.quota", "too loud"))
    assert [call.failure for call in found.calls] == ["", "extension.quota: too loud"]


def test_a_replay_that_asks_for_something_else_has_diverged(tmp_path: Path) -> None:
    """A call too few, or another one."""
    world = World(tmp_path, functions={"note": lambda call, text: None, "shout": lambda call, text: "B"})
    event = world.define(ECHO, default="none")
    world.load(CALLING, "echo")
    event.raise_("x")
    record = world.record()
    for calls in (record.calls[:1], (record.calls[1], record.calls[0])):
        found = replayed(replace(record, calls=calls))
        assert (found.same, found.diverged) == (False, True)


LOOKING = f"""
(import "{HOST}" "[method]thing.size" (func $size (param i32) (result i32)))
(import "{HOST}" "lend" (func $lend (result i32)))
{BUMP}
(func (export "{LOOK}") (param i32) (result i32)
  (i32.store (i32.const 64) (call $lend))
  (if (i32.gt_u (i32.add (call $size (local.get 0)) (call $size (i32.load (i32.const 64)))) (i32.const 5))
    (then unreachable))
  (i32.const 1))
"""


@dataclass
class Thing:
    """A resource that can be read."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def test_resources_are_kept_by_their_content(tmp_path: Path) -> None:
    """Those passed, those that host functions gave, and those that the guest held before."""
    functions = {
        "[method]thing.size": lambda call, thing: thing.size,
        "lend": lambda call: Thing(b"xy"),
    }
    world = World(tmp_path, functions=functions)
    event = world.define(LOOK, default=0)
    world.load(LOOKING, "look")
    assert event.raise_(Thing(b"abc")) == 1
    assert event.raise_(Thing(b"abcd")) == 0
    record = world.record()
    assert [(one.type, one.content) for one in record.resources] == [
        (f"{HOST}#thing", b"abcd"),
        *([(f"{HOST}#thing", b"xy")] if record.about.image == "before" else []),
        (f"{HOST}#thing", b"xy"),
    ]
    found = replayed(record)
    assert found.same
    assert found.asked == 3


def test_state_and_closure_are_part_of_it(tmp_path: Path) -> None:
    """The third call fails, by what the first two left; where nothing is rolled back, the record says so."""
    world = World(tmp_path)
    event = world.define(ADD, default=0)
    world.load(COUNTING, "add")
    for _ in range(3):
        event.raise_(0, 3)
    record = world.record()
    found = replay(record, "test")
    if record.about.image == "before":
        assert found.same
        assert record.image.memory[64] == 2
    else:
        assert (record.about.image, found.outcome) == ("initialised", Outcome())


def test_a_handler_that_imports_from_another_extension(tmp_path: Path) -> None:
    """What the other one answered is in the record; what it did in the second run is taken back."""
    double = "(i32.store (i32.const 80) (i32.add (i32.load (i32.const 80)) (i32.const 1))) (i32.load (i32.const 80))"
    failing = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32)))
    (func (export "{ADD}") (param i32 i32) (result i32)
      (if (i32.eq (call $double (local.get 0)) (local.get 1)) (then unreachable)) (i32.const 1))
    """
    world = World(tmp_path)
    event = world.define(ADD, default=0)
    world.runtime.load(exporter(body=words(double)))
    world.runtime.load(importer("bad", failing), Policy.granting(WORDS, supervision=RECORDING))
    assert event.raise_(5, 1) == 0
    record = world.record()
    assert [call.arguments for call in record.calls] == [struct.pack("<I", 5)]
    assert replay(record, "test").calls[0].function == f"{WORDS}#double"


def test_init_is_not_part_of_the_record(tmp_path: Path) -> None:
    """A fresh instance was initialised before its state was read."""
    asked: list[str] = []
    body = f"""
    (import "{HOST}" "note" (func $note (param i32 i32))) {BUMP}
    (func (export "{LIFECYCLE}#init") (result i32)
      (call $note (i32.const 64) (i32.const 0)) (i32.store8 (i32.const 100) (i32.const 9)) (i32.const 128))
    (func (export "{ADD}") (param i32 i32) (result i32)
      (if (i32.load8_u (i32.const 100)) (then unreachable)) (i32.const 1))
    """
    world = World(tmp_path, functions={"note": lambda call, text: asked.append(text)})
    event = world.define(ADD, default=0)
    world.load(body, "add", exports=(LIFECYCLE,))
    assert event.raise_(1, 1) == 0
    record = world.record()
    assert (record.calls, record.image.memory[100]) == ((), 9)
    assert replay(record, "test").same


# -------------------------------------------------------------------------------------------------------------- keeper


def test_nothing_is_recorded_unless_the_policy_says_so(tmp_path: Path) -> None:
    """By default faults leave no file."""
    world = World(tmp_path)
    event = world.define(ADD, default=0)
    world.runtime.load(guest("bad", COUNTING, handlers=("add",)))
    event.raise_(7, 1)
    assert world.records() == []


def test_files_are_the_owners_alone_and_whole(tmp_path: Path) -> None:
    """Directory 700, file 600, no temporary file left."""
    world = World(tmp_path / "deep" / "crashes")
    event = world.define(ADD, default=0)
    world.load(COUNTING, "add")
    event.raise_(7, 1)
    (path,) = world.records()
    assert path.name == "20260921T143000.000Z-bad-1.crash"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_records_come_at_a_bounded_rate(tmp_path: Path) -> None:
    """One for each pause, however many faults."""
    world = World(tmp_path, bounds=Bounds(pause_s=10.0))
    event = world.define(ADD, default=0)
    world.load(f'(func (export "{ADD}") (param i32 i32) (result i32) unreachable)', "add")
    for _ in range(5):
        event.raise_(7, 1)
    world.clock.now_s += 10.0
    event.raise_(7, 1)
    assert len(world.records()) == 2


def test_the_oldest_records_go(tmp_path: Path) -> None:
    """By number and by bytes; other files stay."""
    (tmp_path / "other.txt").write_text("mine")
    world = World(tmp_path, bounds=Bounds(pause_s=0.0, count_each=3))
    event = world.define(ADD, default=0)
    world.load(f'(func (export "{ADD}") (param i32 i32) (result i32) unreachable)', "add")
    for number in range(6):
        world.clock.now_s += 1.0
        event.raise_(number, 1)
        world.keeper.close()
    kept = [decode_record(path.read_bytes(), path.name).arguments for path in world.records()]
    assert kept == [struct.pack("<II", number, 1) for number in (3, 4, 5)]
    assert (tmp_path / "other.txt").exists()
    small = CrashKeeper(tmp_path, bounds=Bounds(bytes_all=1))
    small._prune("nobody")
    assert len(list_records(tmp_path)) == 1


def test_what_goes_wrong_costs_the_record_and_not_the_raise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A directory that is gone is one log line."""
    world = World(tmp_path / "gone")
    event = world.define(ADD, default=0)
    world.load(COUNTING, "add")
    (tmp_path / "gone").rmdir()
    with caplog.at_level(logging.ERROR, "spinrt.runtime"):
        assert event.raise_(7, 1) == 0
        world.keeper.close()
    assert world.keeper.dropped == 1
    assert "event=crash-record-failed" in caplog.text


def test_faults_of_the_second_run_are_not_recorded_in_their_turn(tmp_path: Path) -> None:
    """What fails because a fault is run again leads to no record of its own."""
    world = World(tmp_path, functions={"again": lambda call: ping.raise_()})
    event = world.define(ADD, default=0)
    ping = world.define(f"{EVENTS}#ping")
    body = f"""
    (import "{HOST}" "again" (func $again)) {BUMP}
    (func (export "{ADD}") (param i32 i32) (result i32) (call $again) unreachable)
    """
    failing = guest("other", f'(func (export "{EVENTS}#ping") unreachable)', handlers=("ping",))
    other = world.runtime.load(failing, Policy(supervision=RECORDING))
    world.load(body, "add")
    assert event.raise_(1, 1) == 0
    assert other.counters.faults == 2
    assert sorted(path.name.split("-")[1] for path in world.records()) == ["bad", "other"]


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A record with something in every section."""
    functions = {"note": lambda call, text: None, "shout": lambda call, text: "B"}
    world = World(tmp_path_factory.mktemp("crashes"), functions=functions)
    event = world.define(ECHO, default="none")
    world.load(CALLING, "echo")
    event.raise_("x")
    return encode_record(world.record())


@given(st.data())
def test_every_flipped_bit_is_noticed(written: bytes, data: st.DataObject) -> None:
    """By the checksum at the latest, in one clear error."""
    position = data.draw(st.integers(0, len(written) - 1))
    damaged = bytearray(written)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((CorruptRecord, FormatUnknown), match="crash record test"):
        decode_record(bytes(damaged), "test")


@given(st.data())
def test_every_shortened_record_is_noticed(written: bytes, data: st.DataObject) -> None:
    """Wherever it was cut, and with something behind it."""
    length = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(CorruptRecord, match="crash record test"):
        decode_record(written[:length], "test")
    with pytest.raises(CorruptRecord, match="the end"):
        decode_record(written + b"x", "test")


def test_newer_versions_are_refused(written: bytes) -> None:
    """By number."""
    with pytest.raises(FormatUnknown, match="found version 2, expected 1"):
        decode_record(written[:8] + struct.pack("<I", 2) + written[12:], "test")


DAMAGES: dict[str, Any] = {
    "head without a key": lambda record: replace(record, about=replace(record.about, limits=None)),
    "limit of no kind": lambda record: replace(record, about=replace(record.about, limits={"memory_bytes": "x"})),
    "unknown limit": lambda record: replace(record, about=replace(record.about, limits={"wings": 2})),
    "export that is not there": lambda record: replace(record, about=replace(record.about, export="nothing")),
    "image of no kind": lambda record: replace(record, about=replace(record.about, image="guess")),
    "frame of no kind": lambda record: replace(record, about=replace(record.about, backtrace=((1, 2),))),
    "no module": lambda record: replace(record, code=b"\0asm"),
    "another module": lambda record: replace(record, code=b"\0asm\1\0\0\0"),
    "manifest that is none": lambda record: replace(record, manifest="[]"),
    "interfaces that are none": lambda record: replace(record, wit=()),
    "memory that is no page": lambda record: replace(record, image=replace(record.image, memory=b"x")),
    "memory beyond the limit": lambda record: replace(record, image=replace(record.image, memory=bytes(64 << 20))),
    "globals of another": lambda record: replace(record, image=replace(record.image, globals_=(("g", 1),))),
    "flags of another": lambda record: replace(record, image=replace(record.image, flags=bytes(99))),
    "handles without objects": lambda record: replace(
        record, image=replace(record.image, slots=((0, f"{HOST}#thing", True),))
    ),
    "handle of no resource": lambda record: replace(
        record, image=replace(record.image, slots=((0, f"{HOST}#thing", True),), objects=(7,))
    ),
    "free slots of another": lambda record: replace(record, image=replace(record.image, free_slots=(3,))),
    "arguments cut short": lambda record: replace(record, arguments=record.arguments[:-1]),
    "arguments too long": lambda record: replace(record, arguments=record.arguments + b"x"),
    "call of no import": lambda record: replace(record, calls=(HostCall(99, b""),)),
    "call with no arguments": lambda record: replace(record, calls=(HostCall(0, b""),)),
    "answer of another type": lambda record: replace(
        record, calls=tuple(replace(call, result=b"\xff" * 4) for call in record.calls)
    ),
}


@pytest.mark.parametrize("what", list(DAMAGES))
def test_records_that_contradict_themselves_are_refused(written: bytes, what: str) -> None:
    """Whole, with a right checksum, and wrong in themselves: one clear line each."""
    wrong = encode_record(DAMAGES[what](decode_record(written, "test")))
    with pytest.raises(CorruptRecord) as caught:
        replay(decode_record(wrong, "test"), "test")
    assert "crash record" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sections_are_bounded(written: bytes) -> None:
    """A length beyond the bound is refused before anything is unpacked."""
    at = written.index(b"mem ") + 8
    wrong = written[:at] + struct.pack("<I", SECTIONS[b"mem "] + 1) + written[at + 4 :]
    with pytest.raises(CorruptRecord, match="section 'mem'"):
        decode_record(wrong, "test")


def test_command_replays_and_tells(tmp_path: Path, written: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 for the same fault, 1 for another, 3 for damage; JSON on demand."""
    from spinrt.cli.main import main

    good, other, bad = (tmp_path / f"{name}.crash" for name in ("good", "other", "bad"))
    good.write_bytes(written)
    record = decode_record(written, "test")
    other.write_bytes(encode_record(replace(record, about=replace(record.about, fault=Outcome("extension.abi", "x")))))
    bad.write_bytes(written[:-1])
    assert main(["replay-fault", str(good)]) == 0
    assert "verdict   the same fault" in capsys.readouterr().out
    assert main(["replay-fault", "--json", str(other)]) == 1
    assert '"same": false' in capsys.readouterr().out
    assert main(["replay-fault", str(bad)]) == 3
    assert capsys.readouterr().err.startswith("spinrt: storage.corrupt: crash record bad.crash")
    assert main(["replay-fault", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_reading_a_record_that_is_not_there(tmp_path: Path) -> None:
    """As for anything else that is not there."""
    from spinrt.cli.replay_fault import read

    with pytest.raises(NotFound):
        read(tmp_path / "none.crash")
    assert issubclass(CorruptRecord, SpinError)
