"""A CSV of corrected labels: what it changes, what it counts, and every mistake in it reported with its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maskcls.data.label_fixes import CorrectedPhotos, correct_labels
from maskcls.data.profiles import Photo, parse_profile
from maskcls.errors import UserError
from maskcls.labels import STEMS
from maskcls.tables import write_table
from tests.helpers import ROOT

ANNA, BERT, CARL = "000001_female_Asian_45", "000002_male_Asian_20", "000002-1_male_Asian_70"
TWINS = ["000003_male_Asian_30", "000003_female_Asian_30"]
HEADER = "profile,stem,mask,gender,age\n"

Correct = Callable[..., CorrectedPhotos]


def photos_of(*names: str) -> list[Photo]:
    """Returns the seven photos of each person, with the labels that the names say."""
    people = [parse_profile(name) for name in names]
    return [
        Photo(person.name, f"{stem}.jpg", {**said, **person.labels}, person.race, person.age)
        for person in people
        for stem, said in STEMS.items()
    ]


PHOTOS = photos_of(ANNA, BERT, CARL, *TWINS)


@pytest.fixture
def correct(tmp_path: Path) -> Correct:
    """Returns a function that applies rows (below the usual header) or a whole file to the photos of five people."""

    def apply(rows: str = "", *, file: str | bytes = "", photos: list[Photo] = PHOTOS) -> CorrectedPhotos:
        content = file or HEADER + rows
        path = tmp_path / "fixes.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return correct_labels(photos, path, [ANNA, BERT, CARL, *TWINS])

    return apply


def changes(result: CorrectedPhotos) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Returns (profile, stem) -> (mask, gender, age) of the photos that are not as they were."""
    return {
        (new.profile, new.stem): (new.labels["mask"], new.labels["gender"], new.age)
        for old, new in zip(PHOTOS, result.photos, strict=True)
        if old != new
    }


def refusal(correct: Correct, rows: str = "", *, file: str | bytes = "") -> list[str]:
    """Returns the lines of the message, without the path."""
    with pytest.raises(UserError) as error:
        correct(rows, file=file)
    assert "fixes.csv" in str(error.value).splitlines()[0]
    return [line.partition("fixes.csv")[2].removeprefix(", ") for line in str(error.value).splitlines()]


# What is corrected


def test_a_row_without_a_stem_is_about_every_photo_of_the_person(correct: Correct) -> None:
    result = correct(f"{ANNA},,,male,\n")
    assert changes(result) == {(ANNA, stem): (said["mask"], 0, 45) for stem, said in STEMS.items()}
    assert (len(result.changed), len({*result.changed}), result.num_unmatched_rows) == (7, 1, 0)


def test_a_row_with_a_stem_is_about_that_photo_and_two_rows_swap_two(correct: Correct) -> None:
    result = correct("000001,normal,incorrect,,\n000001,incorrect_mask,not_worn,,\n000002,mask3,not_worn,,\n")
    assert changes(result) == {
        (ANNA, "normal"): (1, 1, 45), (ANNA, "incorrect_mask"): (2, 1, 45), (BERT, "mask3"): (2, 0, 20)
    }  # fmt: skip
    assert (len(result.changed), len({*result.changed})) == (3, 2)
    unchanged = [replace(photo, labels={**photo.labels, "mask": 0}) for photo in result.photos]
    assert unchanged == [
        replace(photo, labels={**photo.labels, "mask": 0}) for photo in PHOTOS
    ]  # file, stem, race: as they were


def test_several_rows_about_one_photo_add_up(correct: Correct) -> None:
    result = correct(f"{BERT},mask1,incorrect,,\n{BERT},,,female,\n000002,,,,61\n{BERT},mask1,,female,61\n")
    expected = {(BERT, stem): (said["mask"], 1, 61) for stem, said in STEMS.items()} | {(BERT, "mask1"): (1, 1, 61)}
    assert changes(result) == expected


def test_an_id_is_compared_whole(correct: Correct) -> None:
    assert {person for person, _ in changes(correct("000002,,,female,\n"))} == {BERT}
    assert {person for person, _ in changes(correct("000002-1,,,female,\n"))} == {CARL}
    assert {person for person, _ in changes(correct(f"{TWINS[0]},,,female,\n"))} == {TWINS[0]}
    result = correct("000002,,,female,\n2,,,female,\n00000,,,male,\n000002-,,,female,\n")
    assert (len({*result.changed}), result.num_unmatched_rows) == (1, 3)


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("0", {ANNA: 0, BERT: 0, CARL: 0}),
        ("120", {ANNA: 120, BERT: 120, CARL: 120}),
        ("<30", {ANNA: 29, BERT: 20, CARL: 29}),
        ("30-59", {ANNA: 45, BERT: 30, CARL: 59}),
        (">=60", {ANNA: 60, BERT: 60, CARL: 70}),
        ("", {ANNA: 45, BERT: 20, CARL: 70}),
    ],
)
def test_an_age_group_keeps_years_that_are_in_it_and_else_gives_the_nearest(
    age: str, years: dict[str, int], correct: Correct
) -> None:
    result = correct("".join(f"{person},,,,{age}\n" for person in years))
    assert {photo.profile: photo.age for photo in result.photos if photo.profile in years} == years
    assert len({*result.changed}) == sum(parse_profile(person).age != age for person, age in years.items())


def test_only_photos_that_differ_afterwards_are_counted(correct: Correct) -> None:
    result = correct(f"{ANNA},,,female,45\n{BERT},mask1,worn,male,<30\n{CARL},,,,\n")
    assert result == CorrectedPhotos(PHOTOS, changed=[], num_rows=3, num_unmatched_rows=0)


def test_every_photo_of_a_person_may_be_named_one_by_one(correct: Correct) -> None:
    result = correct("".join(f"{BERT},{stem},,female,<30\n" for stem in STEMS))
    assert (len(result.changed), len({*result.changed})) == (7, 1)


@pytest.mark.parametrize(
    "file",
    [
        f"\ufeff{HEADER}{ANNA},,,male,\n",
        f"{HEADER}{ANNA},,,male,\n".replace("\n", "\r\n"),
        f"{HEADER}\n{ANNA} , , ,male,\n\n",
        f'age,note,gender,stem,mask,profile,score\n,"far, and\nodd",male,,,{ANNA},0.93\n',
        f" profile, stem,mask,gender ,age\n{ANNA},,,male,",
    ],
    ids=["BOM", "CRLF", "blank lines and blanks", "other order and columns", "blanks in the header"],
)
def test_the_file_is_read_as_spreadsheets_write_it(file: str, correct: Correct) -> None:
    assert len(correct(file=file).changed) == 7


def test_a_name_that_a_table_program_would_take_for_a_formula_comes_back_from_a_table_of_suspects(
    tmp_path: Path,
) -> None:
    name = "=1_male_Asian_20"
    row = [name, "", "", "female", ""]
    write_table(tmp_path / "suspects.csv", HEADER.strip().split(","), [row], overwrites=False)
    assert "'=1_male" in (tmp_path / "suspects.csv").read_text()
    assert {*correct_labels(photos_of(name), tmp_path / "suspects.csv", [name]).changed} == {name}


def test_people_whose_photos_are_not_asked_for_change_nothing_and_are_not_strangers(correct: Correct) -> None:
    result = correct(f"{ANNA},mask1,,,<30\n", photos=photos_of(BERT))
    assert result == CorrectedPhotos(photos_of(BERT), changed=[], num_rows=1, num_unmatched_rows=0)


# What is refused


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (f"{ANNA},,wron,,", "line 2: mask is 'wron'. Did you mean 'worn'? It is one of: worn, incorrect, not_worn, or empty"),
        (f"{ANNA},,0,,", "line 2: mask is '0'. It is one of: worn, incorrect, not_worn, or empty"),
        (f"{ANNA},,,femal,", "line 2: gender is 'femal'. Did you mean 'female'? It is one of: male, female, or empty"),
        (f"{ANNA},,,,121", "line 2: age is '121'. It is one of: <30, 30-59, >=60, or years from 0 to 120, or empty"),
        (f"{ANNA},,,,30-60", "line 2: age is '30-60'. Did you mean '30-59'? It is one of"),
        (f"{ANNA},,,,4.5", "line 2: age is '4.5'. It is one of"),
        (f"{ANNA},,,,-1", "line 2: age is '-1'. It is one of"),
        (f"{ANNA},nomal,worn,,", "line 2: stem is 'nomal'. Did you mean 'normal'? It is one of: mask1, "),
        (",,,male,", "line 2: profile is empty; it is a folder's name, or its id part"),
        (f"{ANNA},,,male", "line 2: 4 cells, but the header has 5"),
        (f"{ANNA},,,male,,", "line 2: 6 cells, but the header has 5"),
        ("000003,,,male,", f"line 2: 000003 may be {TWINS[0]} or {TWINS[1]}: write the whole folder name"),
        (f"{ANNA},,,male,\n{ANNA},,,female,", f"line 3: gender of {ANNA} is female, but male in line 2"),
        (f"{ANNA},,worn,,\n\n000001,normal,incorrect,,", f"line 4: mask of {ANNA} is incorrect, but worn in line 2"),
        (f"{BERT},,,,45\n{BERT},,,,<30", f"line 3: age of {BERT} is <30, but 45 in line 2"),
        (
            f"{BERT},mask1,,female,\n{BERT},mask2,worn,female,",
            f"line 2, 3: gender or age of only some photos of {BERT}, but a person has one gender and one age: "
            "leave stem empty",
        ),
        (f"{BERT},mask1,worn,,\n{BERT},normal,,,30-59", f"line 3: gender or age of only some photos of {BERT}"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(rows: str, words: str, correct: Correct) -> None:
    (message,) = refusal(correct, rows)
    assert message.startswith(words)


def test_a_photo_that_a_person_lacks_is_reported_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text(f"{HEADER}000001,mask2,not_worn,,\n", encoding="utf-8")
    few = [photo for photo in photos_of(ANNA) if photo.stem in ("mask1", "normal")]
    with pytest.raises(UserError) as error:
        correct_labels(few, tmp_path / "fixes.csv", [ANNA])
    assert str(error.value) == (f"{tmp_path / 'fixes.csv'}, line 2: {ANNA} has no photo mask2; it has mask1, normal")


def test_all_mistakes_are_reported_in_one_message(correct: Correct) -> None:
    rows = f"{ANNA},mask9,wron,,\n000003,,,male,\n{BERT},,,male\n{CARL},,,male,\n{CARL},,,female,\nnobody,,,male,\n"
    heading, *problems = refusal(correct, rows)
    assert heading == ":"
    assert [problem.partition(":")[0] for problem in problems] == ["line 2", "line 2", "line 4", "line 3", "line 6"]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b" ", " needs the columns profile, stem, mask, gender, age, each once; not so profile, stem, mask, gender, age. Its first line has "),
        (b"profile,stem,mask,gendr,age\n", " needs the columns profile, stem, mask, gender, age, each once; not so gender. Its first line has profile, stem, mask, gendr, age"),
        (b"profile,stem,mask,gender,age,age\n", " needs the columns profile, stem, mask, gender, age, each once; not so age. "),
        (HEADER.encode(), " has no rows"),
        (HEADER.encode() + b"\n\n", " has no rows"),
        (b"\xff\xfe", " cannot be read as UTF-8 CSV: 'utf-8' codec can't decode byte 0xff"),
        (HEADER.encode() + b'"open', " cannot be read as UTF-8 CSV: unexpected end of data"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused(file: bytes, words: str, correct: Correct) -> None:
    (message,) = refusal(correct, file=file)
    assert message.startswith(words)


def test_an_empty_or_missing_file_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for name, words in {
        "empty.csv": "empty.csv needs the columns .* Its first line has nothing",
        "none.csv": "label_fixes .*none.csv does not exist",
        "": "label_fixes .* is a folder, not a file",
        "a\0b": "label_fixes .* cannot be read: embedded null byte",
    }.items():
        with pytest.raises(UserError, match=words):
            correct_labels(PHOTOS, tmp_path / name, [ANNA])


def test_a_file_about_other_people_is_refused(correct: Correct) -> None:
    (message,) = refusal(correct, "1,,,male,\nnobody,,,male,\n")
    assert message.startswith(
        " is about a folder of data_dir, the first is about '1'. Give label_fixes a CSV about these"
    )
    (message,) = refusal(correct, "00001,,,male,\n")
    assert "the first is about '00001'. Did you mean '000001'? Give" in message


# The file for the public task


def test_the_shipped_file_corrects_the_people_that_are_known_to_be_wrong() -> None:
    women_by_name = [f"{number:06d}_female_Asian_18" for number in range(6359, 6365)]
    men_by_name = ["001498-1_male_Asian_23", "004432_male_Asian_43", "005223_male_Asian_22"]
    swapped = ["000020_female_Asian_50", "004418_male_Asian_60", "005227_male_Asian_22"]
    others = ["001498_female_Asian_23", "006358_female_Asian_18", "006365_male_Asian_18", "005224_male_Asian_22"]
    names = [*women_by_name, *men_by_name, *swapped, *others]
    photos = photos_of(*names)
    result = correct_labels(photos, ROOT / "configs" / "label_fixes.csv", names)
    assert (len(result.changed), len({*result.changed}), result.num_unmatched_rows) == (9 * 7 + 3 * 2, 12, 0)
    for old, new in zip(photos, result.photos, strict=True):
        expected = old
        if old.profile in women_by_name:
            expected = replace(old, labels={**old.labels, "gender": 0})
        elif old.profile in men_by_name:
            expected = replace(old, labels={**old.labels, "gender": 1})
        elif old.profile in swapped and old.labels["mask"] > 0:
            expected = replace(old, labels={**old.labels, "mask": 3 - old.labels["mask"]})
        assert new == expected


def test_the_shipped_file_works_on_a_part_of_the_photos(sample: Path) -> None:
    names = ["004418_male_Asian_60", "000777_male_Asian_60"]
    result = correct_labels(photos_of(*names), ROOT / "configs" / "label_fixes.csv", names)
    assert (len(result.changed), len({*result.changed}), result.num_unmatched_rows) == (2, 1, 13)
    with pytest.raises(UserError, match=r"none of the 15 rows of .* is about a folder of data_dir"):
        correct_labels(photos_of(ANNA), ROOT / "configs" / "label_fixes.csv", [ANNA])
