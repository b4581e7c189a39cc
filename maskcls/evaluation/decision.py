"""How probabilities become answers: temperatures, offsets for macro F1, and whether attributes are answered apart.

Every step is fitted on predictions by a model that had not learnt from the people, and judged on other people than it
was fitted on. It is on when the 95 % interval of what it gains leaves out 0; otherwise it is kept, and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.errors import UserError, reason_of
from maskcls.evaluation.calibration import fit_temperature, with_temperature
from maskcls.evaluation.intervals import Draws, Interval, resampled_mean
from maskcls.evaluation.predictions import Predictions, parts_of_people
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

    @property
    def steps(self) -> dict[str, Step]:
        """The steps that were fitted, by name, in the order in which they are taken."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: step for name, step in found.items() if isinstance(step, Step)}

    @classmethod
    def fit(cls, predictions: Predictions, output: str, draws: Draws | None = None) -> Decision:
        """Returns the decision of a model with this output, from predictions of people that it had not learnt from.

        draws: the resamples behind the intervals, where others share them.
        """
        draws = draws or Draws.of(predictions.people)
        return cls(temperature=_fitted_temperature(predictions, OUTPUT_HEADS[output], draws))

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
        if "class" not in probabilities:
            return {head: likeliest(self._scores(head, values)) for head, values in probabilities.items()}
        classes = probabilities["class"]
        attributes = {**marginals(classes), **probabilities}
        product = joint(attributes)
        is_separate = self.separate is not None and self.separate.is_on
        if self.offsets is not None and self.offsets.is_on:
            code = likeliest(self._scores("class", product if is_separate else classes))
        elif is_separate or np.allclose(product, classes, rtol=1e-5, atol=1e-9):
            code = class_of({name: likeliest(attributes[name]) for name in ATTRIBUTES})
        else:
            code = likeliest(classes)
        return {"class": code, **labels_of(code)}

    def _scores(self, head: str, probabilities: np.ndarray) -> np.ndarray:
        """Returns what the answer has most of: the probabilities, or their logarithms and the offsets."""
        if self.offsets is None or not self.offsets.is_on:
            return probabilities
        return _logs(probabilities) + offsets_of(head, self.offsets.values)

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` reads; `is_on` is for people."""
        return {name: {"is_on": step.is_on, **asdict(step)} for name, step in self.steps.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Returns what `to_dict` gave. Raises KeyError, TypeError or ValueError when it is something else."""
        steps = {name: Step(Interval(**step["gain"]), step["values"]) for name, step in values.items()}
        return cls(**steps)

    def save(self, path: Path) -> None:
        """Writes JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Decision:
        """Returns what `save` wrote; plain when there is no such file, as in a run of an older version.

        Raises UserError when it is something else.
        """
        import json

        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a decision that train.py wrote: {error}") from None


def offsets_of(head: str, values: Mapping[str, Any]) -> np.ndarray:
    """Returns what is added to each log-probability of a head (K,): its own offsets, or the sum of its attributes'."""
    if head in values:
        return np.asarray(values[head], np.float64)
    labels = labels_of(np.arange(len(HEAD_CLASSES[head])))
    return sum((np.asarray(values[name], np.float64)[labels[name]] for name in ATTRIBUTES), np.zeros(()))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def _fitted_temperature(predictions: Predictions, heads: tuple[str, ...], draws: Draws) -> Step:
    """Returns the temperature of each own head; of all together, judged by the log-likelihood of the headline."""
    parts = parts_of_people(predictions)
    temperatures, gains = {}, np.zeros(len(predictions))
    for head in heads:
        logs, truth = _logs(predictions.probabilities[head]), predictions.truth(head)
        temperatures[head] = fit_temperature(logs, truth)
        for part in np.unique(parts):
            is_held_out = parts == part
            found = fit_temperature(logs[~is_held_out], truth[~is_held_out])
            rows = np.arange(is_held_out.sum()), truth[is_held_out]
            after = with_temperature(logs[is_held_out], found)[rows]
            gains[is_held_out] += np.log(np.maximum(after, np.finfo(np.float32).tiny)) - logs[is_held_out][rows]
    return Step(resampled_mean(gains, draws).interval(lowest=-1), temperatures)
