"""Accuracy over latency as a picture: an SVG file that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from eseg_ros.errors import UsageError
from eseg_ros.evaluation.charts import ticks_of

_WIDTH, _HEIGHT = 1000.0, 660.0
_LEFT, _RIGHT, _TOP, _BASE = 76.0, 30.0, 52.0, 548.0
_LETTER, _LINE = 7.3, 15.0
"""Width and height of a letter of a label, about."""

_STYLE = """
.curve { fill: none; stroke: #9aa4b1; stroke-width: 1.5; stroke-dasharray: 4 4; }
svg { background: #ffffff; font: 14px system-ui, "Segoe UI", Roboto, sans-serif; }
text { fill: #5b6470; }
.label { fill: #1b1f24; font-size: 13px; stroke: #ffffff; stroke-width: 3; paint-order: stroke; }
.title { fill: #1b1f24; font-size: 17px; font-weight: 600; }
.grid { stroke: #d9dee4; } .axis { stroke: #5b6470; } .front { fill: none; stroke: #2563c9; stroke-width: 1.5; }
.lead { stroke: #9aa4b1; } circle { fill: #9aa4b1; stroke: #ffffff; stroke-width: 1.5; } circle.best { fill: #2563c9; }
"""

RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True, slots=True)
class Point:
    """A configuration.

    Attributes:
        label: what to write beside it.
        latency_ms: lower is better.
        accuracy: 0 to 1, higher is better.
        curve: points of one curve are joined, from the fastest to the slowest; empty: of none.
    """

    label: str
    latency_ms: float
    accuracy: float
    curve: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle that is taken, in the picture's units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


def bench_plot(report: Mapping[str, Any]) -> str:
    """The scored configurations of a report of `bench`.

    Raises:
        UsageError: none was scored.
    """
    scored = [result for result in report["configurations"] if result["score"]]
    if not scored:
        raise UsageError("nothing was scored, so there is no accuracy to draw; name engines: --engine ENGINE.json")
    points = _points(scored)
    left_out = sorted({result["engine"] for result in report["configurations"] if not result["score"]})
    devices = dict.fromkeys(result["device"] for result in scored)
    shared = [words for key in ("runtime", "precision", "input") if (words := _shared(scored, key))]
    caption = [
        f"{report['machine']}; load before {report['load']:.1f}; {report['date'][:10]}",
        "; ".join(devices),
        "; ".join([*shared, f"medians of {report['repeat']} rounds"])
        + (f"; not scored: {', '.join(left_out)}" if left_out else ""),
    ]
    return accuracy_svg(
        points,
        f"Accuracy over latency on {report['scored']}",
        "latency of a frame, ms: preprocessing, inference, postprocessing, one frame under way",
        f"mIoU on {report['scored']}, %",
        caption,
    )


def _points(scored: Sequence[Mapping[str, Any]]) -> list[Point]:
    """A point a configuration. An engine at several input sizes is a curve: its fastest point bears its name."""
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for result in sorted(scored, key=lambda result: float(result["latency_ms"]["median"])):
        curves.setdefault(_label(result, scored), []).append(result)
    sizes_differ = not _shared(scored, "input")
    points = []
    for label, results in curves.items():
        curve = label if len({result["input"] for result in results}) > 1 else ""
        for place, result in enumerate(results):
            engine = "" if curve and place > 0 else label
            size = result["input"] if sizes_differ else ""
            name = " ".join(word for word in (engine, size) if word)
            points.append(Point(name, result["latency_ms"]["median"], result["score"]["miou"], curve))
    return points


def _label(result: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> str:
    """The engine, and what tells its configurations apart but for the input size."""
    own = [_words(result, key) for key in ("runtime", "precision") if not _shared(scored, key)]
    own = [words for words in own if not result["engine"].endswith(f"_{words}")]
    engine = result["engine"].removesuffix(f"_{result['input']}")  # fitted to that size by `bench`
    return " ".join([engine, *([f"({', '.join(own)})"] if own else [])])


def _shared(scored: Sequence[Mapping[str, Any]], key: str) -> str:
    """What all configurations have in common under a key; empty if they differ."""
    values = {_words(result, key) for result in scored}
    return values.pop() if len(values) == 1 else ""


def _words(result: Mapping[str, Any], key: str) -> str:
    value: str = result[key]
    return RUNTIMES.get(value, value)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in latency without losing accuracy, from the fastest to the most accurate."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def accuracy_svg(points: Sequence[Point], title: str, x_label: str, y_label: str, caption: Sequence[str]) -> str:
    """The picture: a labeled dot a point, those of the Pareto front in color with the line that they are best along.

    Args:
        points: at least one; those of a curve are joined by a dashed line.
        title: above the picture.
        x_label, y_label: of the axes, with units; the latency's is logarithmic where it spans more than a factor of 4.
        caption: lines below.
    """
    front = pareto_front(points)
    x_scale, y_scale = _Scale.of_latency(points), _Scale.of_accuracy(points)
    line = _staircase(front, x_scale, y_scale)
    places = [(x_scale.place(point.latency_ms), y_scale.place(100 * point.accuracy)) for point in points]
    x_grid = "".join(
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BASE}"/>'
        f'<text x="{x:.1f}" y="{_BASE + 20}" text-anchor="middle">{tick:g}</text>'
        for tick in x_scale.ticks
        for x in [x_scale.place(tick)]
    )
    y_grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 9}" y="{y + 5:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in y_scale.ticks
        for y in [y_scale.place(tick)]
    )
    dots = "".join(
        f'<circle class="{"best" if point in front else "other"}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
        f"<title>{html.escape(point.label)}: {point.latency_ms:.1f} ms, {100 * point.accuracy:.1f} %</title></circle>"
        for point, (x, y) in zip(points, places, strict=True)
    )
    joined: dict[str, list[tuple[float, float]]] = {}
    for point, place in sorted(zip(points, places, strict=True), key=lambda item: item[1]):
        if point.curve:
            joined.setdefault(point.curve, []).append(place)
    curves = "".join(
        f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in curve)}"/>'
        for curve in joined.values()
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    below = "".join(
        f'<text x="{_LEFT}" y="{_BASE + 66 + 18 * row}" font-size="12">{html.escape(line)}</text>'
        for row, line in enumerate(caption)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" width="{_WIDTH:.0f}" '
        f'height="{_HEIGHT:.0f}" role="img" aria-label="{html.escape(title)}"><style>{_STYLE}</style>\n'
        f'<text class="title" x="{_LEFT}" y="30">{html.escape(title)}</text>\n{x_grid}{y_grid}\n'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_BASE}" y2="{_BASE}"/>'
        f'<text x="{middle}" y="{_BASE + 42}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text transform="translate(22 {(_TOP + _BASE) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>\n"
        f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>{curves}{dots}\n'
        f"{_labels(points, places, line)}\n{below}</svg>\n"
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places along an axis."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[float, ...]

    @staticmethod
    def of_latency(points: Sequence[Point]) -> _Scale:
        values = [point.latency_ms for point in points]
        low, high = min(values), max(values)
        if high > 4 * low:
            low, high = low / 1.35, high * 1.5
            rounds = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
            ticks = tuple(tick for tick in rounds if low <= tick <= high)
            return _Scale(low, high, _LEFT, _WIDTH - _RIGHT, True, ticks)
        low, high = max(0.0, low - 0.15 * high), 1.25 * high
        return _Scale(low, high, _LEFT, _WIDTH - _RIGHT, False, tuple(ticks_of(low, high, 8)))

    @staticmethod
    def of_accuracy(points: Sequence[Point]) -> _Scale:
        values = [100 * point.accuracy for point in points]
        margin = max(0.15 * (max(values) - min(values)), 0.5)
        low, high = max(0.0, min(values) - margin), min(100.0, max(values) + margin)
        return _Scale(low, high, _BASE, _TOP, False, tuple(ticks_of(low, high, 6)))

    def place(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = (float(np.log(number)) for number in (low, high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def _staircase(front: Sequence[Point], x_scale: _Scale, y_scale: _Scale) -> list[tuple[float, float]]:
    """Corners of the line that says what accuracy can be had within a latency: it rises at each point of the front."""
    corners: list[tuple[float, float]] = []
    for point in front:
        x, y = x_scale.place(point.latency_ms), y_scale.place(100 * point.accuracy)
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    return [*corners, (x_scale.end, corners[-1][1])]


def _labels(points: Sequence[Point], places: Sequence[tuple[float, float]], line: Sequence[tuple[float, float]]) -> str:
    """Each point's label where it covers the least of dots, line and other labels; a thin line to those far away."""
    taken = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    for (x, y), (next_x, next_y) in pairwise(line):
        taken.append(Box(x - 2, min(y, next_y) - 2, next_x + 2, max(y, next_y) + 2))
    picture = Box(_LEFT, _TOP - 12, _WIDTH - 4, _BASE)
    texts = ""
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda item: item[1]):
        width = _LETTER * len(point.label)
        candidates = [
            Box(left, y + down - _LINE / 2, left + width, y + down + _LINE / 2)
            for down in (0, 16, -16, 32, -32, 50, -50, 68, -68)
            for left in (x + 12, x - 12 - width, x - width / 2)
            if down or left != x - width / 2
        ]
        box = min(candidates, key=lambda box: sum(map(box.overlap, taken)) + _outside(box, picture))
        taken.append(box)
        middle = (box.top + box.bottom) / 2
        if abs(middle - y) > _LINE / 2:
            near = min(max(x, box.left), box.right)
            edge = box.bottom if middle < y else box.top
            texts += f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{near:.1f}" y2="{edge:.1f}"/>'
        texts += f'<text class="label" x="{box.left:.1f}" y="{middle + 4.5:.1f}">{html.escape(point.label)}</text>'
    return texts


def _outside(box: Box, picture: Box) -> float:
    """Area of a box that lies outside the picture, counted ten times: cut letters cannot be read at all."""
    return 10 * ((box.right - box.left) * (box.bottom - box.top) - box.overlap(picture))
