"""What a report is made of: read once, when a section first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.paired import Difference, on_common_photos, paired_difference
from maskcls.labels import HEAD_CLASSES
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

NUM_SUSPECTS = 10


@dataclass
class Material:
    """One run, and the run that it is compared with. What is missing raises UserError when it is asked for."""

    run: RunFolder
    against: RunFolder | None
    language: str
    known: Findings | None = None  # of the run, where somebody has them already

    @cached_property
    def word(self) -> Words:
        """The words of the report's language."""
        return Words(self.language)

    @cached_property
    def config(self) -> Config:
        """The resolved config of the run."""
        return load_config(self.run.config)

    @cached_property
    def findings(self) -> Findings:
        """What there is to say about the best epoch's answers."""
        return self.known or Findings(self.run.read_predictions())

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, at least one."""
        lines = self.run.history()
        if not lines:
            raise UserError(f"{self.run.metrics} has no lines")
        return lines

    @cached_property
    def differences(self) -> dict[Score, Difference]:
        """How much higher the run scores than the other on the photos that both validated, the main score first."""
        assert self.against is not None
        here, other = on_common_photos([self.findings.predictions, self.against.read_predictions()])
        if not len(here):
            raise UserError(f"{self.against.path} and {self.run.path} validated no common photo")
        if here.headline != other.headline:
            raise UserError(f"{self.against.path} predicts {other.headline}, {self.run.path} {here.headline}")
        b = Findings(here)
        a = Findings(other, b.draws)
        main = Score(here.headline, "f1")
        return {score: paired_difference(a, b, score) for score in sorted(b.resampled, key=lambda score: score != main)}

    def score_title(self, score: Score) -> str:
        """Returns the name of a score as a person reads it: age group: accuracy."""
        return f"{self.word(score.head)}: {self.word.measure(score.measure)}"

    def group_title(self, group: str) -> str:
        """Returns the name of a group of photos as a person reads it."""
        name, _, years = group.partition(" ")
        return f"{self.word('years')} {years.replace('-', '–')}" if years else self.word(name)

    def value_title(self, group: str, value: str) -> str:
        """Returns what the photos of a group share as a person reads it."""
        classes = HEAD_CLASSES.get(group, ())
        return self.word.class_name(group, classes.index(value)) if value in classes else value
