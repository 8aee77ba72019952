"""The mask is that of upsampling everything and taking the argmax, at any size; PyTorch is the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eseg_ros.labels import CAMVID, relabeling
from eseg_ros.runtime.geometry import place, scaled_size
from eseg_ros.runtime.postprocess import UNDECIDED_ID, Postprocessor
from eseg_ros.runtime.types import Image8, Outputs

from .logits import GRIDS_AND_SIZES, Logits, assert_same_but_for_ties, blobs, manifest_of, upsampled


def mask_of(logits: Logits, size: tuple[int, int], outputs: Outputs | None = None, resize: str = "stretch") -> Image8:
    """The mask at `size` (height, width)."""
    image = np.zeros((*size, 3), np.uint8)
    return Postprocessor(manifest_of(logits, resize=resize))(logits, image, outputs or Outputs())[0]


@pytest.mark.parametrize(("grid", "size"), GRIDS_AND_SIZES, ids=str)
def test_the_mask_is_pytorchs(grid: tuple[int, int], size: tuple[int, int]) -> None:
    logits = blobs(11, *grid)
    assert_same_but_for_ties(mask_of(logits, size), upsampled(logits, size))


@pytest.mark.parametrize("classes", [2, 19, 150])
def test_from_2_to_150_classes(classes: int) -> None:
    logits = blobs(classes, 12, 20)
    assert_same_but_for_ties(mask_of(logits, (96, 160)), upsampled(logits, (96, 160)))


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 30),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    spread=st.sampled_from([0.1, 3.0, 70.0]),
    seed=st.integers(0, 2**16),
)
def test_noise_of_any_size_gives_pytorchs_mask(
    classes: int, grid: tuple[int, int], size: tuple[int, int], spread: float, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(classes, *grid)).astype(np.float32) * np.float32(spread)
    planes = upsampled(logits, size)
    mask = torch.from_numpy(mask_of(logits, size).astype(np.int64))
    given_up = planes.amax(0) - planes.gather(0, mask[None])[0]
    assert given_up.max() < 2e-5 * max(1.0, spread)


def test_ties_go_to_the_lowest_id() -> None:
    logits = blobs(5, 8, 8)
    doubled = np.concatenate([logits, logits])
    assert mask_of(doubled, (64, 64)).max() < 5
    assert not mask_of(np.zeros((4, 8, 8), np.float32), (64, 64)).any()


def test_a_nan_never_wins_and_does_not_spread() -> None:
    logits = blobs(6, 8, 8)
    without = logits.copy()
    without[2] = -1e30
    logits[2] = np.nan
    np.testing.assert_array_equal(mask_of(logits, (64, 64)), mask_of(without, (64, 64)))


def test_where_all_classes_are_nan_the_mask_is_0() -> None:
    assert not mask_of(np.full((6, 8, 8), np.nan, np.float32), (64, 64)).any()


def test_infinite_logits_win_and_lose_as_large_ones_do() -> None:
    logits = blobs(6, 8, 8)
    logits[4, :, :4], logits[3] = np.inf, -np.inf
    finite = np.nan_to_num(logits, posinf=1e30, neginf=-1e30)
    np.testing.assert_array_equal(mask_of(logits, (64, 64)), mask_of(finite, (64, 64)))


def cut_out(logits: Logits, image_size: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """(C, *size), by PyTorch: what the letterboxed image of `image_size` (height, width) covers of the input."""
    spec = manifest_of(logits, resize="letterbox").input
    placed = place((image_size[1], image_size[0]), spec)
    # PyTorch samples [-1, 1] over the outer edges, as the input's rectangle is given here.
    y = (placed.top + (torch.arange(size[0]) + 0.5) * placed.height / size[0]) / spec.height * 2 - 1
    x = (placed.left + (torch.arange(size[1]) + 0.5) * placed.width / size[1]) / spec.width * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    return torch.nn.functional.grid_sample(
        torch.from_numpy(logits)[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]


@pytest.mark.parametrize("size", [(40, 160), (120, 60), (33, 97)], ids=["wide", "tall", "odd"])
def test_under_letterbox_the_mask_is_cut_out_of_the_inputs_mask(size: tuple[int, int]) -> None:
    logits = blobs(7, 8, 12)
    assert_same_but_for_ties(mask_of(logits, size, resize="letterbox"), cut_out(logits, size, size))


def test_one_postprocessor_serves_images_of_several_sizes() -> None:
    logits = blobs(7, 8, 12)
    postprocess = Postprocessor(manifest_of(logits))
    for size in ((64, 96), (10, 20), (64, 96)):
        mask = postprocess(logits, np.zeros((*size, 3), np.uint8), Outputs())[0]
        np.testing.assert_array_equal(mask, mask_of(logits, size))


def test_only_what_is_asked_for_is_made() -> None:
    logits = blobs(7, 8, 12)
    _, color_mask, overlay, confidence = Postprocessor(manifest_of(logits))(
        logits, np.zeros((64, 96, 3), np.uint8), Outputs()
    )
    assert color_mask is overlay is confidence is None


def test_the_color_mask_has_the_palettes_colors_as_bgr() -> None:
    logits = blobs(11, 8, 12)
    postprocess = Postprocessor(replace(manifest_of(logits), classes=CAMVID))
    mask, color_mask, *_ = postprocess(logits, np.zeros((64, 96, 3), np.uint8), Outputs(color_mask=True))
    np.testing.assert_array_equal(color_mask, np.array(CAMVID.palette, np.uint8)[mask][..., ::-1])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_overlay_blends_the_color_mask_into_the_image(alpha: float) -> None:
    logits = blobs(11, 8, 12)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    outputs = Outputs(color_mask=True, overlay=True, overlay_alpha=alpha)
    _, color_mask, overlay, _ = Postprocessor(manifest_of(logits))(logits, image, outputs)
    assert color_mask is not None
    assert overlay is not None
    np.testing.assert_allclose(overlay, alpha * color_mask + (1 - alpha) * image, atol=0.51)


@pytest.mark.parametrize("spread", [0.05, 1.0, 10.0])
def test_the_confidence_is_the_winners_softmax_probability_within_a_level(spread: float) -> None:
    logits = blobs(19, 8, 12) * np.float32(spread)
    image = np.zeros((67, 93, 3), np.uint8)
    confidence = Postprocessor(manifest_of(logits))(logits, image, Outputs(confidence=True))[3]
    assert confidence is not None
    expected = upsampled(logits, (67, 93)).softmax(0).amax(0).numpy() * 255
    assert np.abs(confidence - expected).max() <= 1


def test_asking_for_the_confidence_does_not_change_the_mask() -> None:
    logits = blobs(19, 8, 12)
    np.testing.assert_array_equal(mask_of(logits, (64, 96), Outputs(confidence=True)), mask_of(logits, (64, 96)))


def test_pixels_below_the_confidence_threshold_are_undecided() -> None:
    logits = blobs(19, 8, 12)
    image = np.zeros((64, 96, 3), np.uint8)
    outputs = Outputs(confidence=True, confidence_threshold=0.6)
    mask, _, _, confidence = Postprocessor(manifest_of(logits))(logits, image, outputs)
    assert confidence is not None
    decided = confidence >= 0.6 * 255
    assert 0.1 < decided.mean() < 0.9
    np.testing.assert_array_equal(mask, np.where(decided, mask_of(logits, (64, 96)), UNDECIDED_ID))


def test_a_threshold_alone_gives_no_confidence() -> None:
    logits = blobs(19, 8, 12)
    image = np.zeros((64, 96, 3), np.uint8)
    assert Postprocessor(manifest_of(logits))(logits, image, Outputs(confidence_threshold=0.6))[3] is None


@pytest.mark.parametrize("scale", [0.5, 0.37, 0.1])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_scaled_mask_is_sampled_from_the_logits_at_its_own_pixels(scale: float, resize: str) -> None:
    logits = blobs(7, 8, 12)
    width, height = scaled_size((150, 100), scale)
    mask = mask_of(logits, (100, 150), Outputs(scale=scale), resize)
    assert mask.shape == (height, width)
    planes = cut_out(logits, (100, 150), (height, width)) if resize == "letterbox" else upsampled(logits, mask.shape)
    assert_same_but_for_ties(mask, planes)


def test_a_scaled_overlay_lies_over_the_bilinearly_resized_image() -> None:
    logits = blobs(11, 8, 12)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    outputs = Outputs(color_mask=True, overlay=True, confidence=True, overlay_alpha=0.3, scale=0.5)
    _, color_mask, overlay, confidence = Postprocessor(manifest_of(logits))(logits, image, outputs)
    assert color_mask is not None
    assert overlay is not None
    assert confidence is not None
    assert color_mask.shape == overlay.shape == (32, 48, 3)
    assert confidence.shape == (32, 48)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=(32, 48), mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    np.testing.assert_allclose(overlay, 0.3 * color_mask + 0.7 * resized.numpy(), atol=1.01)


MERGED = ["pole:obstacle", "car:obstacle", "sky:"]


def test_relabeled_classes_are_those_of_the_mask_looked_up() -> None:
    logits = blobs(11, 8, 12)
    made = relabeling(CAMVID, MERGED)
    mask = mask_of(logits, (64, 96), Outputs(relabeling=made))
    np.testing.assert_array_equal(mask, np.frombuffer(made.ids, np.uint8)[mask_of(logits, (64, 96))])
    assert CAMVID.ignore_id in mask


def test_relabeled_masks_are_painted_in_the_relabeled_colors() -> None:
    logits = blobs(11, 8, 12)
    made = relabeling(CAMVID, MERGED)
    postprocess = Postprocessor(replace(manifest_of(logits), classes=CAMVID))
    image = np.zeros((64, 96, 3), np.uint8)
    for _ in range(2):  # the second comes from the painter that was kept
        mask, color_mask, *_ = postprocess(logits, image, Outputs(color_mask=True, relabeling=made))
        np.testing.assert_array_equal(color_mask, made.classes.color_table()[mask][..., ::-1])
    mask, color_mask, *_ = postprocess(logits, image, Outputs(color_mask=True))
    np.testing.assert_array_equal(color_mask, CAMVID.color_table()[mask][..., ::-1])


def test_the_threshold_holds_for_relabeled_classes_too() -> None:
    logits = blobs(11, 8, 12)
    made = relabeling(CAMVID, ["car:pole"])
    plain = mask_of(logits, (64, 96), Outputs(confidence_threshold=0.6))
    mask = mask_of(logits, (64, 96), Outputs(confidence_threshold=0.6, relabeling=made))
    np.testing.assert_array_equal(mask == UNDECIDED_ID, plain == UNDECIDED_ID)
