"""What a run ran on is written down."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from maskcls.training.environment import current_environment
from maskcls.training.run_folder import RunFolder


def test_the_environment_file_says_what_ran_where(tmp_path: Path) -> None:
    RunFolder(tmp_path).save_environment(num_processes=2, mixed_precision="bf16")
    facts = json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))
    assert set(facts) == {
        "command", "python", "platform", "packages", "git_commit", "cpu", "cores", "gpus", "num_processes",
        "mixed_precision",
    }  # fmt: skip
    assert set(facts["packages"]) == {
        "torch", "accelerate", "transformers", "datasets", "evaluate", "pillow", "wandb", "numpy",
    }  # fmt: skip
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (facts["num_processes"], facts["mixed_precision"]) == (2, "bf16")
    assert facts["cores"] >= 1 and facts["cpu"]
    assert facts["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", facts["git_commit"])


def test_a_run_outside_a_checkout_and_a_machine_without_git_have_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no git there
    assert current_environment()["git_commit"] is None


def test_a_run_on_a_machine_without_wandb_notes_that_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "wandb":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("maskcls.training.environment.version", installed)
    packages = current_environment()["packages"]
    assert packages["wandb"] is None and packages["torch"] == "1.0"
