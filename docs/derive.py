"""What follows from the settings: configs/schema.json and a table in both READMEs. `make docs` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from maskcls.cli.schema import schema
from maskcls.config import TABLES, Config
from maskcls.setting import help_texts

ROOT = Path(__file__).parents[1]
WORDS = {
    "en": {"head": "key | default | meaning", "required": "required", "one of": "; one of ", "torch": ", {}'s"},
    "ko": {"head": "항목 | 기본값 | 의미", "required": "필수", "one of": ". 선택: ", "torch": ", {}의 것"},
}
READMES = {"README.md": "en", "README.ko.md": "ko"}
TABLE = re.compile("(?<=<!-- `make docs` writes from here -->\n)(.*)(?=<!-- to here -->)", re.DOTALL)


def documents() -> dict[Path, str]:
    """Returns each file that follows from the settings, and what has to stand in it."""
    texts = {ROOT / "configs/schema.json": json.dumps(schema(), indent=2) + "\n"}
    for name, language in READMES.items():
        before, _, after = TABLE.split((ROOT / name).read_text(encoding="utf-8"))
        texts[ROOT / name] = before + "".join(f"{line}\n" for line in settings_table(language)) + after
    return texts


def settings_table(language: str) -> Iterator[str]:
    """Yields the lines of the table of settings, in Markdown."""
    words = WORDS[language]
    yield f"| {words['head']} |"
    yield "|---|---|---|"
    for key, field in Config.model_fields.items():
        text = help_texts(Config)[key][language]
        default = words["required"] if field.is_required() else as_yaml(field.default)
        yield f"| `{key}` | {default} | {as_cell(text)}{choices(key, text, words)} |"


def choices(key: str, text: str, words: dict[str, str]) -> str:
    """Returns the words that a setting may hold, for the end of its help; nothing, where the help says them itself."""
    annotation, table = Config.model_fields[key].annotation, TABLES.get(key)
    names = table.names() if table else get_args(annotation) if get_origin(annotation) is Literal else ()
    if all(re.search(rf"\b{name}\b", text, re.ASCII) for name in names):
        return ""
    torch = words["torch"].format(f"`{table.torch_module}`") if table and table.torch_module else ""
    return words["one of"] + ", ".join(f"`{name}`" for name in names) + torch


def as_yaml(value: Any) -> str:
    """Returns a value as it stands in a YAML."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def as_cell(text: str) -> str:
    """Returns plain text as a cell of a table: keys and other words with an underscore as code, documents as links."""
    text = re.sub(r"(?<![\w/])\w+_\w+(?![\w/.])", r"`\g<0>`", text.replace("|", "\\|"), flags=re.ASCII)
    return re.sub(r"\b(?:docs|configs)/[\w.]+\w", r"[\g<0>](\g<0>)", text)


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
