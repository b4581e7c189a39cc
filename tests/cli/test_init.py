"""`maskcls init`: what it writes is what the machine needs, accelerate and the config accept it, nothing is overwritten."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from maskcls.cli.init import starting_set
from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.machine import cpu_has_bf16
from maskcls.training.builders import read_data
from tests.helpers import ROOT, maskcls

PATHS: dict[str, object] = {"data_dir": "data/images", "infer_data_dir": "data/eval"}


def launched(command: str) -> Any:
    """Returns what accelerate makes of a command to type, read in the folder where one is."""
    words = shlex.split(command)
    assert words[:3] == ["accelerate", "launch", "-q"] and words[5:9] == ["-m", "maskcls", "train", "--config"]
    return _validate_launch_command(launch_command_parser().parse_args(words[2:]))[0]


@pytest.mark.parametrize(
    ("num_gpus", "precision", "recipe", "kind"),
    [
        (0, "bf16", "real_faces", "NO"),
        (0, "no", "real_faces", "NO"),
        (1, "bf16", "exp", "NO"),
        (1, "fp16", "exp", "NO"),
        (1, "no", "exp", "NO"),  # macOS
        (4, "bf16", "exp", "MULTI_GPU"),
        (8, "fp16", "exp", "MULTI_GPU"),
        (2, "no", "exp", "MULTI_GPU"),
    ],
)
def test_a_machine_gets_what_fits_it(
    num_gpus: int, precision: str, recipe: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = starting_set(num_gpus, precision, PATHS)
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    assert list(files) == [f"{recipe}.yaml", "accelerate.yaml", "schema.json"]
    launch = yaml.safe_load(files["accelerate.yaml"])
    assert (launch["distributed_type"], launch["mixed_precision"]) == (kind, precision)
    assert (launch["num_processes"], launch["use_cpu"]) == (max(num_gpus, 1), num_gpus == 0)
    for name in list(files)[:2]:  # the header's command is this set's, and accelerate takes it
        (line,) = [line for line in files[name].splitlines() if "accelerate launch" in line]
        assert line.startswith("#") and line.endswith(f"--config {recipe}.yaml")
        read = launched(line[line.index("accelerate launch") :])
        assert (read.mixed_precision, read.num_processes, read.multi_gpu) == (precision, max(num_gpus, 1), num_gpus > 1)
        assert "train.py" not in files[name]
    config, shipped = load_config(f"{recipe}.yaml"), load_config(ROOT / f"configs/{recipe}.yaml")
    pretrained = config.model_args.get("pretrained")
    assert bool(pretrained) is (num_gpus > 0)
    places = {"data_dir", "infer_data_dir", "train_profile", "valid_profile"}
    assert config.model_dump(exclude=places) == shipped.model_dump(exclude=places)
    assert (config.data_dir, config.infer_data_dir) == (str(tmp_path / "data/images"), str(tmp_path / "data/eval"))
    assert config.train_profile is config.valid_profile is None
    for word in ("Hardware:", "Time:", "Expected:", "$schema=schema.json"):
        assert word in files[f"{recipe}.yaml"]
    assert json.loads(files["schema.json"])["properties"].keys() == Config.model_fields.keys()


@pytest.mark.parametrize("has_gpu", [False, True])
def test_it_finds_out_what_the_machine_has(
    has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if has_gpu:
        monkeypatch.setattr("maskcls.machine.num_accelerators", lambda: 3)
        monkeypatch.setattr("maskcls.machine.quickest_precision", lambda: "fp16")
    else:
        monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    maskcls("init", tmp_path / "mine")
    launch = yaml.safe_load((tmp_path / "mine/accelerate.yaml").read_text())
    precision = "fp16" if has_gpu else "bf16" if cpu_has_bf16() else "no"
    assert (launch["use_cpu"], launch["num_processes"]) == (not has_gpu, 3 if has_gpu else 1)
    assert launch["mixed_precision"] == precision
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"machine     {'3 GPUs' if has_gpu else 'no GPUs'}, mixed precision {precision}"


def test_the_commands_that_it_prints_are_whole_and_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maskcls("init", tmp_path / "my 'set'", "--gpus", 1, "--data_dir", tmp_path / "my: photos", "--infer_data_dir", "x")
    *_, change, train, infer = [line[12:] for line in capsys.readouterr().out.splitlines()]
    monkeypatch.chdir(shlex.split(change)[1])
    assert Path.cwd() == tmp_path / "my 'set'"
    assert launched(train).training_script_args == ["train", "--config", "exp.yaml"]
    assert infer == "maskcls infer --model_dir runs/exp"
    config = load_config("exp.yaml")
    assert (config.data_dir, config.infer_data_dir) == (str(tmp_path / "my: photos"), str(ROOT / "x"))
    assert config.model_dir == str(Path.cwd() / "runs") and config.name == "exp"


def test_without_photos_it_says_where_they_belong_and_training_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maskcls("init", tmp_path, "--gpus", 0)
    said = f"photos      belong into {tmp_path}/data/images, or name their folder as data_dir in real_faces.yaml"
    lines = capsys.readouterr().out.splitlines()
    assert said in lines
    assert lines[-1] == "            maskcls infer --model_dir runs/exp --infer_data_dir FOLDER_OF_PHOTOS"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^data_dir {tmp_path}/data/images does not exist"):
        read_data(load_config("real_faces.yaml"))


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "exp.yaml").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        maskcls("init", tmp_path, "--gpus", 2)
    message = f"error: {tmp_path}/exp.yaml: there already, and nothing is overwritten; name another folder\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["exp.yaml"] and (tmp_path / "exp.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("file/mine",), "{0}/file/mine cannot be written: Not a directory"),
        (("mine", "--gpus", "-1"), "--gpus is -1; it is 0 or more"),
    ],
)
def test_a_mistake_is_reported(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        maskcls("init", *arguments)
    assert (ended.value.code, capsys.readouterr().err) == (2, f"error: {message.format(tmp_path)}\n")
