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


def contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """Yields (key, what is wrong with it) for each broken rule; of a wrong output alone, on which others rest."""
    output = config.dataset_args.get("output")
    if not isinstance(output, str) or output not in labels.OUTPUT_HEADS:
        known = ", ".join(labels.OUTPUT_HEADS)
        near = did_you_mean(str(output), list(labels.OUTPUT_HEADS)) if output is not None else ""
        yield "dataset_args", f"output is {output!r}.{near} It is one of: {known}"
        return
    for key in ("mean", "std"):
        value = config.dataset_args.get(key)
        if value is not None and not _is_colour(value):
            yield "dataset_args", f"{key} is {value!r}; it is three numbers from 0 to 1, or null"
        elif value is not None and key == "std" and min(value) < LEAST_STD:
            yield "dataset_args", f"std is {value!r}; it divides, so it cannot be 0 or less than {LEAST_STD}"
    yield from _of_the_task(config, output)
    yield from _of_the_epochs(config)
    yield from _of_one_key(config)


def _is_colour(value: Any) -> bool:
    is_three = isinstance(value, list) and len(value) == 3
    return is_three and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)


def _of_the_task(config: Config, output: str) -> Iterator[tuple[str, str]]:
    right, allowed, weights = labels.num_classes(output), labels.widths(output), config.head_weights
    if config.num_classes not in (None, right):
        yield "num_classes", f"num_classes is {config.num_classes}, but output {output!r} has {right} classes"
    if config.fold >= config.num_folds:
        yield "fold", f"fold is {config.fold}, but num_folds is {config.num_folds}: folds count from 0"
    if (given := config.model_args.get("num_labels")) not in (None, *allowed):
        yield "model_args", f"num_labels is {given!r}, but output {output!r} needs {' or '.join(map(str, allowed))}"
    if weights and output != "all":
        yield "head_weights", f"head_weights belong to output 'all'; output is {output!r}"
    for head, weight in weights.items():
        if not 0 <= weight < math.inf:
            yield "head_weights", f"head_weights.{head} is {weight}; it is a finite number, 0 or more"
    if weights.keys() >= labels.ATTRIBUTES.keys() and not any(weights.values()):
        yield "head_weights", "head_weights are all 0, so nothing would be learnt"


def _of_the_epochs(config: Config) -> Iterator[tuple[str, str]]:
    if config.last_epoch > config.epochs:
        yield "stop_after_epoch", f"stop_after_epoch is {config.stop_after_epoch}, but epochs is {config.epochs}"
    if config.has_validation:
        return
    nobody = "valid_profile is none, so nobody validates"
    if config.early_stopping_patience is not None:
        mend = "set early_stopping_patience: null, and stop_after_epoch to the epoch that the folds chose"
        yield "early_stopping_patience", f"early_stopping_patience waits for a better score, but {nobody}: {mend}"
    if config.scheduler == "ReduceLROnPlateau":
        yield "scheduler", f"scheduler ReduceLROnPlateau follows the validation loss, but {nobody}: take another"


def _of_one_key(config: Config) -> Iterator[tuple[str, str]]:
    left, top, right, bottom = config.crop_box or (0, 0, 1, 1)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        yield "crop_box", f"crop_box is {config.crop_box}: 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
    is_plain = re.fullmatch(r"[^/\\\x00-\x1f.\x7f][^/\\\x00-\x1f\x7f]*", config.name) and config.name.strip()
    if not is_plain or len(config.name.encode()) > MAX_NAME:
        form = f"it becomes a folder's name in model_dir: at most {MAX_NAME} bytes, visible, in one line"
        yield "name", f"name is {config.name!r}; {form}"
    project = config.wandb_project
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", project):
        yield "wandb_project", f"wandb_project is {project!r}; wandb takes 1 to 128 characters, none of / \\ # ? % :"
