"""metrics.jsonl, wandb and TensorBoard behind one call, on the main process; a failing tracker never ends the run."""

from __future__ import annotations

import netrc
import os
import shlex
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import uuid4

import numpy as np

from maskcls.config import Config
from maskcls.errors import Stopped
from maskcls.training.run_folder import RunFolder

WANDB_ID = "wandb_id"  # file of the run folder: the same run on the server, whenever it goes on
SECONDS_TO_REACH = 3.0  # for the connection to the wandb server
SECONDS_TO_START = 15.0  # for wandb.init online
SECONDS_TO_FINISH = 60.0  # for the upload of the rest at the end


class Tracking:
    """metrics.jsonl and the trackers of a run. `Tracking.off()` does nothing, for every process but the main one."""

    def __init__(self, trackers: list[Any], run: RunFolder | None, notes: list[str]) -> None:
        self._trackers, self._run = trackers, run
        self.notes = notes  # what a person should know: where to look, what fell back

    @classmethod
    def off(cls) -> Tracking:
        """Returns the null object."""
        return cls([], None, [])

    @classmethod
    def start(cls, config: Config, run: RunFolder) -> Tracking:
        """Returns the trackers that the config asks for, started; files of an earlier start go. In the main process."""
        from accelerate.tracking import TensorBoardTracker

        trackers: list[Any] = []
        notes = []
        if config.tensorboard:
            shutil.rmtree(run.path / "tensorboard", ignore_errors=True)
            tensorboard = TensorBoardTracker(run_name="tensorboard", logging_dir=str(run.path))
            tensorboard.start()
            trackers.append(tensorboard)
            notes.append(f"tensorboard --logdir {run.path}")
        if "disabled" not in (config.wandb, os.environ.get("WANDB_MODE")):
            for former in run.path.glob("wandb/offline-run-*"):
                shutil.rmtree(former, ignore_errors=True)
            wandb_tracker, note = _start_wandb(config, run.path)
            trackers += [wandb_tracker] if wandb_tracker else []
            notes.append(note)
        return cls(trackers, run, notes)

    def catch_up(self) -> None:
        """Gives the trackers what metrics.jsonl holds, when a run goes on, so that every step is there once: their
        files are written anew, and a wandb server passes over the steps that it has.
        """
        for line in self._run.history() if self._run else []:
            self._to_trackers(line)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Stopped):  # after a fault nothing may delay the message
            self.finish()

    def log(self, values: Mapping[str, float], *, epoch: int, update: int) -> None:
        """Logs numbers at an optimizer update counted from the start of the run; epochs count from 1."""
        line = {"epoch": epoch, "update": update, **values}
        if self._run is not None:
            self._run.log(line)
        self._to_trackers(line)

    def log_pictures(self, pictures: Mapping[str, np.ndarray], *, update: int) -> None:
        """Logs pictures, (H, W, 3) uint8 each."""
        batches = {name: picture[None] for name, picture in pictures.items()}
        form = {"tensorboard": {"dataformats": "NHWC"}}
        self._each(lambda tracker: tracker.log_images(batches, step=update, **form.get(tracker.name, {})))

    @property
    def wandb_run(self) -> Any:
        """The wandb run, for what only wandb can show; None without one, or once it has failed."""
        return next((tracker.run for tracker in self._trackers if tracker.name == "wandb"), None)

    def finish(self) -> None:
        """Ends the trackers; what cannot be uploaded in time stays in the run folder and can be synced later."""
        self._each(lambda tracker: tracker.finish())

    def _to_trackers(self, line: Mapping[str, float]) -> None:
        values = {name: value for name, value in line.items() if name != "update"}
        self._each(lambda tracker: tracker.log(values, step=int(line["update"])))

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:  # whatever a tracker's own stack raises: the run goes on without it
                self._trackers.remove(tracker)
                later = f". To upload it later: {sync_command(tracker)}" if tracker.name == "wandb" else ""
                self.notes.append(f"{tracker.name} stopped: {error}{later}")
                print(f"warning: {tracker.name} stopped: {error}. The run goes on; metrics.jsonl holds everything.")


def _start_wandb(config: Config, run_folder: Path) -> tuple[Any, str]:
    """Returns Accelerate's wandb tracker (or None) and what to tell about it."""
    from accelerate.tracking import WandBTracker

    os.environ.setdefault("WANDB_SILENT", "true")  # its own lines would break into the progress bar; ours say the same
    mode, reason = wandb_mode(config.wandb)
    for attempt in dict.fromkeys([mode, "offline"]):
        try:
            tracker = _wandb_tracker(WandBTracker, config, run_folder, attempt)
        except Exception as error:  # wandb raises its own errors, requests' and OSError
            reason = f"online failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            (run_folder / WANDB_ID).unlink(missing_ok=True)  # wandb's service does not give it to a second try
            continue
        if attempt == "online":
            return tracker, f"wandb: {tracker.run.url}"
        return tracker, f"wandb offline ({reason}): {sync_command(tracker)}"
    return None, f"wandb is off: {reason}"


def _wandb_tracker(tracker_class: Any, config: Config, run_folder: Path, mode: str) -> Any:
    import wandb

    id_file = run_folder / WANDB_ID
    if not id_file.exists():
        id_file.write_text(uuid4().hex[:8])
    fold = [] if config.valid_profile else [f"fold {config.fold} of {config.num_folds}"]
    tracker = tracker_class(
        config.wandb_project, name=run_folder.name, group=config.name, id=id_file.read_text(),
        resume="allow" if mode == "online" else None, tags=[config.output, config.model, *fold], dir=str(run_folder),
        mode=mode,
        settings=wandb.Settings(
            init_timeout=SECONDS_TO_START, finish_timeout=SECONDS_TO_FINISH, finish_timeout_raises=True, console="off",
        ),
    )  # fmt: skip
    tracker.start()
    tracker.store_init_configuration(config.model_dump())
    return tracker


def wandb_mode(wanted: str) -> tuple[str, str]:
    """Returns the mode to start in, online or offline, and why. Takes at most SECONDS_TO_REACH."""
    if wanted == "offline" or os.environ.get("WANDB_MODE") == "offline":
        return "offline", "as configured"
    import wandb

    settings = wandb.setup().settings
    address = urlparse(settings.base_url)
    if wanted == "auto" and not (settings.api_key or _netrc_has(address.hostname or "")):
        return "offline", "not logged in"
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), SECONDS_TO_REACH).close()
    except OSError as error:
        return "offline", f"{address.hostname} is not reachable: {error}"
    return "online", ""


def _netrc_has(host: str) -> bool:
    """Returns whether `wandb login` has left a key for the host."""
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser()).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def sync_command(tracker: Any) -> str:
    """Returns the command that uploads a run's wandb files later."""
    return f"wandb sync {shlex.quote(str(Path(tracker.run.dir).parent))}"
