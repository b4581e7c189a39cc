"""The folder that inference reads: images/ with info.csv, images alone, or profile folders."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value

from maskcls.data import profiles
from maskcls.data.dataset import Photos, build_table
from maskcls.errors import UserError, did_you_mean, joined, listed
from maskcls.paths import encoding_problem, file_problem, folder_problem

PROFILE = "profile"  # what photos are grouped by where folders say it
NOT_OF_PERSON = {"ImageID", "ans"}  # columns of info.csv


@dataclass(frozen=True)
class InferenceData:
    """The photos to predict, in the order in which the answers are written."""

    photos: Photos  # with labels when the folder holds profiles, whose names are the truth
    image_ids: list[str]  # the rows of output.csv
    ignored: Counter[str]  # as of FaceData, folders and photos beside images/ too; empty when info.csv says which
    groups: np.ndarray | None = None  # (N,) str: whose photo each is, where that was asked for


def inference_data(folder: str | Path, group_by: str | None = None) -> InferenceData:
    """Returns the photos of `folder`: images/ in the order of info.csv (or sorted without one), or profile folders.

    group_by: what says whose photo each is, a column of info.csv or "profile", the folders. Raises UserError when there
    is nothing to predict, when it is not clear what or whose, or info.csv is not what it should be.
    """
    folder = Path(folder)
    if problem := folder_problem(folder) or encoding_problem(str(folder)):
        raise UserError(f"infer_data_dir {folder} {problem}")
    images, info = images_in(folder), folder / "info.csv"
    if info.exists():
        groups = _read_info(info, images, group_by)
        data = InferenceData(_without_labels([images / name for name in groups]), list(groups), Counter())
        return data if group_by is None else replace(data, groups=np.array([*groups.values()]))
    names, folders = _entries(images)
    photos, people = list(filter(profiles.is_image, names)), list(filter(profiles.is_profile, folders))
    others = profiles.ignored(names)
    if photos and people:
        raise UserError(
            f"{images} holds photos ({listed(photos)}) and profile folders ({listed(people)}): it is not clear which "
            "of them to predict. Move the photos away, or give --infer_data_dir a folder of one kind"
        )
    if photos:
        problems = [f"{str(images / name)!r} {why}" for name in photos if (why := encoding_problem(name))]
        if problems:
            raise UserError(joined(problems, f"problems in {images}"))
        others += Counter({"folder": len(folders)})
        if images != folder:
            others += Counter({"beside": sum(map(profiles.is_image, _entries(folder)[0]))})
        if group_by is not None:
            raise UserError(f"--group_by {group_by}: {folder} holds neither info.csv nor profile folders to say it")
        return InferenceData(_without_labels([images / name for name in photos]), photos, others)
    if images != folder:
        where = f" but profile folders: give --infer_data_dir {images}" if people else ""
        raise UserError(f"{images} holds no images{where}{profiles.unread_hint(others)}")
    if not folders:
        what = f"no images/, no photos and no profile folders{profiles.unread_hint(others)}"
        raise UserError(f"infer_data_dir {folder} holds {what}")
    if group_by not in (None, PROFILE):
        raise UserError(f"--group_by {group_by}: {folder} holds profile folders and no info.csv: --group_by {PROFILE}")
    found, others_inside = profiles.find_photos(folder, folders)
    ids = [f"{photo.profile}/{photo.file}" for photo in found]
    data = InferenceData(_all_of(build_table(found, folder)), ids, others_inside + others)
    return data if group_by is None else replace(data, groups=data.photos.column(PROFILE))


def images_in(folder: Path) -> Path:
    """Returns where the photos of a folder lie: in its images/, or in itself."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _without_labels(paths: Sequence[Path]) -> Photos:
    names = [str(path) for path in paths]
    columns = {"image": [{"path": name, "bytes": None} for name in names], "path": names}
    return _all_of(Dataset.from_dict(columns, features=Features({"image": Image(), "path": Value("string")})))


def _all_of(table: Dataset) -> Photos:
    return Photos(table, np.arange(len(table)))


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the files of a folder, and of its folders that are not hidden, both sorted."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = [entry.name for entry in entries if entry.name not in set(folders)]
    return files, [name for name in folders if not name.startswith(".")]


def _read_info(info: Path, images: Path, group_by: str | None) -> dict[str, str]:
    """Returns the ImageID column of info.csv -> the column `group_by`, if any. Raises UserError with every bad row."""
    if problem := file_problem(info):
        raise UserError(f"{info} {problem}")
    try:
        with info.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            lines = [(reader.line_num, row) for row in reader]
    except ValueError as error:  # not UTF-8
        raise UserError(f"{info} cannot be read as UTF-8 CSV: {error}. Save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{info} cannot be read as UTF-8 CSV: {error}") from None
    if "ImageID" not in header:
        between = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
        commas = f". Columns are divided by commas, not by {between!r}" if between else ""
        raise UserError(f"{info} has no column ImageID; its columns are {listed(map(repr, header)) or 'none'}{commas}")
    if not lines:
        raise UserError(f"{info} has no rows")
    if group_by is not None and group_by not in (known := [name for name in header if name not in NOT_OF_PERSON]):
        near = did_you_mean(group_by, known)
        raise UserError(
            f"--group_by {group_by}: {info} has no such column to say whose photo it is.{near} It has: "
            f"{listed(known) or 'none'}"
        )
    problems, groups = [], {}
    present = set(os.listdir(images))
    seen: dict[str, int] = {}
    for line, row in lines:
        name, group = row.get("ImageID"), (row.get(group_by or "") or "").strip()
        if not name or Path(name).name != name or name in (".", ".."):
            problems.append(f"line {line}: {name!r} is not the name of a file in images/")
            continue
        if name in seen:
            problems.append(f"line {line}: duplicate {name}, first in line {seen[name]}")
        elif name not in present:
            problems.append(f"line {line}: images/ has no {name!r}{_likest(name, present)}")
        elif group_by is not None and not group:
            problems.append(f"line {line}: {name} has no {group_by}: who is on it?")
        seen.setdefault(name, line)
        groups[name] = group
    if problems:
        raise UserError(joined([f"{info}, {problem}" for problem in problems], f"problems in {info}"))
    return groups


def _likest(name: str, present: set[str]) -> str:
    if name.strip() in present:
        return f", but {name.strip()!r}, without blanks"
    bytes_before_unicode = os.fsdecode(name.encode("cp949", errors="replace"))
    return f", but one that {encoding_problem(bytes_before_unicode)}" if bytes_before_unicode in present else ""
