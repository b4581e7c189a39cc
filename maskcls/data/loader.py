"""Which photos make which update, in which process; and batches loaded ahead of their use.

The plan is a pure function of (seed, epoch, update): any number of processes can ask for any position directly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from torch import Tensor

from maskcls.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
# The photos of an update, int64: repeat * num_photos + position in the split. Augmentation draws are keyed by them.
PhotoKeys = TypeVar("PhotoKeys", np.ndarray, Tensor)


@dataclass(frozen=True)
class BatchPlan:
    """The order of the training photos: the same batches for any number of processes.

    num_photos: of the training split. batch_size: photos of one optimizer update over all processes; the last partial
    batch of an epoch is dropped, other photos each time. max_device_batch_size: of a micro batch, what one process
    takes at once; more is accumulated. balanced_over: (num_photos,) int, the classes of which an epoch takes equally
    many photos, or None. unit: so many neighbours stay in one micro batch (2 when pairs are mixed). Raises UserError
    when the numbers cannot be met.
    """

    num_photos: int
    batch_size: int
    seed: int
    num_processes: int = 1
    max_device_batch_size: int | None = None
    balanced_over: np.ndarray | None = field(default=None, compare=False)
    unit: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.num_photos:
            raise UserError(f"train_batch_size is {self.batch_size}, but there are {self.num_photos} training photos")
        if self.batch_size < self.num_processes * self.unit:
            pairs = ", each with a pair to mix" if self.unit > 1 else ""
            raise UserError(f"train_batch_size is {self.batch_size}, too few for {self.num_processes} processes{pairs}")
        if self.max_device_batch_size is not None and self.max_device_batch_size < self.unit:
            raise UserError(f"max_device_batch_size is {self.max_device_batch_size}, too few for a pair to mix")
        if _parts_needed(self.batch_size, self.unit) // self.num_processes < self.num_accumulated:
            raise UserError(
                f"train_batch_size {self.batch_size} of {self.num_processes} processes, {self.max_device_batch_size} "
                "at once, leaves a process without photos: make it a multiple of the other two's product"
            )

    @property
    def num_updates(self) -> int:
        """Updates of one epoch."""
        return self.num_photos // self.batch_size

    @property
    def num_accumulated(self) -> int:
        """Micro batches that a process takes for one update."""
        share = _parts_needed(_parts_needed(self.batch_size, self.unit), self.num_processes)  # units of the fullest one
        return _parts_needed(share, self.max_device_batch_size // self.unit) if self.max_device_batch_size else 1

    def positions(self, keys: PhotoKeys) -> PhotoKeys:
        """Returns the positions in the split of the photos with these keys."""
        return keys % self.num_photos

    def order(self, epoch: int) -> np.ndarray:
        """Returns the keys (num_photos,) of epoch `epoch`, in order.

        A permutation of the positions; balanced, a photo of a rare class comes several times, as repeat 0, 1, ...,
        and is augmented otherwise each time.
        """
        random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        if self.balanced_over is None:
            return random.permutation(self.num_photos)
        classes = np.unique(self.balanced_over)
        shares = np.array_split(np.arange(self.num_photos), len(classes))
        keys = []
        for label, share in zip(random.permutation(classes), shares, strict=True):
            photos = np.flatnonzero(self.balanced_over == label)
            repeats = range(_parts_needed(len(share), len(photos)))
            rounds = [random.permutation(photos) + repeat * self.num_photos for repeat in repeats]
            keys.append(np.concatenate(rounds)[: len(share)])
        return random.permutation(np.concatenate(keys))

    def parts(self, epoch: int, process: int, *, first_update: int = 0) -> Iterator[list[np.ndarray]]:
        """Yields, update by update, the keys that `process` takes, as one array per micro batch."""
        order = self.order(epoch)
        for update in range(first_update, self.num_updates):
            batch = order[update * self.batch_size : (update + 1) * self.batch_size]
            share = split_evenly(batch, self.num_processes, unit=self.unit)[process]
            yield split_evenly(share, self.num_accumulated, unit=self.unit)


def split_evenly(rows: np.ndarray, num_parts: int, *, unit: int = 1) -> list[np.ndarray]:
    """Returns consecutive parts of whole units; their numbers of units differ by one at most."""
    units = np.array_split(np.arange(_parts_needed(len(rows), unit)), num_parts)
    return np.split(rows, np.cumsum([len(part) * unit for part in units])[:-1])


def _parts_needed(whole: int, part: int) -> int:
    return -(-whole // part)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, ahead: int
) -> Iterator[Result]:
    """Yields function(item) in the items' order, worked out by threads up to `ahead` items early; 0 threads: here."""
    if num_threads == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="loader") as pool:
        remaining = iter(items)
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(remaining, ahead))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
