"""Who answers: one run, several whose probabilities are averaged, or three attribute runs as one. Read without torch.

As typed: `runs/a,runs/b` (averaged), `runs/mask+runs/gender+runs/age` (their product), a folder of folds, a blend.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.config import Config, load_config
from maskcls.errors import UserError, joined, listed
from maskcls.evaluation.paired import averaged, combined_attributes, joined_people
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, joint, labels_of, likeliest
from maskcls.paths import full_path
from maskcls.training.blend_file import BlendFile, is_blend_file, is_weight
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder

Probabilities = Mapping[str, np.ndarray]  # head -> (N, K)
Said = Mapping[Path, Probabilities]  # folder of a run -> what its model says about N photos


@dataclass(frozen=True)
class Single:
    """One run."""

    run: RunFolder

    @property
    def name(self) -> str:
        """What a message calls it."""
        return str(self.run.path)

    @property
    def folder(self) -> Path:
        """Where its answers go unless somebody says otherwise."""
        return self.run.path

    @property
    def runs(self) -> list[RunFolder]:
        """The run."""
        return [self.run]

    @cached_property
    def config(self) -> Config:
        """What the run was trained with. Raises UserError as load_config."""
        return load_config(self.run.config)

    @property
    def output_heads(self) -> tuple[str, ...]:
        """The heads that it speaks about."""
        return tuple(HEAD_CLASSES) if self.config.output in ("all", "class") else (self.config.output,)

    def combined(self, said: Said) -> Probabilities:
        """Returns its probabilities, head -> (N, K)."""
        return said[self.run.path]

    def predictions(self) -> Predictions:
        """Returns what it said about its validation photos. Raises UserError as the run does."""
        return self.run.read_predictions()

    def trained_people(self) -> set[str]:
        """Returns the profiles that it learnt from."""
        return self.run.trained_people()


@dataclass(frozen=True)
class Mean:
    """Several that answer the same question: the mean of their probabilities, head by head."""

    name: str
    members: Sequence[Answerer]
    weights: Sequence[float]  # their sum is 1
    folder: Path | None = None  # of the folds or of the blend.yaml; None: of a list

    @property
    def runs(self) -> list[RunFolder]:
        """The runs of all members, each once."""
        return _runs_of(self.members)

    @property
    def output_heads(self) -> tuple[str, ...]:
        """The heads that every member speaks about."""
        return self.members[0].output_heads

    def combined(self, said: Said) -> Probabilities:
        """Returns the weighted means, head -> (N, K) float64."""
        return _mean([member.combined(said) for member in self.members], self.weights)

    def predictions(self) -> Predictions:
        """Returns what they say together about their validation photos.

        Members that validated the same photos are averaged; folds, which validated other people each, are joined.
        Raises UserError when the photos are neither the same nor those of other people.
        """
        return _together([member.predictions() for member in self.members], self.weights)

    def trained_people(self) -> set[str]:
        """Returns the profiles that any member learnt from."""
        return set().union(*(member.trained_people() for member in self.members))


@dataclass(frozen=True)
class Product:
    """One for each attribute, as one that speaks about all of them and about the classes."""

    name: str
    parts: Sequence[Answerer]
    folder = None

    @property
    def runs(self) -> list[RunFolder]:
        """The runs of all parts, each once."""
        return _runs_of(self.parts)

    @property
    def output_heads(self) -> tuple[str, ...]:
        """All heads."""
        return tuple(HEAD_CLASSES)

    def combined(self, said: Said) -> Probabilities:
        """Returns the attributes' probabilities and their product, head -> (N, K)."""
        spoken = {head: values for part in self.parts for head, values in part.combined(said).items()}
        attributes = {head: spoken[head] for head in ATTRIBUTES}
        return {"class": joint(attributes), **attributes}

    def predictions(self) -> Predictions:
        """Returns what they say together about their validation photos. Raises UserError as combined_attributes."""
        return combined_attributes([part.predictions() for part in self.parts])

    def trained_people(self) -> set[str]:
        """Returns the profiles that any part learnt from."""
        return set().union(*(part.trained_people() for part in self.parts))


Answerer = Single | Mean | Product


def read_ensemble(text: str, weights: Sequence[float] | None = None) -> Answerer:
    """Returns who answers: what --model_dir and the arguments of `maskcls compare` name.

    weights: of the members that commas part; equal without them. Whether the runs can answer is not looked at. Raises
    UserError with every member that is none, and when the weights do not fit.
    """
    parts = _split(text, ",")
    members = _each(parts, _member, "members that cannot be read")
    if weights is not None and len(weights) != len(parts):
        numbers = ",".join(f"{weight:g}" for weight in weights)
        raise UserError(f"--weights {numbers} has {len(weights)} weights for {len(parts)} members: {listed(parts)}")
    if bad := [weight for weight in weights or () if not is_weight(weight)]:
        raise UserError(f"--weights holds {bad[0]:g}; a weight is a number above 0")
    return members[0] if len(members) == 1 else Mean(text, members, _shares(weights or [1] * len(members)))


def open_ensemble(text: str, weights: str | None = None) -> Answerer:
    """Returns who answers, each run of it whole as far as its files tell; only the models have not been read.

    weights: as typed, 2,1,1. Raises UserError as `read_ensemble`, with every run that is unfinished or damaged, and
    when members answer other questions.
    """
    answerer = read_ensemble(text, None if weights is None else read_weights(weights))
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


def decided(probabilities: Probabilities) -> dict[str, np.ndarray]:
    """Returns the label (N,) of each head, the headline first: that of the likeliest class, or of the one head."""
    if "class" not in probabilities:
        return {head: likeliest(values) for head, values in probabilities.items()}
    code = likeliest(probabilities["class"])
    return {"class": code, **labels_of(code)}


def read_weights(text: str) -> list[float]:
    """Returns the numbers of --weights. Raises UserError when one is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--weights {text} are not numbers with commas between them, as in --weights 2,1,1") from None


def _member(text: str) -> Answerer:
    """Returns what stands between two commas."""
    parts = _split(text, "+")
    read = _each(parts, _run_or_folds, "parts that cannot be read")
    return read[0] if len(read) == 1 else Product(text, read)


def _run_or_folds(text: str) -> Answerer:
    path = full_path(text)
    if is_blend_file(text):
        return _blend(path)
    folds = FoldsFolder(path)
    if not folds.is_folds():
        return Single(RunFolder(path))
    runs = folds.finished_runs().values()
    return Mean(text, [Single(run) for run in runs], _shares([1] * len(runs)), folder=path)


def _blend(path: Path) -> Answerer:
    """Returns the members of a blend.yaml as one. Raises UserError with all that is wrong."""
    file = BlendFile.read(path)
    members = _each(list(file.members), read_ensemble, f"problems in {path}")
    return Mean(str(path), members, _shares(list(file.members.values())), folder=path.parent)


def _split(text: str, separator: str) -> list[str]:
    """Returns the parts of an argument; a folder whose own name holds the separator stays whole."""
    return [text] if full_path(text).is_dir() else text.split(separator)


def _each(texts: Sequence[str], read: Any, heading: str) -> list[Answerer]:
    """Returns what every text names. Raises UserError with the problems of all."""
    found, problems = [], []
    for text in texts:
        try:
            found.append(read(text))
        except UserError as error:
            problems.append(str(error) if text in str(error) else f"{text!r}: {error}")
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


def _runs_of(answerers: Sequence[Answerer]) -> list[RunFolder]:
    return list(dict.fromkeys(run for answerer in answerers for run in answerer.runs))


def _mean(tables: Sequence[Probabilities], weights: Sequence[float]) -> Probabilities:
    return {head: np.average([table[head] for table in tables], axis=0, weights=weights) for head in tables[0]}


def _together(tables: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    groups: dict[frozenset[str], list[tuple[Predictions, float]]] = {}
    for table, weight in zip(tables, weights, strict=True):
        groups.setdefault(frozenset(table.keys.tolist()), []).append((table, weight))
    people = [set(group[0][0].people.tolist()) for group in groups.values()]
    if sum(map(len, people)) > len(set().union(*people)):
        raise UserError(
            "the runs validated some of the same people: to be averaged they validate the same photos, to be "
            "joined, as folds are, other people each"
        )
    means = [averaged([table for table, _ in group], [weight for _, weight in group]) for group in groups.values()]
    return joined_people(means) if len(means) > 1 else means[0]
