"""The trained weights that a run starts from: a checkpoint's, or an engine's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from eseg_ros.engine.export import rebuild_network
from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EsegError
from eseg_ros.models.zoo import build_model
from eseg_ros.training.checkpoint import CheckpointError, ema_weights, read_checkpoint, record_of
from eseg_ros.training.unfolding import unfolded_weights


@dataclass(frozen=True)
class Start:
    """Trained weights.

    Attributes:
        path: the file they are from.
        weights: name -> value, as in the `state_dict` of the model's training form.
        mean: RGB mean of the normalization that they expect, on a 0..1 scale.
        std: its RGB standard deviation.
    """

    path: Path
    weights: dict[str, Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def check_normalization(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """Refuses a recipe that normalizes differently.

        Raises:
            EsegError: it does.
        """
        ours = torch.tensor([self.mean, self.std])
        if not torch.allclose(ours, torch.tensor([mean, std]), atol=1e-3):
            raise EsegError(
                f"{self.path}: learnt from colors with data.mean {list(self.mean)} and data.std {list(self.std)}; the "
                f"recipe has {list(mean)} and {list(std)}. Give the recipe the same ones"
            )


def read_start(path: Path, frames: Iterable[Tensor]) -> Start:
    """The averaged weights of a checkpoint (.ckpt), or those of an fp32 or fp16 engine (.json or .onnx).

    Args:
        path: the file.
        frames: batches (B, h, w, 3) uint8 RGB of the training that is to come, which an engine's batch normalization
            is measured on; a checkpoint needs none.

    Raises:
        CheckpointError, EngineError: the file cannot be read, or the engine cannot be rebuilt.
    """
    if path.suffix == ".ckpt":
        checkpoint = read_checkpoint(path)
        record = record_of(checkpoint)
        return Start(path, ema_weights(checkpoint), record.mean, record.std)
    engine = load_engine(path)
    manifest = engine.manifest
    folded = rebuild_network(manifest, engine.onnx)
    mean, std = (255 * torch.tensor(value).view(3, 1, 1) for value in (manifest.input.mean, manifest.input.std))
    batches = ((frame.permute(0, 3, 1, 2).float() - mean) / std for frame in frames)
    network = build_model(manifest.model, len(manifest.classes))
    return Start(path, unfolded_weights(network, folded, batches), manifest.input.mean, manifest.input.std)


def warm_start(net: nn.Module, start: Start) -> list[str]:
    """Loads trained weights into `net` where name and shape fit.

    Returns:
        Names of the entries of `net` that did not fit and keep their start, for example a head for other classes.

    Raises:
        CheckpointError: nothing fits.
    """
    own = net.state_dict()
    fitting = {name: w for name, w in start.weights.items() if name in own and own[name].shape == w.shape}
    if not fitting:
        raise CheckpointError(
            f"{start.path}: none of its {len(start.weights)} weights fits this model; name one of its family"
        )
    net.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
