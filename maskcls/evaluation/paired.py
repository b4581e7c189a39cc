"""Several runs: their photos brought together, their answers as those of one, and whether one is really better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import TIE, Interval
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.predictions import FACTS, Predictions
from maskcls.evaluation.trainings import TrainingNoise, Trainings
from maskcls.labels import ATTRIBUTES, joint


@dataclass(frozen=True)
class Difference:
    """How much higher one run scores than another on the same photos."""

    interval: Interval
    probability_better: float  # share of resamples in which it scores higher; equal ones count half
    num_people: int
    num_photos: int
    noise: TrainingNoise | None = None  # in the interval; None: one training each, of which nobody knows it

    @property
    def sureness(self) -> float:
        """The share of resamples that lie on the side of the difference seen."""
        return self.probability_better if self.interval.value > 0 else 1 - self.probability_better


def on_common_photos(tables: Sequence[Predictions]) -> list[Predictions]:
    """Returns of each table the photos that all tables speak about, which may be none, in one order."""
    common = reduce(np.intersect1d, (table.keys for table in tables))
    return [table.rows(np.intersect1d(common, table.keys, return_indices=True)[2]) for table in tables]


def paired_difference(a: Findings, b: Findings, score: Score) -> Difference:
    """Returns how much higher b scores than a; each resample holds the same people for both.

    They are about the same photos in one order (`on_common_photos`), and have their draws in common. Raises UserError
    when the photos carry different labels.
    """
    return recipe_difference(Trainings([a]), Trainings([b]), score)


def recipe_difference(a: Trainings, b: Trainings, score: Score) -> Difference:
    """Returns how much higher b scores than a, each the mean of its trainings.

    As `paired_difference`, of which it is the general form. Where a recipe was trained more than once, the noise
    between trainings is in the interval beside that of the people.
    """
    first, *others = (*a.findings, *b.findings)
    here = first.predictions
    for other in others:
        there = other.predictions
        assert first.draws is other.draws and np.array_equal(here.keys, there.keys)
        if num_others := int((here.labels != there.labels).any(1).sum()):
            differ = f"the runs give {num_others} of the {len(here)} photos different labels"
            raise UserError(f"{differ}: compare on one truth")
    found, noise = b.mean(score).minus(a.mean(score)), TrainingNoise.between([a, b], score)
    interval, values = found.interval(lowest=-1), found.values
    if noise:
        drawn = noise.draws(len(values), [len(a.findings), len(b.findings)])
        reach = float(np.quantile(np.abs(drawn), 0.95))
        interval, values = interval.widened(reach, lowest=-1), values + drawn
    better = np.mean(values > TIE) + np.mean(np.abs(values) <= TIE) / 2
    return Difference(interval, float(better), found.num_people, len(here), noise)


def verdicts(differences: Sequence[Difference]) -> list[str]:
    """Returns better, worse or not distinguishable for each, corrected for their number.

    A difference counts when its 95 % interval leaves out 0 and its two-sided probability of chance stays below 5 %
    after Holm's correction. Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    chances = [2 * min(d.probability_better, 1 - d.probability_better) for d in differences]
    words = []
    for difference, chance in zip(differences, holm(chances), strict=True):
        is_real = difference.interval.is_clear and chance < 0.05
        words.append("not distinguishable" if not is_real else "better" if difference.interval.value > 0 else "worse")
    return words


def holm(chances: Sequence[float]) -> list[float]:
    """Returns p values corrected by Holm's method, in the order given."""
    corrected, largest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = largest
    return corrected


def joined_people(parts: Sequence[Predictions]) -> Predictions:
    """Returns the photos of several tables below each other: folds, each validated on other people.

    Raises UserError when the tables speak about different heads, or two of them about the same photo.
    """
    heads = [sorted(part.probabilities) for part in parts]
    if any(other != heads[0] for other in heads):
        raise UserError(f"the runs predict different things: {' and '.join(map(', '.join, heads))}")
    keys = np.concatenate([part.keys for part in parts])
    if len(np.unique(keys)) < len(keys):
        raise UserError("the runs validated some of the same photos; to join runs, each must have its own people")
    facts = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FACTS}
    tables = [part.probabilities for part in parts]
    probabilities = {head: np.concatenate([table[head] for table in tables]) for head in tables[0]}
    return Predictions(**facts, probabilities=probabilities)


def averaged(parts: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    """Returns several models' predictions of the same photos as those of one: the weighted mean, head by head.

    Raises UserError when the models speak about different heads or photos, or the photos carry different labels.
    """
    heads = [sorted(part.probabilities) for part in parts]
    if any(other != heads[0] for other in heads):
        raise UserError(f"the runs predict different things: {' and '.join(map(', '.join, heads))}")
    tables = on_common_photos(parts) if len(parts) > 1 else parts
    if any(len(table) < len(part) for table, part in zip(tables, parts, strict=True)):
        raise UserError("the runs to be averaged validated different photos")
    if num_others := max(int((table.labels != tables[0].labels).any(1).sum()) for table in tables):
        raise UserError(f"the runs to be averaged give {num_others:,} photos different labels: correct them for all")
    said = [table.probabilities for table in tables]  # in the order of the first, whose headline comes first
    means = {head: np.average([one[head] for one in said], axis=0, weights=weights) for head in said[0]}
    return replace(tables[0], probabilities=means)


def combined_attributes(parts: Sequence[Predictions]) -> Predictions:
    """Returns single-attribute models' predictions of the same photos as those of one: attributes and the classes.

    The classes are the product of the attributes, as for output `all`. Raises UserError unless every attribute comes
    once and for the same photos.
    """
    by_head = {head: part for part in parts for head in part.probabilities}
    if len(parts) != len(ATTRIBUTES) or set(by_head) != set(ATTRIBUTES):
        raise UserError(f"to be combined, runs predict {', '.join(ATTRIBUTES)}, one each")
    tables = on_common_photos([by_head[head] for head in ATTRIBUTES])
    if any(len(table) < len(part) for table in tables for part in parts):
        raise UserError("the runs to be combined validated different photos")
    attributes = {head: table.probabilities[head] for head, table in zip(ATTRIBUTES, tables, strict=True)}
    return replace(tables[0], probabilities={"class": joint(attributes), **attributes})
