"""The kernels on the device give, bit by bit, what their host build gives; the confidence may be one level off.

The host build is held to OpenCV, NumPy and PyTorch on every commit (test/runtime/cuda). Only the exponential of the
confidence is not arithmetic that all machines share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from copying_network import CopyingNetwork, manifest_of
from emulated_driver import EmulatedDriver

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.labels import Relabeling
from eseg_ros.runtime.cuda.cuda_runtime import CudaOptions, CudaRuntime
from eseg_ros.runtime.cuda.drivers import open_driver
from eseg_ros.runtime.cuda.parameters import ENCODINGS
from eseg_ros.runtime.types import Frame, Outputs, Result

BYTES_A_PIXEL = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "yuyv": 2, "uyvy": 2}
PAIRED = ("yuyv", "uyvy", "nv12")
EXACT = ("mask", "color_mask", "overlay")
EVERYTHING = Outputs(color_mask=True, overlay=True, confidence=True)
EVEN_SIZES = [(96, 64), (64, 48), (22, 12), (130, 6), (640, 480)]
ODD_SIZES = [(21, 13), (3, 3), (67, 33), (481, 359)]


def noise_frame(encoding: str, width: int, height: int, *, padding: int = 5) -> Frame:
    """Random bytes as a frame with padded rows."""
    rows = height * 3 // 2 if encoding == "nv12" else height
    step = width * BYTES_A_PIXEL.get(encoding, 1) + padding
    data = np.random.default_rng(width * height).integers(0, 256, rows * step, np.uint8)
    return Frame(memoryview(data), encoding, width, height, step, 0)


@dataclass(frozen=True)
class Side:
    """A runtime of one slot around a network that shows its input and gives what it is told."""

    runtime: CudaRuntime
    network: CopyingNetwork

    def run(self, frame: Frame, outputs: Outputs, logits: npt.NDArray[np.floating]) -> Result:
        self.network.logits[:] = logits
        self.runtime.submit(0, frame, outputs)
        return self.runtime.collect(0)


@dataclass(frozen=True)
class Sides:
    """The device's and the host's."""

    device: Side
    host: Side

    @staticmethod
    def load(manifest: EngineManifest, dtype: type[np.floating[Any]]) -> Sides:
        def side(driver: Any) -> Side:
            network = CopyingNetwork(manifest, dtype=dtype, given=True)
            runtime = CudaRuntime(driver, network, 1, CudaOptions(graphs=False))
            runtime.load(lambda: None)
            return Side(runtime, network)

        return Sides(side(open_driver()), side(EmulatedDriver()))

    def close(self) -> None:
        self.device.runtime.close()
        self.host.runtime.close()

    def assert_equal(self, frame: Frame, outputs: Outputs, logits: npt.NDArray[np.floating]) -> None:
        ours, theirs = (side.run(frame, outputs, logits) for side in (self.device, self.host))
        tensors = (side.network.input.view(np.uint8) for side in (self.device, self.host))
        np.testing.assert_array_equal(*tensors, err_msg="tensor")
        for name in EXACT:
            if getattr(theirs, name) is not None:
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        if theirs.confidence is not None:
            assert np.abs(ours.confidence.astype(int) - theirs.confidence).max() <= 1


@pytest.fixture(scope="module", params=[np.float32, np.float16], ids=["float32", "float16"])
def dtype(request: pytest.FixtureRequest) -> type[np.floating[Any]]:
    return request.param


@pytest.fixture(scope="module")
def sides(dtype: type[np.floating[Any]]) -> Iterator[Sides]:
    """19 classes, input 96x64, stretched."""
    sides = Sides.load(manifest_of(), dtype)
    yield sides
    sides.close()


@pytest.fixture(scope="module")
def logits(dtype: type[np.floating[Any]]) -> npt.NDArray[np.floating]:
    """Scores of 19 classes at stride 8."""
    return scores(19, dtype)


def scores(classes: int, dtype: type[np.floating[Any]], spread: float = 6.0) -> npt.NDArray[np.floating]:
    """(classes, 8, 12)."""
    return (np.random.default_rng(classes).normal(size=(classes, 8, 12)) * spread).astype(dtype)


FRAMES = [
    *product(ENCODINGS, EVEN_SIZES),
    *product((encoding for encoding in ENCODINGS if encoding not in PAIRED), ODD_SIZES),
    *product(("bgr8", "rgba8", "mono8"), [(1, 1), (1, 9), (640, 1)]),
]


@pytest.mark.parametrize(("encoding", "size"), FRAMES, ids=lambda value: str(value).replace(" ", ""))
def test_every_encoding_at_every_size(
    sides: Sides, logits: npt.NDArray[np.floating], encoding: str, size: tuple[int, int]
) -> None:
    sides.assert_equal(noise_frame(encoding, *size), EVERYTHING, logits)


@pytest.mark.parametrize("height", [48, 72], ids=["height of the picture", "height of both planes"])
def test_nv12_with_either_height(sides: Sides, logits: npt.NDArray[np.floating], height: int) -> None:
    sides.assert_equal(replace(noise_frame("nv12", 64, 48), height=height), EVERYTHING, logits)


@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160)], ids=str)
def test_large_frames(sides: Sides, logits: npt.NDArray[np.floating], size: tuple[int, int]) -> None:
    sides.assert_equal(noise_frame("bgr8", *size), EVERYTHING, logits)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
def test_letterbox_and_either_order_of_channels(dtype: type[np.floating[Any]], resize: str, color_order: str) -> None:
    sides = Sides.load(manifest_of(resize=resize, color_order=color_order), dtype)
    for size in ((96, 64), (200, 64), (60, 120), (33, 97)):
        sides.assert_equal(noise_frame("bgr8", *size), EVERYTHING, scores(19, dtype))
    sides.close()


@pytest.mark.parametrize("wanted", list(product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_any_outputs_at_any_scale(
    sides: Sides, logits: npt.NDArray[np.floating], wanted: tuple[bool, bool, bool], scale: float
) -> None:
    sides.assert_equal(noise_frame("bgr8", 203, 77), Outputs(*wanted, overlay_alpha=0.3, scale=scale), logits)


@pytest.mark.parametrize("classes", [2, 3, 150, 255])
def test_from_2_to_255_classes(dtype: type[np.floating[Any]], classes: int) -> None:
    sides = Sides.load(manifest_of(classes), dtype)
    for spread in (0.1, 6.0, 70.0):
        sides.assert_equal(noise_frame("bgr8", 203, 77), EVERYTHING, scores(classes, dtype, spread))
    sides.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_logits_that_are_no_numbers_and_ties(sides: Sides, logits: npt.NDArray[np.floating], value: float) -> None:
    spoiled = logits.copy()
    spoiled[np.random.default_rng(0).integers(0, 3, logits.shape) == 0] = value
    for odd in (spoiled, np.full_like(logits, value), np.repeat(logits[:1], 19, axis=0)):
        sides.assert_equal(noise_frame("bgr8", 203, 77), EVERYTHING, odd)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_classes_merged_and_dropped(sides: Sides, logits: npt.NDArray[np.floating], alpha: float) -> None:
    ids = bytes((7 * index + 200) % 256 for index in range(256))
    relabeling = Relabeling(ids, manifest_of(5).classes)
    sides.assert_equal(
        noise_frame("yuyv", 200, 77), replace(EVERYTHING, relabeling=relabeling, overlay_alpha=alpha), logits
    )


@pytest.mark.parametrize("threshold", [0.4, 1.0])
def test_a_threshold_differs_only_where_the_confidence_does(
    sides: Sides, dtype: type[np.floating[Any]], threshold: float
) -> None:
    outputs = replace(EVERYTHING, confidence_threshold=threshold)
    frame, unsure = noise_frame("bgr8", 203, 77), scores(19, dtype, 1.0)
    ours, theirs = (side.run(frame, outputs, unsure) for side in (sides.device, sides.host))
    assert (theirs.mask == 255).any()
    decided_alike = np.abs(theirs.confidence - 255 * threshold) > 1
    np.testing.assert_array_equal(ours.mask[decided_alike], theirs.mask[decided_alike])
