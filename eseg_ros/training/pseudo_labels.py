"""Labels made by a teacher for frames that have none, as a data set that the trainer reads beside real ones.

Self-training as in the ESeg paper (arXiv 2203.12683): probabilities averaged over scales and mirror images; pixels
whose best class is not sure enough are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from eseg_ros.data.layouts import IMAGE_SUFFIXES
from eseg_ros.data.reading import DataError, Image, read_image
from eseg_ros.engine.manifest import portable_path, sha256_of, write_atomically
from eseg_ros.errors import UsageError
from eseg_ros.training.teacher import Teacher, load_teacher

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
ORIGIN = "pseudo_labels.json"
"""Beside the split's folders: teacher and options, which a later run must share to go on."""


@dataclass(frozen=True, slots=True)
class PseudoLabelOptions:
    """How a teacher is asked.

    Attributes:
        scales: of the frames, relative to the size that the teacher was trained for.
        flip: whether mirror images are asked too.
        threshold: pixels whose best class has no more than this mean probability are ignored.
        every: of a video, every so manieth frame.
    """

    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    flip: bool = True
    threshold: float = 0.5
    every: int = 1

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or not 0 <= self.threshold < 1 or self.every < 1:
            raise UsageError(f"{self}; expected scales above 0, a threshold from 0 up to 1, and every from 1")


@dataclass(frozen=True, slots=True)
class PseudoLabelCount:
    """What a run did: frames labeled now, frames that an earlier run had labeled, share of their pixels ignored."""

    labeled: int
    kept: int
    ignored: float


def make_pseudo_labels(
    teacher: Path, frames: Path, root: Path, split: str, options: PseudoLabelOptions
) -> PseudoLabelCount:
    """Labels every frame and writes ROOT/SPLIT/images, labels and confidence (8 bits, 255 = certain).

    A frame's label is written last, so that a run that was stopped goes on where it was.

    Args:
        teacher: a checkpoint (.ckpt) or an fp32 or fp16 engine.
        frames: a folder of images, or a video.
        root: root of the data set to be made, of layout "folder".
        split: its split.
        options: how the teacher is asked.

    Raises:
        DataError: no frames; one that cannot be read; or the split was begun with another teacher or options.
        CheckpointError, EngineError: the teacher cannot be read.
    """
    total = _count(frames, options.every)
    folder = root / split
    _claim(folder, teacher, options)
    asked = load_teacher(teacher)
    labeled = kept = 0
    ignored = 0.0
    for name, image in tqdm(_frames(frames, options.every), total=total, desc="label", unit="frame", disable=None):
        if (folder / "labels" / f"{name}.png").is_file():
            kept += 1
            continue
        label, confidence = _label(asked, image, options)
        for kind, suffix, pixels in (
            ("images", ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR)),
            ("confidence", ".png", confidence),
            ("labels", ".png", label),
        ):
            done, data = cv2.imencode(suffix, pixels, JPEG if suffix == ".jpg" else [])
            assert done
            write_atomically(folder / kind / f"{name}{suffix}", data.tobytes())
        labeled += 1
        ignored += float(np.mean(label == asked.classes.ignore_id))
    return PseudoLabelCount(labeled, kept, ignored / max(1, labeled))


def _label(teacher: Teacher, image: Image, options: PseudoLabelOptions) -> tuple[Image, Image]:
    """Ids and confidence of a frame, both (H, W) uint8."""
    probabilities = teacher.probabilities(image, options.scales, flip=options.flip)
    best = probabilities.max(axis=0)
    label = probabilities.argmax(axis=0).astype(np.uint8)
    label[best <= options.threshold] = teacher.classes.ignore_id
    return label, np.rint(255 * best).astype(np.uint8)


def _claim(folder: Path, teacher: Path, options: PseudoLabelOptions) -> None:
    """Write down whose labels these are, or find that they are the same teacher's."""
    weights = teacher if teacher.suffix == ".ckpt" else teacher.with_suffix(".onnx")
    if not weights.is_file():
        raise DataError(f"{weights}: no such teacher; expected a checkpoint (.ckpt) or an engine (.json)")
    values = asdict(options)
    origin = {
        "teacher": portable_path(teacher),
        "sha256": sha256_of(weights),
        **values,
        "scales": list(values["scales"]),
    }
    path = folder / ORIGIN
    if not path.exists():
        write_atomically(path, (json.dumps(origin, indent=2) + "\n").encode())
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in origin if key != "teacher" and found.get(key) != origin[key]]
    if differing:
        raise DataError(
            f"{path}: labels here were made with another {', '.join(differing)}; go on with the same, or choose "
            "another --split"
        )


def _count(frames: Path, every: int) -> int:
    if frames.is_dir():
        count = len(_image_files(frames))
    elif frames.suffix.lower() in VIDEO_SUFFIXES and frames.is_file():
        capture = cv2.VideoCapture(str(frames))
        count = -(-int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // every)
        capture.release()
    else:
        raise DataError(f"{frames}: expected a folder of images, or a video ({', '.join(VIDEO_SUFFIXES)})")
    if not count:
        raise DataError(f"{frames}: no frames in it")
    return count


def _frames(frames: Path, every: int) -> Iterator[tuple[str, Image]]:
    """Names and frames, (H, W, 3) uint8 RGB."""
    if frames.is_dir():
        for path in _image_files(frames):
            yield path.stem, read_image(path)
        return
    capture = cv2.VideoCapture(str(frames))
    try:
        index = 0
        while capture.grab():
            if index % every == 0:
                decoded, image = capture.retrieve()
                if not decoded:
                    raise DataError(f"{frames}: frame {index} cannot be decoded; make the video anew, or cut it there")
                yield f"{frames.stem}_{index:06d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            index += 1
    finally:
        capture.release()


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
