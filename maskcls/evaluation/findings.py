"""All that is said about one model's answers. Console, finished.json, report, wandb and `maskcls compare` read it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from maskcls.evaluation.calibration import Calibration, calibrate
from maskcls.evaluation.consistency import Suspect, contradictions, suspects
from maskcls.evaluation.intervals import Draws, Interval, Resampled, resampled_scores
from maskcls.evaluation.metrics import Score, confusion_counts
from maskcls.evaluation.mistakes import Mistake, mistakes, worst
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.slices import Gap, Slice, gaps, slices
from maskcls.labels import HEAD_CLASSES


class Findings:
    """What follows from one table of predictions: each thing is computed when it is first asked for, and once."""

    def __init__(self, predictions: Predictions, draws: Draws | None = None) -> None:
        """Takes the table, and the resamples behind its intervals where others share them."""
        self.predictions, self.draws = predictions, draws or Draws.of(predictions.people)

    @cached_property
    def resampled(self) -> dict[Score, Resampled]:
        """Every score of every head, the main ones first, with its resamples."""
        return resampled_scores(self.predictions, self.draws)

    @cached_property
    def scores(self) -> dict[Score, Interval]:
        """Every score of every head, the main ones first, with its interval."""
        return {score: resampled.interval() for score, resampled in self.resampled.items()}

    @property
    def named_scores(self) -> dict[str, Interval]:
        """The scores by their names in metrics.jsonl."""
        return {score.name(self.predictions.headline): interval for score, interval in self.scores.items()}

    @cached_property
    def slices(self) -> list[Slice]:
        """Scores by group."""
        return slices(self.predictions, self.draws)

    @cached_property
    def gaps(self) -> list[Gap]:
        """Differences between groups."""
        return gaps(self.slices)

    @cached_property
    def calibration(self) -> dict[str, Calibration]:
        """Confidence against accuracy, by head."""
        return calibrate(self.predictions)

    @cached_property
    def contradictions(self) -> dict[str, Interval]:
        """The share of people whose photos get different answers, by attribute."""
        return contradictions(self.predictions)

    @cached_property
    def suspects(self) -> list[Suspect]:
        """The labels, those that the model contradicts most first."""
        return suspects(self.predictions)

    @cached_property
    def mistakes(self) -> dict[str, list[Mistake]]:
        """The wrong answers by attribute, the surest first."""
        return mistakes(self.predictions)

    def worst_mistakes(self, limit: int) -> list[Mistake]:
        """Returns the surest wrong answers of all attributes."""
        return worst(self.mistakes, limit)

    def confusion(self, head: str) -> np.ndarray:
        """Returns (K, K) counts of photos: rows are the truth, columns the answers."""
        table = self.predictions
        return confusion_counts(table.predicted(head), table.truth(head), len(HEAD_CLASSES[head]))
