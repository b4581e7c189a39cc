"""The command that lists the runs of a folder with their scores."""

from __future__ import annotations

import argparse
import sys

from maskcls.errors import listed
from maskcls.paths import full_path

HELP = "list the runs of a folder: when, how far, with which scores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=full_path, default="runs", help="folder of run folders (runs)"
    )
    by = "started (default, newest last), name, or a score, best first: f1, acc, loss, age_acc, ..."
    parser.add_argument("--sort", metavar="BY", default="started", help=by)
    parser.add_argument("--csv", metavar="FILE", type=full_path, help="write the table, with every score")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table, and writes it when asked to. Raises UserError as `summarize_runs` and `sorted_runs`."""
    from maskcls.reporting import runs
    from maskcls.tables import write_rows

    found = runs.sorted_runs(runs.summarize_runs(arguments.directory), arguments.sort)
    if hidden := runs.unreadable_folders(arguments.directory):
        print(f"warning: left out, because they may not be read: {listed(hidden)}", file=sys.stderr)
    if not found:
        print(f"{arguments.directory} holds no runs")
        return
    print(runs.runs_text(found, by=arguments.sort))
    if arguments.csv:
        write_rows(arguments.csv, runs.runs_rows(found))
        print(f"numbers: {arguments.csv}")
