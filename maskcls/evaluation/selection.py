"""Which epoch is the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class BestScore:
    """The best epoch so far by one score; the first epoch always is one, so that every run has a best/."""

    criterion: str  # a row of METRICS (higher is better) or loss (lower is better)
    value: float = float("nan")
    epoch: int = 0  # counted from 1; 0: none yet

    def update(self, scores: Mapping[str, float], epoch: int) -> bool:
        """Returns whether this epoch is the best, and remembers it. NaN is never better than a number."""
        new, sign = scores[self.criterion], -1 if self.criterion == "loss" else 1
        is_better = self.epoch == 0 or sign * new > sign * self.value or (self.value != self.value and new == new)
        if is_better:
            self.value, self.epoch = new, epoch
        return is_better

    def is_far_back(self, epoch: int, patience: int | None) -> bool:
        """Returns whether `patience` epochs (None: never enough) before this one were no better."""
        return patience is not None and epoch - 1 - self.epoch >= patience


def validations(log: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Returns every validated epoch's scores, without their valid/, from lines of metrics.jsonl.

    What is no epoch or no number there is ignored: a person may have edited it.
    """
    found = {}
    for line in log:
        values = {name.removeprefix("valid/"): value for name, value in line.items() if name.startswith("valid/")}
        scores = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        if scores and isinstance(line.get("epoch"), int):
            found[line["epoch"]] = scores
    return found


def best_epoch(validations: Mapping[int, Mapping[str, float]], criterion: str) -> int | None:
    """Returns the best of the epochs, or None when none has such a score."""
    best = BestScore(criterion)
    for epoch, scores in validations.items():
        if criterion in scores:
            best.update(scores, epoch)
    return best.epoch or None
