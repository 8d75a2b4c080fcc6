"""What SPIN, Mach and OSF/1 took for the same kinds of call in 1995, beside this machine today.

Source: B. Bershad et al., Extensibility, Safety and Performance in the SPIN Operating System, SOSP'95, Table 2; on DEC
Alpha 3000/400 workstations at 133 MHz. The system calls stand on the project's own page of benchmarks too, as of 1996.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.harness import Table
from benchmarks.units import duration, number

ALPHA_HZ: Final = 133e6
IN_PLACE, SYSTEM_CALL, ACROSS = "call, one address space", "system call", "call, two address spaces"


@dataclass(frozen=True, slots=True)
class Published:
    """One figure."""

    kind: str
    system: str
    seconds: float


SPIN_CALL: Final = Published(IN_PLACE, "SPIN: protected in-kernel call", 0.13e-6)
FIGURES: Final = (
    SPIN_CALL,
    Published(SYSTEM_CALL, "SPIN", 4e-6),
    Published(SYSTEM_CALL, "DEC OSF/1", 5e-6),
    Published(SYSTEM_CALL, "Mach 3.0", 7e-6),
    Published(ACROSS, "SPIN: an extension that connects them", 89e-6),
    Published(ACROSS, "Mach 3.0: its optimised messages", 104e-6),
    Published(ACROSS, "DEC OSF/1: sockets and SUN RPC", 845e-6),
)
COLUMNS: Final = ("kind", "system", "time", "cycles", "÷ protected call", "÷ plain call")
NOTES: Final = (
    "1995: DEC Alpha 3000/400 at 133 MHz; SOSP'95, Table 2. Cycles: time × clock; today's: time ÷ the row `cycle`.",
    "Comparable: how many protected calls a system call or a call of another process costs, within one machine. Both "
    "protected calls stay in one address space and are checked beforehand, not by hardware: SPIN's by the compiler of "
    "Modula-3 and the linker, ours by WebAssembly's validation and the engine.",
    "Not comparable: absolute times; cycles of a machine that issues two instructions and of one that issues five; "
    "kernel entries with and without mitigations; and the protected call itself, which in SPIN is a procedure call "
    "between modules, while ours also has a deadline, counts, and can be taken back.",
    "SPIN published no time for a plain call beside these: its column stays empty. Times of its dispatcher (OSDI'96) "
    "are not set beside ours: `spinrt bench dispatch` has the same axes (arguments, handlers, guards).",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Nanoseconds on this machine: what a plain call takes, a cycle, and what is shown."""

    plain_ns: float
    protected_ns: float
    cycle_ns: float
    rows: Mapping[tuple[str, str], float]
    """(kind, system) → nanoseconds."""


def table(measured: Measured) -> Table:
    """Both, kind by kind."""
    rows = []
    for kind in (IN_PLACE, SYSTEM_CALL, ACROSS):
        rows += [_then(figure) for figure in FIGURES if figure.kind == kind]
        rows += [_now(measured, *key, ns) for key, ns in measured.rows.items() if key[0] == kind]
    return Table("SPIN's Table 2, then and today", COLUMNS, rows, NOTES)


def _then(figure: Published) -> list[str]:
    cycles, over = figure.seconds * ALPHA_HZ, figure.seconds / SPIN_CALL.seconds
    return [figure.kind, figure.system, duration(figure.seconds * 1e9), number(round(cycles)), number(over), ""]


def _now(measured: Measured, kind: str, system: str, ns: float) -> list[str]:
    return [
        *(kind, f"today: {system}", duration(ns), number(round(ns / measured.cycle_ns))),
        *(number(ns / measured.protected_ns), number(ns / measured.plain_ns)),
    ]
