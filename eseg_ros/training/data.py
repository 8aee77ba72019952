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
from eseg_ros.training.augment import Pasted, augment
from eseg_ros.training.config import AugmentConfig, SourceConfig, TrainConfig, ValidationConfig
from eseg_ros.training.processes import ALONE, Process


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
        include: only frames whose names begin with one of these; () for all.
        exclude: no frames whose names begin with one of these.
        cache: decode every frame now and keep it; later processes share the memory.

    Raises:
        DataError: no frames, a frame without a label, or (on reading) a bad file.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        classes: ClassSet,
        *,
        layout: str = "auto",
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        cache: bool,
    ) -> None:
        kept = find_layout(root, layout)
        self._coding = kept.coding(classes)
        self._samples = list_samples(root, split, kept, labels="needed", include=include, exclude=exclude)
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
        classes: ClassSet,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._folders = folders
        self._ends = np.cumsum([len(folder) for folder in folders])
        self._config = config
        self._seed = seed
        self._pad_color = pad_color
        self._ignore_id = classes.ignore_id
        self._paste_ids = [classes.names.index(name) for name in config.paste.classes] if config.paste else []
        self._size = size

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        source = int(np.searchsorted(self._ends, draw.frame, side="right"))
        first = int(self._ends[source - 1]) if source else 0
        folder = self._folders[source]
        image, label = folder[draw.frame - first]
        rng = np.random.default_rng((self._seed, draw.epoch, draw.position))
        pasted = None
        if (paste := self._config.paste) and rng.random() < paste.probability:
            pasted = Pasted(*folder[int(rng.integers(len(folder)))], self._paste_ids)
        image, label = augment(image, label, self._config, rng, self._pad_color, self._ignore_id, self._size, pasted)
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


class StepSampler(Sampler[Draw]):
    """One process's part of an epoch's draws: of every step the same share, whole steps only.

    Args:
        epoch: all draws.
        batch_size: draws that a step takes, over all processes.
        at_once: draws that a process takes at a time.
        process: which part; its `world` times `at_once` divide `batch_size`.
    """

    def __init__(self, epoch: EpochSampler, batch_size: int, at_once: int, process: Process) -> None:
        self._epoch = epoch
        self._used = len(epoch) // batch_size * batch_size  # a short last step would skew batch norm
        self._at_once = at_once
        self._process = process

    def set_epoch(self, epoch: int) -> None:
        self._epoch.set_epoch(epoch)

    def __len__(self) -> int:
        return self._used // self._process.world

    def __iter__(self) -> Iterator[Draw]:
        for draw in self._epoch:
            turn = draw.position // self._at_once
            if draw.position < self._used and turn % self._process.world == self._process.rank:
                yield draw


class ValidationFrames(Dataset[tuple[Tensor, Tensor]]):
    """Frames of one folder: [i] is (image (h, w, 3) uint8 RGB of `size` or its own, label (H, W) uint8 as it is).

    Attributes:
        names: of the frames.
    """

    def __init__(self, folder: SegmentationFolder, size: tuple[int, int] | None = None) -> None:
        self.names = folder.names
        self._folder = folder
        self._size = size

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self._folder[index]
        if self._size:
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        return torch.from_numpy(image), torch.from_numpy(label)


def training_loader(config: TrainConfig, epoch: int = 0, process: Process = ALONE) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (B, h, w, 3) uint8 RGB and (B, h, w) uint8 of all training sources, first those of `epoch`.

    A batch is what `process` takes in one pass: of `data.batch_size` its part, divided by `accumulate`.

    Raises:
        DataError: a source is missing or bad, an epoch has fewer frames than a step, or a step's frames cannot be
            divided evenly.
    """
    classes, data = find_class_set(config.classes), config.data
    at_once, rest = divmod(data.batch_size, config.accumulate * process.world)
    if rest:
        raise DataError(
            f"data.batch_size {data.batch_size} cannot be divided among {process.world} processes that accumulate "
            f"{config.accumulate} passes; make it a multiple of {config.accumulate * process.world}"
        )
    folders = [_folder(config, source, classes) for source in data.train]
    red, green, blue = (255 * mean for mean in data.mean)
    frames = TrainingFrames(folders, config.augment, config.seed, (red, green, blue), classes, data.size)
    sampler = EpochSampler([len(folder) for folder in folders], [s.repeat for s in data.train], config.seed)
    sampler.set_epoch(epoch)
    if len(sampler) < data.batch_size:
        raise DataError(f"an epoch has {len(sampler)} frames but data.batch_size is {data.batch_size}; lower it")
    return DataLoader(
        frames,
        batch_size=at_once,
        sampler=StepSampler(sampler, data.batch_size, at_once, process),
        num_workers=data.num_workers,
        persistent_workers=data.num_workers > 0,
        worker_init_fn=_single_threaded,
    )


def sample_batches(loader: DataLoader[tuple[Tensor, Tensor]], frames: int = 64) -> Iterator[Tensor]:
    """Images (B, h, w, 3) uint8 RGB as `loader`, a training loader, gives them, of frames from all over its sources.

    Args:
        loader: is not advanced.
        frames: about how many.
    """
    source, at_once = loader.dataset, loader.batch_size
    assert isinstance(source, TrainingFrames)
    assert at_once is not None
    chosen = np.linspace(0, len(source) - 1, -(-frames // at_once) * at_once).astype(int)
    for position in range(0, len(chosen), at_once):
        draws = [Draw(0, position + i, int(frame)) for i, frame in enumerate(chosen[position : position + at_once])]
        yield torch.stack([source[draw][0] for draw in draws])


def validation_sets(config: TrainConfig) -> list[ValidationFrames]:
    """The frames of each validation set.

    Raises:
        DataError: a set is missing or bad.
    """
    classes = find_class_set(config.classes)
    folders = [_folder(config, source, classes) for source in config.data.validate]
    return [ValidationFrames(folder, config.data.size) for folder in folders]


def _folder(config: TrainConfig, source: SourceConfig | ValidationConfig, classes: ClassSet) -> SegmentationFolder:
    return SegmentationFolder(
        config.root_of(source),
        source.split,
        classes,
        layout=source.layout,
        include=source.include,
        exclude=source.exclude,
        cache=config.data.cache,
    )


def validation_loader(frames: ValidationFrames, process: Process = ALONE) -> DataLoader[tuple[Tensor, Tensor]]:
    """Single frames (sizes may differ) of a set: every one that is this process's turn."""
    return DataLoader(frames, batch_size=1, sampler=range(process.rank, len(frames), process.world))


def _single_threaded(_worker: int) -> None:
    """Loader processes leave the cores to the training process."""
    cv2.setNumThreads(0)
