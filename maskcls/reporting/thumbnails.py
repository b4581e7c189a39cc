"""Photos as small pictures inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.machine import num_cores

if TYPE_CHECKING:
    from PIL.Image import Image


def thumbnail(path: Path, size: int) -> Image | None:
    """Returns a photo, its longer side `size` pixels, or None when it cannot be read."""
    from PIL.Image import Resampling

    from maskcls.data.photo import PhotoError, read_photo

    try:
        photo = read_photo(path, least=(2 * size, 2 * size))
    except PhotoError:  # the page says what is missing
        return None
    photo.thumbnail((size, size), Resampling.LANCZOS, reducing_gap=2)
    return photo


def jpeg(image: Image, *, quality: int = 70) -> str:
    """Returns a data URI."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def packed(paths: Iterable[Path], size: int) -> dict[Path, str | None]:
    """Returns photos as data URIs, their longer side `size` pixels; None for one that cannot be read."""

    def image(path: Path) -> str | None:
        photo = thumbnail(path, size)
        return jpeg(photo) if photo else None

    once = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(num_cores()) as threads:  # Pillow decodes without holding Python's lock
        return dict(zip(once, threads.map(image, once), strict=True))
