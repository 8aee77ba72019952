"""Every model of the table behind the node's pipeline: all that changes is the engine's path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eseg_ros.engine.manifest import load_engine
from eseg_ros.models.zoo import MODELS
from eseg_ros.rendering.renderer import render_frame
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.preprocess import Preprocessor
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Frame, Image8, Outputs
from eseg_ros.training.checkpoint import load_for_export

FileMaker = Callable[[str], Path]


@pytest.fixture(scope="module")
def image() -> Image8:
    """A rendered street, (120, 160, 3) BGR: not the engines' size."""
    return render_frame(0, 160, 120).image


def mask_by_pytorch(checkpoint: Path, engine: Path, image: Image8) -> Image8:
    """(120, 160): upsample and argmax of the checkpoint's own scores."""
    network, _ = load_for_export(checkpoint)
    spec = load_engine(engine).manifest.input
    tensor = np.empty((1, 3, spec.height, spec.width), np.float32)
    Preprocessor(spec)(image, tensor)
    with torch.inference_mode():
        scores = network(torch.from_numpy(tensor))
        upsampled = F.interpolate(scores, size=image.shape[:2], mode="bilinear", align_corners=False)
    mask: Image8 = upsampled[0].argmax(0).byte().numpy()
    return mask


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if m.parameters > 15 else n for n, m in MODELS.items()]
)
def test_the_nodes_pipeline_runs_it_by_its_manifest_alone(
    make_engine: FileMaker,
    make_checkpoint: FileMaker,
    make_frame: Callable[..., Frame],
    image: Image8,
    kind: str,
    name: str,
) -> None:
    pytest.importorskip(kind)
    with Pipeline(create_runtime(load_engine(make_engine(name)), kind, threads=1)) as pipeline:
        pipeline.submit(make_frame(image), Outputs())
        mask = pipeline.collect().mask
    expected = mask_by_pytorch(make_checkpoint(name), make_engine(name), image)
    assert (mask == expected).mean() > 0.999
