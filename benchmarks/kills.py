"""Kills a run again and again and resumes it: python benchmarks/kills.py [KILLS] [PROCESSES] [SEED].

It has to end as one that was never stopped: the same weights, and every step once in metrics.jsonl, TensorBoard and the
offline wandb file. PROCESSES: 1, 2, or 2,1 for starts with two processes and one in turn, where numbers agree to 1e-5
(without dropout, whose draws belong to a process, and with an epsilon of AdamW that does not blow up rounding).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.measure import count, parser  # noqa: E402


def main() -> None:
    """Runs, kills, compares."""
    reader = parser(__doc__, kills=30)
    reader.add_argument("processes", type=lambda text: [count(number) for number in text.split(",")], nargs="?",
                        default=[1], help="default: 1")  # fmt: skip
    reader.add_argument("seed", type=int, nargs="?", default=0, help="default: %(default)s")
    given = reader.parse_args()
    from maskcls.sample.write import write_sample_data
    from tests.drivers.kills import arguments, differences, finish, killed_run, start

    is_mixed = len(set(given.processes)) > 1
    more: dict[str, Any] = {"epochs": max(4, 4 * given.kills), "train_batch_size": 7, "wandb": "offline"}
    more |= {"tensorboard": "true"}
    if is_mixed:
        more |= {"dropout": 0.0, "optimizer_args": "{eps: 1.0e-3}"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample_data(folder / "sample", num_people=12, seed=0)
        whole, killed = (arguments(folder / "sample", folder / name, **more) for name in ("whole", "killed"))
        finish(start(whole, given.processes[0]))
        started = time.monotonic()
        run = folder / "killed" / "runs" / "exp"
        met = killed_run(killed, run, kills=given.kills, processes=given.processes, seed=given.seed)
        found = differences(run, folder / "whole" / "runs" / "exp", tolerance=1e-5 if is_mixed else 0.0)
        counts = {what: met.count(what) for what in sorted(set(met))}
        print(f"{json.dumps(counts)} in {time.monotonic() - started:.0f} s; differences: {found or 'none'}")
        raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
