"""`maskcls suspects` writes what label_fixes reads, and refuses what would mislead."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maskcls.data.label_fixes import correct_labels
from maskcls.data.profiles import Photo
from maskcls.labels import ATTRIBUTES, STEMS, age_group
from tests import made
from tests.helpers import maskcls, rows

GENDER_WRONG, SWAPPED, AGE_WRONG = "000003_male_Asian_45", "000005_female_White_50", "000007_female_Black_70"
NAMES = [
    "000000_male_Asian_40", "000001_female_Asian_25", "000002_male_White_65", GENDER_WRONG, "000004_female_Indian_33",
    SWAPPED, "000006_male_Black_20", AGE_WRONG,
]  # fmt: skip


def a_run(folder: Path, names: list[str]) -> list[Photo]:
    """Writes a run's predictions, sure and right about what the three wrong labels hide; returns the photos."""
    photos, truths = [], []
    for name in names:
        _, gender, race, age = name.split("_")
        for stem in STEMS:
            labels = {**STEMS[stem], "gender": int(gender == "female"), "age": age_group(int(age))}
            photos.append(Photo(name, f"{stem}.png", labels, race, int(age)))
            swap = {"normal": "incorrect_mask", "incorrect_mask": "normal"} if name == SWAPPED else {}
            truths.append((
                STEMS[swap.get(stem, stem)]["mask"],
                int(gender == "female") ^ (name == GENDER_WRONG),
                0 if name == AGE_WRONG else age_group(int(age)),
            ))  # fmt: skip
    answers = dict(zip(ATTRIBUTES, np.transpose(truths), strict=True))
    files = [f"{stem}.png" for stem in STEMS]
    made.run_folder(folder, made.predictions(names, files=files, heads=list(ATTRIBUTES), answers=answers, sure=0.94))
    return photos


def test_the_table_of_two_folds_is_read_by_label_fixes_and_corrects_the_planted_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = a_run(tmp_path / "fold0", NAMES[:4]) + a_run(tmp_path / "fold1", NAMES[4:])
    written = tmp_path / "suspects.csv"
    maskcls("suspects", tmp_path / "fold0", tmp_path / "fold1", "-o", written)

    header = written.read_text().splitlines()[0]
    assert header == "profile,stem,mask,gender,age,suspicion,label,prediction,num_photos,reason"
    table = rows(written)
    assert len(table) == 8 * (1 + 1 + 7)
    proposals = {tuple(row[name] for name in ("profile", "stem", "mask", "gender", "age")) for row in table[:4]}
    assert proposals == {
        (GENDER_WRONG, "", "", "female", ""),
        (AGE_WRONG, "", "", "", "<30"),
        (SWAPPED, "normal", "incorrect", "", ""),
        (SWAPPED, "incorrect_mask", "not_worn", "", ""),
    }
    assert not any(row["mask"] or row["gender"] or row["age"] for row in table[4:])

    corrected = correct_labels(photos, written, NAMES)
    assert Counter(corrected.changed) == {GENDER_WRONG: 7, AGE_WRONG: 7, SWAPPED: 2}
    after = {(photo.profile, photo.stem): photo for photo in corrected.photos}
    assert {after[GENDER_WRONG, stem].labels["gender"] for stem in STEMS} == {1}
    assert {after[AGE_WRONG, stem].age for stem in STEMS} == {29}
    assert [after[SWAPPED, stem].labels["mask"] for stem in ("normal", "incorrect_mask")] == [1, 2]

    said = capsys.readouterr().out
    assert "8 people, 56 photos" in said
    assert "gender: 0.000 [0.000, 0.324] of the people" in said
    assert "72 rows, 4 propose another label (mask 2, gender 1, age 1)" in said
    assert f"label_fixes={written}" in said


def test_a_folds_folder_covers_everybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds = made.folds_folder(tmp_path / "exp", *(made.predictions(15, seed=seed) for seed in (0, 1)))
    maskcls("suspects", folds.path, "-o", tmp_path / "suspects.csv")
    assert capsys.readouterr().out.startswith("validated       15 people, 105 photos")


def test_top_keeps_the_first_rows(tmp_path: Path) -> None:
    a_run(tmp_path / "run", NAMES)
    maskcls("suspects", tmp_path / "run", "-o", tmp_path / "all.csv")
    maskcls("suspects", tmp_path / "run", "-o", tmp_path / "top.csv", "--top", "3")
    assert rows(tmp_path / "top.csv") == rows(tmp_path / "all.csv")[:3]


def test_mistakes_are_named_and_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, empty, written = tmp_path / "run", tmp_path / "empty", tmp_path / "suspects.csv"
    a_run(run, NAMES[:3])
    empty.mkdir()
    written.write_text("profile\n")
    for arguments, words in (
        ((empty,), "valid_predictions.parquet does not exist: the run has not finished an epoch"),
        ((run, run), "the runs validated some of the same photos"),
        ((run, "--top", "0"), "--top is 0; it is at least 1"),
        ((run, "-o", written), "exists already and may hold your corrections: name another file, or delete it first"),
        ((run, "-o", tmp_path / "no" / "x.csv"), "x.csv cannot be written: No such file or directory"),
    ):
        with pytest.raises(SystemExit) as exit_:
            maskcls("suspects", *arguments)
        assert exit_.value.code == 2
        assert words in capsys.readouterr().err
    assert written.read_text() == "profile\n"


def test_the_help_says_what_to_do_with_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        maskcls("suspects", "--help")
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "delete the rows that are wrong" in said and "label_fixes=suspects.csv" in said
