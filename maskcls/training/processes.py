"""What the processes of one launch share: work that only the first one does, and threads that fit their number."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from maskcls.errors import UserError
from maskcls.machine import num_cores

Result = TypeVar("Result")


def on_main_process(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Returns work()'s result on every process; only the main process does the work. Collective.

    A UserError is raised on every process, so that a launch ends together instead of waiting for the one that failed.
    """
    outcome: list[Result | UserError | None] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [work()]
        except UserError as error:
            outcome = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]  # type: ignore[return-value]


class Agreement:
    """Numbers that all processes take the same decision on, without making a GPU wait for them."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Collective. The group is one of the processors, whatever connects the GPUs."""
        self._group = torch.distributed.new_group(backend="gloo") if accelerator.num_processes > 1 else None

    def largest(self, *numbers: int) -> list[int]:
        """Returns the largest that any process gave, number by number. Collective."""
        if self._group is None:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=self._group)
        return values.tolist()

    def close(self) -> None:
        """Lets go of the group, so that it ends with the others: one that outlives them may hang in its destructor."""
        self._group = None


def fit_threads(accelerator: Accelerator) -> None:
    """Shares the machine's cores between the processes on it (CPU only; OMP_NUM_THREADS decides when it is set)."""
    if accelerator.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(num_cores() // local, 1))


def attention_for(device: torch.device) -> str:
    """Returns the attention kernel: torch's fused one, but eager on CPU, where the fused backward is slow in bf16."""
    return "eager" if device.type == "cpu" else "sdpa"
