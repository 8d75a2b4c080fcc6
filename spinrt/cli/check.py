"""``spinrt check``: try an extension before a server sees it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import yaml

from spinrt.check.report import StaticReport, examine
from spinrt.check.subject import Subject, read_policy, read_subject
from spinrt.cli.common import add_json, print_json, print_table

EPILOG = """\
Looks at the module, loads, links and initialises it against the interfaces of the
mail system, in a runtime of its own: nothing is served, written or sent.

PATH is a directory with a manifest, or a module. Without --policy it gets all that
it asks for, and the grants to put into the configuration are printed. A policy file
holds what stands under `extensions.NAME`: grants, limits, config, exports.

exit codes: 0 safe as far as tried, 1 findings, or its init failed, 2 it does not
load or link, or the input is wrong

examples:
  spinrt check build/delivery --static
  spinrt check build/delivery --static --policy delivery-policy.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("path", type=Path, metavar="PATH", help="directory with manifest.yaml, or a module")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="grants, limits, config and exports, as YAML")
    parser.add_argument(
        "--wit", action="append", default=[], type=Path, metavar="PATH", help="more WIT files, or directories of them"
    )
    parser.add_argument("--static", action="store_true", help="only look, link and initialise; run no handler")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = None if arguments.policy is None else read_policy(arguments.policy)
    subject = read_subject(arguments.path, policy=policy, wit=arguments.wit)
    examined = examine(subject)
    if arguments.json:
        print_json({"format": 1, "static": examined.report.as_json()})
    else:
        _print_report(subject, examined.report)
    if examined.error is not None:
        raise examined.error
    return 0


def _print_report(subject: Subject, report: StaticReport) -> None:
    for line in _lines(report):
        print(line)
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


def _lines(report: StaticReport) -> Iterator[str]:
    yield f"{report.name} {report.version}: {'good' if report.is_good else 'does not work'}"
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


def _short(names: tuple[str, ...]) -> str:
    """Functions without the versions and packages that the table above has."""
    return ", ".join(name.partition("#")[2] for name in names) or "-"


def _grants(subject: Subject) -> str:
    """What to put into the configuration."""
    grants = {
        id_: {"functions": list(grant.functions)} if grant.functions else {}
        for id_, grant in subject.policy.grants.items()
    }
    content = {"extensions": {subject.manifest.name: {"grants": grants}}}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
