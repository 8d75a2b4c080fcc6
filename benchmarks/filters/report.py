"""Rows, target, and what a reader must know to judge the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from benchmarks.filters.benchmark import (
    ADDED,
    ADDED_CPU,
    ADDED_DELIVERY,
    CPU,
    CPU_OVER,
    DELIVERY,
    LATENCY,
    ONE_MILTER,
    OVER,
    RATE,
    THREE,
    Found,
    Measured,
)
from benchmarks.filters.fronts import NO_FILTER, SESSIONS, Key
from benchmarks.harness import Options, Result, Row, Target
from benchmarks.selection import Selection
from benchmarks.stats import median_interval

TARGET: Final = "milter_over_three_extensions"
TARGET_MIN: Final = 20.0
EACH: Final = "us/message"


def report(found: Found, options: Options) -> Result:
    """Put it together; nothing is measured here. Rows that are not wanted are left out."""
    unsure: dict[str, str] = {}
    rows = [*_front_rows(found), *_delivery_rows(found), *_ratio_rows(found, options.only, unsure)]
    wanted = [_with_command(row, options) for row in rows if options.only.takes(row.name, row.params)]
    targets = [] if options.only.wanted else [_target(found)]
    return Result(wanted, targets, _notes(found), skipped={**found.skipped, **unsure})


# ----------------------------------------------------------------------------------------------------------------- rows


def _front_rows(found: Found) -> Iterator[Row]:
    for key, rounds in found.fronts.items():
        one, many = {**key.params, "sessions": 1}, {**key.params, "sessions": SESSIONS}
        yield Row.of_samples(LATENCY, [_micro(one.latencies_s) for one in rounds], EACH, one)
        yield Row.of(RATE, [one.rate for one in rounds], "messages/s", many)
        yield Row.of(CPU, _micro([one.cpu_s for one in rounds]), EACH, many)
        if key.form != NO_FILTER and key.base in found.fronts:
            yield Row.of(ADDED, _micro(_added(found, key, _latency_s)), EACH, one)
            yield Row.of(ADDED_CPU, _micro(_added(found, key, _cpu_s)), EACH, many)


def _delivery_rows(found: Found) -> Iterator[Row]:
    for count, taken_ns in found.delivery_ns.items():
        params = (replace_filters(THREE, count) if count else THREE.base).params
        yield Row.of(DELIVERY, [one / 1e3 for one in taken_ns], EACH, params)
        if count:
            yield Row.of(ADDED_DELIVERY, [one / 1e3 for one in _added_delivery_ns(found, count)], EACH, params)


def _ratio_rows(found: Found, only: Selection, unsure: dict[str, str]) -> Iterator[Row]:
    """What one filter adds elsewhere, beside what three extensions add in spinrt; ``unsure`` gets why one is not."""
    delivery_s = [one / 1e9 for one in _added_delivery_ns(found, THREE.filters)] if found.delivery_ns else []
    cpu_s = _added(found, THREE, _cpu_s) if {THREE, THREE.base} <= found.fronts.keys() else []
    for key in found.fronts:
        if key.server == THREE.server or key.filters != 1 or key.base not in found.fronts:
            continue
        for name, value, three_s in ((OVER, _latency_s, delivery_s), (CPU_OVER, _cpu_s, cpu_s)):
            added_s = _added(found, key, value)
            if not three_s or not only.takes(name, key.params):
                continue
            if why := _why_unsure({key: added_s, THREE: three_s}):
                unsure[f"{name} {key.name}"] = why
            else:
                yield Row.of(name, [one / median(three_s) for one in added_s], "x", key.params)


def _why_unsure(added_s: Mapping[Key, Sequence[float]]) -> str:
    """Which of these differences may as well be nothing: a ratio of it would be a number without a meaning."""
    for key, values in added_s.items():
        interval = median_interval(values)
        if interval.low <= 0:
            low, high = _micro((interval.low, interval.high))
            return f"what {key.name} adds cannot be told from 0: {low:,.0f} to {high:,.0f} {EACH}"
    return ""


def replace_filters(key: Key, filters: int) -> Key:
    """The same with so many filters."""
    return key._replace(filters=filters)


def _added(found: Found, key: Key, value: Callable[[Measured], float]) -> list[float]:
    """What the filters of a front add, round by round."""
    pairs = zip(found.fronts[key], found.fronts[key.base], strict=True)
    return [value(above) - value(below) for above, below in pairs]


def _latency_s(measured: Measured) -> float:
    return median(measured.latencies_s)


def _cpu_s(measured: Measured) -> float:
    return measured.cpu_s


def _added_delivery_ns(found: Found, filters: int) -> list[float]:
    """What so many extensions add to a delivery, round by round."""
    return [above - below for above, below in zip(found.delivery_ns[filters], found.delivery_ns[0], strict=True)]


def _three_extensions_s(found: Found) -> float:
    """What three extensions add to a delivery; 0 when it was not measured."""
    return median(_added_delivery_ns(found, THREE.filters)) / 1e9 if found.delivery_ns else 0.0


def _micro(seconds: Sequence[float]) -> list[float]:
    return [one * 1e6 for one in seconds]


def _with_command(row: Row, options: Options) -> Row:
    wanted = " ".join([row.name, *(f"{name}={value}" for name, value in row.params.items())])
    words = ["spinrt", "bench", "filters", *(["--quick"] if options.quick else []), "--only", wanted]
    words += ["--mail", str(options.mail)] if options.mail else []
    return replace(row, command=shlex.join(words))


# -------------------------------------------------------------------------------------------------- target and notes


def _target(found: Found) -> Target:
    """Medians against each other: the two were not measured in the same rounds."""
    if ONE_MILTER not in found.fronts:
        return Target(TARGET, None, ">=", TARGET_MIN, _reason(found.skipped, ONE_MILTER))
    value = median(_added(found, ONE_MILTER, _latency_s)) / _three_extensions_s(found)
    return Target(TARGET, value, ">=", TARGET_MIN)


def _reason(skipped: Mapping[str, str], key: Key) -> str:
    return skipped.get(key.server) or skipped.get(f"{key.server}/{key.form}") or f"{key.name} was not measured"


def _notes(found: Found) -> list[str]:
    chosen = found.messages
    notes = [
        f"Filters: {len(chosen.contents)} messages of {chosen.mean_bytes:,} bytes and {chosen.mean_fields:.1f} header "
        f"fields on average, {sum(chosen.suspects)} of them suspect to the filter, over and over; {chosen.left_out} of "
        "the source are left out, because not every server takes them.",
    ]
    if found.sent:
        notes.append(f"All {found.sent:,} messages arrived, and every filter saw every message that was for it.")
    if found.versions:
        notes.append(f"Beside {', '.join(f'{name} {version}' for name, version in found.versions.items())}.")
    if {ONE_MILTER, ONE_MILTER.base, THREE, THREE.base} <= found.fronts.keys():
        milter, extensions = (median(_added(found, key, _cpu_s)) * 1e6 for key in (ONE_MILTER, THREE))
        notes.append(
            f"In processor time, at {SESSIONS} sessions, one noop-milter adds {milter:,.0f} us to a message, three "
            f"extensions {extensions:,.0f} us; the target is about latency."
        )
    return [
        *notes,
        "spinrt and Postfix sync each message before they accept it, aiosmtpd keeps nothing: compare what filters add, "
        "not servers.",
        "noop-milter asks for every callback and does nothing; milter and pymilter ask for what the filter needs, and "
        "send no reply to header fields. A policy service sees the envelope only.",
    ]
