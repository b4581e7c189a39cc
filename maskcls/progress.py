"""How far long work is: one bar on a terminal, a plain line now and then where a bar would fill a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """A count of what is done. As a context it ends its bar, which leaves no line."""

    def __init__(
        self,
        title: str,
        unit: str,
        total: int | None = None,
        *,
        done: int = 0,
        is_shown: bool = True,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        """unit: what is counted, in the singular. done: what an earlier start has done.

        seconds_between_lines: off a terminal; facts have a line of their own whenever they come.
        """
        self._has_bar = is_shown and sys.stderr is not None and sys.stderr.isatty()
        self._has_lines = is_shown and not self._has_bar
        self._bar = tqdm(total=total, initial=done, desc=title, unit=unit, disable=not self._has_bar, leave=False)
        self._title, self._unit, self._total, self._done = title, unit, total, done
        self._seconds_between_lines, self._told_at = seconds_between_lines, time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def update(self, number: int = 1, facts: Mapping[str, str] | None = None) -> None:
        """Counts what has been done since, and shows facts about it, name -> value, when there are any."""
        self._done += number
        if facts:
            self._bar.set_postfix(facts, refresh=False)
        self._bar.update(number)
        if self._has_lines and (facts or time.monotonic() - self._told_at >= self._seconds_between_lines):
            self._told_at = time.monotonic()
            of_total = "" if self._total is None else f"/{self._total:,}"
            shown = [f"{name} {value}" for name, value in (facts or {}).items()]
            print("  ".join([self._title, f"{self._unit} {self._done:,}{of_total}", *shown]), flush=True)
