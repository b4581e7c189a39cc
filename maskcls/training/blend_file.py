"""The form of blend.yaml: who answers together, and with what weights. `maskcls blend` writes it, infer.py reads it.

members: {runs/exp18: 2, runs/mask+runs/gender+runs/age: 1}  # as --model_dir takes them, from where the file lies
decision: {...}  # how their mean becomes an answer
scores: {...}  # for whoever reads the file
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskcls.errors import UserError, did_you_mean, joined
from maskcls.evaluation.decision import Decision
from maskcls.paths import file_problem, folder_problem, full_path, write_problem
from maskcls.yaml_file import YamlFile, read_values, write_yaml

KEYS = ("members", "decision", "scores")
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class BlendFile:
    """What stands in a blend.yaml."""

    members: Mapping[str, float]  # text of --model_dir -> weight
    decision: Decision = field(default_factory=Decision)
    scores: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> BlendFile:
        """Returns what a file says, with full paths of the members. Raises UserError with all that is wrong."""
        if problem := file_problem(path):
            raise UserError(f"blend {path} {problem}")
        file = YamlFile.read(path)
        known = list(KEYS)
        problems = file.problems + [
            f"{file.place(key)}: unknown key {key!r}.{did_you_mean(key, known)} Known: {', '.join(known)}"
            for key in file.values.keys() - set(known)
        ]
        given, place = file.values.get("members"), file.place("members")
        if not isinstance(given, dict) or not given:
            problems.append(f"{place}: members is {given!r}; it names each member with its weight, as in runs/exp: 2")
            given = {}
        members = {}
        for text, weight in given.items():
            if not is_weight(weight):
                problems.append(f"{place}: the weight of {text} is {weight!r}; it is a number above 0")
            if is_blend_file(str(text)):
                problems.append(f"{place}: {text} is a blend itself: name its members")
            members[_with_paths(str(text), path.parent, lambda part: str(path.parent / part))] = weight
        decision = Decision()
        try:
            decision = Decision.from_dict(file.values.get("decision") or {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{file.place('decision')}: decision is none that maskcls blend wrote: {error}")
        if problems:
            raise UserError(joined(problems, f"problems in {path}"))
        return cls(members, decision, file.values.get("scores") or {})

    def write(self, path: Path) -> None:
        """Writes a file. Members are seen from where one works, in the file from where it lies. Raises UserError."""
        members = {
            _with_paths(text, Path(), lambda part: os.path.relpath(full_path(part), path.parent)): weight
            for text, weight in self.members.items()
        }
        try:
            write_yaml(path, {"members": members, "decision": self.decision.to_dict(), "scores": dict(self.scores)})
        except OSError as error:
            raise write_problem(path, error) from None

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises UserError when something is there that is no blend.yaml, or when there is no folder for it."""
        if problem := folder_problem(path.parent):
            raise UserError(f"{path} cannot be written: {path.parent} {problem}")
        try:
            is_other = os.path.lexists(path) and "members" not in read_values(path)
        except UserError:
            is_other = True
        if is_other:
            raise UserError(f"{path} is there and is no blend.yaml: name another file, or delete it first")


def is_blend_file(text: str) -> bool:
    """Returns whether a member's text names a file of blends."""
    return Path(text).suffix in ENDINGS and not full_path(text).is_dir()


def is_weight(value: Any) -> bool:
    """Returns whether a value can be a weight: a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _with_paths(text: str, folder: Path, changed: Callable[[Path], Path | str]) -> str:
    """Returns a member's text with each path changed; a folder whose own name holds a separator stays whole."""
    path = Path(os.path.expanduser(text))
    for separator in (",", "+"):
        if separator in text and not (folder / path).is_dir():
            return separator.join(_with_paths(part, folder, changed) for part in text.split(separator))
    return str(changed(path))
