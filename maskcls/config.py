"""What is learnt: one flat YAML plus key=value overrides -> Config, or one error that lists every problem.

Precision and processes are not here: they have their home in accelerate_configs/. Nothing here imports torch.
"""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskcls import labels
from maskcls.config_rules import contradictions
from maskcls.errors import UserError, joined
from maskcls.registry import Signature, Table
from maskcls.setting import (
    Arguments,
    CachePath,
    CheckpointInterval,
    FilePath,
    FilePathOrNobody,
    ModelArguments,
    Positive,
    keys_with,
    problems_of_kind,
    setting,
)
from maskcls.yaml_file import YamlFile, write_yaml

TABLES = {
    table.kind: table
    for table in (
        Table("dataset", "maskcls.data.dataset", "DATASETS", shared=Signature(("output", "mean", "std"), ("output",))),
        Table("augmentation", "maskcls.data.augmentation", "AUGMENTATIONS"),
        Table("model", "maskcls.modeling.model", "MODELS", supplied=("image_size", "id2label", "attention")),
        Table("criterion", "maskcls.modeling.loss", "CRITERIA", supplied=("num_per_class",)),
        Table("optimizer", "maskcls.modeling.optim", "OPTIMIZERS", "torch.optim", supplied=("lr", "weight_decay")),
        Table(
            "scheduler",
            "maskcls.modeling.scheduler",
            "SCHEDULERS",
            "torch.optim.lr_scheduler",
            supplied=("total_updates", "last_epoch"),
        ),
    )
}

if TYPE_CHECKING:
    AttributeName: TypeAlias = str
    Sampling: TypeAlias = str
    Criterion: TypeAlias = str
else:  # names that follow from the tables of the task and of the metrics
    AttributeName = Literal[tuple(labels.ATTRIBUTES)]
    Sampling = Literal[("shuffle", *(f"balanced_{head}" for head in labels.HEAD_CLASSES))]
    Criterion = Literal[(*Table("metric", "maskcls.evaluation.metrics", "METRICS").names(), "loss")]


class Config(BaseModel):
    """One experiment. Field = YAML key = wandb key = the word in errors; its help stands below, in two languages."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, protected_namespaces=())

    # general
    seed: int = setting(42, ge=0, le=2**63 - 1)
    """seeds the order, the augmentation and the initial weights, and the folds
    순서, augmentation, 초기 가중치와 fold의 랜덤 시드"""
    data_dir: FilePath = setting(..., may_change=True)
    """folder of the profile folders, one per person
    프로필 폴더(사람마다 하나)가 있는 디렉토리"""
    train_profile: FilePath | None = setting(None, may_change=True)
    """text file with the training profiles, one folder name a line; null: every profile
    학습 프로필 목록 텍스트 파일, 한 줄에 폴더 이름 하나. null: 모든 프로필"""
    valid_profile: FilePathOrNobody | None = setting(None, may_change=True)
    """text file with the validation profiles; null: one fold of the training ones; none (the file: ./none): nobody
    검증 프로필 목록 텍스트 파일. null: 학습 프로필의 fold 하나. none(단어. 파일은 ./none): 검증 없음"""
    num_folds: int = setting(5, ge=2)
    """without valid_profile: people are dealt to so many folds, by gender and age group
    valid_profile이 없을 때 사람들을 성별과 연령대를 고려해 나누는 fold 수"""
    fold: int = setting(0, ge=0)
    """without valid_profile: the fold that validates, from 0
    valid_profile이 없을 때 검증에 쓰는 fold. 0부터"""
    split_seed: int | None = setting(None, ge=0, le=2**63 - 1)
    """seeds the folds alone, so that runs of several seeds have the same; null: as seed
    fold만의 랜덤 시드. 시드가 다른 실험들도 같은 fold를 쓰도록. null: seed와 같음"""
    num_classes: int | None = setting(None)
    """classes of the metric: {classes}; null: from output
    metric의 클래스 수: {classes}. null: output에서"""
    train_batch_size: Positive = setting(64)
    """photos of one optimizer update, over all processes
    optimizer 업데이트 한 번의 사진 수 (모든 프로세스를 합쳐서)"""
    valid_batch_size: Positive = setting(256, is_runtime=True)
    """photos that one process takes at once in validation and inference
    검증과 inference에서 한 프로세스가 한 번에 처리하는 사진 수"""
    max_device_batch_size: Positive | None = setting(None, is_runtime=True)
    """photos of one micro batch, what one process takes at once in training; more are accumulated; null: no bound
    마이크로 배치의 사진 수, 곧 학습에서 한 프로세스가 한 번에 처리하는 수. 넘으면 gradient를 누적. null: 제한 없음"""
    sampling: Sampling = setting("shuffle")
    """order of the training photos; balanced: an epoch takes equally many photos of each class of that head
    학습 사진의 순서. balanced: epoch마다 그 head의 클래스별로 같은 수의 사진"""

    # train
    epochs: Positive = setting(10, may_change=True)
    """passes over the training photos
    총 학습 epoch 수"""
    stop_after_epoch: Positive | None = setting(None, may_change=True)
    """end after this epoch, while the schedule goes over all epochs as if the run went on; null: after the last one
    이 epoch 다음에 끝냄. schedule은 계속될 것처럼 전체 epochs에 걸침. null: 마지막 epoch까지"""
    log_interval: Positive = setting(20, is_runtime=True)
    """updates between two training lines: means of loss, accuracy and F1 since the last
    학습 로그 간격(업데이트 단위): 지난 로그 이후의 loss, accuracy, F1 평균"""
    max_grad_norm: float | None = setting(None, gt=0, allow_inf_nan=False)
    """gradients are clipped to this norm; null: not clipped
    gradient norm의 상한. null: 자르지 않음"""
    ema_decay: float | None = setting(None, gt=0, lt=1)
    """validation, best/ and last/ use a moving average of the weights with this decay per update; null: off
    업데이트마다 이 decay로 평균한 가중치로 검증하고 best/와 last/에 저장. null: 쓰지 않음"""
    early_stopping_patience: Positive | None = setting(None, may_change=True)
    """stop after so many epochs without a better best_criterion; null: never
    best_criterion이 이만큼의 epoch 동안 나아지지 않으면 중단. null: 중단하지 않음"""
    checkpoint_interval: CheckpointInterval | None = setting("10 minutes", is_runtime=True)
    """save the state of the run within an epoch too: '500 updates' or '10 minutes'; null: at its end
    epoch 중간에도 상태를 저장하는 간격: '500 updates', '10 minutes'. null: epoch 끝에만"""
    nan_policy: Literal["stop", "skip_update"] = setting("stop", is_runtime=True)
    """stop: a loss that is not finite ends the run; skip_update: such updates are left out, at most 10 an epoch
    stop: loss가 유한하지 않으면 중단. skip_update: 그 업데이트를 건너뜀 (epoch당 최대 10번)"""
    num_workers: Annotated[int, Field(ge=0)] | None = setting(None, is_runtime=True)
    """threads that decode photos; null: one for every core of the process; 0: in the main thread
    사진을 디코딩하는 스레드 수. null: 프로세스가 쓸 수 있는 코어마다 하나. 0: 메인 스레드에서"""
    cache: Literal["memory_map", "none"] = setting("memory_map", is_runtime=True)
    """memory_map: decode every photo once to a file of pixels; none: decode in every epoch
    memory_map: 모든 사진을 한 번만 디코딩해 파일에 저장. none: epoch마다 디코딩"""
    cache_dir: CachePath = setting("~/.cache/maskcls", is_runtime=True)
    """folder of the decoded pixels, shared by all runs; what is gone or broken is made again
    디코딩한 픽셀을 두는 곳. 모든 실험이 함께 씀. 없어지거나 깨진 것은 다시 만듦"""

    # model save
    model_dir: FilePath = setting("runs", is_runtime=True)
    """folder of the run folders
    실험 폴더들이 있는 곳"""
    name: str = setting("exp", is_runtime=True)
    """name of the run folder: exp, then exp1, exp2, ...
    실험 폴더의 이름: exp, 다음은 exp1, exp2, ..."""
    best_criterion: Criterion = setting("f1")
    """validation score that decides which epoch is best/; f1, balanced_acc: over the classes, one without photos is 0
    best/를 정하는 검증 점수. f1, balanced_acc: 클래스별 평균, 사진이 없는 클래스는 0"""

    # dataset
    dataset: str = setting("CustomDatasetSplitByProfile")
    """dataset class by name (maskcls/data/dataset.py)
    dataset 클래스의 이름 (maskcls/data/dataset.py)"""
    dataset_args: Arguments = setting(...)
    """its arguments: output ({outputs}); mean, std (null: computed from the training photos)
    그 argument: output ({outputs}). mean, std (null: 학습 사진에서 계산)"""
    label_fixes: FilePath | None = setting(None)
    """CSV of corrected labels (profile, stem, {attributes}; empty: unchanged); for the public task
    configs/label_fixes.csv; null: labels as the folder names say
    라벨을 바로잡는 CSV (profile, stem, {attributes}. 빈칸은 그대로). 공개 과제용은
    configs/label_fixes.csv. null: 폴더 이름대로"""
    image_size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] = setting(224)
    """pixels that the model sees: one number, or [height, width]
    모델이 보는 픽셀 크기: 숫자 하나 또는 [높이, 너비]"""
    fit: Literal["squash", "pad", "crop"] = setting("squash")
    """how a photo gets the shape of image_size: squash (stretched), pad (with grey) or crop (cut at the centre)
    사진을 image_size의 모양으로 맞추는 방법: squash(늘이기), pad(회색 여백), crop(가운데 자르기)"""
    crop_box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = setting(None)
    """part of each photo to use: [left, top, right, bottom], as fractions of its width and height; null: all
    사진에서 쓸 부분: [왼쪽, 위, 오른쪽, 아래]를 너비와 높이의 비율로. null: 전체"""
    margin: float = setting(0.125, ge=0, le=1)
    """pixels kept around image_size for random crops, as a fraction of it; validation sees the centre
    랜덤 crop을 위해 image_size 둘레에 남기는 비율. 검증은 가운데를 봅니다"""
    augmentation: str = setting("light")
    """augmentation recipe by name (maskcls/data/augmentation.py; docs/augmentation.jpg)
    augmentation 레시피의 이름 (maskcls/data/augmentation.py, docs/augmentation.jpg)"""
    augmentation_args: Arguments = setting({})
    """its strengths, any of them with any recipe, mixup, cutmix and half_cutmix among them
    그 강도. 모든 레시피에서 모든 강도를 바꿀 수 있음 (mixup, cutmix, half_cutmix 포함)"""

    # model
    model: str = setting("vit")
    """model by name (maskcls/modeling/model.py)
    모델의 이름 (maskcls/modeling/model.py)"""
    model_args: ModelArguments = setting({})
    """pretrained (Hub id or folder; null: from scratch), num_labels (null: from output), architecture fields
    pretrained(Hub id 또는 폴더. null: 처음부터), num_labels(null: output에서), 구조 항목"""

    # loss
    criterion: str = setting("cross_entropy")
    """loss by name (maskcls/modeling/loss.py)
    loss의 이름 (maskcls/modeling/loss.py)"""
    criterion_args: Arguments = setting({})
    """its arguments; weight: a list, or balanced
    그 argument. weight: 리스트 또는 balanced"""
    head_weights: dict[AttributeName, float] = setting({})
    """output all: factor of each head's loss in the sum; 1 when left out
    output이 all일 때 head별 loss의 배율. 생략하면 1"""

    # optimizer
    optimizer: str = setting("AdamW")
    """optimizer by name: torch.optim's, or maskcls/modeling/optim.py
    optimizer의 이름: torch.optim 또는 maskcls/modeling/optim.py"""
    optimizer_args: Arguments = setting({})
    """its other arguments
    그 밖의 argument"""
    lr: float = setting(1e-3, gt=0, allow_inf_nan=False)
    """learning rate
    학습률"""
    weight_decay: float = setting(0.05, ge=0, allow_inf_nan=False)
    """weight decay of all weights but one-dimensional ones (norms, biases)
    1차원 가중치(norm, bias)를 뺀 모든 가중치의 weight decay"""
    scheduler: str = setting("warmup_cosine")
    """learning-rate schedule by name: torch's, or maskcls/modeling/scheduler.py; one step is one update
    (ReduceLROnPlateau: one validation, by its loss)
    학습률 schedule의 이름: torch 또는 maskcls/modeling/scheduler.py. 한 step은 업데이트 한 번
    (ReduceLROnPlateau는 검증 한 번, 그 loss로)"""
    scheduler_args: Arguments = setting({})
    """its arguments, in updates
    그 argument, 업데이트 단위"""

    # tracking
    wandb: Literal["auto", "online", "offline", "disabled"] = setting("auto", is_runtime=True)
    """auto: online (pictures of people are uploaded) when logged in and reachable, else offline; WANDB_MODE and
    wandb's other switches can only make it stricter
    auto: 로그인되어 있고 연결되면 online(사람들의 사진이 올라감), 아니면 offline. WANDB_MODE 등
    wandb 자신의 스위치는 더 엄격하게만 할 수 있음"""
    wandb_project: str = setting("maskcls", is_runtime=True)
    """project of the wandb dashboard
    wandb의 프로젝트"""
    tensorboard: bool = setting(True, is_runtime=True)
    """write TensorBoard events to the run folder
    실험 폴더에 TensorBoard 로그 저장"""
    report: bool = setting(True, is_runtime=True)
    """write report.html at the end of the run
    학습이 끝나면 report.html을 씀"""

    # inference
    infer_data_dir: FilePath | None = setting(None, is_runtime=True)
    """folder that infer.py predicts when none is given: images/ with info.csv, images/ alone, or profile folders
    infer.py에 폴더를 주지 않았을 때 예측할 폴더: info.csv가 있는 images/, images/만, 또는 프로필 폴더"""

    @property
    def output(self) -> str:
        """The output mode, one of labels.OUTPUT_HEADS."""
        return self.dataset_args["output"]

    @property
    def seed_of_folds(self) -> int:
        """The seed that people are dealt to folds by."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def has_validation(self) -> bool:
        """Whether somebody validates; otherwise everybody trains."""
        return self.valid_profile != "none"

    @property
    def last_epoch(self) -> int:
        """The epoch after which the run ends, from 1."""
        return self.stop_after_epoch or self.epochs

    @property
    def height_width(self) -> tuple[int, int]:
        """The size that the model sees, in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What data.preprocessing.Preprocessing is made of; mean and std are None when they are to be computed."""
        facts = {name: getattr(self, name) for name in ("fit", "crop_box", "margin")}
        statistics = {name: self.dataset_args.get(name) for name in ("mean", "std")}
        return {"image_size": self.height_width, **facts, **statistics}

    def with_statistics(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Config:
        """Returns this config with mean and std as a run has computed them, for those who look at it."""
        statistics = {"mean": mean and list(mean), "std": std and list(std)}
        return self.model_copy(update={"dataset_args": self.dataset_args | statistics})

    def checkpoint_every(self, unit: str) -> int | None:
        """Returns the checkpoint interval when it is given in `unit`, updates or minutes."""
        number, _, given = (self.checkpoint_interval or "").partition(" ")
        return int(number) if given.rstrip("s") == unit.rstrip("s") else None

    def differences(self, other: Config) -> list[str]:
        """Returns what a run of this config may not continue as: keys outside MAY_CHANGE with other values.

        Mean and std do not count when one leaves them open: a run has its own. num_classes follows from output, and
        label_fixes is the same wherever its file lies; whether the labels are the run's own, its states know.
        """
        left_out = MAY_CHANGE | {"num_classes"}
        if self.has_validation != other.has_validation:  # a list may lie elsewhere, but this is another run
            left_out -= {"valid_profile"}
        mine, theirs = (config.model_dump(exclude=left_out) for config in (self, other))
        for name in ("mean", "std"):
            if None in [values["dataset_args"].get(name) for values in (mine, theirs)]:
                for values in (mine, theirs):
                    values["dataset_args"].pop(name, None)
        if not _are_other_fixes(mine["label_fixes"], theirs["label_fixes"]):
            theirs["label_fixes"] = mine["label_fixes"]
        return [f"{key} is {theirs[key]!r}, in the run {mine[key]!r}" for key in mine if mine[key] != theirs[key]]

    def save(self, path: Path) -> None:
        """Writes every key, defaults included, as YAML."""
        write_yaml(path, self.model_dump())


MAY_CHANGE = keys_with("may_change", Config)
RUNTIME_KEYS = keys_with("is_runtime", Config)


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
        problems += [f"{file.place(key)}: {text}" for key, text in contradictions(config)]
    except ValidationError as error:
        problems += problems_of_kind(error, file, Config)
    problems += _table_problems(file)
    if problems or config is None:
        raise UserError(joined(problems, f"problems in {file.path}"))
    return config.model_copy(update={"num_classes": labels.num_classes(config.output)})


def _table_problems(file: YamlFile) -> list[str]:
    """Returns the problems of the parts that the YAML names, and of their arguments."""
    problems = []
    for key, table in TABLES.items():
        name = file.values.get(key, Config.model_fields[key].default)
        arguments = file.values.get(f"{key}_args", {})
        if isinstance(name, str) and isinstance(arguments, dict):
            for place, text in table.problems(name, arguments):
                problems.append(f"{file.place(place if place in file.places else key)}: {text}")
    return problems
