"""metrics.jsonl, wandb and TensorBoard behind one call, on the main process; a failing tracker never ends the run."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate.tracking import TensorBoardTracker

from maskcls.config import Config
from maskcls.errors import Fault, Stopped, in_a_line
from maskcls.training.run_folder import RunFolder
from maskcls.training.wandb_tracker import Wandb, leave_wandb
from maskcls.words import Words


class Tracking:
    """metrics.jsonl and the trackers of a run, in the main process."""

    def __init__(self, trackers: list[Any], run: RunFolder, notes: list[str]) -> None:
        self._trackers, self._run = trackers, run
        self.notes = notes  # what a person should know: where to look, what fell back

    @classmethod
    def start(cls, config: Config, run: RunFolder, word: Words) -> Tracking:
        """Returns the trackers that the config asks for, started; files of an earlier start go. In the main process."""
        started = [kind.start(config, run, word) for kind in TRACKERS]
        trackers = [tracker for tracker, _ in started if tracker is not None]
        return cls(trackers, run, [note for _, note in started if note])

    def catch_up(self) -> None:
        """Gives the trackers what metrics.jsonl holds, when a run resumes, so that every step is there once: their
        files are written anew, and a wandb server ignores the steps that it has.
        """
        for line in self._run.history():
            self._to_trackers(line)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, Stopped):
            self.finish(exit_code=Stopped.exit_code)
        else:  # nothing may delay the message for long, and nothing may follow it
            leave_wandb(Fault.exit_code)

    def log(self, values: Mapping[str, float], *, epoch: int, update: int) -> None:
        """Logs numbers at an optimizer update counted from the start of the run; epochs count from 1."""
        line = {"epoch": epoch, "update": update, **values}
        self._run.log(line)
        self._to_trackers(line)

    def log_pictures(self, pictures: Mapping[str, np.ndarray], *, update: int) -> None:
        """Logs pictures, (H, W, 3) uint8 each."""
        self._each(lambda tracker: tracker.log_pictures(pictures, update))

    @property
    def wandb_run(self) -> Any:
        """The wandb run, for what only wandb can show; None without one, or once it has failed."""
        return next((tracker.run for tracker in self._trackers if tracker.name == "wandb"), None)

    def flush(self) -> None:
        """Gives the trackers the last update as far as it is known, for what is to be added to it."""
        self._each(lambda tracker: tracker.flush())

    def finish(self, exit_code: int = 0) -> None:
        """Ends the trackers; what cannot be uploaded in time stays in the run folder and can be synced later."""
        self._each(lambda tracker: tracker.finish(exit_code))
        self._trackers.clear()
        leave_wandb(exit_code)

    def _to_trackers(self, line: Mapping[str, float]) -> None:
        values = {name: value for name, value in line.items() if name != "update"}
        self._each(lambda tracker: tracker.log(values, int(line["update"])))

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:  # whatever a tracker's own stack raises: the run continues without it
                self._trackers.remove(tracker)
                what, command = f"{tracker.name} stopped: {in_a_line(error)}", tracker.sync_command()
                self.notes.append(f"{what}. To upload it later: {command}" if command else what)
                print(f"warning: {what}. The run continues; metrics.jsonl holds everything.")


@dataclass(frozen=True)
class TensorBoard:
    """Events in the run folder, written anew at every start."""

    tracker: Any
    name = "tensorboard"

    @classmethod
    def start(cls, config: Config, run: RunFolder, word: Words) -> tuple[TensorBoard | None, str]:
        """Returns the tracker, or None, and what to report about it."""
        if not config.tensorboard:
            return None, ""
        shutil.rmtree(run.tensorboard, ignore_errors=True)
        tracker = TensorBoardTracker(run_name=run.tensorboard.name, logging_dir=str(run.path))
        tracker.start()
        return cls(tracker), shlex.join(["tensorboard", "--logdir", str(run.path)])

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Takes values of a step."""
        self.tracker.log(values, step=step)

    def log_pictures(self, pictures: Mapping[str, np.ndarray], step: int) -> None:
        """Takes pictures of a step."""
        self.tracker.log_images(pictures, step=step, dataformats="HWC")

    def flush(self) -> None:
        """Holds nothing back."""

    def finish(self, exit_code: int) -> None:
        """Ends the file."""
        self.tracker.finish()

    def sync_command(self) -> str:
        """Returns nothing: the files are where they belong."""
        return ""


# Classes with what TensorBoard has: name, start, log, log_pictures, flush, finish, sync_command.
TRACKERS: tuple[Any, ...] = (TensorBoard, Wandb)
