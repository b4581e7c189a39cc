"""The command as a person types it: what it prints, draws and writes, and how it refuses."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import made
from tests.helpers import maskcls


def gender_run(folder: Path, numbers: range, *, accuracy: float, seed: int) -> str:
    said = made.predictions(made.people(numbers), heads=["gender"], accuracy=accuracy, seed=seed)
    return str(made.run_folder(folder, said, dataset_args={"output": "gender"}, seed=seed))


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Returns two runs of one quality, one clearly better, and one that validated other people."""
    everybody, others = range(80), range(60, 90)
    return [
        gender_run(tmp_path / "a", everybody, accuracy=0.7, seed=1),
        gender_run(tmp_path / "b", everybody, accuracy=0.7, seed=2),
        gender_run(tmp_path / "c", everybody, accuracy=0.99, seed=3),
        gender_run(tmp_path / "d", others, accuracy=0.7, seed=4),
    ]


def test_the_command_prints_draws_and_writes(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, table = tmp_path / "c.png", tmp_path / "c.csv"
    maskcls("compare", *runs[:3], "--score", "gender_acc", "-o", picture, "--csv", table)
    lines = capsys.readouterr().out.splitlines()
    verdicts = {line.split()[0]: line for line in lines if line.endswith(("distinguishable", "better", "worse"))}
    assert verdicts["b"].endswith("  not distinguishable")
    assert verdicts["c"].endswith("  better")
    assert lines[-2:] == [f"picture: {picture}", f"numbers: {table}"]
    assert Image.open(picture).format == "PNG"
    with table.open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)][-2:] == ["not distinguishable", "better"]


def test_nothing_is_written_unless_asked_for(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    maskcls("compare", *runs[:2])
    assert "gender_f1 against a" in capsys.readouterr().out
    assert list((tmp_path / "here").iterdir()) == []


def test_other_people_end_the_command_with_code_2_unless_common_is_given(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        maskcls("compare", runs[0], runs[3])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith(
        "error: the runs validated different people or photos: a 80 people (560 photos), d 30"
    )
    maskcls("compare", runs[0], runs[3], "--common")
    assert capsys.readouterr().out.startswith("20 people (140 photos) that all runs validated; of a 80 people")


def test_neither_comparing_nor_listing_imports_torch(runs: list[str], tmp_path: Path) -> None:
    code = "import sys; from maskcls.cli import main; main(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    for arguments in (["compare", *runs[:2]], ["runs", str(tmp_path)]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False True"
