"""The guests: one extension in C, built in several layouts, each loaded with an undo log and without one.

Where code lies moves a small loop by half, whatever is done in it. So the module is built with other functions in front
(``src/layout.c``), and what counts is the median over the layouts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.timing import Measure
from spinrt import _core
from spinrt._core import Export
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.supervisor import Supervision
from spinrt.sandbox.build import build_extension
from spinrt.sandbox.loader import Extension, load_extension
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.wit import Interfaces, Source, shipped

DIRECTORY: Final = Path(__file__).parent / "guest"
KERNELS: Final = "bench:transactions/kernels@1.0.0"
HANDLERS: Final = "bench:transactions/handlers@1.0.0"
KERNEL_NAMES: Final = (
    "header-parse",
    "token-count",
    "base64-decode",
    "quoted-printable-decode",
    "sha256",
    "string-building",
)
OUTPUT: Final = f"{KERNELS}#output"
NOTHING, STORE, FAIL = (f"{HANDLERS}#{name}" for name in ("nothing", "store", "fail"))
LAYOUTS: Final = 5
OPTIMISED: Final = "-O2"
LOG, PLAIN = "yes", "no"
"""Whether there is an undo log, as the parameter ``log`` of rows says it."""
FAILED: Final = 0xFFFF_FFFF
"""What an event answers whose handler failed: no handler of ours answers it."""
UNDO_BYTES: Final = Limits().undo_bytes


def interfaces() -> Interfaces:
    """Those of the guests, and all that come with spinrt."""
    text = (DIRECTORY / "kernels.wit").read_text(encoding="utf-8")
    return Interfaces.parse([Source("kernels.wit", text)], known=shipped())


@dataclass(frozen=True, slots=True)
class Built:
    """One layout: the extension, and its module as the compiler made it."""

    extension: Extension
    code: bytes


def build(layouts: int = LAYOUTS) -> list[Built]:
    """Compile the extension in so many layouts, by the toolchain of ``spinrt build``.

    Raises:
        BuildError: There is no compiler, or it fails.
    """
    known = interfaces()
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as out:
        return [_build(Path(out), layout, known) for layout in range(layouts)]


def _build(out: Path, layout: int, known: Interfaces) -> Built:
    made = build_extension(DIRECTORY, out, interfaces=known, flags=[OPTIMISED, f"-DLAYOUT={layout}"])
    extension = load_extension(made, interfaces=known)
    return Built(extension, (made / extension.manifest.module).read_bytes())


def limits(log: str) -> Limits:
    """Those that a manifest has by default, with an undo log or without one."""
    return Limits() if log == LOG else replace(Limits(), undo_bytes=0)


@dataclass(frozen=True, slots=True)
class Guest:
    """One extension at work: its domain, in a runtime that may be shared, and events that run it."""

    runtime: Runtime
    domain: Domain

    @classmethod
    def load(cls, extension: Extension, log: str, runtime: Runtime | None = None, name: str = "") -> Guest:
        """Make a domain of the extension, in a runtime of its own unless one is given, and initialise it.

        However often it fails, it is never quarantined.
        """
        where = Runtime(interfaces=extension.interfaces) if runtime is None else runtime
        bounds = limits(log)
        manifest = replace(extension.manifest, name=name or extension.name, limits=bounds)
        policy = Policy.granting(limits=bounds, supervision=Supervision(faults=0))
        domain = where.create(replace(extension, manifest=manifest), policy)
        domain.initialize()
        return cls(where, domain)

    def event(self, name: str) -> Event:
        """The event of that name, with this guest's handler alone on it; made when it is first asked for."""
        known = self.runtime.events.get(name)
        if known is None:
            known = self.runtime.define(name, on_fault=OnFault.SKIP, default=_default(name))
            known.install(DomainExport(self.domain, name))
        return known

    def export(self, name: str) -> Export:
        """What the guest exports under that name."""
        return self.domain.exports[name]

    def output(self) -> bytes:
        """What the kernel produced that ran last."""
        return bytes(self.event(OUTPUT).raise_())


def _default(name: str) -> Any:
    return b"" if name == OUTPUT else FAILED


def raising(event: Event, arguments: tuple[int, ...]) -> Measure:
    """Raises the event from Cython."""
    return lambda calls: _core.time_raise(event.dispatcher, arguments, calls)


def pairs(built: Sequence[Built]) -> dict[tuple[int, str], Guest]:
    """Every layout with a log and without: (layout, ``LOG`` or ``PLAIN``) → guest."""
    return {(layout, log): Guest.load(one.extension, log) for layout, one in enumerate(built) for log in (LOG, PLAIN)}
