"""Profile folders and profile lists -> photos with labels; person-disjoint, stratified folds.

A profile is one person's folder, `id_gender_race_age`. Ids are not unique, so everything is keyed on the whole name.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskcls.errors import UserError, joined
from maskcls.labels import AGE_GROUPS, GENDERS, MASK_OF_STEM, age_group

IMAGE_EXTENSIONS = {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MAX_AGE = 120  # years


@dataclass(frozen=True)
class Photo:
    """One photo of one person, as its path says."""

    profile: str
    file: str  # name inside the profile folder
    stem: str  # mask1..mask5, incorrect_mask or normal
    mask: int
    gender: int
    age: int  # years
    race: str


@dataclass(frozen=True)
class Profile:
    """What a folder name says about a person."""

    name: str
    gender: int
    race: str
    age: int  # years


def is_image(file: str) -> bool:
    """Returns whether a file's name is that of a photo: not hidden, and with an image's extension."""
    return not file.startswith(".") and Path(file).suffix.lower() in IMAGE_EXTENSIONS


def parse_profile(name: str) -> Profile:
    """Returns what `id_gender_race_age` says. Raises UserError when it says something else."""
    parts = name.split("_")
    if len(parts) != 4 or not all(parts) or "/" in name or "\0" in name:
        raise UserError(f"{name!r} is not id_gender_race_age, for example 000001_female_Asian_45")
    _, gender, race, age = parts
    if gender not in GENDERS:
        raise UserError(f"{name!r}: gender {gender!r} is neither male nor female")
    if not is_age(age):
        raise UserError(f"{name!r}: age {age!r} is not a number of years from 0 to 120")
    return Profile(name, GENDERS.index(gender), race, int(age))


def is_age(text: str) -> bool:
    """Returns whether the text is a number of years from 0 to 120."""
    return re.fullmatch("[0-9]{1,3}", text) is not None and int(text) <= MAX_AGE


def read_profile_list(path: str | Path) -> list[str]:
    """Returns the folder names in a text file, one a line; blank lines, trailing blanks and CRLF do not matter.

    Raises UserError when the file is missing, unreadable or empty, or lists a name twice.
    """
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise UserError(f"profile list {path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise UserError(f"profile list {path} cannot be read as UTF-8 text: {error}") from None
    names = [name for name in names if name]
    if not names:
        raise UserError(f"profile list {path} is empty")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"profile list {path} names twice: {', '.join(twice)}")
    return names


def profile_folders(data_dir: str | Path) -> list[str]:
    """Returns the names of the folders of `data_dir` that are not hidden, sorted. Raises UserError without any."""
    try:
        names = sorted(
            entry.name for entry in os.scandir(data_dir) if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError:
        raise UserError(f"data_dir {data_dir} does not exist or cannot be read") from None
    if not names:
        raise UserError(f"data_dir {data_dir} holds no profile folders")
    return names


def find_photos(data_dir: str | Path, names: Sequence[str]) -> tuple[list[Photo], int]:
    """Returns the photos of the named profiles, sorted by profile and file, and the number of entries passed over.

    Passed over are hidden entries (`._mask1.jpg`, `.DS_Store`, `.ipynb_checkpoints`) and files that are not images by
    their extension. Raises UserError with every problem: a folder that is missing, empty, not called
    id_gender_race_age, or that holds an image whose name says no mask state, or two images of one stem.
    """
    if not Path(data_dir).is_dir():
        raise UserError(f"data_dir {data_dir} does not exist")
    photos: list[Photo] = []
    problems: list[str] = []
    num_passed_over = 0
    for name in sorted(names):
        try:
            profile = parse_profile(name)
            found, passed_over = _photos_of(Path(data_dir), profile)
        except UserError as error:
            problems.append(str(error))
        else:
            photos += found
            num_passed_over += passed_over
    if problems:
        raise UserError(joined(problems, f"problems in {data_dir}"))
    return photos, num_passed_over


def _photos_of(data_dir: Path, profile: Profile) -> tuple[list[Photo], int]:
    folder = data_dir / profile.name
    try:
        files = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        raise UserError(f"{profile.name} is listed, but {data_dir} has no such folder") from None
    images = [file for file in files if is_image(file)]
    if not images:
        raise UserError(f"profile {profile.name} has no photos")
    stems = [Path(file).stem for file in images]
    unknown = [file for file, stem in zip(images, stems, strict=True) if stem not in MASK_OF_STEM]
    if unknown:
        raise UserError(f"profile {profile.name} has {', '.join(unknown)}: a photo is called {', '.join(MASK_OF_STEM)}")
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(f"profile {profile.name} has several photos called {', '.join(twice)}")
    photos = [
        Photo(profile.name, file, stem, MASK_OF_STEM[stem], profile.gender, profile.age, profile.race)
        for file, stem in zip(images, stems, strict=True)
    ]
    return photos, len(files) - len(images)


def check_disjoint(train: Iterable[str], valid: Iterable[str]) -> None:
    """Raises UserError naming every person who is in both lists."""
    both = sorted(set(train) & set(valid))
    if both:
        raise UserError(f"{len(both)} people are in both the training and the validation list: {', '.join(both)}")


def split_by_person(people: Sequence[Profile], *, num_folds: int, fold: int, seed: int) -> tuple[list[str], list[str]]:
    """Returns (training, validation) names: validation is fold `fold`, with people of every gender and age group.

    Each of the six cells is shuffled by the seed and dealt to the folds in turn; every cell goes on where the last one
    stopped, so that folds differ by one person at most. Raises UserError when a cell has fewer people than folds.
    """
    cells: dict[tuple[int, int], list[str]] = defaultdict(list)
    for person in people:
        cells[person.gender, age_group(person.age)].append(person.name)
    small = [
        f"{GENDERS[gender]} {AGE_GROUPS[age]} has {len(names)}"
        for (gender, age), names in sorted(cells.items())
        if len(names) < num_folds
    ]
    if small:
        raise UserError(
            f"not enough people to deal every gender and age group to {num_folds} folds: {', '.join(small)}. "
            "Lower num_folds, or name the people in valid_profile"
        )
    random = np.random.Generator(np.random.Philox(key=[seed, 0x5917]))
    dealt = [name for _, names in sorted(cells.items()) for name in random.permutation(sorted(names)).tolist()]
    valid = set(dealt[fold::num_folds])
    return sorted(set(dealt) - valid), sorted(valid)
