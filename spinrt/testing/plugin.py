"""The pytest plug-in for authors of extensions: ``spinrt_extension`` and ``spinrt_check``; see docs/checking.md.

```python
def test_lists_are_filed(spinrt_extension):
    extension = spinrt_extension("build/delivery")
    envelope = extension.make("spinrt:mail/envelope@1.0.0#envelope", user="alice")
    message = extension.message(b"List-Id: <dev.example.org>\\r\\n\\r\\n")
    assert extension.raise_("deliver", envelope, message) == "handled"


@pytest.mark.spinrt_check("build/delivery", bound=500)
def test_it_is_safe(spinrt_case):
    spinrt_case.check()
```

Every pytest that runs where spinrt is installed loads this module: what is heavy is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from spinrt._core import LentMessage, LogRecord
    from spinrt.check.campaign import Options
    from spinrt.check.subject import Subject
    from spinrt.check.verdict import Tally, Verdict
    from spinrt.runtime.capability import Effect
    from spinrt.runtime.policy import Policy


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "spinrt_check(path, *, policy=None, wit=(), seed=0, bound=400, inputs=6): one test for each handler of the "
        "extension and each class of faults; the test gets it as spinrt_case",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each handler and class of faults."""
    mark = metafunc.definition.get_closest_marker("spinrt_check")
    if mark is None:
        return
    if "spinrt_case" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: spinrt_check: expected the argument spinrt_case")
    found = cases(*mark.args, **mark.kwargs)
    metafunc.parametrize("spinrt_case", found, ids=[case.name for case in found])


@pytest.fixture
def spinrt_extension() -> Callable[..., TestedExtension]:
    """Load extensions to be raised in tests: ``spinrt_extension(path, *, config=None, policy=None, wit=())``."""
    return load


@dataclass(frozen=True, slots=True)
class Case:
    """One handler of an extension under one class of faults."""

    subject: Subject
    handler: str
    fault: str
    options: Options

    @property
    def name(self) -> str:
        """For ids of tests: ``deliver-instruction``."""
        return f"{self.handler.partition('#')[2]}-{self.fault}"

    def run(self) -> Tally:
        """Inject the faults of this class, and return what came of it."""
        return self._tally(self._verdict())

    def _verdict(self) -> Verdict:
        from spinrt.check.campaign import run_campaign

        verdict = run_campaign(self.subject, self.options)
        if verdict.interrupted:
            raise KeyboardInterrupt
        return verdict

    def _tally(self, verdict: Verdict) -> Tally:
        from spinrt.check.verdict import Tally

        return next((one for one in verdict.tallies if one.fault == self.fault), Tally(self.handler, self.fault))

    def check(self) -> None:
        """Inject the faults of this class; fail when one left something behind, skip when none can be injected.

        A handler that fails with every input by itself fails the case of what is wrong without a fault.
        """
        from spinrt.check.campaign import RAN_WRONG

        verdict = self._verdict()
        tally = self._tally(verdict)
        if self.fault == RAN_WRONG and verdict.fails_always(self.handler):
            pytest.fail(f"{self.handler}: {verdict.why_untried(self.handler)}", pytrace=False)
        if tally.found:
            lines = [f"input {one.input}, {one.point}: {one.what}" for one in tally.findings]
            left_out = tally.found - len(lines)
            pytest.fail("\n".join([*lines, *([f"and {left_out} more"] if left_out else [])]), pytrace=False)
        if not tally.injected:
            pytest.skip(f"no {self.fault} fault can be injected into {self.handler}")


def cases(
    path: str | Path,
    *,
    policy: Policy | Mapping[str, Any] | None = None,
    wit: Sequence[str | Path] = (),
    seed: int = 0,
    bound: int | None = None,
    inputs: int | None = None,
) -> list[Case]:
    """Return a case for each handler of an extension and each class of faults.

    Args:
        path: A directory with a manifest, or a module.
        policy: What it is granted, as a `Policy` or as the mapping under ``extensions.NAME``; all that it asks for by
            default.
        wit: More WIT files, or directories of them.
        seed, bound, inputs: As for ``spinrt check``; as few as with ``--quick`` by default.

    Raises:
        SpinError: The extension does not load.
    """
    from spinrt.check.campaign import BOUND_QUICK, FAULT_NAMES, INPUTS_QUICK, Options

    subject = _subject(path, policy, wit)
    options = Options(seed, bound or BOUND_QUICK, inputs or INPUTS_QUICK)
    return [
        Case(
            subject,
            handler.event,
            fault,
            replace(options, only=frozenset([fault]), handlers=frozenset([handler.event])),
        )
        for handler in subject.manifest.handlers
        for fault in FAULT_NAMES
    ]


def load(
    path: str | Path,
    *,
    config: Mapping[str, str] | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    wit: Sequence[str | Path] = (),
) -> TestedExtension:
    """Load an extension for a test; see `cases` for the arguments. ``config`` is added to the policy's."""
    subject = _subject(path, policy, wit)
    if config:
        granted = replace(subject.policy, config={**subject.policy.config, **config})
        subject = replace(subject, policy=granted)
    return TestedExtension(subject)


def _subject(path: str | Path, policy: Policy | Mapping[str, Any] | None, wit: Sequence[str | Path]) -> Subject:
    from spinrt.check.subject import read_subject
    from spinrt.runtime.policy import Policy

    given = Policy.from_mapping(policy) if isinstance(policy, Mapping) else policy
    subject = read_subject(Path(path), policy=given, wit=[Path(one) for one in wit])
    if subject.error is not None:
        raise subject.error
    return subject


class TestedExtension:
    """An extension in a runtime of its own, whose clocks stand nearly still and whose chance is always the same.

    Attributes:
        effects: What the last raise wanted done.
        records: Log records that were written since it was loaded.
    """

    __test__ = False

    def __init__(self, subject: Subject) -> None:
        from spinrt.check.stage import Stage

        self._stage = Stage(subject)
        self._domain = self._stage.load()
        self.effects: list[Effect] = []

    @property
    def records(self) -> list[LogRecord]:
        return self._stage.records

    @property
    def map(self) -> dict[str, bytes]:
        """What it keeps in ``spinrt:kv/store``."""
        return dict(self._stage.mail.spaces.space(self._domain.name).values)

    def raise_(self, event: str, *arguments: Any) -> Any:
        """Raise an event and return its result; what it did is kept.

        Args:
            event: Its name, or what stands behind the ``#`` of it.
            arguments: One for each parameter.

        Raises:
            HandlerFailed, SpinError: It failed; nothing of it is left. The events of mail that are skipped when a
                handler fails raise too.
        """
        from spinrt.check.samples import context_of
        from spinrt.runtime.call import Transaction

        found = self._event(event)
        faults = self._domain.counters.faults
        with Transaction(context_of(found.name, arguments)) as transaction:
            result = transaction.raise_(found, *arguments)
            if self._domain.counters.faults != faults:
                from spinrt.errors import HandlerFailed

                raise HandlerFailed(f"event {found.name}: {self._domain.counters.last_fault}")
            self.effects = transaction.commit()
        return result

    def message(self, text: bytes) -> LentMessage:
        """Return a message of these bytes, to be passed where a message is borrowed."""
        from spinrt.check.samples import lend

        return lend(text)

    def make(self, type_name: str, **fields: Any) -> Any:
        """Return a record of ``interface#type``, ordinary but for these fields.

        Raises:
            WitError: There is no such interface.
            UsageError: The interface has no such record.
        """
        import random

        from spinrt.check.inputs import Values
        from spinrt.errors import UsageError
        from spinrt.sandbox.types import RecordType

        id_, _, name = type_name.partition("#")
        type_ = self._stage.subject.interfaces.get(id_).types.get(name)
        if not isinstance(type_, RecordType):
            raise UsageError(f"interface {id_}: found no record {name!r}")
        return Values(random.Random(0), {}).ordinary(type_)._replace(**fields)

    def _event(self, name: str) -> Any:
        from spinrt.errors import UsageError

        events = self._stage.runtime.events
        found = [full for full in events if name in (full, full.partition("#")[2])]
        if len(found) != 1:
            raise UsageError(f"found {len(found)} events called {name!r}, expected one of {', '.join(events)}")
        return events[found[0]]
