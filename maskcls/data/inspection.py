"""Looks into profile folders and photos before a training run and reports all that is wrong or odd; changes nothing.

The rules of names and folders are profiles.py's. That raises on what stops a training; here every problem is a finding,
and the rest is still looked at.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from PIL import Image

from maskcls.data import profiles
from maskcls.data.loader import map_ahead
from maskcls.data.photo import PhotoError, decoded, is_on_its_side, opened, orientation
from maskcls.data.profiles import NamedPeople
from maskcls.errors import UserError, listed, reason_of
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, STEMS, class_of, classes_of_people
from maskcls.paths import encoding_problem, folder_problem
from maskcls.tables import write_table

SEVERITIES = ("error", "warning", "note")
# With fewer people one person is more than a tenth of a group's score: a person's photos are right or wrong together.
MIN_PEOPLE = 10
MIN_PIXELS = 32  # of the shorter side
USUAL_COUNTS = Counter(ATTRIBUTES["mask"].stems.values())  # photos of one person in each mask state: 5, 1, 1
# Two photos look the same when their hashes differ in at most MAX_BITS of 64 and their thumbnails correlate by at least
# MIN_CORRELATION. The hash alone will not do, for portraits are alike: of 18,900 drawn (9,240 real) photos 7,705 (84)
# pairs of different people lie within 6 bits and 92 (0) within 2; the likest correlate by 0.977 (0.908). A photo saved
# again, at JPEG quality 25, in grey, at half or double size, stays within 4 bits and above 0.998. One made brighter by
# 15 % is found 96 times in 100; one cropped by 2 % on each side is not.
MAX_BITS = 6
MIN_CORRELATION = 0.99
THUMBNAIL = 32  # pixels of each side


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in the form of a row of the report."""

    severity: str  # error: training would stop or be wrong; warning: should be looked at; note
    kind: str  # one short word for all findings of this kind
    text: str  # one sentence
    profile: str = ""  # empty: it is about all photos
    file: str = ""  # name inside the profile folder; empty: it is about the whole profile


@dataclass(frozen=True)
class _Seen:
    profile: str
    file: str
    digest: bytes = b""
    format: str = ""  # Pillow's name; empty: the header cannot be read
    size: tuple[int, int] = (0, 0)  # width and height in pixels, as the photo is meant to be seen
    mode: str = ""
    is_turned: bool = False  # by its EXIF orientation
    is_one_colour: bool = False
    thumbnail: np.ndarray | None = None  # (THUMBNAIL, THUMBNAIL) uint8, grey
    problem: str = ""

    @property
    def path(self) -> str:
        return f"{self.profile}/{self.file}"


def inspect_profiles(
    data_dir: str | Path, people: NamedPeople, *, decode: bool, num_threads: int, progress: Callable[[int], object]
) -> list[Finding]:
    """Returns what was found in the profiles of people and in their photos, the worst first.

    decode: decode every photo in full; otherwise JPEGs smaller. Either finds files that end too early. progress is
    called with 1 for every photo that was read.
    """
    train, valid, places = people.train, people.valid, people.places
    findings = list(_in_both_lists(train, valid))
    if problem := folder_problem(Path(data_dir)) or encoding_problem(str(data_dir)):
        return [Finding("error", "missing", f"data_dir {data_dir} {problem}"), *findings]
    files: list[tuple[str, str]] = []
    others: Counter[str] = Counter()
    for name in sorted({*train, *valid}):
        where = f"{places[name]}: " if name in places else ""
        try:
            images, others_here = profiles.photo_files(Path(data_dir), name)
        except UserError as error:
            findings.append(Finding("error", "missing", f"{where}{error}", profile=name))
            continue
        findings += _in_folder(name, images, profiles.unread_kinds(others_here), where)
        files += [(name, image) for image in images]
        others += others_here

    photos = []
    look = partial(_looked_at, Path(data_dir), decode=decode)
    for photo in map_ahead(look, files, num_threads=num_threads, ahead=256):
        photos.append(photo)
        findings += _in_photo(photo)
        progress(1)

    readable = [photo for photo in photos if photo.format]
    lists = {name: {"train"} for name in train}
    for name in valid:
        lists[name] = lists.get(name, set()) | {"valid"}
    findings += _duplicates(readable, lists)
    findings += _near_duplicates(readable, lists)
    findings += [*_tiny_groups("train", train, photos), *(_tiny_groups("valid", valid, photos) if valid else ())]
    findings += _counted(readable, others)
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.profile, f.file))


def save_findings(findings: Sequence[Finding], path: str | Path) -> None:
    """Writes a CSV, one row a finding: severity, kind, profile, file, text. Raises UserError when it cannot."""
    columns = ("severity", "kind", "profile", "file", "text")
    write_table(Path(path), columns, map(attrgetter(*columns), findings), overwrites=True)


# Lists and folders


def _in_both_lists(train: Sequence[str], valid: Sequence[str]) -> Iterator[Finding]:
    training, names_of_id = set(train), defaultdict(list)
    for name in sorted(training):
        names_of_id[name.partition("_")[0]].append(name)
    for name in sorted(set(valid)):
        if name in training:
            yield Finding("error", "leak", "in both the training and the validation list", profile=name)
        others = [other for other in names_of_id[name.partition("_")[0]] if other != name]
        if others:
            text = f"validates, and the training list has this id as {listed(others)}: is that the same person?"
            yield Finding("warning", "same_id", text, profile=name)


def _in_folder(name: str, images: list[str], unread: str, where: str) -> Iterator[Finding]:
    found = partial(Finding, profile=name)
    try:
        profiles.parse_profile(name)
    except UserError as error:
        yield found("error", "name", f"{where}{error}")
    if unread:
        text = f"photos of a kind that cannot be read are left out: {unread}. Convert them to JPEG or PNG"
        yield found("warning", "unread_kind", text)
    if not images:
        yield found("error", "empty", "the folder has no photos")
        return
    stems = Counter(Path(image).stem for image in images)
    for image in images:
        stem = Path(image).stem
        if problem := profiles.stem_problem(image):
            yield found("error", "stem", problem, file=image)
        elif stems[stem] > 1:
            yield found("error", "stem_duplicate", f"one of {stems[stem]} photos called {stem}", file=image)
    counts, states = Counter(STEMS[stem]["mask"] for stem in stems.elements() if stem in STEMS), HEAD_CLASSES["mask"]
    if counts != USUAL_COUNTS:
        has, usual = (", ".join(f"{c[mask]} {states[mask]}" for mask in USUAL_COUNTS) for c in (counts, USUAL_COUNTS))
        yield found("warning", "stem_count", f"photos by mask state: {has}; usual are {usual}")


def _tiny_groups(split: str, names: Sequence[str], photos: list[_Seen]) -> Iterator[Finding]:
    """Yields one finding: the gender x age cells of a split with few people, and such classes of the other cells."""
    parsed = {name: profiles.parse_profile(name) for name in names if profiles.is_profile(name)}
    people: dict[int, set[str]] = defaultdict(set)  # of each class
    for photo in photos:
        profile, of_photo = parsed.get(photo.profile), STEMS.get(Path(photo.file).stem)
        if profile is not None and of_photo is not None:
            people[class_of({**of_photo, **profile.labels})].add(photo.profile)
    small = []
    for cell, codes in classes_of_people().items():
        num_people = len(set().union(*(people[code] for code in codes)))
        if num_people < MIN_PEOPLE:
            small.append(f"{profiles.cell_name(cell)} has {num_people}")
        else:
            names_of = HEAD_CLASSES["class"]
            small += [f"{names_of[code]} has {len(people[code])}" for code in codes if len(people[code]) < MIN_PEOPLE]
    about = {"train": "training groups: hard to learn", "valid": "validation groups: their scores are uncertain"}[split]
    if small:
        yield Finding("warning", "tiny_group", f"fewer than {MIN_PEOPLE} people in {about}: {'; '.join(small)}")


# Photos one by one


def _looked_at(data_dir: Path, profile_and_file: tuple[str, str], *, decode: bool) -> _Seen:
    photo = _Seen(*profile_and_file)
    try:
        content = (data_dir / photo.profile / photo.file).read_bytes()
        with opened(io.BytesIO(content)) as image:
            digest = hashlib.blake2b(content, digest_size=16).digest()
            photo = replace(photo, digest=digest, format=str(image.format), size=image.size, mode=image.mode)
            # What follows may break: EXIF may lie behind a PNG's pixels.
            size = image.size[::-1] if is_on_its_side(image) else image.size
            photo = replace(photo, size=size, is_turned=orientation(image) in range(2, 9))
            picture = decoded(image, least=None if decode else (2 * THUMBNAIL, 2 * THUMBNAIL))
    except OSError as error:
        return replace(photo, problem=reason_of(error))
    except PhotoError as error:
        return replace(photo, problem=str(error))
    thumbnail = np.asarray(picture.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR))
    is_one_colour = not np.ptp(thumbnail) and not np.ptp(np.asarray(picture), axis=(0, 1)).any()
    return replace(photo, thumbnail=thumbnail, is_one_colour=is_one_colour)


def _in_photo(photo: _Seen) -> Iterator[Finding]:
    found = partial(Finding, profile=photo.profile, file=photo.file)
    if not photo.format:
        yield found("error", "unreadable", f"cannot be read: {photo.problem}")
        return
    if photo.problem:
        yield found("error", "broken", f"cannot be decoded: {photo.problem}")
    suffix = Path(photo.file).suffix.lower()
    # A JPEG of several pictures, as some phones write, is Pillow's MPO.
    if photo.format.replace("MPO", "JPEG") != Image.registered_extensions().get(suffix):
        yield found("note", "extension", f"a {photo.format} file, though it is called {suffix}")
    if photo.is_one_colour:
        yield found("warning", "one_colour", "shows nothing: all its pixels have the same colour")
    if photo.mode == "CMYK":
        yield found("warning", "cmyk", "has the colours of a printer, CMYK: look whether they come out right")


def _counted(photos: list[_Seen], others: Counter[str]) -> list[Finding]:
    """Returns notes about all readable photos together."""
    tiny = [photo.path for photo in photos if min(photo.size) < MIN_PIXELS]
    turned = [photo.path for photo in photos if photo.is_turned]
    shapes = Counter(round(photo.size[0] / photo.size[1], 2) for photo in photos)
    modes = Counter(photo.mode for photo in photos if photo.mode not in ("RGB", "CMYK"))
    texts = {}
    if others:
        kinds = listed(f"{count} {kind or 'without extension'}" for kind, count in others.most_common())
        texts["ignored"] = f"entries ignored (hidden, or not images by their extension): {kinds}"
    if tiny:
        texts["tiny"] = f"photos less than {MIN_PIXELS} pixels wide or high: {len(tiny)}, for example {tiny[0]}"
    if turned:
        texts["turned"] = f"photos turned or mirrored by their EXIF orientation: {len(turned)}, for example {turned[0]}"
    if len(shapes) > 1:
        common = ", ".join(f"{shape:g} ({count})" for shape, count in shapes.most_common(3))
        texts["shapes"] = f"photos of {len(shapes)} shapes; width / height is most often {common}"
    if modes:
        named = ", ".join(f"{mode} ({count})" for mode, count in modes.most_common())
        texts["mode"] = f"photos that are converted to RGB, by mode: {named}"
    return [Finding("note", kind, text) for kind, text in texts.items()]


# Photos compared


def _duplicates(photos: list[_Seen], lists: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Yields one finding for every group of photos with the same bytes."""
    groups = defaultdict(list)
    for photo in photos:
        groups[photo.digest].append(photo)
    for group in groups.values():
        if len(group) == 1:
            continue
        people = {photo.profile for photo in group}
        is_leak = len(people) > 1 and len(set().union(*(lists[name] for name in people))) > 1
        photo = next((photo for photo in group if "valid" in lists[photo.profile]), group[0])
        others = [other.path for other in group if other is not photo]
        severity, kind = ("error", "leak") if is_leak else ("warning", "duplicate")
        where = ", in both the training and the validation list" if is_leak else ""
        text = f"the same bytes as {listed(others)}{where}"
        yield Finding(severity, kind, text, profile=photo.profile, file=photo.file)


def _near_duplicates(photos: list[_Seen], lists: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Yields one finding for every photo that looks like an earlier one of another person, without equal bytes."""
    distinct = list({photo.digest: photo for photo in reversed(photos) if photo.thumbnail is not None}.values())[::-1]
    likest: dict[int, tuple[bool, int]] = {}
    for i, j in _alike(distinct):
        crosses = len(lists[distinct[i].profile] | lists[distinct[j].profile]) > 1
        likest[j] = max(likest.get(j, (False, -1)), (crosses, i))
    for j, (crosses, i) in likest.items():
        text = f"looks the same as {distinct[i].path}" + (", training and validation" if crosses else "")
        yield Finding("warning", "near_duplicate", text, profile=distinct[j].profile, file=distinct[j].file)


def _alike(photos: list[_Seen]) -> Iterator[tuple[int, int]]:
    """Yields i < j of photos of different people that look the same.

    The 64 bits say which of the lowest frequencies are above their median. Source: Krawetz, "Looks Like It" (pHash),
    hackerfactor.com, 2011, there above the mean; the median is the ImageHash library's. To compare the thumbnails too
    is ours.
    """
    if not photos:
        return
    thumbnails = np.stack([photo.thumbnail for photo in photos if photo.thumbnail is not None]).astype(np.float32)
    people = np.unique([photo.profile for photo in photos], return_inverse=True)[1]
    waves = np.cos(np.pi / THUMBNAIL * (np.arange(THUMBNAIL) + 0.5) * np.arange(8)[:, None]).astype(np.float32)
    frequencies = (waves @ thumbnails @ waves.T).reshape(-1, 64)  # the lowest of the DCT-II
    is_above = frequencies > np.median(frequencies, axis=1, keepdims=True)
    hashes = np.packbits(is_above, axis=1).view(np.uint64)[:, 0]
    pattern = thumbnails.reshape(len(photos), -1)
    pattern -= pattern.mean(axis=1, keepdims=True)
    pattern /= np.maximum(np.linalg.norm(pattern, axis=1, keepdims=True), 1)  # a photo of one colour is like no other
    for i in range(len(photos)):  # row by row: a matrix of all pairs takes gigabytes
        near = i + 1 + np.flatnonzero(np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= MAX_BITS)
        near = near[people[near] != people[i]]
        for j in near[pattern[near] @ pattern[i] >= MIN_CORRELATION].tolist():
            yield i, j
