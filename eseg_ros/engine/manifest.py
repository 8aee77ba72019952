"""The manifest: all that a node, a legend or an evaluator needs to know of an engine, beside its weights.

An engine is two files in one folder, `NAME.onnx` and `NAME.json`. The manifest names the ONNX file and its SHA-256, so
that a cut or exchanged file is found before it is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eseg_ros.errors import EngineError
from eseg_ros.labels import ClassSet

SCHEMA_VERSION = 1
PRECISIONS = ("fp32", "fp16", "int8")
RESIZE_RULES = ("stretch", "letterbox")
COLOR_ORDERS = ("rgb", "bgr")
DTYPES = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The engine's input tensor and how a camera image becomes one.

    The image is resized bilinearly with half-pixel centres (OpenCV's INTER_LINEAR, PyTorch's align_corners=False), its
    channels are put into `color_order`, and each becomes `(value / 255 - mean) / std`; NCHW, batch 1.

    Attributes:
        name: tensor name in the ONNX file.
        width, height: pixels.
        color_order: "rgb" or "bgr"; also the order of `mean` and `std`.
        mean, std: a channel each, on values scaled to 0..1.
        resize: "stretch" fills the input; "letterbox" keeps the aspect ratio, centred, padded with the mean.
        dtype: "float32" or "float16".
    """

    name: str
    width: int
    height: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_order: str = "rgb"
    resize: str = "stretch"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The engine's output tensor: `kind` "logits", (1, classes, height, width) at the head's `stride`."""

    name: str
    stride: int
    width: int
    height: int
    kind: str = "logits"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """What an engine is, what it expects, how it was made and what it scored.

    Attributes:
        name: the engine's name, the stem of its files.
        model: architecture, a key of `eseg_ros.models.zoo.MODELS`, or a variant.
        classes: names, colours, ignored id.
        input: input tensor and preprocessing.
        output: output tensor.
        precision: "fp32", "fp16" or "int8": the precision it must be run in.
        onnx_file: file name of the ONNX file, in the manifest's folder.
        onnx_sha256: its SHA-256, hexadecimal.
        opset: ONNX opset.
        training: how it was trained: data, recipe, epochs, versions; for people, read by no code.
        scores: data set and split -> {"miou", "pixel_accuracy", "per_class_iou", "frames", "command"}.
        parity: the export's comparison with PyTorch.
        temperature: by which the logits are divided before the softmax that gives the confidence (temperature scaling,
            Guo et al., ICML 2017); fitted on validation frames. 1 leaves the network's own confidence.
        schema: version of this layout.
    """

    name: str
    model: str
    classes: ClassSet
    input: InputSpec
    output: OutputSpec
    precision: str
    onnx_file: str
    onnx_sha256: str
    opset: int
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _expect(self.schema == SCHEMA_VERSION, "schema", self.schema, SCHEMA_VERSION)
        _expect(self.precision in PRECISIONS, "precision", self.precision, PRECISIONS)
        _expect(self.input.resize in RESIZE_RULES, "input.resize", self.input.resize, RESIZE_RULES)
        _expect(self.input.color_order in COLOR_ORDERS, "input.color_order", self.input.color_order, COLOR_ORDERS)
        _expect(self.input.dtype in DTYPES, "input.dtype", self.input.dtype, DTYPES)
        _expect(self.output.dtype in DTYPES, "output.dtype", self.output.dtype, DTYPES)
        _expect(self.input.width >= 64 and self.input.height >= 64, "input size", self.input, "at least 64x64")
        _expect(
            len(self.input.mean) == 3 and len(self.input.std) == 3,
            "input.mean/std",
            self.input,
            "3 values each",
        )
        _expect(all(s > 0 for s in self.input.std), "input.std", self.input.std, "values above 0")
        _expect(0 < self.temperature < float("inf"), "temperature", self.temperature, "a number above 0")
        _expect(self.output.kind == "logits", "output.kind", self.output.kind, "logits")
        _expect(Path(self.onnx_file).name == self.onnx_file, "onnx_file", self.onnx_file, "a bare file name")

    def to_json(self) -> str:
        """The manifest as indented JSON text, ending in a newline."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> EngineManifest:
        """Read a manifest.

        Raises:
            EngineError: not JSON, a key is missing or unknown, or a value is out of its range.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise EngineError(
                f"the manifest is not valid JSON ({error}); export the engine again: eseg export"
            ) from error
        if not isinstance(values, dict) or values.get("schema") != SCHEMA_VERSION:
            found = values.get("schema") if isinstance(values, dict) else type(values).__name__
            raise EngineError(
                f"the manifest has schema {found!r}; this version reads schema {SCHEMA_VERSION}. "
                "Export the engine again with this version: eseg export"
            )
        try:
            classes = values.pop("classes")
            tensor_in: dict[str, Any] = values.pop("input")
            tensor_in.update(mean=tuple(tensor_in["mean"]), std=tuple(tensor_in["std"]))
            return EngineManifest(
                classes=ClassSet.from_dict(classes),
                input=InputSpec(**tensor_in),
                output=OutputSpec(**values.pop("output")),
                **values,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"the manifest does not fit schema {SCHEMA_VERSION}: {error}; export the engine again: eseg export"
            ) from error


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine on disk whose files were checked: `onnx` has the size and hash that `manifest` names."""

    manifest: EngineManifest
    onnx: Path


def load_engine(path: Path) -> Engine:
    """Read and check an engine.

    Args:
        path: the manifest, the ONNX file beside it, or the common stem of both.

    Raises:
        EngineError: a file is missing, unreadable, cut, or the two do not belong together.
    """
    manifest_path = manifest_path_of(path)
    try:
        text = manifest_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"engine manifest {manifest_path} cannot be read ({error}); expected NAME.json beside NAME.onnx. "
            f"Engines here: {_engines_in(manifest_path.parent)}"
        ) from error
    try:
        manifest = EngineManifest.from_json(text)
    except EngineError as error:
        raise EngineError(f"{manifest_path}: {error}") from error
    onnx = manifest_path.parent / manifest.onnx_file
    try:
        digest = sha256_of(onnx)
    except OSError as error:
        raise EngineError(
            f"{manifest_path} names {onnx.name}, which cannot be read ({error}); put it beside it"
        ) from error
    if digest != manifest.onnx_sha256:
        raise EngineError(
            f"{onnx} ({onnx.stat().st_size} bytes) has SHA-256 {digest[:12]}…, but {manifest_path.name} expects "
            f"{manifest.onnx_sha256[:12]}…: the file is cut or belongs to another engine. Copy both files again, or "
            "export the engine again: eseg export"
        )
    return Engine(manifest, onnx)


def manifest_path_of(path: Path) -> Path:
    """`NAME.json` for `NAME.json`, `NAME.onnx` or `NAME` (names may contain dots)."""
    if path.suffix == ".json":
        return path
    if path.suffix == ".onnx":
        return path.with_suffix(".json")
    return path.with_name(path.name + ".json")


def write_manifest(manifest: EngineManifest, folder: Path) -> Path:
    """Write `FOLDER/NAME.json` atomically; returns its path."""
    path = folder / f"{manifest.name}.json"
    write_atomically(path, manifest.to_json().encode())
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def portable_path(path: Path) -> str:
    """A path as it may stand in a manifest, which travels: relative ones as they are, of absolute ones the name."""
    return path.name if path.is_absolute() else str(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _engines_in(folder: Path) -> str:
    names = sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".onnx").exists())
    return ", ".join(names) or "none"


def _expect(condition: bool, what: str, found: object, expected: object) -> None:
    if not condition:
        raise ValueError(f"{what} is {found!r}; expected {expected!r}")
