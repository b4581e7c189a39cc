"""`maskcls schema`: the JSON schema of the config, for completion and checking in editors."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "write the JSON schema of the config (editors complete and check YAML with it)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the schema goes to standard output."""


def run(arguments: argparse.Namespace) -> None:
    """Prints the schema."""
    print(json.dumps(schema(), indent=2))


def schema() -> dict[str, Any]:
    """Returns the JSON schema; names of our own tables are offered, torch's are allowed."""
    from maskcls.config import TABLES, Config
    from maskcls.setting import help_texts

    result = Config.model_json_schema()
    for key, entry in result["properties"].items():
        entry["description"] = help_texts(Config)[key]["en"]
        del entry["may_change"], entry["is_runtime"]
    for key, table in TABLES.items():
        names = {"enum": table.names()}
        result["properties"][key] |= {"anyOf": [names, {"type": "string"}]} if table.torch_module else names
    return result
