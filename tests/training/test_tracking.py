"""metrics.jsonl, TensorBoard and wandb hold what was logged; no server can stop or delay a run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from google.protobuf.json_format import MessageToDict
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator

from maskcls.config import Config
from maskcls.errors import Fault, Stopped
from maskcls.training import wandb_tracker
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking
from maskcls.training.wandb_tracker import Wandb, wandb_mode
from maskcls.words import Words
from tests.helpers import of_kind, values_of, wandb_records
from tests.wandb_server import own_wandb

HANG = 60.0  # seconds: no statement about speed, only that it ends
PICTURE = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody's login, settings or runs: everything of wandb lies in tmp_path."""
    import wandb

    monkeypatch.chdir(tmp_path)
    own_wandb(monkeypatch, tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.teardown()


@pytest.fixture(autouse=True)
def accelerator() -> Accelerator:
    """Accelerate's trackers log through it."""
    return Accelerator(cpu=True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(str(tmp_path / "runs"), "exp")


def config(**settings: Any) -> Config:
    return Config(data_dir="data", dataset_args={"output": "mask"}, **settings)


def log_two_epochs(tracking: Tracking) -> list[dict[str, float]]:
    """Returns the lines that metrics.jsonl is to hold."""
    lines: list[dict[str, float]] = []
    for epoch in (1, 2):
        for update, values in [
            (3 * epoch, {"train/loss": 1 / epoch, "train/lr": 0.001}),
            (3 * epoch, {"valid/loss": 0.5 / epoch, "valid/f1": 0.25 * epoch}),
        ]:
            tracking.log(values, epoch=epoch, update=update)
            lines.append({"epoch": epoch, "update": update, **values})
    return lines


def run_files(run: RunFolder) -> list[Path]:
    """Returns the offline run files, whole: wandb's service writes their end a moment after finish returned."""
    import wandb

    wandb.teardown()
    return sorted(run.path.glob("wandb/offline-run-*/*.wandb"))


def started(settings: Config, run: RunFolder) -> Tracking:
    """Returns the trackers, and fails when starting them hangs."""
    before = time.monotonic()
    tracking = Tracking.start(settings, run, Words("en"))
    assert time.monotonic() - before < HANG
    return tracking


# What lands where


def test_every_line_is_in_metrics_jsonl(run: RunFolder) -> None:
    tracking = Tracking.start(config(wandb="disabled", tensorboard=False), run, Words("en"))
    lines = log_two_epochs(tracking)
    tracking.log_pictures({"valid/batch": PICTURE}, update=6)  # pictures are no lines
    tracking.finish()
    text = (run.path / "metrics.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == lines == run.history()
    assert len(lines) == 4 and tracking.notes == []
    assert [entry.name for entry in run.path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_holds_scalars_and_pictures(tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path), "my exp")
    tracking = Tracking.start(config(wandb="disabled"), run, Words("en"))
    log_two_epochs(tracking)
    tracking.log_pictures({"valid/batch": PICTURE, "train/batch": PICTURE}, update=6)
    tracking.finish()
    assert tracking.notes == [f"tensorboard --logdir '{tmp_path}/my exp'"]
    (events,) = run.path.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent), size_guidance={SCALARS: 0, IMAGES: 0}).Reload()
    scalars = {
        tag: [(event.step, pytest.approx(event.value)) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]
    }
    assert scalars == {
        "epoch": [(3, 1.0), (3, 1.0), (6, 2.0), (6, 2.0)],
        "train/loss": [(3, 1.0), (6, 0.5)],
        "train/lr": [(3, 0.001), (6, 0.001)],
        "valid/loss": [(3, 0.5), (6, 0.25)],
        "valid/f1": [(3, 0.25), (6, 0.5)],
    }
    assert sorted(tag.partition("/image")[0] for tag in read.Tags()["images"]) == ["train/batch", "valid/batch"]
    (image,) = read.Images(read.Tags()["images"][0])
    assert (image.step, image.height, image.width) == (6, 6, 4)


def test_the_offline_wandb_run_holds_config_history_and_pictures(run: RunFolder) -> None:
    settings = config(wandb="offline", wandb_project="faces", tensorboard=True, lr=3e-4)
    tracking = started(settings, run)
    log_two_epochs(tracking)
    tracking.log_pictures({"valid/confusion_matrix": PICTURE}, update=6)
    tracking.finish()

    (file,) = run_files(run)
    records = wandb_records(file)
    (first,) = of_kind(records, "run")[:1]
    assert (first.project, first.display_name) == ("faces", "exp")
    stored = values_of([*first.config.update, *(item for entry in of_kind(records, "config") for item in entry.update)])
    assert {key: stored.get(key, "missing") for key in settings.model_dump()} == settings.model_dump()

    history = [values_of(entry.item) for entry in of_kind(records, "history")]
    assert [step["_step"] for step in history] == [3, 6]  # the lines of one update are one step
    for epoch, step in enumerate(history, start=1):
        assert {key: step[key] for key in ("epoch", "train/loss", "train/lr", "valid/loss", "valid/f1")} == {
            "epoch": epoch, "train/loss": 1 / epoch, "train/lr": 0.001, "valid/loss": 0.5 / epoch,
            "valid/f1": 0.25 * epoch,
        }  # fmt: skip
    (pictures,) = (step["valid/confusion_matrix"] for step in history if "valid/confusion_matrix" in step)
    assert (pictures["count"], pictures["width"], pictures["height"]) == (1, 4, 6)
    (png,) = file.parent.glob("files/media/images/**/*.png")

    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(png)), PICTURE)
    assert of_kind(records, "exit")[0].exit_code == 0


def test_the_run_file_reader_reads_records_that_span_blocks(run: RunFolder) -> None:
    """The reader above is ours, so that it is held against a run too large for one block."""
    tracking = started(config(wandb="offline", tensorboard=False), run)
    for update in range(1, 401):
        tracking.log({f"train/number_{i}": float(update * i) for i in range(20)}, epoch=1, update=update)
    tracking.finish()
    (file,) = run_files(run)
    assert file.stat().st_size > 3 * 32768
    history = [MessageToDict(entry) for entry in of_kind(wandb_records(file), "history")]
    assert len(history) == 400


# Which mode, and why


def modes_of(*wanted: str) -> list[tuple[str, str]]:
    """Returns what `wandb_mode` decides for each in the environment as it is."""
    import wandb

    wandb.teardown()
    settings = wandb.setup().settings  # it takes a while
    return [wandb_mode(mode, settings, Words("en")) for mode in wanted]


def test_without_a_login_wandb_is_offline_and_says_that_nothing_leaves(run: RunFolder) -> None:
    tracking = started(config(tensorboard=False), run)
    tracking.finish()
    (file,) = run_files(run)
    assert tracking.notes == [
        f"wandb offline (not logged in): nothing leaves this machine. To upload it: wandb sync {file.parent}"
    ]


def test_a_config_that_says_online_asks_no_terminal_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert modes_of("online", "auto") == [("offline", "not logged in")] * 2


@pytest.mark.parametrize("name", ["NETRC", "home", "home on Windows"])
def test_a_login_is_found_where_wandb_login_leaves_it(
    name: str, tmp_path: Path, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent}")
    file = tmp_path / {"NETRC": "netrc", "home": ".netrc", "home on Windows": "_netrc"}[name]
    if name != "NETRC":
        monkeypatch.delenv("NETRC")
    for content, mode in [
        (f"machine 127.0.0.1:{silent}\n  login user\n  password {'a' * 40}\n", ("online", "")),  # as wandb writes it
        (f"machine 127.0.0.1 login user password {'a' * 40}\n", ("offline", "not logged in")),
        (f"machine 127.0.0.1:{silent} what is this\n", ("offline", "not logged in")),
    ]:
        file.write_text(content, encoding="utf-8")
        assert modes_of("auto") == [mode]

        import wandb

        assert (wandb.sdk.lib.wbauth.read_netrc_auth(host=f"http://127.0.0.1:{silent}") is None) == (
            mode[0] != "online"
        )


SWITCHES = [
    ({"WANDB_MODE": "offline"}, "", "offline", "WANDB_MODE=offline"),
    ({"WANDB_MODE": "dryrun"}, "", "offline", "WANDB_MODE=dryrun"),
    ({"WANDB_MODE": "disabled"}, "", "disabled", "WANDB_MODE=disabled"),
    ({"WANDB_DISABLED": "true"}, "", "disabled", "WANDB_DISABLED=true"),
    ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, "", "disabled", "WANDB_DISABLED=1"),
    ({}, "offline", "offline", "wandb's settings say offline"),  # as `wandb offline` writes them
    ({}, "disabled", "disabled", "wandb's settings say disabled"),  # as `wandb disabled`
    ({"WANDB_MODE": "online"}, "offline", "online", ""),  # wandb's own rule: the environment comes first
    ({"WANDB_MODE": "run"}, "", "online", ""),
    ({"WANDB_MODE": "shared"}, "", "online", ""),  # one process of ours writes, so that there is nothing to share
    ({"WANDB_DISABLED": "false"}, "", "online", ""),
    ({"WANDB_DISABLED": ""}, "", "online", ""),
]


@pytest.mark.parametrize(("environment", "file", "mode", "reason"), SWITCHES)
def test_every_switch_of_wandb_that_is_against_an_upload_is_obeyed_whatever_the_config_says(
    environment: dict[str, str], file: str, mode: str, reason: str, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if file:
        Path("wandb").mkdir()
        Path("wandb/settings").write_text(f"[default]\nmode = {file}\n", encoding="utf-8")
    offline = (mode, reason) if mode == "disabled" else ("offline", "as configured")
    assert modes_of("auto", "online", "offline") == [(mode, reason), (mode, reason), offline]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WANDB_MODE", "disabled", "wandb is off (WANDB_MODE=disabled): nothing leaves this machine"),
        ("WANDB_DISABLED", "true", "wandb is off (WANDB_DISABLED=true): nothing leaves this machine"),
        ("WANDB_MODE", "ofline", "wandb is off (1 validation error for Settings mode Input should be 'online', "),
    ],
)
def test_a_wandb_that_is_switched_off_writes_nothing_and_the_run_says_so(
    name: str, value: str, words: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    tracking = started(config(tensorboard=False), run)
    log_two_epochs(tracking)
    tracking.finish()
    (note,) = tracking.notes
    assert note.startswith(words)
    assert [entry.name for entry in run.path.iterdir()] == ["metrics.jsonl"]


def test_a_wandb_that_cannot_start_at_all_is_off_and_says_why(run: RunFolder) -> None:
    (run.path / "wandb").write_text("a file where its folder should be", encoding="utf-8")
    tracking = started(config(tensorboard=False), run)
    lines = log_two_epochs(tracking)
    tracking.finish()
    (note,) = tracking.notes
    assert note.startswith("wandb is off (offline failed: ") and note.endswith("): nothing leaves this machine")
    assert "wandb" in note.partition(": ")[2] and run.history() == lines


def test_the_notes_are_korean_too() -> None:
    word = Words("ko")
    assert "사람 사진이 https://api.wandb.ai에 업로드됨" in word("wandb_online", run="x", server="https://api.wandb.ai")
    for key in ("wandb_offline", "wandb_off"):
        assert "이 컴퓨터 밖으로 나가는 것이 없음" in word(key, reason=word("wandb_no_login"), command="wandb sync x")


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def answering(status: int) -> Callable[[], Iterator[int]]:
    def serve() -> Iterator[int]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_PUT = do_POST

            def log_message(self, format: str, *arguments: Any) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
        server.server_close()

    return serve


denying = pytest.fixture(name="denying")(answering(401))
failing = pytest.fixture(name="failing")(answering(500))


def test_a_server_that_refuses_is_not_waited_for(refusing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{refusing}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    for mode, reason in modes_of("auto", "online"):
        assert mode == "offline" and reason.startswith("127.0.0.1 is not reachable: ") and "refused" in reason


def test_a_name_that_does_not_resolve_is_not_reachable_but_its_proxy_is(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.invalid")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    ((mode, reason),) = modes_of("auto")
    assert mode == "offline" and reason.startswith("wandb.invalid is not reachable: ")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent}")  # in many clusters the only way out
    assert modes_of("auto") == [("online", "")]
    monkeypatch.setenv("no_proxy", "wandb.invalid")
    assert modes_of("auto") == [(mode, reason)]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refusing", "silent", "denying", "failing"])
def test_no_server_keeps_a_run_from_starting_and_its_files_can_be_synced_later(
    server: str, run: RunFolder, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_tracker, "SECONDS_TO_START", 2.0)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{request.getfixturevalue(server)}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    tracking = started(config(tensorboard=False), run)
    (note,) = tracking.notes
    reason = "127.0.0.1 is not reachable" if server == "refusing" else "online failed: "
    assert note.startswith(f"wandb offline ({reason}")
    lines = log_two_epochs(tracking)
    before = time.monotonic()
    tracking.finish()
    assert time.monotonic() - before < HANG
    assert tracking.notes == [note] and run.history() == lines
    (file,) = run_files(run)
    assert note.endswith(f"): nothing leaves this machine. To upload it: wandb sync {file.parent}")
    assert len(of_kind(wandb_records(file), "history")) == 2


def test_the_sync_command_can_be_typed_for_a_folder_with_a_blank() -> None:
    tracker = SimpleNamespace(run=SimpleNamespace(dir="/my runs/exp/wandb/offline-run-1-abc/files"))
    assert shlex.split(Wandb(tracker).sync_command()) == ["wandb", "sync", "/my runs/exp/wandb/offline-run-1-abc"]


def test_the_end_of_a_run_waits_for_the_upload_only_so_long(run: RunFolder) -> None:
    import wandb

    tracking = started(config(wandb="offline", tensorboard=False), run)
    settings = wandb.run.settings
    assert (settings.finish_timeout, settings.finish_timeout_raises) == (wandb_tracker.SECONDS_TO_FINISH, True)
    tracking.finish()


# Trackers that fail


class Recorder:
    """A tracker that keeps what it is given, and raises where it is told to."""

    def __init__(self, name: str, broken: str = "") -> None:
        self.name, self.broken, self.calls = name, broken, list[str]()

    def _do(self, call: str) -> None:
        self.calls.append(call)
        if call == self.broken:
            raise ConnectionError("the disk of the tracker is full")

    def log(self, values: dict[str, float], step: int) -> None:
        self._do("log")

    def log_pictures(self, pictures: dict[str, np.ndarray], step: int) -> None:
        self._do("log_pictures")

    def sync_command(self) -> str:
        return "upload it" if self.name == "wandb" else ""

    def flush(self) -> None:
        self._do("flush")

    def finish(self, exit_code: int = 0) -> None:
        self._do("finish")


@pytest.mark.parametrize("broken", ["log", "log_pictures"])
def test_a_tracker_that_raises_is_dropped_with_a_note_and_the_others_go_on(
    run: RunFolder, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    bad, good = Recorder("wandb", broken), Recorder("tensorboard")
    tracking = Tracking([bad, good], run, [])
    for update in (1, 2):
        tracking.log({"train/loss": 1.0}, epoch=1, update=update)
        tracking.log_pictures({"valid/batch": PICTURE}, update=update)
    tracking.finish()
    assert good.calls == ["log", "log_pictures"] * 2 + ["finish"]
    assert bad.calls == ["log", "log_pictures"][: 1 if broken == "log" else 2]
    (note,) = tracking.notes  # what it holds so far can be uploaded later
    assert note == "wandb stopped: the disk of the tracker is full. To upload it later: upload it"
    assert capsys.readouterr().out == (
        "warning: wandb stopped: the disk of the tracker is full. The run continues; metrics.jsonl holds everything.\n"
    )
    assert len(run.history()) == 2


def test_a_tracker_that_raises_at_the_end_is_reported_and_the_others_finish(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    after = Recorder("tensorboard")
    tracking = Tracking([Recorder("wandb", "finish"), after], run, [])
    tracking.finish()
    assert after.calls == ["finish"]
    (note,) = tracking.notes  # what it holds so far can be uploaded later
    assert note == "wandb stopped: the disk of the tracker is full. To upload it later: upload it"
    assert "Traceback" not in capsys.readouterr().err


def children(command: str) -> list[int]:
    """Returns our child processes whose command line holds a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and command.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_wandb_whose_service_is_killed_in_the_middle_does_not_stop_the_run(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    tracking = started(config(wandb="offline"), run)
    tracking.log({"train/loss": 1.0}, epoch=1, update=1)
    (service,) = children("wandb-core")
    os.kill(service, signal.SIGKILL)
    for update in range(2, 40):
        tracking.log({"train/loss": 1.0}, epoch=1, update=update)
        time.sleep(0.01)  # the connection is found to be broken by the one after
    tracking.log_pictures({"valid/batch": PICTURE}, update=40)
    tracking.finish()
    with suppress(Exception):  # its own service does not answer it either
        wandb.teardown()
    assert [line["update"] for line in run.history()] == list(range(1, 40))
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and warned[0].startswith("warning: wandb stopped: ")
    assert warned[0].endswith("The run continues; metrics.jsonl holds everything.")
    assert tracking.notes[-1].startswith("wandb stopped: ")
    (folder,) = run.path.glob("wandb/offline-run-*")
    assert tracking.notes[-1].endswith(f". To upload it later: wandb sync {folder}")
    (events,) = run.path.rglob("events.out.tfevents.*")
    assert len(EventAccumulator(str(events.parent)).Reload().Scalars("train/loss")) == 39  # the other one went on


def removed(events: Path) -> None:
    shutil.rmtree(events.parent)


def on_a_full_disk(events: Path) -> None:
    events.unlink()
    events.symlink_to("/dev/full")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its own thread's
@pytest.mark.parametrize(
    ("happens", "words"), [(removed, "No such file or directory"), (on_a_full_disk, "No space left on device")]
)
def test_a_tensorboard_file_that_cannot_be_written_any_more_does_not_stop_the_run(
    happens: Callable[[Path], None], words: str, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = started(config(wandb="disabled"), run)
    tracking.log({"train/loss": 1.0}, epoch=1, update=1)
    (events,) = run.path.rglob("events.out.tfevents.*")
    happens(events)
    for update in range(2, 100):
        tracking.log({f"train/{i}": 1.0 for i in range(10)}, epoch=1, update=update)
    tracking.log_pictures({"valid/batch": PICTURE}, update=100)
    tracking.finish()
    assert [line["update"] for line in run.history()] == list(range(1, 100))
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: tensorboard stopped")]
    assert len(warned) == 1 and words in warned[0] and words in tracking.notes[-1]


# A run that goes on


@pytest.mark.slow
def test_a_run_that_goes_on_has_every_step_once_in_every_tracker(run: RunFolder) -> None:
    settings = config(wandb="offline")
    first = started(settings, run)
    lines = log_two_epochs(first)
    length = run.log_bytes()
    first.log({"train/loss": 9.0}, epoch=3, update=7)  # after the state was saved
    first.finish()
    names = {(file.parent.name, wandb_records(file)[0].num) for file in run_files(run)}
    wandb_id = (run.path / "wandb_id").read_text()

    run.cut_log(length)
    second = started(settings, run)
    second.catch_up()
    assert run.history() == lines  # and the log itself has not grown
    second.log({"train/loss": 0.25}, epoch=3, update=9)
    second.finish()
    (file,) = run_files(run)
    assert len(names) == 1 and (run.path / "wandb_id").read_text() == wandb_id
    records = wandb_records(file)
    assert of_kind(records, "run")[0].run_id == wandb_id
    history = [values_of(entry.item) for entry in of_kind(records, "history")]
    assert [(step["_step"], step["train/loss"]) for step in history] == [(3, 1.0), (6, 0.5), (9, 0.25)]
    (events,) = run.path.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(3, 1.0), (6, 0.5), (9, 0.25)]
    assert [event.step for event in read.Scalars("valid/f1")] == [3, 6]


@pytest.mark.parametrize(("raised", "is_finished"), [(None, True), (Stopped("asked to"), True), (Fault("x"), False)])
def test_trackers_are_ended_after_a_stop_but_delay_no_message_of_a_fault(
    raised: Exception | None, is_finished: bool, run: RunFolder
) -> None:
    ended = []
    tracker = SimpleNamespace(name="toy", finish=lambda exit_code: ended.append(True))
    with suppress(Stopped, Fault), Tracking([tracker], run, []):
        if raised:
            raise raised
    assert bool(ended) == is_finished
