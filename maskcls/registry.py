"""Tables of things a YAML may name. Each part's file ends with its table; here they are looked up and checked.

Tables are read as text (`ast`), never imported, until something is built: an unknown name or a wrong argument is
reported in a fraction of a second instead of after the import of torch.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maskcls.errors import UserError, did_you_mean

_BASES = {"Optimizer", "LRScheduler"}
_WANT_WHAT_NO_YAML_HOLDS = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}
_WANT_OTHER_UPDATES = {"LBFGS", "SparseAdam", "Muon"}  # a closure, or sparse or 2-D weights only

Terms = Sequence[Mapping[str, Any]]  # rows of the same table with a factor each, as the argument of one of them


@dataclass(frozen=True)
class Signature:
    """What a builder takes by name, as its source says."""

    names: tuple[str, ...]  # keyword arguments that a YAML may give
    required: tuple[str, ...]  # those without a default
    is_open: bool = False  # it has **arguments and judges them itself when it builds
    terms: tuple[str, ...] = ()  # those that are Terms


@dataclass(frozen=True)
class Table:
    """The dict `variable` on the last lines of `module`: YAML name -> builder, which is called with the arguments.

    A builder is a function, a class, or an object with `__call__`. What such a call takes as **arguments is what the
    object's `takes` names (None: anything), or the fields of its class.

    Classes of `torch_module` are known by their own names too, and take their own arguments but the first
    (parameters, or the optimizer), which training supplies, as it does those in `supplied`.
    """

    kind: str  # the word that messages use, and the YAML's key
    module: str
    variable: str
    torch_module: str | None = None
    supplied: tuple[str, ...] = ()
    shared: Signature = Signature((), ())  # what all take from a YAML; it is no builder's own

    def names(self) -> list[str]:
        """Returns every name of the table itself (torch's own names are not listed)."""
        return sorted(_table_rows(self.module, self.variable))

    def problems(self, name: str, arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Returns (key, what is wrong with it) for each mistake in building `name` with `arguments`."""
        rows, classes = _table_rows(self.module, self.variable), _public_classes(self.torch_module)
        if name not in rows and name not in classes:
            near = did_you_mean(name, [*self.names(), *classes])
            others = f", and the classes of {self.torch_module}" if classes else ""
            return [(self.kind, f"unknown {self.kind} {name!r}.{near} Known: {', '.join(self.names())}{others}")]
        known = _signature_of(self.module, rows[name]) if name in rows else _signature_of(classes[name], name)
        offered = [argument for argument in (*self.shared.names, *known.names) if argument not in self.supplied]
        texts = []
        for argument in [] if known.is_open else arguments:
            if argument not in offered:
                near, takes = did_you_mean(str(argument), offered), ", ".join(offered) or "nothing"
                texts.append(f"{self.kind}_args: {name} takes no {argument!r}.{near} It takes: {takes}")
        for argument in (*self.shared.required, *known.required):
            if argument in offered and argument not in arguments:
                texts.append(f"{self.kind}_args: {name} needs {argument!r}")
        for argument in known.terms:
            if argument in arguments:
                texts += self._problems_of_terms(f"{argument} of {name}", arguments[argument])
        return [(f"{self.kind}_args", text) for text in texts]

    def builder(self, name: str) -> Callable[..., Any]:
        """Returns the builder itself; this imports its module. Raises UserError for an unknown name."""
        rows = getattr(importlib.import_module(self.module), self.variable)
        if name in rows:
            return rows[name]
        if self.torch_module and name in _public_classes(self.torch_module):
            return getattr(importlib.import_module(self.torch_module), name)
        raise UserError(self.problems(name, {})[0][1])

    def _problems_of_terms(self, what: str, terms: Any) -> list[str]:
        form = f"{what} is a list of {{{self.kind}: name, factor: number, {self.kind}_args: {{...}}}}"
        if not isinstance(terms, list) or not terms:
            return [form]
        texts = []
        for term in terms:
            if self._is_term(term):
                texts += [text for _, text in self.problems(term[self.kind], term.get(f"{self.kind}_args") or {})]
            else:
                texts.append(f"{form}, not {term!r}")
        return texts

    def _is_term(self, term: Any) -> bool:
        return (
            isinstance(term, dict)
            and {self.kind} <= term.keys() <= {self.kind, "factor", f"{self.kind}_args"}
            and isinstance(term[self.kind], str)
            and isinstance(term.get("factor", 1), int | float)
            and isinstance(term.get(f"{self.kind}_args") or {}, dict)
        )


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
    """Returns YAML name -> what stands beside it, from the table's literal."""
    for node in _parsed(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == variable:
                rows = zip(node.value.keys, node.value.values, strict=True)
                return {ast.literal_eval(key): ast.unparse(value) for key, value in rows if key is not None}
    raise AssertionError(f"{module} has no table {variable}")


@cache
def _public_classes(module: str | None) -> dict[str, str]:
    """Returns class name -> the module that defines it, for the public classes of a torch module; none of no module."""
    classes: dict[str, str] = {}
    if module is None:
        return classes
    for node in _parsed(module).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            classes[node.name] = module
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(module):
            classes |= {a.name: node.module for a in node.names if a.name[0].isupper()}
    not_offered = _BASES | _WANT_WHAT_NO_YAML_HOLDS | _WANT_OTHER_UPDATES
    return {name: where for name, where in classes.items() if name not in not_offered}


@cache
def _signature_of(module: str, row: str) -> Signature:
    """Returns the signature of a function, of a class, or of the object that a row makes, without importing anything.

    Positional arguments of our builders are objects that training hands over; a class has self and one such first.
    """
    made = ast.parse(row, mode="eval").body
    name = ast.unparse(made.func) if isinstance(made, ast.Call) else row
    found = next(node for node in _parsed(module).body if getattr(node, "name", None) == name)
    if isinstance(found, ast.FunctionDef):
        return _signature_in(found.args, num_supplied=len(found.args.args))
    assert isinstance(found, ast.ClassDef)
    methods = {node.name: node.args for node in found.body if isinstance(node, ast.FunctionDef)}
    if not isinstance(made, ast.Call):
        return _signature_in(methods["__init__"], num_supplied=2)
    known = _signature_in(methods["__call__"], num_supplied=1)
    fields = tuple(ast.unparse(node.target) for node in found.body if isinstance(node, ast.AnnAssign))
    takes = {word.arg: ast.literal_eval(word.value) for word in made.keywords if word.arg == "takes"}
    others = takes.get("takes", fields) if known.is_open else ()
    return replace(known, names=(*known.names, *(others or ())), is_open=others is None)


def _signature_in(spec: ast.arguments, *, num_supplied: int) -> Signature:
    """Returns the signature without the first arguments, which are not given by name."""
    no_default = {a.arg for a in spec.args[: len(spec.args) - len(spec.defaults)]}
    no_default |= {a.arg for a, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if default is None}
    given = [*spec.args[num_supplied:], *spec.kwonlyargs]
    return Signature(
        names=tuple(a.arg for a in given),
        required=tuple(a.arg for a in given if a.arg in no_default),
        is_open=spec.kwarg is not None,
        terms=tuple(a.arg for a in given if a.annotation and ast.unparse(a.annotation) == "Terms"),
    )
