"""The postprocess kernel, built for the host, against PyTorch, and against the postprocessing on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eseg_ros.labels import CITYSCAPES
from eseg_ros.runtime.cuda.parameters import ENCODINGS, LIVE, POSTPROCESS
from eseg_ros.runtime.geometry import Placement, place
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.postprocess import Postprocessor
from eseg_ros.runtime.types import Frame, Image8, Outputs

from ..logits import GRIDS_AND_SIZES, PALETTE, Logits, assert_same_but_for_ties, blobs, manifest_of, upsampled
from .host_build import image_parameters, run_on_host

PICTURES = ("color_mask", "overlay", "confidence")


@dataclass(frozen=True)
class Request:
    """What is asked of the kernel beside the mask."""

    pictures: tuple[str, ...] = ()
    with_confidence: bool | None = None  # None: if the confidence or a threshold is asked for
    threshold: float = 0.0
    alpha: float = 0.5
    ids: bytes = bytes(range(256))
    frame: Frame | None = None  # the camera image under the overlay
    placed: Placement | None = None  # None: it fills the engine's input


PLAIN = Request()
"""The mask alone."""


@dataclass(frozen=True)
class Answer:
    """What the kernel wrote."""

    mask: Image8
    color_mask: Image8 | None = None
    overlay: Image8 | None = None
    confidence: Image8 | None = None


def postprocessed(logits: Logits, size: tuple[int, int], request: Request = PLAIN) -> Answer:
    """Run the kernel on logits (C, h, w) float16 or float32 at stride 8, for a mask of `size` (height, width)."""
    logits = np.ascontiguousarray(logits)
    live = np.array((request.alpha, request.threshold, np.frombuffer(request.ids, np.uint8), PALETTE), LIVE)
    answer = Answer(
        np.full(size, 77, np.uint8),
        **{name: np.full(size if name == "confidence" else (*size, 3), 77, np.uint8) for name in request.pictures},
    )
    parameters = np.zeros((), POSTPROCESS)
    parameters["logits"], parameters["live"] = logits.ctypes.data, live.ctypes.data
    if request.frame is not None:
        parameters["image"] = image_parameters(request.frame)
    for name in ("mask", *request.pictures):
        parameters[name] = getattr(answer, name).ctypes.data
    parameters["height"], parameters["width"] = size
    parameters["classes"], parameters["logits_height"], parameters["logits_width"] = logits.shape
    parameters["half"] = logits.dtype == np.float16
    wanted = "confidence" in request.pictures or request.threshold > 0
    parameters["with_confidence"] = wanted if request.with_confidence is None else request.with_confidence
    placed = request.placed or Placement(0, 0, 8 * logits.shape[2], 8 * logits.shape[1])
    parameters["scale_x"], parameters["offset_x"] = placed.width / 8 / size[1], placed.left / 8
    parameters["scale_y"], parameters["offset_y"] = placed.height / 8 / size[0], placed.top / 8
    run_on_host("eseg_postprocess", parameters)
    return answer


def mask_of(logits: Logits, size: tuple[int, int]) -> Image8:
    return postprocessed(logits, size).mask


def bgr_frame(height: int, width: int, seed: int = 0) -> Frame:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Frame(memoryview(image).cast("B"), "bgr8", width, height, 3 * width, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("grid", "size"), GRIDS_AND_SIZES, ids=str)
def test_the_mask_is_pytorchs(grid: tuple[int, int], size: tuple[int, int], dtype: type) -> None:
    logits = blobs(11, *grid).astype(dtype)
    assert_same_but_for_ties(mask_of(logits, size), upsampled(logits, size))


@pytest.mark.parametrize("classes", [2, 3, 19, 150, 255])
def test_from_2_to_255_classes(classes: int) -> None:
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


def test_every_number_of_half_precision_is_read_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    shuffled = np.random.default_rng(0).permutation(bits)
    logits = np.stack([bits, shuffled]).view(np.float16).reshape(2, 256, 256)
    expected = mask_of(logits.astype(np.float32), (256, 256))
    np.testing.assert_array_equal(mask_of(logits, (256, 256)), expected)
    with np.errstate(invalid="ignore"):
        finite = np.nan_to_num(logits.astype(np.float32), nan=-1e30, posinf=1e30, neginf=-1e30)
    np.testing.assert_array_equal(expected, finite[1] > finite[0])


def test_ties_go_to_the_lowest_id() -> None:
    logits = blobs(5, 8, 8)
    assert mask_of(np.concatenate([logits, logits]), (64, 64)).max() < 5
    assert not mask_of(np.zeros((4, 8, 8), np.float32), (64, 64)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_nan_never_wins_and_does_not_spread(dtype: type) -> None:
    logits = blobs(6, 8, 8).astype(dtype)
    without = np.delete(logits, 2, axis=0)
    logits[2] = np.nan
    kept = np.array([0, 1, 3, 4, 5], np.uint8)
    np.testing.assert_array_equal(mask_of(logits, (64, 64)), kept[mask_of(without, (64, 64))])


def test_where_all_classes_are_nan_the_mask_is_0() -> None:
    assert not mask_of(np.full((6, 8, 8), np.nan, np.float32), (64, 64)).any()


def test_nan_and_infinity_at_some_places_are_taken_as_on_the_cpu() -> None:
    logits = blobs(6, 8, 8)
    where = np.random.default_rng(0).integers(0, 12, logits.shape)
    for place_id, value in enumerate((np.nan, np.inf, -np.inf)):
        logits[where == place_id] = value
    expected = Postprocessor(manifest_of(logits))(logits, np.zeros((64, 64, 3), np.uint8), Outputs())[0]
    np.testing.assert_array_equal(mask_of(logits, (64, 64)), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("spread", [0.05, 1.0, 10.0])
def test_the_confidence_is_the_winners_softmax_probability_within_a_level(spread: float, dtype: type) -> None:
    logits = (blobs(19, 8, 12) * spread).astype(dtype)
    confidence = postprocessed(logits, (67, 93), Request(("confidence",))).confidence
    expected = upsampled(logits, (67, 93)).softmax(0).amax(0).numpy() * 255
    assert confidence is not None
    assert np.abs(confidence - expected).max() <= 0.51  # rounded


@pytest.mark.parametrize("value", [0, 1e30, -1e30, np.inf, np.nan])
def test_classes_that_are_equal_share_the_confidence(value: float) -> None:
    confidence = postprocessed(np.full((5, 4, 4), value, np.float32), (9, 9), Request(("confidence",))).confidence
    np.testing.assert_array_equal(confidence, 51)


def test_asking_for_the_confidence_does_not_change_the_mask() -> None:
    logits = blobs(19, 8, 12)
    asked = postprocessed(logits, (64, 96), Request(("confidence",)))
    np.testing.assert_array_equal(asked.mask, mask_of(logits, (64, 96)))


@pytest.mark.parametrize("pictures", [("confidence",), ()], ids=["with the confidence", "threshold alone"])
def test_pixels_below_the_confidence_threshold_are_undecided(pictures: tuple[str, ...]) -> None:
    logits = blobs(19, 8, 12)
    confidence = postprocessed(logits, (64, 96), Request(("confidence",))).confidence
    assert confidence is not None
    decided = confidence >= 153  # 0.6 * 255; exactly that much is enough
    assert (confidence == 153).any()
    mask = postprocessed(logits, (64, 96), Request(pictures, threshold=0.6)).mask
    np.testing.assert_array_equal(mask, np.where(decided, mask_of(logits, (64, 96)), 255))


def test_without_the_confidence_there_is_no_threshold() -> None:
    logits = blobs(19, 8, 12)
    request = Request(threshold=1.0, with_confidence=False)
    np.testing.assert_array_equal(postprocessed(logits, (64, 96), request).mask, mask_of(logits, (64, 96)))


def test_classes_get_the_ids_of_the_relabeling_and_then_the_colors_of_the_ids() -> None:
    logits = blobs(19, 8, 12)
    ids = bytes((7 * index + 200) % 256 for index in range(256))
    answer = postprocessed(logits, (64, 96), Request(("color_mask",), ids=ids))
    np.testing.assert_array_equal(answer.mask, np.frombuffer(ids, np.uint8)[mask_of(logits, (64, 96))])
    np.testing.assert_array_equal(answer.color_mask, PALETTE[answer.mask])


def test_undecided_pixels_have_the_color_of_255_whatever_the_relabeling_says() -> None:
    answer = postprocessed(blobs(19, 8, 12), (64, 96), Request(("color_mask",), threshold=1.0, ids=bytes([3] * 256)))
    undecided = answer.mask == 255
    assert 0.1 < undecided.mean() < 1
    assert answer.color_mask is not None
    np.testing.assert_array_equal(answer.color_mask[undecided], np.broadcast_to(PALETTE[255], (undecided.sum(), 3)))
    np.testing.assert_array_equal(answer.mask[~undecided], 3)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_overlay_is_the_painters_within_a_level(alpha: float) -> None:
    frame = bgr_frame(64, 96)
    answer = postprocessed(blobs(19, 8, 12), (64, 96), Request(("overlay",), alpha=alpha, frame=frame))
    expected = Painter(CITYSCAPES).overlay(decode(frame), PALETTE[answer.mask], alpha)
    assert answer.overlay is not None
    assert np.abs(answer.overlay.astype(int) - expected).max() <= 1


def test_the_overlay_rounds_halves_to_the_even_level() -> None:
    frame = bgr_frame(64, 96)
    answer = postprocessed(blobs(19, 8, 12), (64, 96), Request(("overlay",), alpha=0.5, frame=frame))
    halves = (decode(frame).astype(int) + PALETTE[answer.mask]) / 2
    np.testing.assert_array_equal(answer.overlay, np.rint(halves))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_overlay_lies_over_an_image_of_any_encoding(encoding: str) -> None:
    data = np.random.default_rng(1).integers(0, 256, 64 * 96 * 4, np.uint8)
    frame = Frame(memoryview(data), encoding, 96, 64, 4 * 96, 0)
    if encoding == "nv12":
        frame = replace(frame, height=40)
    size = (frame.height, frame.width)
    answer = postprocessed(blobs(19, 8, 12), size, Request(("overlay",), alpha=0.0, frame=frame))
    np.testing.assert_array_equal(answer.overlay, decode(frame))


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (128, 192), (1, 1)], ids=str)
def test_a_mask_of_another_size_lies_over_the_resized_image(size: tuple[int, int]) -> None:
    frame = bgr_frame(64, 96)
    logits = blobs(19, 8, 12)
    answer = postprocessed(logits, size, Request(("color_mask", "overlay"), alpha=0.4, frame=frame))
    assert_same_but_for_ties(answer.mask, upsampled(logits, size))
    image = cv2.resize(decode(frame), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert answer.overlay is not None
    np.testing.assert_allclose(answer.overlay, 0.6 * image + 0.4 * PALETTE[answer.mask], atol=1.2)


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_the_same_whether_or_not_others_are_asked_for(picture: str) -> None:
    logits, frame = blobs(19, 8, 12), bgr_frame(64, 96)
    alone = postprocessed(logits, (64, 96), Request((picture,), frame=frame))
    together = postprocessed(logits, (64, 96), Request(PICTURES, frame=frame))
    np.testing.assert_array_equal(getattr(alone, picture), getattr(together, picture))


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(64, 96), (40, 160), (120, 60), (33, 97)], ids=str)
def test_all_pictures_are_those_of_the_cpu(size: tuple[int, int], resize: str) -> None:
    logits, frame = blobs(19, 8, 12), bgr_frame(*size)
    manifest = manifest_of(logits, resize)
    outputs = Outputs(color_mask=True, overlay=True, confidence=True, overlay_alpha=0.3)
    mask, _, overlay, confidence = Postprocessor(manifest)(logits, decode(frame), outputs)
    placed = place(size[::-1], manifest.input)
    answer = postprocessed(logits, size, Request(PICTURES, alpha=0.3, frame=frame, placed=placed))
    same = answer.mask == mask
    assert same.mean() > 0.999
    assert answer.color_mask is not None
    assert answer.overlay is not None
    assert answer.confidence is not None
    assert overlay is not None
    assert confidence is not None
    np.testing.assert_array_equal(answer.color_mask, PALETTE[answer.mask])
    assert np.abs(answer.overlay.astype(int) - overlay)[same].max() <= 1
    assert np.abs(answer.confidence.astype(int) - confidence).max() <= 1
