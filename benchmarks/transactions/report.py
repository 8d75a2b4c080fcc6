"""Rows, targets and notes of the benchmark of transactions, from what its parts found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Final

from benchmarks.harness import Result, Row, Target, ratio
from benchmarks.timing import key_of
from benchmarks.transactions import alternatives, faults, instrumenting, layouts, nulls
from benchmarks.transactions.bystanders import BystandersFound
from benchmarks.transactions.guests import KERNEL_NAMES, LOG, PLAIN
from benchmarks.transactions.kernels import KERNEL
from benchmarks.transactions.mail import MailFound
from benchmarks.transactions.nulls import ENGINE, NULL

NULL_JUDGED: Final = "nothing"
BYSTANDER_JUDGED: Final = "header-parse"
YES_NO: Final = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Found:
    """What the parts measured.

    Attributes:
        times: `Subject.key` → nanoseconds of each round.
        modules: What was rewritten, by name.
        hashes: Kernel → hash of what it produces.
        log_bytes: Kernel → bytes that one call leaves in the undo log.
    """

    times: Mapping[str, Sequence[float]]
    modules: Mapping[str, bytes]
    hashes: Mapping[str, str]
    log_bytes: Mapping[str, int]
    bystanders: BystandersFound
    mail: MailFound


class Report:
    """What is computed of them."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def result(self) -> Result:
        rows = [
            *self._null_rows(),
            *self._kernel_rows(),
            *self._alternative_rows(),
            *self._fault_rows(),
            *self._bystander_rows(),
            *self._mail_rows(),
            *self._instrument_rows(),
        ]
        return Result(rows, self._targets(), self._notes())

    # ------------------------------------------------------------------------------------------------------------ rows

    def _null_rows(self) -> list[Row]:
        rows = [Row.of(ENGINE, self._of(ENGINE), "ns")]
        for function in nulls.FUNCTIONS:
            for log in (PLAIN, LOG):
                rows.append(
                    Row.of(
                        NULL,
                        layouts.medians(self._found.times, NULL, function, log),
                        "ns",
                        {"function": function, "log": log},
                    )
                )
            rows.append(Row.of("null_over_plain", self._over_plain(NULL, function), "x", {"function": function}))
        return rows

    def _kernel_rows(self) -> list[Row]:
        rows = []
        for function in KERNEL_NAMES:
            named = {"function": function}
            for log in (PLAIN, LOG):
                params = named | {"output": self._found.hashes[function], "log": log}
                rows.append(Row.of(KERNEL, layouts.medians(self._found.times, KERNEL, function, log), "ns", params))
            rows.append(Row.of("kernel_over_plain", self._over_plain(KERNEL, function), "x", named))
            rows.append(Row.of("kernel_log_bytes", [self._found.log_bytes[function]], "bytes", named))
            for log in (PLAIN, LOG):
                spread = layouts.spread(self._found.times, KERNEL, function, log)
                rows.append(Row.of("layout_spread", spread, "x", named | {"log": log}))
        return rows

    def _alternative_rows(self) -> list[Row]:
        copies = [alternatives.copy_params(pages) for pages in alternatives.MEMORIES]
        fresh = [alternatives.fresh_params(name) for name in alternatives.FRESH_MODULES]
        return [
            Row.of(name, self._of(name, params), "ns", params)
            for name, cases in ((alternatives.COPY, copies), (alternatives.FRESH, fresh))
            for params in cases
        ]

    def _fault_rows(self) -> list[Row]:
        rows = [
            Row.of(faults.FAULT, self._of(faults.FAULT, faults.params(words)), "ns", faults.params(words))
            for words in faults.WORDS
        ]
        for (few, many), values in faults.slopes(self._found.times).items():
            rows.append(Row.of(faults.SLOPE, values, "ns/byte", {"from": few, "to": many}))
        small = faults.params(faults.WORDS[0])
        rows.append(Row.of(faults.FAULT_WITHOUT_LOG, self._of(faults.FAULT_WITHOUT_LOG, small), "ns", small))
        return rows

    def _bystander_rows(self) -> list[Row]:
        found = self._found.bystanders
        rows = []
        for name, table in (("bystander_median", found.medians), ("bystander_p99", found.p99s)):
            for (function, noisy), values in table.items():
                params = {"function": function, "faults": YES_NO[noisy]}
                rows.append(Row.of(name, [ns / 1e3 for ns in values], "us", params))
        return [*rows, Row.of("bystander_faults", [found.faults_per_second], "faults/s")]

    def _mail_rows(self) -> list[Row]:
        found = self._found.mail
        return [
            *(Row.of("mail_delivery", found.deliveries[log], "ns", {"log": log}) for log in (PLAIN, LOG)),
            Row.of("mail_transaction", found.per_call(), "ns/call", {"calls": found.calls}),
            Row.of("mail_message", found.messages, "ns"),
        ]

    def _instrument_rows(self) -> list[Row]:
        return [
            Row.of(instrumenting.INSTRUMENT, values, "MB/s", instrumenting.params(name, self._found.modules[name]))
            for name, values in self._rates.items()
        ]

    # --------------------------------------------------------------------------------------------------------- targets

    def _targets(self) -> list[Target]:
        """What issue 4 demands."""
        fault = self._of(faults.FAULT, faults.params(faults.WORDS[0]))
        p99s = self._found.bystanders.p99s
        kernels = self._kernel_ratios
        return [
            Target("null_over_plain", median(self._over_plain(NULL, NULL_JUDGED)), "<=", 1.2),
            Target("kernels_median_over_plain", median(kernels.values()), "<=", 1.25),
            Target("kernels_worst_over_plain", max(kernels.values()), "<=", 2.0),
            Target("mail_share", self._mail_share(), "<=", 0.01),
            Target("fault_over_engine", ratio(fault, self._of(ENGINE)), "<=", 150),
            Target(
                "bystander_p99_over_quiet",
                ratio(p99s[BYSTANDER_JUDGED, True], p99s[BYSTANDER_JUDGED, False]),
                "<=",
                1.5,
            ),
            Target("instrument_mb_per_s", min(median(values) for values in self._rates.values()), ">=", 5),
        ]

    def _mail_share(self) -> float:
        found = self._found.mail
        return median(found.per_call()) * found.calls / median(found.messages)

    def _notes(self) -> list[str]:
        kernels = self._kernel_ratios
        worst = max(kernels, key=kernels.__getitem__)
        slowest = min(self._rates, key=lambda name: median(self._rates[name]))
        found = self._found
        return [
            f"The worst kernel is {worst}: {kernels[worst]:.2f} times as long with an undo log as without.",
            "Kernels and null handlers: in each round the median over several layouts; deadlines are on, log or not.",
            f"Each message makes {found.mail.calls} calls of extensions.",
            f"The extension beside the bystanders failed {found.bystanders.faults_per_second:,.0f} times a second.",
            f"instrument_mb_per_s is that of the slowest module, {slowest}.",
        ]

    # ------------------------------------------------------------------------------------------------------ from rounds

    def _of(self, name: str, params: Mapping[str, object] | None = None) -> Sequence[float]:
        return self._found.times[key_of(name, params or {})]

    def _over_plain(self, name: str, function: str) -> list[float]:
        return layouts.over_plain(self._found.times, name, function)

    @cached_property
    def _kernel_ratios(self) -> dict[str, float]:
        return {function: median(self._over_plain(KERNEL, function)) for function in KERNEL_NAMES}

    @cached_property
    def _rates(self) -> dict[str, list[float]]:
        return instrumenting.rates(self._found.times, self._found.modules)
