"""Those who answer: one run, several whose probabilities are averaged, or three attribute runs as one. Without torch.

Each says what it makes of the probabilities of its runs' models, and what it said about its validation photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.paired import averaged, combined_attributes, joined_people
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.unsure import Conformal
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, joint
from maskcls.training.run_folder import RunFolder

PLAIN = Decision()
Probabilities = Mapping[str, np.ndarray]  # head -> (N, K)
Said = Mapping[Path, Probabilities]  # folder of a run -> what its model says about N photos


@dataclass(frozen=True)
class Single:
    """One run."""

    run: RunFolder
    decision: Decision  # its own, or that of the folds it is one of; its probabilities get the temperatures

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
        """Returns its probabilities after its temperatures, head -> (N, K)."""
        return self._tempered(said[self.run.path])

    def predictions(self) -> Predictions:
        """Returns what it said about its validation photos. Raises UserError as the run does."""
        table = self.run.read_predictions()
        return replace(table, probabilities=self._tempered(table.probabilities))

    def trained_people(self) -> set[str]:
        """Returns the profiles that it learnt from."""
        return self.run.trained_people()

    def _tempered(self, probabilities: Probabilities) -> Probabilities:
        return self.decision.tempered(probabilities, self.config.output) if self.decision.steps else probabilities


@dataclass(frozen=True)
class Mean:
    """Several that answer the same question: the mean of their probabilities, head by head."""

    name: str
    members: Sequence[Answerer]
    weights: Sequence[float]  # their sum is 1
    decision: Decision = PLAIN  # of the folds or of the blend.yaml; a list has none
    folder: Path | None = None  # theirs

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
    decision = PLAIN
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


def thresholds_of(answerer: Answerer, risk: float | None) -> Conformal | None:
    """Returns what tells unsure answers at a risk: as saved, or fitted on what was said about validation photos.

    None where nobody asked. Raises UserError when neither is there, and as `Conformal.promised`.
    """
    if risk is None:
        return None
    conformal = answerer.decision.conformal
    if conformal is None:
        try:
            conformal = Conformal.fit(answerer.predictions())
        except UserError as error:
            raise UserError(
                f"--unsure has no thresholds for {answerer.name}: {error}. They are fitted at the end of a training, "
                "or on these predictions: train it again, or name folds"
            ) from None
    conformal.promised(risk)
    return conformal


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
