"""The training photos as an update takes them: which ones, and what the model sees of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maskcls.data.augmenter import Augmenter
from maskcls.data.dataset import Photos
from maskcls.data.loader import BatchPlan, map_ahead
from maskcls.labels import OUTPUT_HEADS, targets_of
from maskcls.machine import threads_ahead
from maskcls.modeling.loss import soft

NUM_SHOWN = 16  # photos of the first batch
Loaded = tuple[Tensor, Tensor]  # stored pixels (B, H', W', 3) uint8 and keys (B,) int64 of a micro batch


@dataclass(frozen=True)
class MicroBatch:
    """What one process puts through the model at once."""

    x: Tensor  # (B, 3, H, W) float32
    targets: dict[str, Tensor]  # head -> (B, K) float32, mixed as x is
    labels: dict[str, Tensor]  # head -> (B,) int64 of the photos themselves


@dataclass(frozen=True)
class Batches:
    """The training photos, the plan that says which of them make an update, and what augments them."""

    photos: Photos
    plan: BatchPlan
    augmenter: Augmenter
    output: str

    def loaded(self, epoch: int, process: int, *, first_update: int = 0) -> Iterator[list[Loaded]]:
        """Yields, update by update, the micro batches of a process, loaded ahead of their use."""

        def load(micro_batches: Sequence[np.ndarray]) -> list[Loaded]:
            pixels = [self.photos.pixels(self.plan.positions(keys)) for keys in micro_batches]
            return [
                (self._pinned(values), self._pinned(torch.from_numpy(keys)))
                for values, keys in zip(pixels, micro_batches, strict=True)
            ]

        parts = self.plan.parts(epoch, process, first_update=first_update)
        yield from map_ahead(load, parts, num_threads=threads_ahead(self.augmenter.device), ahead=2)

    def augmented(self, loaded: Loaded, *, epoch: int) -> MicroBatch:
        """Returns a micro batch as the model sees it, on the device."""
        pixels, keys = (values.to(self.augmenter.device, non_blocking=True) for values in loaded)
        labels = targets_of(self._labels[self.plan.positions(keys)], self.output)
        x = self.augmenter.augmented(pixels, keys, epoch=epoch)
        targets = {head: soft(labels[head], head) for head in OUTPUT_HEADS[self.output]}
        x, targets = self.augmenter.mixed(x, targets, keys, epoch=epoch)
        return MicroBatch(x, targets, labels)

    def first_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first augmented photos, (N, H, W, 3) uint8, and their positions in the split (N,)."""
        keys = self.plan.order(1)[:NUM_SHOWN][: self.plan.batch_size]
        positions = self.plan.positions(keys)
        batch = self.augmented((self.photos.pixels(positions), torch.from_numpy(keys)), epoch=1)
        return self.augmenter.preprocessing.pictures(batch.x), positions

    def paths(self, epoch: int, number: int) -> list[str]:
        """Returns the paths of the photos of an epoch's update; both count from 1."""
        keys = self.plan.order(epoch)[(number - 1) * self.plan.batch_size : number * self.plan.batch_size]
        return self.photos.column("path")[self.plan.positions(keys)].tolist()

    @cached_property
    def _labels(self) -> Tensor:
        return self._pinned(torch.from_numpy(self.photos.labels)).to(self.augmenter.device, non_blocking=True)

    def _pinned(self, tensor: Tensor) -> Tensor:
        """Returns the tensor in memory from which a GPU copies by itself, without making the process wait."""
        is_copied = self.augmenter.device.type == "cuda" and tensor.device.type == "cpu"
        return tensor.pin_memory() if is_copied else tensor
