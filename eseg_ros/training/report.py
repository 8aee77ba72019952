"""The report of a training run: curves, scores of the best weights, pictures, and what was trained where."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format
from tqdm import tqdm

from eseg_ros.evaluation.bootstrap import Resampling
from eseg_ros.evaluation.charts import curve_svg
from eseg_ros.evaluation.metrics import count_pixels
from eseg_ros.evaluation.page import (
    ShownFrame,
    Viewer,
    gallery_html,
    interval_text,
    rows_html,
    tiles_html,
    viewer_html,
    write_page,
)
from eseg_ros.evaluation.pictures import LAYERS, picture_layers
from eseg_ros.evaluation.record import FrameScore, Record
from eseg_ros.evaluation.report import apart, classes_html, confusion_html
from eseg_ros.evaluation.scoring import FrameView
from eseg_ros.evaluation.summary import summarize
from eseg_ros.labels import ClassSet
from eseg_ros.models.network import SegmentationNetwork
from eseg_ros.runtime.paint import Painter
from eseg_ros.runtime.types import Frame, Image8
from eseg_ros.training.checkpoint import load_for_export
from eseg_ros.training.config import load_config
from eseg_ros.training.data import ValidationFrames, validation_sets
from eseg_ros.training.environment import read_environment, training_device
from eseg_ros.training.losses import upsampled
from eseg_ros.training.runs import BEST_CHECKPOINT, CONFIG_FILE, TrainingRun, read_run

REPORT_FILE = "report.html"
SHOWN = 6
"""Best frames with pictures, over all validation sets, and as many of the worst."""
_SHOWN_LAYERS = {"camera": "image", "truth": "truth", "prediction": "prediction", "error": "errors"}


@dataclass(frozen=True)
class Predictor:
    """A trained network that gives masks, on the device that trains.

    Attributes:
        network: (1, 3, H, W) normalized RGB -> (1, classes, h, w) scores.
        mean: RGB, 0..255.
        std: RGB, 0..255.
    """

    network: SegmentationNetwork
    mean: torch.Tensor
    std: torch.Tensor

    @torch.no_grad()
    def mask(self, image: torch.Tensor, size: tuple[int, int]) -> Image8:
        """Class ids of `size` (height, width), uint8. image (H, W, 3) uint8 RGB."""
        pixels = (image.to(self.mean.device).permute(2, 0, 1).float() - self.mean) / self.std
        scores = self.network(pixels[None].contiguous(memory_format=torch.channels_last))
        mask: Image8 = upsampled(scores, size)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        return mask


def write_run_report(run_dir: Path, sets: Sequence[ValidationFrames] | None = None) -> Path:
    """Writes RUN/report.html, which needs nothing beside it; validates the best checkpoint once for that.

    Args:
        run_dir: a run, finished or not, with its best.ckpt.
        sets: its validation sets, where they are loaded already.

    Returns:
        The page.

    Raises:
        EsegError: the folder holds no run, or its checkpoint or its frames cannot be read.
    """
    run, config = read_run(run_dir), load_config(run_dir / CONFIG_FILE)
    network, training = load_for_export(run_dir / BEST_CHECKPOINT)
    if sets is None:
        sets = validation_sets(config)
    names = [source.name for source in config.data.validate]
    predictor = _predictor(network, training.mean, training.std)
    record = Record.join(
        [_scored(name, frames, predictor, training.classes) for name, frames in zip(names, sets, strict=True)]
    )
    by_set = {name: record.select(record.sequence == name) for name in names}
    summaries = {name: summarize(part, training.classes.names, Resampling()) for name, part in by_set.items()}
    best, worst = _extremes(record)
    shown = [*best, *worst]
    with tempfile.TemporaryDirectory() as folder:
        frames = [
            _shown_frame(record, at, dict(zip(names, sets, strict=True)), predictor, training.classes, Path(folder))
            for at in shown
        ]
        viewer = Viewer(_SHOWN_LAYERS, "truth", "prediction", frames, first=len(best))
        sections = [
            tiles_html(_tiles(run, training.epochs, summaries)),
            _curves(run),
            f"<h2>Frames</h2>{viewer_html(viewer, training.classes)}",
            _gallery("Worst frames", range(len(best), len(shown)), viewer),
            _gallery("Best frames", range(len(best)), viewer),
            *(_scores(name, summaries[name], by_set[name], training.classes) for name in names),
            f"<h2>Where the time went</h2>{rows_html(_times(run))}",
            f"<h2>What was trained where</h2>{rows_html(_facts(run, read_environment(run_dir)))}",
            "<h2>The recipe</h2>"
            f'<pre class="card scroll">{html.escape((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))}</pre>',
        ]
        path = run_dir / REPORT_FILE
        write_page(path, run.path.resolve().name, _subtitle(run, training.epochs), sections, viewer)
    return path


def _predictor(
    network: SegmentationNetwork, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Predictor:
    device = training_device()
    deployed = network.deploy().to(device)
    convert_conv2d_weight_memory_format(deployed, torch.channels_last)
    return Predictor(deployed, *(255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std)))


def _scored(name: str, frames: ValidationFrames, predictor: Predictor, classes: ClassSet) -> Record:
    """The scores of all frames of a validation set."""
    scores = []
    for index in tqdm(range(len(frames)), desc=f"validating {name}", unit="frame", leave=False, disable=None):
        image, label = frames[index]
        mask = predictor.mask(image, (label.shape[0], label.shape[1]))
        confusion = count_pixels(mask, label.numpy(), len(classes), classes.ignore_id)
        scores.append(FrameScore(frames.names[index], index, index, answered=True, confusion=confusion))
    return Record.of(name, scores, len(classes), {})


def _extremes(record: Record) -> tuple[list[int], list[int]]:
    """The best and the worst frames of each sequence of a record, none of them twice, the most extreme first."""
    quality = record.quality()
    ranked = [at for at in np.argsort(quality, kind="stable").tolist() if not np.isnan(quality[at])]
    best: list[int] = []
    worst: list[int] = []
    for name in record.sequences:
        own = [at for at in ranked if record.sequence[at] == name]
        each = max(1, min(SHOWN // len(record.sequences), len(own) // 2))
        lowest = apart(own, record, each)
        worst += lowest
        best += apart([at for at in reversed(own) if at not in lowest], record, each)
    return best, worst


def _shown_frame(
    record: Record,
    at: int,
    sets: Mapping[str, ValidationFrames],
    predictor: Predictor,
    classes: ClassSet,
    folder: Path,
) -> ShownFrame:
    """A frame of the record with its pictures, which go to the folder."""
    name, index = str(record.sequence[at]), int(record.index[at])
    image, label = sets[name][index]
    height, width = image.shape[:2]
    view = FrameView(
        name=str(record.name[at]),
        index=index,
        frame=Frame(image.numpy().data.cast("B"), "rgb8", width, height, 3 * width, 0),
        mask=predictor.mask(image, (label.shape[0], label.shape[1])),
        label=label.numpy(),
        label_source=f"{name}, {record.name[at]}",
    )
    layers: dict[str, Path] = {}
    for layer, data in picture_layers(view, classes, Painter(classes)).items():
        layers[layer] = folder / f"{at}.{layer}{LAYERS[layer]}"
        layers[layer].write_bytes(data)
    caption = f"{name}, {view.name}, {100 * record.quality()[at]:.1f} %"
    return ShownFrame(caption, index, layers)


def _gallery(title: str, places: Sequence[int], viewer: Viewer) -> str:
    if not places:
        return ""
    return (
        f'<h2>{title}</h2><p class="soft">By the mean IoU of the frame. Red is wrong, gray has no label.</p>'
        + gallery_html(places, ["truth", "prediction", "error"], viewer)
    )


def _subtitle(run: TrainingRun, best_epoch: int) -> str:
    return (
        f"{run.recipe['model']}, {run.epochs[-1]['epoch']} of {run.recipe['epochs']} epochs. Scores and pictures are "
        f"those of the averaged weights of epoch {best_epoch}, the best by mean mIoU over the validation sets, in "
        "float32."
    )


def _tiles(run: TrainingRun, best_epoch: int, summaries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    tiles = [
        (f"mIoU, {name}", f"{100 * summary['miou']:.1f} %", interval_text(summary["intervals"].get("miou")))
        for name, summary in summaries.items()
        if summary["miou"] is not None
    ]
    waits = [float(entry["data_wait"]) for entry in run.epochs]
    return [
        *tiles,
        ("best epoch", f"{best_epoch}", f"of {run.epochs[-1]['epoch']}"),
        ("training", f"{run.hours:.1f} h", f"until {str(run.epochs[-1]['time'])[:16].replace('T', ' ')}"),
        ("waiting for data", f"{100 * np.median(waits):.0f} %", "of an epoch, median"),
    ]


def _curves(run: TrainingRun) -> str:
    """Loss, learning rate and mIoU over the epochs."""
    curves = {key: [float(entry[key]) for entry in run.epochs] for key in ("loss", "lr")}
    plots = {"loss": curves["loss"], "learning rate (1e-3)": [1000 * rate for rate in curves["lr"]]}
    plots |= {f"mIoU, {name} (%)": [100 * run.miou(entry, name) for entry in run.epochs] for name in run.sets}
    first = int(run.epochs[0]["epoch"])
    drawn = "".join(
        f"<section><h3>{html.escape(name)}</h3>{svg}</section>"
        for name, values in plots.items()
        if (svg := curve_svg(np.array(values, np.float64), first))
    )
    return f'<h2>Over the epochs</h2><div class="card columns">{drawn}</div>'


def _scores(name: str, summary: Mapping[str, Any], record: Record, classes: ClassSet) -> str:
    title = f"<h2>Validation set {html.escape(name)}: {summary['frames']} frames</h2>"
    return title + classes_html(summary, record, classes) + confusion_html(summary, classes)


def _times(run: TrainingRun) -> list[tuple[str, str]]:
    def spread(key: str, scale: float, unit: str) -> str:
        low, middle, high = np.percentile([scale * float(entry[key]) for entry in run.epochs], [0, 50, 100])
        return f"{middle:.3g} {unit} ({low:.3g} to {high:.3g})"

    return [
        ("an epoch, with its validation, median (range)", spread("seconds", 1, "s")),
        ("a step, median (range)", spread("seconds_per_step", 1, "s")),
        ("share of the training that waited for data, median (range)", spread("data_wait", 100, "%")),
        ("all epochs", f"{run.hours:.2f} h"),
    ]


def _facts(run: TrainingRun, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    began, ended = (str(run.epochs[at]["time"]) for at in (0, -1))
    return [("first epoch done", began), ("last epoch done", ended), *environment.items()]
