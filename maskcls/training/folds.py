"""Which folds a command trains, and which run of a folds folder is next. Nothing here imports torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.selection import best_epoch, validations
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder


@dataclass(frozen=True)
class WantedFolds:
    """The folds and the seeds that a command names."""

    folds: tuple[int, ...]
    seeds: tuple[int, ...]

    @classmethod
    def parse(cls, config: Config, folds: str | None, seeds: str | None) -> WantedFolds | None:
        """Returns what `--folds` (all, or 0,2) and `--seeds` (42,43) mean for a config; None: no folds are asked for.

        Raises UserError when they mean nothing, or when the config has no folds because it names who validates.
        """
        if folds is None:
            if seeds is not None:
                raise UserError("--seeds belongs to --folds; the seed of one run is seed=43")
            return None
        if config.valid_profile is not None:
            raise UserError(
                f"valid_profile is {config.valid_profile}: people are dealt to folds when nobody is named to validate. "
                "Set valid_profile=null (and train_profile=null for everybody in data_dir)"
            )
        every = range(config.num_folds)
        chosen = tuple(every) if folds == "all" else _numbers("--folds", folds, "all, none, or numbers as 0,2")
        if others := [fold for fold in chosen if fold not in every]:
            raise UserError(f"--folds {folds}: there is no fold {others[0]}; num_folds is {config.num_folds}, from 0")
        return cls(chosen, (config.seed,) if seeds is None else _numbers("--seeds", seeds, "numbers as 42,43"))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields (seed, fold), one seed after the other."""
        return ((seed, fold) for seed in self.seeds for fold in self.folds)


def _numbers(option: str, text: str, form: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"{option} is {text!r}; it is {form}, each once")
    return tuple(map(int, parts))


def run_to_train(folds: FoldsFolder, config: Config, seed: int, fold: int) -> tuple[Config, RunFolder | None] | None:
    """Returns the config of a fold and the run that resumes (None: a new one), or None when it is trained.

    The fold and the seed are its own, all else, the split too, is common to all. What a launch left that was killed
    before it began is removed. Raises UserError when the run has another config.
    """
    run, own = folds.run_of(seed, fold), {"fold": fold, "seed": seed, "split_seed": config.seed_of_folds}
    mine = config.model_copy(update={**own, "model_dir": str(folds.path), "name": run.path.name})
    if not run.path.exists():
        return mine, None
    if not run.is_run():
        shutil.rmtree(run.path)
        return mine, None
    if differences := load_config(run.trained).differences(mine):
        raise UserError(f"{run.path} was trained with another config: {differences[0]}. Move it away")
    return None if run.finished.exists() else (mine, run)


def mean_scores(folds: FoldsFolder) -> dict[int, dict[str, float]]:
    """Returns the mean over all runs of every validated epoch's scores, of the epochs that all have reached."""
    logs = [validations(run.history()) for run in folds.finished_runs().values()]
    epochs = sorted(set(logs[0]).intersection(*logs[1:]))
    return {epoch: {name: fmean(log[epoch][name] for log in logs) for name in logs[0][epoch]} for epoch in epochs}


def chosen_epoch(folds: FoldsFolder, scores: Mapping[int, Mapping[str, float]]) -> int:
    """Returns the epoch whose mean score over the folds is the best."""
    epoch = best_epoch(scores, folds.read_config().best_criterion)
    assert epoch is not None, "every finished run has validated an epoch"
    return epoch
