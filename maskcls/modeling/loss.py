"""Criteria, their weighted sums, and their application to every head.

A criterion takes one head's logits (B, K >= 2) and its target probabilities (B, K) and returns a loss for each photo,
(B,). Training sums and divides by the photos of the whole update, so a value does not depend on how it was split.
A single logit arrives as the pair (0, z) (labels.split_heads), whose softmax is sigmoid: every criterion works.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot, softplus

from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES, OUTPUT_HEADS, split_heads
from maskcls.registry import Terms, check_number

Loss = Callable[[Tensor, Tensor], Tensor]
Weight = Sequence[float] | str | None  # a number per class, or "balanced"


def class_weights(weight: Weight, num_per_class: Sequence[int]) -> Tensor | None:
    """Returns (K,) factors: as given, or for "balanced" inverse to each class's number of training photos.

    Balanced weights average 1 over the training photos. Source: scikit-learn's class_weight="balanced"; classes
    without photos get 0. Raises UserError when the list has another length than the head, or numbers that make no loss.
    """
    if weight is None:
        return None
    counts = torch.tensor(num_per_class, dtype=torch.float32)
    if weight == "balanced":
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)
    is_numbers = isinstance(weight, Sequence) and all(isinstance(w, int | float) and 0 <= w < math.inf for w in weight)
    if not is_numbers or len(weight) != len(counts) or not any(weight):
        raise UserError(
            f"criterion_args: weight is {weight!r}; it is 'balanced' or {len(counts)} numbers, one per class, "
            "0 or more and not all 0"
        )
    return torch.tensor(weight, dtype=torch.float32)


def cross_entropy(*, num_per_class: Sequence[int], weight: Weight = None, label_smoothing: float = 0.0) -> Loss:
    """Returns -sum_k w_k t_k log p_k with smoothed targets t. Source: torch.nn.CrossEntropyLoss with probabilities as
    targets (its form for integer targets divides by the sum of the weights in the batch, ours by the photos).
    """
    check_number("criterion_args", "label_smoothing", label_smoothing, most=1)
    weights = class_weights(weight, num_per_class)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        target = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
        return -(_weighted(target, weights) * log_softmax(logits, 1)).sum(1)

    return loss


def label_smoothing(*, num_per_class: Sequence[int], smoothing: float = 0.1, weight: Weight = None) -> Loss:
    """Returns cross-entropy against (1 - smoothing) * t + smoothing / K. Source: Szegedy et al., arXiv:1512.00567."""
    check_number("criterion_args", "smoothing", smoothing, most=1)
    return cross_entropy(num_per_class=num_per_class, weight=weight, label_smoothing=smoothing)


def focal(*, num_per_class: Sequence[int], gamma: float = 2.0, weight: Weight = None) -> Loss:
    """Returns -sum_k w_k t_k (1 - p_k)^gamma log p_k. Source: Lin et al., arXiv:1708.02002, eq. 5, over softmax."""
    check_number("criterion_args", "gamma", gamma)
    weights = class_weights(weight, num_per_class)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        log_p = log_softmax(logits, 1)
        return -(_weighted(target, weights) * (1 - log_p.exp()).clamp(min=1e-7) ** gamma * log_p).sum(1)

    return loss


def f1(*, num_per_class: Sequence[int], epsilon: float = 1e-7, weight: Weight = None) -> Loss:
    """Returns 1 - the macro F1 of probabilities in place of decisions, the same value for every photo of the batch.

    It is over the photos that one device takes at once, and over the whole split in validation. Classes absent from
    the targets and weighted 0 do not count.
    """
    check_number("criterion_args", "epsilon", epsilon, least=1e-12)  # a class may be in neither
    weights = class_weights(weight, num_per_class)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        p = logits.softmax(1)
        score = 2 * (p * target).sum(0) / (p.sum(0) + target.sum(0) + epsilon)  # (K,): 2 tp / (2 tp + fp + fn)
        shares = torch.ones_like(score) if weights is None else weights.to(score)
        return (1 - (score * shares).sum() / shares.sum()).expand(len(logits))

    return loss


def binary_cross_entropy(*, num_per_class: Sequence[int], weight: Weight = None) -> Loss:
    """Returns binary cross-entropy from logits: of one or two logits; of more, each class against the rest, summed.

    Source: torch.nn.BCEWithLogitsLoss; with several logits as in Wightman et al., arXiv:2110.00476.
    """
    weights = class_weights(weight, num_per_class)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[1] == 2:  # the logit of the second class against the first: z for the pair (0, z)
            z = logits[:, 1] - logits[:, 0]
            each = torch.stack([softplus(z), softplus(-z)], 1)
            return (_weighted(target, weights) * each).sum(1)
        each = target * softplus(-logits) + (1 - target) * softplus(logits)
        return (each if weights is None else each * weights.to(each)).sum(1)

    return loss


def weighted_sum(*, num_per_class: Sequence[int], terms: Terms) -> Loss:
    """Returns sum_i factor_i * criterion_i; terms: [{criterion: name, factor: 1.0, criterion_args: {}}, ...]."""
    for term in terms:
        check_number("criterion_args", "factor", term.get("factor", 1.0))
    factors = [float(term.get("factor", 1.0)) for term in terms]
    if not any(factors):
        raise UserError("criterion_args: the factors of terms are all 0, so nothing would be learnt")
    losses = [CRITERIA[t["criterion"]](num_per_class=num_per_class, **(t.get("criterion_args") or {})) for t in terms]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        values = [criterion(logits, target) for criterion in losses]
        return cast(Tensor, sum(factor * value for factor, value in zip(factors, values, strict=True)))

    return loss


def _weighted(target: Tensor, weights: Tensor | None) -> Tensor:
    return target if weights is None else target * weights.to(target)


class HeadLosses:
    """One criterion for each head of an output mode, and their weighted sum."""

    def __init__(self, losses: Mapping[str, Loss], head_weights: Mapping[str, float], output: str) -> None:
        self.losses, self.head_weights, self.output = losses, head_weights, output

    def per_head(self, logits: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns head -> (B,) from the model's logits (B, C) and the heads' integer (B,) or soft (B, K) targets."""
        heads = split_heads(logits.float(), self.output)
        return {head: self.losses[head](values, soft(targets[head], head)) for head, values in heads.items()}

    def total(self, per_head: Mapping[str, Tensor]) -> Tensor:
        """Returns (B,): the heads' losses, weighted and summed."""
        return cast(Tensor, sum(self.head_weights.get(head, 1.0) * loss for head, loss in per_head.items()))


def soft(target: Tensor, head: str) -> Tensor:
    """Returns (B, K) float32 probabilities; integer targets (B,) become one-hot."""
    return target if target.dim() == 2 else one_hot(target, len(HEAD_CLASSES[head])).float()


def build_losses(
    criterion: Callable[..., Loss],
    arguments: Mapping[str, Any],
    *,
    output: str,
    num_per_class: Mapping[str, Sequence[int]],
    head_weights: Mapping[Any, float],
    device: torch.device,
) -> HeadLosses:
    """Returns the criterion for every head of `output`; num_per_class: head -> training photos of each class.

    Class weights under `all` are "balanced", or a mapping head -> list. What a criterion makes of them lies on
    `device` from the start: to bring it there for every micro batch would wait for the GPU.
    """
    losses = {}
    for head in OUTPUT_HEADS[output]:
        with device:
            losses[head] = criterion(num_per_class=num_per_class[head], **_of_head(arguments, head))
    return HeadLosses(losses, head_weights, output)


def _of_head(arguments: Mapping[str, Any], head: str) -> dict[str, Any]:
    """Returns a criterion's arguments with the head's own weight in place of a mapping, in weighted_sum's terms too."""
    own = dict(arguments)
    if isinstance(weight := own.get("weight"), Mapping):
        if unknown := [name for name in weight if name not in HEAD_CLASSES]:
            raise UserError(f"criterion_args: weight names no head: {', '.join(map(str, unknown))}")
        own["weight"] = weight.get(head)
    if "terms" in own:
        own["terms"] = [{**t, "criterion_args": _of_head(t.get("criterion_args") or {}, head)} for t in own["terms"]]
    return own


CRITERIA: dict[str, Callable[..., Loss]] = {
    "BCELoss": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "f1": f1,
    "focal": focal,
    "label_smoothing": label_smoothing,
    "weighted_sum": weighted_sum,
}
