"""Reads a data set once and names every file that training would trip over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eseg_ros.labels import ClassSet
from eseg_ros.training.data import IMAGE_SUFFIXES, DataError, files_by_name, read_image, read_label


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What one split holds.

    Attributes:
        split: its name.
        frames: pairs of a frame and its label, good or bad.
        sizes: (width, height) -> number of good frames of that size.
        histogram: (256,) int64, pixels by id over all good labels.
        problems: one line a bad file, each naming the file.
    """

    split: str
    frames: int
    sizes: dict[tuple[int, int], int]
    histogram: npt.NDArray[np.int64]
    problems: tuple[str, ...]


def check_dataset(root: Path, classes: ClassSet) -> list[SplitCheck]:
    """Checks every split (folder with images or labels in it) under `root`, sorted by name.

    Raises:
        DataError: there is no split under `root`.
    """
    candidates = sorted(root.iterdir()) if root.is_dir() else []
    splits = [path for path in candidates if (path / "images").is_dir() or (path / "labels").is_dir()]
    if not splits:
        raise DataError(f"{root}: no data set here; expected {root}/SPLIT/images/NAME.jpg and SPLIT/labels/NAME.png")
    return [check_split(path, classes) for path in splits]


def check_split(folder: Path, classes: ClassSet) -> SplitCheck:
    """Reads every pair under `folder`/images and `folder`/labels."""
    images = files_by_name(folder / "images", IMAGE_SUFFIXES)
    labels = files_by_name(folder / "labels", (".png",))
    problems = [f"{images[name]}: no label {folder / 'labels' / name}.png" for name in images.keys() - labels.keys()]
    problems += [f"{labels[name]}: no frame {name} in {folder / 'images'}" for name in labels.keys() - images.keys()]
    if not images:
        problems.append(f"{folder / 'images'}: no frames (.jpg or .png)")
    paired = sorted(images.keys() & labels.keys())
    sizes: dict[tuple[int, int], int] = {}
    histogram = np.zeros(256, np.int64)
    with ThreadPoolExecutor() as pool:
        results = pool.map(
            partial(_read_pair, classes), [images[name] for name in paired], [labels[name] for name in paired]
        )
        for result in tqdm(results, total=len(paired), desc=f"check {folder.name}", unit="frame", disable=None):
            if isinstance(result, str):
                problems.append(result)
                continue
            size, counts = result
            sizes[size] = sizes.get(size, 0) + 1
            histogram += counts
    return SplitCheck(folder.name, len(paired), sizes, histogram, tuple(sorted(problems)))


def _read_pair(
    classes: ClassSet, image_path: Path, label_path: Path
) -> str | tuple[tuple[int, int], npt.NDArray[np.int64]]:
    """What is wrong with a pair, or its (width, height) and its pixels by id."""
    try:
        image, label = read_image(image_path), read_label(label_path, classes)
    except (DataError, cv2.error) as error:
        return str(error)
    if image.shape[:2] != label.shape:
        return f"{label_path}: {label.shape[::-1]} pixels, but its frame has {image.shape[1::-1]}"
    return (image.shape[1], image.shape[0]), np.bincount(label.ravel(), minlength=256)
