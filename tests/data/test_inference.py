"""The folder that inference reads: every photo in its order, or all that is wrong in one message."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image as Pillow

from maskcls.data.inference import inference_data
from maskcls.errors import UserError
from tests.data.drawn import ANNA, BERT, two_people


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return two_people(tmp_path / "images")


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
    data = inference_data(sample / "eval")
    lines = (sample / "eval" / "info.csv").read_text().splitlines()
    assert data.image_ids == [line.split(",")[0] for line in lines[1:]]
    assert len(data.photos) == len(data.image_ids) == 14
    assert not data.photos.has_labels


def test_the_order_of_info_is_kept(evaluation: Path, tmp_path: Path) -> None:
    for text in ("ImageID,ans\nb.jpeg,0\nc.jpg,0\na.PNG,0\n", "\ufeffans,ImageID\r\n,b.jpeg\r\n1,c.jpg\r\n2,a.PNG\r\n"):
        info(evaluation, text)
        data = inference_data(evaluation)
        assert data.image_ids == ["b.jpeg", "c.jpg", "a.PNG"]
        assert [photo.size for photo in data.photos.table["image"]] == [
            (6, 3),
            (4, 3),
            (5, 3),
        ]  # the rows are the same photos


def test_info_may_leave_photos_out(evaluation: Path, tmp_path: Path) -> None:
    info(evaluation, "ImageID\nb.jpeg\n")
    assert inference_data(evaluation).image_ids == ["b.jpeg"]


def test_without_info_photos_are_sorted(evaluation: Path, tmp_path: Path) -> None:
    data = inference_data(evaluation)
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert [photo.size for photo in data.photos.table["image"]] == [(5, 3), (6, 3), (4, 3)]
    assert not data.photos.has_labels


def test_photos_may_lie_in_the_folder_itself(evaluation: Path, tmp_path: Path) -> None:
    data = inference_data(evaluation / "images")
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert len(data.photos) == 3


def test_profile_folders_bring_their_labels(images: Path, tmp_path: Path) -> None:
    data = inference_data(images)
    assert data.image_ids == [f"{ANNA}/incorrect_mask.PNG", f"{ANNA}/mask1.jpg", f"{BERT}/normal.jpeg"]
    assert data.photos.labels.tolist() == [[1, 1, 1], [0, 1, 1], [2, 0, 2]]
    assert len(data.photos) == 3


def test_all_bad_rows_of_info_are_reported_in_one_message(evaluation: Path, tmp_path: Path) -> None:
    (evaluation / "x.jpg").touch()
    (evaluation / "images" / "sub").mkdir()
    (evaluation / "images" / "sub" / "b.jpg").touch()
    absolute = evaluation / "images" / "c.jpg"
    rows = ["a.PNG", "../x.jpg", "sub/b.jpg", "gone.jpg", "a.PNG", '""', "..", ".", str(absolute), "C.JPG", "c.jpg"]
    info(evaluation, "ImageID,ans\n" + "".join(f"{row},0\n" for row in rows))
    with pytest.raises(UserError) as error:
        inference_data(evaluation)
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
        inference_data(evaluation)


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
        inference_data(evaluation)
    assert words in str(error.value)
    assert str(evaluation) in str(error.value)


def test_what_is_no_photo_is_counted_by_its_kind(evaluation: Path, tmp_path: Path) -> None:
    for name in ("d.HEIC", "e.heic", "f.cr2"):
        (evaluation / "images" / name).touch()
    (evaluation / "images" / "thumbnails").mkdir()
    (evaluation / "images" / ".cache").mkdir()
    (evaluation / "loose.jpg").touch()
    data = inference_data(evaluation)
    assert data.image_ids == ["a.PNG", "b.jpeg", "c.jpg"]
    assert data.ignored == {".heic": 2, ".cr2": 1, ".txt": 1, "hidden": 1, "folder": 1, "beside": 1}
    info(evaluation, "ImageID\nb.jpeg\n")
    assert inference_data(evaluation).ignored == {}  # it says what is to be predicted


def test_photos_beside_profile_folders_are_refused_for_one_of_them_would_be_left_out(
    images: Path, tmp_path: Path
) -> None:
    (images / "thumb.jpg").touch()
    with pytest.raises(UserError) as error:
        inference_data(images)
    assert str(error.value).startswith(f"{images} holds photos (thumb.jpg) and profile folders ({ANNA}, {BERT}): it is")
    with pytest.raises(UserError, match="not clear which"):
        inference_data(images.parent)
    (images / "thumb.jpg").rename(images / "thumb.heic")
    data = inference_data(images)
    assert (len(data.image_ids), data.ignored) == (3, {".heic": 1})


def test_a_file_and_a_folder_above_the_right_one_are_reported_as_what_they_are(images: Path, tmp_path: Path) -> None:
    photo = images / ANNA / "mask1.jpg"
    with pytest.raises(UserError, match=rf"^infer_data_dir {photo} is a file, not a folder$"):
        inference_data(photo)
    with pytest.raises(
        UserError, match=rf"images holds no images but profile folders: give --infer_data_dir {images}$"
    ):
        inference_data(images.parent)
    for path in (images / ANNA).iterdir():
        path.rename(path.with_suffix(".heic"))
    words = r"000001\S* has no photos that can be read \(2 .heic\): convert them to JPEG or PNG$"
    with pytest.raises(UserError, match=words):
        inference_data(images)
    shutil.rmtree(images / BERT)
    (images / ANNA).rename(images.parent / "flat")
    with pytest.raises(UserError, match=r"profile folders that can be read \(2 .heic\): convert them to JPEG or PNG$"):
        inference_data(images.parent / "flat")


@pytest.mark.parametrize("has_info", [False, True])
def test_photos_whose_names_are_not_utf_8_are_named_with_the_way_to_mend_them(
    has_info: bool, evaluation: Path, tmp_path: Path
) -> None:
    (evaluation / "images" / os.fsdecode("김유신.jpg".encode("cp949"))).touch()
    if has_info:
        info(evaluation, "ImageID\n김유신.jpg\n")
    with pytest.raises(UserError) as error:
        inference_data(evaluation)
    words = "is not UTF-8, in CP949 it is '김유신.jpg': rename it, for example with convmv -f cp949 -t utf8 --notest -r"
    if not has_info:
        words = f".jpg' {words}"
    assert words in str(error.value)
    str(error.value).encode()  # it can be printed anywhere


def test_a_folder_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^infer_data_dir .*none does not exist$"):
        inference_data(tmp_path / "none")
    (tmp_path / "eval").mkdir()
    with pytest.raises(UserError, match=r"^infer_data_dir .*eval holds no"):
        inference_data(tmp_path / "eval")
    (tmp_path / "eval" / "images").mkdir()
    with pytest.raises(UserError, match=r"eval/images holds no images$"):
        inference_data(tmp_path / "eval")


def test_a_column_of_info_says_whose_photo_each_is(evaluation: Path) -> None:
    info(evaluation, "ImageID,person,ans\nb.jpeg, anna ,0\nc.jpg,bert,0\na.PNG,anna,0\n")
    data = inference_data(evaluation, "person")
    assert data.groups is not None and data.groups.tolist() == ["anna", "bert", "anna"]
    assert data.image_ids == ["b.jpeg", "c.jpg", "a.PNG"]
    assert inference_data(evaluation).groups is None


def test_profile_folders_say_whose_photo_each_is(images: Path) -> None:
    data = inference_data(images, "profile")
    assert data.groups is not None and data.groups.tolist() == [ANNA, ANNA, BERT]


def test_every_photo_without_a_person_is_named(evaluation: Path) -> None:
    info(evaluation, "ImageID,person\nb.jpeg,anna\nc.jpg,  \na.PNG\n")
    with pytest.raises(UserError) as error:
        inference_data(evaluation, "person")
    assert str(error.value).splitlines() == [
        f"2 problems in {evaluation}/info.csv:",
        f"  - {evaluation}/info.csv, line 3: c.jpg has no person: who is on it?",
        f"  - {evaluation}/info.csv, line 4: a.PNG has no person: who is on it?",
    ]


@pytest.mark.parametrize(("group_by", "says"), [
    ("persn", "no such column to say whose photo it is. Did you mean 'person'? It has: person, camera"),
    ("profile", "no such column to say whose photo it is. It has: person, camera"),
    ("ans", "no such column to say whose photo it is. It has: person, camera"),
    ("", "no such column to say whose photo it is. It has: person, camera"),
])  # fmt: skip
def test_a_column_that_says_no_person_is_refused(group_by: str, says: str, evaluation: Path) -> None:
    info(evaluation, "ImageID,person,camera,ans\nb.jpeg,anna,1,0\n")
    with pytest.raises(UserError, match=re.escape(f"--group_by {group_by}: {evaluation}/info.csv has {says}") + "$"):
        inference_data(evaluation, group_by)


def test_photos_that_nobody_says_the_people_of_cannot_be_grouped(evaluation: Path, images: Path) -> None:
    for group_by in ("profile", "person"):
        says = f"^--group_by {group_by}: {evaluation} holds neither info.csv nor profile folders to say it$"
        with pytest.raises(UserError, match=says):
            inference_data(evaluation, group_by)
    with pytest.raises(UserError, match=f"^--group_by person: {images} holds .* no info.csv: --group_by profile$"):
        inference_data(images, "person")
