"""Makes an fp16 or int8 engine from an fp32 one, by tools of ONNX alone: the trainer's libraries are not needed.

The precision is written into the graph, as half types or as Q/DQ pairs (QuantizeLinear, DequantizeLinear): the one way
that TensorRT 8.5 to 11, OpenVINO and ONNX Runtime all read. Nothing is written before the new engine gave the old one's
masks, but for some pixels, in every library that is installed here. How many pixels and points it costs is for
`eseg verify` to say.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eseg_ros.data.layouts import find_layout, list_samples
from eseg_ros.data.reading import read_frame
from eseg_ros.engine.half import nodes_beyond_half, to_half, with_half_rounding
from eseg_ros.engine.int8 import layer_errors, to_int8
from eseg_ros.engine.manifest import (
    Engine,
    EngineManifest,
    InputSpec,
    load_engine,
    portable_path,
    write_atomically,
    write_manifest,
)
from eseg_ros.engine.verify import spread, verify
from eseg_ros.errors import EngineError, RuntimeUnavailableError
from eseg_ros.runtime.image import decode
from eseg_ros.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    import onnx

PARITY_FRAMES = 8
PARITY_AGREEMENT = {"fp16": 0.98, "int8": 0.9}
"""Least share of equal mask pixels of a graph that was made right; a wrong axis, scale or type leaves far less."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an engine is quantised.

    Attributes:
        precision: "fp16" or "int8".
        data: data set whose frames show how large each tensor gets, in any layout; labels are not needed.
        split: of the data set; not the one that the engine is scored on.
        frames: how many, spread over the split.
        calibration: how scales follow from the values seen, a key of `int8.CALIBRATIONS`; fp16 does without.
        keep_fp32: what stays float32: names of modules ("head", "bifpn.0.nodes.out3") or of ONNX nodes.
    """

    precision: str
    data: Path
    split: str = "train"
    frames: int = 64
    calibration: str = "percentile"
    keep_fp32: tuple[str, ...] = ()


def quantize_engine(source_path: Path, recipe: Recipe, name: str, folder: Path) -> Path:
    """Make a quantised engine; its scores start empty.

    Args:
        source_path: an fp32 engine.
        recipe: what to make of it.
        name: the new engine's name.
        folder: gets NAME.onnx and NAME.json; existing ones are replaced.

    Returns:
        The manifest's path.

    Raises:
        EngineError: the source is no fp32 engine or has no such node, or the result breaks TensorRT's rules or does not
            give the source's masks; nothing was written.
        RuntimeUnavailableError: onnx or onnxruntime is not installed.
        DataError: the data set has no such frames.
    """
    source, model = _load(source_path)
    islands = nodes_of(model, recipe.keep_fp32)
    with calibration_frames(source.manifest.input, recipe) as frames:
        if recipe.precision == "fp16":
            islands |= nodes_beyond_half(model, frames)
            quantized, dtype = to_half(model, islands), "float16"
        else:
            quantized, dtype = to_int8(model, frames, recipe.calibration, islands), "float32"
        recipe = replace(recipe, frames=len(frames))  # a small split has fewer
    manifest, content = _describe(source, quantized, name, recipe, islands, dtype)
    with TemporaryDirectory(prefix="eseg_quantize_") as temporary:
        parity = _check_masks(_write(manifest, content, Path(temporary)), source_path, recipe)
        if recipe.precision == "fp16":
            rounded = _write(*_rounded(source, model, islands), Path(temporary))
            parity |= _check_masks(rounded, source_path, recipe, ("onnxruntime",), "half rounding")
    return _write(replace(manifest, parity=parity), content, folder)


def rank_layers(source_path: Path, recipe: Recipe) -> list[tuple[str, float]]:
    """Convolutions by what they cost when they alone are int8, the worst first.

    Returns:
        Module (or node, where the weights have no name) and the change of the logits, relative, root mean square.

    Raises:
        As `quantize_engine`.
    """
    source, model = _load(source_path)
    weights = {node.name: node.input[1].removesuffix(".weight") for node in model.graph.node if node.op_type == "Conv"}
    with calibration_frames(source.manifest.input, recipe, progress=False) as frames:
        errors = layer_errors(model, frames, recipe.calibration)
        bar = tqdm(errors, total=len(weights), desc="quantising one layer at a time", unit="layer", disable=None)
        return sorted(((weights[name], error) for name, error in bar), key=lambda item: -item[1])


def nodes_of(model: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """Names of the nodes that `names` mean: modules, by the names of their weights, or nodes.

    Raises:
        EngineError: a name means no node.
    """
    chosen = set()
    for name in names:
        found = {
            node.name
            for node in model.graph.node
            if node.name == name or any(item.startswith(f"{name}.") for item in node.input)
        }
        if not found:
            modules = sorted(
                {weight.name.partition(".")[0] for weight in model.graph.initializer if "." in weight.name}
            )
            raise EngineError(
                f"{name!r} is neither a module nor a node of the network, so it cannot be kept in float32; its modules "
                f"are {', '.join(modules)}. See them one by one: eseg quantize ENGINE --data ROOT --rank"
            )
        chosen |= found
    return chosen


class CalibrationFrames:
    """Camera frames as the engine's input sees them, in the form that onnxruntime's calibration asks for.

    After the last frame comes None, and then the first again.
    """

    def __init__(self, spec: InputSpec, images: Sequence[Path], bar: Any) -> None:
        self._spec = spec
        self._images = images
        self._preprocess = Preprocessor(spec)
        self._bar = bar
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give only these frames."""
        self._start, self._end = start_index, end_index
        self._next = start_index

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Name of the input -> the next frame, (1, 3, height, width); None behind the last."""
        if self._next == self._end:
            self._next = self._start
            return None
        tensor = np.zeros((1, 3, self._spec.height, self._spec.width), np.float32)
        self._preprocess(decode(read_frame(self._images[self._next])), tensor)
        self._next += 1
        self._bar.update()
        return {self._spec.name: tensor}


@contextmanager
def calibration_frames(spec: InputSpec, recipe: Recipe, progress: bool = True) -> Iterator[CalibrationFrames]:
    """The frames that a recipe names.

    Raises:
        DataError: there are none.
    """
    samples = spread(list_samples(recipe.data, recipe.split, find_layout(recipe.data)), recipe.frames)
    hidden = None if progress else True
    with tqdm(total=len(samples), desc="measuring activations", unit="frame", disable=hidden) as bar:
        yield CalibrationFrames(spec, [sample.image for sample in samples], bar)


def _load(path: Path) -> tuple[Engine, onnx.ModelProto]:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"quantising needs {', '.join(missing)}, which a vehicle does without: pip install onnx onnxruntime"
        )
    import onnx

    source = load_engine(path)
    if source.manifest.precision != "fp32":
        origin = source.manifest.training.get("quantization", {}).get("source", "the one that it was made from")
        raise EngineError(
            f"{path} is an {source.manifest.precision} engine already; only an fp32 engine is quantised: {origin}"
        )
    return source, onnx.load(source.onnx)


def _describe(
    source: Engine, quantized: onnx.ModelProto, name: str, recipe: Recipe, islands: Collection[str], dtype: str
) -> tuple[EngineManifest, bytes]:
    """The new engine's manifest, still without parity, and its ONNX file."""
    content = _serialize(quantized, name)
    origin = {
        "source": source.manifest.name,
        "source_sha256": source.manifest.onnx_sha256,
        "data": f"{recipe.data.resolve().name}/{recipe.split}",
        "frames": recipe.frames,
        **({"calibration": recipe.calibration} if recipe.precision == "int8" else {}),
        "kept_fp32": sorted(islands),
        "versions": {library: version(library) for library in ("onnx", "onnxruntime")},
        "command": _command(source.onnx.with_suffix(".json"), recipe, name),
    }
    manifest = replace(
        source.manifest,
        name=name,
        input=replace(source.manifest.input, dtype=dtype),
        output=replace(source.manifest.output, dtype=dtype),
        precision=recipe.precision,
        onnx_file=f"{name}.onnx",
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        training={**source.manifest.training, "quantization": origin},
        scores={},
        parity={},
    )
    return manifest, content


def _rounded(source: Engine, model: onnx.ModelProto, islands: Collection[str]) -> tuple[EngineManifest, bytes]:
    """An fp32 engine that rounds as a GPU in half precision does."""
    content = _serialize(with_half_rounding(model, islands), "half_rounding")
    digest = hashlib.sha256(content).hexdigest()
    manifest = replace(source.manifest, name="half_rounding", onnx_file="half_rounding.onnx", onnx_sha256=digest)
    return manifest, content


def _serialize(model: onnx.ModelProto, name: str) -> bytes:
    """The checked graph without what the tools noted in it."""
    import onnx

    model.graph.name = name
    del model.graph.value_info[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _check_masks(
    candidate: Path, source: Path, recipe: Recipe, runtimes: Sequence[str] = ("openvino", "onnxruntime"), key: str = ""
) -> dict[str, Any]:
    """Hold a new engine's masks against the source's in each library that is installed.

    Returns:
        Library (or `key`) -> what was found, for the manifest.

    Raises:
        EngineError: too few pixels agree.
    """
    report: dict[str, Any] = {}
    least = PARITY_AGREEMENT[recipe.precision]
    for runtime in [name for name in runtimes if find_spec(name)]:
        found = verify(
            candidate,
            source,
            recipe.data,
            recipe.split,
            frames=PARITY_FRAMES,
            runtime=runtime,
            reference_runtime=runtime,
        )
        if found["agreement"] < least:
            raise EngineError(
                f"in {key or runtime} only {found['agreement']:.2%} of the mask pixels are those of {source} (expected "
                f"at least {least:.0%}). Nothing was written. Keep the layers that cost most in float32, by "
                f"--keep-fp32 MODULE; find them: eseg quantize {source} --data {recipe.data} --rank"
            )
        report[key or runtime] = {
            "version": version(runtime),
            "frames": found["frames"],
            "agreement": found["agreement"],
        }
    return report


def _write(manifest: EngineManifest, content: bytes, folder: Path) -> Path:
    write_atomically(folder / manifest.onnx_file, content)
    return write_manifest(manifest, folder)


def _command(source: Path, recipe: Recipe, name: str) -> str:
    words = ["eseg", "quantize", portable_path(source), "--precision", recipe.precision]
    words += ["--data", portable_path(recipe.data), "--split", recipe.split, "--frames", str(recipe.frames)]
    words += ["--calibration", recipe.calibration] if recipe.precision == "int8" else []
    words += ["--name", name]
    words += ["--keep-fp32", *recipe.keep_fp32] if recipe.keep_fp32 else []
    return shlex.join(words)
