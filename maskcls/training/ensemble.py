"""Reads who answers, as it is typed, without torch; and what may be wrong with them.

`runs/a,runs/b` (averaged), `runs/mask+runs/gender+runs/age` (their product), a folder of folds, a blend.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskcls.config import load_config
from maskcls.errors import UserError, did_you_mean, joined, listed
from maskcls.evaluation.decision import Decision
from maskcls.labels import ATTRIBUTES
from maskcls.paths import full_path
from maskcls.training.answerer import Answerer, Mean, Product, Single
from maskcls.training.blend_file import BlendFile, is_blend_file, is_weight
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder

DECISIONS = ("saved", "plain")  # as the runs have it, or the likeliest


def read_ensemble(text: str, weights: Sequence[float] | None = None, *, decision: str = "saved") -> Answerer:
    """Returns who answers: what --model_dir and the arguments of `maskcls compare` name.

    weights: of the members that commas part; equal without them. decision: saved, or plain, as if no run had one.
    Whether the runs can answer is not looked at. Raises UserError with every member that is none, and when the weights
    do not fit.
    """
    if decision not in DECISIONS:
        known = list(DECISIONS)
        raise UserError(f"unknown --decision {decision!r}.{did_you_mean(decision, known)} Known: {', '.join(known)}")
    return _Reader(is_plain=decision == "plain").members(text, weights)


def open_ensemble(text: str, weights: str | None = None, *, decision: str = "saved") -> Answerer:
    """Returns who answers, each run of it whole as far as its files tell; only the models have not been read.

    weights: as typed, 2,1,1. Raises UserError as `read_ensemble`, with every run that is unfinished or damaged, and
    when members answer other questions.
    """
    answerer = read_ensemble(text, None if weights is None else read_weights(weights), decision=decision)
    problems = []
    for run in answerer.runs:
        try:
            RunFolder.open(run.path)
            run.read_preprocessing()
        except UserError as error:
            problems.append(str(error))
        else:
            if len(answerer.runs) > 1 and run.last.exists() and not run.finished.exists():
                resume = f"train.py --resume {run.path}"
                problems.append(f"{run.path} has not finished: an ensemble takes no run that still learns ({resume})")
    if problems := problems or _misfits(answerer):
        raise UserError(joined(problems, "problems with those that answer together"))
    return answerer


def precision_of(text: str) -> str:
    """Returns the mixed precision in which all runs validated; no where they differ or cannot be read yet."""
    try:
        precisions = precisions_of(read_ensemble(text))
    except UserError:  # said when all processes of the launch can hear it
        return "no"
    return precisions[0] if len(precisions) == 1 else "no"


def precisions_of(answerer: Answerer) -> list[str]:
    """Returns the mixed precisions of the runs, each once."""
    return sorted({run.precision() for run in answerer.runs})


def photos_folder(answerer: Answerer, infer_data_dir: str | None) -> Path:
    """Returns the folder to predict: the one given, or the one that the configs name.

    Raises UserError when nobody names one, or the configs different ones.
    """
    if infer_data_dir is not None:
        return full_path(infer_data_dir)
    named = list(dict.fromkeys(load_config(run.config).infer_data_dir for run in answerer.runs))
    if len(named) > 1:
        raise UserError(f"the runs name different folders to predict, give --infer_data_dir: {listed(named)}")
    if named[0] is None:
        files = listed(run.config for run in answerer.runs)
        raise UserError(f"no folder to predict: give --infer_data_dir, or set infer_data_dir in {files}")
    return Path(named[0])


def output_folder(answerer: Answerer, output_dir: str | None) -> Path:
    """Returns where the answers go. Raises UserError when nobody says it."""
    if output_dir is not None:
        return full_path(output_dir)
    if answerer.folder is None:
        raise UserError(f"--output_dir is missing: {answerer.name} are several, which have no folder in common")
    return answerer.folder


def read_weights(text: str) -> list[float]:
    """Returns the numbers of --weights. Raises UserError when one is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--weights {text} are not numbers with commas between them, as in --weights 2,1,1") from None


@dataclass(frozen=True)
class _Reader:
    """Reads who answers, with their decisions."""

    is_plain: bool  # as if nobody had one

    def members(self, text: str, weights: Sequence[float] | None = None) -> Answerer:
        """Returns what stands between commas, or the one that there is."""
        parts = _split(text, ",")
        members = _each(parts, self._parts, "members that cannot be read")
        if weights is not None and len(weights) != len(parts):
            numbers = ",".join(f"{weight:g}" for weight in weights)
            raise UserError(f"--weights {numbers} does not match the members, which are {listed(parts)}")
        if bad := [weight for weight in weights or () if not is_weight(weight)]:
            raise UserError(f"--weights holds {bad[0]:g}; a weight is a number above 0")
        return members[0] if len(members) == 1 else Mean(text, members, _shares(weights or [1] * len(members)))

    def _parts(self, text: str) -> Answerer:
        """Returns what stands between plus signs, or the one that there is."""
        parts = _each(_split(text, "+"), self._one, "parts that cannot be read")
        return parts[0] if len(parts) == 1 else Product(text, parts)

    def _one(self, text: str) -> Answerer:
        path = full_path(text)
        if is_blend_file(text):
            return self._blend(path)
        folds = FoldsFolder(path)
        if not folds.is_folds():
            run = RunFolder(path)
            return Single(run, self._decision(run.decision))
        runs, decision = folds.finished_runs().values(), self._decision(folds.decision)
        members = [Single(run, decision) for run in runs]
        return Mean(text, members, _shares([1] * len(members)), decision, folder=path)

    def _blend(self, path: Path) -> Answerer:
        """Returns the members of a blend.yaml as one. Raises UserError with all that is wrong."""
        file = BlendFile.read(path)
        members = _each(list(file.members), self.members, f"problems in {path}")
        decision = Decision() if self.is_plain else file.decision
        return Mean(str(path), members, _shares(list(file.members.values())), decision, folder=path.parent)

    def _decision(self, path: Path) -> Decision:
        return Decision() if self.is_plain else Decision.load(path)


def _split(text: str, separator: str) -> list[str]:
    """Returns the parts of an argument; a folder whose own name holds the separator stays whole."""
    return [text] if full_path(text).is_dir() else text.split(separator)


def _each(texts: Sequence[str], read: Callable[[str], Answerer], heading: str) -> list[Answerer]:
    """Returns what every text names. Raises UserError with the problems of all."""
    found, problems = [], []
    for text in texts:
        try:
            found.append(read(text))
        except UserError as error:
            is_named = any(part and part in str(error) for part in re.split("[,+]", text))
            problems.append(str(error) if is_named else f"{text!r}: {error}")
    if problems:
        raise UserError(joined(problems, heading))
    return found


def _misfits(answerer: Answerer) -> list[str]:
    """Returns what keeps members from answering together: they do not speak about the same, or not about all."""
    if isinstance(answerer, Single):
        return []
    below = answerer.members if isinstance(answerer, Mean) else answerer.parts
    if problems := [problem for one in below for problem in _misfits(one)]:
        return problems
    asked = [one.output_heads for one in below]
    named = ", ".join(f"{one.name} {heads[0]}" for one, heads in zip(below, asked, strict=True))
    if isinstance(answerer, Mean):
        together = "three attribute runs answer as one with +, as in runs/mask+runs/gender+runs/age"
        return [f"members answer different questions: {named}; {together}"] if len({*asked}) > 1 else []
    fits = sorted(asked) == sorted((head,) for head in ATTRIBUTES)
    return [] if fits else [f"to be combined, runs predict {', '.join(ATTRIBUTES)}, one each: {named}"]


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)
