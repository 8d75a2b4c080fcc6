"""``spinrt inspect``: what the running server's extensions hold, may do and did."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from spinrt.cli.common import add_config, add_json, load_config, print_json, print_table, printable
from spinrt.errors import NotFound
from spinrt.mail.config_values import format_size
from spinrt.mail.control import NoServer, request
from spinrt.sandbox.symbols import Frame

EPILOG = """\
Asks the server that runs. --json is described in docs/formats/inspect.md.

examples:
  spinrt inspect
  spinrt inspect delivery           one extension
  spinrt inspect --json | jq '.domains[].counters'
"""
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="*", metavar="EXTENSION", help="show these alone (default: all)")
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    try:
        description = request(config.data_directory, "inspect", {})
    except NoServer:
        raise NotFound(
            f"inspect: found no server that runs on {config.data_directory}", hint="`spinrt serve` starts one"
        ) from None
    chosen = only(description, arguments.names)
    print_json(chosen) if arguments.json else print_description(chosen)
    return 0


def only(description: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the part of a description that is about these extensions; all of it without names.

    Raises:
        NotFound: There is no extension of one of the names.
    """
    known = [domain["name"] for domain in description["domains"]]
    for name in names:
        if name not in known:
            raise NotFound(f"inspect: found no extension {name!r}, expected one of {', '.join(known) or 'none'}")
    if not names:
        return dict(description)
    events = [
        {**event, "bindings": [binding for binding in event["bindings"] if binding["domain"] in names]}
        for event in description["events"]
    ]
    return {
        **description,
        "domains": [domain for domain in description["domains"] if domain["name"] in names],
        "events": [event for event in events if event["bindings"]],
    }


def print_description(description: Mapping[str, Any]) -> None:
    """Print it as people read it."""
    domains = description["domains"]
    if not domains:
        print("no extensions are loaded")
    for title, headers, rows in (
        ("Extensions", DOMAIN_HEADERS, [_domain_row(domain) for domain in domains]),
        ("Limits", LIMIT_HEADERS, list(_limit_rows(domains))),
        ("Grants", GRANT_HEADERS, list(_grant_rows(domains))),
        ("Handles", HANDLE_HEADERS, list(_handle_rows(domains))),
        ("Events", BINDING_HEADERS, list(_binding_rows(description["events"]))),
    ):
        if rows:
            print(f"{title}\n")
            print_table(rows, headers)
            print()
    for domain in domains:
        if domain["returned"]:
            returned = domain["returned"]
            print(f"{domain['name']} {returned['text']}: {printable(returned['reason'])}")
        _print_faults(domain)


FAULTS_SHOWN = 3


def _print_faults(domain: Mapping[str, Any]) -> None:
    """The last thing that went wrong, and the last few faults with where they happened."""
    if domain["last_fault"]:
        print(f"last fault of {domain['name']}: {printable(domain['last_fault'])}")
    for fault in domain["last_faults"][:FAULTS_SHOWN]:
        digest = f", arguments {fault['arguments_digest']}" if fault["arguments_digest"] else ""
        print(f"  {fault['time']} {fault['code']} in {fault['event'] or 'no event'}{digest}")
        for frame in fault["backtrace"]:
            print(f"    {printable(str(Frame(**frame)))}")


DOMAIN_HEADERS = (
    "name",
    "version",
    "state",
    "memory",
    "handles",
    "health",
    "faults",
    "restarts",
    "quarantines",
    "denied",
)


def _domain_row(domain: Mapping[str, Any]) -> list[object]:
    usage, counters, limits = domain["usage"], domain["counters"], domain["limits"]
    return [
        domain["name"],
        domain["version"],
        domain["state"],
        f"{format_size(usage['memory_bytes'])} of {format_size(limits['memory_bytes'])}",
        f"{usage['handles']} of {limits['handles']}",
        domain["health"]["state"],
        counters["faults"],
        counters["restarts"],
        counters["quarantines"],
        counters["denials"],
    ]


LIMIT_HEADERS = ("extension", "limit", "value")


def _limit_rows(domains: list[Mapping[str, Any]]) -> Iterator[list[object]]:
    for domain in domains:
        for name, value in domain["limits"].items():
            yield [domain["name"], name, value]


GRANT_HEADERS = ("extension", "interface", "from", "functions", "narrowed by", "granted in")


def _grant_rows(domains: list[Mapping[str, Any]]) -> Iterator[list[object]]:
    for domain in domains:
        for grant in domain["grants"]:
            narrowed = ", ".join(f"{key}: {_plain(value)}" for key, value in grant["attenuations"].items())
            functions = ", ".join(grant["functions"]) or ALL
            exporter = grant["exporter"] or "(not used)"
            yield [domain["name"], grant["interface"], exporter, functions, narrowed, grant["where"]]


def _plain(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)


HANDLE_HEADERS = ("extension", "handle", "resource", "kind", "rights", "from", "through")


def _handle_rows(domains: list[Mapping[str, Any]]) -> Iterator[list[object]]:
    for domain in domains:
        for handle in domain["handles"]:
            kind = "own" if handle["own"] else "borrow"
            yield [domain["name"], hex(handle["handle"]), handle["resource"], kind, *_capability_cells(handle)]


def _capability_cells(handle: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rights, the chain of those who granted, nearest first, and the grant; a bare object has all rights."""
    capability = handle["capability"]
    if capability is None:
        return ALL, "host", ""
    if capability["revoked"] is not None:
        return "revoked", capability["revoked"], ""
    chain = capability["chain"]
    rights = chain[0]["rights"]
    granters = " < ".join(dict.fromkeys(link["granter"] for link in chain))
    return ALL if rights is None else ", ".join(rights) or "none", granters, chain[0]["grant"] or ""


BINDING_HEADERS = ("event", "handler", "order", "guards", "ran", "held back", "faults", "ended", "p50", "p99")


def _binding_rows(events: list[Mapping[str, Any]]) -> Iterator[list[object]]:
    for event in events:
        for binding in event["bindings"]:
            counts, latency = binding["counts"], binding["latency"]
            yield [
                event["name"],
                _handler(event["name"], binding),
                ", ".join([str(binding["order"]), *binding["places"]]),
                "; ".join(_guard(guard) for guard in binding["guards"]),
                *(counts[key] for key in ("raises", "guarded", "faults", "ended")),
                *(["", ""] if latency is None else (_time(latency["p50_ns"]), _time(latency["p99_ns"]))),
            ]


def _guard(guard: Mapping[str, Any]) -> str:
    imposed = guard["imposed_by"]
    return guard["text"] if imposed is None else f"{guard['text']} (imposed by {imposed})"


def _handler(event: str, binding: Mapping[str, Any]) -> str:
    """Whose handler it is; by its export, too, when that is not called as the event."""
    owner = binding["domain"] or "host"
    return owner if binding["handler"] == event else f"{owner}: {binding['handler']}"


def _time(ns: int) -> str:
    for unit, factor in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns} ns"
