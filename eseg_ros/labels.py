"""Class sets: names, colours and the ignored id. The one place where a colour table stands.

An engine's manifest carries a copy of its class set, so that whoever runs an engine needs only the
manifest; this module is where training and rendering take it from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORE_ID = 255
"""Label value of pixels that count neither in training nor in a score."""


@dataclass(frozen=True, slots=True)
class ClassSet:
    """Names and colours of the classes of a data set; a class id is the index into both.

    Attributes:
        name: short lower-case name, e.g. "camvid".
        names: class names, id order.
        palette: RGB colours, id order, each channel 0-255.
        ignore_id: label value of pixels without a class, never a class id.

    Raises:
        ValueError: names and palette differ in length, a name is empty or doubled, or a colour is
            out of range.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_id: int = IGNORE_ID

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= 255:
            raise ValueError(f"class set {self.name!r} has {len(self.names)} classes; expected 2 to 255")
        if len(self.names) != len(self.palette):
            raise ValueError(
                f"class set {self.name!r} has {len(self.names)} names but {len(self.palette)} colours; "
                "give one RGB colour a class"
            )
        if len(set(self.names)) != len(self.names) or "" in self.names:
            raise ValueError(f"class set {self.name!r} has empty or doubled names: {self.names}")
        if any(len(colour) != 3 or not all(0 <= c <= 255 for c in colour) for colour in self.palette):
            raise ValueError(f"class set {self.name!r}: every colour must be three numbers from 0 to 255")
        if not len(self.names) <= self.ignore_id <= 255:
            raise ValueError(
                f"class set {self.name!r}: ignore_id {self.ignore_id} must lie behind the last class and fit in 8 bits"
            )

    def __len__(self) -> int:
        return len(self.names)

    def color_table(self) -> npt.NDArray[np.uint8]:
        """Colours by id for a table look-up. (256, 3) uint8 RGB; ids without a class are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.palette)] = self.palette
        return table


@dataclass(frozen=True, slots=True)
class Relabeling:
    """Classes merged or dropped after the argmax.

    Attributes:
        ids: the new id of each of the engine's ids, 256 bytes; a dropped class becomes the ignored id.
        classes: what the new ids mean.
    """

    ids: bytes
    classes: ClassSet


CAMVID = ClassSet(
    name="camvid",
    names=(
        "sky", "building", "pole", "road", "pavement", "tree",
        "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip
"""The 11 classes of CamVid in the SegNet tutorial's order and colours (Brostow et al. 2008)."""

CITYSCAPES = ClassSet(
    name="cityscapes",
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic_light", "traffic_sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
"""The 19 training classes of Cityscapes (Cordts et al. 2016), train-id order."""

CLASS_SETS: dict[str, ClassSet] = {classes.name: classes for classes in (CAMVID, CITYSCAPES)}


def class_set(name: str) -> ClassSet:
    """The class set called `name`.

    Raises:
        ValueError: no such set; the message lists those there are.
    """
    try:
        return CLASS_SETS[name]
    except KeyError:
        raise ValueError(f"unknown class set {name!r}; expected one of {', '.join(CLASS_SETS)}") from None
