"""Kinds of frames: what the kernels are told about one, where its pictures lie, and the graph that was captured for it.

What may change with every frame (transparency, threshold, class ids, palette) is in no kind: it travels in LIVE.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from eseg_ros.engine.manifest import EngineManifest
from eseg_ros.runtime.cuda.driver import Driver
from eseg_ros.runtime.cuda.parameters import ENCODINGS, IMAGE, LIVE, POSTPROCESS, PREPROCESS
from eseg_ros.runtime.geometry import Placement, place, scaled_size
from eseg_ros.runtime.image import ImageLayout
from eseg_ros.runtime.types import Image8, Outputs

ALIGNMENT = 256
"""Bytes; where a picture, a header or an image may begin in a buffer, as device memory does."""

KEPT_VARIANTS = 16
"""Variants that a slot keeps: more kinds of frames than a vehicle's cameras and listeners make in turn."""


def aligned(size: int) -> int:
    """`size` rounded up to ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


HEADER = aligned(LIVE.itemsize)
"""Bytes in front of the image's, with LIVE at their beginning, so that one copy brings both."""


@dataclass(frozen=True, slots=True)
class FrameKind:
    """All that a captured frame was captured with and that another frame may have otherwise.

    Attributes:
        image: the camera image's encoding, sizes and step.
        width, height: of the mask and all pictures.
        color_mask, overlay, confidence: whether each is wanted.
        with_confidence: whether the confidence is computed, be it for the threshold alone.
    """

    image: ImageLayout
    width: int
    height: int
    color_mask: bool
    overlay: bool
    confidence: bool
    with_confidence: bool

    @staticmethod
    def of(image: ImageLayout, outputs: Outputs) -> FrameKind:
        """The kind of a frame with these outputs."""
        width, height = scaled_size((image.width, image.height), outputs.scale)
        return FrameKind(
            image=image,
            width=width,
            height=height,
            color_mask=outputs.color_mask,
            overlay=outputs.overlay,
            confidence=outputs.confidence,
            with_confidence=outputs.confidence or outputs.confidence_threshold > 0,
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """Where one output lies in a buffer of outputs: from byte `offset` on, contiguous."""

    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape))

    def of(self, buffer: Image8) -> Image8:
        """The picture as a view of (N,) uint8 bytes."""
        return buffer[self.offset : self.offset + self.size].reshape(self.shape)


def lay_out(kind: FrameKind) -> dict[str, Picture]:
    """The wanted outputs by name, one behind the other, so that one copy brings them all."""
    plane = (kind.height, kind.width)
    shapes: dict[str, tuple[int, ...]] = {"mask": plane}
    if kind.confidence:
        shapes["confidence"] = plane
    shapes |= {name: (*plane, 3) for name in ("color_mask", "overlay") if getattr(kind, name)}
    pictures = {}
    offset = 0
    for name, shape in shapes.items():
        pictures[name] = Picture(offset, shape)
        offset += aligned(pictures[name].size)
    return pictures


def buffer_sizes(kind: FrameKind) -> tuple[int, int]:
    """Bytes of a frame's input, from LIVE to the image's last, and of its outputs."""
    return HEADER + kind.image.size, max(picture.offset + picture.size for picture in lay_out(kind).values())


@dataclass(frozen=True, slots=True)
class Tensors:
    """The engine's two tensors on the device."""

    input_address: int
    input_dtype: np.dtype[np.floating]
    output_address: int
    output_dtype: np.dtype[np.floating]


@dataclass(slots=True)
class Variant:
    """A slot's work on one kind of frame.

    Attributes:
        preprocess: PREPROCESS, the argument of the kernel.
        postprocess: POSTPROCESS, the argument of the kernel.
        pictures: where the outputs lie in the slot's output buffer, by name.
        input_size: bytes to copy in, from LIVE to the image's last.
        output_size: bytes to copy out.
        runs: frames so far.
        graph: what was captured of it; 0 = nothing yet.
        trusted: the graph has given once what the plain way gives.
    """

    preprocess: np.void
    postprocess: np.void
    pictures: dict[str, Picture]
    input_size: int
    output_size: int
    runs: int = 0
    graph: int = 0
    trusted: bool = False


class Variants:
    """A slot's variants by their kind; the least recently used one makes room for a new one.

    A graph is destroyed only while its slot is free, so never under way. A kind that comes once, or so rarely that it
    has left again before it comes back, is never captured.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._variants: OrderedDict[FrameKind, Variant] = OrderedDict()

    def find(self, kind: FrameKind) -> Variant | None:
        """The kind's variant, the most recently used one from now on."""
        if kind in self._variants:
            self._variants.move_to_end(kind)
        return self._variants.get(kind)

    def add(self, kind: FrameKind, variant: Variant) -> None:
        """Keep a variant."""
        while len(self._variants) >= KEPT_VARIANTS:
            self._destroy(self._variants.popitem(last=False)[1])
        self._variants[kind] = variant

    def clear(self) -> None:
        """Forget them all: their addresses are no longer the slot's."""
        while self._variants:
            self._destroy(self._variants.popitem()[1])

    def _destroy(self, variant: Variant) -> None:
        if variant.graph:
            self._driver.destroy_graph(variant.graph)


def make_variant(
    kind: FrameKind, manifest: EngineManifest, tensors: Tensors, input_address: int, output_address: int
) -> Variant:
    """A variant for buffers at these device addresses, of at least `buffer_sizes(kind)` bytes."""
    pictures = lay_out(kind)
    input_size, output_size = buffer_sizes(kind)
    image = _image_argument(kind.image, input_address + HEADER)
    placed = place((kind.image.width, kind.image.height), manifest.input)
    postprocess = _postprocess_argument(kind, placed, manifest, tensors)
    postprocess["live"] = input_address
    postprocess["image"] = image
    for name, picture in pictures.items():
        postprocess[name] = output_address + picture.offset
    return Variant(
        preprocess=_preprocess_argument(image, placed, manifest, tensors),
        postprocess=postprocess,
        pictures=pictures,
        input_size=input_size,
        output_size=output_size,
    )


def _image_argument(layout: ImageLayout, address: int) -> np.void:
    image: np.void = np.zeros(1, IMAGE)[0]
    image["data"] = address
    image["encoding"] = ENCODINGS.index(layout.encoding)
    image["width"], image["height"] = layout.width, layout.height
    image["step"] = min(layout.step, layout.size)  # where there is only one row, a message's step may be anything
    return image


def _preprocess_argument(image: np.void, placed: Placement, manifest: EngineManifest, tensors: Tensors) -> np.void:
    """Each channel becomes `value * scale + offset`, which is `(value / 255 - mean) / std`."""
    spec = manifest.input
    argument: np.void = np.zeros(1, PREPROCESS)[0]
    argument["image"] = image
    argument["tensor"] = tensors.input_address
    argument["tensor_width"], argument["tensor_height"] = spec.width, spec.height
    argument["left"], argument["top"] = placed.left, placed.top
    argument["placed_width"], argument["placed_height"] = placed.width, placed.height
    argument["half"] = tensors.input_dtype == np.float16
    argument["rgb"] = spec.color_order == "rgb"
    argument["scale"] = [1 / (255 * std) for std in spec.std]
    argument["offset"] = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    return argument


def _postprocess_argument(kind: FrameKind, placed: Placement, manifest: EngineManifest, tensors: Tensors) -> np.void:
    """The places of pixels on the logits are computed as in `eseg_ros.runtime.postprocess.cells_along`."""
    spec, logits = manifest.input, manifest.output
    argument: np.void = np.zeros(1, POSTPROCESS)[0]
    argument["logits"] = tensors.output_address
    argument["width"], argument["height"] = kind.width, kind.height
    argument["classes"] = len(manifest.classes)
    argument["logits_width"], argument["logits_height"] = logits.width, logits.height
    argument["half"] = tensors.output_dtype == np.float16
    argument["with_confidence"] = kind.with_confidence
    argument["scale_x"] = placed.width * logits.width / (spec.width * kind.width)
    argument["offset_x"] = placed.left * logits.width / spec.width
    argument["scale_y"] = placed.height * logits.height / (spec.height * kind.height)
    argument["offset_y"] = placed.top * logits.height / spec.height
    return argument
