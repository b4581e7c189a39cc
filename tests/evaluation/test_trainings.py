"""Recipes trained several times: the noise between trainings is measured, and intervals that know it hold the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws, Interval
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.paired import paired_difference, recipe_difference
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.trainings import TrainingNoise, Trainings
from tests import made

F1 = Score("class", "f1")
PEOPLE = sorted(made.people(60))
FOLDS = {person: number % 5 for number, person in enumerate(PEOPLE)}


def found(tables: Sequence[Predictions], *, num_resamples: int = 2000) -> list[Findings]:
    """Returns what there is to say about tables of the same photos, with draws in common."""
    draws = Draws.of(tables[0].people, num_resamples=num_resamples)
    return [Findings(table, draws) for table in tables]


def cross_validation(random: np.random.Generator, *, seed: int) -> Predictions:
    """Returns what five models say, each of whom is better or worse than their recipe by chance."""
    of_folds = np.clip(random.normal(0.75, 0.15, 5), 0.21, 1)
    age = np.array([[of_folds[FOLDS[person]]] for person in PEOPLE])
    return made.predictions(PEOPLE, heads=["age"], accuracy={"mask": 1.0, "gender": 1.0, "age": age}, seed=seed)


@pytest.mark.parametrize("has_folds", [False, True])
def test_intervals_that_know_the_noise_between_trainings_hold_no_difference_and_others_miss_it(has_folds: bool) -> None:
    """Two recipes of one quality, three seeds each."""
    random, score, missed = np.random.default_rng(1), Score("age", "acc"), {"people alone": 0, "both": 0}
    for number in range(0, 600, 6):
        if has_folds:
            tables = [cross_validation(random, seed=number + place) for place in range(6)]
        else:
            tables = [
                made.predictions(PEOPLE, heads=["age"], accuracy=random.normal(0.75, 0.07), seed=number + place)
                for place in range(6)
            ]
        of_all, folds = found(tables, num_resamples=500), FOLDS if has_folds else {}
        a, b = Trainings(of_all[:3], folds), Trainings(of_all[3:], folds)
        missed["people alone"] += b.mean(score).minus(a.mean(score)).interval(lowest=-1).is_clear
        missed["both"] += recipe_difference(a, b, score).interval.is_clear
    assert missed["both"] <= 11  # binomial(100, 0.05): 11 or fewer in 99.6 % of sets
    assert missed["people alone"] >= 20


def test_an_interval_is_widened_by_noise_as_squares_add_up() -> None:
    assert Interval(0.5, 0.47, 0.54).widened(0.04) == Interval(
        0.5, pytest.approx(0.45), pytest.approx(0.5 + 0.04 * 2**0.5)
    )
    assert Interval(0.5, 0.5, 0.5).widened(0.0) == Interval(0.5, 0.5, 0.5)
    assert Interval(-0.5, -0.5, -0.5).widened(2.0, lowest=-1) == Interval(-0.5, -1, 1)


def test_the_difference_of_recipes_is_that_of_their_means_over_seeds() -> None:
    tables = [made.predictions(60, accuracy=accuracy, seed=seed) for seed, accuracy in enumerate((0.7, 0.74, 0.9))]
    a, other, b = found(tables)
    values = [findings.scores[F1].value for findings in (a, other, b)]
    both, alone = (recipe_difference(Trainings(first), Trainings([b]), F1) for first in ([a, other], [a]))
    assert both.interval.value == pytest.approx(values[2] - (values[0] + values[1]) / 2)
    assert alone == paired_difference(a, b, F1)
    assert (alone.noise, both.num_photos) == (None, 420)
    assert both.noise is not None
    assert both.noise.degrees == 1
    assert both.noise.deviation == pytest.approx(np.std(values[:2], ddof=1))
    assert both.interval.high - both.interval.low > 1.5 * (alone.interval.high - alone.interval.low)


def test_equal_trainings_have_no_noise_and_noise_that_the_people_show_is_not_counted_twice() -> None:
    a = Findings(made.predictions(60))
    same = recipe_difference(Trainings([a, a]), Trainings([a, a, a]), F1)
    assert same.noise is not None
    assert (same.noise.deviation, same.noise.degrees) == (0, 3)
    assert same.interval == paired_difference(a, a, F1).interval
    draws = TrainingNoise(0.01, 100, 0.0).draws(2000, [2, 2])
    assert np.std(draws) == pytest.approx(0.01, rel=0.1)  # 0.01 ** 2 * (1 / 2 + 1 / 2)
    assert np.std(TrainingNoise(0.01, 100, 0.75e-4).draws(2000, [2, 2])) == pytest.approx(0.005, rel=0.1)
    few = np.quantile(np.abs(TrainingNoise(0.01, 2, 0.0).draws(200_000, [2, 2])), 0.95)
    assert few == pytest.approx(0.01 * 4.303, rel=0.03)  # Student's t of 2 degrees


def test_folds_are_trainings_of_their_own_whose_noise_adds_up() -> None:
    random = np.random.default_rng(0)
    of_seeds = found([cross_validation(random, seed=seed) for seed in range(3)])
    score = Score("age", "acc")
    whole, by_fold = Trainings(of_seeds), Trainings(of_seeds, FOLDS)
    values = [findings.scores[score].value for findings in of_seeds]
    assert whole.deviations(score)[:, 0] == pytest.approx(values - np.mean(values))
    deviations = by_fold.deviations(score)
    assert deviations.shape == (3, 5)
    assert deviations.sum(1) == pytest.approx(values - np.mean(values))  # accuracy is a mean over photos
    fold = np.array([FOLDS[person] == 2 for person in of_seeds[0].predictions.people])
    right = [np.mean(s.predictions.predicted("age")[fold] == s.predictions.truth("age")[fold]) for s in of_seeds]
    assert deviations[:, 2] == pytest.approx((right - np.mean(right)) / 5)
    noises = [TrainingNoise.between([trainings], score) for trainings in (whole, by_fold)]
    assert noises[0] is not None and noises[1] is not None
    assert [noise.degrees for noise in noises if noise] == [2, 10]
    assert noises[1].deviation == pytest.approx(np.sqrt((deviations**2).sum() / 2))
    assert TrainingNoise.between([Trainings(of_seeds[:1], FOLDS)], score) is None
