"""The page: HTML with everything in it, no script, nothing from elsewhere; light or dark as the reader has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.harness import missed_hint
from benchmarks.report import pictures
from benchmarks.report.plot import Plot
from benchmarks.units import number

Found: TypeAlias = Mapping[str, Any]
"""The JSON of one benchmark: see the head of ``benchmarks/harness.py``."""
STYLE: Final = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
COLUMNS: Final = (
    *("name", "parameters", "median", "interval of the median", "quartiles", "min", "p99", "p99.9", "max", "unit", "n"),
    "measure it again",
)
_QUOTED: Final = re.compile("`([^`]+)`")
VERDICTS: Final = {True: "met", False: "missed", None: "not measured"}


def page(results: Sequence[Found], command: str, when: str, failures: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        results: What each benchmark found, in the order in which they are shown; at least one.
        command: What made the page.
        when: Date and time, as text.
        failures: Benchmark → why it found nothing.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>spinrt: benchmarks</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Benchmarks of spinrt</h1><p>Made by {_code(command)}, {escape(when)}.</p>",
        _contents(results),
        *(f'<p class="missed">{escape(name)} did not end well: {escape(why)}</p>' for name, why in failures.items()),
        _machine(results[0]["machine"]) if results else "",
        _verdicts(results, command),
        *map(_section, results),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _contents(results: Sequence[Found]) -> str:
    links = " · ".join(f'<a href="#{escape(one["benchmark"])}">{escape(one["benchmark"])}</a>' for one in results)
    return f"<nav>{links}</nav>"


def _machine(found: Mapping[str, Any]) -> str:
    shown = dict(found)
    versions = shown.pop("versions", {})
    shown["memory"] = f"{shown.pop('memory_bytes', 0) / (1 << 30):.1f} GiB"
    cells = [*shown.items(), *versions.items()]
    terms = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in cells)
    return f'<section><h2>Machine</h2><dl class="machine">{terms}</dl></section>'


def _verdicts(results: Sequence[Found], command: str) -> str:
    """All targets together, those that are missed first."""
    rows = [(one["benchmark"], target) for one in results for target in one["targets"]]
    if not rows:
        return ""
    order = {False: 0, None: 1, True: 2}
    rows.sort(key=lambda row: order[row[1]["met"]])
    cells = [[_verdict(target), escape(name), *_target(target)] for name, target in rows]
    table = _table(("", "benchmark", "target", "value", "limit", "remark"), cells)
    counts = ", ".join(f"{sum(row[1]['met'] is met for row in rows)} {word}" for met, word in VERDICTS.items())
    hint = f"<p>{escape(missed_hint(command))}</p>" if any(row[1]["met"] is False for row in rows) else ""
    return f"<section><h2>Targets</h2><p>{counts}.</p>{hint}{table}{_figure(pictures.margins(results))}</section>"


def _target(target: Mapping[str, Any]) -> list[str]:
    value = "" if target["value"] is None else number(target["value"])
    limit = f"{target['relation'].replace('>=', '≥').replace('<=', '≤')} {number(target['limit'])}"
    return [_code(target["name"]), _number(value), _number(limit), escape(target.get("reason", ""))]


def _verdict(target: Mapping[str, Any]) -> str:
    word = VERDICTS[target["met"]]
    return f'<span class="{word.replace(" ", "-")}">{word}</span>'


def _section(result: Found) -> str:
    name = escape(result["benchmark"])
    parts = [
        f'<section id="{name}"><h2>{name}</h2>',
        f"<p>{_code(result['command'])}</p>",
        *(f"<h3>{escape(table['title'])}</h3>{_given_table(table)}" for table in result.get("tables", ())),
        *(f"<h3>{escape(plot.title)}</h3>{_figure(plot)}" for plot in pictures.plots(result) if plot.marks),
        _notes(result),
        f"<details open><summary>All {len(result['rows'])} rows</summary>{_rows(result['rows'])}</details>",
        "</section>",
    ]
    return "\n".join(parts)


def _figure(plot: Plot) -> str:
    return f"<figure>{plot.svg()}<figcaption>{escape(plot.key)}</figcaption></figure>" if plot.marks else ""


def _given_table(table: Mapping[str, Any]) -> str:
    cells = [[_number(cell) if cell[:1].isdigit() else escape(cell) for cell in row] for row in table["rows"]]
    return _table(table["columns"], cells) + "".join(f"<p>{_prose(note)}</p>" for note in table["notes"])


def _notes(result: Found) -> str:
    notes = [*result.get("notes", ())]
    notes += [f"Not measured: {what}: {why}." for what, why in result.get("skipped", {}).items()]
    notes += [f"Hash of what was computed: {result['digest']}."] if "digest" in result else []
    items = "".join(f"<li>{_prose(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(COLUMNS, [_row(row) for row in rows])


def _row(row: Mapping[str, Any]) -> list[str]:
    tail = row.get("percentiles", {})
    sure = f" ({row['confidence']:.0%})"
    batch = f" of {tail['batch']}" if tail.get("batch", 1) > 1 else ""
    parameters = " ".join(f"{key}={value}" for key, value in row["params"].items())
    return [
        _code(row["name"]),
        escape(parameters),
        _number(number(row["median"])),
        _number("–".join(map(number, row["interval"])) + sure),
        _number(f"{number(row['low'])}–{number(row['high'])}"),
        _number(number(row["min"])),
        *(_number(number(tail[share]) if tail else "") for share in ("p99", "p99.9")),
        _number(number(row["max"])),
        escape(row["unit"]),
        _number(f"{row['runs']} runs" + (f", {row['samples']:,} samples{batch}" if tail else "")),
        _code(row["command"]),
    ]


def _number(text: str) -> str:
    return f'<span class="n">{escape(text)}</span>'


def _prose(text: str) -> str:
    """A note, in which commands and names stand between backquotes."""
    return _QUOTED.sub(r"<code>\1</code>", escape(text))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is too wide; cells are HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
