"""The processes of one launch: how they find each other, what only one of them does, and what they decide together."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from maskcls import machine
from maskcls.errors import Fault, UserError, joined, listed
from maskcls.machine import process_number
from maskcls.paths import shipped

Result = TypeVar("Result")
A_WAIT = timedelta(days=30)  # for the work of another process; one that dies ends it at once
# How torch tells that a collective lost its partner (gloo, NCCL, the store); it has no exception class of its own.
LOST_PARTNER = re.compile(r"[Cc]onnection (closed|reset)|[Bb]roken pipe|NCCL|ProcessGroup|gloo|[Ss]ocket|[Tt]imed out")


class Launch:
    """The processes that one command has started. Its methods are collective, but for say."""

    @classmethod
    def start(cls, choose: Callable[[], Result]) -> tuple[Launch, Result]:
        """Returns the launch and what the main process chose: before torch is imported where it is alone.

        Of several machines one may lack a file; it must not leave before the others know it.
        """
        if process_number("WORLD_SIZE", default=1) == 1:
            chosen = choose()
            return cls(), chosen
        launch = cls()
        return launch, launch.on_main(choose)

    def __init__(self, *, precision: str = "no") -> None:
        """Starts Accelerate. Raises UserError when the processes were started for devices that are not there.

        precision: where accelerate launch has not said which, and the machine computes in it.
        """
        machine.keep_freed_memory()
        import torch
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
        from torch import distributed

        num_devices = machine.num_accelerators()
        _check_devices(num_devices)
        # Without cpu=True each of several processes on a CPU would believe that it is alone.
        is_free = "ACCELERATE_MIXED_PRECISION" not in os.environ and machine.is_quick_in(precision)
        self._new_accelerator = lambda: Accelerator(
            cpu=num_devices == 0,
            mixed_precision=precision if is_free else None,
            gradient_accumulation_steps=1,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],  # not a copy of the gradient
        )
        self.accelerator = self._new_accelerator()
        machine.use_quick_kernels(self.accelerator.device)
        self.is_main, self.num_processes = self.accelerator.is_main_process, self.accelerator.num_processes
        if self.num_processes != (started := process_number("WORLD_SIZE", default=1)):
            raise UserError(
                f"{started} processes were started, but Accelerate sees {self.num_processes}: every process would "
                "train the whole model alone. Start them with accelerate launch or torchrun"
            )
        # Through the processors, whatever connects the GPUs: what is decided here makes no GPU wait, and decoding may
        # take longer than the time-out after which NCCL takes a process for lost.
        self._group = distributed.new_group(backend="gloo", timeout=A_WAIT) if self.num_processes > 1 else None
        if not machine.is_accelerator(self.accelerator.device) and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(machine.num_cores() // process_number("LOCAL_WORLD_SIZE", default=1), 1))

    def renew(self) -> None:
        """Lets go of what was prepared, for another model; the scale of fp16 starts anew, too."""
        self.accelerator.free_memory()
        self.accelerator = self._new_accelerator()

    def say(self, text: str) -> None:
        """Prints on the main process: once in a launch, whatever the number of machines."""
        if self.is_main:
            print(text, flush=True)

    def on_main(self, work: Callable[[], Result]) -> Result:
        """Returns work()'s result on every process; only the main process does the work.

        A UserError is raised on every process, so that a launch ends together instead of waiting for the one that
        failed.
        """
        outcome: list[Any] = [None, None]  # result and error
        if self.is_main:
            try:
                outcome[0] = work()
            except UserError as error:
                outcome[1] = error
        if self._group is not None:
            from torch import distributed

            self._with_partners(lambda: distributed.broadcast_object_list(outcome, group=self._group))
        result, problem = outcome
        if problem is not None:
            raise problem.of_launch()
        return result

    @contextmanager
    def main_holds(self, context: AbstractContextManager[Result]) -> Iterator[Result]:
        """Enters a context on the main process alone, for the whole launch; gives every process what it gives there."""
        with ExitStack() as held:
            yield self.on_main(lambda: held.enter_context(context))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises a UserError of any process inside on all of them at its end, with the ranks that it is about.

        Nothing inside may be collective: a process that has failed takes no part in the rest.
        """
        error: UserError | None = None
        try:
            yield
        except UserError as own:
            error = own
        errors = self.all_of(error)
        if any(errors):
            raise _common(errors).of_launch()

    def on_each(self, work: Callable[[], Result]) -> Result:
        """Returns work()'s own result on each process: for what every one of them reads.

        A UserError of any process is raised on all, with the ranks that it is about.
        """
        with self.together():
            result = work()
        return result

    def on_each_machine(self, work: Callable[[], Result]) -> Result:
        """Returns on all processes of a machine the result of work() on its first one; only that one does the work."""
        rank, local_rank = self.accelerator.process_index, self.accelerator.local_process_index
        result: Any = self.on_each(work if local_rank == 0 else lambda: None)
        if self._group is None:
            return result
        # As bytes: what lies in files of one machine, as a table does, cannot be unpacked on another.
        sent = self.all_of(pickle.dumps(result) if local_rank == 0 else b"")
        return pickle.loads(sent[rank - local_rank]) if local_rank else result

    def all_of(self, value: Result) -> list[Result]:
        """Returns the value of every process, by rank."""
        if self._group is None:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.num_processes
        self._with_partners(lambda: distributed.all_gather_object(values, value, group=self._group))
        return values

    def agree_on(self, value: object, problem: str) -> None:
        """Raises UserError, on every process, with the ranks whose value is not that of rank 0."""
        values = self.all_of(value)
        if others := [f"rank {rank}" for rank, other in enumerate(values) if other != values[0]]:
            raise UserError(f"{listed(others)}: {problem}").of_launch()

    def largest(self, *numbers: int) -> list[int]:
        """Returns the largest that any process gave, number by number."""
        if self._group is None:
            return list(numbers)
        import torch
        from torch import distributed

        values = torch.tensor(numbers, dtype=torch.int64)
        self._with_partners(lambda: distributed.all_reduce(values, distributed.ReduceOp.MAX, group=self._group))
        return values.tolist()

    def wait(self) -> None:
        """Returns when every process is here, however long the main process takes for its report and uploads."""
        self.all_of(None)

    def _with_partners(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise_if_left_alone(error)
            raise


def raise_if_left_alone(error: RuntimeError) -> None:
    """Raises a Fault when a collective of several processes says that it has lost one of them."""
    if process_number("WORLD_SIZE", default=1) > 1 and LOST_PARTNER.search(str(error)):
        raise Fault("another process of this launch has ended; its own message says why") from None


def _check_devices(num_devices: int) -> None:
    """Raises UserError when a launch of several processes asks for GPUs and there are not enough of them."""
    here = process_number("LOCAL_WORLD_SIZE", default=1)
    # accelerate launch starts several processes for GPUs only, and always says the mode of torch.compile.
    asks_for_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1", "yes")
    may_be_cpu = num_devices == 0 and "ACCELERATE_DYNAMO_MODE" not in os.environ
    if process_number("WORLD_SIZE", default=1) == 1 or asks_for_cpu or may_be_cpu or num_devices >= here:
        return
    sees, mend = f"sees {num_devices} GPUs", f"pass --num_processes {num_devices} (of all machines together)"
    if not num_devices:
        file, launcher = shipped("accelerate_configs/cpu.yaml"), "torchrun --nproc_per_node"
        sees, mend = "sees no GPU", f"on a CPU use {file}, or ACCELERATE_USE_CPU=true with {launcher}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    raise UserError(f"{here} processes were started on this machine, each for a GPU, but torch {sees}{why}: {mend}")


def _common(errors: Sequence[UserError | None]) -> UserError:
    """Returns one error for what the processes, by rank, ran into: the error itself when all say the same."""
    found = [(rank, error) for rank, error in enumerate(errors) if error is not None]
    first = found[0][1]
    if len({str(error) for _, error in found}) == 1 and (len(found) == len(errors) or found[0][0] == 0):
        return first
    message = joined([f"rank {rank}: {error}" for rank, error in found], "processes cannot continue")
    return (Fault if isinstance(first, Fault) else UserError)(message)
