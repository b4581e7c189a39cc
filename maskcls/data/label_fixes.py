"""Corrected labels: a CSV that says what is true where folder and file names are wrong.

Its columns are profile, stem, mask, gender and age; other columns are ignored, so that a table of suspects can be
read as it is. It is applied to the photos before anything looks at their labels: folds, counts, training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskcls.data.profiles import MAX_AGE, Photo, is_age
from maskcls.errors import UserError, did_you_mean, joined, listed, shortened
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PERSON, STEMS, age_group
from maskcls.tables import read_table, unshielded

COLUMNS = ("profile", "stem", *ATTRIBUTES)


@dataclass(frozen=True)
class LabelFix:
    """One row: the true labels of a person's photos."""

    line: int
    profile: str  # whole folder name, or its id part
    stem: str  # empty: every photo of the person
    values: dict[str, str]  # of each attribute as it is written; only those that are given


@dataclass(frozen=True)
class CorrectedPhotos:
    """The photos with their true labels, and what that changed."""

    photos: list[Photo]
    changed: list[str]  # the profile of each photo of which something is another one now
    num_rows: int
    num_unmatched_rows: int  # about people without a folder


def correct_labels(photos: Sequence[Photo], path: str | Path, folders: Sequence[str]) -> CorrectedPhotos:
    """Returns the photos with the labels of the CSV `path` where it says something; `folders`: all of data_dir.

    A row about a person without a folder is counted; one about a folder whose photos are not asked for does nothing.
    Raises UserError with every problem: unreadable, missing columns, bad values, an id that several folders have, a
    photo that the person lacks, rows that contradict each other, a gender or age for only some photos of a person; or
    when no row is about any of the folders.
    """
    fixes, problems = _read(Path(path))
    folders_of: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        folders_of[folder.split("_")[0]].append(folder)
    folders_of |= {folder: [folder] for folder in folders}
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, photo in enumerate(photos):
        rows_of[photo.profile].append(row)

    said: dict[int, dict[str, LabelFix]] = defaultdict(dict)  # row -> attribute -> the fix that speaks about it
    num_unmatched = 0
    for fix in fixes:
        people = folders_of.get(fix.profile, [])
        if len(people) > 1:
            named = " or ".join(shortened(people))
            problems.append(f"line {fix.line}: {fix.profile} may be {named}: write the whole folder name")
        elif people:
            siblings = rows_of.get(people[0], [])
            rows = [row for row in siblings if fix.stem in ("", photos[row].stem)]
            if siblings and not rows:
                stems = ", ".join(photos[row].stem for row in siblings)
                problems.append(f"line {fix.line}: {people[0]} has no photo {fix.stem}; it has {stems}")
            problems += [problem for row in rows for problem in _say(said[row], fix, people[0])]
        else:
            num_unmatched += 1
    corrected = [_corrected(photo, said.get(row, {})) for row, photo in enumerate(photos)]
    for person in sorted({photos[row].profile for row in said}):
        if len({(*corrected[row].person.labels.values(), corrected[row].age) for row in rows_of[person]}) > 1:
            speakers = {said[row][name].line for row in rows_of[person] for name in said[row] if name in OF_PERSON}
            problems.append(
                f"line {listed(sorted(speakers))}: {' or '.join(OF_PERSON)} of only some photos of {person}, "
                f"but a person has one {' and one '.join(OF_PERSON)}: leave stem empty"
            )
    if problems:
        # Two rows about all photos of a person contradict each other at each of them: that is one problem.
        once = dict.fromkeys(f"{path}, {problem}" for problem in problems)
        raise UserError(joined(list(once), f"problems in {path}"))
    if num_unmatched == len(fixes):
        near = did_you_mean(fixes[0].profile, list(folders_of))
        raise UserError(
            f"none of the {len(fixes)} rows of {path} is about a folder of data_dir, the first is about "
            f"{fixes[0].profile!r}.{near} Give label_fixes a CSV about these people, or set it to null"
        )
    changed = [after.profile for before, after in zip(photos, corrected, strict=True) if before != after]
    return CorrectedPhotos(corrected, changed, len(fixes), num_unmatched)


def _say(said: dict[str, LabelFix], fix: LabelFix, person: str) -> Iterator[str]:
    """Adds what a fix says about a person's photo to what is said of it already, and yields the contradictions."""
    for attribute, text in fix.values.items():
        earlier = said.setdefault(attribute, fix)
        if text != (other := earlier.values[attribute]):
            yield f"line {fix.line}: {attribute} of {person} is {text}, but {other} in line {earlier.line}"


def _corrected(photo: Photo, said: Mapping[str, LabelFix]) -> Photo:
    texts = {attribute: fix.values[attribute] for attribute, fix in said.items()}
    age = _years(texts.get("age", str(photo.age)), photo.age)
    labels = {name: HEAD_CLASSES[name].index(text) for name, text in texts.items() if name != "age"}
    return replace(photo, labels={**photo.labels, **labels, "age": age_group(age)}, age=age)


def _years(text: str, age: int) -> int:
    """Returns what is written of an age: of an age group, the year that is nearest to `age`."""
    if is_age(text):
        return int(text)
    years = [year for year in range(MAX_AGE + 1) if HEAD_CLASSES["age"][age_group(year)] == text]
    return min(years, key=lambda year: abs(year - age))


def _read(path: Path) -> tuple[list[LabelFix], list[str]]:
    """Returns the well-formed rows and the problems of the others. Raises UserError when it is no such table."""
    table = read_table(path, f"label_fixes {path}")
    lines = [(line, [unshielded(cell.strip()) for cell in cells]) for line, cells in table]
    header = lines[0][1] if lines else []
    if wrong := [column for column in COLUMNS if header.count(column) != 1]:
        raise UserError(
            f"{path} needs the columns {', '.join(COLUMNS)}, each once; not so {', '.join(wrong)}. "
            f"Its first line has {listed(header) or 'nothing'}"
        )
    if len(lines) == 1:
        raise UserError(f"{path} has no rows")
    fixes, problems = [], []
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            problems.append(f"line {line}: {len(cells)} cells, but the header has {len(header)}")
            continue
        row = dict(zip(header, cells, strict=True))
        if found := [f"line {line}: {problem}" for problem in _problems(row)]:
            problems += found
        else:
            given = {attribute: row[attribute] for attribute in ATTRIBUTES if row[attribute]}
            fixes.append(LabelFix(line, row["profile"], row["stem"], given))
    return fixes, problems


def _problems(row: dict[str, str]) -> Iterator[str]:
    if not row["profile"]:
        yield "profile is empty; it is a folder's name, or its id part"
    for column, known in {"stem": tuple(STEMS), **{name: HEAD_CLASSES[name] for name in ATTRIBUTES}}.items():
        text = row[column]
        if text and text not in known and not (column == "age" and is_age(text)):
            years = f", or years from 0 to {MAX_AGE}" if column == "age" else ""
            near = did_you_mean(text, list(known))
            yield f"{column} is {text!r}.{near} It is one of: {', '.join(known)}{years}, or empty"
