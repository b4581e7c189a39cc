"""The run folder, what train.py leaves and infer.py reads, and the only place that knows the names of its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from maskcls.config import Config, load_config
from maskcls.errors import UserError, listed, reason_of
from maskcls.paths import check_writable, folder_problem, full_path, locked, read_json, write_json, write_text
from maskcls.training.environment import current_environment
from maskcls.yaml_file import read_values

if TYPE_CHECKING:
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.evaluation.findings import Findings
    from maskcls.evaluation.predictions import Predictions
    from maskcls.evaluation.selection import BestScore

NO_VALIDATION = "nobody validated it (valid_profile: none)"
FOLDS = "folds.yaml"  # lies in a folder of folds, where the name of a run says which fold it is
KEYS_OF_EVERY_VERSION = {"data_dir", "dataset_args", "model"}  # of a run's config.yaml


class Entry:
    """The path of a file or folder that has one name in every folder of a kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Any, kind: type) -> Path:
        if folder is None:  # of the class: for a folder of another kind that has a file of this name too
            return self  # type: ignore[return-value]
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """One run's files by name, and what stands in those that are not a part's own."""

    path: Path

    config = Entry("config.yaml")  # resolved
    preprocessing = Entry("preprocessing.json")  # all that inference and pictures need of it
    train_profiles = Entry("train_profiles.txt")  # the split, in the form that the keys of these names read
    valid_profiles = Entry("valid_profiles.txt")
    class_counts = Entry("class_counts.json")  # training photos per class of every head
    environment = Entry("environment.json")
    metrics = Entry("metrics.jsonl")  # the log, one JSON object a line
    best = Entry("best")  # the model of the best epoch, as transformers saves it
    predictions = Entry("valid_predictions.parquet")  # what it said about every validation photo
    decision = Entry("decision.json")  # how the probabilities become answers, fitted on these
    confusion_matrix = Entry("confusion_matrix.png")  # of these
    last = Entry("last")  # the newest state: its model, and what the run needs to resume
    previous = Entry("previous")  # the state before it, for when the newest is damaged
    finished = Entry("finished.json")  # written at the end: best epoch, scores with intervals, seconds
    curves = Entry("curves.png")
    report = Entry("report.html")
    tensorboard = Entry("tensorboard")
    wandb = Entry("wandb")  # wandb's own files
    wandb_id = Entry("wandb_id")
    lock = Entry(".lock")  # held by the process that trains here

    @classmethod
    def create(cls, model_dir: str, name: str) -> RunFolder:
        """Returns a new folder: `name`, or name1, name2, ... when it exists. Call it in one process of a launch.

        Raises UserError when model_dir is not writable, and when it is a folder of folds that has this one.
        """
        parent = Path(model_dir)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for number in count():
                path = parent / f"{name}{number or ''}"
                with suppress(FileExistsError):
                    path.mkdir()  # atomic: of two launches at the same moment one gets the next number
                    return cls(path)
                if (parent / FOLDS).exists():  # fold0 under the name fold01 would be fold 1 of them
                    raise UserError(f"{path} is there already: another command has begun to train this fold")
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
        if not run.is_run():
            raise UserError(f"{run.path} is not a run folder: its config.yaml is none that train.py wrote")
        return run

    @classmethod
    def open(cls, model_dir: str | Path) -> tuple[RunFolder, Config]:
        """Returns a run that train.py left, and its config. Raises UserError when the folder is not one."""
        run = cls.existing(model_dir)
        if not run.best.is_dir():
            raise UserError(f"{run.path} has no best/: its training ended before the first epoch did")
        return run, load_config(run.config)

    @classmethod
    def all_in(cls, folder: str | Path) -> list[RunFolder]:
        """Returns the runs that lie in a folder, by name."""
        return [run for run in map(cls, sorted(Path(folder).glob("[!.]*"))) if run.is_run()]

    def is_run(self) -> bool:
        """Returns whether train.py made the folder, whole or damaged.

        Its config says so, which may be all that was copied of a run beside best/; that of another program has other
        keys. Where it cannot be read, the other files do.
        """
        try:
            return read_values(self.config).keys() >= KEYS_OF_EVERY_VERSION
        except UserError:  # not by exists(), for which it is an error when nobody may look
            return any(os.access(path, os.F_OK) for path in (self.metrics, self.environment, self.best))

    @property
    def trained(self) -> Path:
        """The config that the newest state was trained with, which nobody edits; without a state, `config`."""
        kept = (StateFolder(folder).config for folder in (self.last, self.previous))
        return next((path for path in kept if path.is_file()), self.config)

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """Keeps every other process from training here as long as the context lasts, or the process that holds it.

        Yields None, or what a person should know: this disk has no locks. Raises UserError when another process trains
        here, or when nothing can be written.
        """
        from filelock import Timeout

        with ExitStack() as held:
            try:
                has_locks = held.enter_context(locked(self.lock, waits=False))
            except Timeout:
                raise UserError(f"{self.path} is being trained by another process") from None
            except OSError as error:
                raise UserError(f"{self.path} is not writable: {reason_of(error)}") from None
            warning = f"{self.path} lies on a disk without file locks: do not train in it twice at once"  # as some NFS
            yield None if has_locks else warning

    def reopen(self) -> None:
        """Takes back what an earlier end of the training said of the best epoch: there may be a better one now."""
        for of_the_end in (self.finished, self.decision):
            of_the_end.unlink(missing_ok=True)

    def finish(self, best: BestScore, findings: Findings | None, *, output: str, seconds: float) -> None:
        """Writes how the best epoch's probabilities become answers, then that the run has come to its end.

        findings: None where nobody validated; then it says why there are no scores. output: of the model.
        """
        from maskcls.evaluation.decision import Decision

        if findings is None:
            values: dict[str, Any] = {"criterion": None, "value": None, "epoch": best.epoch, "seconds": seconds}
            write_json(self.finished, {**values, "scores": {}, "no_scores": NO_VALIDATION})
            return
        Decision.fit(findings.predictions, output, findings.draws).save(self.decision)
        scores = {name: asdict(interval) for name, interval in findings.named_scores.items()}
        write_json(self.finished, {**asdict(best), "seconds": seconds, "scores": scores})

    def save_split(self, train: Sequence[str], valid: Sequence[str]) -> None:
        """Writes the people of both splits."""
        write_lines(self.train_profiles, train)
        write_lines(self.valid_profiles, valid)

    def read_preprocessing(self) -> Preprocessing:
        """Returns how photos become what the run's model sees; for a run of an older version, as its config says.

        Raises UserError when neither says it.
        """
        from maskcls.data.preprocessing import Preprocessing

        if self.preprocessing.exists():
            return Preprocessing.load(self.preprocessing)
        preprocessing = Preprocessing(**load_config(self.config).preprocessing)
        if not preprocessing.is_complete:
            missing = f"{self.preprocessing} does not exist, and {self.config} has no mean and std"
            raise UserError(f"{missing}: copy the file from where the run was trained, or train it again")
        return preprocessing

    def read_predictions(self) -> Predictions:
        """Returns what the best model said about the validation photos. Raises UserError when nobody knows."""
        from maskcls.evaluation.predictions import Predictions

        if not self.predictions.exists() and not self.has_validation():
            raise UserError(f"{self.path} has no predictions of people that it had not trained on: {NO_VALIDATION}")
        return Predictions.load(self.predictions)

    def has_validation(self) -> bool:
        """Returns whether anybody validates the run, by its config; a damaged one does not deny it."""
        try:
            return read_values(self.config).get("valid_profile") != "none"
        except UserError:
            return True

    def trained_people(self) -> set[str]:
        """Returns the profiles that the run learnt from; none when its list is missing."""
        return read_lines(self.train_profiles)

    def validated_people(self) -> set[str]:
        """Returns the profiles that the run was scored on; none when its list is missing."""
        return read_lines(self.valid_profiles)

    def save_environment(self, **facts: Any) -> None:
        """Writes what it runs on, and the given facts."""
        write_json(self.environment, {**current_environment(), **facts})

    def precision(self) -> str:
        """Returns the mixed precision that it was trained and validated in; no where it does not say."""
        precision = read_json(self.environment).get("mixed_precision")
        return precision if precision in ("fp16", "bf16") else "no"

    def not_finite(self, update: int) -> Path:
        """Returns where the photos of an update are named whose loss is not finite."""
        return self.path / f"not_finite_update_{update}.txt"

    def name_on_server(self) -> str:
        """Returns the run's id on the wandb server, the same whenever it resumes."""
        if not self.wandb_id.exists():
            write_text(self.wandb_id, uuid4().hex[:8])
        return self.wandb_id.read_text(encoding="utf-8")

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
        is_whole = len(logged) >= length
        if logged:
            os.truncate(self.metrics, length if is_whole else logged.rfind(b"\n") + 1)
        if is_whole:
            return ""
        return (
            f"{self.metrics} has {len(logged):,} bytes of the {length:,} that it had when the state was saved: "
            "its last lines are lost, and with them a part of the curves"
        )

    def logged(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Returns the lines of metrics.jsonl, and the numbers (from 1) of those that are no JSON object."""
        text = self.metrics.read_text(encoding="utf-8", errors="replace") if self.metrics.exists() else ""
        lines, unreadable = [], []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if isinstance(values, dict):
                lines.append(values)
            else:
                unreadable.append(number)
        return lines, unreadable

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl. Raises UserError for one that is no JSON object."""
        lines, unreadable = self.logged()
        if unreadable:
            raise UserError(f"{self.metrics}:{unreadable[0]} is no line of a log: delete that line")
        return lines


@dataclass(frozen=True)
class StateFolder:
    """The files of a state by name, which lie beside the model that transformers saves."""

    path: Path

    config = Entry("training.yaml")  # that it was trained with, which nobody edits
    tensors = Entry("training.safetensors")  # weights, their moving average, the optimizer
    numbers = Entry("training.json")  # everything else


def check_outputs(config: Config, run: RunFolder | None) -> None:
    """Raises UserError when a run cannot write its folder: that of `run`, or a new one in model_dir. Leaves nothing."""
    check_writable("run folder" if run else "model_dir", run.path if run else Path(config.model_dir))
    if run and (read_only := [path.name for path in sorted(run.path.iterdir()) if not os.access(path, os.W_OK)]):
        raise UserError(f"run folder {run.path} is not writable: {listed(read_only)} may not be changed")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text file whole, or raises OSError and leaves what was there."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_lines(path: Path) -> set[str]:
    """Returns the lines of a text file; none when it is missing. Raises UserError when it is damaged."""
    try:
        return set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not what train.py wrote: {error}") from None
