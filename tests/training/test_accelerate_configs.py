"""The machine shapes are read by accelerate itself, and each says how it is started."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
EXPECTED = {  # name: distributed type, precision, processes, machines
    "cpu": ("NO", "bf16", 1, 1),
    "fsdp2_bf16": ("FSDP", "bf16", 2, 1),
    "multi_gpu_bf16": ("MULTI_GPU", "bf16", 2, 1),
    "multi_gpu_fp16": ("MULTI_GPU", "fp16", 2, 1),
    "multi_node_bf16": ("MULTI_GPU", "bf16", 16, 2),
    "one_gpu_bf16": ("NO", "bf16", 1, 1),
}


def header(file: Path) -> str:
    """Returns the comment at the top, continued lines joined."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).replace("\\ ", "")


def launched(file: Path) -> list[str]:
    """Returns the words that the header types behind `accelerate launch`."""
    return header(file).partition("accelerate launch ")[2].split()


def test_the_shapes_are_these() -> None:
    assert {file.stem for file in FILES} == set(EXPECTED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_what_the_name_promises(file: Path) -> None:
    config: Any = load_config_from_file(str(file))
    shape = (config.distributed_type, config.mixed_precision, config.num_processes, config.num_machines)
    assert (str(getattr(shape[0], "value", shape[0])), *map(str, shape[1:])) == tuple(map(str, EXPECTED[file.stem]))
    assert config.use_cpu is (file.stem == "cpu")
    assert config.main_training_function == "main" and config.machine_rank == 0
    assert config.enable_cpu_affinity is False  # it needs nvidia-ml-py, and counts GPUs that CUDA_VISIBLE_DEVICES hides
    assert getattr(config, "gpu_ids", "all") in (None, "all")  # a cluster's own choice stays


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_header_types_its_own_launch_command(file: Path) -> None:
    words = launched(file)
    assert words[:2] == ["--config_file", f"accelerate_configs/{file.name}"]
    assert words[-3:-1] == ["train.py", "--config"] and re.fullmatch(r"configs/\w+\.yaml", words[-1])
    assert (ROOT / words[-3]).is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_accepts_the_header_command_with_this_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = launch_command_parser().parse_args(launched(file))
    assert arguments.training_script == "train.py"
    read, _, is_precision_from_file = _validate_launch_command(arguments)
    assert isinstance(read, argparse.Namespace)
    assert is_precision_from_file and read.mixed_precision == EXPECTED[file.stem][1]
    num_typed = re.search(r"--num_processes (\d+)", header(file))
    assert read.num_processes == (int(num_typed.group(1)) if num_typed else EXPECTED[file.stem][2])
    assert read.multi_gpu == (EXPECTED[file.stem][0] == "MULTI_GPU")
    assert read.use_fsdp == (EXPECTED[file.stem][0] == "FSDP")


def test_sharding_is_version_2_and_keeps_every_key_that_accelerate_knows() -> None:
    file = next(file for file in FILES if file.stem == "fsdp2_bf16")
    config = yaml.safe_load(file.read_text(encoding="utf-8"))["fsdp_config"]
    known = {word.lstrip("-") for action in launch_command_parser()._actions for word in action.option_strings}
    assert config["fsdp_version"] == 2
    assert set(config) <= known and len(config) >= 5
