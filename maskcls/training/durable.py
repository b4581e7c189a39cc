"""Folders that are whole or as they were: written beside, put on the disk, renamed into place; damage is found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from maskcls.errors import Fault
from maskcls.paths import UNFINISHED, command

MANIFEST = "manifest.json"  # of a folder's files: their sizes and hashes


@contextmanager
def put_in_place(folder: Path, *, former: Path | None = None) -> Iterator[Path]:
    """Yields a folder beside `folder` to make and to fill, which then takes its place.

    The one that was there becomes `former`, or goes. Raises Fault when the disk does not take it; what was there stays.
    """
    unfinished, kept = unfinished_beside(folder), former or folder.with_name(f".{folder.name}.former")
    shutil.rmtree(unfinished, ignore_errors=True)
    with disk_faults(folder):
        yield unfinished
        for path in [*unfinished.iterdir(), unfinished]:
            _sync(path)
        shutil.rmtree(kept, ignore_errors=True)
        if folder.exists():
            os.rename(folder, kept)
        os.rename(unfinished, folder)
        _sync(folder.parent)
        if former is None:
            shutil.rmtree(kept, ignore_errors=True)


def unfinished_beside(folder: Path) -> Path:
    """Returns where a folder is written before it is put in place."""
    return folder.with_name(f".{folder.name}{UNFINISHED}")


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into a Fault that says what is still good. path: a file or folder of a run folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors carries the system's message as text
        shutil.rmtree(unfinished_beside(path), ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise Fault(
            f"{path} cannot be written: {reason}. The state before it is whole. To resume when there is room: "
            f"{command('train', '--resume', path.parent)}"
        ) from None


def write_manifest(folder: Path) -> None:
    """Writes what the folder holds, by which `damage_of` knows it again."""
    files = {path.name: (path.stat().st_size, _digest(path)) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")


def damage_of(folder: Path) -> str | None:
    """Returns what is wrong with the files of a folder, or None when all are there with their sizes and hashes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, (size, digest) in manifest.items():
            path = folder / name
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
            if _digest(path) != digest:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    return None


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows syncs what may be written
    except PermissionError:
        if path.is_dir():  # Windows opens none; what it renames in a folder needs no more
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
