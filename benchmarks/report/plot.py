"""A plot of one kind: values on a logarithmic axis, one line for each, as SVG that has its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

KEY: Final = (
    "A dot is the median, the thick line the quartiles of the runs; the thin one reaches from the smallest sample to "
    "the 99.9th percentile (or the largest, where there are no percentiles), a tick stands at the 99th."
)
LABEL_WIDTH_MIN: Final = 180
LABEL_WIDTH_MAX: Final = 460
LABEL_GAP: Final = 10
LEGEND_LEFT: Final = 20
PLOT_WIDTH: Final = 560
VALUE_WIDTH: Final = 100
LINE_HEIGHT: Final = 20
TOP: Final = 44
BOTTOM: Final = 40
SERIES_MAX: Final = 6
"""Colours of the page: ``.s0`` to ``.s5``."""
_CHARACTER_WIDTH: Final = 6.6
"""Of a letter on average, generously: SVG does not say how wide a text is."""
_TICKS_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a plot; all values are positive."""

    label: str
    series: int
    median: float
    quartiles: tuple[float, float]
    reach: tuple[float, float]
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn: marks in the order given, names of the series (colours), how values are written, what it means."""

    title: str
    axis: str
    marks: Sequence[Mark]
    series: Mapping[int, str] = field(default_factory=dict)
    show: Callable[[float], str] = str
    key: str = KEY

    def svg(self) -> str:
        """The plot as an element of a page; empty without marks."""
        if not self.marks:
            return ""
        scale = _Scale.around(self.marks)
        height = TOP + len(self.marks) * LINE_HEIGHT + BOTTOM
        width = scale.left + PLOT_WIDTH + VALUE_WIDTH
        parts = [
            f'<svg class="plot" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img"'
            f' aria-label="{escape(self.title)}">',
            *self._legend(),
            *self._axis(scale, height),
            *(line for at, mark in enumerate(self.marks) for line in self._mark(scale, at, mark)),
            "</svg>",
        ]
        return "\n".join(parts)

    def _legend(self) -> list[str]:
        """Names of the series that occur, from the left."""
        made, at = [], float(LEGEND_LEFT)
        used = {mark.series for mark in self.marks}
        for number, name in self.series.items():
            if number not in used:
                continue
            made.append(f'<circle class="s{number}" cx="{at:.1f}" cy="12" r="4"/>')
            made.append(f'<text class="small" x="{at + 8:.1f}" y="16">{escape(name)}</text>')
            at += 26 + len(name) * _CHARACTER_WIDTH
        return made

    def _axis(self, scale: _Scale, height: int) -> list[str]:
        made = []
        low, high = TOP - 6, height - BOTTOM
        for decade in scale.decades():
            at = scale.place(10.0**decade)
            label = escape(self.show(10.0**decade))
            made.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{low}" y2="{high}"/>')
            made.append(f'<text class="small" text-anchor="middle" x="{at:.1f}" y="{high + 16}">{label}</text>')
        middle = scale.left + PLOT_WIDTH / 2
        title = f"{escape(self.axis)}, logarithmic"
        made.append(f'<text class="small" text-anchor="middle" x="{middle}" y="{height - 6}">{title}</text>')
        return made

    def _mark(self, scale: _Scale, at: int, mark: Mark) -> list[str]:
        y = TOP + at * LINE_HEIGHT + LINE_HEIGHT / 2
        fitting = int((scale.left - LABEL_GAP) / _CHARACTER_WIDTH)
        label = mark.label if len(mark.label) <= fitting else mark.label[: fitting - 1] + "…"
        shade = f"s{mark.series % SERIES_MAX}"

        def line(kind: str, ends: tuple[float, float]) -> str:
            low, high = (scale.place(end) for end in ends)
            return f'<line class="{kind} {shade}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'

        made = [
            f"<g><title>{escape(mark.label)}: {escape(self.show(mark.median))}</title>",
            f'<text text-anchor="end" x="{scale.left - LABEL_GAP}" y="{y + 4}">{escape(label)}</text>',
            line("reach", mark.reach),
            line("quartiles", mark.quartiles),
            f'<circle class="{shade}" cx="{scale.place(mark.median):.1f}" cy="{y}" r="4"/>',
        ]
        if mark.p99 is not None:
            tick = scale.place(mark.p99)
            made.append(f'<line class="tick {shade}" x1="{tick:.1f}" x2="{tick:.1f}" y1="{y - 5}" y2="{y + 5}"/>')
        right = scale.left + PLOT_WIDTH + 12
        made.append(f'<text class="value" x="{right}" y="{y + 4}">{escape(self.show(mark.median))}</text>')
        return [*made, "</g>"]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Whole decades from the left edge, behind the labels, to the right one."""

    low: int
    high: int
    left: int

    @classmethod
    def around(cls, marks: Sequence[Mark]) -> _Scale:
        low = min(min(mark.reach[0], mark.quartiles[0]) for mark in marks)
        high = max(max(mark.reach[1], mark.quartiles[1]) for mark in marks)
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        widest = math.ceil(max(len(mark.label) for mark in marks) * _CHARACTER_WIDTH) + LABEL_GAP
        return cls(first, max(last, first + 1), min(max(widest, LABEL_WIDTH_MIN), LABEL_WIDTH_MAX))

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.left + share * PLOT_WIDTH

    def decades(self) -> range:
        step = -(-(self.high - self.low) // _TICKS_MAX)
        return range(self.low, self.high + 1, step)
