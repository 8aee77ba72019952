from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino
import pytest

from eseg_ros.engine.manifest import load_engine, write_manifest
from eseg_ros.errors import EngineError, UsageError
from eseg_ros.evaluation import bench_command, bench_transport
from eseg_ros.evaluation.bench import Terms, bench, summarize
from eseg_ros.evaluation.bench_subjects import engine_subjects, model_subjects
from eseg_ros.evaluation.bench_worker import STAGES, BenchError, Block, Configuration, Subject, Worker

Command = Callable[[str], int]


def block(
    preprocess: list[float], inference: list[float], postprocess: list[float], fps: tuple[float, float] = (50, 60)
) -> Block:
    latency = [sum(times) for times in zip(preprocess, inference, postprocess, strict=True)]
    stages = dict(zip(STAGES, (preprocess, inference, postprocess, latency), strict=True))
    return Block(stages, 2 * inference[0], 100.0, *fps)


def subject_of(engine: Path) -> Subject:
    (subject,) = engine_subjects([engine], (), engine.parent)
    return subject


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("--engine NAME --repeat 1")`: `eseg bench`; returns the exit status."""

    def run(words: str) -> int:
        parser = argparse.ArgumentParser("eseg bench")
        bench_command.add_arguments(parser)
        return bench_command.run(parser.parse_args(words.split()))

    return run


# The numbers.


def test_stages_are_summarized_over_all_frames_of_all_blocks() -> None:
    blocks = [block([1, 1], [10, 30], [2, 2]), block([1, 1], [20, 40], [2, 2])]
    summary = summarize(blocks, blocks)
    assert summary["inference_ms"] == {"median": 25, "p95": pytest.approx(38.5)}
    assert summary["latency_ms"]["median"] == 28
    assert summary["cpu_ms"] == 30


def test_the_overhead_is_what_surrounds_the_inference_frame_by_frame() -> None:
    blocks = [block([1, 1, 1], [10, 20, 1], [1, 1, 1])]
    assert summarize(blocks, blocks)["overhead"] == pytest.approx(0.2)


def test_the_gain_of_a_second_slot_is_taken_block_by_block_so_that_noise_cancels() -> None:
    fast_then_slow = [block([1], [10], [1], (100, 120)), block([1], [10], [1], (10, 12))]
    assert summarize(fast_then_slow, fast_then_slow)["depth2_gain"] == pytest.approx(1.2)


def test_configurations_are_compared_with_the_first_block_by_block() -> None:
    first = [block([1], [10], [1]), block([1], [100], [1])]
    second = [block([1], [5], [1]), block([1], [50], [1])]
    assert summarize(second, first)["ratio"] == pytest.approx(0.5)


def test_a_network_that_is_timed_alone_has_nothing_but_its_inference() -> None:
    blocks = [Block({"inference_ms": [4.0, 6.0]}, 9.0, 100.0, 200.0, None)]
    summary = summarize(blocks, blocks)
    assert summary["inference_ms"]["median"] == 5
    assert "latency_ms" not in summary
    assert [summary[key] for key in ("overhead", "fps_depth2", "depth2_gain")] == [None, None, None]


# What is timed.


def test_every_engine_is_timed_at_every_size_in_every_runtime(lite_engine: Path, tmp_path: Path) -> None:
    subjects = list(engine_subjects([lite_engine], [(96, 64), (128, 64)], tmp_path))
    report = bench(subjects, Terms(("openvino", "onnxruntime"), repeat=1, threads=1))
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
        assert min(result["fps_depth1"], result["fps_depth2"], result["cpu_ms"], result["memory_mb"]) > 0
        assert (result["alone"], result["score"]) == (None, None)
    assert sorted(path.name for path in lite_engine.parent.iterdir()) == ["lite.json", "lite.onnx"]


@pytest.mark.slow
def test_a_network_of_the_zoo_is_timed_alone_in_all_precisions(tmp_path: Path) -> None:
    subjects = list(model_subjects(["fast_scnn"], [(96, 64)], tmp_path, int8=True))
    bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    results = bench(subjects, Terms(["openvino"], bf16, repeat=1, threads=1))["configurations"]
    assert [result["precision"] for result in results] == ["fp32", *(["bf16"] if bf16 else []), "int8"]
    assert all(result["engine"] == result["model"] == "fast_scnn" for result in results)
    assert all(result["alone"].startswith("untrained") and result["inference_ms"]["median"] > 0 for result in results)
    assert results[0]["file_mb"] == pytest.approx(4.6, abs=0.1)


@pytest.mark.parametrize(
    ("models", "sizes", "message"),
    [
        (["nothing"], [(96, 64)], "unknown model 'nothing'; expected one of .*fast_scnn"),
        (["fast_scnn"], [], "no input size of its own; say which: --size"),
    ],
)
def test_a_network_needs_a_name_and_a_size(
    models: Sequence[str], sizes: Sequence[tuple[int, int]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        list(model_subjects(models, sizes, tmp_path, int8=False))


def test_engines_are_scored_on_the_split_in_the_runtime_that_is_timed(tiny_engine: Path, dataset: Path) -> None:
    report = bench([subject_of(tiny_engine)], Terms(repeat=1, data=dataset, split="val"))
    scores = [result["score"] for result in report["configurations"]]
    assert report["scored"] == report["frames"] == f"{dataset.name}/val"
    assert scores[0] == scores[1]
    assert scores[0]["frames"] == 3
    assert 0.9 < scores[0]["miou"] <= 1


def test_an_engine_that_a_runtime_refuses_ends_the_benchmark_with_its_error(
    make_tiny_engine: Callable[..., Path],
) -> None:
    engine = load_engine(make_tiny_engine())
    wrong = replace(engine.manifest, output=replace(engine.manifest.output, width=99))
    path = write_manifest(wrong, engine.onnx.parent)
    with pytest.raises(EngineError, match="do not belong together"):
        bench([subject_of(path)], Terms(["openvino"], repeat=1))


def test_a_configuration_whose_process_dies_is_named(tiny_engine: Path, tmp_path: Path) -> None:
    no_frames = tmp_path / "frames.npy"
    no_frames.write_bytes(b"")
    with pytest.raises(BenchError, match="tiny in openvino: its process ended with status 1"):
        Worker(Configuration(subject_of(tiny_engine), "openvino", "fp32", 0, no_frames))


# The command.


def test_the_command_prints_a_line_a_configuration_and_writes_numbers_and_plot(
    command: Command, tiny_engine: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "bench.json", tmp_path / "plot.svg"
    words = f"--engine {tiny_engine} --runtime openvino --repeat 1 --camera 160x120 --json {out}"
    assert command(f"{words} --data {dataset} --split val --plot {plot}") == 0
    (result,) = json.loads(out.read_text())["configurations"]
    assert (result["input"], result["camera"]) == ("96x64", "160x120")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tiny" in line]
    assert f"{result['inference_ms']['median']:.2f}" in line
    assert f"{result['score']['miou']:.4f}" in line
    assert ">tiny</text>" in plot.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--int8", "--int8 is for --model"),
        ("--split val", "--split names what engines are scored on; say of which data set"),
        ("--plot plot.svg", "say what to score on: --data ROOT --split val"),
        ("--plot plot.png --data ROOT --split val", "--plot writes SVG; .*chromium"),
        ("--bf16 --runtime onnxruntime", "--bf16 is OpenVINO's"),
    ],
)
def test_what_does_not_go_together_is_refused(command: Command, tiny_engine: Path, words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command(f"--engine {tiny_engine} {words}")


def test_what_stands_behind_node_is_the_node_benchs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[argparse.Namespace] = []
    monkeypatch.setattr(bench_transport, "run", lambda args: given.append(args) or 7)
    assert command("--node --engine mine --rounds 2") == 7
    assert (given[0].engine, given[0].rounds) == ("mine", 2)


def test_each_bench_shows_its_own_options_only(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = {}
    for words in ("--help", "--gpu --help", "--node --help"):
        with pytest.raises(SystemExit, match="0"):
            command(words)
        shown[words] = capsys.readouterr().out
    assert "--bf16" in shown["--help"]
    assert "--rounds" not in shown["--help"]
    assert "--wait" not in shown["--help"]
    assert "--wait" in shown["--gpu --help"]
    assert "--rounds" in shown["--node --help"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--repeat 3 --node", "--node has options of its own, and --repeat stands before it"),
        ("--node --repeat 3", "bench --node: error: unrecognized arguments: --repeat 3"),
        ("--node --gpu", "bench --node: error: unrecognized arguments: --gpu"),
    ],
)
def test_options_of_different_benches_do_not_mix(
    command: Command, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(words)
    assert message in capsys.readouterr().err
