"""Imports point one way only, everything public is documented and annotated, and importing is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskcls.training.answers import Answers
from maskcls.training.durable import MANIFEST
from maskcls.training.run_folder import Entry, RunFolder, StateFolder

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "maskcls").rglob("*.py"))
SCRIPTS = [ROOT / "train.py", ROOT / "infer.py"]

# What a room may import, besides itself and maskcls.errors.
BASE = {
    "registry",
    "labels",
    "machine",
    "paths",
    "program",
    "progress",
    "tables",
    "words",
    "yaml_file",
    "setting",
    "config_rules",
    "config",
}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "labels": set(),
    "machine": set(),
    "paths": set(),
    "program": {"machine"},
    "progress": set(),
    "tables": {"paths"},
    "words": {"labels"},
    "registry": set(),
    "yaml_file": {"paths"},
    "setting": {"labels", "paths", "yaml_file"},
    "config_rules": {"labels", "config"},  # config for its type alone
    # data, modeling, evaluation: tables named as text, read as text by the registry, imported when something is built
    "config": {"registry", "labels", "yaml_file", "setting", "config_rules", "data", "modeling", "evaluation"},
    "data": {"labels", "machine", "paths", "progress", "registry", "tables"},
    "modeling": {"labels", "machine", "paths", "registry"},
    "evaluation": {"labels", "machine", "paths", "registry"},
    "sample": {"labels"},
    "training": BASE | {"data", "modeling", "evaluation"},
    "reporting": BASE | {"data", "modeling", "evaluation", "training"},
    "cli": BASE | {"sample", "data", "modeling", "evaluation", "training", "reporting"},
}


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def room(file: Path) -> str:
    """Returns the folder in maskcls/, or the name of a module that lies in none."""
    return file.relative_to(ROOT / "maskcls").parts[0].removesuffix(".py")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file) for file in FILES} - {"maskcls"}


def imported(file: Path) -> set[str]:
    """Returns the full names of all modules and things that a file imports, inside functions and as text too."""
    found: set[str] = set()
    package = list(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and node.value in MODULES:  # of a table that is imported from by name
            found.add(node.value)
    return found


def rooms_of(names: set[str]) -> set[str]:
    rooms = {room(file) for file in FILES}
    return {name.split(".")[1] for name in names if name.startswith("maskcls.") and name.split(".")[1] in rooms}


def test_the_walk_reads_every_file_and_sees_imports() -> None:
    assert len(FILES) == len(MODULES) + 1 > 80
    assert {room(file) for file in FILES} == set(ALLOWED)
    every = {file.relative_to(ROOT).as_posix(): imported(file) for file in [*FILES, *SCRIPTS]}
    assert "maskcls.data.loader.map_ahead" in every["maskcls/training/loop.py"]  # the walk is not blind
    assert "maskcls.reporting.journal" in every["train.py"]  # not even inside a function
    assert {"maskcls.data.dataset", "maskcls.modeling.optim"} <= every["maskcls/config.py"]  # nor where it is text
    assert sum(bool(rooms_of(names)) for names in every.values()) > 15


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_file_imports_only_rooms_that_lie_before_it(file: Path) -> None:
    allowed = ALLOWED[room(file)] | {room(file), "errors"}
    assert rooms_of(imported(file)) <= allowed


def test_data_modeling_and_evaluation_know_neither_each_other_nor_the_config() -> None:
    rooms = {"data", "modeling", "evaluation"}
    files = [file for file in FILES if room(file) in rooms]
    for file in files:
        others = (rooms - {room(file)}) | {"config", "training", "reporting", "cli"}
        assert not rooms_of(imported(file)) & others, file
    assert len(files) >= 15


def test_nothing_in_the_package_imports_the_scripts_and_infer_does_not_import_train() -> None:
    for file in [*FILES, *SCRIPTS]:
        assert not {name.split(".")[0] for name in imported(file)} & {"train", "infer"}, file


def test_the_name_of_a_file_of_a_run_stands_in_one_place() -> None:
    """Words that a person reads may hold a name, as in "write report.html"; a name alone is part of a path."""
    kinds = {RunFolder: "run_folder", StateFolder: "run_folder", Answers: "answers"}
    entries = [(entry.name, place) for kind, place in kinds.items() for entry in vars(kind).values()
               if isinstance(entry, Entry)]  # fmt: skip
    places = {**dict(entries), MANIFEST: "durable"}
    assert len(places) == len(entries) + 1 > 20
    found = set()
    for file in [*FILES, *SCRIPTS]:
        nodes = list(ast.walk(parsed(file)))
        endings = [node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
        pieces = [piece for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values]
        for node in nodes:
            if isinstance(node, ast.Constant) and node.value in places and node not in pieces:
                is_path = node in endings or "." in node.value  # best alone is a word
                if is_path and file.stem != places[node.value]:
                    found.add(f"{file.relative_to(ROOT).as_posix()}: {node.value}")
    # The lists of the drawn people are other files of the same names.
    assert found == {f"maskcls/sample/write.py: {name}_profiles.txt" for name in ("train", "valid")}


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yields (name, node) of the module's public functions and classes, and of the classes' methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield f"{node.name}.{member.name}", member


def test_everything_public_has_a_docstring() -> None:
    missing, num_read = [], 0
    for file in [*FILES, *SCRIPTS]:
        tree = parsed(file)
        documented: list[tuple[str, ast.AST]] = [("", tree), *public(tree)]
        for name, node in documented:
            if name.rpartition(".")[2].startswith("_") and not name.endswith("__call__"):
                continue  # private members, and those whose meaning Python gives them
            num_read += 1
            if not ast.get_docstring(node):  # type: ignore[arg-type]
                missing.append(f"{file.relative_to(ROOT)} {name}")
    assert missing == []
    assert num_read > 120


def test_every_signature_is_annotated() -> None:
    missing, num_read = [], 0
    for file in [*FILES, *SCRIPTS]:
        for node in ast.walk(parsed(file)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            num_read += 1
            spec = node.args
            given = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
            bare = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
            bare += ["return"] if node.returns is None else []
            missing += [f"{file.relative_to(ROOT)} {node.name}: {name}" for name in bare]
    assert missing == []
    assert num_read > 150


def test_files_that_use_annotations_do_not_evaluate_them_at_import() -> None:
    files = [file for file in [*FILES, *SCRIPTS] if len(parsed(file).body) > 1 and file.name != "__init__.py"]
    for file in files:
        assert "__future__.annotations" in imported(file), file
    assert len(files) > 20


def test_what_answers_at_once_is_imported_without_torch() -> None:
    heavy = ("torch", "transformers", "accelerate", "datasets", "evaluate", "wandb", "vl_convert")
    names = ("config", "cli", "labels", "registry", "training.request", "reporting.runs", "reporting.comparison")
    modules = [f"maskcls.{name}" for name in names]
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        f"print(len([n for n in {modules} if n in sys.modules]), [n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "7 []", "")
