"""A YAML and its overrides are read to plain values and places, or refused in words that name the place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskcls.errors import UserError
from maskcls.yaml_file import YamlFile, write_yaml
from tests.helpers import as_nobody

Read = Callable[..., YamlFile]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)

    def read_text(text: str, *overrides: str) -> YamlFile:
        Path("exp.yaml").write_text(text, encoding="utf-8")
        return YamlFile.read("exp.yaml", overrides)

    return read_text


def problems(file: YamlFile) -> list[str]:
    """Returns the problems of a file, its folder left out."""
    return [problem.replace(f"{file.path.parent}/", "") for problem in file.problems]


# Values


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-4", "1e-04", ".1e-3", "1_0e-5", "1.e-4"])
def test_a_number_in_any_notation_is_a_number(text: str, read: Read) -> None:
    assert read(f"lr: {text}\n").values == read("", f"lr={text}").values == {"lr": 1e-4}


@pytest.mark.parametrize(("text", "value"), [("1E5", 1e5), ("-2e3", -2e3), ("3e+2", 300.0), ("[1e-8]", [1e-8])])
def test_an_exponent_makes_a_float(text: str, value: Any, read: Read) -> None:
    value_read = read(f"eps: {text}\n").values["eps"]
    assert value_read == value and type(value_read) is type(value)


@pytest.mark.parametrize("text", ["1e", "e4", "1e-", "e", "1e5x", "v1e5", "1e5.5", "1-e5", "'1e5'"])
def test_what_only_looks_like_an_exponent_stays_text(text: str, read: Read) -> None:
    assert read(f"name: {text}\n").values == {"name": text.strip("'")}


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n"])
def test_an_empty_file_says_nothing(text: str, read: Read) -> None:
    file = read(text)
    assert (file.values, file.places, file.problems) == ({}, {}, [])


def test_a_key_stands_in_its_line_or_in_its_override(read: Read) -> None:
    file = read("seed: 1\n\nmodel_args:\n  depth: 2\n", "model_args.width=3")
    places = [file.place(key).replace(f"{file.path.parent}/", "") for key in ("seed", "model_args", "lr")]
    assert places == ["exp.yaml:1", "override model_args.width=3", "exp.yaml"]


def test_a_key_that_stands_twice_is_refused_with_both_lines(read: Read) -> None:
    assert problems(read("seed: 1\nlr: 0.1\nseed: 2\n")) == ["exp.yaml:3: duplicate key 'seed', first in line 1"]
    terms = "criterion_args:\n  terms:\n    - criterion: f1\n      factor: 1\n      factor: 2\n"
    assert problems(read(terms)) == ["exp.yaml:5: duplicate key 'factor', first in line 4"]


# Overrides


def test_overrides_come_with_and_without_dashes_and_the_last_one_wins(read: Read) -> None:
    file = read("seed: 1\n", "seed=7", "--lr=1e-4", "name=a=b", "fixes=null", "size=[8, 6]", "--seed=8")
    assert file.values == {"seed": 8, "lr": 1e-4, "name": "a=b", "fixes": None, "size": [8, 6]}


def test_dots_reach_into_arguments_and_leave_their_neighbours(read: Read) -> None:
    text = "optimizer: &same {eps: 1e-6, betas: [0.9, 0.999]}\nother: *same\n"
    file = read(text, "optimizer.betas=[0.9,0.95]", "--model.size=64", "optimizer.std=")
    assert file.values == {
        "optimizer": {"eps": 1e-6, "betas": [0.9, 0.95], "std": None},
        "other": {"eps": 1e-6, "betas": [0.9, 0.999]},
        "model": {"size": 64},
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "override 'seed' is not of the form key=value"),
        ("--seed", "override '--seed' is not of the form key=value"),
        ("=3", "override '=3' is not of the form key=value"),
        ("--lr 0.5", "override '--lr 0.5' is not of the form key=value: write --lr=0.5"),
        ("--size [8,6]", "override '--size [8,6]' is not of the form key=value: write '--size=[8,6]'"),
        ("--seed --lr=0.5", "override '--seed' is not of the form key=value"),
        ("lr=[", "override 'lr=[': '[' is not a YAML value"),
        ("data_dir=\udcc7\udcd1", r"'\udcc7\udcd1' is not UTF-8, in CP949 it is '한': rename it"),
        ("lr=!!python/name:os.system", "override 'lr=!!python/name:os.system': '!!python/name:os.system' is not a YA"),
        ("seed.x=1", "override 'seed.x=1': seed holds 5, which has no keys"),
        ("optimizer.eps.x=1", "override 'optimizer.eps.x=1': eps holds 1e-06, which has no keys"),
        ("dataset={output: all, output: mask}", "duplicate key 'output'"),
    ],
)
def test_each_bad_override_has_its_words(override: str, words: str, read: Read) -> None:
    typed = override.split(" ") if override.startswith("--") else [override]
    (problem,) = read("seed: 5\noptimizer: {eps: 1e-6}\n", *typed).problems
    assert words in problem


# Files


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n"])
def test_what_is_no_mapping_is_refused(text: str, read: Read) -> None:
    with pytest.raises(UserError, match=r"exp\.yaml: expected `key: value` lines$"):
        read(text)


@pytest.mark.parametrize(
    "text", ["data_dir: [x\n", "a: b: c\n", "\tx: 1\n", "a: &x [*y]\n", "lr: !!python/name:os.x\n"]
)
def test_what_is_no_yaml_is_refused(text: str, read: Read) -> None:
    with pytest.raises(UserError, match=r"exp\.yaml is not valid YAML: "):
        read(text)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_bytes(b"\xff\xfe\x00\x00data_dir")
    with pytest.raises(UserError, match=r"exp\.yaml is not valid YAML: 'utf-8' codec can't decode"):
        YamlFile.read(tmp_path / "exp.yaml")


def test_a_file_that_is_none_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"config file {tmp_path}/exp.yaml does not exist")):
        YamlFile.read("exp.yaml")
    Path("exp.yaml").mkdir()
    with pytest.raises(UserError, match=r"exp\.yaml is a folder, not a file$"):
        YamlFile.read("exp.yaml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_file_is_named(everybodys: Path) -> None:
    path = everybodys / "exp.yaml"
    path.touch(mode=0o600)
    assert as_nobody(lambda: YamlFile.read(path)) == f"config file {path} cannot be read: Permission denied"


@pytest.mark.parametrize("text", ["exp", "1e5", "2024", "null", "on", "1:30", "0x10", "~", "5e-05", "a: b", " x "])
def test_what_is_written_is_read_as_it_was(text: str, tmp_path: Path) -> None:
    values = {"name": text, "lr": 1e-5, "얼굴": [0.5, None, True], "more": {"z": text, "a": 1}}
    write_yaml(tmp_path / "exp.yaml", values)
    file = YamlFile.read(tmp_path / "exp.yaml")
    assert (file.values, file.problems) == (values, [])
    assert list(file.values) == list(values)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_yaml(tmp_path / "exp.yaml", {"seed": 1})
    with pytest.raises(yaml.YAMLError):
        write_yaml(tmp_path / "exp.yaml", {"seed": 2, "more": object()})
    assert YamlFile.read(tmp_path / "exp.yaml").values == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["exp.yaml"]
