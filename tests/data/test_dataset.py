"""Photos become one table with named labels, split so that no person is on both sides."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Image, load_from_disk

from maskcls import labels
from maskcls.data import profiles
from maskcls.data.dataset import FaceData, Photos, ProfileSource, build_table, custom_dataset_split_by_profile, features
from maskcls.errors import UserError
from tests.data.drawn import ANNA, BERT, PHOTOS, two_people


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return two_people(tmp_path / "images")


def make_table(images: Path) -> Dataset:
    return build_table(profiles.find_photos(images, list(PHOTOS))[0], images)


def split(sample: Path, **changes: object) -> FaceData:
    facts = {
        "data_dir": str(sample / "images"), "train_profile": None, "valid_profile": None,
        "num_folds": 2, "fold": 0, "seed_of_folds": 0,
    }  # fmt: skip
    return custom_dataset_split_by_profile(ProfileSource(**{**facts, **changes}))


# The table


def test_a_row_holds_the_photo_and_everything_its_path_says(images: Path, tmp_path: Path) -> None:
    table = make_table(images)
    assert len(table) == 3
    rows = {(row["profile"], row["stem"]): row for row in table.remove_columns(["image", "size", "mtime_ns"])}
    path = images / ANNA / "incorrect_mask.PNG"
    assert rows[ANNA, "incorrect_mask"] == {
        "mask": 1, "gender": 1, "age_group": 1, "class": 10, "profile": ANNA, "stem": "incorrect_mask", "age": 45,
        "race": "Asian", "path": str(path),
    }  # fmt: skip
    assert rows[BERT, "normal"]["class"] == 14
    photo = table[list(table["stem"]).index("incorrect_mask")]["image"]
    assert (photo.size, np.asarray(photo)[0, 0].tolist()) == ((8, 6), [40, 99, 200])


def test_columns_are_an_image_and_named_labels(images: Path, tmp_path: Path) -> None:
    columns = make_table(images).features
    assert columns == features()
    assert isinstance(columns["image"], Image)
    named = {name: column.names for name, column in columns.items() if isinstance(column, ClassLabel)}
    assert named == {
        "mask": ["worn", "incorrect", "not_worn"], "gender": ["male", "female"], "age_group": ["<30", "30-59", ">=60"],
        "class": list(labels.HEAD_CLASSES["class"]),
    }  # fmt: skip
    assert columns["class"].num_classes == 18


def test_the_class_column_is_the_code_of_the_three_labels(sample: Path, tmp_path: Path) -> None:
    data = split(sample)
    truth = Photos(data.table, np.arange(84)).labels
    codes = (truth @ [6, 3, 1]).tolist()
    assert codes == list(data.table["class"])
    assert (truth.shape, truth.dtype) == ((84, 3), np.int64)
    assert np.array_equal(data.train.labels, truth[data.train.rows])
    assert len(set(codes)) == 18  # 12 people, two of every gender and age group
    groups = [labels.age_group(age) for age in data.table["age"]]
    assert groups == list(data.table["age_group"])


def test_the_table_holds_paths_and_no_photos(images: Path) -> None:
    paths = sorted(str(images / profile / file) for profile, files in PHOTOS.items() for file in files)
    undecoded = make_table(images).cast_column("image", Image(decode=False))
    assert [row["bytes"] for row in undecoded["image"]] == [None] * 3
    assert sorted(row["path"] for row in undecoded["image"]) == sorted(undecoded["path"]) == paths


def test_a_link_to_nowhere_is_named(images: Path, tmp_path: Path) -> None:
    (images / ANNA / "mask2.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError, match=rf"{ANNA}.*mask2\.jpg"):
        make_table(images)


def test_a_saved_table_carries_its_photos_along(images: Path, tmp_path: Path) -> None:
    table = make_table(images)
    table.save_to_disk(tmp_path / "saved")
    expected = [np.asarray(row["image"]) for row in table]
    shutil.rmtree(images)
    loaded = load_from_disk(str(tmp_path / "saved"))
    assert loaded.features == features()
    assert loaded.remove_columns("image")[:] == table.remove_columns("image")[:]
    for row, pixels in zip(loaded, expected, strict=True):
        assert np.array_equal(np.asarray(row["image"]), pixels)


def test_photos_are_rows_in_an_order_with_a_reader_of_their_pixels(images: Path) -> None:
    table = make_table(images)
    read: list[int] = []
    photos = Photos(table, np.array([2, 0]), lambda rows: read.extend(rows.tolist()) or torch.zeros(len(rows)))
    assert len(photos) == 2 and photos.has_labels and photos.people == [ANNA, BERT]
    assert photos.column("path").tolist() == [table["path"][2], table["path"][0]]
    assert photos.labels.tolist() == [[2, 0, 2], [1, 1, 1]]
    assert len(photos.pixels(np.array([1, 1, 0]))) == 3 and read == [0, 0, 2]


# The splits


@pytest.mark.parametrize("fold", [0, 1])
def test_training_and_validation_share_no_person(fold: int, sample: Path, tmp_path: Path) -> None:
    data = split(sample, fold=fold)
    train, valid = data.train.people, data.valid.people
    assert not set(train) & set(valid)
    assert sorted(train + valid) == profiles.profile_folders(sample / "images")
    assert (len(train), len(valid)) == (6, 6)
    assert sorted([*data.train.rows, *data.valid.rows]) == list(range(84))
    assert data.ignored == {"hidden": 2}


def test_the_lists_decide_who_validates(sample: Path, tmp_path: Path) -> None:
    lists = {"train_profile": str(sample / "train_profiles.txt"), "valid_profile": str(sample / "valid_profiles.txt")}
    data = split(sample, **lists)
    assert data.train.people == sorted(profiles.profile_lines(lists["train_profile"]))
    assert data.valid.people == sorted(profiles.profile_lines(lists["valid_profile"]))
    assert (len(data.train), len(data.valid)) == (70, 14)


def test_with_a_validation_list_alone_everybody_else_trains(sample: Path, tmp_path: Path) -> None:
    valid = str(sample / "valid_profiles.txt")
    data = split(sample, valid_profile=valid)
    assert data.valid.people == sorted(profiles.profile_lines(valid))
    assert data.train.people == sorted(profiles.profile_lines(sample / "train_profiles.txt"))


def test_with_a_training_list_alone_one_fold_of_it_validates(sample: Path, tmp_path: Path) -> None:
    names = profiles.profile_folders(sample / "images")
    (tmp_path / "train.txt").write_text("\n".join(reversed(names)), encoding="utf-8")
    data = split(sample, train_profile=str(tmp_path / "train.txt"))
    valid = profiles.people_of_fold(map(profiles.parse_profile, names), num_folds=2, fold=0, seed=0)
    assert (data.train.people, data.valid.people) == (sorted(set(names) - set(valid)), valid)


@pytest.mark.parametrize("train_profile", [None, "train_profiles.txt"])
def test_where_nobody_validates_all_train_whatever_the_folds(
    train_profile: str | None, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").write_text("000001_female_Asian_45\n")  # no list: the word is meant
    monkeypatch.chdir(tmp_path)
    train = str(sample / train_profile) if train_profile else None
    data = split(sample, train_profile=train, valid_profile="none", num_folds=99, fold=98)
    listed = (
        (sample / train_profile).read_text().split() if train_profile else profiles.profile_folders(sample / "images")
    )
    assert (data.train.people, data.valid.people, len(data.valid)) == (sorted(listed), [], 0)
    assert data.valid.labels.shape == (0, 3)
    everybody = split(sample, valid_profile="none")
    assert (data.key == everybody.key) is (train is None) and everybody.key != split(sample).key


def test_a_person_in_both_lists_is_refused(sample: Path, tmp_path: Path) -> None:
    train = str(sample / "train_profiles.txt")
    with pytest.raises(UserError, match="10 people are in both the training and the validation list: 0000"):
        split(sample, train_profile=train, valid_profile=train)


def test_listed_people_without_a_folder_are_all_named(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("9_male_Asian_3\n8_female_Asian_3\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        split(sample, valid_profile=str(tmp_path / "valid.txt"))
    for name in ("9_male_Asian_3", "8_female_Asian_3"):
        assert f"{name} is listed, but {sample / 'images'} has no such folder" in str(error.value)


def test_corrected_labels_reach_the_table_the_key_the_counts_and_the_folds(sample: Path, tmp_path: Path) -> None:
    before = split(sample)
    names, genders = before.table["profile"], np.asarray(before.table["gender"])
    man, woman = names[int(np.argmin(genders))], names[int(np.argmax(genders))]
    rows = [f"{man},,,female,", f"{woman},normal,incorrect,,", f"{woman},incorrect_mask,not_worn,,", "no one,,,male,"]
    (tmp_path / "fixes.csv").write_text("\n".join(["profile,stem,mask,gender,age", *rows]), encoding="utf-8")
    after = split(sample, label_fixes=str(tmp_path / "fixes.csv"), num_folds=1)
    corrected = after.corrected
    assert (Counter(corrected.changed), corrected.num_unmatched_rows) == ({man: 7, woman: 2}, 1)
    assert before.corrected is None
    assert before.key != after.key
    for old, new in zip(before.table.remove_columns("image"), after.table.remove_columns("image"), strict=True):
        expected = dict(old)
        if old["profile"] == man:
            expected["gender"] = 1
        elif old["profile"] == woman and old["mask"] > 0:
            expected["mask"] = 3 - old["mask"]
        expected["class"] = 6 * expected["mask"] + 3 * expected["gender"] + old["age_group"]
        assert new == expected
    assert np.array_equal(after.train.labels[:, 1], np.asarray(after.table["gender"])[after.train.rows])
    # One man of his age group is left, which two folds cannot share.
    with pytest.raises(
        UserError, match=r"not enough people to deal every gender and age group to 2 folds: male .* has 1"
    ):
        split(sample, label_fixes=str(tmp_path / "fixes.csv"))


def test_people_who_are_not_listed_may_stand_among_the_corrections(sample: Path, tmp_path: Path) -> None:
    listed = {name: str(sample / f"{name}s.txt") for name in ("train_profile", "valid_profile")}
    stranger, known = (next(iter(profiles.profile_lines(path))) for path in listed.values())
    (tmp_path / "fixes.csv").write_text(
        f"profile,stem,mask,gender,age\n{stranger},,,,30\n{known},,,,31", encoding="utf-8"
    )
    (tmp_path / "train.txt").write_text(
        "\n".join(list(profiles.profile_lines(listed["train_profile"]))[1:]), encoding="utf-8"
    )
    data = split(sample, label_fixes=str(tmp_path / "fixes.csv"),
                 train_profile=str(tmp_path / "train.txt"), valid_profile=listed["valid_profile"])  # fmt: skip
    assert ({*data.corrected.changed}, data.corrected.num_unmatched_rows) == ({known}, 0)
    assert set(np.asarray(data.table["age"])[np.asarray(data.table["profile"]) == known]) == {31}
