"""Which epoch is the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUM_VALIDATED = "num_validated"  # key of a line in metrics.jsonl: an epoch is over, and so many photos validated it: 0


@dataclass
class BestScore:
    """The best epoch so far by one score; the first epoch always is one, so that every run has a best/.

    Where nobody validates there are no scores, and the newest epoch counts as the best.
    """

    criterion: str  # a row of METRICS (higher is better) or loss (lower is better)
    value: float = float("nan")
    epoch: int = 0  # counted from 1; 0: none yet

    def update(self, scores: Mapping[str, float], epoch: int) -> bool:
        """Returns whether this epoch is the best, and remembers it. NaN is never better than a number."""
        if not scores:
            self.epoch = epoch
            return True
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


def epochs_done(log: Sequence[Mapping[str, Any]]) -> int:
    """Returns the newest epoch that is over, by lines of metrics.jsonl: validated, or where nobody validates, marked.

    Logs of runs without validation hold a line with NUM_VALIDATED after every epoch.
    """
    unvalidated = [line["epoch"] for line in log if NUM_VALIDATED in line and isinstance(line.get("epoch"), int)]
    return max([*validations(log), *unvalidated], default=0)


def best_epoch(validations: Mapping[int, Mapping[str, float]], criterion: str) -> int | None:
    """Returns the best of the epochs, or None when none has such a score."""
    best = BestScore(criterion)
    for epoch, scores in validations.items():
        if criterion in scores:
            best.update(scores, epoch)
    return best.epoch or None
