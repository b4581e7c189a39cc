"""What a report is made of: read once, when a section first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.paired import Difference, on_common_photos, recipe_difference
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.trainings import Trainings
from maskcls.labels import HEAD_CLASSES
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

NUM_SUSPECTS = 10


@dataclass
class Material:
    """A run or a cross-validation, and that with which it is compared.

    What is missing raises UserError when it is asked for.
    """

    folder: RunFolder | FoldsFolder
    against: RunFolder | FoldsFolder | None
    language: str
    known: Findings | None = None  # of what it said, where somebody has them already

    @cached_property
    def word(self) -> Words:
        """The words of the report's language."""
        return Words(self.language)

    @cached_property
    def config(self) -> Config:
        """The resolved config; of a cross-validation, what its runs have in common."""
        return load_config(self.folder.config)

    @property
    def folds(self) -> FoldsFolder | None:
        """The cross-validation, if it is one."""
        return self.folder if isinstance(self.folder, FoldsFolder) else None

    @cached_property
    def runs(self) -> dict[str, RunFolder]:
        """The run, or those of all folds, each by what a person calls it; the config's own seed first."""
        if isinstance(self.folder, RunFolder):
            return {self.folder.path.name: self.folder}
        key, runs = "fold_and_seed" if len(self.folder.seeds) > 1 else "fold_number", self.folder.finished_runs()
        return {self.word(key, fold=fold, seed=seed): run for (seed, fold), run in runs.items()}

    @property
    def first_run(self) -> RunFolder:
        """The run; of a cross-validation one of them, for what is the same in all."""
        return next(iter(self.runs.values()))

    @property
    def has_validation(self) -> bool:
        """Whether anybody validates it."""
        return self.folds is not None or self.first_run.has_validation()

    def run_about(self, person: str) -> RunFolder:
        """Returns the run that validated a person, of several seeds the first."""
        about = (run for run in self.runs.values() if person in run.validated_people())
        return self.first_run if len(self.runs) == 1 else next(about)

    @cached_property
    def findings(self) -> Findings:
        """What there is to say about the best epoch's answers; of a cross-validation, about those out of fold."""
        return self.known or Findings(self.folder.read_predictions())

    @property
    def accuracies(self) -> list[Score]:
        """The accuracy of every attribute."""
        return [Score(head, "acc") for head in self.findings.predictions.attributes]

    @property
    def main_scores(self) -> list[Score]:
        """The scores of the headline, its F1 first, and the accuracy of every attribute."""
        main = [score for score in self.findings.scores if score.head == self.findings.predictions.headline]
        main.sort(key=lambda score: score.measure != "f1")
        return [*dict.fromkeys([*main, *self.accuracies])]

    @cached_property
    def fold_findings(self) -> dict[tuple[int, int], Findings]:
        """What there is to say about each fold's run, by seed and fold."""
        assert self.folds is not None
        return {key: Findings(run.read_predictions()) for key, run in self.folds.finished_runs().items()}

    @cached_property
    def seed_findings(self) -> dict[int, Findings]:
        """What there is to say about all folds of each seed together."""
        assert self.folds is not None
        return {seed: Findings(table) for seed, table in self.folds.tables().items()}

    @cached_property
    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of each run's metrics.jsonl, at least one."""
        lines = {title: run.history() for title, run in self.runs.items()}
        if empty := [run.metrics for title, run in self.runs.items() if not lines[title]]:
            raise UserError(f"{empty[0]} has no lines")
        return lines

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of the first run's metrics.jsonl, at least one."""
        return next(iter(self.histories.values()))

    @cached_property
    def differences(self) -> dict[Score, Difference]:
        """How much higher it scores than the other on the photos that both validated, the main score first.

        Of cross-validations with several seeds that is the mean over them.
        """
        assert self.against is not None
        (ours, our_folds), (theirs, their_folds) = _tables(self.folder), _tables(self.against)
        tables = on_common_photos([*ours, *theirs])
        here, other = tables[0], tables[-1]
        if not len(here):
            raise UserError(f"{self.against.path} and {self.folder.path} validated no common photo")
        if here.headline != other.headline:
            raise UserError(f"{self.against.path} predicts {other.headline}, {self.folder.path} {here.headline}")
        first = Findings(here)
        found = [first, *(Findings(table, first.draws) for table in tables[1:])]
        b, a = Trainings(found[: len(ours)], our_folds), Trainings(found[len(ours) :], their_folds)
        main = Score(here.headline, "f1")
        return {score: recipe_difference(a, b, score) for score in sorted(first.resampled, key=lambda of: of != main)}

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


def _tables(folder: RunFolder | FoldsFolder) -> tuple[list[Predictions], dict[str, int]]:
    """Returns what it said and, of a cross-validation, which a table for each seed speaks of, who is in which fold."""
    if isinstance(folder, RunFolder):
        return [folder.read_predictions()], {}
    return [*folder.tables().values()], folder.fold_of_people()
