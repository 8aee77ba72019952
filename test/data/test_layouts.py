"""Each data set's layout, on small trees of the same form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from eseg_ros.data.check import check_dataset
from eseg_ros.data.class_file import find_class_set
from eseg_ros.data.layouts import CAMVID_GROUPS, CAMVID_ORIGINAL, CITYSCAPES_IDS, find_layout, list_samples
from eseg_ros.data.reading import DataError, read_label
from eseg_ros.labels import CAMVID, CITYSCAPES, ClassSet
from eseg_ros.training.data import SegmentationFolder

IGNORE = 255


def write(path: Path, pixels: Sequence[Sequence[object]] | np.ndarray) -> None:
    """Writes ids (H, W) or RGB (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(pixels, np.uint8)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


@dataclass(frozen=True)
class Tree:
    """A data set on disk and what must come out of it: the names of its train split and the ids of its first label."""

    root: Path
    layout: str
    classes: str
    names: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    sequences: tuple[str, ...]


FRAME = np.zeros((1, 3, 3), np.uint8)


def cityscapes(root: Path) -> Tree:
    for split, city, name in (
        ("train", "ulm", "ulm_000001_000019"),
        ("train", "aachen", "aachen_000000_000019"),
        ("val", "bonn", "bonn_000003_000019"),
    ):
        write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", FRAME)
        write(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", [[7, 33, 0]])
        write(root / "gtFine" / split / city / f"{name}_gtFine_color.png", FRAME)
    names = ("aachen_000000_000019", "ulm_000001_000019")
    return Tree(root, "cityscapes", "cityscapes", names, ((0, 18, IGNORE),), ("aachen_000000", "ulm_000001"))


def camvid_folders(root: Path) -> Tree:
    colors = [[CAMVID_ORIGINAL["Sky"], CAMVID_ORIGINAL["LaneMkgsDriv"], CAMVID_ORIGINAL["Void"]]]
    for name in ("0016E5_00001", "0006R0_f00930", "Seq05VD_f00000"):
        write(root / "701_StillsRaw_full" / f"{name}.png", FRAME)
        write(root / "LabeledApproved_full" / f"{name}_L.png", colors)
    (root / "train.txt").write_text("0016E5_00001.png\n0006R0_f00930\n\n")
    (root / "test.txt").write_text("Seq05VD_f00000\n")
    return Tree(
        root, "camvid_original", "camvid", ("0006R0_f00930", "0016E5_00001"), ((0, 3, IGNORE),), ("0006R0", "0016E5")
    )


def camvid_splits(root: Path) -> Tree:
    write(root / "train" / "0016E5_00001.png", FRAME)
    write(root / "train_labels" / "0016E5_00001_L.png", [[CAMVID_ORIGINAL["Child"], (64, 0, 64), (0, 0, 0)]])
    return Tree(root, "camvid_original", "camvid", ("0016E5_00001",), ((9, 1, IGNORE),), ("0016E5",))


def ade20k(root: Path) -> Tree:
    for split, name in (("training", "ADE_train_00000002"), ("training", "ADE_train_00000001"), ("validation", "v")):
        write(root / "images" / split / f"{name}.jpg", FRAME)
        write(root / "annotations" / split / f"{name}.png", [[0, 1, 150]])
    rows = ["Idx\tRatio\tTrain\tVal\tName", *(f"{i}\t0.1\t1\t1\tthing {i}, object" for i in range(1, 151))]
    (root / "objectInfo150.txt").write_text("\n".join(rows))
    names = ("ADE_train_00000001", "ADE_train_00000002")
    return Tree(root, "ade20k", str(root / "objectInfo150.txt"), names, ((IGNORE, 0, 149),), ())


def mapillary(root: Path, version: str) -> Tree:
    labels = Path("labels") if version == "v1.2" else Path(version) / "labels"
    for split in ("training", "validation"):
        write(root / split / "images" / "one.jpg", FRAME)
        (root / split / labels).mkdir(parents=True)
        picture = Picture.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
        picture.putpalette([165, 42, 42, 0, 192, 0, 0, 0, 0])
        picture.save(root / split / labels / "one.png")
    config = {
        "version": version.removeprefix("v"),
        "labels": [
            {"name": "animal--bird", "readable": "Bird", "color": [165, 42, 42], "evaluate": True},
            {"name": "construction--barrier--curb", "readable": "Curb", "color": [196, 196, 196], "evaluate": True},
            {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "evaluate": False},
        ],
    }
    file = root / f"config_{version}.json"
    file.write_text(json.dumps(config))
    return Tree(root, f"mapillary_{version}", str(file), ("one",), ((0, 1, IGNORE),), ())


def own_folder(root: Path) -> Tree:
    write(root / "train" / "images" / "drive1_2.jpg", FRAME)
    write(root / "train" / "labels" / "drive1_2.png", [[0, 1, 255]])
    (root / "classes.yaml").write_text("classes: [{name: crop, color: [0, 200, 0]}, weed]\n")
    return Tree(root, "folder", str(root / "classes.yaml"), ("drive1_2",), ((0, 1, IGNORE),), ("drive1",))


def drives(root: Path) -> Path:
    """Frames of CamVid's drives, in plain folders."""
    for name in DRIVES:
        write(root / "train/images" / f"{name}.png", FRAME)
        write(root / "train/labels" / f"{name}.png", [[0, 1, 2]])
    return root


TREES = {
    "cityscapes": cityscapes,
    "camvid_folders": camvid_folders,
    "camvid_splits": camvid_splits,
    "ade20k": ade20k,
    "mapillary_v1.2": lambda root: mapillary(root, "v1.2"),
    "mapillary_v2.0": lambda root: mapillary(root, "v2.0"),
    "own_folder": own_folder,
}


@pytest.fixture(params=list(TREES))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return TREES[request.param](tmp_path)


def test_a_data_set_is_known_by_what_lies_in_its_root(tree: Tree) -> None:
    assert find_layout(tree.root).name == tree.layout


def test_the_frames_of_a_split_are_listed_by_name_with_their_drives(tree: Tree) -> None:
    samples = list_samples(tree.root, "train", find_layout(tree.root))
    assert tuple(sample.name for sample in samples) == tree.names
    assert tuple(sample.sequence for sample in samples if sample.sequence) == tree.sequences


def test_stored_labels_become_the_ids_of_the_class_set(tree: Tree) -> None:
    layout = find_layout(tree.root)
    sample = list_samples(tree.root, "train", layout)[0]
    assert sample.label is not None
    ids = read_label(sample.label, layout.coding(find_class_set(tree.classes)))
    assert ids.tolist() == [list(row) for row in tree.ids]


def test_the_trainer_reads_it(tree: Tree) -> None:
    frames = SegmentationFolder(tree.root, "train", find_class_set(tree.classes), cache=True)
    image, label = frames[0]
    assert image.shape == (1, 3, 3)
    assert label.tolist() == [list(row) for row in tree.ids]


def test_a_check_finds_no_fault_in_it_and_every_split(tree: Tree) -> None:
    checks = check_dataset(tree.root, find_class_set(tree.classes), find_layout(tree.root))
    assert [check.problems for check in checks] == [()] * len(checks)
    assert sum(check.frames for check in checks) >= len(tree.names)
    assert all(check.histogram.sum() == 3 * check.frames for check in checks)


def test_a_frame_whose_label_is_missing_is_named(tree: Tree) -> None:
    layout = find_layout(tree.root)
    sample = list_samples(tree.root, "train", layout)[0]
    assert sample.label is not None
    sample.label.unlink()
    with pytest.raises(DataError, match=f"1 of {len(tree.names)} frames.*{sample.image.name}"):
        list_samples(tree.root, "train", layout)


def test_labels_that_nobody_uses_may_be_missing(tree: Tree) -> None:
    layout = find_layout(tree.root)
    label = list_samples(tree.root, "train", layout)[0].label
    assert label is not None
    label.unlink()
    samples = list_samples(tree.root, "train", layout, labels="unused")
    assert [(sample.name, sample.label) for sample in samples] == [(name, None) for name in tree.names]


def test_a_split_that_is_not_there_names_those_that_are(tree: Tree) -> None:
    layout = find_layout(tree.root)
    with pytest.raises(DataError):
        list_samples(tree.root, "elsewhere", layout)


def test_classes_that_the_labels_do_not_hold_are_refused(tmp_path: Path) -> None:
    for make, classes in ((cityscapes, CAMVID), (camvid_splits, CITYSCAPES), (ade20k, CAMVID)):
        root = tmp_path / make.__name__
        make(root)
        with pytest.raises(DataError, match=classes.name):
            find_layout(root).coding(classes)


def test_a_layout_can_be_named_and_an_unknown_one_lists_those_there_are(tmp_path: Path) -> None:
    assert find_layout(tmp_path, "ade20k").name == "ade20k"
    with pytest.raises(DataError, match="expected auto or one of cityscapes"):
        find_layout(tmp_path, "voc")
    with pytest.raises(DataError, match="no such folder"):
        find_layout(tmp_path / "nowhere")


def test_the_test_split_of_cityscapes_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", FRAME)
    layout = find_layout(tmp_path)
    assert list_samples(tmp_path, "test", layout)[0].label is None
    with pytest.raises(DataError, match="split 'test' has no labels"):
        list_samples(tmp_path, "test", layout, labels="needed")
    with pytest.raises(DataError, match="split 'test' has no labels"):
        SegmentationFolder(tmp_path, "test", CITYSCAPES, cache=False)


def test_camvids_original_folders_without_a_list_of_the_split_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "701_StillsRaw_full").mkdir()
    with pytest.raises(DataError, match=r"val\.txt: missing"):
        list_samples(tmp_path, "val", find_layout(tmp_path))


DRIVES = ("0001TP_006690", "0006R0_f00930", "0016E5_00390", "0016E5_08159")


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("0016E5",), (), DRIVES[2:]),
        ((), ("0016E5",), DRIVES[:2]),
        (("0001TP", "0016E5"), ("0016E5_08",), (DRIVES[0], DRIVES[2])),
    ],
)
def test_whole_drives_can_be_chosen_and_held_out(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    layout = find_layout(drives(tmp_path))
    samples = list_samples(tmp_path, "train", layout, include=include, exclude=exclude)
    assert tuple(sample.name for sample in samples) == expected


@pytest.mark.parametrize(("include", "exclude"), [(("0016E5", "0016E6"), ()), ((), ("0016E6",))])
def test_a_mistyped_drive_is_an_error(tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    layout = find_layout(drives(tmp_path))
    with pytest.raises(DataError, match=r"begins with '0016E6'; its frames are 0001TP_006690 to 0016E5_08159"):
        list_samples(tmp_path, "train", layout, include=include, exclude=exclude)


def test_a_choice_that_leaves_no_frame_is_an_error(tmp_path: Path) -> None:
    layout = find_layout(drives(tmp_path))
    with pytest.raises(DataError, match="leave none of 4 frames"):
        list_samples(tmp_path, "train", layout, include=("0001TP",), exclude=("0001TP",))


def test_frames_that_are_not_chosen_need_no_label(tmp_path: Path) -> None:
    layout = find_layout(drives(tmp_path))
    (tmp_path / "train/labels/0001TP_006690.png").unlink()
    assert len(list_samples(tmp_path, "train", layout, exclude=("0001TP",))) == 3


def test_every_original_class_of_camvid_but_void_belongs_to_at_most_one_of_the_eleven() -> None:
    grouped = [name for names in CAMVID_GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped)) == 31
    assert set(CAMVID_ORIGINAL) - set(grouped) == {"Void"}
    assert tuple(CAMVID_GROUPS) == CAMVID.names
    assert len(set(CAMVID_ORIGINAL.values())) == 32


def test_the_ids_of_cityscapes_are_those_of_its_own_scripts() -> None:
    scripts = pytest.importorskip("cityscapesscripts.helpers.labels")
    official = {label.id: label.trainId for label in scripts.labels if label.trainId not in (255, -1)}
    assert official == CITYSCAPES_IDS
    names = {label.trainId: label.name.replace(" ", "_") for label in scripts.labels if label.id in CITYSCAPES_IDS}
    assert tuple(names[i] for i in range(19)) == CITYSCAPES.names


def test_class_files_of_every_form_give_names_and_colors(tmp_path: Path) -> None:
    crops = find_class_set(str(own_folder(tmp_path / "own").classes))
    assert (crops.names, crops.palette[0]) == (("crop", "weed"), (0, 200, 0))
    vistas = find_class_set(mapillary(tmp_path / "vistas", "v2.0").classes)
    assert (vistas.name, len(vistas), vistas.palette[1]) == ("mapillary_v2.0", 2, (196, 196, 196))
    scenes = find_class_set(ade20k(tmp_path / "ade").classes)
    assert (scenes.name, len(scenes), scenes.names[149]) == ("ade20k", 150, "thing 150")
    (tmp_path / "names.txt").write_text("# mine\nroad\ngrass\n")
    plain = find_class_set(str(tmp_path / "names.txt"))
    assert plain.names == ("road", "grass")
    assert len(set(scenes.palette)) == 150  # colors that are not given are all different


@pytest.mark.parametrize("content", ["", "a: 1", "classes: [a, a]", "classes: [{color: [1, 2, 3]}]", "{", "classes: 7"])
def test_a_class_file_that_is_none_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=r"bad\.yaml: not a class file"):
        find_class_set(str(path))


def test_a_class_set_that_is_neither_known_nor_a_file_is_an_error() -> None:
    with pytest.raises(DataError, match="neither a file nor one of camvid, cityscapes"):
        find_class_set("camvit")


def test_known_class_sets_are_found_by_name() -> None:
    found: ClassSet = find_class_set("cityscapes")
    assert found is CITYSCAPES
