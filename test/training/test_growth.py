from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eseg_ros.models.efficientnet import EfficientNet, EncoderForm
from eseg_ros.models.eseg import ESEG_CONFIGS, Eseg
from eseg_ros.models.layers import FastNormalizedSum
from eseg_ros.training import growth
from eseg_ros.training.checkpoint import CheckpointError, whole_modules
from eseg_ros.training.config import config_from_dict
from eseg_ros.training.growth import grow_from
from eseg_ros.training.start import Start, read_start
from eseg_ros.training.trainer import train

SMALL = ESEG_CONFIGS["eseg_lite_s"]
WIDER = replace(SMALL, encoder_width=0.6, bifpn_channels=80)
DEEPER = replace(SMALL, encoder_depth=1.0)
LARGER_KERNELS = replace(SMALL, kernel=5)


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ESeg-Lite-S."""
    recipe: dict[str, Any] = {
        "name": "small",
        "model": "eseg_lite_s",
        "classes": "camvid",
        "epochs": 1,
        "validate_every": 1,
        "precision": "32",
        "ema_decay": 0.5,
        "out": str(tmp_path_factory.mktemp("runs")),
        "augment": {"crop": [64, 96]},
        "data": {"root": str(dataset), "batch_size": 4, "num_workers": 0},
    }
    return train(config_from_dict(recipe))


@pytest.fixture(scope="module")
def small(checkpoint: Path) -> Start:
    """Its weights."""
    return read_start(checkpoint, [])


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [SMALL, WIDER, DEEPER, LARGER_KERNELS], ids=["the same", "wider", "deeper", "larger kernels"]
)
def test_a_grown_network_starts_with_the_scores_of_the_small_one(small: Start, config: Any) -> None:
    expected, grown = Eseg(SMALL, 11), Eseg(config, 11)
    grow_from(expected, small)
    grow_from(grown, small)
    image = torch.randn(1, 3, 96, 128)
    # The shares of a wider node's inputs, 1e-4 below one, are the same; sums have more terms.
    torch.testing.assert_close(grown.eval()(image), expected.eval()(image), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("repeats", [2, 3])
def test_new_cells_of_the_pyramid_pass_on_what_they_get(
    small: Start, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, grown = Eseg(SMALL, 11), Eseg(replace(WIDER, bifpn_repeats=repeats), 11)
    grow_from(expected, small)
    monkeypatch.setattr(growth, "NEIGHBOR", 1e-6)
    names = grow_from(grown, small)
    assert {name.split(".")[1] for name in names if name.startswith("bifpn.")} == {str(i) for i in range(repeats - 1)}
    # In training mode features have the deviations that their normalizations say, as after a whole training.
    image = torch.randn(8, 3, 192, 256)
    scores = expected.train()(image)
    assert float((grown.train()(image) - scores).std() / scores.std()) < 0.05


@pytest.mark.slow
def test_a_cell_that_passes_on_looks_at_its_neighbors_a_little(small: Start) -> None:
    grown = Eseg(replace(SMALL, bifpn_repeats=2), 11)
    grow_from(grown, small)
    sums = [module.normalized() for module in grown.bifpn[0].modules() if isinstance(module, FastNormalizedSum)]
    assert sums
    assert all(0.9 < shares[0] < 1 and min(shares[1:]) > 0 for shares in sums)


@pytest.mark.slow
def test_new_channels_learn_something_of_their_own(small: Start) -> None:
    grown = Eseg(WIDER, 11)
    grow_from(grown, small)
    assert isinstance(grown.encoder, EfficientNet)
    stem = grown.encoder.stem.conv.weight
    narrow = Eseg(SMALL, 11).encoder.stem.conv.weight.shape[0]
    assert len(stem) > narrow
    assert bool((stem[narrow:].flatten(1).std(dim=1) > 0).all())


@pytest.mark.slow
def test_smaller_kernels_are_the_centers_of_the_given_ones(small: Start) -> None:
    whole, cut = Eseg(SMALL, 11), Eseg(replace(SMALL, kernel=3), 11)
    grow_from(whole, small)
    assert grow_from(cut, small) == []
    for name, value in cut.state_dict().items():
        given = whole.state_dict()[name]
        if value.shape != given.shape:
            assert (value.shape[2:], given.shape[2:]) == ((3, 3), (5, 5))
            given = given[..., 1:-1, 1:-1]
        assert torch.equal(value, given), name


@pytest.mark.slow
def test_levels_that_are_not_there_are_left_out_and_sums_over_fewer_start_anew(small: Start) -> None:
    net = Eseg(replace(SMALL, max_level=6), 11)
    assert whole_modules(net, grow_from(net, small)) == ["bifpn.0.nodes.out6.fuse", "fuse"]
    whole = Eseg(SMALL, 11)
    grow_from(whole, small)
    kept = "bifpn.0.nodes.out5.conv.depthwise.weight"
    assert torch.equal(net.state_dict()[kept], whole.state_dict()[kept])


@pytest.mark.slow
def test_what_the_small_network_does_not_have_is_named(small: Start) -> None:
    names = whole_modules(Eseg(DEEPER, 11), grow_from(Eseg(DEEPER, 11), small))
    assert names
    assert all(name.startswith("encoder.stages.") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "classes"),
    [(replace(SMALL, encoder_width=0.2), 11), (replace(SMALL, form=EncoderForm.EFFICIENTNET), 11), (SMALL, 5)],
    ids=["narrower", "another form", "fewer classes"],
)
def test_a_network_that_does_not_hold_the_small_one_is_refused(small: Start, config: Any, classes: int) -> None:
    with pytest.raises(CheckpointError, match="grow from a narrower or shallower model"):
        grow_from(Eseg(config, classes), small)


@pytest.mark.slow
def test_a_recipe_grows(
    checkpoint: Path, dataset: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    train(config_from_dict({**recipe, "model": "eseg_lite_m", "epochs": 1, "grow_from": str(checkpoint)}))
    assert f"starting from {checkpoint}; not in it: encoder.stages.3.2, " in capsys.readouterr().out
