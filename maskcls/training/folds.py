"""Which run of a folds folder is next, and what its runs have chosen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from statistics import fmean

from maskcls.config import Config, load_config
from maskcls.config_rules import contradictions
from maskcls.errors import UserError, joined
from maskcls.evaluation.selection import best_epoch, validations
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder


def run_to_train(
    folds: FoldsFolder, config: Config, seed: int, fold: int | None
) -> tuple[Config, RunFolder | None] | None:
    """Returns the config of a fold and the run that resumes (None: a new one), or None when it is trained.

    The fold and the seed are its own, all else, the split too, is common to all. fold None: the run on everybody, as
    long as the folds have chosen. What a launch left that was killed before it began is removed. Raises UserError when
    the run has another config, or when the folds of a run on everybody are not finished.
    """
    split_seed = config.split_seed if seed == config.seed else config.seed_of_folds
    run, own = folds.run_of(seed, fold), {"fold": fold or 0, "seed": seed, "split_seed": split_seed}
    mine = config.model_copy(update={**own, "model_dir": str(folds.path), "name": run.path.name})
    if fold is None:
        mine = for_everybody(mine, chosen_epoch(folds, mean_scores(folds)))
    if not run.path.exists():
        return mine, None
    if not run.is_run():
        with run.locked():  # nobody is about to begin here
            shutil.rmtree(run.path)
        return mine, None
    if differences := load_config(run.trained).differences(mine):
        raise UserError(f"{run.path} was trained with another config: {differences[0]}. Move it away")
    return None if run.finished.exists() else (mine, run)


def for_everybody(config: Config, epoch: int) -> Config:
    """Returns the config of a run on all people that ends after an epoch of the folds' schedule.

    Raises UserError when something in it needs people who validate.
    """
    own = {"valid_profile": "none", "stop_after_epoch": epoch, "early_stopping_patience": None}
    config = config.model_copy(update=own)
    if problems := [text for _, text in contradictions(config)]:
        raise UserError(joined(problems, "problems of a run on everybody"))
    return config


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
