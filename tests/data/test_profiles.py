"""Folder names and lists as people leave them, and folds that share no person."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskcls.data.profiles import (
    IMAGE_EXTENSIONS,
    Photo,
    Profile,
    check_disjoint,
    find_photos,
    parse_profile,
    people_of_fold,
    profile_folders,
    profile_lines,
)
from maskcls.errors import UserError
from maskcls.labels import STEMS, age_group

ANNA, BERT, CARL = "000001_female_Asian_45", "000002_male_Asian_29", "000003_male_Asian_60"
quickly = settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def put(folder: Path, *files: str) -> Path:
    """Makes a folder with empty files (nothing here looks into a photo)."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).touch()
    return folder


def people(counts: dict[tuple[str, int], int]) -> list[str]:
    """Returns names of so many people of each (gender, age)."""
    cells = [cell for cell, count in counts.items() for _ in range(count)]
    return [f"{number:06d}_{gender}_Asian_{age}" for number, (gender, age) in enumerate(cells)]


def split(names: list[str], *, num_folds: int, fold: int, seed: int) -> tuple[list[str], list[str]]:
    valid = people_of_fold(map(parse_profile, names), num_folds=num_folds, fold=fold, seed=seed)
    return sorted(set(names) - set(valid)), valid


ALL_CELLS = {
    ("male", 20): 11,
    ("male", 45): 8,
    ("male", 60): 5,
    ("female", 29): 14,
    ("female", 59): 16,
    ("female", 60): 6,
}


# Names


def test_a_folder_name_says_gender_race_and_age() -> None:
    assert parse_profile(ANNA) == Profile(ANNA, {"gender": 1, "age": 1}, "Asian", 45)
    assert parse_profile("001498-1_male_Asian_0") == Profile(
        "001498-1_male_Asian_0", {"gender": 0, "age": 0}, "Asian", 0
    )
    assert parse_profile("x_male_Pacific islander_120").age == 120


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "'' is not id_gender_race_age, for example 000001_female_Asian_45"),
        ("000001", "'000001' is not id_gender_race_age"),
        ("000001_female_Asian", "'000001_female_Asian' is not id_gender_race_age"),
        ("000001_female_Asian_45_2", "'000001_female_Asian_45_2' is not id_gender_race_age"),
        ("_female_Asian_45", "'_female_Asian_45' is not id_gender_race_age"),
        ("1_woman_Asian_45", "'1_woman_Asian_45': gender 'woman' is neither male nor female"),
        ("1_Female_Asian_45", "'1_Female_Asian_45': gender 'Female' is neither male nor female"),
        ("1_male_Asian_old", "'1_male_Asian_old': age 'old' is not a number of years from 0 to 120"),
        ("1_male_Asian_-5", "age '-5' is not a number of years from 0 to 120"),
        ("1_male_Asian_121", "age '121' is not a number of years from 0 to 120"),
        ("1_male_Asian_4.5", "age '4.5' is not a number of years"),
        (
            "1_male_Asian_45\n",
            r"'1_male_Asian_45\n' holds a line break, or a blank at its ends: no profile list can name",
        ),
        ("1_male_A\nB_45", r"'1_male_A\nB_45' holds a line break"),
        ("1_male_A\u2028B_45", r"'1_male_A\u2028B_45' holds a line break"),
        (" 1_male_Asian_45", "' 1_male_Asian_45' holds a line break, or a blank at its ends"),
        (
            os.fsdecode("김_male_Asian_45".encode("cp949")),
            r"'\udcb1\udce8_male_Asian_45' is not UTF-8, in CP949 it is '김_male_Asian_45': rename it, for example with convmv -f cp949 -t utf8 --notest -r FOLDER",
        ),
        ("\udcff_male_Asian_45", r"'\udcff_male_Asian_45' is not UTF-8: rename it"),
        (
            "1_male_South_Asian_45",
            "for example 000001_female_Asian_45 (there is no _ inside id, gender, race or age: South-Asian)",
        ),
        ("1_male_Asian_٤٥", "age '٤٥' is not a number of years"),
    ],
)
def test_other_names_are_refused_with_what_is_wrong(name: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse_profile(name)
    assert words in str(error.value)


# Lists


@pytest.mark.parametrize(
    "content",
    [
        f"{ANNA}\n{BERT}\n".encode(),
        f"{ANNA}\n{BERT}".encode(),
        f"{ANNA}\r\n{BERT}\r\n".encode(),
        f"{ANNA}\r{BERT}\r".encode(),
        f"\n\n{ANNA}\n\n \t \n{BERT}\n\n".encode(),
        f"{ANNA}  \t\n   {BERT} \r\n".encode(),
        f"\ufeff{ANNA}\n{BERT}\n".encode(),
        f"\ufeff\r\n{ANNA} \r\n\r\n{BERT}".encode(),
    ],
    ids=["plain", "no last newline", "CRLF", "CR", "blank lines", "blanks around", "BOM", "all of it"],
)
def test_a_list_is_read_whatever_its_lines_end_with(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    assert list(profile_lines(tmp_path / "train.txt")) == [ANNA, BERT]
    assert list(profile_lines(str(tmp_path / "train.txt"))) == [ANNA, BERT]


def test_a_list_keeps_its_order_and_names_beyond_ascii(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(f"{BERT}\n김_female_Asian_3\n{ANNA}\n", encoding="utf-8")
    assert list(profile_lines(tmp_path / "train.txt")) == [BERT, "김_female_Asian_3", ANNA]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "train.txt is empty"),
        (b" \r\n\t\n", "train.txt is empty"),
        ("\ufeff".encode(), "train.txt is empty"),
        (f"{ANNA}\n{BERT}\n{CARL}\n{ANNA} \n{CARL}\n".encode(), f"train.txt has duplicates: {ANNA}, {CARL}"),
        (b"\xff\xfea\0", "train.txt cannot be read as UTF-8 text: 'utf-8' codec can't decode byte 0xff"),
        ("é_male_Asian_3".encode("latin-1"), "train.txt cannot be read as UTF-8 text"),
    ],
)
def test_a_bad_list_is_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        profile_lines(tmp_path / "train.txt")
    assert str(error.value).startswith(f"profile list {tmp_path}")
    assert words in str(error.value)


def test_a_list_that_is_missing_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"profile list .*none\.txt does not exist"):
        profile_lines(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"profile list .* is a folder, not a file"):
        profile_lines(tmp_path)
    with pytest.raises(UserError, match="profile list a\0b cannot be read: embedded null byte"):
        profile_lines("a\0b")


# Folders


def test_the_sample_is_found_whole(sample: Path) -> None:
    names = profile_folders(sample / "images")
    assert len(names) == 12
    assert not any(name.startswith(".") for name in names)
    photos, others = find_photos(sample / "images", names)
    assert len(photos) == 12 * 7
    assert others == {"hidden": len(list((sample / "images").glob("*/.*")))} == {"hidden": 2}
    assert Counter(photo.labels["mask"] for photo in photos) == {0: 12 * 5, 1: 12, 2: 12}
    assert [(photo.profile, photo.file) for photo in photos] == sorted((p.profile, p.file) for p in photos)
    for photo in photos:
        assert (sample / "images" / photo.profile / photo.file).is_file()
        assert STEMS[Path(photo.file).stem] == {"mask": photo.labels["mask"]}
        assert photo.profile.split("_")[1:] == [["male", "female"][photo.labels["gender"]], photo.race, str(photo.age)]


def test_a_folder_without_profiles_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "images" / ".ipynb_checkpoints")
    put(tmp_path / "images", "notes.txt")
    with pytest.raises(UserError, match=r"data_dir .*images holds no profile folders"):
        profile_folders(tmp_path / "images")
    for find in (profile_folders, lambda folder: find_photos(folder, [ANNA])):
        with pytest.raises(UserError, match=r"data_dir .*none does not exist"):
            find(tmp_path / "none")


def test_the_folder_above_the_profile_folders_is_reported(tmp_path: Path) -> None:
    (tmp_path / "images" / "000001_female_Asian_45").mkdir(parents=True)
    (tmp_path / "eval").mkdir()
    message = f"data_dir {tmp_path} holds no profile folders, but {tmp_path}/images does: name that"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        profile_folders(tmp_path)
    (tmp_path / "anna").mkdir()  # with one person beside them, what is wrong is a name
    (tmp_path / "000002_male_Asian_45").mkdir()
    assert profile_folders(tmp_path) == ["000002_male_Asian_45", "anna", "eval", "images"]


def test_one_numeric_id_may_belong_to_two_people(tmp_path: Path) -> None:
    names = ["001498-1_male_Asian_23", "001498_female_Asian_59", "001498_male_Asian_59"]
    for name in names:
        put(tmp_path / name, "mask1.jpg")
    photos, _ = find_photos(tmp_path, names)
    assert [(photo.profile, photo.labels["gender"], photo.age) for photo in photos] == [
        (names[0], 0, 23), (names[1], 1, 59), (names[2], 0, 59)
    ]  # fmt: skip
    check_disjoint(names[:1], names[1:])


def test_hidden_entries_and_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    put(tmp_path / ANNA, "mask1.jpg", "normal.png", "._mask1.jpg", ".DS_Store", "Thumbs.db", "notes.txt")
    put(tmp_path / ANNA / ".ipynb_checkpoints", "mask2.jpg")
    put(tmp_path / BERT, "mask1.jpg", "._mask1.jpg")
    photos, others = find_photos(tmp_path, [ANNA, BERT])
    assert [photo.file for photo in photos] == ["mask1.jpg", "normal.png", "mask1.jpg"]
    assert others == {"hidden": 4, ".db": 1, ".txt": 1}


def test_extensions_may_be_any_images_in_any_case(tmp_path: Path) -> None:
    files = ["mask1.jpg", "mask2.JFIF", "mask3.Png", "mask4.AVIF", "mask5.WEBP", "incorrect_mask.tif", "normal.GIF"]
    put(tmp_path / ANNA, *files)
    photos, others = find_photos(tmp_path, [ANNA])
    assert {photo.file: (photo.stem, photo.labels["mask"]) for photo in photos} == {
        file: (stem, said["mask"]) for file, (stem, said) in zip(files, STEMS.items(), strict=True)
    }
    assert others == {}
    assert {Path(file).suffix.lower() for file in files} < IMAGE_EXTENSIONS
    assert photos[0] == Photo(ANNA, "incorrect_mask.tif", {"mask": 1, "gender": 1, "age": 1}, "Asian", 45)


def test_all_bad_folders_are_reported_in_one_message(tmp_path: Path) -> None:
    put(tmp_path / "not a person", "mask1.jpg")
    put(tmp_path / "1_man_Asian_3", "mask1.jpg")
    put(tmp_path / "2_male_Asian_300", "mask1.jpg")
    put(tmp_path / "3_male_Asian_30", "mask1.jpg", "mask6.jpg", "selfie.PNG")
    put(tmp_path / "4_male_Asian_30", "mask1.jpg", "mask1.png", "normal.jpg")
    put(tmp_path / "5_male_Asian_30", ".mask1.jpg", "notes.txt")
    put(tmp_path / ANNA, "mask1.jpg")
    (tmp_path / CARL).touch()  # a file where the folder should be
    with pytest.raises(UserError) as error:
        find_photos(tmp_path, [*profile_folders(tmp_path), BERT, CARL])
    heading, *problems = str(error.value).splitlines()
    assert heading == f"8 problems in {tmp_path}:"
    stems = "mask1, mask2, mask3, mask4, mask5, incorrect_mask, normal"
    assert sorted(problem.removeprefix("  - ") for problem in problems) == sorted([
        f"{BERT} is listed, but {tmp_path} has no such folder",
        f"profile {CARL}: {tmp_path / CARL} is a file, not a folder",
        "'1_man_Asian_3': gender 'man' is neither male nor female",
        "'2_male_Asian_300': age '300' is not a number of years from 0 to 120",
        f"profile 3_male_Asian_30 has mask6.jpg, selfie.PNG: a photo is called {stems}, exactly so",
        "profile 4_male_Asian_30 has several photos called mask1",
        "profile 5_male_Asian_30 has no photos",
        "'not a person' is not id_gender_race_age, for example 000001_female_Asian_45",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("file", "name"),
    [("Mask1.jpg", "mask1.jpg"), ("mask_1.PNG", "mask1.PNG"), ("mask1 .jpg", "mask1.jpg"), ("normal-.gif", "normal.gif"),
     ("IncorrectMask.jpg", "incorrect_mask.jpg")],
)  # fmt: skip
def test_a_name_that_is_nearly_right_is_reported_with_the_right_one(file: str, name: str, tmp_path: Path) -> None:
    put(tmp_path / ANNA, file)
    with pytest.raises(UserError) as error:
        find_photos(tmp_path, [ANNA])
    assert str(error.value).startswith(
        f"profile {ANNA} has {file!r}:" if " " in file else f"profile {ANNA} has {file}:"
    )
    assert str(error.value).endswith(f"normal, exactly so. Rename it to {name}")


def test_many_wrong_names_in_one_folder_are_ten_and_a_count(tmp_path: Path) -> None:
    put(tmp_path / ANNA, *(f"photo{number:03d}.jpg" for number in range(1000)))
    with pytest.raises(UserError, match=r"photo008\.jpg, photo009\.jpg, and 990 more: a photo is called mask1, "):
        find_photos(tmp_path, [ANNA])


def test_a_folder_that_cannot_be_read_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / ANNA).symlink_to(ANNA)  # whoever runs the tests may read every folder, but none that leads to itself
    with pytest.raises(UserError, match=rf"^profile {ANNA}: {tmp_path}/{ANNA} cannot be read: Too many levels"):
        find_photos(tmp_path, [ANNA])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user may read every folder")
def test_a_folder_without_permission_says_so(tmp_path: Path) -> None:
    put(tmp_path / ANNA, "mask1.jpg").chmod(0)
    with pytest.raises(UserError, match=rf"^profile {ANNA}: .* cannot be read: Permission denied$"):
        find_photos(tmp_path, [ANNA])


def test_a_bad_line_is_reported_with_its_list_and_number(tmp_path: Path) -> None:
    put(tmp_path / "images" / ANNA, "mask1.jpg")
    (tmp_path / "train.txt").write_text(f"{ANNA}\n\n# people\n{BERT}\n")
    places = profile_lines(tmp_path / "train.txt")
    with pytest.raises(UserError) as error:
        find_photos(tmp_path / "images", list(places), places=places)
    assert str(error.value).splitlines()[1:] == [
        f"  - {tmp_path}/train.txt, line 3: '# people' is not id_gender_race_age, for example 000001_female_Asian_45",
        f"  - {tmp_path}/train.txt, line 4: {BERT} is listed, but {tmp_path}/images has no such folder",
    ]


def test_photos_that_cannot_be_read_by_their_kind_are_counted_and_named_when_there_are_no_others(
    tmp_path: Path,
) -> None:
    put(tmp_path / ANNA, "mask1.HEIC", "mask2.heic", "normal.dng", "mask3.jpg")
    assert find_photos(tmp_path, [ANNA])[1] == {".heic": 2, ".dng": 1}
    (tmp_path / ANNA / "mask3.jpg").unlink()
    words = rf"^profile {ANNA} has no photos that can be read \(2 .heic, 1 .dng\): convert them to JPEG or PNG$"
    with pytest.raises(UserError, match=words):
        find_photos(tmp_path, [ANNA])


def test_a_folder_of_photos_in_another_encoding_is_named(tmp_path: Path) -> None:
    folder = put(tmp_path / os.fsdecode("사진".encode("cp949")) / ANNA, "mask1.jpg").parent
    with pytest.raises(UserError, match=r"is not UTF-8, in CP949 it is '.*사진': rename it"):
        find_photos(folder, [ANNA])


def test_one_problem_is_reported_without_a_heading(tmp_path: Path) -> None:
    put(tmp_path / ANNA, "mask1.jpg")
    with pytest.raises(UserError) as error:
        find_photos(tmp_path, [ANNA, BERT])
    assert str(error.value) == f"{BERT} is listed, but {tmp_path} has no such folder"


@pytest.mark.parametrize("name", [f"{'x' * 300}_male_Asian_30", "a\0b_male_Asian_30"], ids=["too long", "NUL"])
def test_a_name_that_no_folder_can_have_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="_male_Asian_30"):
        find_photos(tmp_path, [name])


@pytest.mark.parametrize("name", [f"./{ANNA}", f"../people/{ANNA}"])
def test_a_path_is_not_a_name_for_then_one_person_would_have_two(name: str, tmp_path: Path) -> None:
    put(tmp_path / "people" / ANNA, "mask1.jpg")
    put(tmp_path / "people" / BERT, "mask1.jpg")
    with pytest.raises(UserError):
        find_photos(tmp_path / "people", [name])


# Splits


def test_a_person_in_both_lists_is_refused_and_all_are_named() -> None:
    check_disjoint([ANNA], [BERT, CARL])
    with pytest.raises(UserError) as error:
        check_disjoint([CARL, ANNA, BERT], [BERT, "x", CARL])
    assert str(error.value) == f"2 people are in both the training and the validation list: {BERT}, {CARL}"


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_no_person_is_in_two_folds(num_folds: int) -> None:
    names = people(ALL_CELLS)
    folds = [split(names, num_folds=num_folds, fold=fold, seed=3) for fold in range(num_folds)]
    assert sorted(name for _, valid in folds for name in valid) == sorted(names)  # each exactly once
    for train, valid in folds:
        assert sorted(train + valid) == sorted(names)
    assert len(names) == 60


@pytest.mark.parametrize("num_folds", [2, 3, 4, 5])
def test_every_gender_and_age_group_is_in_every_fold_and_folds_differ_by_one_person_at_most(num_folds: int) -> None:
    names = people(ALL_CELLS)[:-1]  # 59, which no number of folds divides
    sizes = []
    for fold in range(num_folds):
        train, valid = split(names, num_folds=num_folds, fold=fold, seed=0)
        assert len(Counter(map(cell, valid))) == len(Counter(map(cell, train))) == 6
        for each, share in Counter(map(cell, valid)).items():
            assert abs(share - Counter(map(cell, names))[each] / num_folds) < 1
        sizes.append(len(valid))
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == len(names)


def test_the_split_is_the_same_for_any_order_of_the_names() -> None:
    names = people(ALL_CELLS)
    first = split(names, num_folds=5, fold=2, seed=1)
    assert split(names[::-1], num_folds=5, fold=2, seed=1) == first
    assert split(names[30:] + names[:30], num_folds=5, fold=2, seed=1) == first
    assert first == (sorted(first[0]), sorted(first[1]))


def test_the_split_goes_by_what_is_known_of_a_person_and_not_by_the_name() -> None:
    names = people(ALL_CELLS)
    profiles = [parse_profile(name) for name in names]
    women = [replace(p, labels={**p.labels, "gender": 1}) for p in profiles if p.labels["gender"] == 0]
    with pytest.raises(UserError, match="female >=60 has 5"):
        people_of_fold(women, num_folds=6, fold=0, seed=0)
    as_named = [people_of_fold(profiles, num_folds=3, fold=fold, seed=0) for fold in range(3)]
    profiles[0] = replace(profiles[0], age=60, labels={**profiles[0].labels, "age": 2})
    corrected = [people_of_fold(profiles, num_folds=3, fold=fold, seed=0) for fold in range(3)]
    assert corrected != as_named
    assert sorted(sum(corrected, [])) == sorted(names)
    counts = [Counter(tuple(p.labels.values()) for p in profiles if p.name in valid) for valid in corrected]
    assert [count[0, 2] for count in counts] == [2, 2, 2]  # five men of 60, and the one who is not 20
    assert sorted(count[0, 0] for count in counts) == [3, 3, 4]


def test_another_seed_gives_another_split() -> None:
    names = people(ALL_CELLS)
    valid = [tuple(split(names, num_folds=5, fold=0, seed=seed)[1]) for seed in range(6)]
    assert len(set(valid)) == 6


def test_too_few_people_for_the_folds_are_named() -> None:
    counts = ALL_CELLS | {("male", 60): 2, ("female", 20): 0, ("female", 29): 1}
    with pytest.raises(UserError) as error:
        split(people(counts), num_folds=3, fold=0, seed=0)
    assert str(error.value) == (
        "not enough people to deal every gender and age group to 3 folds: male >=60 has 2, female <30 has 1. "
        "Lower num_folds, or name the people in valid_profile"
    )


@quickly
@given(
    counts=st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_crowd_is_dealt_evenly_or_refused(counts: list[int], num_folds: int, seed: int) -> None:
    names = people(dict(zip(ALL_CELLS, counts, strict=True)))
    try:
        folds = [split(names, num_folds=num_folds, fold=fold, seed=seed)[1] for fold in range(num_folds)]
    except UserError:
        assert any(0 < count < num_folds for count in counts)
        return
    assert sorted(sum(folds, [])) == sorted(names)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert all({cell(name) for name in fold} == {cell(name) for name in names} for fold in folds)


def cell(name: str) -> tuple[int, int]:
    profile = parse_profile(name)
    return profile.labels["gender"], age_group(profile.age)
