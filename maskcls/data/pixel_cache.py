"""Decode once: the stored pixels of a table's photos in files that are mapped to memory, whole whatever happens."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
import pyarrow
import torch
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter

from maskcls.data.dataset import content_key
from maskcls.data.pixels import MappedPixels, decode_all, is_of_one_colour
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from maskcls.paths import UNFINISHED, full_path, locked, read_json, replacing, write_json, write_problem

SHARD_PHOTOS = 1024  # a kill while decoding costs at most so many photos
COMPLETE, READABLE = "complete", "readable"  # names in a folder of the cache
SIGN_STEP, SIGN_BYTES = 256 * 1024, 4096  # bytes
FORMAT = 3  # raised when the same photo and preprocessing would give other pixels


@dataclass(frozen=True)
class PixelCache:
    """The decoded photos of a table under cache_dir. Several launches and machines may use one at once."""

    table: Dataset
    preprocessing: Preprocessing
    cache_dir: str | Path

    @cached_property
    def folder(self) -> Path:
        """The folder of these photos' pixels: another when a photo, the preprocessing or the format changes."""
        columns = (self.table[name] for name in ("path", "size", "mtime_ns"))
        signs = [list(sign) for sign in zip(*columns, strict=True)]
        versions = [PIL.__version__, torch.__version__.partition("+")[0]]
        key = content_key(signs, self.preprocessing.stored_as, FORMAT, versions)
        return full_path(self.cache_dir) / "pixels" / key

    @property
    def is_whole(self) -> bool:
        """Whether `build` has nothing left to decode."""
        signs = read_json(self.folder / COMPLETE).get("signs", {})
        return bool(signs) and all(signs.get(shard.name) == _sign(shard) for shard in self._shards())

    @property
    def of_one_colour(self) -> list[str]:
        """The paths of the photos that `build` or `look_through` have seen to show nothing."""
        record = read_json(self.folder / COMPLETE) or read_json(self.folder / READABLE)
        return self.table.select_columns("path")[record.get("of_one_colour", [])]["path"]

    def build(self, *, num_threads: int) -> None:
        """Decodes every photo, unless they are there whole. Call it once on each machine.

        Of several that call it at once one builds, the others wait. Shards that a killed launch finished are kept,
        those that were cut off or overwritten since then are made again. Raises UserError naming every photo that
        cannot be decoded, or when the disk is too small.
        """
        if self.is_whole:
            return
        # On a disk without locks all may work at once: their files have names of their own until they are whole.
        with self._written(), locked(Path(f"{self.folder}.lock"), waits=True) as is_alone:
            for unfinished in self.folder.glob(f"*{UNFINISHED}*") if is_alone else ():  # killed ones left them
                unfinished.unlink(missing_ok=True)
            if not self.is_whole:
                self._complete(num_threads=num_threads)

    def look_through(self, *, num_threads: int) -> None:
        """Raises BadPhotos naming every photo that cannot be decoded; they are read once, not in every run."""
        if read_json(self.folder / COMPLETE) or read_json(self.folder / READABLE):
            return
        of_one_colour = self._rows_of_one_colour(decode_all(self.table, self.preprocessing, num_threads=num_threads))
        with self._written():
            write_json(self.folder / READABLE, {"of_one_colour": of_one_colour})

    def open(self) -> MappedPixels:
        """Returns the pixels that `build` has laid down. Raises UserError when they have been damaged since then."""
        try:
            return self._mapped()
        except (OSError, ValueError, LookupError) as error:  # ArrowInvalid is a ValueError
            problem = f"the decoded photos in {self.folder} are not whole ({error}): delete that folder"
            raise UserError(problem) from None

    def _mapped(self) -> MappedPixels:
        return MappedPixels(list(self._shards()), self._shape(len(self.table)))

    def _shape(self, num_photos: int) -> tuple[int, int, int, int]:
        return num_photos, *self.preprocessing.stored_size, 3

    def _shards(self) -> dict[Path, range]:
        """Returns the files of the pixels -> their rows."""
        folder, rows = self.folder, range(len(self.table))
        return {folder / f"{start:08d}.arrow": rows[start : start + SHARD_PHOTOS] for start in rows[::SHARD_PHOTOS]}

    def _rows_of_one_colour(self, pixels: Iterable[np.ndarray]) -> list[int]:
        return [row for row, photo in enumerate(pixels) if is_of_one_colour(photo, self.preprocessing)]

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise write_problem(f"cache_dir {full_path(self.cache_dir)}", error) from None

    def _complete(self, *, num_threads: int) -> None:
        """Makes the shards that are missing or broken, and then says what is there."""
        marker = self.folder / COMPLETE
        signs = read_json(marker).get("signs", {})
        marker.unlink(missing_ok=True)
        shards = self._shards()
        missing = {}
        for shard, rows in shards.items():
            if not _is_shard(shard, self._shape(len(rows)), signs.get(shard.name)):
                shard.unlink(missing_ok=True)
                missing[shard] = rows
        _check_disk(self.folder, int(np.prod(self._shape(len(self.table)))))
        self._write_shards(missing, num_threads=num_threads)
        signs = {shard.name: _sign(shard) for shard in shards}
        write_json(marker, {"signs": signs, "of_one_colour": self._rows_of_one_colour(self._mapped().views())})

    def _write_shards(self, missing: dict[Path, range], *, num_threads: int) -> None:
        table = self.table.select([row for rows in missing.values() for row in rows])
        decoded = decode_all(table, self.preprocessing, num_threads=num_threads)
        for shard, rows in missing.items():
            with (
                replacing(shard) as unfinished,
                pyarrow.OSFile(str(unfinished), "wb") as file,  # not by its path, of which fsspec would split a::b
                ArrowWriter(stream=file, features=Features({"pixels": Value("binary")})) as writer,
            ):
                writer.write_batch({"pixels": [next(decoded).tobytes() for _ in rows]})
                writer.finalize()


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


def _check_disk(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free + sum(shard.stat().st_size for shard in folder.glob("[0-9]*.arrow"))
    print(f"decoding once to {folder}: {num_bytes / 1e6:,.0f} MB ({free / 1e9:,.0f} GB free)")
    if num_bytes > 0.95 * free:
        raise UserError(
            f"the decoded photos take {num_bytes / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free: "
            "set cache_dir to a larger disk, lower image_size, or set cache: none"
        )
