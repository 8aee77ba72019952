"""The CUDA runtime's pictures are those of the CPU pipeline, but for what 8-bit rounding explains.

The CPU resizes in 8 bits, the kernel in float32, so that the engine's input differs by half a level of 255 at most.
Where two classes are nearly equal, on the boundaries between them, another one may win then. Resized in float32 on the
CPU as well, the masks are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from emulated_driver import EmulatedDriver
from host_network import HostNetwork
from numpy.testing import assert_array_equal

from eseg_ros.engine.export import resize_engine
from eseg_ros.engine.manifest import Engine, load_engine
from eseg_ros.labels import ClassSet, Relabeling
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.cuda.parameters import ENCODINGS
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.postprocess import Postprocessor
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs, Result, Runtime

ENGINE = Path(__file__).parents[3] / "engines" / "eseg_lite_s_camvid.json"
EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)
LUMA_CHROMA = {"yuyv": cv2.COLOR_BGR2YUV_YUY2, "uyvy": cv2.COLOR_BGR2YUV_UYVY}
MOSAIC = {"r": 2, "g": 1, "b": 0}
SIZES = [(640, 480), (960, 720), (161, 121), (481, 359)]
DRIVABLE = Relabeling(
    bytes([2, 1, 1, 0, 0, 1, 1, 1, 1, 1, 255, *range(11, 256)]),
    ClassSet("drivable", ("drivable", "obstacle", "sky"), ((0, 255, 0), (255, 0, 0), (0, 0, 255))),
)
"""CamVid's classes as three; bicyclists are dropped."""

_Runtime = TypeVar("_Runtime", bound=Runtime)


def channels_of(image: Image8, encoding: str) -> Image8:
    """An even-sized (H, W, 3) BGR image as the rows of bytes of a camera with this encoding."""
    height, width = image.shape[:2]
    if encoding in LUMA_CHROMA:
        rows = cv2.cvtColor(image, LUMA_CHROMA[encoding])
    elif encoding == "nv12":
        planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        chroma = planar[height:].reshape(2, -1)
        rows = np.vstack([planar[:height], chroma.T.reshape(-1, width)])
    elif encoding.startswith("bayer"):
        rows = np.empty((height, width), np.uint8)
        for place, color in enumerate(encoding[6:10]):
            tile = np.s_[place // 2 :: 2, place % 2 :: 2]
            rows[tile] = image[tile][..., MOSAIC[color]]
    elif encoding == "mono8":
        rows = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    else:
        alpha = np.full((height, width, 1), 7, np.uint8)
        rows = np.concatenate([image, alpha], axis=2)[..., ["bgra".index(letter) for letter in encoding[:-1]]]
    return np.ascontiguousarray(rows).reshape(len(rows), -1)


def camera_frame(image: Image8, encoding: str = "bgr8", padding: int = 13) -> Frame:
    """An image as a message of this encoding, with bytes behind each row that must not be seen."""
    height, width = image.shape[:2]
    rows = np.pad(channels_of(image, encoding), ((0, 0), (0, padding)), constant_values=0xEE)
    return Frame(memoryview(rows).cast("B"), encoding, width, height, rows.shape[1], 0)


@lru_cache(maxsize=8)
def street(width: int, height: int) -> Image8:
    return render_frame(4, width, height).image


def run(runtime: Runtime, frame: Frame, outputs: Outputs = EVERYTHING) -> Result:
    runtime.submit(0, frame, outputs)
    return runtime.collect(0)


@contextmanager
def loaded(runtime: _Runtime) -> Iterator[_Runtime]:
    runtime.load(lambda: None)
    try:
        yield runtime
    finally:
        runtime.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A real engine: ESeg-Lite-S, 480x360."""
    return load_engine(resize_engine(ENGINE, "small", tmp_path_factory.mktemp("engines"), (480, 360)))


@pytest.fixture(scope="module")
def cpu(engine: Engine) -> Iterator[Runtime]:
    with loaded(create_runtime(engine, "onnxruntime", 1, 1)) as runtime:
        yield runtime


@pytest.fixture(scope="module", params=[np.float32, np.float16], ids=["float32 tensors", "float16 tensors"])
def gpu(engine: Engine, request: pytest.FixtureRequest) -> Iterator[CudaRuntime]:
    with loaded(CudaRuntime(EmulatedDriver(), HostNetwork(engine, dtype=request.param), 1)) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def exact_network(engine: Engine) -> HostNetwork:
    """With float32 tensors."""
    return HostNetwork(engine)


@pytest.fixture(scope="module")
def exact(exact_network: HostNetwork) -> Iterator[CudaRuntime]:
    with loaded(CudaRuntime(EmulatedDriver(), exact_network, 1)) as runtime:
        yield runtime


def assert_same_pictures(gpu: Result, cpu: Result, *, equal: float, confidence: float) -> None:
    """At least `equal` of the mask's pixels are the same; where they are, so are the colors; confidence on average."""
    same = gpu.mask == cpu.mask
    assert same.mean() >= equal, f"{same.mean():.3%} of the mask's pixels are equal"
    assert_array_equal(gpu.color_mask[same], cpu.color_mask[same])
    assert np.abs(gpu.overlay[same].astype(int) - cpu.overlay[same]).max() <= 1
    assert np.abs(gpu.confidence.astype(int) - cpu.confidence).mean() <= confidence


def test_an_image_of_the_engines_size_gives_the_cpus_pictures(gpu: CudaRuntime, cpu: Runtime) -> None:
    frame = camera_frame(street(480, 360))
    assert_same_pictures(run(gpu, frame), run(cpu, frame), equal=0.9995, confidence=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_of_another_size_gives_the_cpus_pictures(
    gpu: CudaRuntime, cpu: Runtime, size: tuple[int, int]
) -> None:
    frame = camera_frame(street(*size))
    assert_same_pictures(run(gpu, frame), run(cpu, frame), equal=0.994, confidence=0.75)  # the CPU resizes in 8 bits


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_cpus_pictures(gpu: CudaRuntime, cpu: Runtime, encoding: str) -> None:
    frame = camera_frame(street(322, 242), encoding)
    assert_same_pictures(run(gpu, frame), run(cpu, frame), equal=0.994, confidence=0.75)


@pytest.mark.parametrize(
    ("size", "encoding"), [*((size, "bgr8") for size in SIZES), *(((322, 242), name) for name in ENCODINGS)]
)
def test_resized_without_rounding_the_cpu_gives_the_same_mask(
    exact: CudaRuntime, exact_network: HostNetwork, size: tuple[int, int], encoding: str
) -> None:
    frame = camera_frame(street(*size), encoding)
    image, manifest = decode(frame), exact.manifest
    spec = manifest.input
    resized = cv2.resize(image.astype(np.float32), (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
    tensor = (resized[..., ::-1] / 255 - np.float32(spec.mean)) / np.float32(spec.std)  # (H, W, 3) RGB
    logits = exact_network.infer(np.ascontiguousarray(tensor.transpose(2, 0, 1)[None]))
    mask, _, _, confidence = Postprocessor(manifest)(logits[0], image, EVERYTHING)
    result = run(exact, frame)
    assert np.mean(result.mask == mask) >= 0.9999  # but for near ties, a pixel or two
    assert np.abs(result.confidence.astype(int) - confidence).max() <= 1


def test_a_letterboxed_engine_gives_the_cpus_pictures(make_tiny_engine: Callable[..., Path]) -> None:
    engine = load_engine(make_tiny_engine(resize="letterbox"))
    frame = camera_frame(street(96, 200))
    gpu_runtime = CudaRuntime(EmulatedDriver(), HostNetwork(engine), 1)
    with loaded(gpu_runtime) as gpu, loaded(create_runtime(engine, "onnxruntime", 1, 1)) as cpu:
        assert_same_pictures(run(gpu, frame), run(cpu, frame), equal=0.97, confidence=1)


@pytest.mark.parametrize(
    "change",
    [
        {"confidence_threshold": 0.8},
        {"confidence_threshold": 1.0},
        {"overlay_alpha": 0.2},
        {"overlay_alpha": 1.0},
        {"scale": 0.5},
        {"scale": 0.3, "confidence_threshold": 0.8},
        {"relabeling": DRIVABLE},
        {"relabeling": DRIVABLE, "confidence_threshold": 0.8},
    ],
    ids=lambda change: ", ".join(change),
)
def test_what_is_asked_for_means_the_same_as_on_the_cpu(
    exact: CudaRuntime, cpu: Runtime, change: dict[str, Any]
) -> None:
    frame, outputs = camera_frame(street(480, 360)), replace(EVERYTHING, **change)
    assert_same_pictures(run(exact, frame, outputs), run(cpu, frame, outputs), equal=0.9995, confidence=0.1)
