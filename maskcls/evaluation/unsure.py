"""Which answers are unsure: conformal sets, which hold the truth of as many photos as asked, however good the model is.

The photos of a person are not independent, so people are what is counted, each alike however many photos there are.
What is promised is about the photos of new people of the same kind, all classes together: not within each class, nor
for photos taken in another way. For the mean of folds, which is better than its members, sets are larger than need be.

Source: Lee, Barber and Willett 2023, Distribution-free inference with hierarchical data (every person has the same
weight, shared by the photos, and so has the new one, who may be worse than everybody). Score: 1 - probability of the
class, of Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers; theirs may leave a set empty, here
the likeliest class is always in it. Against adaptive sets (Romano, Sesia and Candes 2020) these held fewer classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.intervals import Draws, Interval, Resampled
from maskcls.evaluation.pooling import pooled_people
from maskcls.evaluation.predictions import NUM_PARTS, Predictions, headline_of, parts_of_people
from maskcls.labels import OF_PERSON, likeliest

# The share of photos whose set may miss the truth. What lies between two is answered as the stricter, which is safe.
RISKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]
SHOWN_RISKS = (0.1, 0.05, 0.01)
ROUNDING = 1e-9  # of sums of weights


@dataclass(frozen=True)
class Conformal:
    """The probability from which on a class cannot be ruled out, by risk: the share of photos whose set may miss it."""

    num_people: int  # who it was fitted on
    risks: list[float]  # ascending
    least: Mapping[str, list[float]]  # head -> least probability of a class in the set, for each risk
    least_pooled: Mapping[str, list[float]]  # the same where photos are pooled by person; empty: nothing to pool

    @classmethod
    def fit(cls, predictions: Predictions) -> Conformal:
        """Returns what predictions say of photos that the model has not learnt from.

        What holds for pooled photos is about people of whom there are as many photos as here.
        """
        has_pooled = not predictions.probabilities.keys().isdisjoint(OF_PERSON)
        least_pooled = _least(pooled_people(predictions)) if has_pooled else {}
        return cls(len(np.unique(predictions.people)), RISKS, _least(predictions), least_pooled)

    @property
    def finest(self) -> float:
        """The least risk that so many people can promise: of P, one more is somebody of whom nothing is known."""
        return next(risk for risk in self.risks if risk * (self.num_people + 1) >= 1 - ROUNDING)

    def promised(self, risk: float) -> float:
        """Returns the risk that is kept when `risk` is asked for: it, or the next stricter one that is stored.

        Raises UserError when it is no share, or less than `finest`.
        """
        if not 0 < risk < 1:
            raise UserError(f"--unsure is {risk:g}; it is a share of photos between 0 and 1, such as 0.05")
        if risk < self.finest:
            raise UserError(
                f"--unsure is {risk:g}; after validating {self.num_people:,} people no less than {self.finest:g} can "
                "be promised: ask for that, or validate more people, as folds do"
            )
        return max(known for known in self.risks if known <= risk)

    def sets(
        self, probabilities: Mapping[str, np.ndarray], risk: float, *, is_pooled: bool = False
    ) -> dict[str, np.ndarray]:
        """Returns each head's classes that cannot be ruled out, (N, K) bool, at least one. Raises as `promised`."""
        place, least = self.risks.index(self.promised(risk)), self.least_pooled if is_pooled else self.least
        return {head: _reaches(values, least[head][place]) for head, values in probabilities.items()}

    def unsure(
        self, probabilities: Mapping[str, np.ndarray], answers: np.ndarray, risk: float, *, is_pooled: bool = False
    ) -> np.ndarray:
        """Returns of which photos (N,) bool the headline's set holds something else than the answer. Raises as `sets`.

        A decision may answer with another class than the likeliest; then two are possible.
        """
        head = headline_of(probabilities)
        possible = self.sets({head: probabilities[head]}, risk, is_pooled=is_pooled)[head]
        return (possible.sum(1) > 1) | ~possible[np.arange(len(answers)), answers]

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conformal:
        """Returns what `to_dict` gave."""
        return cls(**values)


@dataclass(frozen=True)
class Coverage:
    """What sets of a risk are worth for people whom they were not fitted on."""

    risk: float
    covered: Interval  # share of photos whose set holds the truth
    answered: Interval  # share of photos whose set holds one class
    accuracy: Interval | None  # of these; None: there are none


def coverage(predictions: Predictions, draws: Draws) -> dict[str, list[Coverage]]:
    """Returns what each head's sets are worth at those of SHOWN_RISKS that so many people can promise; or nothing."""
    if draws.weights.shape[1] < NUM_PARTS:
        return {}
    parts = parts_of_people(predictions)
    fitted = [Conformal.fit(predictions.rows(parts != part)) for part in range(NUM_PARTS)]
    risks = [risk for risk in SHOWN_RISKS if risk >= max(conformal.finest for conformal in fitted)]
    found: dict[str, list[Coverage]] = {}
    for risk in risks:
        for head, probabilities in predictions.probabilities.items():
            possible = np.zeros(probabilities.shape, bool)
            for part, conformal in enumerate(fitted):
                possible[parts == part] = conformal.sets({head: probabilities[parts == part]}, risk)[head]
            found.setdefault(head, []).append(_coverage(risk, possible, predictions.truth(head), draws))
    return found


def _coverage(risk: float, possible: np.ndarray, truth: np.ndarray, draws: Draws) -> Coverage:
    is_covered, is_answered = possible[np.arange(len(truth)), truth], possible.sum(1) == 1
    covered, answered = (_share(which, np.ones(len(truth), bool), draws) for which in (is_covered, is_answered))
    accuracy = _share(is_covered & is_answered, is_answered, draws) if is_answered.any() else None
    return Coverage(risk, covered, answered, accuracy)


def _share(which: np.ndarray, of: np.ndarray, draws: Draws) -> Interval:
    """Returns the share of photos `which` (N,) bool among those `of` (N,) bool, every person with the same weight."""
    num_photos = np.bincount(draws.rows)
    counts = np.stack([np.bincount(draws.rows, values) / num_photos for values in (which, of)], axis=1)  # (P, 2)
    total = counts.sum(0)
    with np.errstate(invalid="ignore"):
        value, values, left_out = (
            sums[..., 0] / sums[..., 1] for sums in (total, draws.weights @ counts, total - counts)
        )
    return Resampled(float(value), values, left_out, int((counts[:, 1] > 0).sum())).interval()


def _least(predictions: Predictions) -> dict[str, list[float]]:
    """Returns each head's least probability of a class in the set, for each of RISKS; 0 lets every class in."""
    _, person, num_photos = np.unique(predictions.people, return_inverse=True, return_counts=True)
    weights = 1 / ((len(num_photos) + 1) * num_photos[person])
    found = {}
    for head, probabilities in predictions.probabilities.items():
        of_truth = probabilities[np.arange(len(person)), predictions.truth(head)].astype(np.float64)
        of_truth = np.nan_to_num(of_truth)  # what is no number rules nothing out
        order = np.argsort(-of_truth)
        places = np.searchsorted(weights[order].cumsum(), 1 - np.array(RISKS) - ROUNDING)
        found[head] = np.append(of_truth[order], 0)[places].tolist()
    return found


def _reaches(probabilities: np.ndarray, least: float) -> np.ndarray:
    """Returns the classes (N, K) bool that are at least so probable, and the likeliest."""
    is_likeliest = np.eye(probabilities.shape[1], dtype=bool)[likeliest(probabilities)]
    return (probabilities >= least) | is_likeliest
