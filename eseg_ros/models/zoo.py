"""The table of all networks, and how one is made by name.

A name may change parts of a member of the ESeg family: `eseg_lite_s+min_level=2+bifpn_channels=48`. Such a variant is
trained, exported and measured like a row of the table, which is how one finds out whether it should become one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from eseg_ros.errors import UsageError
from eseg_ros.models.eseg import ENCODER_LEVELS, ESEG_CONFIGS, Eseg
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
    "eseg_lite_fast": Model(
        _eseg("eseg_lite_fast"), 1.72, 9.94, "as accurate as ESeg-Lite-S in two thirds of its time"
    ),
    "eseg_mobile": Model(
        _eseg("eseg_mobile"),
        3.06,
        17.39,
        "few training frames: its encoder starts from ImageNet; thin things, on a CPU too",
    ),
    "fast_scnn": Model(FastScnn, 1.14, 6.71, "the least computing; the field's baseline"),
    "mfaranet": Model(Mfaranet, 13.00, 218.15, "a strong GPU: the scores of four scales, weighed at each pixel"),
    "mfaranet_pruned": Model(
        partial(Mfaranet, pruned=True), 12.21, 174.67, "MFARANet for a fifth less: the scores of one scale"
    ),
}
"""Every network that `build_model` makes, by name."""

_PARTS: dict[str, tuple[type[int] | type[float], str]] = {
    "encoder_width": (float, "0.5"),
    "encoder_depth": (float, "0.6"),
    "bifpn_channels": (int, "48"),
    "bifpn_repeats": (int, "2"),
    "min_level": (int, "2"),
    "max_level": (int, "7"),
    "fused_stages": (int, "1,2"),
    "kernel": (int, "3"),
    "expansion": (int, "4"),
    "auxiliary_level": (int, "4"),
}
"""Parts of an `EsegConfig` that a variant may change: the type of their numbers and an example."""


def build_model(name: str, num_classes: int) -> SegmentationNetwork:
    """The network called `name`, freshly initialized, in training mode.

    Args:
        name: a key of `MODELS`, e.g. "eseg_lite_s", or a variant of one: "eseg_lite_s+max_level=7".
        num_classes: channels of the scores, at least 2.

    Raises:
        UsageError: no such network, or too few classes.
    """
    if num_classes < 2:
        raise UsageError(f"a segmentation model tells at least 2 classes apart; got num_classes={num_classes}")
    model, *changes = name.split("+")
    if model not in MODELS:
        raise UsageError(f"unknown model {model!r}; expected one of {', '.join(MODELS)}")
    if not changes:
        return MODELS[model].build(num_classes)
    if model not in ESEG_CONFIGS:
        raise UsageError(f"{name}: only members of the ESeg family have variants: {', '.join(ESEG_CONFIGS)}")
    config = dataclasses.replace(ESEG_CONFIGS[model], **dict(_change(change, name) for change in changes))
    if config.kernel and config.kernel % 2 == 0:
        raise UsageError(f"{name}: kernel {config.kernel}: expected an odd number")
    if not 1 <= config.min_level < config.max_level:
        raise UsageError(f"{name}: levels go from min_level, at least 1, up to a greater max_level")
    if config.auxiliary_level and config.auxiliary_level > ENCODER_LEVELS:
        raise UsageError(
            f"{name}: auxiliary_level {config.auxiliary_level}: the encoder has levels 1 to {ENCODER_LEVELS}"
        )
    return Eseg(config, num_classes)


def _change(text: str, name: str) -> tuple[str, Any]:
    """Name and value of a changed part of a variant: "max_level=7", "fused_stages=1,2".

    Raises:
        UsageError: there is no such part, or the value is none for it.
    """
    key, _, value = text.partition("=")
    if key not in _PARTS:
        raise UsageError(f"{name}: unknown part {key!r}; expected some of {', '.join(_PARTS)}")
    kind, example = _PARTS[key]
    try:
        numbers = tuple(kind(number) for number in value.split(","))
    except ValueError:
        numbers = ()
    alone = key != "fused_stages"
    if not numbers or min(numbers) < 0 or (alone and (len(numbers) > 1 or numbers[0] == 0)):
        raise UsageError(f"{name}: {value!r} is no value of {key}; expected a number above 0, for example {example}")
    return key, numbers[0] if alone else numbers


def build_deployed(name: str, num_classes: int) -> SegmentationNetwork:
    """The network called `name` in the form that `deploy` gives, to load an engine's weights into.

    Raises:
        UsageError: no such network, or too few classes.
    """
    return build_model(name, num_classes).deploy()
