"""ESeg and ESeg-Lite as a whole: shapes, bad input, training, the deployed form and its export."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import onnxscript.optimizer
import openvino
import pytest
import torch
from torch import Tensor, nn

from eseg_ros.models import MODELS, build_deployed, build_model
from eseg_ros.models.eseg import Eseg, select_levels
from eseg_ros.models.layers import WeightedSum

CLASSES = 11
OTHERS = [name for name in MODELS if name != "eseg_lite_s"]
DEEP = ("eseg_m", "eseg_l")


def trained_looking(name: str) -> Eseg:
    """A model in eval mode whose every number is away from its start value, with logits of some size."""
    torch.manual_seed(0)
    model = build_model(name, CLASSES)
    nn.init.normal_(model.head.classify.weight)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0
    for layer in model.modules():
        if isinstance(layer, WeightedSum):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 97, 161))  # statistics that keep deep networks in range
    for norm in norms:
        norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
        norm.running_var.clamp_(min=0.5).mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.25))
    return model.eval()


@pytest.fixture(scope="module")
def lite_s() -> Eseg:
    return trained_looking("eseg_lite_s")


@pytest.mark.parametrize("name", MODELS)
def test_scores_come_at_a_quarter_and_for_lite_at_an_eighth(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, CLASSES).eval()
        scores = model(torch.empty(2, 3, 1024, 2048))
    assert model.stride == (8 if "lite" in name else 4)
    assert scores.shape == (2, CLASSES, 1024 // model.stride, 2048 // model.stride)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (97, 161), (360, 480), (479, 641)])
@pytest.mark.parametrize("name", ["eseg_lite_s", "eseg_s"])
def test_any_size_from_64_up_is_taken_and_score_sizes_round_up(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = build_model(name, CLASSES).eval()
        scores = model(torch.empty(1, 3, *size))
    assert scores.shape[-2:] == tuple(-(-length // model.stride) for length in size)


@pytest.mark.parametrize("size", [(63, 64), (64, 63)])
def test_an_image_that_is_too_small_is_refused(lite_s: Eseg, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"image is {size[0]}x{size[1]} pixels .* expected at least 64x64"):
        lite_s(torch.rand(1, 3, *size))


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 4, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_an_image_that_is_not_a_batch_of_three_channels_is_refused(lite_s: Eseg, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
        lite_s(torch.rand(shape))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'eseg_xl'.*eseg_lite_s, eseg_lite_m, eseg_lite_l, eseg_s, eseg_m, eseg_l"):
        build_model("eseg_xl", CLASSES)


def test_a_model_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes=1"):
        build_model("eseg_lite_s", 1)


def test_levels_behind_the_encoder_are_averages_of_the_level_before() -> None:
    encoded = {level: torch.full((1, 2, 12, 15), float(level)) for level in (4, 5)}
    pyramid = select_levels(encoded, 5, 9)
    sizes = {level: tuple(x.shape[-2:]) for level, x in pyramid.items()}
    assert sizes == {5: (12, 15), 6: (6, 8), 7: (3, 4), 8: (2, 2), 9: (1, 1)}
    assert all((x == 5.0).all() for x in pyramid.values()), "padding must not darken the border"


@pytest.mark.parametrize("name", ["eseg_lite_s", "eseg_s"])
def test_every_weight_learns_in_bfloat16_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, CLASSES, drop_connect=0.2).to(memory_format=torch.channels_last)
    nn.init.normal_(model.head.classify.weight)
    image = torch.randn(8, 3, 97, 65).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(image)
    assert scores.dtype == torch.bfloat16
    assert scores.is_contiguous(memory_format=torch.channels_last)
    scores.float().square().mean().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    silent = [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all() or not grad.any()]
    assert silent == []


@pytest.mark.parametrize("name", MODELS)
def test_the_deployed_form_gives_the_same_scores(name: str) -> None:
    model = trained_looking(name)
    image = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        expected = model(image)
        scores = model.deploy()(image)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_the_deployed_form_is_frozen_and_has_only_convolutions_and_constants(lite_s: Eseg) -> None:
    deployed = lite_s.deploy()
    names = {key.rsplit(".", 1)[1].rstrip("0123456789") for key in deployed.state_dict()}
    assert names == {"weight", "bias", "factor"}
    assert not any(isinstance(layer, nn.BatchNorm2d | WeightedSum) for layer in deployed.modules())
    assert not deployed.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


def test_deploying_leaves_the_model_in_training() -> None:
    model = build_model("eseg_lite_s", CLASSES)
    keys = list(model.state_dict())
    model.deploy()
    assert model.training
    assert list(model.state_dict()) == keys


def test_deployed_weights_load_into_a_deployed_form_built_by_name(lite_s: Eseg) -> None:
    rebuilt = build_deployed("eseg_lite_s", CLASSES)
    rebuilt.load_state_dict(lite_s.deploy().state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), lite_s.deploy()(image))


@pytest.mark.parametrize("size", [(64, 64), (97, 161), (360, 480)])
def test_exported_lite_s_scores_alike_in_every_runtime(lite_s: Eseg, size: tuple[int, int]) -> None:
    assert_runtimes_agree(lite_s.deploy(), torch.randn(1, 3, *size))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in OTHERS]
)
def test_exported_models_score_alike_in_every_runtime(name: str) -> None:
    assert_runtimes_agree(trained_looking(name).deploy(), torch.randn(1, 3, 65, 97))


def test_an_exported_graph_keeps_every_weight_by_its_name() -> None:
    """Even in a fresh model, where many are equal: a graph's weights can be read back and exported anew."""
    deployed = build_deployed("eseg_lite_s", CLASSES)
    graph = exported(deployed, torch.randn(1, 3, 64, 64)).model.graph
    assert set(deployed.state_dict()) <= set(graph.initializers)


def exported(deployed: Eseg, image: Tensor) -> Any:
    """The graph with shape arithmetic folded. The exporter's own optimizer would merge equal weights."""
    program = torch.onnx.export(
        deployed, (image,), dynamo=True, opset_version=18, optimize=False, verbose=False, input_names=["image"]
    )
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    return program


def assert_runtimes_agree(deployed: Eseg, image: Tensor) -> None:
    with torch.no_grad():
        expected = deployed(image).numpy()
    graph = exported(deployed, image).model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    by_onnxruntime = session.run(None, {"image": image.numpy()})[0]
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    by_openvino = compiled(image.numpy())[0]
    assert np.abs(expected).max() > 1.0, "the comparison would say little"
    np.testing.assert_allclose(by_onnxruntime, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(by_openvino, expected, rtol=0, atol=1e-4)
