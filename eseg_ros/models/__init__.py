"""PyTorch networks, one file a family, made by name."""

from __future__ import annotations

from eseg_ros.models.eseg import ESEG_CONFIGS, Eseg, EsegConfig

MODELS: dict[str, EsegConfig] = {**ESEG_CONFIGS}
"""Every network that `build_model` makes, by name."""


def build_model(name: str, num_classes: int, *, drop_connect: float = 0.0) -> Eseg:
    """The network called `name`, freshly initialized, in training mode.

    Args:
        name: a key of `MODELS`, e.g. "eseg_lite_s".
        num_classes: channels of the scores, at least 2.
        drop_connect: stochastic depth rate that the encoder's blocks grow to, from 0 at the first; training only.

    Raises:
        ValueError: no such network, or too few classes.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    if num_classes < 2:
        raise ValueError(f"a segmentation model tells at least 2 classes apart; got num_classes={num_classes}")
    return Eseg(MODELS[name], num_classes, drop_connect=drop_connect)


def build_deployed(name: str, num_classes: int) -> Eseg:
    """The network called `name` in the form that `Eseg.deploy` gives, to load an engine's weights into.

    Raises:
        ValueError: no such network, or too few classes.
    """
    return build_model(name, num_classes).deploy()
