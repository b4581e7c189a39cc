"""Rank of planted label errors in the table of suspects: python benchmarks/suspects.py [PEOPLE] [SEED].

Draws people, turns the gender in 5 % of the folder names around, swaps two photos of another 5 % of the people (normal
with incorrect_mask, and either with a mask photo), trains every fold on these labels with configs/demo.yaml, and calls
`maskcls suspects` on the folds. Its table has a row for every person's gender, every person's age and every photo's
mask state; the shares are those of the planted rows among its first 10 %, its first 5 %, and the rows with a proposal.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import ROOT, machine, parser, run

from maskcls.data.profiles import profile_folders
from maskcls.labels import ATTRIBUTES
from maskcls.sample.write import write_sample_data

NUM_FOLDS = 3
SWAPS = (("normal", "incorrect_mask"), ("normal", "mask3"), ("incorrect_mask", "mask1"))

Row = tuple[str, str, str]  # profile, stem, attribute


def main() -> None:
    """Plants, trains, searches and prints the shares found."""
    arguments = parser(__doc__, people=150, seed=0).parse_args()
    num_people, seed = arguments.people, arguments.seed
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images = write_sample_data(work, num_people=num_people, seed=seed).images
        planted = _plant(images, num_errors=max(1, round(num_people / 20)), seed=seed)
        for fold in range(NUM_FOLDS):
            run([
                sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs/demo.yaml"),
                f"data_dir={images}", "train_profile=null", "valid_profile=null", f"num_folds={NUM_FOLDS}",
                f"fold={fold}", f"model_dir={work}/runs", f"name=fold{fold}", f"cache_dir={work}/cache",
                "wandb=disabled", "tensorboard=false",
            ])  # fmt: skip
        table = work / "suspects.csv"
        folds = [f"{work}/runs/fold{fold}" for fold in range(NUM_FOLDS)]
        command = "from maskcls.cli import main; main()"
        print(run([sys.executable, "-c", command, "suspects", *folds, "-o", str(table)]))
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    _print_found(rows, planted, num_people, seed)


def _plant(images: Path, *, num_errors: int, seed: int) -> list[Row]:
    """Turns the gender of `num_errors` people around, swaps two photos of as many others; returns the wrong rows."""
    chosen = np.random.default_rng(seed).permutation(profile_folders(images)).tolist()
    planted = []
    for name in chosen[:num_errors]:
        identity, gender, race, age = name.split("_")
        wrong = f"{identity}_{'male' if gender == 'female' else 'female'}_{race}_{age}"
        os.rename(images / name, images / wrong)
        planted.append((wrong, "", "gender"))
    for number, name in enumerate(chosen[num_errors : 2 * num_errors]):
        stems = SWAPS[number % len(SWAPS)]
        paths = {path.stem: path for path in (images / name).iterdir()}
        one, two = (paths[stem] for stem in stems)
        one.rename(images / name / "aside")
        two.rename(two.with_stem(one.stem))
        (images / name / "aside").rename(one.with_stem(two.stem))
        planted += [(name, stem, "mask") for stem in stems]
    return planted


def _print_found(rows: Sequence[dict[str, str]], planted: Sequence[Row], num_people: int, seed: int) -> None:
    head_of = {label: head for head, attribute in ATTRIBUTES.items() for label in attribute.classes}
    ranks = {(row["profile"], row["stem"], head_of[row["label"]]): rank for rank, row in enumerate(rows)}
    num_proposals = sum(bool(row["mask"] or row["gender"] or row["age"]) for row in rows)
    print(f"{num_people} people, seed {seed}, {NUM_FOLDS} folds; {machine()}")
    print("\n| planted | number | in the first 10 % | in the first 5 % | proposed | ranks |")
    print("|---|---|---|---|---|---|")
    for kind in ("gender", "mask"):
        found = np.array(sorted(ranks[row] for row in planted if row[2] == kind))
        shares = [f"{(found < bound).mean():.0%}" for bound in (len(rows) / 10, len(rows) / 20, num_proposals)]
        name = "gender turned around" if kind == "gender" else "photo of a swap"
        print(f"| {name} | {len(found)} | {' | '.join(shares)} | {', '.join(str(rank + 1) for rank in found)} |")
    every = np.array([ranks[row] for row in planted])
    print(f"\nfound in the first 10 % of {len(rows):,} rows: {(every < len(rows) / 10).mean():.0%}", end="")
    print(f"; {num_proposals} rows propose a correction, {(every < num_proposals).sum()} of them planted")


if __name__ == "__main__":
    main()
