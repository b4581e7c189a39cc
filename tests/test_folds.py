"""train.py --folds: every fold in its run folder, everybody scored out of fold, the same after any kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskcls.config import load_config
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.paired import joined_people
from maskcls.evaluation.predictions import Predictions
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from tests.helpers import CPU, ROOT, launcher, overrides, run, wandb_records

CONFIG = ("--config", ROOT / "configs" / "demo.yaml")

pytestmark = pytest.mark.slow


def settings(sample: Path, folder: Path, **more: object) -> list[str]:
    """Returns the overrides of runs of seconds, two folds of the sample's people."""
    folds = {"train_profile": "null", "valid_profile": "null", "num_folds": 2, "epochs": 2, **more}
    return [*overrides(sample, folder, model="vit", **folds), "model=vit"]


def started(*arguments: object) -> subprocess.Popen[str]:
    """Returns train.py, running."""
    command = [*launcher(1), "train.py", *map(str, arguments)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **CPU}, **output)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def whole(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldsFolder:
    """Returns the folds of a command that nothing happened to."""
    folder = tmp_path_factory.mktemp("folds")
    ended = run("train.py", *CONFIG, *settings(sample, folder, report="true", wandb="offline"), "--folds", "all")
    assert ended.returncode == 0, ended.stderr
    assert "out of fold: 12 people" in ended.stdout and "--folds none" in ended.stdout.splitlines()[-1]
    assert ended.stdout.count("decisions: temperature ") == 3  # of each fold, and of both together
    return FoldsFolder.existing(folder / "runs" / "exp")


def test_everybody_validates_once_and_the_scores_are_of_all_together(whole: FoldsFolder) -> None:
    runs = whole.finished_runs()
    assert list(runs) == [(42, 0), (42, 1)] and [run.path.name for run in runs.values()] == ["fold0", "fold1"]
    first, second = (run.validated_people() for run in runs.values())
    assert len(first) == len(second) == 6 and not first & second
    assert [run.trained_people() for run in runs.values()] == [second, first]
    pooled = joined_people([Predictions.load(run.predictions) for run in runs.values()])
    kept, finished = Predictions.load(whole.predictions), json.loads(whole.finished.read_text())
    assert sorted(pooled.keys.tolist()) == sorted(kept.keys.tolist()) and len(kept) == 84
    scores = Findings(pooled).named_scores
    assert finished["scores"]["f1"]["value"] == pytest.approx(scores["f1"].value)
    assert [(of["seed"], of["fold"]) for of in finished["runs"]] == [(42, 0), (42, 1)]
    assert "fold 1" in whole.report.read_text()


def test_the_runs_are_one_group_in_wandb(whole: FoldsFolder) -> None:
    for fold in range(2):
        (file,) = whole.run_of(42, fold).wandb.glob("offline-run-*/*.wandb")
        (told,) = [record.run for record in wandb_records(file) if record.HasField("run")][:1]
        assert (told.run_group, told.display_name) == ("exp", f"fold{fold}")


def test_the_folds_see_the_same_pixels_whose_mean_and_std_are_everybodys(whole: FoldsFolder) -> None:
    first, second = (run.read_preprocessing() for run in whole.runs().values())
    assert first == second and first.is_complete
    assert len(list((whole.path.parents[1] / "cache" / "pixels").glob("*.lock"))) == 1  # decoded once


def test_the_same_command_again_trains_nothing_and_says_the_same(whole: FoldsFolder, sample: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.path.glob("fold*/best/*")}
    said = whole.predictions.read_bytes()
    ended = run("train.py", *CONFIG, *settings(sample, whole.path.parents[1]), "--folds", "all")
    assert ended.returncode == 0 and ended.stdout.count("is trained") == 2 and "epoch 1/2" not in ended.stdout
    assert before and {path: path.stat().st_mtime_ns for path in before} == before
    assert whole.predictions.read_bytes() == said and len(list(whole.path.parent.iterdir())) == 1


def test_a_fold_is_the_run_that_it_would_be_alone(whole: FoldsFolder, sample: Path, tmp_path: Path) -> None:
    of_folds = whole.run_of(42, 1)
    known = of_folds.read_preprocessing()
    statistics = {f"dataset_args.{name}": list(getattr(known, name)) for name in ("mean", "std")}
    ended = run("train.py", *CONFIG, *settings(sample, tmp_path, fold=1, **statistics))
    alone = RunFolder(tmp_path / "runs" / "exp")
    assert ended.returncode == 0, ended.stderr
    for file in ("best/model.safetensors", "last/training.safetensors", "valid_predictions.parquet"):
        assert (alone.path / file).read_bytes() == (of_folds.path / file).read_bytes(), file


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_stopped_in_a_later_fold_goes_on_there_and_ends_the_same(
    whole: FoldsFolder, sample: Path, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = [*CONFIG, *settings(sample, tmp_path, checkpoint_interval="1 updates"), "--folds", "all"]
    process, second = started(*arguments), RunFolder(tmp_path / "runs" / "exp" / "fold1")
    while not second.last.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 75 and "The same command goes on with the folds." in text
    assert not second.finished.exists()
    ended = run("train.py", *arguments)
    assert ended.returncode == 0 and ended.stdout.count("is trained") == 1 and "resumed from" in ended.stdout
    folds = FoldsFolder.existing(second.path.parent)
    for file in ("out_of_fold.parquet", "fold0/best/model.safetensors", "fold1/best/model.safetensors"):
        ours, theirs = (folder.path / file for folder in (folds, whole))
        if file.endswith(".parquet"):
            assert_same(Predictions.load(ours), Predictions.load(theirs))
        else:
            assert ours.read_bytes() == theirs.read_bytes(), file
    assert json.loads(folds.finished.read_text()) == json.loads(whole.finished.read_text())


def assert_same(ours: Predictions, theirs: Predictions) -> None:
    assert np.array_equal(ours.keys, theirs.keys)
    for head, values in ours.probabilities.items():
        assert np.array_equal(values, theirs.probabilities[head]), head


def test_another_seed_has_the_same_folds_and_the_answers_are_the_mean(whole: FoldsFolder, sample: Path) -> None:
    arguments: list[Any] = [*CONFIG, *settings(sample, whole.path.parents[1]), "--folds", "all", "--seeds", "42,43"]
    ended = run("train.py", *arguments, "--at_once", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "[fold 1 of 2 (from 0), seed 43]" in ended.stdout and "(4 runs)" in ended.stdout
    runs = whole.finished_runs()
    assert [run.path.name for run in runs.values()] == ["fold0", "fold1", "fold0_seed43", "fold1_seed43"]
    assert runs[43, 1].validated_people() == runs[42, 1].validated_people()
    first, second = whole.tables().values()
    assert not np.array_equal(first.probabilities["class"], second.probabilities["class"])
    mean = (first.probabilities["class"] + second.probabilities["class"]) / 2
    assert np.allclose(Predictions.load(whole.predictions).probabilities["class"], mean)


def test_several_processes_train_a_fold_as_one_does(whole: FoldsFolder, sample: Path, tmp_path: Path) -> None:
    ended = run("train.py", *CONFIG, *settings(sample, tmp_path), "--folds", "1", processes=2)
    assert ended.returncode == 0, ended.stderr
    assert "2 processes" in ended.stdout and ended.stdout.count("with --folds all scores everybody") == 1
    ours, theirs = (
        Predictions.load(folder / "valid_predictions.parquet")
        for folder in (tmp_path / "runs" / "exp" / "fold1", whole.run_of(42, 1).path)
    )
    assert np.array_equal(ours.keys, theirs.keys)
    assert np.allclose(ours.probabilities["class"], theirs.probabilities["class"], atol=1e-3)


def test_a_run_on_everybody_trains_as_long_as_the_folds_have_chosen(whole: FoldsFolder, sample: Path) -> None:
    finished = json.loads(whole.finished.read_text())
    whole.finished_runs()[42, 0].log({"epoch": 1, "update": 4, "valid/f1": 1.0})  # so that the first epoch is the best
    ended = run("-m", "maskcls", "folds", *CONFIG, *settings(sample, whole.path.parents[1]), "--folds", "none")
    assert ended.returncode == 0, ended.stderr
    everybody = whole.run_of(42, None)
    assert ended.stdout.splitlines()[-1].endswith(f"infer.py --model_dir {everybody.path}")
    assert len(everybody.trained_people()) == 12 and not everybody.validated_people()
    config = load_config(everybody.config)
    assert (config.epochs, config.stop_after_epoch, finished["epoch"]) == (2, 1, 2) or finished["epoch"] == 1
    assert max(line["epoch"] for line in everybody.history()) == 1
    assert everybody.decision.read_bytes() == whole.decision.read_bytes()
    assert everybody.read_preprocessing() == whole.run_of(42, 0).read_preprocessing()
    assert set(whole.seeds) == {42, 43}  # it is none of the folds


def test_a_run_on_everybody_waits_for_the_folds(sample: Path, tmp_path: Path) -> None:
    ended = run("train.py", *CONFIG, *settings(sample, tmp_path), "--folds", "none")
    assert ended.returncode == 2 and "holds no folds of this config" in ended.stderr and "--folds all" in ended.stderr
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "5"], "--folds 5: there is no fold 5; num_folds is 2, from 0"),
        (["--folds", "0,0"], "--folds is '0,0'; it is all, none, or numbers as 0,2, each once"),
        (["--folds", "all", "--seeds", "4x"], "--seeds is '4x'; it is numbers as 42,43, each once"),
        (["--seeds", "43"], "--seeds and --at_once belong to --folds; the seed of one run is seed=43"),
        (["--folds", "all", "--at_once", "0"], "--at_once is 0; it is 1 or more"),
        (["--folds", "all", "--resume", "auto"], "give --folds or --resume"),
        (["--folds", "all", f"valid_profile={ROOT}/README.md"], "people are dealt to folds when nobody is named"),
    ],
)
def test_a_mistake_in_what_is_asked_for_is_said_before_anything_is_made(
    sample: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ended = run("train.py", *CONFIG, *settings(sample, tmp_path), *arguments)
    assert ended.returncode == 2 and message in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_the_photos_leaves_no_folds_folder(sample: Path, tmp_path: Path) -> None:
    ended = run("train.py", *CONFIG, *settings(sample, tmp_path, num_folds=9), "--folds", "all")
    assert ended.returncode == 2 and "not enough people to deal" in ended.stderr
    assert list((tmp_path / "runs").iterdir()) == []
