"""`maskcls blend`: which runs shall answer together, with what weights, and whether that is worth it."""

from __future__ import annotations

import argparse

from maskcls.paths import full_path

HELP = "choose which runs answer together, with what weights, and say what that gains; infer.py takes the blend.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    each = "a folds folder, a run folder, or runs/mask+runs/gender+runs/age: three attribute runs as one"
    parser.add_argument("candidates", metavar="CANDIDATE", nargs="+", help=each)
    file = "file to write (blend.yaml), for infer.py --model_dir"
    parser.add_argument("-o", "--output", metavar="FILE", type=full_path, default="blend.yaml", help=file)
    parser.add_argument("--lang", metavar="LANGUAGE", help="en or ko; default: MASKCLS_LANG, LC_ALL or LANG, else en")


def run(arguments: argparse.Namespace) -> None:
    """Prints the blend and what it is worth, and writes it.

    Raises UserError for candidates that cannot be blended, and for a file that is something else or cannot be written.
    """
    from maskcls.evaluation.blend import blend
    from maskcls.paths import command
    from maskcls.reporting.blend import blend_file, blend_text, read_candidates
    from maskcls.reporting.text import decision_line
    from maskcls.training.blend_file import BlendFile
    from maskcls.words import Words, language

    word = Words(language(arguments.lang))
    BlendFile.check_free(arguments.output)
    candidates = read_candidates(arguments.candidates)
    found = blend([candidate.predictions for candidate in candidates])
    print(blend_text([candidate.name for candidate in candidates], found, word), end="\n\n")
    file = blend_file(candidates, found)
    file.write(arguments.output)
    print(decision_line(file.decision, word))
    print(word("where_blend", path=arguments.output))
    print(word("next_command", command=command("infer", "--model_dir", arguments.output)))
