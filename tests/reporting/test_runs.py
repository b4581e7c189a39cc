"""The list of runs: folders in any state, sorted by anything."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from maskcls.errors import UserError
from maskcls.reporting.runs import runs_rows, runs_text, sorted_runs, summarize_runs
from maskcls.tables import write_rows
from tests import made


def run_of(
    folder: Path, *scores: dict[str, float], started: int = 1_000_000, minutes: int = 3, **config: object
) -> Path:
    """Returns a new run folder with the scores of its epochs, and fixes the times of its files."""
    made.run_folder(folder, scores=scores, **config)
    os.utime(folder / "config.yaml", (started, started))
    os.utime(folder / "metrics.jsonl", (started + 60 * minutes, started + 60 * minutes))
    return folder


def test_a_summary_gives_the_scores_of_the_best_epoch_and_how_far_the_run_came(tmp_path: Path) -> None:
    three = [{"f1": f1, "acc": acc, "loss": loss} for f1, acc, loss in [(0.5, 0.9, 2.0), (0.7, 0.8, 1.0), (0.6, 0, 3)]]
    done = run_of(tmp_path / "by_f1", *three)
    (done / "finished.json").write_text(json.dumps({"epoch": 2, "seconds": 42.5}, indent=2))
    run_of(tmp_path / "by_acc", *three, best_criterion="acc")
    run_of(tmp_path / "by_loss", *three, best_criterion="loss", epochs=4)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").touch()
    runs = {run.name: run for run in summarize_runs(tmp_path)}
    assert {name: run.best_epoch for name, run in runs.items()} == {"by_acc": 1, "by_f1": 2, "by_loss": 2}
    assert {name: run.state for name, run in runs.items()} == {
        "by_acc": "unfinished", "by_f1": "finished", "by_loss": "unfinished",
    }  # fmt: skip
    assert runs["by_f1"].seconds == 42.5
    run = runs["by_loss"]
    assert (run.epochs_done, run.epochs, run.output, run.model, run.seconds) == (3, 4, "all", "vit", 180)
    assert (run.scores, run.problems) == ({"f1": 0.7, "acc": 0.8, "loss": 1.0}, [])


def test_missing_and_odd_files_are_said_in_the_row(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    run_of(tmp_path / "killed", {"f1": 0.5})
    with (tmp_path / "killed" / "metrics.jsonl").open("ab") as file:
        file.write(b'[1]\n{"epoch": "x", "valid/f1": 0.9}\n{"epoch": 2, "valid/f1": "high"}\n{"epoch": 2, "val\xff')
    broken = run_of(tmp_path / "broken", {"f1": 0.5})
    (broken / "config.yaml").write_bytes(b"a: \xff")
    odd = made.run_folder(tmp_path / "odd", dataset_args="all", epochs="many", best_criterion=["f1"])
    (odd / "best").rmdir()
    (odd / "metrics.jsonl").mkdir()
    (odd / "finished.json").write_text("[]")
    run_of(tmp_path / "copied", {"f1": float("nan")}, {"f1": 0.2}, minutes=-1)
    runs = {run.name: run for run in summarize_runs(tmp_path)}
    assert runs["empty"].problems == ["config.yaml: No such file or directory", "no best/"]
    assert runs["killed"].problems == ["metrics.jsonl: 2 unreadable lines"]
    assert (runs["killed"].scores, runs["killed"].epochs_done) == ({"f1": 0.5}, 1)
    assert runs["broken"].problems[0].startswith("config.yaml is not valid YAML: 'utf-8' codec can't decode")
    assert (runs["broken"].best_epoch, runs["broken"].state) == (1, "unfinished")
    assert (runs["odd"].problems, runs["odd"].output, runs["odd"].epochs) == (
        ["no best/", "finished.json: no seconds"], "", None,
    )  # fmt: skip
    assert (runs["copied"].best_epoch, runs["copied"].seconds) == (2, None)
    text = runs_text(sorted_runs(list(runs.values()), "name"), by="name")
    assert [line.split()[0] for line in text.splitlines()] == ["name", "broken", "copied", "empty", "killed", "odd"]
    assert text.splitlines()[3].endswith("config.yaml: No such file or directory; no best/")


def test_runs_are_sorted_by_name_start_or_score(tmp_path: Path) -> None:
    run_of(tmp_path / "a", {"f1": 0.5, "loss": 2.0, "age_loss": 1.0}, started=3000)
    run_of(tmp_path / "b", {"f1": 0.9, "loss": 1.0}, started=1000)
    run_of(tmp_path / "c", {"f1": float("nan"), "loss": 3.0}, started=2000)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "environment.json").touch()
    runs = summarize_runs(tmp_path)

    def order(by: str) -> str:
        return "".join(run.name for run in sorted_runs(runs, by))

    assert [order(by) for by in ("name", "started", "f1", "loss", "age_loss")] == [
        "abcd", "dbca", "bacd", "bacd", "abcd",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"sorted by 'accc'\. Known: started, name, f1, loss, age_loss"):
        sorted_runs(runs, "accc")
    assert sorted_runs([], "f1") == []


def test_the_table_shows_what_it_is_sorted_by_and_the_csv_everything(tmp_path: Path) -> None:
    scores = {"loss": 1.0, "acc": 0.75, "f1": 0.5, "age_loss": 0.25, "age_acc": 0.625}
    run_of(tmp_path / "exp", scores, minutes=125)
    runs = summarize_runs(tmp_path)
    head, row = (line.split() for line in runs_text(runs, by="started").splitlines())
    assert head == ["name", "started", "duration", "state", "epochs", "output", "model", "best", "acc", "f1", "loss",
                    "age_acc"]  # fmt: skip
    assert row[:1] + row[3:] == ["exp", "2:05:00", "unfinished", "1/3", "all", "vit", "1", "0.7500", "0.5000",
                                 "1.0000", "0.6250"]  # fmt: skip
    assert "age_loss" in runs_text(runs, by="age_loss")
    write_rows(tmp_path / "runs.csv", runs_rows(runs))
    with (tmp_path / "runs.csv").open(newline="") as file:
        written = next(csv.DictReader(file))
    assert {name: float(written[name]) for name in scores} == scores
    assert (written["seconds"], written["epochs_done"], written["epochs"], written["problems"]) == (
        "7500",
        "1",
        "3",
        "",
    )
    assert written["started"].startswith("1970-01-12T")


def test_a_folds_folder_is_one_line_that_opens(tmp_path: Path) -> None:
    whole = made.folds_folder(
        tmp_path / "cv", *(made.predictions(10, seed=seed) for seed in (0, 1)), scores=[{"f1": 0.4}, {"f1": 0.5}]
    )
    whole.finished.write_text(json.dumps({"scores": {"f1": {"value": 0.45, "low": 0.4, "high": 0.5}}, "epoch": 2}))
    part = made.folds_folder(tmp_path / "cv1", made.predictions(10), scores=[{"f1": 0.4}, {"f1": 0.5}])
    (part.path / "fold3" / "finished.json").unlink()
    (part.path / "fold4" / "metrics.jsonl").write_text("{")
    broken = made.folds_folder(tmp_path / "cv2", made.predictions(10))
    broken.config.write_text("seed: x")
    run_of(tmp_path / "exp", {"f1": 0.3})
    runs = {run.name: run for run in summarize_runs(tmp_path)}
    assert list(runs) == ["exp", "cv/", "cv1/", "cv2/"]
    assert [run.state for run in runs.values()] == [
        "unfinished", "10 of 10 folds, 2 seeds", "4 of 5 folds", "0 of ? folds",
    ]  # fmt: skip
    found = runs["cv/"]
    assert (found.scores, found.best_epoch, found.epochs_done, found.epochs) == ({"f1": 0.45}, 2, 2, 3)
    assert (found.seconds, found.output, found.model, found.problems) == (600, "all", "vit", [])
    assert (runs["cv1/"].scores, runs["cv1/"].epochs_done) == ({}, 0)
    assert runs["cv1/"].problems == ["fold4: metrics.jsonl: 1 unreadable lines"]
    assert "seed is 'x'" in runs["cv2/"].problems[0]
    line = runs_text(sorted_runs(list(runs.values()), "f1"), by="f1").splitlines()[1]
    assert (
        line.startswith("cv/ ") and "  0:10:00   10 of 10 folds, 2 seeds  2/3     all     vit    2     0.4500" in line
    )
    assert [run.name for run in summarize_runs(part.path)] == [f"fold{fold}" for fold in range(5)]


def test_a_folder_that_holds_no_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist; give the one that holds the runs"):
        summarize_runs(tmp_path / "nowhere")
    run = made.run_folder(tmp_path / "exp")
    with pytest.raises(UserError, match=f"exp is itself a run; give the folder that holds the runs: {tmp_path}"):
        summarize_runs(run)


def test_folders_that_train_py_did_not_make_are_no_runs(sample: Path, tmp_path: Path) -> None:
    assert summarize_runs(sample) == []  # images, eval
    assert summarize_runs(sample / "images") == []  # people
    made.run_folder(tmp_path / "exp")
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("site_name: documents\nmodel: vit\n")
    assert [run.name for run in summarize_runs(tmp_path)] == ["exp"]
    assert summarize_runs(foreign) == []
    with pytest.raises(UserError, match="is itself a run"):
        summarize_runs(tmp_path / "exp")
