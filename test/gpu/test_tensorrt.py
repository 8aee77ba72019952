"""TensorRT on the device: built here, loaded, captured; its masks are those of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from eseg_ros.data.reading import image_frame
from eseg_ros.engine.manifest import Engine, load_engine
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.tensorrt.network import TensorRtNetwork
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime

ENGINES = sorted((Path(__file__).parents[2] / "engines").glob("*.json"))
LIBRARIES = [
    pytest.param(target, marks=pytest.mark.skipif(find_spec(module) is None, reason=f"needs {module}"))
    for target, module in (("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx_bindings"))
]
LEAST_AGREEMENT = {"fp32": 0.995, "fp16": 0.98, "int8": 0.95}
"""Share of pixels of frames that the engine need not have seen: TensorRT computes fp32 in TF32."""

EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda path: path.stem)
def engine(request: pytest.FixtureRequest) -> Engine:
    return load_engine(request.param)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans of this run."""
    folder = tmp_path_factory.mktemp("plans")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [image_frame(render_frame(seed, 1024, 512).image) for seed in range(3)]


@pytest.fixture(scope="module", params=LIBRARIES)
def target(request: pytest.FixtureRequest) -> str:
    """TensorRT, or TensorRT for RTX."""
    return str(request.param)


@pytest.fixture(scope="module")
def gpu_runtime(target: str, engine: Engine, cache: Path) -> Iterator[CudaRuntime]:
    runtime = CudaRuntime(open_driver(), TensorRtNetwork(engine, target, cache, auto_build=True), 2)
    runtime.load(lambda: None)
    yield runtime
    runtime.close()


def run(runtime: Runtime, frame: Frame) -> Result:
    runtime.submit(0, frame, EVERYTHING)
    return runtime.collect(0)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_the_masks_are_those_of_onnx_runtime(gpu_runtime: CudaRuntime, engine: Engine, frames: list[Frame]) -> None:
    cpu = create_runtime(engine, "onnxruntime", 1)
    cpu.load(lambda: None)
    agreements = [np.mean(run(gpu_runtime, frame).mask == run(cpu, frame).mask) for frame in frames]
    cpu.close()
    assert min(agreements) >= LEAST_AGREEMENT[engine.manifest.precision], agreements


def test_an_engine_is_captured_and_its_graph_gives_what_the_plain_way_gave(
    gpu_runtime: CudaRuntime, frames: list[Frame]
) -> None:
    """The pipeline compares a new graph's pictures with the plain way's, and says in words if they differed."""
    results = [run(gpu_runtime, frames[0]) for _ in range(4)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.mask, results[0].mask)
    assert gpu_runtime.device.endswith("CUDA graphs")


def test_a_plan_is_built_once_and_then_loaded(
    gpu_runtime: CudaRuntime,
    target: str,
    engine: Engine,
    cache: Path,
    load_runtime: Callable[..., CudaRuntime],
    frames: list[Frame],
) -> None:
    plans = sorted(cache.iterdir())
    runtime = load_runtime(TensorRtNetwork(engine, target, cache))
    np.testing.assert_array_equal(run(runtime, frames[0]).mask, run(gpu_runtime, frames[0]).mask)
    assert sorted(cache.iterdir()) == plans
