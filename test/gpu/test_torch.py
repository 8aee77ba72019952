"""A real network between the kernels, by PyTorch in float16: its masks, its graphs, and two users of one context."""

from __future__ import annotations

import threading
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
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Outputs, Result, Runtime

torch = pytest.importorskip("torch", reason="needs PyTorch")
if not torch.cuda.is_available():
    pytest.skip(f"PyTorch {torch.__version__} cannot use the GPU", allow_module_level=True)

from eseg_ros.evaluation.torch_network import TorchNetwork, engine_network, zoo_network  # noqa: E402

ENGINE = Path(__file__).parents[2] / "engines" / "eseg_lite_s_street.json"
EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)
PICTURES = ("mask", "color_mask", "overlay", "confidence")
PATIENCE = 120.0
"""Seconds after which something that should have happened counts as lost."""

RuntimeLoader = Callable[..., CudaRuntime]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(ENGINE)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Streets of the kind that the engine was trained on, 1024x512."""
    return [image_frame(render_frame(seed, 1024, 512).image) for seed in range(4)]


@pytest.fixture(scope="module")
def cpu(engine: Engine) -> Iterator[Runtime]:
    runtime = create_runtime(engine, "onnxruntime", 1)
    runtime.load(lambda: None)
    yield runtime
    runtime.close()


def run(runtime: Runtime, frame: Frame, slot: int = 0) -> Result:
    runtime.submit(slot, frame, EVERYTHING)
    return runtime.collect(slot)


def assert_equal(result: Result, expected: Result) -> None:
    for name in PICTURES:
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name), err_msg=name)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_the_masks_are_those_of_onnx_runtime(
    load_runtime: RuntimeLoader, cpu: Runtime, engine: Engine, frames: list[Frame]
) -> None:
    """Half precision, and a resize that does not round to 8 bits, move borders between classes by a pixel here."""
    runtime = load_runtime(engine_network(engine))
    agreements = [np.mean(run(runtime, frame).mask == run(cpu, frame).mask) for frame in frames]
    assert min(agreements) > 0.98, agreements


def test_a_network_is_captured_and_its_graph_gives_what_the_plain_way_gives(
    load_runtime: RuntimeLoader, kind: str, engine: Engine, frames: list[Frame]
) -> None:
    with_graphs = load_runtime(engine_network(engine))
    plain = load_runtime(engine_network(engine), driver=open_driver(kind), graphs=False)
    for frame in frames * 3:
        agreements = [
            np.mean(getattr(run(with_graphs, frame), name) == getattr(run(plain, frame), name)) for name in PICTURES
        ]
        assert min(agreements) > 0.99, "cuDNN may have chosen another algorithm, no more"
    assert with_graphs.device.endswith("CUDA graphs"), "none was refused, each gave the plain way's own pictures"


def test_slots_and_cameras_do_not_mix(load_runtime: RuntimeLoader, engine: Engine, frames: list[Frame]) -> None:
    runtime = load_runtime(engine_network(engine), slots=3)
    small = [image_frame(np.ascontiguousarray(render_frame(seed, 480, 360).image)) for seed in range(3)]
    mixed = [frame for pair in zip(frames, small, strict=False) for frame in pair]
    alone = [run(runtime, frame) for frame in mixed * 3][-len(mixed) :]
    results = list(Pipeline(runtime).map(mixed * 10, EVERYTHING))
    assert len(results) == 10 * len(mixed)
    for index, result in enumerate(results):
        assert isinstance(result, Result)
        assert_equal(result, alone[index % len(mixed)])


def test_another_input_size_and_another_network_of_the_zoo_run(
    load_runtime: RuntimeLoader, kind: str, engine: Engine, frames: list[Frame]
) -> None:
    for network in (engine_network(engine, (512, 256)), zoo_network("fast_scnn", (512, 256))):
        runtime = load_runtime(network, driver=open_driver(kind))
        assert [run(runtime, frames[0]).mask.shape for _ in range(3)] == [(512, 1024)] * 3


def test_graphs_survive_what_pytorch_does_with_its_own_memory(
    load_runtime: RuntimeLoader, engine: Engine, frames: list[Frame]
) -> None:
    """What a graph uses is neither lent to other tensors nor returned to the device."""
    runtime = load_runtime(engine_network(engine))
    expected = [run(runtime, frames[0]) for _ in range(3)][-1]
    for size in (1 << 20, 1 << 24, 1 << 28):
        torch.full((size,), 255, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        assert_equal(run(runtime, frames[0]), expected)
        torch.cuda.empty_cache()
        assert_equal(run(runtime, frames[0]), expected)


def test_pytorch_and_the_runtime_share_the_context_and_both_outlive_the_other(
    kind: str, engine: Engine, frames: list[Frame]
) -> None:
    kept = torch.arange(1 << 20, device="cuda")
    network: TorchNetwork = engine_network(engine)
    for _ in range(2):
        runtime = CudaRuntime(open_driver(kind), network, 2)
        runtime.load(lambda: None)
        run(runtime, frames[0])
        assert int((kept * 2).sum()) == (1 << 20) * ((1 << 20) - 1)
        runtime.close()
        assert int(kept.sum()) == (1 << 19) * ((1 << 20) - 1), "closing the runtime leaves PyTorch its context"
    image = torch.randn(1, 3, 64, 64, device="cuda", dtype=torch.half)
    assert torch.nn.functional.conv2d(image, image).shape == (1, 1, 1, 1)


def test_pytorch_works_in_another_thread_while_frames_run(
    load_runtime: RuntimeLoader, engine: Engine, frames: list[Frame]
) -> None:
    runtime = load_runtime(engine_network(engine))
    expected = [[run(runtime, frame) for _ in range(3)][-1] for frame in frames]
    stop, sums, failures = threading.Event(), [], []

    def work() -> None:
        try:
            matrix = torch.eye(512, device="cuda")
            while not stop.is_set():
                sums.append(float((matrix @ matrix).sum()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    for index, result in enumerate(Pipeline(runtime).map(frames * 25, EVERYTHING)):
        assert isinstance(result, Result)
        assert_equal(result, expected[index % len(frames)])
    stop.set()
    thread.join(PATIENCE)
    assert failures == []
    assert set(sums) == {512.0}


def test_a_network_gives_its_memory_back(kind: str, engine: Engine, frames: list[Frame]) -> None:
    free = []
    for _ in range(4):
        runtime = CudaRuntime(open_driver(kind), engine_network(engine), 2)
        runtime.load(lambda: None)
        for _ in range(3):
            run(runtime, frames[0])
        runtime.close()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[1] - free[-1] < 16 << 20
