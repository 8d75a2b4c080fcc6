"""Mail end to end: acceptance by SMTP beside aiosmtpd, commands over IMAP beside Dovecot, time in extensions.

docs/benchmarks.md says what each row and target means. Peers come by ``benchmarks/install-peers`` and ``make setup``;
one that is missing leaves its target without a value.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.harness import Options, Result, Row, Target, main, progress, ratio
from benchmarks.mail import extensions, imap, smtp
from benchmarks.mail.extensions import ExtensionsFound
from benchmarks.mail.imap import DOVECOT, FETCH, LARGE, NOOP, SMALL, STORE, ImapFound
from benchmarks.mail.messages import MESSAGE_BYTES
from benchmarks.mail.smtp import CLIENTS, SmtpFound, subject_name

NO_AIOSMTPD = "aiosmtpd is not installed; `make setup` installs it"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    smtp: smtp.Scale
    imap: imap.Scale
    extension_messages: int
    extension_rounds: int


def full() -> Scale:
    """A few minutes."""
    return Scale(
        smtp.Scale(messages=3000, rounds=9, loops=smtp.event_loops()),
        imap.Scale(small=1000, large=20_000, commands={NOOP: 2000, FETCH: 1000, STORE: 100}, rounds=15),
        extension_messages=2000,
        extension_rounds=9,
    )


def quick() -> Scale:
    """Within 60 s; the mailboxes keep their sizes, which targets name."""
    return Scale(
        smtp.Scale(messages=1000, rounds=3, loops=smtp.event_loops()[:1]),
        imap.Scale(small=1000, large=20_000, commands={NOOP: 500, FETCH: 300, STORE: 50}, rounds=5),
        extension_messages=500,
        extension_rounds=3,
    )


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale."""
    return measure(quick() if options.quick else full())


def measure(scale: Scale) -> Result:
    """Run the three parts one after the other, in a directory that is gone afterwards."""
    loop = smtp.event_loops()[0]
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # Dovecot runs as another user when root runs the benchmark
        progress("mail, part 1 of 3: messages accepted by SMTP")
        accepted = smtp.measure(directory, scale.smtp)
        progress("mail, part 2 of 3: time in extensions")
        extended = extensions.measure(
            directory / "extensions", scale.extension_messages, scale.extension_rounds, loop=loop
        )
        progress("mail, part 3 of 3: commands over IMAP")
        answered = imap.measure(directory / "imap", scale.imap, loop=loop)
    return report(scale, loop, accepted, extended, answered)


def report(scale: Scale, loop: str, accepted: SmtpFound, extended: ExtensionsFound, answered: ImapFound) -> Result:
    """Put rows, targets and what a reader must know together."""
    rows = [
        *_smtp_rows(scale, accepted, loop),
        *_extension_rows(scale, extended),
        *_imap_rows(scale, answered),
    ]
    targets = [
        _smtp_target(accepted, loop),
        *_imap_targets(answered),
        _extensions_target(accepted, extended, loop),
    ]
    return Result(rows, targets, _notes(accepted, answered, loop))


# ----------------------------------------------------------------------------------------------------------------- rows


def _smtp_rows(scale: Scale, found: SmtpFound, loop: str) -> list[Row]:
    params = {"clients": CLIENTS, "bytes": MESSAGE_BYTES, "messages": scale.smtp.messages}
    rows = [Row.of(name, rates, "messages/s", params) for name, rates in found.rates.items()]
    rows += [Row.of(f"{name}_cpu", _micro(taken), "us/message", params) for name, taken in found.cpu_s.items()]
    peer = found.rates.get(subject_name("aiosmtpd", loop))
    for pipelining in (False, True) if peer else ():
        name = subject_name("spinrt", loop, pipelining=pipelining)
        ratios = [above / below for above, below in zip(found.rates[name], peer or (), strict=True)]
        rows.append(Row.of(f"{name}_over_aiosmtpd", ratios, "x"))
    return rows


def _extension_rows(scale: Scale, found: ExtensionsFound) -> list[Row]:
    params = {"bytes": MESSAGE_BYTES, "messages": scale.extension_messages}
    named = {"extensions_three": found.together} | {f"extension_{name}": found.each[name] for name in found.each}
    return [Row.of(name, _micro(seconds), "us/message", params) for name, seconds in named.items()]


def _imap_rows(scale: Scale, found: ImapFound) -> list[Row]:
    sizes = {SMALL: scale.imap.small, LARGE: scale.imap.large, DOVECOT: scale.imap.large}
    servers = {SMALL: "spinrt", LARGE: "spinrt", DOVECOT: "dovecot"}
    return [
        Row.of(
            f"imap_{command}_{servers[place]}",
            _micro(seconds),
            "us",
            {"mailbox": sizes[place], "commands": scale.imap.commands[command]},
        )
        for command, places in found.seconds.items()
        for place, seconds in places.items()
    ]


def _micro(seconds: Sequence[float]) -> list[float]:
    return [one * 1e6 for one in seconds]


# -------------------------------------------------------------------------------------------------------------- targets


def _smtp_target(found: SmtpFound, loop: str) -> Target:
    """Rates of the same rounds against each other, the same dialogue for both."""
    name, limit = "smtp_over_aiosmtpd", 3.0
    peer = found.rates.get(subject_name("aiosmtpd", loop))
    if peer is None:
        return Target(name, None, ">=", limit, NO_AIOSMTPD)
    return Target(name, ratio(found.rates[subject_name("spinrt", loop)], peer), ">=", limit)


def _imap_targets(found: ImapFound) -> list[Target]:
    grown = [
        Target(f"imap_{command}_20k_over_1k", ratio(places[LARGE], places[SMALL]), "<=", 1.5)
        for command, places in found.seconds.items()
    ]
    return grown + [_dovecot_target(command, found.seconds[command], found) for command in (NOOP, FETCH)]


def _dovecot_target(command: str, places: Mapping[str, Sequence[float]], found: ImapFound) -> Target:
    name, limit = f"imap_{command}_over_dovecot", 2.0
    if DOVECOT not in places:
        return Target(name, None, "<=", limit, found.dovecot_missing)
    return Target(name, ratio(places[LARGE], places[DOVECOT]), "<=", limit)


def _extensions_target(accepted: SmtpFound, extended: ExtensionsFound, loop: str) -> Target:
    """Medians against each other: the two were not measured in the same rounds."""
    name, limit = "three_extensions_over_aiosmtpd_message", 0.05
    rates = accepted.rates.get(subject_name("aiosmtpd", loop))
    if rates is None:
        return Target(name, None, "<=", limit, NO_AIOSMTPD)
    return Target(name, median(extended.together) * median(rates), "<=", limit)


def _notes(accepted: SmtpFound, answered: ImapFound, loop: str) -> list[str]:
    beside = f"Dovecot {answered.dovecot_version}" if answered.dovecot_version else "no Dovecot"
    return [
        f"smtp_over_aiosmtpd: both under {loop}, the same dialogue without pipelining for both.",
        f"Arrived: all {accepted.messages:,} messages that spinrt accepted, counted over IMAP.",
        f"IMAP beside {beside}; mailboxes filled through the store and as a Maildir; STORE is durable in spinrt.",
    ]


if __name__ == "__main__":
    sys.exit(main("mail", benchmark))
