"""How often one peer may connect and how often it may guess a password; shared by the SMTP and IMAP servers.

Addresses are IPv4 hosts and IPv6 networks of 64 bits: whoever has one IPv6 address has the rest of its network too.
Memory is bounded: the entry that was used longest ago goes first. An entry with open connections stays, and their
number is bounded by the servers. Loopback and Unix sockets are exempt from what counts by address (a proxy or a web
mailer on this machine speaks for many people), not from what counts by account.

Wrong passwords fill a bucket that leaks: beyond a few, each try waits twice as long as the one before; an address whose
bucket is full is refused. An account is never refused for what others tried, only slowed down.
"""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from spinrt import trace
from spinrt.errors import ConfigError

_LOG = trace.component("login")


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """Bounds per address, unless said otherwise.

    Attributes:
        connections_per_address_max: Open connections.
        connects_per_s: Connections over time, and ``connects_burst`` at once.
        login_failures_free: Wrong passwords without any delay.
        login_delay_s: Delay of the first try beyond them; it doubles with each further failure.
        login_delay_max_s: No delay is longer.
        login_failures_max: With so many an address is refused.
        login_forget_s: In this time one failure is forgotten.
        entries_max: Addresses, and accounts, that are remembered.
        exempt_local: Do not count loopback addresses and Unix sockets.
    """

    connections_per_address_max: int = 50
    connects_per_s: float = 5.0
    connects_burst: int = 100
    login_failures_free: int = 3
    login_delay_s: float = 0.5
    login_delay_max_s: float = 10.0
    login_failures_max: int = 20
    login_forget_s: float = 60.0
    entries_max: int = 10_000
    exempt_local: bool = True

    def __post_init__(self) -> None:
        for name in (
            "connections_per_address_max",
            "connects_per_s",
            "connects_burst",
            "login_forget_s",
            "entries_max",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"throttle limit {name} is {getattr(self, name)}, expected more than 0")


class _Bucket:
    """A level that leaks at a steady rate; ``open`` counts what must not be forgotten."""

    __slots__ = ("level", "open", "time_s")

    def __init__(self, time_s: float) -> None:
        self.level = 0.0
        self.open = 0
        self.time_s = time_s

    def leak(self, time_s: float, per_s: float) -> float:
        """Let out what leaked since the last look, and return the level."""
        self.level = max(0.0, self.level - (time_s - self.time_s) * per_s)
        self.time_s = time_s
        return self.level


class Throttle:
    """Counts connections and failed logins. One for all servers of a process, on one event loop.

    Args:
        limits: The bounds.
        clock: Seconds that never go back, as ``time.monotonic``.
    """

    __slots__ = ("_clock", "_failures", "_limits", "_peers")

    def __init__(self, limits: ThrottleLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._peers: OrderedDict[str, _Bucket] = OrderedDict()
        self._failures: OrderedDict[str, _Bucket] = OrderedDict()

    def connect(self, address: str) -> bool:
        """Whether that address may open one more connection now. When true, `disconnect` is due later."""
        limits = self._limits
        if limits.exempt_local and is_local(address):
            return True
        peer = self._bucket(self._peers, _network(address))
        level = peer.leak(self._clock(), limits.connects_per_s)
        if peer.open >= limits.connections_per_address_max or level + 1 > limits.connects_burst:
            return False
        peer.level += 1
        peer.open += 1
        return True

    def disconnect(self, address: str) -> None:
        """One connection that `connect` allowed is closed."""
        if self._limits.exempt_local and is_local(address):
            return
        peer = self._peers.get(_network(address))
        if peer is not None and peer.open > 0:
            peer.open -= 1

    def login_allowed(self, address: str, user: str) -> float | None:
        """Seconds to wait before this login is tried, or none: refuse it without looking at the password."""
        account = self._level(f"user {user}")
        if self._is_exempt(address):
            return self._delay(account)
        peer = self._level(f"peer {_network(address)}")
        if peer >= self._limits.login_failures_max:
            return None
        return self._delay(max(peer, account))

    def login_failed(self, address: str, user: str) -> None:
        """The password was wrong, or there is no such account. One line tells who tried, for those who ban."""
        trace.log(_LOG, logging.WARNING, "failed", peer=address, user=user)
        self._fill(f"user {user}")
        if not self._is_exempt(address):
            self._fill(f"peer {_network(address)}")

    def login_succeeded(self, address: str, user: str) -> None:
        """The password was right: the account starts afresh, the address does not (one account would free the rest)."""
        self._failures.pop(f"user {user}", None)

    def _is_exempt(self, address: str) -> bool:
        return self._limits.exempt_local and is_local(address)

    def _level(self, key: str) -> float:
        bucket = self._failures.get(key)
        return 0.0 if bucket is None else bucket.leak(self._clock(), 1 / self._limits.login_forget_s)

    def _fill(self, key: str) -> None:
        bucket = self._bucket(self._failures, key)
        level = bucket.leak(self._clock(), 1 / self._limits.login_forget_s)
        bucket.level = min(level + 1, self._limits.login_failures_max + 1)

    def _delay(self, failures: float) -> float:
        beyond = int(failures) - self._limits.login_failures_free
        if beyond < 0:
            return 0.0
        return min(self._limits.login_delay_s * 2.0 ** min(beyond, 64), self._limits.login_delay_max_s)

    def _bucket(self, buckets: OrderedDict[str, _Bucket], key: str) -> _Bucket:
        bucket = buckets.get(key)
        if bucket is not None:
            buckets.move_to_end(key)
            return bucket
        if len(buckets) >= self._limits.entries_max:
            _forget_one(buckets)
        bucket = buckets[key] = _Bucket(self._clock())
        return bucket


@lru_cache(maxsize=256)
def is_local(address: str) -> bool:
    """Whether that peer is on this machine: a loopback address, or ``unix``."""
    return address.startswith(("127.", "::ffff:127.")) or address in ("::1", "unix")


def _network(address: str) -> str:
    """What an address counts as: an IPv4 host (mapped into IPv6 or not), or an IPv6 network of 64 bits."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))


def _forget_one(buckets: OrderedDict[str, _Bucket]) -> None:
    """Drop the entry used longest ago that holds no open connection; look at a few, so that the cost is bounded."""
    for key in [key for key, _ in zip(buckets, range(8), strict=False)]:
        if not buckets[key].open:
            del buckets[key]
            return
        buckets.move_to_end(key)
