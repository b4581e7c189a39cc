"""One shift is the best of all that plain loops try, and the ascent ends where none of them helps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from maskcls.evaluation.offsets import LARGEST, best_shift, fit_offsets


def toy(seed: int, *, num_photos: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, num_classes, num_photos)
    scores = (8 * random.normal(size=(num_photos, num_classes))).round() / 8  # some photos move at the same shift
    scores[np.arange(num_photos), truth] += 0.5
    return scores, truth


def macro_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    classes = range(scores.shape[1])
    return float(f1_score(truth, scores.argmax(1), labels=classes, average="macro", zero_division=0))


def every_shift(scores: np.ndarray, truth: np.ndarray, members: np.ndarray, bounds: tuple[float, float]) -> list[float]:
    """Returns macro F1 of a shift between any two photos' thresholds, and of none."""
    thresholds = scores[:, ~members].max(1) - scores[:, members].max(1)
    edges = np.unique([*bounds, *thresholds[(thresholds > bounds[0]) & (thresholds < bounds[1])].round(9)])
    return [macro_f1(scores + members * shift, truth) for shift in (0.0, *(edges[1:] + edges[:-1]) / 2)]


@pytest.mark.parametrize("bounds", [(-3.0, 3.0), (-0.4, 0.2), (-0.001, 6.0)])
def test_a_shift_is_as_good_as_the_best_of_all_shifts(bounds: tuple[float, float]) -> None:
    num_better = 0
    for seed in range(25):
        num_classes = 2 + seed % 5
        scores, truth = toy(seed, num_photos=5 + seed, num_classes=num_classes)
        members = np.zeros(num_classes, bool)
        members[np.random.default_rng(seed).permutation(num_classes)[: 1 + seed % (num_classes - 1)]] = True
        shift = best_shift(scores, truth, members, bounds)
        assert shift == 0 or bounds[0] <= shift <= bounds[1]
        best = max(every_shift(scores, truth, members, bounds))
        assert macro_f1(scores + members * shift, truth) == pytest.approx(best, abs=1e-12)
        num_better += best > macro_f1(scores, truth)
    assert num_better > 8


@pytest.mark.parametrize("groups", [np.eye(4, dtype=bool), np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)])
def test_the_ascent_only_climbs_and_ends_where_no_shift_of_one_helps(groups: np.ndarray) -> None:
    for seed in range(4):
        scores, truth = toy(seed, num_photos=40, num_classes=4)
        scores += np.random.default_rng(seed).normal(size=scores.shape) / 100  # rounding decides no tie
        offsets = fit_offsets(scores, truth, groups)
        shifted = scores + offsets @ groups
        assert macro_f1(shifted, truth) > macro_f1(scores, truth)
        assert np.abs(offsets).max() <= LARGEST
        for offset, members in zip(offsets, groups, strict=True):
            more = every_shift(shifted, truth, members, (-LARGEST - offset, LARGEST - offset))
            assert max(more) == pytest.approx(macro_f1(shifted, truth), abs=1e-12)


def test_answers_that_are_all_right_and_classes_that_nobody_has_are_left_alone() -> None:
    scores, truth = np.log(np.eye(3) * 0.9 + 0.05), np.array([0, 1, 2])
    assert fit_offsets(scores, truth, np.eye(3, dtype=bool)).tolist() == [0, 0, 0]
    assert fit_offsets(scores[:2, :], truth[:2], np.eye(3, dtype=bool)).tolist() == [0, 0, 0]
