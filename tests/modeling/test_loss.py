"""Every criterion equals its reference, for every output form."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES, OUTPUT_HEADS, num_outputs, split_heads, targets_of
from maskcls.modeling.loss import (
    CRITERIA,
    binary_cross_entropy,
    build_losses,
    class_weights,
    cross_entropy,
    f1,
    focal,
    label_smoothing,
    soft,
    weighted_sum,
)

CPU = torch.device("cpu")
COUNTS = [50, 30, 20]
NUM_PER_CLASS = {head: list(range(1, len(classes) + 1)) for head, classes in HEAD_CLASSES.items()}
WEIGHTS = [0.5, 1.0, 3.0]


def draw(num: int = 7, width: int = 3, *, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns logits (N, K), integer targets (N,), soft targets (N, K)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num, width, generator=generator) * scale
    target = torch.randint(width, (num,), generator=generator)
    return logits, target, torch.rand(num, width, generator=generator).softmax(1)


def labels(num: int) -> torch.Tensor:
    """Returns (N, 3): mask, gender, age group."""
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randint(k, (num,), generator=generator) for k in (3, 2, 3)], 1)


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_cross_entropy_is_torchs_for_soft_targets(weight: list[float] | None, smoothing: float) -> None:
    logits, _, target = draw()
    own = cross_entropy(num_per_class=COUNTS, weight=weight, label_smoothing=smoothing)(logits, target)
    reference = functional.cross_entropy(
        logits, target, weight=None if weight is None else torch.tensor(weight), label_smoothing=smoothing,
        reduction="none",
    )  # fmt: skip
    assert own.shape == (7,)
    close(own, reference)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_for_integer_targets(smoothing: float) -> None:
    logits, target, _ = draw()
    own = cross_entropy(num_per_class=COUNTS, label_smoothing=smoothing)(logits, soft(target, "mask"))
    close(own, functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none"))


def test_weighted_cross_entropy_of_integer_targets_is_torchs_before_its_mean() -> None:
    logits, target, _ = draw()
    own = cross_entropy(num_per_class=COUNTS, weight=WEIGHTS)(logits, soft(target, "mask"))
    close(own, functional.cross_entropy(logits, target, weight=torch.tensor(WEIGHTS), reduction="none"))


def test_label_smoothing_is_torchs_and_its_default_is_a_tenth() -> None:
    logits, target, _ = draw()
    one_hot = soft(target, "mask")
    close(
        label_smoothing(num_per_class=COUNTS)(logits, one_hot),
        functional.cross_entropy(logits, target, label_smoothing=0.1, reduction="none"),
    )
    close(
        label_smoothing(num_per_class=COUNTS, smoothing=0.3, weight=WEIGHTS)(logits, one_hot),
        functional.cross_entropy(
            logits, one_hot, weight=torch.tensor(WEIGHTS), label_smoothing=0.3, reduction="none"
        ),
    )  # fmt: skip


def test_focal_has_the_value_worked_out_by_hand() -> None:
    # p = (0.7, 0.2, 0.1) for the first photo, (0.25, 0.25, 0.5) for the second
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]).log()
    target = soft(torch.tensor([0, 1]), "mask")
    expected = torch.tensor([-(0.3**2) * math.log(0.7), -(0.75**2) * math.log(0.25)])
    close(focal(num_per_class=COUNTS)(logits, target), expected)
    expected = torch.tensor([-0.5 * 0.3 * math.log(0.7), -1.0 * 0.75 * math.log(0.25)])
    close(focal(num_per_class=COUNTS, gamma=1.0, weight=WEIGHTS)(logits, target), expected)


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_focal_with_gamma_0_is_cross_entropy(weight: list[float] | None) -> None:
    logits, _, target = draw()
    own = focal(num_per_class=COUNTS, gamma=0.0, weight=weight)(logits, target)
    close(own, cross_entropy(num_per_class=COUNTS, weight=weight)(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_has_finite_gradients_where_the_model_is_sure(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)  # right, and wrong
    loss = focal(num_per_class=COUNTS, gamma=gamma)(logits, soft(torch.tensor([0, 0]), "mask"))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("weight", [None, [0.5, 3.0]])
def test_bceloss_of_one_logit_is_torchs_in_value_and_gradient(weight: list[float] | None) -> None:
    z = (draw(width=1)[0] * 3).requires_grad_()
    female = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    pair = split_heads(z, "gender")["gender"]
    own = binary_cross_entropy(num_per_class=[4, 3], weight=weight)(pair, soft(female, "gender"))
    factors = torch.ones(7) if weight is None else torch.tensor(weight)[female]
    reference = functional.binary_cross_entropy_with_logits(z[:, 0], female.float(), factors, reduction="none")
    close(own, reference)
    close(torch.autograd.grad(own.sum(), z)[0], torch.autograd.grad(reference.sum(), z)[0])


def test_bceloss_of_one_logit_is_torchs_for_soft_targets() -> None:
    z, share = draw(width=1)[0], torch.linspace(0, 1, 7)
    target = torch.stack([1 - share, share], 1)
    own = binary_cross_entropy(num_per_class=[4, 3])(split_heads(z, "gender")["gender"], target)
    close(own, functional.binary_cross_entropy_with_logits(z[:, 0], share, reduction="none"))


@pytest.mark.parametrize("z", [-1e4, -200.0, 200.0, 1e4])
def test_bceloss_of_huge_logits_stays_finite_and_exact(z: float) -> None:
    logit = torch.tensor([[z], [z]], requires_grad=True)
    target = soft(torch.tensor([0, 1]), "gender")
    loss = binary_cross_entropy(num_per_class=[1, 1])(split_heads(logit, "gender")["gender"], target)
    loss.sum().backward()
    close(loss.detach(), torch.tensor([max(z, 0.0), max(-z, 0.0)]))
    assert logit.grad is not None
    close(logit.grad[:, 0], torch.tensor([float(z > 0), -float(z < 0)]))


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_bceloss_of_three_logits_is_torchs_summed_over_the_classes(weight: list[float] | None) -> None:
    logits, target, _ = draw()
    one_hot = soft(target, "mask")
    own = binary_cross_entropy(num_per_class=COUNTS, weight=weight)(logits, one_hot)
    factors = None if weight is None else torch.tensor(weight)
    reference = functional.binary_cross_entropy_with_logits(logits, one_hot, factors, reduction="none").sum(1)
    close(own, reference)


def test_f1_has_the_value_worked_out_by_hand() -> None:
    logits = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]).log()
    target = soft(torch.tensor([0, 1, 1]), "gender")
    # class 0: tp 0.8, p 1.7, truth 1 -> 1.6 / 2.7; class 1: tp 0.6 + 0.5, p 1.3, truth 2 -> 2.2 / 3.3
    first, second = 1.6 / 2.7, 2.2 / 3.3
    close(f1(num_per_class=[1, 2])(logits, target), torch.full((3,), 1 - (first + second) / 2))
    weighted = f1(num_per_class=[1, 2], weight=[3.0, 1.0])(logits, target)
    close(weighted, torch.full((3,), 1 - (3 * first + second) / 4))


def test_f1_is_0_when_every_prediction_is_sure_and_right_and_1_when_all_are_wrong() -> None:
    target = soft(torch.tensor([0, 1, 2, 2]), "mask")
    loss = f1(num_per_class=COUNTS)
    close(loss(target * 100, target), torch.zeros(4))
    close(loss(target.roll(1, 1) * 100, target), torch.ones(4))


def test_f1_balanced_leaves_a_class_without_photos_out_of_the_mean() -> None:
    target = soft(torch.tensor([0, 1, 1, 0]), "mask")
    close(f1(num_per_class=[5, 5, 0], weight="balanced")(target * 100, target), torch.zeros(4))


def test_weighted_sum_is_the_sum_of_its_terms() -> None:
    logits, _, target = draw()
    terms = [
        {"criterion": "focal", "factor": 0.7, "criterion_args": {"gamma": 3.0}},
        {"criterion": "f1", "factor": 0.3},
        {"criterion": "label_smoothing"},
    ]
    expected = (
        0.7 * focal(num_per_class=COUNTS, gamma=3.0)(logits, target)
        + 0.3 * f1(num_per_class=COUNTS)(logits, target)
        + label_smoothing(num_per_class=COUNTS)(logits, target)
    )
    close(weighted_sum(num_per_class=COUNTS, terms=terms)(logits, target), expected)


@pytest.mark.parametrize("counts", [[50, 30, 20], [1, 1, 1], [900, 90, 10], [83, 4085]])
def test_balanced_weights_are_scikit_learns(counts: list[int]) -> None:
    photos = np.repeat(np.arange(len(counts)), counts)
    reference = compute_class_weight("balanced", classes=np.arange(len(counts)), y=photos)
    weights = class_weights("balanced", counts)
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), reference, rtol=1e-6)
    assert np.average(weights.numpy(), weights=counts) == pytest.approx(1.0, rel=1e-6)


def test_balanced_weights_of_a_class_without_photos_are_0_and_the_others_scikit_learns() -> None:
    weights = class_weights("balanced", [6, 0, 2])
    reference = compute_class_weight("balanced", classes=np.array([0, 2]), y=np.repeat([0, 2], [6, 2]))
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [reference[0], 0.0, reference[1]], rtol=1e-6)


def test_class_weights_are_those_given_or_none() -> None:
    assert class_weights(None, COUNTS) is None
    given = class_weights(WEIGHTS, COUNTS)
    assert given is not None and given.tolist() == WEIGHTS


@pytest.mark.parametrize(
    "weight",
    [
        [1.0, 2.0],
        "balancd",
        3.0,
        ["a", "b", "c"],
        [[1.0], [2.0], [3.0]],
        [1.0, -1.0, 1.0],
        [1.0, float("inf"), 1.0],
        [float("nan"), 1.0, 1.0],
        [0, 0, 0],
    ],
)
def test_weights_that_are_not_a_number_per_class_are_reported(weight: Any) -> None:
    with pytest.raises(UserError) as caught:
        class_weights(weight, COUNTS)
    assert str(caught.value) == (
        f"criterion_args: weight is {weight!r}; it is 'balanced' or 3 numbers, one per class, 0 or more and not all 0"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("cross_entropy", {"label_smoothing": 2}, "label_smoothing is 2; it goes from 0 to 1"),
        ("cross_entropy", {"label_smoothing": "lots"}, "label_smoothing is 'lots'; it goes from 0 to 1"),
        ("label_smoothing", {"smoothing": -0.1}, "smoothing is -0.1; it goes from 0 to 1"),
        ("focal", {"gamma": -1}, "gamma is -1; it is a number, 0 or more"),
        ("focal", {"gamma": "many"}, "gamma is 'many'; it is a number, 0 or more"),
        ("focal", {"gamma": float("nan")}, "gamma is nan; it is a number, 0 or more"),
        ("focal", {"gamma": True}, "gamma is True; it is a number, 0 or more"),
        ("f1", {"epsilon": 0}, "epsilon is 0; it is a number, 1e-12 or more"),
        ("weighted_sum", {"terms": [{"criterion": "f1", "factor": 0}]}, "the factors of terms are all 0, so nothing"),
        ("weighted_sum", {"terms": [{"criterion": "f1", "factor": -1}]}, "factor is -1; it is a number, 0 or more"),
        ("weighted_sum", {"terms": [{"criterion": "f1", "factor": float("inf")}]}, "factor is inf; it is a number, 0 "),
        ("weighted_sum", {"terms": [{"criterion": "focal", "criterion_args": {"gamma": "x"}}]}, "gamma is 'x'; it is"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_loss_are_reported(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^criterion_args: {re.escape(words)}"):
        CRITERIA[name](num_per_class=COUNTS, **arguments)


def test_all_applies_the_criterion_to_every_head_and_sums_with_the_head_weights() -> None:
    logits, truth = draw(5, 8)[0], labels(5)
    losses = build_losses(
        cross_entropy,
        {},
        output="all",
        num_per_class=NUM_PER_CLASS,
        head_weights={"gender": 2.0, "age": 0.5},
        device=CPU,
    )
    per_head = losses.per_head(logits, targets_of(truth, "all"))
    expected = {
        "mask": functional.cross_entropy(logits[:, :3], truth[:, 0], reduction="none"),
        "gender": functional.cross_entropy(logits[:, 3:5], truth[:, 1], reduction="none"),
        "age": functional.cross_entropy(logits[:, 5:], truth[:, 2], reduction="none"),
    }
    assert list(per_head) == list(expected)
    for head, value in expected.items():
        close(per_head[head], value)
    close(losses.total(per_head), expected["mask"] + 2.0 * expected["gender"] + 0.5 * expected["age"])


def test_without_head_weights_the_heads_are_summed_as_they_are() -> None:
    logits, targets = draw(5, 8)[0], targets_of(labels(5), "all")
    losses = build_losses(cross_entropy, {}, output="all", num_per_class=NUM_PER_CLASS, head_weights={}, device=CPU)
    per_head = losses.per_head(logits, targets)
    close(losses.total(per_head), per_head["mask"] + per_head["gender"] + per_head["age"])


def test_a_mapping_gives_each_head_its_own_weights() -> None:
    logits, truth = draw(5, 8)[0], labels(5)
    weight = {"mask": WEIGHTS, "age": "balanced"}
    losses = build_losses(
        cross_entropy, {"weight": weight}, output="all", num_per_class=NUM_PER_CLASS, head_weights={},
        device=CPU,
    )  # fmt: skip
    per_head = losses.per_head(logits, targets_of(truth, "all"))
    age = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=np.repeat([0, 1, 2], [1, 2, 3])))
    for head, part, factors in [
        ("mask", logits[:, :3], torch.tensor(WEIGHTS)), ("gender", logits[:, 3:5], None),
        ("age", logits[:, 5:], age.float()),
    ]:  # fmt: skip
        target = truth[:, ["mask", "gender", "age"].index(head)]
        close(per_head[head], functional.cross_entropy(part, target, weight=factors, reduction="none"))


def test_a_mapping_inside_a_weighted_sum_gives_each_head_its_own_weights_too() -> None:
    logits, targets = draw(5, 8)[0], targets_of(labels(5), "all")
    weight = {"mask": WEIGHTS, "gender": [1.0, 2.0], "age": [3.0, 1.0, 1.0]}
    plain, summed = (
        build_losses(criterion, arguments, output="all", num_per_class=NUM_PER_CLASS, head_weights={}, device=CPU)
        for criterion, arguments in [
            (cross_entropy, {"weight": weight}),
            (weighted_sum, {"terms": [{"criterion": "cross_entropy", "criterion_args": {"weight": weight}}]}),
        ]
    )
    close(summed.total(summed.per_head(logits, targets)), plain.total(plain.per_head(logits, targets)))


def test_weights_for_a_head_that_does_not_exist_are_reported_and_not_dropped() -> None:
    with pytest.raises(UserError, match="gendr"):
        build_losses(
            cross_entropy, {"weight": {"gendr": [1.0, 2.0]}}, output="all", num_per_class=NUM_PER_CLASS,
            head_weights={}, device=CPU,
        )  # fmt: skip


def test_one_list_of_weights_does_not_fit_heads_of_different_widths() -> None:
    with pytest.raises(UserError, match=r"weight is \[0\.5, 1\.0, 3\.0\]; it is 'balanced' or 2 numbers"):
        build_losses(
            cross_entropy, {"weight": WEIGHTS}, output="all", num_per_class=NUM_PER_CLASS, head_weights={}, device=CPU
        )


def test_low_precision_logits_are_judged_in_float32() -> None:
    logits, targets = draw(5, 8)[0].bfloat16(), targets_of(labels(5), "all")
    losses = build_losses(cross_entropy, {}, output="all", num_per_class=NUM_PER_CLASS, head_weights={}, device=CPU)
    per_head = losses.per_head(logits, targets)
    assert all(loss.dtype == torch.float32 for loss in per_head.values()) and len(per_head) == 3
    close(per_head["mask"], functional.cross_entropy(logits[:, :3].float(), targets["mask"], reduction="none"))


def test_every_criterion_learns_from_every_output_even_from_one_photo() -> None:
    terms = [{"criterion": "focal"}, {"criterion": "f1", "factor": 0.5}]
    widths = [(output, num_outputs(output)) for output in OUTPUT_HEADS] + [("gender", 1)]
    for (name, criterion), (output, width), num_photos, scale, weight in product(
        CRITERIA.items(), widths, (1, 4), (1.0, 60.0), (None, "balanced")
    ):
        arguments: dict[str, Any] = {"terms": terms} if name == "weighted_sum" else {"weight": weight}
        losses = build_losses(
            criterion, arguments, output=output, num_per_class=NUM_PER_CLASS, head_weights={}, device=CPU
        )
        logits = draw(num_photos, width, scale=scale)[0].requires_grad_()
        per_head = losses.per_head(logits, targets_of(labels(num_photos), output))
        total = losses.total(per_head)
        total.sum().backward()
        assert list(per_head) == list(OUTPUT_HEADS[output]), (name, output)
        assert total.shape == (num_photos,) and total.isfinite().all() and (total >= 0).all(), (name, output, width)
        assert logits.grad is not None and logits.grad.isfinite().all(), (name, output, width)
        assert scale > 1 or logits.grad.abs().sum() > 0, (name, output, width)
