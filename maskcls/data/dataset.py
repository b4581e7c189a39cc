"""Photos -> datasets.Dataset (Image and ClassLabel columns), split by person.

The table holds paths, not pixels: `push_to_hub` and `save_to_disk` embed the files, training maps them to memory
(pixel_cache.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow
from datasets import ClassLabel, Dataset, Features, Image, Value
from torch import Tensor

from maskcls import labels
from maskcls.data import profiles
from maskcls.data.label_fixes import CorrectedPhotos, correct_labels
from maskcls.data.pixels import Pixels
from maskcls.errors import UserError, reason_of


@dataclass(frozen=True)
class ProfileSource:
    """Where the people are, and who validates."""

    data_dir: str
    train_profile: str | None
    valid_profile: str | None  # a list; None: one fold of the people; "none": nobody
    num_folds: int
    fold: int
    seed_of_folds: int
    label_fixes: str | None = None  # CSV of corrected labels


@dataclass(frozen=True)
class Photos:
    """Photos in an order: rows of a table that says what is known of each, and the reader of their pixels."""

    table: Dataset
    rows: np.ndarray  # (N,) int64 of the table, by position
    reader: Pixels | None = None  # of the table's pixels; None: they have not been opened

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_labels(self) -> bool:
        """Whether it is known who is seen on the photos."""
        return "profile" in self.table.column_names

    @cached_property
    def labels(self) -> np.ndarray:
        """The truth, (N, attributes) int64: the label of each attribute."""
        columns = [self.column(attribute.column) for attribute in labels.ATTRIBUTES.values()]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def people(self) -> list[str]:
        """The profiles that the photos belong to, sorted."""
        return sorted(set(self.column("profile").tolist()))

    def column(self, name: str) -> np.ndarray:
        """Returns what a column of the table (not that of the pictures) says of each photo, (N,)."""
        return np.asarray(self.table[name])[self.rows]

    def pixels(self, positions: np.ndarray) -> Tensor:
        """Returns the stored pixels of photos by their position, (B, H', W', 3) uint8. Raises BadPhotos."""
        assert self.reader is not None, "the pixels have not been opened"
        return self.reader(self.rows[positions])


@dataclass(frozen=True)
class FaceData:
    """The photos of both splits, which share no person, and what was found while they were listed and decoded."""

    train: Photos
    valid: Photos  # none where nobody validates
    ignored: Counter[str]  # entries of the folders that are not photos, see profiles.ignored
    corrected: CorrectedPhotos | None  # by label_fixes, in both splits
    of_one_colour: Sequence[str] = ()  # paths of photos that show nothing, where all have been decoded

    @property
    def table(self) -> Dataset:
        """The one table of both splits."""
        return self.train.table

    @cached_property
    def key(self) -> str:
        """16 hex digits that stand for the photos of both splits, in order, their labels and their sizes in bytes."""
        columns = (self.table[name] for name in ("profile", "stem", "size"))  # not the time: copies have another
        everybody = Photos(self.table, np.arange(len(self.table)))
        photos = list(zip(*columns, everybody.labels.tolist(), strict=True))
        return content_key(photos, self.train.rows.tolist(), self.valid.rows.tolist())

    def opened(self, reader: Pixels, *, of_one_colour: Sequence[str] = ()) -> FaceData:
        """Returns the same photos with the reader of their pixels."""
        train, valid = replace(self.train, reader=reader), replace(self.valid, reader=reader)
        return replace(self, train=train, valid=valid, of_one_colour=of_one_colour)


def custom_dataset_split_by_profile(source: ProfileSource) -> FaceData:
    """Returns the photos of the listed profiles, split by person as the lists say, or by one stratified fold.

    Where nobody validates, all of them train.

    Labels are those of label_fixes where it says something, also for the folds. Raises UserError as profiles.py and
    label_fixes.py do: missing, unreadable or duplicate names, a person in both lists, too few people, bad corrections.
    """
    named = profiles.named_people(source.data_dir, source.train_profile, source.valid_profile)
    profiles.check_disjoint(named.train, named.valid)
    names = [*named.train, *named.valid]
    photos, ignored = profiles.find_photos(source.data_dir, names, places=named.places)
    corrected = None
    if source.label_fixes:
        corrected = correct_labels(photos, source.label_fixes, profiles.profile_folders(source.data_dir))
        photos = corrected.photos
    valid = named.valid
    if source.valid_profile is None:
        people = {photo.profile: photo.person for photo in photos}  # as corrected
        valid = profiles.people_of_fold(
            people.values(), num_folds=source.num_folds, fold=source.fold, seed=source.seed_of_folds
        )
    is_valid = np.isin([photo.profile for photo in photos], valid)
    table = build_table(photos, source.data_dir)
    training, validation = (Photos(table, np.flatnonzero(is_in)) for is_in in (~is_valid, is_valid))
    return FaceData(training, validation, ignored, corrected)


def features() -> Features:
    """Returns the columns of the table."""
    columns = {
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
    }
    return Features(columns)


def build_table(photos: Sequence[profiles.Photo], data_dir: str | Path) -> Dataset:
    """Returns the table of the photos. Raises UserError when one of them is gone."""
    paths = [os.path.abspath(Path(data_dir, photo.profile, photo.file)) for photo in photos]
    try:
        stats = [os.stat(path) for path in paths]
    except OSError as error:
        raise UserError(f"photo {error.filename} cannot be read: {reason_of(error)}") from None
    columns = {
        "image": [{"path": path, "bytes": None} for path in paths],
        **{a.column: [photo.labels[a.name] for photo in photos] for a in labels.ATTRIBUTES.values()},
        "class": [labels.class_of(photo.labels) for photo in photos],
        "path": paths,
        "size": [stat.st_size for stat in stats],
        "mtime_ns": [stat.st_mtime_ns for stat in stats],
        **{name: [getattr(photo, name) for photo in photos] for name in ("profile", "stem", "age", "race")},
    }
    known = features()  # at once into Arrow: datasets would encode row by row
    return Dataset(pyarrow.table({name: columns[name] for name in known}, schema=known.arrow_schema))


def content_key(*parts: object) -> str:
    """Returns 16 hex digits that stand for the parts' content (anything that JSON can hold)."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


DATASETS = {"CustomDatasetSplitByProfile": custom_dataset_split_by_profile}
