"""Parts of a long measurement, each in processes of its own under a limit: one that fails or hangs stops no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

ROOT = Path(__file__).parents[1]
MARK = "MASKCLS_PART"  # variable that all processes of a part carry, by which they are found whoever started them
RESULT = "MASKCLS_PART_RESULT"  # variable with the file in which a part leaves its values, as JSON
REASON_LINES = 12
KILL_ROUNDS = 5  # a process may have started another meanwhile; one that the kernel holds cannot be killed at all


@dataclass(frozen=True)
class Part:
    """A command and its bounds.

    limit: seconds. needs: an earlier part that has to end well first. is_alone: nothing runs beside it, because it is
    timed or because others build on it. not_here: why it cannot run on this machine.
    """

    name: str
    command: Sequence[str]
    limit: float
    needs: str | None = None
    is_alone: bool = False
    not_here: str = ""


@dataclass
class Outcome:
    """How a part ended: ok, failed, timed out or skipped, why, and what it found."""

    name: str
    status: str
    seconds: float = 0.0
    reason: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    output: str = ""


class _Running:
    """The processes of a part that has been started."""

    def __init__(self, part: Part, folder: Path, limit: float, environment: Mapping[str, str]) -> None:
        self.part, self.limit, self.mark, self.started = part, limit, uuid4().hex, time.monotonic()
        place = folder / part.name.replace("/", "_")
        self.log, self.result = place.with_suffix(".txt"), place.with_suffix(".json")
        marked = {**os.environ, **environment, MARK: self.mark, RESULT: str(self.result)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                part.command, cwd=ROOT, env=marked, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the main program alone, which ends its parts
            )  # fmt: skip

    def outcome(self) -> Outcome | None:
        """Returns how the part ended, with all its processes gone; None: it goes on."""
        seconds, code = time.monotonic() - self.started, self.process.poll()
        if code is None and seconds < self.limit:
            return None
        self.kill()
        output = self.log.read_text(encoding="utf-8", errors="replace")
        outcome = Outcome(self.part.name, "ok", round(seconds, 1), output=output)
        if code is None:
            rest = ", all that was left" if self.limit < self.part.limit else ""
            return _ended(outcome, "timed out", f"took more than {self.limit:.0f} s{rest}")
        if code:
            return _ended(outcome, "failed", f"ended with signal {-code}" if code < 0 else f"ended with code {code}")
        outcome.values = json.loads(self.result.read_text(encoding="utf-8")) if self.result.exists() else {}
        return outcome

    def kill(self) -> None:
        """Kills every process that the part has started, in whatever session and whoever is its parent by now."""
        for _ in range(KILL_ROUNDS):
            found = [process for process in psutil.process_iter() if _mark(process) == self.mark]
            for process in found:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=2)
            self.process.poll()
            if not found:
                break


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # another user's, or ended meanwhile
        return None


def _ended(outcome: Outcome, status: str, why: str) -> Outcome:
    outcome.status, outcome.reason = status, [*last_lines(outcome.output), why]
    return outcome


def last_lines(output: str) -> list[str]:
    """Returns the lines that say why a program failed: the last ones, without the launchers' own tracebacks."""
    shown = [line.rpartition("\r")[2].rstrip() for line in output.split("\n")]  # a bar counts as what it ended with
    blocks = re.split(r"^(?=Traceback \(most recent call last\):)", "\n".join(filter(None, shown)), flags=re.MULTILINE)
    while len(blocks) > 1 and re.search(r"CalledProcessError|ChildFailedError", blocks[-1]):
        blocks.pop()
    return "".join(blocks).splitlines()[-REASON_LINES:]


def run_parts(
    parts: Sequence[Part],
    folder: Path,
    *,
    until: float,
    num_at_once: int = 1,
    environment: Mapping[str, str],
    ended: Callable[[Outcome], object] = lambda outcome: None,
) -> dict[str, Outcome]:
    """Returns how each part ended, by name; starts them in order, up to num_at_once beside each other.

    until: time.monotonic() at which everything has ended. `ended` gets each outcome at once. Whatever ends this
    function, no process of a part outlives it.
    """
    outcomes: dict[str, Outcome] = {}
    waiting, running = list(parts), list[_Running]()

    def note(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        ended(outcome)

    try:
        while waiting or running:
            for one in list(running):
                if outcome := one.outcome():
                    running.remove(one)
                    note(outcome)
            while waiting and _may_start(waiting[0], running, outcomes, num_at_once):
                part = waiting.pop(0)
                left = until - time.monotonic()
                if reason := _reason_to_skip(part, outcomes):
                    note(Outcome(part.name, "skipped", reason=[reason]))
                elif left < 1:
                    note(Outcome(part.name, "timed out", reason=["no time was left"]))
                else:
                    running.append(_Running(part, folder, min(part.limit, left), environment))
            time.sleep(0.05)
    finally:
        for one in running:
            one.kill()
    return outcomes


def _may_start(part: Part, running: Sequence[_Running], outcomes: Mapping[str, Outcome], num_at_once: int) -> bool:
    if part.needs is not None and any(one.part.name == part.needs for one in running):
        return False
    return not running or (len(running) < num_at_once and not part.is_alone and not running[0].part.is_alone)


def _reason_to_skip(part: Part, outcomes: Mapping[str, Outcome]) -> str:
    if part.not_here:
        return part.not_here
    if part.needs is not None and outcomes[part.needs].status != "ok":
        return f"it builds on {part.needs}, whose end was: {outcomes[part.needs].status}"
    return ""
