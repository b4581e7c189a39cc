"""`maskcls report runs/exp`: makes the report of a run, or of all folds, again."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "write report.html of a run or a folds folder: scores, mistakes, curves, config; one file, opened in any browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument("run_folder", metavar="RUN", type=full_path, help="run or folds folder that train.py made")
    parser.add_argument(
        "--against", metavar="RUN", type=full_path, help="run or folds folder to compare scores and config with"
    )
    parser.add_argument("--lang", metavar="LANGUAGE", help="en or ko; default: MASKCLS_LANG, LC_ALL or LANG, else en")


def run(arguments: argparse.Namespace) -> None:
    """Writes the report and says where it lies.

    Raises UserError for a folder that is no run, for one whose folds are not all trained, or another language.
    """
    from maskcls.reporting.report.page import write_report
    from maskcls.training.folds_folder import FoldsFolder
    from maskcls.training.run_folder import RunFolder
    from maskcls.words import Words, language

    chosen = language(arguments.lang)
    given = [path for path in (arguments.run_folder, arguments.against) if path is not None]
    folders = [folds if (folds := FoldsFolder(path)).is_folds() else RunFolder.existing(path) for path in given]
    for folder in folders:
        if isinstance(folder, FoldsFolder):
            folder.finished_runs()
    path = write_report(folders[0], language=chosen, against=folders[1] if len(folders) > 1 else None)
    print(Words(chosen)("written", path=path, size=f"{path.stat().st_size / 1e6:.1f} MB"))
