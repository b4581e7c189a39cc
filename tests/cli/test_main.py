"""The `maskcls` command: its two scripts are train.py and infer.py themselves, and its help costs no heavy import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maskcls.cli import COMMANDS, SCRIPTS
from tests.helpers import ROOT, run

HEAVY = {"torch", "numpy", "transformers", "datasets", "accelerate", "wandb", "PIL"}


def imported(*command: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Returns the finished command and the packages that it imported."""
    ended = run("-X", "importtime", *command)
    modules = {line.split("|")[-1].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")}
    return ended, {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("name", ["train", "infer"])
def test_a_script_is_the_same_under_either_name(name: str) -> None:
    ended, packages = imported("-m", "maskcls", name, "--help")
    assert ended.returncode == 0 and "maskcls" in packages and not packages & HEAVY
    script = run(f"{name}.py", "--help")
    assert ended.stdout.startswith(f"usage: maskcls {name} [-h]") and len(script.stdout) > 500
    assert "".join(ended.stdout.split()) == "".join(script.stdout.split()).replace(
        f"{name}.py[-h]", f"maskcls{name}[-h]"
    )


def test_a_mistake_ends_it_as_it_ends_the_script_before_torch_is_imported(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("sede: 1\n")
    ended, packages = imported("-m", "maskcls", "train", "--config", str(config), "--lr=-1", "epochs=0")
    script, packages_of_script = imported("train.py", "--config", str(config), "--lr=-1", "epochs=0")
    said, said_by_script = (
        [line for line in one.stderr.splitlines() if not line.startswith("import time:")] for one in (ended, script)
    )
    assert ended.returncode == script.returncode == 2 and ended.stdout == script.stdout == ""
    assert said == said_by_script and said[0] == f"error: 6 problems in {config}:"
    assert "lr is -1" in ended.stderr and "epochs is 0" in ended.stderr and "Traceback" not in ended.stderr
    assert {"maskcls", "pydantic", "yaml"} <= packages & packages_of_script  # the list is a list of imports
    assert not (packages | packages_of_script) & HEAVY


def test_the_help_lists_the_scripts_among_the_commands() -> None:
    ended, packages = imported("-m", "maskcls", "--help")
    assert re.findall(r"^    (\S+)", ended.stdout, re.MULTILINE) == [*SCRIPTS, *COMMANDS]
    assert not packages & HEAVY


def test_it_works_from_any_folder(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "maskcls", "train", "--config", "nothing.yaml"], cwd=tmp_path, capture_output=True,
        text=True, check=False, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: config file {tmp_path}/nothing.yaml does not exist\n"
