"""`maskcls check`: finds before a run what would end it or spoil it. `train.py --check` does the same in a launch."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "look at a config, its photos and one update before training; ends with go or no go"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.add_argument("--config", required=True, help="YAML of the experiment")
    parser.add_argument("--decode", action="store_true", help="decode every photo in full")
    parser.add_argument("--fix-report", metavar="CSV", type=full_path, help="write every finding as a table")
    parser.add_argument("--lang", metavar="LANGUAGE", help="en or ko; default: MASKCLS_LANG, LC_ALL or LANG, else en")
    parser.epilog = "key=value and --key=value change the config, as for train.py"
    parser.set_defaults(overrides=[])


def run(arguments: argparse.Namespace) -> None:
    """Checks the config. Raises UserError, exit code 2, when it is no go."""
    from maskcls.config import load_config
    from maskcls.reporting.check import check
    from maskcls.training.processes import Launch
    from maskcls.words import language

    config = load_config(arguments.config, arguments.overrides)
    check(config, Launch(), None, lang=language(arguments.lang), decode=arguments.decode, table=arguments.fix_report)
