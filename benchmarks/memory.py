"""What a process keeps in memory as photos and epochs grow: python benchmarks/memory.py FOLDER.

FOLDER holds profile folders; their photos are linked until there are 1,000 and 20,000, then read from the cache for
five epochs. Counted is the anonymous resident set: the mapped pixels are the page cache's, not the process's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import parser, run_variant

NUM_EPOCHS, BATCH = 5, 64


def resident_mb() -> float:
    """Returns the anonymous resident set of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def resident_after_each_epoch(folder: str, num_photos: int) -> list[float]:
    """Returns the MB after opening the data and after each epoch."""
    import torch

    from maskcls.data import profiles
    from maskcls.data.augmentation import AUGMENTATIONS
    from maskcls.data.augmenter import Augmenter
    from maskcls.data.dataset import ProfileSource, custom_dataset_split_by_profile
    from maskcls.data.loader import BatchPlan
    from maskcls.data.pixel_cache import PixelCache
    from maskcls.data.preprocessing import Preprocessing

    preprocessing = Preprocessing((48, 48), margin=0.125, mean=[0.5] * 3, std=[0.25] * 3)
    with tempfile.TemporaryDirectory() as work:
        people = sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))
        for number in range(num_photos // 7):
            source = people[number % len(people)]
            (Path(work) / "images" / f"{number:06d}_{source.name.split('_', 1)[1]}").mkdir(parents=True)
            for photo in source.iterdir():
                if not photo.name.startswith("."):
                    link = Path(work) / "images" / f"{number:06d}_{source.name.split('_', 1)[1]}" / photo.name
                    link.symlink_to(photo.resolve())
        where = ProfileSource(f"{work}/images", None, None, num_folds=5, fold=0, seed=0)
        assert profiles.profile_folders(where.data_dir)
        data = custom_dataset_split_by_profile(where)
        cache = PixelCache(data.table, preprocessing, f"{work}/cache")
        cache.build(num_threads=2)
        data = data.opened(cache.open())
        plan = BatchPlan(len(data.train), BATCH, seed=0)
        augmenter = Augmenter(AUGMENTATIONS["light"], preprocessing, seed=0, device=torch.device("cpu"))
        resident = [resident_mb()]
        for epoch in range(1, NUM_EPOCHS + 1):
            for (keys,) in plan.parts(epoch, 0):
                batch = data.train.pixels(plan.positions(keys))
                augmenter.augmented(batch, torch.from_numpy(np.ascontiguousarray(keys)), epoch=epoch)
            resident.append(resident_mb())
    return resident


def main() -> None:
    """Measures two sizes, each in a process of its own."""
    if "--variant" in sys.argv:
        print(json.dumps(resident_after_each_epoch(sys.argv[2], int(sys.argv[3]))))
        return
    arguments = parser(__doc__, folder="with profile folders").parse_args()
    epochs = " | ".join(f"epoch {epoch}" for epoch in range(1, NUM_EPOCHS + 1))
    print(f"MB of the process\n\n| photos | opened | {epochs} |\n|---|---|{'---|' * NUM_EPOCHS}")
    for num_photos in (1_000, 20_000):
        resident = run_variant(arguments.folder, str(num_photos))
        print(f"| {num_photos:,} | {' | '.join(f'{value:,.0f}' for value in resident)} |", flush=True)


if __name__ == "__main__":
    main()
