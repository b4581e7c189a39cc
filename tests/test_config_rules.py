"""Each rule of a config has its words, and the key under which what breaks it stands."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from maskcls import config_rules
from maskcls.config import Config
from maskcls.config_rules import contradictions
from maskcls.labels import OUTPUT_HEADS


def problems(output: object = "class", **values: Any) -> list[tuple[str, str]]:
    """Returns what is wrong with values that are each well-formed."""
    arguments = {"output": output, **values.pop("dataset_args", {})}
    return list(contradictions(Config(data_dir="x", dataset_args=arguments, **values)))


NAME = "it becomes a folder's name in model_dir: at most 200 bytes, visible, in one line"
PROJECT = "wandb takes 1 to 128 characters, none of / \\ # ? % :"
BOX = "0 <= left < right <= 1 and 0 <= top < bottom <= 1"
THREE = "it is three numbers from 0 to 1, or null"
SMALL = "it divides, so it cannot be 0 or less than 0.001"
BROKEN: list[tuple[str, object, str]] = [
    ("fold", 5, "fold is 5, but num_folds is 5: folds count from 0"),
    ("stop_after_epoch", 11, "stop_after_epoch is 11, but epochs is 10"),
    ("num_classes", 8, "num_classes is 8, but output 'class' has 18 classes"),
    ("model_args", {"num_labels": 8}, "num_labels is 8, but output 'class' needs 18"),
    ("head_weights", {"age": 2.0}, "head_weights belong to output 'all'; output is 'class'"),
    ("crop_box", [0.6, 0.0, 0.4, 1.0], f"crop_box is [0.6, 0.0, 0.4, 1.0]: {BOX}"),
    ("crop_box", [0.0, 0.0, 1.0, 1.5], f"crop_box is [0.0, 0.0, 1.0, 1.5]: {BOX}"),
    *(("name", name, f"name is {name!r}; {NAME}") for name in ("a/b", ".hidden", " ", "a\nb", "실" * 67, "..")),
    *(("wandb_project", name, f"wandb_project is {name!r}; {PROJECT}") for name in ("", "me/faces", "x" * 129)),
    *(("dataset_args", {"mean": mean}, f"mean is {mean!r}; {THREE}")
      for mean in (0.5, [0.5, 0.5], [123, 116, 103], [True, 0.2, 0.2])),
    *(("dataset_args", {"std": std}, f"std is {std!r}; {THREE}") for std in (["a", "b", "c"], [0.2, -0.1, 0.2])),
    *(("dataset_args", {"std": std}, f"std is {std!r}; {SMALL}") for std in ([0.2, 0, 0.2], [0.2, 1e-30, 0.2])),
]  # fmt: skip
NOBODY = "valid_profile is none, so nobody validates"
PATIENCE = "set early_stopping_patience: null, and stop_after_epoch to the epoch that the folds chose"
OF_NOBODY = {  # what is wrong where nobody validates
    "early_stopping_patience": (3, f"early_stopping_patience waits for a better score, but {NOBODY}: {PATIENCE}"),
    "scheduler": (
        "ReduceLROnPlateau",
        f"scheduler ReduceLROnPlateau follows the validation loss, but {NOBODY}: take another",
    ),
}


@pytest.mark.parametrize(("key", "value", "text"), BROKEN)
def test_each_broken_rule_has_its_words(key: str, value: object, text: str) -> None:
    assert problems(**{key: value}) == [(key, text)]


def test_every_rule_is_broken_by_something() -> None:
    stated = set(re.findall(r'yield "(\w+)"', inspect.getsource(config_rules)))
    assert {key for key, _, _ in BROKEN} | OF_NOBODY.keys() == stated
    assert len(stated) == 11


@pytest.mark.parametrize(("key", "value", "text"), [(key, *broken) for key, broken in OF_NOBODY.items()])
def test_what_waits_for_a_validation_is_refused_where_nobody_validates(key: str, value: object, text: str) -> None:
    assert problems(valid_profile="none", **{key: value}) == [(key, text)]
    assert problems(**{key: value}) == []


def test_what_no_rule_is_against_is_taken() -> None:
    assert problems("all", name="실" * 66, crop_box=[0.0, 0.1, 1.0, 0.9], wandb_project="x" * 128, fold=4) == []
    assert problems(valid_profile="none", stop_after_epoch=10) == []
    assert problems("all", dataset_args={"mean": None, "std": [0.2, 1, 0.2]}) == []


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"mask": -1.0}, "head_weights.mask is -1.0; it is a finite number, 0 or more"),
        ({"mask": 1.0, "age": float("nan")}, "head_weights.age is nan; it is a finite number, 0 or more"),
        ({"gender": float("inf")}, "head_weights.gender is inf; it is a finite number, 0 or more"),
        ({"mask": 0.0, "gender": 0.0, "age": 0.0}, "head_weights are all 0, so nothing would be learnt"),
        ({"mask": 0.0, "gender": 0.0}, None),
        ({"mask": 0.5, "gender": 2.0}, None),
    ],
)
def test_head_weights_are_numbers_of_which_one_counts(weights: dict[str, float], text: str | None) -> None:
    assert problems("all", head_weights=weights) == ([("head_weights", text)] if text else [])


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_the_number_of_outputs_and_of_classes_has_to_fit_the_output(output: str) -> None:
    outputs = {"all": [8], "class": [18], "mask": [3], "gender": [1, 2], "age": [3]}[output]
    classes = {"all": 18, "class": 18, "mask": 3, "gender": 2, "age": 3}[output]
    needs = " or ".join(map(str, outputs))
    for number in (1, 2, 3, 8, 18):
        expected = [] if number in outputs else [f"num_labels is {number}, but output '{output}' needs {needs}"]
        assert [text for _, text in problems(output, model_args={"num_labels": number})] == expected
        expected = (
            [] if number == classes else [f"num_classes is {number}, but output '{output}' has {classes} classes"]
        )
        assert [text for _, text in problems(output, num_classes=number)] == expected


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("masks", "output is 'masks'. Did you mean 'mask'?"),
        (18, "output is 18."),
        (["mask", "age"], "output is ['mask', 'age']."),
        (None, "output is None."),
    ],
)
def test_a_wrong_output_is_reported_alone(output: object, words: str) -> None:
    known = " It is one of: all, class, mask, gender, age"
    assert problems(output, num_classes=2, fold=9) == [("dataset_args", words + known)]
