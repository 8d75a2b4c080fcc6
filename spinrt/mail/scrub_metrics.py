"""Metrics of the passes over log and pages, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spinrt.mail.scrubbing import Passes


class ScrubMetrics(Collector):
    """Reads the counts when somebody scrapes."""

    def __init__(self, state: Passes) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield CounterMetricFamily("spinrt_scrub_passes", "Passes over log and pages that were finished", state.passes)
        yield CounterMetricFamily("spinrt_scrub_bytes", "Bytes of log and pages that were checked", state.bytes)
        yield GaugeMetricFamily("spinrt_scrub_damaged", "Damaged places that the last pass found", state.damaged)
        yield GaugeMetricFamily("spinrt_scrub_end_seconds", "When the last pass ended, Unix time", state.ended_s)
