"""A request to stop, heard from outside: the run finishes its update and saves before it leaves."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from types import FrameType

from maskcls.program import is_closed, point_at_nothing

# SIGHUP comes when the terminal is closed, SIGUSR1 from schedulers before the time is up; Windows has neither.
NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))
SECONDS_OF_ONE_CTRL_C = 1.0  # launchers pass Ctrl-C on to a process that the terminal has already interrupted
SECONDS_TO_FINISH_UPDATE = 20.0  # before launchers kill (30 s); longer when updates take longer


class StopRequest:
    """The first of SIGNALS that this process was sent. A second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.number = 0  # of the signal; 0: none
        self._watch: threading.Timer | None = None
        self._may_hang = False
        self._taken_over = ExitStack()  # gives back what `listen` has taken
        self._update_started, self._longest_update = time.monotonic(), 0.0

    def listen(self, *, may_hang: bool) -> None:
        """Takes over the signals, but for those that whoever started the process has it ignore: nohup, a shell's `&`.

        Call it in the main thread.

        may_hang: the update can wait for other processes for ever, so a process that was asked to stop and does not
        come to the end of its update leaves without saving (the launcher's kill would come without a word).
        """
        self._may_hang = may_hang
        # Python calls handlers in the main thread, between two lines of Python: never in one that waits for another
        # process. What is written here is read by a thread that does not wait for anything else.
        signals, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        threading.Thread(target=self._watch_signals, args=(signals,), daemon=True).start()
        give_back = self._taken_over.callback
        give_back(wakeup.close)
        give_back(signal.set_wakeup_fd, signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False))
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                give_back(signal.signal, number, signal.signal(number, self._hear))

    def ignore(self) -> None:
        """Gives the signals back to what they did before."""
        self.update_done()
        self._taken_over.close()

    def update_done(self) -> None:
        """Tells that the loop is at a point where it can stop."""
        now = time.monotonic()
        self._longest_update = max(self._longest_update, now - self._update_started)
        self._update_started = now
        if self._watch is not None:
            self._watch.cancel()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        for stream in (sys.stdout, sys.stderr):
            if is_closed(stream):  # with its terminal; a line that cannot be written must not keep a run from saving
                point_at_nothing(stream)

    def _watch_signals(self, signals: socket.socket) -> None:
        heard_at: float | None = None
        with signals:
            while data := signals.recv(1):  # empty: `ignore` was called
                now = time.monotonic()
                if data[0] not in SIGNALS:
                    continue
                if heard_at is None:
                    heard_at = now
                    if self._may_hang:
                        seconds = max(SECONDS_TO_FINISH_UPDATE, 3 * self._longest_update)
                        self._watch = threading.Timer(seconds, _leave, (3, "the other processes do not answer: left"))
                        self._watch.daemon = True
                        self._watch.start()
                elif data[0] == signal.SIGINT and now - heard_at > SECONDS_OF_ONE_CTRL_C:
                    _leave(130, "interrupted twice: left at once, without saving")


def _leave(code: int, words: str) -> None:
    rank = os.environ.get("RANK")
    os.write(sys.stderr.fileno(), f"{f'rank {rank}: ' if rank else ''}{words}\n".encode())
    os._exit(code)
