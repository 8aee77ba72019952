from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eseg_ros.engine.manifest import load_engine, write_manifest
from eseg_ros.errors import EngineError
from eseg_ros.evaluation import bench_command
from eseg_ros.evaluation.bench import STAGES, BenchError, Block, Configuration, Worker, bench, summarize


def block(preprocess: list[float], inference: list[float], postprocess: list[float], fps: tuple[float, float]) -> Block:
    latency = [sum(times) for times in zip(preprocess, inference, postprocess, strict=True)]
    return Block(dict(zip(STAGES, (preprocess, inference, postprocess, latency), strict=True)), *fps)


def test_stages_are_summarized_over_all_frames_of_all_blocks() -> None:
    summary = summarize(
        [
            block([1, 1], [10, 30], [2, 2], (50, 60)),
            block([1, 1], [20, 40], [2, 2], (50, 60)),
        ]
    )
    assert summary["inference_ms"] == {"median": 25, "p95": pytest.approx(38.5)}
    assert summary["latency_ms"]["median"] == 28


def test_the_overhead_is_what_surrounds_the_inference_frame_by_frame() -> None:
    summary = summarize([block([1, 1, 1], [10, 20, 1], [1, 1, 1], (50, 60))])
    assert summary["overhead"] == pytest.approx(0.2)


def test_the_gain_of_a_second_slot_is_taken_block_by_block_so_that_noise_cancels() -> None:
    fast_then_slow = [block([1], [10], [1], (100, 120)), block([1], [10], [1], (10, 12))]
    assert summarize(fast_then_slow)["depth2_gain"] == pytest.approx(1.2)


def test_every_engine_is_timed_at_every_size_in_every_runtime(lite_engine: Path) -> None:
    report = bench([lite_engine], [(96, 64), (128, 64)], ["openvino", "onnxruntime"], repeat=1, threads=1)
    timed = [(r["engine"], r["input"], r["camera"], r["runtime"]) for r in report["configurations"]]
    assert timed == [
        ("lite", "96x64", "96x64", "openvino"),
        ("lite", "96x64", "96x64", "onnxruntime"),
        ("lite_128x64", "128x64", "128x64", "openvino"),
        ("lite_128x64", "128x64", "128x64", "onnxruntime"),
    ]
    for result in report["configurations"]:
        assert all(0 < result[stage]["median"] <= result[stage]["p95"] for stage in STAGES)
        assert result["latency_ms"]["median"] >= result["inference_ms"]["median"]
        assert result["fps_depth1"] > 0
        assert result["fps_depth2"] > 0
    assert sorted(path.name for path in lite_engine.parent.iterdir()) == ["lite.json", "lite.onnx"]


def test_the_command_prints_a_line_a_configuration_and_writes_the_numbers(
    tiny_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    bench_command.add_arguments(parser)
    out = tmp_path / "bench.json"
    words = f"--engine {tiny_engine} --runtime openvino --repeat 1 --camera 160x120 --json {out}".split()
    assert bench_command.run(parser.parse_args(words)) == 0
    (result,) = json.loads(out.read_text())["configurations"]
    assert (result["input"], result["camera"]) == ("96x64", "160x120")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tiny" in line]
    assert f"{result['inference_ms']['median']:.2f}" in line


def test_an_engine_that_a_runtime_refuses_ends_the_benchmark_with_its_error(
    make_tiny_engine: Callable[..., Path],
) -> None:
    engine = load_engine(make_tiny_engine())
    wrong = replace(engine.manifest, output=replace(engine.manifest.output, width=99))
    path = write_manifest(wrong, engine.onnx.parent)
    with pytest.raises(EngineError, match="do not belong together"):
        bench([path], runtimes=["openvino"], repeat=1)


def test_a_configuration_whose_process_dies_is_named(tiny_engine: Path, tmp_path: Path) -> None:
    no_frames = tmp_path / "frames.npy"
    no_frames.write_bytes(b"")
    with pytest.raises(BenchError, match="tiny in openvino: its process ended with status 1"):
        Worker(Configuration(tiny_engine, "openvino", 0, no_frames))
