"""Which rows are drawn, how they are grouped, and how values are written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from benchmarks.ipc.summary import SIZE_NAMES
from benchmarks.report.plot import Mark, Plot
from benchmarks.units import duration, number

Row: TypeAlias = Mapping[str, Any]
"""A row as the JSON has it: see the head of ``benchmarks/harness.py``."""
ROWS_DRAWN_MAX: Final = 64
"""More lines than this are no picture."""
MET, MISSED = 3, 0
IPC_SERIES: Final = {
    0: "spinrt",
    1: "others in the process",
    2: "system call",
    3: "two processes in C, one core",
    4: "on two cores",
    5: "two processes in Python",
}
_NS: Final = {"ns": 1.0, "us": 1e3, "ms": 1e6, "us/message": 1e3}
FILTERS: Final = "filter_"
"""How names of rows on mail filters begin."""
_NEAR: Final = ("native_call", "python_call", "wasmtime_py", "extism", "subinterpreter", "pluggy")
_APART: Final = ("python_", "multiprocessing_", "grpc")


def plots(result: Mapping[str, Any]) -> list[Plot]:
    """The pictures of one benchmark."""
    rows = result["rows"]
    filters = [row for row in rows if row["name"].startswith(FILTERS)]
    if result["benchmark"] == "ipc":
        return [*_ipc(rows), *_by_name(filters)]
    return _by_name(filters) if filters else _by_unit(rows)


def margins(results: Sequence[Mapping[str, Any]]) -> Plot:
    """Every target that has a value: by what factor it is met, or missed where that is below 1."""
    marks, left_out = [], []
    for result in results:
        for target in result["targets"]:
            value, limit = target["value"], target["limit"]
            if value is None:
                continue
            if value <= 0 or limit <= 0:
                left_out.append(f"{target['name']} ({number(value)})")
                continue
            factor = value / limit if target["relation"] == ">=" else limit / value
            reach = (min(factor, 1.0), max(factor, 1.0))
            name = f"{result['benchmark']}: {target['name']}"
            marks.append(Mark(name, MET if target["met"] else MISSED, factor, reach, reach))
    key = "By what factor each target is met: left of 1 it is missed."
    key += f" Not drawn, for there is no such factor: {', '.join(left_out)}." if left_out else ""
    return Plot("Targets", "times", marks, {MET: "met", MISSED: "missed"}, lambda one: f"{number(one)} ×", key)


def _by_unit(rows: Sequence[Row]) -> list[Plot]:
    """One picture for each unit, where there are two rows or more and not too many."""
    made = []
    for unit in dict.fromkeys(row["unit"] for row in rows):
        chosen = (row for row in rows if row["unit"] == unit and min(row["low"], row["min"]) > 0)
        marks = [_mark(row, 0, _label(row)) for row in chosen]
        if 2 <= len(marks) <= ROWS_DRAWN_MAX:
            made.append(Plot(f"Rows in {unit}", _axis(unit), marks, {}, _writer(unit)))
    return made


def _by_name(rows: Sequence[Row]) -> list[Plot]:
    """One picture for each name of rows, where there are two or more: in what their parameters differ are the lines."""
    made = []
    for name in dict.fromkeys(row["name"] for row in rows):
        chosen = [row for row in rows if row["name"] == name and min(row["low"], row["min"]) > 0]
        given = [set(row["params"].items()) for row in chosen]
        alike = set.intersection(*given) if given else set()
        marks = [_mark(row, 0, _values(row, alike)) for row in chosen]
        if len(marks) >= 2:
            unit = chosen[0]["unit"]
            made.append(Plot(name, _axis(unit), marks, {}, _writer(unit)))
    return made


def _axis(unit: str) -> str:
    return "time" if unit in _NS else {"x": "ratio"}.get(unit, unit)


def _writer(unit: str) -> Callable[[float], str]:
    if unit in _NS:
        each = _NS[unit]
        return lambda value: duration(value * each)
    return number


def _mark(row: Row, series: int, label: str) -> Mark:
    tail = row.get("percentiles")
    reach = (row["min"], tail["p99.9"] if tail else row["max"])
    return Mark(label, series, row["median"], (row["low"], row["high"]), reach, tail["p99"] if tail else None)


def _label(row: Row, *left_out: str) -> str:
    return " ".join([row["name"], *(f"{key}={value}" for key, value in row["params"].items() if key not in left_out)])


def _values(row: Row, left_out: Collection[tuple[str, Any]]) -> str:
    return " ".join(str(value) for key, value in row["params"].items() if (key, value) not in left_out)


# ------------------------------------------------------------------------------------------------------------------ ipc


def _ipc(rows: Sequence[Row]) -> list[Plot]:
    """A call with each size, fastest first; then how many calls a second there are."""
    made = []
    for size, name in SIZE_NAMES.items():
        chosen = [row for row in rows if row["unit"] == "ns" and _size(row) == size]
        ordered = sorted(chosen, key=lambda row: row["median"])
        marks = [_mark(row, _series(row), _label(row, "bytes")) for row in ordered]
        made.append(Plot(f"One call, {name}", "time of one call, there and back", marks, IPC_SERIES, duration))
    for outstanding in (1, 16):
        chosen = [row for row in rows if row["params"].get("outstanding") == outstanding and _size(row) == 0]
        ordered = sorted(chosen, key=lambda row: -row["median"])
        marks = [_mark(row, _series(row), _label(row, "bytes", "outstanding")) for row in ordered]
        title = f"Calls a second, {outstanding} on their way, no payload"
        made.append(Plot(title, "calls a second", marks, IPC_SERIES, number))
    return made


def _size(row: Row) -> int | None:
    """Bytes of payload of a call; none for what is no call."""
    if row["name"] in ("getpid", "spinrt_raise"):
        return 0
    found: int | None = row["params"].get("bytes") if "form" not in row["params"] else None
    return found


def _series(row: Row) -> int:
    name = row["name"]
    if name.startswith("spinrt"):
        return 0
    if name in _NEAR:
        return 1
    if name == "getpid":
        return 2
    if name.startswith(_APART):
        return 5
    return 3 if row["params"].get("cores") == "same" else 4
