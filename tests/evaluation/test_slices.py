"""Slices equal a count by hand and scikit-learn; a planted unfairness is a clear gap, noise is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sklearn

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws, resampled_scores
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.slices import MIN_PEOPLE, Gap
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from tests import made


def predictions(
    num_people: int, *, seed: int = 0, wrong_age: dict[str, float] | None = None, races: tuple[str, ...] = ("Asian",)
) -> Predictions:
    """Returns predictions of one photo of each mask state, a worn mask always right; `wrong_age`: share by race."""
    names = made.people(num_people, races=races)
    shares = [(wrong_age or {}).get(name.split("_")[2], 0.2) for name in names]
    accuracy = {"mask": [1, 0.9, 0.9], "gender": 0.9, "age": 1 - np.array(shares)[:, None]}
    return made.predictions(
        names, files=["mask1.jpg", "incorrect_mask.jpg", "normal.jpg"], accuracy=accuracy, seed=seed
    )


def quick(table: Predictions, num_resamples: int = 5, seed: int = 0) -> Findings:
    return Findings(table, Draws.of(table.people, num_resamples=num_resamples, seed=seed))


def test_every_value_of_every_group_is_listed_in_order() -> None:
    table = predictions(400, races=("Asian", "White"))
    listed = [(part.group, part.value) for part in quick(table).slices]
    assert listed == [
        *((group, name) for group in ATTRIBUTES for name in HEAD_CLASSES[group]), ("race", "Asian"), ("race", "White"),
        *(("age 27-32", str(year)) for year in range(27, 33)), *(("age 57-62", str(year)) for year in range(57, 63)),
    ]  # fmt: skip
    without = table.rows((table.labels[:, 0] != 1) & (table.ages != 30))
    assert [part for part in listed if part not in (("mask", "incorrect"), ("age 27-32", "30"))] == [
        (part.group, part.value) for part in quick(without).slices
    ]


def test_numbers_equal_scikit_learn_on_the_selected_photos() -> None:
    table = predictions(120)
    num_scores = 0
    for part in quick(table).slices:
        if part.group in ATTRIBUTES:
            column = list(ATTRIBUTES).index(part.group)
            which = table.labels[:, column] == HEAD_CLASSES[part.group].index(part.value)
        elif part.group == "race":
            which = table.races == part.value
        else:
            which = table.ages == int(part.value)
        assert part.num_photos == which.sum()
        assert part.num_people == len(set(table.people[which]))
        for head in table.probabilities:
            truth, predicted = table.truth(head)[which], table.predicted(head)[which]
            expected = {Score(head, "acc"): sklearn.accuracy_score(truth, predicted)}
            if len(set(truth)) > 1:
                for name, of_sklearn in (("f1", sklearn.f1_score), ("balanced_acc", sklearn.recall_score)):
                    expected[Score(head, name)] = of_sklearn(
                        truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0
                    )
            assert {score for score in part.scores if score.head == head} == set(expected)
            for score, value in expected.items():
                interval = part.scores[score]
                assert interval.value == pytest.approx(value, rel=0, abs=1e-12)
                assert interval.low <= interval.value <= interval.high
                num_scores += 1
    assert num_scores > 100


def test_f1_is_left_out_where_a_head_has_only_one_class() -> None:
    parts = {(part.group, part.value): part for part in quick(predictions(60)).slices}
    f1 = {head: Score(head, "f1") for head in HEAD_CLASSES}
    women = set(parts["gender", "female"].scores)
    assert f1["gender"] not in women
    assert {Score("gender", "acc"), f1["class"], f1["mask"], f1["age"]} <= women
    assert f1["mask"] not in parts["mask", "worn"].scores and f1["age"] not in parts["age", "<30"].scores


def test_a_slice_that_is_everything_has_the_interval_of_everything() -> None:
    table = predictions(120)
    (race,) = [part for part in Findings(table).slices if part.group == "race"]
    whole = Findings(table).scores
    for score in (*(Score(head, "acc") for head in HEAD_CLASSES), Score("gender", "f1")):
        assert race.scores[score] == whole[score]


def test_a_slice_of_one_person_says_next_to_nothing() -> None:
    table = predictions(40, races=("Asian",))
    table.races[:3] = "Black"
    (one,) = [part for part in Findings(table).slices if part.value == "Black"]
    assert (one.num_people, one.num_photos) == (1, 3)
    for interval in one.scores.values():
        assert interval.high - interval.low == pytest.approx(0.975)


def find(found: list[Gap], group: str, head: str) -> Gap:
    (gap,) = [gap for gap in found if (gap.group, gap.score) == (group, Score(head, "acc"))]
    return gap


def test_a_planted_unfairness_is_a_clear_gap_between_the_right_groups() -> None:
    table = predictions(600, races=("Asian", "Black", "White"), wrong_age={"Black": 0.5, "White": 0.22})
    findings = Findings(table)
    found = findings.gaps
    gap = find(found, "race", "age")
    accuracy = {
        race: np.mean((table.predicted("age") == table.truth("age"))[table.races == race]) for race in set(table.races)
    }
    best = max(accuracy, key=lambda race: accuracy[race])
    assert (gap.higher, gap.lower, gap.difference.is_clear) == (best, "Black", True)
    assert gap.difference.value == pytest.approx(accuracy[best] - accuracy["Black"], rel=0, abs=1e-12)
    assert 0 < gap.difference.low < 0.3 < gap.difference.high
    high, low = (resampled_scores(table, findings.draws, table.races == race)[gap.score] for race in (best, "Black"))
    assert gap.difference == high.minus(low).interval(lowest=-1, num_chosen_from=3)  # three pairs of races
    assert not find(found, "race", "gender").difference.is_clear
    assert not find(found, "gender", "age").difference.is_clear
    assert find(found, "mask", "mask").difference.is_clear  # drawn mistakes never hit a worn mask
    assert [gap.group for gap in found[::4]] == ["mask", "gender", "age", "race"] and len(found) == 16


def test_noise_is_seldom_called_a_gap() -> None:
    """60 sets with no unfairness."""
    found = []
    for seed in range(60):
        table = predictions(150, seed=seed, races=("Asian", "Black", "White"))
        table = dataclasses.replace(table, probabilities={"age": table.probabilities["age"]})
        found.append(find(quick(table, 400, seed).gaps, "race", "age"))
    assert sum(gap.difference.is_clear for gap in found) <= 8  # 5 % of 60 are 3; more than 8 come in 1 of 200 cases
    assert all(gap.difference.value >= 0 for gap in found)


def test_a_sure_small_gap_goes_before_a_large_unsure_one() -> None:
    table = predictions(600, races=("Asian", "White"), wrong_age={"Asian": 0.04, "White": 0.16})
    table.races[: 3 * MIN_PEOPLE] = "Black"
    right = table.labels[:, 2].copy()
    right[: 3 * 4] = (right[: 3 * 4] + 1) % 3  # 4 of 20: more wrong than White, and unsure
    ages = table.probabilities["age"].copy()
    ages[: 3 * MIN_PEOPLE] = np.eye(3)[right[: 3 * MIN_PEOPLE]]
    table = dataclasses.replace(table, probabilities={"age": ages})
    accuracy = {
        part.value: part.scores[Score("age", "acc")].value for part in Findings(table).slices if part.group == "race"
    }
    assert accuracy["Black"] < accuracy["White"] < accuracy["Asian"]
    gap = find(Findings(table).gaps, "race", "age")
    assert (gap.higher, gap.lower, gap.difference.is_clear) == ("Asian", "White", True)


def test_groups_of_few_people_are_not_compared() -> None:
    table = predictions(2 * MIN_PEOPLE - 2, races=("Asian", "White"))
    assert {gap.group for gap in quick(table).gaps} & {"race"} == set()
    enough = predictions(2 * MIN_PEOPLE, races=("Asian", "White"))
    assert {gap.group for gap in quick(enough).gaps} >= {"race", "mask"}
