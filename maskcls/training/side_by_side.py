"""Several trainings at the same time, each a process of its own on its own GPU, or on its share of the cores."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

from maskcls.errors import Fault, Stopped, UserError, joined
from maskcls.machine import num_accelerators, num_cores
from maskcls.paths import top_level

# What a launcher tells the one process that it started, and what none of its children must take for itself.
OF_A_LAUNCH = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK"}


def train_side_by_side(commands: Mapping[str, Sequence[str]], *, at_once: int) -> None:
    """Runs train.py with each of the arguments, `at_once` of them at a time; their lines come with their titles.

    commands: title -> arguments. A signal to stop is passed on to all. Raises UserError when there are fewer GPUs,
    Stopped when they were asked to stop, Fault with the titles of those that failed.
    """
    places: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for environment in _environments(at_once):
        places.put(environment)
    running: list[subprocess.Popen[str]] = []
    codes: dict[str, int] = {}
    is_stopped = threading.Event()

    def work(title: str, arguments: Sequence[str]) -> None:
        environment = places.get()
        try:
            if is_stopped.is_set():
                return
            child = subprocess.Popen(
                [sys.executable, str(top_level() / "train.py"), *arguments],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
            )  # fmt: skip
            running.append(child)
            for line in child.stdout or ():
                print(f"[{title}] {line}", end="", flush=True)
            codes[title] = child.wait()
        finally:
            places.put(environment)

    def stop(number: int, frame: FrameType | None) -> None:
        is_stopped.set()
        for child in running:
            if child.poll() is None:
                child.send_signal(number)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        threads = [threading.Thread(target=work, args=item, daemon=True) for item in commands.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if is_stopped.is_set():
        raise Stopped("stopped; what was trained is saved")
    if failed := [
        f"{title} ended with exit code {code}; its message stands above" for title, code in codes.items() if code
    ]:
        raise Fault(joined(failed, "runs failed"))


def _environments(at_once: int) -> list[dict[str, str]]:
    """Returns the environment of each place where a run can be: it sees one GPU, or uses its share of the cores."""
    inherited = {name: value for name, value in os.environ.items() if name not in OF_A_LAUNCH}
    num_devices = num_accelerators()
    if not num_devices:
        threads = {"OMP_NUM_THREADS": str(max(num_cores() // at_once, 1))}
        return [threads | inherited for _ in range(at_once)]
    if at_once > num_devices:
        raise UserError(f"--at_once is {at_once}, but torch sees {num_devices} GPUs: one run needs one")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(num_devices)))
    return [inherited | {"CUDA_VISIBLE_DEVICES": name} for name in names[:at_once]]
