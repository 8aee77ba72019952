"""ONNX files of others, made ready for `eseg bench`: whatever turns one image into class scores, or into anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eseg_ros.engine.manifest import EngineManifest, InputSpec, OutputSpec, sha256_of, write_manifest
from eseg_ros.errors import EngineError, RuntimeUnavailableError, UsageError
from eseg_ros.evaluation.bench_runtime import open_inference
from eseg_ros.evaluation.bench_worker import Size, Subject
from eseg_ros.labels import ClassSet

if TYPE_CHECKING:
    import onnx

MOST_CLASSES = 255
_MIDDLE_GRAY, _FULL_RANGE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def peer_subjects(files: Sequence[Path], sizes: Sequence[Size], folder: Path) -> Iterator[Subject]:
    """Files at each size that they can have, as copies of fixed size in `folder`.

    A file whose only output is scores of classes, (1, C, h, w) float32 with h and w at most the image's, becomes an
    engine, and is timed in the node's pipeline, with this package's pre- and postprocessing. Of every other file the
    inference is timed alone. How images must be normalized for it nobody knows here; so it is not scored.

    Raises:
        EngineError: a file is no ONNX file, does not take one float32 image, or does not run.
        UsageError: a size is missing, or is not the file's.
        RuntimeUnavailableError: the package onnx, or every inference library, is missing.
    """
    if files and find_spec("onnx") is None:
        raise RuntimeUnavailableError("--onnx needs the package that reads ONNX files: pip install onnx")
    for index, path in enumerate(files):
        for size in sizes_of(path, read_onnx(path), sizes):
            yield _subject(path, size, folder / str(index))


def read_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX file with all its weights.

    Raises:
        EngineError: it is none.
    """
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's, the checker's or the file system's
        raise EngineError(f"{path} cannot be read as an ONNX file: {error}") from error


def sizes_of(path: Path, model: onnx.ModelProto, wanted: Sequence[Size]) -> list[Size]:
    """The sizes at which a file can be timed.

    Args:
        path: to name it by.
        model: its content.
        wanted: of --size; empty: the file's own.

    Raises:
        EngineError: the input is no image.
        UsageError: the file has no size of its own, or another one.
    """
    height, width = _image_dimensions(path, model)[2:]
    if height is None or width is None:
        if not wanted:
            raise UsageError(f"{path} takes images of any size; say at which to time it: --size 1024x512")
        fitting = [size for size in wanted if height in (None, size[1]) and width in (None, size[0])]
    else:
        fitting = [size for size in wanted or [(width, height)] if size == (width, height)]
    if not fitting:
        raise UsageError(
            f"{path} takes images of {width or 'any'}x{height or 'any'} pixels, and that size cannot be changed here; "
            "leave --size away, name that size among others, or export the file again for the size wanted"
        )
    return fitting


def _image_dimensions(path: Path, model: onnx.ModelProto) -> list[int | None]:
    """The input's four dimensions, None where it is symbolic.

    Raises:
        EngineError: the file's input is not one float32 image, NCHW.
    """
    import onnx

    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    found = " and ".join(map(_in_words, inputs)) or "nothing"
    message = (
        f"{path} takes {found}; expected one float32 image, NCHW: [1, 3, height, width], sizes fixed or symbolic. "
        "Export the network itself, without a pipeline around it"
    )
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise EngineError(message)
    sizes = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) != 4 or sizes[0] not in (1, None) or sizes[1] not in (3, None):
        raise EngineError(message)
    return sizes


def _subject(path: Path, size: Size, folder: Path) -> Subject:
    name = path.stem
    fixed = folder / f"{name}_{size[0]}x{size[1]}.onnx"
    outputs = _write_fixed(path, size, fixed)
    alone = _why_no_scores(outputs, size)
    file_mb = fixed.stat().st_size / 1e6
    if alone:
        return Subject(name, fixed, "", size, "fp32", file_mb, alone, scorable=False)
    return Subject(name, _write_engine(fixed, size, outputs[0]), "", size, "fp32", file_mb, scorable=False)


def _write_fixed(path: Path, size: Size, fixed: Path) -> list[npt.NDArray[Any]]:
    """Write the file with all sizes fixed, those of its outputs as a run gives them; returns these outputs."""
    import onnx

    model = read_onnx(path)
    weights = {weight.name for weight in model.graph.initializer}
    (image,) = [value for value in model.graph.input if value.name not in weights]
    _set_shape(image, (1, 3, size[1], size[0]))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]  # shapes that may contradict
    fixed.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, fixed)
    runtime = next((name for name in ("onnxruntime", "openvino") if find_spec(name)), None)
    if runtime is None:
        raise RuntimeUnavailableError("no inference library is installed: pip install openvino onnxruntime")
    inference = open_inference(fixed, runtime, np.zeros((1, 3, size[1], size[0]), np.float32))
    try:
        inference.run()
    except Exception as error:  # the libraries' exceptions share no base class
        raise EngineError(f"{path} does not run on an image of {size[0]}x{size[1]} in {runtime}: {error}") from error
    outputs = inference.outputs()
    for output, array in zip(model.graph.output, outputs, strict=True):
        _set_shape(output, array.shape)
    onnx.save(model, fixed)
    return outputs


def _set_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    value.type.tensor_type.ClearField("shape")
    for length in shape:
        value.type.tensor_type.shape.dim.add().dim_value = length
    if not shape:
        value.type.tensor_type.shape.SetInParent()


def _why_no_scores(outputs: Sequence[npt.NDArray[Any]], size: Size) -> str:
    """Why these are not the scores of classes; empty if they are."""
    if len(outputs) != 1:
        return f"it has {len(outputs)} outputs"
    (output,) = outputs
    found = f"its output is {output.dtype} {list(output.shape)}, not scores of classes"
    if output.dtype != np.float32 or output.ndim != 4 or output.shape[0] != 1:
        return found
    classes, height, width = output.shape[1:]
    if not (2 <= classes <= MOST_CLASSES and height <= size[1] and width <= size[0]):
        return found
    return ""


def _write_engine(fixed: Path, size: Size, scores: npt.NDArray[Any]) -> Path:
    """A manifest beside a file that gives class scores, so that the node's pipeline runs it; returns its path."""
    model = read_onnx(fixed)
    weights = {weight.name for weight in model.graph.initializer}
    (image,) = [value.name for value in model.graph.input if value.name not in weights]
    classes, height, width = scores.shape[1:]
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    manifest = EngineManifest(
        name=fixed.stem,
        model="",
        classes=ClassSet("unknown", tuple(f"class {i}" for i in range(classes)), ((0, 0, 0),) * classes),
        input=InputSpec(image, *size, mean=_MIDDLE_GRAY, std=_FULL_RANGE),
        output=OutputSpec(model.graph.output[0].name, stride=round(size[0] / width), width=width, height=height),
        precision="fp32",
        onnx_file=fixed.name,
        onnx_sha256=sha256_of(fixed),
        opset=opset,
    )
    return write_manifest(manifest, fixed.parent)


def _in_words(value: onnx.ValueInfoProto) -> str:
    import onnx

    tensor = value.type.tensor_type
    try:
        dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except KeyError:
        dtype = "no tensor"
    return f"{value.name!r} {dtype} [{', '.join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)}]"
