"""Optimizers: what decays, what is built by name, and what a refused argument says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskcls.config import TABLES
from maskcls.errors import UserError
from maskcls.modeling.model import MODELS
from maskcls.modeling.optim import OPTIMIZERS, Lion, build_optimizer, parameter_groups
from maskcls.registry import _public_classes
from tests.stand_in import META, Watch

COMMON: dict[str, Any] = {"image_size": (32, 32), "id2label": {0: "a", 1: "b"}, "attention": "eager"}


def tiny(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit":
        return MODELS[name](
            **COMMON, patch_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    return MODELS[name](**COMMON, hidden_sizes=[4, 8], depths=[1, 1])


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def build(name: str, model: nn.Module, *, weight_decay: float = 0.05, **arguments: Any) -> torch.optim.Optimizer:
    return build_optimizer(TABLES["optimizer"].builder(name), arguments, model, lr=1e-2, weight_decay=weight_decay)


@pytest.mark.parametrize("name", ["vit", "convnext", "convnextv2"])
def test_one_dimensional_parameters_do_not_decay_and_all_others_do(name: str) -> None:
    model = tiny(name)
    optimizer = build("AdamW", model)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = {id(p): (parameter_name, p.ndim) for parameter_name, p in model.named_parameters()}
    assert decays.keys() == names.keys()
    for key, (parameter_name, num_dimensions) in names.items():
        assert decays[key] == (0.05 if num_dimensions > 1 else 0.0), parameter_name
    num_plain = sum(num_dimensions == 1 for _, num_dimensions in names.values())
    assert num_plain >= 8 and len(names) - num_plain >= 5


@pytest.mark.parametrize("name", ["vit", "convnext", "convnextv2"])
def test_every_trained_parameter_is_in_exactly_one_group(name: str) -> None:
    model = tiny(name)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    grouped = [id(p) for group in parameter_groups(model, 0.1) for p in group["params"]]
    trained = [id(p) for p in model.parameters() if p.requires_grad]
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(trained)
    assert id(frozen) not in grouped and len(trained) == len(list(model.parameters())) - 1


def test_every_optimizer_that_a_yaml_may_name_learns_or_says_why_not() -> None:
    """Those that cannot take this model must say so when they are built, not in the first update."""
    names = [*OPTIMIZERS, *_public_classes("torch.optim")]
    learnt, refused = [], []
    for name in names:
        model, x = small(), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
        before = [p.detach().clone() for p in model.parameters()]
        try:
            optimizer = build(name, model, weight_decay=0.0 if name in ("Rprop",) else 0.05)
        except UserError as error:
            assert str(error).startswith(f"optimizer {name} "), name
            refused.append(name)
            continue
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        changed = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
        assert all(changed) and all(p.isfinite().all() for p in model.parameters()), name
        learnt.append(name)
    assert len(learnt) == 13 and {"Lion", "AdamW", "SGD", "Adafactor"} <= set(learnt)
    assert sorted(learnt + refused) == sorted(names)
    assert not refused


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_the_fused_kernel_is_used_where_torch_has_it(name: str) -> None:
    assert all(group["fused"] for group in build(name, small()).param_groups)
    assert not any(group["fused"] for group in build(name, small(), fused=False).param_groups)


def test_foreach_in_the_arguments_takes_the_place_of_fused() -> None:
    group = build("AdamW", small(), foreach=True).param_groups[0]
    assert group["foreach"] and not group["fused"]


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_nothing_is_fused_when_the_loss_is_scaled(name: str) -> None:
    builder = TABLES["optimizer"].builder(name)
    optimizer = build_optimizer(builder, {}, small(), lr=1e-2, weight_decay=0.05, scales_loss=True)
    # None and not False: then torch takes its kernels over all parameters (foreach)
    assert {group.get("fused") for group in optimizer.param_groups} == {None}
    with pytest.raises(UserError, match=r"^optimizer_args: fused: true does not go with fp16, .*: leave it out$"):
        build_optimizer(builder, {"fused": True}, small(), lr=1e-2, weight_decay=0.05, scales_loss=True)


def test_lr_and_arguments_reach_the_optimizer_and_a_list_of_betas_becomes_a_tuple() -> None:
    for group in build("AdamW", small(), betas=[0.8, 0.95], eps=1e-5).param_groups:
        assert group["betas"] == (0.8, 0.95) and isinstance(group["betas"], tuple)
        assert (group["lr"], group["eps"]) == (1e-2, 1e-5)
    assert build("Lion", small(), betas=[0.8, 0.95]).param_groups[0]["betas"] == (0.8, 0.95)


def test_adamw_with_betas_from_yaml_takes_the_same_step_as_torchs_own() -> None:
    own, reference = small(), small()
    optimizers = [
        build("AdamW", own, betas=[0.8, 0.95], weight_decay=0.1),
        torch.optim.AdamW(
            [
                {"params": [p for p in reference.parameters() if p.ndim > 1], "weight_decay": 0.1},
                {"params": [p for p in reference.parameters() if p.ndim == 1], "weight_decay": 0.0},
            ], lr=1e-2, betas=(0.8, 0.95),
        ),
    ]  # fmt: skip
    for model, optimizer in zip((own, reference), optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
    for p, q in zip(own.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_lion_takes_the_steps_of_the_paper() -> None:
    lr, beta1, beta2, decay = 0.1, 0.9, 0.99, 0.5
    gradients = [np.array([[1.0, -2.0], [0.0, 3.0]]), np.array([[-20.0, 1.0], [-1.0, -0.01]])]
    weight, momentum = np.array([[1.0, -1.0], [2.0, 0.5]]), np.zeros((2, 2))
    parameter = nn.Parameter(torch.tensor(weight))
    optimizer = Lion([parameter], lr=lr, betas=(beta1, beta2), weight_decay=decay)
    for gradient in gradients:
        update = np.sign(beta1 * momentum + (1 - beta1) * gradient)
        weight = weight - lr * (update + decay * weight)
        momentum = beta2 * momentum + (1 - beta2) * gradient
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[parameter]["exp_avg"].numpy(), momentum, rtol=0, atol=1e-12)
    # The last gradient -0.01 turns against the momentum 0.03: 0.9 * 0.03 - 0.1 * 0.01 > 0, so the step goes down.
    assert update[1, 1] == 1.0


def test_lion_takes_bit_for_bit_the_steps_that_one_parameter_after_the_other_takes() -> None:
    lr, beta1, beta2, decay = 0.01, 0.9, 0.99, 0.05
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(shape, generator=generator) for shape in [(5, 7), (7,), (3, 2, 4), (1,)]]
    momenta = [torch.zeros_like(weight) for weight in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Lion(parameters, lr=lr, betas=(beta1, beta2), weight_decay=decay)
    for _ in range(20):
        for parameter, weight, momentum in zip(parameters, weights, momenta, strict=True):
            gradient = torch.randn(weight.shape, generator=generator)
            weight.mul_(1 - lr * decay)
            weight.add_(momentum.lerp(gradient, 1 - beta1).sign_(), alpha=-lr)
            momentum.lerp_(gradient, 1 - beta2)
            parameter.grad = gradient
        optimizer.step()
    assert all(torch.equal(parameter, weight) for parameter, weight in zip(parameters, weights, strict=True))
    states = [optimizer.state[parameter]["exp_avg"] for parameter in parameters]
    assert all(torch.equal(state, momentum) for state, momentum in zip(states, momenta, strict=True))


def test_lions_launches_do_not_grow_with_the_number_of_weights() -> None:
    launches = []
    for num_weights in (2, 20):
        parameters = [nn.Parameter(torch.zeros(3, device=META)) for _ in range(num_weights)]
        optimizer = Lion(parameters)
        for watch in (Watch(), Watch()):  # the first step also makes the momenta
            for parameter in parameters:
                parameter.grad = torch.zeros(3, device=META)
            with watch:
                optimizer.step()
        launches.append(watch.launches.total())
    assert launches == [5, 5]


def test_lion_leaves_parameters_without_a_gradient_alone_and_returns_the_closures_loss() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Lion([used, unused], weight_decay=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (3 * used).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == torch.tensor(6.0)
    assert torch.equal(unused, torch.ones(2)) and (used < 1).all()


def test_weight_decay_for_an_optimizer_without_it_is_reported() -> None:
    with pytest.raises(UserError, match=r"^optimizer Rprop has no weight decay: set weight_decay: 0$"):
        build("Rprop", small(), weight_decay=0.05)
    assert len(build("Rprop", small(), weight_decay=0.0).param_groups) == 2


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("AdamW", {"betas": [1.5, 0.9]}, "Invalid beta parameter"),
        ("AdamW", {"eps": -1.0}, "Invalid epsilon"),
        ("AdamW", {"differentiable": True}, "fused"),
        ("SGD", {"momentum": -0.5}, "Invalid momentum"),
        ("SGD", {"nesterov": True}, "momentum"),
        ("AdamW", {"betas": [0.9]}, ""),
        ("Lion", {"betas": 0.9}, ""),
    ],
)
def test_an_argument_that_the_optimizer_refuses_is_reported(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^optimizer {name} cannot be built: ") as caught:
        build(name, small(), **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], [1.5, 0.9], [0.9, -0.1]])
def test_lion_refuses_betas_that_it_cannot_use_before_the_first_step(betas: list[float]) -> None:
    with pytest.raises(UserError, match=r"^optimizer Lion cannot be built: "):
        build("Lion", small(), betas=betas)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("AdamW", {"amsgrad": "maybe"}), ("AdamW", {"betas": [0.9]}), ("Lion", {"betas": ["x", "y"]})],
)
def test_what_an_optimizer_refuses_only_when_it_makes_an_update_is_reported_too(
    name: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=f"^optimizer {name} cannot be built: "):
        build(name, small(), **arguments)
