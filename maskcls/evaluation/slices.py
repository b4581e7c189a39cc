"""Scores of parts of the validation photos, and the gaps between groups of people, each with its interval.

What is honest in a part: accuracy always. F1 and other means over classes only where more than one class occurs (among
women alone, gender F1 would be accuracy under another name), over the classes that occur in the part; classes that it
cannot have would count 0. Such an F1 depends on which classes occur and how often, and photos outside the part that are
mistaken for its classes are not in it. So it is not to be compared between the values of a group: gaps are stated in
accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from maskcls.evaluation.intervals import Draws, Interval, Resampled, resampled_scores
from maskcls.evaluation.metrics import Score
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
    resampled: dict[Score, Resampled]  # means over classes only where they say something

    @cached_property
    def scores(self) -> dict[Score, Interval]:
        """The scores with their intervals."""
        return {score: resampled.interval() for score, resampled in self.resampled.items()}


@dataclass(frozen=True)
class Gap:
    """How far an accuracy differs between two values of a group: the largest clear gap, or the largest."""

    group: str
    score: Score
    higher: str
    lower: str
    difference: Interval  # higher - lower; in 95 % of cases all pairs of the group hold their truths together


def slices(predictions: Predictions, draws: Draws) -> list[Slice]:
    """Returns the scores by each attribute, race and year around the age boundaries, in this order.

    Values without photos are left out.
    """
    found = []
    for group, value, which in _parts(predictions):
        if which.any():
            resampled = resampled_scores(predictions, draws, which)
            counts = {"num_photos": int(which.sum()), "num_people": len(np.unique(draws.rows[which]))}
            found.append(Slice(group=group, value=value, **counts, resampled=resampled))
    return found


def gaps(slices: Sequence[Slice]) -> list[Gap]:
    """Returns a gap for each group (attributes, race) with two values of at least MIN_PEOPLE, and each head.

    Intervals are corrected for choosing a pair among a group's values, not for the number of groups and heads: of 20
    gaps that are none, one is called clear.
    """
    found = []
    for group in GAP_GROUPS:
        parts = [part for part in slices if part.group == group and part.num_people >= MIN_PEOPLE]
        for score in parts[0].resampled if len(parts) > 1 else ():
            if score.measure == "acc":
                candidates = _candidates(parts, score)
                found.append(max(candidates, key=lambda gap: (gap.difference.is_clear, gap.difference.value)))
    return found


def _candidates(parts: Sequence[Slice], score: Score) -> list[Gap]:
    """Returns the gap of every two parts."""
    pairs = list(combinations(sorted(parts, key=lambda part: -part.resampled[score].value), 2))
    found = []
    for high, low in pairs:
        difference = high.resampled[score].minus(low.resampled[score])
        interval = difference.interval(lowest=-1, num_chosen_from=len(pairs))
        found.append(Gap(group=high.group, score=score, higher=high.value, lower=low.value, difference=interval))
    return found


def _parts(predictions: Predictions) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (group, value, which photos (N,) bool) of every part, some without photos."""
    for group in ATTRIBUTES:
        for label, name in enumerate(HEAD_CLASSES[group]):
            yield group, name, predictions.truth(group) == label
    for race in np.unique(predictions.races):
        yield "race", str(race), predictions.races == race
    for group, years in BOUNDARY_YEARS.items():
        for year in years:
            yield group, str(year), predictions.ages == year
