"""The task as a table: what is learnt about a photo, and all that follows from it.

Classes and their codes, heads, joint and marginal probabilities, one tie rule. Nothing here reads files or knows a
model; tensors are only ever passed in, so importing this costs no torch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

Label = TypeVar("Label", int, "np.ndarray", "torch.Tensor")
Array = TypeVar("Array", "np.ndarray", "torch.Tensor")


@dataclass(frozen=True)
class Attribute:
    """One thing that is learnt about a photo."""

    name: str  # of the head, and of the part of a folder's name that tells it
    classes: tuple[str, ...]
    column: str  # of the dataset's table and of a run's predictions
    stems: Mapping[str, int] = field(default_factory=dict)  # part of a photo's stem -> label; empty: the folder tells
    first_years: tuple[int, ...] = ()  # of each class, where the folder tells an age in years

    @property
    def of_person(self) -> bool:
        """Whether all photos of a person have the same label, which the folder's name tells."""
        return not self.stems


MASK_STEMS = {**{f"mask{number}": 0 for number in range(1, 6)}, "incorrect_mask": 1, "normal": 2}
# A class counts up through the last attribute first, a stem is its attributes' parts one after the other.
ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("mask", ("worn", "incorrect", "not_worn"), column="mask", stems=MASK_STEMS),
        Attribute("gender", ("male", "female"), column="gender"),
        Attribute("age", ("<30", "30-59", ">=60"), column="age_group", first_years=(0, 30, 60)),
    )
}
OF_PERSON = tuple(name for name, attribute in ATTRIBUTES.items() if attribute.of_person)
OF_PHOTO = tuple(name for name, attribute in ATTRIBUTES.items() if not attribute.of_person)
STEMS: dict[str, dict[str, int]] = {
    "".join(part for part, _ in parts): {name: label for name, (_, label) in zip(OF_PHOTO, parts, strict=True)}
    for parts in product(*(ATTRIBUTES[name].stems.items() for name in OF_PHOTO))
}

HEAD_CLASSES: dict[str, tuple[str, ...]] = {
    "class": tuple(map(", ".join, product(*(attribute.classes for attribute in ATTRIBUTES.values())))),
    **{name: attribute.classes for name, attribute in ATTRIBUTES.items()},
}
# The heads that a model has in each output mode; their logits stand side by side in this order.
OUTPUT_HEADS: dict[str, tuple[str, ...]] = {"all": tuple(ATTRIBUTES), **{head: (head,) for head in HEAD_CLASSES}}


def age_group(years: int) -> int:
    """Returns the class of an age: 0 below 30 years, 1 from 30 to 59, 2 from 60 on."""
    return bisect_right(ATTRIBUTES["age"].first_years, years) - 1


def class_of(labels: Mapping[str, Label]) -> Label:
    """Returns the class that the labels of all attributes make: (mask * 2 + gender) * 3 + age. Arrays elementwise."""
    first, *others = ATTRIBUTES
    return reduce(lambda code, name: code * len(HEAD_CLASSES[name]) + labels[name], others, labels[first])


def labels_of(code: Label) -> dict[str, Label]:
    """Returns the label of each attribute that a class stands for. Works elementwise on arrays and tensors too."""
    labels: list[Label] = []
    for name in reversed(list(ATTRIBUTES)[1:]):
        labels.append(code % len(HEAD_CLASSES[name]))
        code = code // len(HEAD_CLASSES[name])
    return dict(zip(ATTRIBUTES, (code, *reversed(labels)), strict=True))


def classes_of_people() -> dict[tuple[int, ...], list[int]]:
    """Returns the labels of a person (of the attributes OF_PERSON) -> the classes that photos of them can have."""
    found: dict[tuple[int, ...], list[int]] = {}
    for code in range(len(HEAD_CLASSES["class"])):
        labels = labels_of(code)
        found.setdefault(tuple(labels[name] for name in OF_PERSON), []).append(code)
    return found


def joint(attributes: Mapping[str, Array]) -> Array:
    """Returns the probabilities of the classes (N, K): the product of the attributes', each (N, its classes).

    They are independent given the picture by construction of a model with one head for each.
    """

    def times(product: Array, other: Array) -> Array:
        return (product[:, :, None] * other[:, None, :]).reshape(len(product), -1)

    return reduce(times, (attributes[name] for name in ATTRIBUTES))


def marginals(joint: Array) -> dict[str, Array]:
    """Returns each attribute's probabilities (N, its classes) from those of the classes (N, K)."""
    cells = joint.reshape(len(joint), *(len(HEAD_CLASSES[name]) for name in ATTRIBUTES))  # (N, mask, gender, age)
    axes = dict(zip(ATTRIBUTES, range(1, cells.ndim), strict=True))
    return {name: cells.sum(tuple(axes[other] for other in axes if other != name)) for name in ATTRIBUTES}


def likeliest(values: Array) -> Array:
    """Returns the label (N,) int64 of the highest of logits or probabilities (N, K).

    A tie between two classes goes to the second: a probability of one half is female.
    """
    return (values[:, 1] >= values[:, 0]) * 1 if values.shape[1] == 2 else values.argmax(1)


def headline(output: str) -> str:
    """Returns the head that the main score is about: the classes for `all` and `class`, else the attribute."""
    return "class" if output in ("all", "class") else output


def num_classes(output: str) -> int:
    """Returns the number of classes of the headline task."""
    return len(HEAD_CLASSES[headline(output)])


def num_outputs(output: str) -> int:
    """Returns the usual number of logits: those of all heads (one of two classes may also have one logit)."""
    return sum(len(HEAD_CLASSES[head]) for head in OUTPUT_HEADS[output])


def widths(output: str) -> list[int]:
    """Returns the numbers of logits that a model may have: the usual one, and one logit where there are two classes."""
    usual = num_outputs(output)
    return [1, usual] if usual == 2 else [usual]


def targets_of(labels: Array, output: str) -> dict[str, Array]:
    """Returns each head's integer target (N,), the headline's among them, from labels (N, attributes)."""
    columns = dict(zip(ATTRIBUTES, labels.T, strict=True))
    return {"class": class_of(columns), **columns} if headline(output) == "class" else {output: columns[output]}


def class_counts(labels: np.ndarray) -> dict[str, list[int]]:
    """Returns each head's number of photos per class, from labels (N, attributes)."""
    import numpy as np

    targets = targets_of(labels, "all")
    return {head: np.bincount(targets[head], minlength=len(HEAD_CLASSES[head])).tolist() for head in HEAD_CLASSES}


def split_heads(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns each head's own logits (N, K) from the model's logits (N, C).

    One logit z (two classes with BCELoss) becomes the pair (0, z): softmax of the pair is (1 - sigmoid(z), sigmoid(z)),
    so nothing behind this line has to know about the one-output form.
    """
    heads = OUTPUT_HEADS[output]
    if logits.shape[1] == 1:
        from torch.nn.functional import pad

        return {heads[0]: pad(logits, (1, 0))}
    return dict(zip(heads, logits.split([len(HEAD_CLASSES[head]) for head in heads], dim=1), strict=True))


def head_predictions(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns the predicted label (N,) of every head that `output` speaks about, the headline's among them.

    `all`: the likeliest label of each attribute, encoded to the class. `class`: the likeliest, decoded.
    """
    predicted = {head: likeliest(values) for head, values in split_heads(logits, output).items()}
    if output == "all":
        predicted = {"class": class_of(predicted), **predicted}
    elif output == "class":
        predicted |= labels_of(predicted["class"])
    return predicted


def head_probabilities(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns the probabilities (N, K) float32 of every head that `output` speaks about.

    `class`: the attributes' are marginals of the classes'. `all`: the classes' are the attributes' product.
    """
    probabilities = {head: values.float().softmax(1) for head, values in split_heads(logits, output).items()}
    if output == "class":
        probabilities |= marginals(probabilities["class"])
    elif output == "all":
        probabilities = {"class": joint(probabilities), **probabilities}
    return probabilities


def id2label(output: str, num_labels: int) -> dict[int, str]:
    """Returns the names that a saved model carries for its logits."""
    heads = OUTPUT_HEADS[output]
    if num_labels == 1:
        return {0: HEAD_CLASSES[heads[0]][1]}
    names = [f"{head}: {name}" if len(heads) > 1 else name for head in heads for name in HEAD_CLASSES[head]]
    return dict(enumerate(names))
