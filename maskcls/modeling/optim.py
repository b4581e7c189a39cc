"""Optimizers, torch's by name and ours, and the parameter groups that they get."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from maskcls.errors import UserError


class Lion(Optimizer):
    """Evolved sign momentum; wants a third to a tenth of AdamW's learning rate. Five launches for all weights.

    Source: Chen et al., arXiv:2302.06675, algorithm 2.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-4, betas: Sequence[float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Makes one update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not trained:
                continue
            for parameter in trained:
                if "exp_avg" not in self.state[parameter]:
                    self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in trained]
            momenta = [self.state[parameter]["exp_avg"] for parameter in trained]
            directions = torch._foreach_lerp(momenta, gradients, 1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(trained, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - beta2)
        return loss


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns two groups: weights with decay, and one-dimensional parameters (norms, biases, layer scales) without.

    By number of dimensions and not by name: ViT and ConvNeXt name their norms differently.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(
    optimizer: Callable[..., Optimizer],
    arguments: Mapping[str, Any],
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    scales_loss: bool = False,
) -> Optimizer:
    """Returns the optimizer, fused where torch has it (one kernel for all parameters).

    scales_loss: as for fp16; then no kernel is fused, for torch's fused SGD takes its momentum from unset memory when
    the first update overflows.

    Raises UserError when the optimizer refuses an argument.
    """
    takes, name = inspect.signature(optimizer).parameters, getattr(optimizer, "__name__", "")
    options: dict[str, Any] = {"lr": lr, **arguments}
    if "fused" in takes and "foreach" not in arguments and not scales_loss:
        options.setdefault("fused", True)
    if scales_loss and options.get("fused"):
        raise UserError("optimizer_args: fused: true does not go with fp16, whose overflows spoil it: leave it out")
    if isinstance(options.get("betas"), list):
        options["betas"] = tuple(options["betas"])
    groups = parameter_groups(model, weight_decay)
    if "weight_decay" not in takes:
        if weight_decay:
            raise UserError(f"optimizer {name} has no weight decay: set weight_decay: 0")
        for group in groups:
            del group["weight_decay"]
    try:
        _try_out(optimizer, options)
        return optimizer(groups, **options)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        raise UserError(f"optimizer {name} cannot be built: {error}") from None


def _try_out(optimizer: Callable[..., Optimizer], options: Mapping[str, Any]) -> None:
    """Makes an update of one small weight: torch looks at some arguments only when it uses them."""
    weight = nn.Parameter(torch.zeros(2, 2, device="cpu"))
    weight.grad = torch.ones_like(weight)
    optimizer([weight], **options).step()


OPTIMIZERS = {"Lion": Lion}
