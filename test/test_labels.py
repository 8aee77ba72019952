from __future__ import annotations

import re

import numpy as np
import pytest

from eseg_ros.labels import CAMVID, CITYSCAPES, ClassSet, relabeling

DRIVABLE = [
    "road:drivable", "pavement:", "sky:sky", "tree:obstacle", "building:obstacle", "pole:obstacle",
    "sign_symbol:obstacle", "fence:obstacle", "car:obstacle", "pedestrian:obstacle", "bicyclist:ignore",
]  # fmt: skip


def new_name(mapping: list[str], old: str, classes: ClassSet = CAMVID) -> str | None:
    """What a class is called afterwards; None if it is dropped."""
    made = relabeling(classes, mapping)
    new_id = made.ids[classes.names.index(old)]
    return None if new_id == classes.ignore_id else made.classes.names[new_id]


def test_no_mapping_changes_nothing() -> None:
    made = relabeling(CAMVID, [])

    assert made.classes == CAMVID
    assert made.ids[: len(CAMVID)] == bytes(range(len(CAMVID)))


@pytest.mark.parametrize(
    ("old", "new"), [("road", "drivable"), ("sky", "sky"), ("car", "obstacle"), ("pavement", None), ("bicyclist", None)]
)
def test_classes_are_merged_renamed_kept_and_dropped(old: str, new: str | None) -> None:
    assert new_name(DRIVABLE, old) == new


def test_new_ids_follow_the_order_of_the_old_ones_without_gaps() -> None:
    assert relabeling(CAMVID, DRIVABLE).classes.names == ("sky", "obstacle", "drivable")


def test_a_class_that_is_not_mentioned_stays() -> None:
    assert new_name(["car:vehicle"], "tree") == "tree"


def test_a_merged_class_has_the_color_of_its_first_member() -> None:
    made = relabeling(CAMVID, DRIVABLE)

    assert made.classes.palette[1] == CAMVID.palette[CAMVID.names.index("building")]


def test_a_class_merged_into_another_takes_that_ones_color() -> None:
    made = relabeling(CITYSCAPES, ["rider:bicycle"])

    color = made.classes.palette[made.classes.names.index("bicycle")]
    assert color == CITYSCAPES.palette[CITYSCAPES.names.index("bicycle")]
    assert new_name(["rider:bicycle"], "rider", CITYSCAPES) == "bicycle"


def test_ids_without_a_class_are_ignored_ids_afterwards() -> None:
    assert np.all(np.frombuffer(relabeling(CAMVID, DRIVABLE).ids[len(CAMVID) :], np.uint8) == CAMVID.ignore_id)


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        (["raod:drivable"], "'raod', which camvid does not have; did you mean 'road'?"),
        (["road"], "'road' maps nothing; expected old:new"),
        (["road:drivable", "road:path"], "'road' is mapped twice, to 'drivable' and to 'path'"),
        ([f"{name}:one" for name in CAMVID.names], "leaves 1 of 11 classes; expected at least two"),
        ([f"{name}:" for name in CAMVID.names], "leaves 0 of 11 classes"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused_with_what_could(mapping: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        relabeling(CAMVID, mapping)
