"""The `maskcls` command: two scripts, and one module per other subcommand, with HELP, add_arguments and run."""

from __future__ import annotations

import argparse
import runpy
import sys
from importlib import import_module

from maskcls import __version__
from maskcls.paths import top_level
from maskcls.program import errors_end_the_program

SCRIPTS = {
    "train": "train a config, as train.py does",
    "folds": "train every fold of a config and score all people out of fold, as train.py --folds all does",
    "infer": "predict photos with the models of runs, as infer.py does",
}
COMMANDS = ("init", "sample-data", "schema", "check", "runs", "compare", "blend", "diff", "suspects", "report")


def main() -> None:
    """Runs the subcommand that the command line names."""
    if sys.argv[1:2] and sys.argv[1] in SCRIPTS:
        run_script(sys.argv[1])
        return
    parser = argparse.ArgumentParser(prog="maskcls", description="Face photos: mask state, gender, age group.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in SCRIPTS.items():
        subparsers.add_parser(name, help=text)
    for name in COMMANDS:
        module = import_module(f"maskcls.cli.{name.replace('-', '_')}")  # light: heavy imports are inside run
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    with errors_end_the_program():
        arguments, others = parser.parse_known_args()
        if "overrides" in arguments:  # of those commands that read a config
            arguments.overrides = others
        elif others:
            parser.error(f"unrecognized arguments: {' '.join(others)}")
        arguments.run(arguments)


def run_script(name: str) -> None:
    """Runs main of train.py or infer.py, from where it lies, on the rest of the command line; imports nothing heavy."""
    script = runpy.run_path(str(top_level() / ("infer.py" if name == "infer" else "train.py")))
    sys.argv[:2] = [f"maskcls {name}", *(["--folds", "all"] if name == "folds" else [])]
    script["main"]()
