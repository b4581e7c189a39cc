"""Sets that hold the truth as often as asked, whoever the people are; the photos that they leave more than one answer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from maskcls.errors import UserError
from maskcls.evaluation.intervals import Draws
from maskcls.evaluation.pooling import pooled_people
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.unsure import RISKS, SHOWN_RISKS, Conformal, coverage
from tests.made import people, predictions

NUM_SPLITS = 500


def correlated(num_people: int = 600) -> Predictions:
    """Returns what a middling model says about the age of people of whom there are one to seven photos.

    Its mistakes are a person's more than a photo's, and the fewer photos there are the harder the person is: counted by
    photos, or as if they were independent, sets would be too small.
    """
    random, who = np.random.default_rng(5), people(num_people)
    truth = predictions(who).truth("age").reshape(num_people, -1)  # (P, F)
    difficulty = random.random(num_people)
    signal = 2.5 * np.eye(3)[truth] * (1.2 - difficulty)[:, None, None]
    logits = signal + random.normal(0, 1, (num_people, 1, 3)) + random.normal(0, 0.5, (*truth.shape, 3))
    said = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    table = predictions(who, probabilities={"age": said})
    photo = np.tile(np.arange(truth.shape[1]), num_people)
    return table.rows(photo < np.repeat(1 + np.floor(7 * (1 - difficulty)), truth.shape[1]))


def test_sets_hold_the_truth_of_new_people_as_often_as_asked() -> None:
    """Over 500 splits, photos alone and pooled, the coverage of a person's photos is what is asked to 1.5 points."""
    table, random = correlated(), np.random.default_rng(1)
    together = pooled_people(table)
    _, person, num_photos = np.unique(table.people, return_inverse=True, return_counts=True)
    truth, rows = table.truth("age"), np.arange(len(table))
    covered = {(risk, is_pooled): [] for risk in SHOWN_RISKS for is_pooled in (False, True)}
    for _ in range(NUM_SPLITS):
        is_known = (random.permutation(len(num_photos)) < 200)[person]
        conformal = Conformal.fit(table.rows(is_known))
        weights = (1 / num_photos[person])[~is_known]
        for (risk, is_pooled), shares in covered.items():
            said = (together if is_pooled else table).probabilities
            holds = conformal.sets(said, risk, is_pooled=is_pooled)["age"][rows, truth]
            shares.append(np.average(holds[~is_known], weights=weights))
    found = {key: float(np.mean(shares)) for key, shares in covered.items()}
    for (risk, _), share in found.items():
        assert share == pytest.approx(1 - risk, abs=0.015)


def test_what_is_measured_on_held_out_people_is_what_is_asked() -> None:
    table = correlated()
    (head, found), *others = coverage(table, Draws.of(table.people)).items()
    assert (head, [row.risk for row in found], others) == ("age", [*SHOWN_RISKS], [])
    for row in found:
        assert row.covered.low <= 1 - row.risk <= row.covered.high
        assert row.accuracy is None or row.accuracy.value > 0.7
    assert found[0].answered.value > found[1].answered.value > found[2].answered.value


def test_of_a_model_that_is_better_than_asked_every_photo_is_answered() -> None:
    table = predictions(100, accuracy=0.99)
    conformal = Conformal.fit(table)
    sets = conformal.sets(table.probabilities, 0.1)
    assert all((possible.sum(1) == 1).all() for possible in sets.values())
    assert not conformal.unsure(table.probabilities, table.predicted("class"), 0.1).any()
    row = coverage(table, Draws.of(table.people))["class"][0]
    assert (row.risk, row.answered.value) == (0.1, 1.0)
    assert row.accuracy is not None and row.covered.value == row.accuracy.value


def test_a_threshold_by_hand() -> None:
    """Four people and somebody unknown weigh a fifth each: with the three best, 3 / 5 are covered; one has two photos."""
    of_truth = {"a": [0.9], "b": [0.8], "c": [0.7, 0.2], "d": [0.1]}
    values = np.concatenate([*of_truth.values()])
    table = predictions(len(values), files=["normal.jpg"])
    truth = table.truth("gender")
    said = np.where(np.eye(2, dtype=bool)[truth], values[:, None], 1 - values[:, None])
    table = replace(table, people=np.array(["a", "b", "c", "c", "d"]), probabilities={"gender": said})
    conformal = Conformal.fit(table)
    least = dict(zip(RISKS, conformal.least["gender"], strict=True))
    assert least[0.5] == 0.7  # 2.5 of 5
    assert least[0.4] == 0.2  # 3 of 5
    assert least[0.2] == 0.1  # all, 4 of 5
    assert least[0.15] == 0  # nothing can be promised
    assert conformal.finest == 0.2


def test_a_photo_is_unsure_when_another_class_than_its_answer_is_possible() -> None:
    conformal = Conformal(99, [0.05], {"gender": [0.3]}, {"gender": [0.45]})
    said = {"gender": np.array([[0.8, 0.2], [0.65, 0.35], [0.1, 0.9]])}
    assert conformal.sets(said, 0.05)["gender"].tolist() == [[True, False], [True, True], [False, True]]
    assert conformal.unsure(said, np.array([0, 0, 1]), 0.05).tolist() == [False, True, False]
    assert conformal.unsure(said, np.array([0, 0, 0]), 0.05).tolist() == [False, True, True]  # offsets decided so
    assert conformal.unsure(said, np.array([0, 0, 1]), 0.05, is_pooled=True).tolist() == [False, False, False]


def test_pooled_photos_have_thresholds_of_their_own() -> None:
    table = predictions(50, accuracy=0.7)
    conformal, together = Conformal.fit(table), pooled_people(table)
    assert conformal.least_pooled == Conformal.fit(together).least
    assert conformal.least_pooled != conformal.least
    assert Conformal.fit(replace(table, probabilities={"mask": table.probabilities["mask"]})).least_pooled == {}


def test_a_risk_between_two_is_answered_as_the_stricter() -> None:
    conformal = Conformal.fit(predictions(100))
    assert [conformal.promised(risk) for risk in (0.05, 0.06, 0.0749, 0.075, 0.9)] == [0.05, 0.05, 0.05, 0.075, 0.5]


@pytest.mark.parametrize("risk", [0, 1, -0.1, 5, float("nan"), float("inf")])
def test_a_risk_that_is_no_share_is_refused(risk: float) -> None:
    with pytest.raises(
        UserError, match=f"^--unsure is {risk:g}; it is a share of photos between 0 and 1, such as 0.05$"
    ):
        Conformal.fit(predictions(30)).promised(risk)


def test_a_risk_that_so_few_people_cannot_promise_is_refused() -> None:
    table = predictions(30)
    says = (
        "--unsure is 0.01; after validating 30 people no less than 0.04 can be promised: ask for that, or validate more"
    )
    with pytest.raises(UserError, match=f"^{says} people, as folds do$"):
        Conformal.fit(table).sets(table.probabilities, 0.01)
    assert [row.risk for row in coverage(table, Draws.of(table.people))["class"]] == [0.1, 0.05]
    few = predictions(4)
    assert coverage(few, Draws.of(few.people)) == {}


def test_it_is_kept_in_json_and_yaml() -> None:
    conformal = Conformal.fit(predictions(40))
    for kept in (json.loads(json.dumps(conformal.to_dict())), yaml.safe_load(yaml.safe_dump(conformal.to_dict()))):
        assert Conformal.from_dict(kept) == conformal
