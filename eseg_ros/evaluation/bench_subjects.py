"""What `eseg bench` times on the CPU: engines, networks of the zoo, and ONNX files of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
from tqdm import tqdm

from eseg_ros.engine.manifest import InputSpec, load_engine
from eseg_ros.errors import UsageError
from eseg_ros.evaluation.bench import Size, fitted_engines, frame_images, input_size
from eseg_ros.evaluation.bench_worker import Subject
from eseg_ros.labels import CITYSCAPES

if TYPE_CHECKING:
    import onnx

Item = TypeVar("Item")

UNTRAINED = "untrained: how long its masks take says nothing"
MEASURED_CLASSES = len(CITYSCAPES)
"""Of untrained networks, as in the papers."""

CALIBRATION_FRAMES = 2
"""Scales do not change how long an int8 network takes; any frames will do."""


def engine_subjects(engines: Sequence[Path], sizes: Sequence[Size], folder: Path) -> Iterator[Subject]:
    """Engines at each size; new ones go to `folder`.

    Raises:
        EngineError: an engine cannot be read or fitted.
    """
    for index, engine in enumerate(_with_bar(engines)):
        for path in fitted_engines(engine, sizes, folder / str(index)):
            loaded = load_engine(path)
            manifest = loaded.manifest
            yield Subject(
                manifest.name, path, manifest.model, input_size(path), manifest.precision, _megabytes(loaded.onnx)
            )


def model_subjects(models: Sequence[str], sizes: Sequence[Size], folder: Path, *, int8: bool) -> Iterator[Subject]:
    """Networks of `eseg models`, or variants, for 19 classes at each size, untrained; with `int8` each quantized too.

    Raises:
        UsageError: no such model, or no size.
    """
    import onnx
    import torch

    from eseg_ros.models.zoo import build_model

    for model in models:
        with torch.device("meta"):
            build_model(model, MEASURED_CLASSES)  # unknown ones are told before anything is measured
    if models and not sizes:
        raise UsageError("a network of the zoo has no input size of its own; say which: --size 480x360")
    folder.mkdir(parents=True, exist_ok=True)
    for model in _with_bar(models):
        for size in sizes:
            graph = untrained_graph(model, size)
            forms = {"fp32": graph}
            if int8:
                forms["int8"] = quantized_graph(graph, size)
            for precision, form in forms.items():
                path = folder / f"{model}_{size[0]}x{size[1]}_{precision}.onnx"
                onnx.save(form, path)
                yield Subject(model, path, model, size, precision, _megabytes(path), UNTRAINED, scorable=False)


def untrained_graph(model: str, size: Size) -> onnx.ModelProto:
    """The graph that an engine of this model has, with random weights."""
    import torch

    from eseg_ros.engine.export import INPUT_NAME, to_onnx
    from eseg_ros.models.zoo import build_deployed

    torch.manual_seed(0)
    return to_onnx(build_deployed(model, MEASURED_CLASSES), _input_spec(INPUT_NAME, size), model)


def quantized_graph(graph: onnx.ModelProto, size: Size) -> onnx.ModelProto:
    """The graph in int8, as `eseg quantize` writes it, with scales from rendered frames."""
    from tempfile import TemporaryDirectory

    from eseg_ros.engine.int8 import to_int8
    from eseg_ros.engine.quantize import CalibrationFrames

    with TemporaryDirectory(prefix="eseg_bench_") as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(CALIBRATION_FRAMES)]
        for path, image in zip(paths, frame_images(size, None), strict=False):
            cv2.imwrite(str(path), image)
        spec = _input_spec(graph.graph.input[0].name, size)
        return to_int8(graph, CalibrationFrames(spec, paths, tqdm(disable=True)), "minmax")


def _input_spec(name: str, size: Size) -> InputSpec:
    from eseg_ros.training.config import IMAGENET_MEAN, IMAGENET_STD

    return InputSpec(name, *size, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _with_bar(items: Sequence[Item]) -> Iterable[Item]:
    bar: Iterable[Item] = tqdm(items, desc="preparing", unit="network", leave=False, disable=None if items else True)
    return bar


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
