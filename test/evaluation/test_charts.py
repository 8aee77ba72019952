from __future__ import annotations

import re

import numpy as np

from eseg_ros.evaluation.charts import (
    TIMELINE_POINTS,
    bar,
    bin_of_frame,
    binned,
    curve_svg,
    difference_bar,
    histogram_svg,
    ticks_of,
    timeline_svg,
)


def test_the_histogram_counts_every_value_and_keeps_outliers_in_the_last_bar() -> None:
    values = [*np.linspace(10, 20, 99), 1000.0]

    svg = histogram_svg(values)

    assert sum(int(count) for count in re.findall(r"ms: (\d+)</title>", svg)) == 100
    assert "p50 15 ms" in svg
    assert "1000" not in svg


def test_one_value_makes_a_histogram_too() -> None:
    assert histogram_svg([5.0]).count("<rect") == 1


def test_no_value_is_said_in_words() -> None:
    assert histogram_svg([]) == "<p>No frame was published.</p>"


def test_a_line_breaks_where_nothing_was_measured() -> None:
    path = re.search(r'<path d="([^"]*)"', timeline_svg(np.array([1.0, 2.0, np.nan, 3.0, 4.0]), {}))

    assert path is not None
    assert re.sub(r"[^ML]", "", path[1]) == "MLML"


def test_a_line_without_values_is_not_drawn() -> None:
    assert timeline_svg(np.full(3, np.nan), {}) == ""


def test_a_line_says_which_sequence_begins_where() -> None:
    assert "<title>night &amp; rain</title>" in timeline_svg(np.arange(9.0), {0: "day", 4: "night & rain"})


def test_a_long_drive_is_drawn_by_its_worst_frames() -> None:
    frames = 10 * TIMELINE_POINTS
    values = np.ones(frames)
    values[7777] = 0.0

    drawn = binned(values, "low")

    assert len(drawn) == TIMELINE_POINTS
    assert np.flatnonzero(drawn == 0).tolist() == [bin_of_frame(frames)[7777]] == [777]


def test_a_short_drive_is_drawn_frame_by_frame() -> None:
    values = np.array([0.5, np.nan, 0.25])

    np.testing.assert_array_equal(binned(values, "high"), values)
    assert len(binned(np.array([]), "low")) == 0


def test_ticks_are_round_and_lie_on_the_scale() -> None:
    assert ticks_of(0, 100, 4) == [0, 50, 100]
    assert ticks_of(61.7, 82.3, 4) == [70, 80]
    assert ticks_of(-3, 4, 4) == [-2, 0, 2, 4]


def test_a_bar_has_its_interval_and_none_without_a_value() -> None:
    assert "width:50.00%" in bar(0.5)
    assert "left:40.00%;width:20.00%" in bar(0.5, 0.4, 0.6)
    assert "<b" not in bar(None)


def test_a_difference_lies_around_the_middle() -> None:
    assert 'style="left:75.00%"' in difference_bar(1.0, np.nan, np.nan, 2.0)
    assert "left:25.00%;width:25.00%" in difference_bar(-0.5, -1.0, 0.0, 2.0)


def test_a_curve_runs_straight_over_what_was_not_measured_and_starts_with_the_first_value() -> None:
    path = re.search(r'<path d="([^"]*)"', curve_svg(np.array([np.nan, 1.0, np.nan, 3.0, np.nan])))

    assert path is not None
    points = [tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", path[1])]
    assert path[1].count("M") == 1
    assert len(points) == 4
    assert points[1][1] == (points[0][1] + points[2][1]) / 2


def test_a_curve_names_its_steps_and_is_not_linked_to_frames() -> None:
    svg = curve_svg(np.array([0.5, 0.6, 0.7]), first=4)

    assert re.findall(r'text-anchor="middle">(\d+)<', svg) == ["4", "5", "6"]
    assert "cursor" not in svg
    assert curve_svg(np.array([np.nan])) == ""
