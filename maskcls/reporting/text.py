"""Text in the terminal, where Hangul is twice as wide as a Latin letter; short names, numbers, a line on decisions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from maskcls.evaluation.decision import Decision
from maskcls.evaluation.intervals import Interval
from maskcls.words import Words


def width(text: str) -> int:
    """Returns the places that a text takes in the terminal: Hangul takes two each."""
    whole = unicodedata.normalize("NFC", text)  # macOS spells a syllable of a file's name in parts
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in whole)


def padded(text: str, places: int, *, right: bool = False) -> str:
    """Returns the text filled with spaces to a width in the terminal; `right`: it stands at the right."""
    spaces = " " * (places - width(text))
    return spaces + text if right else text + spaces


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as text with columns of equal width."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(padded, row, widths)).rstrip() for row in rows)


def short_names(texts: Sequence[str]) -> list[str]:
    """Returns runs (runs/a, or runs/a+runs/b) with as many of the folders that they lie in as tell them apart."""
    for depth in range(1, max((len(Path(text).parts) for text in texts), default=0) + 1):
        short = [
            "".join(part if part in "+," else "/".join(Path(part).parts[-depth:]) for part in re.split("([+,])", text))
            for text in texts
        ]
        if len(set(short)) == len(short):
            return short
    return list(texts)


def signed(interval: Interval) -> str:
    """Returns a difference as +0.012 [-0.004, +0.028]."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def decision_line(decision: Decision, word: Words) -> str:
    """Returns which steps lead from probabilities to answers, and what each gains on other people."""
    said = []
    for name, step in decision.steps.items():
        score = word("log_likelihood") if name == "temperature" else "f1"
        facts = {"name": word(f"step_{name}"), "score": score, "gain": signed(step.gain)}
        said.append(word("switched_on" if step.is_on else "switched_off", **facts))
    return word("decisions", steps="; ".join(said) or word("too_few_to_decide"))
