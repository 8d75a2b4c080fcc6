"""What somebody who begins with the runtime gets wrong, and is told; and what an operator gets to see of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import spinrt
from spinrt.errors import LinkDenied, ManifestError, StateError, UsageError
from spinrt.mail.extensions import make_runtime
from spinrt.runtime.capability import Functions
from spinrt.runtime.inspect import describe
from spinrt.runtime.metrics import Exposition
from spinrt.runtime.monitor import DENIAL_LINES_PER_MINUTE
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.types import Err, Ok
from spinrt.sandbox.wit import Interfaces, Source
from tests.guests import BUMP, EVENTS, HOST, extension, granted, runtime, wat
from tests.runtime.test_owner import in_thread

ASKS = "test:asks/host@1.0.0"
ASKS_EVENTS = "test:asks/events@1.0.0"
ASKS_WIT = """
package test:asks@1.0.0;
interface host { try: func(number: u32) -> result<_, string>; }
interface events { go: func(number: u32); }
"""
TRYING = f"""(module (import "{ASKS}" "try" (func $try (param i32 i32))) {BUMP}
  (func (export "{ASKS_EVENTS}#go") (param i32) (call $try (local.get 0) (i32.const 64))))"""
NOTING = f"""(import "{HOST}" "note" (func $note (param i32 i32)))
  {BUMP} (func $begin (call $note (i32.const 0) (i32.const 0))) (start $begin)
  (func (export "{EVENTS}#ping"))"""


def test_all_that_the_documents_name_is_exported() -> None:
    """And each name is there."""
    for name in spinrt.__all__:
        assert getattr(spinrt, name) is not None
    wanted = {"Equal", "Prefix", "Range", "FIRST", "LAST", "Before", "After", "SYNC", "ASYNC", "Ephemeral", "mint"}
    assert wanted <= set(spinrt.__all__)


def test_the_text_of_a_denied_link_is_the_policy_that_would_give_it() -> None:
    """What `print(error)` and a traceback show; it can be pasted."""
    made = runtime({"again": lambda call: None})
    with pytest.raises(LinkDenied) as caught:
        made.load(extension(f'(import "{HOST}" "again" (func))'), Policy())
    text = str(caught.value)
    assert text.startswith(
        f"extension guest: not granted: {HOST} (again); to grant it, put under extensions.guest.grants"
    )
    lines = yaml.safe_load(text.partition("grants: ")[2])
    assert made.load(extension(f'(import "{HOST}" "again" (func))'), Policy.from_mapping({"grants": lines}))


@pytest.mark.parametrize("options", [{}, {"pure": ("agian",)}])
def test_a_misspelt_host_function_is_refused_when_it_is_exported(options: dict[str, Any]) -> None:
    """With what was probably meant; nothing is exported."""
    made = Runtime(interfaces=runtime().interfaces)
    functions = {} if options else {"agian": lambda call: None}
    with pytest.raises(UsageError, match=r"found the function 'agian', expected only .*again") as caught:
        made.export(Functions(HOST, functions, **options))
    assert caught.value.hint == "did you mean `again`?"
    assert made.nameserver.exporter(HOST) is None


def test_a_function_that_the_manifest_misspells_says_what_there_is() -> None:
    """And no hint about something else."""
    text = yaml.safe_dump(
        {
            "spinrt": 1,
            "name": "guest",
            "version": "1.0.0",
            "module": "guest.wasm",
            "imports": [{"interface": HOST, "functions": ["agian"]}],
        }
    )
    with pytest.raises(ManifestError, match=r"found the function 'agian' of .*, expected one of ") as caught:
        check_extension(Manifest.parse(text), wat("(module)"), interfaces=runtime().interfaces)
    assert caught.value.hint == "did you mean `again`?"


def test_a_place_as_text_says_which_name_is_meant() -> None:
    """`place="first"` is how a manifest says it."""
    event = runtime(events=("ping",)).events[f"{EVENTS}#ping"]
    with pytest.raises(UsageError, match="found the place 'first', expected FIRST, LAST, Before or After") as caught:
        event.install(lambda call: None, place="first")  # type: ignore[arg-type]
    assert "spinrt.FIRST" in caught.value.hint
    assert event.bindings == ()


def test_a_guard_of_the_wrong_shape_is_called_a_guard() -> None:
    """And a handler a handler's name."""
    event = runtime(events=("add",)).events[f"{EVENTS}#add"]

    def lonely() -> bool:
        return True

    with pytest.raises(UsageError) as caught:
        event.install(lambda call, left, right: 0, guards=[lonely])
    assert re.fullmatch(
        rf"event {EVENTS}#add, guard: found .*lonely, expected it to take 3 arguments: .*", str(caught.value)
    )


OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "install": lambda event, binding: event.install(lambda call: None),
    "uninstall": lambda event, binding: event.uninstall(binding),
    "reorder": lambda event, binding: event.reorder(binding, order=1),
    "impose": lambda event, binding: event.impose(binding, lambda call: True),
    "lift": lambda event, binding: event.lift(binding, len),
    "intrinsic": lambda event, binding: event.set_intrinsic(lambda call: None),
    "default": lambda event, binding: event.set_default(),
    "fold": lambda event, binding: event.set_fold("last"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_events_belong_to_their_runtimes_thread(operation: str) -> None:
    """Every operation on them looks; nothing was changed."""
    event = runtime(events=("ping",)).events[f"{EVENTS}#ping"]
    binding = event.install(lambda call: None)
    error = in_thread(lambda: OPERATIONS[operation](event, binding))
    assert isinstance(error, StateError)
    assert f"{operation}: found a use from another thread" in str(error)
    assert event.bindings == (binding,)


def test_a_start_function_that_needs_a_call_is_at_fault_itself() -> None:
    """No call is under way, so nothing can be promised: that is no mistake of the host's."""

    def note(call: Any, text: str) -> None:
        call.journal.append(object())

    made = runtime({"note": note, "again": lambda call: None}, events=("ping",))
    with pytest.raises(StateError, match=r"found a call of .*#note from a start function"):
        made.load(extension(NOTING, handlers=("ping",)), granted())
    assert made.domains == {}
    assert made.load(
        extension(
            NOTING.replace('"note" (func $note (param i32 i32))', '"again" (func $note)').replace(
                "(call $note (i32.const 0) (i32.const 0))", "(call $note)"
            ),
            handlers=("ping",),
        ),
        granted(),
    )


def test_what_a_host_refuses_is_counted_and_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """In inspect and metrics all of it; in the log a few lines a minute."""
    wit = Interfaces.parse([Source("asks.wit", ASKS_WIT)])
    made = Runtime(interfaces=wit)
    made.export(Functions(ASKS, {"try": lambda call, number: Err("not-granted") if number else Ok()}))
    event = made.define(f"{ASKS_EVENTS}#go")
    manifest = {"spinrt": 1, "name": "asker", "version": "1.0.0", "module": "g.wasm", "imports": [ASKS]}
    manifest["handlers"] = [{"event": event.name}]
    text = yaml.safe_dump(manifest)
    made.load(check_extension(Manifest.parse(text), wat(TRYING), interfaces=wit), Policy.granting(ASKS))
    with caplog.at_level(logging.INFO, "spinrt.runtime"):
        for number in [0, *range(1, 50)]:
            event.raise_(number)
    lines = [one.getMessage() for one in caplog.records if "event=denied" in one.getMessage()]
    assert len(lines) == DENIAL_LINES_PER_MINUTE
    assert lines[0] == f"extension=asker event=denied function={ASKS}#try reason='not-granted' denials=1"
    description = describe(made)
    assert description["domains"][0]["counters"]["denials"] == 49
    assert b'spinrt_domain_denials_total{domain="asker"} 49.0' in Exposition().write(description)


def test_an_asynchronous_handler_of_mail_is_refused() -> None:
    """What it promised would be lost: the delivery has ended by then."""
    made = make_runtime(hostname="h.test", has_smarthost=False)
    for event in (made.events.deliver, made.events.filed, made.events.append, made.events.flags_changed):
        with pytest.raises(UsageError, match="found it asynchronous, expected sync or ephemeral"):
            event.install(lambda call, *arguments: None, mode=spinrt.ASYNC)
