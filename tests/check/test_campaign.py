"""Campaigns: green where nothing is left behind, red where something is, and never green for having tried nothing."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Any

import pytest

from spinrt.check import campaign, rehearsal
from spinrt.check.campaign import FAULT_NAMES, Options, run_campaign
from spinrt.check.faults import ERRORS
from spinrt.check.inputs import Input
from spinrt.check.rigs import Rigs
from spinrt.check.samples import DELIVER, FILED
from spinrt.check.stage import MadeInterface, Stage
from spinrt.check.subject import Subject, read_subject
from spinrt.check.verdict import Tally, Verdict
from spinrt.errors import HandlerFailed
from spinrt.host import kv
from spinrt.mail.extensions import SHIPPED
from spinrt.runtime.event import OnFault
from spinrt.sandbox import fitted
from spinrt.sandbox.rewrite import Prepared
from spinrt.sandbox.types import Ok
from tests.check import full_campaign
from tests.check.guests import CLOCK_WATCHER, COUNTER, EVERYTHING, FAILS_ON_LARGE, GROWS
from tests.check.support import handling, subject
from tests.guests import BUMP, EVENTS, HOST

QUICK = Options(bound=200, inputs=4)


def tried(body: str, *handlers: str, options: Options = QUICK, **manifest: Any) -> Verdict:
    made = subject(body, handlers=handling(*handlers or ("ping",)), **manifest)
    assert made.error is None, made.error
    return run_campaign(made, options)


def tally(verdict: Verdict, fault: str) -> Tally:
    found = [one for one in verdict.tallies if one.fault == fault]
    assert len(found) == 1, [one.fault for one in verdict.tallies]
    return found[0]


def lines(verdict: Verdict) -> list[str]:
    return [f"{one.fault} {finding.point}: {finding.what}" for one in verdict.tallies for finding in one.findings]


def test_a_good_guest_is_safe_and_every_class_was_tried() -> None:
    """Exhaustively: five changes with each input, ten kinds of error at the host call, both ways."""
    verdict = tried(COUNTER, "add")
    assert verdict.is_safe, lines(verdict)
    assert not verdict.notes
    changes = tally(verdict, "instruction")
    assert (changes.points, changes.injected, changes.exhaustive) == (3 * 4, 3 * 4, True)
    assert tally(verdict, "savepoint").injected == 3 * 4
    assert tally(verdict, "undo-log").injected == 3 * 4
    assert tally(verdict, "host-call").injected == len(ERRORS) * 4
    assert tally(verdict, "host-answer").injected == len(ERRORS) * 4
    assert tally(verdict, "deadline").injected > 0


def test_a_guest_that_changes_all_there_is_is_safe() -> None:
    """Vectors, bulk memory, tables, segments that are dropped half-way, handles made, kept, given away and dropped."""
    verdict = tried(EVERYTHING, options=Options(bound=10_000, inputs=1))
    assert verdict.is_safe, lines(verdict)
    assert tally(verdict, "instruction").injected >= 14
    assert tally(verdict, "host-call").injected >= 5 * len(ERRORS)


def test_state_goes_on_between_inputs() -> None:
    """What is dropped in the third run is dropped in its faults, too: each input begins where the last one ended."""
    made = subject(EVERYTHING, handlers=handling("ping"))
    rig = Rigs(made, 0).make("counting", made.manifest.handlers[0])
    for _ in range(4):
        one = rehearsal.Rehearsal(rig, Input("again", ()))
        assert not one.flaw
        assert one.is_steady
        campaign_of_one = [fault for fault in campaign.FAULTS if fault.rig == "counting"]
        for fault in campaign_of_one:
            for place in range(fault.places(one)):
                assert fault.inject(one, place), fault.describe(place)
                assert not (one.left_behind() or fault.left_outside() or one.next_raise()), fault.describe(place)
        one.commit()


def test_memory_that_grew_in_a_failed_call_shrinks_again() -> None:
    """And the next raise grows it as if nothing had been."""
    verdict = tried(GROWS, "add", options=Options(bound=1000, inputs=5))
    assert verdict.is_safe, lines(verdict)
    assert tally(verdict, "memory").points > 0


def test_runs_that_fail_by_themselves_are_faults_too() -> None:
    """They are counted, and leave nothing behind."""
    verdict = tried(FAILS_ON_LARGE, "add", options=Options(bound=100, inputs=10))
    assert verdict.is_safe, lines(verdict)
    assert verdict.failed_plain[f"{EVENTS}#add"] > 0
    assert tally(verdict, "plain").injected > 0


def test_time_and_chance_are_the_same_in_each_run() -> None:
    """A guest that keeps what the clock says is steady here."""
    verdict = tried(CLOCK_WATCHER, imports=["spinrt:clock/clock@1.0.0", "spinrt:clock/random@1.0.0"])
    assert verdict.is_safe, lines(verdict)
    assert not verdict.notes


# ------------------------------------------------------------------------------------------------------------- red


def test_state_without_a_log_is_red() -> None:
    """Where the policy switches rolling back off, a fault costs the extension its state: the suite says so."""
    made = subject(COUNTER, handlers=handling("add"))
    policy = replace(made.policy, limits=replace(made.policy.limits, undo_bytes=0))
    verdict = run_campaign(replace(made, policy=policy), QUICK)
    assert not verdict.is_safe
    assert any("found a fresh one" in line for line in lines(verdict)), lines(verdict)


def test_bytes_that_were_not_recorded_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host writes into the guest has no record, because the log claims a dead stack that is not one."""
    body = f"""{BUMP} (func (export "{EVENTS}#echo") (param i32 i32) (result i32)
      (i32.store (i32.const 64) (local.get 0)) (i32.store (i32.const 68) (local.get 1)) (i32.const 64))"""
    assert tried(body, "echo").is_safe
    usual = fitted.prepare

    def lying(code: bytes, **options: Any) -> Prepared:
        made = usual(code, **options)
        assert made.log is not None
        head = struct.Struct("<IIQ24xI")
        claim = head.pack(made.log.base, made.log.moved_initial, 1 << 36, made.log.dead_below)
        assert made.code.count(claim) == 1
        return replace(made, code=made.code.replace(claim, claim[:-4] + struct.pack("<I", 65_536)))

    monkeypatch.setattr(fitted, "prepare", lying)
    verdict = tried(body, "echo")
    assert not verdict.is_safe
    assert any("memory: found" in line for line in lines(verdict)), lines(verdict)


def test_a_host_function_that_does_not_wait_for_the_commit_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes to the map at once: the call fails behind it, and the write is there."""

    def write_at_once(self: Any, call: Any, key: str, value: bytes) -> Ok[None]:
        self._space.put(key, value + bytes([len(self._space.values) % 256]))
        return Ok()

    body = f"""(import "spinrt:kv/store@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32))) {BUMP}
      (data (i32.const 64) "key") (func (export "{EVENTS}#ping")
      (call $set (i32.const 64) (i32.const 3) (i32.const 64) (i32.const 3) (i32.const 128))
      (i32.store (i32.const 200) (i32.const 1)))"""
    assert tried(body, imports=["spinrt:kv/store@1.0.0"]).is_safe
    monkeypatch.setattr(kv._View, "set", write_at_once)
    verdict = tried(body, imports=["spinrt:kv/store@1.0.0"])
    assert not verdict.is_safe
    assert any("map: found entries changed" in line for line in lines(verdict)), lines(verdict)


def test_a_next_raise_that_differs_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host remembers the failed call: the answer of the next one is another."""
    counts = iter(range(1_000_000))

    def bind(self: MadeInterface, function: str, grant: Any, domain: Any) -> Any:
        return lambda call, *arguments: "x" * (next(counts) // 40)

    body = f"""(import "test:guest/host@1.0.0" "shout" (func $shout (param i32 i32 i32))) {BUMP}
      (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      (call $shout (i32.const 0) (i32.const 0) (i32.const 64)) (i32.load (i32.const 68)))"""
    monkeypatch.setattr(MadeInterface, "bind", bind)
    verdict = tried(body, "add", options=Options(bound=60, inputs=1))
    assert not verdict.is_safe
    assert any("next raise" in line for line in lines(verdict)), lines(verdict)


def test_no_injected_fault_is_no_success() -> None:
    """A handler into which nothing was injected is named, and the verdict is not safe."""
    verdict = tried(COUNTER, "add", options=replace(QUICK, only=frozenset(["effects"])))
    assert verdict.injected == 0
    assert verdict.untried == (f"{EVENTS}#add",)
    assert not verdict.is_safe
    empty = Verdict("x", "1.0.0", 0, 1)
    assert not empty.is_safe


def test_a_handler_that_always_fails_is_no_success() -> None:
    """Nothing is left of it, and nothing is known of its good runs, since there are none."""
    verdict = tried(f'{BUMP} (func (export "{EVENTS}#ping") (i32.store (i32.const 64) (i32.const 1)) unreachable)')
    assert verdict.injected > 0
    assert not verdict.found, lines(verdict)
    assert verdict.untried == (f"{EVENTS}#ping",)
    assert not verdict.is_safe


# -------------------------------------------------------------------------------------------------------- sampling


def test_beyond_the_bound_places_are_drawn_by_the_seed() -> None:
    """As many as the bound says, and the tally says that there were more."""
    body = f"""{BUMP} (func (export "{EVENTS}#add") (param i32 i32) (result i32) (local i32)
      (loop (i32.store (i32.const 64) (local.get 2)) (local.set 2 (i32.add (local.get 2) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get 2) (i32.const 500)))) (local.get 2))"""
    verdict = tried(body, "add", options=Options(seed=5, bound=30, inputs=2, only=frozenset(["instruction"])))
    changes = tally(verdict, "instruction")
    assert (changes.points, changes.injected, changes.exhaustive) == (1000, 60, False)
    assert verdict.is_safe


def test_a_campaign_that_is_interrupted_says_what_it_did() -> None:
    """Ctrl-C ends it, and what was counted until then is in the verdict."""
    made = subject(COUNTER, handlers=handling("add"))
    told: list[int] = []

    def interrupt(what: str, injected: int) -> None:
        told.append(injected)
        if len(told) == 3:
            raise KeyboardInterrupt

    verdict = run_campaign(made, QUICK, interrupt)
    assert verdict.interrupted
    assert verdict.injected >= sum(told) > 0


# --------------------------------------------------------------------------------------------------------- shipped


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/manifest.yaml")))
def test_shipped_extensions_are_safe(name: str) -> None:
    """Every handler, with a fixed seed; `make campaign` tries more."""
    found = read_subject(SHIPPED / name)
    verdict = run_campaign(found, Options(seed=1, bound=60, inputs=4))
    assert verdict.is_safe, lines(verdict)
    assert not verdict.notes
    assert verdict.injected > 200
    for handler in found.manifest.handlers:
        if handler.event in (DELIVER, FILED):
            stored = [one for one in verdict.tallies if (one.fault, one.handler) == ("mail-store", handler.event)]
            assert stored[0].injected > 0


def test_a_delivery_that_stores_in_spite_of_a_failure_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event of deliveries skips failures, as it must not: mail is stored that nobody decided about."""
    found = read_subject(SHIPPED / "delivery")
    options = Options(bound=20, inputs=1, only=frozenset(["mail-store"]))
    assert run_campaign(found, options).is_safe
    usual = Rigs.make

    def careless(self: Rigs, *arguments: Any, **limits: int) -> rehearsal.Rig:
        made = usual(self, *arguments, **limits)
        made.event.on_fault = OnFault.SKIP
        return made

    monkeypatch.setattr(Rigs, "make", careless)
    verdict = run_campaign(found, options)
    assert any("mail store: found Deliver written" in line for line in lines(verdict)), lines(verdict)


@pytest.mark.parametrize("rules", ["always -> reject 550 'no'; stop", "always -> discard", "always -> file Archive"])
def test_a_delivery_that_needs_no_store_is_safe(rules: str) -> None:
    """What was decided without storing anything is kept, and is no change that a fault left behind."""
    found = read_subject(SHIPPED / "delivery")
    made = replace(found, policy=replace(found.policy, config={"rules": rules}))
    verdict = run_campaign(made, Options(bound=20, inputs=3, only=frozenset(["mail-store"])))
    assert verdict.is_safe, lines(verdict)


def test_long_runs_are_tried_at_fewer_places() -> None:
    """Since each of them takes as long as there are places."""
    body = f"""{BUMP} (func (export "{EVENTS}#ping") (local i32)
      (loop (i32.store (i32.const 64) (local.get 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get 0) (i32.const 100000)))))"""
    changes = tally(
        tried(body, options=Options(bound=20_000, inputs=1, only=frozenset(["instruction"]))), "instruction"
    )
    assert changes.points == 100_000
    assert changes.injected == campaign.WORK_MAX // 100_000 + 1
    assert not changes.exhaustive


def test_classes_have_stable_names() -> None:
    """Programs and build servers match on them."""
    assert FAULT_NAMES == (
        "plain", "instruction", "savepoint", "mail-store", "undo-log", "host-call", "host-answer", "deadline",
        "host-calls", "effects", "lift-bytes", "handles", "memory",
    )  # fmt: skip


def test_stages_serve_what_mail_does_not() -> None:
    """Answers are of the declared types, and the same after a reset."""
    made = subject(
        f"""(import "{HOST}" "shout" (func $shout (param i32 i32 i32))) {BUMP}
        (func (export "{EVENTS}#echo") (param i32 i32) (result i32)
        (call $shout (local.get 0) (local.get 1) (i32.const 64)) (i32.const 64))""",
        handlers=handling("echo"),
    )
    stage = Stage(made)
    stage.load()
    event = stage.runtime.events[f"{EVENTS}#echo"]

    def answers() -> list[str]:
        stage.reset()
        return [event.raise_("x") for _ in range(3)]

    assert answers() == answers()
    assert all(isinstance(answer, str) for answer in answers())


def test_handlers_are_tried_alone() -> None:
    """Of an extension that handles one event twice, each handler by itself; the other one's fault would hide it."""
    body = f"""{BUMP} (func (export "{EVENTS}#ping") (i32.store (i32.const 64) (i32.const 1)))
      (func (export "bad") unreachable)"""
    made = subject(body, handlers=[{"event": f"{EVENTS}#ping"}, {"event": f"{EVENTS}#ping", "export": "bad"}])
    stage = Stage(made)
    stage.load()
    with pytest.raises(HandlerFailed):
        stage.runtime.events[f"{EVENTS}#ping"].raise_()
    verdict = run_campaign(made, replace(QUICK, only=frozenset(["instruction", "plain"])))
    assert next(one.injected for one in verdict.tallies if one.fault == "instruction") == 1


def test_policies_reach_the_campaign() -> None:
    """What the operator configured is what the extension is tried with."""
    found = read_subject(SHIPPED / "delivery")
    rules = "always -> flag $Label; file Archive; stop"
    policy = replace(found.policy, config={"rules": rules})
    with_rules: Subject = replace(found, policy=policy)
    few = run_campaign(found, Options(bound=500, inputs=1, only=frozenset(["instruction"])))
    more = run_campaign(with_rules, Options(bound=500, inputs=1, only=frozenset(["instruction"])))
    assert few.injected != more.injected


def test_the_full_campaign_counts_over_all_shipped_extensions(capsys: pytest.CaptureFixture[str]) -> None:
    """In short: one class of faults and one input."""
    assert full_campaign.main(["--inputs", "1", "--fault", "deadline"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"\n[1-9][\d,]* faults injected in \d+ s, seed 0\nall state was as before, each time\n$", told)
