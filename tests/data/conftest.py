"""A person's photos of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from maskcls.data import profiles
from tests.data.drawn import PERSON


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns a folder with one person and her seven photos of noise, 30 x 40 pixels."""
    random = np.random.default_rng(0)
    (tmp_path / "images" / PERSON).mkdir(parents=True)
    for stem in profiles.STEMS:
        noise = random.integers(0, 256, (40, 30, 3), np.uint8)
        Pillow.fromarray(noise).save(tmp_path / "images" / PERSON / f"{stem}.png")
    return tmp_path / "images"
