"""Recipes: YAML files that become frozen, checked dataclasses.

A recipe may name a `base:` recipe (a path relative to its own file); mappings are merged key by key, everything
else, lists included, is replaced. `key=value` overrides from the command line come last and use dotted keys, with
numbers for list positions: `optimizer.lr=1e-3`, `data.train.0.repeat=2`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from eseg_ros.data.class_file import find_class_set
from eseg_ros.data.reading import DataError
from eseg_ros.errors import EsegError

T = TypeVar("T")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConfigError(EsegError):
    """A recipe that cannot be used. The message names the file or key and what was expected there."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One split of a data set to train on.

    Attributes:
        root: root of the data set; without it, `data.root`.
        split: name of the split.
        layout: how the data set is kept, see `eseg_ros.data.layouts`; "auto" goes by what lies in its root.
        repeat: how often an epoch shows each frame. 0.5 shows half of the frames, another half in the next epoch.
        include: only frames whose names begin with one of these, such as a drive's; without any, all.
        exclude: no frames whose names begin with one of these, such as a drive that is held out.
    """

    root: Path | None = None
    split: str = "train"
    layout: str = "auto"
    repeat: float = 1.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """One named split to validate on, see `SourceConfig`; the best checkpoint is chosen on the mean mIoU of all."""

    name: str
    root: Path | None = None
    split: str = "val"
    layout: str = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where frames come from and how they are loaded.

    Attributes:
        root: root of every source that names none.
        train: sources of training frames, concatenated.
        validate: named validation sets.
        batch_size: frames a step of the optimizer, over all devices and accumulated passes.
        num_workers: loader processes; 0 loads in the training process.
        cache: keep decoded frames in memory; one of 480x360 with its label takes 0.7 MB.
        size: (height, width) to which frames are resized before anything else, as the node does for the engine; none
            keeps each frame's own. Scores are always those of the frame's own size.
        mean: RGB mean of the normalisation, on a 0..1 scale.
        std: RGB standard deviation of the normalisation, on a 0..1 scale.
    """

    root: Path | None = None
    train: tuple[SourceConfig, ...] = (SourceConfig(),)
    validate: tuple[ValidationConfig, ...] = (ValidationConfig("val"),)
    batch_size: int = 8
    num_workers: int = 1
    cache: bool = True
    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, slots=True)
class PasteConfig:
    """Copy-paste of rare classes: what another frame shows of them is pasted over a frame, at the same place.

    Attributes:
        classes: names of the classes that are pasted.
        probability: that a frame gets any.
    """

    classes: tuple[str, ...]
    probability: float = 0.5


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Random changes of a training frame; see `eseg_ros.training.augment`.

    Attributes:
        crop: (height, width) of what the network sees, pixels.
        scale: smallest and largest factor of the scale jitter, drawn log-uniformly.
        rotation: turn of the frame about the crop's center within -+ this, degrees.
        flip: probability of a mirrored frame.
        brightness: gain within 1 -+ this.
        contrast: spread about the frame's mean within 1 -+ this.
        saturation: distance from gray within 1 -+ this.
        hue: turn of the color axis within -+ this, degrees.
        blur: probability of a Gaussian blur, sigma 0.3 to 1.5 pixels.
        noise: probability of Gaussian noise, sigma 2 to 12 of 255.
        paste: classes that are pasted from other frames of the same source, or none.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    paste: PasteConfig | None = None


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Cross-entropy on hard pixels; see `eseg_ros.training.losses`.

    Attributes:
        threshold: a pixel is hard while the probability of its class is below this; 1 keeps every pixel.
        min_kept: at least this share of the labelled pixels is kept.
        class_weights: one weight a class, or none.
        label_smoothing: share of the target spread evenly over all classes.
    """

    threshold: float = 0.7
    min_kept: float = 1 / 16
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """The optimizer and its schedule: linear warm-up, then decay to zero, by step.

    Attributes:
        name: "sgd" or "adamw".
        lr: peak learning rate.
        schedule: of the decay: "cosine", half a period of it, or "poly", (1 - progress)^0.9.
        weight_decay: not applied to biases, norms and other vectors.
        momentum: of SGD.
        nesterov: of SGD.
        warmup_epochs: length of the linear warm-up.
        clip_norm: gradients are clipped to this norm; 0 leaves them alone.
        encoder_lr: factor on the rate of the network's `encoder`; below 1 for one that starts from ImageNet.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    schedule: Literal["cosine", "poly"] = "cosine"
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    warmup_epochs: float = 1.0
    clip_norm: float = 0.0
    encoder_lr: float = 1.0


@dataclass(frozen=True, slots=True)
class DistillationConfig:
    """A teacher whose answers are learnt beside the labels; see `eseg_ros.training.losses.distillation_loss`.

    Attributes:
        teacher: a checkpoint (.ckpt) or an fp32 or fp16 engine (.json) with the recipe's classes.
        weight: factor of its loss.
        temperature: by which the scores of both are divided before they are compared.
    """

    teacher: Path
    weight: float = 1.0
    temperature: float = 2.0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole recipe.

    Attributes:
        name: of the run; its folder is `out`/`name`. A recipe file's own name unless given.
        model: a name that `eseg_ros.models.zoo.build_model` knows, which may be a variant: "eseg_lite_s+max_level=7".
        classes: a class set of `eseg_ros.labels`, or a class file, see `eseg_ros.data.class_file`.
        epochs: passes over the training frames.
        augment: random changes of training frames.
        data: where frames come from.
        loss: what is minimised.
        optimizer: and how.
        distillation: a teacher, or none.
        ema_decay: decay of the moving average of weights that is validated and exported.
        validate_every: epochs between validations; divides `epochs`, so that the last one is validated.
        precision: "bf16-mixed" for bf16 autocast, "16-mixed" for fp16 autocast with a scaled loss on GPUs that know no
            bf16, "32" for plain float.
        accumulate: passes that each step is made of. Each sees that share of the batch, and so needs that share of the
            memory; batch norm sees no more than a pass.
        seed: of everything random.
        init_from: a checkpoint (.ckpt) or an fp32 or fp16 engine (.json) whose fitting weights are the start.
        grow_from: one of a smaller model of the family to start as, see `eseg_ros.training.growth`.
        encoder_weights: ImageNet weights for the encoder's start, see `eseg_ros.training.imagenet`.
        freeze: parts of the network that keep their start, by name: "encoder.stem", "encoder.stages.0".
        fixed_statistics: so many last epochs normalize with the statistics of batches before them, as the engine will,
            and not with each batch's own.
        out: folder of all runs.
    """

    name: str
    model: str
    classes: str
    epochs: int
    augment: AugmentConfig
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    distillation: DistillationConfig | None = None
    ema_decay: float = 0.999
    validate_every: int = 5
    precision: Literal["bf16-mixed", "16-mixed", "32"] = "bf16-mixed"
    accumulate: int = 1
    seed: int = 0
    init_from: Path | None = None
    grow_from: Path | None = None
    encoder_weights: Literal["efficientnet_lite0"] | None = None
    freeze: tuple[str, ...] = ()
    fixed_statistics: int = 0
    out: Path = Path("runs")

    def __post_init__(self) -> None:
        try:
            classes = find_class_set(self.classes)
        except DataError as error:
            raise ConfigError(str(error)) from None
        weights = self.loss.class_weights
        names = [validation.name for validation in self.data.validate]
        low, high = self.augment.scale
        paste = self.augment.paste
        rules = {
            "epochs: expected at least 1": self.epochs >= 1,
            f"validate_every: expected a divisor of epochs ({self.epochs}), so that the last epoch is validated": (
                self.validate_every >= 1 and self.epochs % self.validate_every == 0
            ),
            "ema_decay: expected a number from 0 up to, not including, 1": 0 <= self.ema_decay < 1,
            f"fixed_statistics: expected 0 to epochs ({self.epochs})": 0 <= self.fixed_statistics <= self.epochs,
            "data.batch_size: expected at least 1": self.data.batch_size >= 1,
            f"accumulate: expected a divisor of data.batch_size ({self.data.batch_size})": (
                self.accumulate >= 1 and self.data.batch_size % self.accumulate == 0
            ),
            "data.num_workers: expected 0 or more": self.data.num_workers >= 0,
            "data.train: expected at least one source": len(self.data.train) > 0,
            "data.train: every repeat must be above 0": all(s.repeat > 0 for s in self.data.train),
            "data.validate: expected at least one set": len(names) > 0,
            f"data.validate: names must differ, found {names}": len(set(names)) == len(names),
            "data.size: expected a height and a width of at least 32 pixels": min(self.data.size or (32,)) >= 32,
            "data.std: expected numbers above 0": min(self.data.std) > 0,
            "augment.crop: expected a height and a width of at least 32 pixels": min(self.augment.crop) >= 32,
            "augment.scale: expected 0 < smallest <= largest": 0 < low <= high,
            "augment.rotation: expected 0 to 180 degrees": 0 <= self.augment.rotation <= 180,
            f"augment.paste.classes: expected at least one of {', '.join(classes.names)}, and no others": (
                paste is None or (len(paste.classes) > 0 and set(paste.classes) <= set(classes.names))
            ),
            "augment.paste.probability: expected above 0, at most 1": paste is None or 0 < paste.probability <= 1,
            "loss.threshold: expected above 0, at most 1": 0 < self.loss.threshold <= 1,
            "loss.min_kept: expected 0 to 1": 0 <= self.loss.min_kept <= 1,
            "loss.label_smoothing: expected 0 up to, not including, 1": 0 <= self.loss.label_smoothing < 1,
            f"loss.class_weights: expected {len(classes)} numbers above 0, one for each class of {classes.name}": (
                weights is None or (len(weights) == len(classes) and min(weights) > 0)
            ),
            "optimizer.lr: expected a number above 0": self.optimizer.lr > 0,
            "optimizer.encoder_lr: expected a number above 0; `freeze` stops layers": self.optimizer.encoder_lr > 0,
            "init_from, grow_from and encoder_weights: each is a start; give one of them": (
                [self.init_from, self.grow_from, self.encoder_weights].count(None) >= 2
            ),
            "distillation: expected a weight and a temperature above 0": (
                self.distillation is None or min(self.distillation.weight, self.distillation.temperature) > 0
            ),
            "optimizer.nesterov: needs name sgd and momentum above 0": (
                not self.optimizer.nesterov or (self.optimizer.name == "sgd" and self.optimizer.momentum > 0)
            ),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ConfigError("\n".join(broken))
        sources: tuple[SourceConfig | ValidationConfig, ...] = (*self.data.train, *self.data.validate)
        for source in sources:
            self.root_of(source)

    @property
    def run_dir(self) -> Path:
        """The folder of this run: checkpoints, logs and the resolved recipe."""
        return self.out / self.name

    def root_of(self, source: SourceConfig | ValidationConfig) -> Path:
        """The folder that holds `source`'s split.

        Raises:
            ConfigError: neither the source nor `data` names a root.
        """
        root = source.root or self.data.root
        if root is None:
            raise ConfigError("data.root: not set; say where the frames are, for example data.root=../datasets/camvid")
        return root


def load_config(path: Path, overrides: typing.Sequence[str] = ()) -> TrainConfig:
    """Reads a recipe with its bases and applies `key=value` overrides.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value has the wrong type or range.
    """
    tree = _read_tree(path, ())
    tree.setdefault("name", path.stem)
    for override in overrides:
        _apply_override(tree, override)
    return config_from_dict(tree)


def config_from_dict(tree: dict[str, Any]) -> TrainConfig:
    """The recipe in a tree of plain values, such as `config_to_dict` made.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or range.
    """
    return _build_dataclass(TrainConfig, tree, "")


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """The recipe as a tree of plain YAML and JSON values; `config_from_dict` gives the same recipe back."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    return plain


def config_to_yaml(config: TrainConfig) -> str:
    """The recipe as the text of a file that `load_config` reads."""
    text = yaml.safe_dump(config_to_dict(config), sort_keys=False, default_flow_style=None, width=110)
    return str(text)


def _read_tree(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """The recipe file at `path` merged over its bases. `children` came through here before: a circle ends."""
    path = path.resolve()
    if path in children:
        raise ConfigError(f"{path}: is its own base through {' -> '.join(p.name for p in children)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; recipes are in config/train/") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    base = tree.pop("base", None)
    return tree if base is None else _merged(_read_tree(path.parent / str(base), (*children, path)), tree)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, for example optimizer.lr=1e-3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from None
    *parents, last = key.split(".")
    node: Any = tree
    for position, part in enumerate(parents):
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = _child(node, part, ".".join(parents[: position + 1]))
    if isinstance(node, list):
        _child(node, last, key)  # a position that is not there is an error here
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"{key}: {'.'.join(parents)} is a plain value and has no keys")


def _child(node: Any, part: str, where: str) -> Any:
    if isinstance(node, dict):
        return node[part]
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    if isinstance(node, list):
        raise ConfigError(f"{where}: expected a position from 0 to {len(node) - 1}, found {part!r}")
    raise ConfigError(f"{where}: goes into a plain value, which has no keys")


def _build_dataclass(cls: type[T], tree: Any, where: str) -> T:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: expected keys and values, found {tree!r}")
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{_join(where, key)}: unknown key; the nearest is {near!r} (known: {', '.join(hints)})")
    values = {key: _build(hints[key], value, _join(where, key)) for key, value in tree.items()}
    parameters = inspect.signature(cls).parameters.values()
    missing = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.name not in values]
    if missing:
        raise ConfigError(f"{_join(where, missing[0])}: missing, and it has no default")
    return cls(**values)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _build(hint: Any, value: Any, where: str) -> Any:
    """`value`, from YAML, as the type `hint`: dataclasses, tuples, Literal, `X | None`, Path and plain types."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _build(inner, value, where)
    if origin is Literal:
        # `precision: 32` is a number to YAML and a name to us.
        if str(value) not in arguments:
            raise ConfigError(f"{where}: expected {' or '.join(arguments)}, found {value!r}")
        return str(value)
    if origin is tuple:
        return _build_tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(typing.cast("type[Any]", hint), value, where)
    return _build_plain(hint, value, where)


def _build_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ConfigError(f"{where}: expected {len(arguments)} values, found {len(value)}")
    return tuple(_build(arguments[0], item, _join(where, index)) for index, item in enumerate(value))


def _build_plain(hint: type, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 as text.
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    elif type(value) is hint:
        return value
    raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
