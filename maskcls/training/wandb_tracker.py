"""A run in wandb: online, offline or not at all, as config, wandb's own switches and the network allow."""

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
from accelerate.tracking import WandBTracker

from maskcls.config import Config
from maskcls.errors import Fault, in_a_line
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

SECONDS_TO_REACH = 3.0  # for the connection to the wandb server
SECONDS_TO_START = 15.0  # for wandb.init online
SECONDS_TO_FINISH = 60.0  # for the upload of the rest at the end
SECONDS_AFTER_FAULT = 3.0  # for telling the wandb server that a run has failed
SECONDS_TO_LEAVE = 3.0  # for the end of wandb's service


class Wandb:
    """Accelerate's wandb tracker, which gets every step whole.

    wandb takes no step twice. Half a step, sent when a run is stopped between an epoch's last update and its
    validation, would keep the other half out when the run resumes.
    """

    name = "wandb"

    def __init__(self, tracker: Any) -> None:
        self._tracker, self.run = tracker, tracker.run
        self._step, self._values = 0, dict[str, Any]()  # of the update that may not be over

    @classmethod
    def start(cls, config: Config, run: RunFolder, word: Words) -> tuple[Wandb | None, str]:
        """Returns the tracker, or None, and what to report about it."""
        if config.wandb == "disabled":
            return None, ""
        # Its own lines would break into the progress bar; ours say the same.
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # without it, wandb reports to its makers
        try:
            mode, reason = wandb_mode(config.wandb, _started_wandb().setup().settings, word)
        except Exception as error:  # what wandb says about settings that it does not know
            mode, reason = "disabled", in_a_line(error)
        if mode == "disabled":
            return None, word("wandb_off", reason=reason)
        for former in run.wandb.glob("offline-run-*"):
            shutil.rmtree(former, ignore_errors=True)
        for attempt in dict.fromkeys([mode, "offline"]):
            try:
                tracker = cls(_started_tracker(config, run, attempt))
            except Exception as error:  # wandb raises its own errors, requests' and OSError
                reason = word("wandb_failed", mode=attempt, problem=in_a_line(error))
                leave_wandb(Fault.exit_code)  # one service does not start a run twice
                continue
            if attempt == "online":
                return tracker, word("wandb_online", run=tracker.run.url, server=tracker.run.settings.base_url)
            return tracker, word("wandb_offline", reason=reason, command=tracker.sync_command())
        return None, word("wandb_off", reason=reason)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Takes values of a step; those of the step before are sent."""
        if step != self._step:
            self.flush(commit=True)
        self._step = step
        self._values |= values

    def log_pictures(self, pictures: Mapping[str, np.ndarray], step: int) -> None:
        """Takes pictures of a step."""
        import wandb

        self.log({name: [wandb.Image(picture)] for name, picture in pictures.items()}, step)

    def flush(self, commit: bool | None = None) -> None:
        """Sends what is known of the last step."""
        values, self._values = self._values, {}
        if values:
            self._tracker.log(values, step=self._step, commit=commit)

    def finish(self, exit_code: int) -> None:
        """Ends the run; what cannot be uploaded in time stays in the run folder."""
        if exit_code:  # the run will be resumed
            self.run.mark_preempting()  # the server shows it as preempted, not as failed
        else:
            self.flush()
        self.run.finish(exit_code)

    def sync_command(self) -> str:
        """Returns the command that uploads the run's files later."""
        folder = Path(self.run.dir).parent
        option = [] if folder.name.startswith("offline-") else ["--include-online"]  # without it, wandb ignores them
        return shlex.join(["wandb", "sync", *option, str(folder)])


def _started_tracker(config: Config, run: RunFolder, mode: str) -> Any:
    wandb = _started_wandb()
    fold = [f"fold {config.fold} of {config.num_folds}"] if config.valid_profile is None else []
    split = fold if config.has_validation else ["everybody"]
    times = {"init_timeout": SECONDS_TO_START, "finish_timeout": SECONDS_TO_FINISH, "finish_timeout_raises": True}
    tracker = WandBTracker(
        config.wandb_project,
        name=run.path.name,
        group=folds.path.name if (folds := FoldsFolder.of(run)) else config.name,
        tags=[config.output, config.model, *split],
        id=run.name_on_server(),
        dir=str(run.path),
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(**times, console="off"),
    )
    tracker.start()
    tracker.run.define_metric("valid/*", step_metric="epoch")  # so that runs with other batches lie side by side
    tracker.store_init_configuration(config.model_dump())
    return tracker


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


def leave_wandb(exit_code: int) -> None:
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


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Returns whether an action that cannot be given a limit ended in time. What it raises is dropped."""

    def act() -> None:
        with suppress(Exception):
            action()

    thread = Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
