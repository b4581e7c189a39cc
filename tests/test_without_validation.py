"""A final run on all people: nobody validates it, and everything that shows a run says so instead of failing."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from infer import infer
from maskcls.config import load_config
from maskcls.data.profiles import profile_folders
from maskcls.errors import Stopped, UserError
from maskcls.paths import write_json
from maskcls.reporting.check import check
from maskcls.reporting.journal import Journal
from maskcls.reporting.report.page import write_report
from maskcls.reporting.runs import summarize_runs
from maskcls.training.processes import Launch
from maskcls.training.request import run_to_resume
from maskcls.training.run_folder import RunFolder
from tests import made
from tests.drivers.kills import differences
from tests.helpers import ROOT, TINY, json_lines, maskcls, of_kind, overrides, rows, run, values_of, wandb_records
from train import train

EVERYBODY: dict[str, object] = {"train_profile": "null", "valid_profile": "none", "epochs": 3, "ema_decay": 0.9}


def settings(sample: Path, folder: Path, **more: object) -> list[str]:
    """Returns the overrides of a run on everybody that ends before its schedule does."""
    return overrides(sample, folder, model="auto", **{**EVERYBODY, "stop_after_epoch": 2, **more})


def trained(values: Sequence[str], resumed: RunFolder | None = None, *, lang: str = "en") -> str:
    """Returns what a run of the demo's config prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        if resumed is None:
            train(load_config(ROOT / "configs" / "demo.yaml", values), lang=lang)
        else:
            _, config = run_to_resume(str(resumed.path), None, values)
            train(config, resumed, lang=lang)
    return printed.getvalue()


@dataclass(frozen=True)
class Final:
    """A finished run, and what it printed."""

    run: RunFolder
    printed: str


@pytest.fixture(scope="module")
def final(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Final:
    folder = tmp_path_factory.mktemp("final")
    more = {"report": "true", "wandb": "offline", "best_criterion": "loss"}
    return Final(RunFolder(folder / "runs" / "exp"), trained(settings(sample, folder, **more)))


def test_everybody_trains_and_the_folder_holds_the_last_model_and_no_scores(final: Final, sample: Path) -> None:
    names = {path.name for path in final.run.path.iterdir()}
    assert names >= {"best", "last", "config.yaml", "preprocessing.json", "metrics.jsonl", "report.html", "curves.png"}
    assert not names & {"valid_predictions.parquet", "confusion_matrix.png"}
    assert final.run.trained_people() == set(profile_folders(sample / "images"))
    assert final.run.valid_profiles.read_text() == ""
    finished = json.loads(final.run.finished.read_text())
    assert finished.pop("seconds") > 0
    assert finished == {
        "criterion": None, "value": None, "epoch": 2, "scores": {},
        "no_scores": "nobody validated it (valid_profile: none)",
    }  # fmt: skip
    best, last = (load_file(folder / "model.safetensors") for folder in (final.run.best, final.run.last))
    assert len(best) > 10 and all((best[name] == last[name]).all() for name in best)


def test_the_log_has_a_line_for_the_end_of_every_epoch_and_nothing_of_a_validation(final: Final) -> None:
    lines = json_lines(final.run.metrics)
    ends = [line for line in lines if "num_validated" in line]
    assert ends == [{"epoch": epoch, "update": 7 * epoch, "num_validated": 0} for epoch in (1, 2)]
    assert len([line for line in lines if "train/loss" in line]) == 8
    assert not [name for line in lines for name in line if name.startswith("valid/")]


def test_the_console_says_that_nobody_validates_and_where_the_run_ends(final: Final) -> None:
    text = final.printed
    assert (
        "valid    nobody (valid_profile: none): no score will be known, and best/ is the newest epoch's model" in text
    )
    assert "7 updates an epoch, 3 epochs\nstop     after epoch 2 (stop_after_epoch); the schedule goes over 3\n" in text
    number = r"\d\.\d{4}"
    for epoch in (1, 2):
        assert re.search(
            rf"^epoch {epoch}/2  train/loss {number}  train/acc {number}  train/f1 {number}  \d+ s$", text, re.MULTILINE
        )
    assert "stopped after epoch 2 (stop_after_epoch); the schedule goes over 3\ntrained to the end of epoch 2; " in text
    assert " in all. Nobody validated (valid_profile: none), so no score is known\n" in text
    assert f"model {final.run.best}, report {final.run.report}" in text
    assert f"next: python infer.py --model_dir {final.run.path}" in text
    assert "no validation photo" not in text  # of classes: it would be all of them


def test_its_last_epoch_answers_as_any_run_does(final: Final, sample: Path, tmp_path: Path) -> None:
    infer(str(final.run.path), None, batch_size=None, output_dir=str(tmp_path))
    truth = rows(sample / "eval" / "info.csv")
    assert [row["ImageID"] for row in rows(tmp_path / "output.csv")] == [row["ImageID"] for row in truth]
    assert {row["ans"] for row in rows(tmp_path / "output.csv")} <= set(map(str, range(18)))


def test_the_report_says_it_and_leaves_out_what_is_about_answers(final: Final) -> None:
    page = final.run.report.read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["summary", "curves", "data", "config", "cost"]
    assert re.findall(r'<li><a href="#(\w+)">', page) == ["summary", "curves", "data", "config", "cost"]
    assert "<li>Trained on 12 people, to the end of epoch 2 of 3.</li>" in page
    assert "<li>Nobody validated it (valid_profile: none), so no score of this model is known." in page
    assert 'class="missing"' not in page.replace('<noscript><p class="missing">', "")
    assert (
        'data-chart="chart_loss"' in page
        and "every_epoch" not in page
        and '<th scope="col" class="n">validation' not in page
    )


def test_the_report_of_a_run_beside_its_folds_says_what_they_scored(final: Final, tmp_path: Path) -> None:
    page = final.run.report.read_text(encoding="utf-8")
    assert "<li>What to expect of it, folds of the same config can say.</li>" in page
    folds = made.folds_folder(tmp_path / "exp", made.predictions(4), num_folds=2)
    own = RunFolder(shutil.copytree(final.run.path, folds.path / "everybody"))
    write_json(folds.finished, {"scores": {"f1": {"value": 0.5, "low": 0.25, "high": 0.75}}})
    page = write_report(own, language="en").read_text(encoding="utf-8")
    scored = "its folds scored 0.500 [0.250, 0.750] (18 classes: macro-F1), each on people that it had not trained on."
    assert f"<li>What to expect of it: {scored}</li>" in page and "folds of the same config" not in page


def test_the_report_against_another_run_says_why_there_is_no_comparison(final: Final, tmp_path: Path) -> None:
    maskcls("report", final.run.path, "--against", final.run.path, "--lang", "ko")
    page = final.run.report.read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page)[:2] == ["summary", "comparison"]
    assert f"{final.run.path} has no predictions of people that it had not trained on: nobody validated it" in page
    assert "검증한 사람이 없어(valid_profile: none) 이 모델의 점수는 알 수 없습니다." in page


def test_wandb_has_the_model_and_the_report_and_no_scores(final: Final) -> None:
    (file,) = final.run.path.glob("wandb/offline-run-*/*.wandb")
    records = wandb_records(file)
    summary = {}
    for entry in of_kind(records, "summary"):
        summary |= values_of(entry.update)
    assert summary["best_epoch"] == 2 and summary["num_validated"] == 0
    assert not [name for name in summary if name.startswith("valid/")]
    assert {record.type for record in of_kind(records, "artifact")} == {"model", "report"}
    (started,) = of_kind(records, "run")
    assert "everybody" in started.tags and not [tag for tag in started.tags if tag.startswith("fold")]
    assert "wandb has no" not in final.printed


def test_the_list_of_runs_shows_how_far_it_is_and_that_nobody_validated(
    final: Final, capsys: pytest.CaptureFixture[str]
) -> None:
    (summary,) = summarize_runs(final.run.path.parent)
    assert (summary.epochs_done, summary.best_epoch, summary.scores) == (2, None, {})
    maskcls("runs", final.run.path.parent)
    assert re.search(r"finished +2/3 .* nobody validated$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("command", ["compare", "suspects", "blend"])
def test_what_needs_predictions_says_that_there_are_none(
    command: str, final: Final, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        maskcls(command, final.run.path, final.run.path)
    assert ended.value.code == 2
    assert (
        f"{final.run.path} has no predictions of people that it had not trained on: nobody validated it "
        "(valid_profile: none)"
    ) in capsys.readouterr().err


def test_a_check_tries_it_out_and_judges(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(load_config(ROOT / "configs" / "demo.yaml", settings(sample, tmp_path)), Launch(), None, lang="ko")
    lines = capsys.readouterr().out.splitlines()
    assert "검증     없음 (valid_profile: none): 점수는 알 수 없고, best/는 가장 새 에폭의 모델" in lines
    assert not [line for line in lines if "validation groups" in line or "검증 사진이 없어" in line]
    assert [line for line in lines if line.startswith("시간") and " 2에폭" in line]


@pytest.mark.slow
def test_a_run_that_is_stopped_and_ends_early_and_goes_on_is_the_one_that_nothing_happened_to(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(settings(sample, tmp_path, name="whole", epochs=2, stop_after_epoch="null"))
    update = Journal.update

    def stops(journal: Journal, values: dict[str, float]) -> None:
        update(journal, values)
        if journal._learner.num_updates == 10:  # in the middle of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    broken = RunFolder(tmp_path / "runs" / "broken")
    text = trained(settings(sample, tmp_path, name="broken", epochs=2, stop_after_epoch=1))
    assert "stopped after epoch 1 (stop_after_epoch); the schedule goes over 2" in text
    text = trained([], broken)
    assert (
        "stop_after_epoch=1 is trained: only scores and report are made again. For more: stop_after_epoch=null" in text
    )
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Journal, "update", stops)
        trained(["stop_after_epoch=null"], broken)
    assert not broken.finished.exists()
    text = trained(["stop_after_epoch=null"], broken)
    assert "epoch 2/2" in text and "epoch 1/2" not in text
    different = differences(broken.path, tmp_path / "runs" / "whole", tolerance=0)
    assert [line for line in different if "holds the updates" not in line] == []  # trackers, which are off
    assert json.loads(broken.finished.read_text())["epoch"] == 2


def test_a_model_that_the_last_update_has_broken_is_noticed_although_nobody_validates(
    sample: Path, tmp_path: Path
) -> None:
    more = {"optimizer": "SGD", "lr": "1e300", "scheduler": "constant", "epochs": 1, "stop_after_epoch": 1,
            "train_batch_size": 84, "ema_decay": "null", "max_grad_norm": "null"}  # fmt: skip
    with pytest.raises(UserError, match=r"the loss or gradient of update 1 .* is not finite"):
        trained(settings(sample, tmp_path, **more))
    assert not (tmp_path / "runs" / "exp" / "best").exists()


@pytest.mark.slow
def test_two_processes_train_the_same_model_on_everybody_and_answer_alike(sample: Path, tmp_path: Path) -> None:
    given = [*settings(sample, tmp_path, epochs=1, stop_after_epoch=1), "model=vit", f"model_args={TINY['vit']}"]
    trained([*given, "name=one"])
    done = run("train.py", "--config", "configs/demo.yaml", *given, "name=two", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Nobody validated") == 1
    different = differences(tmp_path / "runs" / "two", tmp_path / "runs" / "one", tolerance=1e-5)
    assert [line for line in different if "holds the updates" not in line] == []
