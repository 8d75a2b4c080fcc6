"""Readers for single values of the configuration: sizes, times, addresses, places to listen.

Each is a function from ``Value`` to what the program uses, or raises ConfigError; those with settings return one.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from spinrt import limits
from spinrt.errors import AddressMalformed
from spinrt.mail.address import Address, normalise_domain, parse_address
from spinrt.mail.config_reader import Read, Section, Value

T = TypeVar("T")

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
_SIZE_UNITS = {"B": 1, "KIB": limits.KIB, "MIB": limits.MIB, "GIB": limits.GIB, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]*")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
PORT_MAX = 65535
_TCP_EXPECTED = 'host:port, such as 127.0.0.1:2525 or "[::1]:2525"'


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A host and port to listen on or to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """The path of a Unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def is_local(self) -> bool:
        return True


Endpoint: TypeAlias = TcpEndpoint | UnixEndpoint


def text(value: Value) -> str:
    return value.scalar("str", "text (in quotes if it looks like a number)")


def truth(value: Value) -> bool:
    return value.scalar("bool", "true or false").lower() in {"true", "yes", "on"}


def integer(low: int, high: int) -> Read[int]:
    """A whole number from ``low`` to ``high``."""

    def read(value: Value) -> int:
        expected = f"a whole number from {low} to {high}"
        digits = value.scalar("int", expected)
        if not digits.lstrip("+-").isascii() or not digits.lstrip("+-").isdigit() or not low <= int(digits) <= high:
            raise value.error(expected)
        return int(digits)

    return read


def size(low: int = 1, high: int = limits.MESSAGE_BYTES_CEILING) -> Read[int]:
    """A number of bytes with its unit: ``5 MiB``, ``500 kB``, ``4096 B``; a bare number is bytes."""
    expected = f"a size from {format_size(low)} to {format_size(high)}, such as 5 MiB or 64 KiB"

    def read(value: Value) -> int:
        amount, unit = _amount(value, expected)
        factor = _SIZE_UNITS.get(unit.upper() or "B")
        if factor is None or not low <= amount * factor <= high:
            raise value.error(expected)
        return int(amount * factor)

    return read


def duration(low_s: float = 0.001, high_s: float = 366 * 86400.0) -> Read[float]:
    """A time with its unit: ``30 s``, ``5 min``, ``2 h``, ``5 d``, ``250 ms``. A unit is due: 30 could be anything."""
    expected = f"a time from {format_duration(low_s)} to {format_duration(high_s)}, such as 30 s, 5 min, 2 h or 5 d"

    def read(value: Value) -> float:
        amount, unit = _amount(value, expected)
        factor = _TIME_UNITS.get(unit)
        if factor is None or not low_s <= amount * factor <= high_s:
            raise value.error(expected)
        return amount * factor

    return read


def _amount(value: Value, expected: str) -> tuple[float, str]:
    match = _AMOUNT.fullmatch(str(value.node.value)) if isinstance(value.node.value, str) else None
    if match is None or not math.isfinite(float(match[1])):
        raise value.error(expected)
    return float(match[1]), match[2]


def number(low: float, high: float) -> Read[float]:
    """A number from ``low`` to ``high``, with or without a fraction."""
    expected = f"a number from {low:g} to {high:g}"

    def read(value: Value) -> float:
        amount, unit = _amount(value, expected)
        if unit or not low <= amount <= high:
            raise value.error(expected)
        return amount

    return read


def format_size(size_bytes: int) -> str:
    """Write a number of bytes as ``size`` reads it, exactly."""
    for unit, factor in (("GiB", limits.GIB), ("MiB", limits.MIB), ("KiB", limits.KIB)):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def format_duration(seconds: float) -> str:
    """Write seconds as ``duration`` reads them, exactly to the millisecond."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def choice(*names: str) -> Read[str]:
    """One of those words."""

    def read(value: Value) -> str:
        found = str(value.node.value)
        if found not in names:
            raise value.error(f"one of {', '.join(names)}")
        return found

    return read


def optional(read: Read[T]) -> Read[T | None]:
    """As ``read``, but an explicit ``null`` is none."""
    return lambda value: None if value.is_null else read(value)


def list_of(read: Read[T]) -> Callable[[Value], tuple[T, ...]]:
    """A list whose members ``read`` understands."""
    return lambda value: tuple(read(member) for member in value.values("a list"))


def path_below(base: Path) -> Read[Path]:
    """A path; a relative one starts at ``base``, where the configuration file is, and ``~`` is the home directory."""

    def read(value: Value) -> Path:
        found = text(value)
        if not found or "\0" in found:
            raise value.error("the path of a file or directory")
        return base / Path(found).expanduser()

    return read


def endpoint(base: Path) -> Read[Endpoint]:
    """``host:port``, ``"[::1]:port"`` or ``unix:path``."""

    def read(value: Value) -> Endpoint:
        found = value.scalar("str", f"{_TCP_EXPECTED}, or unix:path")
        if found.startswith("unix:") and len(found) > len("unix:"):
            return UnixEndpoint(base / found.removeprefix("unix:"))
        return tcp_endpoint(value)

    return read


def tcp_endpoint(value: Value) -> TcpEndpoint:
    """``host:port`` or ``"[::1]:port"``."""
    host, colon, port = value.scalar("str", _TCP_EXPECTED).rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise value.error(_TCP_EXPECTED)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise value.error(_TCP_EXPECTED)
    if not _is_host(host):
        raise value.error(_TCP_EXPECTED)
    return TcpEndpoint(host, int(port))


def host_name(value: Value) -> str:
    """The name or IP address of a machine."""
    found = text(value)
    if not _is_host(found):
        raise value.error("the name or IP address of a machine")
    return found


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            return ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    return _HOST.fullmatch(host) is not None and len(host) <= limits.DOMAIN_BYTES_MAX


def domain(value: Value) -> str:
    """A mail domain, in the form that addresses are compared by."""
    found = normalise_domain(text(value))
    if not _is_host(found) or ":" in found:
        raise value.error("a mail domain, such as example.org")
    return found


def address(value: Value) -> Address:
    """A mail address, in the form that addresses are compared by."""
    try:
        return parse_address(text(value)).normalised()
    except AddressMalformed:
        raise value.error("a mail address, such as alice@example.org") from None


def is_user_name(name: str) -> bool:
    """Whether an account may be called so: a lower-case letter or digit, then these and ``. _ - @``."""
    return _USER_NAME.fullmatch(name) is not None and len(name) <= limits.USER_NAME_BYTES_MAX


def bounds(section: Section, defaults: T, *, apart: Iterable[str] = ()) -> T:
    """Read a dataclass of bounds, each field from the key of its name, starting from ``defaults``.

    A field's name tells its unit: ``…_bytes_max`` and the like are sizes, ``…_s`` and ``…_s_max`` are times
    (the key goes without ``_s``), ``…_per_s`` are rates. Other integers count something and are at least 1.

    Args:
        section: Where the keys are.
        defaults: An instance of the dataclass.
        apart: Fields that the caller reads by itself.
    """
    found: dict[str, Any] = {}
    for item in fields(defaults):  # type: ignore[arg-type]
        if item.name not in apart:
            default = getattr(defaults, item.name)
            found[item.name] = section.get(bounds_key(item.name), _bound(item.name, default), default)
    return replace(defaults, **found)  # type: ignore[type-var]


def bounds_key(name: str) -> str:
    """The configuration's key for a field of a dataclass of bounds."""
    return name.replace("_s_max", "_max").removesuffix("_s") if is_time(name) else name


def is_time(name: str) -> bool:
    """Whether a bound of that name is in seconds."""
    return name.endswith(("_s", "_s_max")) and not name.endswith("_per_s")


def _bound(name: str, default: object) -> Read[Any]:
    if isinstance(default, bool):
        return truth
    if name.endswith("_per_s"):
        return number(0.001, 1e9)
    if is_time(name):
        return duration()
    if "_bytes_" in name or name.endswith("_bytes"):
        return size()
    return integer(1, 2**31 - 1)
