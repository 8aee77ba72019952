"""A run starts from an engine as it starts from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eseg_ros.engine.export import rebuild_network
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EngineError, EsegError
from eseg_ros.models.zoo import build_model
from eseg_ros.training.config import config_from_dict
from eseg_ros.training.data import sample_batches, training_loader
from eseg_ros.training.start import read_start, warm_start
from eseg_ros.training.trainer import train

ENGINES = Path(__file__).resolve().parents[2] / "engines"


@pytest.mark.slow
@torch.no_grad()
def test_an_engine_starts_a_network_that_computes_the_same(lite_engine: Path, recipe: dict[str, Any]) -> None:
    frames = list(sample_batches(training_loader(config_from_dict(recipe)), 8))
    start = read_start(lite_engine, frames)
    network = build_model("eseg_lite_s", 11)
    assert warm_start(network, start) == []
    engine = load_engine(lite_engine)
    image = torch.randn(1, 3, 64, 96)
    expected = rebuild_network(engine.manifest, engine.onnx)(image)
    torch.testing.assert_close(network.eval()(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@torch.no_grad()
def test_an_fp16_engine_starts_one_too() -> None:
    network = build_model("eseg_lite_s", 11)
    images = [torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)]
    half = read_start(ENGINES / "eseg_lite_s_street_fp16.json", images).weights
    whole = read_start(ENGINES / "eseg_lite_s_street.json", images).weights
    outputs = []
    for weights in (half, whole):
        network.load_state_dict(weights)
        outputs.append(network.eval()(torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))))
    assert float((outputs[0] - outputs[1]).abs().max()) < 0.02 * float(outputs[1].abs().max())
    assert not torch.equal(outputs[0], outputs[1])


def test_an_int8_engine_is_refused() -> None:
    with pytest.raises(EngineError, match=r"precision int8; .* fp32 or fp16 engine"):
        read_start(ENGINES / "eseg_lite_s_street_int8.json", [])


@pytest.mark.slow
@pytest.mark.parametrize("key", ["init_from", "grow_from"])
def test_a_recipe_starts_from_an_engine(
    key: str, lite_engine: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    colors = load_engine(lite_engine).manifest.input
    data = {**recipe["data"], "mean": list(colors.mean), "std": list(colors.std)}
    train(config_from_dict({**recipe, "epochs": 1, key: str(lite_engine), "data": data}))
    assert f"starting from {lite_engine}; not in it: nothing" in capsys.readouterr().out


def test_another_normalization_is_refused(lite_engine: Path, recipe: dict[str, Any]) -> None:
    with pytest.raises(EsegError, match=r"data\.mean \[0\.4, .* recipe has \[0\.485, .* Give the recipe the same ones"):
        train(config_from_dict({**recipe, "init_from": str(lite_engine)}))


def test_samples_are_of_all_sources_and_leave_the_loader_as_it_was(recipe: dict[str, Any]) -> None:
    recipe = {**recipe, "data": {**recipe["data"], "train": [{"split": "train"}, {"split": "val", "repeat": 0.5}]}}
    loader = training_loader(config_from_dict(recipe))
    first = next(iter(loader))[0]
    batches = list(sample_batches(loader, 9))
    assert [tuple(batch.shape) for batch in batches] == [(4, 64, 96, 3)] * 3
    assert {batch.dtype for batch in batches} == {torch.uint8}
    assert torch.equal(next(iter(loader))[0], first)
