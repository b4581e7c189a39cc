"""A recipe is a set of strengths, each of which can be another one."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from maskcls.data.augmentation import AUGMENTATIONS, Augmentation
from maskcls.errors import UserError


def test_recipes_are_named_and_get_stronger() -> None:
    assert list(AUGMENTATIONS) == ["none", "light", "standard", "strong"]
    weak, strong = asdict(AUGMENTATIONS["standard"]), asdict(AUGMENTATIONS["strong"])
    less_is_more, no_strength = {"min_area"}, {"half_range", "mixing_epochs"}
    assert all(weak[name] <= strong[name] for name in weak.keys() - less_is_more - no_strength)
    assert all(weak[name] >= strong[name] for name in less_is_more)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_argument_sets_the_strength_of_its_name(name: str) -> None:
    recipe = AUGMENTATIONS[name]
    for strength in fields(Augmentation):
        value = {"half_range": [0.25, 0.75], "mixing_epochs": 3}.get(strength.name, 0.0625)
        assert asdict(recipe(**{strength.name: value})) == asdict(recipe) | {strength.name: value}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"flip": 1.5}, "flip is 1.5; it goes from 0 to 1"),
        ({"brightness": "much"}, "brightness is 'much'"),
        ({"half_range": [0.7, 0.3]}, r"half_range is \[0.7, 0.3\]; it is \[least, most\]"),
        ({"mixup": 0.7, "cutmix": 0.5}, "add up to more than 1"),
    ],
)
def test_strengths_out_of_bounds_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AUGMENTATIONS["light"](**arguments)
