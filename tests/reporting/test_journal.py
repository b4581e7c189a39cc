"""What a run tells while it learns: the same whatever its log interval, and nothing on processes that are not main."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from maskcls.config import load_config
from maskcls.reporting.journal import Journal, NoJournal
from tests.helpers import ROOT, overrides
from train import train


def public(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(member) for name, member in vars(kind).items()
            if inspect.isfunction(member) and not name.startswith("_")}  # fmt: skip


def test_the_silent_journal_takes_all_that_the_journal_takes() -> None:
    assert list(public(Journal)) == ["started", "update", "epoch", "stopped_early", "finished"]
    assert public(Journal) == public(NoJournal)


@pytest.mark.parametrize("log_interval", [2, 10_000])
def test_the_advice_comes_with_the_first_means_however_long_the_interval(
    log_interval: int, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maskcls.reporting.console.cpu_has_bf16", lambda: True)
    settings = [*overrides(sample, tmp_path, model="convnext"), f"log_interval={log_interval}", "epochs=2"]
    train(load_config(ROOT / "configs/mask.yaml", settings))
    assert capsys.readouterr().out.count("accelerate_configs/cpu.yaml") == 1
