"""What a config describes, built: the photos to learn from, and what learns. A run and its check start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from maskcls.config import TABLES, Config
from maskcls.config_rules import LEAST_STD
from maskcls.data.augmentation import Augmentation
from maskcls.data.augmenter import Augmenter
from maskcls.data.dataset import FaceData, Photos, ProfileSource
from maskcls.data.loader import BatchPlan
from maskcls.data.pixel_cache import PixelCache
from maskcls.data.pixels import DecodedPixels, MappedPixels, mean_and_std, on_device
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from maskcls.labels import class_counts, id2label, num_outputs, targets_of
from maskcls.machine import decoding_threads, process_number
from maskcls.modeling import loss, optim, scheduler
from maskcls.modeling.loss import HeadLosses
from maskcls.modeling.model import attention_for
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.sharding import prepare

LOOKED_AT = 64  # photos, at most, that a check takes for all


def open_data(config: Config, launch: Launch) -> FaceData:
    """Returns the photos of two splits that share no person; none is decoded. Collective.

    Raises UserError when lists, folders or labels are not what they should be, or others than on the first machine.
    """
    data = launch.on_each_machine(lambda: read_data(config))
    launch.agree_on(data.key, f"{config.data_dir} holds other photos or labels here than on the first machine")
    return data


def read_data(config: Config) -> FaceData:
    """Returns the photos of the two splits. Raises UserError when lists, folders or labels are wrong."""
    source = ProfileSource(**{field.name: getattr(config, field.name) for field in fields(ProfileSource)})
    table = TABLES["dataset"]
    own = {name: value for name, value in config.dataset_args.items() if name not in table.shared.names}
    return table.builder(config.dataset)(source, **own)


def open_pixels(
    config: Config, launch: Launch, data: FaceData, run: RunFolder | None = None, *, only_looks: bool = False
) -> tuple[FaceData, Preprocessing]:
    """Returns the photos, which can be decoded now, and how they become what the model sees. Collective.

    The first process of each machine decodes once (and names bad photos), the others read what it wrote. run: the one
    that resumes with its own preprocessing. only_looks: photos are decoded when they are asked for, nothing is cached,
    and mean and std are those of LOOKED_AT photos. Raises UserError for photos that cannot be read.
    """
    preprocessing, is_mapped = preprocessing_of(config, launch, run), config.cache == "memory_map"
    cache = PixelCache(data.table, preprocessing, config.cache_dir)
    if not only_looks:
        read_all = cache.build if is_mapped else cache.look_through
        num_threads = decoding_threads(config.num_workers)  # the other processes of the machine wait
        launch.on_each_machine(lambda: read_all(num_threads=num_threads))
    pixels: MappedPixels | DecodedPixels = decoded_pixels(config, data.table, preprocessing)
    if is_mapped and not only_looks:
        pixels = launch.on_each(cache.open)
    if not preprocessing.is_complete:
        folds = FoldsFolder(Path(config.model_dir))

        def statistics() -> tuple[Sequence[float], Sequence[float]]:
            if folds.is_folds():  # the same in all: they share what they decode, and an ensemble of them what it sees
                return folds.statistics(preprocessing) or mean_and_std(
                    pixels, np.arange(len(data.table)), least_std=LEAST_STD
                )
            # Not the first ones: they are of a few people.
            rows = data.train.rows[:: len(data.train) // LOOKED_AT + 1] if only_looks else data.train.rows
            return mean_and_std(pixels, rows, least_std=LEAST_STD)

        preprocessing = preprocessing.with_statistics(*launch.on_main(statistics))
    reader = on_device(pixels, launch.accelerator.device)
    return data.opened(reader, of_one_colour=() if only_looks else cache.of_one_colour), preprocessing


def preprocessing_of(config: Config, launch: Launch, run: RunFolder | None) -> Preprocessing:
    """Returns how photos become what the model sees: as the resumed run has it, else as the config says.

    Raises UserError when the two contradict each other. Collective.
    """
    own = Preprocessing(**config.preprocessing)
    if run is None:
        return own
    known = launch.on_main(run.read_preprocessing)
    mine, its = asdict(own.with_statistics(known.mean, known.std)), asdict(known)
    if others := [f"{name} is {mine[name]}, in the run {its[name]}" for name in its if mine[name] != its[name]]:
        raise UserError(f"{run.path} cannot resume with another preprocessing: {'; '.join(others)}").of_launch()
    return known


def build_augmenter(config: Config, preprocessing: Preprocessing, device: torch.device) -> Augmenter:
    """Returns how stored pixels become what the model sees in training. Raises UserError as `augmentation_of`."""
    return Augmenter(augmentation_of(config), preprocessing, seed=config.seed, device=device)


def augmentation_of(config: Config) -> Augmentation:
    """Returns the strengths of the config's recipe. Raises UserError when they are out of bounds."""
    return TABLES["augmentation"].builder(config.augmentation)(**config.augmentation_args)


def decoded_pixels(config: Config, table: Dataset, preprocessing: Preprocessing) -> DecodedPixels:
    """Returns the pixels of a table's photos, decoded when they are asked for, by every process of the machine."""
    sharing = process_number("LOCAL_WORLD_SIZE", default=1)
    num_threads = decoding_threads(config.num_workers, num_processes=sharing)
    return DecodedPixels(table, preprocessing, num_threads=num_threads)


def build_plan(config: Config, photos: Photos, *, num_processes: int) -> BatchPlan:
    """Returns which training photos make which update. Raises UserError when there are too few of them."""
    balanced_over = None
    if config.sampling != "shuffle":
        balanced_over = targets_of(photos.labels, "all")[config.sampling.removeprefix("balanced_")]
    return BatchPlan(
        num_photos=len(photos),
        batch_size=config.train_batch_size,
        seed=config.seed,
        num_processes=num_processes,
        max_device_batch_size=config.max_device_batch_size,
        balanced_over=balanced_over,
        unit=2 if augmentation_of(config).mixes else 1,
    )


def build_model(config: Config, device: torch.device) -> nn.Module:
    """Returns the network, on the CPU, with the weights that the seed gives. Raises UserError when it cannot be built.

    device: where it will run.
    """
    torch.manual_seed(config.seed)
    heads = num_outputs(config.output)
    usual = 1 if config.criterion == "BCELoss" and heads == 2 else heads
    names = id2label(config.output, config.model_args.get("num_labels") or usual)
    return TABLES["model"].builder(config.model)(
        **config.model_args, image_size=config.height_width, attention=attention_for(device), id2label=names
    )


def build_losses(config: Config, photos: Photos, device: torch.device) -> HeadLosses:
    """Returns the criterion for every head, weighted by the classes of the training photos. Raises UserError."""
    criterion, counts = TABLES["criterion"].builder(config.criterion), class_counts(photos.labels)
    arguments, weights = config.criterion_args, config.head_weights
    return loss.build_losses(
        criterion, arguments, output=config.output, num_per_class=counts, head_weights=weights, device=device
    )


def build_optimizer(config: Config, network: nn.Module, *, scales_loss: bool) -> Optimizer:
    """Returns the optimizer of the network's weights. scales_loss: as for fp16. Raises UserError."""
    builder, arguments = TABLES["optimizer"].builder(config.optimizer), config.optimizer_args
    return optim.build_optimizer(
        builder, arguments, network, lr=config.lr, weight_decay=config.weight_decay, scales_loss=scales_loss
    )


def build_scheduler(config: Config, optimizer: Optimizer, plan: BatchPlan) -> LRScheduler:
    """Returns the schedule over all updates of the run. Raises UserError when it refuses an argument."""
    builder, total = TABLES["scheduler"].builder(config.scheduler), plan.num_updates * config.epochs
    return scheduler.build_scheduler(builder, config.scheduler_args, optimizer, total_updates=total)


def build_learner(config: Config, launch: Launch, data: FaceData) -> tuple[Learner, BatchPlan]:
    """Returns what learns, and which photos make which update, as train.py builds them for a run. Collective."""
    accelerator = launch.accelerator
    with launch.together():
        plan = build_plan(config, data.train, num_processes=launch.num_processes)
        network = build_model(config, accelerator.device)
        losses = build_losses(config, data.train, accelerator.device)
        optimizer = build_optimizer(config, network, scales_loss=accelerator.scaler is not None)
        schedule = build_scheduler(config, optimizer, plan)
    model, optimizer = prepare(accelerator, network, optimizer)
    learner = Learner(accelerator, network, model, losses, optimizer, schedule, ema_decay=config.ema_decay)
    return learner, plan
