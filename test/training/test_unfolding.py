from __future__ import annotations

import pytest
import torch
from torch import nn

from eseg_ros.errors import UsageError
from eseg_ros.models.eseg import ESEG_CONFIGS
from eseg_ros.models.layers import ConvNorm, FastNormalizedSum, StochasticDepth
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.models.zoo import MODELS, build_model
from eseg_ros.training.unfolding import unfolded_weights

FORMS_OF_ESEG = ("eseg_lite_s", "eseg_s", "eseg_mobile")
FAMILIES = (*FORMS_OF_ESEG, *(model for model in MODELS if model not in ESEG_CONFIGS))
CLASSES = 5


def trained(model: str) -> SegmentationNetwork:
    """A network whose normalizations are not those of a new one."""
    torch.manual_seed(0)
    network = build_model(model, CLASSES)
    for module in network.modules():
        if isinstance(module, ConvNorm):
            nn.init.uniform_(module.norm.weight, 0.5, 1.5)
            nn.init.normal_(module.norm.bias, std=0.2)
            module.norm.momentum = 1.0
        elif isinstance(module, FastNormalizedSum):
            nn.init.uniform_(module.weight, 0.3, 2.0)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 96, 128))
    return network.eval()


def unfolded(network: SegmentationNetwork, model: str, images: torch.Tensor) -> SegmentationNetwork:
    torch.manual_seed(1)
    fresh = build_model(model, CLASSES)
    deployed = network.deploy()
    missing = fresh.load_state_dict(unfolded_weights(fresh, deployed, [images]), strict=False).missing_keys
    engine_layers = tuple(
        f"{name.rpartition('.')[0]}." for name, _ in (*deployed.named_parameters(), *deployed.named_buffers())
    )
    assert not [name for name in missing if name.startswith(engine_layers)], missing
    return fresh


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("model", FAMILIES)
def test_an_unfolded_network_computes_what_the_engine_computes(model: str) -> None:
    network, images = trained(model), torch.randn(2, 3, 96, 128)
    expected = network(images)
    found = unfolded(network, model, torch.randn(4, 3, 96, 128)).eval()(images)
    assert float((found - expected).abs().max()) <= 1e-3 * float(expected.abs().max())


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("model", FAMILIES)
def test_on_the_frames_that_it_was_measured_on_training_computes_it_too(model: str) -> None:
    images = torch.randn(4, 3, 96, 128)
    network = unfolded(trained(model), model, images)
    expected = network.eval()(images)
    network.train()
    for module in network.modules():
        if isinstance(module, StochasticDepth | nn.Dropout):
            module.eval()
    assert float((network(images) - expected).abs().max()) <= 1e-2 * float(expected.abs().max())


@torch.no_grad()
def test_filters_have_the_norms_of_new_ones() -> None:
    network = trained("fast_scnn")
    fresh = build_model("fast_scnn", CLASSES)
    weights = unfolded_weights(fresh, network.deploy(), [torch.randn(2, 3, 96, 128)])
    name = "downsample.0.0.conv.weight"
    norms = [weight.flatten(1).norm(dim=1) for weight in (weights[name], fresh.state_dict()[name])]
    torch.testing.assert_close(norms[0], norms[1])


def test_without_frames_nothing_can_be_measured() -> None:
    network = build_model("fast_scnn", CLASSES)
    with pytest.raises(UsageError, match="at least a batch"):
        unfolded_weights(network, network.deploy(), [])
