"""What a config describes, built: the faces that a run learns from, and what learns. A run and its check start here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
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
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import class_counts, head_probabilities, headline, id2label, num_outputs, targets_of
from maskcls.machine import decoding_threads, process_number
from maskcls.modeling.loss import HeadLosses, build_losses
from maskcls.modeling.model import attention_for
from maskcls.modeling.optim import build_optimizer
from maskcls.modeling.scheduler import build_scheduler, steps_on_score
from maskcls.training.average import WeightAverage
from maskcls.training.log_interval import LogInterval
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.sharding import prepare

if TYPE_CHECKING:
    from datasets import Dataset

LOOKED_AT = 64  # photos, at most, that a check takes for all


def open_data(config: Config, launch: Launch) -> FaceData:
    """Returns the photos of two splits that share no person; none is decoded. Collective.

    The first process of each machine does the work, the others read what it wrote. Raises UserError when lists, folders
    or labels are not what they should be.
    """
    read = launch.on_each_machine(lambda: read_data(config))
    data = launch.on_each(lambda: read or read_data(config))
    launch.agree_on(data.key, f"{config.data_dir} holds other photos or labels here than on the first machine")
    return data


def read_data(config: Config) -> FaceData:
    """Returns the photos of the two splits. Raises UserError when lists, folders or labels are wrong."""
    source = ProfileSource(
        config.data_dir, config.train_profile, config.valid_profile, num_folds=config.num_folds, fold=config.fold,
        seed=config.seed, cache_dir=config.cache_dir, label_fixes=config.label_fixes,
    )  # fmt: skip
    table = TABLES["dataset"]
    own = {name: value for name, value in config.dataset_args.items() if name not in table.shared.names}
    return table.builder(config.dataset)(source, **own)


def open_pixels(
    config: Config, launch: Launch, data: FaceData, run: RunFolder | None = None, *, only_looks: bool = False
) -> tuple[FaceData, Augmenter]:
    """Returns the photos, which can be decoded now, and how they become what the model sees. Collective.

    The first process of each machine decodes once (and names bad photos), the others read what it wrote. run: whose
    preprocessing goes on. only_looks: photos are decoded when they are asked for, nothing is written to the cache, and
    mean and std are those of LOOKED_AT photos. Raises UserError for photos that cannot be read.
    """
    preprocessing, is_mapped = preprocessing_of(config, launch, run), config.cache == "memory_map"
    cache = PixelCache(data.table, preprocessing, config.cache_dir)
    if not only_looks:
        read_all = cache.build if is_mapped else cache.look_through
        num_threads = decoding_threads(config.num_workers)  # the other processes of the machine wait
        launch.on_each_machine(lambda: read_all(num_threads=num_threads, show=True))
    pixels: MappedPixels | DecodedPixels = decoded_pixels(config, data.table, preprocessing)
    if is_mapped and not only_looks:
        pixels = launch.on_each(cache.open)
    if not preprocessing.is_complete:
        # Not the first ones: they are of a few people.
        rows = data.train.rows[:: len(data.train) // LOOKED_AT + 1] if only_looks else data.train.rows
        computed = launch.on_main(lambda: mean_and_std(pixels, rows, least_std=LEAST_STD))
        preprocessing = preprocessing.with_statistics(*computed)
    device = launch.accelerator.device
    data = data.opened(on_device(pixels, device), of_one_colour=() if only_looks else cache.of_one_colour)
    return data, augmenter_of(config, preprocessing, device)


def preprocessing_of(config: Config, launch: Launch, run: RunFolder | None) -> Preprocessing:
    """Returns how photos become what the model sees: as the run has it that goes on, else as the config says.

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


def augmenter_of(config: Config, preprocessing: Preprocessing, device: torch.device) -> Augmenter:
    """Returns how stored pixels become what the model sees in training."""
    return Augmenter(augmentation_of(config), preprocessing, seed=config.seed, device=device)


def augmentation_of(config: Config) -> Augmentation:
    """Returns the strengths of the config's recipe. Raises UserError when they are out of bounds."""
    return TABLES["augmentation"].builder(config.augmentation)(**config.augmentation_args)


def decoded_pixels(config: Config, table: Dataset, preprocessing: Preprocessing) -> DecodedPixels:
    """Returns the pixels of a table's photos, decoded when they are asked for, by every process of the machine."""
    sharing = process_number("LOCAL_WORLD_SIZE", default=1)
    num_threads = decoding_threads(config.num_workers, num_processes=sharing)
    return DecodedPixels(table, preprocessing, num_threads=num_threads)


def plan_of(config: Config, data: FaceData, *, num_processes: int) -> BatchPlan:
    """Returns which photos make which update. Raises UserError when there are too few of them."""
    balanced_over = None
    if config.sampling != "shuffle":
        targets = targets_of(data.train.labels, "all")
        balanced_over = targets[config.sampling.removeprefix("balanced_")]
    return BatchPlan(
        len(data.train), config.train_batch_size, config.seed,
        num_processes=num_processes, max_device_batch_size=config.max_device_batch_size,
        balanced_over=balanced_over, unit=2 if augmentation_of(config).mixes else 1,
    )  # fmt: skip


def predictions_of(photos: Photos, logits: Tensor, output: str) -> Predictions:
    """Returns what logits (N, C) say about the photos."""
    probabilities = {head: values.numpy() for head, values in head_probabilities(logits, output).items()}
    files = [path.rpartition("/")[2] for path in photos.column("path").tolist()]
    return Predictions(
        photos.column("profile"), np.asarray(files), photos.labels, photos.column("age"), photos.column("race"),
        probabilities,
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
    plan = plan_of(config, data, num_processes=launch.num_processes)
    torch.manual_seed(config.seed)
    usual = 1 if config.criterion == "BCELoss" and num_outputs(output) == 2 else num_outputs(output)
    num_labels = config.model_args.get("num_labels") or usual
    network = TABLES["model"].builder(config.model)(
        **config.model_args, image_size=config.height_width, id2label=id2label(output, num_labels),
        attention=attention_for(accelerator.device),
    )  # fmt: skip
    losses = build_losses(
        TABLES["criterion"].builder(config.criterion), config.criterion_args, output=output,
        num_per_class=class_counts(data.train.labels),
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
