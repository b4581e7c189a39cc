"""What a report is made of: read once, when a section first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.calibration import Calibration, calibrate
from maskcls.evaluation.consistency import Suspect, suspects
from maskcls.evaluation.intervals import Interval, score_intervals
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.slices import Gap, Slice, gaps, slices
from maskcls.labels import ATTRIBUTES
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

NUM_SUSPECTS = 10


@dataclass
class Material:
    """One run, and the run that it is compared with. What is missing raises UserError when it is asked for."""

    run: RunFolder
    against: RunFolder | None
    language: str

    @cached_property
    def word(self) -> Words:
        """The words of the report's language."""
        return Words(self.language)

    @cached_property
    def config(self) -> Config:
        """The resolved config of the run."""
        return load_config(self.run.config)

    @cached_property
    def predictions(self) -> Predictions:
        """What the best epoch said about the validation photos."""
        return Predictions.load(self.run.predictions)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, at least one."""
        lines = self.run.history()
        if not lines:
            raise UserError(f"{self.run.metrics} has no lines")
        return lines

    @cached_property
    def heads(self) -> list[str]:
        """The attributes that the model speaks about."""
        return list(ATTRIBUTES) if self.predictions.headline == "class" else [self.predictions.headline]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Every score with its interval."""
        return score_intervals(self.predictions)

    @cached_property
    def slices(self) -> list[Slice]:
        """Scores by group."""
        return slices(self.predictions)

    @cached_property
    def gaps(self) -> list[Gap]:
        """Differences between groups."""
        return gaps(self.predictions)

    @cached_property
    def calibration(self) -> dict[str, Calibration]:
        """Confidence against accuracy, by head."""
        return calibrate(self.predictions)

    @cached_property
    def suspects(self) -> list[Suspect]:
        """The labels that the model contradicts most."""
        return suspects(self.predictions)[:NUM_SUSPECTS]

    def accuracy(self, head: str) -> Interval:
        """Returns the accuracy of a head."""
        return self.intervals[self.predictions.score_name(head, "acc")]

    def score_title(self, score: str) -> str:
        """Returns the name of a score of metrics.jsonl as a person reads it: age group: accuracy."""
        head, _, measure = score.rpartition("_")
        return f"{self.word(head or self.predictions.headline)}: {self.word(measure)}"


def percent(share: float) -> str:
    """Returns 0.8641 as 86.4%."""
    return f"{100 * share:.1f}%"
