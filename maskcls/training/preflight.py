"""What a run will take: an update and a prediction of the real model on real photos, and what follows from them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from maskcls.config import Config
from maskcls.data.dataset import FaceData
from maskcls.data.loader import BatchPlan
from maskcls.data.pixel_cache import PixelCache
from maskcls.data.pixels import bytes_kept
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from maskcls.machine import peak_memory_gb
from maskcls.paths import check_writable, full_path, nearest_folder
from maskcls.training.batches import Batches
from maskcls.training.builders import build_augmenter, open_pixels
from maskcls.training.faults import faults_as_messages
from maskcls.training.loop import Learner, predict, train_one_epoch
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder

NUM_UPDATES = 2  # the first one also pays for what is done once
NUM_PREDICTED = 64


@dataclass(frozen=True)
class Estimate:
    """What one update showed. Decoding is left out where the cache will do it once."""

    update_seconds: float
    epoch_seconds: float  # with validation
    memory_gb: float  # most that a process will hold
    kept_gb: float  # of it, photos that stay on the device
    state_bytes: int  # of last/ or previous/
    run_bytes: int  # of the run folder: both of them, and best/
    cache_bytes: int  # of all photos that are still to be decoded
    free_bytes: int  # where the runs go
    has_room: dict[str, bool]  # model_dir and cache_dir, for what a run puts there


def try_out(
    config: Config, launch: Launch, data: FaceData, learner: Learner, plan: BatchPlan, run: RunFolder | None
) -> Estimate:
    """Makes an update and a prediction on photos that it decodes, and returns what they took. Collective.

    run: the one that would resume. Raises UserError for photos that cannot be read, and for an update that is not
    finite or does not fit the memory.
    """
    accelerator = launch.accelerator
    pixel_cache = PixelCache(data.table, Preprocessing(**config.preprocessing), config.cache_dir)
    is_decoded = config.cache == "none" or pixel_cache.is_whole
    # Collective, so also where the photos are decoded: another machine's cache may lack them.
    launch.on_each_machine(lambda: None if is_decoded else check_writable("cache_dir", full_path(config.cache_dir)))
    data, preprocessing = open_pixels(config, launch, data, run, only_looks=True)
    augmenter = build_augmenter(config, preprocessing, accelerator.device)
    batches = Batches(data.train, plan, augmenter, config.output)
    shape = (len(data.table), *preprocessing.stored_size, 3)
    kept = bytes_kept(shape, accelerator.device) if config.cache == "memory_map" else 0  # as a run decides
    seconds = 0.0
    with faults_as_messages(config, learner, data, batches, None):
        updates = train_one_epoch(learner, batches, epoch=1, log_interval=1, max_grad_norm=config.max_grad_norm)
        for _, values in zip(range(NUM_UPDATES), updates, strict=False):  # the other way round would make one more
            waits = values["train/waiting_share"] if config.cache == "memory_map" else 0.0
            seconds = plan.batch_size / values["train/images_per_second"] * (1 - waits)
        known = data.valid if len(data.valid) else data.train
        some = replace(known, rows=known.rows[:NUM_PREDICTED])
        started = time.perf_counter()
        logits = predict(accelerator, learner.model, some, preprocessing, batch_size=config.valid_batch_size)
        predicted = (time.perf_counter() - started) / max(len(some), 1)
    if not bool(logits.isfinite().all()):
        raise UserError("the model's answers are not finite after the first updates: lower lr").of_launch()
    model_bytes = num_bytes(learner.network.state_dict().values())
    optimizer = learner.optimizer.state_dict()["state"].values()
    moments = num_bytes(value for state in optimizer for value in state.values() if isinstance(value, Tensor))
    state_bytes = moments + model_bytes * (3 if learner.average else 2)
    run_bytes, cache_bytes = 2 * state_bytes + model_bytes, 0 if is_decoded else int(np.prod(shape))
    runs, cache = nearest_folder(Path(config.model_dir)), nearest_folder(full_path(config.cache_dir))
    free, cache_free = shutil.disk_usage(runs).free, shutil.disk_usage(cache).free
    beside = cache_bytes if runs.stat().st_dev == cache.stat().st_dev else 0
    return Estimate(
        update_seconds=seconds,
        epoch_seconds=seconds * plan.num_updates + predicted * len(data.valid),
        memory_gb=peak_memory_gb(accelerator.device) + kept / 1e9,
        kept_gb=kept / 1e9,
        state_bytes=state_bytes,
        run_bytes=run_bytes,
        cache_bytes=cache_bytes,
        free_bytes=free,
        has_room={"model_dir": run_bytes + beside <= free, "cache_dir": cache_bytes <= cache_free},
    )


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Returns what the tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
