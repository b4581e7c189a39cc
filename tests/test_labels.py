"""What the labels mean, checked against loops and numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskcls import labels
from maskcls.labels import (
    ATTRIBUTES,
    OUTPUT_HEADS,
    class_of,
    head_predictions,
    head_probabilities,
    joint,
    labels_of,
    likeliest,
    split_heads,
)

NUM_OUTPUTS = {"all": 8, "class": 18, "mask": 3, "gender": 2, "age": 3}
HEADS = {
    "all": {"class", "mask", "gender", "age"},
    "class": {"class", "mask", "gender", "age"},
    "mask": {"mask"},
    "gender": {"gender"},
    "age": {"age"},
}


def random_logits(num_rows: int, num_columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed)) * 3


def coded(*of_attributes: int) -> int:
    return class_of(dict(zip(ATTRIBUTES, of_attributes, strict=True)))


# Codes


def test_the_eighteen_classes_count_up_through_age_then_gender_then_mask() -> None:
    triples = list(product(range(3), range(2), range(3)))
    assert [coded(*triple) for triple in triples] == list(range(18))
    assert [tuple(labels_of(code).values()) for code in range(18)] == triples


def test_codes_by_hand() -> None:
    assert coded(0, 0, 0) == 0  # worn, male, below 30
    assert coded(1, 1, 0) == 9  # incorrect, female, below 30
    assert coded(2, 0, 2) == 14  # not worn, male, from 60
    assert coded(2, 1, 2) == 17
    assert labels.HEAD_CLASSES["class"][9] == "incorrect, female, <30"
    assert labels.HEAD_CLASSES["class"][14] == "not_worn, male, >=60"


@pytest.mark.parametrize("make", [np.arange, torch.arange])
def test_arrays_and_tensors_are_coded_elementwise(make: type) -> None:
    codes = make(18)
    assert class_of(labels_of(codes)).tolist() == list(range(18))
    for name, column in labels_of(codes).items():
        assert column.tolist() == [labels_of(code)[name] for code in range(18)]


def test_another_attribute_is_another_row() -> None:
    row = 'Attribute("glasses", ("without", "with"), column="glasses", stems={"": 0, "_glasses": 1}),'
    before, after = "    )\n}\nOF_PERSON", f"        {row}\n    )\n}}\nOF_PERSON"
    source = Path(labels.__file__).read_text(encoding="utf-8")
    assert before in source
    task: dict[str, Any] = {"__name__": labels.__name__}
    exec(source.replace(before, after), task)
    assert (len(task["STEMS"]), task["STEMS"]["normal_glasses"]) == (14, {"mask": 2, "glasses": 1})
    assert (task["OF_PHOTO"], task["OF_PERSON"]) == (("mask", "glasses"), ("gender", "age"))
    assert task["HEAD_CLASSES"]["class"][35] == "not_worn, female, >=60, with"
    assert task["class_of"](task["labels_of"](torch.arange(36))).tolist() == list(range(36))
    assert task["OUTPUT_HEADS"]["all"] == ("mask", "gender", "age", "glasses")
    logits = random_logits(9, 10)
    probabilities, answers = task["head_probabilities"](logits, "all"), task["head_predictions"](logits, "all")
    assert torch.equal(answers["class"], probabilities["class"].argmax(1))
    for name, values in task["marginals"](probabilities["class"]).items():
        torch.testing.assert_close(values, probabilities[name])


@pytest.mark.parametrize(
    ("age", "group"), [(0, 0), (18, 0), (29, 0), (30, 1), (31, 1), (59, 1), (60, 2), (61, 2), (120, 2)]
)
def test_age_groups_begin_at_30_and_60(age: int, group: int) -> None:
    assert labels.age_group(age) == group


def test_seven_stems_have_a_mask_state() -> None:
    assert {stem: said["mask"] for stem, said in labels.STEMS.items()} == {
        "mask1": 0, "mask2": 0, "mask3": 0, "mask4": 0, "mask5": 0, "incorrect_mask": 1, "normal": 2
    }  # fmt: skip
    assert labels.HEAD_CLASSES["mask"] == ("worn", "incorrect", "not_worn")
    assert labels.HEAD_CLASSES["gender"] == ("male", "female")


# Output modes


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_each_output_has_its_numbers(output: str) -> None:
    assert labels.num_outputs(output) == NUM_OUTPUTS[output]
    assert labels.num_classes(output) == (18 if output in ("all", "class") else NUM_OUTPUTS[output])
    assert labels.headline(output) == ("class" if output in ("all", "class") else output)


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_logits_are_split_into_their_heads_in_order(output: str) -> None:
    logits = random_logits(4, NUM_OUTPUTS[output])
    heads = split_heads(logits, output)
    assert tuple(heads) == OUTPUT_HEADS[output]
    assert torch.equal(torch.cat(list(heads.values()), 1), logits)
    sizes = {"class": 18, "mask": 3, "gender": 2, "age": 3}
    assert all(values.shape == (4, sizes[head]) for head, values in heads.items())


def test_logits_of_another_width_are_refused() -> None:
    with pytest.raises(RuntimeError):
        split_heads(random_logits(4, 7), "all")


def test_one_logit_is_a_pair_whose_softmax_is_sigmoid() -> None:
    z = torch.linspace(-9, 9, 37)[:, None]
    pair = split_heads(z, "gender")["gender"]
    assert pair.shape == (37, 2)
    torch.testing.assert_close(pair.softmax(1)[:, 1], z[:, 0].sigmoid(), rtol=0, atol=1e-6)
    torch.testing.assert_close(head_probabilities(z, "gender")["gender"][:, 1], z[:, 0].sigmoid(), rtol=0, atol=1e-6)
    assert torch.equal(head_predictions(z, "gender")["gender"], (z[:, 0].sigmoid() >= 0.5).long())


def test_a_probability_of_one_half_is_female() -> None:
    assert head_predictions(torch.tensor([[0.0], [-1e-6], [1e-6]]), "gender")["gender"].tolist() == [1, 0, 1]
    assert head_predictions(torch.tensor([[2.0, 2.0]]), "gender")["gender"].tolist() == [1]
    tie = torch.tensor([[0.0, 1, 0, 5, 5, 1, 0, 0]])
    assert head_predictions(tie, "all")["gender"].tolist() == [1]
    assert head_predictions(tie, "all")["class"].tolist() == [1 * 6 + 1 * 3 + 0]


def test_arrays_and_tensors_have_one_tie_rule_and_one_product() -> None:
    tie = np.array([[0.5, 0.5], [0.6, 0.4]], np.float32)
    assert likeliest(tie).tolist() == likeliest(torch.from_numpy(tie)).tolist() == [1, 0]
    assert likeliest(tie).dtype == np.int64
    parts = head_probabilities(random_logits(50, 8), "all")
    own = joint({name: parts[name].numpy() for name in reversed(ATTRIBUTES)})
    assert np.array_equal(own, parts["class"].numpy())
    for name, values in labels.marginals(own).items():
        torch.testing.assert_close(torch.from_numpy(values), labels.marginals(parts["class"])[name])


# Predictions and probabilities, for every output


@pytest.mark.parametrize("num_rows", [1, 50])
@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_predictions_are_the_likeliest_labels(output: str, num_rows: int) -> None:
    logits = random_logits(num_rows, NUM_OUTPUTS[output])
    predicted = head_predictions(logits, output)
    assert set(predicted) == HEADS[output]
    for row in range(num_rows):
        values = logits[row].tolist()
        if output == "all":
            parts = (argmax(values[:3]), argmax(values[3:5]), argmax(values[5:]))
            expected = {"class": coded(*parts), "mask": parts[0], "gender": parts[1], "age": parts[2]}
        elif output == "class":
            mask, gender, age = labels_of(argmax(values)).values()
            expected = {"class": argmax(values), "mask": mask, "gender": gender, "age": age}
        else:
            expected = {output: argmax(values)}
        assert {head: int(label[row]) for head, label in predicted.items()} == expected
    assert all(label.dtype == torch.int64 and label.shape == (num_rows,) for label in predicted.values())


@pytest.mark.parametrize("num_rows", [1, 20])
@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_probabilities_are_marginals_and_products_of_one_another(output: str, num_rows: int) -> None:
    logits = random_logits(num_rows, NUM_OUTPUTS[output], seed=1)
    probabilities = head_probabilities(logits, output)
    assert set(probabilities) == HEADS[output]
    for head, values in probabilities.items():
        assert values.shape == (num_rows, len(labels.HEAD_CLASSES[head]))
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.sum(1), torch.ones(num_rows), rtol=0, atol=1e-5)
    for row in range(num_rows):
        by_hand = probabilities_by_hand(logits[row].tolist(), output)
        for head, values in by_hand.items():
            assert probabilities[head][row].tolist() == pytest.approx(values, abs=1e-5)


def test_probabilities_of_half_precision_logits_are_float32() -> None:
    logits = random_logits(3, 8).bfloat16()
    for head, values in head_probabilities(logits, "all").items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, head_probabilities(logits.float(), "all")[head])


def test_targets_are_the_columns_and_their_code() -> None:
    rows = torch.tensor([[0, 1, 2], [2, 0, 1]])
    assert {head: target.tolist() for head, target in labels.targets_of(rows, "all").items()} == {
        "class": [5, 13], "mask": [0, 2], "gender": [1, 0], "age": [2, 1]
    }  # fmt: skip
    assert set(labels.targets_of(rows, "class")) == HEADS["class"]
    assert {head: target.tolist() for head, target in labels.targets_of(rows, "age").items()} == {"age": [2, 1]}


def test_class_counts_count_every_class_of_every_head() -> None:
    rows = torch.tensor([[0, 1, 2], [0, 1, 2], [2, 0, 1]])
    counts = labels.class_counts(rows.numpy())
    assert {head: len(values) for head, values in counts.items()} == {"class": 18, "mask": 3, "gender": 2, "age": 3}
    assert (counts["mask"], counts["gender"], counts["age"]) == ([2, 0, 1], [1, 2], [0, 1, 2])
    assert {code: count for code, count in enumerate(counts["class"]) if count} == {5: 2, 13: 1}


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_every_logit_has_a_name(output: str) -> None:
    names = labels.id2label(output, labels.num_outputs(output))
    assert list(names) == list(range(NUM_OUTPUTS[output]))
    assert len(set(names.values())) == NUM_OUTPUTS[output]


def test_names_of_logits_say_what_they_stand_for() -> None:
    assert labels.id2label("gender", 1) == {0: "female"}
    assert labels.id2label("gender", 2) == {0: "male", 1: "female"}
    assert labels.id2label("all", 8)[4] == "gender: female"
    assert labels.id2label("all", 8)[5] == "age: <30"
    assert labels.id2label("class", 18)[17] == "not_worn, female, >=60"


# The slow and plain way


def argmax(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def probabilities_by_hand(values: list[float], output: str) -> dict[str, list[float]]:
    if output == "all":
        mask, gender, age = softmax(values[:3]), softmax(values[3:5]), softmax(values[5:])
        joint = [0.0] * 18
        for m, g, a in product(range(3), range(2), range(3)):
            joint[coded(m, g, a)] = mask[m] * gender[g] * age[a]
        return {"class": joint, "mask": mask, "gender": gender, "age": age}
    if output == "class":
        joint = softmax(values)
        mask, gender, age = [0.0] * 3, [0.0] * 2, [0.0] * 3
        for code, p in enumerate(joint):
            m, g, a = labels_of(code).values()
            mask[m] += p
            gender[g] += p
            age[a] += p
        return {"class": joint, "mask": mask, "gender": gender, "age": age}
    return {output: softmax(values)}
