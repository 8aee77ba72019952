"""Frames and labels of data sets, in the order and with the augmentation that seed and epoch decide.

Nothing here depends on the number of loader processes: a sampler draws (epoch, position, frame) in the training
process, and a frame's augmentation is seeded by these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from eseg_ros.data.class_file import find_class_set
from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import DataError, Image, read_image, read_label
from eseg_ros.labels import ClassSet
from eseg_ros.training.augment import augment
from eseg_ros.training.config import AugmentConfig, TrainConfig


class Draw(NamedTuple):
    """One training frame of one epoch: which `frame`, and where in the epoch it comes (`position`)."""

    epoch: int
    position: int
    frame: int


class SegmentationFolder(Dataset[tuple[Image, Image]]):
    """The labeled frames of a split: [i] is (image (H, W, 3) uint8 RGB, label (H, W) uint8).

    Args:
        root: root of the data set.
        split: name of the split.
        classes: what is to be learnt.
        layout: how the data set is kept, see `eseg_ros.data.layouts`.
        cache: decode every frame now and keep it; later processes share the memory.

    Raises:
        DataError: no frames, a frame without a label, or (on reading) a bad file.
    """

    def __init__(self, root: Path, split: str, classes: ClassSet, *, layout: str = "auto", cache: bool) -> None:
        kept = find_layout(root, layout)
        self._coding = kept.coding(classes)
        self._samples = list_samples(root, split, kept)
        unlabeled = next((sample for sample in self._samples if sample.label is None), None)
        if unlabeled:
            raise DataError(f"{unlabeled.image}: has no label, so split {split!r} of {root} cannot be trained on")
        self.names = [sample.name for sample in self._samples]
        self._cache: list[tuple[Image, Image]] | None = None
        if cache:
            bar = tqdm(range(len(self)), desc=f"reading {root} {split}", unit="frame", leave=False, disable=None)
            self._cache = [self._read(index) for index in bar]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        return self._read(index) if self._cache is None else self._cache[index]

    def _read(self, index: int) -> tuple[Image, Image]:
        sample = self._samples[index]
        assert sample.label is not None
        image, label = read_image(sample.image), read_label(sample.label, self._coding)
        if image.shape[:2] != label.shape:
            raise DataError(f"{sample.label}: {label.shape[::-1]} pixels, but its frame has {image.shape[1::-1]}")
        return image, label


class TrainingFrames(Dataset[tuple[Tensor, Tensor]]):
    """Augmented frames of several folders: [draw] is (image (h, w, 3) uint8 RGB, label (h, w) uint8) of crop size."""

    def __init__(
        self,
        folders: Sequence[SegmentationFolder],
        config: AugmentConfig,
        seed: int,
        pad_color: tuple[float, float, float],
        ignore_id: int,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._folders = folders
        self._ends = np.cumsum([len(folder) for folder in folders])
        self._config = config
        self._seed = seed
        self._pad_color = pad_color
        self._ignore_id = ignore_id
        self._size = size

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        source = int(np.searchsorted(self._ends, draw.frame, side="right"))
        first = int(self._ends[source - 1]) if source else 0
        image, label = self._folders[source][draw.frame - first]
        rng = np.random.default_rng((self._seed, draw.epoch, draw.position))
        image, label = augment(image, label, self._config, rng, self._pad_color, self._ignore_id, self._size)
        return torch.from_numpy(image), torch.from_numpy(label)


class EpochSampler(Sampler[Draw]):
    """Shuffled draws of one epoch; `set_epoch`, called by the trainer, chooses which.

    Each source is an endless row of permutations of which every epoch takes the next `repeat * size` frames, so that
    over the epochs all frames of a source come equally often, whatever its repeat.
    """

    def __init__(self, sizes: Sequence[int], repeats: Sequence[float], seed: int) -> None:
        self._sizes = sizes
        self._counts = [max(1, round(size * repeat)) for size, repeat in zip(sizes, repeats, strict=True)]
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[Draw]:
        firsts = np.cumsum([0, *self._sizes[:-1]])
        indices = np.concatenate([first + self._frames(source) for source, first in enumerate(firsts)])
        np.random.default_rng((self._seed, self._epoch)).shuffle(indices)
        for position, index in enumerate(indices):
            yield Draw(self._epoch, position, int(index))

    def _frames(self, source: int) -> npt.NDArray[np.int64]:
        """Frames of one source for this epoch, indices within the source."""
        size, count = self._sizes[source], self._counts[source]
        begin, end = self._epoch * count, (self._epoch + 1) * count
        rounds = range(begin // size, -(-end // size))
        row = np.concatenate([np.random.default_rng((self._seed, source, turn)).permutation(size) for turn in rounds])
        offset = rounds.start * size
        return row[begin - offset : end - offset]


class ValidationFrames(Dataset[tuple[Tensor, Tensor]]):
    """Frames of one folder: [i] is (image (h, w, 3) uint8 RGB of `size` or its own, label (H, W) uint8 as it is)."""

    def __init__(self, folder: SegmentationFolder, size: tuple[int, int] | None = None) -> None:
        self._folder = folder
        self._size = size

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self._folder[index]
        if self._size:
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        return torch.from_numpy(image), torch.from_numpy(label)


def training_loader(config: TrainConfig, epoch: int = 0) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (B, h, w, 3) uint8 RGB and (B, h, w) uint8 of all training sources, first those of `epoch`.

    Raises:
        DataError: a source is missing or bad, or an epoch has fewer frames than a batch.
    """
    classes, data = find_class_set(config.classes), config.data
    folders = [
        SegmentationFolder(config.root_of(source), source.split, classes, layout=source.layout, cache=data.cache)
        for source in data.train
    ]
    red, green, blue = (255 * mean for mean in data.mean)
    frames = TrainingFrames(folders, config.augment, config.seed, (red, green, blue), classes.ignore_id, data.size)
    sampler = EpochSampler([len(folder) for folder in folders], [s.repeat for s in data.train], config.seed)
    sampler.set_epoch(epoch)
    if len(sampler) < data.batch_size:
        raise DataError(f"an epoch has {len(sampler)} frames but data.batch_size is {data.batch_size}; lower it")
    return DataLoader(
        frames,
        batch_size=data.batch_size,
        sampler=sampler,
        num_workers=data.num_workers,
        persistent_workers=data.num_workers > 0,
        worker_init_fn=_single_threaded,
        drop_last=True,  # a short last batch would skew batch norm
    )


def validation_loaders(config: TrainConfig) -> list[DataLoader[tuple[Tensor, Tensor]]]:
    """One loader of single frames (sizes may differ) for each validation set.

    Raises:
        DataError: a set is missing or bad.
    """
    classes = find_class_set(config.classes)
    return [
        DataLoader(
            ValidationFrames(
                SegmentationFolder(
                    config.root_of(source), source.split, classes, layout=source.layout, cache=config.data.cache
                ),
                config.data.size,
            ),
            batch_size=1,
        )
        for source in config.data.validate
    ]


def _single_threaded(_worker: int) -> None:
    """Loader processes leave the cores to the training process."""
    cv2.setNumThreads(0)
