"""Hot swap: a new version of an extension takes the place of the old one between two raises.

Everything that can fail comes first: compile, link, initialise, check types, ask authorizers. Only then handlers,
exports and name change hands, all together; when anything failed, the old version goes on as if nothing had been tried.

A version that was put in place is on *probation* (`spinrt.runtime.supervisor`): the old one is kept aside, initialised,
and takes its place back by itself when the new one fails too often. What has not proved itself is never kept aside:
when a version on probation is replaced in its turn, the one to return to is still the last that was proved.

Importers go on with the new exporter in their own instances: their links are pointed at it when no raise is on the
stack.

Source: docs/design/dispatch.md, "Replacing an extension".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spinrt.errors import LinkError, SpinError, StateError, UsageError
from spinrt.runtime.capability import Effect
from spinrt.runtime.domain import Domain
from spinrt.runtime.exported import find_path
from spinrt.runtime.handlers import check_events, replacing
from spinrt.runtime.linker import link
from spinrt.runtime.policy import Policy
from spinrt.runtime.supervisor import Probation
from spinrt.runtime.swap import swap
from spinrt.sandbox.loader import Extension, promised_exports

if TYPE_CHECKING:
    from spinrt.runtime.runtime import Runtime

_log = logging.getLogger("spinrt.runtime")


@dataclass(frozen=True, slots=True)
class Returned:
    """A version that failed too often on probation, and what has its place again.

    Attributes:
        version, to: The versions.
        skipped: Those between them, the newest last: each was replaced before it had proved itself.
        faults: So many ended it.
        reason: The last of them, as one line.
        at_ns: When, in nanoseconds since 1970-01-01 UTC.
    """

    version: str
    to: str
    skipped: tuple[str, ...]
    faults: int
    reason: str
    at_ns: int

    @property
    def time(self) -> str:
        """When, as ISO 8601 writes it, in whole seconds."""
        return datetime.fromtimestamp(self.at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def __str__(self) -> str:
        text = f"{self.version} was returned to {self.to} after {self.faults} faults, at {self.time}"
        if self.skipped:
            text += f"; what came between ({', '.join(self.skipped)}) was replaced before it had proved itself"
        return text


class Replacement:
    """One version in the place of another, until it has proved itself.

    Attributes:
        new, old: The versions; ``old`` is the one to return to.
        probation: How the new one proves itself.
        skipped: Versions between them that were replaced before they had proved themselves.
        is_settled: Importers use the new one. Not yet while the raise that saw the change is on the stack.
    """

    def __init__(
        self, runtime: Runtime, old: Domain, new: Domain, probation: Probation, skipped: tuple[str, ...] = ()
    ) -> None:
        self.runtime, self.old, self.new, self.probation = runtime, old, new, probation
        self.skipped = skipped
        self.is_settled = False
        self._is_returning = False
        new.supervisor.begin_probation(probation, on_failed=self._give_up, on_proved=self._let_go)

    def is_over(self) -> bool:
        """Whether the new version has proved itself, or need not."""
        return self.is_settled and not self._is_returning and not self.new.supervisor.on_probation

    def _give_up(self) -> None:
        """The new version failed too often: it goes, from the next raise on."""
        self._is_returning = True
        self.runtime.stores.when_idle(self.go_back)

    def _let_go(self) -> None:
        """The new version has proved itself, and somebody noticed in the middle of a raise."""
        self.runtime.stores.when_idle(self.runtime.end_probations)

    def settle(self, replaced: Domain) -> None:
        """No raise is on the stack: importers of what was replaced use the new version."""
        _move_importers(replaced, self.new)
        self.is_settled = True
        if replaced is not self.old:
            self.runtime.let_go(replaced)
        self.runtime.end_probations()

    def go_back(self) -> None:
        """Put the old version in its place again. Should an authorizer forbid it, the new one stays."""
        runtime, old, new = self.runtime, self.old, self.new
        if runtime.replacements.get(new.name) is not self:
            return
        try:
            _swap_handlers(runtime, new, old)
        except SpinError as error:
            _log.error("extension=%s event=return-failed reason=%r", new.name, str(error))
            return
        del runtime.replacements[new.name]
        runtime.returned[new.name] = self._note_return()
        _log.error(
            "extension=%s event=returned from=%s to=%s faults=%d reason=%r",
            new.name,
            new.extension.manifest.version,
            old.extension.manifest.version,
            new.supervisor.faults_on_probation,
            new.counters.last_fault,
        )
        _change_hands(runtime, new, old)
        _move_importers(new, old)
        runtime.let_go(new)

    def _note_return(self) -> Returned:
        versions = (self.new.extension.manifest.version, self.old.extension.manifest.version)
        at_ns = self.runtime.stores.clock.wall_ns()
        faults = self.new.supervisor.faults_on_probation
        return Returned(*versions, self.skipped, faults, self.new.counters.last_fault, at_ns)


def replace(
    runtime: Runtime,
    old: Domain,
    extension: Path | str | Extension,
    policy: Policy | None,
    orders: Mapping[str, int] | None,
    probation: Probation,
) -> Domain:
    """Put a new version in the place of a loaded domain; see `Runtime.replace`."""
    if runtime.domains.get(old.name) is not old:
        raise StateError(f"domain {old.name}: replace: it is not loaded here")
    before = runtime.replacements.get(old.name)
    if before is not None and not before.is_settled:
        raise StateError(f"domain {old.name}: replace: it was replaced in this very raise, expected the raise to end")
    new = None
    try:
        new = runtime.create(extension, old.policy if policy is None else policy)
        effects = _prepare(runtime, old, new)
        _swap_handlers(runtime, old, new, orders)
    except BaseException as error:
        if new is not None:
            new.destroy()
        if isinstance(error, SpinError):
            raise _kept(error, old, new) from error
        raise
    _put_in_place(runtime, old, new, probation, effects)
    return new


def _prepare(runtime: Runtime, old: Domain, new: Domain) -> list[Effect]:
    """Everything but the swap of the handlers: after it, the new version could run."""
    if new.name != old.name:
        raise UsageError(f"replace: found an extension called {new.name}, expected another version of {old.name}")
    check_events(runtime.events, new.extension)
    runtime.nameserver.check(new, besides=old)
    link(new, runtime.nameserver)
    _check_importers(old, new)
    return new.start()


def _swap_handlers(runtime: Runtime, old: Domain, new: Domain, orders: Mapping[str, int] | None = None) -> None:
    """All or none, asked for by the old version. What that installed is the new one's now; the rest is whose it was."""
    swaps = replacing(runtime.events, old, new, orders)
    for one, binding in zip(swaps, swap(swaps, by=old), strict=True):
        if binding is not None:
            binding.by = new if one.old is None or one.old.by is old else one.old.by


def _check_importers(old: Domain, new: Domain) -> None:
    """What others import of the old version, the new one must serve; and it must not import from them."""
    promised = set(promised_exports(new.extension))
    for one in old.links:
        interface_id = one.name.partition("#")[0]
        if one.name not in promised or interface_id not in new.interfaces:
            raise LinkError(
                f"extension {new.name}: found no export of {one.name}, expected it: {one.importer.name} imports it",
                hint=f"unload {one.importer.name} first, or unresolve it from {old.name}",
            )
        refusal = new.refusal(interface_id, one.importer)
        if refusal is not None:
            raise LinkError(f"extension {new.name}: {one.importer.name} imports {interface_id}, and {refusal}")
    path = next((path for exporter in new.exporters() if (path := find_path(exporter, old))), None)
    if path is not None:
        raise LinkError(f"extension {new.name}: found the import cycle {' -> '.join([new.name, *path])}, expected none")


def _kept(error: SpinError, old: Domain, new: Domain | None) -> SpinError:
    """The same error, saying that the old version goes on."""
    version = "" if new is None else f" by {new.extension.manifest.version}"
    text = f"replace {old.name} {old.extension.manifest.version}{version}: {error}; the old version goes on"
    return type(error)(text, hint=error.hint)


def _put_in_place(runtime: Runtime, old: Domain, new: Domain, probation: Probation, effects: list[Effect]) -> None:
    """The handlers were swapped: the rest follows, and none of it can fail."""
    before = runtime.replacements.pop(old.name, None)
    runtime.returned.pop(old.name, None)
    proved, skipped = old, tuple[str, ...]()
    if before is not None and not before.is_over():
        proved, skipped = before.old, (*before.skipped, old.extension.manifest.version)
        old.supervisor.drop_probation()
    elif before is not None:
        runtime.let_go(before.old)
    _change_hands(runtime, old, new)
    replacement = runtime.replacements[new.name] = Replacement(runtime, proved, new, probation, skipped)
    for effect in effects:
        effect.apply()
    _log.info(
        "extension=%s event=replaced from=%s to=%s",
        new.name,
        old.extension.manifest.version,
        new.extension.manifest.version,
    )
    runtime.stores.when_idle(partial(replacement.settle, old))


def _change_hands(runtime: Runtime, old: Domain, new: Domain) -> None:
    """Name, exports and the events that it owns; handlers were swapped before."""
    runtime.nameserver.replace(old, new)
    runtime.domains[new.name] = new
    old.is_loaded, new.is_loaded = False, True
    for event in runtime.events.values():
        if event.owner is old:
            event.owner = new


def _move_importers(old: Domain, new: Domain) -> None:
    for importer in old.importers():
        importer.rebind(old, new)
