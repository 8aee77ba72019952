"""From a training run to the engines of a vehicle: exported, quantised, scored and verified, all or nothing."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from eseg_ros.engine.export import Size, export_checkpoint
from eseg_ros.engine.manifest import load_engine, portable_path
from eseg_ros.engine.quantize import Recipe, quantize_engine
from eseg_ros.engine.verify import record_verification, verify
from eseg_ros.errors import EngineError
from eseg_ros.evaluation.offline import evaluate, learnt_from, record_scores
from eseg_ros.training.runs import BEST_CHECKPOINT


@dataclass(frozen=True, slots=True)
class Released:
    """One engine of a release: its manifest's path, mIoU, and share of pixels equal to the fp32 engine's (or None)."""

    path: Path
    miou: float
    agreement: float | None


def release(
    run: Path,
    name: str,
    folder: Path,
    data: Path,
    split: str = "val",
    precisions: tuple[str, ...] = ("fp16", "int8"),
    calibration_split: str = "train",
    size: Size | None = None,
) -> list[Released]:
    """Make NAME, NAME_fp16 and NAME_int8 of a run's best averaged weights; nothing is written unless every gate holds.

    The gates are those of the steps: parity with PyTorch, the masks of every quantised engine against the fp32 one's
    (`verify.LIMITS`). Scores and verification stand in the manifests, scores only on frames that were not learnt.

    Args:
        run: folder of a training run, or a checkpoint.
        name: of the fp32 engine; the others append their precision.
        folder: gets the engines; existing ones are replaced.
        data: data set, in any layout that is known.
        split: labeled frames that the engines are scored and verified on.
        precisions: besides fp32.
        calibration_split: frames from which int8 scales are taken.
        size: of the engines' input; the size the run was trained for unless given.

    Raises:
        EngineError: a gate does not hold; what was written before stays as it was.
    """
    checkpoint = run / BEST_CHECKPOINT if run.is_dir() else run
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".release.") as temporary:
        staging = Path(temporary)
        reference = export_checkpoint(checkpoint, name, staging, size=size, data=data)
        engines = [reference]
        for precision in precisions:
            recipe = Recipe(precision, data, calibration_split)
            engines.append(quantize_engine(reference, recipe, f"{name}_{precision}", staging))
        released = [_judge(path, reference, folder, data, split) for path in engines]
        for path in engines:  # the manifest last: it names the hash of the file beside it
            onnx = load_engine(path).onnx
            os.replace(onnx, folder / onnx.name)
            # Its commands name the files where they are now.
            manifest = path.read_text(encoding="utf-8")
            path.write_text(manifest.replace(portable_path(staging), portable_path(folder)), encoding="utf-8")
            os.replace(path, folder / path.name)
    return released


def _judge(path: Path, reference: Path, folder: Path, data: Path, split: str) -> Released:
    """Score an engine, and hold a quantised one against the fp32 one."""
    report = evaluate(path, data, split)
    if not learnt_from(load_engine(path).manifest, report["data"]):
        record_scores(path, report)
    if path == reference:
        return Released(folder / path.name, report["miou"], None)
    verification = verify(path, reference, data, split)
    if not verification["passed"]:
        raise EngineError(
            f"{path.stem} does not pass: {'; '.join(verification['failures'])}. Nothing was released; find the layers "
            f"that cost most with `eseg quantize --rank`, or release without it: --precisions"
        )
    record_verification(path, verification)
    return Released(folder / path.name, report["miou"], verification["agreement"])
