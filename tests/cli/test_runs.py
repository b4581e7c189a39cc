"""The list of runs as a person asks for it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests import made
from tests.helpers import as_nobody, maskcls


def run_folder(folder: Path, *f1: float) -> None:
    """Writes what train.py leaves of a run that validated so many epochs of 2."""
    scores = [{"f1": value} for value in f1]
    made.run_folder(folder, scores=scores, dataset_args={"output": "mask"}, epochs=2, model="convnext")


def test_runs_are_listed_best_first_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / "runs" / "exp", 0.4, 0.5)
    run_folder(tmp_path / "runs" / "exp1", 0.6)
    (tmp_path / "runs" / "exp" / "finished.json").write_text('{"seconds": 5}')
    (tmp_path / "runs" / "exp2").mkdir()
    (tmp_path / "runs" / "exp2" / "environment.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    maskcls("runs", "--sort", "f1", "--csv", "runs.csv")
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert words[0] == ["name", "started", "duration", "state", "epochs", "output", "model", "best", "f1"]
    assert words[1][0] == "exp1"
    assert words[1][-6:] == ["unfinished", "1/2", "mask", "convnext", "1", "0.6000"]
    assert words[2][-6:] == ["finished", "2/2", "mask", "convnext", "2", "0.5000"]
    assert lines[3].startswith("exp2")
    assert lines[3].endswith("config.yaml: No such file or directory; no best/")
    assert lines[4:] == [f"numbers: {tmp_path}/runs.csv"]
    with Path("runs.csv").open(newline="") as file:
        assert [(row["name"], row["f1"]) for row in csv.DictReader(file)] == [
            ("exp1", "0.6"),
            ("exp", "0.5"),
            ("exp2", ""),
        ]


def test_an_empty_folder_is_said_and_a_missing_one_ends_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maskcls("runs", tmp_path)
    assert capsys.readouterr().out == f"{tmp_path} holds no runs\n"
    with pytest.raises(SystemExit) as ended:
        maskcls("runs", tmp_path / "none")
    assert ended.value.code == 2
    assert "none does not exist; give the one that holds the runs" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_runs_of_others_that_may_not_be_read_are_named_and_the_rest_is_listed(
    everybodys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_folder(everybodys / "exp", 0.4)
    run_folder(everybodys / "others", 0.6)
    (everybodys / "others").chmod(0o700)
    assert as_nobody(lambda: maskcls("runs", everybodys)) == ""
    shown = capfd.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["name", "exp"]
    assert shown.err == "warning: left out, because they may not be read: others\n"
    assert as_nobody(lambda: maskcls("runs", everybodys / "others")) == "SystemExit: 2"
    assert "others cannot be read: Permission denied; give the one that holds the runs" in capfd.readouterr().err
