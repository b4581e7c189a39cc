"""The table of predictions: every head form through it, saved and read again, joined and combined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from maskcls.errors import UserError
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, head_predictions, head_probabilities
from tests import made

PEOPLE = ["000001_female_Asian_45", "000002_male_Asian_28", "000003_male_Asian_61"]
FILES = ["mask1.jpg", "incorrect_mask.png", "normal.jpg"]


def predictions(output: str = "all", *, people: list[str] = PEOPLE) -> Predictions:
    """Returns predictions of every photo of `people`."""
    return made.predictions(people, files=FILES, heads=[output] if output in ATTRIBUTES else list(HEAD_CLASSES))


@pytest.mark.parametrize(("output", "num_logits"), [("all", 8), ("class", 18), ("mask", 3), ("gender", 1), ("age", 3)])
def test_every_head_form_answers_as_its_logits_do(output: str, num_logits: int) -> None:
    logits = torch.randn(9, num_logits, generator=torch.Generator().manual_seed(0))
    table = made.predictions(PEOPLE, files=FILES, probabilities=head_probabilities(logits, output))
    for head, expected in head_predictions(logits, output).items():
        assert table.predicted(head).tolist() == expected.tolist()
    assert table.headline == ("class" if output in ("all", "class") else output)


def test_truth_is_the_labels_or_their_class() -> None:
    table = predictions()
    assert table.truth("class").tolist() == (table.labels @ [6, 3, 1]).tolist()
    assert table.truth("gender").tolist() == table.labels[:, 1].tolist()


def test_no_thread_of_pyarrow_holds_a_file_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It lets go of that late: of programs that ended then, one in ten aborted ("terminate called without ...").
    predictions().save(tmp_path / "p.parquet")
    read_table, sources = parquet.read_table, []
    monkeypatch.setattr(parquet, "read_table", lambda source: sources.append(source) or read_table(source))
    Predictions.load(tmp_path / "p.parquet")
    assert [type(source) for source in sources] == [pyarrow.OSFile]


def test_a_table_is_read_as_it_was_saved(tmp_path: Path) -> None:
    table = predictions("class")
    table.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    for name in ("people", "files", "labels", "ages", "races"):
        assert getattr(again, name).tolist() == getattr(table, name).tolist()
    assert again.probabilities.keys() == table.probabilities.keys()
    for head, values in table.probabilities.items():
        assert np.array_equal(again.probabilities[head], values)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_a_table_without_a_photo_is_named(tmp_path: Path) -> None:
    table = predictions("mask")
    table.rows(np.zeros(len(table), bool)).save(tmp_path / "p.parquet")
    with pytest.raises(UserError, match=r"p\.parquet holds no photos: train the run again$"):
        Predictions.load(tmp_path / "p.parquet")


def test_files_that_are_no_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.parquet does not exist"):
        Predictions.load(tmp_path / "missing.parquet")
    (tmp_path / "p.parquet").write_text("PAR1 not")
    with pytest.raises(UserError, match="is not a table of predictions"):
        Predictions.load(tmp_path / "p.parquet")


def test_a_folder_may_be_called_as_a_protocol_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("s3:b")
    folder.mkdir()
    predictions("mask").save(folder / "p.parquet")
    assert len(Predictions.load(folder / "p.parquet")) == 9


def test_a_photo_lies_where_it_lay_or_else_in_the_data_folder(tmp_path: Path) -> None:
    said = made.predictions(1, files=["mask1.jpg"])
    assert said.photo(0, tmp_path) == tmp_path / said.people[0] / "mask1.jpg"  # of an older version, without paths
    recorded = replace(said, paths=np.array([str(tmp_path / "elsewhere.jpg")]))
    recorded.save(tmp_path / "said.parquet")
    read = Predictions.load(tmp_path / "said.parquet")
    assert read.photo(0, tmp_path) == tmp_path / said.people[0] / "mask1.jpg"  # it has been moved since
    (tmp_path / "elsewhere.jpg").touch()
    assert read.photo(0, tmp_path) == tmp_path / "elsewhere.jpg"
