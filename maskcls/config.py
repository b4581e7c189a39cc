"""What is learnt: one flat YAML plus key=value overrides -> Config, or one error that lists every problem.

Precision and processes are not here: they have their home in accelerate_configs/. Nothing here imports torch.
"""

from __future__ import annotations

import filecmp
import json
import math
import re
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from maskcls import labels
from maskcls.errors import UserError, did_you_mean, joined
from maskcls.paths import full_path
from maskcls.registry import Table
from maskcls.yaml_file import YamlFile, write_yaml

TABLES = {
    "dataset": Table("dataset", "maskcls.data.dataset", "DATASETS"),
    "augmentation": Table("augmentation", "maskcls.data.augmentation", "AUGMENTATIONS"),
    "model": Table("model", "maskcls.modeling.model", "MODELS", supplied=("image_size", "id2label", "attention")),
    "criterion": Table("criterion", "maskcls.modeling.loss", "CRITERIA", supplied=("num_per_class",)),
    "optimizer": Table("optimizer", "maskcls.modeling.optim", "OPTIMIZERS", "torch.optim", ("lr", "weight_decay")),
    "scheduler": Table("scheduler", "maskcls.modeling.scheduler", "SCHEDULERS", "torch.optim.lr_scheduler",
                       ("total_updates", "last_epoch")),
}  # fmt: skip

# What a run may be continued with other values of: nothing here changes what is learnt from which photos.
MAY_CHANGE = {
    "epochs", "early_stopping_patience", "log_interval", "checkpoint_interval", "nan_policy", "num_workers", "cache",
    "cache_dir", "data_dir", "train_profile", "valid_profile", "max_device_batch_size", "valid_batch_size", "model_dir",
    "name", "wandb", "wandb_project", "tensorboard", "report", "infer_data_dir",
}  # fmt: skip

MAX_NAME = 200  # bytes; a number may follow
LEAST_STD = 0.001  # of a colour, 0..1: a quarter of one of its 256 levels


def _absolute(text: str) -> str:
    if text == "None":
        raise ValueError("nothing is written null, and a path of that name ./None")
    try:
        return str(full_path(text))
    except UserError as error:
        raise ValueError(str(error)) from None


def _absolute_or_at_home(text: str) -> str:
    """Returns an absolute path, but `~` as it stands: each machine of a launch, and who predicts later, has a home."""
    absolute = _absolute(text)
    return text if text.startswith("~") else absolute


def _with_local_folder(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns model_args with an absolute `pretrained` when it is a path and no Hub id."""
    text = arguments.get("pretrained")
    if not isinstance(text, str) or not text:
        return arguments
    is_path = text == "None" or text.startswith(("~", ".")) or Path(text).is_absolute() or Path(text).is_dir()
    return arguments | {"pretrained": _absolute(text)} if is_path else arguments


if TYPE_CHECKING:
    AttributeName: TypeAlias = str
    Sampling: TypeAlias = str
    Criterion: TypeAlias = str
else:  # names that follow from the tables of the task and of the metrics
    AttributeName = Literal[tuple(labels.ATTRIBUTES)]
    Sampling = Literal[("shuffle", *(f"balanced_{head}" for head in labels.HEAD_CLASSES))]
    Criterion = Literal[("f1", "acc", "loss")]

Positive = Annotated[int, Field(gt=0)]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]  # as written -> absolute, `~` expanded
CachePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute_or_at_home)]
Arguments = dict[str, Any]
ModelArguments = Annotated[Arguments, AfterValidator(_with_local_folder)]


def setting(default: Any, text: str, **bounds: Any) -> Any:
    """Returns a pydantic field with its one line of help; bounds are pydantic's (gt, ge, lt, le)."""
    return Field(default, description=text, **bounds)


class Config(BaseModel):
    """One experiment. Field = YAML key = wandb key = the word in errors; the description is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, protected_namespaces=())

    # general
    seed: int = setting(42, "seeds the split, the order, the augmentation and the initial weights", ge=0, le=2**63 - 1)
    data_dir: FilePath = setting(..., "folder of the profile folders, one per person")
    train_profile: FilePath | None = setting(
        None, "text file with the training profiles, one folder name a line; null: every profile"
    )
    valid_profile: FilePath | None = setting(
        None, "text file with the validation profiles; null: one fold of the training profiles"
    )
    num_folds: int = setting(
        5, "without valid_profile: people are dealt to so many folds, by gender and age group", ge=2
    )
    fold: int = setting(0, "without valid_profile: the fold that validates, from 0", ge=0)
    num_classes: int | None = setting(
        None,
        f"classes of the metric: {labels.num_classes('all')} for all and class, "
        f"{', '.join(f'{labels.num_classes(name)} {name}' for name in labels.ATTRIBUTES)}; null: from output",
    )
    train_batch_size: Positive = setting(64, "photos of one optimizer update, over all devices")
    valid_batch_size: Positive = setting(256, "photos that one device takes at once in validation and inference")
    max_device_batch_size: Positive | None = setting(
        None, "photos that one device takes at once in training; more are accumulated; null: no bound"
    )

    sampling: Sampling = setting(
        "shuffle",
        "order of the training photos; balanced: an epoch takes equally many photos of each class of that head",
    )

    # train
    epochs: Positive = setting(10, "passes over the training photos")
    log_interval: Positive = setting(
        20, "updates between two training lines: means of loss, accuracy and F1 since the last"
    )
    max_grad_norm: float | None = setting(
        None, "gradients are clipped to this norm; null: not clipped", gt=0, allow_inf_nan=False
    )
    ema_decay: float | None = setting(
        None,
        "validation, best/ and last/ use a moving average of the weights with this decay per update; null: off",
        gt=0,
        lt=1,
    )
    early_stopping_patience: Positive | None = setting(
        None, "stop after so many epochs without a better best_criterion; null: never"
    )
    checkpoint_interval: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8} (updates?|minutes?)$")] | None = setting(
        "10 minutes", "save the state of the run within an epoch too: '500 updates' or '10 minutes'; null: at its end"
    )
    nan_policy: Literal["stop", "skip_update"] = setting(
        "stop", "a loss that is not finite ends the run; skip_update: such updates are left out, at most 10 an epoch"
    )
    num_workers: Annotated[int, Field(ge=0)] | None = setting(
        None, "threads that decode photos; null: one for every core of the process; 0: in the main thread"
    )
    cache: Literal["memory_map", "none"] = setting(
        "memory_map", "memory_map: decode every photo once to a file of pixels; none: decode in every epoch"
    )
    cache_dir: CachePath = setting(
        "~/.cache/maskcls", "folder of the decoded pixels and dataset tables, shared by all runs"
    )

    # model save
    model_dir: FilePath = setting("runs", "folder of the run folders")
    name: str = setting("exp", "name of the run folder: exp, then exp1, exp2, ...")
    best_criterion: Criterion = setting("f1", "validation score that decides which epoch is best/")

    # dataset
    dataset: str = setting("CustomDatasetSplitByProfile", "dataset class by name (maskcls/data/dataset.py)")
    dataset_args: Arguments = setting(
        ..., f"its arguments: output ({' | '.join(labels.OUTPUT_HEADS)}); mean, std (null: computed)"
    )
    label_fixes: FilePath | None = setting(
        None,
        f"CSV of corrected labels (profile, stem, {', '.join(labels.ATTRIBUTES)}); "
        "null: labels as the folder names say",
    )
    image_size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] = setting(
        224, "pixels that the model sees: one number, or [height, width]"
    )
    fit: Literal["squash", "pad", "crop"] = setting(
        "squash", "how a photo gets the shape of image_size: stretched, padded with grey, or cut at the centre"
    )
    crop_box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = setting(
        None, "part of each photo to use: [left, top, right, bottom], as fractions of its width and height; null: all"
    )
    margin: float = setting(
        0.125,
        "pixels kept around image_size for random crops, as a fraction of it; validation sees the centre",
        ge=0,
        le=1,
    )
    augmentation: str = setting("light", "augmentation recipe by name (maskcls/data/augmentation.py)")
    augmentation_args: Arguments = setting({}, "its strengths")

    # model
    model: str = setting("vit", "model by name (maskcls/modeling/model.py)")
    model_args: ModelArguments = setting(
        {}, "pretrained (Hub id or folder; null: from scratch), num_labels (null: from output), architecture fields"
    )

    # loss
    criterion: str = setting("cross_entropy", "loss by name (maskcls/modeling/loss.py)")
    criterion_args: Arguments = setting({}, "its arguments")
    head_weights: dict[AttributeName, float] = setting(
        {}, "output all: factor of each head's loss in the sum; 1 when left out"
    )

    # optimizer
    optimizer: str = setting("AdamW", "optimizer by name: torch.optim's, or maskcls/modeling/optim.py")
    optimizer_args: Arguments = setting({}, "its other arguments")
    lr: float = setting(1e-3, "learning rate", gt=0, allow_inf_nan=False)
    weight_decay: float = setting(
        0.05, "weight decay of all weights but one-dimensional ones (norms, biases)", ge=0, allow_inf_nan=False
    )
    scheduler: str = setting(
        "warmup_cosine",
        "learning-rate schedule by name: torch's, or maskcls/modeling/scheduler.py; one step is one update",
    )
    scheduler_args: Arguments = setting({}, "its arguments, in updates")

    # tracking
    wandb: Literal["auto", "online", "offline", "disabled"] = setting(
        "auto",
        "auto: online (pictures of people are uploaded) when logged in and reachable, else offline; WANDB_MODE and "
        "wandb's other switches can only make it stricter",
    )
    wandb_project: str = setting("maskcls", "project of the wandb dashboard")
    tensorboard: bool = setting(True, "write TensorBoard events to the run folder")

    report: bool = setting(True, "write report.html at the end of the run")

    # inference
    infer_data_dir: FilePath | None = setting(
        None, "folder that infer.py predicts: images/ with info.csv, images/ alone, or profile folders"
    )

    @property
    def output(self) -> str:
        """The output mode, one of labels.OUTPUT_HEADS."""
        return self.dataset_args["output"]

    @property
    def height_width(self) -> tuple[int, int]:
        """The size that the model sees, in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> Config:
        """Returns this config with mean and std (3 numbers each, 0..1) and num_classes filled in."""
        arguments = self.dataset_args | {"mean": list(mean), "std": list(std)}
        return self.model_copy(update={"dataset_args": arguments, "num_classes": labels.num_classes(self.output)})

    def checkpoint_every(self, unit: str) -> int | None:
        """Returns the checkpoint interval when it is given in `unit`, updates or minutes."""
        number, _, given = (self.checkpoint_interval or "").partition(" ")
        return int(number) if given.rstrip("s") == unit.rstrip("s") else None

    def differences(self, other: Config) -> list[str]:
        """Returns what a run of this config may not continue as: keys outside MAY_CHANGE with other values.

        What training fills in (mean, std, num_classes) does not count when `other` leaves it open, and label_fixes is
        the same wherever its file lies; whether the labels are the run's own, its states know.
        """
        mine, theirs = self.model_dump(exclude=MAY_CHANGE), other.model_dump(exclude=MAY_CHANGE)
        for values, others, name in [
            (mine, theirs, "num_classes"),
            *((mine["dataset_args"], theirs["dataset_args"], name) for name in ("mean", "std")),
        ]:
            if others.get(name) is None:
                values.pop(name, None)
                others.pop(name, None)
        if not _are_other_fixes(mine["label_fixes"], theirs["label_fixes"]):
            theirs["label_fixes"] = mine["label_fixes"]
        return [f"{key} is {theirs[key]!r}, in the run {mine[key]!r}" for key in mine if mine[key] != theirs[key]]

    def save(self, path: Path) -> None:
        """Writes every key, defaults included, as YAML."""
        write_yaml(path, self.model_dump())


def _are_other_fixes(path: str | None, other: str | None) -> bool:
    if path is None or other is None:
        return path != other
    try:
        return not filecmp.cmp(path, other, shallow=False)
    except OSError:  # one is gone, or was relative to another folder in a run of an older version
        return False


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Returns the config of a YAML file with `key=value` or `--key=value` overrides (dots reach into *_args).

    Raises UserError with every problem of the file and of the overrides in one message.
    """
    file = YamlFile.read(path, overrides)
    problems = list(file.problems)
    config: Config | None = None
    try:
        config = Config.model_validate(file.values)
        problems += _contradictions(config, file)
    except ValidationError as error:
        problems += _field_problems(error, file)
    problems += _table_problems(file)
    if problems or config is None:
        raise UserError(joined(problems, f"problems in {file.path}"))
    return config


def _field_problems(error: ValidationError, file: YamlFile) -> list[str]:
    """Returns one line per wrong key, in the user's words."""
    problems: dict[str, str] = {}
    hints: dict[str, str] = {}
    for item in error.errors():
        key = str(item["loc"][0])
        place = file.place(key)
        if item["type"] == "missing":
            problems[key] = f"{place}: {key} is missing: {Config.model_fields[key].description}"
        elif item["type"] == "extra_forbidden":
            problems[key] = f"{place}: unknown key {key!r}.{did_you_mean(key, list(Config.model_fields))}"
        elif key in problems:  # another branch of the same union
            problems[key] += f", or {item['msg'][0].lower()}{item['msg'][1:]}"
        else:
            said = item["msg"].removeprefix("Value error, ")
            problems[key] = f"{place}: {key} is {item['input']!r}: {said[0].lower()}{said[1:]}"
        hints[key] = hints.get(key) or _hint(key, item["input"], item["type"], place)
    return [problem + hints[key] for key, problem in problems.items()]


def _hint(key: str, value: Any, kind: str, place: str) -> str:
    """Returns how to write what the user may have meant, for the end of a message."""
    if kind == "string_type" and isinstance(value, int | float | date):
        _, is_override, text = place.partition("=")
        return f"; as text: {key}={shlex.quote(json.dumps(text))}" if is_override else "; as text it stands in quotes"
    allows_null = key in Config.model_fields and type(None) in get_args(Config.model_fields[key].annotation)
    return "; nothing is written null" if value == "None" and allows_null else ""


def _table_problems(file: YamlFile) -> list[str]:
    """Returns the problems of the parts that the YAML names, and of their arguments."""
    problems = []
    for key, table in TABLES.items():
        name = file.values.get(key, Config.model_fields[key].default)
        arguments = file.values.get(f"{key}_args", {})
        if isinstance(name, str) and isinstance(arguments, dict):
            for problem in table.problems(name, arguments):
                place = problem.key if problem.key in file.places else key
                problems.append(f"{file.place(place)}: {problem.text}")
    return problems


def _contradictions(config: Config, file: YamlFile) -> list[str]:
    """Returns the problems between keys that are each well-formed."""

    def problem(key: str, text: str) -> str:
        return f"{file.place(key)}: {text}"

    output = config.dataset_args.get("output")
    if not isinstance(output, str) or output not in labels.OUTPUT_HEADS:
        known = ", ".join(labels.OUTPUT_HEADS)
        near = did_you_mean(str(output), list(labels.OUTPUT_HEADS)) if output is not None else ""
        return [problem("dataset_args", f"output is {output!r}.{near} It is one of: {known}")]
    problems = []
    for key in ("mean", "std"):
        value = config.dataset_args.get(key)
        is_three = (
            isinstance(value, list)
            and len(value) == 3
            and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)
        )
        if value is not None and not is_three:
            problems.append(problem("dataset_args", f"{key} is {value!r}; it is three numbers from 0 to 1, or null"))
        elif key == "std" and value is not None and min(value) < LEAST_STD:
            problems.append(
                problem("dataset_args", f"std is {value!r}; it divides, so it cannot be 0 or less than {LEAST_STD}")
            )
    if config.num_classes not in (None, labels.num_classes(output)):
        problems.append(problem("num_classes", f"num_classes is {config.num_classes}, but output {output!r} has "
                                               f"{labels.num_classes(output)} classes"))  # fmt: skip
    if config.fold >= config.num_folds:
        problems.append(
            problem("fold", f"fold is {config.fold}, but num_folds is {config.num_folds}: folds count from 0")
        )
    allowed = {labels.num_outputs(output)} | ({1} if labels.num_outputs(output) == 2 else set())
    if (given := config.model_args.get("num_labels")) not in (None, *allowed):
        problems.append(problem("model_args", f"num_labels is {given!r}, but output {output!r} needs "
                                              f"{' or '.join(map(str, sorted(allowed)))}"))  # fmt: skip
    if config.head_weights and output != "all":
        problems.append(problem("head_weights", f"head_weights belong to output 'all'; output is {output!r}"))
    for head, weight in config.head_weights.items():
        if not 0 <= weight < math.inf:
            problems.append(
                problem("head_weights", f"head_weights.{head} is {weight}; it is a finite number, 0 or more")
            )
    if len(config.head_weights) == len(labels.ATTRIBUTES) and not any(config.head_weights.values()):
        problems.append(problem("head_weights", "head_weights are all 0, so nothing would be learnt"))
    if config.crop_box and not (
        0 <= config.crop_box[0] < config.crop_box[2] <= 1 and 0 <= config.crop_box[1] < config.crop_box[3] <= 1
    ):
        problems.append(
            problem("crop_box", f"crop_box is {config.crop_box}: 0 <= left < right <= 1 and 0 <= top < bottom <= 1")
        )
    if (
        not re.fullmatch(r"[^/\\\x00-\x1f.\x7f][^/\\\x00-\x1f\x7f]*", config.name)
        or not config.name.strip()
        or len(config.name.encode()) > MAX_NAME
    ):
        form = f"it becomes a folder's name in model_dir: at most {MAX_NAME} bytes, visible, in one line"
        problems.append(problem("name", f"name is {config.name!r}; {form}"))
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", config.wandb_project):
        message = f"wandb_project is {config.wandb_project!r}; wandb takes 1 to 128 characters, none of / \\ # ? % :"
        problems.append(problem("wandb_project", message))
    return problems
