from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from eseg_ros.errors import UsageError
from eseg_ros.evaluation.bench_plot import Point, accuracy_svg, bench_plot, pareto_front


def configuration(
    engine: str, runtime: str, precision: str, ms: float, miou: float | None, size: str = "480x360"
) -> dict[str, Any]:
    return {
        "engine": engine,
        "runtime": runtime,
        "precision": precision,
        "input": size,
        "device": f"CPU, 2 threads, {runtime} 1.0",
        "latency_ms": {"median": ms},
        "score": None if miou is None else {"miou": miou},
    }


def report(*configurations: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": "Some <CPU>",
        "load": 0.1,
        "date": "2026-11-21T10:00:00+00:00",
        "repeat": 10,
        "scored": "camvid/val",
        "configurations": list(configurations),
    }


def labels(svg: str) -> set[str]:
    return set(re.findall(r'class="label"[^>]*>([^<]*)<', svg))


def test_the_front_is_what_nothing_beats_in_both() -> None:
    fast, even, slow, dominated = Point("a", 5, 0.5), Point("b", 10, 0.6), Point("c", 20, 0.7), Point("d", 12, 0.59)
    assert pareto_front([slow, dominated, even, fast]) == [fast, even, slow]


def test_of_equal_latencies_the_more_accurate_is_on_the_front() -> None:
    assert pareto_front([Point("a", 5, 0.5), Point("b", 5, 0.6)]) == [Point("b", 5, 0.6)]


def test_a_label_says_what_tells_the_points_apart() -> None:
    svg = bench_plot(
        report(
            configuration("street", "openvino", "fp32", 30, 0.66),
            configuration("street", "onnxruntime", "fp32", 33, 0.66),
            configuration("street_int8", "openvino", "int8", 15, 0.65),
        )
    )
    assert labels(svg) == {"street (OpenVINO, fp32)", "street (ONNX Runtime, fp32)", "street_int8 (OpenVINO)"}
    alone = bench_plot(report(configuration("street", "openvino", "fp32", 30, 0.66)))
    assert labels(alone) == {"street"}
    assert "OpenVINO; fp32; 480x360; medians of 10 rounds" in alone


def test_an_engine_at_several_sizes_is_a_curve_that_its_fastest_point_names() -> None:
    svg = bench_plot(
        report(
            configuration("small", "openvino", "fp32", 30, 0.66, "640x480"),
            configuration("small_480x360", "openvino", "fp32", 16, 0.60),
            configuration("large", "openvino", "fp32", 40, 0.70, "640x480"),
        )
    )
    assert labels(svg) == {"small 480x360", "640x480", "large 640x480"}
    (places,) = re.findall(r'class="curve" points="([^"]*)"', svg)
    (left, low), (right, high) = (map(float, place.split(",")) for place in places.split())
    assert left < right
    assert low > high  # an SVG's y points down: the larger input is slower and more accurate
    assert 'class="curve"' not in bench_plot(report(configuration("small", "openvino", "fp32", 30, 0.66)))


def test_the_picture_is_whole_and_names_axes_machine_and_who_is_missing() -> None:
    svg = bench_plot(
        report(
            configuration("street", "openvino", "fp32", 30, 0.66), configuration("peer", "openvino", "fp32", 9, None)
        )
    )
    ElementTree.fromstring(svg)
    assert "latency of a frame, ms" in svg
    assert "mIoU on camvid/val, %" in svg
    assert "Some &lt;CPU&gt;; load before 0.1; 2026-11-21" in svg
    assert "not scored: peer" in svg


def test_labels_of_points_that_lie_together_do_not_cover_each_other() -> None:
    points = [Point(f"engine_{index}", 10 + 0.1 * index, 0.6 + 0.001 * index) for index in range(4)]
    svg = accuracy_svg(points, "title", "x", "y", ["caption"])
    heights = sorted(float(y) for y in re.findall(r'class="label" x="[^"]*" y="([^"]*)"', svg))
    places = re.findall(r'class="label" x="([^"]*)" y="([^"]*)"', svg)
    assert len(heights) == 4
    for index, (x, y) in enumerate(places):
        for other_x, other_y in places[index + 1 :]:
            assert abs(float(y) - float(other_y)) >= 13 or abs(float(x) - float(other_x)) >= 60


def test_without_a_score_there_is_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="nothing was scored"):
        bench_plot(report(configuration("peer", "openvino", "fp32", 9, None)))
