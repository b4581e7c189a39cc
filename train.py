"""Trains one experiment: accelerate launch train.py --config configs/exp.yaml [key=value ...].

Config -> data -> model -> prepare -> epochs (train, predict, measure, log, save) -> report.
Where it runs (processes, precision) is accelerate's: --config_file accelerate_configs/... `python train.py` works too.
"""

from __future__ import annotations

import argparse

from maskcls.config import TABLES, Config, load_config
from maskcls.errors import user_errors_exit_with_2
from maskcls.training.memory import keep_freed_memory


def main() -> None:
    """Reads the command line; a mistake in the config ends here, before torch is imported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML of the experiment")
    arguments, overrides = parser.parse_known_args()
    keep_freed_memory()
    with user_errors_exit_with_2():
        train(load_config(arguments.config, overrides))


def train(config: Config) -> None:
    """Trains from a config to a finished run folder."""
    import time
    from contextlib import nullcontext

    import torch
    from accelerate import Accelerator

    from maskcls.data.augmentation import Transform
    from maskcls.data.dataset import ProfileSource
    from maskcls.data.loader import BatchPlan
    from maskcls.data.pixels import (
        DecodedPixels,
        Geometry,
        Pixels,
        build_cache,
        find_bad_photos,
        mean_and_std,
        on_device,
        open_cache,
    )
    from maskcls.evaluation.selection import BestScore
    from maskcls.labels import class_counts, id2label, num_outputs, targets_of
    from maskcls.modeling.loss import build_losses
    from maskcls.modeling.optim import build_optimizer
    from maskcls.modeling.scheduler import build_scheduler, steps_on_score
    from maskcls.reporting import console, pictures
    from maskcls.training.average import WeightAverage
    from maskcls.training.loop import Learner, Photos, predict, score, train_one_epoch
    from maskcls.training.processes import attention_for, fit_threads, on_main_process
    from maskcls.training.run_folder import RunFolder, save_model
    from maskcls.training.tracking import Tracking

    started = time.time()
    accelerator = Accelerator(gradient_accumulation_steps=1)
    is_main, say = accelerator.is_main_process, accelerator.print
    fit_threads(accelerator)
    output = config.output

    # Data: one table of photos; two splits that share no person. The main process does the work once (and names bad
    # photos), the others read what it wrote.
    source = ProfileSource(
        config.data_dir, config.train_profile, config.valid_profile,
        num_folds=config.num_folds, fold=config.fold, seed=config.seed, cache_dir=config.cache_dir,
    )  # fmt: skip
    geometry = Geometry(config.height_width, config.fit, config.crop_box, config.margin)
    build_data = TABLES["dataset"].builder(config.dataset)

    def read_photos_once() -> None:
        table = build_data(source, **config.dataset_args).table
        read_all = build_cache if config.cache == "memory_map" else find_bad_photos
        read_all(table, geometry, config.cache_dir, num_workers=config.num_workers, show=True)

    on_main_process(accelerator, read_photos_once)
    data = build_data(source, **config.dataset_args)
    pixels: Pixels = DecodedPixels(data.table, geometry, num_threads=config.num_workers)
    if config.cache == "memory_map":
        pixels = on_device(open_cache(data.table, geometry, config.cache_dir), accelerator.device)
    mean, std = data.mean, data.std
    if mean is None or std is None:
        computed = on_main_process(accelerator, lambda: mean_and_std(pixels, data.train_rows))
        mean, std = mean or computed[0], std or computed[1]
    config = config.with_statistics(mean, std)
    labels = torch.from_numpy(data.labels())
    train_photos = Photos(pixels, data.train_rows, labels[data.train_rows])
    valid_photos = Photos(pixels, data.valid_rows, labels[data.valid_rows])
    augmentation = TABLES["augmentation"].builder(config.augmentation)(**config.augmentation_args)
    transform = Transform(
        augmentation, image_size=config.height_width, mean=mean, std=std, seed=config.seed, device=accelerator.device
    )
    balanced_over = None
    if config.sampling != "shuffle":
        balanced_over = targets_of(train_photos.labels, "all")[config.sampling.removeprefix("balanced_")].numpy()
    plan = BatchPlan(
        len(data.train_rows), config.train_batch_size, config.seed,
        num_devices=accelerator.num_processes, max_device_batch_size=config.max_device_batch_size,
        balanced_over=balanced_over, unit=2 if augmentation.mixes else 1,
    )  # fmt: skip

    # Model, loss, optimizer, schedule.
    torch.manual_seed(config.seed)
    uses_one_logit = output == "gender" and config.criterion == "BCELoss"
    num_labels = config.model_args.get("num_labels") or (1 if uses_one_logit else num_outputs(output))
    model = TABLES["model"].builder(config.model)(
        **config.model_args, image_size=config.height_width, id2label=id2label(output, num_labels),
        attention=attention_for(accelerator.device),
    )  # fmt: skip
    losses = build_losses(
        TABLES["criterion"].builder(config.criterion), config.criterion_args, output=output,
        num_per_class=class_counts(train_photos.labels), head_weights=config.head_weights,
    )  # fmt: skip
    optimizer = build_optimizer(
        TABLES["optimizer"].builder(config.optimizer), config.optimizer_args, model, lr=config.lr,
        weight_decay=config.weight_decay,
    )  # fmt: skip
    scheduler = build_scheduler(
        TABLES["scheduler"].builder(config.scheduler), config.scheduler_args, optimizer,
        total_updates=plan.num_updates * config.epochs,
    )  # fmt: skip
    network = model  # as it is saved; `model` is what Accelerate makes of it: wrapped, sharded, compiled
    model, optimizer = accelerator.prepare(network, optimizer)
    average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
    learner = Learner(model, optimizer, scheduler, steps_on_score(scheduler), average)

    # Run folder: everything that could be wrong has been looked at, so nothing half-written is left behind.
    run = on_main_process(accelerator, lambda: RunFolder.create(config.model_dir, config.name))
    tracking = Tracking.off()
    if is_main:
        config.save(run.config)
        run.save_split(data.people(data.train_rows), data.people(data.valid_rows))
        run.save_environment(num_processes=accelerator.num_processes, mixed_precision=accelerator.mixed_precision)
        tracking = Tracking.start(config, run)
        tracking.log_pictures(pictures.batch_pictures(train_photos, valid_photos, transform, plan, output), update=0)
    facts = console.start_lines(config, data, plan, accelerator, network)
    say("\n".join([facts, f"run      {run.path}", *(f"         {note}" for note in tracking.notes)]))

    best = BestScore(config.best_criterion)
    for epoch in range(1, config.epochs + 1):
        epoch_started = time.time()
        with console.epoch_bar(epoch, config.epochs, plan.num_updates, is_shown=is_main) as bar:
            for values in train_one_epoch(
                accelerator, learner, train_photos, transform, losses, plan, epoch=epoch, progress=bar.update,
                log_interval=config.log_interval, max_grad_norm=config.max_grad_norm,
            ):  # fmt: skip
                bar.set_postfix(console.postfix(values), refresh=False)
                if learner.num_updates == config.log_interval:
                    say(console.advice(values, accelerator, uses_cache=config.cache == "memory_map"), end="")
                tracking.log(values, epoch=epoch, update=learner.num_updates)

        # Every process holds the same gathered logits, so every process takes the same decisions below.
        with average.applied(model) if average else nullcontext():
            logits = predict(accelerator, model, pixels, data.valid_rows, transform, batch_size=config.valid_batch_size)
            scores, matrices = score(logits, valid_photos.labels, losses, output=output)
            is_best = best.update(scores, epoch)
            state = accelerator.get_state_dict(model)  # collective when the model is sharded; not a copy
            for folder in (run.last, run.best) if is_best else (run.last,):
                if is_main:
                    save_model(network, folder, state)
        tracking.log({f"valid/{k}": v for k, v in scores.items()}, epoch=epoch, update=learner.num_updates)
        if learner.steps_on_score:
            learner.scheduler.step(scores["loss"])
        if is_main and is_best:
            confusion = pictures.confusion_picture(matrices)
            pictures.save_picture(run.path / "confusion_matrix.png", confusion)
            tracking.log_pictures({"valid/confusion_matrix": confusion}, update=learner.num_updates)
        say(console.epoch_line(epoch, config.epochs, scores, seconds=time.time() - epoch_started, is_best=is_best))
        if config.early_stopping_patience and epoch - best.epoch >= config.early_stopping_patience:
            say(f"stopped: {config.best_criterion} has not been better for {config.early_stopping_patience} epochs")
            break

    if is_main:
        pictures.save_picture(run.path / "curves.png", pictures.curves_picture(run.history()))
        tracking.finish()
    say(console.end_lines(run, best, seconds=time.time() - started, notes=tracking.notes))
    accelerator.wait_for_everyone()  # gloo has been seen to abort a process that left before the others
    accelerator.end_training()


if __name__ == "__main__":
    main()
