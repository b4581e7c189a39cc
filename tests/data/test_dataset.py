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
from PIL import Image as Pillow

from maskcls import labels
from maskcls.data import profiles
from maskcls.data.dataset import (
    FaceData,
    ProfileSource,
    build_table,
    custom_dataset_split_by_profile,
    features,
    inference_data,
    table_labels,
)
from maskcls.errors import Fault, UserError
from tests.helpers import files_of_at_most

ANNA, BERT = "000001_female_Asian_45", "000002_male_Asian_60"
PHOTOS = {ANNA: ["mask1.jpg", "incorrect_mask.PNG"], BERT: ["normal.jpeg"]}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns a folder with two people and three photos of 8 x 6 pixels."""
    for profile, files in PHOTOS.items():
        (tmp_path / "images" / profile).mkdir(parents=True)
        for number, file in enumerate(files):
            Pillow.new("RGB", (8, 6), (40 * number, 99, 200)).save(tmp_path / "images" / profile / file)
    return tmp_path / "images"


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
    return custom_dataset_split_by_profile(ProfileSource(**{**facts, **changes}), output="all")


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
    codes = [labels.encode_class(*row) for row in data.labels().tolist()]
    assert codes == list(data.table["class"])
    assert data.labels().shape == (84, 3)
    assert data.labels().dtype == np.int64
    assert len(set(codes)) == 18  # 12 people, two of every gender and age group
    assert np.array_equal(data.labels(), table_labels(data.table))
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
    train, valid = data.people(data.train_rows), data.people(data.valid_rows)
    assert not set(train) & set(valid)
    assert sorted(train + valid) == profiles.profile_folders(sample / "images")
    assert (len(train), len(valid)) == (6, 6)
    assert sorted([*data.train_rows, *data.valid_rows]) == list(range(84))
    assert data.passed_over == {"hidden": 2}


def test_the_lists_decide_who_validates(sample: Path, tmp_path: Path) -> None:
    lists = {"train_profile": str(sample / "train_profiles.txt"), "valid_profile": str(sample / "valid_profiles.txt")}
    data = split(sample, tmp_path, **lists)
    assert data.people(data.train_rows) == sorted(profiles.read_profile_list(lists["train_profile"]))
    assert data.people(data.valid_rows) == sorted(profiles.read_profile_list(lists["valid_profile"]))
    assert (len(data.train_rows), len(data.valid_rows)) == (70, 14)


def test_with_a_validation_list_alone_everybody_else_trains(sample: Path, tmp_path: Path) -> None:
    valid = str(sample / "valid_profiles.txt")
    data = split(sample, tmp_path, valid_profile=valid)
    assert data.people(data.valid_rows) == sorted(profiles.read_profile_list(valid))
    assert data.people(data.train_rows) == sorted(profiles.read_profile_list(sample / "train_profiles.txt"))


def test_with_a_training_list_alone_one_fold_of_it_validates(sample: Path, tmp_path: Path) -> None:
    names = profiles.profile_folders(sample / "images")
    (tmp_path / "train.txt").write_text("\n".join(reversed(names)), encoding="utf-8")
    data = split(sample, tmp_path / "cache", train_profile=str(tmp_path / "train.txt"))
    train, valid = profiles.split_by_person(
        [profiles.parse_profile(name) for name in names], num_folds=2, fold=0, seed=0
    )
    assert (data.people(data.train_rows), data.people(data.valid_rows)) == (train, valid)


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
        expected["class"] = labels.encode_class(expected["mask"], expected["gender"], old["age_group"])
        assert new == expected
    assert np.array_equal(after.labels()[:, 1], np.asarray(after.table["gender"]))
    # One man of his age group is left, which two folds cannot share.
    with pytest.raises(
        UserError, match=r"not enough people to deal every gender and age group to 2 folds: male .* has 1"
    ):
        split(sample, tmp_path / "cache", label_fixes=str(tmp_path / "fixes.csv"))


def test_people_who_are_not_listed_may_stand_among_the_corrections(sample: Path, tmp_path: Path) -> None:
    listed = {name: str(sample / f"{name}s.txt") for name in ("train_profile", "valid_profile")}
    stranger, known = (profiles.read_profile_list(path)[0] for path in listed.values())
    (tmp_path / "fixes.csv").write_text(
        f"profile,stem,mask,gender,age\n{stranger},,,,30\n{known},,,,31", encoding="utf-8"
    )
    (tmp_path / "train.txt").write_text(
        "\n".join(profiles.read_profile_list(listed["train_profile"])[1:]), encoding="utf-8"
    )
    data = split(sample, tmp_path / "cache", label_fixes=str(tmp_path / "fixes.csv"),
                 train_profile=str(tmp_path / "train.txt"), valid_profile=listed["valid_profile"])  # fmt: skip
    assert (data.corrected.people, data.corrected.num_unmatched_rows) == ([known], 0)
    assert set(np.asarray(data.table["age"])[np.asarray(data.table["profile"]) == known]) == {31}


def test_given_statistics_are_three_numbers_and_missing_ones_none(sample: Path, tmp_path: Path) -> None:
    source = ProfileSource(str(sample / "images"), None, None, 2, 0, 0, str(tmp_path))
    data = custom_dataset_split_by_profile(source, output="mask", mean=[0, 0.5, 1], std=None)
    assert (data.output, data.mean, data.std) == ("mask", (0.0, 0.5, 1.0), None)


# The folder that inference reads


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Returns a folder with images/: c.jpg, a.PNG, b.jpeg and files that are no photos."""
    (tmp_path / "eval" / "images").mkdir(parents=True)
    for number, name in enumerate(["c.jpg", "a.PNG", "b.jpeg"]):
        Pillow.new("RGB", (4 + number, 3), (0, 0, 99)).save(tmp_path / "eval" / "images" / name)
    for name in (".a.jpg", "notes.txt"):
        (tmp_path / "eval" / "images" / name).touch()
    return tmp_path / "eval"


def info(evaluation: Path, text: str | bytes) -> None:
    (evaluation / "info.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_the_samples_evaluation_folder_is_read_in_the_order_of_info(sample: Path, tmp_path: Path) -> None:
    data = inference_data(sample / "eval", tmp_path)
    lines = (sample / "eval" / "info.csv").read_text().splitlines()
    assert data.image_ids == [line.split(",")[0] for line in lines[1:]]
    assert len(data.table) == len(data.image_ids) == 14
    assert data.labels is None


def test_the_order_of_info_is_kept(evaluation: Path, tmp_path: Path) -> None:
    for text in ("ImageID,ans\nb.jpeg,0\nc.jpg,0\na.PNG,0\n", "\ufeffans,ImageID\r\n,b.jpeg\r\n1,c.jpg\r\n2,a.PNG\r\n"):
        info(evaluation, text)
        data = inference_data(evaluation, tmp_path)
        assert data.image_ids == ["b.jpeg", "c.jpg", "a.PNG"]
        assert [photo.size for photo in data.table["image"]] == [(6, 3), (4, 3), (5, 3)]  # the rows are the same photos


def test_info_may_leave_photos_out(evaluation: Path, tmp_path: Path) -> None:
    info(evaluation, "ImageID\nb.jpeg\n")
    assert inference_data(evaluation, tmp_path).image_ids == ["b.jpeg"]


def test_without_info_photos_are_sorted(evaluation: Path, tmp_path: Path) -> None:
    data = inference_data(evaluation, tmp_path)
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert [photo.size for photo in data.table["image"]] == [(5, 3), (6, 3), (4, 3)]
    assert data.labels is None


def test_photos_may_lie_in_the_folder_itself(evaluation: Path, tmp_path: Path) -> None:
    data = inference_data(evaluation / "images", tmp_path)
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert len(data.table) == 3


def test_profile_folders_bring_their_labels(images: Path, tmp_path: Path) -> None:
    data = inference_data(images, tmp_path / "cache")
    assert data.image_ids == [f"{ANNA}/incorrect_mask.PNG", f"{ANNA}/mask1.jpg", f"{BERT}/normal.jpeg"]
    assert data.labels.tolist() == [[1, 1, 1], [0, 1, 1], [2, 0, 2]]
    assert len(data.table) == 3


def test_all_bad_rows_of_info_are_told_in_one_message(evaluation: Path, tmp_path: Path) -> None:
    (evaluation / "x.jpg").touch()
    (evaluation / "images" / "sub").mkdir()
    (evaluation / "images" / "sub" / "b.jpg").touch()
    absolute = evaluation / "images" / "c.jpg"
    rows = ["a.PNG", "../x.jpg", "sub/b.jpg", "gone.jpg", "a.PNG", '""', "..", ".", str(absolute), "C.JPG", "c.jpg"]
    info(evaluation, "ImageID,ans\n" + "".join(f"{row},0\n" for row in rows))
    with pytest.raises(UserError) as error:
        inference_data(evaluation, tmp_path)
    heading, *problems = str(error.value).splitlines()
    path = evaluation / "info.csv"
    assert heading == f"9 problems in {path}:"
    assert problems == [
        f"  - {path}, line 3: '../x.jpg' is not the name of a file in images/",
        f"  - {path}, line 4: 'sub/b.jpg' is not the name of a file in images/",
        f"  - {path}, line 5: images/ has no 'gone.jpg'",
        f"  - {path}, line 6: duplicate a.PNG, first in line 2",
        f"  - {path}, line 7: '' is not the name of a file in images/",
        f"  - {path}, line 8: '..' is not the name of a file in images/",
        f"  - {path}, line 9: '.' is not the name of a file in images/",
        f"  - {path}, line 10: '{absolute}' is not the name of a file in images/",
        f"  - {path}, line 11: images/ has no 'C.JPG'",
    ]


def test_lines_are_counted_as_an_editor_counts_them(evaluation: Path, tmp_path: Path) -> None:
    info(evaluation, 'ImageID,ans\na.PNG,"two\nlines"\n\n\ngone.jpg,0\n')
    with pytest.raises(UserError, match=r"info\.csv, line 6: images/ has no 'gone\.jpg'$"):
        inference_data(evaluation, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "info.csv has no column ImageID; its columns are none"),
        ("name,ans\na.PNG,0\n", "info.csv has no column ImageID; its columns are 'name', 'ans'"),
        ("imageid\na.PNG\n", "info.csv has no column ImageID; its columns are 'imageid'"),
        ("ImageID;ans\na.PNG;0\n", "its columns are 'ImageID;ans'. Columns are divided by commas, not by ';'"),
        ("ImageID\tans\na.PNG\t0\n", "its columns are 'ImageID\\tans'. Columns are divided by commas, not by '\\t'"),
        ("ImageID ,ans\na.PNG,0\n", "its columns are 'ImageID ', 'ans'"),
        ("ImageID,ans\na.PNG ,0\n", "line 2: images/ has no 'a.PNG ', but 'a.PNG', without blanks"),
        (
            "이름\n가.jpg\n".encode("cp949"),
            "info.csv cannot be read as UTF-8 CSV: 'utf-8' codec can't decode byte 0xc0 in position 0: invalid start byte. Save it as UTF-8",
        ),
        ("ImageID,ans\n", "info.csv has no rows"),
        ("ImageID,ans\n\n\n", "info.csv has no rows"),
        ("ans,ImageID\n0\n", "info.csv, line 2: None is not the name of a file in images/"),
        ('ImageID\n"a.PNG\n', "info.csv cannot be read as UTF-8 CSV: unexpected end of data"),
        (b"ImageID\n\xff.jpg\n", "info.csv cannot be read as UTF-8 CSV: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_bad_info_is_refused(text: str | bytes, words: str, evaluation: Path, tmp_path: Path) -> None:
    info(evaluation, text)
    with pytest.raises(UserError) as error:
        inference_data(evaluation, tmp_path)
    assert words in str(error.value)
    assert str(evaluation) in str(error.value)


def test_what_is_no_photo_is_counted_by_its_kind(evaluation: Path, tmp_path: Path) -> None:
    for name in ("d.HEIC", "e.heic", "f.cr2"):
        (evaluation / "images" / name).touch()
    (evaluation / "images" / "thumbnails").mkdir()
    (evaluation / "images" / ".cache").mkdir()
    (evaluation / "loose.jpg").touch()
    data = inference_data(evaluation, tmp_path)
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert data.passed_over == {".heic": 2, ".cr2": 1, ".txt": 1, "hidden": 1, "folder": 1, "beside": 1}
    info(evaluation, "ImageID\nb.jpeg\n")
    assert inference_data(evaluation, tmp_path).passed_over == {}  # it says what is to be predicted


def test_photos_beside_profile_folders_are_refused_for_one_of_them_would_be_left_out(
    images: Path, tmp_path: Path
) -> None:
    (images / "thumb.jpg").touch()
    with pytest.raises(UserError) as error:
        inference_data(images, tmp_path / "cache")
    assert str(error.value).startswith(f"{images} holds photos (thumb.jpg) and profile folders ({ANNA}, {BERT}): it is")
    with pytest.raises(UserError, match="not clear which"):
        inference_data(images.parent, tmp_path / "cache")
    (images / "thumb.jpg").rename(images / "thumb.heic")
    data = inference_data(images, tmp_path / "cache")
    assert (len(data.image_ids), data.passed_over) == (3, {".heic": 1})


def test_a_file_and_a_folder_above_the_right_one_are_told_as_what_they_are(images: Path, tmp_path: Path) -> None:
    photo = images / ANNA / "mask1.jpg"
    with pytest.raises(UserError, match=rf"^infer_data_dir {photo} is a file, not a folder$"):
        inference_data(photo, tmp_path / "cache")
    with pytest.raises(
        UserError, match=rf"images holds no images but profile folders: give --infer_data_dir {images}$"
    ):
        inference_data(images.parent, tmp_path / "cache")
    for path in (images / ANNA).iterdir():
        path.rename(path.with_suffix(".heic"))
    words = r"000001\S* has no photos that can be read \(2 .heic\): convert them to JPEG or PNG$"
    with pytest.raises(UserError, match=words):
        inference_data(images, tmp_path / "cache")
    shutil.rmtree(images / BERT)
    (images / ANNA).rename(images.parent / "flat")
    with pytest.raises(UserError, match=r"profile folders that can be read \(2 .heic\): convert them to JPEG or PNG$"):
        inference_data(images.parent / "flat", tmp_path / "cache")


@pytest.mark.parametrize("has_info", [False, True])
def test_photos_whose_names_are_not_utf_8_are_named_with_the_way_to_mend_them(
    has_info: bool, evaluation: Path, tmp_path: Path
) -> None:
    (evaluation / "images" / os.fsdecode("김유신.jpg".encode("cp949"))).touch()
    if has_info:
        info(evaluation, "ImageID\n김유신.jpg\n")
    with pytest.raises(UserError) as error:
        inference_data(evaluation, tmp_path)
    words = "is not UTF-8, in CP949 it is '김유신.jpg': rename it, for example with convmv -f cp949 -t utf8 --notest -r"
    if not has_info:
        words = f".jpg' {words}"
    assert words in str(error.value)
    str(error.value).encode()  # it can be printed anywhere


def test_a_folder_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^infer_data_dir .*none does not exist$"):
        inference_data(tmp_path / "none", tmp_path / "cache")
    (tmp_path / "eval").mkdir()
    with pytest.raises(UserError, match=r"^infer_data_dir .*eval holds no"):
        inference_data(tmp_path / "eval", tmp_path / "cache")
    (tmp_path / "eval" / "images").mkdir()
    with pytest.raises(UserError, match=r"eval/images holds no images$"):
        inference_data(tmp_path / "eval", tmp_path / "cache")
