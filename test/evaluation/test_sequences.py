from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from eseg_ros.bag.create import create_bag
from eseg_ros.bag.writer import BagWriter
from eseg_ros.data.reading import DataError
from eseg_ros.errors import BagError
from eseg_ros.evaluation.sequences import bag_sequences, find_bags, folder_sequences
from eseg_ros.labels import CAMVID, CITYSCAPES
from eseg_ros.runtime.image import decode

from .conftest import LABEL_TOPIC, PERIOD_NS, TOPIC, BagMaker, painted_frame


def write_split(root: Path, names: list[str]) -> Path:
    for folder, image in (("images", np.zeros((8, 8, 3), np.uint8)), ("labels", np.zeros((8, 8), np.uint8))):
        (root / "val" / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / "val" / folder / f"{name}.png"), image)
    return root


def test_a_split_falls_into_the_sequences_that_its_names_tell(tmp_path: Path) -> None:
    names = ["0006R0_f00930", "0006R0_f00960", "frankfurt_000000_000294", "frankfurt_000000_000576"]

    sequences = folder_sequences(write_split(tmp_path, names), "val", CAMVID)

    assert [(sequence.name, sequence.count()) for sequence in sequences] == [("0006R0_f", 2), ("frankfurt_000000", 2)]


@pytest.mark.parametrize("names", [["0001", "0002", "0003"], ["lane", "park", "yard"], ["a_1", "b_1", "c_1"]])
def test_a_split_whose_names_tell_nothing_is_one_sequence(tmp_path: Path, names: list[str]) -> None:
    sequences = folder_sequences(write_split(tmp_path, names), "val", CAMVID)

    assert [(sequence.name, sequence.count()) for sequence in sequences] == [("val", 3)]


def test_frames_of_a_split_get_the_stamps_of_a_camera(tmp_path: Path) -> None:
    (sequence,) = folder_sequences(write_split(tmp_path, ["1", "2", "3"]), "val", CAMVID)

    stamps = [labeled.frame.stamp_ns for labeled in sequence.frames()]

    assert np.diff(stamps).tolist() == [PERIOD_NS, PERIOD_NS]


def test_the_labels_of_a_known_data_set_become_the_engines_ids(tmp_path: Path) -> None:
    for folder, ending, image in (
        ("leftImg8bit", "leftImg8bit", np.zeros((1, 3, 3), np.uint8)),
        ("gtFine", "gtFine_labelIds", np.array([[7, 33, 0]], np.uint8)),  # road, bicycle, unlabeled
    ):
        (tmp_path / folder / "val/bonn").mkdir(parents=True)
        for number in (1, 2):
            cv2.imwrite(str(tmp_path / folder / f"val/bonn/bonn_000003_{number:06d}_{ending}.png"), image)

    (sequence,) = folder_sequences(tmp_path, "val", CITYSCAPES)

    assert sequence.name == "bonn_000003"
    assert [labeled.label.tolist() for labeled in sequence.frames() if labeled.label is not None] == [
        [[CITYSCAPES.names.index("road"), CITYSCAPES.names.index("bicycle"), CITYSCAPES.ignore_id]]
    ] * 2


@pytest.mark.parametrize("gone", ["labels", "labels/1.png"])
def test_where_no_labels_are_wanted_it_does_not_matter_which_are_there(tmp_path: Path, gone: str) -> None:
    root = write_split(tmp_path, ["1", "2"])
    path = root / "val" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    (sequence,) = folder_sequences(root, "val", None)

    assert [labeled.label for labeled in sequence.frames()] == [None, None]


def test_where_labels_are_wanted_a_split_without_them_is_an_error(tmp_path: Path) -> None:
    root = write_split(tmp_path, ["1", "2"])
    shutil.rmtree(root / "val/labels")

    with pytest.raises(DataError, match=r"split 'val' has no labels; expected SPLIT/images.* and SPLIT/labels"):
        folder_sequences(root, "val", CAMVID)


def test_a_sequence_can_be_sent_to_another_process(tmp_path: Path) -> None:
    (sequence,) = folder_sequences(write_split(tmp_path, ["1", "2"]), "val", CAMVID)

    assert pickle.loads(pickle.dumps(sequence)) == sequence


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_images_of_a_bag_come_with_the_labels_of_their_stamp(make_bag: BagMaker, storage: str) -> None:
    (sequence,) = bag_sequences([make_bag("drive", storage=storage)], TOPIC, label_topic=LABEL_TOPIC)

    frames = list(sequence.frames())

    assert sequence.count() == len(frames) == 4
    for index, labeled in enumerate(frames):
        image, label = painted_frame(0, index)
        assert labeled.name == str((index + 1) * PERIOD_NS)
        np.testing.assert_array_equal(decode(labeled.frame), image)
        np.testing.assert_array_equal(labeled.label, label)


def test_compressed_images_and_png_labels_are_read_alike(tmp_path: Path) -> None:
    image, label = painted_frame(3)
    _, jpeg = cv2.imencode(".jpg", image)
    _, png = cv2.imencode(".png", label)
    with BagWriter(tmp_path / "drive") as bag:
        bag.write_compressed("/front/compressed", bytes(jpeg), "jpeg", PERIOD_NS, "")
        bag.write_compressed("/label/compressed", bytes(png), "png", PERIOD_NS, "")

    (sequence,) = bag_sequences([tmp_path / "drive"], None, label_topic="/label/compressed")
    (labeled,) = sequence.frames()

    assert (sequence.image_topic().name, labeled.frame.encoding) == ("/front/compressed", "jpeg")
    np.testing.assert_array_equal(labeled.label, label)


def test_an_image_without_a_label_of_its_stamp_has_none(tmp_path: Path) -> None:
    image, label = painted_frame(0)
    with BagWriter(tmp_path / "drive") as bag:
        for stamp_ns in (1, 2, 3):
            bag.write_image(TOPIC, image, stamp_ns * PERIOD_NS, "")
        bag.write_image(LABEL_TOPIC, label, 2 * PERIOD_NS, "", "mono8")
        bag.write_image(LABEL_TOPIC, label, 3 * PERIOD_NS + 1, "", "mono8")

    (sequence,) = bag_sequences([tmp_path / "drive"], TOPIC, label_topic=LABEL_TOPIC)

    assert [labeled.label is not None for labeled in sequence.frames()] == [False, True, False]


@pytest.mark.parametrize("name", ["100000000", "0.1", "0_100000000", "0-100000000"])
def test_label_files_are_found_by_the_stamp_in_their_name(make_bag: BagMaker, tmp_path: Path, name: str) -> None:
    bag, label = make_bag("drive", labels=False), painted_frame(0)[1]
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), label)

    (sequence,) = bag_sequences([bag], TOPIC, label_folder=tmp_path / "labels")
    first, second, *_ = sequence.frames()

    np.testing.assert_array_equal(first.label, label)
    assert second.label is None


def test_labels_of_several_bags_lie_in_folders_of_their_names(make_bag: BagMaker, tmp_path: Path) -> None:
    bags = [make_bag("bags/day", labels=False), make_bag("bags/night", labels=False)]
    (tmp_path / "labels/night").mkdir(parents=True)

    sequences = bag_sequences(bags, TOPIC, label_folder=tmp_path / "labels")

    assert [sequence.label_folder for sequence in sequences] == [tmp_path / "labels", tmp_path / "labels/night"]


def test_a_folder_of_labels_without_stamps_is_an_error_with_an_example(make_bag: BagMaker, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels/left.png"), painted_frame(0)[1])
    (sequence,) = bag_sequences([make_bag("drive")], TOPIC, label_folder=tmp_path / "labels")

    with pytest.raises(DataError, match=r"no label that is named by a stamp; expected e\.g\. 1700000000500000000"):
        next(sequence.frames())


def test_folders_of_bags_are_searched_and_no_bag_counts_twice(make_bag: BagMaker, tmp_path: Path) -> None:
    make_bag("bags/monday/1")
    make_bag("bags/monday/2", storage="sqlite3")
    lone = make_bag("bags/tuesday")
    shutil.copy(next(lone.glob("*.mcap")), tmp_path / "bags/copy.mcap")

    sequences = bag_sequences([tmp_path / "bags", lone], TOPIC)

    assert [sequence.name for sequence in sequences] == ["copy", "monday/1", "monday/2", "tuesday"]
    assert sum(sequence.count() for sequence in sequences) == 16


def test_the_files_of_a_split_recording_are_one_bag(make_bag: BagMaker) -> None:
    bag = make_bag("drive")
    shutil.copy(next(bag.glob("*.mcap")), bag / "drive_1.mcap")

    assert find_bags(bag.parent) == [bag]


def test_bags_of_one_name_are_told_apart(make_bag: BagMaker) -> None:
    bags = [make_bag("monday/drive"), make_bag("tuesday/drive")]

    assert [sequence.name for sequence in bag_sequences(bags, TOPIC)] == ["drive", "drive#2"]


def test_the_only_image_topic_besides_the_labels_needs_no_name(make_bag: BagMaker) -> None:
    bag = make_bag("drive")

    assert bag_sequences([bag], None, label_topic=LABEL_TOPIC)[0].image_topic().name == TOPIC
    with pytest.raises(BagError, match="2 image topics; name one with --topic"):
        bag_sequences([bag], None)[0].image_topic()


def test_a_folder_without_bags_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"no bag at .* expected a bag folder"):
        bag_sequences([tmp_path], None)


@pytest.mark.parametrize("topics", [("/nothing", LABEL_TOPIC), (TOPIC, "/nothing")])
def test_a_topic_that_the_bag_lacks_is_an_error_that_lists_those_it_has(
    make_bag: BagMaker, topics: tuple[str, str]
) -> None:
    (sequence,) = bag_sequences([make_bag("drive")], topics[0], label_topic=topics[1])

    with pytest.raises(BagError, match=r"no image topic /nothing(?s:.*)/camera/image_raw"):
        next(sequence.frames())


def test_at_most_so_many_frames_of_a_bag_are_read(make_bag: BagMaker) -> None:
    (sequence,) = bag_sequences([make_bag("drive")], TOPIC, limit=3)

    assert sequence.count() == len(list(sequence.frames())) == 3


def test_a_bag_made_from_files_is_read_back(tmp_path: Path) -> None:
    root = write_split(tmp_path / "data", ["a", "b"])
    create_bag(tmp_path / "bag", root / "val/images", root / "val/labels", 10)

    (sequence,) = bag_sequences([tmp_path / "bag"], TOPIC, label_topic=LABEL_TOPIC)

    assert [labeled.label is not None for labeled in sequence.frames()] == [True, True]
