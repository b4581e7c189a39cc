"""Runs of known quality are told apart, or not; several tables become one about the same or about more photos."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws, Interval
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.paired import (
    Difference,
    combined_attributes,
    holm,
    joined_people,
    on_common_photos,
    paired_difference,
    verdicts,
)
from maskcls.evaluation.predictions import Predictions
from tests import made

F1 = Score("class", "f1")


def difference(a: Predictions, b: Predictions, score: Score = F1, *, num_resamples: int = 2000) -> Difference:
    """Returns how much higher b scores than a on the photos that both speak about."""
    here, there = on_common_photos([a, b])
    draws = Draws.of(here.people, num_resamples=num_resamples)
    return paired_difference(Findings(here, draws), Findings(there, draws), score)


def test_tables_are_brought_onto_their_common_photos_in_one_order() -> None:
    whole = made.predictions(20)
    random = np.random.default_rng(0)
    first = whole.rows(random.permutation(len(whole))[:100])
    second = whole.rows(random.permutation(len(whole))[:100])
    third = whole.rows(random.permutation(len(whole)))
    expected = sorted(set(first.keys) & set(second.keys))
    assert 50 < len(expected) < 100
    for table in on_common_photos([first, second, third]):
        assert table.keys.tolist() == expected
        rows = [whole.keys.tolist().index(key) for key in expected]
        assert np.array_equal(table.labels, whole.labels[rows])
        assert np.array_equal(table.probabilities["class"], whole.probabilities["class"][rows])
    others = made.predictions(3)
    others = dataclasses.replace(others, people=np.char.add("9", others.people))
    assert [len(table) for table in on_common_photos([whole, others])] == [0, 0]


def test_a_clearly_better_run_is_called_better_and_photos_may_come_in_another_order() -> None:
    worse, better = (made.predictions(100, accuracy=accuracy) for accuracy in (0.7, 0.9))
    shuffled = better.rows(np.random.default_rng(0).permutation(len(better)))
    for score in (F1, Score("class", "acc"), Score("gender", "acc"), Score("age", "f1")):
        found = difference(worse, shuffled, score)
        values = [Findings(table).scores[score].value for table in (worse, better)]
        assert found.interval.value == pytest.approx(values[1] - values[0], abs=1e-12)
        assert found.interval.is_clear and found.interval.low > 0
        assert found.probability_better == found.sureness > 0.97
        assert (found.num_people, found.num_photos) == (100, 700)
    back = difference(shuffled, worse)
    assert back.interval.high < 0
    assert back.probability_better == 1 - back.sureness < 0.03


def test_pairing_people_makes_the_interval_of_alike_runs_narrow() -> None:
    a, score = made.predictions(100, heads=["age"]), Score("age", "acc")
    changed = a.probabilities["age"].copy()
    changed[::35] = np.roll(changed[::35], 1, axis=1)  # one photo of every fifth person
    b = dataclasses.replace(a, probabilities={"age": changed})
    paired = difference(a, b, score).interval
    alone = Findings(a).scores[score]
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_run_is_not_distinguishable_from_itself_and_two_alike_are_not() -> None:
    a = made.predictions(100)
    same = difference(a, a)
    assert (same.interval.value, same.probability_better, same.interval.is_clear) == (0, 0.5, False)
    generator = np.random.default_rng(0)
    answers = {}
    for number in range(2):  # two runs with the same rate of mistakes at different photos
        wrong = generator.random(len(a)) < 0.1
        answers[number] = dataclasses.replace(
            a, probabilities={"gender": np.eye(2, dtype=np.float32)[a.labels[:, 1] ^ wrong]}
        )
    found = difference(answers[0], answers[1], Score("gender", "acc"))
    assert not found.interval.is_clear and 0.03 < found.probability_better < 0.97


def test_a_run_of_one_head_is_compared_with_that_head_of_another() -> None:
    mask, whole = made.predictions(20, heads=["mask"]), made.predictions(20)
    assert difference(mask, whole, Score("mask", "f1")).interval.value == 0


def test_runs_with_other_labels_of_the_same_photos_are_not_compared() -> None:
    a = made.predictions(20)
    relabelled = a.labels.copy()
    relabelled[:7, 1] ^= 1
    with pytest.raises(UserError, match="the runs give 7 of the 140 photos different labels"):
        difference(a, dataclasses.replace(a, labels=relabelled))


def test_of_many_equal_pairs_about_one_in_twenty_is_called_different() -> None:
    words = []
    for seed in range(0, 200, 2):
        pair = [made.predictions(60, heads=["age"], accuracy=0.7, seed=number) for number in (seed, seed + 1)]
        words += verdicts([difference(*pair, Score("age", "f1"), num_resamples=500)])
    assert 0 < 100 - words.count("not distinguishable") <= 11  # binomial(100, 0.05): 11 or fewer in 99.6 % of sets


def test_the_probabilities_are_corrected_as_holm_does() -> None:
    # By hand: sorted 0.01, 0.03, 0.04 times 3, 2, 1 is 0.03, 0.06, 0.04; none may lie below one before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.7, 0.8]) == [1.0, 1.0]


def test_one_lucky_run_of_several_is_not_called_better() -> None:
    lucky = Difference(Interval(0.02, 0.001, 0.04), 0.98, 50, 350)
    chance = Difference(Interval(0.0, -0.02, 0.02), 0.5, 50, 350)
    assert verdicts([lucky]) == ["better"]
    assert verdicts([lucky, chance, chance]) == ["not distinguishable"] * 3
    assert verdicts([dataclasses.replace(lucky, interval=Interval(0.02, -0.001, 0.04))]) == ["not distinguishable"]


def test_folds_lie_below_each_other() -> None:
    whole = made.predictions(3)
    parts = [whole.rows(whole.people == name) for name in sorted(set(whole.people))]
    joined = joined_people(parts)
    for name in ("people", "files", "labels", "ages", "races"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
    assert np.array_equal(joined.probabilities["age"], whole.probabilities["age"])
    with pytest.raises(UserError, match="same photos"):
        joined_people([parts[0], parts[0]])
    with pytest.raises(UserError, match="predict different things: age, class, gender, mask and mask"):
        joined_people([parts[0], made.predictions([parts[1].people[0]], heads=["mask"])])


def test_three_attribute_models_are_one_model_with_three_heads() -> None:
    whole = made.predictions(5)
    parts = []
    for head in ("age", "mask", "gender"):
        part = made.predictions(5, heads=[head])
        parts.append(part.rows(np.random.default_rng(len(head)).permutation(len(part))))
    together = combined_attributes(parts)
    order = np.argsort(whole.keys)
    assert np.array_equal(together.keys, whole.keys[order])
    assert np.array_equal(together.labels, whole.labels[order])
    for head, values in whole.probabilities.items():
        np.testing.assert_allclose(together.probabilities[head], values[order], rtol=1e-6)
    with pytest.raises(UserError, match="one each"):
        combined_attributes(parts[:2])
    with pytest.raises(UserError, match="different photos"):
        combined_attributes([parts[0].rows(np.arange(6)), *parts[1:]])
