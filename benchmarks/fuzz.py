"""Feeds broken input to everything that reads what users write: python benchmarks/fuzz.py [CASES] [SEED].

A case ends well in a value or in a clear error; anything else, or one that takes more than five seconds, is a finding:
it is printed with the shortest input that was seen, and the exit code is 1. The same CASES and SEED give the same
inputs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.measure import parser  # noqa: E402


def main() -> None:
    """Fuzzes each target with an equal share of the cases."""
    given = parser(__doc__, cases=100_000, seed=0).parse_args()
    from tests.drivers.fuzz import TARGETS, fuzz

    print("| target | cases | values | clear errors | findings | slowest case, s | seconds |\n" + "|---" * 7 + "|")
    findings = []
    for target in TARGETS:
        started = time.perf_counter()
        outcome = fuzz(target, -(-given.cases // len(TARGETS)), seed=given.seed)
        print(
            f"| {target.name} | {outcome.num_cases:,} | {outcome.num_values:,} | {outcome.num_errors:,} "
            f"| {len(outcome.findings)} | {outcome.slowest:.2f} | {time.perf_counter() - started:.0f} |",
            flush=True,
        )
        findings += [f"{target.name}: {what}\n  {value[:4000]}" for what, value in outcome.findings.items()]
    print("\n".join(["", *findings]))
    raise SystemExit(1 if findings else 0)


if __name__ == "__main__":
    main()
