"""What the benchmarks share: a measurement in a process of its own, and the table of medians and ratios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]


def machine() -> str:
    """Returns the processor, cores and versions that a figure belongs to."""
    import torch
    import transformers

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores{gpu}; torch {torch.__version__}, transformers {transformers.__version__}"


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
