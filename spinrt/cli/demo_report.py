"""What the demo shows: tables for people, one JSON object for programs. Every number was measured in this run."""

from __future__ import annotations

import textwrap
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tabulate import tabulate

from spinrt.cli.demo_client import NO_ANSWER
from spinrt.cli.demo_config import EXTENSIONS
from spinrt.cli.demo_ledger import Ledger, Place, Sent
from spinrt.mail.report import DeliveryReport

LISTED_MAX = 10
"""Refused or wrong messages that are listed one by one."""
MAILBOXES_MAX = 15
COLUMN_WIDTH_MAX = 36
TAGS_LISTED_MAX = 1


class Timings:
    """Times of all transactions, in nanoseconds, as the server measured them."""

    def __init__(self) -> None:
        self.message_ns = array("q")
        self.work_ns = array("q")
        self.extensions_ns = array("q")
        self.call_ns: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self.calls: Counter[str] = Counter()

    def add(self, report: DeliveryReport) -> None:
        """Count in one transaction."""
        self.message_ns.append(report.message_ns)
        self.work_ns.append(report.work_ns)
        self.extensions_ns.append(report.extensions_ns)
        for name, part in report.extensions.items():
            self.calls[name] += part.calls
            if part.calls:
                self.call_ns[name].append(part.ns // part.calls)

    def as_json(self) -> dict[str, Any]:
        """Medians in microseconds: of a call by extension, and of the parts of a message."""
        return {
            "transactions": len(self.message_ns),
            "call_us": {name: _median_us(values) for name, values in self.call_ns.items()},
            "calls": dict(self.calls),
            "extensions_us": _median_us(self.extensions_ns),
            "work_us": _median_us(self.work_ns),
            "message_us": _median_us(self.message_ns),
        }


@dataclass(slots=True)
class Outcome:
    """Everything that a run found out.

    Attributes:
        reports: By the name of the message; only for a run that shows each message.
        expected: Reply codes that are not 250, by the name of the message.
        send_s: From the first connection to the last answer.
        read_s: Reading everything back.
    """

    ledger: Ledger
    timings: Timings
    reports: dict[str, DeliveryReport] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    source: str = "samples"
    connections: int = 1
    send_s: float = 0.0
    read_s: float = 0.0

    def problems(self) -> list[str]:
        """What went wrong, a line each; empty when all is well."""
        verdict = self.ledger.verdict()
        found = [f"{sent.name}: no answer: {sent.answer.text}" for sent in verdict.refused if _unanswered(sent)]
        found += [
            f"{sent.name}: answered {sent.answer.code} {sent.answer.text}, expected {self._expected(sent)}"
            for sent in self.ledger.sent
            if self.source == "samples" and not _unanswered(sent) and sent.answer.code != self._expected(sent)
        ]
        found += [f"{sent.name}: accepted, and not found as it was sent" for sent in verdict.lost]
        found += [f"{_where(place)}: found, and not as anything was sent" for place in verdict.altered]
        found += [f"{_where(place)}: found more often than it was accepted" for place in verdict.repeated]
        return found

    def _expected(self, sent: Sent) -> int:
        return self.expected.get(sent.name, 250)


def print_samples(outcome: Outcome) -> None:
    """Each message: what the extensions did, and where it lies; then the times."""
    print("What each extension did:\n")
    seen = (name for report in outcome.reports.values() for name in report.extensions)
    names = list(dict.fromkeys((*EXTENSIONS, *seen)))
    rows = [[sent.name, _answer(sent), *_effects(outcome, sent, names)] for sent in outcome.ledger.sent]
    _table(rows, ["message", "answer", *names])
    print("\nWhere each message lies, as read back over IMAP, compared byte for byte with what was sent:\n")
    places = [
        [sent.name, place.user, place.mailbox, place.uid, " ".join(place.flags), place.size, _as_sent(place)]
        for sent in outcome.ledger.sent
        for place in outcome.ledger.places_of(sent)
    ]
    _table(places, ["message", "account", "mailbox", "UID", "flags", "bytes", "as sent"], right=(3, 5))
    _print_times(outcome)
    _print_end(outcome)


def print_summary(outcome: Outcome) -> None:
    """Counts by mailbox, what was refused, times, throughput."""
    verdict = outcome.ledger.verdict()
    mailboxes = Counter((place.user, place.mailbox) for place in outcome.ledger.places).most_common()
    print("Where the messages lie, as read back over IMAP:\n")
    rows = [[user, mailbox, count] for (user, mailbox), count in mailboxes[:MAILBOXES_MAX]]
    if rest := mailboxes[MAILBOXES_MAX:]:
        rows.append(["", f"({len(rest)} more mailboxes)", sum(count for _, count in rest)])
    _table(rows, ["account", "mailbox", "messages"], right=(2,))
    if verdict.refused:
        print(f"\n{len(verdict.refused)} refused:\n")
        _table([[sent.name, _answer(sent)] for sent in verdict.refused[:LISTED_MAX]], ["message", "answer"])
    _print_times(outcome)
    size = sum(sent.size for sent in outcome.ledger.sent)
    sent, found = len(outcome.ledger.sent), len(outcome.ledger.places)
    print(
        f"\nsent {_messages(sent)}, {size / 1e6:,.1f} MB, in {outcome.send_s:.1f} s over {outcome.connections} "
        f"connections with STARTTLS: {sent / max(outcome.send_s, 1e-9):,.0f} a second, each durable before its answer"
        f"\nread {_messages(found)} back in {outcome.read_s:.1f} s, logging in and comparing included"
    )
    _print_end(outcome)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The same for programs; ``messages`` only for the samples."""
    verdict = outcome.ledger.verdict()
    content: dict[str, Any] = {
        "source": outcome.source,
        "summary": {
            "sent": len(outcome.ledger.sent),
            "accepted": len(outcome.ledger.sent) - len(verdict.refused),
            "refused": len(verdict.refused),
            "delivered": verdict.delivered,
            "lost": len(verdict.lost),
            "altered": len(verdict.altered),
            "repeated": len(verdict.repeated),
            "send_s": round(outcome.send_s, 3),
            "read_s": round(outcome.read_s, 3),
            "connections": outcome.connections,
        },
        "timings": outcome.timings.as_json() | {"client_us": _client_us(outcome.ledger.sent)},
        "mailboxes": dict(Counter(f"{place.user}:{place.mailbox}" for place in outcome.ledger.places).most_common()),
        "refused": [{"name": sent.name, **_answer_json(sent)} for sent in verdict.refused],
        "problems": outcome.problems(),
    }
    if outcome.reports:
        content["messages"] = [_message_json(outcome, sent) for sent in outcome.ledger.sent]
    return content


def _message_json(outcome: Outcome, sent: Sent) -> dict[str, Any]:
    report = outcome.reports.get(sent.name)
    extensions = report.extensions if report is not None else {}
    return {
        "name": sent.name,
        "users": sent.users,
        "size_bytes": sent.size,
        **_answer_json(sent),
        "extensions": {
            name: {"calls": part.calls, "us": part.ns / 1000, "effects": part.effects}
            for name, part in extensions.items()
        },
        "places": [
            {
                "user": place.user,
                "mailbox": place.mailbox,
                "uid": place.uid,
                "flags": place.flags,
                "size_bytes": place.size,
                "added_fields": place.added_fields,
            }
            for place in outcome.ledger.places_of(sent)
        ],
    }


def _answer_json(sent: Sent) -> dict[str, Any]:
    return {"command": sent.answer.command, "code": sent.answer.code, "text": sent.answer.text}


def _print_times(outcome: Outcome) -> None:
    """Time per extension call against time per message."""
    timings = outcome.timings
    work_us, message_us = _median_us(timings.work_ns), _median_us(timings.message_ns)
    rows = [
        [f"one call of {name}", timings.calls[name], _us(_median_us(values)), _share(_median_us(values), message_us)]
        for name, values in timings.call_ns.items()
    ]
    count = len(timings.message_ns)
    accepted = sum(sent.answer.accepted for sent in outcome.ledger.sent)
    together_us = _median_us(timings.extensions_ns)
    rows += [
        ["all extensions, one message", count, _us(together_us), _share(together_us, message_us)],
        ["deciding and writing one message", count, _us(work_us), _share(work_us, message_us)],
        ["one message in the server, disk included", count, _us(message_us), _share(message_us, message_us)],
        ["one message as the client sees it", accepted, _us(_client_us(outcome.ledger.sent)), ""],
    ]
    at_once = f", {outcome.connections} connections at once" if outcome.connections > 1 else ""
    print(f"\nTime per extension call against time per message (medians of this run{at_once}):\n")
    _table(rows, ["what", "times", "median µs", "of a message"], right=(1, 2, 3))


def _print_end(outcome: Outcome) -> None:
    verdict = outcome.ledger.verdict()
    accepted = len(outcome.ledger.sent) - len(verdict.refused)
    copies = "copy" if verdict.delivered == 1 else "copies"
    print(
        f"\n{len(outcome.ledger.sent):,} sent: {accepted:,} accepted, {len(verdict.refused):,} refused; "
        f"{verdict.delivered:,} {copies} read back byte for byte as sent; mismatches: {verdict.mismatches}"
    )
    problems = outcome.problems()
    for problem in problems[:LISTED_MAX]:
        print(f"  WRONG  {problem}")
    if len(problems) > LISTED_MAX:
        print(f"  WRONG  and {len(problems) - LISTED_MAX:,} more")


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str], *, right: Sequence[int] = ()) -> None:
    """Print a table; the columns ``right`` to the right, long texts wrapped, nothing taken for a number."""
    align = ["right" if column in right else "left" for column in range(len(headers))]
    texts = [[textwrap.fill(str(cell), COLUMN_WIDTH_MAX) for cell in row] for row in rows]
    if texts:
        print(tabulate(texts, headers, tablefmt="simple", disable_numparse=True, colalign=align))
    else:
        print("(none)")


def _effects(outcome: Outcome, sent: Sent, names: Iterable[str]) -> list[str]:
    report = outcome.reports.get(sent.name)
    if report is None:
        return ["(not asked)" for _ in names]
    return [_effects_text(report, name) for name in names]


def _effects_text(report: DeliveryReport, name: str) -> str:
    """What an extension did: ``tag a, b; log c``."""
    part = report.extensions.get(name)
    if part is None:
        return "(not asked)"
    objects: defaultdict[str, list[str]] = defaultdict(list)
    for effect in part.effects:
        verb, _, what = effect.partition(" ")
        objects[verb].append(what)
    return "; ".join(_verb_text(verb, what) for verb, what in objects.items()) or "(passed)"


def _verb_text(verb: str, objects: Sequence[str]) -> str:
    """One kind of effect; tags are counted, for there are many and JSON has them all."""
    if verb == "tag" and len(objects) > TAGS_LISTED_MAX:
        return f"{len(objects)} tags"
    return f"{verb} {', '.join(objects)}"


def _answer(sent: Sent) -> str:
    """The reply, without the delivery's id."""
    if _unanswered(sent):
        return "no answer"
    return f"{sent.answer.code} {sent.answer.text.partition(' as ')[0] if sent.answer.accepted else sent.answer.text}"


def _unanswered(sent: Sent) -> bool:
    return sent.answer.code == NO_ANSWER


def _as_sent(place: Place) -> str:
    return f"yes, below {place.added_fields} added field" if place.added_fields else "yes"


def _where(place: Place) -> str:
    return f"{place.user}'s {place.mailbox}, UID {place.uid}"


def _client_us(sent: Iterable[Sent]) -> float:
    seconds = [entry.answer.seconds for entry in sent if entry.answer.accepted]
    return round(median(seconds) * 1e6, 1) if seconds else 0.0


def _median_us(values_ns: Sequence[int]) -> float:
    return round(median(values_ns) / 1000, 2) if values_ns else 0.0


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _us(value: float) -> str:
    return f"{value:,.1f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""
