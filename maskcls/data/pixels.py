"""Decode once: photos -> uint8 pixels of one geometry, memory-mapped through Arrow; their mean and std.

Two readers give bit-identical pixels: `MappedPixels` from the cache, `DecodedPixels` on the fly (`with_transform`).
Random things do not belong here, they are augmentation.py's.
"""

from __future__ import annotations

import errno
import io
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from maskcls.data.dataset import content_key
from maskcls.data.loader import map_ahead
from maskcls.data.photo import GREY, PhotoError, decoded, is_on_its_side, opened
from maskcls.errors import UserError, joined
from maskcls.machine import free_memory, is_accelerator
from maskcls.paths import UNFINISHED, full_path, replacing, write_problem
from maskcls.progress import Progress

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

SHARD_PHOTOS = 1024  # a kill while decoding costs at most so many photos
# A JPEG may be shrunk while it is decoded (DCT scaling, 2 to 3 times faster) to no less than so many times the pixels
# that are kept: on photos the result differs by less than half a level on average.
DRAFT = 2
COMPLETE, READABLE = "complete", "readable"  # names in a folder of the cache
SIGN_STEP, SIGN_BYTES = 256 * 1024, 4096  # bytes
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
FORMAT = 3  # raised when the same photo and geometry would give other pixels


@dataclass(frozen=True)
class Geometry:
    """How a photo becomes a picture of one size: the same object in training, validation and inference.

    image_size: (height, width) in pixels that the model sees. fit: squash, pad or crop. crop_box: (left, top, right,
    bottom) as fractions of the photo, or None. margin: stored pixels exceed image_size by this fraction, so that
    training can cut at random; validation and inference see the centre.
    """

    image_size: tuple[int, int]
    fit: str = "squash"
    crop_box: Sequence[float] | None = None
    margin: float = 0.0

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the stored pixels."""
        height, width = self.image_size
        return round(height * (1 + self.margin)), round(width * (1 + self.margin))

    def apply(self, image: Image) -> np.ndarray:
        """Returns (H, W, 3) uint8 of stored_size of RGB: within 1 level of Pillow's antialiased BILINEAR."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last
        height, width = pixels.shape[2:]
        if self.crop_box:
            left, top, right, bottom = self.crop_box
            x0, y0 = min(round(left * width), width - 1), min(round(top * height), height - 1)
            pixels = pixels[:, :, y0 : max(round(bottom * height), y0 + 1), x0 : max(round(right * width), x0 + 1)]
        pixels = _fitted(pixels, self.stored_size, self.fit)
        return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _fitted(pixels: torch.Tensor, size: tuple[int, int], fit: str) -> torch.Tensor:
    """Returns pixels (1, 3, H, W) uint8 resized to `size` = (height, width)."""
    height, width = pixels.shape[2:]
    scale = {"pad": min, "crop": max}.get(fit, max)(size[0] / height, size[1] / width)
    if fit == "crop":  # the largest centred part that has the target's shape
        crop_height, crop_width = max(round(size[0] / scale), 1), max(round(size[1] / scale), 1)
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        pixels = pixels[:, :, top : top + crop_height, left : left + crop_width]
    inner = (max(round(height * scale), 1), max(round(width * scale), 1)) if fit == "pad" else size
    if tuple(pixels.shape[2:]) != inner:
        pixels = interpolate(pixels, inner, mode="bilinear", antialias=True)
    if inner != size:
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        pixels = pad(pixels, (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top), value=GREY)
    return pixels


class BadPhotos(UserError):
    """Files that are not whole images; its arguments are one line each."""

    def __str__(self) -> str:
        return joined(sorted(self.args), "photos cannot be read")


def decode(image: dict[str, Any], geometry: Geometry) -> np.ndarray:
    """Returns (H, W, 3) uint8 of an undecoded Image column's value. Raises BadPhotos when it is not a whole image."""
    try:
        with opened(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"]) as photo:
            least = None
            if geometry.crop_box is None and not is_on_its_side(photo):
                height, width = geometry.stored_size
                least = (DRAFT * width, DRAFT * height)
            return geometry.apply(decoded(photo, least=least))
    except PhotoError as error:
        raise BadPhotos(f"{image['path'] or 'an embedded photo'}: {error}") from None


def _decoded_or_error(image: dict[str, Any], geometry: Geometry) -> np.ndarray | BadPhotos:
    try:
        return decode(image, geometry)
    except BadPhotos as error:
        return error


@dataclass(frozen=True)
class _DecodeBatch:
    """The transform of DecodedPixels; an object and not a closure, because datasets takes a hash of it."""

    geometry: Geometry
    num_threads: int

    def __call__(self, batch: dict[str, list[dict[str, Any]]]) -> dict[str, list[np.ndarray | BadPhotos]]:
        decode_one = partial(_decoded_or_error, geometry=self.geometry)
        return {"pixels": list(map_ahead(decode_one, batch["image"], num_threads=self.num_threads, ahead=64))}


class DecodedPixels:
    """Pixels read from the photos themselves, on the fly, through the dataset's own `with_transform`.

    num_threads: so many decode the photos of a batch together (Pillow lets other threads run); 0: one after the other.
    of_one_colour: rows that have been read and show nothing.
    """

    def __init__(self, table: Dataset, geometry: Geometry, *, num_threads: int = 0) -> None:
        from datasets import Image

        self.shape = (len(table), *geometry.stored_size, 3)
        self.of_one_colour: set[int] = set()
        self._geometry = geometry
        undecoded = table.select_columns(["image"]).cast_column("image", Image(decode=False))
        self._table = undecoded.with_transform(_DecodeBatch(geometry, num_threads))

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H, W, 3) uint8. Raises BadPhotos when any of them is not a whole image."""
        decoded = self._table[rows.tolist()]["pixels"]
        bad = [problem for item in decoded if isinstance(item, BadPhotos) for problem in item.args]
        if bad:
            raise BadPhotos(*bad)
        photos = zip(rows.tolist(), decoded, strict=True)
        self.of_one_colour.update(row for row, pixels in photos if is_of_one_colour(pixels, self._geometry))
        return torch.from_numpy(np.stack(decoded))


class MappedPixels:
    """Pixels read from the memory-mapped shards of the cache; a process holds no copy of them."""

    def __init__(self, shards: Sequence[Path], shape: tuple[int, int, int, int]) -> None:
        from datasets import Dataset

        self.shape = shape
        self._views = []
        self._tables = [Dataset.from_file(str(shard)) for shard in shards]  # they own the mapped memory
        for table in self._tables:
            for chunk in table.data.column("pixels").chunks:
                # Every row has the same length, so the chunk's data buffer is one (n, H, W, 3) array.
                start = int(np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset])
                flat = np.frombuffer(chunk.buffers()[2], np.uint8)[start : start + len(chunk) * int(np.prod(shape[1:]))]
                self._views.append(flat.reshape(len(chunk), *shape[1:]))
        self._starts = np.cumsum([0, *map(len, self._views)])
        if self._starts[-1] != shape[0]:
            raise ValueError(f"{self._starts[-1]} photos instead of {shape[0]}")

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H, W, 3) uint8, a copy that the caller owns."""
        batch = np.empty((len(rows), *self.shape[1:]), np.uint8)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for i, (row, part) in enumerate(zip(rows, parts, strict=True)):
            batch[i] = self._views[part][row - self._starts[part]]
        return torch.from_numpy(batch)

    def views(self) -> Iterator[np.ndarray]:
        """Yields the pixels of every photo in order, (H, W, 3) uint8, as they lie in the cache."""
        for view in self._views:
            yield from view


class DevicePixels:
    """All pixels of the cache in the memory of the training device: a batch is one gather, nothing is copied there."""

    def __init__(self, mapped: MappedPixels, device: torch.device) -> None:
        self.shape = mapped.shape
        self._pixels = torch.empty(mapped.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self._pixels), SHARD_PHOTOS):
            rows = np.arange(start, min(start + SHARD_PHOTOS, len(self._pixels)))
            self._pixels[start : start + len(rows)] = mapped(rows).to(device)

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Returns (B, H, W, 3) uint8 on the device."""
        return self._pixels[torch.from_numpy(rows).to(self._pixels.device, non_blocking=True)]


Pixels = MappedPixels | DecodedPixels | DevicePixels


def on_device(pixels: MappedPixels | DecodedPixels, device: torch.device) -> Pixels:
    """Returns pixels as a device reads them best: a GPU keeps those of a cache, if they fit."""
    if isinstance(pixels, MappedPixels) and bytes_kept(pixels.shape, device):
        return DevicePixels(pixels, device)
    return pixels


def bytes_kept(shape: Sequence[int], device: torch.device) -> int:
    """Returns what an accelerator keeps of cached pixels (N, H, W, 3): all that fits into a third of its free memory.

    A model's weights lie there already; their gradients, moments and activations have to fit into the rest.
    """
    num_bytes = int(np.prod(shape))
    return num_bytes if is_accelerator(device) and num_bytes < free_memory(device) / 3 else 0


def cache_folder(table: Dataset, geometry: Geometry, cache_dir: str | Path) -> Path:
    """Returns the folder of these photos' pixels: another when a photo, the geometry or the format changes."""
    signs = [list(sign) for sign in zip(table["path"], table["size"], table["mtime_ns"], strict=True)]
    return full_path(cache_dir) / "pixels" / content_key(signs, asdict(geometry), FORMAT, _versions())


def _versions() -> list[str]:
    import PIL

    return [PIL.__version__, torch.__version__.partition("+")[0]]


def is_cached(table: Dataset, geometry: Geometry, cache_dir: str | Path) -> bool:
    """Returns whether build_cache has nothing left to decode."""
    return _is_whole(cache_folder(table, geometry, cache_dir), len(table))


def build_cache(
    table: Dataset, geometry: Geometry, cache_dir: str | Path, *, num_workers: int, show: bool = False
) -> None:
    """Decodes every photo of the table into the cache, unless it is there whole. Call it once on each machine.

    Several launches, or machines with one cache_dir, may call it at once: one builds, the others wait. Shards that a
    killed launch finished are kept, those that were cut off or overwritten since then are made again. Raises UserError
    naming every photo that cannot be decoded, or when the disk is too small.
    """
    folder = cache_folder(table, geometry, cache_dir)
    if _is_whole(folder, len(table)):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _others_wait(folder):
            if not _is_whole(folder, len(table)):
                _complete(table, geometry, folder, num_workers=num_workers, show=show)
    except OSError as error:
        raise write_problem(f"cache_dir {full_path(cache_dir)}", error) from None


def _complete(table: Dataset, geometry: Geometry, folder: Path, *, num_workers: int, show: bool) -> None:
    """Makes the shards that are missing or broken, and then says what is there."""
    signs = _record(folder / COMPLETE).get("signs", {})
    (folder / COMPLETE).unlink(missing_ok=True)
    shape = len(table), *geometry.stored_size, 3
    for shard, start in _shards(folder, len(table)).items():
        num_rows = min(SHARD_PHOTOS, len(table) - start)
        if not _is_shard(shard, (num_rows, *geometry.stored_size, 3), signs.get(shard.name)):
            shard.unlink(missing_ok=True)
    _check_disk(folder, int(np.prod(shape)), show=show)
    _write_shards(table, geometry, folder, num_workers=num_workers, show=show)
    shards = list(_shards(folder, len(table)))
    views = MappedPixels(shards, shape).views()
    of_one_colour = [row for row, pixels in enumerate(views) if is_of_one_colour(pixels, geometry)]
    signs = {shard.name: _sign(shard) for shard in shards}
    _write_record(folder / COMPLETE, signs=signs, of_one_colour=of_one_colour)


def open_cache(table: Dataset, geometry: Geometry, cache_dir: str | Path) -> MappedPixels:
    """Returns the pixels that build_cache has laid down. Raises UserError when they have been damaged since then."""
    folder = cache_folder(table, geometry, cache_dir)
    try:
        return MappedPixels(list(_shards(folder, len(table))), (len(table), *geometry.stored_size, 3))
    except (OSError, ValueError, LookupError) as error:  # ArrowInvalid is a ValueError
        raise UserError(f"the decoded photos in {folder} are not whole ({error}): delete that folder") from None


def _shards(folder: Path, num_photos: int) -> dict[Path, int]:
    """Returns the files of the pixels -> their first rows."""
    return {folder / f"{start:08d}.arrow": start for start in range(0, num_photos, SHARD_PHOTOS)}


def _is_whole(folder: Path, num_photos: int) -> bool:
    signs = _record(folder / COMPLETE).get("signs", {})
    return bool(signs) and all(signs.get(shard.name) == _sign(shard) for shard in _shards(folder, num_photos))


def _is_shard(shard: Path, shape: tuple[int, int, int, int], sign: list[int] | None) -> bool:
    """Returns whether a shard is as its sign says or, when a killed launch left none, can be read."""
    if sign is not None:
        return sign == _sign(shard)
    try:
        MappedPixels([shard], shape)
    except (OSError, ValueError, LookupError):
        return False
    return True


def _sign(shard: Path) -> list[int] | None:
    """Returns the size of a file and a checksum of every SIGN_STEP-th piece of it, or None when it is not there.

    To read gigabytes before every run would take longer than the accident is worth: files are cut off, or zeroed in
    large parts, when a machine loses its power.
    """
    try:
        size, checksum = shard.stat().st_size, 0
        with shard.open("rb") as file:
            for start in [*range(0, size, SIGN_STEP), max(size - SIGN_BYTES, 0)]:
                file.seek(start)
                checksum = zlib.crc32(file.read(SIGN_BYTES), checksum)
    except OSError:
        return None
    return [size, checksum]


def _record(file: Path) -> dict[str, Any]:
    """Returns what `_write_record` has written, or nothing when that is not there or not whole."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(file: Path, **facts: object) -> None:
    with replacing(file) as unfinished:
        unfinished.write_text(json.dumps(facts), encoding="utf-8")


@contextmanager
def _others_wait(folder: Path) -> Iterator[None]:
    """Lets one process of all machines work in a folder, and removes what killed ones left unfinished.

    On file systems without locks all may work at once: their files have names of their own until they are whole.
    """
    from filelock import FileLock

    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        yield
        return
    try:
        for unfinished in folder.glob(f"*{UNFINISHED}*"):
            unfinished.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def find_bad_photos(
    table: Dataset, geometry: Geometry, cache_dir: str | Path, *, num_workers: int, show: bool = False
) -> None:
    """Raises BadPhotos naming every photo that cannot be decoded; the same photos are read once, not in every run."""
    folder = cache_folder(table, geometry, cache_dir)
    if _record(folder / COMPLETE) or _record(folder / READABLE):
        return
    decoded_photos = _decoded(table, geometry, num_workers=num_workers, show=show)
    of_one_colour = [row for row, pixels in enumerate(decoded_photos) if is_of_one_colour(pixels, geometry)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_record(folder / READABLE, of_one_colour=of_one_colour)
    except OSError as error:
        raise write_problem(f"cache_dir {full_path(cache_dir)}", error) from None


def photos_of_one_colour(table: Dataset, geometry: Geometry, cache_dir: str | Path) -> list[str]:
    """Returns the paths of the photos that build_cache or find_bad_photos have seen to show nothing."""
    folder = cache_folder(table, geometry, cache_dir)
    record = _record(folder / COMPLETE) or _record(folder / READABLE)
    return table.select_columns("path")[record.get("of_one_colour", [])]["path"]


def is_of_one_colour(pixels: np.ndarray, geometry: Geometry) -> bool:
    """Returns whether stored pixels (H, W, 3) show nothing: one colour everywhere, but for the border of fit: pad."""
    height, width = pixels.shape[:2]
    colour, cross = pixels[height // 2, width // 2], pixels[height // 2, width // 3 : width - width // 3]
    if (cross != colour).any():  # so it is of nearly every photo, in a few microseconds
        return False
    is_same = (pixels == colour).all(2)
    return bool((is_same | (pixels == GREY).all(2) if geometry.fit == "pad" else is_same).all())


def _check_disk(folder: Path, num_bytes: int, *, show: bool) -> None:
    free = shutil.disk_usage(folder).free + sum(shard.stat().st_size for shard in folder.glob("[0-9]*.arrow"))
    if show:
        print(f"decoding once to {folder}: {num_bytes / 1e6:,.0f} MB ({free / 1e9:,.0f} GB free)")
    if num_bytes > 0.95 * free:
        raise UserError(
            f"the decoded photos take {num_bytes / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free: "
            "set cache_dir to a larger disk, lower image_size, or set cache: none"
        )


def _write_shards(table: Dataset, geometry: Geometry, folder: Path, *, num_workers: int, show: bool) -> None:
    import pyarrow
    from datasets import Features, Value
    from datasets.arrow_writer import ArrowWriter

    missing = {shard: start for shard, start in _shards(folder, len(table)).items() if not shard.exists()}
    rows = [row for start in missing.values() for row in range(start, min(start + SHARD_PHOTOS, len(table)))]
    decoded_photos = _decoded(table.select(rows), geometry, num_workers=num_workers, show=show)
    for shard, start in missing.items():
        with (
            replacing(shard) as unfinished,
            pyarrow.OSFile(str(unfinished), "wb") as file,  # not by its path, of which fsspec would split a::b
            ArrowWriter(stream=file, features=Features({"pixels": Value("binary")})) as writer,
        ):
            for _ in range(min(SHARD_PHOTOS, len(table) - start)):
                writer.write({"pixels": next(decoded_photos).tobytes()})
            writer.finalize()


def _decoded(table: Dataset, geometry: Geometry, *, num_workers: int, show: bool) -> Iterator[np.ndarray]:
    """Yields every photo's pixels in order; after a bad one reads on to the end and raises BadPhotos with all names."""
    from datasets import Image

    images = table.select_columns(["image"]).cast_column("image", Image(decode=False))
    results = map_ahead(
        lambda row: _decoded_or_error(images[row]["image"], geometry),
        range(len(table)),
        num_threads=num_workers,
        ahead=256,
    )
    bad: list[str] = []
    with Progress("decoding", "photo", len(table), is_shown=show) as progress:
        for pixels in results:
            progress.update()
            if isinstance(pixels, BadPhotos):
                bad += pixels.args
            elif not bad:
                yield pixels
    if bad:
        raise BadPhotos(*bad)


def mean_and_std(
    pixels: MappedPixels | DecodedPixels, rows: np.ndarray, *, least_std: float
) -> tuple[list[float], list[float]]:
    """Returns the mean and standard deviation of each colour over all pixels of the rows, in 0..1.

    Exact: from the 256-bin histogram of each channel, so neither order nor precision of a running sum matters. Raises
    UserError when a standard deviation, by which pixels are divided, is below least_std.
    """
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(rows), 256):
        batch = pixels(rows[start : start + 256]).numpy().reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(batch[:, channel], minlength=256)
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
