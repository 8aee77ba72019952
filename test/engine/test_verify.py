"""Engines held against the engines they were made from: what passes, what fails, and what is told."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.data.reading import DataError
from eseg_ros.engine import verify as verifying
from eseg_ros.engine import verify_command
from eseg_ros.engine.manifest import Engine, load_engine, write_manifest
from eseg_ros.engine.plan import BuildOptions, Machine, Plan
from eseg_ros.engine.plan_cache import find_or_store, scan
from eseg_ros.engine.verify import LIMITS, Limits, record_verification, verify
from eseg_ros.errors import EngineError
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.tensorrt.network import TensorRtNetwork
from eseg_ros.runtime.types import Runtime

EngineMaker = Callable[..., Path]


@pytest.fixture
def blind_engine(make_small_engine: EngineMaker) -> Path:
    """The small engine, but for the sky, which it takes for something else; sky is in frame "2" alone."""

    def forget_the_sky(classify: dict) -> None:
        classify["bias"][0] = -1e3

    return make_small_engine("blind", change=forget_the_sky)


def test_an_engine_sees_what_it_sees_itself(small_engine: Path, painted_data: Path) -> None:
    report = verify(small_engine, small_engine, painted_data)
    assert report["passed"]
    assert report["failures"] == []
    assert report["agreement"] == 1
    assert report["miou_drop"] == 0
    assert report["frames"] == 4


def test_two_runtimes_of_one_engine_can_be_compared(small_engine: Path, painted_data: Path) -> None:
    for library in ("openvino", "onnxruntime"):
        pytest.importorskip(library)
    report = verify(small_engine, small_engine, painted_data, runtime="openvino", reference_runtime="onnxruntime")
    assert (report["runtime"], report["reference_runtime"]) == ("openvino", "onnxruntime")
    assert report["passed"]


def test_a_damaged_engine_fails_and_the_frame_that_changed_most_is_named_first(
    blind_engine: Path, small_engine: Path, painted_data: Path
) -> None:
    report = verify(blind_engine, small_engine, painted_data)
    assert not report["passed"]
    assert report["worst_frames"][0]["name"] == "2"
    assert report["worst_frames"][0]["agreement"] == pytest.approx(0.5, abs=0.1), "half of it is sky"
    assert report["worst_frames"][1]["agreement"] > 0.9
    agreement, drop = report["failures"]
    assert "expected at least 99.90%; worst frames: 2 (" in agreement
    assert "points below small's, expected at most 0.10; worst frames: 2 (" in drop


def test_agreement_is_a_share_of_all_pixels(blind_engine: Path, small_engine: Path, painted_data: Path) -> None:
    report = verify(blind_engine, small_engine, painted_data)
    changed = sum(1 - frame["agreement"] for frame in report["worst_frames"])
    assert report["agreement"] == pytest.approx(1 - changed / 4, abs=1e-5)


def test_the_drop_is_that_of_the_scores_in_points_class_by_class(
    blind_engine: Path, small_engine: Path, painted_data: Path
) -> None:
    report = verify(blind_engine, small_engine, painted_data)
    assert report["per_class_iou"]["sky"] == 0
    assert report["reference_per_class_iou"]["sky"] > 0.8
    assert report["miou_drop"] == pytest.approx(100 * (report["reference_miou"] - report["miou"]), abs=1e-3)
    assert report["miou_drop"] > 8


def test_an_engine_better_than_its_reference_has_a_negative_drop(
    blind_engine: Path, small_engine: Path, painted_data: Path
) -> None:
    report = verify(small_engine, blind_engine, painted_data, limits=Limits(agreement=0.5, miou_drop=0.0))
    assert report["miou_drop"] < 0
    assert report["passed"]


def test_without_labels_only_the_masks_are_compared(blind_engine: Path, small_engine: Path, painted_data: Path) -> None:
    shutil.rmtree(painted_data / "val/labels")
    report = verify(blind_engine, small_engine, painted_data)
    assert (report["miou"], report["reference_miou"], report["miou_drop"]) == (None, None, None)
    assert len(report["failures"]) == 1
    assert verify(small_engine, small_engine, painted_data)["passed"]


def test_fewer_frames_are_spread_over_the_split(small_engine: Path, painted_data: Path) -> None:
    report = verify(small_engine, small_engine, painted_data, frames=2)
    assert sorted(frame["name"] for frame in report["worst_frames"]) == ["0", "3"]


def test_limits_are_those_of_the_engines_precision(small_engine: Path, painted_data: Path) -> None:
    assert verify(small_engine, small_engine, painted_data)["limits"] == {"agreement": 0.999, "miou_drop": 0.1}
    assert LIMITS["fp16"] == Limits(0.995, 0.5)
    assert LIMITS["int8"] == Limits(0.98, 1.5)


def test_engines_of_different_classes_are_not_compared(
    small_engine: Path, make_small_engine: EngineMaker, painted_data: Path
) -> None:
    other = load_engine(make_small_engine("other"))
    renamed = replace(other.manifest.classes, name="other", names=("heaven", *other.manifest.classes.names[1:]))
    write_manifest(replace(other.manifest, classes=renamed), other.onnx.parent)
    with pytest.raises(EngineError, match=r"'camvid'.*'other'.*same classes"):
        verify(small_engine, other.onnx, painted_data)


def test_a_frame_that_is_none_is_named(small_engine: Path, painted_data: Path) -> None:
    (painted_data / "val/images/1.png").write_bytes(b"")
    with pytest.raises(Exception, match=r"1\.png"):
        verify(small_engine, small_engine, painted_data)


def test_a_label_of_another_size_is_named(small_engine: Path, painted_data: Path) -> None:
    cv2.imwrite(str(painted_data / "val/labels/1.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"labels/1\.png: .*96x64"):
        verify(small_engine, small_engine, painted_data)


def test_the_result_is_recorded_in_the_manifest_beside_what_stood_there(
    blind_engine: Path, small_engine: Path, painted_data: Path
) -> None:
    engine = load_engine(blind_engine)
    write_manifest(replace(engine.manifest, parity={"frames": 8}), engine.onnx.parent)
    report = verify(blind_engine, small_engine, painted_data)
    parity = load_engine(record_verification(blind_engine, report)).manifest.parity
    assert parity["frames"] == 8
    assert parity["data/val"]["agreement"] == report["agreement"]
    assert parity["data/val"]["reference_engine"] == "small"
    assert parity["data/val"]["passed"] is False
    assert parity["data/val"]["command"].startswith("eseg verify blind.json --against small.json --data data")


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    verify_command.add_arguments(parser)
    return verify_command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_command_ends_with_0_where_all_is_well(
    small_engine: Path, painted_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(small_engine, "--against", small_engine, "--data", painted_data) == 0
    assert "equal pixels 100.00% (expected at least 99.90%)" in capsys.readouterr().out


def test_the_command_ends_with_1_past_a_limit_and_says_which(
    blind_engine: Path, small_engine: Path, painted_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(blind_engine, "--against", small_engine, "--data", painted_data) == 1
    printed = capsys.readouterr()
    assert "sky" in printed.out
    assert "of the pixels agree with small, expected at least 99.90%" in printed.err


def test_limits_can_be_given(blind_engine: Path, small_engine: Path, painted_data: Path) -> None:
    both = (blind_engine, "--against", small_engine, "--data", painted_data)
    assert command(*both, "--min-agreement", "80", "--max-drop", "50") == 0
    assert command(*both, "--min-agreement", "80", "--max-drop", "5") == 1
    assert command(*both, "--min-agreement", "95", "--max-drop", "50") == 1


def test_the_command_compares_without_labels(
    small_engine: Path, painted_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(painted_data / "val/labels")
    assert command(small_engine, "--against", small_engine, "--data", painted_data) == 0
    assert "no labels" in capsys.readouterr().out


def test_the_command_writes_what_was_asked_for(small_engine: Path, painted_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert (
        command(small_engine, "--against", small_engine, "--data", painted_data, "--json", out, "--write-manifest") == 0
    )
    assert json.loads(out.read_text())["agreement"] == 1
    assert load_engine(small_engine).manifest.parity["data/val"]["agreement"] == 1


class PlanOnTheHost(HostNetwork, TensorRtNetwork):
    """A plan that is run by ONNX Runtime on the emulated GPU."""

    name = "tensorrt"
    manifest = input_dtype = output_dtype = None  # attributes in place of properties

    def __init__(self, engine: Engine, plan: Plan) -> None:
        super().__init__(engine)
        self.plan = plan


@pytest.fixture
def plan(small_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The small engine's, which runtime "tensorrt" runs."""
    machine = Machine("tensorrt", "10.3.0", ("8.7",), "Emulated GPU")
    stored, _ = find_or_store(load_engine(small_engine), machine, BuildOptions(), tmp_path / "plans", lambda: b"code")

    def create(engine: Engine, kind: str) -> Runtime:
        if kind != "tensorrt":
            return create_runtime(engine, kind)
        return CudaRuntime(EmulatedDriver(free_running=True), PlanOnTheHost(engine, stored))

    monkeypatch.setattr(verifying, "create_runtime", create)
    return stored


def test_what_a_plan_keeps_is_noted_with_the_plan(
    small_engine: Path, painted_data: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    both = (small_engine, "--against", small_engine, "--data", painted_data)
    assert command(*both, "--runtime", "tensorrt", "--reference-runtime", "onnxruntime") == 0
    ((noted,), _) = scan(plan.path.parent)
    assert noted.manifest.parity["data/val"]["agreement"] > 0.999
    assert noted.manifest.parity["data/val"]["reference_runtime"] == "onnxruntime"
    assert f"noted with the plan: {plan.path.with_suffix('.json')}" in capsys.readouterr().out
    assert "data/val" not in load_engine(small_engine).manifest.parity


def test_without_a_plan_nothing_is_noted(small_engine: Path, painted_data: Path, plan: Plan) -> None:
    assert command(small_engine, "--against", small_engine, "--data", painted_data, "--runtime", "onnxruntime") == 0
    ((noted,), _) = scan(plan.path.parent)
    assert noted.manifest.parity == {}
