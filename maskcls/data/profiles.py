"""Profile folders and profile lists -> photos with labels; person-disjoint, stratified folds.

A profile is one person's folder, `id_gender_race_age`. Ids are not unique, so everything is keyed on the whole name.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np

from maskcls.errors import UserError, joined, listed
from maskcls.labels import HEAD_CLASSES, OF_PERSON, STEMS, age_group
from maskcls.paths import encoding_problem, file_problem, folder_problem

IMAGE_EXTENSIONS = {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# Photos of kinds that are not read, told apart from what is no photo.
UNREAD_EXTENSIONS = {
    ".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".hif", ".jp2", ".jpe", ".jxl", ".nef", ".orf", ".pgm",
    ".ppm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga",
}  # fmt: skip
MAX_AGE = 120  # years


@dataclass(frozen=True)
class Profile:
    """What a folder name says about a person."""

    name: str
    labels: Mapping[str, int]  # of each attribute of the person
    race: str
    age: int  # years


@dataclass(frozen=True)
class NamedPeople:
    """Whose photos are asked for, before anybody has looked whether they are there."""

    train: list[str]
    valid: list[str]  # empty: they are drawn from the others
    places: Mapping[str, str]  # name -> where it is listed: "people.txt, line 3"


@dataclass(frozen=True)
class Photo:
    """One photo of one person, as its path says."""

    profile: str
    file: str  # name inside the profile folder
    labels: Mapping[str, int]  # of each attribute
    race: str
    age: int  # years

    @property
    def stem(self) -> str:
        """One of labels.STEMS."""
        return PurePath(self.file).stem

    @property
    def person(self) -> Profile:
        """What is known of the person."""
        return Profile(self.profile, {name: self.labels[name] for name in OF_PERSON}, self.race, self.age)


def is_image(file: str) -> bool:
    """Returns whether a file's name is that of a photo: not hidden, and with an image's extension."""
    return not file.startswith(".") and Path(file).suffix.lower() in IMAGE_EXTENSIONS


def ignored(files: Iterable[str]) -> Counter[str]:
    """Returns how many of the files are no photos by their names: extension (or "hidden") -> number."""
    others = [file for file in files if not is_image(file)]
    return Counter("hidden" if file.startswith(".") else Path(file).suffix.lower() for file in others)


def unread_kinds(kinds: Counter[str]) -> str:
    """Returns the kinds of photos that cannot be read among what was ignored: "9 .heic, 1 .dng", or nothing."""
    return listed(f"{count} {kind}" for kind, count in kinds.most_common() if kind in UNREAD_EXTENSIONS)


def unread_hint(kinds: Counter[str]) -> str:
    """Returns the end of a sentence about missing photos: that some lie there of kinds that cannot be read, if any."""
    unread = unread_kinds(kinds)
    return f" that can be read ({unread}): convert them to JPEG or PNG" if unread else ""


def parse_profile(name: str) -> Profile:
    """Returns what `id_gender_race_age` says. Raises UserError when it says something else."""
    if problem := encoding_problem(name):
        raise UserError(f"{name!r} {problem}")
    if name.splitlines() != [name] != [""] or name != name.strip():
        raise UserError(f"{name!r} holds a line break, or a blank at its ends: no profile list can name it, rename it")
    parts = name.split("_")
    if len(parts) != 4 or not all(parts) or "/" in name or "\0" in name:
        hint = " (there is no _ inside id, gender, race or age: South-Asian)" if len(parts) > 4 else ""
        raise UserError(f"{name!r} is not id_gender_race_age, for example 000001_female_Asian_45{hint}")
    _, gender, race, age = parts
    genders = HEAD_CLASSES["gender"]
    if gender not in genders:
        raise UserError(f"{name!r}: gender {gender!r} is neither {' nor '.join(genders)}")
    if not is_age(age):
        raise UserError(f"{name!r}: age {age!r} is not a number of years from 0 to 120")
    return Profile(name, {"gender": genders.index(gender), "age": age_group(int(age))}, race, int(age))


def is_age(text: str) -> bool:
    """Returns whether the text is a number of years from 0 to 120."""
    return re.fullmatch("[0-9]{1,3}", text) is not None and int(text) <= MAX_AGE


def profile_lines(path: str | Path) -> dict[str, str]:
    """Returns the folder names in a text file, one a line -> where they stand: "people.txt, line 3".

    Blank lines, blanks around a name and CRLF do not matter. Raises UserError when the file is missing, unreadable or
    empty, or lists a name twice.
    """
    if problem := file_problem(Path(path)):
        raise UserError(f"profile list {path} {problem}")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise UserError(f"profile list {path} cannot be read as UTF-8 text: {error}. Save it as UTF-8") from None
    lines = [(line.strip(), number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"profile list {path} is empty")
    twice = [name for name, count in Counter(name for name, _ in lines).items() if count > 1]
    if twice:
        raise UserError(f"profile list {path} has duplicates: {listed(twice)}")
    return {name: f"{path}, line {number}" for name, number in lines}


def named_people(data_dir: str | Path, train_profile: str | None, valid_profile: str | None) -> NamedPeople:
    """Returns whom two lists name. Without the first, all other folders of data_dir are for training.

    valid_profile "none" is no file: it says that nobody validates. Raises UserError as `profile_lines` and
    `profile_folders`.
    """
    lists = train_profile, None if valid_profile == "none" else valid_profile
    train, valid = (profile_lines(path) if path else {} for path in lists)
    names = list(train) or [name for name in profile_folders(data_dir) if name not in valid]
    return NamedPeople(names, list(valid), valid | train)


def profile_folders(data_dir: str | Path) -> list[str]:
    """Returns the names of the folders of `data_dir` that are not hidden, sorted.

    Raises UserError without any, and when not they but the folders in one of them are profiles: people name the parent.
    """
    if problem := folder_problem(Path(data_dir)):
        raise UserError(f"data_dir {data_dir} {problem}")
    names = sorted(entry.name for entry in os.scandir(data_dir) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UserError(f"data_dir {data_dir} holds no profile folders")
    if not any(map(is_profile, names)):
        for folder in (Path(data_dir, name) for name in names):
            if not folder_problem(folder) and any(map(is_profile, os.listdir(folder))):
                raise UserError(f"data_dir {data_dir} holds no profile folders, but {folder} does: name that")
    return names


def is_profile(name: str) -> bool:
    """Returns whether a folder's name says whose photos it holds."""
    try:
        parse_profile(name)
    except UserError:
        return False
    return True


def find_photos(
    data_dir: str | Path, names: Iterable[str], *, places: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Photo], Counter[str]]:
    """Returns the photos of the named profiles, sorted by profile and file, and what was ignored, see there.

    Ignored are hidden entries (`._mask1.jpg`, `.DS_Store`, `.ipynb_checkpoints`) and files that are not images by
    their extension. places: name -> where it is listed, for messages. Raises UserError with every problem: a folder
    that is missing, unreadable, empty, not called id_gender_race_age, or that holds an image whose name says no mask
    state, or two images of one stem.
    """
    if problem := folder_problem(Path(data_dir)) or encoding_problem(str(data_dir)):
        raise UserError(f"data_dir {data_dir} {problem}")
    photos: list[Photo] = []
    problems: list[str] = []
    others: Counter[str] = Counter()
    for name in sorted(names):
        try:
            profile = parse_profile(name)
            found, passed = _photos_of(Path(data_dir), profile)
        except UserError as error:
            problems.append(f"{places[name]}: {error}" if name in places else str(error))
        else:
            photos += found
            others += passed
    if problems:
        raise UserError(joined(problems, f"problems in {data_dir}"))
    return photos, others


def photo_files(data_dir: Path, name: str) -> tuple[list[str], Counter[str]]:
    """Returns the sorted photos of a profile's folder, and what is ignored. Raises UserError when it cannot be read."""
    folder = data_dir / name
    try:
        files = sorted(os.listdir(folder))
    except (OSError, ValueError):
        problem = folder_problem(folder)
        if problem == "does not exist":
            raise UserError(f"{name} is listed, but {data_dir} has no such folder") from None
        raise UserError(f"profile {name}: {folder} {problem}") from None
    return list(filter(is_image, files)), ignored(files)


def stem_problem(file: str) -> str | None:
    """Returns why an image's name says no mask state, with what is perhaps meant, or None."""
    stem = Path(file).stem
    if stem in STEMS:
        return None
    meant = {_letters(known): known for known in STEMS}.get(_letters(stem))
    hint = f". Rename it to {meant}{Path(file).suffix}" if meant else ""
    return f"a photo is called {', '.join(STEMS)}, exactly so{hint}"


def _letters(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())


def _photos_of(data_dir: Path, profile: Profile) -> tuple[list[Photo], Counter[str]]:
    images, others = photo_files(data_dir, profile.name)
    if not images:
        raise UserError(f"profile {profile.name} has no photos{unread_hint(others)}")
    unknown = [file for file in images if stem_problem(file)]
    if unknown:
        raise UserError(f"profile {profile.name} has {listed(map(_quoted, unknown))}: {stem_problem(unknown[0])}")
    stems = [Path(file).stem for file in images]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(f"profile {profile.name} has several photos called {listed(twice)}")
    photos = [
        Photo(profile.name, file, {**STEMS[stem], **profile.labels}, profile.race, profile.age)
        for file, stem in zip(images, stems, strict=True)
    ]
    return photos, others


def _quoted(name: str) -> str:
    """Returns a name as it is, or in quotes where it would be misread: blanks at its ends, other bytes than UTF-8."""
    return repr(name) if encoding_problem(name) or Path(name).stem != Path(name).stem.strip() else name


def check_disjoint(train: Iterable[str], valid: Iterable[str]) -> None:
    """Raises UserError naming every person who is in both lists."""
    both = sorted(set(train) & set(valid))
    if both:
        raise UserError(f"{len(both)} people are in both the training and the validation list: {listed(both)}")


def people_of_fold(people: Iterable[Profile], *, num_folds: int, fold: int, seed: int) -> list[str]:
    """Returns the names of the people who validate in fold `fold`, some of every gender and age group.

    Each of these cells is shuffled by the seed and dealt to the folds in turn; every cell goes on where the last one
    stopped, so that folds differ by one person at most. Raises UserError when a cell has fewer people than folds.
    """
    cells: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for person in people:
        cells[tuple(person.labels.values())].append(person.name)
    small = [f"{cell_name(cell)} has {len(names)}" for cell, names in sorted(cells.items()) if len(names) < num_folds]
    if small:
        raise UserError(
            f"not enough people to deal every gender and age group to {num_folds} folds: {', '.join(small)}. "
            "Lower num_folds, or name the people in valid_profile"
        )
    random = np.random.Generator(np.random.Philox(key=[seed, 0x5917]))
    dealt = [name for _, names in sorted(cells.items()) for name in random.permutation(sorted(names)).tolist()]
    return sorted(dealt[fold::num_folds])


def cell_name(labels: Iterable[int]) -> str:
    """Returns the name of the people with these labels of the person's attributes: female 30-59."""
    return " ".join(HEAD_CLASSES[name][label] for name, label in zip(OF_PERSON, labels, strict=True))
