"""metrics.jsonl, wandb and TensorBoard behind one call, on the main process; a failing tracker never ends the run."""

from __future__ import annotations

import netrc
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

import numpy as np

from maskcls.config import Config
from maskcls.errors import Fault, Stopped
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

SECONDS_TO_REACH = 3.0  # for the connection to the wandb server
SECONDS_TO_START = 15.0  # for wandb.init online
SECONDS_TO_FINISH = 60.0  # for the upload of the rest at the end
SECONDS_AFTER_FAULT = 3.0  # for telling the wandb server that a run has failed
SECONDS_TO_LEAVE = 3.0  # for the end of wandb's service


class Tracking:
    """metrics.jsonl and the trackers of a run, in the main process."""

    def __init__(self, trackers: list[Any], run: RunFolder, notes: list[str]) -> None:
        self._trackers, self._run = trackers, run
        self.notes = notes  # what a person should know: where to look, what fell back

    @classmethod
    def start(cls, config: Config, run: RunFolder, word: Words) -> Tracking:
        """Returns the trackers that the config asks for, started; files of an earlier start go. In the main process.

        word: looks up the language's words, for the notes.
        """
        from accelerate.tracking import TensorBoardTracker

        trackers: list[Any] = []
        notes = []
        if config.tensorboard:
            shutil.rmtree(run.tensorboard, ignore_errors=True)
            tensorboard = TensorBoardTracker(run_name=run.tensorboard.name, logging_dir=str(run.path))
            tensorboard.start()
            trackers.append(tensorboard)
            notes.append(shlex.join(["tensorboard", "--logdir", str(run.path)]))
        if config.wandb != "disabled":
            wandb_tracker, note = _start_wandb(config, run, word)
            trackers += [wandb_tracker] if wandb_tracker else []
            notes.append(note)
        return cls(trackers, run, notes)

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
            _leave_wandb(Fault.exit_code)

    def log(self, values: Mapping[str, float], *, epoch: int, update: int) -> None:
        """Logs numbers at an optimizer update counted from the start of the run; epochs count from 1."""
        line = {"epoch": epoch, "update": update, **values}
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

    def flush(self) -> None:
        """Gives wandb the last update as far as it is known, for what is to be added to it."""
        self._each(lambda tracker: tracker.flush() if tracker.name == "wandb" else None)

    def finish(self, exit_code: int = 0) -> None:
        """Ends the trackers; what cannot be uploaded in time stays in the run folder and can be synced later."""
        self._each(lambda tracker: tracker.finish(exit_code) if tracker.name == "wandb" else tracker.finish())
        self._trackers.clear()
        _leave_wandb(exit_code)

    def _to_trackers(self, line: Mapping[str, float]) -> None:
        values = {name: value for name, value in line.items() if name != "update"}
        self._each(lambda tracker: tracker.log(values, step=int(line["update"])))

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:  # whatever a tracker's own stack raises: the run continues without it
                self._trackers.remove(tracker)
                what = f"{tracker.name} stopped: {_in_a_line(error)}"
                later = f". To upload it later: {sync_command(tracker)}" if tracker.name == "wandb" else ""
                self.notes.append(what + later)
                print(f"warning: {what}. The run continues; metrics.jsonl holds everything.")


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Returns whether an action that cannot be given a limit ended in time. What it raises is dropped."""

    def act() -> None:
        with suppress(Exception):
            action()

    thread = Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


class _Wandb:
    """Accelerate's wandb tracker, which gets every step whole.

    wandb takes no step twice. Half a step, sent when a run is stopped between an epoch's last update and its
    validation, would keep the other half out when the run resumes.
    """

    name = "wandb"

    def __init__(self, tracker: Any) -> None:
        self._tracker, self.run = tracker, tracker.run
        self._step, self._values = 0, dict[str, Any]()  # of the update that may not be over

    def log(self, values: Mapping[str, Any], step: int) -> None:
        if step != self._step:
            self.flush(commit=True)
        self._step = step
        self._values |= values

    def log_images(self, batches: Mapping[str, np.ndarray], step: int) -> None:
        import wandb

        self.log({name: [wandb.Image(picture) for picture in batch] for name, batch in batches.items()}, step)

    def flush(self, commit: bool | None = None) -> None:
        values, self._values = self._values, {}
        if values:
            self._tracker.log(values, step=self._step, commit=commit)

    def finish(self, exit_code: int) -> None:
        if exit_code:  # the run will be resumed
            self.run.mark_preempting()  # the server shows it as preempted, not as failed
        else:
            self.flush()
        self.run.finish(exit_code)


def _start_wandb(config: Config, run: RunFolder, word: Words) -> tuple[_Wandb | None, str]:
    """Returns the wandb tracker (or None) and what to report about it."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its own lines would break into the progress bar; ours say the same
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # without it, wandb reports to its makers
    try:
        mode, reason = wandb_mode(config.wandb, _started_wandb().setup().settings, word)
    except Exception as error:  # what wandb says about settings that it does not know
        mode, reason = "disabled", _in_a_line(error)
    if mode == "disabled":
        return None, word("wandb_off", reason=reason)
    for former in run.wandb.glob("offline-run-*"):
        shutil.rmtree(former, ignore_errors=True)
    for attempt in dict.fromkeys([mode, "offline"]):
        try:
            tracker = _wandb_tracker(config, run, attempt)
        except Exception as error:  # wandb raises its own errors, requests' and OSError
            reason = word("wandb_failed", mode=attempt, problem=_in_a_line(error))
            _leave_wandb(Fault.exit_code)  # one service does not start a run twice
            continue
        if attempt == "online":
            return tracker, word("wandb_online", run=tracker.run.url, server=tracker.run.settings.base_url)
        return tracker, word("wandb_offline", reason=reason, command=sync_command(tracker))
    return None, word("wandb_off", reason=reason)


def _wandb_tracker(config: Config, run: RunFolder, mode: str) -> _Wandb:
    from accelerate.tracking import WandBTracker

    wandb = _started_wandb()
    fold = [] if config.valid_profile else [f"fold {config.fold} of {config.num_folds}"]
    times = {"init_timeout": SECONDS_TO_START, "finish_timeout": SECONDS_TO_FINISH, "finish_timeout_raises": True}
    tracker = WandBTracker(
        config.wandb_project,
        name=run.path.name,
        group=config.name,
        tags=[config.output, config.model, *fold],
        id=run.name_on_server(),
        dir=str(run.path),
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(**times, console="off"),
    )
    tracker.start()
    tracker.run.define_metric("valid/*", step_metric="epoch")  # so that runs with other batches lie side by side
    tracker.store_init_configuration(config.model_dump())
    return _Wandb(tracker)


def _started_wandb() -> Any:
    """Returns wandb with its service running, deaf to what the service has to say: it would follow our last message.

    WANDB_SILENT=false lets both speak.
    """
    import wandb

    if os.environ["WANDB_SILENT"] != "true":
        wandb.setup()
        return wandb
    sys.stderr.flush()
    stderr = os.dup(2)  # the service inherits what stands there when it is started
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        wandb.setup()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    return wandb


def _leave_wandb(exit_code: int) -> None:
    """Ends a run of wandb that is not ended, and its service. Does nothing where wandb was not started.

    What is left to wandb's own handler at exit waits without end, and its threads and its handler print tracebacks.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    if (run := wandb.run) is not None:
        within(SECONDS_AFTER_FAULT, lambda: run.finish(exit_code))
    if within(SECONDS_TO_LEAVE, wandb.teardown):
        return
    import psutil

    for child in psutil.Process().children():
        if child.name().startswith("wandb-core"):
            child.kill()


def wandb_mode(wanted: str, settings: Any, word: Words) -> tuple[str, str]:
    """Returns online, offline or disabled, and why: the strictest of what the config and wandb's own switches say.

    settings: wandb's, of its files and the environment. Takes at most SECONDS_TO_REACH.
    """
    if (switch := os.environ.get("WANDB_DISABLED", "")).lower() not in ("", "0", "false", "no", "off"):
        return "disabled", f"WANDB_DISABLED={switch}"
    switch = f"WANDB_MODE={settings.mode}" if "WANDB_MODE" in os.environ else word("wandb_says", mode=settings.mode)
    if settings.mode == "disabled":
        return "disabled", switch
    if wanted == "offline":
        return "offline", word("wandb_configured")
    if settings.mode in ("offline", "dryrun"):
        return "offline", switch
    address = urlparse(settings.base_url)
    if not (settings.api_key or settings.identity_token_file or _netrc_has(address.netloc)):
        return "offline", word("wandb_no_login")
    proxy = getattr(settings, f"{address.scheme}_proxy") or getproxies().get(address.scheme)
    first = urlparse(proxy) if proxy and not proxy_bypass(address.netloc) else address
    try:
        port = first.port or (443 if first.scheme == "https" else 80)
        socket.create_connection((first.hostname or "", port), SECONDS_TO_REACH).close()
    except OSError as error:
        return "offline", word("wandb_unreachable", host=first.hostname, problem=error)
    return "online", ""


def _netrc_has(machine: str) -> bool:
    """Returns whether `wandb login` has left a key for the server (host, or host:port), as wandb would find it."""
    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    path = next((path for path in (Path(place).expanduser() for place in places) if path.exists()), None)
    try:
        return path is not None and netrc.netrc(path).authenticators(machine) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def sync_command(tracker: Any) -> str:
    """Returns the command that uploads a run's wandb files later."""
    folder = Path(tracker.run.dir).parent
    option = [] if folder.name.startswith("offline-") else ["--include-online"]  # without it, wandb ignores them
    return shlex.join(["wandb", "sync", *option, str(folder)])
