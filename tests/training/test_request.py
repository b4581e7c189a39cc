"""Which run resumes, and what of its config may have changed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from maskcls.config import MAY_CHANGE, Config, load_config
from maskcls.errors import UserError
from maskcls.training.request import run_to_resume
from maskcls.training.run_folder import RunFolder

CONFIG = """
data_dir: data
dataset_args: {{output: mask}}
model_dir: {model_dir}
name: exp
ema_decay: 0.9
"""


@pytest.fixture
def yaml(tmp_path: Path) -> str:
    path = tmp_path / "exp.yaml"
    path.write_text(CONFIG.format(model_dir=tmp_path / "runs"), encoding="utf-8")
    return str(path)


def left(yaml: str, *overrides: str, name: str = "exp", seconds: int = 0, is_finished: bool = False) -> RunFolder:
    """Returns a run as train.py leaves it, `seconds` after the others."""
    config = load_config(yaml, overrides)
    run = RunFolder.create(config.model_dir, name)
    config.save(run.config)
    os.utime(run.config, (1_000_000 + seconds, 1_000_000 + seconds))
    if is_finished:
        run.finished.touch()
    return run


def test_a_run_goes_on_with_its_own_config_and_with_the_one_that_it_came_from(yaml: str) -> None:
    run = left(yaml)
    for config_path in (None, yaml):
        found, config = run_to_resume(str(run.path), config_path, [])
        assert found == run and config == load_config(config_path or run.config)


def test_what_may_change_may_change(yaml: str) -> None:
    run = left(yaml)
    overrides = ["epochs=99", "log_interval=1", "num_workers=0", "wandb=disabled", "checkpoint_interval=null"]
    _, config = run_to_resume(str(run.path), None, overrides)
    assert (config.epochs, config.log_interval, config.num_workers) == (99, 1, 0)
    assert (config.wandb, config.checkpoint_interval) == ("disabled", None)
    assert len(MAY_CHANGE) > 10 and set(Config.model_fields) > MAY_CHANGE


def test_anything_else_is_refused_with_all_differences_and_what_may_change(yaml: str) -> None:
    run = left(yaml)
    with pytest.raises(UserError) as caught:
        run_to_resume(str(run.path), None, ["lr=0.5", "seed=7", "ema_decay=null", "epochs=99"])
    *lines, last = str(caught.value).splitlines()
    assert lines == [
        "3 differences:",
        f"  - {run.path} cannot resume with another config: seed is 7, in the run 42",
        f"  - {run.path} cannot resume with another config: ema_decay is None, in the run 0.9",
        f"  - {run.path} cannot resume with another config: lr is 0.5, in the run 0.001",
    ]
    assert last == f"May change: {', '.join(sorted(MAY_CHANGE))}" and "epochs" in last and "log_interval" in last


def test_a_run_that_nobody_validates_resumes_as_such_and_a_list_may_lie_elsewhere(yaml: str) -> None:
    run = left(yaml, "valid_profile=none")
    with pytest.raises(
        UserError, match=r"cannot resume with another config: valid_profile is None, in the run 'none'\n"
    ):
        run_to_resume(str(run.path), None, ["valid_profile=null"])
    assert run_to_resume("auto", yaml, []) == (None, load_config(yaml))
    assert run_to_resume("auto", yaml, ["valid_profile=none"])[0] == run
    listed = left(yaml, "valid_profile=people.txt")
    assert run_to_resume(str(listed.path), None, ["valid_profile=elsewhere.txt"])[0] == listed


def test_a_config_that_was_edited_since_a_state_was_saved_is_refused(yaml: str) -> None:
    """An optimizer's state holds its own learning rate, so that the edit would only look as if it had been trained."""
    run = left(yaml)
    run.last.mkdir()
    shutil.copy(run.config, run.last / "training.yaml")
    edited = run.config.read_text(encoding="utf-8").replace("lr: 0.001", "lr: 0.01").replace("epochs: 10", "epochs: 12")
    run.config.write_text(edited, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        run_to_resume(str(run.path), None, [])
    first, second, third = str(caught.value).splitlines()
    assert first == f"{run.path} cannot resume with another config: lr is 0.01, in the run 0.001"
    assert second == f"{run.config} has been edited since" and third.startswith("May change: ")
    run.config.write_text(edited.replace("lr: 0.01", "lr: 0.001"), encoding="utf-8")
    assert run_to_resume(str(run.path), None, [])[1].epochs == 12  # which may change


def test_a_run_goes_on_from_another_folder(yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = left(yaml, "data_dir=photos")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found, config = run_to_resume("../runs/exp", None, [])
    assert (found, config.data_dir) == (run, str(tmp_path / "photos"))


def test_what_is_no_run_cannot_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))} is not a run folder: it has no config\.yaml$"):
        run_to_resume(str(tmp_path), None, [])


def test_auto_needs_a_config() -> None:
    with pytest.raises(UserError, match=r"^--resume auto looks for a run of a config: give --config too$"):
        run_to_resume("auto", None, [])


def test_auto_starts_anew_when_there_is_nothing_to_resume(yaml: str) -> None:
    assert run_to_resume("auto", yaml, []) == (None, load_config(yaml))
    left(yaml, is_finished=True)
    left(yaml, "lr=0.5")
    left(yaml, name="other")
    left(yaml, name="exp-2")
    RunFolder.create(load_config(yaml).model_dir, "exp")  # killed before it wrote its config
    assert run_to_resume("auto", yaml, []) == (None, load_config(yaml))


def test_auto_takes_the_newest_unfinished_run_of_the_same_name_and_config(yaml: str) -> None:
    left(yaml, seconds=1)
    wanted = left(yaml, seconds=5)
    left(yaml, seconds=3)
    left(yaml, seconds=8, is_finished=True)
    left(yaml, "ema_decay=null", seconds=9)
    left(yaml, "seed=1", seconds=9)
    left(yaml, name="other", seconds=9)
    found, config = run_to_resume("auto", yaml, ["epochs=77"])
    assert found == wanted and wanted.path.name == "exp1"
    assert config.epochs == 77
