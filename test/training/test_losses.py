from __future__ import annotations

import numpy as np
import pytest
import torch

from eseg_ros.training.config import LossConfig
from eseg_ros.training.losses import OhemCrossEntropy, upsampled

IGNORE = 255


def reference(logits: torch.Tensor, label: torch.Tensor, config: LossConfig) -> float:
    """The loss, pixel by pixel in float64, on logits of label size."""
    scores = logits.double().permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).numpy()
    target = label.reshape(-1).numpy()
    scores, target = scores[target != IGNORE], target[target != IGNORE]
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    plain = -log_p[np.arange(len(target)), target]
    least = int(np.ceil(config.min_kept * len(target)))
    kept = np.flatnonzero(np.exp(-plain) < config.threshold)
    if len(kept) < least:
        kept = np.argsort(-plain, kind="stable")[:least]
    smooth = config.label_smoothing
    loss = (1 - smooth) * plain - smooth * log_p.mean(1)
    weight = np.ones(len(target)) if config.class_weights is None else np.array(config.class_weights)[target]
    return float((weight * loss)[kept].sum() / weight[kept].sum())


def sample(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    label = torch.randint(0, 4, (2, 12, 16), dtype=torch.uint8)
    logits = torch.randn(2, 4, 12, 16) + scale * torch.nn.functional.one_hot(label.long(), 4).permute(0, 3, 1, 2)
    label[:, :2] = IGNORE
    return logits, label


@pytest.mark.parametrize("scale", [0.0, 3.0, 12.0], ids=["random", "half learned", "easy"])
@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(threshold=1.0),
        LossConfig(threshold=0.5, min_kept=0.4),
        LossConfig(class_weights=(1.0, 2.0, 0.5, 3.0)),
        LossConfig(label_smoothing=0.1),
    ],
    ids=["default", "every pixel", "many kept", "weights", "smoothing"],
)
def test_the_loss_equals_a_plain_reference(config: LossConfig, scale: float) -> None:
    logits, label = sample(scale)
    assert OhemCrossEntropy(config, IGNORE)(logits, label).item() == pytest.approx(
        reference(logits, label, config), rel=1e-5, abs=1e-7
    )


def test_logits_at_the_heads_stride_are_upsampled_by_half_pixel_bilinear() -> None:
    coarse = torch.tensor([[[[0.0, 4.0]]]])
    assert upsampled(coarse, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_easy_pixels_send_no_gradient_once_enough_are_hard() -> None:
    logits, label = sample(3.0)
    logits.requires_grad_()
    OhemCrossEntropy(LossConfig(), IGNORE)(logits, label).backward()
    probability = logits.detach().softmax(1).gather(1, label.long().clamp(max=3)[:, None])[:, 0]
    counted = logits.grad.abs().sum(1) > 0
    assert torch.equal(counted, (probability < 0.7) & (label != IGNORE))


def test_a_batch_without_any_label_costs_nothing_and_stays_differentiable() -> None:
    logits = torch.randn(1, 4, 6, 8, requires_grad=True)
    loss = OhemCrossEntropy(LossConfig(), IGNORE)(logits, torch.full((1, 6, 8), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    logits, label = sample(3.0)
    plain = OhemCrossEntropy(LossConfig(), IGNORE)(logits.bfloat16().float(), label)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = OhemCrossEntropy(LossConfig(), IGNORE)(logits.bfloat16(), label)
    assert mixed.dtype == torch.float32
    assert mixed.item() == plain.item()
