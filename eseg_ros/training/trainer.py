"""One training run on PyTorch Lightning: the step, the validation, checkpoints, resume."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from eseg_ros.data.class_file import find_class_set
from eseg_ros.errors import EsegError
from eseg_ros.evaluation.metrics import ConfusionMatrix
from eseg_ros.models.zoo import build_model
from eseg_ros.training.checkpoint import (
    RECORD_KEY,
    TrainingRecord,
    read_checkpoint,
    record_of,
    record_to_dict,
    whole_modules,
)
from eseg_ros.training.config import TrainConfig, config_to_dict, config_to_yaml
from eseg_ros.training.data import sample_batches, training_loader, validation_loader, validation_sets
from eseg_ros.training.environment import write_environment
from eseg_ros.training.faults import named_faults
from eseg_ros.training.growth import grow_from
from eseg_ros.training.imagenet import start_encoder
from eseg_ros.training.losses import SupervisionLoss, distillation_loss, upsampled
from eseg_ros.training.optimisation import build_optimizer, ema_decay, learning_rate_factor, update_ema
from eseg_ros.training.processes import Process, this_process
from eseg_ros.training.report import write_run_report
from eseg_ros.training.run_log import RunLog
from eseg_ros.training.runs import BEST_CHECKPOINT, CONFIG_FILE
from eseg_ros.training.start import read_start, warm_start
from eseg_ros.training.teacher import Teacher, load_teacher

LAST_CHECKPOINT = "last.ckpt"
BEST_SCORE = "miou"
"""Name of the logged score that chooses the best checkpoint: the mean mIoU over all validation sets."""


class TrainingDivergedError(EsegError):
    """The loss is not a number any more."""


class SegmentationTask(L.LightningModule):
    """A network, its moving average, and what a training and a validation step do with them.

    `net` learns; `ema`, its moving average, is what is validated and exported. Both travel in the checkpoint.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = find_class_set(config.classes)
        self.net = build_model(config.model, len(self.classes))
        self._statistics_are_fixed = False
        self._frozen = frozen_modules(self.net, config.freeze)
        convert_conv2d_weight_memory_format(self.net, torch.channels_last)
        self.ema = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.loss = SupervisionLoss(config.loss, self.classes.ignore_id)
        self.register_buffer("mean", torch.tensor(config.data.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config.data.std).view(3, 1, 1) * 255, persistent=False)
        self.scores: dict[str, float] = {}
        self.best_miou: float | None = None
        self._confusions: list[ConfusionMatrix] = []
        self._teachers = self._load_teachers()

    def _load_teachers(self) -> list[Teacher]:
        """The teacher, if any, in a list, which keeps its weights out of this module's own."""
        if self.config.distillation is None:
            return []
        teacher = load_teacher(self.config.distillation.teacher)
        if teacher.classes.names != self.classes.names:
            raise EsegError(
                f"{self.config.distillation.teacher}: teaches the classes of {teacher.classes.name!r}; the recipe "
                f"wants {self.classes.name!r}"
            )
        return [teacher]

    def train(self, mode: bool = True) -> SegmentationTask:
        """As ever, but frozen layers keep their batch statistics too, and in the last epochs all do."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self._statistics_are_fixed:
            _fix_statistics(self.net)
        return self

    def start(self, frames: Iterable[Tensor]) -> None:
        """Takes over ImageNet's weights or those of another run or engine, where the recipe says so.

        Entries without weights keep their random start, the same in both: `ema` is a copy of `net`.

        Args:
            frames: batches (B, h, w, 3) uint8 RGB to measure an engine on.

        Raises:
            EsegError: the weights cannot be read, do not fit, or expect another normalization.
        """
        if (weights := self.config.encoder_weights) is not None:
            start_encoder(self.net, weights)
            unfitted = start_encoder(self.ema, weights)
            print(f"encoder from {weights}; not in it: {', '.join(unfitted) or 'nothing'}", flush=True)
        for take_over, path in ((warm_start, self.config.init_from), (grow_from, self.config.grow_from)):
            if path is not None:
                start = read_start(path, frames)
                start.check_normalization(self.config.data.mean, self.config.data.std)
                take_over(self.net, start)
                unfitted = take_over(self.ema, start)
                missing = ", ".join(whole_modules(self.net, unfitted))
                print(f"starting from {path}; not in it: {missing or 'nothing'}", flush=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = build_optimizer(self.net, self.config.optimizer)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(total * self.config.optimizer.warmup_epochs / self.config.epochs)
        decay = self.config.optimizer.schedule
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, warmup, total, decay)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def normalized(self, image: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, channels last in memory."""
        normalized: Tensor = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return normalized

    def on_train_epoch_start(self) -> None:
        if self.current_epoch >= self.config.epochs - self.config.fixed_statistics:
            self._statistics_are_fixed = True
            _fix_statistics(self.net)
        # Layers that draw random numbers must do so alike in a resumed run.
        torch.manual_seed(self.config.seed * 1_000_003 + self.current_epoch + 10_007 * self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        image, label = batch
        outputs = self.net.supervised(self.normalized(image))
        loss: Tensor = self.loss(outputs, label)
        for teacher in self._teachers:
            assert self.config.distillation is not None
            answer = teacher.scores(image.permute(0, 3, 1, 2).float())
            distance = distillation_loss(outputs[0].scores, answer, self.config.distillation.temperature)
            loss = loss + self.config.distillation.weight * distance
        if not torch.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, step {batch_index}, at learning rate "
                f"{self.lr_schedulers().get_last_lr()[0]:.2e}; lower optimizer.lr, lengthen optimizer.warmup_epochs, "
                "set optimizer.clip_norm=1, or rule out bf16 with precision=32"
            )
        self.log("train/loss", loss, on_step=True, on_epoch=True, sync_dist=True, batch_size=len(image))
        return loss

    def on_train_batch_end(self, _outputs: Any, _batch: Any, batch_index: int) -> None:
        if (batch_index + 1) % self.config.accumulate == 0:  # a step was made; an epoch has whole ones only
            update_ema(self.ema, self.net, ema_decay(self.global_step - 1, self.config.ema_decay))

    def on_validation_epoch_start(self) -> None:
        ignore_id = self.classes.ignore_id
        self._confusions = [ConfusionMatrix(len(self.classes), ignore_id) for _ in self.config.data.validate]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        image, label = batch
        logits = upsampled(self.ema(self.normalized(image)), (label.shape[1], label.shape[2]))
        prediction = logits.argmax(dim=1).to(torch.uint8)  # (B, H, W)
        for predicted, truth in zip(prediction.cpu().numpy(), label.cpu().numpy(), strict=True):
            self._confusions[dataloader_idx].update(predicted, truth)

    def on_validation_epoch_end(self) -> None:
        scores: dict[str, float] = {}
        for source, confusion in zip(self.config.data.validate, self._confusions, strict=True):
            counts = self.trainer.strategy.reduce(torch.from_numpy(confusion.matrix).to(self.device), reduce_op="sum")
            confusion.matrix = counts.cpu().numpy()
            scores[f"{source.name}/miou"] = float(confusion.miou())
            scores[f"{source.name}/pixel_accuracy"] = float(confusion.pixel_accuracy())
            for name, iou in zip(self.classes.names, confusion.iou(), strict=True):
                scores[f"{source.name}/iou/{name}"] = float(iou)
        mean = sum(scores[f"{source.name}/miou"] for source in self.config.data.validate) / len(self._confusions)
        self.scores = scores
        self.best_miou = mean if self.best_miou is None else max(self.best_miou, mean)
        self.log_dict({**scores, BEST_SCORE: mean})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        record = TrainingRecord(
            model=self.config.model,
            classes=self.classes,
            mean=self.config.data.mean,
            std=self.config.data.std,
            config=config_to_dict(self.config),
            epochs=self.trainer.fit_loop.epoch_progress.current.started,
            scores=self.scores,
            best_miou=self.best_miou,
            torch_version=str(torch.__version__),
        )
        checkpoint[RECORD_KEY] = record_to_dict(record)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.scores = checkpoint[RECORD_KEY]["scores"]
        self.best_miou = checkpoint[RECORD_KEY]["best_miou"]


def _fix_statistics(net: nn.Module) -> None:
    """From now on batch normalization takes the running statistics as they are; its factors go on learning."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def frozen_modules(net: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """The modules called `names`, which from now on learn nothing, batch statistics included.

    Raises:
        EsegError: the network has no such module.
    """
    frozen = []
    for name in names:
        try:
            frozen.append(net.get_submodule(name).requires_grad_(False).eval())
        except AttributeError:
            known = ", ".join(child for child, _ in net.named_children())
            raise EsegError(f"freeze: the network has no {name!r}; its parts are {known}, and theirs") from None
    return frozen


def train(config: TrainConfig, resume: Path | None = None) -> Path:
    """Trains a recipe; checkpoints and logs go to `config.run_dir`.

    Args:
        config: the recipe.
        resume: a checkpoint of the same recipe to go on from, as if the run had never stopped.

    Returns:
        The best checkpoint.

    Raises:
        EsegError: a run of this name exists and is not resumed, data or checkpoints are bad, the loss diverged, or the
            memory does not hold a step.
    """
    quiet_lightning()
    process, run_dir = this_process(), config.run_dir
    if resume is None and (run_dir / LAST_CHECKPOINT).exists():
        raise EsegError(f"{run_dir}: holds a run already; go on with it by --resume, or give another name=…")
    epoch = 0 if resume is None else record_of(read_checkpoint(resume)).epochs
    L.seed_everything(config.seed, verbose=False)
    task = SegmentationTask(config)
    # Lightning starts a resumed run's first pass over the data before it tells the sampler the epoch.
    frames, validation = training_loader(config, epoch, process), validation_sets(config)
    if resume is None:
        task.start(sample_batches(frames))
    if process.rank == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / CONFIG_FILE).write_text(config_to_yaml(config), encoding="utf-8")
        write_environment(run_dir)
    with named_faults(config):
        loaders = [validation_loader(one, process) for one in validation]
        _trainer(config, process).fit(task, frames, loaders, ckpt_path=resume, weights_only=True)
    if process.rank == 0:
        print(f"report: {write_run_report(run_dir, validation)}", flush=True)
    return run_dir / BEST_CHECKPOINT


def _trainer(config: TrainConfig, process: Process) -> L.Trainer:
    callbacks: list[Callback] = [
        RunLog(config.run_dir),
        LearningRateMonitor("step"),
        ModelCheckpoint(
            config.run_dir,
            "best",
            monitor=BEST_SCORE,
            mode="max",
            enable_version_counter=False,
            every_n_epochs=config.validate_every,
            save_on_train_epoch_end=True,  # whole epochs, so that every checkpoint can be resumed
        ),
        ModelCheckpoint(config.run_dir, "last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    interactive = sys.stderr.isatty() and process.rank == 0
    if interactive:
        callbacks.append(TQDMProgressBar(leave=False))
    return L.Trainer(
        max_epochs=config.epochs,
        strategy="ddp" if process.world > 1 else "auto",
        devices=process.world // process.nodes,
        num_nodes=process.nodes,
        sync_batchnorm=process.world > 1 and torch.cuda.is_available(),  # PyTorch has none for CPUs
        precision=config.precision,
        check_val_every_n_epoch=config.validate_every,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.optimizer.clip_norm or None,
        callbacks=callbacks,
        logger=TensorBoardLogger(config.run_dir, name="", version="tensorboard"),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=interactive,
        enable_model_summary=False,
    )


def quiet_lightning() -> None:
    """Silences what Lightning says about hardware and loaders; this run's own lines say what matters."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
