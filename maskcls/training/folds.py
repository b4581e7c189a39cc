"""Which run of a folds folder is next, and what its runs have chosen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from statistics import fmean

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.selection import best_epoch, validations
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder


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
