"""Writes drawn sample data in the layout of the real one, so that everything can be tried without photos of people.

What goes where belongs here; how a face looks is in `photo.py`.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from maskcls.errors import UserError
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, age_group, class_of
from maskcls.labels import STEMS as LABELS_OF_STEM
from maskcls.sample.people import Person, make_person
from maskcls.sample.photo import draw_photos, make_noise

STEMS = tuple(ATTRIBUTES["mask"].stems)
_EXTENSIONS = {".jpg": 0.83, ".jpeg": 0.08, ".JPG": 0.08, ".png": 0.01}  # shares; a PNG takes 40 times a JPEG's time
_CELLS = tuple(product(HEAD_CLASSES["gender"], range(len(HEAD_CLASSES["age"]))))
# First key of the random generators, one for each purpose: what a person looks like depends on nothing else.
_PROFILES, _EVALUATION, _SPLIT, _SHUFFLE, _NOISE = range(5)


@dataclass(frozen=True)
class SampleDataSummary:
    """How much was written, and where the things lie that a config names."""

    num_train_people: int
    num_valid_people: int
    num_eval_people: int
    num_profile_photos: int
    num_eval_photos: int
    images: Path
    train_profile: Path
    valid_profile: Path
    eval_directory: Path
    eval_truth: Path


def write_sample_data(
    directory: Path, *, num_people: int, seed: int, num_eval_people: int | None = None
) -> SampleDataSummary:
    """Draws people and writes their photos, the two profile lists and an evaluation set; returns what was written.

    num_people: in the two lists together, 7 photos each; they are spread evenly over gender x age group, and a fifth of
    them (at least one, when there are two or more) is for validation. num_eval_people: others, for the evaluation set;
    None: `num_people // 5`, at least 1. The bytes depend only on the arguments, and a person's photos only on the seed
    and the person's number.

    Raises UserError when a number is too small, or when the directory, which is made when it is missing, has an
    `images` folder already. Raises OSError when it cannot be written.
    """
    num_eval_people = max(1, num_people // 5) if num_eval_people is None else num_eval_people
    _check(directory, num_people=num_people, num_eval_people=num_eval_people, seed=seed)
    noise = make_noise(np.random.default_rng([seed, _NOISE]))

    profiles = [_write_profile(directory / "images", number, seed, noise) for number in range(num_people)]
    train, valid = _split(num_people, seed)
    train_profile, valid_profile = directory / "train_profiles.txt", directory / "valid_profiles.txt"
    for path, numbers in ((train_profile, train), (valid_profile, valid)):
        path.write_text("".join(f"{profiles[number]}\n" for number in numbers), encoding="utf-8", newline="\n")
    _write_junk(directory / "images", profiles)

    answers = []
    for number in range(num_eval_people):
        answers += _write_eval_person(directory / "eval/images", number, seed, noise)
    order = np.random.default_rng([seed, _SHUFFLE]).permutation(len(answers))
    _write_answers(directory / "eval_truth.csv", [answers[row] for row in order])
    _write_answers(directory / "eval/info.csv", [(answers[row][0], 0) for row in order])
    return SampleDataSummary(
        num_train_people=len(train),
        num_valid_people=len(valid),
        num_eval_people=num_eval_people,
        num_profile_photos=len(profiles) * len(STEMS),
        num_eval_photos=len(answers),
        images=directory / "images",
        train_profile=train_profile,
        valid_profile=valid_profile,
        eval_directory=directory / "eval",
        eval_truth=directory / "eval_truth.csv",
    )


def _check(directory: Path, *, num_people: int, num_eval_people: int, seed: int) -> None:
    for name, value in (("people", num_people), ("evaluation people", num_eval_people)):
        if value < 1:
            raise UserError(f"the number of {name} must be at least 1, not {value}")
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    if (directory / "images").exists():
        raise UserError(f"{directory / 'images'} exists already: name another folder, or delete that one first")
    (directory / "images").mkdir(parents=True)
    (directory / "eval/images").mkdir(parents=True, exist_ok=True)


def _drawn(
    number: int, purpose: int, seed: int, noise: np.ndarray
) -> tuple[Person, dict[str, Image.Image], np.random.Generator]:
    """Returns a person, their photos by stem, and the generator for what their files are like."""
    generator = np.random.default_rng([seed, purpose, number])
    person = make_person(*_CELLS[number % len(_CELLS)], generator)
    return person, dict(zip(STEMS, draw_photos(person, STEMS, noise, generator), strict=True)), generator


def _write_profile(images: Path, number: int, seed: int, noise: np.ndarray) -> str:
    """Writes the photos of a person and returns the folder's name."""
    person, photos, generator = _drawn(number, _PROFILES, seed, noise)
    name = f"{number + 1:06d}_{person.gender}_{person.race}_{person.age}"
    (images / name).mkdir()
    for stem, photo in photos.items():
        extension = generator.choice(list(_EXTENSIONS), p=list(_EXTENSIONS.values()))
        _save(photo, images / name / f"{stem}{extension}", generator)
    return name


def _write_eval_person(images: Path, number: int, seed: int, noise: np.ndarray) -> list[tuple[str, int]]:
    """Writes the photos of an evaluation person and returns (file name, class) for each."""
    person, photos, generator = _drawn(number, _EVALUATION, seed, noise)
    answers = []
    for stem, photo in photos.items():
        name = hashlib.sha1(f"{seed} {number} {stem}".encode()).hexdigest() + ".jpg"
        _save(photo, images / name, generator)
        said = {"gender": HEAD_CLASSES["gender"].index(person.gender), "age": age_group(person.age)}
        answers.append((name, class_of({**LABELS_OF_STEM[stem], **said})))
    return answers


def _save(photo: Image.Image, path: Path, generator: np.random.Generator) -> None:
    quality = int(generator.integers(55, 96))
    if path.suffix == ".png":
        photo.save(path, compress_level=1)
    else:
        photo.save(path, format="JPEG", quality=quality)


def _split(num_people: int, seed: int) -> tuple[list[int], list[int]]:
    """Returns the numbers of the people for training and for validation, both even over gender x age group."""
    order = np.random.default_rng([seed, _SPLIT]).permutation(num_people).tolist()
    seen: Counter[int] = Counter()
    turns = {}
    for number in order:
        seen[number % len(_CELLS)] += 1
        turns[number] = seen[number % len(_CELLS)]
    # The first of every cell, then the second of every cell: any beginning of this is even over the cells.
    dealt = sorted(order, key=turns.__getitem__)
    num_valid = max(1, round(num_people / 5)) if num_people > 1 else 0
    return sorted(dealt[num_valid:]), sorted(dealt[:num_valid])


def _write_junk(images: Path, profiles: list[str]) -> None:
    """Leaves what file managers and notebooks leave in real folders; a reader has to skip it."""
    (images / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (images / ".ipynb_checkpoints").mkdir()
    for profile in profiles[::10]:
        (images / profile / "._mask1.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")


def _write_answers(path: Path, rows: list[tuple[str, int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("ImageID", "ans"), *rows])
