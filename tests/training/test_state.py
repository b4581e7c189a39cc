"""A state on disk: what is restored learns on as if nothing had been, and what is damaged is known to be."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageClassification

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.selection import BestScore
from maskcls.training import durable
from maskcls.training import state as state_module
from maskcls.training.builders import build_learner
from maskcls.training.durable import unfinished_beside
from maskcls.training.log_interval import NotFinite
from maskcls.training.loop import Learner, train_one_epoch
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.state import RunProgress, State, newest_state, restore, save_state, weights_of, write_model
from tests.helpers import ROOT, TINY, Faces, open_faces, overrides

MODELS = {
    "vit": TINY["vit"].replace("}", ", hidden_dropout_prob: 0.2}"),
    "convnext": TINY["convnext"].replace("}", ", drop_path_rate: 0.2}"),
    "auto": TINY["auto"],  # a ResNet: BatchNorm has buffers
}
CONFIG = Config(data_dir="faces", dataset_args={"output": "mask"})


@pytest.fixture(scope="module")
def launch() -> Launch:
    return Launch()


def config(sample: Path, folder: Path, model: str, **more: object) -> Config:
    settings = {"model": model, "train_batch_size": 10, "epochs": 3, "lr": 0.01, **more}
    return load_config(
        ROOT / "configs" / "demo.yaml",
        [*overrides(sample, folder, model=model), f"model_args={MODELS[model]}",
         *(f"{key}={value}" for key, value in settings.items())],
    )  # fmt: skip


@pytest.fixture(scope="module")
def faces(sample: Path, launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """70 photos in updates of 10: an epoch has 7."""
    settings = config(sample, tmp_path_factory.mktemp("faces"), "vit")
    faces = open_faces(settings, launch)
    assert faces.plan.num_updates == 7
    return faces


Build = Callable[..., Learner]


@pytest.fixture
def build(sample: Path, launch: Launch, faces: Faces, tmp_path: Path) -> Build:
    """Returns what builds a learner of a model and settings."""
    return lambda model, **more: build_learner(config(sample, tmp_path, model, **more), launch, faces.data)[0]


def learn(
    faces: Faces, learner: Learner, *, first: int, last: int, log_interval: int = 100
) -> None:  # fmt: skip
    """Makes the first epoch's updates from `first` (0: none is done) to `last`."""
    updates = train_one_epoch(
        learner, faces.batches, epoch=1, first_update=first,
        log_interval=log_interval, max_grad_norm=1.0,
    )  # fmt: skip
    assert len(list(islice(updates, last - first))) == last - first


def everything(launch: Launch, learner: Learner) -> dict[str, Any]:
    """Returns all that decides how a learner goes on."""
    optimizer: torch.optim.Optimizer = learner.optimizer.optimizer  # type: ignore[attr-defined]
    names = {parameter: name for name, parameter in learner.network.named_parameters()}
    return {
        "weights": {name: value.clone() for name, value in learner.network.state_dict().items()},
        "optimizer": {
            f"{names[parameter]} {name}": value.clone() if isinstance(value, Tensor) else value
            for parameter, values in optimizer.state.items() for name, value in values.items()
        },
        "groups": [
            {name: list(value) if isinstance(value, tuple) else value for name, value in group.items()
             if name != "params"} for group in optimizer.param_groups
        ],
        "average": [value.clone() for value in learner.average.weights] if learner.average else [],
        "average_updates": learner.average.num_updates if learner.average else None,
        "interval": learner.interval.sums(launch.accelerator),
        "numbers": (learner.num_updates, learner.num_skipped, learner.scheduler.last_epoch),
    }  # fmt: skip


def assert_same(one: Any, other: Any) -> int:
    """Compares to the last bit; returns how many tensors it has compared."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other) and one.stride() == other.stride() and one.dtype == other.dtype
        return 1
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return sum(assert_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        assert len(one) == len(other)
        return sum(assert_same(a, b) for a, b in zip(one, other, strict=True))
    assert one == other
    return 0


def saved(launch: Launch, learner: Learner, run: RunFolder, *, epoch: int = 1, update: int = 0) -> RunProgress:
    """Saves a state of that position."""
    progress = RunProgress(BestScore("f1", 0.25, epoch), epoch, update)
    save_state(launch, learner, progress, run, config=CONFIG, data_key="these photos")
    return progress


def state_of(run: RunFolder) -> State:
    state, problems = newest_state(run)
    assert state is not None and problems == []
    return state


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("vit", {"ema_decay": 0.9, "scheduler": "warmup_cosine"}),
        ("convnext", {"ema_decay": 0.9, "scheduler": "constant"}),
        ("auto", {"ema_decay": 0.9, "scheduler": "OneCycleLR", "scheduler_args": "{max_lr: 0.01}"}),
        ("auto", {"optimizer": "SGD", "scheduler": "StepLR", "scheduler_args": "{step_size: 2}"}),
        ("vit", {"optimizer": "SGD", "optimizer_args": "{momentum: 0.9, nesterov: true}",
                 "scheduler": "MultiStepLR", "scheduler_args": "{milestones: [2, 4, 5]}"}),
        ("convnext", {"optimizer": "Lion", "scheduler": "ReduceLROnPlateau", "scheduler_args": "{patience: 0}"}),
        ("auto", {"optimizer": "RMSprop", "optimizer_args": "{momentum: 0.5, centered: true}",
                  "scheduler": "CosineAnnealingWarmRestarts", "scheduler_args": "{T_0: 2}"}),
        ("vit", {"optimizer": "Adafactor", "scheduler": "CosineAnnealingLR", "scheduler_args": "{T_max: 21}"}),
        ("convnext", {"optimizer": "NAdam", "scheduler": "CyclicLR",
                      "scheduler_args": "{base_lr: 0.001, max_lr: 0.01, step_size_up: 2, cycle_momentum: false}"}),
    ],
)  # fmt: skip
def test_a_restored_learner_goes_on_to_the_last_bit(
    model: str, more: dict[str, object], launch: Launch, faces: Faces, build: Build, tmp_path: Path
) -> None:
    learner = build(model, **more)
    learn(faces, learner, first=0, last=3)
    if learner.steps_on_score:
        learner.scheduler.step(1.0)
        learner.scheduler.step(2.0)
    progress = saved(launch, learner, RunFolder(tmp_path), update=3)

    other = build(model, **more, seed=43)  # other first weights, as if nothing had been built the same
    assert not torch.equal(weight(other), weight(learner))
    if other.average:
        other.average.num_updates = 99
    assert restore(launch, other, state_of(RunFolder(tmp_path)), data_key="these photos") == progress
    parts = everything(launch, learner)
    assert assert_same(parts, everything(launch, other)) > 10
    strides = {value.stride() for value in parts["weights"].values() if value.ndim == 4 and value.shape[2] > 1}
    assert any(stride[1] == 1 for stride in strides)  # channels last, which a state on disk does not know

    for one in (learner, other):
        learn(faces, one, first=3, last=7)
        if one.steps_on_score:
            one.scheduler.step(3.0)
            assert one.scheduler.num_bad_epochs == 0 and one.scheduler.best == 1.0
    assert not torch.equal(parts["weights"][NAME[model]], weight(learner, NAME[model]))
    assert assert_same(everything(launch, learner), everything(launch, other)) > 10


@pytest.mark.parametrize(("scheduler", "arguments"), [("warmup_cosine", "{}"), ("OneCycleLR", "{max_lr: 0.01}")])
def test_a_run_that_goes_on_for_more_epochs_has_their_schedule(
    scheduler: str, arguments: str, launch: Launch, faces: Faces, build: Build, tmp_path: Path
) -> None:
    more = {"scheduler": scheduler, "scheduler_args": arguments, "optimizer": "SGD"}
    learner = build("convnext", **more, epochs=1)
    learn(faces, learner, first=0, last=7)
    saved(launch, learner, RunFolder(tmp_path), epoch=2)
    longer = build("convnext", **more, epochs=2)
    restore(launch, longer, state_of(RunFolder(tmp_path)), data_key="these photos")
    learn(faces, longer, first=0, last=7)
    reference = build("convnext", **more, epochs=2)
    for _ in range(14):
        reference.optimizer.step()
        reference.scheduler.step()
    rate, expected = (one.optimizer.param_groups[0]["lr"] for one in (longer, reference))
    assert rate == expected < 0.001


NAME = {"vit": "classifier.weight", "convnext": "classifier.weight", "auto": "classifier.1.weight"}


def weight(learner: Learner, name: str | None = None) -> Tensor:
    """Returns one of the weights, by default the last one of more than one dimension."""
    weights = learner.network.state_dict()
    return weights[name or [key for key, value in weights.items() if value.ndim > 1][-1]]


def test_saving_changes_nothing_in_the_learner_not_even_before_its_first_update(
    launch: Launch, faces: Faces, build: Build, tmp_path: Path
) -> None:
    learner, other = build("vit", ema_decay=0.9), build("vit", ema_decay=0.9)
    for one in (learner, other):
        if one is other:
            saved(launch, one, RunFolder(tmp_path))
        learn(faces, one, first=0, last=2)
        if one is other:
            saved(launch, one, RunFolder(tmp_path))
        learn(faces, one, first=2, last=4)
    assert assert_same(everything(launch, learner), everything(launch, other)) > 10


@pytest.mark.parametrize("model", MODELS)
def test_the_model_of_a_state_opens_with_transformers_and_is_the_averaged_one(
    model: str, launch: Launch, faces: Faces, build: Build, tmp_path: Path
) -> None:
    learner = build(model, ema_decay=0.9)
    learn(faces, learner, first=0, last=3)
    run = RunFolder(tmp_path)
    saved(launch, learner, run)
    with learner.averaged():
        served = weights_of(learner.model)
    for _ in range(2):  # transformers empties the weights that it is given: the second time must not be without any
        write_model(learner.network, run.best, served)
    assert {path.name for path in run.best.iterdir()} == {"config.json", "model.safetensors"}
    own = weights_of(learner.model)
    assert any(not torch.equal(own[name], served[name]) for name in own)
    for folder in (run.last, run.best):
        loaded = AutoModelForImageClassification.from_pretrained(folder)
        weights = loaded.state_dict()
        assert weights.keys() == served.keys() and len(weights) > 10
        assert all(torch.equal(weights[name], value) for name, value in served.items())
        assert loaded.config.num_labels == 8


def test_the_weights_that_are_collected_are_not_the_live_ones(build: Build) -> None:
    learner = build("auto")
    collected = weights_of(learner.model)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.fill_(7.0)
    assert not any((value == 7.0).all() for value in collected.values())
    assert collected.keys() == learner.network.state_dict().keys()


def test_a_state_holds_nothing_that_can_execute_code(
    launch: Launch, faces: Faces, build: Build, tmp_path: Path
) -> None:
    learner = build("vit", ema_decay=0.9)
    learn(faces, learner, first=0, last=1)
    saved(launch, learner, RunFolder(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"last"}
    assert {path.name for path in (tmp_path / "last").iterdir()} == {
        "config.json", "manifest.json", "model.safetensors", "training.json", "training.safetensors",
        "training.yaml",
    }  # fmt: skip


# What went wrong on the disk


@pytest.fixture(scope="module")
def two_states(sample: Path, launch: Launch, faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a state of update 1, `previous`, and one of update 2, `last`."""
    folder = tmp_path_factory.mktemp("two")
    learner, _ = build_learner(config(sample, folder, "convnext"), launch, faces.data)
    for update in (0, 1, 2):
        learn(faces, learner, first=max(update - 1, 0), last=update)
        saved(launch, learner, RunFolder(folder), update=update)
    assert {path.name for path in folder.iterdir()} == {"last", "previous"}  # and no third one
    return folder


@pytest.fixture
def run(two_states: Path, tmp_path: Path) -> RunFolder:
    """Returns a run with its two newest states, to be damaged."""
    shutil.copytree(two_states, tmp_path / "exp")
    run = RunFolder(tmp_path / "exp")
    assert state_of(run).position == (1, 2) and state_of(run).folder == run.last
    return run


def cut(folder: Path) -> str:
    os.truncate(folder / "training.json", 100)
    return "training.json has 100 bytes instead of "


def empty(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return "manifest.json is missing"


@pytest.mark.parametrize("damage", [cut, empty])
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(damage: Callable[[Path], str], run: RunFolder) -> None:
    words = damage(run.last)
    state, problems = newest_state(run)
    assert state is not None and state.folder == run.previous and state.position == (1, 1)
    assert len(problems) == 1 and problems[0].startswith(f"{run.last} is damaged: {words}")


def test_a_run_whose_states_are_all_damaged_is_refused(run: RunFolder) -> None:
    first, second = cut(run.last), empty(run.previous)
    with pytest.raises(UserError) as caught:
        newest_state(run)
    title, *lines = str(caught.value).splitlines()
    assert title == f"2 problems: {run.path} has no whole state to resume from:"
    assert lines[0].startswith(f"  - {run.last} is damaged: {first}")
    assert lines[1] == f"  - {run.previous} is damaged: {second}"


def test_a_run_that_has_saved_nothing_has_no_state(tmp_path: Path) -> None:
    assert newest_state(RunFolder(tmp_path)) == (None, [])


def test_an_unfinished_state_that_is_whole_is_used_when_it_is_the_newest(run: RunFolder, two_states: Path) -> None:
    """The moment between the two renames: `last` has become `previous`, and the new one is not in place."""
    unfinished = unfinished_beside(run.last)
    shutil.rmtree(run.previous)
    run.last.rename(unfinished)
    assert state_of(run).folder == unfinished and state_of(run).position == (1, 2)
    shutil.copytree(unfinished, run.last)  # of two equal ones the one in place
    assert state_of(run).folder == run.last
    shutil.rmtree(unfinished)
    shutil.copytree(two_states / "previous", unfinished)  # an old one does not win
    assert state_of(run).folder == run.last


def test_a_state_that_was_being_written_is_ignored_in_silence(run: RunFolder) -> None:
    shutil.rmtree(run.previous)
    shutil.copytree(run.last, unfinished_beside(run.last))
    cut(unfinished_beside(run.last))
    assert state_of(run).folder == run.last
    shutil.rmtree(run.last)  # killed in the first save of all
    assert newest_state(run) == (None, [])


def test_a_kill_at_any_step_of_a_save_leaves_a_whole_state(
    run: RunFolder, launch: Launch, faces: Faces, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the disk is the last one once."""

    class Killed(BaseException):
        """Nothing catches it, as nothing catches SIGKILL."""

    learner = build("convnext")
    learn(faces, learner, first=0, last=1)
    before, met = run.path.with_name("before"), list[str]()
    run.path.rename(before)
    number = finished = 0
    while not finished:
        shutil.copytree(before, run.path)
        left = number

        def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def killing(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    met.append(name)
                    raise Killed
                return call(*arguments, **more)

            return killing

        with monkeypatch.context() as patched:
            patched.setattr(durable.shutil, "rmtree", counted("rmtree", shutil.rmtree))
            patched.setattr(durable.os, "rename", counted("rename", os.rename))
            patched.setattr(durable, "_sync", counted("sync", durable._sync))
            patched.setattr(state_module, "write_manifest", counted("manifest", durable.write_manifest))
            try:
                saved(launch, learner, run, update=3)
                finished = 1
            except Killed:
                pass
        state = state_of(run)
        assert state.position == (1, 3) if finished else state.position >= (1, 2)
        saved(launch, learner, run, update=4)  # and what it left is in nobody's way
        assert state_of(run).position == (1, 4) and state_of(run).folder == run.last
        shutil.rmtree(run.path)
        number += 1
    assert set(met) == {"rmtree", "rename", "sync", "manifest"} and met.count("rename") == 2


# What is refused


def test_a_state_of_other_photos_or_of_another_version_is_refused(run: RunFolder, launch: Launch, build: Build) -> None:
    learner = build("convnext")
    with pytest.raises(UserError, match=r"last was learnt from other photos or labels than data_dir and the lists"):
        restore(launch, learner, state_of(run), data_key="other photos")
    state = state_of(run)
    older = State(state.folder, {**state.numbers, "format": 0})
    with pytest.raises(UserError, match=r"last was written by another version of maskcls and cannot be resumed$"):
        restore(launch, learner, older, data_key="these photos")


def test_a_gpu_that_is_full_is_no_state_that_does_not_fit(
    run: RunFolder, launch: Launch, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = build("convnext")

    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(state_module.whole_state, "set_model_state_dict", full)
    with pytest.raises(torch.OutOfMemoryError):
        restore(launch, learner, state_of(run), data_key="these photos")


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("vit", {}),
        ("convnext", {"optimizer": "SGD", "optimizer_args": "{momentum: 0.9}"}),
        ("convnext", {"model_args": TINY["convnext"].replace("1, 1", "1, 2")}),
    ],
)
def test_a_state_of_another_model_or_optimizer_is_refused(
    model: str, more: dict[str, object], run: RunFolder, launch: Launch, build: Build
) -> None:
    learner = build(model, **more)
    with pytest.raises(UserError, match=rf"^{re.escape(str(run.last))} does not fit this model and optimizer: "):
        restore(launch, learner, state_of(run), data_key="these photos")


def test_weights_that_a_broken_update_has_spoilt_are_not_saved(
    run: RunFolder, launch: Launch, faces: Faces, build: Build
) -> None:
    learner = build("convnext", optimizer="SGD", lr=1e30)
    learn(faces, learner, first=0, last=3)
    with pytest.raises(NotFinite) as caught:
        saved(launch, learner, run, update=3)
    assert 2 <= caught.value.update <= 3
    assert state_of(run).position == (1, 2)
    assert not unfinished_beside(run.last).exists()


def test_progress_is_what_it_was(run: RunFolder, launch: Launch, faces: Faces, build: Build) -> None:
    learner = build("convnext")
    learn(faces, learner, first=0, last=1)
    run.log({"epoch": 1, "update": 1})
    progress = RunProgress(BestScore("loss", 0.1 + 0.2, 3), 4, 1, 12.25)
    save_state(launch, learner, progress, run, config=CONFIG, data_key="these photos")
    assert progress.log_bytes == run.metrics.stat().st_size > 10
    restored = restore(launch, learner, state_of(run), data_key="these photos")
    assert asdict(restored) == asdict(progress) and restored.best.value == 0.1 + 0.2
    numbers = json.loads((run.last / "training.json").read_text())
    assert numbers["progress"] == asdict(progress)
