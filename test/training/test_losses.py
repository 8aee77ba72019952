from __future__ import annotations

import numpy as np
import pytest
import torch

from eseg_ros.models.network import Supervised
from eseg_ros.training.config import LossConfig
from eseg_ros.training.losses import (
    OhemCrossEntropy,
    SupervisionLoss,
    class_edges,
    distillation_loss,
    edge_loss,
    loss_on_edges,
    upsampled,
)

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


def two_fields() -> torch.Tensor:
    """(1, 8, 12): class 1 left of column 6, class 3 from there on; the last two columns are ignored."""
    label = torch.ones(1, 8, 12, dtype=torch.uint8)
    label[..., 6:] = 3
    label[..., 10:] = IGNORE
    return label


def test_edges_are_within_two_pixels_of_another_class_and_ignored_pixels_make_none() -> None:
    edges = class_edges(two_fields(), IGNORE)
    assert edges[0].all(dim=0).tolist() == [column in (4, 5, 6, 7) for column in range(12)]
    assert edges[0].any(dim=0).tolist() == [column in (4, 5, 6, 7) for column in range(12)]


def test_one_class_has_no_edges() -> None:
    assert not class_edges(torch.full((2, 8, 12), 5, dtype=torch.uint8), IGNORE).any()


def test_edges_and_the_rest_weigh_alike() -> None:
    label = two_fields()  # 80 labelled pixels, 32 of them edges
    logits = torch.zeros(1, 1, 8, 12, requires_grad=True)
    loss = edge_loss(logits, label, IGNORE)
    assert loss.item() == pytest.approx(2 * 0.4 * 0.6 * np.log(2))
    loss.backward()
    on_edges = class_edges(label, IGNORE)
    gradient = logits.grad[:, 0]
    assert gradient[on_edges].sum().item() == pytest.approx(-gradient[~on_edges].sum().item(), rel=1e-5)
    assert not gradient[label == IGNORE].any()


def test_edges_that_are_known_cost_nothing() -> None:
    label = two_fields()
    logits = torch.where(class_edges(label, IGNORE), 30.0, -30.0)[:, None]
    assert edge_loss(logits, label, IGNORE).item() == pytest.approx(0, abs=1e-6)


def test_scores_are_judged_again_where_edges_are_sure() -> None:
    logits, label = sample(3.0)
    edges = torch.full((2, 1, 12, 16), -9.0)
    edges[:, :, 5, 3:9] = 9.0
    plain = torch.nn.functional.cross_entropy(logits[:, :, 5, 3:9], label[:, 5, 3:9].long())
    assert loss_on_edges(logits, edges, label, IGNORE).item() == pytest.approx(plain.item(), rel=1e-5)


def test_without_a_sure_edge_scores_are_not_judged_again() -> None:
    logits, label = sample(3.0)
    assert loss_on_edges(logits, torch.zeros(2, 1, 12, 16), label, IGNORE).item() == 0


def test_scores_alone_cost_their_cross_entropy() -> None:
    logits, label = sample(3.0)
    total = SupervisionLoss(LossConfig(), IGNORE)([Supervised(logits, weight=1.0)], label)
    assert torch.equal(total, OhemCrossEntropy(LossConfig(), IGNORE)(logits, label))


def test_further_outputs_add_their_weighted_loss_at_label_size() -> None:
    logits, label = sample(3.0)
    small = logits[:, :, ::4, ::4]
    cross_entropy = OhemCrossEntropy(LossConfig(), IGNORE)
    total = SupervisionLoss(LossConfig(), IGNORE)([Supervised(logits, 1.0), Supervised(small, 0.4)], label)
    torch.testing.assert_close(total, cross_entropy(logits, label) + 0.4 * cross_entropy(small, label))


def test_an_output_with_edges_adds_both_edge_losses() -> None:
    logits, label = sample(3.0)
    edges = 4 * torch.randn(2, 1, 12, 16)
    expected = OhemCrossEntropy(LossConfig(), IGNORE)(logits, label)
    expected = expected + 0.3 * edge_loss(edges, label, IGNORE) + 0.1 * loss_on_edges(logits, edges, label, IGNORE)
    total = SupervisionLoss(LossConfig(), IGNORE)([Supervised(logits, 1.0, edges)], label)
    torch.testing.assert_close(total, expected)


def test_a_batch_without_any_label_has_no_edge_loss_either() -> None:
    logits, edges = torch.randn(1, 4, 6, 8), torch.randn(1, 1, 6, 8)
    nothing = torch.full((1, 6, 8), IGNORE, dtype=torch.uint8)
    assert SupervisionLoss(LossConfig(), IGNORE)([Supervised(logits, 1.0, edges)], nothing).item() == 0


def test_a_student_that_answers_as_its_teacher_loses_nothing_whatever_the_sizes() -> None:
    teacher = torch.randn(2, 4, 1, 1).expand(2, 4, 6, 8)
    student = teacher[..., :3, :4] + 5.0  # the same probabilities
    assert float(distillation_loss(student, teacher, temperature=2.0)) == pytest.approx(0.0, abs=1e-6)


def test_the_distance_to_a_teacher_is_the_divergence_of_their_softened_probabilities() -> None:
    student, teacher = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
    p, q = (torch.softmax(scores.double() / 3.0, dim=1) for scores in (teacher, student))
    expected = 9 * (p * (p / q).log()).sum(dim=1).mean()
    assert float(distillation_loss(student, teacher, temperature=3.0)) == pytest.approx(float(expected), rel=1e-5)


def test_a_student_that_learns_from_its_teacher_comes_nearer() -> None:
    teacher, student = torch.randn(1, 3, 8, 8), torch.zeros(1, 3, 4, 4, requires_grad=True)
    before = distillation_loss(student, teacher, temperature=2.0)
    before.backward()
    assert student.grad is not None
    after = distillation_loss(student.detach() - 5 * student.grad, teacher, temperature=2.0)
    assert after.item() < before.item()
