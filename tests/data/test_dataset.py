"""Photos become one table with named labels, cached by what the photos are; and the folder that inference reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Image, load_from_disk

from maskcls import labels
from maskcls.data import profiles
from maskcls.data.dataset import FaceData, Photos, ProfileSource, build_table, custom_dataset_split_by_profile, features
from maskcls.errors import Fault, UserError
from tests.data.drawn import ANNA, BERT, PHOTOS, two_people
from tests.helpers import files_of_at_most


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return two_people(tmp_path / "images")


def make_table(images: Path, cache: Path) -> Dataset:
    return build_table(profiles.find_photos(images, list(PHOTOS))[0], images, cache)


def tables(cache: Path) -> list[Path]:
    """Returns everything that lies in the cache of tables, unfinished ones too."""
    return sorted((cache / "tables").iterdir())


def split(sample: Path, cache: Path, **changes: object) -> FaceData:
    facts = {
        "data_dir": str(sample / "images"), "train_profile": None, "valid_profile": None,
        "num_folds": 2, "fold": 0, "seed": 0, "cache_dir": str(cache),
    }  # fmt: skip
    return custom_dataset_split_by_profile(ProfileSource(**{**facts, **changes}))


# The table


def test_a_row_holds_the_photo_and_everything_its_path_says(images: Path, tmp_path: Path) -> None:
    table = make_table(images, tmp_path / "cache")
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
    columns = make_table(images, tmp_path / "cache").features
    assert columns == features()
    assert isinstance(columns["image"], Image)
    named = {name: column.names for name, column in columns.items() if isinstance(column, ClassLabel)}
    assert named == {
        "mask": ["worn", "incorrect", "not_worn"], "gender": ["male", "female"], "age_group": ["<30", "30-59", ">=60"],
        "class": list(labels.HEAD_CLASSES["class"]),
    }  # fmt: skip
    assert columns["class"].num_classes == 18


def test_the_class_column_is_the_code_of_the_three_labels(sample: Path, tmp_path: Path) -> None:
    data = split(sample, tmp_path)
    truth = Photos(data.table, np.arange(84)).labels
    codes = (truth @ [6, 3, 1]).tolist()
    assert codes == list(data.table["class"])
    assert (truth.shape, truth.dtype) == ((84, 3), np.int64)
    assert np.array_equal(data.train.labels, truth[data.train.rows])
    assert len(set(codes)) == 18  # 12 people, two of every gender and age group
    groups = [labels.age_group(age) for age in data.table["age"]]
    assert groups == list(data.table["age_group"])


def test_a_second_call_reads_the_first_ones_table(images: Path, tmp_path: Path) -> None:
    first = make_table(images, tmp_path / "cache")
    (file,) = tables(tmp_path / "cache")
    os.utime(file, ns=(1, 1))
    second = make_table(images, tmp_path / "cache")
    assert tables(tmp_path / "cache") == [file]
    assert file.stat().st_mtime_ns == 1
    assert second.remove_columns("image")[:] == first.remove_columns("image")[:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: os.truncate(file, 0),
        lambda file: file.write_bytes(bytes(file.stat().st_size)),
        lambda file: file.write_bytes(file.read_bytes().replace(b"Asian", b"\0\0\0\0\0")),
        lambda file: file.write_text("no table"),
    ],
    ids=["truncated", "empty", "zeroed", "zeroed in parts", "something else"],
)
def test_a_table_that_is_damaged_in_the_cache_is_made_again(
    damage: Callable[[Path], object], images: Path, tmp_path: Path
) -> None:
    first = make_table(images, tmp_path / "cache").remove_columns("image")[:]
    (file,) = tables(tmp_path / "cache")
    damage(file)
    assert make_table(images, tmp_path / "cache").remove_columns("image")[:] == first
    assert tables(tmp_path / "cache") == [file]


def test_the_cached_table_holds_paths_and_no_photos(images: Path, tmp_path: Path) -> None:
    paths = sorted(str(images / profile / file) for profile, files in PHOTOS.items() for file in files)
    for _ in range(2):  # written, read
        undecoded = make_table(images, tmp_path / "cache").cast_column("image", Image(decode=False))
        assert [row["bytes"] for row in undecoded["image"]] == [None] * 3
        assert sorted(row["path"] for row in undecoded["image"]) == paths


@pytest.mark.parametrize("change", ["newer", "larger", "renamed", "another", "one less"])
def test_a_changed_photo_gives_another_table(change: str, images: Path, tmp_path: Path) -> None:
    make_table(images, tmp_path / "cache")
    photo = images / ANNA / "mask1.jpg"
    stat = photo.stat()
    if change == "newer":
        os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif change == "larger":
        photo.write_bytes(photo.read_bytes() + b"\0")
        os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "renamed":
        photo.rename(photo.with_name("mask2.jpg"))
    elif change == "another":
        shutil.copy2(photo, photo.with_name("mask5.jpg"))
    else:
        photo.unlink()
    table = make_table(images, tmp_path / "cache")
    assert len(tables(tmp_path / "cache")) == 2
    assert len(table) == {"another": 4, "one less": 2}.get(change, 3)


def test_photos_elsewhere_have_another_table(images: Path, tmp_path: Path) -> None:
    make_table(images, tmp_path / "cache")
    shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copy2)
    table = make_table(tmp_path / "copy", tmp_path / "cache")
    assert all(path.startswith(str(tmp_path / "copy")) for path in table["path"])
    assert len(tables(tmp_path / "cache")) == 2


def test_a_link_to_nowhere_is_named(images: Path, tmp_path: Path) -> None:
    (images / ANNA / "mask2.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError, match=rf"{ANNA}.*mask2\.jpg"):
        make_table(images, tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^cache_dir {tmp_path}/file cannot be written"):
        make_table(images, tmp_path / "file")


def test_a_disk_that_takes_half_a_table_keeps_nothing_of_it(images: Path, tmp_path: Path) -> None:
    with pytest.raises(Fault, match=rf"cache_dir {tmp_path}/cache.*: File too large$"), files_of_at_most(100):
        make_table(images, tmp_path / "cache")
    assert tables(tmp_path / "cache") == []


def test_a_saved_table_carries_its_photos_along(images: Path, tmp_path: Path) -> None:
    table = make_table(images, tmp_path / "cache")
    table.save_to_disk(tmp_path / "saved")
    expected = [np.asarray(row["image"]) for row in table]
    shutil.rmtree(images)
    loaded = load_from_disk(str(tmp_path / "saved"))
    assert loaded.features == features()
    assert loaded.remove_columns("image")[:] == table.remove_columns("image")[:]
    for row, pixels in zip(loaded, expected, strict=True):
        assert np.array_equal(np.asarray(row["image"]), pixels)


# Several at once


def test_a_launch_with_the_same_process_id_does_not_disturb(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads share their process id, and two containers or nodes with one cache_dir may."""
    unfinished_names, others = [], []
    real = os.replace

    def overtaken(unfinished: Path, file: Path) -> None:
        unfinished_names.append(unfinished)
        if len(unfinished_names) == 1:
            others.append(make_table(images, tmp_path / "cache"))
        real(unfinished, file)

    monkeypatch.setattr(os, "replace", overtaken)
    table = make_table(images, tmp_path / "cache")
    assert len(set(unfinished_names)) == 2
    assert table.remove_columns("image")[:] == others[0].remove_columns("image")[:]
    assert len(tables(tmp_path / "cache")) == 1


def test_threads_that_build_at_once_all_get_the_table(images: Path, tmp_path: Path) -> None:
    for attempt in range(10):
        barrier = Barrier(2)

        def build(cache: Path = tmp_path / f"cache{attempt}", barrier: Barrier = barrier) -> list[str]:
            barrier.wait()
            return list(make_table(images, cache)["path"])

        with ThreadPoolExecutor(2) as pool:
            first, second = [future.result() for future in [pool.submit(build), pool.submit(build)]]
        assert len(first) == 3
        assert first == second
        assert len(tables(tmp_path / f"cache{attempt}")) == 1


@pytest.mark.slow
def test_processes_that_build_at_once_all_get_the_table(images: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from maskcls.data import profiles\n"
        "from maskcls.data.dataset import build_table\n"
        "import datasets\n"
        "images, cache = map(pathlib.Path, sys.argv[1:])\n"
        "photos, _ = profiles.find_photos(images, profiles.profile_folders(images))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(list(build_table(photos, images, cache)['path']))\n"
    )
    command = [sys.executable, "-c", code, str(images), str(tmp_path / "cache")]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    printed = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert printed == [f"{list(make_table(images, tmp_path / 'cache')['path'])}\n"] * 2
    assert len(tables(tmp_path / "cache")) == 1


# The splits


@pytest.mark.parametrize("fold", [0, 1])
def test_training_and_validation_share_no_person(fold: int, sample: Path, tmp_path: Path) -> None:
    data = split(sample, tmp_path, fold=fold)
    train, valid = data.train.people, data.valid.people
    assert not set(train) & set(valid)
    assert sorted(train + valid) == profiles.profile_folders(sample / "images")
    assert (len(train), len(valid)) == (6, 6)
    assert sorted([*data.train.rows, *data.valid.rows]) == list(range(84))
    assert data.ignored == {"hidden": 2}


def test_the_lists_decide_who_validates(sample: Path, tmp_path: Path) -> None:
    lists = {"train_profile": str(sample / "train_profiles.txt"), "valid_profile": str(sample / "valid_profiles.txt")}
    data = split(sample, tmp_path, **lists)
    assert data.train.people == sorted(profiles.profile_lines(lists["train_profile"]))
    assert data.valid.people == sorted(profiles.profile_lines(lists["valid_profile"]))
    assert (len(data.train), len(data.valid)) == (70, 14)


def test_with_a_validation_list_alone_everybody_else_trains(sample: Path, tmp_path: Path) -> None:
    valid = str(sample / "valid_profiles.txt")
    data = split(sample, tmp_path, valid_profile=valid)
    assert data.valid.people == sorted(profiles.profile_lines(valid))
    assert data.train.people == sorted(profiles.profile_lines(sample / "train_profiles.txt"))


def test_with_a_training_list_alone_one_fold_of_it_validates(sample: Path, tmp_path: Path) -> None:
    names = profiles.profile_folders(sample / "images")
    (tmp_path / "train.txt").write_text("\n".join(reversed(names)), encoding="utf-8")
    data = split(sample, tmp_path / "cache", train_profile=str(tmp_path / "train.txt"))
    train, valid = profiles.split_by_person(
        [profiles.parse_profile(name) for name in names], num_folds=2, fold=0, seed=0
    )
    assert (data.train.people, data.valid.people) == (train, valid)


def test_a_person_in_both_lists_is_refused(sample: Path, tmp_path: Path) -> None:
    train = str(sample / "train_profiles.txt")
    with pytest.raises(UserError, match="10 people are in both the training and the validation list: 0000"):
        split(sample, tmp_path, train_profile=train, valid_profile=train)


def test_listed_people_without_a_folder_are_all_named(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("9_male_Asian_3\n8_female_Asian_3\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        split(sample, tmp_path, valid_profile=str(tmp_path / "valid.txt"))
    for name in ("9_male_Asian_3", "8_female_Asian_3"):
        assert f"{name} is listed, but {sample / 'images'} has no such folder" in str(error.value)


def test_corrected_labels_reach_the_table_the_cache_the_counts_and_the_folds(sample: Path, tmp_path: Path) -> None:
    before = split(sample, tmp_path / "cache")
    names, genders = before.table["profile"], np.asarray(before.table["gender"])
    man, woman = names[int(np.argmin(genders))], names[int(np.argmax(genders))]
    rows = [f"{man},,,female,", f"{woman},normal,incorrect,,", f"{woman},incorrect_mask,not_worn,,", "no one,,,male,"]
    (tmp_path / "fixes.csv").write_text("\n".join(["profile,stem,mask,gender,age", *rows]), encoding="utf-8")
    after = split(sample, tmp_path / "cache", label_fixes=str(tmp_path / "fixes.csv"), num_folds=1)
    corrected = after.corrected
    assert (corrected.num_photos, corrected.people, corrected.num_unmatched_rows) == (7 + 2, sorted([man, woman]), 1)
    assert before.corrected is None
    assert len(tables(tmp_path / "cache")) == 2
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
        split(sample, tmp_path / "cache", label_fixes=str(tmp_path / "fixes.csv"))


def test_people_who_are_not_listed_may_stand_among_the_corrections(sample: Path, tmp_path: Path) -> None:
    listed = {name: str(sample / f"{name}s.txt") for name in ("train_profile", "valid_profile")}
    stranger, known = (next(iter(profiles.profile_lines(path))) for path in listed.values())
    (tmp_path / "fixes.csv").write_text(
        f"profile,stem,mask,gender,age\n{stranger},,,,30\n{known},,,,31", encoding="utf-8"
    )
    (tmp_path / "train.txt").write_text(
        "\n".join(list(profiles.profile_lines(listed["train_profile"]))[1:]), encoding="utf-8"
    )
    data = split(sample, tmp_path / "cache", label_fixes=str(tmp_path / "fixes.csv"),
                 train_profile=str(tmp_path / "train.txt"), valid_profile=listed["valid_profile"])  # fmt: skip
    assert (data.corrected.people, data.corrected.num_unmatched_rows) == ([known], 0)
    assert set(np.asarray(data.table["age"])[np.asarray(data.table["profile"]) == known]) == {31}
