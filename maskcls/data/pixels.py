"""Readers of stored pixels: a row of the table -> (H', W', 3) uint8; and the mean and std of many.

All readers give bit-identical pixels. Random things do not belong here, they are augmenter.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image

from maskcls.data.loader import map_ahead
from maskcls.data.photo import GREY, BadPhotos
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from maskcls.machine import free_memory, is_accelerator
from maskcls.progress import Progress

PHOTOS_AT_ONCE = 256  # that are on their way between two places


def _read_or_error(image: dict[str, Any], preprocessing: Preprocessing) -> np.ndarray | BadPhotos:
    try:
        return preprocessing.read(image)
    except BadPhotos as error:
        return error


def _read_batch(
    batch: dict[str, list[dict[str, Any]]], preprocessing: Preprocessing, num_threads: int
) -> dict[str, list[np.ndarray | BadPhotos]]:
    read = partial(_read_or_error, preprocessing=preprocessing)
    return {"pixels": list(map_ahead(read, batch["image"], num_threads=num_threads, ahead=64))}


class DecodedPixels:
    """Pixels read from the photos themselves, on the fly, through the dataset's own `with_transform`.

    num_threads: so many decode the photos of a batch together (Pillow lets other threads run); 0: one after the other.
    of_one_colour: rows that have been read and show nothing.
    """

    def __init__(self, table: Dataset, preprocessing: Preprocessing, *, num_threads: int = 0) -> None:
        self.shape = (len(table), *preprocessing.stored_size, 3)
        self.of_one_colour: set[int] = set()
        self._preprocessing = preprocessing
        read = partial(_read_batch, preprocessing=preprocessing, num_threads=num_threads)  # datasets takes a hash of it
        self._table = undecoded(table).with_transform(read)

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H', W', 3) uint8. Raises BadPhotos when any of them is not a whole image."""
        decoded = self._table[rows.tolist()]["pixels"]
        bad = [problem for item in decoded if isinstance(item, BadPhotos) for problem in item.args]
        if bad:
            raise BadPhotos(*bad)
        photos = zip(rows.tolist(), decoded, strict=True)
        self.of_one_colour.update(row for row, pixels in photos if is_of_one_colour(pixels, self._preprocessing))
        return torch.from_numpy(np.stack(decoded))


class KeptPixels:
    """Pixels that are read once and kept for whoever asks for the same photos, until they are forgotten."""

    def __init__(self, reader: DecodedPixels) -> None:
        self.shape = reader.shape
        self._reader = reader
        self._kept: dict[int, torch.Tensor] = {}

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H', W', 3) uint8. Raises BadPhotos when any of them is not a whole image."""
        missing = [row for row in rows.tolist() if row not in self._kept]
        if missing:
            self._kept.update(zip(missing, self._reader(np.array(missing)), strict=True))
        return torch.stack([self._kept[row] for row in rows.tolist()])

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Lets go of all pixels."""
        self._kept.clear()


class MappedPixels:
    """Pixels read from the memory-mapped shards of the cache; a process holds no copy of them.

    Raises OSError, ValueError or LookupError when the shards do not hold `shape`, (N, H', W', 3).
    """

    def __init__(self, shards: Sequence[Path], shape: tuple[int, int, int, int]) -> None:
        self.shape = shape
        self._views = []
        self._tables = [Dataset.from_file(str(shard)) for shard in shards]  # they own the mapped memory
        for table in self._tables:
            for chunk in table.data.column("pixels").chunks:
                # Every row has the same length, so the chunk's data buffer is one (n, H', W', 3) array.
                start = int(np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset])
                flat = np.frombuffer(chunk.buffers()[2], np.uint8)[start : start + len(chunk) * int(np.prod(shape[1:]))]
                self._views.append(flat.reshape(len(chunk), *shape[1:]))
        self._starts = np.cumsum([0, *map(len, self._views)])
        if self._starts[-1] != shape[0]:
            raise ValueError(f"{self._starts[-1]} photos instead of {shape[0]}")

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H', W', 3) uint8, a copy that the caller owns."""
        batch = np.empty((len(rows), *self.shape[1:]), np.uint8)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for i, (row, part) in enumerate(zip(rows, parts, strict=True)):
            batch[i] = self._views[part][row - self._starts[part]]
        return torch.from_numpy(batch)

    def views(self) -> Iterator[np.ndarray]:
        """Yields the pixels of every photo in order, (H', W', 3) uint8, as they lie in the cache."""
        for view in self._views:
            yield from view


class DevicePixels:
    """All pixels of the cache in the memory of the training device: a batch is one gather, nothing is copied there."""

    def __init__(self, mapped: MappedPixels, device: torch.device) -> None:
        self.shape = mapped.shape
        self._pixels = torch.empty(mapped.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self._pixels), PHOTOS_AT_ONCE):
            rows = np.arange(start, min(start + PHOTOS_AT_ONCE, len(self._pixels)))
            self._pixels[start : start + len(rows)] = mapped(rows).to(device)

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H', W', 3) uint8 on the device."""
        return self._pixels[torch.from_numpy(rows).to(self._pixels.device, non_blocking=True)]


Pixels = MappedPixels | DecodedPixels | KeptPixels | DevicePixels


def on_device(pixels: MappedPixels | DecodedPixels, device: torch.device) -> Pixels:
    """Returns pixels as a device reads them best: a GPU keeps those of a cache, if they fit."""
    if isinstance(pixels, MappedPixels) and bytes_kept(pixels.shape, device):
        return DevicePixels(pixels, device)
    return pixels


def bytes_kept(shape: Sequence[int], device: torch.device) -> int:
    """Returns what an accelerator keeps of cached pixels (N, H', W', 3): all that fits into a third of its free memory.

    A model's weights lie there already; their gradients, moments and activations have to fit into the rest.
    """
    num_bytes = int(np.prod(shape))
    return num_bytes if is_accelerator(device) and num_bytes < free_memory(device) / 3 else 0


def undecoded(table: Dataset) -> Dataset:
    """Returns the photos of a table alone, as paths or bytes."""
    return table.select_columns(["image"]).cast_column("image", Image(decode=False))


def decode_all(table: Dataset, preprocessing: Preprocessing, *, num_threads: int) -> Iterator[np.ndarray]:
    """Yields every photo's pixels in order; after a bad one reads on to the end and raises BadPhotos with all names."""
    read = partial(_read_or_error, preprocessing=preprocessing)
    bad: list[str] = []
    with Progress("decoding", "photo", len(table)) as progress:
        for pixels in map_ahead(read, undecoded(table)["image"], num_threads=num_threads, ahead=PHOTOS_AT_ONCE):
            progress.update()
            if isinstance(pixels, BadPhotos):
                bad += pixels.args
            elif not bad:
                yield pixels
    if bad:
        raise BadPhotos(*bad)


def is_of_one_colour(pixels: np.ndarray, preprocessing: Preprocessing) -> bool:
    """Returns whether stored pixels (H', W', 3) show nothing: one colour everywhere, but for the border of fit: pad."""
    height, width = pixels.shape[:2]
    colour, cross = pixels[height // 2, width // 2], pixels[height // 2, width // 3 : width - width // 3]
    if (cross != colour).any():  # so it is of nearly every photo, in a few microseconds
        return False
    is_same = (pixels == colour).all(2)
    return bool((is_same | (pixels == GREY).all(2) if preprocessing.fit == "pad" else is_same).all())


def mean_and_std(pixels: Pixels, rows: np.ndarray, *, least_std: float) -> tuple[list[float], list[float]]:
    """Returns the mean and standard deviation of each colour over all pixels of the rows, in 0..1.

    Exact: from the 256-bin histogram of each channel, so neither order nor precision of a running sum matters. Raises
    UserError when a standard deviation, by which pixels are divided, is below least_std.
    """
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(rows), PHOTOS_AT_ONCE):
        batch = pixels(rows[start : start + PHOTOS_AT_ONCE]).numpy().reshape(-1, 3)
        counts += [np.bincount(colour, minlength=256) for colour in batch.T]
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    mean, std = mean.round(6).tolist(), std.round(6).tolist()
    if min(std) < least_std:
        raise UserError(
            f"the std computed of {len(rows):,} training photos is {std}; it divides, so it cannot be 0 or less than "
            f"{least_std}: look at the photos, they are all of one colour. (dataset_args may give mean and std)"
        )
    return mean, std
