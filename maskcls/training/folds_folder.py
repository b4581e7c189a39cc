"""The folder of a cross-validation, `runs/exp` with a run folder for each fold, and the names of what lies in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from maskcls.config import Config, load_config
from maskcls.errors import UserError, joined, listed, reason_of
from maskcls.evaluation.paired import averaged, joined_people, on_common_photos
from maskcls.evaluation.predictions import Predictions
from maskcls.paths import UNFINISHED, folder_problem, full_path
from maskcls.training.run_folder import FOLDS, Entry, RunFolder

if TYPE_CHECKING:
    from maskcls.data.preprocessing import Preprocessing

# What makes other folds of it, although a single run may resume with another value.
FIXED = ("data_dir", "train_profile", "epochs", "stop_after_epoch", "early_stopping_patience")
FOLD = re.compile(r"fold(\d+)(?:_seed(\d+))?")
EVERYBODY = re.compile(r"everybody(?:_seed\d+)?")


@dataclass(frozen=True)
class FoldsFolder:
    """The runs of all folds, of one seed or several, and what all of them together say."""

    path: Path

    config = Entry(FOLDS)  # what all runs have in common; fold and seed are each run's own
    predictions = Entry("out_of_fold.parquet")  # of every person, by the models that had not learnt from them
    decision = RunFolder.decision  # fitted on these
    finished = RunFolder.finished  # their scores with intervals, written when all folds are trained
    report = RunFolder.report

    @classmethod
    def existing(cls, folder: str | Path) -> FoldsFolder:
        """Returns a folder that the folds were trained in. Raises UserError when it is none."""
        found = cls(full_path(folder))
        if problem := folder_problem(found.path):
            raise UserError(f"folds folder {found.path} {problem}")
        if not found.is_folds():
            raise UserError(f"{found.path} is not a folds folder: it has no {found.config.name}")
        return found

    @classmethod
    def of(cls, run: RunFolder) -> FoldsFolder | None:
        """Returns the folder that a run is a fold of, or on everybody, if it is one."""
        parent, name = cls(run.path.parent), run.path.name
        return parent if (FOLD.fullmatch(name) or EVERYBODY.fullmatch(name)) and parent.is_folds() else None

    @classmethod
    def all_in(cls, folder: str | Path) -> list[FoldsFolder]:
        """Returns the folds folders that lie in a folder, by name."""
        return [found for found in map(cls, sorted(Path(folder).glob("[!.]*"))) if found.is_folds()]

    @classmethod
    def of_config(cls, config: Config) -> FoldsFolder | None:
        """Returns the newest folder of this name in model_dir whose runs have this config, or None."""
        name = re.compile(re.escape(config.name) + "[0-9]*")
        found = [folds for folds in cls.all_in(config.model_dir) if name.fullmatch(folds.path.name)]
        for folds in sorted(found, key=lambda folds: folds.config.stat().st_mtime_ns, reverse=True):
            theirs = folds.read_config()
            if not theirs.differences(config) and all(getattr(theirs, key) == getattr(config, key) for key in FIXED):
                return folds
        return None

    @classmethod
    def create(cls, config: Config) -> FoldsFolder:
        """Returns a new folder for the folds of a config: its name, or name1, name2, ... when that exists.

        It appears with its config inside, and of two launches at once the second gets that of the first. Raises
        UserError when model_dir is not writable.
        """
        parent = Path(config.model_dir)
        unfinished = cls(parent / f"{config.name}{UNFINISHED}{uuid4().hex[:8]}")
        try:
            unfinished.path.mkdir(parents=True)
            config.save(unfinished.config)
            for number in count():
                folds = cls(parent / f"{config.name}{number or ''}")
                if not os.path.lexists(folds.path):
                    with suppress(OSError):  # another launch was quicker
                        unfinished.path.rename(folds.path)
                        return folds
                if others := cls.of_config(config):
                    shutil.rmtree(unfinished.path)
                    return others
        except OSError as error:
            raise UserError(f"model_dir {parent} is not writable: {reason_of(error)}") from None
        raise AssertionError

    def remove_if_empty(self) -> None:
        """Removes the folder when no run has begun in it: a mistake was found first."""
        if os.listdir(self.path) == [self.config.name]:
            self.config.unlink()
            self.path.rmdir()

    def is_folds(self) -> bool:
        """Returns whether folds were trained here."""
        return os.access(self.config, os.F_OK)

    def read_config(self) -> Config:
        """Returns what all runs have in common."""
        return load_config(self.config)

    @cached_property
    def own_seed(self) -> int:
        """The seed of the config, whose runs do not say it in their names."""
        return self.read_config().seed

    def run_of(self, seed: int, fold: int | None) -> RunFolder:
        """Returns the folder of one fold's run, or of that on everybody (None), which may not be there yet."""
        name = "everybody" if fold is None else f"fold{fold}"
        return RunFolder(self.path / (name if seed == self.own_seed else f"{name}_seed{seed}"))

    def runs(self) -> dict[tuple[int, int], RunFolder]:
        """Returns the runs that are there: (seed, fold) -> its folder, the config's own seed first."""
        found = {}
        for run in RunFolder.all_in(self.path):
            if named := FOLD.fullmatch(run.path.name):
                found[int(named[2] or self.own_seed), int(named[1])] = run
        return dict(sorted(found.items(), key=lambda item: (item[0][0] != self.own_seed, item[0])))

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs that are there, the config's own first."""
        return list(dict.fromkeys(seed for seed, _ in self.runs()))

    def statistics(self, preprocessing: Preprocessing) -> tuple[Sequence[float], Sequence[float]] | None:
        """Returns mean and std as the runs that are there have them, of the same stored pixels."""
        for run in self.runs().values():
            if run.preprocessing.exists():
                known = run.read_preprocessing()
                if known.stored_as == preprocessing.stored_as and known.mean and known.std:
                    return known.mean, known.std
        return None

    def finished_runs(self) -> dict[tuple[int, int], RunFolder]:
        """Returns `runs`.

        Raises UserError naming every fold of their seeds that is missing or not finished, or when the folds of a seed
        validate some of the same people, or are not about the same people.
        """
        runs, wanted = self.runs(), range(self.read_config().num_folds)
        problems = [] if runs else [f"{self.path} holds no run of a fold"]
        goes_on = "the command that trains the folds goes on"
        for seed in self.seeds:
            for fold in wanted:
                run = self.run_of(seed, fold)
                if (seed, fold) not in runs:
                    problems.append(f"{run.path} is missing: the folds are not all trained; {goes_on}")
                elif not run.finished.exists():
                    problems.append(f"{run.path} has not finished; {goes_on}")
        if problems:
            raise UserError(joined(problems, f"problems in {self.path}"))
        crowds = {run.path.name: run.trained_people() | run.validated_people() for run in runs.values()}
        covered = set().union(*(run.validated_people() for run in runs.values()))
        for seed in self.seeds:
            people = [person for (of, _), run in runs.items() if of == seed for person in run.validated_people()]
            if twice := len(people) - len(set(people)):
                raise UserError(f"{self.path}: the folds of seed {seed} validate some of the same people, {twice:,}")
        if strange := {name: len(crowd ^ covered) for name, crowd in crowds.items() if crowd != covered}:
            name, number = next(iter(strange.items()))
            raise UserError(f"{self.path}: {name} is about other people than all folds validate, {number:,} of them")
        return runs

    def tables(self) -> dict[int, Predictions]:
        """Returns seed -> the predictions of all folds below each other, in the same order of photos for every seed.

        Raises UserError as `finished_runs`, and when predictions are missing, or of other photos than they should be.
        """
        runs = self.finished_runs()
        parts = {seed: [run for (of, _), run in runs.items() if of == seed] for seed in self.seeds}
        said = {seed: joined_people([Predictions.load(run.predictions) for run in of]) for seed, of in parts.items()}
        tables = on_common_photos(list(said.values()))
        if others := [seed for seed, table in said.items() if len(table) > len(tables[0])]:
            raise UserError(f"{self.path}: the runs of seeds {listed(map(str, others))} validated other photos as well")
        return dict(zip(said, tables, strict=True))

    def fold_of_people(self) -> dict[str, int]:
        """Returns profile -> the fold that validates the person, which is the same for all seeds."""
        return {person: fold for (_, fold), run in self.runs().items() for person in run.validated_people()}

    def read_predictions(self) -> Predictions:
        """Returns `out_of_fold`: what a run's predictions are for the run."""
        return self.out_of_fold()

    def out_of_fold(self) -> Predictions:
        """Returns what is said of every photo by models that had not learnt from the person: the mean of the seeds."""
        tables = list(self.tables().values())
        return averaged(tables, [1] * len(tables))


def run_or_folds(folder: Path) -> RunFolder | FoldsFolder:
    """Returns a folds folder where there is one, otherwise a run's, which may be none."""
    folds = FoldsFolder(folder)
    return folds if folds.is_folds() else RunFolder(folder)
