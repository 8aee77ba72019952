"""What the kernels are told: the structs of kernels/parameters.h as NumPy dtypes, field by field.

Sizes are pixels, addresses are device addresses (0 where a pointer is not wanted), booleans are 0 or 1.
"""

from __future__ import annotations

import numpy as np

ENCODINGS = (
    "bgr8",
    "rgb8",
    "bgra8",
    "rgba8",
    "mono8",
    "yuyv",
    "uyvy",
    "nv12",
    "bayer_rggb8",
    "bayer_bggr8",
    "bayer_gbrg8",
    "bayer_grbg8",
)
"""Camera encodings by the number that the kernels know them by: their place here."""

IMAGE = np.dtype(
    [
        ("data", np.uint64),  # first byte of the first row
        ("encoding", np.int32),  # place in ENCODINGS
        ("width", np.int32),
        ("height", np.int32),  # of the picture; the UV rows of nv12 are not counted
        ("step", np.int32),  # bytes from row to row
    ],
    align=True,
)
"""A camera image on the device."""

PREPROCESS = np.dtype(
    [
        ("image", IMAGE),
        ("tensor", np.uint64),  # (3, tensor_height, tensor_width), float or half
        ("tensor_width", np.int32),
        ("tensor_height", np.int32),
        ("left", np.int32),  # the rectangle that the image fills; the rest becomes 0, the mean color
        ("top", np.int32),
        ("placed_width", np.int32),
        ("placed_height", np.int32),
        ("half", np.int32),  # the tensor is float16
        ("rgb", np.int32),  # channel order of the tensor: 1 RGB, 0 BGR
        ("scale", np.float32, (3,)),  # tensor = value * scale + offset, in the tensor's channel order
        ("offset", np.float32, (3,)),
    ],
    align=True,
)
"""The one argument of `eseg_preprocess`."""

LIVE = np.dtype(
    [
        ("alpha", np.float32),  # weight of the color mask in the overlay
        ("threshold", np.float32),  # 0 to 1; a pixel whose 8-bit confidence < 255 * threshold becomes 255; 0 = off
        ("ids", np.uint8, (256,)),  # class of the engine -> id in the mask
        ("palette", np.uint8, (256, 3)),  # id in the mask -> blue, green, red
    ],
    align=True,
)
"""What may change with every frame; travels in front of the image, so that graphs need not be captured again."""

POSTPROCESS = np.dtype(
    [
        ("logits", np.uint64),  # (classes, logits_height, logits_width), float or half
        ("live", np.uint64),  # LIVE
        ("image", IMAGE),  # the camera image, for the overlay
        ("mask", np.uint64),  # (height, width) uint8
        ("color_mask", np.uint64),  # (height, width, 3) uint8 BGR, or 0
        ("overlay", np.uint64),  # (height, width, 3) uint8 BGR, or 0
        ("confidence", np.uint64),  # (height, width) uint8, or 0
        ("width", np.int32),  # of the mask
        ("height", np.int32),
        ("classes", np.int32),
        ("logits_width", np.int32),
        ("logits_height", np.int32),
        ("half", np.int32),  # the logits are float16
        ("with_confidence", np.int32),  # 1 where confidence or a threshold is wanted
        ("scale_x", np.float32),  # place of a mask pixel on the logits: scale * (x + 0.5) + (offset - 0.5), float32
        ("offset_x", np.float32),
        ("scale_y", np.float32),
        ("offset_y", np.float32),
    ],
    align=True,
)
"""The one argument of `eseg_postprocess`."""

BLOCK = (32, 8, 1)
"""Threads of a block of both kernels, (x, y, z); the grid covers the tensor's or the mask's pixels, one a thread."""
