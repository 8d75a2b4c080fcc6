"""Metrics of mirrors, for Prometheus: how far each target is behind, what updates cost, what is kept for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Describe = Callable[[], Sequence[Mapping[str, Any]]]

_TARGET_GAUGES: Final = {
    "lag_bytes": "Bytes of the log from the oldest change that the target does not have",
    "lag_s": "Age of the oldest change that the target does not have, in seconds; 0 when it has all",
}
_TARGET_COUNTERS: Final = {
    "updates": "Updates that brought something",
    "failures": "Updates that did not work",
    "vanished": "How often nothing was there any more of a target on this machine",
    "sent_bytes": "Bytes of all updates, before TLS",
    "written_bytes": "Bytes of log that those updates covered",
}
_SOURCE_COUNTERS: Final = {
    "updates": "Updates that were taken",
    "failures": "Connections that ended in an error",
    "received_bytes": "Bytes of all connections, before TLS",
}


class MirrorMetrics(Collector):
    """Reads descriptions when somebody scrapes.

    Args:
        targets: ``Mirroring.describe``.
        sources: ``MirrorServer.describe``.
    """

    def __init__(self, targets: Describe, sources: Describe) -> None:
        self._targets = targets
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        targets, sources = self._targets(), self._sources()
        for key, text in _TARGET_GAUGES.items():
            name = key.replace("_s", "_seconds") if key == "lag_s" else key
            gauge = GaugeMetricFamily(f"spinrt_mirror_{name}", text, labels=("target",))
            yield _add(gauge, targets, "target", key)
        for key, text in _TARGET_COUNTERS.items():
            yield _add(CounterMetricFamily(f"spinrt_mirror_{key}", text, labels=("target",)), targets, "target", key)
        for key, text in _SOURCE_COUNTERS.items():
            counter = CounterMetricFamily(f"spinrt_mirror_source_{key}", text, labels=("source",))
            yield _add(counter, sources, "source", key)
        age = GaugeMetricFamily(
            "spinrt_mirror_source_age_seconds",
            "Seconds since the source's newest snapshot here was taken",
            labels=("source",),
        )
        for one in sources:
            if one["snapshot_s"]:
                age.add_metric((one["source"],), max(time.time() - one["snapshot_s"], 0.0))
        yield age


def _add(
    family: GaugeMetricFamily | CounterMetricFamily, described: Sequence[Mapping[str, Any]], label: str, key: str
) -> Metric:
    for one in described:
        if one[key] is not None:
            family.add_metric((one[label],), one[key])
    return family
