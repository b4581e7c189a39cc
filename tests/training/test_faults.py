"""What ends a run on its way, provoked for real, says its cause, where it was, and what to set."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from maskcls.config import load_config
from maskcls.data.photo import BadPhotos
from maskcls.data.pixels import DecodedPixels, DevicePixels, MappedPixels
from maskcls.errors import Fault, UserError
from maskcls.training.builders import build_learner, open_data
from maskcls.training.faults import faults_as_messages
from maskcls.training.loop import MAX_SKIPPED, Learner, train_one_epoch
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, TINY, Faces, open_faces, overrides

BATCH = 12  # photos of an update; an epoch has 5


class Trial:
    """Everything that a run has, small, and a folder for it."""

    def __init__(self, sample: Path, folder: Path, scaler: torch.amp.GradScaler | None = None, **more: object) -> None:
        settings = [f"model_args={TINY['vit']}", *(f"{key}={value}" for key, value in more.items())]
        config = load_config(
            ROOT / "configs" / "exp.yaml", [*overrides(sample, folder, model="vit"), "model=vit", *settings]
        )
        launch = Launch()
        self.folder, launch.accelerator.scaler = folder, scaler
        data = open_data(config, launch)
        self.learner, _ = build_learner(config, launch, data)
        self.config, self.faces = config, open_faces(config, launch, data)

    def faults(self, accelerator: Any = None, run_folder: Path | None = None) -> Any:
        learner = copy(self.learner)
        learner.accelerator = accelerator or learner.accelerator
        run = RunFolder(run_folder or self.folder)
        return faults_as_messages(self.config, learner, self.faces.data, self.faces.batches, run)

    def learn(self, epoch: int = 1, *, log_interval: int = 100) -> Iterator[dict[str, float]]:
        return train_one_epoch(
            self.learner, self.faces.batches, epoch=epoch, log_interval=log_interval, max_grad_norm=self.config.max_grad_norm,
            skips_non_finite=self.config.nan_policy == "skip_update",
        )  # fmt: skip


@pytest.fixture(scope="module")
def trial(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(sample, tmp_path_factory.mktemp("trial"))


def two_processes(rank: int) -> Any:
    """What the messages ask of an accelerator, as it is on one of two processes."""
    return SimpleNamespace(
        process_index=rank, num_processes=2, is_main_process=rank == 0, device=torch.device("cpu"), scaler=None
    )


# Numbers that are not finite


class BrokenPixels:
    """Photos whose pixels make every loss NaN in some updates of an epoch (from 1)."""

    def __init__(self, faces: Faces, learner: Learner, updates: set[int]) -> None:
        self._reader, self._learner, self._updates = faces.data.train.reader, learner, updates

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        pixels = self._reader(rows)
        is_broken = self._learner.num_updates + 1 in self._updates
        return torch.full(pixels.shape, torch.nan) if is_broken else pixels


def broken(trial: Trial, *updates: int) -> Trial:
    pixels = BrokenPixels(trial.faces, trial.learner, set(updates))
    trial.faces = trial.faces.opened(pixels)
    return trial


def photos_of(trial: Trial, epoch: int, number: int) -> list[str]:
    """Returns the paths that update `number` (from 0) of an epoch learns from, as the plan deals them."""
    order = trial.faces.plan.order(epoch)[number * BATCH : (number + 1) * BATCH]
    paths = list(trial.faces.data.table["path"])
    return [paths[trial.faces.data.train.rows[position]] for position in order]


@pytest.mark.parametrize("log_interval", [1, 100])  # read at every update, and only at the epoch's end
def test_a_loss_that_is_not_finite_names_its_update_and_its_photos(
    log_interval: int, sample: Path, tmp_path: Path
) -> None:
    trial = broken(Trial(sample, tmp_path), 8, 9)  # the third and fourth of the second epoch
    for _ in trial.learn(1):
        pass
    (tmp_path / "last").mkdir()
    with pytest.raises(Fault) as caught, trial.faults():
        for _ in trial.learn(2, log_interval=log_interval):
            pass
    photos = photos_of(trial, 2, 2)
    file = tmp_path / "not_finite_update_8.txt"
    assert file.read_text().splitlines() == photos and len(photos) == BATCH
    named = ", ".join("/".join(Path(photo).parts[-2:]) for photo in photos[:10])
    assert str(caught.value) == (
        "the loss or gradient of update 8 (epoch 2, update 3 of 5) is not finite. "
        f"Its photos: {named}, and 2 more, all in {file}. The saved state is from before it. Lower lr, or set "
        f"max_grad_norm=1, or nan_policy=skip_update. To resume: python train.py --resume {tmp_path}"
    )
    assert caught.value.is_shared and caught.value.exit_code == 3


def test_photos_are_named_without_a_look_at_them(sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample, tmp_path / "sample")
    trial = Trial(tmp_path / "sample", tmp_path)
    for photo in trial.faces.data.table["path"]:
        Path(photo).write_bytes(b"gone since the run began")
    assert trial.faces.data.train.column("path")[trial.faces.plan.order(1)[:BATCH]].tolist() == photos_of(trial, 1, 0)


def test_only_the_main_process_writes_the_list_of_photos(sample: Path, tmp_path: Path) -> None:
    trial = broken(Trial(sample, tmp_path), 1)
    with pytest.raises(Fault, match="of update 1 "), trial.faults(two_processes(1)):
        list(trial.learn(log_interval=1))
    assert list(tmp_path.glob("not_finite*")) == []


def test_skipped_updates_are_reported_and_leave_the_weights_as_they_were(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = broken(Trial(sample, tmp_path, nan_policy="skip_update", ema_decay=0.9), 2, 4)
    before, lines, rates = [], [], []
    capsys.readouterr()
    with trial.faults():
        for values in trial.learn(log_interval=5):
            before.append([parameter.detach().clone() for parameter in trial.learner.network.parameters()])
            rates.append(trial.learner.scheduler.last_epoch)
            lines += [values] if values else []
    changed = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairwise(before)]
    assert changed == [False, True, False, True]  # updates 2 to 5
    assert all(parameter.isfinite().all() for parameter in before[-1])
    assert capsys.readouterr().out.splitlines() == [
        "skipped update 2: its gradient is not finite", "skipped update 4: its gradient is not finite",
    ]  # fmt: skip
    assert (trial.learner.num_updates, trial.learner.num_skipped) == (5, 2)
    assert rates == [1, 1, 2, 2, 3] and trial.learner.average and trial.learner.average.num_updates == 3
    assert len(lines) == 1 and np.isfinite(list(lines[0].values())).all()


def test_at_most_ten_updates_of_an_epoch_are_skipped(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = broken(Trial(sample, tmp_path, nan_policy="skip_update", train_batch_size=4), *range(3, 100))
    with pytest.raises(Fault) as caught, trial.faults():
        list(trial.learn())
    assert MAX_SKIPPED == 10
    assert capsys.readouterr().out.count("skipped update") == 10
    assert str(caught.value).startswith("the loss or gradient of update 13 (epoch 1, update 13 of 17) is not finite. ")
    assert "Lower lr, or set max_grad_norm=1. To resume" in str(caught.value)  # what is set already is not advised


def test_every_epoch_may_skip_its_ten(sample: Path, tmp_path: Path) -> None:
    trial = broken(Trial(sample, tmp_path, nan_policy="skip_update", train_batch_size=5), *range(1, 9), *range(15, 23))
    with trial.faults():
        for epoch in (1, 2):
            list(trial.learn(epoch))
            assert trial.learner.num_skipped == 8
    assert trial.learner.num_updates == 28


# Memory


def test_endless_overflow_of_fp16_says_what_to_train_with(sample: Path, tmp_path: Path) -> None:
    trial = Trial(sample, tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    next(trial.learner.network.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(Fault) as caught, trial.faults():
        for _ in trial.learn():
            pass
    assert str(caught.value) == (
        "fp16 overflowed in update 3 and before, however little the loss was scaled up. Start with --mixed_precision "
        "bf16 (or no, on GPUs without bf16), or lower lr. To resume: python train.py --resume " + str(tmp_path)
    )
    assert caught.value.is_shared


def allocate_too_much() -> NoReturn:
    torch.empty(2**55)
    raise AssertionError


def allocate_too_much_in_python() -> NoReturn:
    bytearray(2**62)
    raise AssertionError


def allocate_too_much_on_a_gpu() -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(
    "allocate", [allocate_too_much, allocate_too_much_in_python, allocate_too_much_on_a_gpu]
)  # fmt: skip
def test_memory_that_is_not_there_says_where_how_many_photos_and_what_to_set(
    allocate: Callable[[], NoReturn], trial: Trial
) -> None:
    with pytest.raises(Fault) as caught, trial.faults():
        allocate()
    message = re.sub(r"peak of \d+\.\d\d GB", "peak of X GB", str(caught.value))
    assert message == (
        "cpu ran out of memory in update 1, with 12 photos at once, after a peak of X GB. Set "
        "max_device_batch_size=6: the updates stay the same. "
        f"To resume: python train.py --resume {trial.folder} max_device_batch_size=6"
    )
    assert 0.05 < float(re.search(r"peak of ([\d.]+)", str(caught.value))[1]) < 1000  # type: ignore[index]


def test_what_to_set_counts_from_what_a_pass_took(sample: Path, tmp_path: Path) -> None:
    trial = Trial(sample, tmp_path, max_device_batch_size=5)
    list(trial.learn())
    with pytest.raises(Fault) as caught, trial.faults(two_processes(1)):
        allocate_too_much()
    # 12 photos in passes of 4, although 5 were allowed
    assert re.match(r"cpu ran out of memory in update 6, with 4 photos at once, ", str(caught.value))
    assert str(caught.value).endswith(f"python train.py --resume {tmp_path} max_device_batch_size=2")


def test_memory_that_a_prediction_lacks_is_reported_as_such(trial: Trial) -> None:
    trial.learner.model.eval()
    try:
        with pytest.raises(Fault) as caught, trial.faults():
            allocate_too_much()
    finally:
        trial.learner.model.train()
    num_valid = len(trial.faces.data.valid)
    assert f"ran out of memory in the prediction after update 0, with {num_valid} photos at once" in str(caught.value)
    assert f" Set valid_batch_size={num_valid // 2}: the answers stay the same. To resume: " in str(caught.value)
    assert str(caught.value).endswith(f"valid_batch_size={num_valid // 2}")


def test_where_one_photo_is_too_much_other_things_are_named(sample: Path, tmp_path: Path) -> None:
    trial = Trial(sample, tmp_path, max_device_batch_size=1)
    advice = r"GB\. Set a smaller image_size or a smaller model\. To resume: .*exp$"
    with pytest.raises(Fault, match=advice) as caught, trial.faults(run_folder=tmp_path / "exp"):
        allocate_too_much()
    assert "with 1 photo at once" in str(caught.value) and "max_device_batch_size" not in str(caught.value)


def test_photos_that_stay_on_the_device_are_named_when_its_memory_is_full(sample: Path, tmp_path: Path) -> None:
    trial = Trial(sample, tmp_path)
    mapped = trial.faces.data.train.reader
    assert isinstance(mapped, MappedPixels)
    trial.faces = trial.faces.opened(DevicePixels(mapped, torch.device("cpu")))
    advice = r"; cache=none leaves 0\.0 GB of photos out of cpu, and decodes them in every epoch\."
    with pytest.raises(Fault, match=advice), trial.faults():
        allocate_too_much()


# Files


def test_a_photo_that_vanishes_is_named(sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample / "images", tmp_path / "images")
    trial = Trial(sample, tmp_path, data_dir=tmp_path / "images", cache="none")
    assert isinstance(trial.faces.data.train.reader, DecodedPixels)
    gone = Path(photos_of(trial, 1, 1)[3])
    updates = trial.learn()
    next(updates)
    gone.unlink()
    with pytest.raises(Fault) as caught, trial.faults(two_processes(1)):
        next(updates)
    assert re.match(rf"{re.escape(str(gone))}: .*No such file or directory", str(caught.value))
    assert str(caught.value).endswith(f". To resume: python train.py --resume {tmp_path}")


@pytest.mark.parametrize("is_shared", [False, True])  # seen by one process while it trains, by all in a validation
def test_bad_photos_that_all_processes_know_of_are_reported_once(is_shared: bool, trial: Trial) -> None:
    bad = BadPhotos("a.jpg: is not an image")
    with pytest.raises(Fault, match=r"^a\.jpg: is not an image\. To resume: ") as caught, trial.faults():
        raise bad.of_launch() if is_shared else bad
    assert caught.value.is_shared is is_shared


def test_a_file_of_the_run_that_cannot_be_written_is_named(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(Fault) as caught, trial.faults(run_folder=tmp_path):
        (tmp_path / "metrics.jsonl").open("a")
    assert str(caught.value) == (
        f"{tmp_path}/metrics.jsonl: Is a directory. "  # and nothing of a saved state: there is none
        f"To resume: python train.py --resume {tmp_path}"
    )


def test_a_full_disk_is_reported(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    words = rf"^{re.escape(str(tmp_path))}: No space left on device\. The last state that was saved is whole\."
    faults = trial.faults(two_processes(0), tmp_path)
    with pytest.raises(Fault, match=words), faults, open("/dev/full", "w") as file:
        file.write("x")


def test_a_reader_that_has_left_is_no_fault_of_the_run_folder(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head -1` does
    monkeypatch.setattr("sys.stdout", os.fdopen(write, "w"))
    with pytest.raises(Fault, match=r"^standard output: Broken pipe\. To resume: "), trial.faults(run_folder=tmp_path):
        print("epoch", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # takes what the closing file still holds


# Partners


@pytest.mark.parametrize(
    "words",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:33205",
        "[pair.cc:553] Connection reset by peer",
        "NCCL communicator was aborted on rank 1.",
        "Timed out waiting 1800000ms for recv operation to complete",
        "writev [127.0.0.1]:4242: Broken pipe",
    ],
)
def test_a_partner_that_is_gone_is_not_reported_as_this_ones_mistake(
    words: str, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(words)), trial.faults():  # one process has no partner
        raise RuntimeError(words)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Fault) as caught, trial.faults(two_processes(1)):
        raise RuntimeError(words)
    assert str(caught.value) == "another process of this launch has ended; its own message says why"
    assert not caught.value.is_shared


def test_mistakes_of_the_code_and_messages_that_are_clear_already_pass_through(trial: Trial) -> None:
    with pytest.raises(RuntimeError, match=r"^The size of tensor a \(2\) must match"), trial.faults(two_processes(0)):
        torch.ones(2) + torch.ones(3)
    with pytest.raises(UserError, match=r"^told already$"), trial.faults():
        raise UserError("told already")
    with pytest.raises(ZeroDivisionError), trial.faults():
        _ = 1 / 0


def test_what_is_only_tried_out_has_nothing_to_resume(trial: Trial) -> None:
    faults = faults_as_messages(trial.config, trial.learner, trial.faces.data, trial.faces.batches, None)
    with pytest.raises(Fault, match=r"Set max_device_batch_size=6: the updates stay the same\.$"), faults:
        allocate_too_much()
