"""What the values of a config may not be, beyond the kind and bounds of each: rules of a key, or between keys."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from maskcls import labels
from maskcls.errors import did_you_mean

if TYPE_CHECKING:
    from maskcls.config import Config

MAX_NAME = 200  # bytes; a number may follow
LEAST_STD = 0.001  # of a colour, 0..1: a quarter of one of its 256 levels


def contradictions(config: Config) -> list[tuple[str, str]]:
    """Returns (key, what is wrong with it) for each broken rule; of a wrong output alone, on which others rest."""
    output = config.dataset_args.get("output")
    if not isinstance(output, str) or output not in labels.OUTPUT_HEADS:
        known = ", ".join(labels.OUTPUT_HEADS)
        near = did_you_mean(str(output), list(labels.OUTPUT_HEADS)) if output is not None else ""
        return [("dataset_args", f"output is {output!r}.{near} It is one of: {known}")]
    return [(key, text) for key, rule in RULES.items() for text in rule(config)]


def _dataset_args(config: Config) -> Iterator[str]:
    for key in ("mean", "std"):
        value = config.dataset_args.get(key)
        if value is not None and not _is_colour(value):
            yield f"{key} is {value!r}; it is three numbers from 0 to 1, or null"
        elif value is not None and key == "std" and min(value) < LEAST_STD:
            yield f"std is {value!r}; it divides, so it cannot be 0 or less than {LEAST_STD}"


def _is_colour(value: Any) -> bool:
    is_three = isinstance(value, list) and len(value) == 3
    return is_three and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)


def _num_classes(config: Config) -> Iterator[str]:
    right = labels.num_classes(config.output)
    if config.num_classes not in (None, right):
        yield f"num_classes is {config.num_classes}, but output {config.output!r} has {right} classes"


def _fold(config: Config) -> Iterator[str]:
    if config.fold >= config.num_folds:
        yield f"fold is {config.fold}, but num_folds is {config.num_folds}: folds count from 0"


def _model_args(config: Config) -> Iterator[str]:
    allowed = {labels.num_outputs(config.output)} | ({1} if labels.num_outputs(config.output) == 2 else set())
    if (given := config.model_args.get("num_labels")) not in (None, *allowed):
        yield f"num_labels is {given!r}, but output {config.output!r} needs {' or '.join(map(str, sorted(allowed)))}"


def _head_weights(config: Config) -> Iterator[str]:
    weights = config.head_weights
    if weights and config.output != "all":
        yield f"head_weights belong to output 'all'; output is {config.output!r}"
    for head, weight in weights.items():
        if not 0 <= weight < math.inf:
            yield f"head_weights.{head} is {weight}; it is a finite number, 0 or more"
    if weights.keys() >= labels.ATTRIBUTES.keys() and not any(weights.values()):
        yield "head_weights are all 0, so nothing would be learnt"


def _crop_box(config: Config) -> Iterator[str]:
    if config.crop_box:
        left, top, right, bottom = config.crop_box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            yield f"crop_box is {config.crop_box}: 0 <= left < right <= 1 and 0 <= top < bottom <= 1"


def _name(config: Config) -> Iterator[str]:
    is_plain = re.fullmatch(r"[^/\\\x00-\x1f.\x7f][^/\\\x00-\x1f\x7f]*", config.name) and config.name.strip()
    if not is_plain or len(config.name.encode()) > MAX_NAME:
        form = f"it becomes a folder's name in model_dir: at most {MAX_NAME} bytes, visible, in one line"
        yield f"name is {config.name!r}; {form}"


def _wandb_project(config: Config) -> Iterator[str]:
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", config.wandb_project):
        yield f"wandb_project is {config.wandb_project!r}; wandb takes 1 to 128 characters, none of / \\ # ? % :"


RULES = {
    "dataset_args": _dataset_args,
    "num_classes": _num_classes,
    "fold": _fold,
    "model_args": _model_args,
    "head_weights": _head_weights,
    "crop_box": _crop_box,
    "name": _name,
    "wandb_project": _wandb_project,
}
