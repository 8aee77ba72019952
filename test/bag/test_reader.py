from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eseg_ros.bag.reader import BagReader, stamp_of
from eseg_ros.bag.writer import FORMATS, BagWriter
from eseg_ros.errors import BagError

STAMP_NS = 1_700_000_000_123_456_789


def write_image_bag(path: Path, topics: tuple[str, ...] = ("/camera/image_raw",), storage: str = "mcap") -> Path:
    """One 4x3 image a topic."""
    with BagWriter(path, storage) as bag:
        for topic in topics:
            bag.write_image(topic, np.arange(36, dtype=np.uint8).reshape(3, 4, 3), STAMP_NS, "front")
    return path


@pytest.mark.parametrize("storage", FORMATS)
def test_a_raw_image_comes_back_as_it_was_written(tmp_path: Path, storage: str) -> None:
    with BagReader(write_image_bag(tmp_path / "bag", storage=storage)) as bag:
        (frame,) = bag.frames("/camera/image_raw")

    assert (frame.encoding, frame.width, frame.height, frame.step) == ("bgr8", 4, 3, 12)
    assert (frame.stamp_ns, frame.frame_id) == (STAMP_NS, "front")
    assert bytes(frame.data) == bytes(range(36))


def test_a_compressed_image_keeps_its_files_bytes(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_compressed("/camera/compressed", b"a file", "png", STAMP_NS, "front")

    with BagReader(tmp_path / "bag") as bag:
        (frame,) = bag.frames("/camera/compressed")

    assert (bytes(frame.data), frame.encoding, frame.stamp_ns) == (b"a file", "png", STAMP_NS)


def test_a_single_storage_file_is_read_like_its_folder(tmp_path: Path) -> None:
    write_image_bag(tmp_path / "drive")

    with BagReader(tmp_path / "drive" / "drive.mcap") as bag:
        assert bag.topics["/camera/image_raw"].count == 1


def test_messages_come_by_log_time(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for log_time_ns in (3, 1, 2):
            writer.write_compressed("/camera", b"", "jpeg", log_time_ns, "")

    with BagReader(tmp_path / "bag") as bag:
        assert [message.log_time_ns for message in bag.messages(["/camera"])] == [1, 2, 3]
        assert bag.start_ns == 1


def test_the_stamp_is_read_without_reading_the_message(tmp_path: Path) -> None:
    with BagReader(write_image_bag(tmp_path / "bag")) as bag:
        (message,) = bag.messages(["/camera/image_raw"])

    assert stamp_of(message.data) == STAMP_NS


def test_masks_in_compressed_chunks_come_back(tmp_path: Path) -> None:
    mask = np.full((48, 64), 7, np.uint8)
    with BagWriter(tmp_path / "bag", zstd=True) as writer:
        writer.write_image("/mask", mask, STAMP_NS, "front", "mono8")

    with BagReader(tmp_path / "bag") as bag:
        (frame,) = bag.frames("/mask")

    assert bytes(frame.data) == mask.tobytes()


def test_the_only_image_topic_needs_no_name(tmp_path: Path) -> None:
    with BagReader(write_image_bag(tmp_path / "bag")) as bag:
        assert bag.image_topic().name == "/camera/image_raw"


def test_two_image_topics_need_a_name(tmp_path: Path) -> None:
    with (
        BagReader(write_image_bag(tmp_path / "bag", ("/left", "/right"))) as bag,
        pytest.raises(BagError, match=r"2 image topics; name one(?s:.*)/left(?s:.*)/right"),
    ):
        bag.image_topic()


def test_a_missing_topic_is_answered_with_the_image_topics_there_are(tmp_path: Path) -> None:
    with (
        BagReader(write_image_bag(tmp_path / "bag")) as bag,
        pytest.raises(BagError, match=r"no image topic /nothing(?s:.*)/camera/image_raw  sensor_msgs/msg/Image"),
    ):
        bag.image_topic("/nothing")


def test_a_missing_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"no bag at .*nothing"):
        BagReader(tmp_path / "nothing")


def test_a_ros_1_bag_is_answered_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "old.bag"
    path.write_bytes(b"#ROSBAG V2.0\n")

    with pytest.raises(BagError, match="rosbags-convert --src"):
        BagReader(path)


@pytest.mark.parametrize("storage", FORMATS)
def test_a_bag_that_was_cut_is_an_error_made_for_people(tmp_path: Path, storage: str) -> None:
    (file,) = (path for path in write_image_bag(tmp_path / "bag", storage=storage).iterdir() if path.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    with pytest.raises(BagError, match=r"cannot be read|is damaged"), BagReader(tmp_path / "bag") as bag:
        list(bag.frames("/camera/image_raw"))
