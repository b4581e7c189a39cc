"""A request to stop, heard from outside: the run finishes its update and saves before it leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SECONDS_OF_ONE_CTRL_C = 1.0  # launchers pass Ctrl-C on to a process that the terminal has already told
SECONDS_TO_FINISH_UPDATE = 20.0  # before launchers kill (30 s); longer when updates take longer


class StopRequest:
    """The first of SIGNALS that this process was sent. A second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.number = 0  # of the signal; 0: none
        self._heard_at = 0.0
        self._watch: threading.Timer | None = None
        self._may_hang = False
        self._former: dict[signal.Signals, Any] = {}
        self._update_started, self._longest_update = time.monotonic(), 0.0

    def listen(self, *, may_hang: bool) -> None:
        """Takes over the signals. Call it in the main thread.

        may_hang: the update can wait for other processes for ever, so a process that was asked to stop and does not
        come to the end of its update leaves without saving (the launcher's kill would come without a word).
        """
        self._may_hang = may_hang
        self._former = {number: signal.signal(number, self._hear) for number in SIGNALS}

    def ignore(self) -> None:
        """Gives the signals back to what they did before."""
        self.update_done()
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def update_done(self) -> None:
        """Tells that the loop is at a point where it can stop."""
        now = time.monotonic()
        self._longest_update = max(self._longest_update, now - self._update_started)
        self._update_started = now
        if self._watch is not None:
            self._watch.cancel()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and number == signal.SIGINT and now - self._heard_at > SECONDS_OF_ONE_CTRL_C:
            _leave(130, "interrupted twice: left at once, without saving")
        if not self.number:
            self.number, self._heard_at = number, now
            if self._may_hang:
                seconds = max(SECONDS_TO_FINISH_UPDATE, 3 * self._longest_update)
                self._watch = threading.Timer(seconds, _leave, (3, "the other processes do not answer: left"))
                self._watch.daemon = True
                self._watch.start()


def _leave(code: int, words: str) -> None:
    rank = os.environ.get("RANK")
    os.write(sys.stderr.fileno(), f"{f'rank {rank}: ' if rank else ''}{words}\n".encode())
    os._exit(code)
