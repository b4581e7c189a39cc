"""Seconds until something happens: python benchmarks/startup.py FOLDER [ROUNDS]; FOLDER as sample-data writes it.

`--help`, the message of a config error, the first update of a run (warm cache), and a whole prediction.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from statistics import median

from measure import ROOT, machine, parser

TINY = "{patch_size: 16, hidden_size: 192, num_attention_heads: 3, intermediate_size: 768}"


def main() -> None:
    """Measures each in turn."""
    arguments = parser(__doc__, folder="as maskcls sample-data writes it", rounds=5).parse_args()
    photos = arguments.folder
    with tempfile.TemporaryDirectory() as work:
        train = ["train.py", "--config", "configs/exp.yaml"]
        small = [
            f"data_dir={photos}/images", f"valid_profile={photos}/valid_profiles.txt", f"model_dir={work}/runs",
            f"cache_dir={work}/cache", f"model_args={TINY}", "epochs=1", "train_batch_size=32", "wandb=disabled",
            "report=false",
        ]  # fmt: skip
        subprocess.run([sys.executable, *train, *small], cwd=ROOT, check=True, capture_output=True)  # warms the cache
        commands = {
            "--help": ["train.py", "--help"],
            "a config error": [*train, "epochz=3"],
            "first update": [*train, *small, "log_interval=1"],
            "a whole prediction": ["infer.py", "--model_dir", f"{work}/runs/exp", "--infer_data_dir", f"{photos}/eval"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                seconds[name].append(_seconds_until_it_shows(command, name))
    print(f"{machine()}\n\n| until | seconds, median | range |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {median(values):.2f} | {min(values):.2f} to {max(values):.2f} |")


def _seconds_until_it_shows(command: list[str], name: str) -> float:
    """Returns the time to the end of the process, or to the first update's line."""
    sign = {"first update": b"update 1/"}.get(name)
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        seen = b""
        while process.stdout and (character := process.stdout.read(1)):
            seen += character
            if sign and sign in seen:
                process.kill()
                break
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
