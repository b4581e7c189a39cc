"""What a command line asks for: which config, which run resumes, which folds are trained."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maskcls.config import MAY_CHANGE, Config, load_config
from maskcls.errors import UserError, joined
from maskcls.machine import process_number
from maskcls.training.run_folder import RunFolder


@dataclass(frozen=True)
class WantedFolds:
    """The folds and the seeds that a command names; fold None is the run on everybody."""

    folds: tuple[int | None, ...]
    seeds: tuple[int, ...]
    at_once: int = 1  # runs at the same time

    @classmethod
    def parse(cls, config: Config, folds: str | None, seeds: str | None, at_once: int | None) -> WantedFolds | None:
        """Returns what `--folds` (all, none, or 0,2) and `--seeds` (42,43) mean for a config, if they are given.

        Raises UserError when they mean nothing, or when the config has no folds because it names who validates.
        """
        if folds is None:
            if seeds is not None or at_once is not None:
                raise UserError("--seeds and --at_once belong to --folds; the seed of one run is seed=43")
            return None
        if at_once is not None and (at_once < 1 or (at_once > 1 and process_number("WORLD_SIZE", default=1) > 1)):
            raise UserError(f"--at_once is {at_once}; it is 1 or more, and one process starts them, each with one GPU")
        if config.valid_profile is not None:
            raise UserError(
                f"valid_profile is {config.valid_profile}: people are dealt to folds when nobody is named to validate. "
                "Set valid_profile=null (and train_profile=null for everybody in data_dir)"
            )
        every = range(config.num_folds)
        named = {"all": tuple(every), "none": (None,)}
        chosen = named[folds] if folds in named else _numbers("--folds", folds, "all, none, or numbers as 0,2")
        if others := [fold for fold in chosen if fold is not None and fold not in every]:
            raise UserError(f"--folds {folds}: there is no fold {others[0]}; num_folds is {config.num_folds}, from 0")
        own = (config.seed,) if seeds is None else _numbers("--seeds", seeds, "numbers as 42,43")
        return cls(chosen, own, at_once or 1)

    @property
    def is_everybody(self) -> bool:
        """Whether a run on everybody is asked for, as finished folds have chosen."""
        return self.folds == (None,)

    def __iter__(self) -> Iterator[tuple[int, int | None]]:
        """Yields (seed, fold), one seed after the other."""
        return ((seed, fold) for seed in self.seeds for fold in self.folds)


def _numbers(option: str, text: str, form: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"{option} is {text!r}; it is {form}, each once")
    return tuple(map(int, parts))


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
    return None, config, WantedFolds.parse(config, arguments.folds, arguments.seeds, arguments.at_once)


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
