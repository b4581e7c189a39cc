"""The command that writes the drawn sample data."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskcls.paths import command, full_path, shipped
from maskcls.yaml_file import read_values

HELP = "draw sample photos, profile lists and an evaluation set, to try everything without real photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument("directory", metavar="DIR", type=full_path, help="folder to write; made when missing")
    parser.add_argument("--people", metavar="N", type=int, default=150, help="people in the two lists, 7 photos each")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="the same seed draws the same photos")


def run(arguments: argparse.Namespace) -> None:
    """Writes the data and says what lies where and what to type next. Raises UserError as `write_sample_data`."""
    from maskcls.paths import write_problem
    from maskcls.sample.write import write_sample_data

    try:
        summary = write_sample_data(arguments.directory, num_people=arguments.people, seed=arguments.seed)
    except OSError as error:
        raise write_problem(arguments.directory, error) from None
    people = f"{summary.num_train_people} people to train on, {summary.num_valid_people} to validate"
    print(f"profiles    {summary.images}: {summary.num_profile_photos} photos, {people}")
    print(f"lists       {summary.train_profile}, {summary.valid_profile}")
    print(f"evaluation  {summary.eval_directory}: {summary.num_eval_photos} photos of {summary.num_eval_people} others")
    print(f"truth       {summary.eval_truth}")
    print(f"next        {demo_command(arguments.directory)}")


def demo_command(directory: Path) -> str:
    """Returns the line that trains configs/demo.yaml on the data in `directory`, with the paths that are others."""
    config = shipped("configs/demo.yaml")
    paths = {key: value for key, value in read_values(config).items() if isinstance(value, str) and "demo/" in value}
    moved = {key: directory / Path(path).relative_to("demo") for key, path in paths.items()}
    others = [f"{key}={path}" for key, path in moved.items() if path != full_path(paths[key])]
    return command("train", "--config", config, *others)
