"""The runs of a folder: when, how far, with which scores. What `maskcls runs` prints and saves, read without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.errors import UserError, did_you_mean
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.selection import best_epoch, epochs_done, validations
from maskcls.labels import ATTRIBUTES
from maskcls.paths import folder_problem, read_json
from maskcls.reporting.text import aligned
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from maskcls.yaml_file import read_values


@dataclass(frozen=True)
class RunSummary:
    """What the files of a run folder say at a glance; what they do not say is None, or named in `problems`.

    Of a folds folder, in one: its runs' time together, the epochs that all have done, and the scores out of fold.
    """

    name: str  # of a folds folder with a slash at its end: it opens
    started: float | None  # seconds since 1970: when it was started, or last resumed (config.yaml is written then)
    seconds: float | None  # of training; of an unfinished run, from the start to the last line of metrics.jsonl
    state: str  # finished or unfinished; of a folds folder, how many of its runs have finished
    epochs_done: int
    epochs: int | None
    output: str
    model: str
    best_epoch: int | None
    scores: Mapping[str, float]  # of the best epoch, as in metrics.jsonl without their `valid/`
    problems: list[str]


def summarize_runs(folder: Path) -> list[RunSummary]:
    """Returns a summary of every run in a folder. Raises UserError when it cannot be read or is itself a run."""
    if problem := folder_problem(folder):
        raise UserError(f"{folder} {problem}; give the one that holds the runs (model_dir of the config)")
    if RunFolder(folder).is_run():
        raise UserError(f"{folder} is itself a run; give the folder that holds the runs: {folder.resolve().parent}")
    return [*map(_summary, RunFolder.all_in(folder)), *map(_summary_of_folds, FoldsFolder.all_in(folder))]


def _summary_of_folds(folds: FoldsFolder) -> RunSummary:
    """Returns one line for all folds of all seeds."""
    config, runs, seeds, problems = None, [], [], []
    try:
        config, runs, seeds = folds.read_config(), [_summary(run) for run in folds.runs().values()], folds.seeds
    except UserError as error:
        problems.append(str(error).removeprefix(f"{folds.path}/"))
    problems += [f"{run.name}: {problem}" for run in runs for problem in run.problems]
    num_finished, said = sum(run.state == "finished" for run in runs), read_json(folds.finished)
    state = f"{num_finished} of {config.num_folds * max(len(seeds), 1) if config else '?'} folds"
    return RunSummary(
        name=f"{folds.path.name}/",
        started=_written(folds.config),
        seconds=sum(run.seconds or 0 for run in runs),
        state=f"{state}, {len(seeds)} seeds" if len(seeds) > 1 else state,
        epochs_done=min((run.epochs_done for run in runs), default=0),
        epochs=config.epochs if config else None,
        output=config.output if config else "",
        model=config.model if config else "",
        best_epoch=said.get("epoch"),
        scores={name: interval["value"] for name, interval in said.get("scores", {}).items()},
        problems=problems,
    )


def _summary(run: RunFolder) -> RunSummary:
    problems = []
    config: Mapping[str, Any] = {}
    try:
        config = read_values(run.config)
    except UserError as error:
        problems.append(str(error).removeprefix(f"{run.path}/"))
    try:
        history, unreadable = run.logged()
    except OSError:
        history, unreadable = [], []
    if unreadable:
        problems.append(f"{run.metrics.name}: {len(unreadable)} unreadable lines")
    validated = validations(history)
    best = best_epoch(validated, str(config.get("best_criterion", "f1")))
    if not run.best.is_dir():
        problems.append("no best/")
    if config.get("valid_profile") == "none":
        problems.append("nobody validated")
    started, logged = _written(run.config), _written(run.metrics)
    seconds = logged - started if started and logged and logged >= started else None  # a copy may turn them around
    if is_finished := run.finished.exists():
        reported = read_json(run.finished).get("seconds")
        if isinstance(reported, int | float):
            seconds = float(reported)
        else:
            problems.append(f"{run.finished.name}: no seconds")
    epochs, arguments = config.get("epochs"), config.get("dataset_args")
    return RunSummary(
        name=run.path.name,
        started=started,
        seconds=seconds,
        state="finished" if is_finished else "unfinished",
        epochs_done=epochs_done(history),
        epochs=epochs if isinstance(epochs, int) else None,
        output=str(arguments.get("output", "")) if isinstance(arguments, dict) else "",
        model=str(config.get("model", "")),
        best_epoch=best,
        scores=validated[best] if best else {},
        problems=problems,
    )


def unreadable_folders(folder: Path) -> list[str]:
    """Returns the names of the folders that `summarize_runs` leaves out because they may not be read."""
    folders = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    return [path.name for path in folders if not os.access(path, os.R_OK | os.X_OK)]


def sorted_runs(runs: Sequence[RunSummary], by: str) -> list[RunSummary]:
    """Returns the runs by name, by start (newest last), or by a score (best first; those without it last).

    Raises UserError when no run has that score.
    """
    if by == "name":
        return sorted(runs, key=lambda run: run.name)
    if by == "started":
        return sorted(runs, key=lambda run: run.started or 0)
    known = ["started", "name", *score_names(runs)]
    if runs and by not in known:
        raise UserError(f"runs cannot be sorted by {by!r}.{did_you_mean(by, known)} Known: {', '.join(known)}")
    sign = 1 if by.endswith("loss") else -1

    def place(run: RunSummary) -> tuple[bool, float]:
        value = run.scores.get(by, np.nan)
        return bool(np.isnan(value)), sign * value

    return sorted(runs, key=place)


def score_names(runs: Sequence[RunSummary]) -> list[str]:
    """Returns the scores that any of the runs has, f1 and acc first."""
    names = dict.fromkeys(name for run in runs for name in run.scores)
    return sorted(names, key=lambda name: name not in ("f1", "acc"))


def runs_text(runs: Sequence[RunSummary], *, by: str) -> str:
    """Returns the runs as an aligned table: headline scores, each head's accuracy, and the score sorted by."""
    wanted = {"f1", "acc", "loss", by, *(Score(head, "acc").name("class") for head in ATTRIBUTES)}
    shown = [name for name in score_names(runs) if name in wanted]
    rows = [["name", "started", "duration", "state", "epochs", "output", "model", "best", *shown, ""]]
    for run in runs:
        started = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M") if run.started else "-"
        duration = "-" if run.seconds is None else str(timedelta(seconds=round(run.seconds)))
        epochs, best = f"{run.epochs_done}/{run.epochs or '?'}", str(run.best_epoch or "-")
        scores = [f"{run.scores[name]:.4f}" if name in run.scores else "-" for name in shown]
        facts = [run.name, started, duration, run.state, epochs, run.output or "-", run.model or "-", best]
        rows.append([*facts, *scores, "; ".join(run.problems)])
    return aligned(rows)


def runs_rows(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Returns the runs as rows of a CSV, with every score."""
    names, rows = score_names(runs), []
    for run in runs:
        facts = vars(run) | {
            "started": datetime.fromtimestamp(run.started).isoformat(timespec="seconds") if run.started else None,
            "seconds": None if run.seconds is None else round(run.seconds),
        }
        scores, problems = facts.pop("scores"), facts.pop("problems")
        rows.append({**facts, **{name: scores.get(name) for name in names}, "problems": "; ".join(problems)})
    return rows


def _written(path: Path) -> float | None:
    """Returns when a file was last written, or None when it is missing."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
