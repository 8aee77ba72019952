"""What holds for every row of the table of models: a new row gets these tests without a line here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eseg_ros.errors import UsageError
from eseg_ros.models.complexity import model_cost
from eseg_ros.models.layers import OutputConv, WeightedSum
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.models.zoo import MODELS, build_deployed, build_model

CLASSES = 11
RECIPES = Path(__file__).parents[2] / "config" / "train"

every_model = pytest.mark.parametrize("name", MODELS)


def trained_looking(name: str) -> SegmentationNetwork:
    """A model in eval mode whose every number is away from its start value, with scores of some size."""
    torch.manual_seed(0)
    model = build_model(name, CLASSES)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0
    for layer in model.modules():
        if isinstance(layer, WeightedSum):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
        elif isinstance(layer, OutputConv):
            nn.init.normal_(layer.weight, std=0.1)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 97, 161))  # statistics that keep deep networks in range
    for norm in norms:
        norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
        norm.running_var.clamp_(min=0.5).mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.25))
    return model.eval()


@cache
def on_meta(name: str) -> SegmentationNetwork:
    """A model whose shapes can be asked at no cost, in training mode."""
    with torch.device("meta"):
        return build_model(name, CLASSES)


@every_model
def test_parameters_and_multiply_adds_are_those_of_the_table(name: str) -> None:
    cost = model_cost(name, 19, 1024, 2048)
    assert cost.parameters / 1e6 == pytest.approx(MODELS[name].parameters, abs=0.005)
    assert cost.macs / 1e9 == pytest.approx(MODELS[name].macs, abs=0.005)


@every_model
@pytest.mark.parametrize("size", [(64, 64), (97, 161), (479, 640)])
def test_any_size_from_64_up_is_taken_and_score_sizes_round_up(name: str, size: tuple[int, int]) -> None:
    model = on_meta(name)
    scores = model(torch.empty(2, 3, *size, device="meta"))
    assert scores.shape == (2, CLASSES, *(-(-length // model.stride) for length in size))


@every_model
@pytest.mark.parametrize("size", [(63, 64), (64, 63)])
def test_an_image_that_is_too_small_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"image is {size[0]}x{size[1]} pixels .* expected at least 64x64"):
        on_meta(name)(torch.empty(1, 3, *size, device="meta"))


@every_model
@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_an_image_that_is_not_a_batch_of_three_channels_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
        on_meta(name)(torch.empty(shape, device="meta"))


@every_model
def test_training_sees_the_scores_first(name: str) -> None:
    model = on_meta(name)
    outputs = model.supervised(torch.empty(2, 3, 97, 65, device="meta"))
    assert outputs[0].scores.shape == model(torch.empty(2, 3, 97, 65, device="meta")).shape
    assert outputs[0].weight == 1.0
    assert all(output.scores.shape[:2] == (2, CLASSES) for output in outputs)


def shallow_of(names: list[str]) -> list[object]:
    """The models with those of more than 25 million parameters marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if MODELS[name].parameters > 25 else name for name in names]


@pytest.mark.parametrize("name", shallow_of(list(MODELS)))
def test_every_weight_learns_in_bfloat16_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, CLASSES).to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, OutputConv):
            nn.init.normal_(layer.weight, std=0.1)
    image = torch.randn(4, 3, 97, 65).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.supervised(image)
    assert outputs[0].scores.dtype == torch.bfloat16
    given = [tensor for output in outputs for tensor in (output.scores, output.edges) if tensor is not None]
    torch.stack([tensor.float().square().mean() for tensor in given]).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    silent = [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all() or not grad.any()]
    assert silent == []


@pytest.mark.parametrize("name", shallow_of(list(MODELS)))
def test_the_deployed_form_gives_the_same_scores(name: str) -> None:
    model = trained_looking(name)
    image = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        expected: Tensor = model(image)
        scores = model.deploy()(image)
    assert expected.abs().max() > 0.1, "the comparison would say little"
    torch.testing.assert_close(scores, expected, rtol=0, atol=model.rounding * expected.abs().max().item())


@every_model
def test_the_deployed_form_is_frozen_and_has_only_convolutions_and_constants(name: str) -> None:
    deployed = build_deployed(name, CLASSES)
    names = {key.rsplit(".", 1)[1].rstrip("0123456789") for key in deployed.state_dict()}
    assert names <= {"weight", "bias", "factor"}
    assert not any(isinstance(layer, nn.BatchNorm2d | WeightedSum) for layer in deployed.modules())
    assert not any(key.startswith("auxiliary") for key in deployed.state_dict())
    assert not deployed.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


@every_model
def test_deploying_leaves_the_model_in_training(name: str) -> None:
    model = on_meta(name)
    keys = list(model.state_dict())
    model.inference_form()
    assert model.training
    assert list(model.state_dict()) == keys


@every_model
def test_a_recipe_trains_it_on_camvid(name: str) -> None:
    from eseg_ros.training.config import load_config

    recipe = load_config(RECIPES / f"{name}_camvid.yaml")
    assert (recipe.model, recipe.classes) == (name, "camvid")


@every_model
def test_the_documentation_tells_of_it(name: str) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    model = MODELS[name]
    assert f"| `{name}` | {model.parameters:.2f} M | {model.macs:.2f} G |" in docs


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=rf"'eseg_xl'.*{', '.join(MODELS)}"):
        build_model("eseg_xl", CLASSES)


def test_a_model_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes=1"):
        build_model("eseg_lite_s", 1)


def test_a_variant_differs_from_its_model_in_what_its_name_says() -> None:
    with torch.device("meta"):
        plain = build_model("eseg_lite_s", CLASSES)
        variant = build_model("eseg_lite_s+kernel=3+min_level=2+bifpn_channels=48", CLASSES)
    assert (plain.stride, variant.stride) == (8, 4)
    kernels = {layer.kernel_size for layer in variant.modules() if isinstance(layer, nn.Conv2d)}
    assert kernels == {(1, 1), (3, 3)}
    assert variant.head.conv.pointwise.conv.out_channels == 48
    assert variant(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, CLASSES, 16, 16)


def test_a_variant_may_fuse_stages_and_expand_less() -> None:
    with torch.device("meta"):
        encoder = build_model("eseg_mobile+fused_stages=1,2+expansion=4", CLASSES).encoder
    forms = [type(blocks[0]).__name__ for blocks in encoder.stages]
    assert forms == ["MBConv", "FusedMBConv", "FusedMBConv", *["MBConv"] * 4]
    assert encoder.stages[3][0].depthwise.conv.out_channels == 4 * 40
    assert encoder.stages[0][0].expand is None


def test_a_variant_may_have_a_head_more_in_training() -> None:
    torch.manual_seed(0)
    variant = build_model("eseg_lite_s+auxiliary_level=4", CLASSES)
    outputs = variant.supervised(torch.randn(2, 3, 64, 96))
    assert [tuple(output.scores.shape[2:]) for output in outputs] == [(8, 12), (4, 6)]
    assert [output.weight for output in outputs] == [1.0, 0.4]
    assert variant.deploy().state_dict().keys() == build_model("eseg_lite_s", CLASSES).deploy().state_dict().keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eseg_lite_s+auxiliary_level=6", "auxiliary_level 6: the encoder has levels 1 to 5"),
        ("eseg_lite_s+levels=3", "unknown part 'levels'; expected some of .*max_level"),
        ("eseg_lite_s+form=lite", "unknown part 'form'"),
        ("eseg_lite_s+max_level", "'' is no value of max_level; expected a number above 0, for example 7"),
        ("eseg_lite_s+kernel=0", "'0' is no value of kernel"),
        ("eseg_lite_s+kernel=3,5", "'3,5' is no value of kernel"),
        ("eseg_lite_s+kernel=4", "kernel 4: expected an odd number"),
        ("eseg_lite_s+fused_stages=x", "'x' is no value of fused_stages"),
        ("eseg_lite_s+min_level=9", "levels go from min_level, at least 1, up to a greater max_level"),
        ("fast_scnn+kernel=3", "only members of the ESeg family have variants"),
        ("eseg_xl+kernel=3", "unknown model 'eseg_xl'"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_model(name, CLASSES)
