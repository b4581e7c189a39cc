"""Which epoch is the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class BestScore:
    """The best epoch so far by one score; the first epoch always is one, so that every run has a best/."""

    criterion: str  # f1, acc (higher is better) or loss (lower is better)
    value: float = float("nan")
    epoch: int = 0  # counted from 1; 0: none yet

    def update(self, scores: Mapping[str, float], epoch: int) -> bool:
        """Returns whether this epoch is the best, and remembers it. NaN is never better than a number."""
        new, sign = scores[self.criterion], -1 if self.criterion == "loss" else 1
        is_better = self.epoch == 0 or sign * new > sign * self.value or (self.value != self.value and new == new)
        if is_better:
            self.value, self.epoch = new, epoch
        return is_better


def best_line(history: Sequence[Mapping[str, Any]], criterion: str) -> Mapping[str, Any] | None:
    """Returns the line of metrics.jsonl with the best epoch's scores; None when no line has epoch and criterion."""
    best, chosen = BestScore(criterion), None
    for line in history:
        value, epoch = line.get(f"valid/{criterion}"), line.get("epoch")
        if isinstance(value, int | float) and isinstance(epoch, int) and best.update({criterion: value}, epoch):
            chosen = line
    return chosen
