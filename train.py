"""Trains one experiment: accelerate launch train.py --config configs/exp.yaml [key=value ...].

Config -> data -> model -> prepare -> epochs (train, predict, measure, log, save) -> report.
Where it runs (processes, precision) is accelerate's: --config_file accelerate_configs/... `python train.py` works too.
"""

from __future__ import annotations

import argparse

from maskcls.config import Config, load_config
from maskcls.errors import UserError, errors_end_the_program
from maskcls.paths import maskcls_command
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words, language


def main() -> None:
    """Reads the command line; a mistake in the config ends here, before torch is imported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML of the experiment")
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="run folder to go on with; auto: the newest unfinished one of this config, if any",
    )
    parser.add_argument(
        "--check", action="store_true", help="look at config, photos and one update, and do not train, or not go on"
    )
    parser.add_argument(
        "--lang", help="en or ko: language of console and report; default: as MASKCLS_LANG or LANG says"
    )
    with errors_end_the_program():
        arguments, overrides = parser.parse_known_args()
        lang = language(arguments.lang)
        launch, (run, config) = Launch.start(lambda: chosen(arguments.config, arguments.resume, overrides))
        if arguments.check:
            from maskcls.reporting.check import check

            check(config, launch, run, lang=lang)
        else:
            train(config, run, launch, lang=lang)


def chosen(config: str | None, resume: str | None, overrides: list[str]) -> tuple[RunFolder | None, Config]:
    """Returns the run to go on with, if any, and the config. Raises UserError when neither is given."""
    if resume is not None:
        return RunFolder.resume(resume, config, overrides)
    if config is None:
        raise UserError("give --config: a YAML of configs/, or --resume: a run folder")
    return None, load_config(config, overrides)


def train(config: Config, run: RunFolder | None = None, launch: Launch | None = None, *, lang: str = "en") -> None:
    """Trains a config to a finished run folder: a new one, or one that goes on where it stopped."""
    import math
    import time
    from contextlib import ExitStack

    from maskcls.evaluation.calibration import calibrate
    from maskcls.evaluation.intervals import score_intervals
    from maskcls.evaluation.predictions import Predictions
    from maskcls.evaluation.selection import BestScore
    from maskcls.reporting import console, pictures
    from maskcls.reporting.dashboard import log_results
    from maskcls.reporting.report import write_report
    from maskcls.training.experiment import build_learner, open_data, open_faces
    from maskcls.training.faults import faults_as_messages
    from maskcls.training.interval import NotFinite
    from maskcls.training.loop import predict, score, train_one_epoch
    from maskcls.training.run_folder import check_outputs
    from maskcls.training.saver import Saver
    from maskcls.training.state import RunProgress, newest_state, restore
    from maskcls.training.tracking import Tracking

    launch = launch or Launch()
    accelerator, is_main, say, word = launch.accelerator, launch.is_main, launch.say, Words(lang)

    # People, batches, model, losses, optimizer, schedule: what is wrong with them is told before a photo is decoded.
    launch.on_main(lambda: check_outputs(config, run))
    data = open_data(config, launch)
    learner, losses = build_learner(config, launch, data)
    config, faces = open_faces(config, launch, data)
    plan, transform = faces.plan, faces.transform

    # Run folder: everything that could be wrong has been looked at, so nothing half-written is left behind.
    progress = RunProgress(BestScore(config.best_criterion))
    if run is None:
        run = launch.on_main(lambda: RunFolder.create(config.model_dir, config.name))
        state = None
    else:
        state, damages = launch.on_main(lambda: newest_state(run))
        say("\n".join([*damages, word("going_on", folder=state.folder) if state else word("starting_again")]))
    held = ExitStack()
    if warning := launch.on_main(lambda: held.enter_context(run.locked())):
        say(f"warning: {warning}")
    if state:
        progress = restore(launch, learner, state, data_key=data.key)
        if progress.epoch > config.epochs:
            say(word("all_trained", epochs=config.epochs, more=config.epochs + 1))
    saver = Saver(launch, learner, run, progress, config=config, data_key=data.key)
    tracking = Tracking.off()
    if is_main:
        config.save(run.config)
        run.save_split(data.people(data.train_rows), data.people(data.valid_rows))
        run.save_environment(num_processes=accelerator.num_processes, mixed_precision=accelerator.mixed_precision)
        run.finished.unlink(missing_ok=True)
        if warning := run.cut_log(progress.log_bytes):
            say(f"warning: {warning}")
        tracking = Tracking.start(config, run, word)
        tracking.log_pictures(
            pictures.batch_pictures(faces.train, faces.valid, transform, plan, config.output), update=0
        )
        tracking.catch_up()
    facts = console.start_lines(config, faces, accelerator, learner.network, word)
    say("\n".join([facts, word("start_run", path=run.path), *(f"         {note}" for note in tracking.notes)]))

    best = progress.best
    with faults_as_messages(accelerator, config, learner, faces, run.path), tracking, saver:
        for epoch in range(progress.epoch, config.epochs + 1):
            if config.early_stopping_patience and epoch - 1 - best.epoch >= config.early_stopping_patience:
                say(word("stopped", criterion=config.best_criterion, epochs=config.early_stopping_patience))
                break
            epoch_started = time.time()
            with console.epoch_progress(
                epoch, config.epochs, plan.num_updates, progress.update, word, is_shown=is_main
            ) as bar:
                for values in train_one_epoch(
                    accelerator, learner, faces.train, transform, losses, plan, epoch=epoch,
                    first_update=progress.update, log_interval=config.log_interval, max_grad_norm=config.max_grad_norm,
                    skips_non_finite=config.nan_policy == "skip_update",
                ):  # fmt: skip
                    bar.update(1, console.update_facts(values, word) if values else None)
                    if values:
                        tracking.log(values, epoch=epoch, update=learner.num_updates)
                        if learner.num_updates == config.log_interval:
                            uses_cache = config.cache == "memory_map"
                            say(console.advice(values, accelerator, word, uses_cache=uses_cache), end="")
                    saver.update_done()

            # Every process holds the same gathered logits, so every process takes the same decisions below.
            with learner.averaged():
                logits = predict(
                    accelerator, learner.model, faces.pixels, data.valid_rows, transform,
                    batch_size=config.valid_batch_size,
                )  # fmt: skip
            scores, matrices = score(logits, faces.valid.labels, losses, output=config.output)
            if not math.isfinite(scores["loss"]):
                raise NotFinite(learner.num_updates)
            is_best = best.update(scores, epoch)
            tracking.log({f"valid/{k}": v for k, v in scores.items()}, epoch=epoch, update=learner.num_updates)
            if learner.steps_on_score:
                learner.scheduler.step(scores["loss"])
            if is_best:
                saver.save_best(faces.predictions(logits, config.output))
                if is_main:
                    confusion = pictures.confusion_picture(matrices)
                    pictures.save_picture(run.path / "confusion_matrix.png", confusion)
                    tracking.log_pictures({"valid/confusion_matrix": confusion}, update=learner.num_updates)
            seconds = time.time() - epoch_started
            say(console.epoch_line(epoch, config.epochs, scores, word, seconds=seconds, is_best=is_best))
            saver.epoch_done()

        if is_main:
            pictures.save_picture(run.path / "curves.png", pictures.curves_picture(run.history()))
            predictions = Predictions.load(run.predictions)
            intervals = score_intervals(predictions)
            run.finish(best, intervals, calibrate(predictions), seconds=progress.seconds)
            report = None
            if config.report:
                try:
                    report = write_report(run, language=lang)
                except UserError as error:  # as when the disk is full: the run is finished all the same
                    tracking.notes.append(word("no_report", reason=error, command=maskcls_command("report", run.path)))
            log_results(tracking, run, predictions, intervals=intervals, report=report)

    if is_main:
        say(console.end_lines(run, best, intervals, word, seconds=progress.seconds, notes=tracking.notes))
        held.close()
    launch.wait()


if __name__ == "__main__":
    main()
