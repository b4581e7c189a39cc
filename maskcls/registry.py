"""Tables of things a YAML may name. Each part's file ends with its table; here they are looked up and checked.

Tables are read as text (`ast`), never imported, until something is built: an unknown name or a wrong argument is told
in a fraction of a second instead of after the import of torch.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maskcls.errors import UserError, did_you_mean

# Base classes; classes whose arguments a YAML cannot hold; optimizers that want a closure, sparse or 2-D weights only.
_NOT_FROM_YAML = {
    "Optimizer",
    "LRScheduler",
    "LambdaLR",
    "MultiplicativeLR",
    "SequentialLR",
    "ChainedScheduler",
    "LBFGS",
    "SparseAdam",
    "Muon",
}


@dataclass(frozen=True)
class Arguments:
    """What a builder takes by name, as its source says."""

    names: tuple[str, ...]  # keyword arguments that a YAML may give
    required: tuple[str, ...]  # those without a default
    is_open: bool  # it has **arguments and judges them itself when it builds


@dataclass(frozen=True)
class Table:
    """The dict `variable` on the last lines of `module`: YAML name -> builder.

    Classes of `torch_module` are known by their own names too, and take their own arguments but the first
    (parameters, or the optimizer), which training supplies, as it does those in `supplied`.
    """

    kind: str  # the word that messages use, and the YAML's key
    module: str
    variable: str
    torch_module: str | None = None
    supplied: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Returns every name of the table itself (torch's own names are not listed)."""
        return sorted(_table_rows(self.module, self.variable))

    def problems(self, name: str, arguments: Mapping[str, Any]) -> list[str]:
        """Returns what is wrong with building `name` with `arguments`: nothing, or a line for each problem."""
        rows = _table_rows(self.module, self.variable)
        if name in rows:
            known = _arguments_of(self.module, rows[name])
        elif self.torch_module and name in (classes := _public_classes(self.torch_module)):
            known = _arguments_of(classes[name], name)
        else:
            return [f"unknown {self.kind} {name!r}.{self._near(name)} Known: {', '.join(self.names())}{self._torch()}"]
        offered = [argument for argument in known.names if argument not in self.supplied]
        problems = (
            []
            if known.is_open
            else [
                f"{self.kind}_args: {name} takes no {argument!r}.{did_you_mean(str(argument), offered)} "
                f"It takes: {', '.join(offered) or 'nothing'}"
                for argument in arguments
                if argument not in offered
            ]
        )
        return problems + [
            f"{self.kind}_args: {name} needs {argument!r}"
            for argument in known.required
            if argument in offered and argument not in arguments
        ]

    def builder(self, name: str) -> Callable[..., Any]:
        """Returns the builder itself; this imports its module. Raises UserError for an unknown name."""
        rows = getattr(importlib.import_module(self.module), self.variable)
        if name in rows:
            return rows[name]
        if self.torch_module and name in _public_classes(self.torch_module):
            return getattr(importlib.import_module(self.torch_module), name)
        raise UserError(self.problems(name, {})[0])

    def _near(self, name: str) -> str:
        others = list(_public_classes(self.torch_module)) if self.torch_module else []
        return did_you_mean(name, self.names() + others)

    def _torch(self) -> str:
        return f", and the classes of {self.torch_module}" if self.torch_module else ""


def check_number(place: str, name: str, value: Any, *, least: float = 0, most: float = math.inf) -> None:
    """Raises UserError, which names the argument and its place in the YAML, unless it is a number in these bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or value == math.inf:
        bounds = f"it goes from {least:g} to {most:g}" if most < math.inf else f"it is a number, {least:g} or more"
        raise UserError(f"{place}: {name} is {value!r}; {bounds}")


def _source(module: str) -> Path:
    """Returns the source file of a module without importing it (only its top-level package is looked up)."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    assert spec is not None and spec.submodule_search_locations, f"{top} is not installed"
    path = Path(spec.submodule_search_locations[0], *rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


@cache
def _table_rows(module: str, variable: str) -> dict[str, str]:
    """Returns YAML name -> name of the function or class in the module, from the table's literal."""
    for node in _parsed(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == variable:
                rows = zip(node.value.keys, node.value.values, strict=True)
                return {ast.literal_eval(key): ast.unparse(value) for key, value in rows if key is not None}
    raise AssertionError(f"{module} has no table {variable}")


@cache
def _public_classes(module: str) -> dict[str, str]:
    """Returns class name -> the module that defines it, for the public classes of a torch module."""
    classes = {}
    for node in _parsed(module).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            classes[node.name] = module
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(module):
            classes |= {a.name: node.module for a in node.names if a.name[0].isupper()}
    return {name: where for name, where in classes.items() if name not in _NOT_FROM_YAML}


@cache
def _arguments_of(module: str, name: str) -> Arguments:
    """Returns the arguments of a function, or of a class's __init__, without importing it."""
    found: ast.stmt = next(n for n in _parsed(module).body if getattr(n, "name", None) == name)
    is_class = isinstance(found, ast.ClassDef)
    if isinstance(found, ast.ClassDef):
        found = next(n for n in found.body if getattr(n, "name", None) == "__init__")
    assert isinstance(found, ast.FunctionDef)
    spec = found.args
    # Positional arguments of our builders are objects that training hands over; a class has self and one such first.
    positional = spec.args[2:] if is_class else []
    no_default = {a.arg for a in spec.args[: len(spec.args) - len(spec.defaults)]}
    no_default |= {a.arg for a, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if default is None}
    names = tuple(a.arg for a in [*positional, *spec.kwonlyargs])
    return Arguments(names, tuple(n for n in names if n in no_default), spec.kwarg is not None)
