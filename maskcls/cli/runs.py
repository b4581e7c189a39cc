"""The command that lists the runs of a folder with their scores."""

from __future__ import annotations

import argparse
import os
import sys

from maskcls.errors import listed
from maskcls.paths import full_path

HELP = "list the runs of a folder: when, how far, with which scores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=full_path, default="runs", help="folder of run folders (runs)"
    )
    parser.add_argument(
        "--sort", metavar="BY", default="started",
        help="started (default, newest last), name, or a score, best first: f1, acc, loss, age_acc, ...",
    )  # fmt: skip
    parser.add_argument("--csv", metavar="FILE", type=full_path, help="write the table, with every score")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table, or writes it.

    Raises:
        UserError: the folder is none of runs, no run has the score to sort by, or the file cannot be written.
    """
    from maskcls.reporting.runs import runs_rows, runs_text, sorted_runs, summarize_runs
    from maskcls.tables import write_rows

    runs = sorted_runs(summarize_runs(arguments.directory), arguments.sort)
    folders = sorted(path for path in arguments.directory.glob("[!.]*") if path.is_dir())
    if hidden := [path.name for path in folders if not os.access(path, os.R_OK | os.X_OK)]:
        print(f"warning: left out, because they may not be read: {listed(hidden)}", file=sys.stderr)
    if not runs:
        print(f"{arguments.directory} holds no runs")
        return
    print(runs_text(runs, by=arguments.sort))
    if arguments.csv:
        write_rows(arguments.csv, runs_rows(runs))
        print(f"numbers: {arguments.csv}")
