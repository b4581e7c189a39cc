"""The exceptions that a user sees as a message instead of a traceback, and how a message is worded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

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


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether Python, torch or a GPU has asked for memory that is not there."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(LOST_MEMORY.search(str(error))))


def reason_of(error: OSError) -> str:
    """Returns the system's own words: "No space left on device"."""
    return os.strerror(error.errno) if error.errno else str(error)


def in_a_line(error: Exception) -> str:
    """Returns the first 200 characters of what somebody else's error says, in one line."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


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
