"""`maskcls report runs/exp`: makes the report of a run again."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "write report.html of a run: scores, mistakes, curves, config; one file, opened in any browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument("run_folder", metavar="RUN", type=full_path, help="run folder that train.py made")
    parser.add_argument("--against", metavar="RUN", type=full_path, help="run that scores and config are compared with")
    parser.add_argument("--lang", metavar="LANGUAGE", help="en or ko; default: MASKCLS_LANG, LC_ALL or LANG, else en")


def run(arguments: argparse.Namespace) -> None:
    """Writes the report and says where it lies. Raises UserError for a folder that is no run, or another language."""
    from maskcls.reporting.report.page import write_report
    from maskcls.training.run_folder import RunFolder
    from maskcls.words import Words, language

    chosen = language(arguments.lang)
    runs = [RunFolder.existing(folder) for folder in (arguments.run_folder, arguments.against) if folder is not None]
    path = write_report(runs[0], language=chosen, against=runs[1] if len(runs) > 1 else None)
    print(Words(chosen)("written", path=path, size=f"{path.stat().st_size / 1e6:.1f} MB"))
