"""`maskcls diff` as a person types it: what it counts, writes and shows, and what it refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from maskcls.labels import HEAD_CLASSES
from maskcls.training.answers import Answers
from tests.helpers import Parsed, maskcls, rows

EVIL = "<img src=x onerror=alert(1)>.jpg"
BEFORE = {"a.jpg": 0, "b.jpg": 4, EVIL: 17, "d.jpg": 1, "e.jpg": 2}
AFTER = {"a.jpg": 0, "b.jpg": 3, EVIL: 8, "d.jpg": 4, "e.jpg": 2}


def written(folder: Path, answers: Mapping[str, int], *, head: str = "class", sure: float = 0.75) -> Path:
    """Returns a table of answers that infer.py wrote."""
    labels, num_classes = np.array(list(answers.values())), len(HEAD_CLASSES[head])
    others = (1 - sure) / (num_classes - 1)
    probabilities = np.where(np.eye(num_classes, dtype=bool)[labels], sure, others)
    Answers.into(folder).save(
        list(answers), labels, {head: probabilities} if head != "class" else everything(probabilities)
    )
    return folder / "output.csv"


def everything(classes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns probabilities of all heads from those of the classes."""
    cells = classes.reshape(-1, 3, 2, 3)
    return {"class": classes, "mask": cells.sum((2, 3)), "gender": cells.sum((1, 3)), "age": cells.sum((1, 2))}


def alone(path: Path, text: str) -> Path:
    """Returns a table that lies beside nothing."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Returns what the command prints."""
    capsys.readouterr()
    maskcls("diff", *words)
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Returns the message with which the command ends, exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        maskcls("diff", *words)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_answers_that_differ_are_counted_by_attribute_and_by_change_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a", BEFORE)
    shuffled = dict(reversed(AFTER.items()))
    found = said(capsys, tmp_path / "a", written(tmp_path / "b", shuffled), "--lang", "en")
    assert found.startswith("3 of 5 photos are answered differently (60.0%)\n")
    counts = dict(re.findall(r"^(mask|gender|age group) +(\d+)  \d+\.0%$", found, re.MULTILINE))
    assert counts == {"mask": "1", "gender": "2", "age group": "1"}
    assert re.search(r"^a → b +photos$", found, re.MULTILINE)
    assert re.search(r"^worn · male · 30–59 → worn · female · 30–59 +1$", found, re.MULTILINE)
    shown = re.findall(r"^(\S.*\.jpg) +(.+)$", found, re.MULTILINE)
    assert [name for name, _ in shown] == ["b.jpg", EVIL, "d.jpg"]
    assert shown[0][1] == "worn · female · 30–59 → worn · female · under 30"
    korean = said(capsys, tmp_path / "a", tmp_path / "b", "--lang", "ko")
    assert korean.startswith("사진 5장 중 3장의 답이 다릅니다 (60.0%)\n") and "나이대" in korean


def test_tables_that_say_the_same_are_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = written(tmp_path / "a", BEFORE)
    assert said(capsys, table, table) == "0 of 5 photos are answered differently (0.0%)\n"
    assert said(capsys, table, table, "--csv", tmp_path / "d.csv").endswith(f"table {tmp_path}/d.csv\n")
    assert (tmp_path / "d.csv").read_text() == "ImageID,ans_a,ans_b,name_a,name_b\n"


def test_the_console_names_the_first_and_the_table_has_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number:02d}.jpg" for number in range(30)]
    a = written(tmp_path / "a", dict.fromkeys(names, 0), head="gender")
    b = written(tmp_path / "b", dict.fromkeys(names, 1), head="gender")
    found = said(capsys, a, b, "--csv", tmp_path / "d.csv")
    assert "male → female  30" in found and "19.jpg" in found and "20.jpg" not in found
    assert "and 10 more: --csv FILE writes all" in found
    table = rows(tmp_path / "d.csv")
    assert [row["ImageID"] for row in table] == names
    assert table[7] == {"ImageID": "07.jpg", "ans_a": "0", "ans_b": "1", "name_a": "male", "name_b": "female"}


def test_what_numbers_mean_is_said_only_where_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = "ImageID,ans\nx.jpg,{}\ny.jpg,2\n"
    a, b = alone(tmp_path / "a.csv", small.format(0)), alone(tmp_path / "b.csv", small.format(1))
    unknown = said(capsys, a, b)
    assert "x.jpg  0 → 1" in unknown and "The numbers may be of several attributes" in unknown and "worn" not in unknown
    large = alone(tmp_path / "c.csv", small.format(17))  # only a class is that high
    assert "worn · male · under 30 → not worn · female · 60+" in said(capsys, a, large)
    beside = written(tmp_path / "age", {"x.jpg": 2, "y.jpg": 2}, head="age")
    assert "under 30 → 60+" in said(capsys, a, beside)
    edited = alone(tmp_path / "age" / "other.csv", "ImageID,ans\nx.jpg,2\nz.jpg,2\n")  # probabilities of other photos
    assert "The numbers may be" in said(capsys, edited, alone(tmp_path / "e.csv", "ImageID,ans\nz.jpg,2\nx.jpg,1\n"))


@pytest.mark.parametrize(
    ("answers", "head", "words"),
    [
        ({"a.jpg": 0, "new.jpg": 1}, "class", r"the tables are about other photos: 1 only in \S+a/output.csv \(b.jpg\); "
         r"1 only in \S+b/output.csv \(new.jpg\); 1 in both"),
        ({"a.jpg": 0, "b.jpg": 1}, "gender", r"answer other questions: \S+a/output.csv class, \S+b/output.csv gender"),
    ],
)  # fmt: skip
def test_tables_of_other_photos_or_questions_are_refused(
    answers: Mapping[str, int], head: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(tmp_path / "a", {"a.jpg": 3, "b.jpg": 4})
    assert re.search(words, refused(capsys, a, written(tmp_path / "b", answers, head=head)))


def test_a_table_alone_with_answers_that_the_other_cannot_give_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gender = written(tmp_path / "a", {"a.jpg": 1}, head="gender")
    message = refused(capsys, gender, alone(tmp_path / "b.csv", "ImageID,ans\na.jpg,2\n"))
    assert message == f"error: {tmp_path}/b.csv has answers that are not about gender, as those of {gender} are\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ImageID;ans\na;1\n", "{} needs the column ImageID once; its first line has ImageID;ans"),
        ("ImageID,ans,ans\na,1,1\n", "{} needs the column ans once; its first line has ImageID, ans, ans"),
        ("", "{} needs the column ImageID once; its first line has nothing"),
        ("ImageID,ans\n", "{} has no rows"),
        ("ImageID,ans\na,1\na,2\n", "{}, line 3: duplicate a"),
        ("ImageID,ans\na,18\n", "{}, line 2: '18' is no answer, which is a number from 0 to 17"),
        ("ImageID,ans\na,female\n", "{}, line 2: 'female' is no answer"),
        ("ImageID,ans\na,-1\nb\n", "2 problems in a table of answers"),
        ('ImageID,ans\n"a,1\n', "table of answers {} cannot be read as UTF-8 CSV: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_answers_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = alone(tmp_path / "x.csv", text)
    assert words.format(table) in refused(capsys, table, table)


def test_a_missing_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"table of answers {tmp_path}/output.csv does not exist" in refused(capsys, tmp_path, tmp_path)


def photos_of(sample: Path, folder: Path, names: Sequence[str]) -> Path:
    """Returns a folder that inference reads, with photos of these names."""
    (folder / "images").mkdir(parents=True)
    photo = next((sample / "eval" / "images").iterdir())
    for name in names:
        shutil.copy(photo, folder / "images" / name)
    return folder


def test_the_page_shows_the_photos_with_both_answers(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = written(tmp_path / "a", BEFORE), written(tmp_path / "b", AFTER, sure=0.4)
    photos = photos_of(sample, tmp_path / "photos", ["b.jpg", EVIL])
    page = tmp_path / "d.html"
    assert f"page {page}\n" in said(capsys, a, b, "-o", page, "--infer_data_dir", photos)
    parsed = Parsed(page.read_text(encoding="utf-8"))
    images = [attributes for tag, attributes in parsed.elements if tag == "img"]
    assert [image["alt"] for image in images] == ["photo b.jpg", f"photo {EVIL}"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert not parsed.having("onerror") and EVIL in parsed.text
    assert parsed.text.count("photo not found") == 1  # of d.jpg
    assert parsed.text.count("75.0%") == parsed.text.count("40.0%") - 1 == 3  # 40 % of the photos differ about gender


@pytest.mark.parametrize("name", ["config.yaml", "folds.yaml"])
def test_the_page_finds_the_photos_of_the_run_or_the_folds_in_whose_folder_a_table_lies(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    a, b = written(tmp_path / "a", BEFORE), written(tmp_path / "b", AFTER)
    page, photos = tmp_path / "d.html", photos_of(sample, tmp_path / "photos", ["d.jpg"])
    assert "say with --infer_data_dir where they lie" in refused(capsys, a, b, "-o", page)
    (b.parent / name).write_text(f"data_dir: x\ninfer_data_dir: {photos}\nmodel: vit\ndataset_args: {{output: all}}\n")
    said(capsys, a, b, "-o", page)
    assert "photo d.jpg" in page.read_text(encoding="utf-8")


def test_a_folder_without_the_photos_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = written(tmp_path / "a", BEFORE), written(tmp_path / "b", AFTER)
    page = tmp_path / "d.html"
    message = refused(capsys, a, b, "-o", page, "--infer_data_dir", tmp_path)
    assert message.startswith(f"error: {tmp_path} holds none of the photos that are answered differently: ")
    assert "b.jpg" in message
    assert "infer_data_dir /gone does not exist" in refused(capsys, a, b, "-o", page, "--infer_data_dir", "/gone")
    assert not page.exists()
