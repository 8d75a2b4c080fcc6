"""What a campaign came to: counts, findings, and the verdict, for people and programs.

A verdict is *safe* only when something was tried: for each handler at least one fault was injected, and nothing was
found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

FINDINGS_MAX: Final = 5
"""Findings that are kept of one handler and class; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a fault left behind, or that is wrong with a run.

    Attributes:
        input: Number and label of the input: ``3 (envelope.user at edge 2)``.
        point: Where the fault was: ``instruction 17``, ``host call 2 as MemoryError``.
        what: What differs.
    """

    input: str
    point: str
    what: str


@dataclass(slots=True)
class Tally:
    """One handler under one class of faults.

    Attributes:
        handler: Its event.
        fault: The class.
        points: Places where a fault could be, over all inputs.
        injected: Faults that were injected.
        found: How many of them left something behind.
        findings: The first `FINDINGS_MAX` of these.
        exhaustive: Whether every place was tried.
        seconds: How long it took.
    """

    handler: str
    fault: str
    points: int = 0
    injected: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    exhaustive: bool = True
    seconds: float = 0.0

    def note(self, finding: Finding) -> None:
        """Count a finding, and keep it if there is room."""
        self.found += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


@dataclass(slots=True)
class Verdict:
    """The outcome of one campaign.

    Attributes:
        name, version: Of the extension.
        seed, bound: What the campaign was run with; the same give the same.
        tallies: By handler and class, in the order of the campaign.
        failed_plain: Handler → inputs on which it fails without any fault.
        inputs: Handler → inputs that were tried.
        called: Handler → host functions that it called, as ``interface#function``. Faults lie only where its code ran.
        why_failed: Handler → what the first run failed with that had no fault.
        notes: What was tried less than fully, and why.
        interrupted: Somebody ended it early: what is here is what was done until then.
    """

    name: str
    version: str
    seed: int
    bound: int
    tallies: list[Tally] = field(default_factory=list)
    failed_plain: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    called: dict[str, list[str]] = field(default_factory=dict)
    why_failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def injected(self) -> int:
        """Faults that were injected."""
        return sum(tally.injected for tally in self.tallies)

    @property
    def found(self) -> int:
        """Findings in all."""
        return sum(tally.found for tally in self.tallies)

    @property
    def untried(self) -> tuple[str, ...]:
        """Handlers into which no fault was injected, or that succeed with no input at all."""
        return tuple(
            handler for handler in self.inputs if not _injected(self.tallies, handler) or self.fails_always(handler)
        )

    def fails_always(self, handler: str) -> bool:
        """Whether no run of a handler was good, with any input: then nothing was found out about it."""
        return self.failed_plain.get(handler, 0) == self.inputs[handler]

    def why_untried(self, handler: str) -> str:
        """Return in one line why a handler of `untried` is one."""
        if not self.fails_always(handler):
            return "no fault was injected"
        return f"fails by itself with every input: {self.why_failed.get(handler) or 'without an error'}"

    @property
    def is_safe(self) -> bool:
        """Whether faults were injected into each handler, some of whose runs are good, and left nothing behind."""
        return bool(self.inputs) and not self.found and not self.untried

    def note(self, text: str) -> None:
        """Remember something to be told once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it; see docs/checking.md."""
        return {
            "safe": self.is_safe,
            "injected": self.injected,
            "found": self.found,
            "untried": list(self.untried),
            **asdict(self),
        }


def _injected(tallies: Iterable[Tally], handler: str) -> int:
    return sum(tally.injected for tally in tallies if tally.handler == handler)
