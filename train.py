"""Trains one experiment: accelerate launch train.py --config configs/exp.yaml [--folds all] [key=value ...].

Config -> data -> model -> prepare -> epochs (train, predict, measure, log, save) -> report.
Where it runs (processes, precision) is accelerate's: --config_file accelerate_configs/... `python train.py` works too.
"""

from __future__ import annotations

import argparse

from maskcls.config import Config
from maskcls.program import errors_end_the_program
from maskcls.training.processes import Launch
from maskcls.training.request import asked_for
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words, language


def main() -> None:
    """Reads the command line; a mistake in the config ends here, before torch is imported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML of the experiment")
    parser.add_argument(
        "--resume", metavar="RUN", help="run folder to resume; auto: the newest unfinished one of this config, if any"
    )
    parser.add_argument("--folds", help="all, or 0,2: train these folds; none: on everybody, as the folds chose")
    parser.add_argument("--seeds", help="42,43: every fold once with each of them; default: the config's")
    parser.add_argument(
        "--at_once", type=int, help="folds at the same time, each on its GPU or share of cores; default: 1"
    )
    parser.add_argument(
        "--check", action="store_true", help="look at config, photos and one update, and neither train nor resume"
    )
    parser.add_argument(
        "--lang", help="en or ko: language of console and report; default: as MASKCLS_LANG or LANG says"
    )
    with errors_end_the_program():
        arguments, overrides = parser.parse_known_args()
        lang = language(arguments.lang)
        launch, (run, config, wanted) = Launch.start(lambda: asked_for(arguments, overrides))
        if arguments.check:
            from maskcls.reporting.check import check

            check(config, launch, run, lang=lang)
        elif wanted:
            from maskcls.reporting.folds import train_folds

            train_folds(train, config, launch, wanted, lang=lang)
        else:
            train(config, run, launch, lang=lang)


def train(config: Config, run: RunFolder | None = None, launch: Launch | None = None, *, lang: str = "en") -> None:
    """Trains a config to a finished run folder: a new one, or one that resumes where it stopped."""
    from maskcls.evaluation.findings import Findings
    from maskcls.evaluation.selection import BestScore
    from maskcls.reporting.journal import Journal, NoJournal, state_to_resume
    from maskcls.training.batches import Batches
    from maskcls.training.builders import (
        build_augmenter,
        build_losses,
        build_model,
        build_optimizer,
        build_plan,
        build_scheduler,
        open_data,
        open_pixels,
    )  # fmt: skip
    from maskcls.training.faults import faults_as_messages
    from maskcls.training.loop import Learner, train_one_epoch
    from maskcls.training.run_folder import check_outputs
    from maskcls.training.saver import Saver
    from maskcls.training.sharding import prepare
    from maskcls.training.state import RunProgress, restore
    from maskcls.training.validation import validate

    launch = launch or Launch()
    accelerator, device, word = launch.accelerator, launch.accelerator.device, Words(lang)

    # People, model, losses, optimizer, schedule: what is wrong with them is reported before a photo is decoded.
    launch.on_main(lambda: check_outputs(config, run))
    data = open_data(config, launch)
    with launch.together():
        plan = build_plan(config, data.train, num_processes=launch.num_processes)
        network = build_model(config, device)
        losses = build_losses(config, data.train, device)
        optimizer = build_optimizer(config, network, scales_loss=accelerator.scaler is not None)
        scheduler = build_scheduler(config, optimizer, plan)
    model, optimizer = prepare(accelerator, network, optimizer)  # accelerator.prepare, and what FSDP2 needs beside it
    learner = Learner(accelerator, network, model, losses, optimizer, scheduler, ema_decay=config.ema_decay)
    data, preprocessing = open_pixels(config, launch, data, run)
    batches = Batches(data.train, plan, build_augmenter(config, preprocessing, device), config.output)

    # Run folder: everything that could be wrong has been looked at, so nothing half-written is left behind.
    is_new, run = run is None, run or launch.on_main(lambda: RunFolder.create(config.model_dir, config.name))
    with launch.main_holds(run.locked()) as warning:
        if warning:
            launch.say(f"warning: {warning}")
        state = None if is_new else state_to_resume(launch, run, word)
        progress = RunProgress(BestScore(config.best_criterion))
        if state:
            progress = restore(launch, learner, state, data_key=data.key)
        saver = Saver(launch, learner, run, progress, config=config, data_key=data.key)
        journal: Journal | NoJournal = NoJournal()
        if launch.is_main:
            config.save(run.config)
            preprocessing.save(run.preprocessing)
            run.save_split(data.train.people, data.valid.people)
            run.save_environment(num_processes=launch.num_processes, mixed_precision=accelerator.mixed_precision)
            run.reopen()
            journal = Journal(config, run, learner, data, batches, progress, language=lang)

        best = progress.best
        with faults_as_messages(config, learner, data, batches, run), journal, saver:
            journal.started()
            for epoch in range(progress.epoch, config.last_epoch + 1):
                if best.is_far_back(epoch, config.early_stopping_patience):
                    journal.stopped_early()
                    break
                for values in train_one_epoch(
                    learner, batches, epoch=epoch, first_update=progress.update, log_interval=config.log_interval,
                    max_grad_norm=config.max_grad_norm, skips_non_finite=config.nan_policy == "skip_update",
                ):  # fmt: skip
                    journal.update(values)
                    saver.update_done()

                # Every process has the same scores, so every process takes the same decisions below.
                validation = validate(learner, data.valid, preprocessing, batch_size=config.valid_batch_size)
                if is_best := best.update(validation.scores, epoch):
                    saver.save_best(validation.predictions)
                journal.epoch(validation.scores, validation.matrices, is_best=is_best)
                saver.epoch_done()

            if launch.is_main:
                findings = Findings(run.read_predictions()) if config.has_validation else None
                run.finish(best, findings, output=config.output, seconds=progress.seconds)
                journal.finished(findings)
    launch.wait()


if __name__ == "__main__":
    main()
