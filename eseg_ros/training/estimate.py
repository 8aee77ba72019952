"""What a recipe will take: a few real steps on random frames, multiplied."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eseg_ros.data.class_file import find_class_set
from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import DataError, read_image
from eseg_ros.training.config import SourceConfig, TrainConfig, ValidationConfig
from eseg_ros.training.data import EpochSampler
from eseg_ros.training.environment import device_description, training_device
from eseg_ros.training.faults import named_faults
from eseg_ros.training.trainer import SegmentationTask, quiet_lightning

STEPS = 2
"""Steps that are timed, after a first one that is not."""
MOST_FRAMES_ON_CPU = 4
"""Larger passes are measured with this many frames on a CPU, whose time and memory go with their number."""
_BYTES_PER_PIXEL = 4
"""Of a cached frame: its colors and its label."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of a recipe on the data that is there.

    Attributes:
        frames: that it shows.
        steps: of the optimizer.
        cache_bytes: of all sources' and validation sets' frames in memory; 0 for a recipe that keeps none.
    """

    frames: int
    steps: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step of a recipe takes on the device that would train.

    Attributes:
        seconds: without waiting for data.
        peak_bytes: of the GPU's memory, or, on a CPU, of the process.
        frames: in a measured pass.
        passes: frames of the recipe's step, as multiples of `frames`, which the figures were multiplied by.
    """

    seconds: float
    peak_bytes: int
    frames: int
    passes: float


def count_epoch(config: TrainConfig) -> Epoch:
    """An epoch's frames, counted by their files; one frame of each source is read.

    Raises:
        DataError: the data is not there, or bad.
    """
    classes, data = find_class_set(config.classes), config.data
    sizes, cache_bytes = [], 0
    sources: tuple[SourceConfig | ValidationConfig, ...] = (*data.train, *data.validate)
    for source in sources:
        root = config.root_of(source)
        layout = find_layout(root, source.layout)
        layout.coding(classes)
        samples = list_samples(root, source.split, layout, include=source.include, exclude=source.exclude)
        sizes.append(len(samples))
        height, width = read_image(samples[0].image).shape[:2]
        cache_bytes += len(samples) * height * width * _BYTES_PER_PIXEL if data.cache else 0
    frames = len(EpochSampler(sizes[: len(data.train)], [source.repeat for source in data.train], config.seed))
    return Epoch(frames, frames // data.batch_size, cache_bytes)


def measure_step(config: TrainConfig) -> StepCost:
    """Trains a few steps on random frames of the recipe's crop size and says what they took.

    The steps are the trainer's own: forward, loss, teacher, backward, optimizer, average of weights, in the recipe's
    precision. Nothing is written.

    Raises:
        EsegError: the recipe cannot be trained on this device, for example for lack of memory.
    """
    quiet_lightning()
    whole = config.data.batch_size // config.accumulate
    device = training_device()
    frames = whole if device.type == "cuda" else min(whole, MOST_FRAMES_ON_CPU)
    task = SegmentationTask(replace(config, accumulate=1))
    before, clock = _peak_bytes(device), _StepClock()
    trainer = L.Trainer(
        max_steps=STEPS + 1,
        precision=config.precision,
        gradient_clip_val=config.optimizer.clip_norm or None,
        callbacks=[clock],
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [_random_batch(config, frames, task) for _ in range(STEPS + 1)]
    with named_faults(config):
        trainer.fit(task, DataLoader(cast("Dataset[Any]", batches), batch_size=None))
    passes = config.data.batch_size / frames
    scale = whole / frames  # of what a pass holds; on a GPU 1
    peak = before + round((_peak_bytes(device) - before) * scale)
    return StepCost(statistics.median(clock.seconds[1:]) * passes, peak, frames, passes)


def estimate_text(config: TrainConfig) -> str:
    """What `count_epoch` and `measure_step` found, for the terminal."""
    cost = measure_step(config)
    lines = [
        f"a step of {config.data.batch_size} frames: about {cost.seconds:.2g} s and {_gib(cost.peak_bytes)} of memory "
        f"on this device ({device_description()})"
    ]
    try:
        epoch = count_epoch(config)
    except DataError as error:
        lines.append(f"how long the run takes is not known without its data: {error}")
    else:
        hours = epoch.steps * config.epochs * cost.seconds / 3600
        lines.append(
            f"{config.epochs} epochs of {epoch.frames} frames, {epoch.steps} steps: about {hours:.2g} h, and "
            f"{_gib(epoch.cache_bytes)} of memory for cached frames"
        )
    lines.append(
        f"An estimate: the median of {STEPS} steps of {cost.frames} random frames, times {cost.passes:g}; validation, "
        "waiting for data, and what else the machine does come on top."
    )
    return "\n".join(lines)


class _StepClock(Callback):
    """Times steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(self._now() - self._start)

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else only the launches are timed
        return time.perf_counter()


def _random_batch(config: TrainConfig, frames: int, task: SegmentationTask) -> tuple[Tensor, Tensor]:
    height, width = config.augment.crop
    image = torch.randint(256, (frames, height, width, 3), dtype=torch.uint8)
    label = torch.randint(len(task.classes), (frames, height, width), dtype=torch.uint8)
    return image, label


def _peak_bytes(device: torch.device) -> int:
    """The most memory so far: of PyTorch on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2g} GiB"
