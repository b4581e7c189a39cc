"""The documents name what there is: every key, every file that they link to, and a whole header on every config."""

from __future__ import annotations

import json
import re

import pytest

from maskcls.cli.schema import schema
from maskcls.config import TABLES, Config
from tests.helpers import ROOT

READMES = ("README.md", "README.ko.md")


@pytest.mark.parametrize("name", READMES)
def test_the_readme_has_every_config_key_in_its_table(name: str) -> None:
    table = [line for line in (ROOT / name).read_text().splitlines() if line.startswith("| `")]
    keys = {key for line in table for key in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert keys >= set(Config.model_fields)
    assert len(Config.model_fields) > 40


@pytest.mark.parametrize("name", READMES)
def test_the_readme_names_every_part_of_our_tables(name: str) -> None:
    text = (ROOT / name).read_text()
    names = [part for table in TABLES.values() for part in table.names()]
    assert len(names) == 18
    assert not [part for part in names if part not in text]


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


def test_the_schema_beside_the_configs_is_the_current_one() -> None:
    assert json.loads((ROOT / "configs" / "schema.json").read_text()) == schema()
