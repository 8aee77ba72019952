from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eseg_ros.evaluation.bootstrap import Estimate, Resampling
from eseg_ros.evaluation.compare import CompareError, common_frames, compare_runs, verdict_of
from eseg_ros.evaluation.conditions import Condition, parse_condition
from eseg_ros.evaluation.record import FrameScore, Record
from eseg_ros.evaluation.run_folder import FinishedRun, RunFolder
from eseg_ros.labels import ClassSet

CLASSES = ClassSet("two", ("road", "car"), ((0, 0, 0), (9, 9, 9)))
PIXELS = 1000


def frame(index: int, right: int, latency_ms: float = 10.0) -> FrameScore:
    confusion = np.array([[right, PIXELS - right, 0], [0, 50, 0]], np.int64)
    return FrameScore(str(index), index, index, answered=True, confusion=confusion, latency_ms=latency_ms)


def sequence(name: str, right: list[int], latency_ms: float = 10.0) -> Record:
    return Record.of(name, [frame(i, r, latency_ms) for i, r in enumerate(right)], len(CLASSES), {})


def run(name: str, *parts: Record, truth: str | None = "labels", dropped: int = 0) -> FinishedRun:
    record = Record.join(parts)
    sequences = [{"name": part, "frames_dropped": dropped} for part in record.sequences]
    summary = {
        **{"engine": name, "engine_sha256": "", "runtime": "", "precision": "fp32", "mode": "every frame", "data": ""},
        **{"truth": truth, "frames_in": len(record), "frames_dropped": dropped, "sequences": sequences},
    }
    return FinishedRun(RunFolder(Path(name)), summary, CLASSES, record)


NOISE = np.random.default_rng(0).integers(600, 700, 30)
BEFORE = run("a", sequence("day", NOISE.tolist()), sequence("night", NOISE.tolist()))
NIGHT_WORSE = run(
    "b", sequence("day", NOISE.tolist()), sequence("night", (NOISE - 80).tolist(), latency_ms=14.0), dropped=2
)


def test_a_run_is_no_different_from_itself() -> None:
    comparison = compare_runs(BEFORE, BEFORE, Resampling())

    assert comparison.verdict == "no difference"
    assert comparison.most_changed() == []


def test_it_says_where_it_got_worse() -> None:
    comparison = compare_runs(BEFORE, NIGHT_WORSE, Resampling())

    assert comparison.verdict == "worse"
    assert comparison.scores["iou.road"].verdict == "worse"
    assert comparison.sequences["day"]["miou"].verdict == "no difference"
    night = comparison.sequences["night"]["iou.road"]
    assert night.difference.value == pytest.approx(-80 / PIXELS)
    assert night.verdict == "worse"


def test_a_higher_latency_is_worse_and_more_confidence_is_only_more() -> None:
    assert verdict_of("latency_ms.p95", Estimate(4.0, 3.0, 5.0)) == "worse"
    assert verdict_of("miou", Estimate(0.04, 0.03, 0.05)) == "better"
    assert verdict_of("confidence", Estimate(0.04, 0.03, 0.05)) == "changed"
    assert verdict_of("miou", Estimate(0.04, -0.01, 0.09)) == "no difference"
    assert verdict_of("miou", Estimate(0.04, np.nan, np.nan)) == "no difference"


def test_the_frames_that_changed_most_come_first() -> None:
    right = NOISE.tolist()
    right[7], right[3] = right[7] - 300, right[3] + 100
    after = run("b", sequence("day", right), sequence("night", NOISE.tolist()))

    comparison = compare_runs(BEFORE, after, Resampling())

    assert comparison.most_changed() == [7, 3]
    first = comparison.to_json()["changed_most"][0]
    assert (first["sequence"], first["frame"], first["index"]) == ("day", "7", 7)
    assert first["change"] < 0


def test_only_frames_that_both_answered_are_compared() -> None:
    """The second run lost a frame, has another one more, and its sequences in another order."""
    lost = Record.of("day", [frame(0, 10), FrameScore("1", 1, 1, answered=False), frame(2, 30)], len(CLASSES), {})
    first = Record.join([sequence("day", [1, 2, 3]), sequence("night", [4])])
    second = Record.join([sequence("night", [40]), lost, sequence("dusk", [50])])

    before, after = common_frames(first, second)

    assert before.confusion[:, 0, 0].tolist() == [1, 3, 4]
    assert after.confusion[:, 0, 0].tolist() == [10, 30, 40]


def test_of_frames_with_one_stamp_the_first_is_compared() -> None:
    twice = Record.join([sequence("day", [1, 2]), sequence("day", [3, 4])])

    before, after = common_frames(twice, twice)

    assert before.confusion[:, 0, 0].tolist() == after.confusion[:, 0, 0].tolist() == [1, 2]


def test_runs_of_other_classes_other_truth_or_other_frames_are_not_compared() -> None:
    other_classes = replace(BEFORE, classes=replace(CLASSES, names=("road", "bus")))
    with pytest.raises(CompareError, match="only runs with the same classes"):
        compare_runs(BEFORE, other_classes, Resampling())
    with pytest.raises(CompareError, match="scored against labels, b against nothing"):
        compare_runs(BEFORE, run("b", sequence("day", [1]), truth=None), Resampling())
    with pytest.raises(CompareError, match="no frame in common"):
        compare_runs(BEFORE, run("b", sequence("dawn", [1])), Resampling())


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("iou.road < -3", -4.0, True),
        ("iou.road < -5", -4.0, False),
        ("iou.road.high < -2", None, True),
        ("iou.road.low>-3", None, False),
        ("[night] iou.road <= -7.9", -8.0, True),
        ("[day] iou.road < 0", 0.0, False),
        ("latency_ms.p95 > 3", 4.0, True),
        ("frames_dropped >= 2", 2.0, True),
        ("[night] frames_dropped > 2", 2.0, False),
    ],
)
def test_a_condition_is_about_points_milliseconds_or_frames(text: str, value: float | None, holds: bool) -> None:
    comparison = compare_runs(BEFORE, NIGHT_WORSE, Resampling())
    condition = parse_condition(text)

    assert condition.holds(comparison) is holds
    if value is not None:
        assert condition.value(comparison) == pytest.approx(value)


def test_a_condition_is_read_in_its_parts() -> None:
    assert parse_condition("[city/night 7] boundary_f.traffic-light.low >= -1.5e1") == Condition(
        "[city/night 7] boundary_f.traffic-light.low >= -1.5e1",
        "city/night 7",
        "boundary_f.traffic-light",
        "low",
        ">=",
        -15.0,
    )


@pytest.mark.parametrize("text", ["", "miou", "miou -0.5", "miou < ", "miou < much", "miou == 0", "miou < nan", "< 3"])
def test_what_is_no_condition_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ValueError, match=r'is no condition; expected \[SEQUENCE\] SCORE.*"miou < -0.5"'):
        parse_condition(text)


def test_a_condition_on_what_was_not_measured_is_an_error_and_does_not_pass() -> None:
    comparison = compare_runs(BEFORE, NIGHT_WORSE, Resampling())

    with pytest.raises(ValueError, match=r"no score 'iou\.tram'; they have miou, "):
        parse_condition("iou.tram < 0").holds(comparison)
    with pytest.raises(ValueError, match="no common sequence 'dawn'; there are day, night"):
        parse_condition("[dawn] miou < 0").holds(comparison)
