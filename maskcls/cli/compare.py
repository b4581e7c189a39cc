"""The command that puts runs side by side and says which differences are more than chance."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "compare runs on the people that all validated: configs, scores with intervals, which differences are real"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    joined = (
        "runs/mask+runs/gender+runs/age: three attribute runs as one; runs/a,runs/b: the mean of runs, or folds of one "
        "recipe as one; or a blend.yaml"
    )
    seeds = "a folds folder alone: its seeds with each other"
    each = f"run or folds folder; each later one is compared with the first. {joined}; {seeds}"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=each)
    score = "score to compare, as in metrics.jsonl: f1 (default), age_acc, ..."
    parser.add_argument("--score", default="f1", help=score)
    parser.add_argument("--common", action="store_true", help="the people differ: compare on those validated by all")
    parser.add_argument("-o", "--output", metavar="FILE", type=full_path, help="draw the comparison (.png, .svg, .pdf)")
    parser.add_argument("--csv", metavar="FILE", type=full_path, help="write every number as a table")


def run(arguments: argparse.Namespace) -> None:
    """Prints the comparison; draws and writes it when asked to. Raises UserError as `read_runs` and `compare`."""
    from maskcls.reporting import charts, comparison, drawing
    from maskcls.tables import write_rows

    runs = comparison.read_runs(arguments.runs)
    is_one = len(arguments.runs) == 1
    result = comparison.compare(runs, score=arguments.score, only_common=arguments.common, is_one_recipe=is_one)
    print(comparison.comparison_text(result))
    if arguments.output:
        drawing.save_chart(arguments.output, charts.comparison(result))
        print(f"picture: {arguments.output}")
    if arguments.csv:
        write_rows(arguments.csv, comparison.comparison_rows(result))
        print(f"numbers: {arguments.csv}")
