from __future__ import annotations

import csv
import fcntl
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from eseg_ros.bag.reader import BagReader, mono8_pixels
from eseg_ros.bag.writer import BagWriter
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.evaluator import Settings
from eseg_ros.evaluation.mask_bag import OVERLAY_TOPIC
from eseg_ros.evaluation.processes import MASK_TOPIC
from eseg_ros.evaluation.run import Source, Spread, evaluate_run
from eseg_ros.evaluation.run_folder import RunError, RunFolder, load_run
from eseg_ros.evaluation.sequences import BagSequence, bag_sequences

from .conftest import LABEL_TOPIC, TOPIC, BagMaker

SOURCE = Source("bags", "labels")


@pytest.fixture
def bags(make_bag: BagMaker) -> list[BagSequence]:
    paths = [make_bag(f"bags/{name}", seed=seed) for seed, name in enumerate(("day", "dusk", "night"))]
    return bag_sequences(paths, TOPIC, label_topic=LABEL_TOPIC)


def test_a_run_leaves_a_summary_a_table_and_a_report(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    summary = evaluate_run(bags, SOURCE, Settings(tiny_engine, pictures=12), tmp_path / "run")

    assert summary == json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["frames"], summary["frames_in"], summary["frames_dropped"]) == (12, 12, 0)
    assert [sequence["name"] for sequence in summary["sequences"]] == ["day", "dusk", "night"]
    assert summary["intervals"]["miou"][0] <= summary["miou"] <= summary["intervals"]["miou"][1]
    assert sum(map(sum, summary["confusion"]["pixels"])) == 12 * 192 * 128
    rows = list(csv.DictReader((tmp_path / "run/frames.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert np.mean([float(row["pixel_accuracy"]) for row in rows]) == pytest.approx(summary["pixel_accuracy"], abs=1e-4)
    assert "data:image/png" in (tmp_path / "run/report.html").read_text()


def test_a_run_is_read_back_whole(tiny_engine: Path, bags: list[BagSequence], tmp_path: Path) -> None:
    summary = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")

    run = load_run(tmp_path / "run")

    assert run.summary == summary
    assert run.record.sequences == ["day", "dusk", "night"]
    assert run.classes.names == tuple(summary["per_class_iou"])


def test_a_run_goes_on_where_it_stopped_and_counts_nothing_twice(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    settings, out = Settings(tiny_engine), tmp_path / "run"
    whole = evaluate_run(bags, SOURCE, settings, out)
    finished = RunFolder(out).sequence_folder("day") / "frames.npz"
    before = finished.stat().st_mtime_ns
    shutil.rmtree(RunFolder(out).sequence_folder("night"))
    half_done = out / "sequences" / ".night.killed"
    half_done.mkdir()

    again = evaluate_run(bags, SOURCE, settings, out)

    assert finished.stat().st_mtime_ns == before
    assert not half_done.exists()
    assert (again["frames"], again["confusion"]) == (whole["frames"], whole["confusion"])


def test_a_sequence_that_two_workers_finish_counts_once(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")
    run = RunFolder(tmp_path / "run")

    run.store("day", lambda folder: run.record(["night"]))  # the slower one, with something else

    assert run.record(["day"]).sequences == ["day"]
    assert sorted(path.name for path in (run.path / "sequences").iterdir()) == ["day", "dusk", "night"]


def test_processes_give_what_one_gives(tiny_engine: Path, bags: list[BagSequence], tmp_path: Path) -> None:
    alone = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "alone")
    shared = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "shared", spread=Spread(processes=2))

    assert shared["confusion"] == alone["confusion"]
    assert shared["boundary_f"] == alone["boundary_f"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray")
def test_a_ray_cluster_gives_what_one_process_gives(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path, ray_address: str
) -> None:
    alone = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "alone")
    spread = Spread(processes=2, ray=True, ray_address=ray_address)

    shared = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "shared", spread=spread)

    assert shared["confusion"] == alone["confusion"]
    assert [sequence["name"] for sequence in shared["sequences"]] == ["day", "dusk", "night"]


def test_data_without_frames_are_an_error(tiny_engine: Path, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "empty") as bag:
        bag.write_image(LABEL_TOPIC, np.zeros((8, 8), np.uint8), 1, "", "mono8")
    sequences = bag_sequences([tmp_path / "empty"], LABEL_TOPIC, limit=0)

    with pytest.raises(EsegError, match="empty: there are no frames"):
        evaluate_run(sequences, SOURCE, Settings(tiny_engine), tmp_path / "run")


def test_a_bag_that_is_damaged_stops_none_of_the_others(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    cut_bag(bags[1].path)

    summary = evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")

    assert [sequence["name"] for sequence in summary["sequences"]] == ["day", "night"]
    assert summary["failed"].keys() == {"dusk"}
    assert "dusk" in summary["failed"]["dusk"]


def cut_bag(path: Path) -> None:
    file = next(path.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_run_of_damaged_bags_alone_is_an_error(tiny_engine: Path, bags: list[BagSequence], tmp_path: Path) -> None:
    cut_bag(bags[1].path)

    with pytest.raises(EsegError, match="dusk"):
        evaluate_run(bags[1:2], SOURCE, Settings(tiny_engine), tmp_path / "run")


def test_another_run_is_not_written_into_the_same_folder(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")

    with pytest.raises(RunError, match=r"holds a run with runtime 'auto', and 'onnxruntime' was asked for"):
        evaluate_run(bags, SOURCE, Settings(tiny_engine, runtime="onnxruntime"), tmp_path / "run")


def test_a_bag_that_changed_since_is_noticed(tiny_engine: Path, bags: list[BagSequence], tmp_path: Path) -> None:
    evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")
    (bags[0].path / "more.txt").write_text("more")

    with pytest.raises(RunError, match=r"day has \d+ bytes; it had \d+ when the run"):
        evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")


def test_two_runs_at_once_do_not_share_a_folder(tiny_engine: Path, bags: list[BagSequence], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another eseg evaluate works in"):
            evaluate_run(bags, SOURCE, Settings(tiny_engine), tmp_path / "run")


def test_masks_are_written_as_a_bag_with_overlays_and_the_images_stamps(
    tiny_engine: Path, bags: list[BagSequence], tmp_path: Path
) -> None:
    evaluate_run(bags[:1], SOURCE, Settings(tiny_engine, masks=True), tmp_path / "run")

    with BagReader(tmp_path / "run/sequences/day/masks") as masks:
        frames = list(masks.frames(MASK_TOPIC))
        overlays = list(masks.frames(OVERLAY_TOPIC))
    stamps = [labeled.frame.stamp_ns for labeled in bags[0].frames()]
    assert [frame.stamp_ns for frame in frames] == [frame.stamp_ns for frame in overlays] == stamps
    assert frames[0].frame_id == "camera"
    assert overlays[0].encoding == "jpeg"
    truth = [labeled.label for labeled in bags[0].frames()]
    right = [(mono8_pixels(frame) == label).mean() for frame, label in zip(frames, truth, strict=True)]
    assert min(right) > 0.6


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished run; make one: eseg evaluate"):
        load_run(tmp_path)
