"""Photos -> datasets.Dataset (Image and ClassLabel columns), split by person; and the folder that inference reads.

The table holds paths, not pixels: `push_to_hub` and `save_to_disk` embed the files, training maps them to memory
(pixels.py).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskcls import labels
from maskcls.data import profiles
from maskcls.data.label_fixes import CorrectedPhotos, correct_labels
from maskcls.errors import UserError, joined, listed, reason_of
from maskcls.paths import encoding_problem, file_problem, folder_problem, full_path, replacing, write_problem

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features


@dataclass(frozen=True)
class ProfileSource:
    """Where the people are, and who validates."""

    data_dir: str
    train_profile: str | None
    valid_profile: str | None
    num_folds: int
    fold: int
    seed: int
    cache_dir: str
    label_fixes: str | None = None  # CSV of corrected labels


@dataclass(frozen=True)
class FaceData:
    """One table of all photos and the rows of the two splits, which share no person."""

    table: Dataset
    train_rows: np.ndarray  # (N,) int64
    valid_rows: np.ndarray
    output: str
    mean: tuple[float, float, float] | None  # of the pixels, 0..1; None: to be computed from the training photos
    std: tuple[float, float, float] | None
    passed_over: Counter[str]  # entries of the folders that are not photos, see profiles.passed_over
    corrected: CorrectedPhotos | None  # by label_fixes, in both splits

    def labels(self) -> np.ndarray:
        """Returns (N, 3) int64: mask, gender and age group of every photo of the table."""
        return table_labels(self.table)

    @property
    def key(self) -> str:
        """16 hex digits that stand for the photos of both splits, in order, their labels and their sizes in bytes."""
        columns = (self.table[name] for name in ("profile", "stem", "size"))  # not the time: copies have another
        photos = zip(*columns, self.labels().tolist(), strict=True)
        return content_key(list(photos), self.train_rows.tolist(), self.valid_rows.tolist())

    def people(self, rows: np.ndarray) -> list[str]:
        """Returns the profiles that the rows belong to, sorted."""
        return sorted(set(np.asarray(self.table["profile"])[rows].tolist()))


def table_labels(table: Dataset) -> np.ndarray:
    """Returns (N, attributes) int64: the label of each attribute, of every row."""
    columns = [np.asarray(table[attribute.column]) for attribute in labels.ATTRIBUTES.values()]
    return np.stack(columns, axis=1).astype(np.int64)


def custom_dataset_split_by_profile(
    source: ProfileSource, *, output: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> FaceData:
    """Returns the photos of the listed profiles, split by person as the lists say, or by one stratified fold.

    Labels are those of label_fixes where it says something, also for the folds. Raises UserError as profiles.py and
    label_fixes.py do: missing, unreadable or doubled names, a person in both lists, too few people, bad corrections.
    """
    places = profiles.profile_lines(source.train_profile) if source.train_profile else {}
    known = list(places) or profiles.profile_folders(source.data_dir)
    if source.valid_profile:
        validating = profiles.profile_lines(source.valid_profile)
        valid, places = list(validating), validating | places
        # Without a training list the validation people lie among the others and are taken out of them.
        train = known if source.train_profile else [name for name in known if name not in set(valid)]
        profiles.check_disjoint(train, valid)
        names = [*train, *valid]
    else:
        names = known
    # Before the split: it names bad folders.
    photos, passed_over = profiles.find_photos(source.data_dir, names, places=places)
    corrected = None
    if source.label_fixes:
        corrected = correct_labels(photos, source.label_fixes, profiles.profile_folders(source.data_dir))
        photos = corrected.photos
    if not source.valid_profile:
        people = {photo.profile: photo.person for photo in photos}
        _, valid = profiles.split_by_person(
            list(people.values()), num_folds=source.num_folds, fold=source.fold, seed=source.seed
        )
    is_valid = np.isin([photo.profile for photo in photos], valid)
    table = build_table(photos, Path(source.data_dir), Path(source.cache_dir))
    return FaceData(
        table, np.flatnonzero(~is_valid), np.flatnonzero(is_valid), output,
        _triple(mean), _triple(std), passed_over, corrected,
    )  # fmt: skip


def _triple(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]), float(values[2]))


def features() -> Features:
    """Returns the columns of the table."""
    from datasets import ClassLabel, Features, Image, Value

    return Features({
        "image": Image(),
        **{a.column: ClassLabel(names=list(a.classes)) for a in labels.ATTRIBUTES.values()},
        "class": ClassLabel(names=list(labels.HEAD_CLASSES["class"])),
        "profile": Value("string"),
        "stem": Value("string"),
        "age": Value("int32"),
        "race": Value("string"),
        "path": Value("string"),
        "size": Value("int64"),  # bytes; with mtime_ns the sign by which a changed photo is noticed
        "mtime_ns": Value("int64"),
    })  # fmt: skip


def build_table(photos: Sequence[profiles.Photo], data_dir: Path, cache_dir: Path) -> Dataset:
    """Returns the table of the photos, from the cache when an earlier call has put the same there."""
    import pyarrow
    from datasets import Dataset

    paths = [os.path.abspath(data_dir / photo.profile / photo.file) for photo in photos]
    try:
        stats = [os.stat(path) for path in paths]
    except OSError as error:
        raise UserError(f"photo {error.filename} cannot be read: {reason_of(error)}") from None
    signs = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)]
    labels_read = [(labels.class_of(photo.labels), photo.age) for photo in photos]
    file = full_path(cache_dir) / "tables" / f"{content_key(signs, labels_read, sorted(features()))}.arrow"
    columns = {
        "image": [{"path": path, "bytes": None} for path in paths],
        **{a.column: [photo.labels[a.name] for photo in photos] for a in labels.ATTRIBUTES.values()},
        "class": [labels.class_of(photo.labels) for photo in photos],
        "path": paths,
        "size": [size for _, size, _ in signs],
        "mtime_ns": [mtime for _, _, mtime in signs],
        **{name: [getattr(photo, name) for photo in photos] for name in ("profile", "stem", "age", "race")},
    }  # fmt: skip
    table = pyarrow.table({name: columns[name] for name in features()}, schema=features().arrow_schema)
    if not _holds(file, table):
        # Not save_to_disk: that would copy every photo into the cache.
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with (
                replacing(file) as unfinished,
                pyarrow.OSFile(str(unfinished), "wb") as sink,
                pyarrow.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        except OSError as error:
            raise write_problem(f"cache_dir {full_path(cache_dir)}", error) from None
    return Dataset.from_file(str(file))


def _holds(file: Path, table: pyarrow.Table) -> bool:
    """Returns whether a file of the cache is there and whole."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as reader:
            return reader.read_all().equals(table)
    except (OSError, pyarrow.ArrowException):
        return False


def content_key(*parts: object) -> str:
    """Returns 16 hex digits that stand for the parts' content (anything that JSON can hold)."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class InferenceData:
    """The photos to predict, in the order in which the answers are written."""

    table: Dataset
    image_ids: list[str]  # the rows of output.csv
    labels: np.ndarray | None  # (N, 3) when the folder holds profiles, whose names are the truth
    passed_over: Counter[str]  # as of FaceData, folders and photos beside images/ too; empty when info.csv says which


def inference_data(folder: str | Path, cache_dir: str | Path) -> InferenceData:
    """Returns the photos of `folder`: images/ in the order of info.csv (or sorted without one), or profile folders.

    Raises UserError when there is nothing to predict, when it is not clear what, or info.csv is not what it should be.
    """
    folder, cache_dir = Path(folder), Path(cache_dir)
    if problem := folder_problem(folder) or encoding_problem(str(folder)):
        raise UserError(f"infer_data_dir {folder} {problem}")
    images, info = folder / "images" if (folder / "images").is_dir() else folder, folder / "info.csv"
    if info.exists():
        names = _image_ids(info, images)
        return InferenceData(_plain_table([images / name for name in names]), names, None, Counter())
    names, folders = _entries(images)
    photos, people = list(filter(profiles.is_image, names)), list(filter(_is_profile, folders))
    others = profiles.passed_over(names)
    if photos and people:
        raise UserError(
            f"{images} holds photos ({listed(photos)}) and profile folders ({listed(people)}): it is not clear which "
            "of them to predict. Move the photos away, or give --infer_data_dir a folder of one kind"
        )
    if photos:
        _check_names(images, photos)
        others += Counter({"folder": len(folders)})
        if images != folder:
            others += Counter({"beside": sum(map(profiles.is_image, _entries(folder)[0]))})
        return InferenceData(_plain_table([images / name for name in photos]), photos, None, others)
    if images != folder:
        where = f" but profile folders: give --infer_data_dir {images}" if people else ""
        raise UserError(f"{images} holds no images{where}{profiles.unread_hint(others)}")
    if not folders:
        what = f"no images/, no photos and no profile folders{profiles.unread_hint(others)}"
        raise UserError(f"infer_data_dir {folder} holds {what}")
    found, others_inside = profiles.find_photos(folder, folders)
    table = build_table(found, folder, cache_dir)
    ids = [f"{photo.profile}/{photo.file}" for photo in found]
    return InferenceData(table, ids, table_labels(table), others_inside + others)


def _plain_table(paths: Sequence[Path]) -> Dataset:
    from datasets import Dataset, Features, Image

    columns = {"image": [{"path": str(path), "bytes": None} for path in paths]}
    return Dataset.from_dict(columns, features=Features({"image": Image()}))


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the files of a folder, and of its folders that are not hidden, both sorted."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = [entry.name for entry in entries if entry.name not in set(folders)]
    return files, [name for name in folders if not name.startswith(".")]


def _is_profile(name: str) -> bool:
    try:
        return bool(profiles.parse_profile(name))
    except UserError:
        return False


def _check_names(folder: Path, names: Sequence[str]) -> None:
    problems = [f"{str(folder / name)!r} {problem}" for name in names if (problem := encoding_problem(name))]
    if problems:
        raise UserError(joined(problems, f"problems in {folder}"))


def _image_ids(info: Path, images: Path) -> list[str]:
    """Returns the ImageID column of info.csv. Raises UserError with every bad row."""
    if problem := file_problem(info):
        raise UserError(f"{info} {problem}")
    try:
        with info.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            lines = [(reader.line_num, row.get("ImageID")) for row in reader]
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
    problems = []
    present = set(os.listdir(images))
    seen: dict[str, int] = {}
    for line, name in lines:
        if not name or Path(name).name != name or name in (".", ".."):
            problems.append(f"line {line}: {name!r} is not the name of a file in images/")
            continue
        if name in seen:
            problems.append(f"line {line}: duplicate {name}, first in line {seen[name]}")
        elif name not in present:
            problems.append(f"line {line}: images/ has no {name!r}{_likest(name, present)}")
        seen.setdefault(name, line)
    if problems:
        raise UserError(joined([f"{info}, {problem}" for problem in problems], f"problems in {info}"))
    return list(seen)


def _likest(name: str, present: set[str]) -> str:
    if name.strip() in present:
        return f", but {name.strip()!r}, without blanks"
    bytes_before_unicode = os.fsdecode(name.encode("cp949", errors="replace"))
    return f", but one that {encoding_problem(bytes_before_unicode)}" if bytes_before_unicode in present else ""


DATASETS = {"CustomDatasetSplitByProfile": custom_dataset_split_by_profile}
