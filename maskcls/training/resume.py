"""What a command line asks for: which config, which run resumes, which folds are trained."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence

from maskcls.config import MAY_CHANGE, Config, load_config
from maskcls.errors import UserError, joined
from maskcls.training.folds import WantedFolds
from maskcls.training.run_folder import RunFolder


def asked_for(arguments: Namespace, overrides: Sequence[str]) -> tuple[RunFolder | None, Config, WantedFolds | None]:
    """Returns the run to resume, if any, its config, and the folds to train, if any, of train.py's arguments.

    Raises UserError when they do not fit together, and as `run_to_resume`, `load_config` and `WantedFolds.parse`.
    """
    if arguments.resume is not None:
        if arguments.folds is not None:
            raise UserError("give --folds or --resume: the command that trains folds goes on with them by itself")
        return *run_to_resume(arguments.resume, arguments.config, overrides), None
    if arguments.config is None:
        raise UserError("give --config: a YAML of configs/, or --resume: a run folder")
    config = load_config(arguments.config, overrides)
    return None, config, WantedFolds.parse(config, arguments.folds, arguments.seeds)


def run_to_resume(folder: str, config_path: str | None, overrides: Sequence[str]) -> tuple[RunFolder | None, Config]:
    """Returns the run and its config: that of the run, or of `config_path`, with the overrides.

    `auto` for a folder looks for the newest unfinished run with the name and config of `config_path`; None: there is
    none. Raises UserError when the folder is no run, or when a key differs that a run cannot change.
    """
    if folder == "auto":
        if config_path is None:
            raise UserError("--resume auto looks for a run of a config: give --config too")
        config = load_config(config_path, overrides)
        for run in _newest_first(config):
            if not run.finished.exists() and not load_config(run.trained).differences(config):
                return run, config
        return None, config
    run = RunFolder.existing(folder)
    former, config = load_config(run.trained), load_config(config_path or run.config, overrides)
    if differences := former.differences(config):
        problems = [f"{run.path} cannot resume with another config: {difference}" for difference in differences]
        edited = "" if config_path or overrides else f"\n{run.config} has been edited since"
        raise UserError(f"{joined(problems, 'differences')}{edited}\nMay change: {', '.join(sorted(MAY_CHANGE))}")
    return run, config


def _newest_first(config: Config) -> list[RunFolder]:
    """Returns the runs that `RunFolder.create` made for a config's name."""
    name = re.compile(re.escape(config.name) + "[0-9]*")
    runs = [run for run in RunFolder.all_in(config.model_dir) if name.fullmatch(run.path.name) and run.config.is_file()]
    return sorted(runs, key=lambda run: run.config.stat().st_mtime_ns, reverse=True)
