"""The documents name what there is: every key, every file that they link to, and a whole header on every config."""

from __future__ import annotations

import re

import pytest

from docs.derive import documents, settings_table
from maskcls.config import TABLES, Config
from tests.helpers import ROOT

READMES = ("README.md", "README.ko.md")


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
    assert len(links) >= 4
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_config_says_its_command_hardware_time_and_expected_score() -> None:
    paths = sorted((ROOT / "configs").glob("*.yaml"))
    for path in paths:
        header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
        for word in ("Command:", "Hardware:", "Time:", "Expected:", f"--config configs/{path.name}"):
            assert word in header, (path.name, word)
        assert "yaml-language-server: $schema=schema.json" in header
    assert len(paths) == 8


def test_what_follows_from_the_settings_is_as_make_docs_writes_it() -> None:
    written = documents()
    assert [path.relative_to(ROOT).as_posix() for path in written] == [
        "configs/schema.json",
        "README.md",
        "README.ko.md",
    ]
    old = [str(path) for path, text in written.items() if path.read_text(encoding="utf-8") != text]
    assert old == [], "run `make docs`: these do not say what the settings say, or were edited by hand"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_setting_has_a_row_with_its_default_its_help_and_its_choices(language: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", "\n".join(settings_table(language)), re.MULTILINE))
    assert list(rows) == list(Config.model_fields)
    assert rows["train_batch_size"].startswith("64 | ")
    assert all(f"`{name}`" in rows[key] for key, table in TABLES.items() for name in table.names())
    assert "`balanced_age`" in rows["sampling"] and "`Lion`, `torch.optim`" in rows["optimizer"]
    assert ("가" <= rows["seed"][-1] <= "힣") == (language == "ko")
