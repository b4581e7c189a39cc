"""Processes of one launch, on one machine and on two: they find each other, wait for each other, and end together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from maskcls.config import load_config
from maskcls.training.processes import Launch
from tests.helpers import ROOT, json_lines, overrides, run
from train import train

CONFIG = ROOT / "configs" / "exp.yaml"
HANG = 60.0  # seconds after which a launch waits for ever: no statement about speed


def as_machines(folder: Path, *commands: list[str], prefixes: tuple[str, ...] = ("", "")) -> list[tuple[int, str]]:
    """Returns (exit code, output) of a launch of one process on each of two machines: two launchers that meet at
    127.0.0.1, each with a home folder of its own. prefixes: a shell line that runs on a machine before its launcher, and
    may hide a folder from it.
    """
    started = []
    port = str(29_600 + os.getpid() % 1_000)
    for rank, (command, prefix) in enumerate(zip(commands, prefixes, strict=True)):
        launcher = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--node_rank",
            str(rank), "--master_addr", "127.0.0.1", "--master_port", port, *command,
        ]  # fmt: skip
        home = folder / f"home{rank}"
        home.mkdir(exist_ok=True)
        shell = ["unshare", "--mount", "sh", "-ec", f'{prefix}; exec "$@"', "sh"] if prefix else []
        started.append(
            subprocess.Popen(
                [*shell, *launcher], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env={**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
        )  # fmt: skip
    try:
        texts = [process.communicate(timeout=HANG)[0] for process in started]
    finally:
        for process in started:
            process.terminate()  # a launcher that is killed leaves its processes behind
    return [(process.returncode, text) for process, text in zip(started, texts, strict=True)]


def can_mount() -> bool:
    """Returns whether a process may hide a folder from itself, as root may: another machine that does not see it."""
    command = ["unshare", "--mount", "sh", "-ec", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def train_command(sample: Path, tmp_path: Path, *more: str) -> list[str]:
    """Returns a run with the cache in the home folder, where it is unless somebody says otherwise."""
    arguments = [word for word in overrides(sample, tmp_path, model="vit") if not word.startswith("cache_dir=")]
    return ["train.py", "--config", str(CONFIG), *arguments, *more]


def train_here(sample: Path, tmp_path: Path, *more: str) -> None:
    """Trains the same run in this process, which has imported everything."""
    train(load_config(CONFIG, [*overrides(sample, tmp_path, model="vit"), *more]))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_launch_for_gpus_where_there_are_none_is_refused(processes: int, tmp_path: Path) -> None:
    """accelerate launch sets ACCELERATE_DYNAMO_MODE for every process that it starts."""
    done = run("train.py", "--resume", tmp_path, processes=processes, ACCELERATE_USE_CPU="false",
               ACCELERATE_DYNAMO_MODE="default")  # fmt: skip
    refusal = (
        "error: rank 0: 2 processes were started on this machine, each for a GPU, but torch sees no GPU: on a CPU use "
        "accelerate_configs/cpu.yaml, or ACCELERATE_USE_CPU=true with torchrun --nproc_per_node"
    )
    assert (refusal in done.stderr) == (processes == 2)
    assert done.stderr.count("error: ") == 1  # one process has nobody to miss: here its run folder is none


@pytest.mark.slow
def test_processes_that_accelerate_does_not_see_are_refused() -> None:
    """As where a cluster's own launcher sets WORLD_SIZE but not LOCAL_RANK, on a machine with GPUs."""
    done = run(__file__, "unseen", WORLD_SIZE="3", ACCELERATE_USE_CPU=None, PYTHONPATH=".")
    assert "error: rank 0: 3 processes were started, but Accelerate sees 1: every process would train" in done.stderr
    assert done.returncode == 2


@pytest.mark.slow
def test_a_launch_waits_as_long_as_it_takes_and_tells_what_only_one_process_sees(tmp_path: Path) -> None:
    """This file is the launched script: see main."""
    done = run(__file__, "waits", processes=2, PYTHONPATH=".")
    assert done.stdout.split("\n")[:-1] == [
        "2 processes", "['read once', 'read once'] by [1, 0]", "[0, 1]", "the main process chose",
    ], done.stderr  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == ["error: rank 1: no such photo"]


@pytest.mark.slow
def test_what_one_process_alone_runs_into_is_reported_by_it_and_ends_the_launch(tmp_path: Path) -> None:
    done = run(__file__, "alone", processes=2, timeout=HANG, PYTHONPATH=".")
    said = sorted(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "error: rank 1: only I see this" in said
    assert set(said) <= {
        "error: rank 1: only I see this",
        "error: rank 0: another process of this launch has ended; its own message says why",
    }
    assert done.returncode == 1


@pytest.mark.slow
def test_two_machines_with_caches_of_their_own_train_as_one_process_does(sample: Path, tmp_path: Path) -> None:
    command = train_command(sample, tmp_path, "epochs=2", "augmentation=standard", "name=two")
    missing = [word if word != str(CONFIG) else "only/the/first/machine/has/it.yaml" for word in command]
    ended = as_machines(tmp_path, command, missing)
    assert [code for code, _ in ended] == [0, 0], ended
    assert all(text.count("decoding once to") == 1 for _, text in ended), ended
    assert all(list((tmp_path / f"home{rank}/.cache/maskcls/pixels").glob("*/complete")) for rank in range(2))
    train_here(sample, tmp_path, "epochs=2", "augmentation=standard", "name=one")
    one, two = (json_lines(tmp_path / "runs" / name / "metrics.jsonl") for name in ("one", "two"))
    losses = [[line[key] for line in lines for key in line if key.endswith("/loss")] for lines in (one, two)]
    assert len(losses[0]) >= 8
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    # The first machine has the decoded photos now, the second has not.
    shutil.rmtree(tmp_path / "home1")
    ended = as_machines(tmp_path, [*command, "--check"], [*command, "--check"])
    assert [code for code, _ in ended] == [0, 0] and "\ngo" in ended[0][1], ended


@pytest.mark.slow
def test_two_machines_end_together_when_the_first_has_a_mistake_in_its_config(sample: Path, tmp_path: Path) -> None:
    command = train_command(sample, tmp_path, "lr=fast")
    ended = as_machines(tmp_path, command, command)
    assert [code for code, _ in ended] == [1, 1]
    assert "lr is 'fast'" in ended[0][1] and "error: " not in ended[1][1]


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs the right to mount")
def test_a_machine_that_does_not_see_what_it_needs_says_so_and_all_leave(sample: Path, tmp_path: Path) -> None:
    train_here(sample, tmp_path, "epochs=2", "checkpoint_interval=1 update")
    resume = ["train.py", "--resume", str(tmp_path / "runs" / "exp"), "epochs=3"]
    for hidden, words in (
        (tmp_path / "runs", "rank 1: .*/last/training.safetensors is not seen here: model_dir must lie on a disk that"),
        (sample / "images", "rank 1: .*images"),
    ):
        ended = as_machines(tmp_path, resume, resume, prefixes=("", f"mount -t tmpfs none {hidden}"))
        assert [code for code, _ in ended] == [1, 1]
        said = [line for line in ended[0][1].splitlines() if line.startswith("error: ")]
        assert len(said) == 1 and words.split(".*")[0] in said[0] and words.split(".*")[1] in said[0], ended


@pytest.mark.parametrize(("said", "recorded", "machine_has", "used"), [
    (None, "no", "bf16", "no"), (None, "bf16", "bf16", "bf16"), (None, "bf16", "no", "no"), ("no", "bf16", "bf16", "no"),
    ("bf16", "no", "bf16", "bf16"),
])  # fmt: skip
def test_what_accelerate_launch_says_of_precision_stands_above_what_a_run_recorded(
    said: str | None, recorded: str, machine_has: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if said:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", said)
    monkeypatch.setattr("maskcls.machine.is_quick_in", lambda precision: precision in ("no", machine_has))
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert Launch(precision=recorded).accelerator.mixed_precision == used
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def main() -> None:
    """What the launched processes do."""
    from torch import distributed

    from maskcls.errors import UserError
    from maskcls.program import errors_end_the_program

    with errors_end_the_program():
        if sys.argv[1] == "unseen":
            import torch

            torch.accelerator.is_available, torch.accelerator.device_count = lambda: True, lambda: 8  # type: ignore[assignment]
            Launch()
        # A time-out of two seconds stands for the ten minutes after which NCCL takes a process for lost.
        distributed.init_process_group("gloo", timeout=timedelta(seconds=2))
        launch = Launch()
        if sys.argv[1] == "alone":
            if not launch.is_main:
                raise UserError("only I see this")
            launch.largest(0)
        launch.say(f"{launch.num_processes} processes")
        launch.on_main(lambda: time.sleep(4))
        works: list[str] = []
        read = launch.on_each_machine(lambda: time.sleep(3) or works.append("done") or "read once")
        launch.say(f"{launch.all_of(read)} by {launch.all_of(len(works))}")
        launch.say(str(launch.all_of(launch.accelerator.process_index)))
        launch.say(launch.on_main(lambda: "the main process chose"))

        def look() -> None:
            if not launch.is_main:
                raise UserError("no such photo")

        launch.on_each(look)


if __name__ == "__main__":
    main()
