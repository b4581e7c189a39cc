"""A moving average of the weights: what an epoch validates and saves when `ema_decay` is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from maskcls.training.sharding import gather_no_more


class WeightAverage:
    """Exponential moving average of a model's parameters, warmed up so that the first weights do not linger.

    Source: Polyak and Juditsky, 1992; the warm-up min(decay, (1 + t) / (10 + t)) as in TensorFlow's
    ExponentialMovingAverage. Buffers are used as they are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.restart(model, num_updates=0)

    def restart(self, model: nn.Module, *, num_updates: int) -> None:
        """Takes the model's present weights for an average of `num_updates` updates."""
        self.num_updates = num_updates
        self.weights = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the model's weights, once per optimizer update."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(self.weights, [parameter.detach() for parameter in model.parameters()], 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Puts the average into the model, and the model's own weights back at the end."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        gather_no_more(model)
        for average, parameter in zip(self.weights, model.parameters(), strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)
