"""`maskcls init`: a folder to start in, with the config and the accelerate config that fit the machine."""

from __future__ import annotations

import argparse
import json
import re

from maskcls.paths import full_path, top_level, write_problem

HELP = "write a config and an accelerate config that fit this machine (asks torch what it has), and say how to start"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument("directory", metavar="DIR", type=full_path, help="folder to write; made when missing")
    parser.add_argument("--data_dir", metavar="D", type=full_path, help="folder of the profile folders, one per person")
    parser.add_argument("--infer_data_dir", metavar="D", type=full_path, help="folder with photos to predict")
    parser.add_argument("--gpus", metavar="N", type=int, help="for a machine that has N of them, not for this one")


def run(arguments: argparse.Namespace) -> None:
    """Writes the files and prints the commands of the run. Raises UserError when one is there, or cannot be written."""
    import shlex

    from maskcls.errors import UserError, listed
    from maskcls.machine import num_accelerators, quickest_precision

    directory, num_gpus, precision = arguments.directory, arguments.gpus, "bf16"
    if num_gpus is None:
        num_gpus, precision = num_accelerators(), quickest_precision()
    elif num_gpus < 0:
        raise UserError(f"--gpus is {num_gpus}; it is 0 or more")
    paths = {"data_dir": arguments.data_dir or "data/images", "infer_data_dir": arguments.infer_data_dir or "data/eval"}
    files = starting_set(num_gpus, precision, paths)
    if there := [directory / name for name in files if (directory / name).exists()]:
        raise UserError(f"{listed(there)}: there already, and nothing is overwritten; name another folder")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_problem(directory, error) from None
    config, launch, _ = files
    print(f"machine     {num_gpus or 'no'} GPU{'' if num_gpus == 1 else 's'}, mixed precision {precision}")
    print(f"config      {directory / config}: what is learnt")
    print(f"launch      {directory / launch}: where it runs")
    if not arguments.data_dir:
        print(f"photos      belong into {directory / paths['data_dir']}, or name their folder as data_dir in {config}")
    print(f"next        {shlex.join(['cd', str(directory)])}")
    print(f"            {launch_command(config, launch)}")
    named = "" if arguments.infer_data_dir else " --infer_data_dir FOLDER_OF_PHOTOS"
    print(f"            maskcls infer --model_dir runs/exp{named}")


def launch_command(config: str, launch: str) -> str:
    """Returns the line that trains, in the folder of the two files; -q: without accelerate's traceback below ours."""
    return f"accelerate launch -q --config_file {launch} -m maskcls train --config {config}"


def starting_set(num_gpus: int, precision: str, paths: dict[str, object]) -> dict[str, str]:
    """Returns file name -> text of the config, the accelerate config and the schema for a machine.

    A CPU (no GPUs) gets the recipe from scratch, a GPU the one that starts from pretrained weights. Headers stay, with
    the command of this set; the profile lists, which belong to the recipe's measured score, go. precision: bf16, fp16
    or no. paths: settings of the config that name folders.
    """
    recipe = "exp.yaml" if num_gpus else "real_faces.yaml"
    several = "multi_gpu_fp16" if precision == "fp16" else "multi_gpu_bf16"
    shape = ("cpu", "one_gpu_bf16")[num_gpus] if num_gpus < 2 else several

    def shipped(name: str) -> str:
        text = (top_level() / name).read_text(encoding="utf-8")
        return re.sub(r"accelerate launch .*\.yaml", launch_command(recipe, "accelerate.yaml"), text)

    config = re.sub(r"^(train|valid)_profile:.*\n", "", shipped(f"configs/{recipe}"), flags=re.MULTILINE)
    launch = shipped(f"accelerate_configs/{shape}.yaml")
    return {
        recipe: with_values(config, {key: str(path) for key, path in paths.items()}),
        "accelerate.yaml": with_values(launch, {"mixed_precision": precision, "num_processes": max(num_gpus, 1)}),
        "schema.json": shipped("configs/schema.json"),
    }


def with_values(text: str, values: dict[str, object]) -> str:
    """Returns YAML with other values for top-level keys that it has, and all its comments."""
    for key, value in values.items():
        (line,) = re.findall(rf"^{key}:.*\n", text, flags=re.MULTILINE)
        text = text.replace(f"\n{line}", f"\n{key}: {json.dumps(value, ensure_ascii=False)}\n")
    return text
