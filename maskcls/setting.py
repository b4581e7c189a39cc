"""How a setting is declared: the kind of its value, its facts and its help; and what is said of a wrong value."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from maskcls import labels
from maskcls.errors import UserError, did_you_mean
from maskcls.paths import full_path
from maskcls.yaml_file import YamlFile


def _absolute(text: str) -> str:
    if text == "None":
        raise ValueError("nothing is written null, and a path of that name ./None")
    try:
        return str(full_path(text))
    except UserError as error:
        raise ValueError(str(error)) from None


def _absolute_or_nobody(text: str) -> str:
    """Returns an absolute path, but the word none as it stands."""
    return text if text == "none" else _absolute(text)


def _absolute_or_at_home(text: str) -> str:
    """Returns an absolute path, but `~` as it stands: each machine of a launch, and who predicts later, has a home."""
    absolute = _absolute(text)
    return text if text.startswith("~") else absolute


def _with_local_folder(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns model_args with an absolute `pretrained` when it is a path and no Hub id."""
    text = arguments.get("pretrained")
    if not isinstance(text, str) or not text:
        return arguments
    is_path = text == "None" or text.startswith(("~", ".")) or Path(text).is_absolute() or Path(text).is_dir()
    return arguments | {"pretrained": _absolute(text)} if is_path else arguments


Positive = Annotated[int, Field(gt=0)]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]  # as written -> absolute, `~` expanded
FilePathOrNobody = Annotated[str, Field(min_length=1), AfterValidator(_absolute_or_nobody)]  # "none": the word
CachePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute_or_at_home)]
CheckpointInterval = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8} (updates?|minutes?)$")]
Arguments = dict[str, Any]
ModelArguments = Annotated[Arguments, AfterValidator(_with_local_folder)]


def setting(default: Any, *, may_change: bool = False, is_runtime: bool = False, **bounds: Any) -> Any:
    """Returns a pydantic field; bounds are pydantic's (gt, ge, lt, le).

    may_change: a run may be continued with another value, for nothing of what is learnt from which photos changes.
    is_runtime: it says where and how a run works, and not what it learns; so it may change, too.
    """
    facts: dict[str, Any] = {"may_change": may_change or is_runtime, "is_runtime": is_runtime}
    return Field(default, json_schema_extra=facts, **bounds)


def keys_with(fact: str, settings: type[BaseModel]) -> set[str]:
    """Returns the settings of which "may_change" or "is_runtime" is declared."""
    extras = {key: field.json_schema_extra for key, field in settings.model_fields.items()}
    return {key for key, extra in extras.items() if isinstance(extra, dict) and extra[fact]}


@cache
def help_texts(settings: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Returns key -> {"en": its help, "ko": the same in Korean}: what stands as a text below its declaration.

    It is read from the source when somebody asks, for what starts has no use for it. What follows from the task, as
    {outputs}, is filled in.
    """
    of_task = {
        "attributes": ", ".join(labels.ATTRIBUTES),
        "classes": ", ".join(f"{output} {labels.num_classes(output)}" for output in labels.OUTPUT_HEADS),
        "outputs": " | ".join(labels.OUTPUT_HEADS),
    }
    (declared,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(declared, ast.ClassDef)
    texts = {}
    for field, below in pairwise(declared.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            lines = ast.literal_eval(below.value).splitlines()
            first = next(number for number, line in enumerate(lines) if any("가" <= letter <= "힣" for letter in line))
            key = ast.unparse(field.target)
            parts = {"en": lines[:first], "ko": lines[first:]}
            texts[key] = {name: " ".join(map(str.strip, part)).format(**of_task) for name, part in parts.items()}
    return texts


def problems_of_kind(error: ValidationError, file: YamlFile, settings: type[BaseModel]) -> list[str]:
    """Returns one line per key that is missing, unknown or of another kind, in the user's words."""
    problems: dict[str, str] = {}
    hints: dict[str, str] = {}
    for item in error.errors():
        key = str(item["loc"][0])
        place = file.place(key)
        if item["type"] == "missing":
            problems[key] = f"{place}: {key} is missing: {help_texts(settings)[key]['en']}"
        elif item["type"] == "extra_forbidden":
            problems[key] = f"{place}: unknown key {key!r}.{did_you_mean(key, list(settings.model_fields))}"
        elif key in problems:  # another branch of the same union
            problems[key] += f", or {item['msg'][0].lower()}{item['msg'][1:]}"
        else:
            said = item["msg"].removeprefix("Value error, ")
            problems[key] = f"{place}: {key} is {item['input']!r}: {said[0].lower()}{said[1:]}"
        field = settings.model_fields.get(key)
        allows_null = field is not None and type(None) in get_args(field.annotation)
        hints[key] = hints.get(key) or _hint(key, item["input"], item["type"], place, allows_null=allows_null)
    return [problem + hints[key] for key, problem in problems.items()]


def _hint(key: str, value: Any, kind: str, place: str, *, allows_null: bool) -> str:
    """Returns how to write what the user may have meant, for the end of a message."""
    if kind == "string_type" and isinstance(value, int | float | date):
        _, is_override, text = place.partition("=")
        return f"; as text: {key}={shlex.quote(json.dumps(text))}" if is_override else "; as text it stands in quotes"
    return "; nothing is written null" if value == "None" and allows_null else ""
