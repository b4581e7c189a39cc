"""Text in the terminal, where Hangul is twice as wide as a Latin letter, and names as short as they can be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


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
    """Returns runs (runs/a, or runs/a+runs/b) without the folders that they lie in, where that tells them apart."""
    short = [re.sub(r"[^+,]*/(?=[^+,/])", "", text).rstrip("/") for text in texts]
    return short if len(set(short)) == len(short) else list(texts)
