"""Scores of parts of the validation photos, and the gaps between groups of people, each with its interval.

What is honest in a part: accuracy always. F1 only where more than one class occurs (among women alone, gender F1 would
be accuracy under another name), as the mean over the classes that occur in the part; classes that it cannot have would
count 0. Such an F1 depends on which classes occur and how often, and photos outside the part that are mistaken for its
classes are not in it. So it is not to be compared between the values of a group: gaps are stated in accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from maskcls.evaluation.intervals import SCORES, Draws, Interval, headline_first, resampled_score
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES

BOUNDARY_YEARS = {f"age {cut - 3}-{cut + 2}": range(cut - 3, cut + 3) for cut in ATTRIBUTES["age"].first_years[1:]}
GAP_GROUPS = (*ATTRIBUTES, "race")
MIN_PEOPLE = 20  # smaller groups are listed but not compared: their few mistakes say little about other people


@dataclass(frozen=True)
class Slice:
    """The scores of the photos that share a value."""

    group: str  # an attribute, race, or the years around an age boundary
    value: str
    num_photos: int
    num_people: int
    scores: dict[str, Interval]  # names as in metrics.jsonl; f1 only where it means something


@dataclass(frozen=True)
class Gap:
    """How far an accuracy differs between two values of a group: the largest clear gap, or the largest."""

    group: str
    score: str
    higher: str
    lower: str
    difference: Interval  # higher - lower; in 95 % of cases all pairs of the group hold their truths together
    is_clear: bool


def slices(predictions: Predictions, *, num_resamples: int = 2000, seed: int = 0) -> list[Slice]:
    """Returns the scores by each attribute, race and year around the age boundaries, in this order.

    Values without photos are left out.
    """
    draws = Draws.of(predictions.people, num_resamples=num_resamples, seed=seed)
    found = []
    for group, value, which in _parts(predictions):
        scores = {
            predictions.score_name(head, score): resampled_score(predictions, head, score, draws, which).interval()
            for head in headline_first(predictions)
            for score in SCORES
            if score == "acc" or len(np.unique(predictions.truth(head)[which])) > 1
        }
        num_people = len(np.unique(draws.rows[which]))
        found.append(Slice(group, value, int(which.sum()), num_people, scores))
    return found


def gaps(predictions: Predictions, *, num_resamples: int = 2000, seed: int = 0) -> list[Gap]:
    """Returns a gap for each group (attributes, race) with two values of at least MIN_PEOPLE, and each head.

    Intervals are corrected for choosing a pair among a group's values, not for the number of groups and heads: of 20
    gaps that are none, one is called clear.
    """
    draws = Draws.of(predictions.people, num_resamples=num_resamples, seed=seed)
    found = []
    for group in GAP_GROUPS:
        parts = [
            (value, which)
            for name, value, which in _parts(predictions)
            if name == group and len(np.unique(draws.rows[which])) >= MIN_PEOPLE
        ]
        for head in headline_first(predictions):
            accuracies = [(value, resampled_score(predictions, head, "acc", draws, which)) for value, which in parts]
            pairs = list(combinations(sorted(accuracies, key=lambda part: -part[1].value), 2))
            candidates = []
            for (higher, high_score), (lower, low_score) in pairs:
                interval = high_score.minus(low_score).interval(lowest=-1, num_chosen_from=len(pairs))
                score = predictions.score_name(head, "acc")
                candidates.append(Gap(group, score, higher, lower, interval, interval.low > 0))
            if candidates:
                found.append(max(candidates, key=lambda gap: (gap.is_clear, gap.difference.value)))
    return found


def _parts(predictions: Predictions) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (group, value, which photos (N,) bool) of every part that has photos."""
    for group in ATTRIBUTES:
        for label, name in enumerate(HEAD_CLASSES[group]):
            yield from _part(group, name, predictions.truth(group) == label)
    for race in np.unique(predictions.races):
        yield from _part("race", str(race), predictions.races == race)
    for group, years in BOUNDARY_YEARS.items():
        for year in years:
            yield from _part(group, str(year), predictions.ages == year)


def _part(group: str, value: str, which: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    if which.any():
        yield group, value, which
