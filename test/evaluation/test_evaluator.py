from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eseg_ros.bag.writer import BagWriter
from eseg_ros.data.reading import DataError
from eseg_ros.engine.manifest import load_engine, write_manifest
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.evaluator import Evaluator, Settings
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.evaluation.record import Record
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.evaluation.sequences import BagSequence, bag_sequences
from eseg_ros.labels import CAMVID
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Result

from .conftest import LABEL_TOPIC, PERIOD_NS, TOPIC, BagMaker, painted_frame


@pytest.fixture
def drive(make_bag: BagMaker) -> BagSequence:
    return bag_sequences([make_bag("drive", frames=5)], TOPIC, label_topic=LABEL_TOPIC)[0]


def evaluated(drive: BagSequence, settings: Settings) -> Record:
    with Evaluator(settings) as evaluator:
        return evaluator.evaluate(drive)


def test_masks_are_the_pipelines_and_scores_those_of_their_pixels(tiny_engine: Path, drive: BagSequence) -> None:
    record = evaluated(drive, Settings(tiny_engine))

    expected = ConfusionMatrix(len(CAMVID))
    with Pipeline(create_runtime(load_engine(tiny_engine))) as pipeline:
        for index, result in enumerate(pipeline.map([labeled.frame for labeled in drive.frames()])):
            assert isinstance(result, Result)
            expected.update(result.mask, painted_frame(0, index)[1])
    np.testing.assert_array_equal(record.confusion.sum(axis=0), expected.matrix)
    assert 0.5 < expected.miou() < 1


def test_every_frame_counts_and_two_runs_give_the_same_bits(tiny_engine: Path, drive: BagSequence) -> None:
    first, second = (evaluated(drive, Settings(tiny_engine)) for _ in range(2))

    assert first.answered.tolist() == [True] * 5
    for name in Record.__dataclass_fields__:
        if name not in ("latency_ms", "stages_ms", "facts"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_everything_is_measured(tiny_engine: Path, drive: BagSequence) -> None:
    record = evaluated(drive, Settings(tiny_engine))

    assert record.stamp_ns.tolist() == [(index + 1) * PERIOD_NS for index in range(5)]
    assert np.isnan(record.temporal[0])
    assert (record.temporal[1:] > 0.8).all()
    assert (record.boundary[~np.isnan(record.boundary)] > 0).any()
    assert ((record.confidence > 0) & (record.confidence <= 1)).all()
    np.testing.assert_allclose(record.latency_ms, record.stages_ms.sum(axis=1))
    assert record.facts["drive"]["image_size"] == [192, 128]


def test_an_image_that_cannot_be_used_has_no_mask_and_stops_nothing(tiny_engine: Path, tmp_path: Path) -> None:
    image, label = painted_frame(0)
    with BagWriter(tmp_path / "drive") as bag:
        for number, encoding in enumerate(("bgr8", "no_such_encoding", "bgr8"), start=1):
            bag.write_image(TOPIC, image, number * PERIOD_NS, "", encoding)
            bag.write_image(LABEL_TOPIC, label, number * PERIOD_NS, "", "mono8")
    (drive,) = bag_sequences([tmp_path / "drive"], TOPIC, label_topic=LABEL_TOPIC)

    record = evaluated(drive, Settings(tiny_engine))

    assert record.answered.tolist() == [True, False, True]
    assert record.scored.tolist() == [True, False, True]


def test_a_label_that_does_not_fit_is_named_by_bag_and_stamp(tiny_engine: Path, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive") as bag:
        bag.write_image(TOPIC, painted_frame(0)[0], PERIOD_NS, "")
        bag.write_image(LABEL_TOPIC, np.zeros((6, 8), np.uint8), PERIOD_NS, "", "mono8")
    (drive,) = bag_sequences([tmp_path / "drive"], TOPIC, label_topic=LABEL_TOPIC)

    with pytest.raises(DataError, match=r"drive, label of 100000000: .*192x128 pixels, the label 8x6"):
        evaluated(drive, Settings(tiny_engine))


def test_agreement_of_an_engine_with_itself_is_complete(tiny_engine: Path, drive: BagSequence) -> None:
    record = evaluated(replace(drive, label_topic=None), Settings(tiny_engine, reference=tiny_engine))

    counts = record.confusion.sum(axis=0)
    assert counts.sum() == np.trace(counts) == 5 * 192 * 128


def test_agreement_with_another_engine_is_less(
    tiny_engine: Path, make_tiny_engine: Callable[..., Path], drive: BagSequence
) -> None:
    reference = make_tiny_engine(width=192, height=128)

    record = evaluated(drive, Settings(tiny_engine, reference=reference))

    counts = record.confusion.sum(axis=0)
    assert 0.8 < np.trace(counts) / counts.sum() < 1


def test_a_reference_with_other_classes_is_refused(tiny_engine: Path, tmp_path: Path, drive: BagSequence) -> None:
    engine = load_engine(tiny_engine)
    shutil.copy(engine.onnx, tmp_path)
    classes = replace(CAMVID, name="hills", names=("hill", *CAMVID.names[1:]))
    other = replace(engine.manifest, name="other", classes=classes)

    with pytest.raises(EsegError, match="other has the classes of hills, tiny those of camvid"):
        evaluated(drive, Settings(tiny_engine, reference=write_manifest(other, tmp_path)))


def test_an_observer_sees_every_frame_with_its_score(tiny_engine: Path, drive: BagSequence) -> None:
    seen: list[tuple[FrameView, float]] = []

    with Evaluator(Settings(tiny_engine)) as evaluator:
        record = evaluator.evaluate(drive, observer=lambda view, score: seen.append((view, score.quality())))

    assert [quality for _, quality in seen] == pytest.approx(record.quality().tolist())
    np.testing.assert_array_equal(seen[2][0].image, painted_frame(0, 2)[0])
