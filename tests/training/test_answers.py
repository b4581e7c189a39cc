"""What a prediction leaves: both files whole, in the order of the photos."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES, head_predictions, head_probabilities, headline
from maskcls.training.answers import Answers, names_of


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


PARQUET_HEADS = [
    ("class", 18, ["class", "mask", "gender", "age"]),
    ("all", 8, ["class", "mask", "gender", "age"]),
    ("mask", 3, ["mask"]),
    ("gender", 1, ["gender"]),
]


@pytest.mark.parametrize(("output", "width", "heads"), PARQUET_HEADS)
def test_answers_keep_their_order_and_probabilities_have_a_column_for_every_label(
    tmp_path: Path, output: str, width: int, heads: list[str]
) -> None:
    ids = ["b.jpg", "a.jpg", "ü, with comma.png", "a/normal.jpg"]
    logits = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    answers = head_predictions(logits, output)[headline(output)].numpy()
    probabilities = {head: values.numpy() for head, values in head_probabilities(logits, output).items()}
    Answers(tmp_path).save(ids, answers, probabilities)

    with (tmp_path / "output.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["ImageID", "ans"], *([name, str(int(answer))] for name, answer in zip(ids, answers, strict=True))]
    assert b"\r" not in (tmp_path / "output.csv").read_bytes()

    table = parquet.read_table(tmp_path / "probabilities.parquet")
    columns = [f"{head}_{label}" for head in heads for label in range(len(HEAD_CLASSES[head]))]
    assert table.column_names == ["ImageID", *columns]
    assert table["ImageID"].to_pylist() == ids
    for head in heads:
        stored = np.array([table[f"{head}_{label}"] for label in range(len(HEAD_CLASSES[head]))], np.float32).T
        np.testing.assert_array_equal(stored, probabilities[head])
        np.testing.assert_allclose(stored.sum(1), 1, atol=1e-5)
    assert {str(table.schema.field(column).type) for column in columns} == {"float"}  # Arrow's float32
    assert names(tmp_path) == ["output.csv", "probabilities.parquet"]


def test_columns_that_were_asked_for_stand_behind_the_answers(tmp_path: Path) -> None:
    answers = torch.tensor([0, 17, 10])
    columns = {"name": names_of("class", answers), "unsure": ["", "yes", ""]}
    Answers(tmp_path).save(["a", "b", "c"], answers, {"class": torch.full((3, 18), 1 / 18)}, columns=columns)
    assert (tmp_path / "output.csv").read_text() == (
        "ImageID,ans,name,unsure\n"
        'a,0,"worn, male, <30",\n'
        'b,17,"not_worn, female, >=60",yes\n'
        'c,10,"incorrect, female, 30-59",\n'
    )
    assert names_of("gender", torch.tensor([1, 0])) == ["female", "male"]


def test_a_column_without_a_cell_for_every_photo_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected length 1"):
        Answers(tmp_path).save(["a"], torch.tensor([1]), {"gender": torch.full((1, 2), 0.5)}, columns={"name": []})
    assert names(tmp_path) == []


def test_what_an_earlier_prediction_left_to_look_at_goes(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    for file in (answers.scores, answers.confusion_matrix, answers.page):
        file.touch()
    answers.save(["a"], torch.tensor([1]), {"gender": torch.full((1, 2), 0.5)})
    assert names(tmp_path) == ["output.csv", "probabilities.parquet"]


def test_a_folder_may_be_called_as_a_protocol_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("s3:b")
    folder.mkdir()
    Answers(folder).save(["a", "b"], np.array([1, 0]), {"gender": np.full((2, 2), 0.5)})
    assert names(folder) == ["output.csv", "probabilities.parquet"]


def test_answers_that_do_not_match_the_photos_leave_the_former_ones_as_they_are(tmp_path: Path) -> None:
    Answers(tmp_path).save(["a", "b"], np.array([1, 0]), {"gender": np.full((2, 2), 0.5)})
    before = {name: (tmp_path / name).read_bytes() for name in ("output.csv", "probabilities.parquet")}
    with pytest.raises(ValueError, match="zip"):
        Answers(tmp_path).save(["a", "b"], np.array([1, 0, 1]), {"gender": np.full((2, 2), 0.1)})
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    Answers.into(tmp_path / "new" / "deep")
    assert names(tmp_path / "new" / "deep") == []


def test_an_output_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "out"
    with pytest.raises(UserError, match=rf"^output folder {re.escape(str(folder))} is not writable: Not a directory$"):
        Answers.into(folder)
    with pytest.raises(UserError, match=r"^output folder .*file is not writable: File exists$"):
        Answers.into(tmp_path / "file")
