"""Metrics of a runtime for Prometheus, made from `describe` when somebody asks for them.

Nothing is counted here: the core counts anyway, and a scrape reads. `Descriptions` hands the collector of
``prometheus_client`` a description that was made on the runtime's thread, so that the text can be written on another.

Source: docs/operating/README.md, "Metrics"; https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from spinrt.runtime.supervisor import Health

LATENCY_BOUNDS_NS: Final = tuple(step * 10**power for power in range(2, 10) for step in (1, 2, 5))
"""Upper bounds of the exported latency buckets, 100 ns to 5 s: always the same, as a query over time needs them."""

_NS: Final = 1e-9
_BINDING_LABELS: Final = ("event", "domain", "handler", "binding")
_COUNTS: Final = {
    "raises": "Raises in which the handler ran, or was queued",
    "guarded": "Raises in which a guard held the handler back",
    "faults": "Raises in which the handler failed",
    "ended": "Raises in which the handler was ended by its quantum",
}
_COUNTERS: Final = {
    "faults": "Calls that failed",
    "restarts": "Fresh instances after a fault",
    "quarantines": "Times that it was quarantined after too many faults",
    "refused": "Calls that met a quarantine",
    "denials": "Host calls that were answered with an error",
}
_USAGE: Final = {
    "memory_bytes": "Linear memory of the instance",
    "handles": "Live resource handles",
    "outside_calls_left": "Calls that reach the outside which the rate allows now",
}


class Descriptions(Collector):
    """Gives the metrics of the last description that it was shown."""

    def __init__(self) -> None:
        self.latest: Mapping[str, Any] = {"domains": [], "events": []}

    def collect(self) -> Iterator[Metric]:
        yield from families(self.latest)


class Exposition:
    """The text of one registry: of a runtime, of its process (memory, processor time, open files), of ``others``."""

    def __init__(self, others: Iterable[Collector] = ()) -> None:
        self._registry = CollectorRegistry()
        self._descriptions = Descriptions()
        for collector in (self._descriptions, *others):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def write(self, description: Mapping[str, Any]) -> bytes:
        """Return the metrics of a description in the text format of Prometheus; from any one thread at a time."""
        self._descriptions.latest = description
        return generate_latest(self._registry)


def families(description: Mapping[str, Any]) -> Iterator[Metric]:
    """The metrics of what `describe` returned."""
    domains = description["domains"]
    yield _info(domains)
    for key, text in _USAGE.items():
        yield _of_domains(GaugeMetricFamily(f"spinrt_domain_{key}", text, labels=("domain",)), domains, "usage", key)
    for key, text in _COUNTERS.items():
        family = CounterMetricFamily(f"spinrt_domain_{key}", text, labels=("domain",))
        yield _of_domains(family, domains, "counters", key)
    yield _health(domains)
    yield _faults(domains)
    yield _limits(domains)
    bindings = [(event["name"], binding) for event in description["events"] for binding in event["bindings"]]
    for key, text in _COUNTS.items():
        yield _counts(bindings, key, text)
    yield _latencies(bindings)


def _info(domains: Sequence[Mapping[str, Any]]) -> Metric:
    family = GaugeMetricFamily("spinrt_domain_info", "Loaded extensions", labels=("domain", "version", "state"))
    for domain in domains:
        family.add_metric((domain["name"], domain["version"], domain["state"]), 1)
    return family


def _of_domains(
    family: CounterMetricFamily | GaugeMetricFamily, domains: Sequence[Mapping[str, Any]], part: str, key: str
) -> Metric:
    for domain in domains:
        family.add_metric((domain["name"],), domain[part][key])
    return family


def _health(domains: Sequence[Mapping[str, Any]]) -> Metric:
    """One series for each state of each extension, 1 for the one that it is in: a query needs no numbers for states."""
    family = GaugeMetricFamily("spinrt_domain_health", "1 for the state that it is in", labels=("domain", "state"))
    for domain in domains:
        for state in Health:
            family.add_metric((domain["name"], state.value), int(domain["health"]["state"] == state.value))
    return family


def _faults(domains: Sequence[Mapping[str, Any]]) -> Metric:
    family = CounterMetricFamily(
        "spinrt_domain_faults_by_code", "Calls that failed, by the code of the error", labels=("domain", "code")
    )
    for domain in domains:
        for code, count in domain["faults_by_code"].items():
            family.add_metric((domain["name"], code), count)
    return family


def _limits(domains: Sequence[Mapping[str, Any]]) -> Metric:
    family = GaugeMetricFamily("spinrt_domain_limit", "Limits as clamped by the policy", labels=("domain", "limit"))
    for domain in domains:
        for name, value in domain["limits"].items():
            family.add_metric((domain["name"], name), value)
    return family


def _labels(event: str, binding: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return event, binding["domain"] or "host", binding["handler"], str(binding["id"])


def _counts(bindings: Sequence[tuple[str, Mapping[str, Any]]], key: str, text: str) -> Metric:
    family = CounterMetricFamily(f"spinrt_handler_{key}", text, labels=_BINDING_LABELS)
    for event, binding in bindings:
        family.add_metric(_labels(event, binding), binding["counts"][key])
    return family


def _latencies(bindings: Sequence[tuple[str, Mapping[str, Any]]]) -> Metric:
    family = HistogramMetricFamily(
        "spinrt_handler_latency_seconds", "Sampled run times of handlers", labels=_BINDING_LABELS
    )
    for event, binding in bindings:
        if binding["latency"] is not None:
            found = binding["latency"]["buckets"]
            family.add_metric(
                _labels(event, binding), exported_buckets(found), sum(upper * count for upper, count in found) * _NS
            )
    return family


def exported_buckets(found: Sequence[Sequence[int]]) -> list[tuple[str, float]]:
    """Return cumulative buckets as (upper bound in seconds, samples up to it), the last one for all.

    Args:
        found: (upper bound in ns, samples) of each, ascending; a bucket is counted where its upper bound lies.
    """
    counts = [0] * (len(LATENCY_BOUNDS_NS) + 1)
    for upper, count in found:
        counts[bisect_left(LATENCY_BOUNDS_NS, upper)] += count
    bounds = [*(f"{bound * _NS:.9g}" for bound in LATENCY_BOUNDS_NS), "+Inf"]
    total, made = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        made.append((bound, float(total)))
    return made
