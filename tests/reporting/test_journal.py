"""What a run tells while it learns: the same whatever its log interval, and nothing on processes that are not main."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from maskcls.config import Config, load_config
from maskcls.evaluation.decision import Decision
from maskcls.reporting.journal import Journal, NoJournal
from maskcls.reporting.text import decision_line
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking
from maskcls.words import Words
from tests.helpers import ROOT, overrides
from train import train


def test_the_silent_journal_takes_all_that_the_journal_takes() -> None:
    told = [name for name, member in vars(Journal).items() if inspect.isfunction(member) and name != "_start_epoch"]
    assert told == ["__init__", "__enter__", "__exit__", "started", "update", "epoch", "stopped_early", "finished"]
    with NoJournal() as silent:
        for name in told[3:]:
            parameters = inspect.signature(getattr(Journal, name)).parameters.values()
            named = {parameter.name: None for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
            getattr(NoJournal, name)(silent, *[None] * (len(parameters) - len(named) - 1), **named)


@pytest.mark.parametrize("log_interval", [2, 10_000])
def test_the_advice_comes_with_the_first_means_however_long_the_interval(
    log_interval: int, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maskcls.reporting.console.cpu_has_bf16", lambda: True)
    settings = [*overrides(sample, tmp_path, model="convnext"), f"log_interval={log_interval}", "epochs=2"]
    train(load_config(ROOT / "configs/mask.yaml", settings))
    said = capsys.readouterr().out
    assert said.count("accelerate_configs/cpu.yaml") == 1
    decision = Decision.load(RunFolder(tmp_path / "runs" / "exp").decision)
    assert said.count(decision_line(decision, Words("en"))) == 1


def test_the_trackers_see_mean_and_std_which_the_run_keeps_in_a_file_of_its_own(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Config] = []
    start = Tracking.start

    def noted(config: Config, run: RunFolder, word: Words) -> Tracking:
        shown.append(config)
        return start(config, run, word)

    monkeypatch.setattr(Tracking, "start", noted)
    train(load_config(ROOT / "configs/mask.yaml", overrides(sample, tmp_path, model="convnext")))
    run = RunFolder(tmp_path / "runs" / "exp")
    known, saved = run.read_preprocessing(), load_config(run.config)
    assert known.is_complete and saved.dataset_args == {"output": "mask"}
    assert shown == [saved.with_statistics(known.mean, known.std)]
