"""An engine of a few convolutions whose answer is known, and frames for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eseg_ros.engine.manifest import load_engine, sha256_of, write_manifest
from eseg_ros.labels import CAMVID

Weights = dict[str, npt.NDArray[np.float32]]


def small_network(classify: Weights, amplify: float = 1.0) -> onnx.ModelProto:
    """A network that tells CamVid's colours apart: the image's positive and negative part, a sum, and the classes.

    (1, 3, 64, 96) -> (1, 11, 8, 12)

    Args:
        classify: weight and bias of the tiny engine's only layer, which is the last one here.
        amplify: factor of one of the six inner channels, which the last but one layer takes back.
    """
    scale = np.array([amplify, 1, 1, 1, 1, 1], np.float32)
    identity = np.eye(3, dtype=np.float32)
    centre = np.zeros((6, 1, 3, 3), np.float32)
    centre[:, 0, 1, 1] = 1
    weights = {
        "encoder.stem.weight": (np.concatenate([identity, -identity]) * scale[:, None])[..., None, None],
        "encoder.stem.bias": np.zeros(6, np.float32),
        "encoder.mix.weight": centre,
        "encoder.mix.bias": np.zeros(6, np.float32),
        "head.merge.weight": (np.concatenate([identity, -identity], 1) / (2 * scale))[..., None, None],
        "head.merge.bias": np.zeros(3, np.float32),
        "head.classify.weight": classify["weight"],
        "head.classify.bias": classify["bias"],
    }

    def convolve(name: str, source: str, target: str, **attributes: object) -> onnx.NodeProto:
        parts = [f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", [source, *parts], [target], name=f"conv_{name}", **attributes)

    nodes = [
        convolve("encoder.stem", "image", "parts"),
        helper.make_node("Relu", ["parts"], ["positive"], name="relu"),  # (1, 6, 64, 96)
        convolve("encoder.mix", "positive", "mixed", group=6, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["positive", "mixed"], ["sum"], name="residual"),
        convolve("head.merge", "sum", "merged"),  # (1, 3, 64, 96)
        convolve("head.classify", "merged", "logits", strides=[8, 8]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 11, 8, 12])],
        [numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


EngineMaker = Callable[..., Path]


@pytest.fixture
def make_small_engine(tiny_engine: Path, tmp_path: Path) -> EngineMaker:
    """`make_small_engine(name, amplify=..., change=...)`: the manifest's path of an engine of `small_network`.

    `change` may alter the weights of its last layer, {"weight", "bias"}, where they are.
    """
    tiny = load_engine(tiny_engine)
    classify = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(tiny.onnx).graph.initializer}

    def make(name: str = "small", amplify: float = 1.0, change: Callable[[Weights], None] = lambda _: None) -> Path:
        folder = tmp_path / "engines"
        folder.mkdir(exist_ok=True)
        own = {key: value.copy() for key, value in classify.items()}
        change(own)
        path = folder / f"{name}.onnx"
        onnx.save(small_network(own, amplify), path)
        training = {"recipe": {"model": "small"}}
        manifest = replace(
            tiny.manifest, name=name, onnx_file=path.name, onnx_sha256=sha256_of(path), training=training
        )
        return write_manifest(manifest, folder)

    return make


@pytest.fixture
def small_engine(make_small_engine: EngineMaker) -> Path:
    """The manifest of an fp32 engine of four convolutions, input 96x64."""
    return make_small_engine()


@pytest.fixture
def painted_data(tmp_path: Path) -> Path:
    """A data set whose splits `train` and `val` hold four noisy pictures in CamVid's colours, with their labels.

    Class 0, the sky, is in frame "2" alone.
    """
    root = tmp_path / "data"
    rng = np.random.default_rng(3)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for index in range(4):
            cells = rng.integers(1, len(CAMVID), (2, 3), np.uint8)
            if index == 2:
                cells[0] = 0
            label = cells.repeat(32, axis=0).repeat(32, axis=1)  # (64, 96)
            image = CAMVID.color_table()[label][..., ::-1] + rng.normal(0, 8, (64, 96, 3))
            cv2.imwrite(str(root / split / f"images/{index}.png"), image.clip(0, 255).astype(np.uint8))
            cv2.imwrite(str(root / split / f"labels/{index}.png"), label)
    return root
