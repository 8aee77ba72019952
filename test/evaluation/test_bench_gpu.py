from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from copying_network import CopyingNetwork, manifest_of
from emulated_driver import EmulatedDriver
from host_network import HostNetwork

from eseg_ros.data.reading import image_frame
from eseg_ros.engine.manifest import load_engine, write_manifest
from eseg_ros.errors import DeviceError, RuntimeUnavailableError
from eseg_ros.evaluation import bench_gpu_command, bench_table
from eseg_ros.evaluation.bench_gpu import (
    STAGES,
    UNCOUNTED,
    BareTimes,
    GpuBlock,
    bench_gpu,
    limits_of,
    percentiles,
    run_frames,
    summarize_gpu,
)
from eseg_ros.evaluation.bench_node import time_node
from eseg_ros.evaluation.torch_network import TorchNetwork, engine_network, zoo_network
from eseg_ros.evaluation.trtexec import LAUNCH, compute_times, find_trtexec, run_trtexec, trtexec_command
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.driver import DeviceInfo, Driver
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.types import Frame, Outputs

# The arithmetic.


def block(
    *,
    parts: tuple[float, float, float, float] = (1, 2, 10, 3),
    latency: float = 17,
    fps_depth2: float = 90,
    bare: dict[str, tuple[float, float]] | None = None,
) -> GpuBlock:
    """A block of four equal frames; `bare`: way of launching -> (ms, fps)."""
    times = [*parts, latency, 1.5 * latency]
    return GpuBlock(
        {name: BareTimes([ms] * 4, fps) for name, (ms, fps) in (bare or {"plain": (10, 100)}).items()},
        {stage: [value] * 4 for stage, value in zip(STAGES, times, strict=True)},
        1000 / latency,
        fps_depth2,
    )


def test_percentiles_are_the_medians_and_the_tails() -> None:
    assert percentiles(range(101)) == {"p50": 50, "p95": 95, "p99": 99}


def test_the_rest_is_what_a_frame_takes_besides_its_stages() -> None:
    summary = summarize_gpu([block(parts=(1, 2, 10, 3), latency=17.5)])
    assert summary["rest_ms"] == 1.5
    assert summary["latency_ms"]["p50"] == 17.5
    assert summary["copies_ms"]["p50"] == 1


def test_frames_of_all_blocks_count_for_the_percentiles() -> None:
    summary = summarize_gpu([block(latency=10), block(latency=20), block(latency=30)])
    assert summary["latency_ms"]["p50"] == 20
    assert summary["latency_ms"]["p99"] == 30


def test_the_latency_is_held_against_the_parts_with_the_bare_engine() -> None:
    limit = limits_of([block(parts=(1, 2, 99, 3), latency=16.8, bare={"plain": (10, 100)})])["latency"]
    assert limit == {"ratio": 1.05, "limit": 1.05, "held": True}
    assert not limits_of([block(latency=17)])["latency"]["held"]


def test_the_throughput_is_held_against_the_bare_engines() -> None:
    assert limits_of([block(fps_depth2=97)])["throughput"] == {"ratio": 0.97, "limit": 0.97, "held": True}
    assert not limits_of([block(fps_depth2=96)])["throughput"]["held"]


def test_the_bare_engine_is_the_captured_one_if_it_can_be_captured() -> None:
    both = {"plain": (30.0, 33.0), "graph": (10.0, 100.0)}
    limits = limits_of([block(latency=16, fps_depth2=50, bare=both)])
    assert limits["latency"]["ratio"] == 1
    assert limits["throughput"]["ratio"] == 0.5


def test_ratios_are_taken_block_by_block_so_that_a_falling_clock_cancels() -> None:
    slow = block(parts=(10, 20, 100, 30), latency=160, fps_depth2=9, bare={"plain": (100, 10)})
    limits = limits_of([block(latency=16, fps_depth2=90), slow])
    assert limits["latency"]["ratio"] == 1
    assert limits["throughput"]["ratio"] == 0.9


# The measurement, on the emulated driver.


class Counting(Pipeline):
    """Remembers the most frames that were under way at once, and how many there were."""

    most = 0
    submitted = 0

    def submit(self, frame: Frame, outputs: Outputs) -> None:
        super().submit(frame, outputs)
        self.most = max(self.most, self.in_flight)
        self.submitted += 1


@pytest.mark.parametrize("depth", [1, 2])
def test_as_many_frames_are_under_way_as_the_depth_says(depth: int) -> None:
    frame = image_frame(np.zeros((64, 96, 3), np.uint8))
    with Counting(CudaRuntime(EmulatedDriver(), CopyingNetwork(manifest_of()), 2)) as pipeline:
        run = run_frames(pipeline, [frame] * (5 + UNCOUNTED), depth)
        assert (pipeline.most, pipeline.submitted, pipeline.in_flight) == (depth, 5 + UNCOUNTED, 0)
    assert len(run.latencies_ms) == len(run.timings) == 5
    assert run.fps > 0


def test_every_network_is_timed_alone_and_in_the_pipeline_and_nothing_is_left(tiny_engine: Path) -> None:
    drivers: list[EmulatedDriver] = []

    def make_driver() -> Driver:
        drivers.append(EmulatedDriver(seed=len(drivers)))
        return drivers[-1]

    engine = load_engine(tiny_engine)
    networks = [HostNetwork(engine), HostNetwork(engine, capturable=False)]
    report = bench_gpu(networks, repeat=2, frames=3, camera=(128, 80), make_driver=make_driver)
    captured, refused = report["configurations"]
    assert (report["gpu"]["name"], report["driver"], report["repeat"]) == ("Emulated GPU", "emulator", 2)
    assert (captured["name"], captured["input"], captured["camera"]) == ("tiny", "96x64", "128x80")
    assert captured["device"].endswith("CUDA graphs")
    assert list(captured["bare"]) == ["plain", "graph"]
    assert list(refused["bare"]) == ["plain"]
    assert "cannot be captured" in refused["bare_graph_refused"]
    assert all(0 < captured[stage]["p50"] <= captured[stage]["p99"] for stage in STAGES)
    assert json.loads(json.dumps(report)) == report
    assert [driver.misuses for driver in drivers] == [[], [], []]


def test_without_graphs_only_the_plain_engine_is_timed() -> None:
    options = CudaOptions(graphs=False)
    report = bench_gpu([CopyingNetwork(manifest_of())], repeat=1, frames=1, options=options, make_driver=EmulatedDriver)
    (configuration,) = report["configurations"]
    assert list(configuration["bare"]) == ["plain"]
    assert configuration["bare_graph_refused"] == "graphs are off"


def test_a_network_that_cannot_be_loaded_leaves_the_others_freed() -> None:
    drivers: list[EmulatedDriver] = []

    def make_driver() -> Driver:
        drivers.append(EmulatedDriver())
        if len(drivers) == 3:
            drivers[-1].refuse("alloc")
        return drivers[-1]

    with pytest.raises(DeviceError, match="refuses alloc"):
        bench_gpu([CopyingNetwork(manifest_of()) for _ in range(2)], repeat=1, frames=1, make_driver=make_driver)
    assert [driver.calls[-1].name for driver in drivers] == ["close"] * 3
    assert [driver.misuses for driver in drivers] == [[]] * 3


# The network of PyTorch, where device memory is the host's.


class TorchOnTheHost(TorchNetwork):
    """All of it but CUDA: the weights, the tensors over raw addresses, the forward pass, at its turn on the stream."""

    driver: EmulatedDriver

    def load(self, driver: Driver, info: DeviceInfo) -> None:
        assert isinstance(driver, EmulatedDriver)
        self.driver = driver
        self._network = self._converted(torch.device("cpu"))

    def _choose_algorithms(self) -> None:
        """There is no choice."""

    def _tensor_at(self, address: int, shape: tuple[int, ...]) -> torch.Tensor:
        values = self.driver.view(address, 2 * int(np.prod(shape))).view(np.float16)
        return torch.from_numpy(values.reshape(shape))

    def enqueue(self, stream: int) -> None:
        assert self._input is not None
        assert self._output is not None
        spans = [(tensor.data_ptr(), tensor.data_ptr() + 2 * tensor.numel()) for tensor in (self._input, self._output)]
        self.driver.enqueue(stream, self.infer, reads=spans[:1], writes=spans[1:])


def on_the_host(network: TorchNetwork) -> TorchOnTheHost:
    return TorchOnTheHost(network._source, network.manifest)


def test_pytorch_gives_an_engines_masks_in_half_precision(lite_engine: Path) -> None:
    engine = load_engine(lite_engine)
    frame = image_frame(render_frame(3, 192, 128).image)
    masks = []
    for network in (on_the_host(engine_network(engine)), HostNetwork(engine)):
        with Pipeline(CudaRuntime(EmulatedDriver(), network, 1)) as pipeline:
            pipeline.submit(frame, Outputs())
            masks.append(pipeline.collect().mask)
    assert len(np.unique(masks[0])) > 1
    assert np.mean(masks[0] == masks[1]) > 0.97


def test_pytorch_runs_an_engine_at_another_size_and_networks_of_the_zoo(lite_engine: Path) -> None:
    engine = load_engine(lite_engine)
    networks = [on_the_host(engine_network(engine, (128, 64))), on_the_host(zoo_network("fast_scnn", (128, 64)))]
    report = bench_gpu(networks, repeat=1, frames=1, make_driver=EmulatedDriver)
    described = [(each["name"], each["input"], each["precision"]) for each in report["configurations"]]
    assert described == [("lite", "128x64", "fp16"), ("fast_scnn", "128x64", "fp16")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU here")
def test_a_pytorch_that_cannot_use_the_gpu_is_told_so(lite_engine: Path) -> None:
    runtime = CudaRuntime(EmulatedDriver(), engine_network(load_engine(lite_engine)), 1)
    with pytest.raises(RuntimeUnavailableError, match=r"cannot use Emulated GPU; install one for CUDA"):
        runtime.load(lambda: None)


# What is timed beside it.


def write_program(folder: Path, body: str) -> Path:
    program = folder / "trtexec"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def test_trtexec_is_told_how_to_launch_and_to_leave_transfers_out(tmp_path: Path) -> None:
    command = trtexec_command("trtexec", tmp_path / "a.plan", tmp_path / "times.json")
    assert command[:2] == ["trtexec", f"--loadEngine={tmp_path}/a.plan"]
    assert set(LAUNCH) == {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"} < set(command)


def test_trtexecs_own_times_are_the_inferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = json.dumps([{"computeMs": 1.5, "latencyMs": 9}, {"computeMs": 2.5, "latencyMs": 9}])
    write_program(tmp_path, f"for last; do :; done; echo '{records}' > \"${{last#--exportTimes=}}\"")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = find_trtexec()
    assert program == str(tmp_path / "trtexec")
    command, times_ms = run_trtexec(program, tmp_path / "a.plan")
    assert command[0] == program
    assert times_ms == [1.5, 2.5] == compute_times(json.loads(records))


def test_a_trtexec_that_fails_is_quoted(tmp_path: Path) -> None:
    program = write_program(tmp_path, "echo 'the plan is of another version'; exit 3")
    with pytest.raises(DeviceError, match="ended with status 3: the plan is of another version"):
        run_trtexec(str(program), tmp_path / "a.plan")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("rclpy") is None, reason="needs ROS 2")
def test_the_whole_node_is_timed_from_image_to_mask(tiny_engine: Path, tmp_path: Path) -> None:
    images = [np.full((64, 96, 3), shade, np.uint8) for shade in (0, 128)]
    result = time_node(tiny_engine, "openvino", images, tmp_path, frames=10)
    assert (result["frames"], result["published"]) == (10, 10)
    assert 0 < result["p50"] <= result["p95"] <= result["p99"]


# The command.


@pytest.fixture
def parse() -> Callable[[str], argparse.Namespace]:
    """Words of the command line as the arguments of `eseg bench --gpu`."""
    parser = argparse.ArgumentParser()
    bench_gpu_command.add_arguments(parser)
    return lambda words: parser.parse_args(words.split())


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a driver")
def test_a_machine_without_a_gpu_is_told_so(parse: Callable[[str], argparse.Namespace], lite_engine: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="no NVIDIA driver"):
        bench_gpu_command.run(parse(f"--network torch --engine {lite_engine} --size 96x64"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model fast_scnn", "--model needs --network torch"),
        ("--network torch --model nothing", "unknown model 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    parse: Callable[[str], argparse.Namespace], tiny_engine: Path, words: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bench_gpu_command.run(parse(f"{words} --engine {tiny_engine}"))


def test_by_default_all_engines_are_timed_or_those_that_can_be_fitted(
    make_tiny_engine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tiny_engine()
    half = write_manifest(replace(load_engine(path).manifest, name="half", precision="fp16"), path.parent)
    monkeypatch.setattr(bench_table, "DEFAULT_FOLDER", path.parent)
    assert bench_table.default_engines(fitted=False) == [half, path]
    assert bench_table.default_engines(fitted=True) == [path]


def test_the_table_has_a_line_a_network_and_marks_what_is_beyond_a_limit() -> None:
    networks = [CopyingNetwork(replace(manifest_of(), name=name)) for name in ("first", "second")]
    report = bench_gpu(networks, repeat=1, frames=2, make_driver=EmulatedDriver)
    first, second = report["configurations"]
    first["limits"]["latency"] = {"ratio": 1.04, "limit": 1.05, "held": True}
    second["limits"]["latency"] = {"ratio": 1.2, "limit": 1.05, "held": False}
    second["node"] = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    lines = bench_gpu_command.gpu_table(report).splitlines()
    assert "1.040 " in next(line for line in lines if line.lstrip().startswith("first"))
    assert "1.200!" in next(line for line in lines if line.lstrip().startswith("second"))
    assert "node, second 96x64: p50 1.000, p95 2.000, p99 3.000 ms" in lines
