"""Pictures of which every pixel is known, and the table of a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image as Pillow
from PIL.Image import Image

from maskcls.data import profiles
from maskcls.data.dataset import build_table
from maskcls.data.preprocessing import Preprocessing

ANNA, BERT = "000001_female_Asian_45", "000002_male_Asian_60"
PHOTOS = {ANNA: ["mask1.jpg", "incorrect_mask.PNG"], BERT: ["normal.jpeg"]}
RED, GREEN, BLUE = (250, 10, 20), (30, 240, 40), (50, 60, 230)
SMALL = Preprocessing((24, 18), margin=0.125)
PERSON = "000001_female_Asian_45"


def stripes(*colours: tuple[int, int, int], height: int = 20, width: int = 20) -> Image:
    """Returns stripes side by side, each `width` wide."""
    row = np.repeat(np.array(colours, np.uint8), width, axis=0)
    return Pillow.fromarray(np.repeat(row[None], height, axis=0))


def waves(height: int, width: int) -> np.ndarray:
    """Returns a smooth picture (H, W, 3) uint8 with details of a few pixels."""
    y, x = np.mgrid[:height, :width]
    return (128 + 90 * np.stack([np.sin(x / 3), np.cos(y / 3), np.sin((x + y) / 4)], 2)).astype(np.uint8)


def is_all(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour, np.uint8)).all())


def table_of(images: Path) -> Dataset:
    return build_table(profiles.find_photos(images, profiles.profile_folders(images))[0], images)


def levels_apart(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean absolute difference; two photos of the sample are tens of levels apart."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def two_people(folder: Path) -> Path:
    """Returns a new folder with the three PHOTOS of 8 x 6 pixels."""
    for profile, files in PHOTOS.items():
        (folder / profile).mkdir(parents=True)
        for number, file in enumerate(files):
            Pillow.new("RGB", (8, 6), (40 * number, 99, 200)).save(folder / profile / file)
    return folder
