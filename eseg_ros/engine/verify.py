"""Does an engine still see what the engine sees that it was made from?

Half precision, int8 and every build for another device change a network's numbers. Here two engines, or one engine in
two runtimes, look at the same frames through the node's own pipeline, and their masks are held against each other at
the camera's resolution: by pixel, and by class against the labels where there are any. The frames that changed most are
named, because that is where to look.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eseg_ros.data.layouts import Sample, find_layout, list_samples
from eseg_ros.data.reading import DataError, LabelCoding, read_frame, read_label
from eseg_ros.engine.manifest import load_engine, portable_path, write_manifest
from eseg_ros.engine.plan_cache import record_parity
from eseg_ros.errors import EngineError, FrameError
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.runtime.cuda.cuda_runtime import CudaRuntime
from eseg_ros.runtime.pipeline import Pipeline
from eseg_ros.runtime.select import create_runtime
from eseg_ros.runtime.tensorrt.network import TensorRtNetwork
from eseg_ros.runtime.types import Image8, Runtime

WORST_FRAMES = 5
"""How many of the frames that changed most are named."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an engine may be from its reference.

    Attributes:
        agreement: least share of equal mask pixels, 0 to 1.
        miou_drop: most points (hundredths) of mIoU that the engine may lie below the reference.
    """

    agreement: float
    miou_drop: float


LIMITS = {"fp32": Limits(0.999, 0.1), "fp16": Limits(0.995, 0.5), "int8": Limits(0.98, 1.5)}
"""Precision of the engine -> what it must keep."""


def verify(
    engine_path: Path,
    reference_path: Path,
    root: Path,
    split: str = "val",
    *,
    frames: int | None = None,
    limits: Limits | None = None,
    runtime: str = "auto",
    reference_runtime: str = "auto",
) -> dict[str, Any]:
    """Compare an engine's masks with a reference engine's.

    Args:
        engine_path: the engine in question.
        reference_path: what it was made from; the same engine, to compare two runtimes.
        root: a data set, in any layout of `eseg_ros.data.layouts`; labels are not needed.
        split: e.g. "val".
        frames: how many, spread over the split; None = all.
        limits: without them, those of the engine's precision in LIMITS.
        runtime: for the engine, one of `runtime.RUNTIMES`.
        reference_runtime: for the reference.

    Returns:
        passed, failures (sentences); limits; agreement: share of equal pixels; worst_frames: [{name, agreement}]; miou,
        reference_miou, per_class_iou, reference_per_class_iou, each of them and miou_drop (points) None where there are
        no labels; frames, data; engine, sha256, precision, runtime and device, and the reference's as reference_engine
        and so on; plan: path of the plan that TensorRT ran, None in another library; command: what repeats it.

    Raises:
        EngineError: an engine cannot be used, or the two have different classes.
        RuntimeUnavailableError: a library is not installed.
        DataError: a frame or label is missing, unreadable or does not fit; the message names the file.
    """
    engine, reference = load_engine(engine_path), load_engine(reference_path)
    classes = engine.manifest.classes
    if classes.names != reference.manifest.classes.names:
        raise EngineError(
            f"{engine_path} has the classes of {classes.name!r} and {reference_path} those of "
            f"{reference.manifest.classes.name!r}; masks can only be compared between engines of the same classes"
        )
    layout = find_layout(root)
    samples = spread(list_samples(root, split, layout), frames)
    ours, theirs = (Pipeline(create_runtime(*one)) for one in ((engine, runtime), (reference, reference_runtime)))
    with ours, theirs:
        report = _describe(ours, "") | _describe(theirs, "reference_")
        report |= {"data": f"{root.resolve().name}/{split}", "frames": len(samples)}
        report |= _compare(ours, theirs, samples, layout.coding(classes))
        plan = _plan_of(ours.runtime)
    limits = limits or LIMITS[engine.manifest.precision]
    failures = _failures(report, limits)
    report |= {"limits": asdict(limits), "failures": failures, "passed": not failures, "plan": plan and str(plan)}
    runtimes = (report["runtime"], report["reference_runtime"])
    return {**report, "command": _command(engine_path, reference_path, root, split, frames, *runtimes)}


def spread(samples: Sequence[Sample], count: int | None) -> list[Sample]:
    """`count` samples at even distances, the first and the last among them; all where there are no more."""
    if count is None or count >= len(samples):
        return list(samples)
    return [samples[index] for index in np.linspace(0, len(samples) - 1, count).astype(int)]


def record_verification(engine_path: Path, report: dict[str, Any]) -> Path:
    """Write a report of `verify` into the parity of the engine's manifest, under its data set's name.

    Returns:
        The manifest's path.

    Raises:
        EngineError: the engine cannot be read.
    """
    engine = load_engine(engine_path)
    manifest = replace(engine.manifest, parity={**engine.manifest.parity, report["data"]: _record(report)})
    return write_manifest(manifest, engine.onnx.parent)


def record_plan(report: dict[str, Any]) -> Path | None:
    """Note a report of `verify` with the plan that TensorRT ran, for `eseg build --list` to show.

    Returns:
        The path of the plan's manifest; None where no plan was run.

    Raises:
        EngineError: the plan's manifest is gone, or not this user's own.
    """
    return record_parity(Path(report["plan"]), report["data"], _record(report)) if report["plan"] else None


def _record(report: dict[str, Any]) -> dict[str, Any]:
    """What a manifest keeps of a report."""
    kept = ("reference_engine", "reference_sha256", "frames", "runtime", "reference_runtime", "agreement", "miou_drop")
    return {key: report[key] for key in (*kept, "worst_frames", "passed", "command")}


def _plan_of(runtime: Runtime) -> Path | None:
    """The plan that a loaded runtime runs."""
    network = runtime.network if isinstance(runtime, CudaRuntime) else None
    plan = network.plan if isinstance(network, TensorRtNetwork) else None
    return plan.path if plan else None


def _describe(pipeline: Pipeline, prefix: str) -> dict[str, Any]:
    used = pipeline.runtime
    return {
        f"{prefix}engine": used.manifest.name,
        f"{prefix}sha256": used.manifest.onnx_sha256,
        f"{prefix}precision": used.manifest.precision,
        f"{prefix}runtime": used.name,
        f"{prefix}device": used.device,
    }


def _compare(ours: Pipeline, theirs: Pipeline, samples: Sequence[Sample], coding: LabelCoding) -> dict[str, Any]:
    """What the masks of both say: agreement, worst frames, scores and their difference."""
    classes = ours.runtime.manifest.classes
    confusion, reference_confusion = (ConfusionMatrix(len(classes), classes.ignore_id) for _ in range(2))
    equal, total = [], []
    masks = zip(_masks(ours, samples), _masks(theirs, samples), strict=True)
    name = ours.runtime.manifest.name
    bar = tqdm(masks, total=len(samples), desc=f"verifying {name}", unit="frame", disable=None)
    for sample, (mask, expected) in zip(samples, bar, strict=True):
        equal.append(int(np.count_nonzero(mask == expected)))
        total.append(mask.size)
        _count(confusion, mask, sample, coding)
        _count(reference_confusion, expected, sample, coding)
    scores, reference_scores = (matrix.scores(classes.names) for matrix in (confusion, reference_confusion))
    return {
        "agreement": round(sum(equal) / sum(total), 6),
        "worst_frames": _worst(samples, [part / whole for part, whole in zip(equal, total, strict=True)]),
        "miou": scores["miou"],
        "reference_miou": reference_scores["miou"],
        "miou_drop": _drop(scores["miou"], reference_scores["miou"]),
        "per_class_iou": scores["per_class_iou"],
        "reference_per_class_iou": reference_scores["per_class_iou"],
    }


def _masks(pipeline: Pipeline, samples: Sequence[Sample]) -> Iterator[Image8]:
    for sample, result in zip(samples, pipeline.map(read_frame(sample.image) for sample in samples), strict=True):
        if isinstance(result, FrameError):
            raise DataError(f"{sample.image}: {result}") from result
        yield result.mask


def _count(confusion: ConfusionMatrix, mask: Image8, sample: Sample, coding: LabelCoding) -> None:
    if sample.label is None:
        return
    try:
        confusion.update(mask, read_label(sample.label, coding))
    except ValueError as error:
        raise DataError(f"{sample.label}: {error}; a label has one class id for each of its frame's pixels") from error


def _worst(samples: Sequence[Sample], agreements: Sequence[float]) -> list[dict[str, Any]]:
    order = np.argsort(agreements, kind="stable")[:WORST_FRAMES]
    return [{"name": samples[i].name, "agreement": round(agreements[i], 6)} for i in order]


def _drop(miou: float | None, reference_miou: float | None) -> float | None:
    """Points that the engine lies below its reference; None without labels."""
    if miou is None or reference_miou is None:
        return None
    return round(100 * (reference_miou - miou), 4)


def _failures(report: dict[str, Any], limits: Limits) -> list[str]:
    worst = ", ".join(f"{frame['name']} ({frame['agreement']:.2%})" for frame in report["worst_frames"])
    failures = []
    if report["agreement"] < limits.agreement:
        failures.append(
            f"{report['agreement']:.2%} of the pixels agree with {report['reference_engine']}, expected at least "
            f"{limits.agreement:.2%}; worst frames: {worst}"
        )
    if report["miou_drop"] is not None and report["miou_drop"] > limits.miou_drop:
        failures.append(
            f"mIoU is {report['miou_drop']:.2f} points below {report['reference_engine']}'s, expected at most "
            f"{limits.miou_drop:.2f}; worst frames: {worst}"
        )
    return failures


def _command(
    engine: Path, reference: Path, root: Path, split: str, frames: int | None, runtime: str, reference_runtime: str
) -> str:
    words = ["eseg", "verify", portable_path(engine), "--against", portable_path(reference)]
    words += ["--data", portable_path(root), "--split", split]
    words += ["--frames", str(frames)] if frames else []
    return shlex.join([*words, "--runtime", runtime, "--reference-runtime", reference_runtime])
