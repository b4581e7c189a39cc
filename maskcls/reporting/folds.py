"""`--folds`: the runs of a cross-validation one after the other, and what their models say together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from maskcls.config import Config
from maskcls.errors import Stopped, UserError
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.paired import averaged
from maskcls.paths import command, read_json, write_json
from maskcls.reporting.report.page import write_report
from maskcls.reporting.text import decision_line
from maskcls.training.folds import chosen_epoch, mean_scores, run_to_train
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.processes import Launch
from maskcls.training.request import WantedFolds
from maskcls.training.run_folder import check_outputs
from maskcls.training.side_by_side import train_side_by_side
from maskcls.words import Words


def train_folds(
    train: Callable[..., None], config: Config, launch: Launch, wanted: WantedFolds, *, lang: str = "en"
) -> None:
    """Trains the wanted folds that are not trained yet, resumes one that was stopped, and scores all together.

    train: that of train.py. Collective. A folds folder of the same config is gone on with; otherwise a new one is made.
    """
    word, config = Words(lang), config.model_copy(update={"fold": 0})
    launch.on_main(lambda: check_outputs(config, None))
    folds = launch.on_main(lambda: _folder(config, is_made=not wanted.is_everybody))
    launch.say(word("folds_folder", path=folds.path))
    titles = {(seed, fold): _title(seed, fold, config, word) for seed, fold in wanted}
    try:
        if wanted.at_once > 1:
            common = ["--lang", lang, "--config", str(folds.config), "--folds"]
            runs = {
                title: [*common, "none" if fold is None else str(fold), "--seeds", str(seed)]
                for (seed, fold), title in titles.items()
            }
            train_side_by_side(runs, at_once=wanted.at_once)
        for (seed, fold), title in titles.items():
            wish = launch.on_main(partial(run_to_train, folds, config, seed, fold))
            launch.say(title if wish else word("run_is_trained", run=title))
            if wish:
                launch.renew()
                train(*wish, launch, lang=lang)
    except Stopped as stopped:
        raise Stopped(f"{stopped}\n{word('folds_go_on')}") from None
    finally:
        if launch.is_main:
            folds.remove_if_empty()
    if launch.is_main:
        if wanted.is_everybody:
            print(decided_for_everybody(folds, wanted, word))
        elif len(wanted.folds) < config.num_folds:
            print(word("folds_are_some", folds=config.num_folds))
        else:
            print(summary(folds, config, word, lang=lang))
    launch.wait()


def _folder(config: Config, *, is_made: bool) -> FoldsFolder:
    folds = FoldsFolder.of_config(config)
    if folds is None and not is_made:
        raise UserError(
            f"{config.model_dir} holds no folds of this config, which say how long a run on everybody trains: "
            "train them first, with --folds all; or choose yourself, with valid_profile=none stop_after_epoch=N"
        )
    return folds or FoldsFolder.create(config)


def _title(seed: int, fold: int | None, config: Config, word: Words) -> str:
    if fold is None:
        return word("everybody_run", seed=seed)
    return word("fold_run", fold=fold, folds=config.num_folds, seed=seed)


def decided_for_everybody(folds: FoldsFolder, wanted: WantedFolds, word: Words) -> str:
    """Gives the runs on everybody the decision that the folds have found, and returns how they answer."""
    runs = [folds.run_of(seed, fold) for seed, fold in wanted]
    for run in runs:
        if folds.decision.exists():
            shutil.copy(folds.decision, run.decision)
    model_dir = ",".join(str(run.path) for run in runs)
    return word("next_command", command=command("infer", "--model_dir", model_dir))


def summary(folds: FoldsFolder, config: Config, word: Words, *, lang: str) -> str:
    """Writes what all folds say together, and returns it for the console."""
    members = list(folds.tables().values())
    findings = Findings(averaged(members, [1] * len(members)))
    predictions = findings.predictions
    predictions.save(folds.predictions)
    decision = Decision.fit(predictions, config.output, findings.draws, members=members)
    decision.save(folds.decision)
    epochs = mean_scores(folds)
    epoch, runs = chosen_epoch(folds, epochs), folds.finished_runs()
    scores = {name: asdict(interval) for name, interval in findings.named_scores.items()}
    own: list[dict[str, Any]] = []
    for (seed, fold), run in runs.items():
        of_run = read_json(run.finished)
        own.append({"seed": seed, "fold": fold, "epoch": of_run["epoch"], config.best_criterion: of_run["value"]})
    write_json(folds.finished, {"scores": scores, "epoch": epoch, "runs": own})
    width = max(map(len, scores))
    people = len(set(predictions.people.tolist()))
    single = ", ".join(f"{run[config.best_criterion]:.3f}" for run in own)
    lines = [
        word("folds_scores", runs=len(own), people=people),
        *(f"  {name:<{width}}  {interval}" for name, interval in findings.named_scores.items()),
        f"  {word('in_brackets')}",
        word("folds_single", criterion=f"valid/{config.best_criterion}", values=single),
        word("folds_epoch", epoch=epoch, epochs=config.epochs),
        decision_line(decision, word),
        *([word("where_report", path=write_report(folds, language=lang, findings=findings))] if config.report else []),
        word("folds_next", command=command("infer", "--model_dir", folds.path)),
    ]
    return "\n".join(lines)
