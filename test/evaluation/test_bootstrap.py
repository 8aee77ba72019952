from __future__ import annotations

import numpy as np
import pytest

from eseg_ros.evaluation.bootstrap import Resampling, Scores, differences, estimates
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.record import FrameScore, Record

NAMES = ("road", "car")


def frame(index: int, right: int, wrong: int, **values: float) -> FrameScore:
    """Of class 0 `right` pixels were found and `wrong` were not; class 1 has ten that were."""
    confusion = np.array([[right, wrong, 0], [0, 10, 0]], np.int64)
    return FrameScore(str(index), index, index, answered=True, confusion=confusion, **values)


def record(frames: list[FrameScore], sequence: str = "drive") -> Record:
    return Record.of(sequence, frames, len(NAMES), {})


def random_frames(count: int, seed: int = 0) -> list[FrameScore]:
    rng = np.random.default_rng(seed)
    return [
        frame(index, int(right), 100 - int(right), latency_ms=float(ms), temporal=float(share))
        for index, (right, ms, share) in enumerate(
            zip(rng.integers(50, 100, count), rng.gamma(4, 5, count), rng.random(count), strict=True)
        )
    ]


def test_with_equal_weights_the_scores_are_those_of_the_confusion_matrix() -> None:
    frames = random_frames(20)
    confusion = ConfusionMatrix(len(NAMES))
    for one in frames:
        assert one.confusion is not None
        confusion.matrix += one.confusion

    found = estimates(record(frames), NAMES, Resampling(replicates=0))

    assert found["miou"].value == pytest.approx(confusion.miou(), rel=1e-12)
    assert found["pixel_accuracy"].value == pytest.approx(confusion.pixel_accuracy(), rel=1e-12)
    assert [found[f"iou.{name}"].value for name in NAMES] == pytest.approx(confusion.iou().tolist())
    assert np.isnan(found["miou"].low)


def test_a_weight_is_how_often_a_frame_counts() -> None:
    frames = random_frames(5)
    weights = np.array([[2.0, 0, 1, 3, 0]])
    repeated = [frame for frame, weight in zip(frames, weights[0], strict=True) for _ in range(int(weight))]

    weighted = Scores(record(frames), NAMES)(weights)
    counted = Scores(record(repeated), NAMES)(np.ones((1, 6)))

    np.testing.assert_allclose(weighted, counted, rtol=1e-12)


def test_the_interval_is_that_of_resampling_the_frames_themselves() -> None:
    """A loop over resamples, written out."""
    frames = random_frames(40)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        confusion = ConfusionMatrix(len(NAMES))
        for index in rng.integers(0, 40, 40):
            confusion.matrix += frames[index].confusion  # type: ignore[arg-type]
        drawn.append(confusion.miou())

    estimate = estimates(record(frames), NAMES, Resampling(replicates=2000))["miou"]

    assert (estimate.low, estimate.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.003)
    assert estimate.low < estimate.value < estimate.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The mean of 60 draws from a known distribution, 200 times; 95 % of 200 is 190, give or take three sigma: 9."""
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        frames = [frame(i, int(right), 100 - int(right)) for i, right in enumerate(rng.integers(40, 101, 60))]
        estimate = estimates(record(frames), NAMES, Resampling(replicates=300))["iou.road"]
        inside += estimate.low <= 0.70 <= estimate.high
    assert 178 <= inside <= 199


def test_the_same_seed_gives_the_same_interval() -> None:
    frames = record(random_frames(30))

    assert estimates(frames, NAMES, Resampling()) == estimates(frames, NAMES, Resampling())
    assert estimates(frames, NAMES, Resampling()) != estimates(frames, NAMES, Resampling(seed=1))


def test_frames_that_repeat_each_other_need_blocks_for_an_honest_interval() -> None:
    scenes = random_frames(12)
    film = record([scene for scene in scenes for _ in range(10)])

    single = estimates(film, NAMES, Resampling(block=1))["miou"]
    blocks = estimates(film, NAMES, Resampling(block=10))["miou"]
    scene = estimates(record(scenes), NAMES, Resampling())["miou"]

    assert blocks.high - blocks.low > 2 * (single.high - single.low)
    assert (blocks.low, blocks.high) == pytest.approx((scene.low, scene.high))


def test_a_block_does_not_cross_from_one_sequence_into_the_next() -> None:
    joined = Record.join([record(random_frames(3), "a"), record(random_frames(3), "b")])

    one_each = estimates(joined, NAMES, Resampling(block=3))["miou"]
    longer = estimates(joined, NAMES, Resampling(block=99))["miou"]

    assert one_each == longer


def test_latency_percentiles_are_values_that_occurred() -> None:
    frames = record([frame(i, 1, 1, latency_ms=float(i + 1)) for i in range(100)])

    found = estimates(frames, NAMES, Resampling(replicates=0))

    assert [found[f"latency_ms.{p}"].value for p in ("p50", "p95", "p99")] == [50, 95, 99]


def test_a_score_that_no_frame_has_is_left_out() -> None:
    found = estimates(record([FrameScore("0", 0, 0, answered=True, temporal=0.5)]), NAMES, Resampling(replicates=10))

    assert found.keys() == {"temporal_consistency"}


def test_a_difference_of_a_run_to_itself_is_zero_without_doubt() -> None:
    frames = record(random_frames(25))

    found = differences(frames, frames, NAMES, Resampling())

    assert {estimate.numbers() for estimate in found.values()} == {(0, 0, 0)}


def test_a_paired_difference_is_surer_than_its_two_scores() -> None:
    """Every frame gains one point: whatever is drawn, the gain is the same."""
    before = [frame(i, right, 99 - right) for i, right in enumerate(range(20, 80))]
    after = [frame(i, right + 1, 98 - right) for i, right in enumerate(range(20, 80))]

    difference = differences(record(before), record(after), NAMES, Resampling())["pixel_accuracy"]
    alone = estimates(record(before), NAMES, Resampling())["pixel_accuracy"]

    assert difference.numbers() == pytest.approx((1 / 109,) * 3)
    assert alone.high - alone.low > 0.05


def test_many_frames_are_resampled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = record(random_frames(30))
    whole = estimates(frames, NAMES, Resampling(replicates=50))
    monkeypatch.setattr("eseg_ros.evaluation.bootstrap._CHUNK", 30 * 7)

    assert estimates(frames, NAMES, Resampling(replicates=50)) == whole


def test_no_frames_have_no_scores() -> None:
    assert estimates(record([]), NAMES, Resampling()) == {}
