"""Reads a data set once and names every file that training would trip over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eseg_ros.data.layouts import Layout, Sample, list_samples
from eseg_ros.data.reading import DataError, Image, LabelCoding, read_image, read_label
from eseg_ros.labels import ClassSet

PANELS = 6
"""Samples of a split that its report shows."""


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What one split holds.

    Attributes:
        split: its name.
        frames: frames, good or bad.
        labeled: whether the split has labels.
        sequences: drives, where the data set names them.
        sizes: (width, height) -> number of good frames of that size.
        histogram: (256,) int64, pixels by id over all good labels.
        problems: one line a bad file, each naming the file.
        panels: a few good frames, (H, W, 3) RGB, with their ids (H, W), evenly spread over the split.
    """

    split: str
    frames: int
    labeled: bool
    sequences: tuple[str, ...]
    sizes: dict[tuple[int, int], int]
    histogram: npt.NDArray[np.int64]
    problems: tuple[str, ...]
    panels: tuple[tuple[Image, Image], ...]


def check_dataset(root: Path, classes: ClassSet, layout: Layout) -> list[SplitCheck]:
    """Checks every split under `root`, sorted by name.

    Raises:
        DataError: there is no split under `root`, or its labels do not give these classes.
    """
    splits = layout.splits(root) if root.is_dir() else []
    if not splits:
        raise DataError(f"{root}: no data set of layout {layout.name} here; expected {layout.expected}")
    samples = {split: sorted(layout.samples(root, split), key=lambda sample: sample.name) for split in splits}
    used = {sample.label for listed in samples.values() for sample in listed}
    return [_check_split(root, split, samples[split], used, classes, layout) for split in splits]


def _check_split(
    root: Path, split: str, samples: list[Sample], used: Set[Path | None], classes: ClassSet, layout: Layout
) -> SplitCheck:
    """Reads every frame of a split with its label, in parallel; `used` are the labels of all splits."""
    coding = layout.coding(classes)
    problems = list(_unpaired(samples, used))
    if not samples:
        problems.append(f"{root}: split {split!r} has no frames (.jpg or .png); expected {layout.expected}")
    elif not problems:
        try:
            list_samples(root, split, layout)  # what training would say of the split as a whole
        except DataError as error:
            problems.append(str(error))
    readable = [sample for sample in samples if sample.label is None or sample.label.is_file()]
    shown = set(np.linspace(0, len(readable) - 1, min(PANELS, len(readable))).round().astype(int).tolist())
    sizes: dict[tuple[int, int], int] = {}
    histogram = np.zeros(256, np.int64)
    panels = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(partial(_read_pair, coding, classes.ignore_id), readable)
        bar = tqdm(results, total=len(readable), desc=f"check {split}", unit="frame", disable=None)
        for index, (sample, (problem, size, counts)) in enumerate(zip(readable, bar, strict=True)):
            if problem:
                problems.append(problem)
                continue
            sizes[size] = sizes.get(size, 0) + 1
            histogram += counts
            if index in shown and sample.label is not None:
                panels.append((read_image(sample.image), read_label(sample.label, coding)))
    return SplitCheck(
        split=split,
        frames=len(samples),
        labeled=any(sample.label is not None for sample in samples),
        sequences=tuple(sorted({sample.sequence for sample in samples} - {""})),
        sizes=sizes,
        histogram=histogram,
        problems=tuple(sorted(problems)),
        panels=tuple(panels),
    )


def _unpaired(samples: Iterable[Sample], used: Set[Path | None]) -> Iterator[str]:
    """Frames without a label, and labels of the same kind in the same folders without a frame in any split."""
    endings: dict[Path, set[str]] = {}
    for sample in samples:
        if sample.label is None:
            continue
        endings.setdefault(sample.label.parent, set()).add(sample.label.name.removeprefix(sample.name))
        if not sample.label.is_file():
            yield f"{sample.image}: no label {sample.label}"
    for folder, kinds in endings.items():
        for label in folder.glob("*.png"):
            if label not in used and label.name.endswith(tuple(kinds)):
                yield f"{label}: no frame of this name"


def _read_pair(
    coding: LabelCoding, ignore_id: int, sample: Sample
) -> tuple[str, tuple[int, int], npt.NDArray[np.int64]]:
    """What is wrong with a frame ("" = nothing), its (width, height) and its pixels by id."""
    nothing = np.zeros(256, np.int64)
    try:
        image = read_image(sample.image)
        size = (image.shape[1], image.shape[0])
        if sample.label is None:
            return "", size, nothing
        label = read_label(sample.label, coding)
    except (DataError, cv2.error) as error:
        return str(error), (0, 0), nothing
    if image.shape[:2] != label.shape:
        return f"{sample.label}: {label.shape[::-1]} pixels, but its frame has {size}", size, nothing
    if (label == ignore_id).all():
        return f"{sample.label}: no pixel has a class", size, nothing
    return "", size, np.bincount(label.ravel(), minlength=256)
