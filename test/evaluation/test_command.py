from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import pytest

from eseg_ros.bag.reader import BagReader
from eseg_ros.evaluation import compare_command
from eseg_ros.evaluation.compare_command import CONDITION_HOLDS
from eseg_ros.evaluation.processes import MASK_TOPIC
from eseg_ros.evaluation.run_folder import load_run

from .conftest import LABEL_TOPIC, TOPIC, BagMaker, Evaluate, painted_frame


def compare(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    compare_command.add_arguments(parser)
    return compare_command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Four painted frames on disk, of two sequences."""
    for folder in ("images", "labels"):
        (tmp_path / "data/val" / folder).mkdir(parents=True)
    for index, name in enumerate(("left_1", "left_2", "right_1", "right_2")):
        for folder, image in zip(("images", "labels"), painted_frame(1, index), strict=True):
            cv2.imwrite(str(tmp_path / f"data/val/{folder}/{name}.png"), image)
    return tmp_path / "data"


def test_a_data_set_in_a_run_scores_as_without_one(
    evaluate: Evaluate, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--data", split, "--json", tmp_path / "alone.json") == 0
    assert evaluate("--data", split, "--out", tmp_path / "run", "--json", tmp_path / "run.json") == 0

    alone, run = (json.loads((tmp_path / name).read_text()) for name in ("alone.json", "run.json"))
    for key in ("miou", "pixel_accuracy", "per_class_iou", "frames", "data"):
        assert run[key] == alone[key]
    assert [sequence["name"] for sequence in run["sequences"]] == ["left", "right"]
    assert run["boundary_f"] is not None
    assert run["temporal_consistency"] is None  # its images need not be a film
    assert f"report: {tmp_path / 'run/report.html'}" in capsys.readouterr().out


def test_bags_without_ground_truth_are_judged_by_steadiness_and_confidence(
    evaluate: Evaluate, make_bag: BagMaker, tmp_path: Path
) -> None:
    make_bag("bags/a", labels=False)
    make_bag("bags/b", labels=False, seed=1)

    assert evaluate("--bag", tmp_path / "bags", "--out", tmp_path / "run") == 0

    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["truth"], summary["miou"], summary["per_class_iou"], summary["frames"]) == (None, None, None, 0)
    assert 0.5 < summary["temporal_consistency"] <= 1
    assert 0 < summary["confidence"] <= 1
    assert summary["data"] == "2 bags"


def test_bags_can_be_scored_by_agreement_with_another_engine(
    evaluate: Evaluate, make_bag: BagMaker, tiny_engine: Path, tmp_path: Path
) -> None:
    bag = make_bag("drive", labels=False)

    assert evaluate("--bag", bag, "--reference", tiny_engine, "--out", tmp_path / "run") == 0

    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["truth"], summary["miou"]) == ("masks of tiny", 1.0)


def test_live_replays_the_bag_to_the_node_and_accounts_for_every_frame(
    evaluate: Evaluate, make_bag: BagMaker, tmp_path: Path
) -> None:
    source = ("--bag", make_bag("drive", frames=6), "--topic", TOPIC, "--label-topic", LABEL_TOPIC)

    assert evaluate(*source, "--live", "--masks", "--out", tmp_path / "run") == 0

    run = load_run(tmp_path / "run")
    assert run.summary["mode"] == "live"
    assert run.summary["frames_in"] == 6
    assert run.summary["frames_published"] == run.record.answered.sum() > 0
    assert run.summary["frames_dropped"] == sum(run.summary["dropped"].values())
    assert (run.record.latency_ms[run.record.answered] > 0).all()
    assert run.summary["rate_hz"] == pytest.approx(10)
    with BagReader(tmp_path / "run/sequences/drive/masks") as masks:
        assert masks.topic(MASK_TOPIC).count == run.summary["frames_published"]


def test_a_failed_bag_is_told_and_the_status_is_not_zero(
    evaluate: Evaluate, make_bag: BagMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bag("bags/fine")
    file = next(make_bag("bags/cut").glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    status = evaluate(
        *("--bag", tmp_path / "bags", "--topic", TOPIC, "--label-topic", LABEL_TOPIC, "--out", tmp_path / "run")
    )

    assert status == 1
    assert "cut could not be evaluated: the bag" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/summary.json").read_text())["frames"] == 4


def test_options_that_do_not_go_together_are_refused(evaluate: Evaluate, split: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--bag needs --out"):
        evaluate("--bag", tmp_path)
    with pytest.raises(ValueError, match="--live needs --bag"):
        evaluate("--data", split, "--live")
    with pytest.raises(ValueError, match="--live measures one bag at a time"):
        evaluate("--bag", tmp_path, "--live", "--ray", "--out", tmp_path / "run")


def test_compare_prints_the_verdict_and_writes_it(
    evaluate: Evaluate, make_bag: BagMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = make_bag("drive")
    source = ("--bag", bag, "--topic", TOPIC, "--label-topic", LABEL_TOPIC)
    evaluate(*source, "--out", tmp_path / "a")
    evaluate(*source, "--runtime", "onnxruntime", "--out", tmp_path / "b")

    status = compare(
        tmp_path / "a",
        tmp_path / "b",
        *("--json", tmp_path / "out.json", "--html", tmp_path / "out.html", "--fail-if", "miou < -0.5"),
    )

    assert status == 0
    assert "no difference" in capsys.readouterr().out
    comparison = json.loads((tmp_path / "out.json").read_text())
    assert (comparison["common_frames"], comparison["conditions"]) == (4, {"miou < -0.5": False})
    assert "No difference" in (tmp_path / "out.html").read_text()


def test_a_condition_that_holds_is_the_exit_status(
    evaluate: Evaluate, make_bag: BagMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate("--bag", make_bag("drive", labels=False), "--out", tmp_path / "a")

    assert compare(tmp_path / "a", tmp_path / "a", "--fail-if", "frames_dropped >= 0") == CONDITION_HOLDS
    assert "FAILED: frames_dropped >= 0 (it is +0.00)" in capsys.readouterr().out
