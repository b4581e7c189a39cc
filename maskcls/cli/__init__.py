"""The `maskcls` command: one module per subcommand, each with HELP, add_arguments and run."""

from __future__ import annotations

import argparse
from importlib import import_module

from maskcls import __version__
from maskcls.errors import errors_end_the_program

COMMANDS = {
    "sample-data": "maskcls.cli.sample_data",
    "schema": "maskcls.cli.schema",
    "check": "maskcls.cli.check",
    "runs": "maskcls.cli.runs",
    "compare": "maskcls.cli.compare",
    "suspects": "maskcls.cli.suspects",
    "report": "maskcls.cli.report",
}


def main() -> None:
    """Runs the subcommand that the command line names."""
    parser = argparse.ArgumentParser(prog="maskcls", description="Face photos: mask state, gender, age group.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module_name in COMMANDS.items():
        module = import_module(module_name)  # light: heavy imports are inside run
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args()
    with errors_end_the_program():
        arguments.run(arguments)
