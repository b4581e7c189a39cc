"""How probabilities become answers: temperatures, offsets for macro F1, and whether attributes are answered apart.

Every step is fitted on predictions by a model that had not learnt from the people, and judged on other people than it
was fitted on. It is on when the 95 % interval of what it gains leaves out 0; otherwise it is kept, and does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.errors import UserError, reason_of
from maskcls.evaluation.calibration import TEMPERATURES, fit_temperature, with_temperature
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws, Interval, resampled_mean
from maskcls.evaluation.metrics import Score, confusion_counts, values_of
from maskcls.evaluation.offsets import fit_offsets
from maskcls.evaluation.paired import paired_difference
from maskcls.evaluation.predictions import NUM_PARTS, Predictions, parts_of_people
from maskcls.evaluation.unsure import Conformal
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OUTPUT_HEADS, class_of, joint, labels_of, likeliest, marginals
from maskcls.paths import write_json


@dataclass(frozen=True)
class Step:
    """One step from probabilities to answers: what was fitted for each head, and what it gains on other people."""

    gain: Interval
    values: Mapping[str, Any]

    @property
    def is_on(self) -> bool:
        """Whether it is certain that there is a gain, and the step is taken."""
        return self.gain.low > 0


@dataclass(frozen=True)
class Decision:
    """The steps, each with its gain; without any, the likeliest class is the answer (`plain`)."""

    temperature: Step | None = None  # own head -> its temperature; gains log-likelihood of the headline, in nats
    separate: Step | None = None  # the likeliest label of each attribute, not the likeliest class; gains macro F1
    offsets: Step | None = None  # head -> what is added to the log-probability of each of its labels; gains macro F1
    conformal: Conformal | None = None  # which classes cannot be ruled out, from probabilities that are `tempered`

    @property
    def steps(self) -> dict[str, Step]:
        """The steps that were fitted, by name, in the order in which they are taken."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: step for name, step in found.items() if isinstance(step, Step)}

    @classmethod
    def fit(
        cls,
        predictions: Predictions,
        output: str,
        draws: Draws | None = None,
        *,
        members: Sequence[Predictions] | None = None,
    ) -> Decision:
        """Returns the decision of a model with this output, from predictions of people that it had not learnt from.

        draws: the resamples behind the intervals, where others share them. members: those whose mean the predictions
        are, about the same photos in the same order, when each is given the temperatures before they are averaged.
        """
        draws, parts = draws or Draws.of(predictions.people), parts_of_people(predictions)
        if parts.max() < NUM_PARTS - 1:  # fewer people than parts
            return cls()
        tables = members or [predictions]
        decision = cls(temperature=_fitted_temperature(tables, OUTPUT_HEADS[output], parts, draws))
        each = [decision.tempered(table.probabilities, output) for table in tables]
        said = {head: np.mean([one[head] for one in each], axis=0) for head in each[0]} if members else each[0]
        after = cls.fit_tempered(replace(predictions, probabilities=said), draws)
        return replace(after, temperature=decision.temperature)

    @classmethod
    def fit_tempered(cls, predictions: Predictions, draws: Draws | None = None) -> Decision:
        """Returns the decision, without a temperature, about probabilities that had theirs: those of a blend."""
        draws, parts = draws or Draws.of(predictions.people), parts_of_people(predictions)
        if parts.max() < NUM_PARTS - 1:  # fewer people than parts
            return cls()
        decision, said = cls(), predictions.probabilities
        if "class" in said and not _is_product(said):
            apart = class_of({name: likeliest(said[name]) for name in ATTRIBUTES})
            gain = _gained_f1(predictions, likeliest(said["class"]), apart, draws)
            decision = replace(decision, separate=Step(gain, {}))
        head, table = decision._of_headline(said)
        offsets = _fitted_offsets(predictions, head, _logs(table), parts, draws)
        return replace(decision, offsets=offsets, conformal=Conformal.fit(predictions))

    def tempered(self, probabilities: Mapping[str, np.ndarray], output: str) -> dict[str, np.ndarray]:
        """Returns the probabilities (N, K) of every head after the temperatures of the model's own heads.

        As `head_probabilities`: attributes stay the marginals of the classes, classes the product of the attributes.
        """
        if self.temperature is None or not self.temperature.is_on:
            return dict(probabilities)
        own = {}
        for head in OUTPUT_HEADS[output]:
            scaled = with_temperature(_logs(probabilities[head]), self.temperature.values[head])
            own[head] = scaled.astype(probabilities[head].dtype)
        if output == "class":
            return {**own, **marginals(own["class"])}
        return {"class": joint(own), **own} if output == "all" else own

    def decided(self, probabilities: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the answer (N,) of every head of probabilities that are `tempered` already; they fit together.

        Where classes are the product of attributes, a tie goes as it does between an attribute's labels.
        """
        head, table = self._of_headline(probabilities)
        if self.offsets is not None and self.offsets.is_on:
            answer = likeliest(_logs(table) + offsets_of(head, self.offsets.values))
        elif head == "class" and _is_product({**probabilities, head: table}):
            answer = class_of({name: likeliest(probabilities[name]) for name in ATTRIBUTES})
        else:
            answer = likeliest(table)
        return {head: answer, **(labels_of(answer) if head == "class" else {})}

    def _of_headline(self, probabilities: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
        """Returns the head that is answered, and its probabilities: apart, the likeliest class of the product."""
        if "class" not in probabilities:
            return next(iter(probabilities.items()))
        is_apart = self.separate is not None and self.separate.is_on
        return "class", joint(probabilities) if is_apart else probabilities["class"]

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` reads; `is_on` is for people."""
        steps = {name: {"is_on": step.is_on, **asdict(step)} for name, step in self.steps.items()}
        return steps if self.conformal is None else {**steps, "conformal": self.conformal.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Returns what `to_dict` gave. Raises KeyError, TypeError or ValueError when it is something else."""
        others = {**values}
        conformal = Conformal.from_dict(others.pop("conformal")) if "conformal" in others else None
        steps = {name: Step(Interval(**step["gain"]), step["values"]) for name, step in others.items()}
        return cls(**steps, conformal=conformal)

    def save(self, path: Path) -> None:
        """Writes JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Decision:
        """Returns what `save` wrote; plain when there is no such file, as in a run of an older version.

        Raises UserError when it is something else.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a decision that train.py wrote: {error}") from None


def _is_product(probabilities: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the likeliest class is the one of the likeliest attributes, but for ties and rounding."""
    return np.allclose(joint(probabilities), probabilities["class"], rtol=1e-5, atol=1e-9)


def offsets_of(head: str, values: Mapping[str, Any]) -> np.ndarray:
    """Returns what is added to each log-probability of a head (K,): its own offsets, or the sum of its attributes'."""
    if head in values:
        return np.asarray(values[head], np.float64)
    labels = labels_of(np.arange(len(HEAD_CLASSES[head])))
    return sum((np.asarray(values[name], np.float64)[labels[name]] for name in ATTRIBUTES), np.zeros(()))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def _fitted_temperature(tables: Sequence[Predictions], heads: Sequence[str], parts: np.ndarray, draws: Draws) -> Step:
    """Returns the temperature of each own head; of all together, judged by the log-likelihood of the headline."""
    parts = np.tile(parts, len(tables))
    temperatures, gains = {}, np.zeros(len(parts))  # that of a product is the sum of its factors'
    for head in heads:
        logs = np.concatenate([_logs(table.probabilities[head]) for table in tables])
        truth = np.concatenate([table.truth(head) for table in tables])
        temperatures[head] = _temperature(logs, truth)
        for part in range(NUM_PARTS):
            kept, held = parts != part, np.flatnonzero(parts == part)
            after = with_temperature(logs[held], _temperature(logs[kept], truth[kept]))
            gains[held] += (_logs(after) - logs[held])[np.arange(len(held)), truth[held]]
    of_photos = gains.reshape(len(tables), -1).mean(0)
    return Step(resampled_mean(of_photos, draws).interval(lowest=-1), temperatures)


def _temperature(logs: np.ndarray, truth: np.ndarray) -> float:
    """Returns the temperature, or 1 when there is no optimum: without a mistake any lower one would be better yet."""
    found = fit_temperature(logs, truth)
    low, high = TEMPERATURES
    return found if 1.01 * low < found < 0.99 * high else 1.0


def _fitted_offsets(predictions: Predictions, head: str, logs: np.ndarray, parts: np.ndarray, draws: Draws) -> Step:
    """Returns the offsets of the classes, or of the attributes' labels, whole or halved, judged by macro F1.

    Which of these is a choice like the offsets themselves, and made without the people that it is judged on. Half of
    what is best for some people is often better for others, because rare classes have few of them.
    """
    truth, num_classes = predictions.truth(head), len(HEAD_CLASSES[head])
    labels = {head: np.arange(num_classes)}
    kinds: list[tuple[str, ...]] = [(head,)]
    if head == "class":
        labels |= labels_of(labels[head])
        kinds.append(tuple(ATTRIBUTES))
    candidates = [(kind, size) for kind in kinds for size in (1.0, 0.5)]

    @cache
    def fitted(kind: tuple[str, ...], without: frozenset[int]) -> dict[str, np.ndarray]:
        kept = ~np.isin(parts, list(without))
        sizes = [len(HEAD_CLASSES[name]) for name in kind]
        groups = np.concatenate(
            [np.arange(size)[:, None] == labels[name] for name, size in zip(kind, sizes, strict=True)]
        )
        found = fit_offsets(logs[kept], truth[kept], groups)
        return dict(zip(kind, np.split(found, np.cumsum(sizes)[:-1]), strict=True))

    def answered(part: int, kind: tuple[str, ...], size: float, without: frozenset[int]) -> np.ndarray:
        offsets = offsets_of(head, fitted(kind, without | {part}))
        return likeliest(logs[parts == part] + size * offsets)

    def chosen(without: frozenset[int]) -> tuple[tuple[str, ...], float]:
        def score(candidate: tuple[tuple[str, ...], float]) -> float:
            others = [part for part in range(NUM_PARTS) if part not in without]
            answers = np.concatenate([answered(part, *candidate, without) for part in others])
            expected = np.concatenate([truth[parts == part] for part in others])
            return float(values_of("f1", confusion_counts(answers, expected, num_classes)).mean())

        return max(candidates, key=score)

    after = np.empty_like(truth)
    for part in range(NUM_PARTS):
        after[parts == part] = answered(part, *chosen(frozenset([part])), frozenset())
    kind, size = chosen(frozenset())
    values = {name: (size * found).tolist() for name, found in fitted(kind, frozenset()).items()}
    return Step(_gained_f1(predictions, likeliest(logs), after, draws), values)


def _gained_f1(predictions: Predictions, before: np.ndarray, after: np.ndarray, draws: Draws) -> Interval:
    """Returns how much higher the macro F1 of the headline is with other answers (N,)."""
    head, shares = predictions.headline, np.eye(len(HEAD_CLASSES[predictions.headline]), dtype=np.float32)
    here, there = (
        Findings(replace(predictions, probabilities={head: shares[answers]}), draws) for answers in (before, after)
    )
    return paired_difference(here, there, Score(head, "f1")).interval
