"""Throttling by address and account, with a clock of its own."""

from __future__ import annotations

import pytest

from spinrt.errors import ConfigError
from spinrt.mail.throttle import Throttle, ThrottleLimits

PEER = "192.0.2.1"


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_open_connections_are_bounded(clock: Clock) -> None:
    """A closed one makes room; another address has its own count."""
    throttle = Throttle(ThrottleLimits(connections_per_address_max=2), clock)
    assert [throttle.connect(PEER) for _ in range(3)] == [True, True, False]
    assert throttle.connect("192.0.2.2")
    throttle.disconnect(PEER)
    assert [throttle.connect(PEER), throttle.connect(PEER)] == [True, False]


def test_rate_of_connections_is_bounded(clock: Clock) -> None:
    """A burst, then so many a second."""
    throttle = Throttle(ThrottleLimits(connects_per_s=2.0, connects_burst=3), clock)

    def connect() -> bool:
        allowed = throttle.connect(PEER)
        if allowed:
            throttle.disconnect(PEER)
        return allowed

    assert [connect() for _ in range(4)] == [True, True, True, False]
    clock.now += 1.0
    assert [connect() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "unix"])
def test_this_machine_is_exempt(clock: Clock, address: str) -> None:
    """Unless told otherwise."""
    throttle = Throttle(ThrottleLimits(connections_per_address_max=1), clock)
    assert throttle.connect(address) and throttle.connect(address)
    strict = Throttle(ThrottleLimits(connections_per_address_max=1, exempt_local=False), clock)
    assert [strict.connect(address), strict.connect(address)] == [True, False]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_count_by_network(clock: Clock, first: str, second: str, same: bool) -> None:
    """An IPv6 host has its whole network of 64 bits."""
    throttle = Throttle(ThrottleLimits(connections_per_address_max=1), clock)
    assert throttle.connect(first)
    assert throttle.connect(second) is not same


def test_logins_slow_down_and_are_refused(clock: Clock) -> None:
    """Free tries, doubling delays up to a bound, refusal; forgotten in time."""
    limits = ThrottleLimits(
        login_failures_free=2, login_delay_s=1.0, login_delay_max_s=3.0, login_failures_max=6, login_forget_s=10.0
    )
    throttle = Throttle(limits, clock)
    delays = []
    for _ in range(7):
        delays.append(throttle.login_allowed(PEER, "user"))
        throttle.login_failed(PEER, "user")
    assert delays == [0.0, 0.0, 1.0, 2.0, 3.0, 3.0, None]
    clock.now += 45.0
    assert throttle.login_allowed(PEER, "user") == 1.0
    clock.now += 1000.0
    assert throttle.login_allowed(PEER, "user") == 0.0


def test_success_frees_account_but_not_address(clock: Clock) -> None:
    """Who guesses many accounts does not start afresh by logging in to one of its own."""
    throttle = Throttle(ThrottleLimits(login_failures_free=1, login_failures_max=3), clock)
    for user in ("a", "b", "c"):
        throttle.login_failed(PEER, user)
    throttle.login_succeeded(PEER, "own")
    assert throttle.login_allowed(PEER, "own") is None
    assert throttle.login_allowed("192.0.2.9", "a") == 0.5
    throttle.login_succeeded("192.0.2.9", "a")
    assert throttle.login_allowed("192.0.2.9", "a") == 0.0


def test_account_is_never_refused_for_others(clock: Clock) -> None:
    """Failures from elsewhere only slow it down."""
    throttle = Throttle(ThrottleLimits(login_failures_max=3, login_delay_max_s=4.0), clock)
    for index in range(100):
        throttle.login_failed(f"192.0.2.{index}", "user")
    assert throttle.login_allowed("198.51.100.1", "user") == 1.0


def test_login_from_this_machine_is_only_slowed_down(clock: Clock) -> None:
    """A web mailer speaks for everybody."""
    throttle = Throttle(ThrottleLimits(login_failures_free=1, login_failures_max=2), clock)
    for _ in range(10):
        throttle.login_failed("127.0.0.1", "user")
    assert throttle.login_allowed("127.0.0.1", "user") == 2.0
    assert throttle.login_allowed("127.0.0.1", "other") == 0.0


def test_memory_is_bounded(clock: Clock) -> None:
    """What was used longest ago goes; who is connected stays counted."""
    throttle = Throttle(ThrottleLimits(entries_max=10, connections_per_address_max=1), clock)
    assert throttle.connect(PEER)
    for index in range(1000):
        other = f"198.51.{index // 250}.{index % 250}"
        assert throttle.connect(other)
        throttle.disconnect(other)
        throttle.login_failed(other, f"user{index}")
    assert len(throttle._peers) == len(throttle._failures) == 10
    assert throttle.connect(PEER) is False


def test_limits_are_checked() -> None:
    """A bound of nothing is a mistake."""
    with pytest.raises(ConfigError, match="connects_per_s"):
        ThrottleLimits(connects_per_s=0)


def test_failed_login_leaves_a_line_that_says_who(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Peer and account, for those who ban by the log."""
    throttle = Throttle(ThrottleLimits(), clock)
    with caplog.at_level("WARNING", "spinrt.login"):
        throttle.login_failed("192.0.2.7", "alice")
    assert [record.__dict__["fields"] for record in caplog.records] == [{"peer": "192.0.2.7", "user": "alice"}]
