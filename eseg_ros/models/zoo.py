"""The table of all networks, and how one is made by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from eseg_ros.errors import UsageError
from eseg_ros.models.eseg import ESEG_CONFIGS, Eseg
from eseg_ros.models.fast_scnn import FastScnn
from eseg_ros.models.mfaranet import Mfaranet
from eseg_ros.models.network import SegmentationNetwork


@dataclass(frozen=True)
class Model:
    """A row of the table. Its figures are for 19 classes (Cityscapes); tests hold every row to them.

    Attributes:
        build: makes the network for a number of classes, freshly initialized.
        parameters: of the form for inference, millions.
        macs: multiply-adds of an image of 1024x2048 pixels, billions.
        good_for: what to choose it for, in a few words.
    """

    build: Callable[[int], SegmentationNetwork]
    parameters: float
    macs: float
    good_for: str


def _eseg(name: str) -> Callable[[int], SegmentationNetwork]:
    return partial(Eseg, ESEG_CONFIGS[name])


MODELS: dict[str, Model] = {
    "eseg_lite_s": Model(_eseg("eseg_lite_s"), 3.59, 17.14, "CPUs and small GPUs; where to start"),
    "eseg_lite_m": Model(_eseg("eseg_lite_m"), 9.74, 42.71, "a GPU on the vehicle"),
    "eseg_lite_l": Model(_eseg("eseg_lite_l"), 28.39, 114.86, "the most accurate of those made for real time"),
    "eseg_s": Model(
        _eseg("eseg_s"), 6.86, 33.84, "thin things, which scores at stride 4 resolve, at few multiply-adds"
    ),
    "eseg_m": Model(_eseg("eseg_m"), 19.99, 110.33, "labeling offline, teaching smaller ones"),
    "eseg_l": Model(_eseg("eseg_l"), 70.50, 339.77, "as eseg_m, where accuracy is all that counts"),
    "eseg_mobile": Model(
        _eseg("eseg_mobile"),
        3.15,
        17.40,
        "few training frames: its encoder starts from ImageNet; thin things, on a CPU too",
    ),
    "fast_scnn": Model(FastScnn, 1.14, 6.71, "the least computing; the field's baseline"),
    "mfaranet": Model(Mfaranet, 13.00, 218.15, "a strong GPU: the scores of four scales, weighed at each pixel"),
    "mfaranet_pruned": Model(
        partial(Mfaranet, pruned=True), 12.21, 174.67, "MFARANet for a fifth less: the scores of one scale"
    ),
}
"""Every network that `build_model` makes, by name."""


def build_model(name: str, num_classes: int) -> SegmentationNetwork:
    """The network called `name`, freshly initialized, in training mode.

    Args:
        name: a key of `MODELS`, e.g. "eseg_lite_s".
        num_classes: channels of the scores, at least 2.

    Raises:
        UsageError: no such network, or too few classes.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    if num_classes < 2:
        raise UsageError(f"a segmentation model tells at least 2 classes apart; got num_classes={num_classes}")
    return MODELS[name].build(num_classes)


def build_deployed(name: str, num_classes: int) -> SegmentationNetwork:
    """The network called `name` in the form that `deploy` gives, to load an engine's weights into.

    Raises:
        UsageError: no such network, or too few classes.
    """
    return build_model(name, num_classes).deploy()
