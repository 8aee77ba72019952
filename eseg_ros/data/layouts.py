"""Where the known data sets keep their frames and labels.

A layout is found by what lies in the data set's root, or named in the recipe. Adding one takes a function that lists a
split's samples, one that says how its labels are stored, and a row in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

from eseg_ros.data.reading import DataError, LabelCoding, identity_coding
from eseg_ros.labels import CAMVID, CITYSCAPES, ClassSet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

Labels = Literal["needed", "optional", "unused"]

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "testing"}
"""Usual names of splits -> what ADE20K and Mapillary Vistas call them."""

CAMVID_ORIGINAL: dict[str, tuple[int, int, int]] = {
    "Animal": (64, 128, 64), "Archway": (192, 0, 128), "Bicyclist": (0, 128, 192), "Bridge": (0, 128, 64),
    "Building": (128, 0, 0), "Car": (64, 0, 128), "CartLuggagePram": (64, 0, 192), "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128), "Fence": (64, 64, 128), "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64), "Misc_Text": (128, 128, 64), "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64), "ParkingBlock": (64, 192, 128), "Pedestrian": (64, 64, 0), "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192), "Sidewalk": (0, 0, 192), "SignSymbol": (192, 128, 128), "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192), "TrafficCone": (0, 0, 64), "TrafficLight": (0, 64, 64), "Train": (192, 64, 128),
    "Tree": (128, 128, 0), "Truck_Bus": (192, 128, 192), "Tunnel": (64, 0, 64), "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0), "Wall": (64, 192, 0),
}  # fmt: skip
"""Label colors of CamVid's 32 original classes (Brostow et al. 2008, label_colors.txt), RGB."""

CAMVID_GROUPS: dict[str, tuple[str, ...]] = {
    "sky": ("Sky",),
    "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("LaneMkgsDriv", "LaneMkgsNonDriv", "Road"),
    "pavement": ("ParkingBlock", "RoadShoulder", "Sidewalk"),
    "tree": ("Tree", "VegetationMisc"),
    "sign_symbol": ("Misc_Text", "SignSymbol", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"),
    "pedestrian": ("Animal", "CartLuggagePram", "Child", "Pedestrian"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
"""The 11 classes of the literature (Badrinarayanan et al. 2017) -> the original classes in them; others are ignored."""

CITYSCAPES_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
    28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""labelIds -> trainIds of Cityscapes (cityscapesScripts, helpers/labels.py); the other ids up to 33 are ignored."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame of a split, still on disk.

    Attributes:
        name: unique in its split.
        image: the frame.
        label: its label; None where the split has none, or nobody needs it.
        sequence: the drive it was taken on, "" where the data set does not say.
    """

    name: str
    image: Path
    label: Path | None
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one data set is kept.

    Attributes:
        name: as recipes and commands name it.
        expected: what lies in its root, in words.
        fits: whether a root looks like this data set's.
        samples: the samples of (root, split), sorted by name.
        coding: how labels are stored, for the wanted classes; DataError where they cannot be had from them.
        splits: names of the splits in a root.
    """

    name: str
    expected: str
    fits: Callable[[Path], bool]
    samples: Callable[[Path, str], list[Sample]]
    coding: Callable[[ClassSet], LabelCoding]
    splits: Callable[[Path], list[str]]


def find_layout(root: Path, name: str = "auto") -> Layout:
    """The layout called `name`, or the first that fits the root.

    Raises:
        DataError: no such layout, or no folder.
    """
    if name != "auto":
        if name not in LAYOUTS:
            raise DataError(f"unknown layout {name!r}; expected auto or one of {', '.join(LAYOUTS)}")
        return LAYOUTS[name]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root (or --data) to the root of a data set")
    return next(layout for layout in LAYOUTS.values() if layout.fits(root))


def list_samples(
    root: Path,
    split: str,
    layout: Layout,
    *,
    labels: Labels = "optional",
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> list[Sample]:
    """Samples of a split, sorted by name: the order in which they were driven.

    Args:
        root: root of the data set.
        split: name of the split.
        layout: how the data set is kept.
        labels: "needed": every frame must have one; "optional": the split may be without, but not some of its frames;
            "unused": whether there are any does not matter, and the samples have none.
        include: only frames whose names begin with one of these, such as "0016E5" for a drive of CamVid; () for all.
        exclude: no frames whose names begin with one of these, such as a drive that is held out.

    Raises:
        DataError: no frames, doubled names, missing labels, or a beginning that fits no frame.
    """
    samples = sorted(layout.samples(root, split), key=lambda sample: sample.name)
    if not samples:
        there = ", ".join(layout.splits(root)) or "none"
        raise DataError(
            f"{root}: split {split!r} holds no frames (.jpg or .png) for layout {layout.name}; expected "
            f"{layout.expected}. Splits here: {there}"
        )
    doubled = [one.name for one, other in pairwise(samples) if one.name == other.name]
    if doubled:
        raise DataError(f"{root}: two frames of split {split!r} are called {doubled[0]!r}; names must differ")
    samples = _select(samples, include, exclude, f"{root}: split {split!r}")
    if labels == "unused":
        return [replace(sample, label=None) for sample in samples]
    if labels == "needed" and any(sample.label is None for sample in samples):
        raise DataError(
            f"{root}: split {split!r} has no labels; expected {layout.expected}. Choose another split; here are "
            f"{', '.join(layout.splits(root))}"
        )
    missing = [sample for sample in samples if sample.label is not None and not sample.label.is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(samples)} frames of split {split!r} have no label, the first is "
            f"{missing[0].image.name} (expected {missing[0].label}); list all: eseg data check {root}"
        )
    return samples


def _select(samples: list[Sample], include: tuple[str, ...], exclude: tuple[str, ...], where: str) -> list[Sample]:
    """The samples whose names begin as asked for; `where` they are, for errors."""
    for prefix in (*include, *exclude):
        if not any(sample.name.startswith(prefix) for sample in samples):
            # A mistyped drive would be trained on and judged by at once.
            raise DataError(
                f"{where} has no frame whose name begins with {prefix!r}; its frames are {samples[0].name} to "
                f"{samples[-1].name}. Correct include or exclude"
            )
    kept = [sample for sample in samples if sample.name.startswith(include or "")]
    kept = [sample for sample in kept if not sample.name.startswith(exclude)]
    if not kept:
        raise DataError(f"{where}: include {include} and exclude {exclude} leave none of {len(samples)} frames")
    return kept


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]


def _split_folder(root: Path, split: str) -> Path:
    """root/split by its usual or its official name."""
    official = root / SPLIT_NAMES.get(split, split)
    return official if official.is_dir() else root / split


def _folder_samples(root: Path, split: str) -> list[Sample]:
    labels = root / split / "labels"
    return [
        Sample(path.stem, path, labels / f"{path.stem}.png" if labels.is_dir() else None, _drive_of(path.stem))
        for path in _images(root / split / "images")
    ]


def _drive_of(name: str) -> str:
    """What stands before the last underscore, as in CamVid's 0001TP_006690; "" without one."""
    return name.rpartition("_")[0]


def _folder_splits(root: Path) -> list[str]:
    return [path.name for path in sorted(root.glob("*/")) if (path / "images").is_dir() or (path / "labels").is_dir()]


def _cityscapes_samples(root: Path, split: str) -> list[Sample]:
    samples = []
    for image in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        label = root / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png"
        # The test split's labels are held back: its files say "ignored" everywhere.
        samples.append(Sample(name, image, None if split == "test" else label, _drive_of(name)))
    return samples


def _cityscapes_splits(root: Path) -> list[str]:
    return [path.name for path in sorted((root / "leftImg8bit").glob("*/"))]


def _cityscapes_coding(classes: ClassSet) -> LabelCoding:
    _require("Cityscapes", classes, CITYSCAPES)
    # -1, the license plate, is stored as 255.
    ids = {i: CITYSCAPES_IDS.get(i, classes.ignore_id) for i in (*range(34), 255)}
    return LabelCoding("cityscapes (labelIds)", ids, {})


_CAMVID_FRAMES, _CAMVID_LABELS = "701_StillsRaw_full", "LabeledApproved_full"


def _camvid_samples(root: Path, split: str) -> list[Sample]:
    """Frames named in SPLIT.txt in the original folders, or the folders SPLIT and SPLIT_labels."""
    if not (root / _CAMVID_FRAMES).is_dir():
        return [
            Sample(path.stem, path, root / f"{split}_labels" / f"{path.stem}_L.png", _drive_of(path.stem))
            for path in _images(root / split)
        ]
    listed = root / f"{split}.txt"
    if not listed.is_file():
        raise DataError(
            f"{listed}: missing; CamVid's original folders hold all 701 frames, so a split is a text file with one "
            "frame's name a line, such as 0001TP_006690"
        )
    names = [Path(line.split()[0]).stem for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Sample(name, root / _CAMVID_FRAMES / f"{name}.png", root / _CAMVID_LABELS / f"{name}_L.png", _drive_of(name))
        for name in names
    ]


def _camvid_splits(root: Path) -> list[str]:
    lists = [path.stem for path in sorted(root.glob("*.txt")) if path.stem in SPLIT_NAMES]
    return lists or [path.name.removesuffix("_labels") for path in sorted(root.glob("*_labels/"))]


def _camvid_coding(classes: ClassSet) -> LabelCoding:
    _require("CamVid's originals", classes, CAMVID)
    colors = dict.fromkeys(CAMVID_ORIGINAL.values(), classes.ignore_id)
    for class_id, name in enumerate(classes.names):
        colors.update(dict.fromkeys((CAMVID_ORIGINAL[original] for original in CAMVID_GROUPS[name]), class_id))
    return LabelCoding("camvid (32 original colors)", {}, colors)


def _ade20k_samples(root: Path, split: str) -> list[Sample]:
    frames = _split_folder(root / "images", split)
    labels = root / "annotations" / frames.name
    return [
        Sample(path.stem, path, labels / f"{path.stem}.png" if labels.is_dir() else None) for path in _images(frames)
    ]


def _ade20k_splits(root: Path) -> list[str]:
    return [path.name for path in sorted((root / "images").glob("*/"))]


def _ade20k_coding(classes: ClassSet) -> LabelCoding:
    if len(classes) != 150:
        raise DataError(
            f"ADE20K's scene parsing labels have 150 classes, class set {classes.name!r} has {len(classes)}; expected "
            "the classes of the data set's own objectInfo150.txt"
        )
    ids = {0: classes.ignore_id, **{i + 1: i for i in range(150)}}
    return LabelCoding("ade20k (0 = none, 1 to 150)", ids, {})


def _mapillary_samples(version: str, root: Path, split: str) -> list[Sample]:
    folder = _split_folder(root, split)
    labels = folder / version / "labels"
    if not labels.is_dir() and version == "v1.2":
        labels = folder / "labels"  # as version 1.2 was packed
    return [
        Sample(path.stem, path, labels / f"{path.stem}.png" if labels.is_dir() else None)
        for path in _images(folder / "images")
    ]


def _mapillary_coding(classes: ClassSet) -> LabelCoding:
    """The ids are places in config_v*.json, which is the class file; what lies behind its classes is ignored."""
    ids = {i: i if i < len(classes) else classes.ignore_id for i in range(256)}
    return LabelCoding(classes.name, ids, {})


def _require(data: str, classes: ClassSet, expected: ClassSet) -> None:
    if classes.names != expected.names:
        raise DataError(f"{data} gives the classes of {expected.name!r}; those of {classes.name!r} were asked for")


def _all(*checks: Callable[[Path], bool]) -> Callable[[Path], bool]:
    return lambda root: all(check(root) for check in checks)


def _has(*parts: str) -> Callable[[Path], bool]:
    return lambda root: any((root / part).exists() for part in parts)


def _mapillary(version: str) -> Layout:
    return Layout(
        f"mapillary_{version}",
        f"training/images, training/{version}/labels and config_{version}.json",
        _all(_has("training/images", "validation/images"), _has(f"config_{version}.json")),
        partial(_mapillary_samples, version),
        _mapillary_coding,
        _folder_splits,
    )


def _by_name(layouts: Iterable[Layout]) -> dict[str, Layout]:
    return {layout.name: layout for layout in layouts}


LAYOUTS = _by_name(
    (
        Layout(
            "cityscapes",
            "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png",
            _has("leftImg8bit"),
            _cityscapes_samples,
            _cityscapes_coding,
            _cityscapes_splits,
        ),
        Layout(
            "camvid_original",
            f"{_CAMVID_FRAMES}, {_CAMVID_LABELS} and SPLIT.txt, or the folders SPLIT and SPLIT_labels",
            _has(_CAMVID_FRAMES, "train_labels", "val_labels"),
            _camvid_samples,
            _camvid_coding,
            _camvid_splits,
        ),
        Layout(
            "ade20k",
            "images/training and annotations/training",
            _all(_has("images/training", "images/validation"), _has("annotations")),
            _ade20k_samples,
            _ade20k_coding,
            _ade20k_splits,
        ),
        _mapillary("v2.0"),
        _mapillary("v1.2"),
        Layout(
            "folder",
            "SPLIT/images/NAME.jpg and SPLIT/labels/NAME.png",
            lambda root: True,
            _folder_samples,
            identity_coding,
            _folder_splits,
        ),
    )
)
"""By name; the first that fits a root is its own, so the special ones come first."""
