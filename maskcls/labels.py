"""What the labels mean: mask x gender x age <-> 18 classes, the output modes, and any head form -> the same heads.

Nothing here reads files or knows a model; tensors are only ever passed in, so importing this costs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

Label = TypeVar("Label", int, "np.ndarray", "torch.Tensor")

MASKS = ("worn", "incorrect", "not_worn")
GENDERS = ("male", "female")
AGE_GROUPS = ("<30", "30-59", ">=60")

MASK_OF_STEM = {**{f"mask{i}": 0 for i in range(1, 6)}, "incorrect_mask": 1, "normal": 2}

ATTRIBUTES: dict[str, tuple[str, ...]] = {"mask": MASKS, "gender": GENDERS, "age": AGE_GROUPS}
CLASS_NAMES = tuple(f"{m}, {g}, {a}" for m in MASKS for g in GENDERS for a in AGE_GROUPS)
HEAD_CLASSES: dict[str, tuple[str, ...]] = {"class": CLASS_NAMES, **ATTRIBUTES}

# The heads that a model has in each output mode; their logits stand side by side in this order.
OUTPUT_HEADS: dict[str, tuple[str, ...]] = {
    "all": ("mask", "gender", "age"),
    "class": ("class",),
    "mask": ("mask",),
    "gender": ("gender",),
    "age": ("age",),
}


def age_group(age: int) -> int:
    """Returns 0 below 30 years, 1 from 30 to 59, 2 from 60 on."""
    return 0 if age < 30 else 1 if age < 60 else 2


def encode_class(mask: Label, gender: Label, age: Label) -> Label:
    """Returns the class 0..17 = mask * 6 + gender * 3 + age group. Works elementwise on arrays and tensors too."""
    return mask * 6 + gender * 3 + age


def decode_class(code: Label) -> tuple[Label, Label, Label]:
    """Returns (mask, gender, age group) of a class 0..17. Works elementwise on arrays and tensors too."""
    return code // 6, code // 3 % 2, code % 3


def headline(output: str) -> str:
    """Returns the head that the main score is about: the 18 classes for `all` and `class`, else the attribute."""
    return "class" if output in ("all", "class") else output


def num_classes(output: str) -> int:
    """Returns the number of classes of the headline task: 18, 3, 2 or 3."""
    return len(HEAD_CLASSES[headline(output)])


def num_outputs(output: str) -> int:
    """Returns the usual number of logits: 8 for `all`, otherwise the classes (`gender` may also have one logit)."""
    return sum(len(HEAD_CLASSES[head]) for head in OUTPUT_HEADS[output])


def targets_of(labels: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns each head's integer target (N,), the headline's among them, from labels (N, 3) = mask, gender, age."""
    mask, gender, age = labels.unbind(1)
    targets = {"class": encode_class(mask, gender, age), "mask": mask, "gender": gender, "age": age}
    return targets if output in ("all", "class") else {output: targets[output]}


def class_counts(labels: torch.Tensor) -> dict[str, list[int]]:
    """Returns each head's number of photos per class, from labels (N, 3) = mask, gender, age group."""
    targets = targets_of(labels, "all")
    return {head: targets[head].bincount(minlength=len(classes)).tolist() for head, classes in HEAD_CLASSES.items()}


def split_heads(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns each head's own logits (N, K) from the model's logits (N, C).

    One logit z (gender with BCELoss) becomes the pair (0, z): softmax of the pair is (1 - sigmoid(z), sigmoid(z)), so
    nothing behind this line has to know about the one-output form.
    """
    heads = OUTPUT_HEADS[output]
    if logits.shape[1] == 1:
        from torch.nn.functional import pad

        return {heads[0]: pad(logits, (1, 0))}
    return dict(zip(heads, logits.split([len(HEAD_CLASSES[head]) for head in heads], dim=1), strict=True))


def head_predictions(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns the predicted label (N,) of every head that `output` speaks about, the headline's among them.

    `all`: three argmaxes, encoded to the 18 classes. `class`: one argmax, decoded to the attributes. A tie between two
    classes goes to the second (probability >= 0.5 is female).
    """
    predicted = {}
    for head, values in split_heads(logits, output).items():
        predicted[head] = (values[:, 1] >= values[:, 0]).long() if values.shape[1] == 2 else values.argmax(1)
    if output == "all":
        predicted = {"class": encode_class(predicted["mask"], predicted["gender"], predicted["age"]), **predicted}
    elif output == "class":
        predicted |= dict(zip(ATTRIBUTES, decode_class(predicted["class"]), strict=True))
    return predicted


def head_probabilities(logits: torch.Tensor, output: str) -> dict[str, torch.Tensor]:
    """Returns the probabilities (N, K) float32 of every head that `output` speaks about.

    `class`: the attributes' are marginals of the 18. `all`: the 18 are the product of the three heads (which are
    independent given the picture by construction of the model).
    """
    probabilities = {head: values.float().softmax(1) for head, values in split_heads(logits, output).items()}
    if output == "class":
        joint = probabilities["class"].unflatten(1, (3, 2, 3))  # (N, mask, gender, age)
        probabilities |= {"mask": joint.sum((2, 3)), "gender": joint.sum((1, 3)), "age": joint.sum((1, 2))}
    elif output == "all":
        mask, gender, age = probabilities.values()
        joint = mask[:, :, None, None] * gender[:, None, :, None] * age[:, None, None, :]
        probabilities = {"class": joint.flatten(1), **probabilities}
    return probabilities


def id2label(output: str, num_labels: int) -> dict[int, str]:
    """Returns the names that a saved model carries for its logits."""
    if num_labels == 1:
        return {0: "female"}
    heads: Mapping[str, tuple[str, ...]] = {head: HEAD_CLASSES[head] for head in OUTPUT_HEADS[output]}
    names = [f"{head}: {name}" if len(heads) > 1 else name for head, classes in heads.items() for name in classes]
    return dict(enumerate(names))
