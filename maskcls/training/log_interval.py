"""What an epoch reports between two log lines: means, kept on the device so that no update waits for a number."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from maskcls.evaluation.metrics import values_of
from maskcls.labels import HEAD_CLASSES
from maskcls.machine import peak_memory_gb


class NotFinite(Exception):
    """The loss or the gradient of an update is infinite or not a number."""

    def __init__(self, update: int) -> None:
        super().__init__(update)
        self.update = update  # of the run, from 1


class Idle:
    """How long a device has had nothing to do because photos were not there yet.

    The program runs ahead of a GPU: while it waits for photos, the GPU may still be busy and lose nothing. So a GPU
    notes on its own clock that it has done all it was given, and that it is given more; between the two it is idle.
    """

    def __init__(self, device: torch.device) -> None:
        self._has_clock = device.type == "cuda"
        self._seconds = 0.0
        self._pauses: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside, as far as the device has nothing else to do."""
        started, finished = time.perf_counter(), self._noted()
        yield
        if finished is not None and (given := self._noted()) is not None:
            self._pauses.append((finished, given))
        else:
            self._seconds += time.perf_counter() - started

    def seconds(self) -> float:
        """Returns the sum, for a device that has done all it was given."""
        return self._seconds + sum(finished.elapsed_time(given) for finished, given in self._pauses) / 1000

    def _noted(self) -> torch.cuda.Event | None:
        if not self._has_clock:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class LogInterval:
    """Means over the updates since the last log line.

    The device keeps a loss for each micro batch and counts whole photos; the losses are added in float64 on the CPU,
    since not every device has float64 (Apple's have not).
    """

    def __init__(self, device: torch.device, head: str) -> None:
        self.head, self.num_classes, self.device = head, len(HEAD_CLASSES[head]), device
        self._reset()

    def _reset(self) -> None:
        self._started, self._idle = time.perf_counter(), Idle(self.device)
        self._before = [0.0] * (1 + self.num_classes**2)  # what a checkpoint had summed, of all processes
        self._watched: list[tuple[int, Tensor]] = []
        self._losses: list[Tensor] = []
        self._confusion = torch.zeros(self.num_classes**2, dtype=torch.int32, device=self.device)

    def waiting(self) -> AbstractContextManager[None]:
        """Counts the time inside as waiting for photos."""
        return self._idle.waiting()

    def add(self, loss_sum: Tensor, predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> None:
        """Adds a micro batch: the sum of their losses, () float32, and their labels by head, (B,) each."""
        self._losses.append(loss_sum.detach())
        cells = labels[self.head] * self.num_classes + predictions[self.head]
        self._confusion.index_add_(0, cells, torch.ones_like(cells, dtype=torch.int32))

    def watch(self, update: int, number: Tensor) -> None:
        """Remembers a number of an update, () float32 such as its loss, that has to be finite."""
        self._watched.append((update, number.detach()))

    def sums(self, accelerator: Accelerator) -> list[float]:
        """Returns the sums over all processes: of the losses, then of the confusion counts. Collective, a device sync.

        Raises NotFinite, on every process, for the first update that was not finite.
        """
        floats = [number for _, number in self._watched] + self._losses
        bits = [number.reshape(1).view(torch.int32) for number in floats]  # so that all travels at once, unchanged
        every = accelerator.gather(torch.cat([*bits, self._confusion])[None]).cpu()  # (processes, ...)
        numbers, confusion = every[:, : len(floats)].view(torch.float32), every[:, len(floats) :]
        for (update, _), finite in zip(self._watched, numbers.isfinite().all(0).tolist(), strict=False):
            if not finite:
                raise NotFinite(update)
        sums = [float(numbers[:, len(self._watched) :].double().sum()), *confusion.sum(0).tolist()]
        return [before + here for before, here in zip(self._before, sums, strict=True)]

    def restore(self, sums: Sequence[float]) -> None:
        """Puts in the sums of a checkpoint, the same on every process."""
        self._before = list(sums)

    def close(self, accelerator: Accelerator, learning_rate: float) -> dict[str, float]:
        """Returns the means over all processes and begins anew. Collective; the interval's only device sync.

        Raises NotFinite as `sums` does.
        """
        loss_sum, *counted = self.sums(accelerator)
        counts = np.array(counted).reshape(self.num_classes, self.num_classes)
        seconds, num_photos = time.perf_counter() - self._started, float(counts.sum())
        values = {
            "train/loss": loss_sum * (1 / num_photos),  # to the last bit as in the logs of older versions
            "train/acc": float(values_of("acc", counts)),
            "train/f1": float(torch.from_numpy(values_of("f1", counts)).mean()),
            "train/lr": learning_rate,
            "train/images_per_second": num_photos / seconds,
            "train/waiting_share": self._idle.seconds() / seconds,
            "train/peak_memory_gb": peak_memory_gb(self.device),
        }
        self._reset()
        return values
