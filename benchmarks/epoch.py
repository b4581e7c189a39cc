"""One whole training process against a plain script: python benchmarks/epoch.py FOLDER [ROUNDS].

FOLDER holds at least 200 profile folders of 7 photos (`maskcls sample-data FOLDER --people 210` writes FOLDER/images).
1,120 photos to train on and 280 to validate, ViT-Ti/16, at 224 and at 96 pixels; ours with an empty and a warm cache.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from measure import ROOT, machine, parser, print_table, run

from maskcls.data import profiles

NUM_TRAIN, NUM_VALID = 160, 40  # people
TINY = "{hidden_size: 192, num_attention_heads: 3, intermediate_size: 768}"


def ours(folder: str, size: int, work: Path, cache: Path) -> float:
    """Returns the seconds of train.py, start-up, epoch, validation, pictures and saving included."""
    names = profiles.profile_folders(folder)
    (work / "train.txt").write_text("\n".join(names[:NUM_TRAIN]))
    (work / "valid.txt").write_text("\n".join(names[NUM_TRAIN : NUM_TRAIN + NUM_VALID]))
    overrides = [
        f"data_dir={folder}", f"train_profile={work}/train.txt", f"valid_profile={work}/valid.txt",
        f"image_size={size}", f"model_dir={work}/runs", f"cache_dir={cache}", "epochs=1", "train_batch_size=32",
        "model=vit", f"model_args={TINY}", "lr=1e-3", "wandb=disabled", "report=false",
    ]  # fmt: skip
    return _seconds([sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs/exp.yaml"), *overrides])


def plain(folder: str, size: int, work: Path, precision: str) -> float:
    """Returns the seconds of the plain script."""
    photos = [str(NUM_TRAIN * 7), str(NUM_VALID * 7)]
    script = str(ROOT / "benchmarks/plain_script.py")
    return _seconds([sys.executable, script, folder, str(size), *photos, precision, str(work / "plain")])


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    run(
        command, ACCELERATE_MIXED_PRECISION="bf16"
    )  # what accelerate_configs/cpu.yaml sets; the plain script says its own
    return time.perf_counter() - started


def main() -> None:
    """Measures all in turn."""
    arguments = parser(__doc__, folder="with 200 profile folders at least", rounds=3).parse_args()
    photos = arguments.folder
    print(f"seconds, so smaller is better; {machine()}")
    for size in (224, 96):
        seconds: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as name:
                work, cache = Path(name), Path(name) / "cache"
                for variant, value in (
                    ("plain script, fp32", plain(photos, size, work, "fp32")),
                    ("plain script, bf16", plain(photos, size, work, "bf16")),
                    ("ours, empty cache", ours(photos, size, work, cache)),
                    ("ours, warm cache", ours(photos, size, work, cache)),
                ):
                    seconds.setdefault(variant, []).append(value)
        print(f"\n{size} pixels")
        print_table(seconds, unit="seconds", baseline="plain script, fp32")


if __name__ == "__main__":
    main()
