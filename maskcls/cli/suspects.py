"""`maskcls suspects`: the labels that are probably wrong, as a table that becomes label_fixes."""

from __future__ import annotations

import argparse
import shlex

from maskcls.labels import ATTRIBUTES, OF_PERSON, OF_PHOTO
from maskcls.paths import full_path

HELP = "write a table of the labels that are probably wrong, most suspicious first, for label_fixes"
DESCRIPTION = f"""\
Writes a table of the labels that are probably wrong, most suspicious first.

Every person ({", ".join(OF_PERSON)}) and every photo ({", ".join(OF_PHOTO)}) that the runs validated has a row.
Rows with a suspicion of 0.5 or more propose another label in the columns {", ".join(ATTRIBUTES)};
the others change nothing. Look at the photos, delete the rows that are wrong, fill in what you know better,
and train with label_fixes=suspects.csv. The folder of a cross-validation covers everybody.
"""
COLUMNS = ("profile", "stem", *ATTRIBUTES, "suspicion", "label", "prediction", "num_photos", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command understands to its parser."""
    parser.description, parser.formatter_class = DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", metavar="RUN", nargs="+", type=full_path, help="run or folds folder; several: joined")
    parser.add_argument(
        "-o", "--output", metavar="CSV", type=full_path, default="suspects.csv", help="table to write (suspects.csv)"
    )
    parser.add_argument("--top", metavar="N", type=int, help="only the N most suspicious rows")


def run(arguments: argparse.Namespace) -> None:
    """Writes the table and says what is in it and what to do with it.

    Raises UserError when a run has no predictions, when the runs do not fit together, when N is less than 1, or when
    the table exists already or cannot be written.
    """
    from maskcls.errors import UserError
    from maskcls.evaluation.consistency import contradictions, suspects
    from maskcls.evaluation.paired import joined_people
    from maskcls.tables import write_table
    from maskcls.training.folds_folder import run_or_folds

    if arguments.top is not None and arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; it is at least 1")
    predictions = joined_people([run_or_folds(path).read_predictions() for path in arguments.runs])
    found = suspects(predictions)
    chosen = found[: arguments.top]
    rows = []
    for suspect in chosen:
        proposed = [suspect.prediction if suspect.is_likely and suspect.head == head else "" for head in ATTRIBUTES]
        shown = suspect.label, suspect.prediction, suspect.num_photos, suspect.reason
        rows.append([suspect.profile, suspect.stem, *proposed, f"{suspect.suspicion:.4f}", *shown])
    try:
        write_table(arguments.output, COLUMNS, rows, overwrites=False)
    except FileExistsError:
        raise UserError(
            f"{arguments.output} exists already and may hold your corrections: name another file, or delete it first"
        ) from None

    likely = [suspect.head for suspect in chosen if suspect.is_likely]
    counts = ", ".join(f"{head} {likely.count(head)}" for head in ATTRIBUTES if head in predictions.probabilities)
    num_people = len(set(predictions.people.tolist()))
    print(f"validated       {num_people:,} people, {len(predictions):,} photos")
    for head, share in contradictions(predictions).items():
        print(f"contradictions  {head}: {share} of the people get different answers")
    print(f"table           {arguments.output}: {len(chosen):,} rows, {len(likely):,} propose another label ({counts})")
    setting = shlex.quote(f"label_fixes={arguments.output}")
    print(f"next            look at the photos, delete the rows that are wrong, train with {setting}")
