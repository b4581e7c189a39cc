"""Kills a run again and again and resumes it; benchmarks/kills.py does it thirty times.

A small run on drawn faces is killed (SIGKILL to all its processes) at random moments of its training, a third of them
while a state is being written, and goes on with --resume each time; it has to end as one that was never stopped: the
same weights, and every step once in metrics.jsonl, TensorBoard and the offline wandb file.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import CPU, ROOT, TINY, json_lines, launcher, of_kind, overrides, values_of, wandb_records

MEASURED = ("images_per_second", "waiting_share", "peak_memory_gb")  # of the machine, not of the run
SECONDS = 180.0  # that one start may take; no statement about speed


def arguments(sample: Path, folder: Path, *, dropout: float = 0.1, **more: object) -> list[str]:
    """Returns the arguments of a run with a state every second update and everything in it: averages, momentum, dropout.

    more: overrides.
    """
    model = TINY["vit"].replace("}", f", hidden_dropout_prob: {dropout}}}")
    values = {"model_args": model, "log_interval": 3, "ema_decay": 0.9, "checkpoint_interval": "2 updates", **more}
    config = ["--config", str(ROOT / "configs" / "demo.yaml"), "model=vit"]
    return [*config, *overrides(sample, folder, model="vit", **values)]


def start(arguments: list[str], processes: int) -> subprocess.Popen[str]:
    """Returns a started train.py in a process group of its own."""
    return subprocess.Popen(
        [*launcher(processes), "train.py", *arguments], cwd=ROOT, start_new_session=True, text=True,
        env={**os.environ, **CPU}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Returns the output of a run that has to end well."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    return output


def kill_at(process: subprocess.Popen[str], run: Path, choose: random.Random) -> str:
    """Kills the run's processes at a random moment; returns what they were doing, or "finished" when they were quicker.

    The clock starts when this start of the run has saved something, so that every kill meets training, not start-up.
    """
    in_writing = choose.random() < 1 / 3
    until = time.monotonic() + SECONDS
    before = saved_at(run)
    while process.poll() is None and time.monotonic() < until and saved_at(run) == before:
        time.sleep(0.002)
    wait = time.monotonic() + choose.uniform(0, 1.0)
    while process.poll() is None and time.monotonic() < wait + (1.0 if in_writing else 0.0):
        if in_writing and time.monotonic() > wait and (run / ".last.unfinished").exists():
            time.sleep(choose.uniform(0, 0.004))
            break
        time.sleep(0.0002)
    if process.poll() is not None:
        finish(process)
        return "finished"
    doing = "saving" if (run / ".last.unfinished").exists() else "training"
    for number in [process.pid, *descendants(process.pid)]:  # torchrun's workers are in sessions of their own
        os.kill(number, signal.SIGKILL)
    process.communicate()
    return doing


def descendants(number: int) -> list[int]:
    """Returns the processes that a process has started, and theirs."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    children = [child for child, parent in parents.items() if parent == number]
    return [*children, *(other for child in children for other in descendants(child))]


def saved_at(run: Path) -> int:
    """Returns when the run's newest state was written, in nanoseconds; 0: there is none."""
    try:
        return (run / "last" / "manifest.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def killed_run(arguments: list[str], run: Path, *, kills: int, processes: list[int], seed: int) -> list[str]:
    """Runs to the end through `kills` kills at most; returns what each of them met."""
    choose, met = random.Random(seed), []
    for number in range(kills):
        goes_on = ["--resume", str(run)] if (run / "config.yaml").exists() else arguments
        met.append(kill_at(start(goes_on, processes[number % len(processes)]), run, choose))
        if met[-1] == "finished":
            break
    if met[-1] != "finished":
        finish(start(["--resume", str(run)], processes[kills % len(processes)]))
    return met


def differences(run: Path, reference: Path, *, tolerance: float) -> list[str]:
    """Returns in what two finished runs differ: weights, metrics, and steps in the trackers' files."""
    from safetensors.numpy import load_file

    found = []
    for name in ("last", "best"):
        mine, theirs = (load_file(folder / name / "model.safetensors") for folder in (run, reference))
        assert mine.keys() == theirs.keys() and len(mine) > 10
        worst = max(float(np.abs(mine[key] - theirs[key]).max()) for key in mine)
        if worst > tolerance:
            found.append(f"{name}: weights differ by {worst:.1e}")
    lines, expected = (json_lines(folder / "metrics.jsonl") for folder in (run, reference))
    if len(lines) != len(expected):
        found.append(f"metrics.jsonl: {len(lines)} lines instead of {len(expected)}")
    for line, other in zip(lines, expected, strict=False):
        for key in other.keys() | line.keys():
            a, b = line.get(key, np.nan), other.get(key, np.nan)
            if not key.endswith(MEASURED) and not np.isclose(a, b, rtol=max(tolerance * 10, 1e-12), atol=tolerance):
                found.append(f"metrics.jsonl, update {other['update']}: {key} {a} instead of {b}")
    logged = {line["update"] for line in expected}
    for name, steps in (("TensorBoard", tensorboard_steps(run)), ("wandb", wandb_steps(run))):
        if steps != sorted(logged):
            found.append(f"{name} holds the updates {steps} instead of {sorted(logged)}")
    return found


def tensorboard_steps(run: Path) -> list[int]:
    """Returns the steps of train/loss as the event files hold them, every single one."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted((run / "tensorboard").glob("events.out.tfevents.*"))
    events = [event for file in files for event in EventFileLoader(str(file)).Load()]
    return [event.step for event in events if any(value.tag == "train/loss" for value in event.summary.value)]


def wandb_steps(run: Path) -> list[int]:
    """Returns the steps of the history records of all offline files."""
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    history: list[dict[str, Any]] = [values_of(entry.item) for entry in of_kind(records, "history")]
    return [step["_step"] for step in history if "train/loss" in step]
