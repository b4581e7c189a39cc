"""The machine that the program runs on, asked at one place and on every system: accelerator, cores, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def is_accelerator(device: torch.device) -> bool:
    """Returns whether work is queued on the device while the program goes on: a GPU, or torch's meta device in tests.

    There one operation on a whole batch is quick and a number that is read back makes the program wait; on a CPU a loop
    over photos finds each of them in the processor's cache.
    """
    return device.type != "cpu"


def process_number(name: str, *, default: int) -> int:
    """Returns RANK, LOCAL_RANK, WORLD_SIZE or LOCAL_WORLD_SIZE of the launch that this process belongs to."""
    return int(os.environ.get(name, default))


def num_accelerators() -> int:
    """Returns how many GPUs, or others of torch's accelerators, this process sees; 0: it trains on the CPU."""
    import torch

    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def quickest_precision() -> str:
    """Returns the mixed precision in which this machine trains fastest: bf16, fp16 or no."""
    return next(precision for precision in ("bf16", "fp16", "no") if is_quick_in(precision))


def is_quick_in(precision: str) -> bool:
    """Returns whether what this machine trains on computes in a mixed precision (no, fp16, bf16) itself.

    What is emulated is slower than float32.
    """
    import torch

    if torch.cuda.is_available():
        return precision != "bf16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "no" or (precision == "bf16" and not torch.accelerator.is_available() and cpu_has_bf16())


def use_quick_kernels(device: torch.device) -> None:
    """Lets an NVIDIA GPU multiply float32 in TF32 and choose each convolution's kernel by its time.

    Without it a run in float32 is 6 to 8 times slower there. NVIDIA_TF32_OVERRIDE=0 gives exact products again.
    """
    import torch

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def cpu_has_bf16() -> bool:
    """Returns whether the processor has instructions for bf16; elsewhere it is emulated, and slower than float32."""
    return re.search("avx512_bf16|amx_bf16", _cpu_info()) is not None


def num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_threads(num_workers: int | None, *, num_processes: int = 1) -> int:
    """Returns num_workers, or for None one thread for every core, shared by the processes that decode on this machine.

    Nothing else keeps the cores busy: beside a GPU the model does not, and a CPU's model waits for the photos.
    """
    return max(num_cores() // num_processes, 1) if num_workers is None else num_workers


def threads_ahead(device: torch.device) -> int:
    """Returns how many threads fetch the next batch meanwhile: one beside a GPU, none beside a CPU.

    There the model itself fills the cores, and a second busy thread makes every parallel step wait for it.
    """
    return 1 if is_accelerator(device) else 0


def processor() -> str:
    """Returns the processor's name."""
    named = re.search(r"^model name\s*:(.*)", _cpu_info(), re.MULTILINE)  # not on every Arm
    return named[1].strip() if named else platform.processor() or platform.machine()


def _cpu_info() -> str:
    """Returns what Linux says of the processor's cores; nothing on other systems."""
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8") if file.exists() else ""


def free_memory(device: torch.device) -> float:
    """Returns the bytes that an accelerator has left; infinite where it does not say."""
    import torch

    if device.type == "mps":  # it shares the machine's
        import psutil

        return psutil.virtual_memory().available
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def peak_memory_gb(device: torch.device) -> float:
    """Returns the most memory that the process has held so far, in GB: on its GPU, or its resident set on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def keep_freed_memory() -> None:
    """Lets glibc keep large freed blocks instead of giving them to the kernel and faulting them in again every step.

    It runs before torch is imported. Measured 10 to 25 % faster steps on CPU, the same peak memory. Does nothing on
    other C libraries.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
