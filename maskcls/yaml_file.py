"""A flat YAML and the overrides of a command line -> plain values, where each key stands, and every problem of form.

Stricter than PyYAML: no key stands twice, and 1e-4 is a number. What the values mean is not known here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskcls.errors import UserError, reason_of
from maskcls.paths import encoding_problem, file_problem, full_path, write_text

MAX_VALUES = 10_000  # of a file, aliases expanded


@dataclass(frozen=True)
class YamlFile:
    """A flat YAML as it was read, overrides in place."""

    path: Path
    values: dict[str, Any]
    places: dict[str, str]  # top-level key -> "file:line", or "override key=value"
    problems: list[str]  # keys that stand twice, overrides that are none

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> YamlFile:
        """Returns what a file says, with `key=value` or `--key=value` overrides (dots reach into mappings).

        Raises UserError when it cannot be read, or is no YAML mapping.
        """
        path = full_path(path)
        if problem := file_problem(path):
            raise UserError(f"config file {path} {problem}")
        try:
            node, values, problems = _parsed(path.read_text(encoding="utf-8"), path)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise _not_yaml(path, error) from None
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        places = {str(key.value): f"{path}:{key.start_mark.line + 1}" for key in keys}
        file = cls(path, _as_mapping({} if node is None else values, path), places, problems)
        file._override(overrides)
        return file

    def place(self, key: str) -> str:
        """Returns where a top-level key stands, as a message begins; the file, where the key is left out."""
        return self.places.get(key, str(self.path))

    def _override(self, overrides: Sequence[str]) -> None:
        rest = list(overrides)
        while rest:
            override = rest.pop(0)
            if override.startswith("--") and "=" not in override and rest and not re.match("--|.*=", rest[0]):
                apart, override = f"{override} {rest[0]}", f"{override}={rest.pop(0)}"
                # What else is wrong with it comes in the same message.
                self.problems.append(f"override {apart!r} is not of the form key=value: write {shlex.quote(override)}")
            self.problems.extend(self._problems_of_override(override))

    def _problems_of_override(self, override: str) -> list[str]:
        """Puts one override into the values and returns its problems."""
        key, equals, text = override.removeprefix("--").partition("=")
        if not equals or not key:
            return [f"override {override!r} is not of the form key=value"]
        try:
            _, value, problems = _parsed(text, f"override {override!r}")
        except yaml.YAMLError:
            return [f"override {override!r}: {text!r} {encoding_problem(text) or 'is not a YAML value'}"]
        *parents, last = key.split(".")
        target = self.values
        for parent in parents:
            if not isinstance(target.get(parent) or {}, dict):
                return [f"override {override!r}: {parent} holds {target[parent]!r}, which has no keys"]
            target[parent] = dict(target.get(parent) or {})
            target = target[parent]
        target[last] = value
        self.places[key.split(".")[0]] = f"override {override}"
        return problems


def read_values(path: Path) -> dict[str, Any]:
    """Returns what a file says that a program wrote: ten times as fast as `YamlFile.read`, and not as strict.

    Raises UserError when it cannot be read, or is no YAML mapping.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise UserError(f"{path}: {reason_of(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_yaml(path, error) from None
    return _as_mapping(values, path)


def _not_yaml(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}")


def _as_mapping(values: Any, path: Path) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines")
    return {str(key): value for key, value in values.items()}


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Writes values in their order, such that `YamlFile.read` returns them; `path` is whole or as it was before."""
    write_text(path, yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Loader(yaml.SafeLoader):
    """SafeLoader for which 1e-4 is a number, as in YAML 1.2 (PyYAML, YAML 1.1, reads it as text)."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which _Loader would read as a number."""


_WITH_EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)$")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _WITH_EXPONENT, list("-+0123456789."))


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    str(value)  # ValueError for thousands of hexadecimal digits, which no message could show
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _parsed(text: str, place: Path | str) -> tuple[yaml.Node | None, Any, list[str]]:
    """Returns the document's node, its value, and a problem for each duplicate key. Raises YAMLError for any other."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        problems = _duplicate_keys(node, place)
        return node, None if node is None else loader.construct_document(node), problems
    except Exception as error:  # PyYAML lets through what int(), float() and its own tables raise: `!!bool x`, KeyError
        raise error if isinstance(error, yaml.YAMLError) else yaml.YAMLError(str(error)) from None


def _expanded(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yields the node and all below it; what an alias stands for comes again for each alias."""
    if node is not None:
        yield node
    below = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []
    for child in node.value if isinstance(node, yaml.SequenceNode) else below:
        yield from _expanded(child)


def _duplicate_keys(root: yaml.Node | None, place: Path | str) -> list[str]:
    problems = []
    for number, node in enumerate(_expanded(root)):
        if number == MAX_VALUES:  # forty lines of aliases of aliases are a terabyte of values
            raise yaml.YAMLError(f"it has more than {MAX_VALUES:,} values, each alias counted as what it stands for")
        seen: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            line = key.start_mark.line + 1
            if str(key.value) in seen:
                problems.append(f"{place}:{line}: duplicate key {key.value!r}, first in line {seen[str(key.value)]}")
            seen[str(key.value)] = line
    return problems
