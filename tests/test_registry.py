"""What the tables are read as, without an import, is what they are."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import pytest
import torch

from maskcls import registry
from maskcls.config import TABLES
from maskcls.errors import UserError
from maskcls.registry import Signature, Table

TORCH_TABLES = {key: table for key, table in TABLES.items() if table.torch_module}

# Base classes, and what takes functions, a closure or other schedulers.
NOT_FROM_YAML = [
    "ChainedScheduler", "LBFGS", "LRScheduler", "LambdaLR", "MultiplicativeLR", "Muon", "Optimizer", "SequentialLR",
    "SparseAdam",
]  # fmt: skip


def of_signature(builder: Any) -> Signature:
    """Returns what the imported builder takes: a class all but its first argument, others the keyword-only ones."""
    parameters = list(inspect.signature(builder).parameters.values())
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    named = named[1:] if inspect.isclass(builder) else [p for p in named if p.kind is p.KEYWORD_ONLY]
    names, others = [p.name for p in named], []
    if is_dataclass(builder) and is_open:  # a row that is an object
        others = builder.takes if hasattr(builder, "takes") else [field.name for field in fields(builder)]
        is_open = others is None
    return Signature(
        names=(*names, *(others or [])),
        required=tuple(p.name for p in named if p.default is p.empty),
        is_open=is_open,
        terms=tuple(p.name for p in named if p.annotation == "Terms"),
    )


@pytest.mark.parametrize("key", TABLES)
def test_a_table_read_as_text_equals_the_imported_one(key: str) -> None:
    table = TABLES[key]
    imported = getattr(import_module(table.module), table.variable)
    assert table.names() == sorted(imported)
    for name, builder in imported.items():
        static = registry._signature_of(table.module, registry._table_rows(table.module, table.variable)[name])
        assert static == of_signature(builder)
        assert table.builder(name) is builder
        assert set(static.names) >= {argument for argument in table.supplied if argument in static.required}
    assert len(imported) >= 1


def test_the_tables_are_six_and_hold_what_the_seed_names() -> None:
    assert list(TABLES) == ["dataset", "augmentation", "model", "criterion", "optimizer", "scheduler"]
    assert {"cross_entropy", "focal", "label_smoothing", "f1", "BCELoss"} <= set(TABLES["criterion"].names())
    assert "CustomDatasetSplitByProfile" in TABLES["dataset"].names()
    assert "warmup_cosine" in TABLES["scheduler"].names()


@pytest.mark.parametrize("key", TORCH_TABLES)
def test_arguments_of_torchs_classes_are_those_of_their_signatures(key: str) -> None:
    table = TORCH_TABLES[key]
    offered = registry._public_classes(table.torch_module)
    for name, where in offered.items():
        static, signature = registry._signature_of(where, name), of_signature(table.builder(name))
        assert static == signature, name
    assert len(offered) > 10


@pytest.mark.parametrize(
    ("key", "base"), [("optimizer", torch.optim.Optimizer), ("scheduler", torch.optim.lr_scheduler.LRScheduler)]
)
def test_every_class_of_torch_that_a_yaml_can_build_is_offered(key: str, base: type) -> None:
    module = import_module(TABLES[key].torch_module)
    classes = {name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, base)}
    public = {name for name in classes if not name.startswith("_")}
    assert set(registry._public_classes(TABLES[key].torch_module)) == public - set(NOT_FROM_YAML)


@pytest.mark.parametrize("key", TABLES)
def test_an_unknown_name_is_refused_where_it_is_built_too(key: str) -> None:
    with pytest.raises(UserError, match=rf"unknown {key} 'xyzzy'\. Known: {TABLES[key].names()[0]}"):
        TABLES[key].builder("xyzzy")


@pytest.mark.parametrize("name", NOT_FROM_YAML)
def test_classes_that_a_yaml_cannot_fill_are_not_offered(name: str) -> None:
    refused = [table.problems(name, {}) for table in TORCH_TABLES.values()]
    assert all(len(problems) == 1 and f"{name!r}" in problems[0][1] for problems in refused)


def test_torchs_own_names_build_torchs_own_classes() -> None:
    assert TABLES["optimizer"].builder("AdamW") is torch.optim.AdamW
    assert TABLES["scheduler"].builder("StepLR") is torch.optim.lr_scheduler.StepLR


def test_problems_name_the_argument_and_what_is_allowed() -> None:
    assert TABLES["optimizer"].problems("SGD", {"momentum": 0.9, "nesterov": True}) == []
    assert TABLES["scheduler"].problems("StepLR", {"step_size": 3}) == []
    assert TABLES["scheduler"].problems("StepLR", {"gama": 1}) == [
        ("scheduler_args", "scheduler_args: StepLR takes no 'gama'. Did you mean 'gamma'? It takes: step_size, gamma"),
        ("scheduler_args", "scheduler_args: StepLR needs 'step_size'"),
    ]
    ((key, text),) = TABLES["criterion"].problems("focl", {})
    assert key == "criterion" and text.startswith("unknown criterion 'focl'. Did you mean 'focal'?")


def test_what_training_supplies_cannot_be_given_and_need_not_be() -> None:
    assert TABLES["criterion"].problems("focal", {}) == []
    ((_, text),) = TABLES["criterion"].problems("focal", {"num_per_class": [1]})
    assert text.startswith("criterion_args: focal takes no 'num_per_class'. It takes: gamma, weight")
    ((_, text),) = TABLES["optimizer"].problems("AdamW", {"weight_decay": 1})
    assert text.startswith("optimizer_args: AdamW takes no 'weight_decay'.")


def test_a_builder_with_open_arguments_judges_them_itself() -> None:
    assert TABLES["model"].problems("auto", {"model_type": "resnet", "embedding_size": 32}) == []


def test_a_table_that_is_not_there_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match=r"maskcls\.labels has no table NOTHING"):
        Table("nothing", "maskcls.labels", "NOTHING").names()


def test_reading_every_table_imports_none_of_their_modules() -> None:
    code = (
        "import sys\nfrom maskcls.config import TABLES\n"
        "for key, table in TABLES.items():\n"
        "    for name in [*table.names(), 'SGD', 'StepLR', 'nonsense']: table.problems(name, {'x': 1})\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'transformers'}),\n"
        "      [table.module for table in TABLES.values() if table.module in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[] []\n"
