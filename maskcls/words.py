"""What the report and the console say, in English and in Korean: the texts lie in `languages/`, a file for each.

Error messages, names of scores and config keys are the same in both languages: they are searched for and typed.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from maskcls.errors import UserError, did_you_mean
from maskcls.labels import HEAD_CLASSES, labels_of, num_classes

LANGUAGES = ("en", "ko")


class Words:
    """The words of one language: word("people"), and word("title", run="exp") where a text has names in braces."""

    def __init__(self, language: str) -> None:
        self.language = language
        file = Path(__file__).with_name("languages") / f"{language}.toml"
        self.texts = tomllib.loads(file.read_text("utf-8"))

    def __call__(self, key: str, **values: object) -> str:
        """Returns a text with the values in the place of its braces."""
        return self.texts[key].format(num_classes=num_classes("class"), **values)

    def measure(self, name: str) -> str:
        """Returns a metric as a person reads it: its name where nobody has put it into words."""
        return self.texts.get(name, name)

    def class_name(self, head: str, label: int) -> str:
        """Returns a label of a head as a person reads it: not worn · male · 30–59."""
        parts = labels_of(label) if head == "class" else {head: label}
        return " · ".join(self(f"{name}_{value}") for name, value in parts.items())

    def class_names(self, head: str) -> list[str]:
        """Returns the labels of a head as a person reads them."""
        return [self.class_name(head, label) for label in range(len(HEAD_CLASSES[head]))]


def language(option: str | None) -> str:
    """Returns en or ko: the option, else MASKCLS_LANG, LC_ALL or LANG (the first that is set) when it says ko.

    Raises UserError when the option is another language.
    """
    if option is not None:
        if option not in LANGUAGES:
            near = did_you_mean(option, list(LANGUAGES))
            raise UserError(f"unknown language {option!r} in --lang.{near} Known: {', '.join(LANGUAGES)}")
        return option
    chosen = next(filter(None, (os.environ.get(name) for name in ("MASKCLS_LANG", "LC_ALL", "LANG"))), "")
    return "ko" if re.match("ko([^a-z]|$)", chosen.lower()) else "en"
