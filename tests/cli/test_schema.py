"""The schema says of every key what the config says."""

from __future__ import annotations

import json

import pytest

from maskcls.cli import schema
from maskcls.config import TABLES, Config
from maskcls.setting import help_texts
from tests.helpers import maskcls


def test_the_schema_describes_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    maskcls("schema")
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema.schema()
    assert printed["type"] == "object"
    assert set(printed["properties"]) == set(Config.model_fields)
    assert printed["required"] == ["data_dir", "dataset_args"]
    assert printed["additionalProperties"] is False
    for key, entry in printed["properties"].items():
        assert entry["description"] == help_texts(Config)[key]["en"]
        assert entry.keys().isdisjoint({"may_change", "is_runtime"})
        if key not in printed["required"]:
            assert entry["default"] == Config.model_fields[key].default


def test_the_schema_offers_the_tables_names_and_allows_torchs() -> None:
    properties = schema.schema()["properties"]
    for key, table in TABLES.items():
        if table.torch_module:
            assert properties[key]["anyOf"] == [{"enum": table.names()}, {"type": "string"}]
        else:
            assert properties[key]["enum"] == table.names()
    assert properties["optimizer"]["default"] == "AdamW"


def test_the_schema_tells_kinds_of_values_apart() -> None:
    properties = schema.schema()["properties"]
    assert properties["epochs"]["type"] == "integer"
    assert properties["lr"]["type"] == "number"
    assert properties["lr"]["exclusiveMinimum"] == 0
    assert properties["best_criterion"]["enum"] == ["acc", "balanced_acc", "f1", "loss"]
    assert properties["dataset_args"]["type"] == "object"
    assert {"type": "null"} in properties["train_profile"]["anyOf"]
