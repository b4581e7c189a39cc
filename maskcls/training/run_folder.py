"""The run folder, what train.py leaves and infer.py reads: config.yaml, best/, last/, metrics.jsonl, the split."""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskcls.config import Config, load_config
from maskcls.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """One run's files by name."""

    path: Path

    @classmethod
    def create(cls, model_dir: str, name: str) -> RunFolder:
        """Returns a new folder: `name`, or name1, name2, ... when it exists. Call it in one process of a launch.

        Raises UserError when model_dir is not writable.
        """
        parent = Path(model_dir)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for number in count():
                path = parent / (f"{name}{number}" if number else name)
                try:
                    path.mkdir()  # atomic: of two launches at the same moment one gets the next number
                except FileExistsError:
                    continue
                return cls(path)
        except OSError as error:
            raise UserError(f"model_dir {model_dir} is not writable: {error.strerror}") from None
        raise AssertionError

    @classmethod
    def open(cls, model_dir: str) -> tuple[RunFolder, Config]:
        """Returns a run that train.py left, and its config. Raises UserError when the folder is not one."""
        run = cls(Path(model_dir))
        if not run.config.is_file():
            raise UserError(f"{model_dir} is not a run folder: it has no config.yaml")
        if not run.best.is_dir():
            raise UserError(f"{model_dir} has no best/: its training ended before the first epoch did")
        return run, load_config(run.config)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """The model of the best epoch, as transformers saves it."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The model of the last epoch."""
        return self.path / "last"

    def save_split(self, train: Sequence[str], valid: Sequence[str]) -> None:
        """Writes the two profile lists, in the form that train_profile and valid_profile read."""
        (self.path / "train_profiles.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
        (self.path / "valid_profiles.txt").write_text("\n".join(valid) + "\n", encoding="utf-8")

    def save_environment(self, **facts: Any) -> None:
        """Writes environment.json: versions, git commit, hardware, and the given facts."""
        packages = ("torch", "accelerate", "transformers", "datasets", "evaluate", "pillow", "wandb", "numpy")
        gpus = (
            [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            if torch.cuda.is_available()
            else []
        )
        write_json(self.path / "environment.json", {
            "command": sys.argv, "python": platform.python_version(), "platform": platform.platform(),
            "packages": {name: version(name) for name in packages}, "git_commit": _git_commit(),
            "cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "gpus": gpus, **facts,
        })  # fmt: skip

    def log(self, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def save_model(model: Any, folder: Path, state: Mapping[str, Any]) -> None:
    """Writes safetensors and config beside `folder` and renames them into place. Call it in one process of a launch."""
    unfinished, former = folder.with_name(f".{folder.name}.unfinished"), folder.with_name(f".{folder.name}.former")
    shutil.rmtree(unfinished, ignore_errors=True)
    own_names = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}  # as before torch.compile
    model.save_pretrained(unfinished, state_dict=own_names)
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        os.rename(folder, former)
    os.rename(unfinished, folder)
    shutil.rmtree(former, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Makes `folder` when it is missing. Raises UserError when nothing can be written there."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"output folder {folder} is not writable: {error.strerror}") from None


def save_answers(folder: Path, image_ids: Sequence[str], answers: Tensor, probabilities: Mapping[str, Tensor]) -> None:
    """Writes output.csv (ImageID, ans) and probabilities.parquet (ImageID, then {head}_{label} columns, float32).

    answers: (N,) the headline's labels; probabilities: head -> (N, K). Both files appear whole or not at all.
    """
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {"ImageID": list(image_ids)}
    columns |= {
        f"{head}_{label}": values[:, label].numpy()
        for head, values in probabilities.items()
        for label in range(values.shape[1])
    }
    parquet.write_table(pyarrow.table(columns), folder / ".probabilities.parquet")
    with (folder / ".output.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("ImageID", "ans"), *zip(image_ids, answers.tolist(), strict=True)]
        )
    for name in ("probabilities.parquet", "output.csv"):
        os.replace(folder / f".{name}", folder / name)


def write_json(path: Path, values: Any) -> None:
    """Writes indented JSON."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _git_commit() -> str | None:
    """Returns the commit of the code that runs, with "+changes" when files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
