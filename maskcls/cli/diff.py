"""`maskcls diff`: what changed between two tables of answers."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "compare two tables of answers: how many differ, about what, and on which photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    table = "output.csv that infer.py wrote, or the folder that it lies in"
    parser.add_argument("before", metavar="A", type=full_path, help=table)
    parser.add_argument("after", metavar="B", type=full_path, help="the same of other answers about the same photos")
    parser.add_argument("--csv", metavar="FILE", type=full_path, help="write all answers that differ as a table")
    parser.add_argument("-o", "--output", metavar="HTML", type=full_path, help="write a page with the photos")
    folder = "where the photos of the page lie; default: as the config of the run says in whose folder A or B lies"
    parser.add_argument("--infer_data_dir", metavar="FOLDER", help=folder)
    parser.add_argument("--lang", metavar="LANGUAGE", help="en or ko; default: MASKCLS_LANG, LC_ALL or LANG, else en")


def run(arguments: argparse.Namespace) -> None:
    """Prints what differs; writes it when asked to. Raises UserError as `read_answers` and `difference_of`."""
    from maskcls.reporting import difference
    from maskcls.tables import write_table
    from maskcls.training.answers import read_answers
    from maskcls.words import Words, language

    word = Words(language(arguments.lang))
    tables = [read_answers(path) for path in (arguments.before, arguments.after)]
    found = difference.difference_of(*tables)
    print(difference.difference_text(found, word))
    if arguments.csv:
        write_table(arguments.csv, difference.COLUMNS, difference.difference_rows(found), overwrites=True)
        print(word("where_table", path=arguments.csv))
    if arguments.output:
        from maskcls.reporting.difference_page import photo_folder, write_difference_page

        folder = photo_folder(arguments.infer_data_dir, [table.path for table in tables])
        write_difference_page(arguments.output, found, folder, word)
        print(word("where_page", path=arguments.output))
