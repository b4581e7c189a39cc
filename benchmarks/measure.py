"""What the benchmarks share: a measurement in a process of its own, and the table of medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]


def machine() -> str:
    """Returns the processor, cores and versions that a figure belongs to."""
    import torch
    import transformers

    from maskcls.machine import num_cores, processor

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{processor()}, {num_cores()} cores{gpu}; {versions}"


def parser(description: str | None, **positional: str | int) -> argparse.ArgumentParser:
    """Returns a reader of the command line whose --help is a script's docstring.

    positional: the help of a folder, or the number that is meant when none is given: a count, or a seed when it is 0.
    """
    reader = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in positional.items():
        if isinstance(value, str):
            reader.add_argument(name, type=folder, help=value)
        else:
            kind = count if value else int
            reader.add_argument(name, type=kind, nargs="?", default=value, help="default: %(default)s")
    return reader


def count(text: str) -> int:
    """Returns a whole number of at least 1, for argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def folder(text: str) -> str:
    """Returns the name of a folder that is there, for argparse."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return text


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds of the work, with all that it has queued on a GPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def training_flops(model: torch.nn.Module, image_size: tuple[int, int], device: torch.device) -> float:
    """Returns the floating-point operations of forward and backward for one image, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(pixel_values=torch.zeros(1, 3, *image_size, device=device)).logits.sum().backward()
    model.zero_grad()
    return counter.get_total_flops()


def matmul_peak(device: torch.device, *, is_bf16: bool) -> float:
    """Returns the operations per second of a matmul, 2048^3 on a CPU and 8192^3 on a GPU, the best of ten."""
    import torch

    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, dtype=torch.bfloat16 if is_bf16 else torch.float32, device=device)
    return max(2 * n**3 / timed(lambda: a @ a, device) for _ in range(10))


def run_variant(*arguments: str) -> Any:
    """Returns what this same script prints last, as JSON, when it is called with --variant and the arguments."""
    return json.loads(run([sys.executable, sys.argv[0], "--variant", *arguments]).splitlines()[-1])


def run(command: Sequence[str], **environment_variables: str) -> str:
    """Returns the output of a command that has to succeed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", **environment_variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def print_table(
    rates: Mapping[str, list[float]], *, unit: str, baseline: str, notes: Mapping[str, str] | None = None
) -> None:
    """Prints a Markdown table: median, range, and the median of the ratios to the baseline taken round by round."""
    print(f"\n| variant | {unit}, median | range | ratio to {baseline} |{' |' if notes else ''}")
    print(f"|---|---|---|---|{'---|' if notes else ''}")
    for name, values in rates.items():
        ratio = median(value / base for value, base in zip(values, rates[baseline], strict=True))
        note = f" {notes.get(name, '')} |" if notes else ""
        span = f"{min(values):,.1f} to {max(values):,.1f}"
        print(f"| {name} | {median(values):,.1f} | {span} | {ratio:.2f} |{note}", flush=True)
