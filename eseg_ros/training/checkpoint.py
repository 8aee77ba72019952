"""What a checkpoint says about itself, and how it is exported from.

A checkpoint is Lightning's own (weights, optimizer, schedule, loops: all that a resumed run needs) with one entry more,
`training_record`, so that whoever exports it needs no other file.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eseg_ros.errors import EsegError
from eseg_ros.labels import ClassSet, class_set
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.models.zoo import build_model

RECORD_KEY = "training_record"
"""Entry of a checkpoint that holds its TrainingRecord as plain values."""

EMA_PREFIX = "ema."
"""Prefix, in a checkpoint's state_dict, of the averaged weights."""


class CheckpointError(EsegError):
    """A checkpoint that cannot be read or does not fit."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How the weights in a checkpoint came about.

    Attributes:
        model: name for `eseg_ros.models.zoo.build_model`.
        classes: what its scores mean.
        mean: RGB mean of the normalisation, on a 0..1 scale.
        std: RGB standard deviation of the normalisation, on a 0..1 scale.
        config: the resolved recipe as plain values.
        epochs: epochs trained when the checkpoint was written.
        scores: last validation of these weights, "NAME/miou", "NAME/pixel_accuracy" and "NAME/iou/CLASS" for each set;
            empty before the first validation.
        best_miou: best mean mIoU over the validation sets so far, None before the first validation.
        torch_version: of the training process.
    """

    model: str
    classes: ClassSet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    config: dict[str, Any]
    epochs: int
    scores: dict[str, float]
    best_miou: float | None
    torch_version: str


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint at `path` as a dictionary, tensors on the CPU. Never executes code from the file.

    Raises:
        CheckpointError: missing, cut, or not a checkpoint of this trainer.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; a run keeps best.ckpt and last.ckpt in its folder"
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint (cut or foreign): {error}") from error
    if not isinstance(checkpoint, dict) or RECORD_KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of `eseg train`: it has no {RECORD_KEY!r}")
    return checkpoint


def record_to_dict(record: TrainingRecord) -> dict[str, Any]:
    """The record as plain values for a checkpoint."""
    return asdict(record)


def record_of(checkpoint: dict[str, Any]) -> TrainingRecord:
    """The record in a checkpoint that `read_checkpoint` gave."""
    fields = dict(checkpoint[RECORD_KEY])
    classes = fields["classes"]
    if isinstance(classes, str):  # as the first versions wrote it
        classes = asdict(class_set(classes))
    tuples = {name: tuple(fields[name]) for name in ("mean", "std")}
    return TrainingRecord(**{**fields, **tuples, "classes": ClassSet.from_dict(classes)})


def ema_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The averaged weights in a checkpoint, under the network's own names."""
    state = checkpoint["state_dict"]
    return {name.removeprefix(EMA_PREFIX): value for name, value in state.items() if name.startswith(EMA_PREFIX)}


def load_for_export(path: Path) -> tuple[SegmentationNetwork, TrainingRecord]:
    """The averaged network of a checkpoint, float32 on the CPU in eval mode, and how it was trained.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not fit the model it names.
    """
    checkpoint = read_checkpoint(path)
    record = record_of(checkpoint)
    net = build_model(record.model, len(record.classes))
    try:
        net.load_state_dict(ema_weights(checkpoint))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit {record.model} as this version builds it: {error}"
        ) from None
    return net.eval(), record


def whole_modules(net: nn.Module, names: Collection[str]) -> list[str]:
    """Entries of a network for a person to read: where all of a module's are among `names`, the module's name."""
    entries, missing = list(net.state_dict()), set(names)
    outermost: list[str] = []
    for module, _ in net.named_modules():  # outer ones before what they hold
        own = {name for name in entries if name.startswith(f"{module}.")}
        if own and own <= missing:
            outermost.append(module)
            missing -= own
    return outermost + [name for name in names if name in missing]
