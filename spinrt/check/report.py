"""The static report: what a module is made of, asks for and could reach, and whether it links and initialises.

No handler runs. The module's init does, as it would in a server, over a runtime that has nothing to lose.

Source: docs/design/check.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from spinrt.check.stage import Stage, missing
from spinrt.check.subject import Subject, make_subject
from spinrt.errors import LinkError, ModuleError, SpinError, UsageError
from spinrt.runtime.policy import LIMITS_CEILING
from spinrt.sandbox.binary import CoreModule, parse
from spinrt.sandbox.binary_opcodes import MEMORY_GROWTH, MEMORY_WRITES, opcodes
from spinrt.sandbox.binary_reader import shown
from spinrt.sandbox.binary_sections import FUNCTION_KIND, KIND_NAMES
from spinrt.sandbox.loader import Extension
from spinrt.sandbox.manifest import LIMIT_NAMES
from spinrt.sandbox.manifest_handler import Handler
from spinrt.sandbox.promised import find_function
from spinrt.sandbox.purity import Reach, reach
from spinrt.sandbox.wit import signature

_NEVER_TAKEN = opcodes("table.grow")
_OWN_NAMES = frozenset({"memory", "cabi_realloc", "_initialize", "__indirect_function_table"})
"""Exports that the runtime, or every toolchain, gives a meaning to."""
_CONSTANT_NAMES = ("__heap_", "__data_", "__global_base", "__stack_", "__memory_base", "__table_base", "__dso_handle")


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One function that the module imports. ``pure``: calling it changes nothing; none where nobody serves it."""

    interface: str
    function: str
    granted: bool
    served: bool
    pure: bool | None


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit: what the manifest asks, what the policy allows at most, and the lower of the two."""

    name: str
    asked: int
    allowed: int
    given: int


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """One handler of the manifest.

    Attributes:
        event: Its event.
        how: What else the manifest says of it, for people; empty when it says nothing.
        export: The module's export that handles it.
        type: The event's type, as WIT writes it; empty when there is no such event.
        problem: Why the export cannot handle it; empty when it can.
        reaches: ``interface#function`` of every import that a call may come to.
        functions: Own functions that may run.
        changes: Kind of change → instructions in them that make one.
    """

    event: str
    how: str
    export: str
    type: str
    problem: str
    reaches: tuple[str, ...]
    functions: int
    changes: dict[str, int]


@dataclass(frozen=True, slots=True)
class GuardRow:
    """One guard: what keeps it from being one (empty: nothing), and what it changes that is put back."""

    export: str
    obstacle: str
    changes: str


@dataclass(frozen=True, slots=True)
class StaticReport:
    """What was found without running a handler.

    Attributes:
        name, version: Of the manifest.
        size_bytes: Of the module.
        functions: Own functions of the module.
        stores: Instructions that write memory.
        grows: Whether it may grow its memory.
        starts: Whether it has a start function, which runs when it is made.
        memory_pages: Pages of 64 KiB that its memory begins with.
        tables: Entries that its tables begin with, one number for each.
        problems: Why it does not load, link or initialise, one line each; empty when it does.
        missing: Imports that the policy does not grant or nobody serves, one line each.
        refused: Constructs that spinrt takes nowhere, with function and offset.
        unknown_exports: Exported names that mean nothing here.
        imports, limits, handlers, guards: See there.
    """

    name: str
    version: str
    size_bytes: int
    functions: int
    stores: int
    grows: bool
    starts: bool
    memory_pages: int
    tables: tuple[int, ...]
    problems: tuple[str, ...]
    missing: tuple[str, ...]
    refused: tuple[str, ...]
    unknown_exports: tuple[str, ...]
    imports: tuple[ImportRow, ...]
    limits: tuple[LimitRow, ...]
    handlers: tuple[HandlerRow, ...]
    guards: tuple[GuardRow, ...]

    @property
    def is_good(self) -> bool:
        """Whether it loads, links and initialises."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it; see docs/checking.md."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Examined:
    """A static report, and the error that the first of its problems was, for who must act on its kind."""

    report: StaticReport
    error: SpinError | None


def examine(subject: Subject) -> Examined:
    """Look at an extension, then link and initialise it.

    Raises:
        UsageError: The policy grants what does not exist.
    """
    module, refused = _parsed(subject)
    error, absent = _trial(subject)
    problem = subject.error or error
    manifest = subject.manifest
    return Examined(
        StaticReport(
            name=manifest.name,
            version=manifest.version,
            size_bytes=len(subject.code),
            functions=len(module.bodies) if module else 0,
            stores=sum(1 for _ in module.search(MEMORY_WRITES)) if module else 0,
            grows=any(True for _ in module.search(MEMORY_GROWTH)) if module else False,
            starts=module is not None and module.start is not None,
            memory_pages=module.memories[0].minimum if module and module.memories else 0,
            tables=tuple(table.limits.minimum for table in module.tables) if module else (),
            problems=(problem.line(),) if problem else (),
            missing=absent,
            refused=refused,
            unknown_exports=tuple(_unknown_exports(subject, module)) if module else (),
            imports=tuple(_imports(subject)),
            limits=tuple(_limits(subject)),
            handlers=tuple(_handler(subject, module, handler) for handler in manifest.handlers),
            guards=tuple(_guards(subject.extension)) if subject.extension else (),
        ),
        problem,
    )


def _parsed(subject: Subject) -> tuple[CoreModule | None, tuple[str, ...]]:
    """The module as far as it can be read, and what is refused in it."""
    try:
        module = parse(subject.code, subject.manifest.name)
        return module, tuple(_refused(module))
    except ModuleError as error:
        return None, (str(error),)


def _refused(module: CoreModule) -> Iterator[str]:
    for found in module.imports:
        if found.kind != FUNCTION_KIND:
            yield f"import of a {KIND_NAMES[found.kind]}: {shown(found.module)}#{shown(found.name)}"
    for function, instruction in module.search(_NEVER_TAKEN):
        yield module.describe(function, instruction)


def _trial(subject: Subject) -> tuple[SpinError | None, tuple[str, ...]]:
    """Link and initialise it: what went wrong, and which imports nobody served."""
    if subject.extension is None:
        return None, ()
    stage = Stage(subject)
    try:
        stage.load()
    except LinkError as error:
        return error, missing(stage)
    except UsageError as error:
        if subject.is_granted and not isinstance(error, ModuleError):
            raise
        return error, ()
    except SpinError as error:
        return error, ()
    return None, ()


def _imports(subject: Subject) -> Iterator[ImportRow]:
    if subject.extension is None:
        return
    nameserver = Stage(subject).runtime.nameserver
    for imported in subject.extension.imports:
        grant = subject.policy.grants.get(imported.interface)
        source = nameserver.exporter(imported.interface)
        yield ImportRow(
            imported.interface,
            imported.function,
            granted=grant is not None and grant.covers(imported.function),
            served=source is not None,
            pure=None if source is None else imported.function in source.interface(imported.interface).pure,
        )


def _limits(subject: Subject) -> Iterator[LimitRow]:
    asked, allowed = subject.manifest.limits, subject.policy.limits if subject.is_granted else LIMITS_CEILING
    given = asked.clamped(allowed)
    for name in LIMIT_NAMES:
        yield LimitRow(name, getattr(asked, name), getattr(allowed, name), getattr(given, name))


def _handler(subject: Subject, module: CoreModule | None, handler: Handler) -> HandlerRow:
    name = handler.export_name
    found = _reach(module, name) if module else None
    return HandlerRow(
        event=handler.event,
        how=handler.how,
        export=name,
        type=_type_of(subject, handler),
        problem=_problem_of(subject, handler),
        reaches=tuple(sorted(f"{id_}#{function}" for id_, function in found.imports)) if found else (),
        functions=found.functions if found else 0,
        changes=dict(found.changes) if found else {},
    )


def _reach(module: CoreModule, name: str) -> Reach | None:
    """What a call may come to, the allocator and the clean-up that belong to it included."""
    exported = {export.name for export in module.exports if export.kind == FUNCTION_KIND}
    if name not in exported:
        return None
    try:
        return reach(module, [one for one in (name, f"cabi_post_{name}", "cabi_realloc") if one in exported])
    except ModuleError:
        return None


def _type_of(subject: Subject, handler: Handler) -> str:
    try:
        return signature(find_function(subject.interfaces, handler.event)[1])
    except SpinError:
        return ""


def _problem_of(subject: Subject, handler: Handler) -> str:
    """Why the handler's export does not fit its event; other mistakes of the module do not count here."""
    if subject.extension is not None:
        return ""
    errors = []
    for handlers in ((), (handler,)):
        manifest = replace(subject.manifest, handlers=handlers, exports=())
        errors.append(str(make_subject(manifest, subject.code, subject.interfaces).error or ""))
    return errors[1] if errors[1] != errors[0] else ""


def _guards(extension: Extension) -> Iterator[GuardRow]:
    names = dict.fromkeys(handler.guard for handler in extension.manifest.handlers if handler.guard)
    for name in names:
        exported = extension.exports[name]
        yield GuardRow(name, exported.obstacle, exported.changes)


def _unknown_exports(subject: Subject, module: CoreModule) -> Iterator[str]:
    promised = set(subject.extension.exports) if subject.extension else set()
    promised |= {name for handler in subject.manifest.handlers for name in (handler.export_name, handler.guard)}
    for export in module.exports:
        name = export.name
        if name in promised or name.removeprefix("cabi_post_") in promised or name in _OWN_NAMES:
            continue
        if any(name.startswith(prefix) for prefix in _CONSTANT_NAMES):
            continue
        yield f"{shown(name)} ({KIND_NAMES[export.kind]})"
