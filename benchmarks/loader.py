"""Host CPU time per photo of the data path, one core: python benchmarks/loader.py FOLDER [ROUNDS].

FOLDER holds profile folders (`maskcls sample-data` draws some). The standard recipe is Pillow decode,
RandomResizedCrop, flip, float, normalise, photo by photo, as training scripts do it in workers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from measure import machine, parser, print_table
from PIL import Image

SIZE, BATCH = 224, 64
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def standard_recipe(path: str, random: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Returns (3, size, size) float32: what torchvision's usual training transform does, with Pillow."""
    image = Image.open(path).convert("RGB")
    area = image.width * image.height * random.uniform(0.08, 1)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(int((area * ratio) ** 0.5), image.width), min(int((area / ratio) ** 0.5), image.height)
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image, np.float32) / 255
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def main() -> None:
    """Measures every path in turn."""
    arguments = parser(__doc__, folder="with profile folders", rounds=5).parse_args()
    import torch

    from maskcls.data import profiles
    from maskcls.data.augmentation import AUGMENTATIONS, Augmentation
    from maskcls.data.augmenter import Augmenter
    from maskcls.data.dataset import build_table
    from maskcls.data.pixel_cache import PixelCache
    from maskcls.data.pixels import DecodedPixels
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.machine import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # for the standard recipe too
    photos, _ = profiles.find_photos(arguments.folder, profiles.profile_folders(arguments.folder)[:60])
    with tempfile.TemporaryDirectory() as cache:
        table = build_table(photos, arguments.folder)
        paths, rows = table["path"], np.arange(len(table) // BATCH * BATCH)
        exact = Preprocessing((SIZE, SIZE), mean=MEAN.tolist(), std=STD.tolist())
        keep = replace(exact, margin=0.125)
        PixelCache(table, keep, cache).build(num_threads=1)
        mapped, decoded = PixelCache(table, keep, cache).open(), DecodedPixels(table, exact)
        random = np.random.default_rng(0)

        crop, soft = (
            Augmenter(augmentation, keep, seed=0, device=torch.device("cpu"))
            for augmentation in (Augmentation(min_area=0.08, flip=0.5), AUGMENTATIONS["light"])
        )
        paths_of: dict[str, Callable[[np.ndarray], object]] = {
            "standard recipe": lambda batch: torch.from_numpy(
                np.stack([standard_recipe(paths[int(i)], random) for i in batch])
            ),
            "uncached, uint8 to the device": lambda batch: decoded(batch),
            "uncached, light": lambda batch: soft.augmented(decoded(batch), torch.from_numpy(batch), epoch=1),
            "uncached, resized crop": lambda batch: crop.augmented(decoded(batch), torch.from_numpy(batch), epoch=1),
            "cached, uint8 to the device": lambda batch: mapped(batch),
            "cached, normalised": lambda batch: keep.seen(mapped(batch)),
            "cached, light": lambda batch: soft.augmented(mapped(batch), torch.from_numpy(batch), epoch=1),
            "cached, resized crop": lambda batch: crop.augmented(mapped(batch), torch.from_numpy(batch), epoch=1),
        }
        rates: dict[str, list[float]] = {name: [] for name in paths_of}
        for _ in range(arguments.rounds):
            for name, path_of in paths_of.items():
                started = time.process_time()
                for batch in random.permutation(rows).reshape(-1, BATCH):
                    path_of(batch)
                rates[name].append(len(rows) / (time.process_time() - started))
    print(f"{len(table)} photos of {Image.open(paths[0]).size}, {SIZE} pixels, one core; {machine()}")
    print_table(rates, unit="photos/s of CPU time", baseline="standard recipe")


if __name__ == "__main__":
    main()
