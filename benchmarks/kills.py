"""Kills a run again and again and resumes it: python benchmarks/kills.py [KILLS] [PROCESSES] [SEED].

A small run on drawn faces is killed (SIGKILL to all its processes) at random moments of its training, a third of them
while a state is being written, and goes on with --resume each time; it has to end as one that was never stopped: the
same weights, and every step once in metrics.jsonl, TensorBoard and the offline wandb file. PROCESSES: 1, 2, or 2,1 for
starts with two processes and one in turn, where numbers agree to 1e-5 (without dropout, whose draws belong to a device,
and with an epsilon of AdamW that does not blow up rounding).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.measure import count, parser  # noqa: E402
from tests.helpers import TINY, json_lines, of_kind, values_of, wandb_records  # noqa: E402

MEASURED = ("images_per_second", "waiting_share", "peak_memory_gb")  # of the machine, not of the run
SECONDS = 180.0  # that one start may take; no statement about speed


def settings(sample: Path, folder: Path, *, dropout: float = 0.1, **more: object) -> list[str]:
    """Returns the overrides of a run of 40 updates with everything that has a state: averages, momentum, dropout."""
    model = TINY["vit"].replace("}", f", hidden_dropout_prob: {dropout}}}")
    values = {
        "data_dir": f"{sample}/images", "train_profile": f"{sample}/train_profiles.txt",
        "valid_profile": f"{sample}/valid_profiles.txt", "model_dir": folder, "cache_dir": sample / "cache",
        "model": "vit", "model_args": model, "image_size": "[48, 32]", "train_batch_size": 7, "epochs": 4,
        "log_interval": 3, "ema_decay": 0.9, "checkpoint_interval": "2 updates", "wandb": "offline", **more,
    }  # fmt: skip
    return [f"{key}={value}" for key, value in values.items()]


def start(arguments: list[str], processes: int) -> subprocess.Popen[str]:
    """Returns a started train.py in a process group of its own."""
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*launcher, "train.py", *arguments], cwd=ROOT, start_new_session=True, text=True,
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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


def main() -> None:
    """Runs, kills, compares."""
    reader = parser(__doc__)
    reader.add_argument("kills", type=count, nargs="?", default=30, help="default: %(default)s")
    reader.add_argument("processes", type=lambda text: [count(number) for number in text.split(",")], nargs="?",
                        default=[1], help="default: 1")  # fmt: skip
    reader.add_argument("seed", type=int, nargs="?", default=0, help="default: %(default)s")
    arguments = reader.parse_args()
    kills, processes, seed = arguments.kills, arguments.processes, arguments.seed
    is_mixed = len(set(processes)) > 1
    from maskcls.sample.write import write_sample_data

    more: dict[str, Any] = {"epochs": max(4, 4 * kills)}
    if is_mixed:
        more |= {"dropout": 0.0, "optimizer_args": "{eps: 1.0e-3}"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample_data(folder / "sample", num_people=12, seed=0)
        whole = ["--config", "configs/demo.yaml", *settings(folder / "sample", folder / "whole", **more)]
        finish(start(whole, processes[0]))
        arguments = ["--config", "configs/demo.yaml", *settings(folder / "sample", folder / "killed", **more)]
        started = time.monotonic()
        met = killed_run(arguments, folder / "killed" / "exp", kills=kills, processes=processes, seed=seed)
        found = differences(folder / "killed" / "exp", folder / "whole" / "exp", tolerance=1e-5 if is_mixed else 0.0)
        counts = {what: met.count(what) for what in sorted(set(met))}
        print(f"{json.dumps(counts)} in {time.monotonic() - started:.0f} s; differences: {found or 'none'}")
        raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
