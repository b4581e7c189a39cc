"""Intervals equal a slow reference, hold the truth as often as they say, and know that photos of a person are alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws, Interval, Resampled, resampled_scores
from maskcls.evaluation.metrics import METRICS, Score, measure
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import HEAD_CLASSES
from tests import made

SHARES = np.outer([0.4, 0.6], [0.47, 0.46, 0.07]).ravel()  # of gender x age group: few are 60 and over


def simulated(num_people: int, seed: int, *, accuracy: float = 0.8, split_people: bool = False) -> Predictions:
    """Returns predictions of people drawn anew for every seed.

    `split_people` pretends that each photo is of a person of its own.
    """
    drawn = np.random.default_rng(seed).choice(6, num_people, p=SHARES)
    names = [
        made.named(number, gender=code // 3, age=(25, 45, 65)[code % 3]) for number, code in enumerate(drawn.tolist())
    ]
    shares = {"mask": 1 - (1 - accuracy) / 10, "gender": accuracy, "age": accuracy}
    table = made.predictions(names, accuracy=shares, seed=seed)
    return dataclasses.replace(table, people=np.char.add(table.people, table.files)) if split_people else table


def only(table: Predictions, head: str) -> Predictions:
    return dataclasses.replace(table, probabilities={head: table.probabilities[head]})


def score_intervals(table: Predictions, *, num_resamples: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Returns the scores by name, of other draws than the usual ones when asked to."""
    return Findings(table, Draws.of(table.people, num_resamples=num_resamples, seed=seed)).named_scores


def test_values_and_names_are_those_of_the_metrics() -> None:
    table = simulated(40, seed=0)
    intervals = score_intervals(table, num_resamples=20)
    heads = {head: (table.predicted(head), table.truth(head)) for head in table.probabilities}
    scores, _ = measure({h: p for h, (p, _) in heads.items()}, {h: t for h, (_, t) in heads.items()}, output="all")
    assert list(intervals) == list(scores) == list(score_intervals(table, num_resamples=20))
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(scores[name], rel=0, abs=1e-12)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert list(score_intervals(only(table, "age"), num_resamples=20)) == ["acc", "f1", "balanced_acc"]


@pytest.mark.parametrize("head", HEAD_CLASSES)
def test_resamples_are_those_of_plain_loops_and_scikit_learn(head: str) -> None:
    table = simulated(14, seed=1)
    order = np.random.default_rng(0).permutation(len(table))  # photos of a person need not be neighbours
    table = table.rows(order)
    draws = Draws.of(table.people, num_resamples=12, seed=2)
    truth, predicted = table.truth(head), table.predicted(head)
    scores = resampled_scores(table, draws)
    own = {measure: scores[Score(head, measure)] for measure in METRICS}
    classes = range(len(HEAD_CLASSES[head]))
    present = set(truth) | set(predicted)
    drawn_more_than_once = 0
    for number in range(12 + 14):  # resamples, then each person left out
        photos: list[int] = []
        for index, person in enumerate(sorted(set(table.people))):
            copies = int(draws.weights[number, index]) if number < 12 else int(index != number - 12)
            drawn_more_than_once += copies > 1
            photos += copies * np.flatnonzero(table.people == person).tolist()
        if number < 12:
            assert len(photos) == len(table)
        f1 = sklearn.f1_score(truth[photos], predicted[photos], labels=classes, average=None, zero_division=0)
        recall = sklearn.recall_score(truth[photos], predicted[photos], labels=classes, average=None, zero_division=0)
        drawn, of_truth = set(truth[photos]) | set(predicted[photos]), set(truth[photos])
        expected = {
            "acc": sklearn.accuracy_score(truth[photos], predicted[photos]),
            "f1": sum(f1) / len(drawn) * len(present) / len(classes),  # the plain macro F1 when no class went missing
            "balanced_acc": sum(recall) / len(of_truth) * len(set(truth)) / len(classes),
        }
        for score, resampled in own.items():
            value = resampled.values[number] if number < 12 else resampled.left_out[number - 12]
            assert value == pytest.approx(expected[score], rel=0, abs=1e-9), (number, score)
    assert drawn_more_than_once > 20
    assert own["f1"].num_people == 14


def test_the_interval_is_scipys() -> None:
    rights = np.random.default_rng(0).binomial(7, 0.85, 60)  # of 7 photos of 60 people
    table = only(simulated(60, seed=0), "gender")
    answers = np.where(np.arange(7) < rights[:, None], 1, 0).ravel()
    table = dataclasses.replace(
        table, labels=np.ones_like(table.labels), probabilities={"gender": np.eye(2, dtype=np.float32)[answers]}
    )
    own = score_intervals(table, num_resamples=20_000)["acc"]
    theirs = stats.bootstrap(
        (rights / 7,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval  # fmt: skip
    assert (own.low, own.high) == pytest.approx((theirs.low, theirs.high), abs=0.0015)  # both are drawn


def truth_and_intervals(
    head: str, score: str, *, num_sets: int, split_people: bool = False
) -> tuple[float, list[Interval]]:
    """Returns the score of very many people, and the intervals of sets of 150 of them."""
    population = only(simulated(20_000, seed=1_000_000), head)
    tables = (only(simulated(150, seed, split_people=split_people), head) for seed in range(num_sets))
    return (
        score_intervals(population, num_resamples=1)[score].value,
        [score_intervals(table, num_resamples=500)[score] for table in tables],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("head", "score"), [("age", "acc"), ("class", "f1")])
def test_95_of_100_intervals_hold_the_truth_and_are_no_wider_than_that_takes(head: str, score: str) -> None:
    """Of 200 sets an interval of 95 % misses 24 or more in 1 of 10,000 cases; a too wide one shows against the spread."""
    truth, intervals = truth_and_intervals(head, score, num_sets=200)
    num_missed = sum(not interval.low <= truth <= interval.high for interval in intervals)
    assert num_missed < 24
    spread = np.std([interval.value for interval in intervals])
    width = np.mean([interval.high - interval.low for interval in intervals])
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.2)


@pytest.mark.slow
def test_drawing_photos_instead_of_people_would_miss_the_truth() -> None:
    truth, intervals = truth_and_intervals("age", "acc", num_sets=60, split_people=True)
    assert sum(interval.low <= truth <= interval.high for interval in intervals) < 0.85 * 60


def test_copies_of_a_photo_do_not_narrow_the_interval() -> None:
    table = only(simulated(50, seed=3), "age")
    twice = table.rows(np.repeat(np.arange(len(table)), 2))
    assert score_intervals(twice) == score_intervals(table)


def test_when_every_photo_is_right_the_bound_comes_from_the_number_of_people() -> None:
    table = only(simulated(30, seed=0, accuracy=1), "gender")
    interval = score_intervals(table, num_resamples=50)["acc"]
    assert interval == Interval(1.0, pytest.approx(0.025 ** (1 / 30)), 1.0)  # 0.884: 30 people say no more
    one_person = Resampled(0.75, np.full(9, 0.75), np.array([np.nan]), num_people=1).interval()
    assert (one_person.low, one_person.high) == (pytest.approx(0.01875), pytest.approx(0.99375))


def test_several_intervals_that_hold_together_are_wider() -> None:
    table = simulated(80, seed=0)
    score = Findings(table).resampled[Score("class", "acc")]
    one, of_ten = score.interval(), score.interval(num_chosen_from=10)
    assert of_ten.low < one.low < one.value < one.high < of_ten.high


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    table = only(simulated(40, seed=0), "age")
    assert score_intervals(table, seed=1) == score_intervals(table, seed=1) != score_intervals(table, seed=2)


def test_an_interval_is_printed_with_three_decimals() -> None:
    assert str(Interval(0.66849, 0.6308, 0.7021)) == "0.668 [0.631, 0.702]"
