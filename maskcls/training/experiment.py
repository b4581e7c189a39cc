"""What a config describes, built: the faces that a run learns from, and what learns. A run and its check start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from maskcls.config import TABLES, Config
from maskcls.config_rules import LEAST_STD
from maskcls.data.augmentation import Augmentation, Transform
from maskcls.data.dataset import FaceData, ProfileSource
from maskcls.data.loader import BatchPlan
from maskcls.data.pixels import (
    DecodedPixels,
    Geometry,
    MappedPixels,
    Pixels,
    build_cache,
    find_bad_photos,
    mean_and_std,
    on_device,
    open_cache,
    photos_of_one_colour,
)
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import class_counts, head_probabilities, headline, id2label, num_outputs, targets_of
from maskcls.machine import decoding_threads, process_number
from maskcls.modeling.loss import HeadLosses, build_losses
from maskcls.modeling.model import attention_for
from maskcls.modeling.optim import build_optimizer
from maskcls.modeling.scheduler import build_scheduler, steps_on_score
from maskcls.training.average import WeightAverage
from maskcls.training.log_interval import LogInterval
from maskcls.training.loop import Learner, Photos
from maskcls.training.processes import Launch
from maskcls.training.sharding import prepare

if TYPE_CHECKING:
    from datasets import Dataset

LOOKED_AT = 64  # photos, at most, that a check takes for all


@dataclass(frozen=True)
class Faces:
    """The photos of both splits, how they become batches, and which photos make which update."""

    data: FaceData
    pixels: Pixels
    train: Photos
    valid: Photos
    transform: Transform
    plan: BatchPlan
    of_one_colour: Sequence[str] = ()  # paths of photos that show nothing, where all have been decoded

    def names(self, positions: np.ndarray) -> list[str]:
        """Returns the paths of training photos by their position in the split."""
        return self.data.table.select_columns("path")[self.train.rows[positions]]["path"]  # no photo is decoded

    def predictions(self, logits: Tensor, output: str) -> Predictions:
        """Returns what logits (N, C) say about the validation photos."""
        rows = self.data.table.select_columns(["profile", "path", "age", "race"])[self.valid.rows]
        probabilities = {head: values.numpy() for head, values in head_probabilities(logits, output).items()}
        files = [path.rpartition("/")[2] for path in rows["path"]]
        return Predictions(
            np.asarray(rows["profile"]), np.asarray(files), self.valid.labels.numpy(), np.asarray(rows["age"]),
            np.asarray(rows["race"]), probabilities,
        )  # fmt: skip


def open_data(config: Config, launch: Launch) -> FaceData:
    """Returns one table of photos and two splits that share no person; no photo is decoded. Collective.

    The first process of each machine does the work, the others read what it wrote. Raises UserError when lists, folders
    or labels are not what they should be.
    """
    read = launch.on_each_machine(lambda: read_data(config))
    data = launch.on_each(lambda: read or read_data(config))
    launch.agree_on(data.key, f"{config.data_dir} holds other photos or labels here than on the first machine")
    return data


def open_faces(config: Config, launch: Launch, data: FaceData, *, only_looks: bool = False) -> tuple[Config, Faces]:
    """Returns the decoded photos, and the config with mean and std filled in. Collective.

    The first process of each machine decodes once (and names bad photos), the others read what it wrote. only_looks:
    photos are decoded when they are asked for, nothing is written to the cache, and mean and std are those of LOOKED_AT
    photos. Raises UserError for photos that cannot be read.
    """
    geometry = geometry_of(config)
    read_all = build_cache if config.cache == "memory_map" else find_bad_photos
    if not only_looks:
        num_workers = decoding_threads(config.num_workers)  # the other processes of the machine wait
        launch.on_each_machine(
            lambda: read_all(data.table, geometry, config.cache_dir, num_workers=num_workers, show=True)
        )
    pixels: MappedPixels | DecodedPixels = decoded_pixels(config, data.table)
    if config.cache == "memory_map" and not only_looks:
        pixels = launch.on_each(lambda: open_cache(data.table, geometry, config.cache_dir))
    if data.mean is None or data.std is None:
        # Not the first ones: they are of a few people.
        rows = data.train_rows[:: len(data.train_rows) // LOOKED_AT + 1] if only_looks else data.train_rows
        computed = launch.on_main(lambda: mean_and_std(pixels, rows, least_std=LEAST_STD))
        config = config.with_statistics(data.mean or computed[0], data.std or computed[1])
    else:
        config = config.with_statistics(data.mean, data.std)
    faces = as_faces(
        config, data, on_device(pixels, launch.accelerator.device), num_devices=launch.num_processes,
        device=launch.accelerator.device,
    )  # fmt: skip
    if only_looks:
        return config, faces
    return config, replace(faces, of_one_colour=photos_of_one_colour(data.table, geometry, config.cache_dir))


def decoded_pixels(config: Config, table: Dataset) -> DecodedPixels:
    """Returns the pixels of a table's photos, decoded when they are asked for, by every process of the machine."""
    sharing = process_number("LOCAL_WORLD_SIZE", default=1)
    return DecodedPixels(
        table, geometry_of(config), num_threads=decoding_threads(config.num_workers, num_processes=sharing)
    )


def read_data(config: Config) -> FaceData:
    """Returns the table of photos and its two splits. Raises UserError when lists, folders or labels are wrong."""
    source = ProfileSource(
        config.data_dir, config.train_profile, config.valid_profile, num_folds=config.num_folds, fold=config.fold,
        seed=config.seed, cache_dir=config.cache_dir, label_fixes=config.label_fixes,
    )  # fmt: skip
    return TABLES["dataset"].builder(config.dataset)(source, **config.dataset_args)


def geometry_of(config: Config) -> Geometry:
    """Returns how the photos become pictures."""
    return Geometry(config.height_width, config.fit, config.crop_box, config.margin)


def as_faces(config: Config, data: FaceData, pixels: Pixels, *, num_devices: int, device: torch.device) -> Faces:
    """Returns the photos of a config whose mean and std are known, with its transform and batch plan."""
    augmentation, plan = plan_of(config, data, num_devices=num_devices)
    labels = torch.from_numpy(data.labels())
    train = Photos(pixels, data.train_rows, labels[data.train_rows])
    valid = Photos(pixels, data.valid_rows, labels[data.valid_rows])
    transform = Transform(
        augmentation,
        image_size=config.height_width,
        mean=config.dataset_args["mean"],
        std=config.dataset_args["std"],
        seed=config.seed,
        device=device,
    )
    return Faces(data, pixels, train, valid, transform, plan)


def plan_of(config: Config, data: FaceData, *, num_devices: int) -> tuple[Augmentation, BatchPlan]:
    """Returns the augmentation, and which photos make which update. Raises UserError when there are too few of them."""
    augmentation = TABLES["augmentation"].builder(config.augmentation)(**config.augmentation_args)
    balanced_over = None
    if config.sampling != "shuffle":
        targets = targets_of(data.labels()[data.train_rows], "all")
        balanced_over = targets[config.sampling.removeprefix("balanced_")]
    return augmentation, BatchPlan(
        len(data.train_rows), config.train_batch_size, config.seed,
        num_devices=num_devices, max_device_batch_size=config.max_device_batch_size,
        balanced_over=balanced_over, unit=2 if augmentation.mixes else 1,
    )  # fmt: skip


def build_learner(config: Config, launch: Launch, data: FaceData) -> tuple[Learner, HeadLosses]:
    """Returns model, optimizer and schedule, prepared by Accelerate, and the losses. Collective.

    It needs no decoded photo, so that what cannot be built is told before the decoding. Raises UserError for batches,
    weights, arguments and combinations that the config's own check cannot see.
    """
    network, losses, optimizer, scheduler = launch.on_each(lambda: _learner_parts(config, launch, data))
    model, optimizer = prepare(launch.accelerator, network, optimizer)
    average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
    interval = LogInterval(launch.accelerator.device, headline(config.output))
    return Learner(network, model, optimizer, scheduler, steps_on_score(scheduler), average, interval), losses


def _learner_parts(
    config: Config, launch: Launch, data: FaceData
) -> tuple[nn.Module, HeadLosses, torch.optim.Optimizer, LRScheduler]:
    """Returns the parts of a learner, as each process builds them for itself."""
    accelerator, output = launch.accelerator, config.output
    _, plan = plan_of(config, data, num_devices=launch.num_processes)
    torch.manual_seed(config.seed)
    usual = 1 if config.criterion == "BCELoss" and num_outputs(output) == 2 else num_outputs(output)
    num_labels = config.model_args.get("num_labels") or usual
    network = TABLES["model"].builder(config.model)(
        **config.model_args, image_size=config.height_width, id2label=id2label(output, num_labels),
        attention=attention_for(accelerator.device),
    )  # fmt: skip
    losses = build_losses(
        TABLES["criterion"].builder(config.criterion), config.criterion_args, output=output,
        num_per_class=class_counts(data.labels()[data.train_rows]),
        head_weights=config.head_weights, device=accelerator.device,
    )  # fmt: skip
    optimizer = build_optimizer(
        TABLES["optimizer"].builder(config.optimizer), config.optimizer_args, network, lr=config.lr,
        weight_decay=config.weight_decay, scales_loss=accelerator.scaler is not None,
    )  # fmt: skip
    scheduler = build_scheduler(
        TABLES["scheduler"].builder(config.scheduler), config.scheduler_args, optimizer,
        total_updates=plan.num_updates * config.epochs,
    )  # fmt: skip
    return network, losses, optimizer, scheduler
