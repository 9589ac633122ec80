"""Charts as SVG: curves, and histograms of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from efficientad.histogram import ScoreHistogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_WIDTH, _HEIGHT = 360, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 44


@dataclass(frozen=True)
class _Axes:
    """A plot's frame: values in its ranges to places in the picture, in its units."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self, contents: Sequence[str]) -> str:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(self.y_label)} over {escape(self.x_label)}">'
        ]
        for value in _ticks(*self.x_range):
            place = self.x(value)
            parts.append(f'<path class="grid" d="M{place:.1f} {_TOP}V{bottom}"/>')
            parts.append(
                f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.3g}</text>'
            )
        for value in _ticks(*self.y_range):
            place = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {place:.1f}H{right}"/>')
            parts.append(
                f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{value:.3g}</text>'
            )
        parts += contents
        parts.append(
            f'<text x="{middle_x}" y="{_HEIGHT - 8}" text-anchor="middle">'
            f"{escape(self.x_label)}</text>"
            f'<text transform="translate(12 {middle_y}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text></svg>"
        )
        return "".join(parts)


def curve_chart(
    curve: tuple[Floats, Floats],
    labels: tuple[str, str],
    x_limit: float = 1.0,
    mark: tuple[float, float] | None = None,
) -> str:
    """A curve of shares, from 0 to ``x_limit`` and from 0 to 1, and a point marked on it."""
    axes = _Axes((0, x_limit), (0, 1), *labels)
    points = " ".join(
        f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(*_thinned(*curve), strict=True)
    )
    contents = [f'<polyline class="curve" points="{points}"/>']
    if mark is not None and mark[0] <= x_limit:
        contents.append(
            f'<circle class="mark" cx="{axes.x(mark[0]):.1f}" cy="{axes.y(mark[1]):.1f}" r="5"/>'
        )
    return axes.draw(contents)


def histogram_chart(histogram: ScoreHistogram) -> str:
    """The histograms of normal and of anomalous images over each other, and the threshold."""
    edges = histogram.edges
    kinds = {"normal": histogram.normal, "anomalous": histogram.anomalous}
    top = max(1, *(int(counts.max()) for counts in kinds.values()))
    axes = _Axes((edges[0], edges[-1]), (0, 1.05 * top), "image score", "images")
    contents = []
    for name, counts in kinds.items():
        contents.append(f'<g class="{name}">')
        for left, right, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            if count:
                x, y = axes.x(left), axes.y(count)
                contents.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{axes.x(right) - x:.1f}" '
                    f'height="{axes.y(0) - y:.1f}"/>'
                )
        contents.append("</g>")
    place = axes.x(histogram.threshold)
    contents.append(f'<path class="threshold" d="M{place:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    return axes.draw(contents)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The curve without the points that lie on the one before, as the picture shows them."""
    places = np.round(np.stack([x, y]) * _WIDTH)
    moves = np.append(True, np.abs(np.diff(places)).sum(axis=0) > 0)
    moves[-1] = True
    return x[moves], y[moves]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, three to seven of them."""
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    for factor in (1, 2, 5, 10):
        # Rounded, because 3 times 0.1 is more than 0.3; adding 0 makes of -0 a 0.
        places = np.arange(np.floor(low / (factor * step)), np.ceil(high / (factor * step)) + 1)
        values = [float(f"{place * factor * step:.12g}") + 0.0 for place in places]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= 7:
            return inside
    raise AssertionError("a step of ten leaves at most three numbers")
