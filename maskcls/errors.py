"""The exceptions that a user sees as a message instead of a traceback, and the codes that the program ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

NUM_SHOWN = 10  # things that a message names; the rest is counted


class UserError(Exception):
    """A mistake in what the user gave: ends the program with this message and exit code 2."""

    exit_code = 2


class Fault(UserError):
    """Something that ended a run on its way, seen by all processes of the launch: exit code 3."""

    exit_code = 3


class ProcessFault(Fault):
    """A fault of one process alone: it speaks whatever its rank and leaves at once; the launcher ends the others."""


class Stopped(UserError):
    """The run was asked to stop and has saved its state: exit code 75, "try again later" (EX_TEMPFAIL, sysexits.h)."""

    exit_code = 75


@contextmanager
def errors_end_the_program() -> Iterator[None]:
    """Turns a UserError into its message on stderr and its exit code; of a launch's processes only the first speaks."""
    try:
        yield
    except UserError as error:
        is_alone = isinstance(error, ProcessFault)
        if os.environ.get("RANK", "0") == "0" or is_alone:
            print(f"{'' if isinstance(error, Stopped) else 'error: '}{error}", file=sys.stderr, flush=True)
        _leave_launch(error.exit_code, together=isinstance(error, Stopped | Fault) and not is_alone)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    _leave_launch(0, together=True)


def _leave_launch(code: int, *, together: bool) -> None:
    """Ends a process that is one of several, at once; does nothing to one that is alone.

    Taking the process groups down is no way to leave: with a DDP model still alive that was seen to hang and to abort.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        return
    if together:
        distributed.barrier()  # the main process may still be uploading, and when one leaves, a launcher ends all
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
