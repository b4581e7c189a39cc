"""Gender and age are a person's: pooled over the photos, once, and the classes follow."""

from __future__ import annotations

import numpy as np
import pytest

from maskcls.errors import UserError
from maskcls.evaluation.pooling import agreed, pooled, pooled_people
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PERSON, OUTPUT_HEADS, class_of, joint, likeliest
from tests.made import predictions

GENDER = {"gender": np.array([[0.9, 0.1], [0.45, 0.55], [0.2, 0.8]], np.float32)}


def test_gender_is_the_mean_over_the_photos_of_a_group_wherever_they_stand() -> None:
    found = pooled(GENDER, np.array(["b", "a", "b"]))
    np.testing.assert_allclose(found["gender"], [[0.55, 0.45], [0.45, 0.55], [0.55, 0.45]], rtol=1e-6)


def test_photos_of_a_group_of_their_own_keep_their_probabilities() -> None:
    table = predictions(5).probabilities
    alone = pooled(table, np.arange(len(table["class"])))
    for head, values in table.items():
        np.testing.assert_allclose(alone[head], values, atol=1e-6)


def test_a_person_has_one_gender_and_age_and_each_photo_its_mask_in_every_head() -> None:
    table = predictions(30, accuracy=0.6)
    found = pooled_people(table)
    answers = {head: likeliest(values) for head, values in found.probabilities.items()}
    for head in OF_PERSON:
        assert len(np.unique(np.stack([found.people, answers[head]]), axis=1).T) == 30
        assert len(np.unique(np.stack([table.people, table.predicted(head)]), axis=1).T) > 30
    np.testing.assert_array_equal(answers["mask"], table.predicted("mask"))
    np.testing.assert_array_equal(answers["class"], class_of({head: answers[head] for head in ATTRIBUTES}))
    np.testing.assert_allclose(found.probabilities["class"], joint({h: found.probabilities[h] for h in ATTRIBUTES}))


def test_mistakes_about_single_photos_are_outvoted() -> None:
    truth, random = predictions(40), np.random.default_rng(0)
    answers = {
        head: (truth.truth(head) + (random.random(len(truth)) < 0.2)) % len(HEAD_CLASSES[head]) for head in ATTRIBUTES
    }
    table = predictions(40, answers=answers, sure=0.7)
    found = pooled_people(table)
    for head in OF_PERSON:
        right = [np.mean(said.predicted(head) == truth.truth(head)) for said in (table, found)]
        assert right[0] < 0.85 and right[1] > 0.9


@pytest.mark.parametrize("head", OF_PERSON)
def test_a_model_of_one_attribute_of_the_person_is_pooled_as_one_of_all_is(head: str) -> None:
    table = predictions(9, accuracy=0.6)
    alone = pooled({head: table.probabilities[head]}, table.people)
    assert list(alone) == [head]
    np.testing.assert_array_equal(alone[head], pooled_people(table).probabilities[head])


def test_a_model_of_the_mask_alone_has_nothing_to_pool() -> None:
    with pytest.raises(
        UserError, match=r"^--group_by decides gender and age once per person; mask is decided for each photo$"
    ):
        pooled({"mask": predictions(2).probabilities["mask"]}, np.zeros(14))


def test_heads_keep_their_order() -> None:
    assert list(pooled_people(predictions(2)).probabilities) == ["class", *OUTPUT_HEADS["all"]]


def test_answers_that_differ_between_photos_of_a_group_are_those_of_most() -> None:
    said = {"mask": np.array([0, 1, 2, 2]), "gender": np.array([1, 1, 0, 0]), "age": np.array([2, 0, 0, 1])}
    found = agreed({"class": class_of(said), **said}, np.array(["a", "a", "a", "b"]))
    assert {head: labels.tolist() for head, labels in found.items()} == {
        "class": [3, 9, 15, 13], "mask": [0, 1, 2, 2], "gender": [1, 1, 1, 0], "age": [0, 0, 0, 1],
    }  # fmt: skip
    assert agreed({"age": said["age"]}, np.array([7, 7, 7, 1]))["age"].tolist() == [0, 0, 0, 1]


def test_without_groups_everything_stays_as_it_is() -> None:
    said = predictions(3).probabilities
    assert pooled(said, None) == said
    answers = {head: likeliest(values) for head, values in said.items()}
    assert agreed(answers, None) == answers
