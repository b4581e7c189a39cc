"""Which photos make which update, on which device; and batches loaded ahead of their use.

The plan is a pure function of (seed, epoch, update): any position can be asked for directly, by any number of devices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from maskcls.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchPlan:
    """The order of the training photos: the same batches for any number of devices.

    num_photos: of the training split. batch_size: photos of one optimizer update over all devices; the last partial
    batch of an epoch is dropped, other photos each time. max_device_batch_size: what one device takes at once; more is
    accumulated. Raises UserError when the numbers cannot be met.
    """

    num_photos: int
    batch_size: int
    seed: int
    num_devices: int = 1
    max_device_batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size > self.num_photos:
            raise UserError(f"train_batch_size is {self.batch_size}, but there are {self.num_photos} training photos")
        if self.batch_size < self.num_devices:
            raise UserError(f"train_batch_size is {self.batch_size}, too few for {self.num_devices} devices")

    @property
    def num_updates(self) -> int:
        """Updates of one epoch."""
        return self.num_photos // self.batch_size

    @property
    def num_accumulated(self) -> int:
        """Passes that a device makes for one update."""
        largest_share = -(-self.batch_size // self.num_devices)
        return -(-largest_share // (self.max_device_batch_size or largest_share))

    def order(self, epoch: int) -> np.ndarray:
        """Returns the permutation (num_photos,) of epoch `epoch`."""
        return np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.num_photos)

    def parts(self, epoch: int, device: int, *, first_update: int = 0) -> Iterator[list[np.ndarray]]:
        """Yields, update by update, the positions in the split that `device` takes, as one array per pass."""
        order = self.order(epoch)
        for update in range(first_update, self.num_updates):
            batch = order[update * self.batch_size : (update + 1) * self.batch_size]
            yield split_evenly(split_evenly(batch, self.num_devices)[device], self.num_accumulated)


def split_evenly(rows: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """Returns consecutive parts whose sizes differ by one at most."""
    return np.array_split(rows, num_parts)


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
