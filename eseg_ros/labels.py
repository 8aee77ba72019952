"""Class sets: names, colours and the ignored id. The one place where a colour table stands.

An engine's manifest carries a copy of its class set, so that whoever runs an engine needs only the
manifest; this module is where training and rendering take it from.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ClassSet:
        """The class set whose `dataclasses.asdict` this is, lists in place of tuples allowed.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return ClassSet(
            name=values["name"],
            names=tuple(values["names"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
            ignore_id=values["ignore_id"],
        )

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


def relabeling(classes: ClassSet, mapping: Sequence[str]) -> Relabeling:
    """Merge and drop classes.

    The new ids follow the order of the classes that stay; a class that is not mentioned stays as it is. A merged class
    has the place of its first member, and that one's color unless it bears the name of another member.

    Args:
        classes: the engine's.
        mapping: "old:new" each; "old:" and "old:ignore" drop `old`, which becomes the ignored id.

    Raises:
        ValueError: an entry without a colon, an unknown or doubled old name, or fewer than two classes left.
    """
    new_names = dict(zip(classes.names, classes.names, strict=True))
    for old, new in _parse_mapping(classes, mapping).items():
        new_names[old] = "" if new == "ignore" else new
    merged = list(dict.fromkeys(filter(None, new_names.values())))
    if len(merged) < 2:
        raise ValueError(
            f"the map {list(mapping)} leaves {len(merged)} of {len(classes)} classes; expected at least two: "
            "give what is left over a name of its own, e.g. road:drivable with all others as NAME:other"
        )
    table = np.full(256, classes.ignore_id, np.uint8)
    palette: dict[str, tuple[int, int, int]] = {}
    for index, (old, color) in enumerate(zip(classes.names, classes.palette, strict=True)):
        if new := new_names[old]:
            table[index] = merged.index(new)
            if new not in palette or old == new:
                palette[new] = color
    relabeled = ClassSet(classes.name, tuple(merged), tuple(palette[name] for name in merged), classes.ignore_id)
    return Relabeling(table.tobytes(), relabeled)


def _parse_mapping(classes: ClassSet, mapping: Sequence[str]) -> dict[str, str]:
    """Old name -> new name."""
    parsed: dict[str, str] = {}
    for entry in mapping:
        old, colon, new = (part.strip() for part in entry.partition(":"))
        if not colon:
            raise ValueError(f"{entry!r} maps nothing; expected old:new, or old: to drop the class")
        if old not in classes.names:
            nearest = difflib.get_close_matches(old, classes.names, 1, 0)
            raise ValueError(
                f"{entry!r} names the class {old!r}, which {classes.name} does not have; did you mean {nearest[0]!r}? "
                f"It has {', '.join(classes.names)}"
            )
        if old in parsed:
            raise ValueError(f"{old!r} is mapped twice, to {parsed[old]!r} and to {new!r}")
        parsed[old] = new
    return parsed


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
