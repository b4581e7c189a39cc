"""The exceptions that a user sees as a message instead of a traceback, and the codes that the program ends with."""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import TextIO

from maskcls.machine import process_number

# How torch tells that memory is full where it has no exception class of its own.
LOST_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
NUM_SHOWN = 10  # things that a message names; the rest is counted


class UserError(Exception):
    """A mistake in what the user gave: ends the program with this message and exit code 2.

    is_shared: every process of the launch has the error, the first speaks for all, and they leave together. Otherwise
    the process speaks for itself, whatever its rank, and leaves at once; the launcher ends the others.
    """

    exit_code = 2
    heading = "error: "  # before the message
    is_shared = False

    def of_launch(self) -> UserError:
        """Returns this error, known to every process of the launch."""
        self.is_shared = True
        return self


class Fault(UserError):
    """Something that ended a run on its way: exit code 3."""

    exit_code = 3


class Stopped(UserError):
    """The run was asked to stop and has saved its state: exit code 75, "try again later" (EX_TEMPFAIL, sysexits.h)."""

    exit_code, heading, is_shared = 75, "", True


class Interrupted(UserError):
    """Ctrl-C where there is nothing to save: exit code 130, as a shell gives to what SIGINT has ended."""

    exit_code, heading = 130, ""


class ReaderLeft(UserError):
    """Whoever read standard output wants no more, as `head -1`: exit code 141, as a shell gives after SIGPIPE."""

    exit_code, heading = 141, ""


@contextmanager
def errors_end_the_program() -> Iterator[None]:
    """Ends the program with a message on stderr and an exit code, whatever went wrong but a defect of its own.

    From here on standard output takes every text, in any encoding, and shows it line by line also in a file.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        yield
        print(end="", flush=True)
    except BaseException as raised:
        error = _as_user_error(raised, _output_error())
        if error is None:
            raise
        _speak(error)
        _leave_launch(error.exit_code, together=error.is_shared)
        raise SystemExit(error.exit_code) from None
    _leave_launch(0, together=True)


def _as_user_error(error: BaseException, output_error: OSError | None) -> UserError | None:
    """Returns what a person is told about an error; None: a defect, whose traceback says more (or argparse's end)."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, BrokenPipeError) and is_closed(sys.stdout):
        return ReaderLeft()
    if isinstance(error, OSError):
        where = "standard output" if output_error else error.filename
        return Fault(f"{f'{where}: ' if where else ''}{reason_of(error)}")
    if is_out_of_memory(error):
        return Fault(
            f"out of memory: {' '.join(str(error).split()) or 'Python has none left'}. Fewer photos at once take less: "
            "valid_batch_size, or --batch_size of a prediction; max_device_batch_size in training"
        )
    return None


def _output_error() -> OSError | None:
    """Returns why standard output does not take what is left for it, and lets go of that; None: it has taken it."""
    try:
        print(end="", flush=True)
    except OSError as error:
        point_at_nothing(sys.stdout)  # or the interpreter tries again on its way out, and says so
        return error
    return None


def is_closed(stream: TextIO | None) -> bool:
    """Returns whether nobody is left to read what is written: the pipe's reader has ended, the terminal is closed."""
    try:
        poll = select.poll()  # not on Windows
        poll.register(stream.fileno(), 0)  # type: ignore[union-attr]  # what is gone is told without being asked for
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no stream, or one in memory
        return False


def point_at_nothing(stream: TextIO) -> None:
    """Lets everything that is written to a stream from now on vanish."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stream in memory has no number
        os.dup2(nothing, stream.fileno())
    os.close(nothing)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether Python, torch or a GPU has asked for memory that is not there."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(LOST_MEMORY.search(str(error))))


def reason_of(error: OSError) -> str:
    """Returns the system's own words: "No space left on device"."""
    return os.strerror(error.errno) if error.errno else str(error)


def _speak(error: UserError) -> None:
    rank = process_number("RANK", default=0)
    is_alone = process_number("WORLD_SIZE", default=1) == 1
    speaks = rank == 0 or not error.is_shared
    if not _is_in_launch():  # the processes do not know each other yet: the first of every machine speaks
        speaks = process_number("LOCAL_RANK", default=0) == 0
    if speaks and str(error):
        where = "" if is_alone or error.is_shared else f"rank {rank}: "
        try:
            print(f"{error.heading}{where}{error}", file=sys.stderr, flush=True)
        except OSError:  # a terminal that was closed shall not change the exit code
            point_at_nothing(sys.stderr)


def _is_in_launch() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _leave_launch(code: int, *, together: bool) -> None:
    """Ends a process that is one of several, at once; does nothing to one that is alone.

    Taking the process groups down is no way to leave: with a DDP model still alive that was seen to hang and to abort.
    """
    if not _is_in_launch():
        return
    if together:
        with suppress(RuntimeError):  # one has been killed meanwhile
            # The main process may still be uploading, and when one leaves, a launcher ends all.
            sys.modules["torch.distributed"].barrier()
    os._exit(code)


def joined(problems: list[str], heading: str) -> str:
    """Returns one message: the problem itself when there is one, otherwise a heading and the first NUM_SHOWN."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} {heading}:", *(f"  - {problem}" for problem in shortened(problems))])


def listed(things: Iterable[object]) -> str:
    """Returns the first NUM_SHOWN things in one line, with commas between them."""
    return ", ".join(shortened(list(map(str, things))))


def shortened(lines: Sequence[str]) -> list[str]:
    """Returns the lines, or the first NUM_SHOWN of them and how many there are more."""
    hidden = len(lines) - NUM_SHOWN
    return [*lines[:NUM_SHOWN], *([f"and {hidden:,} more"] if hidden > 0 else [])]


def did_you_mean(word: str, known: list[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known word, or an empty text when none is near."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
