"""What ``spinrt check`` shows people: the static report, the verdict, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from spinrt.check.campaign import Progress as Told
from spinrt.check.report import StaticReport
from spinrt.check.subject import Subject
from spinrt.check.verdict import Verdict
from spinrt.cli.common import print_table


def print_report(subject: Subject, report: StaticReport) -> None:
    """Print the static report, all of it."""
    print_summary(report)
    _print_rows(
        ["import", "granted", "served", "pure"],
        [
            (f"{row.interface}#{row.function}", *map(_yes, (row.granted, row.served, row.pure)))
            for row in report.imports
        ],
    )
    _print_rows(
        ["handler", "functions", "stores", "globals", "reaches"],
        [
            (row.event, row.functions, row.changes.get("stores", 0), row.changes.get("globals", 0), _short(row.reaches))
            for row in report.handlers
        ],
    )
    _print_rows(
        ["guard", "changes", "obstacle"],
        [(row.export, row.changes or "-", row.obstacle or "-") for row in report.guards],
    )
    _print_rows(["limit", "asked", "allowed", "given"], [(r.name, r.asked, r.allowed, r.given) for r in report.limits])
    if report.is_good and not subject.is_granted and subject.policy.grants:
        print(f"\n{_grants(subject)}", end="")


def print_summary(report: StaticReport) -> None:
    """Print the first lines of the static report."""
    for line in _lines(report):
        print(line)


def print_verdict(report: StaticReport, verdict: Verdict) -> None:
    """Print counts, findings and the verdict."""
    _print_rows(
        ["handler", "fault", "points", "injected", "tried", "findings"],
        [
            (_event(one.handler), one.fault, one.points, one.injected, "all" if one.exhaustive else "some", one.found)
            for one in verdict.tallies
            if one.points
        ],
    )
    print()
    for one in verdict.tallies:
        for finding in one.findings:
            print(f"{_event(one.handler)} {one.fault}: input {finding.input}, {finding.point}: {finding.what}")
        if one.found > len(one.findings):
            print(f"{_event(one.handler)} {one.fault}: and {one.found - len(one.findings)} more")
    for note in [*verdict.notes, *_never_called(report, verdict)]:
        print(f"note: {note}")
    for handler in verdict.untried:
        print(f"{_event(handler)}: {verdict.why_untried(handler)}")
    print(_last_line(verdict))


def _never_called(report: StaticReport, verdict: Verdict) -> Iterator[str]:
    """What the inputs did not get to: no fault was injected there."""
    for handler in report.handlers:
        never = set(handler.reaches).difference(verdict.called.get(handler.event, ()))
        if handler.event in verdict.inputs and never:
            names = _short(tuple(sorted(never)))
            yield f"{_event(handler.event)}: no input made it call {names}; what it does there was not tried"


def _last_line(verdict: Verdict) -> str:
    seconds = sum(tally.seconds for tally in verdict.tallies)
    rate = f", {verdict.injected / seconds:,.0f} a second" if seconds > 1 else ""
    tried = f"{verdict.injected:,} faults injected (seed {verdict.seed}, bound {verdict.bound:,}{rate})"
    if verdict.found:
        return f"NOT SAFE: {verdict.found:,} findings, {tried}"
    if verdict.interrupted:
        return f"interrupted: nothing found so far, {tried}"
    return f"safe as far as tried: {tried}" if verdict.is_safe else f"NOT TRIED: {tried}"


@contextmanager
def showing_progress() -> Iterator[Told]:
    """Show what is being tried on standard error, if that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} faults"))
    shown = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    if not sys.stderr.isatty():
        yield lambda what, injected: None
        return
    with shown:
        task = shown.add_task("", total=None)
        yield lambda what, injected: shown.update(task, description=what, advance=injected)


def _lines(report: StaticReport) -> Iterator[str]:
    yield f"{report.name} {report.version}: {'loads' if report.is_good else 'does not work'}"
    grown = "may grow" if report.grows else "never grows"
    start = ", with a start function" if report.starts else ""
    yield (
        f"  module of {report.size_bytes:,} bytes{start}: {report.functions} functions, {report.stores:,} stores, "
        f"memory of {report.memory_pages} pages that {grown}"
    )
    for line in report.refused:
        yield f"  refused {line}"
    for handler in report.handlers:
        how = f" {handler.how}" if handler.how else ""
        yield f"  handles {handler.event}{how}" + (f": {handler.problem}" if handler.problem else "")
    for line in report.missing:
        yield f"  missing {line}"
    for name in report.unknown_exports:
        yield f"  exports {name}, which means nothing here"


def _print_rows(headers: list[str], rows: list[tuple[object, ...]]) -> None:
    if rows:
        print()
        print_table(rows, headers)


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _event(name: str) -> str:
    """An event without package and version, which the first lines have."""
    return name.partition("#")[2] or name


def _short(names: tuple[str, ...]) -> str:
    return ", ".join(map(_event, names)) or "-"


def _grants(subject: Subject) -> str:
    """What to put into the configuration."""
    grants = {
        id_: {"functions": list(grant.functions)} if grant.functions else {}
        for id_, grant in subject.policy.grants.items()
    }
    content = {"extensions": {subject.manifest.name: {"grants": grants}}}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
