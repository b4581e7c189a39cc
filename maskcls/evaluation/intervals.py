"""Scores with 95 % intervals: people are drawn again, never photos.

The photos of a person are not independent, so a person is drawn with all photos or not at all (cluster bootstrap). The
intervals are bias-corrected and accelerated (BCa): with rare classes and scores near 1 the plain quantiles of the
resamples hold the truth too seldom. They are about new people of the same kind; where a split took care to have every
gender and age group, those of F1 are wider than needed (98 % at 200 people). Below about 100 people macro F1 of 18
classes is itself too low, because classes are missing, and no interval can know that.

Source: Efron 1987, Better Bootstrap Confidence Intervals; Field and Welsh 2007, Bootstrapping Clustered Data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from maskcls.evaluation.metrics import METRICS, Score
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import HEAD_CLASSES


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval of a difference leaves out 0."""
        return self.low > 0 or self.high < 0

    def widened(self, reach: float, *, lowest: float = 0.0) -> Interval:
        """Returns the interval when noise that does not come from the people is within `reach` in 95 % of cases.

        `lowest` is the smallest value that it could have, 1 the largest.
        Source: Zou and Donner 2008, Construction of Confidence Limits About Effect Measures: each end's distances add
        up as squares, so that neither interval needs to be symmetric.
        """
        low, high = (math.hypot(end - self.value, reach) for end in (self.low, self.high))
        return Interval(self.value, max(self.value - low, lowest), min(self.value + high, 1.0))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Draws:
    """Which people the resamples hold. Scores of the same draws can be subtracted from each other."""

    rows: np.ndarray  # (N,) int64: the number of each photo's person, 0..P-1
    weights: np.ndarray  # (R, P) float32: how often each resample holds each person

    @classmethod
    def of(cls, people: np.ndarray, *, num_resamples: int = 2000, seed: int = 0) -> Draws:
        """Returns draws with replacement, as many people as there are, from the photos' people (N,)."""
        names, rows = np.unique(people, return_inverse=True)
        generator = np.random.default_rng(seed)
        weights = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), num_resamples)
        return cls(rows, weights.astype(np.float32))


@dataclass(frozen=True)
class Resampled:
    """A score, the same score of R resamples, and with each of the P people left out."""

    value: float
    values: np.ndarray  # (R,) float64; NaN where a resample holds none of the photos
    left_out: np.ndarray  # (P,) float64; NaN where nothing is left
    num_people: int  # who have photos that count here

    @classmethod
    def mean(cls, scores: Sequence[Resampled]) -> Resampled:
        """Returns the mean of scores of the same draws: of one recipe's trainings."""
        values, left_out = (np.mean([getattr(s, name) for s in scores], axis=0) for name in ("values", "left_out"))
        value, num_people = float(np.mean([score.value for score in scores])), min(s.num_people for s in scores)
        return cls(value, values, left_out, num_people)

    def minus(self, other: Resampled) -> Resampled:
        """Returns the difference of two scores of the same draws."""
        value, values, left_out = self.value - other.value, self.values - other.values, self.left_out - other.left_out
        return Resampled(value, values, left_out, min(self.num_people, other.num_people))

    def interval(self, *, lowest: float = 0.0, num_chosen_from: int = 1) -> Interval:
        """Returns the value with its 95 % interval; `lowest` is the smallest value that it could have, 1 the largest.

        `num_chosen_from`: this many intervals hold their truths together in 95 % of cases (Bonferroni).
        When all people agree (every photo right, or one person only) resamples cannot differ. Then the bound is exact
        reasoning instead: with P people seen, people of another kind are at most 1 - 0.025 ** (1 / P) of all.
        """
        tail = 0.025 / num_chosen_from
        values = self.values[np.isfinite(self.values)]
        if np.all(np.abs(values - self.value) < TIE):
            unseen = 1 - tail ** (1 / self.num_people)
            low, high = (self.value + (end - self.value) * unseen for end in (lowest, 1))
            return Interval(self.value, low, high)
        below = np.mean(values < self.value - TIE)
        at_most = np.mean(values <= self.value + TIE)
        half = 0.5 / len(values)
        bias = NORMAL.inv_cdf(min(max(float(below + at_most) / 2, half), 1 - half))
        spread = np.nanmean(self.left_out) - self.left_out[np.isfinite(self.left_out)]
        skew = (spread**3).sum() / max(6 * (spread**2).sum() ** 1.5, TIE**3)
        levels = []
        for end in (NORMAL.inv_cdf(tail), -NORMAL.inv_cdf(tail)):
            levels.append(NORMAL.cdf(bias + (bias + end) / max(1 - skew * (bias + end), TIE)))
        low, high = np.quantile(values, levels)
        return Interval(self.value, min(float(low), self.value), max(float(high), self.value))


def resampled_scores(predictions: Predictions, draws: Draws, which: np.ndarray | None = None) -> dict[Score, Resampled]:
    """Returns every score of every head, resampled; of the photos `which` (N,) bool alone, when given.

    Then what is a mean over classes is one over those that these photos have, otherwise over all classes of the head;
    where they have one class, it would be accuracy under another name, and is left out.
    """
    found = {}
    for head in predictions.probabilities:
        counts = person_counts(predictions, head, draws, which)
        total = counts.sum(0, dtype=np.float64)  # (3, K)
        classes = np.arange(total.shape[1]) if which is None else np.flatnonzero(total[1])
        members = counts[:, 1].any(1)
        weights = draws.weights if members.all() else draws.weights[:, members]  # most slices are of few people
        drawn = np.tensordot(weights, counts[members], 1).astype(np.float64)  # (R, 3, K)
        sets = [np.moveaxis(sums, -2, 0) for sums in (total, drawn, total - counts)]
        for measure, function in METRICS.items():
            with np.errstate(invalid="ignore"):
                values = [function(*sums) for sums in sets]
            if values[0].ndim:
                if len(classes) < 2:
                    continue
                num_present = np.isfinite(values[0][classes]).sum()
                values = [_mean_over_classes(of_classes[..., classes], num_present) for of_classes in values]
            whole, resampled, left_out = values
            found[Score(head, measure)] = Resampled(float(whole), resampled, left_out, int(members.sum()))
    return found


def resampled_mean(values: np.ndarray, draws: Draws) -> Resampled:
    """Returns the mean over photos of a number of each (N,), resampled."""
    num_people = draws.weights.shape[1]
    sums, photos = np.bincount(draws.rows, values, num_people), np.bincount(draws.rows, minlength=num_people)
    total, count, weights = sums.sum(), photos.sum(), draws.weights.astype(np.float64)
    with np.errstate(invalid="ignore"):
        left_out = (total - sums) / (count - photos)  # NaN where nobody else is left
    return Resampled(float(total / count), (weights @ sums) / (weights @ photos), left_out, num_people)


def person_counts(predictions: Predictions, head: str, draws: Draws, which: np.ndarray | None = None) -> np.ndarray:
    """Returns (P, 3, K) float32: each person's photos that are answered rightly, of, and answered with, each class.

    Of the confusion counts (P, K, K), the metrics need no more; like them they add up over people. Sums are exact:
    float32 holds every integer up to 16.7 million.
    """
    truth, predicted, rows = predictions.truth(head), predictions.predicted(head), draws.rows
    if which is not None:
        truth, predicted, rows = truth[which], predicted[which], rows[which]
    shape = (draws.weights.shape[1], len(HEAD_CLASSES[head]))

    def count(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.bincount(rows * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)

    is_right = truth == predicted
    counts = (count(rows[is_right], truth[is_right]), count(rows, truth), count(rows, predicted))
    return np.stack(counts, axis=1).astype(np.float32)


def _mean_over_classes(values: np.ndarray, num_present: int) -> np.ndarray:
    """Returns the means (...) of values (..., K), which are NaN for a class that does not occur.

    One of the classes that nobody of the whole set has (all but `num_present`) counts 0, as it does in the metric. One
    that only this resample did not draw says nothing about the model, and is left out instead of counting 0.
    """
    occurs = np.isfinite(values)
    means = np.where(occurs, values, 0).sum(-1) / np.maximum(occurs.sum(-1), 1) * num_present / values.shape[-1]
    return np.where(occurs.any(-1), means, np.nan)


TIE = 1e-9  # scores nearer than this are equal; the smallest real difference of 20,000 photos is 5e-5
NORMAL = NormalDist()
