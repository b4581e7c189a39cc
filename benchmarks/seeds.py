"""Whether `maskcls compare` tells chance from quality: python benchmarks/seeds.py [PEOPLE] [SEEDS].

Draws people, trains configs/demo.yaml once with each seed and once for a single epoch, and compares all of them with
the first seed: the other seeds should be not distinguishable, the single epoch worse, and the first seed better than
it. Then every pair of seeds is compared alone: the share called different. It need not be 5 %: seeds really give models
of somewhat different quality, and the more people validate, the better that shows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import combinations
from pathlib import Path

from measure import ROOT, machine, parser, run

from maskcls.reporting.comparison import compare, read_runs
from maskcls.sample.write import write_sample_data


def main() -> None:
    """Draws, trains, compares."""
    arguments = parser(__doc__, people=150, seeds=2).parse_args()
    num_people, num_seeds = arguments.people, arguments.seeds
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_sample_data(work, num_people=num_people, seed=0)
        seeds = [_train(work, f"seed{seed}", f"seed={seed}") for seed in range(num_seeds)]
        worse = _train(work, "one_epoch", "seed=0", "epochs=1")
        maskcls = [sys.executable, "-c", "from maskcls.cli import main; main()"]
        print(f"{machine()}; {num_people} people drawn, {num_seeds} seeds\n")
        print(run([*maskcls, "runs", f"{work}/runs"]))
        print(run([*maskcls, "compare", *seeds, worse]))
        print(f"the first seed, compared with the single epoch: {compare(read_runs([worse, seeds[0]])).verdicts[0]}")
        pairs = [compare(read_runs(pair)) for pair in combinations(seeds, 2)]
        num_different = sum(pair.verdicts != ["not distinguishable"] for pair in pairs)
        widest = max(abs(pair.differences[0].interval.value) for pair in pairs)
        print(
            f"pairs of seeds called different: {num_different} of {len(pairs)}; largest difference in f1 {widest:.3f}"
        )


def _train(work: Path, name: str, *overrides: str) -> str:
    """Returns the run folder of the demo recipe with the overrides."""
    run([
        sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs/demo.yaml"), f"data_dir={work}/images",
        f"train_profile={work}/train_profiles.txt", f"valid_profile={work}/valid_profiles.txt",
        f"model_dir={work}/runs", f"cache_dir={work}/cache", f"name={name}", "wandb=disabled", "tensorboard=false",
        *overrides,
    ])  # fmt: skip
    return os.fspath(work / "runs" / name)


if __name__ == "__main__":
    main()
