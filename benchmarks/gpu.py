"""Everything that only a GPU can show, in minutes: python benchmarks/gpu.py --out DIR [--seconds N] [--parts a,b].

The same updates on CPU and GPU in fp32, in bf16 and fp16, as every file of accelerate_configs/ says, with every kind of
model, compiled, in shards, killed and resumed; inference; then images/s, share of the measured matmul peak, waiting and
memory at batch 256. Every part has its own process and time limit; one that fails or hangs stops no other. It needs no
network, nothing but this repository and its packages, and says which of those are missing. DIR gets gpu.md (the tables
of docs/performance.md), gpu.json and gpu.log, written anew after every part. Without a GPU, what needs none runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks import gpu_work  # noqa: E402
from benchmarks.measure import count, parser  # noqa: E402
from benchmarks.parts import RESULT, Outcome, Part, run_parts  # noqa: E402
from maskcls.errors import did_you_mean  # noqa: E402
from maskcls.machine import num_cores  # noqa: E402
from maskcls.training.environment import git_commit  # noqa: E402

SECONDS = 480.0
TRAINING_NEEDS = {"pydantic", "pyyaml", "datasets", "evaluate", "vl-convert-python", "pillow", "pyarrow", "filelock"}
MODEL_NEEDS = {"pydantic", "pyyaml", "filelock"}
TIMED = [f"{model}{how}" for model in gpu_work.SIZES["full"].timed for how in ("", "+compiled")]


def all_parts(command: Sequence[str], facts: Mapping[str, Any], *, is_timed: bool = True) -> list[Part]:
    """Returns the parts in their order, for the machine of these facts. is_timed: speed is measured, so alone."""
    num_gpus, missing = facts["num_gpus"], set(facts["missing"])

    def part(name: str, limit: float, *, needs: str | None = "sample", num: int = 0, is_alone: bool = False) -> Part:
        wanted = MODEL_NEEDS if name.startswith("throughput/") else TRAINING_NEEDS
        why = f"missing: {', '.join(sorted(wanted & missing))}" if wanted & missing else ""
        why = f"GPUs here: {num_gpus}, needed: {num}" if num > num_gpus else why
        return Part(name, [*command, "--do", name], limit, needs, is_alone, why)

    return [
        part("sample", 90, needs=None, is_alone=True),
        part("whole", 120, is_alone=True),
        part("precision/fp32", 120, needs="whole", num=1),
        part("precision/bf16", 90, needs="whole"),
        part("precision/fp16", 90, needs="whole", num=1),
        *(part(f"configs/{path.stem}", 120, num=_gpus_for(path)) for path in accelerate_configs()),
        *(part(f"models/{model}", 90) for model in gpu_work.SIZES["full"].architectures),
        *(part(f"fsdp2/{model}", 120, num=1) for model in ("vit", "convnext", "resnet")),
        part("resume", 120, needs="whole"),
        part("infer", 90, needs="whole"),
        *(part(f"compile/{how}", 180, needs="whole", num=1) for how in ("whole_vit", "regional_vit", "whole_convnext")),
        *(part(f"throughput/{name}", 120, needs=None, num=int("+" in name), is_alone=is_timed) for name in TIMED),
        part("inference_rate", 90, needs="whole", is_alone=is_timed),
    ]


def accelerate_configs() -> list[Path]:
    """Returns the files of accelerate_configs/."""
    return sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def _gpus_for(path: Path) -> int:
    """Returns how many GPUs a file needs: accelerate starts MULTI_GPU with two at least."""
    text = path.read_text(encoding="utf-8")
    return 0 if "use_cpu: true" in text else 2 if "MULTI_GPU" in text else 1


def chosen(parts: Sequence[Part], names: Sequence[str]) -> list[Part]:
    """Returns the parts with these names or before whose slash they stand, and those that they need; none: all.

    Raises ValueError for a name that no part has.
    """
    known = {part.name for part in parts} | {part.name.partition("/")[0] for part in parts} | {"machine"}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no part {unknown[0]!r}.{did_you_mean(unknown[0], sorted(known))}")
    wanted = {part.name for part in parts if not names or {part.name, part.name.partition("/")[0]} & set(names)}
    for part in reversed(parts):  # what is needed stands before
        wanted |= {part.needs} if part.name in wanted and part.needs else set()
    return [part for part in parts if part.name in wanted]


def environment_in(folder: Path) -> dict[str, str]:
    """Returns the variables that keep everything in the folder and off the network."""
    places = {"HF_HOME": "hf", "XDG_CACHE_HOME": "cache",
              "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "TMPDIR": "tmp"}  # fmt: skip
    for place in places.values():
        (folder / place).mkdir()
    return {
        **{name: str(folder / place) for name, place in places.items()}, "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "MASKCLS_LANG": "en", "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT),
                                                                                      os.environ.get("PYTHONPATH")])),
    }  # fmt: skip


class Results:
    """The files of the folder that the user has named, written anew after every part."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder, self.size, self.started = folder, size, time.monotonic()
        self.facts: dict[str, Any] = {"num_gpus": 0, "missing": []}
        self.outcomes: list[Outcome] = []
        (folder / "gpu.log").write_text("", encoding="utf-8")

    @property
    def has_failed(self) -> bool:
        """Whether a part failed or took too long."""
        return any(outcome.status in ("failed", "timed out") for outcome in self.outcomes)

    def add(self, outcome: Outcome) -> None:
        """Notes how a part has ended, on the console too."""
        self.outcomes.append(outcome)
        if outcome.name == "machine":
            self.facts |= {key: value for key, value in outcome.values.items() if key != "result"}
        with (self.folder / "gpu.log").open("a", encoding="utf-8") as log:
            log.write(f"===== {outcome.name}: {outcome.status}\n{outcome.output}\n")
        print(f"{outcome.name:<32} {outcome.status:<9} {outcome.seconds:6.1f} s  {_said(outcome)}", flush=True)
        (self.folder / "gpu.md").write_text(self.markdown(), encoding="utf-8")
        parts = [{key: value for key, value in asdict(one).items() if key != "output"} for one in self.outcomes]
        facts = {"commit": git_commit(), "size": self.size, "seconds": self._seconds(), **self.facts, "parts": parts}
        (self.folder / "gpu.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def markdown(self) -> str:
        """Returns the tables that docs/performance.md shows."""
        facts, size = self.facts, gpu_work.SIZES[self.size]
        versions = ", ".join(f"{name} {facts.get(name)}" for name in ("torch", "accelerate", "transformers"))
        lines = [
            f"{facts.get('device')}, driver {facts.get('driver')}, {facts.get('cores')} cores; {versions}; "
            f"commit {git_commit()}; size {self.size}, {self._seconds():.0f} s.", "",
        ]  # fmt: skip
        timed = [one for one in self.outcomes if one.name.startswith("throughput/") and one.status == "ok"]
        if timed:
            height, width = size.timed_image_size
            peak = max(one.values["tflops_peak"] for one in timed)
            lines += [
                f"Batch {size.timed_batch_size}, {height} x {width} pixels on the device, bf16, light augmentation "
                f"included; MFU: of the measured bf16 matmul, {peak:,.3g} TFLOP/s.", "",
                "| model | images/s | range | MFU | waiting | peak memory | first epoch |", "|---" * 7 + "|",
            ]  # fmt: skip
            lines += [_timed_row(one.name.removeprefix("throughput/"), one.values) for one in timed]
            lines.append("")
        lines += ["| part | status | result | seconds |", "|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.status} | {_said(one).replace('|', '/')} | {one.seconds:.0f} |"
            for one in self.outcomes
        ]
        return "\n".join([*lines, ""])


def _timed_row(name: str, found: Mapping[str, Any]) -> str:
    least, most = found["range"]
    cells = [
        name, f"{found['images_per_second']:,.0f}", f"{least:,.0f} to {most:,.0f}", f"{found['mfu']:.1%}",
        f"{found['waiting_share']:.1%}", f"{found['peak_memory_gb']:.1f} GB", f"{found['first_epoch_seconds']:.0f} s",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _said(outcome: Outcome) -> str:
    return "; ".join(outcome.reason[-2:]) if outcome.reason else str(outcome.values.get("result", ""))


def do(name: str, work: gpu_work.Work) -> None:
    """Is a part: does its work and leaves its values."""
    group, _, case = name.partition("/")
    values = gpu_work.PARTS[group](*filter(None, [work, case]))
    Path(os.environ[RESULT]).write_text(json.dumps(values), encoding="utf-8")


def main() -> None:
    """Runs the parts and writes what they found; exit code 1 when one failed."""
    reader = parser(__doc__)
    reader.add_argument("--out", type=Path, help="folder for gpu.md, gpu.json and gpu.log")
    reader.add_argument("--seconds", type=_seconds, default=SECONDS, help="for everything; default: %(default).0f")
    reader.add_argument("--parts", type=lambda text: text.split(","), default=[], metavar="A,B",
                        help="names, or words before the slash; what they need runs too; default: all")  # fmt: skip
    reader.add_argument("--size", choices=list(gpu_work.SIZES), default="full", help="tiny: to try it on a CPU")
    reader.add_argument("--at-once", type=count, default=max(1, num_cores() // 4), metavar="N",
                        help="parts beside each other, timed ones alone; default: a quarter of the cores")  # fmt: skip
    reader.add_argument("--do", help=argparse.SUPPRESS)  # this process is that part
    reader.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = reader.parse_args()
    if arguments.do:
        do(arguments.do, gpu_work.Work(arguments.work, gpu_work.SIZES[arguments.size]))
        return
    if arguments.out is None:
        reader.error("--out is missing: the folder for gpu.md, gpu.json and gpu.log")
    try:
        chosen(all_parts([], {"num_gpus": 0, "missing": []}), arguments.parts)
        arguments.out.mkdir(parents=True, exist_ok=True)
        results = Results(arguments.out, arguments.size)
    except ValueError as error:
        reader.error(f"--parts: {error}")
    except OSError as error:
        reader.error(f"--out {arguments.out} is not writable: {error.strerror}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # parts end with this process
    until = results.started + arguments.seconds
    with tempfile.TemporaryDirectory(prefix="maskcls-gpu-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        logs = folder / "logs"
        logs.mkdir()
        command = [sys.executable, __file__, "--size", arguments.size, "--work", name]
        options: dict[str, Any] = {"until": until, "environment": environment_in(folder), "ended": results.add}
        run_parts([Part("machine", [*command, "--do", "machine"], 120)], logs, **options)
        parts = chosen(all_parts(command, results.facts, is_timed=arguments.size == "full"), arguments.parts)
        if results.has_failed:
            why = f"it builds on machine, whose end was: {results.outcomes[0].status}"
            parts = [replace(part, not_here=why) for part in parts]
        run_parts(parts, logs, num_at_once=arguments.at_once, **options)
    print(f"\n{results.markdown()}\n{arguments.out}/gpu.md, gpu.json, gpu.log")
    raise SystemExit(1 if results.has_failed else 0)


def _seconds(text: str) -> float:
    if not 0 < (number := float(text)) < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and a million")
    return number


if __name__ == "__main__":
    main()
