"""Makes bags: from a folder of images, and from a rendered drive."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from eseg_ros.bag.writer import BagWriter
from eseg_ros.data.reading import ANY_IDS, read_bgr, read_label
from eseg_ros.errors import BagError
from eseg_ros.rendering.renderer import RenderedFrame, render_drive

IMAGE_TOPIC = "/camera/image_raw"
LABEL_TOPIC = "/camera/label"
FRAME_ID = "camera"

COMPRESSED_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
"""File suffix -> CompressedImage.format."""
RAW_SUFFIXES = {*COMPRESSED_FORMATS, ".bmp", ".ppm", ".tif", ".tiff", ".webp"}

# Time 0 means "no time yet" to ROS, so images that bring no time of their own begin one second later.
_START_NS = 1_000_000_000


def create_bag(
    path: Path,
    images: Path,
    labels: Path | None,
    rate_hz: float,
    *,
    topic: str = IMAGE_TOPIC,
    label_topic: str = LABEL_TOPIC,
    compressed: bool = False,
    storage: str = "mcap",
) -> int:
    """Write a folder of images, in the order of their names, into a new bag.

    Args:
        path: the new bag's folder.
        images: folder of image files.
        labels: folder of 8-bit label files, ids or indices of a palette, with the images' names, or None. They get
            their image's stamp.
        rate_hz: frames a second, which the stamps follow.
        topic: raw bgr8 images or, with `compressed`, the files' own bytes.
        label_topic: class ids as mono8 images.
        compressed: write CompressedImage messages; the files must be JPEG or PNG.
        storage: "mcap" or "sqlite3".

    Returns:
        How many images were written.

    Raises:
        BagError: there are no images, labels are missing, or `path` exists.
        DataError: a file cannot be used.
    """
    suffixes = COMPRESSED_FORMATS if compressed else RAW_SUFFIXES
    files = _files(images, suffixes)
    label_files = _label_files(files, labels) if labels else {}
    with BagWriter(path, storage) as bag:
        for index, file in enumerate(tqdm(files, desc=f"writing {path.name}", unit="frame")):
            stamp_ns = _START_NS + round(index * 1e9 / rate_hz)
            if compressed:
                image_format = COMPRESSED_FORMATS[file.suffix.lower()]
                bag.write_compressed(topic, file.read_bytes(), image_format, stamp_ns, FRAME_ID)
            else:
                bag.write_image(topic, read_bgr(file), stamp_ns, FRAME_ID)
            if file in label_files:
                bag.write_image(label_topic, read_label(label_files[file], ANY_IDS), stamp_ns, FRAME_ID, "mono8")
    return len(files)


def render_bag(
    path: Path,
    *,
    seed: int,
    frames: int,
    rate_hz: float,
    width: int,
    height: int,
    topic: str = IMAGE_TOPIC,
    label_topic: str = LABEL_TOPIC,
    storage: str = "mcap",
) -> None:
    """Render a drive with its ground truth into a new bag.

    Raises:
        BagError: `path` exists already.
    """
    drive: Iterable[RenderedFrame] = render_drive(seed, frames, rate_hz, width, height)
    with BagWriter(path, storage) as bag:
        for frame in tqdm(drive, desc="rendering the drive", total=frames, unit="frame"):
            stamp_ns = _START_NS + frame.stamp_ns
            bag.write_image(topic, frame.image, stamp_ns, FRAME_ID)
            bag.write_image(label_topic, frame.label, stamp_ns, FRAME_ID, "mono8")


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    if not folder.is_dir():
        raise BagError(f"no folder at {folder}; expected a folder of images")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not files:
        raise BagError(f"{folder} holds no image; expected files that end in {', '.join(sorted(suffixes))}")
    return files


def _label_files(images: list[Path], folder: Path) -> dict[Path, Path]:
    by_stem = {path.stem: path for path in _files(folder, (".png", ".bmp", ".pgm"))}
    missing = [path.name for path in images if path.stem not in by_stem]
    if missing:
        raise BagError(
            f"{len(missing)} of {len(images)} images have no label in {folder}, the first is {missing[0]}; expected "
            f"{Path(missing[0]).stem}.png"
        )
    return {path: by_stem[path.stem] for path in images}
