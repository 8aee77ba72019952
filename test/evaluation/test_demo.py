from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.bag.create import IMAGE_TOPIC
from eseg_ros.bag.reader import BagReader
from eseg_ros.bag.writer import BagWriter
from eseg_ros.errors import BagError, EngineError
from eseg_ros.evaluation.demo import render_demo_drive, run_demo
from eseg_ros.evaluation.live import LiveError, run_live
from eseg_ros.evaluation.run_folder import load_run
from eseg_ros.evaluation.sequences import bag_sequences
from eseg_ros.labels import CAMVID

FRAMES = 6
SUMMARY_KEYS = {
    *("frames_in", "frames_published", "frames_dropped", "miou", "pixel_accuracy", "per_class_iou"),
    *("latency_ms", "inference_ms", "engine", "runtime", "machine"),
}


def test_a_rendered_drive_leaves_scores_a_report_a_picture_and_a_video(tiny_engine: Path, tmp_path: Path) -> None:
    drive = render_demo_drive(tmp_path, FRAMES, width=160, height=120)

    summary = run_demo(drive, tiny_engine, tmp_path)

    assert summary.keys() >= SUMMARY_KEYS
    assert summary == json.loads((tmp_path / "summary.json").read_text()) == load_run(tmp_path).summary
    assert summary["frames_in"] == FRAMES == summary["frames_published"] + summary["frames_dropped"]
    assert summary["frames_dropped"] == sum(summary["dropped"].values())
    assert summary["frames"] == summary["frames_published"]
    assert set(summary["per_class_iou"]) == set(CAMVID.names)
    assert 0 <= summary["miou"] <= 1
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"] <= summary["latency_ms"]["max"]
    assert summary["inference_ms"]["p50"] > 0
    assert cv2.imread(str(tmp_path / "overlay.png")).shape[1] == 2 * 160
    assert cv2.VideoCapture(str(tmp_path / "video.webm")).read()[0]
    report = (tmp_path / "report.html").read_text()
    assert "tiny on drive" in report
    assert "data:video/webm" in report


def test_a_bag_of_compressed_images_without_ground_truth_gives_masks_and_no_scores(
    tiny_engine: Path, tmp_path: Path
) -> None:
    _, png = cv2.imencode(".png", np.full((48, 64, 3), CAMVID.palette[3][::-1], np.uint8))
    with BagWriter(tmp_path / "own", "sqlite3") as bag:
        for index in range(FRAMES):
            bag.write_compressed("/front/compressed", png.tobytes(), "png", (index + 1) * 10**8, "front")
    (drive,) = bag_sequences([tmp_path / "own"], None)

    summary = run_demo(drive, tiny_engine, tmp_path)

    assert summary["frames_in"] == summary["frames_published"] + summary["frames_dropped"] == FRAMES
    assert (summary["miou"], summary["pixel_accuracy"], summary["per_class_iou"]) == (None, None, None)
    assert summary["frames_published"] > 0


def test_frames_limits_how_much_of_a_bag_is_played(tiny_engine: Path, tmp_path: Path) -> None:
    drive = render_demo_drive(tmp_path, FRAMES, width=64, height=48)

    run = run_live(drive.path, IMAGE_TOPIC, compressed=False, engine=tiny_engine, folder=tmp_path, frames=2)

    with BagReader(drive.path) as bag:
        stamps = [frame.stamp_ns for frame in bag.frames(IMAGE_TOPIC, 2)]
    assert [stamp_ns for stamp_ns, _ in run.published] == stamps


def test_dropped_frames_are_counted_and_the_others_scored(tiny_engine: Path, tmp_path: Path) -> None:
    """Everything on the way out counts: of three images one has an encoding that no engine can use."""
    image = np.zeros((48, 64, 3), np.uint8)
    with BagWriter(tmp_path / "own") as bag:
        for index, encoding in enumerate(("bgr8", "no_such_encoding", "bgr8")):
            stamp_ns = (index + 1) * 10**8
            bag.write_image("/image", image, stamp_ns, "", encoding)
            bag.write_image("/label", np.zeros((48, 64), np.uint8), stamp_ns, "", "mono8")
    (drive,) = bag_sequences([tmp_path / "own"], "/image", label_topic="/label")

    summary = run_demo(drive, tiny_engine, tmp_path)

    assert summary["frames_in"] == 3
    assert summary["frames_dropped"] == sum(summary["dropped"].values())
    assert summary["dropped"]["rejected"] == 1
    assert summary["frames"] == summary["frames_published"]
    assert load_run(tmp_path).record.answered[1] == np.False_


def test_a_second_demo_replaces_what_the_first_one_left(tiny_engine: Path, tmp_path: Path) -> None:
    for frames in (3, 2):
        run_demo(render_demo_drive(tmp_path, frames, width=64, height=48), tiny_engine, tmp_path)

    assert json.loads((tmp_path / "summary.json").read_text())["frames_in"] == 2


def test_an_engine_that_is_missing_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    drive = render_demo_drive(tmp_path, 1, width=64, height=48)

    with pytest.raises(EngineError, match=r"missing\.json"):
        run_demo(drive, tmp_path / "missing.json", tmp_path)
    assert not (tmp_path / "sequences").exists()


def test_a_topic_that_the_bag_lacks_is_an_error_before_anything_starts(tiny_engine: Path, tmp_path: Path) -> None:
    drive = replace(render_demo_drive(tmp_path, 1, width=64, height=48), topic="/nothing")

    with pytest.raises(BagError, match=r"no image topic /nothing(?s:.*)/camera/image_raw"):
        run_demo(drive, tiny_engine, tmp_path)
    assert not (tmp_path / "sequences").exists()


def test_a_node_that_cannot_start_is_an_error_with_its_last_lines(tiny_engine: Path, tmp_path: Path) -> None:
    drive = render_demo_drive(tmp_path, 1, width=64, height=48)

    with pytest.raises(LiveError, match=r"(?s)last lines of .*node\.log.*no_such_engine"):
        run_live(
            drive.path,
            IMAGE_TOPIC,
            compressed=False,
            engine=tiny_engine,
            folder=tmp_path,
            parameters={"engine": "no_such_engine.json"},
        )
