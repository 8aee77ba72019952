"""Scores an engine on a labelled data set, frame by frame through the node's own pipeline."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from eseg_ros.engine.manifest import EngineManifest, load_engine, portable_path, write_manifest
from eseg_ros.errors import EngineError
from eseg_ros.evaluation.bootstrap import Resampling
from eseg_ros.evaluation.evaluator import Evaluator, Settings
from eseg_ros.evaluation.record import Record
from eseg_ros.evaluation.run import engine_header
from eseg_ros.evaluation.scoring import Measures
from eseg_ros.evaluation.sequences import folder_sequences
from eseg_ros.evaluation.summary import summarize

_PIXELS_ONLY = Measures(boundary=False, temporal=False, confidence=False)


def evaluate(
    engine_path: Path,
    root: Path,
    split: str,
    runtime: str = "auto",
    threads: int = 0,
    resampling: Resampling | None = None,
) -> dict[str, Any]:
    """Score an engine on every frame of a split, masks at the frames' own resolution; writes nothing.

    Args:
        engine_path: the engine's manifest, ONNX file or stem.
        root: a data set, in any layout of `eseg_ros.data.layouts`, whose labels give the engine's classes.
        split: e.g. "val".
        runtime: "auto", "openvino", "onnxruntime" or "tensorrt".
        threads: of the inference library, 0 = its own choice.
        resampling: of the intervals; None: 1000 resamples of single frames.

    Returns:
        `summarize`'s, without what costs more than counting pixels; engine, engine_sha256, precision, runtime, device,
        machine, version; mode, truth, data, root; command: what reproduces them.

    Raises:
        EngineError: the engine cannot be used.
        RuntimeUnavailableError: the library asked for is not installed.
        DataError: a frame or label is missing, unreadable or does not fit; the message names the file.
    """
    settings = Settings(engine_path, runtime, threads, measures=_PIXELS_ONLY)
    with Evaluator(settings) as evaluator:
        manifest = evaluator.manifest
        sequences = folder_sequences(root, split, manifest.classes)
        record = Record.join([evaluator.evaluate(sequence) for sequence in sequences])
    header = engine_header(manifest, record)
    return {
        **header,
        "mode": "every frame",
        "truth": "labels",
        "data": data_name(root, split),
        "root": str(root),
        **summarize(record, manifest.classes.names, resampling or Resampling()),
        "failed": {},
        "command": _command(str(engine_path), str(root), split, header["runtime"]),
    }


def record_scores(engine_path: Path, report: dict[str, Any]) -> Path:
    """Write a report of `evaluate` into the engine's manifest, under its data set's name; returns the manifest's path.

    Paths in the command there are portable: the manifest travels.

    Raises:
        EngineError: the engine cannot be read, or it learnt from these frames.
    """
    engine = load_engine(engine_path)
    refuse_learnt(engine.manifest, report["data"])
    split = report["data"].rpartition("/")[2]
    scores = {key: report[key] for key in ("miou", "pixel_accuracy", "per_class_iou", "frames")}
    root = portable_path(Path(report["root"]))
    scores["command"] = _command(portable_path(engine_path), root, split, report["runtime"])
    manifest = replace(engine.manifest, scores={**engine.manifest.scores, report["data"]: scores})
    return write_manifest(manifest, engine.onnx.parent)


def refuse_learnt(manifest: EngineManifest, data: str) -> None:
    """Raise an EngineError if a manifest cannot have a score on a split, by the name that `data_name` gives it."""
    if learnt_from(manifest, data):
        raise EngineError(
            f"{manifest.name} was trained on {data}; its score there would say nothing of other frames "
            "and is not recorded. Score it on a split that it has not seen, or without --write-manifest"
        )


def learnt_from(manifest: EngineManifest, data: str) -> bool:
    """Whether an engine's recipe trained on any frame of a split, by the name that `data_name` gives it."""
    recipe = manifest.training.get("recipe", {}).get("data", {})
    return any(
        data == data_name(Path(source["root"] or recipe["root"]), source["split"]) for source in recipe.get("train", ())
    )


def data_name(root: Path, split: str) -> str:
    """A split's name in manifests and summaries, e.g. "camvid/val"."""
    return f"{root.resolve().name}/{split}"


def _command(engine: str, root: str, split: str, runtime: str) -> str:
    return shlex.join(["eseg", "evaluate", "--engine", engine, "--data", root, "--split", split, "--runtime", runtime])
