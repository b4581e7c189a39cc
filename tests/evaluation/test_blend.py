"""Members are those that plain loops choose; their gain is scored on people that had no part in the choice."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from maskcls.evaluation.blend import agreement, blend, macro_scores, mixed, selected
from maskcls.evaluation.predictions import NUM_PARTS, Predictions, parts_of_people
from maskcls.labels import HEAD_CLASSES, likeliest
from tests import made


def candidates(*accuracies: float, people: int = 40, heads: tuple[str, ...] = tuple(HEAD_CLASSES)) -> list[Predictions]:
    return [
        made.predictions(people, accuracy=accuracy, heads=heads, seed=seed) for seed, accuracy in enumerate(accuracies)
    ]


def noise(people: int, num_candidates: int, seed: int) -> list[Predictions]:
    """Returns candidates that know nothing about the age group: their answers are drawn."""
    random = np.random.default_rng(seed)
    return [
        made.predictions(people, probabilities={"age": random.dirichlet(np.ones(3), people * 7)})
        for _ in range(num_candidates)
    ]


def chosen_by_loops(probabilities: np.ndarray, truth: np.ndarray, num_steps: int) -> list[int]:
    """Returns what `selected` does, by scikit-learn and lists."""

    def score(chosen: list[int]) -> float:
        answers = likeliest(np.mean([probabilities[number] for number in chosen], axis=0))
        classes = range(probabilities.shape[2])
        return float(f1_score(truth, answers, labels=classes, average="macro", zero_division=0))

    chosen: list[int] = []
    best: list[int] = []
    for _ in range(num_steps):
        scores = [score([*chosen, number]) for number in range(len(probabilities))]
        chosen.append(next(number for number, value in enumerate(scores) if value > max(scores) - 1e-9))
        if not best or score(chosen) > score(best) + 1e-9:
            best = list(chosen)
    return [best.count(number) for number in range(len(probabilities))]


@pytest.mark.parametrize("head", HEAD_CLASSES)
def test_the_choice_is_that_of_plain_loops(head: str) -> None:
    num_several = 0
    for seed in range(2):
        random = np.random.default_rng(seed)
        tables = [made.predictions(25, accuracy=random.uniform(0.6, 0.7), seed=10 * seed + n) for n in range(3)]
        probabilities, truth = np.stack([table.probabilities[head] for table in tables]), tables[0].truth(head)
        counts = selected(probabilities, truth, num_steps=7)
        assert counts.tolist() == chosen_by_loops(probabilities, truth, 7)
        num_several += (counts > 0).sum() > 1
    assert num_several >= 1


def test_what_is_chosen_scores_at_least_as_high_as_the_best_candidate_where_it_was_chosen() -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 18, 200)
        probabilities = random.dirichlet(np.ones(18), (5, 200)).astype(np.float32)
        probabilities[:, np.arange(200), truth] += random.uniform(0, 0.3, (5, 1)).astype(np.float32)
        counts = selected(probabilities, truth)
        reached = macro_scores(np.tensordot(counts, probabilities, 1)[None], truth)[0]
        assert reached >= macro_scores(probabilities, truth).max() - 1e-9


def test_the_blend_of_copies_of_one_candidate_is_that_candidate() -> None:
    (table,) = candidates(0.7)
    found = blend([table] * 3)
    assert found.counts.tolist() == [1, 0, 0]
    for one in (found.answers, found.blended, found.best_single):
        for head, values in table.probabilities.items():
            assert np.array_equal(one.probabilities[head], values)
    for head, values in table.probabilities.items():
        assert np.allclose(found.mean.probabilities[head], values, rtol=1e-6, atol=0)
    assert len({interval.value for interval in (*found.scores, *found.alone)}) == 1
    assert [difference.interval.value for difference in found.differences] == [0, 0]
    assert not any(difference.interval.is_clear for difference in found.differences)


def test_a_candidate_that_adds_nothing_has_no_weight() -> None:
    (perfect,) = candidates(1.0)
    (other,) = candidates(0.6)
    assert blend([other, perfect]).counts.tolist() == [0, 1]


def test_of_noise_the_choice_gains_where_it_was_made_and_nothing_on_other_people() -> None:
    inside, outside = [], []
    for seed in range(40):
        tables = noise(30, 5, seed)
        found, truth = blend(tables), tables[0].truth("age")

        def scores(tables: Sequence[Predictions], truth: np.ndarray = truth) -> np.ndarray:
            return macro_scores(np.stack([table.probabilities["age"] for table in tables]), truth)

        inside.append(scores([found.answers])[0] - scores(tables).max())
        outside.append(np.subtract(*scores([found.blended, found.best_single])))
    assert min(inside) > -1e-9
    assert np.mean(inside) > 0.03
    error = np.std(outside) / np.sqrt(len(outside))
    assert abs(np.mean(outside)) < 3 * error < 0.02


def test_a_real_gain_is_clear() -> None:
    tables = made.two_halves(120)
    found = blend(tables)
    assert (found.counts > 0).all()
    assert found.scores[0].value == 1
    assert found.differences[0].interval.low > 0.1
    assert (found.counts_without > 0).sum(0).tolist() == [NUM_PARTS] * 2


def test_a_person_is_answered_by_what_was_chosen_on_other_people() -> None:
    tables = candidates(0.8, 0.75, 0.7, people=60)
    found, parts = blend(tables), parts_of_people(tables[0])
    assert len({*map(tuple, found.counts_without.tolist())}) > 1
    for part, counts in enumerate(found.counts_without):
        others, own = ([table.rows(which) for table in tables] for which in (parts != part, parts == part))
        assert not set(others[0].people) & set(own[0].people)
        probabilities = np.stack([table.probabilities["class"] for table in others])
        assert np.array_equal(selected(probabilities, others[0].truth("class")), counts)
        for head, values in mixed(own, counts).probabilities.items():
            assert np.array_equal(found.blended.probabilities[head][parts == part], values)


def test_weights_may_differ_between_photos() -> None:
    first, second = candidates(0.9, 0.8)
    weights = np.where(np.arange(len(first))[:, None] < 10, [1, 0], [1, 3])
    found = mixed([first, second], weights)
    for head in HEAD_CLASSES:
        here, there = first.probabilities[head], second.probabilities[head]
        assert np.array_equal(found.probabilities[head][:10], here[:10])
        assert np.allclose(found.probabilities[head][10:], 0.25 * here[10:] + 0.75 * there[10:], atol=1e-7)
    assert np.array_equal(found.keys, first.keys)


def test_the_same_people_are_parted_alike_every_time_and_a_few_people_are_enough() -> None:
    tables = candidates(0.8, 0.7)
    assert np.array_equal(blend(tables).counts_without, blend(tables).counts_without)
    for few in (1, 2):
        found = blend([table.rows(np.arange(7 * few)) for table in tables])
        assert found.counts.sum() >= 1 and np.isfinite(found.scores[0].value)


def test_agreement_is_that_of_scikit_learn() -> None:
    tables = candidates(0.9, 0.6, 0.5)
    shares, kappas = agreement(tables)
    answers = [table.predicted("class") for table in tables]
    for a, here in enumerate(answers):
        for b, there in enumerate(answers):
            assert shares[a, b] == pytest.approx(np.mean(here == there))
            assert kappas[a, b] == pytest.approx(cohen_kappa_score(here, there))
    assert 0 < kappas[0, 1] < shares[0, 1] < 1


def test_two_that_always_give_one_answer_agree_wholly() -> None:
    always = made.predictions(3, probabilities={"gender": np.tile([0.9, 0.1], (21, 1))})
    shares, kappas = agreement([always, always])
    assert (shares == 1).all() and (kappas == 1).all()


def test_choosing_among_ten_of_9_240_photos_is_quick() -> None:
    """All of a blend is six of these and takes 2 s of a core; a loop over photos or candidates would take minutes."""
    probabilities = np.random.default_rng(0).random((10, 9240, 18), np.float32)
    started = time.process_time()
    selected(probabilities, np.arange(9240) % 18)
    assert time.process_time() - started < 2
