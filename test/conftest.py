"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.engine.manifest import EngineManifest, InputSpec, OutputSpec, sha256_of, write_manifest
from eseg_ros.labels import CAMVID

FAKE_CUDA = Path(__file__).parent / "runtime" / "cuda" / "fake_cuda.py"
WITH_PYCUDA = "test_pycuda_conforms"

EngineWriter = Callable[..., Path]
FileMaker = Callable[[str], Path]

TINY_MANIFEST = EngineManifest(
    name="tiny",
    model="nearest_color",
    classes=CAMVID,
    input=InputSpec(
        name="image",
        width=96,
        height=64,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    output=OutputSpec(name="logits", stride=8, width=12, height=8),
    precision="fp32",
    onnx_file="tiny.onnx",
    onnx_sha256="",
    opset=18,
)
"""Input 96x64 (width x height), CamVid's 11 classes, logits at stride 8."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compiles pycuda beside the tests that come before the one that needs it, which then waits for the rest."""
    if any(item.name == WITH_PYCUDA for item in session.items) and not session.config.option.collectonly:
        compiling = subprocess.Popen(
            ["nice", sys.executable, FAKE_CUDA],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what is missing is the test's to tell
            env=os.environ | {"PYTHONPATH": str(FAKE_CUDA.parents[3])},
        )
        session.config.add_cleanup(compiling.poll)  # keeps it until then


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a real engine that runs in microseconds and whose answer is known beforehand.

    It gives each 8x8 block the class whose palette colour lies nearest to the block's mean colour: an image painted
    in CamVid's colours comes back as its labels.
    """
    return write_tiny_engine(tmp_path_factory.mktemp("tiny_engine"))


@pytest.fixture
def make_tiny_engine(tmp_path: Path) -> EngineWriter:
    """`make_tiny_engine(resize="letterbox", ...)`: the tiny engine with fields of its `InputSpec` changed."""

    def make(**input_changes: object) -> Path:
        changed = replace(TINY_MANIFEST.input, **input_changes)  # type: ignore[arg-type]
        output = replace(TINY_MANIFEST.output, width=changed.width // 8, height=changed.height // 8)
        return write_tiny_engine(tmp_path, replace(TINY_MANIFEST, input=changed, output=output))

    return make


def write_tiny_engine(folder: Path, manifest: EngineManifest = TINY_MANIFEST) -> Path:
    """Write the nearest-colour network for `manifest` and the manifest itself; returns the manifest's path.

    The squared distance |x - p|^2 of a colour x to a palette colour p is smallest where 2 x.p - |p|^2 is largest,
    which is a convolution.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    order = [0, 1, 2] if manifest.input.color_order == "rgb" else [2, 1, 0]
    palette = np.array(manifest.classes.palette, np.float32)[:, order] / 255
    prototypes = (palette - np.array(manifest.input.mean, np.float32)) / np.array(manifest.input.std, np.float32)
    stride = manifest.output.stride
    weight = np.repeat(2 * prototypes[:, :, None] / stride**2, stride**2, axis=2).reshape(-1, 3, stride, stride)
    bias = -np.square(prototypes).sum(1)
    convolution = helper.make_node(
        "Conv", [manifest.input.name, "weight", "bias"], [manifest.output.name], strides=[stride, stride]
    )
    image = [1, 3, manifest.input.height, manifest.input.width]
    logits = [1, len(manifest.classes), manifest.output.height, manifest.output.width]
    graph = helper.make_graph(
        [convolution],
        manifest.name,
        [helper.make_tensor_value_info(manifest.input.name, TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(manifest.output.name, TensorProto.FLOAT, logits)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", manifest.opset)], ir_version=10)
    onnx.checker.check_model(model)
    path = folder / manifest.onnx_file
    onnx.save(model, path)
    return write_manifest(replace(manifest, onnx_sha256=sha256_of(path)), folder)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> FileMaker:
    """`make_checkpoint(model)`: a trainer's checkpoint of a network of the table, untrained, with logits of some size.

    Its statistics are ones that folding must not lose. Fusion weights are all equal and the head's biases all zero:
    weights that a graph optimizer likes to merge or drop. One model's checkpoint is written once.
    """

    @cache
    def make(model: str) -> Path:
        return write_checkpoint(tmp_path_factory.mktemp(model), model)

    return make


def write_checkpoint(folder: Path, model: str) -> Path:
    """See `make_checkpoint`."""
    import torch

    from eseg_ros.models.layers import OutputConv
    from eseg_ros.models.zoo import build_model
    from eseg_ros.training.checkpoint import EMA_PREFIX, RECORD_KEY, TrainingRecord, record_to_dict

    torch.manual_seed(0)
    network = build_model(model, len(CAMVID))
    with torch.no_grad():
        network(torch.randn(2, 3, 256, 256))  # moves the running statistics
        for layer in network.modules():
            if isinstance(layer, OutputConv):
                # Scores of some size; gates (without bias) and flows such that what they act on still matters.
                scores = layer.bias is not None and layer.out_channels == len(CAMVID)
                layer.weight.normal_(0, 2 if scores else 0.1)
    record = TrainingRecord(
        model=model,
        classes=CAMVID,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        config={
            "name": model,
            "out": "/home/someone/runs",
            "augment": {"crop": [64, 96]},
            "data": {"root": "/home/someone/camvid", "train": [{"root": None, "split": "train"}]},
        },
        epochs=3,
        scores={"camvid/miou": 0.5, "camvid/iou/road": 0.9},
        best_miou=0.5,
        torch_version="2.6.0",
    )
    path = folder / "best.ckpt"
    weights = {EMA_PREFIX + name: value for name, value in network.state_dict().items()}
    torch.save({RECORD_KEY: record_to_dict(record), "state_dict": weights}, path)
    return path


@pytest.fixture(scope="session")
def lite_checkpoint(make_checkpoint: FileMaker) -> Path:
    """The checkpoint of ESeg-Lite-S."""
    return make_checkpoint("eseg_lite_s")


@pytest.fixture(scope="session")
def lite_engine(lite_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the engine that `lite_checkpoint` exports to: `lite`, input 96x64."""
    from eseg_ros.engine.export import export_checkpoint

    return export_checkpoint(lite_checkpoint, "lite", tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def make_engine(make_checkpoint: FileMaker, tmp_path_factory: pytest.TempPathFactory) -> FileMaker:
    """`make_engine(model)`: the manifest of the engine that the model's checkpoint exports to; input 161x97, odd."""
    from eseg_ros.engine.export import export_checkpoint

    @cache
    def make(model: str) -> Path:
        return export_checkpoint(make_checkpoint(model), model, tmp_path_factory.mktemp("engines"), (161, 97))

    return make


def write_frame(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    """Writes an RGB frame and its ids as FOLDER/images/NAME.png and FOLDER/labels/NAME.png."""
    for kind, pixels in (("images", image[..., ::-1]), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / kind / f"{name}.png"), pixels)


def blocks(rng: np.random.Generator, height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A frame (height, width, 3) of 32-pixel blocks in the colors of their classes, and its label."""
    ids = rng.integers(0, 4, (height // 32, width // 32)).astype(np.uint8)
    label = np.kron(ids, np.ones((32, 32), np.uint8))
    noise = rng.integers(-10, 11, (height, width, 3))
    image = np.clip(CAMVID.color_table()[label] + noise, 0, 255).astype(np.uint8)
    return image, label


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that a network can learn: 12 training and 3 validation frames of 96x64 pixels.

    Blocks of the colors of CamVid's classes 0 to 3, with a little noise.
    """
    root = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for index in range(count):
            write_frame(root / split, f"{index:03d}", *blocks(rng))
    return root
