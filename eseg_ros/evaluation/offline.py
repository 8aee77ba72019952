"""Scores an engine on a data set, frame by frame through the node's own pipeline."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eseg_ros.engine.manifest import load_engine, portable_path, write_manifest
from eseg_ros.errors import FrameError
from eseg_ros.evaluation.dataset import DatasetError, Sample, list_samples, read_frame, read_label
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.types import Result


def evaluate(engine_path: Path, root: Path, split: str, runtime: str = "auto", threads: int = 0) -> dict[str, Any]:
    """Score an engine on every frame of `ROOT/SPLIT`, masks at the frames' own resolution.

    Args:
        engine_path: the engine's manifest, ONNX file or stem.
        root: data set with SPLIT/images and SPLIT/labels in the engine's class ids.
        split: e.g. "val".
        runtime: "auto", "openvino", "onnxruntime" or "tensorrt".
        threads: of the inference library, 0 = its own choice.

    Returns:
        miou, pixel_accuracy, per_class_iou, frames (`ConfusionMatrix.scores`); engine, engine_sha256, data, runtime,
        device, precision; command: what reproduces them.

    Raises:
        EngineError: the engine cannot be used.
        RuntimeUnavailableError: the library asked for is not installed.
        DatasetError: a frame or label is missing, unreadable or does not fit; the message names the file.
    """
    engine = load_engine(engine_path)
    manifest = engine.manifest
    samples = list_samples(root, split)
    confusion = ConfusionMatrix(len(manifest.classes), manifest.classes.ignore_id)
    with Pipeline(create_runtime(engine, runtime, threads=threads)) as pipeline:
        results = pipeline.map(read_frame(sample.image) for sample in samples)
        bar = tqdm(
            zip(samples, results, strict=True), total=len(samples), desc=manifest.name, unit="frame", disable=None
        )
        for sample, result in bar:
            _count(confusion, sample, result)
        used = pipeline.runtime
        return {
            **confusion.scores(manifest.classes.names),
            "engine": manifest.name,
            "engine_sha256": manifest.onnx_sha256,
            "data": f"{root.resolve().name}/{split}",
            "root": str(root),
            "runtime": used.name,
            "device": used.device,
            "precision": manifest.precision,
            "command": _command(str(engine_path), str(root), split, used.name),
        }


def record_scores(engine_path: Path, report: dict[str, Any]) -> Path:
    """Write a report of `evaluate` into the engine's manifest, under its data set's name; returns the manifest's path.

    Paths in the command there are portable: the manifest travels.

    Raises:
        EngineError: the engine cannot be read.
    """
    engine = load_engine(engine_path)
    split = report["data"].rpartition("/")[2]
    scores = {key: report[key] for key in ("miou", "pixel_accuracy", "per_class_iou", "frames")}
    root = portable_path(Path(report["root"]))
    scores["command"] = _command(portable_path(engine_path), root, split, report["runtime"])
    manifest = replace(engine.manifest, scores={**engine.manifest.scores, report["data"]: scores})
    return write_manifest(manifest, engine.onnx.parent)


def _count(confusion: ConfusionMatrix, sample: Sample, result: Result | FrameError) -> None:
    if isinstance(result, FrameError):
        raise DatasetError(f"{sample.image}: {result}") from result
    try:
        confusion.update(result.mask, read_label(sample.label))
    except ValueError as error:
        raise DatasetError(
            f"{sample.label}: {error}. Labels must be class ids of the engine's class set, one for each of the "
            "frame's pixels"
        ) from error


def _command(engine: str, root: str, split: str, runtime: str) -> str:
    return shlex.join(["eseg", "evaluate", "--engine", engine, "--data", root, "--split", split, "--runtime", runtime])
