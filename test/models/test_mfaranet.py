"""MFARANet: aggregation, alignment by warping, fusion of scores, edges while training, the pruned form."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from eseg_ros.models.complexity import count_parameters
from eseg_ros.models.mfaranet import CHANNELS, Flow, Mfaranet, MultiLevelAggregation, RecursiveAlignment, warp
from eseg_ros.models.resnet import ResNet18

CLASSES = 11


def features(height: int, width: int, channels: int = CHANNELS) -> list[torch.Tensor]:
    """Four stages, each half as large as the one before, rounded up."""
    torch.manual_seed(0)
    return [torch.randn(2, channels, -(-height // 2**stage), -(-width // 2**stage)) for stage in range(4)]


@pytest.fixture(scope="module")
def model() -> Mfaranet:
    torch.manual_seed(0)
    return Mfaranet(CLASSES).eval()


def test_it_has_the_13_million_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        assert count_parameters(Mfaranet(19).inference_form()) == pytest.approx(13.0e6, rel=0.005)


def test_the_encoder_is_resnet_18_with_a_deep_stem() -> None:
    with torch.device("meta"):
        encoder = ResNet18()
        stages = encoder(torch.empty(1, 3, 97, 161))
    assert [tuple(stage.shape[1:]) for stage in stages] == [(64, 25, 41), (128, 13, 21), (256, 7, 11), (512, 4, 6)]
    deep_stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    wider_input = 9 * 64 * 64 + 128 * 64 + 2 * 64  # of the first block, which now has a projection
    plain = 11_176_512 - (49 * 3 * 64 + 2 * 64)  # the usual ResNet-18 without its stem and classifier
    assert count_parameters(encoder) == plain + deep_stem + wider_input


def test_aggregation_keeps_the_stages_sizes() -> None:
    with torch.device("meta"):
        stages = ResNet18()(torch.empty(1, 3, 97, 161))
        aggregated = MultiLevelAggregation()(stages)
    assert [x.shape for x in aggregated] == [(1, CHANNELS, *x.shape[-2:]) for x in stages]


def test_a_flow_of_zero_warps_as_a_bilinear_resize_does() -> None:
    flow = Flow()
    torch.nn.init.zeros_(flow.flow.weight)
    fine, coarse, *_ = features(13, 21)
    resized = F.interpolate(coarse, size=(13, 21), mode="bilinear", align_corners=False)
    torch.testing.assert_close(warp(coarse, flow(fine, coarse)), resized, rtol=0, atol=1e-5)


def test_a_flow_of_two_moves_by_a_pixel() -> None:
    columns = (torch.arange(8.0) * 2 + 1) / 8 - 1
    grid = torch.stack(torch.meshgrid(columns + 2 / 8, columns, indexing="xy"), dim=-1)[None]
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert warp(ramp, grid)[0, 0, 0].tolist() == pytest.approx([1, 2, 3, 4, 5, 6, 7, 7], abs=1e-5)


def test_positions_are_float32_even_under_autocast() -> None:
    fine, coarse, *_ = features(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        grid = Flow()(fine, coarse)
        warped = warp(coarse.bfloat16(), grid)
    assert grid.dtype == torch.float32
    assert warped.dtype == torch.bfloat16


def test_every_stage_comes_to_the_first_ones_size_in_six_warps(monkeypatch: pytest.MonkeyPatch) -> None:
    warps = []

    def counted(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        warps.append(tuple(grid.shape[1:3]))
        return warp(x, grid)

    monkeypatch.setattr("eseg_ros.models.mfaranet.warp", counted)
    aligned = RecursiveAlignment()(features(24, 40))
    assert [tuple(x.shape[-2:]) for x in aligned] == [(24, 40)] * 4
    assert warps == [(6, 10), (12, 20), (12, 20), (24, 40), (24, 40), (24, 40)]


def test_the_score_is_the_sum_of_gated_stage_scores(model: Mfaranet) -> None:
    image, halving = torch.randn(1, 3, 64, 96), copy.deepcopy(model)
    for attend in halving.attend:
        torch.nn.init.zeros_(attend[2].weight)  # gates of one half
    with torch.no_grad():
        fused, *stages = model.supervised(image)
        halved = halving(image)
    assert fused.scores.shape == (1, CLASSES, 16, 24)
    torch.testing.assert_close(halved, 0.5 * sum(stage.scores for stage in stages), rtol=0, atol=1e-5)


def test_the_stages_are_supervised_with_edges(model: Mfaranet) -> None:
    fused, *stages = model.supervised(torch.randn(1, 3, 64, 96))
    assert fused.edges is None
    assert [stage.edges.shape for stage in stages] == [(1, 1, 16, 24)] * 4


def test_the_pruned_form_gives_the_second_stages_score_and_keeps_only_what_leads_to_it() -> None:
    torch.manual_seed(0)
    model = Mfaranet(CLASSES, pruned=True).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        _, _, second, *_ = model.supervised(image)
        pruned = model.inference_form()
        assert torch.equal(pruned(image), second.scores)
        pruned.requires_grad_()
    pruned(image).sum().backward()
    assert [name for name, parameter in pruned.named_parameters() if parameter.grad is None] == []


def test_a_checkpoint_of_the_whole_fits_the_pruned_one() -> None:
    with torch.device("meta"):
        assert list(Mfaranet(CLASSES).state_dict()) == list(Mfaranet(CLASSES, pruned=True).state_dict())
