"""One recipe trained several times: its mean score, and how much of a score is the luck of a seed.

What resampled people cannot show: with other seeds the same recipe scores otherwise on the same people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Resampled, person_counts
from maskcls.evaluation.metrics import METRICS, Score


@dataclass(frozen=True)
class Trainings:
    """What a recipe's models say about the same photos: of one seed, or of several."""

    findings: Sequence[Findings]  # of each seed, with draws in common
    folds: Mapping[str, int] = field(default_factory=dict)  # profile -> which model of a seed; without: one model

    def mean(self, score: Score) -> Resampled:
        """Returns the mean score over the seeds."""
        return Resampled.mean([findings.resampled[score] for findings in self.findings])

    def deviations(self, score: Score) -> np.ndarray:
        """Returns (S, F): how far the score of all moves when one seed alone answers one fold, instead of all seeds.

        The folds of a seed are trainings of their own, on other photos in another order: what is luck in one is taken
        as independent of the luck in another, so that 5 folds of 2 seeds say of it what 5 pairs of runs do.
        """
        counts = np.stack([person_counts(said.predictions, score.head, said.draws) for said in self.findings])
        fold_of = np.array([self.folds.get(name, 0) for name in np.unique(self.findings[0].predictions.people)])
        of_folds = [counts[:, fold_of == fold].sum(1, dtype=np.float64) for fold in np.unique(fold_of)]
        each = np.stack(of_folds, axis=1)  # (S, F, 3, K)
        mean = each.mean(0)
        moved = mean.sum(0) + each - mean  # of one fold one seed's answers, of the others the mean
        with np.errstate(invalid="ignore"):
            values = np.nan_to_num(METRICS[score.measure](*np.moveaxis(moved, -2, 0)))
        values = values if values.ndim == 2 else values.mean(-1)
        return values - values.mean(0)


@dataclass(frozen=True)
class TrainingNoise:
    """How much a score moves, on the same people, when a recipe is trained again with another seed."""

    deviation: float  # standard deviation of one seed's score
    degrees: int  # of freedom: how many models there are beyond the first of each recipe and fold
    variance_of_people: float  # the part of its square that resampled people show, too: models err on other people

    @classmethod
    def between(cls, recipes: Sequence[Trainings], score: Score) -> TrainingNoise | None:
        """Returns the noise, taken as equal for all recipes; None when none was trained twice."""
        repeated = [recipe for recipe in recipes if len(recipe.findings) > 1]
        if not repeated:
            return None
        num_repeats = sum(len(recipe.findings) - 1 for recipe in repeated)
        apart = [recipe.deviations(score) for recipe in repeated]
        variance = sum((deviations**2).sum() for deviations in apart) / num_repeats
        degrees = sum((len(deviations) - 1) * deviations.shape[1] for deviations in apart)
        of_people = 0.0
        for recipe in repeated:
            mean = recipe.mean(score)
            of_people += sum(np.nanvar(said.resampled[score].minus(mean).values) for said in recipe.findings)
        return cls(math.sqrt(variance), degrees, of_people / num_repeats)

    @property
    def widest(self) -> float:
        """How far two seeds of one recipe are apart at most, in 95 % of cases."""
        whole = replace(self, variance_of_people=0.0)
        return float(np.quantile(np.abs(whole.draws(20_000, [1, 1])), 0.95))

    def draws(self, num_draws: int, num_seeds: Sequence[int]) -> np.ndarray:
        """Returns noise (num_draws,) of the difference between recipes, each the mean of so many seeds.

        What few trainings say about the variance is itself uncertain: it is drawn as well (scaled inverse chi squared,
        which makes the noise Student's t). Of each draw the part that the resamples hold already is left out.
        Source: Bouthillier et al. 2021, arXiv:2103.03098, for counting both kinds of noise; Gelman et al., Bayesian
        Data Analysis, 3.2, for the draws. Taking the resamples' part out is ours: with it counted twice, intervals of
        models that differ in nothing but whom they err on are a third too wide.
        """
        random = np.random.default_rng(0)
        variances = self.deviation**2 * self.degrees / random.chisquare(self.degrees, num_draws)
        unseen = np.maximum(variances - self.variance_of_people, 0)
        return random.standard_normal(num_draws) * np.sqrt(unseen * sum(1 / number for number in num_seeds))
