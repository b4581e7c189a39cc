"""Contradicting photos are counted per person, and planted label errors come first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from maskcls.evaluation.consistency import Suspect, contradictions, suspects
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import STEMS, age_group
from tests import made


def softmax(logits: np.ndarray) -> np.ndarray:
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def table(
    num_people: int,
    *,
    stems: Sequence[str] = tuple(STEMS),
    genders: Sequence[int] | None = None,
    ages: Sequence[int] | None = None,
    **probabilities: np.ndarray,
) -> Predictions:
    """Returns predictions (num_people, num_photos, K) by head as a table; every person is male and 45 by default."""
    who = zip(range(num_people), genders or [0] * num_people, ages or [45] * num_people, strict=True)
    names = [made.named(number, gender=gender, age=age) for number, gender, age in who]
    said = made.predictions(names, files=[f"{stem}.jpg" for stem in stems], probabilities=probabilities)
    return replace(said, people=said.people.astype("U6"))  # the number alone


def simulated(num_people: int, seed: int) -> tuple[Predictions, set[tuple[str, str, str]]]:
    """Returns predictions of a noisy model and the planted errors: 5 % of genders, two photos swapped in another 5 %.

    Logits are signal + person effect + photo noise, and too sure of themselves; one photo's gender in six is wrong.
    """
    random = np.random.default_rng(seed)
    num_errors = num_people // 20
    genders = random.integers(0, 2, num_people)
    ages = random.integers(18, 80, num_people)

    def noise(size: int) -> np.ndarray:
        return random.normal(0, 1, (num_people, 1, size)) + random.normal(0, 1, (num_people, len(STEMS), size))

    groups = np.array([age_group(age) for age in ages])
    masks = np.broadcast_to([STEMS[stem]["mask"] for stem in STEMS], (num_people, len(STEMS))).copy()
    swapped = range(num_errors, 2 * num_errors)
    pairs = [("normal", "incorrect_mask"), ("mask2", "normal"), ("incorrect_mask", "mask4")]
    planted = set()
    for person in swapped:
        stems = pairs[person % 3]
        one, two = map(list(STEMS).index, stems)
        masks[person, [one, two]] = masks[person, [two, one]]
        planted |= {(f"{person:06d}", stem, "mask") for stem in stems}
    labelled = genders.copy()
    labelled[:num_errors] = 1 - labelled[:num_errors]
    planted |= {(f"{person:06d}", "", "gender") for person in range(num_errors)}
    heads = {
        "mask": softmax(1.5 * (4 * np.eye(3)[masks] + noise(3))),
        "gender": softmax(1.5 * (2 * np.eye(2)[genders][:, None] + noise(2))),
        "age": softmax(1.5 * (2.5 * np.eye(3)[groups][:, None] + noise(3))),
    }
    return table(num_people, genders=labelled.tolist(), ages=ages.tolist(), **heads), planted


def keys(found: Sequence[Suspect]) -> list[tuple[str, str, str]]:
    return [(suspect.profile, suspect.stem, suspect.head) for suspect in found]


@pytest.mark.parametrize("seed", range(5))
def test_planted_errors_are_in_the_first_tenth(seed: int) -> None:
    predictions, planted = simulated(160, seed)
    accuracy = float((predictions.predicted("gender") == predictions.truth("gender")).mean())
    assert 0.7 < accuracy < 0.92  # the model is no oracle
    found = keys(suspects(predictions))
    assert len(planted) == 24
    assert len(planted & set(found[: len(found) // 10])) >= 0.8 * len(planted)


def test_every_person_and_photo_has_one_row_and_the_order_is_that_of_suspicion() -> None:
    predictions, _ = simulated(40, 0)
    found = suspects(predictions)
    assert len(found) == len(set(keys(found))) == 40 * (1 + 1 + 7)
    values = [suspect.suspicion for suspect in found]
    assert values == sorted(values, reverse=True) and values[-1] >= 0 and values[0] <= 1
    assert {suspect.is_likely for suspect in found[:3]} == {True}
    assert not found[-1].is_likely
    assert all(suspect.label != suspect.prediction for suspect in found)


def test_the_order_of_the_photos_changes_nothing() -> None:
    predictions, _ = simulated(40, 0)
    shuffled = predictions.rows(np.random.default_rng(0).permutation(len(predictions)))
    for one, two in zip(suspects(predictions), suspects(shuffled), strict=True):
        assert (one.profile, one.stem, one.prediction, one.reason) == (
            two.profile,
            two.stem,
            two.prediction,
            two.reason,
        )
        assert one.suspicion == pytest.approx(two.suspicion)


def test_a_suspicion_is_as_worked_by_hand() -> None:
    # Males get 0.8 and 0.2 of male, 0.5 on average; females 0.6. Person 1: 0.2 / 0.5 = 0.4 against 0.8 / 0.6 = 4/3.
    gender = np.array([[0.8, 0.2], [0.2, 0.8], [0.4, 0.6]])[:, None]
    found = suspects(table(3, stems=["normal"], genders=[0, 0, 1], gender=gender))
    assert (found[0].profile, found[0].label, found[0].prediction) == ("000001", "male", "female")
    assert found[0].suspicion == pytest.approx((4 / 3) / (0.4 + 4 / 3))
    assert found[0].reason == "1 of 1 photos say female"
    assert [suspect.suspicion for suspect in found[1:]] == [0, 0]  # no photo speaks for the other label


def test_seven_equal_photos_are_one_witness() -> None:
    one = np.array([[0.9, 0.1], [0.3, 0.7]])[:, None]
    single = suspects(table(2, stems=["normal"], gender=one))
    seven = suspects(table(2, gender=np.repeat(one, 7, axis=1)))
    assert [s.suspicion for s in single] == pytest.approx([s.suspicion for s in seven])
    assert (single[0].num_photos, seven[0].num_photos) == (1, 7)


def test_siblings_that_disagree_lower_the_suspicion_in_proportion() -> None:
    against, hardly = [0.1, 0.9], [0.51, 0.49]
    gender = np.array([[against] * 7, [against] * 4 + [hardly] * 3, [[0.9, 0.1]] * 7])
    found = suspects(table(3, gender=gender))
    assert [(s.profile, s.num_photos) for s in found[:2]] == [("000000", 7), ("000001", 4)]
    logs = np.log(gender[:2]).mean(1)
    pooled = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    usual = (pooled[0, 0] + pooled[1, 0] + 0.9) / 3
    mean_share = usual  # nobody is labelled female: males stand in for what is usual
    relative = pooled / [usual, mean_share]
    expected = relative[:, 1] / relative.sum(1) * [1, 4 / 7]
    assert [s.suspicion for s in found[:2]] == pytest.approx(expected.tolist())
    assert found[1].reason == "4 of 7 photos say female"


def test_one_photo_that_is_sure_does_not_outvote_six() -> None:
    gender = np.array([[[1 - 1e-9, 1e-9]] + [[0.15, 0.85]] * 6, [[0.9, 0.1]] * 7])
    assert suspects(table(2, gender=gender))[0].is_likely


def test_what_is_unusual_for_its_label_is_more_suspicious_than_the_same_number_elsewhere() -> None:
    # Women usually get 0.95, men 0.65: 0.45 for one's own label says more about a woman.
    gender = np.array([[0.05, 0.95]] * 6 + [[0.55, 0.45]] + [[0.65, 0.35]] * 6 + [[0.45, 0.55]])
    found = suspects(table(14, stems=["normal"], genders=[1] * 7 + [0] * 7, gender=gender[:, None]))
    assert [suspect.profile for suspect in found[:2]] == ["000006", "000013"]


@pytest.mark.parametrize(
    ("age", "to", "factor", "words"),
    [
        (30, 0, 0.2, "labelled 30, 1 year from it"),
        (31, 0, 0.4, "labelled 31, 2 years from it"),
        (45, 0, 1, "labelled 45, 16 years from it"),
        (29, 1, 0.2, "labelled 29, 1 year from it"),
        (27, 1, 0.6, "labelled 27, 3 years from it"),
        (59, 2, 0.2, "labelled 59, 1 year from it"),
        (60, 1, 0.2, "labelled 60, 1 year from it"),
        (60, 0, 1, "labelled 60, 31 years from it"),
        (20, 2, 1, "labelled 20, 40 years from it"),
    ],
)
def test_an_age_near_the_other_group_is_hard_rather_than_wrong(age: int, to: int, factor: float, words: str) -> None:
    confidence = np.full((1, 1, 3), 0.05)
    confidence[..., to] = 0.9
    (suspect,) = suspects(table(1, stems=["normal"], ages=[age], age=confidence))
    assert suspect.prediction == ("<30", "30-59", ">=60")[to]
    assert suspect.suspicion == pytest.approx(0.9 * factor)
    assert suspect.is_likely == (factor > 0.5)  # only then is another age proposed
    assert suspect.reason.endswith(words)


def mask_people(*people: dict[str, list[float]]) -> Predictions:
    """Returns people whose photos look as labelled, except those that are given."""
    usual = {0: [0.96, 0.03, 0.01], 1: [0.04, 0.9, 0.06], 2: [0.01, 0.04, 0.95]}
    rows = [[person.get(stem, usual[STEMS[stem]["mask"]]) for stem in STEMS] for person in ({}, {}, *people)]
    return table(len(rows), mask=np.array(rows))


@pytest.mark.parametrize("pair", [("incorrect_mask", "normal"), ("mask3", "normal"), ("incorrect_mask", "mask1")])
def test_a_swap_gives_both_rows_next_to_each_other(pair: tuple[str, str]) -> None:
    looks = dict(zip(pair, ([0.02, 0.02, 0.02], [0.02, 0.02, 0.02]), strict=True))
    looks[pair[0]][STEMS[pair[1]]["mask"]] = looks[pair[1]][STEMS[pair[0]]["mask"]] = 0.96
    one, two, third = suspects(mask_people(looks))[:3]
    assert {one.stem, two.stem} == set(pair) and {one.profile, two.profile} == {"000002"}
    assert (one.label, one.prediction) == (two.prediction, two.label)
    assert (one.num_photos, two.num_photos) == (2, 2)
    assert (one.suspicion, two.suspicion) == pytest.approx((48 / 49, 48 / 49))  # each photo's odds are 0.96 / 0.02
    assert one.reason == (
        f"swapped with {two.stem}: exchanged, the two labels explain the predictions 2,304 times better"  # 48 * 48
    )
    assert f"swapped with {one.stem}" in two.reason
    assert not third.is_likely


def test_a_swap_is_seen_although_the_model_is_unsure_of_one_of_the_two() -> None:
    looks = {"incorrect_mask": [0.01, 0.01, 0.98], "normal": [0.4, 0.25, 0.35]}  # the second alone looks worn
    found = suspects(mask_people(looks))
    assert {(s.profile, s.stem) for s in found[:2]} == {("000002", "incorrect_mask"), ("000002", "normal")}
    assert {(s.stem, s.prediction) for s in found[:2]} == {("incorrect_mask", "not_worn"), ("normal", "incorrect")}
    assert all(s.is_likely and "swapped" in s.reason for s in found[:2])


def test_an_incorrect_mask_that_looks_worn_beside_worn_masks_is_no_swap() -> None:
    found = suspects(mask_people({"incorrect_mask": [0.9, 0.08, 0.02]}))
    assert (found[0].stem, found[0].prediction, found[0].num_photos) == ("incorrect_mask", "worn", 1)
    assert found[0].reason == "probability of worn 0.90"
    assert not any("swapped" in suspect.reason for suspect in found)


def test_a_photo_is_in_one_swap_only_the_clearest() -> None:
    looks = {"normal": [0.96, 0.02, 0.02], "mask1": [0.02, 0.02, 0.96], "mask4": [0.3, 0.1, 0.6]}
    swapped = [suspect for suspect in suspects(mask_people(looks)) if "swapped" in suspect.reason]
    assert {suspect.stem for suspect in swapped} == {"normal", "mask1"}


def test_photos_of_two_people_are_never_a_swap() -> None:
    found = suspects(mask_people({"normal": [0.02, 0.96, 0.02]}, {"incorrect_mask": [0.02, 0.02, 0.96]}))
    assert {(s.profile, s.stem) for s in found[:2]} == {("000002", "normal"), ("000003", "incorrect_mask")}
    assert not any("swapped" in suspect.reason for suspect in found)


def test_contradictions_equal_plain_loops_and_scipys_interval() -> None:
    predictions, _ = simulated(60, 1)
    shares = contradictions(predictions)
    answers: dict[str, dict[str, set[int]]] = {head: defaultdict(set) for head in ("gender", "age")}
    for head, sets in answers.items():
        for profile, answer in zip(predictions.people, predictions.predicted(head), strict=True):
            sets[profile].add(int(answer))
    people = sorted(set(predictions.people))
    counts = {head: sum(len(sets[name]) > 1 for name in people) for head, sets in answers.items()}
    counts["any"] = sum(any(len(sets[name]) > 1 for sets in answers.values()) for name in people)
    assert list(shares) == ["gender", "age", "any"]
    assert 0 < counts["gender"] < counts["any"] < 60
    for head, count in counts.items():
        reference = binomtest(count, 60).proportion_ci(method="wilson")
        assert shares[head].value == count / 60
        assert (shares[head].low, shares[head].high) == pytest.approx((reference.low, reference.high), abs=1e-5)


def test_no_contradiction_among_few_people_is_not_certainty() -> None:
    shares = contradictions(table(5, gender=np.tile([0.9, 0.1], (5, 7, 1))))
    assert list(shares) == ["gender", "any"]
    assert shares["gender"].value == shares["gender"].low == 0
    assert shares["gender"].high == pytest.approx(0.4345, abs=1e-4)


def test_a_model_of_the_mask_alone_has_mask_suspects_and_no_contradictions() -> None:
    predictions = mask_people({})
    assert contradictions(predictions) == {}
    assert {suspect.head for suspect in suspects(predictions)} == {"mask"}
