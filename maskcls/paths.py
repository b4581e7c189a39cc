"""Paths as a user writes them -> paths as the program keeps them, and what is wrong with one in the user's words."""

from __future__ import annotations

import errno
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from maskcls.errors import Fault, UserError, reason_of

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # another name would not help
UNFINISHED = ".unfinished"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a disk without file locks, as some NFS


def top_level() -> Path:
    """Returns the folder of train.py, infer.py, configs/ and accelerate_configs/: the checkout's, or a wheel's copy."""
    inside = Path(__file__).parent / "top_level"  # setup.cfg puts it into a wheel
    return inside if inside.is_dir() else Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Returns the path of a file of configs/ or accelerate_configs/, as one types it from where one works now."""
    path = top_level() / name
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(name: str, *arguments: object) -> str:
    """Returns the line that starts a subcommand of maskcls: a script, train or infer, itself where one works beside it.

    Arguments are quoted where they must be.
    """
    is_there = Path().samefile(top_level()) and Path(f"{name}.py").exists()
    return shlex.join([*(["python", f"{name}.py"] if is_there else ["maskcls", name]), *map(str, arguments)])


def full_path(text: str | Path) -> Path:
    """Returns the absolute path that the text stands for: `~` is the home folder, relative is to where one works.

    Links are kept as they are written, since a data folder is often one. Raises UserError when there is no such path.
    """
    if not str(text):  # as of "$UNSET", which would be where one works
        raise UserError("a path is empty")
    expanded = os.path.expanduser(text)
    if str(expanded).startswith("~"):
        raise UserError(f"{text}: there is no such home folder (a file of that name is ./{text})")
    if "\0" in str(expanded):
        raise UserError(f"{str(text)!r} holds a NUL character, which no path can")
    return Path(os.path.abspath(expanded))


def folder_problem(path: Path) -> str | None:
    """Returns why `path` cannot be read as a folder ("does not exist", "is a file, not a folder", ...), or None."""
    try:
        with os.scandir(path):
            return None
    except NotADirectoryError:
        return "is a file, not a folder" if path.exists() else "does not exist"
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def encoding_problem(name: str) -> str | None:
    """Returns why a name (or a whole path) cannot stand in a table: "is not UTF-8, ...", or None."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python carries such bytes along as surrogates
        try:
            meaning = f", in CP949 it is {os.fsencode(name).decode('cp949')!r}"
        except ValueError:
            meaning = ""
        return f"is not UTF-8{meaning}: rename it, for example with convmv -f cp949 -t utf8 --notest -r FOLDER"
    return None


def file_problem(path: Path) -> str | None:
    """Returns why `path` cannot be read as a file ("does not exist", "is a folder, not a file", ...), or None."""
    try:
        with path.open("rb"):
            return None
    except IsADirectoryError:
        return "is a folder, not a file"
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        if path.is_dir():  # Windows says that access is denied
            return "is a folder, not a file"
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def write_problem(place: object, error: OSError) -> UserError:
    """Returns what to raise when a path, or "setting path", cannot be written: a Fault of the disk, or a mistake."""
    kind = Fault if error.errno in DISK_ERRORS else UserError
    return kind(f"{place} cannot be written: {reason_of(error)}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to, which then takes its place: `path` is whole or as it was before.

    Several may write at once, and the last one wins. Whatever goes wrong, nothing unfinished is left, but by a kill: a
    file that holds UNFINISHED in its name.
    """
    unfinished = path.with_name(f".{uuid4().hex}{UNFINISHED}{path.suffix}")  # the ending tells writers the form
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.filename == str(unfinished):
            error.filename = str(path)  # a message names what a person knows
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file as `replacing` does. Raises OSError."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes indented JSON as `write_text` writes."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that `write_json` has written, or nothing when that is not there or not whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields as `replacing` does. Raises what `write_problem` says instead of an OSError."""
    try:
        with replacing(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise write_problem(path, error) from None


@contextmanager
def locked(file: Path, *, waits: bool) -> Iterator[bool]:
    """Holds a lock file as long as the context lasts, or the process; yields False on a disk that has no locks.

    Raises OSError when the file cannot be written, and filelock's Timeout when another holds it, unless it waits.
    """
    from filelock import FileLock

    lock = FileLock(file)
    try:
        lock.acquire(blocking=waits)
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        lock.release()


def nearest_folder(path: Path) -> Path:
    """Returns `path` when it exists, or the nearest folder above it that does."""
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def check_writable(name: str, folder: Path) -> None:
    """Raises UserError when nothing can be written to `folder`, or to where it has to be made first. Leaves nothing.

    name: what the folder is to a person.
    """
    try:
        with tempfile.TemporaryFile(dir=nearest_folder(folder)) as file:
            file.write(bytes(4096))  # a full disk still makes empty files
            file.flush()
    except OSError as error:
        raise UserError(f"{name} {folder} is not writable: {reason_of(error)}") from None
