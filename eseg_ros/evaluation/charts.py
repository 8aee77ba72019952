"""Charts of the report, as SVG and HTML text; their colors come from the page's style."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

TIMELINE_POINTS = 1500
"""Longer drives are drawn in this many steps."""
_WIDTH, _LEFT, _RIGHT = 600.0, 34.0, 6.0
_HEIGHT = 112.0
_TOP, _BASE = 6.0, _HEIGHT - 8.0
_MOST_BORDERS = 40  # more would hide the line


def histogram_svg(values_ms: Sequence[float], bins: int = 36) -> str:
    """A histogram of durations with p50 and p95 marked; a sentence where there are none."""
    if not len(values_ms):
        return "<p>No frame was published.</p>"
    values = np.asarray(values_ms, np.float64)
    # Outliers past twice the 95th percentile share the last bin, so that they do not squeeze the others.
    limit = min(float(values.max()), 2 * float(np.percentile(values, 95))) * 1.02
    counts, edges = np.histogram(np.minimum(values, limit * 0.999), bins=bins, range=(0.0, limit))
    width, height, base, top = 520.0, 190.0, 160.0, 26.0

    def x_of(value: float) -> float:
        return value / limit * width

    bars = "".join(
        f'<rect x="{x_of(left) + 0.5:.1f}" y="{base - (bar := (base - top) * count / counts.max()):.1f}" '
        f'width="{width / bins - 1:.1f}" height="{bar:.1f}"><title>{left:.0f} to {right:.0f} ms: {count}</title></rect>'
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    )
    ticks = "".join(
        f'<text x="{x_of(tick):.1f}" y="{base + 17:.0f}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks_of(0.0, limit)
        if width * 0.02 < x_of(tick) < width * 0.98
    )
    marks = ""
    for row, (name, percent) in enumerate((("p50", 50), ("p95", 95))):
        value = float(np.percentile(values, percent))
        x, y = x_of(value), 11 + 13 * row
        anchor, shift = ("end", -5) if x > width * 0.7 else ("start", 5)
        marks += (
            f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{base:.0f}"/>'
            f'<text class="mark" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{name} {milliseconds(value)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="histogram of the latency, milliseconds">'
        f'<g class="bars">{bars}</g><line class="axis" x1="0" x2="{width:.0f}" y1="{base:.0f}" y2="{base:.0f}"/>'
        f'{ticks}<text x="{width:.0f}" y="{height - 2:.0f}" text-anchor="end">milliseconds</text>{marks}</svg>'
    )


def binned(values: Values, worst: str) -> Values:
    """At most TIMELINE_POINTS values of a time line: in each step the worst, the "low" or the "high" one; NaN for none.

    The steps are those of `bin_of_frame`.
    """
    bins = bin_of_frame(len(values))
    extreme = np.full(int(bins[-1]) + 1 if len(bins) else 0, np.nan)
    (np.fmin if worst == "low" else np.fmax).at(extreme, bins, values)
    return extreme


def bin_of_frame(frames: int) -> npt.NDArray[np.int64]:
    """The step of the time line in which each frame is drawn. (F,)."""
    return np.arange(frames) * min(frames, TIMELINE_POINTS) // max(frames, 1)


def timeline_svg(values: Values, borders: Mapping[int, str], scale: tuple[float, float] | None = None) -> str:
    """A line over time, with its scale; gaps where a value is NaN, and nothing where all are.

    Args:
        values: one a step.
        borders: step -> name of the sequence that begins there.
        scale: values that the scale must hold; None: those of the line.
    """
    line, step = _line(values, scale)
    if not line:
        return ""
    begins = "".join(
        f'<line class="border" x1="{(x := _LEFT + at * step):.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BASE}">'
        f"<title>{html.escape(name)}</title></line>"
        for at, name in borders.items()
        if at and len(borders) <= _MOST_BORDERS
    )
    return (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" data-left="{_LEFT}" data-step="{step:.6f}" '
        f'data-points="{len(values)}">{begins}{line}'
        f'<line class="cursor" x1="-9" x2="-9" y1="{_TOP}" y2="{_BASE}"/></svg>'
    )


def curve_svg(values: Values, first: int = 1, scale: tuple[float, float] | None = None) -> str:
    """A line over counted things, such as epochs, with both scales; nothing where all values are NaN.

    Args:
        values: one a step; a line runs straight over those that are NaN.
        first: number of the first step.
        scale: values that the scale must hold; None: those of the line.
    """
    places, known = np.arange(len(values)), ~np.isnan(values)
    if known.any():
        between = np.interp(places, places[known], values[known])
        values = np.where(places < places[known][0], np.nan, between)
    line, step = _line(values, scale)
    if not line:
        return ""
    last = first + len(values) - 1
    ticks = "".join(
        f'<text x="{_LEFT + (tick - first) * step:.1f}" y="{_HEIGHT + 9:.0f}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks_of(first, max(last, first + 1), 6)
        if tick == round(tick) and tick <= last
    )
    return f'<svg class="curve" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT + 14:.0f}">{line}{ticks}</svg>'


def _line(values: Values, scale: tuple[float, float] | None) -> tuple[str, float]:
    """Grid and line of a chart as SVG, "" without any value, and the width of a step."""
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(values) - 1, 1)
    known = values[~np.isnan(values)]
    if not len(known):
        return "", step
    low, high = _range(np.append(known, scale or ()))

    def y_of(value: float) -> float:
        return _BASE - (value - low) / (high - low) * (_BASE - _TOP)

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks_of(low, high, 4)
    )
    points = [None if np.isnan(v) else (f"{_LEFT + i * step:.1f}", f"{y_of(v):.1f}") for i, v in enumerate(values)]
    path = ""
    for before, point in zip([None, *points], points, strict=False):
        if point is not None:
            path += f"{'M' if before is None else 'L'}{point[0]} {point[1]}"
    radius = 1.8 if len(values) <= 150 else 0
    dots = "".join(f'<circle cx="{p[0]}" cy="{p[1]}" r="{radius}"/>' for p in points if p and radius)
    return f'{grid}<path d="{path}"/>{dots}', step


def _range(values: Values) -> tuple[float, float]:
    """The ends of a scale that holds some values, round ones."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    ticks = ticks_of(low, high, 4)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return float(np.floor(low / step + 1e-9) * step), float(np.ceil(high / step - 1e-9) * step)


def bar(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share from 0 to 1 as a bar, with its interval as a whisker."""
    if value is None:
        return '<div class="bar"></div>'
    whisker = ""
    if low is not None and high is not None:
        whisker = f'<i style="left:{100 * low:.2f}%;width:{100 * max(high - low, 0):.2f}%"></i>'
    return f'<div class="bar"><b style="width:{100 * value:.2f}%"></b>{whisker}</div>'


def difference_bar(value: float, low: float, high: float, limit: float) -> str:
    """A difference as a dot with its interval, around zero in the middle; `limit` is at the ends."""

    def place(number: float) -> float:
        return 50 + 50 * max(-1.0, min(1.0, number / limit))

    whisker = ""
    if not np.isnan(low):
        whisker = f'<i style="left:{place(low):.2f}%;width:{place(high) - place(low):.2f}%"></i>'
    return f'<div class="difference">{whisker}<b style="left:{place(value):.2f}%"></b></div>'


def ticks_of(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from `low` to `high`, some `about` of them."""
    rough = (high - low) / about
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999)
    first = np.ceil(low / step - 1e-9) * step
    return [float(round(value / step)) * float(step) for value in np.arange(first, high + step * 1e-6, step)]


def milliseconds(value: float | None) -> str:
    """A duration in words."""
    return "–" if value is None else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
