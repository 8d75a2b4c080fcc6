"""``spinrt:clock``: time and chance come from the runtime, so that they can be recorded and injected."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from spinrt._core import Call
from spinrt.errors import QuotaExceeded
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain

RANDOM_BYTES_MAX = 4096


class ClockInterface(HostInterface):
    """``spinrt:clock/clock``, from two injected clocks in nanoseconds."""

    interface_id = "spinrt:clock/clock@1.0.0"
    pure = ("now", "monotonic")

    def __init__(self, now: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self._clocks = {"now": now, "monotonic": monotonic}

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        clock = self._clocks[function]
        return lambda call: clock()


class RandomInterface(HostInterface):
    """``spinrt:clock/random``, from an injected source."""

    interface_id = "spinrt:clock/random@1.0.0"

    def __init__(self, source: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._source = source

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        def random_bytes(call: Call | None, length: int) -> bytes:
            if length > RANDOM_BYTES_MAX:
                raise QuotaExceeded(f"random bytes: found a wish for {length}, expected at most {RANDOM_BYTES_MAX}")
            return self._source(length)

        return random_bytes
