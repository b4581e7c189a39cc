"""The run folder, what train.py leaves and infer.py reads: config.yaml, best/, last/, metrics.jsonl, the split."""

from __future__ import annotations

import csv
import errno
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from maskcls.config import MAY_CHANGE, Config, load_config
from maskcls.errors import UserError, joined, listed, reason_of
from maskcls.machine import num_cores, processor
from maskcls.paths import folder_problem, full_path, output_problem, written_whole

if TYPE_CHECKING:
    from torch import Tensor

    from maskcls.evaluation.calibration import Calibration
    from maskcls.evaluation.intervals import Interval
    from maskcls.evaluation.selection import BestScore

KEYS_OF_EVERY_VERSION = {"data_dir", "dataset_args", "model"}  # of a run's config.yaml


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
            raise UserError(f"model_dir {model_dir} is not writable: {reason_of(error)}") from None
        raise AssertionError

    @classmethod
    def existing(cls, folder: str | Path) -> RunFolder:
        """Returns a folder that train.py made. Raises UserError when it is none."""
        run = cls(full_path(folder))
        if problem := folder_problem(run.path):
            raise UserError(f"run folder {run.path} {problem}")
        if not run.config.exists():
            raise UserError(f"{run.path} is not a run folder: it has no config.yaml")
        if not is_run(run.path):
            raise UserError(f"{run.path} is not a run folder: its config.yaml is none that train.py wrote")
        return run

    @classmethod
    def resume(cls, folder: str, config_path: str | None, overrides: Sequence[str]) -> tuple[RunFolder | None, Config]:
        """Returns the run to go on with and its config: that of the run, or of `config_path`, with the overrides.

        `auto` for a folder looks for the newest unfinished run with the name and config of `config_path`; None: there
        is none. Raises UserError when the folder is no run, or when a key differs that a run cannot change.
        """
        if folder == "auto":
            if config_path is None:
                raise UserError("--resume auto looks for a run of a config: give --config too")
            config = load_config(config_path, overrides)
            for run in cls.all_of(config.model_dir, config.name):
                if not run.finished.exists() and not (former := load_config(run.trained)).differences(config):
                    return run, _with_statistics_of(former, config)
            return None, config
        run = cls.existing(folder)
        former, config = load_config(run.trained), load_config(config_path or run.config, overrides)
        if problems := former.differences(config):
            edited = "" if config_path or overrides else f"\n{run.config} has been edited since"
            raise UserError(
                joined(
                    [f"{run.path} cannot resume with another config: {problem}" for problem in problems], "differences"
                )
                + f"{edited}\nMay change: {', '.join(sorted(MAY_CHANGE))}"
            )
        return run, _with_statistics_of(former, config)

    @classmethod
    def all_of(cls, model_dir: str, name: str) -> list[RunFolder]:
        """Returns the run folders that `create` made for a name, newest first."""
        pattern = re.compile(re.escape(name) + "[0-9]*")
        folders = [path for path in Path(model_dir).glob("*") if pattern.fullmatch(path.name)]
        runs = [cls(path) for path in folders if (path / "config.yaml").is_file()]
        return sorted(runs, key=lambda run: run.config.stat().st_mtime_ns, reverse=True)

    @classmethod
    def open(cls, model_dir: str | Path) -> tuple[RunFolder, Config]:
        """Returns a run that train.py left, and its config. Raises UserError when the folder is not one."""
        run = cls.existing(model_dir)
        if not run.best.is_dir():
            raise UserError(f"{run.path} has no best/: its training ended before the first epoch did")
        return run, load_config(run.config)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def trained(self) -> Path:
        """The config that the newest state was trained with, which nobody edits; without a state, `config`."""
        kept = (StateFolder(folder).config for folder in (self.last, self.previous))
        return next((path for path in kept if path.is_file()), self.config)

    @property
    def best(self) -> Path:
        """The model of the best epoch, as transformers saves it."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The newest state of the run: its model, and what it needs to go on."""
        return self.path / "last"

    @property
    def previous(self) -> Path:
        """The state before it, for when the newest is damaged."""
        return self.path / "previous"

    @property
    def finished(self) -> Path:
        """Written when the run has come to its end: best epoch, scores with intervals, temperatures, seconds."""
        return self.path / "finished.json"

    @property
    def predictions(self) -> Path:
        """What the best epoch's model said about every validation photo."""
        return self.path / "valid_predictions.parquet"

    @property
    def report(self) -> Path:
        """What a person opens in a browser."""
        return self.path / "report.html"

    @property
    def metrics(self) -> Path:
        """The log of the run, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """Keeps every other process from training here as long as the context lasts, or the process that holds it.

        Yields None, or what a person should know: this disk has no locks. Raises UserError when another process trains
        here, or when nothing can be written.
        """
        from filelock import FileLock, Timeout

        lock, warning = FileLock(self.path / ".lock"), None
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"{self.path} is being trained by another process") from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise UserError(f"{self.path} is not writable: {reason_of(error)}") from None
            warning = f"{self.path} lies on a disk without file locks: do not train in it twice at once"  # NFS
        try:
            yield warning
        finally:
            lock.release()

    def finish(
        self,
        best: BestScore,
        intervals: Mapping[str, Interval],
        calibrations: Mapping[str, Calibration],
        *,
        seconds: float,
    ) -> None:
        """Writes that the run has come to its end, with the scores and the temperatures of its best epoch."""
        scores = {name: asdict(interval) for name, interval in intervals.items()}
        temperatures = {head: calibration.temperature for head, calibration in calibrations.items()}
        write_json(self.finished, {**asdict(best), "seconds": seconds, "scores": scores, "temperatures": temperatures})

    def save_split(self, train: Sequence[str], valid: Sequence[str]) -> None:
        """Writes the two profile lists, in the form that train_profile and valid_profile read."""
        (self.path / "train_profiles.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
        (self.path / "valid_profiles.txt").write_text("\n".join(valid) + "\n", encoding="utf-8")

    def trained_people(self) -> set[str]:
        """Returns the profiles that the run learnt from; none when its list is missing."""
        path = self.path / "train_profiles.txt"
        return set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()

    def save_environment(self, **facts: Any) -> None:
        """Writes environment.json: versions, git commit, hardware, and the given facts."""
        import torch

        packages = ("torch", "accelerate", "transformers", "datasets", "evaluate", "pillow", "wandb", "numpy")
        gpus = (
            [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            if torch.cuda.is_available()
            else []
        )
        write_json(self.path / "environment.json", {
            "command": sys.argv, "python": platform.python_version(), "platform": platform.platform(),
            "packages": {name: _version(name) for name in packages}, "git_commit": _git_commit(),
            "cpu": processor(), "cores": num_cores(), "gpus": gpus, **facts,
        })  # fmt: skip

    def precision(self) -> str:
        """Returns the mixed precision that it was trained and validated in; no where it does not say."""
        try:
            precision = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))["mixed_precision"]
        except (OSError, ValueError, KeyError, TypeError):
            return "no"
        return precision if precision in ("fp16", "bf16") else "no"

    def log(self, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def log_bytes(self) -> int:
        """Returns the length of metrics.jsonl, which is on the disk from then on."""
        if not self.metrics.exists():
            return 0
        with self.metrics.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut_log(self, length: int) -> str:
        """Takes back what was logged after a state was saved with so many bytes of log.

        Returns what a person should know: nothing, or that somebody has shortened the log, of which whole lines stay.
        """
        logged = self.metrics.read_bytes() if self.metrics.exists() else b""
        if len(logged) >= length:
            if logged:
                os.truncate(self.metrics, length)
            return ""
        if logged:
            os.truncate(self.metrics, logged.rfind(b"\n") + 1)
        return (
            f"{self.metrics} has {len(logged):,} bytes of the {length:,} that it had when the state was saved: "
            "its last lines are lost, and with them a part of the curves"
        )

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl. Raises UserError for one that is no JSON object."""
        text = self.metrics.read_text(encoding="utf-8", errors="replace") if self.metrics.exists() else ""
        history = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if not isinstance(values, dict):
                raise UserError(f"{self.metrics}:{number} is no line of a log: delete that line")
            history.append(values)
        return history


@dataclass(frozen=True)
class StateFolder:
    """The files of a state by name, which lie beside the model that transformers saves."""

    path: Path

    @property
    def config(self) -> Path:
        """The config that it was trained with, which nobody edits."""
        return self.path / "training.yaml"

    @property
    def tensors(self) -> Path:
        """Weights, their moving average and the optimizer."""
        return self.path / "training.safetensors"

    @property
    def numbers(self) -> Path:
        """Everything else."""
        return self.path / "training.json"


def _with_statistics_of(former: Config, config: Config) -> Config:
    """Returns the config with the mean and std that the run has computed."""
    mean, std = (former.dataset_args.get(name) for name in ("mean", "std"))
    return config.with_statistics(mean, std) if mean and std else config


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the keys of a run's config.yaml as they stand there, so that runs of other versions can be read too.

    Raises UserError when it is missing or no YAML mapping.
    """
    path = folder / "config.yaml"
    try:
        # The C loader reads 20 configs in a tenth of the time; floats as `Config.save` writes them need no more.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise UserError(f"{path}: {reason_of(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines")
    return {str(key): value for key, value in values.items()}


def is_run(folder: Path) -> bool:
    """Returns whether train.py made a folder, whole or damaged: other programs have a config.yaml, too."""
    try:
        return read_config(folder).keys() >= KEYS_OF_EVERY_VERSION
    except UserError:  # not by exists(), for which it is an error when nobody may look
        return any(os.access(folder / name, os.F_OK) for name in ("metrics.jsonl", "environment.json", "best"))


def check_outputs(config: Config, run: RunFolder | None) -> None:
    """Raises UserError when a run cannot write its folder: that of `run`, or a new one in model_dir. Leaves nothing."""
    name, folder = ("run folder", run.path) if run else ("model_dir", Path(config.model_dir))
    problem = output_problem(folder)
    if run and problem is None:
        locked = [path.name for path in sorted(run.path.iterdir()) if not os.access(path, os.W_OK)]
        problem = f"{listed(locked)} may not be changed" if locked else None
    if problem:
        raise UserError(f"{name} {folder} is not writable: {problem}")


def check_writable(folder: Path) -> None:
    """Makes `folder` when it is missing. Raises UserError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = output_problem(folder)
    except OSError as error:
        problem = reason_of(error)
    if problem:
        raise UserError(f"output folder {folder} is not writable: {problem}")


def save_answers(folder: Path, image_ids: Sequence[str], answers: Tensor, probabilities: Mapping[str, Tensor]) -> None:
    """Writes output.csv (ImageID, ans) and probabilities.parquet (ImageID, then {head}_{label} columns, float32).

    answers: (N,) the headline's labels; probabilities: head -> (N, K). Both files appear whole or not at all, and what
    an earlier prediction said about its scores goes. Raises what `written_whole` does.
    """
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {"ImageID": list(image_ids)}
    columns |= {
        f"{head}_{label}": values[:, label].numpy()
        for head, values in probabilities.items()
        for label in range(values.shape[1])
    }
    with (
        written_whole(folder / "output.csv") as answers_file,
        written_whole(folder / "probabilities.parquet") as probabilities_file,
    ):
        with probabilities_file.open("wb") as file:  # not by its name: a:b/... would be a protocol
            parquet.write_table(pyarrow.table(columns), file)
        with answers_file.open("w", newline="", encoding="utf-8") as text:
            csv.writer(text, lineterminator="\n").writerows(
                [("ImageID", "ans"), *zip(image_ids, answers.tolist(), strict=True)]
            )
        for name in ("infer_metrics.json", "infer_confusion_matrix.png"):
            (folder / name).unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Writes indented JSON."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # wandb of a run without it
        return None


def _git_commit() -> str | None:
    """Returns the commit of the code that runs, with "+changes" when files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, encoding="utf-8", timeout=10, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails in the environment of another repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
