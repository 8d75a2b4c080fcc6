"""The mail benchmark runs from end to end, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_mail
from benchmarks.bench_mail import NO_AIOSMTPD, Scale, measure, report
from benchmarks.harness import Result, as_json
from benchmarks.mail import imap, smtp
from benchmarks.mail.extensions import EXTENSIONS, ExtensionsFound
from benchmarks.mail.imap import DOVECOT, FETCH, LARGE, NOOP, SMALL, STORE, ImapFound
from benchmarks.mail.messages import messages
from benchmarks.mail.smtp import SmtpFound
from benchmarks.peers.process import PeerFailed, ServerProcess, free_port

TARGETS = {
    "smtp_over_aiosmtpd": (">=", 3),
    "imap_noop_20k_over_1k": ("<=", 1.5),
    "imap_fetch_20k_over_1k": ("<=", 1.5),
    "imap_store_20k_over_1k": ("<=", 1.5),
    "imap_noop_over_dovecot": ("<=", 2),
    "imap_fetch_over_dovecot": ("<=", 2),
    "three_extensions_over_aiosmtpd_message": ("<=", 0.05),
}
TINY = Scale(
    smtp.Scale(messages=20, rounds=1, loops=smtp.event_loops()[:1]),
    imap.Scale(small=5, large=20, commands={NOOP: 4, FETCH: 4, STORE: 4}, rounds=2),
    extension_messages=10,
    extension_rounds=1,
)


def stated(result: Result) -> dict[str, tuple[str, float]]:
    return {target.name: (target.relation, target.limit) for target in result.targets}


def found(dovecot: float | None = 4.0, aiosmtpd: float | None = 100.0) -> Result:
    """A report made from numbers that a reader can check by hand."""
    rates = {"smtp_spinrt_uvloop": [300.0, 600.0], "smtp_spinrt_uvloop_pipelining": [900.0, 900.0]}
    if aiosmtpd is not None:
        rates["smtp_aiosmtpd_uvloop"] = [aiosmtpd, aiosmtpd]
    places = {SMALL: [10.0, 10.0], LARGE: [12.0, 12.0]} | ({} if dovecot is None else {DOVECOT: [dovecot, dovecot]})
    return report(
        TINY,
        "uvloop",
        SmtpFound(rates, {name: [0.0005] for name in rates}, 80),
        ExtensionsFound([0.0002, 0.0004], {name: [0.0001, 0.0001] for name in EXTENSIONS}),
        ImapFound(dict.fromkeys((NOOP, FETCH, STORE), places), "", "" if dovecot else "no Dovecot here"),
    )


def test_whole_benchmark_runs_and_measures_every_row() -> None:
    """Servers start, every message arrives, mailboxes give back what was put in, and all that is stated is judged."""
    result = measure(TINY)
    assert stated(result) == TARGETS
    assert all(0 < row.low <= row.median <= row.high for row in result.rows)
    names = {row.name for row in result.rows}
    assert {"extensions_three", "imap_noop_spinrt", "imap_fetch_spinrt", "imap_store_spinrt"} <= names
    assert {f"extension_{name}" for name in EXTENSIONS} <= names


def test_targets_are_the_stated_ones_and_their_values_follow_from_the_rounds() -> None:
    """Ratios are medians of paired rounds; time in extensions is divided by the time of one message of aiosmtpd."""
    result = found()
    assert stated(result) == TARGETS
    values = {target.name: target.value for target in result.targets}
    assert values["smtp_over_aiosmtpd"] == pytest.approx(4.5)
    assert values["imap_noop_20k_over_1k"] == pytest.approx(1.2)
    assert values["imap_fetch_over_dovecot"] == pytest.approx(3.0)
    assert values["three_extensions_over_aiosmtpd_message"] == pytest.approx(0.03)
    assert {target.name: target.met for target in result.targets}["imap_fetch_over_dovecot"] is False


def test_peers_that_are_missing_leave_their_targets_without_value_and_say_why() -> None:
    """Without Dovecot and aiosmtpd, JSON has null and a reason for their targets, and values for all others."""
    targets = {one["name"]: one for one in as_json("mail", "test", found(dovecot=None, aiosmtpd=None))["targets"]}
    missing = {name: target["reason"] for name, target in targets.items() if target["value"] is None}
    assert missing == {
        "smtp_over_aiosmtpd": NO_AIOSMTPD,
        "imap_noop_over_dovecot": "no Dovecot here",
        "imap_fetch_over_dovecot": "no Dovecot here",
        "three_extensions_over_aiosmtpd_message": NO_AIOSMTPD,
    }
    assert all(target["met"] is None for name, target in targets.items() if name in missing)


def test_quick_and_full_scale_keep_the_sizes_that_targets_name() -> None:
    """20k and 1k in a target's name are the sizes of the mailboxes, also when it has to be quick."""
    for scale in (bench_mail.quick(), bench_mail.full()):
        assert (scale.imap.small, scale.imap.large) == (1000, 20_000)


def test_messages_have_their_size_and_none_is_like_another() -> None:
    """What mailboxes are filled with: exact sizes, CRLF only, lines that IMAP and SMTP allow."""
    made = list(messages(50, 4096))
    assert len(set(made)) == 50
    assert {len(one) for one in made} == {4096}
    assert all(b"\n" not in one.replace(b"\r\n", b"") for one in made)
    assert max(len(line) for line in made[0].split(b"\r\n")) < 998


def test_server_that_does_not_start_is_named_with_what_it_said(tmp_path: Path) -> None:
    """A process that ends before its port answers gives its code and the end of its output."""
    server = ServerProcess("broken", ["/bin/sh", "-c", "echo no such thing; exit 3"], tmp_path, [free_port()])
    with pytest.raises(PeerFailed, match="broken: ended with code 3 while it started: no such thing"), server:
        pass
