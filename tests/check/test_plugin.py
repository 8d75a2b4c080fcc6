"""The pytest plug-in for authors of extensions, in a pytest of its own."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import Export
from spinrt.mail.extensions import SHIPPED
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.loader import find_function
from spinrt.sandbox.wit import shipped
from spinrt.testing.strategies import arguments_of
from tests.check.guests import COUNTER
from tests.check.support import write_extension
from tests.core.native_support import forwarder
from tests.guests import EVENTS

pytest_plugins = ["pytester"]
PLUGIN = "spinrt.testing.plugin"
ADD = f"{EVENTS}#add"
DELIVER = "spinrt:mail/delivery-events@1.0.0#deliver"


class Author:
    """An author's own tests, where the plug-in is loaded."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        installed = [one for one in entry_points(group="pytest11") if one.value == PLUGIN]
        # Its faulthandler, which is this process's own, would take the signals from engines of other tests.
        quiet = ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
        self._options = [*quiet, *([] if installed else ["-p", PLUGIN])]

    def run(self, text: str, *options: str) -> pytest.RunResult:
        self._pytester.makepyfile(text)
        return self._pytester.runpytest(*self._options, *options)


@pytest.fixture
def author(pytester: pytest.Pytester) -> Author:
    return Author(pytester)


def test_extensions_are_raised_from_tests(author: Author) -> None:
    """With records and messages made for the occasion; effects, records and state can be looked at."""
    result = author.run(
        f"""
        import pytest
        from spinrt.errors import HandlerFailed

        def test_lists(spinrt_extension):
            rules = "always -> file Archive; stop"
            extension = spinrt_extension({str(SHIPPED / "delivery")!r}, config={{"rules": rules}})
            envelope = extension.make("spinrt:mail/envelope@1.0.0#envelope", user="alice")
            assert extension.raise_("deliver", envelope, extension.message(b"Subject: x\\r\\n\\r\\n")) == "handled"
            assert [effect.describe() for effect in extension.effects] == ["file into Archive"]

        def test_records(spinrt_extension):
            extension = spinrt_extension({str(SHIPPED / "audit")!r})
            receipt = extension.make("spinrt:mail/envelope@1.0.0#receipt", size=5)
            for _ in range(2):
                extension.raise_("filed", receipt, extension.message(b""))
            assert [dict(record.fields)["total-messages"] for record in extension.records] == ["1", "2"]

        def test_failures(spinrt_extension):
            extension = spinrt_extension({str(SHIPPED / "audit")!r}, policy={{
                "grants": {{"spinrt:logging/logging@1.0.0": {{}}}}, "limits": {{"lift_bytes": 1}}}})
            receipt = extension.make("spinrt:mail/envelope@1.0.0#receipt")
            with pytest.raises(HandlerFailed, match="limits.lift_bytes|bytes passed"):
                extension.raise_("filed", receipt, extension.message(b""))
        """
    )
    result.assert_outcomes(passed=3)


def test_one_test_for_each_handler_and_class(author: Author) -> None:
    """What cannot be injected is skipped, not passed."""
    result = author.run(
        f"""
        import pytest

        @pytest.mark.spinrt_check({str(SHIPPED / "audit")!r}, bound=20, inputs=2)
        def test_it_is_safe(spinrt_case):
            spinrt_case.check()
        """,
        "-v",
        "--strict-markers",
    )
    result.stdout.fnmatch_lines(["*test_it_is_safe?filed-instruction? PASSED*", "*filed-effects? SKIPPED*"])
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 7
    assert "failed" not in outcomes


def test_a_bad_extension_fails_with_its_findings(author: Author, tmp_path: Path) -> None:
    """No traceback: where, and what differs."""
    directory = write_extension(tmp_path / "counter", COUNTER, "add", limits={"undo_bytes": 0})
    result = author.run(
        f"""
        import pytest

        @pytest.mark.spinrt_check({str(directory)!r}, wit=[{str(directory / "test.wit")!r}], bound=20, inputs=2)
        def test_it_is_safe(spinrt_case):
            spinrt_case.check()
        """
    )
    assert result.parseoutcomes()["failed"] >= 1
    result.stdout.fnmatch_lines(["*host call 1 as QuotaExceeded: instance: found a fresh one*"])


def test_a_mark_without_its_argument_is_a_mistake_that_is_told(author: Author) -> None:
    result = author.run(
        f"""
        import pytest

        @pytest.mark.spinrt_check({str(SHIPPED / "audit")!r})
        def test_it_is_safe():
            pass
        """
    )
    result.stdout.fnmatch_lines(["*expected the argument spinrt_case*"])
    assert result.ret != 0


@pytest.mark.parametrize(
    "event",
    [
        DELIVER,
        "spinrt:mail/imap-events@1.0.0#flags-changed",
        "spinrt:undo/undo-events@1.0.0#inconsistency",
        "spinrt:undo/undo-events@1.0.0#after-replay",
    ],
)
@settings(max_examples=15)
@given(data=st.data())
def test_strategies_give_arguments_that_a_guest_takes(event: str, data: st.DataObject) -> None:
    """They are lowered, lifted again, and come out the same."""
    _, function = find_function(shipped(), event)
    plan = plan_function(event, replace(function, result=None))
    seen: list[tuple[Any, ...]] = []
    arguments = data.draw(arguments_of(event))
    guest = forwarder(plan, lambda call, *given: seen.append(given), lift_bytes=1 << 30)
    Export(guest, "pass", plan)(None, *arguments)
    assert repr(seen) == repr([arguments])


def test_a_handler_that_always_fails_by_itself_is_not_passed(author: Author, tmp_path: Path) -> None:
    """Nothing was found out about it: the case without a fault fails, and says with what."""
    body = f'(func (export "{ADD}") (param i32 i32) (result i32) unreachable)'
    directory = write_extension(tmp_path / "hopeless", body, "add", imports=[])
    result = author.run(
        f"""
        import pytest

        @pytest.mark.spinrt_check({str(directory)!r}, wit=[{str(directory / "test.wit")!r}], bound=20, inputs=2)
        def test_it_is_safe(spinrt_case):
            spinrt_case.check()
        """
    )
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*add: fails by itself with every input: extension.trap: *unreachable*"])
