"""The exceptions that a user sees as a message instead of a traceback, and the codes that the program ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches

from maskcls.machine import process_number

NUM_SHOWN = 10  # things that a message names; the rest is counted


class UserError(Exception):
    """A mistake in what the user gave: ends the program with this message and exit code 2.

    is_shared: every process of the launch has the error, the first speaks for all, and they leave together. Otherwise
    the process speaks for itself, whatever its rank, and leaves at once; the launcher ends the others.
    """

    exit_code = 2
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

    exit_code, is_shared = 75, True


@contextmanager
def errors_end_the_program() -> Iterator[None]:
    """Turns a UserError into its message on stderr and its exit code."""
    try:
        yield
    except UserError as error:
        _speak(error)
        _leave_launch(error.exit_code, together=error.is_shared)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    _leave_launch(0, together=True)


def _speak(error: UserError) -> None:
    rank = process_number("RANK", default=0)
    is_alone = process_number("WORLD_SIZE", default=1) == 1
    speaks = rank == 0 or not error.is_shared
    if not _is_in_launch():  # the processes do not know each other yet: the first of every machine speaks
        speaks = process_number("LOCAL_RANK", default=0) == 0
    if speaks:
        where = "" if is_alone or error.is_shared else f"rank {rank}: "
        print(f"{'' if isinstance(error, Stopped) else 'error: '}{where}{error}", file=sys.stderr, flush=True)


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
    sys.stdout.flush()
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
