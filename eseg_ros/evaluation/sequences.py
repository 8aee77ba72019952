"""Where frames and their ground truth come from: sequences of a data set on disk, and bags.

A sequence is what one worker scores in one go. Both kinds are plain values that can be sent to another process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from eseg_ros.bag.reader import IMAGE_TYPES, BagReader, Topic, mono8_pixels
from eseg_ros.data.layouts import Sample, find_layout, list_samples
from eseg_ros.data.reading import ANY_IDS, DataError, LabelCoding, read_frame, read_label
from eseg_ros.errors import BagError
from eseg_ros.labels import ClassSet
from eseg_ros.runtime.types import Frame, Image8

FOLDER_RATE_HZ = 10.0
"""Images on disk have no stamps; they get those of a camera at this rate."""
_START_NS = 1_000_000_000  # time 0 means "no time yet" to ROS
_BAG_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True, slots=True)
class LabeledFrame:
    """A frame and what is right.

    Attributes:
        name: the file's stem, in bags the stamp in nanoseconds: the same in every run on the same data.
        frame: the image.
        label: (H, W) uint8 class ids; None where nobody knows.
        source: what to name in errors about the label.
    """

    name: str
    frame: Frame
    label: Image8 | None
    source: str


class FrameSequence(Protocol):
    """Frames in the order in which they were taken."""

    @property
    def name(self) -> str:
        """Unique in a run, and the same on every machine."""

    @property
    def size_bytes(self) -> int:
        """Size on disk, by which a changed sequence is noticed."""

    def count(self) -> int:
        """How many frames there are."""

    def frames(self) -> Iterator[LabeledFrame]:
        """The frames, read while they are used. Raises an EsegError where the data are damaged."""


@dataclass(frozen=True, slots=True)
class FolderSequence:
    """Frames of a data set's split that follow each other.

    Attributes:
        name: what their file names have in common, e.g. "0016E5" of "0016E5_07959.jpg".
        samples: the files.
        coding: how the labels are stored; None: they are not read.
    """

    name: str
    samples: tuple[Sample, ...]
    coding: LabelCoding | None

    @property
    def size_bytes(self) -> int:
        """Bytes of the images."""
        return sum(sample.image.stat().st_size for sample in self.samples)

    def count(self) -> int:
        """How many frames there are."""
        return len(self.samples)

    def frames(self) -> Iterator[LabeledFrame]:
        """The frames with their labels. Raises a DataError that names the file."""
        for index, sample in enumerate(self.samples):
            stamp_ns = _START_NS + round(index * 1e9 / FOLDER_RATE_HZ)
            label = read_label(sample.label, self.coding) if sample.label and self.coding else None
            source = str(sample.label or sample.image)
            yield LabeledFrame(sample.name, read_frame(sample.image, stamp_ns), label, source)


@dataclass(frozen=True, slots=True)
class BagSequence:
    """One image topic of a bag.

    Attributes:
        name: the bag's.
        path: bag folder or file.
        topic: its image topic, raw or compressed; None for the only one besides the labels.
        label_topic: its topic of class ids with the images' stamps, mono8 or PNG; None for none.
        label_folder: folder of label files named by stamp, instead; None for none.
        limit: at most so many frames; None for all.
    """

    name: str
    path: Path
    topic: str | None = None
    label_topic: str | None = None
    label_folder: Path | None = None
    limit: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the bag's files."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())

    def count(self) -> int:
        """How many images there are."""
        count = self.image_topic().count
        return count if self.limit is None else min(count, self.limit)

    def image_topic(self) -> Topic:
        """The image topic.

        Raises:
            BagError: the bag cannot be read, or lacks a topic.
        """
        with BagReader(self.path) as bag:
            if self.label_topic is not None:
                bag.image_topic(self.label_topic)
            return bag.image_topic(self.topic or _only_image_topic(bag, self.label_topic))

    def frames(self) -> Iterator[LabeledFrame]:
        """The images with the labels that have their stamp."""
        with ExitStack() as stack:
            topic = self.image_topic().name
            images = stack.enter_context(BagReader(self.path)).frames(topic, self.limit)
            labels: _LabelsByStamp | _LabelTopic | None = None
            if self.label_topic is not None:  # a reader of its own: the topics are read side by side
                labels = _LabelTopic(stack.enter_context(BagReader(self.path)), self.label_topic)
            elif self.label_folder is not None:
                labels = _LabelsByStamp(self.label_folder)
            for frame in images:
                label = labels.find(frame.stamp_ns) if labels is not None else None
                source = f"{self.path}, label of {frame.stamp_ns}"
                yield LabeledFrame(str(frame.stamp_ns), frame, label, source)


def folder_sequences(
    root: Path, split: str, classes: ClassSet | None, *, limit: int | None = None
) -> list[FolderSequence]:
    """The sequences of a split, told apart by what stands before the last number of the file names.

    Args:
        root: a data set, in any layout of `eseg_ros.data.layouts`.
        split: e.g. "val".
        classes: what its labels must give; None: labels are not read, and none are needed.
        limit: at most so many frames; None for all.

    Raises:
        DataError: there are no frames, a label is missing, or the labels do not give these classes.
    """
    root = root.resolve()  # workers may begin elsewhere
    layout = find_layout(root)
    coding = None if classes is None else layout.coding(classes)
    samples = list_samples(root, split, layout, labels="unused" if coding is None else "needed")[:limit]
    groups = [(name, tuple(group)) for name, group in groupby(samples, lambda sample: _stem(sample.name))]
    names = [name for name, _ in groups]
    if len(names) > len(samples) / 2 or len(set(names)) < len(names) or "" in names:
        groups = [(split, tuple(samples))]  # the names tell nothing
    return [FolderSequence(name, group, coding) for name, group in groups]


def bag_sequences(
    paths: Iterable[Path],
    topic: str | None,
    *,
    label_topic: str | None = None,
    label_folder: Path | None = None,
    limit: int | None = None,
) -> list[BagSequence]:
    """The bags at `paths`: bag folders, .mcap and .db3 files, and folders of these. A bag that comes twice counts once.

    No bag is opened here: one that is damaged must not keep the others from being evaluated.

    Args:
        paths: where to look.
        topic: image topic; None where each bag has but one besides the labels.
        label_topic: topic of the ground truth.
        label_folder: folder of label files named by stamp; those of a bag may lie in a folder with its name there.
        limit: at most so many frames of each bag.

    Raises:
        BagError: no bag there.
    """
    if label_folder is not None and not label_folder.is_dir():
        raise BagError(
            f"no folder of labels at {label_folder}; expected PNG files named by stamp, e.g. 1700000000.5.png"
        )
    label_folder = label_folder and label_folder.resolve()
    found: dict[Path, str] = {}
    for root in paths:
        for path in find_bags(root):
            name = (path.name if path == root else str(path.relative_to(root))).removesuffix(path.suffix)
            found.setdefault(path.resolve(), name)
    sequences = []
    names = _unique(list(found.values()))
    for path, name in zip(found, names, strict=True):
        labels = label_folder / name if label_folder is not None and (label_folder / name).is_dir() else label_folder
        sequences.append(BagSequence(name, path, topic, label_topic, labels, limit))
    return sequences


def find_bags(root: Path) -> list[Path]:
    """The bags at or below a path, sorted. The files of a split recording are one bag.

    Raises:
        BagError: there are none.
    """
    if root.is_file() or (root / "metadata.yaml").is_file():
        return [root]
    folders = [file.parent for file in root.rglob("metadata.yaml")]
    files = [path for path in root.rglob("*") if path.suffix in _BAG_SUFFIXES and path.parent not in folders]
    if not folders and not files:
        raise BagError(f"no bag at {root}; expected a bag folder, an .mcap or a .db3 file, or a folder of these")
    return sorted([*folders, *files])


def _only_image_topic(bag: BagReader, label_topic: str | None) -> str | None:
    names = [name for name, topic in bag.topics.items() if topic.type in IMAGE_TYPES and name != label_topic]
    return names[0] if len(names) == 1 else None


def _stem(name: str) -> str:
    """What stands before a file name's last number."""
    return re.sub(r"[-_.]?\d+[^\d]*$", "", name)


def _unique(names: list[str]) -> list[str]:
    """The names, with a number behind those that came before."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


class ByStamp:
    """Finds frames by rising stamps, reading them once and holding one at a time."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._next = next(frames, None)

    def find(self, stamp_ns: int) -> Frame | None:
        """The frame of a stamp, or None."""
        while self._next is not None and self._next.stamp_ns < stamp_ns:
            self._next = next(self._frames, None)
        return self._next if self._next is not None and self._next.stamp_ns == stamp_ns else None


class _LabelTopic:
    """Labels that were recorded beside the images."""

    def __init__(self, bag: BagReader, topic: str) -> None:
        self._frames = ByStamp(bag.frames(topic))

    def find(self, stamp_ns: int) -> Image8 | None:
        frame = self._frames.find(stamp_ns)
        if frame is None:
            return None
        if frame.encoding != "png":
            return mono8_pixels(frame)
        label: Image8 | None = cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if label is None or label.ndim != 2 or label.dtype != np.uint8:
            raise BagError(f"the label of {stamp_ns} is no PNG of class ids in one 8-bit channel")
        return label


class _LabelsByStamp:
    """Label files whose names are stamps, see `_stamp`."""

    def __init__(self, folder: Path) -> None:
        self._paths = {stamp: path for path in sorted(folder.glob("*.png")) if (stamp := _stamp(path.stem)) is not None}
        if not self._paths:
            raise DataError(
                f"{folder} holds no label that is named by a stamp; expected e.g. 1700000000500000000.png "
                "(nanoseconds) or 1700000000.500000000.png (seconds)"
            )

    def find(self, stamp_ns: int) -> Image8 | None:
        path = self._paths.get(stamp_ns)
        return None if path is None else read_label(path, ANY_IDS)


def _stamp(stem: str) -> int | None:
    """Nanoseconds of a file name: "1500000000", "1.5" or "1_500000000"; None where it is no stamp."""
    parts = re.fullmatch(r"(\d+)(?:([._-])(\d{1,9}))?", stem)
    if parts is None:
        return None
    begin, sign, end = parts.groups()
    if sign is None:
        return int(begin)
    return int(begin) * 10**9 + int(end.ljust(9, "0") if sign == "." else end)
