"""The one exception that a user sees as a message instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user gave: ends the program with this message and exit code 2."""


@contextmanager
def user_errors_exit_with_2() -> Iterator[None]:
    """Turns a UserError into its message on stderr and exit code 2; of a launch's processes only the first speaks."""
    try:
        yield
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_initialized():
            distributed.destroy_process_group()  # leaving with the group open may abort instead of exiting
        raise SystemExit(2) from None


def joined(problems: list[str], heading: str) -> str:
    """Returns one message: the problem itself when there is one, otherwise the heading and a line for each."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} {heading}:", *(f"  - {problem}" for problem in problems)])


def did_you_mean(word: str, known: list[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known word, or an empty text when none is near."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
