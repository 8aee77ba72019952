"""What a run says while it trains: a line each epoch, a table each validation, and a log in JSON lines."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from eseg_ros.training.runs import METRICS_FILE


class RunLog(Callback):
    """Prints a line each epoch and a table of IoU each validation; appends both to RUN/metrics.jsonl, in one process.

    `data_wait` is the share of an epoch's training time that passed while the next batch was not there yet: near 0
    when the loader keeps up, and a reason for more `data.num_workers` when it is not.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE
        self._clock = time.perf_counter
        self._run_start = self._epoch_start = self._idle_since = 0.0
        self._first_epoch = 0
        self._waited = self._trained = 0.0
        self._validated = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._run_start = self._clock()
        self._first_epoch = trainer.current_epoch
        if trainer.is_global_zero:
            self._forget_epochs_after(trainer.current_epoch)

    def _forget_epochs_after(self, epoch: int) -> None:
        """Drops what a resumed run is going to do again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["epoch"] <= epoch]
            self._path.write_text("".join(kept), encoding="utf-8")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_start = self._idle_since = self._clock()
        self._waited = 0.0
        self._validated = False

    def on_train_batch_start(self, *_: Any) -> None:
        self._waited += self._clock() - self._idle_since

    def on_train_batch_end(self, *_: Any) -> None:
        self._idle_since = self._clock()
        self._trained = self._idle_since - self._epoch_start

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        now = self._clock()
        epoch, epochs = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": trainer.global_step,
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "loss": round(float(trainer.callback_metrics["train/loss"]), 5),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(now - self._epoch_start, 2),
            "seconds_per_step": round(
                self._trained * trainer.accumulate_grad_batches / trainer.num_training_batches, 4
            ),
            "data_wait": round(self._waited / max(self._trained, 1e-9), 4),
        }
        done = epoch - self._first_epoch
        left = (now - self._run_start) / done * (epochs - epoch)
        line = (
            f"epoch {epoch:4d}/{epochs}  loss {entry['loss']:.4f}  lr {entry['lr']:.2e}  "
            f"{entry['seconds']:6.1f} s  {entry['seconds_per_step']:.3f} s/step  wait {entry['data_wait']:4.0%}  "
            f"left {timedelta(seconds=round(left))}"
        )
        tqdm.write(line)
        if self._validated:
            scores: dict[str, float] = pl_module.scores
            entry["scores"] = {name: _rounded(score) for name, score in scores.items()}
            tqdm.write(iou_table(scores))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def iou_table(scores: dict[str, float]) -> str:
    """A line a class and a column a validation set, from scores named "SET/iou/CLASS" and "SET/miou"."""
    sets = list(dict.fromkeys(name.split("/")[0] for name in scores))
    classes = list(dict.fromkeys(name.split("/")[2] for name in scores if "/iou/" in name))
    width = max(len(name) for name in (*classes, "pixel accuracy"))
    rows = [(name, [scores[f"{s}/iou/{name}"] for s in sets]) for name in classes]
    rows.append(("mIoU", [scores[f"{s}/miou"] for s in sets]))
    rows.append(("pixel accuracy", [scores[f"{s}/pixel_accuracy"] for s in sets]))
    columns = [max(len(s), 6) for s in sets]
    lines = ["  " + " " * width + "".join(f"  {s:>{c}}" for s, c in zip(sets, columns, strict=True))]
    for name, values in rows:
        cells = "".join(f"  {_cell(v):>{c}}" for v, c in zip(values, columns, strict=True))
        lines.append(f"  {name:<{width}}{cells}")
    return "\n".join(lines)


def _cell(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.4f}"


def _rounded(score: float) -> float | None:
    """JSON knows no NaN: the IoU of a class that does not occur is null."""
    return None if math.isnan(score) else round(score, 5)
