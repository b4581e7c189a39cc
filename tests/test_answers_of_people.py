"""Answers about people: infer.py --group_by decides gender and age once for each, --unsure marks what may be wrong."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import infer
from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.pooling import pooled, pooled_people
from maskcls.evaluation.unsure import Conformal
from maskcls.labels import HEAD_CLASSES, OF_PERSON, labels_of, likeliest
from maskcls.training.answerer import thresholds_of
from maskcls.training.ensemble import open_ensemble
from maskcls.training.run_folder import RunFolder
from tests import made
from tests.helpers import rows

Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def runs(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {output: made.run(sample, folder, name=output, output=output) for output in ("class", "all", "mask", "age")}


@pytest.fixture
def evaluation(sample: Path, tmp_path: Path) -> Path:
    """Returns the sample's photos with an info.csv that says who is on them: three people, in turn."""
    folder = shutil.copytree(sample / "eval", tmp_path / "eval")
    names = [row["ImageID"] for row in rows(folder / "info.csv")]
    with (folder / "info.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ImageID", "person"), *((name, f"p{n % 3}") for n, name in enumerate(names))])
    return folder


def answered(run: RunFolder, photos: Path, out: Path, *options: str) -> tuple[Columns, list[dict[str, str]]]:
    """Returns head -> its probabilities (N, K), and the rows of output.csv."""
    command = ["infer.py", "--model_dir", run.path, "--infer_data_dir", photos, "--output_dir", out, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*map(str, command)])
        infer.main()
    table = parquet.read_table(out / "probabilities.parquet")
    heads = {head: len(classes) for head, classes in HEAD_CLASSES.items() if f"{head}_0" in table.column_names}
    said = {head: np.stack([table[f"{head}_{k}"].to_numpy() for k in range(size)], 1) for head, size in heads.items()}
    return said, rows(out / "output.csv")


@pytest.mark.parametrize("output", ["class", "all", "age"])
def test_photos_of_a_person_in_info_get_one_gender_and_age(
    output: str, runs: dict[str, RunFolder], evaluation: Path, tmp_path: Path
) -> None:
    alone, _ = answered(runs[output], evaluation, tmp_path / "alone")
    said, lines = answered(runs[output], evaluation, tmp_path / "out", "--group_by", "person")
    people = np.arange(len(lines)) % 3
    for head, values in pooled(alone, people).items():
        np.testing.assert_allclose(said[head], values, atol=1e-6)
        if head in OF_PERSON:
            assert len(np.unique(said[head], axis=0)) == 3 < len(np.unique(alone[head], axis=0))
    answers = np.array([int(line["ans"]) for line in lines])
    headline = next(iter(said))
    np.testing.assert_array_equal(answers, likeliest(said[headline]))
    of_person = labels_of(answers) if headline == "class" else {"age": answers}
    for head in OF_PERSON:
        if head in of_person:
            assert len(np.unique(np.stack([people, of_person[head]]), axis=1).T) == 3


def test_profile_folders_are_grouped_and_scored_as_pooled(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path
) -> None:
    said, lines = answered(runs["all"], sample / "images", tmp_path / "out", "--group_by", "profile")
    people = np.array([line["ImageID"].split("/")[0] for line in lines])
    alone, _ = answered(runs["all"], sample / "images", tmp_path / "alone")
    np.testing.assert_allclose(said["class"], pooled(alone, people)["class"], atol=1e-6)
    assert len(np.unique(said["gender"], axis=0)) == len(np.unique(people))


@pytest.mark.parametrize(("output", "group_by", "says"), [
    ("mask", "person", "--group_by decides gender and age once per person; mask is decided for each photo"),
    ("age", "persn", "info.csv has no such column to say whose photo it is. Did you mean 'person'? It has: person"),
])  # fmt: skip
def test_what_cannot_be_grouped_is_a_mistake_of_the_command_line(
    output: str, group_by: str, says: str, runs: dict[str, RunFolder], evaluation: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        answered(runs[output], evaluation, tmp_path / "out", "--group_by", group_by)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{says}\n")
    assert [*(tmp_path / "out").glob("*")] == []


@pytest.mark.parametrize("options", [(), ("--group_by", "person")])
def test_photos_that_may_be_of_more_than_one_class_are_marked(
    options: tuple[str, ...], runs: dict[str, RunFolder], evaluation: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said, lines = answered(runs["age"], evaluation, tmp_path / "out", "--unsure", "0.35", *options)
    known = runs["age"].read_predictions()
    conformal = Conformal.fit(pooled_people(known) if options else known)
    least = conformal.least["age"][conformal.risks.index(0.3)]
    is_unsure = (said["age"] >= least).sum(1) > 1
    assert list(lines[0]) == ["ImageID", "ans", "unsure"]
    assert [line["unsure"] for line in lines] == ["unsure" if is_so else "" for is_so in is_unsure]
    assert parquet.read_table(tmp_path / "out" / "probabilities.parquet")["unsure"].to_pylist() == [
        line["unsure"] for line in lines
    ]
    assert f"unsure: {is_unsure.sum()} of 14 photos may be of more than one class, so that 70% of all" in (
        capsys.readouterr().out
    )


def test_what_was_saved_with_the_decision_tells_the_unsure_photos(
    runs: dict[str, RunFolder], evaluation: Path, tmp_path: Path
) -> None:
    run = RunFolder(shutil.copytree(runs["all"].path, tmp_path / "run"))
    run.predictions.unlink()
    for least, expected in ((0.0, "unsure"), (1.0, "")):
        Decision(conformal=Conformal(99, [0.05], {"class": [least]}, {})).save(run.decision)
        _, lines = answered(run, evaluation, tmp_path / "out", "--unsure", "0.05")
        assert {line["unsure"] for line in lines} == {expected}
    run.decision.unlink()
    says = f"^--unsure has no thresholds for {run.path}: .* older version. They are fitted .* train it again"
    with pytest.raises(UserError, match=says):
        thresholds_of(open_ensemble(str(run.path)), 0.05)


@pytest.mark.parametrize(("risk", "says"), [
    ("1.5", "--unsure is 1.5; it is a share of photos between 0 and 1, such as 0.05"),
    ("0", "--unsure is 0; it is a share of photos between 0 and 1, such as 0.05"),
    ("0.001", "--unsure is 0.001; after validating 12 people no less than 0.1 can be promised: ask for that"),
    ("much", "argument --unsure: invalid float value: 'much'"),
])  # fmt: skip
def test_a_share_that_cannot_be_promised_is_a_mistake_of_the_command_line(
    risk: str, says: str, runs: dict[str, RunFolder], evaluation: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        answered(runs["all"], evaluation, tmp_path / "out", "--unsure", risk)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert [*(tmp_path / "out").glob("*")] == []
