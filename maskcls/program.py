"""How a program ends: with a message and an exit code, alone or with the other processes of its launch."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from maskcls.errors import Fault, Interrupted, ReaderLeft, UserError, is_out_of_memory, reason_of
from maskcls.machine import process_number


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
    """Returns what is reported of an error; None: a defect, whose traceback says more (or argparse's end)."""
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
        poll.register(stream.fileno(), 0)  # type: ignore[union-attr]  # what is gone is reported unasked
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no stream, or one in memory
        return False


def point_at_nothing(stream: TextIO) -> None:
    """Lets everything that is written to a stream from now on vanish."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stream in memory has no number
        os.dup2(nothing, stream.fileno())
    os.close(nothing)


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
