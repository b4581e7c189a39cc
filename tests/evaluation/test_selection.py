"""Which epoch is the best: never none, never NaN over a number, never a tie."""

from __future__ import annotations

from math import isnan, nan

import pytest

from maskcls.evaluation.selection import BestScore, best_epoch, epochs_done, validations


def epochs(criterion: str, values: list[float]) -> tuple[list[bool], BestScore]:
    best = BestScore(criterion)
    return [best.update({criterion: value, "other": 9.0}, epoch) for epoch, value in enumerate(values, start=1)], best


@pytest.mark.parametrize("criterion", ["f1", "acc", "loss"])
@pytest.mark.parametrize("value", [0.0, nan, 1.0, float("inf")])
def test_the_first_epoch_always_is_the_best(criterion: str, value: float) -> None:
    is_best, best = epochs(criterion, [value])
    assert is_best == [True] and best.epoch == 1
    assert best.value == value or (isnan(best.value) and isnan(value))


@pytest.mark.parametrize("criterion", ["f1", "acc"])
def test_a_higher_f1_or_accuracy_is_better(criterion: str) -> None:
    is_best, best = epochs(criterion, [0.5, 0.4, 0.6, 0.55, 0.7])
    assert is_best == [True, False, True, False, True]
    assert (best.value, best.epoch) == (0.7, 5)


def test_a_lower_loss_is_better() -> None:
    is_best, best = epochs("loss", [0.5, 0.4, 0.6, -0.1, 0.0])
    assert is_best == [True, True, False, True, False]
    assert (best.value, best.epoch) == (-0.1, 4)


@pytest.mark.parametrize("criterion", ["f1", "acc", "loss"])
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_an_equal_score_is_not_better(criterion: str, value: float) -> None:
    is_best, best = epochs(criterion, [value, value, value])
    assert is_best == [True, False, False] and best.epoch == 1


@pytest.mark.parametrize("criterion", ["f1", "acc", "loss"])
def test_nan_never_wins_over_a_number_nor_over_nan(criterion: str) -> None:
    assert epochs(criterion, [0.5, nan, nan])[0] == [True, False, False]
    is_best, best = epochs(criterion, [nan, nan])
    assert is_best == [True, False] and best.epoch == 1


@pytest.mark.parametrize("criterion", ["f1", "acc", "loss"])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e9])
def test_any_number_wins_over_nan(criterion: str, value: float) -> None:
    is_best, best = epochs(criterion, [nan, nan, value, nan])
    assert is_best == [True, False, True, False]
    assert (best.value, best.epoch) == (value, 3)


def test_a_criterion_that_is_no_score_is_an_error_and_not_a_run_without_a_best() -> None:
    with pytest.raises(KeyError, match="f2"):
        BestScore("f2").update({"f1": 0.5}, 1)


def test_without_scores_the_newest_epoch_counts_as_the_best() -> None:
    best = BestScore("f1")
    assert [best.update({}, epoch) for epoch in (1, 2, 3)] == [True, True, True]
    assert best.epoch == 3 and best.value != best.value


def test_the_epochs_that_are_done_are_validated_or_marked() -> None:
    validated = [{"epoch": 1, "update": 4, "valid/f1": 0.5}, {"epoch": 2, "update": 5, "train/loss": 1.0}]
    marked = [{"epoch": 1, "update": 4, "num_validated": 0}, {"epoch": 2, "update": 5, "train/loss": 1.0}]
    assert (epochs_done(validated), epochs_done(marked), epochs_done([])) == (1, 1, 0)
    assert epochs_done([{"epoch": "two", "num_validated": 0}]) == 0  # edited by a person


def test_the_best_epoch_of_a_log_is_found_by_the_same_rules() -> None:
    log = [
        {"epoch": 1, "train/loss": 0.1},
        *({"epoch": epoch, "valid/f1": f1, "valid/loss": loss}
          for epoch, f1, loss in [(1, float("nan"), 0.9), (2, 0.5, 0.4), (3, 0.7, 0.6), (4, 0.7, 0.5)]),
        {"epoch": 5, "train/loss": 0.0},
    ]  # fmt: skip
    found = validations(log)
    assert list(found) == [1, 2, 3, 4] and found[2] == {"f1": 0.5, "loss": 0.4}
    assert best_epoch(found, "f1") == 3  # the first of equals, and never the one that is no number
    assert best_epoch(found, "loss") == 2
    assert best_epoch(validations(log[:1]), "f1") is None


def test_what_is_no_score_of_an_epoch_is_ignored() -> None:
    edited = [{"epoch": "x", "valid/f1": 0.9}, {"epoch": 2, "valid/f1": "high"}, {"valid/f1": 0.8}]
    log = [*edited, {"epoch": 3, "valid/f1": 1, "valid/acc": "?"}]
    assert validations(log) == {3: {"f1": 1.0}}
