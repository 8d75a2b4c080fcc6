"""The audit extension writes one record for each message and counts in its own memory."""

from __future__ import annotations

from tests.extensions.support import EVENTS, Bench, FakeMessage, outcome, receipt

FILED = f"{EVENTS}#filed"


def test_record_says_what_became_of_each_recipient() -> None:
    """Facts of the transaction, one outcome for each recipient, then the totals."""
    bench = Bench()
    bench.load("audit")

    bench.raise_(
        FILED,
        receipt(
            outcome(mailboxes=["INBOX", "Archive"], flags=["$Label"]),
            outcome(recipient="eve@example.org", mailboxes=[], refused=550),
            outcome(recipient="dev@example.org", mailboxes=[]),
            size=2**40,
        ),
        FakeMessage([]),
    )

    (record,) = bench.records
    assert (record.extension, record.level, record.event) == ("audit", "info", "delivery")
    assert record.fields == (
        ("delivery", "d1"),
        ("protocol", "lmtp"),
        ("peer", "192.0.2.1"),
        ("sender", "joe@example.net"),
        ("size", str(2**40)),
        ("recipients", "3"),
        ("outcome", "bob@example.org filed INBOX, Archive flags $Label"),
        ("outcome", "eve@example.org refused 550"),
        ("outcome", "dev@example.org discarded"),
        ("total-messages", "1"),
        ("total-bytes", str(2**40)),
        ("total-recipients", "3"),
        ("total-filed", "1"),
        ("total-refused", "1"),
        ("total-discarded", "1"),
    )


def test_counters_last_from_message_to_message() -> None:
    """They live in the instance's memory."""
    bench = Bench()
    bench.load("audit")

    for _ in range(100):
        bench.raise_(FILED, receipt(outcome(), outcome()), FakeMessage([]))

    assert dict(bench.records[-1].fields)["total-messages"] == "100"
    assert dict(bench.records[-1].fields)["total-filed"] == "200"


def test_many_and_long_outcomes_stay_inside_the_record() -> None:
    """What does not fit is cut at a character, or counted."""
    bench = Bench()
    bench.load("audit")
    long = "ü" * 3000

    bench.raise_(FILED, receipt(*[outcome(recipient=long, mailboxes=[long] * 5)] * 100, sender=long), FakeMessage([]))

    (record,) = bench.records
    fields = dict(record.fields)
    assert fields["sender"] == "ü" * 500
    assert sum(name == "outcome" for name, _ in record.fields) == 40 and fields["outcomes-left-out"] == "60"
    assert all(len(value.encode()) <= 1000 for _, value in record.fields)
