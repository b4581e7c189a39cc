"""Runs that are stopped, killed and starved for real, and go on: in the end nobody can tell.

Most starts are forked from a process that has imported everything, which saves their first seconds; launchers are real.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from maskcls.config import load_config
from maskcls.errors import Fault
from maskcls.training.interruption import SIGNALS
from maskcls.training.run_folder import RunFolder
from maskcls.training.state import newest_state
from tests.drivers import kills
from tests.helpers import CPU, ROOT, TINY
from train import main, train

HANG = 180.0  # seconds: no statement about speed, only that it ends
LAUNCH_ENDS = 30.0  # seconds after one of its processes has died
PRELOADED = [
    "train", "maskcls.training.builders", "maskcls.training.saver", "maskcls.training.faults",
    "maskcls.training.tracking", "maskcls.reporting.console", "maskcls.reporting.pictures", "vl_convert",
    "transformers.models.vit.modeling_vit", "datasets", "evaluate", "wandb", "tensorboard.summary",
]  # fmt: skip

pytestmark = pytest.mark.slow


def command_line(arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    """Is train.py, in a process and a group of its own."""
    os.setsid()
    for number in SIGNALS:  # as a terminal starts it, also where the tests run in the background or under nohup
        is_ignored = number.name in environment.get("IGNORED", "").split()
        signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    os.environ.update(environment)
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    sys.argv = ["train.py", *arguments]
    main()


class Start:
    """A process of train.py, in the words of subprocess.Popen."""

    def __init__(self, output: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self._output = output
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=command_line, args=(arguments, output, environment))
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float = HANG) -> tuple[str, None]:
        self._process.join(timeout)
        return self._output.read_text(encoding="utf-8") if self._output.exists() else "", None

    def ends(self, code: int) -> str:
        """Returns the output when the process has ended with a code."""
        text, _ = self.communicate()
        assert self.returncode == code, text
        return text

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        if self.poll() is None:
            self._process.kill()
        self._process.join()


Launch = Callable[..., Start]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Returns what starts train.py with arguments, and an environment by keywords."""
    folder, starts = tmp_path_factory.mktemp("output"), list[Start]()

    def start(*arguments: object, **environment: str) -> Start:
        starts.append(Start(folder / f"{len(starts)}.txt", [str(argument) for argument in arguments], environment))
        return starts[-1]

    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**CPU, "PYTHONPATH": str(ROOT)}.items():
            patched.setenv(name, value)
        yield start
        for one in starts:
            one.end()


@pytest.fixture(scope="module")
def photos(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns sample data of our own, whose photos may vanish for a while."""
    return Path(shutil.copytree(sample, tmp_path_factory.mktemp("photos") / "sample"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def settings(photos: Path, folder: Path, **more: object) -> list[str]:
    """Returns the arguments of a run of 56 updates in 8 epochs, with a state every second update."""
    return kills.arguments(photos, folder, **{"train_batch_size": 9, "epochs": 8, **more})


def position(run: Path) -> tuple[int, int]:
    """Returns (epoch, its updates that are done) of a run's newest state; (0, 0): there is none."""
    state, _ = newest_state(RunFolder(run))
    return state.position if state else (0, 0)


def goes_on(run: Path, *processes: Start | subprocess.Popen[str]) -> None:
    """Waits until a start of the run has saved a state."""

    def number() -> int:  # of the folder on the disk: every state is a new one
        try:
            return (run / "last").stat().st_ino
        except FileNotFoundError:
            return 0

    before, until = number(), time.monotonic() + HANG
    while number() in (before, 0):
        assert all(process.poll() is None for process in processes), processes[0].communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.003)


def differences(run: Path, reference: Path, tolerance: float = 0.0) -> list[str]:
    """Returns in what the weights and logs of two runs differ."""
    return [line for line in kills.differences(run, reference, tolerance=tolerance) if "holds the updates" not in line]


@pytest.fixture(scope="module")
def reference(launch: Launch, photos: Path, folder: Path) -> Path:
    """Returns a run that nothing happened to, one of two that were launched at the same moment."""
    two = [launch(*settings(photos, folder / "whole")) for _ in range(2)]
    for start in two:
        assert "best valid/f1" in start.ends(0)
    runs = folder / "whole" / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["exp", "exp1"]
    assert differences(runs / "exp1", runs / "exp") == []
    assert {path.name for path in (runs / "exp").iterdir()} >= {"best", "last", "previous", "finished.json"}
    assert (runs / "exp1" / "finished.json").exists()
    return runs / "exp"


def test_a_run_that_everything_happens_to_ends_as_if_nothing_had(
    launch: Launch, photos: Path, folder: Path, reference: Path
) -> None:
    arguments = settings(photos, folder, cache="none")  # the same pixels, read from the photos in every update
    run = folder / "runs" / "exp"
    how_to_resume = f"To resume: python train.py --resume {run}"
    order = sorted((photos / "images").rglob("normal.*"))
    photo = next(path for path in order if path.parent.name in (photos / "train_profiles.txt").read_text())

    # What nohup and a shell's `&` have it ignore does not stop it, the scheduler does; while it runs nobody else may.
    start = launch(*arguments, IGNORED="SIGINT SIGHUP")
    goes_on(run, start)
    start.send(signal.SIGINT)
    start.send(signal.SIGHUP)
    goes_on(run, start)
    text = launch("--resume", run).ends(2)
    assert text.strip().splitlines()[-1] == f"error: {run} is being trained by another process"
    start.send(signal.SIGTERM)
    text = start.ends(75)
    assert f"everything saved. {how_to_resume}" in text and "stopped by SIGTERM after update" in text
    stopped = int(text.rpartition("after update ")[2].split(",")[0])
    state, _ = newest_state(RunFolder(run))
    assert state is not None and state.numbers["num_updates"] == stopped  # not the last one that was due

    # A photo vanishes.
    start = launch("--resume", run)
    goes_on(run, start)
    photo.rename(photos / "vanished")
    text = start.ends(3)
    assert f"resumed from {run}/last" in text
    assert f"error: {photo}: " in text and "No such file" in text and how_to_resume in text
    (photos / "vanished").rename(photo)

    # An update does not end, here because the network drive with a photo hangs: Ctrl-C, and again.
    start = launch("--resume", run)
    goes_on(run, start)
    photo.rename(photos / "vanished")
    os.mkfifo(photo)
    log = run / "metrics.jsonl"
    waits_until, length = time.monotonic() + HANG, -1
    while log.stat().st_size != length and time.monotonic() < waits_until:
        length = log.stat().st_size
        time.sleep(1.5)
    start.send(signal.SIGINT)
    time.sleep(1.2)
    start.send(signal.SIGINT)
    assert start.ends(130).endswith("interrupted twice: left at once, without saving\n")
    photo.unlink()
    (photos / "vanished").rename(photo)

    # The disk is full.
    start = launch("--resume", run)
    goes_on(run, start)
    resource.prlimit(start.pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    text = start.ends(3)
    assert (
        "cannot be written" in text and "File too large" in text and "The state before it is whole. To resume" in text
    )
    before = position(run)
    assert before > state.position

    # Ctrl-C once; then the newest state is damaged, and the one before it is used.
    start = launch(*arguments, "--resume", "auto")
    goes_on(run, start)
    start.send(signal.SIGINT)
    text = start.ends(75)
    assert f"resumed from {run}" in text and "stopped by SIGINT after update" in text
    weights = bytearray((run / "last" / "training.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "last" / "training.safetensors").write_bytes(weights)
    start = launch("--resume", run)
    text = start.ends(0)
    assert f"{run}/last is damaged: training.safetensors has changed since it was written" in text
    assert f"resumed from {run}/previous" in text

    assert differences(run, reference) == []
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["exp"]

    # There is nothing left to do, unless it shall be longer.
    text = launch("--resume", run).ends(0)
    assert text.count("best valid/f1") == 1 and "epoch 8/8" not in text
    assert "epochs=8 are trained: only scores and report are made again. For more: epochs=9" in text
    assert differences(run, reference) == []


def test_a_run_is_not_continued_with_other_photos(
    launch: Launch, photos: Path, folder: Path, reference: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "exp"))
    (run / "finished.json").unlink()
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("\n".join((photos / "train_profiles.txt").read_text().split()[1:]))
    before = (run / "metrics.jsonl").read_bytes()
    text = launch("--resume", run, f"train_profile={fewer}").ends(2)
    assert f"error: {run}/last was learnt from other photos or labels than data_dir and the lists now give" in text
    assert (run / "metrics.jsonl").read_bytes() == before and position(run) == (9, 0)


def test_a_loss_that_is_not_finite_ends_a_run_and_its_last_state_is_good(photos: Path, tmp_path: Path) -> None:
    more = {"optimizer": "SGD", "lr": 1e30, "checkpoint_interval": "1 updates", "ema_decay": "null", "log_interval": 50}
    _, path, *arguments = settings(photos, tmp_path, **more, scheduler="constant")
    with pytest.raises(Fault) as caught:
        train(load_config(path, arguments))
    run = RunFolder(tmp_path / "runs" / "exp")
    (listed,) = run.path.glob("not_finite_update_*.txt")
    update = int(listed.stem.rpartition("_")[2])
    words = f"the loss or gradient of update {update} (epoch 1, update {update} of 7) is not finite. Its photos: "
    assert str(caught.value).startswith(words) and str(listed) in str(caught.value) and caught.value.exit_code == 3
    named = listed.read_text().splitlines()
    assert len(named) == 9 and all(Path(photo).is_file() for photo in named)
    state, problems = newest_state(run)
    assert state is not None and not problems and state.position == (1, update - 1)
    weights = load_file(run.last / "model.safetensors")
    assert len(weights) > 10 and all(weight.isfinite().all() for weight in weights.values())


def test_a_run_that_is_killed_at_random_moments_ends_as_the_whole_one(
    launch: Launch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What benchmarks/kills.py does thirty times; that the trackers' files hold every step once is in there too."""
    monkeypatch.setattr(kills, "start", lambda arguments, processes: launch(*arguments))  # its first seconds
    more = {"epochs": 6, "log_interval": 2, "train_batch_size": 7, "wandb": "offline", "tensorboard": "true"}
    whole = launch(*kills.arguments(photos, tmp_path / "whole", **more))
    run, reference = (tmp_path / name / "runs" / "exp" for name in ("killed", "whole"))
    arguments = kills.arguments(photos, tmp_path / "killed", **more)
    met = kills.killed_run(arguments, run, kills=2, processes=[1], seed=1)
    whole.ends(0)
    assert len(met) == 2 and set(met) <= {"training", "saving"}
    assert kills.differences(run, reference, tolerance=0.0) == []


# Two processes


def two_ranks(launch: Launch, *arguments: object) -> list[Start]:
    """Returns the two processes of a launch, without the launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        launch(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
               MASTER_ADDR="127.0.0.1", MASTER_PORT=port) for rank in range(2)
    ]  # fmt: skip


def test_two_processes_stop_together_and_resume_as_two_and_as_one(launch: Launch, photos: Path, tmp_path: Path) -> None:
    def arguments(folder: str) -> list[str]:
        # No dropout, whose draws are each process's own. AdamW divides by the size of the gradient, so that of a tiny
        # one the last bit, which depends on the number of processes, becomes the first one: not with this eps.
        return settings(
            photos, tmp_path / folder, epochs=6, model_args=TINY["vit"], optimizer_args="{eps: 0.001}"
        )  # fmt: skip

    whole, run = tmp_path / "whole" / "runs" / "exp", tmp_path / "stopped" / "runs" / "exp"
    first, second = two_ranks(launch, *arguments("whole"))
    assert "devices  2 x cpu" in first.ends(0) and second.ends(0) == ""

    # torchrun is stopped
    launched = kills.start(arguments("stopped"), 2)
    goes_on(run, launched)
    launched.terminate()
    text, _ = launched.communicate(timeout=HANG)
    assert "devices  2 x cpu" in text and launched.returncode != 0
    assert text.count("stopped by SIGTERM after update") == 1 and f"To resume: python train.py --resume {run}" in text
    state, problems = newest_state(RunFolder(run))
    assert state is not None and not problems
    assert f"after update {state.numbers['num_updates']}," in text

    # one of the two is told to stop: both do, at the same update
    ranks = two_ranks(launch, "--resume", run)
    goes_on(run, *ranks)
    ranks[1].send(signal.SIGUSR1)
    texts = [rank.ends(75) for rank in ranks]
    assert "stopped by SIGUSR1 after update" in texts[0] and "stopped by" not in texts[1]
    one = Path(shutil.copytree(run, tmp_path / "one"))

    # one of the two is killed: the launch ends, and says so
    launched = kills.start(["--resume", str(run)], 2)
    goes_on(run, launched)
    victim = rank_of(launched.pid, 1)
    died = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    text, _ = launched.communicate(timeout=HANG)
    assert time.monotonic() - died < LAUNCH_ENDS and launched.returncode != 0
    assert "rank 0: another process of this launch has ended; its own message says why" in text
    assert newest_state(RunFolder(run))[0] is not None

    first, second = two_ranks(launch, "--resume", run)
    alone = launch("--resume", one)
    assert "devices  2 x cpu" in first.ends(0) and second.ends(0) == ""
    assert "devices  1 x cpu" in alone.ends(0)
    assert differences(run, whole, 1e-6) == []
    assert differences(one, whole, 1e-5) == []


def rank_of(launcher: int, rank: int) -> int:
    """Returns the process of a launcher's rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0") if parent == launcher else []
        except OSError:  # ended meanwhile
            continue
        if f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError(f"{launcher} has no rank {rank}")
