"""Which candidates answer together, with what weight, and what that is worth on people they were not chosen by.

Candidates are tables of predictions about the same photos in one order, by models that have not learnt from them.
Here nothing is read: what a candidate is, and whether it may be scored on these people, is known by who reads it.

Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import TIE, Draws, Interval
from maskcls.evaluation.metrics import METRICS, Score, confusion_counts
from maskcls.evaluation.paired import Difference, paired_difference
from maskcls.evaluation.predictions import NUM_PARTS, Predictions, parts_of_people
from maskcls.labels import likeliest

MEASURE = "f1"  # of the headline: what is chosen by
NUM_STEPS = 50  # members of a blend, a candidate counted as often as it is chosen


@dataclass(frozen=True)
class Blend:
    """What was chosen on everybody, and answers that can be scored: each photo's by a choice without its person."""

    candidates: Sequence[Predictions]
    counts: np.ndarray  # (M,) int64: how often each candidate was chosen
    counts_without: np.ndarray  # (parts, M) int64: the same, chosen without the people of one part
    answers: Predictions  # of what was chosen on everybody
    blended: Predictions  # of what was chosen without each person: what a score of the blend is about
    best_single: Predictions  # of whichever candidate alone was best without each person
    mean: Predictions  # of all candidates alike, which chooses nothing

    @cached_property
    def _findings(self) -> list[Findings]:
        """Those of the blend, the best single candidate and the mean; then of each candidate."""
        draws = Draws.of(self.blended.people)
        return [Findings(table, draws) for table in (self.blended, self.best_single, self.mean, *self.candidates)]

    @property
    def scores(self) -> list[Interval]:
        """MEASURE of the blend, of the best single candidate and of the mean, with their intervals."""
        return [findings.scores[self._score] for findings in self._findings[:3]]

    @property
    def alone(self) -> list[Interval]:
        """MEASURE of each candidate."""
        return [findings.scores[self._score] for findings in self._findings[3:]]

    @property
    def differences(self) -> list[Difference]:
        """How much higher the blend scores than the best single candidate, and than the mean."""
        blended, *others = self._findings[:3]
        return [paired_difference(other, blended, self._score) for other in others]

    @property
    def _score(self) -> Score:
        return Score(self.answers.headline, MEASURE)


def blend(tables: Sequence[Predictions]) -> Blend:
    """Returns the blend of candidates, cross-fitted over people."""
    head = tables[0].headline
    probabilities, truth = np.stack([table.probabilities[head] for table in tables]), tables[0].truth(head)
    parts = parts_of_people(tables[0])

    def without_each_part(num_steps: int) -> np.ndarray:
        chosen = []
        for part in range(NUM_PARTS):
            is_other = parts != part
            chosen.append(selected(probabilities[:, is_other], truth[is_other], num_steps=num_steps))
        return np.array(chosen)

    counts, counts_without = selected(probabilities, truth), without_each_part(NUM_STEPS)
    return Blend(
        tables,
        counts,
        counts_without,
        answers=mixed(tables, counts),
        blended=mixed(tables, counts_without[parts]),
        best_single=mixed(tables, without_each_part(1)[parts]),
        mean=mixed(tables, np.ones(len(tables))),
    )


def selected(probabilities: np.ndarray, truth: np.ndarray, *, num_steps: int = NUM_STEPS) -> np.ndarray:
    """Returns how often each candidate is chosen, (M,) int64, from probabilities (M, N, K) and truth (N,).

    Each step adds the candidate, chosen before or not, with which the mean of all that were added scores highest; what
    had been added when the score was highest is returned, so a blend is in this score never below the best candidate.
    Of equal ones the first counts, of candidates as of steps: nothing joins that does not help.
    """
    chosen, sums = [], np.zeros_like(probabilities[0])
    reached = []
    for _ in range(num_steps):
        scores = macro_scores(sums + probabilities, truth)
        chosen.append(_first_best(scores))
        reached.append(scores[chosen[-1]])
        sums += probabilities[chosen[-1]]
    return np.bincount(chosen[: _first_best(np.array(reached)) + 1], minlength=len(probabilities))


def macro_scores(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns MEASURE of each candidate's answers, (M,) float64, from anything (M, N, K) that is highest for them."""
    num_candidates, num_photos, num_classes = probabilities.shape
    answers = likeliest(probabilities.reshape(-1, num_classes)).reshape(num_candidates, num_photos)
    of_candidate = num_classes * np.arange(num_candidates)[:, None]

    def counted(labels: np.ndarray) -> np.ndarray:
        cells = np.bincount(labels.ravel(), minlength=num_candidates * num_classes)
        return cells.reshape(num_candidates, num_classes).astype(np.float64)

    right = counted((of_candidate + truth)[answers == truth])
    true = np.bincount(truth, minlength=num_classes).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(METRICS[MEASURE](right, true, counted(of_candidate + answers))).mean(1)


def mixed(tables: Sequence[Predictions], weights: np.ndarray) -> Predictions:
    """Returns the weighted mean of what candidates say; weights (M,), or (N, M) where they differ between photos."""
    shares = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    heads = tables[0].probabilities
    probabilities = {
        head: sum(shares[..., number, None] * table.probabilities[head] for number, table in enumerate(tables))
        for head in heads
    }
    return replace(tables[0], probabilities=probabilities)


def agreement(tables: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each two candidates the share of photos that they answer alike, and Cohen's kappa, (M, M) each.

    Kappa is the share beyond what two would agree by chance, each with its own frequencies of answers, of what is
    possible beyond it: 1 is always, 0 is as by chance. Source: Cohen 1960, A Coefficient of Agreement for Nominal
    Scales; two that always give one and the same answer have none there, and 1 here.
    """
    head = tables[0].headline
    num_classes = tables[0].probabilities[head].shape[1]
    answers = [table.predicted(head) for table in tables]
    shares, kappas = (np.ones((len(tables), len(tables))) for _ in range(2))
    for a, here in enumerate(answers):
        for b, there in enumerate(answers):
            counts = confusion_counts(here, there, num_classes)
            shares[a, b] = counts.diagonal().sum() / counts.sum()
            by_chance = counts.sum(0) @ counts.sum(1) / counts.sum() ** 2
            if by_chance < 1 - TIE:
                kappas[a, b] = (shares[a, b] - by_chance) / (1 - by_chance)
    return shares, kappas


def _first_best(scores: np.ndarray) -> int:
    return int(np.argmax(scores > scores.max() - TIE))
