"""wandb online, as a server receives it: nothing of a run is missing, duplicate or sent without leave.

The server is tests/wandb_server.py. What it cannot show: how wandb's pages look (panels, axes, the look of tables and
of the report), the real server's limits of rate and size, and its rules for states (failed, preempted, crashed).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from accelerate import Accelerator
from PIL import Image

from maskcls.config import Config, load_config
from maskcls.errors import Fault, Stopped
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.predictions import Predictions
from maskcls.reporting.dashboard import interval_ends, log_results
from maskcls.training import wandb_tracker
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking
from maskcls.words import Words
from tests import made
from tests.helpers import ROOT, overrides
from tests.helpers import run as run_script
from tests.wandb_server import ReceivedArtifact, ReceivedRun, WandbServer, own_wandb

HANG = 60.0  # seconds: no statement about speed, only that it ends
pytestmark = pytest.mark.slow  # every run starts a process of wandb, and a server
REPORT = "<!doctype html><html><head><title>exp</title></head><body>0.668</body></html>"
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def accelerator() -> Accelerator:
    """Accelerate's trackers log through it."""
    return Accelerator(cpu=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server that somebody is logged in to."""
    import wandb

    server = WandbServer()
    monkeypatch.chdir(tmp_path)
    own_wandb(monkeypatch, tmp_path, server)
    yield server
    wandb.teardown()
    server.close()
    assert server.problems == []


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(str(tmp_path / "runs"), "exp")


def started(run: RunFolder, **settings: Any) -> Tracking:
    """Returns the trackers of a run, and what it has logged so far sent again."""
    config = Config(data_dir="data", dataset_args={"output": "mask"}, tensorboard=False, **settings)
    tracking = Tracking.start(config, run, Words("en"))
    tracking.catch_up()
    return tracking


def log_epoch(tracking: Tracking, epoch: int) -> None:
    """Logs what an epoch of three updates has: a line after its updates, one after the validation."""
    tracking.log({"train/loss": 1 / epoch}, epoch=epoch, update=3 * epoch)
    tracking.log({"valid/f1": 0.25 * epoch}, epoch=epoch, update=3 * epoch)


def steps(received: ReceivedRun) -> list[tuple[Any, ...]]:
    """Returns (step, epoch, train loss, valid f1) of every step in the order in which the server has them."""
    return [tuple(line.get(key) for key in ("_step", "epoch", "train/loss", "valid/f1")) for line in received.history]


EPOCHS = [(3 * epoch, epoch, 1 / epoch, 0.25 * epoch) for epoch in range(1, 7)]


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what wandb's service does beside us, and fails when it does not."""
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def services() -> list[psutil.Process]:
    """Returns wandb's services that we have started and that run."""
    children = psutil.Process().children()
    return [child for child in children if child.name() == "wandb-core" and child.status() != psutil.STATUS_ZOMBIE]


# A whole run


@dataclass
class Received:
    """A run that was logged, and what the server has of it."""

    run: RunFolder
    config: Config
    findings: Findings
    notes: list[str]
    server: WandbServer = field(repr=False)

    @property
    def on_server(self) -> ReceivedRun:
        (received,) = self.server.runs.values()
        return received

    def artifact(self, kind: str) -> ReceivedArtifact:
        (artifact,) = self.server.of_type(kind)
        return artifact


@pytest.fixture(scope="module")
def received(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Received]:
    """A finished run, logged as train.py logs it."""
    import wandb

    server = WandbServer()
    with pytest.MonkeyPatch.context() as patch:
        own_wandb(patch, tmp_path_factory.mktemp("home"), server)
        run = made.run(sample, tmp_path_factory.mktemp("runs"), name="한국", accuracy=0.4)
        for epoch, f1 in ((4, 0.9), (5, 0.2)):
            run.log({"epoch": epoch, "update": 2 * epoch, "valid/loss": 1 / epoch, "valid/acc": f1, "valid/f1": f1})
        (run.path / "report.html").write_text(REPORT, encoding="utf-8")
        config = load_config(run.config, ["tensorboard=false"])
        findings = Findings(Predictions.load(run.predictions))
        tracking = Tracking.start(config, run, Words("en"))
        tracking.log_pictures({"train/batch": PICTURE}, update=0)
        tracking.catch_up()
        tracking.log_pictures({"valid/confusion_matrix": PICTURE[::-1]}, update=10)
        log_results(tracking, run, findings, report=run.path / "report.html")
        tracking.finish()
        yield Received(run, config, findings, tracking.notes, server)
        wandb.teardown()
    server.close()


def test_the_line_at_the_start_says_that_pictures_are_uploaded_and_where_to(received: Received) -> None:
    url, server = received.on_server.name, received.server.url
    assert received.notes == [
        f"wandb: {server}/someone/maskcls/runs/{url}, pictures of people are uploaded to {server}"
    ]


def test_the_run_arrives_under_its_names_with_its_config(received: Received) -> None:
    fields, config = received.on_server.fields, received.on_server.config
    assert (fields["project"], fields["displayName"], fields["groupName"]) == ("maskcls", "한국", "한국")
    assert fields["tags"] == ["all", "auto"]
    assert received.on_server.name == (received.run.path / "wandb_id").read_text()
    expected = {key: value for key, value in received.config.model_dump().items() if value != {}}  # it sends no {}
    assert {key: config[key]["value"] for key in expected} == expected and len(expected) > 40
    assert (received.on_server.exit_codes, received.on_server.is_preempting) == ([0], False)
    assert received.server.problems == []


def test_every_update_arrives_as_one_step_with_every_number(received: Received) -> None:
    expected: dict[int, dict[str, float]] = {}
    for line in received.run.history():
        values = expected.setdefault(line["update"], {})
        values |= {name: value for name, value in line.items() if name != "update"}
    history = {step["_step"]: step for step in received.on_server.history}
    assert [step["_step"] for step in received.on_server.history] == [0, 1, 2, 3, 4, 5, 6, 8, 10] == [0, *expected]
    for update, values in expected.items():
        assert {name: history[update][name] for name in values} == values


def test_scores_of_the_validation_are_drawn_over_epochs(received: Received) -> None:
    metrics = received.on_server.config["_wandb"]["value"]["m"]
    (scores,) = (metric for metric in metrics if metric.get("2") == "valid/*")  # MetricRecord: 2 glob_name, 5 its axis
    assert metrics[scores["5"] - 1]["1"] == "epoch"


def test_the_summary_is_about_the_best_epoch(received: Received) -> None:
    best = next(line for line in received.run.history() if line["epoch"] == 4)
    expected = {"best_epoch": 4, "valid/loss": best["valid/loss"], **interval_ends(received.findings)}
    assert len(expected) > 20
    assert {name: received.on_server.summary[name] for name in expected} == expected


def test_pictures_arrive_pixel_by_pixel(received: Received) -> None:
    history = {step["_step"]: step for step in received.on_server.history}
    for step, name, picture in ((0, "train/batch", PICTURE), (10, "valid/confusion_matrix", PICTURE[::-1])):
        (path,) = history[step][name]["filenames"]
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(received.on_server.files[path]))), picture)


def table_name(artifact: ReceivedArtifact) -> str:
    """Returns the key of a table's artifact; its own name ends in letters that wandb draws."""
    (name,) = (path for path in artifact.files if path.endswith(".table.json"))
    return name.removeprefix("results/").removesuffix(".table.json")


def test_tables_and_charts_arrive_with_the_photos_of_the_mistakes(received: Received) -> None:
    tables = {table_name(artifact): artifact for artifact in received.server.of_type("run_table")}
    heads = ("class", "mask", "gender", "age")
    charts = [f"{kind}_{head}_table" for kind in ("confusion", "precision_recall") for head in heads]
    assert set(tables) == {*charts, "worst_mistakes", "slices", "gaps"}
    photos = dict(tables["worst_mistakes"].files)
    table = json.loads(photos.pop("results/worst_mistakes.table.json"))
    shown = [row[0]["path"] for row in table["data"]]
    assert len(shown) == 60 and set(shown) == photos.keys()
    assert {max(Image.open(BytesIO(photo)).size) for photo in photos.values()} == {160}
    files = received.on_server.files
    for name in tables:
        stored = json.loads(tables[name].files[f"results/{name}.table.json"])
        panel = json.loads(files[received.on_server.summary[f"results/{name}"]["path"]])
        assert len(panel["data"]) == len(stored["data"]) and panel["columns"] == stored["columns"]


def test_the_report_arrives_as_a_panel_and_as_an_artifact(received: Received) -> None:
    panel = received.on_server.summary["results/report"]
    assert received.on_server.files[panel["path"]].decode() == REPORT
    report = received.artifact("report")
    assert (report.name, report.files) == ("1eb7da6d-report", {"report.html": REPORT.encode()})


def test_the_best_model_arrives_whole(received: Received) -> None:
    model = received.artifact("model")
    assert model.name == "1eb7da6d" and set(model.aliases) == {"best", "latest", "1eb7da6d"}
    assert (model.metadata["epoch"], model.metadata["valid/f1"]) == (4, 0.9)
    assert model.files == {file.name: file.read_bytes() for file in received.run.best.iterdir()}
    assert "model.safetensors" in model.files


# A run that goes on


def test_a_run_that_was_killed_and_goes_on_has_every_step_once(server: WandbServer, run: RunFolder) -> None:
    tracking = started(run)
    for epoch in (1, 2):
        log_epoch(tracking, epoch)
    saved = run.log_bytes()
    log_epoch(tracking, 3)  # after the state was saved
    tracking.log({"train/loss": 9.0}, epoch=4, update=11)  # in the middle of the fourth
    (received,) = server.runs.values()
    wait_until(lambda: len(received.history) >= 3)
    (service,) = services()  # which dies with us, with all that it has not sent
    service.kill()
    wandb_tracker.leave_wandb(Fault.exit_code)  # and forgets it
    run.cut_log(saved)
    again = started(run)
    for epoch in (3, 4):
        log_epoch(again, epoch)
    again.finish()
    assert steps(received) == EPOCHS[:4]
    assert list(server.runs) == [received.name] and received.fields["tags"] == ["mask", "vit", "fold 0 of 5"]
    assert received.exit_codes == [0]


@pytest.mark.parametrize(("end", "expected"), [(Stopped("asked"), ([75], True)), (Fault("broken"), ([3], False))])
def test_a_run_that_ended_between_an_update_and_its_validation_gets_both_when_it_goes_on(
    end: Exception, expected: tuple[list[int], bool], server: WandbServer, run: RunFolder
) -> None:
    tracking = started(run)
    log_epoch(tracking, 1)
    with pytest.raises(type(end)), tracking:
        tracking.log({"train/loss": 1 / 2}, epoch=2, update=6)
        raise end
    (received,) = server.runs.values()
    assert steps(received) == EPOCHS[:1]
    assert (received.exit_codes, received.is_preempting) == expected
    again = started(run)
    again.log({"valid/f1": 0.5}, epoch=2, update=6)
    log_epoch(again, 3)
    again.finish()
    assert steps(received) == EPOCHS[:3]


# A server that does not answer


def test_a_server_that_breaks_off_and_comes_back_has_lost_nothing(server: WandbServer, run: RunFolder) -> None:
    tracking = started(run)
    (received,) = server.runs.values()
    behaviours: tuple[Literal["fails", "hangs up"], ...] = ("fails", "hangs up")
    for epoch, behaviour in zip((1, 4), behaviours, strict=True):
        log_epoch(tracking, epoch)
        log_epoch(tracking, epoch + 1)
        wait_until(lambda: len(received.history) >= epoch)  # noqa: B023
        num_refused = server.num_refused
        with server.outage(behaviour):
            tracking.log_pictures({"valid/confusion_matrix": PICTURE + epoch}, update=3 * epoch + 6)
            log_epoch(tracking, epoch + 2)
            wait_until(lambda: server.num_refused >= num_refused + 2)  # noqa: B023
    tracking.finish()
    assert steps(received) == EPOCHS
    for epoch, step in ((1, received.history[2]), (4, received.history[5])):
        (path,) = step["valid/confusion_matrix"]["filenames"]
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(received.files[path]))), PICTURE + epoch)
    assert len(tracking.notes) == 1 and "pictures of people" in tracking.notes[0]


def test_a_server_that_is_gone_for_good_costs_seconds_and_the_sync_command_brings_it_everything(
    server: WandbServer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_tracker, "SECONDS_TO_FINISH", 2.0)
    tracking = started(run)
    log_epoch(tracking, 1)
    before = time.monotonic()
    with server.outage("hangs up"):
        for epoch in (2, 3):
            tracking.log_pictures({"valid/confusion_matrix": PICTURE + epoch}, update=3 * epoch)
            log_epoch(tracking, epoch)
        tracking.finish()
        assert time.monotonic() - before < HANG and services() == []
    _, note = tracking.notes
    assert note.startswith("wandb stopped: Timed out finishing run. To upload it later: wandb sync --include-online ")
    command = shlex.split(note.rpartition(": ")[2])
    synced = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], timeout=HANG, check=False)
    assert synced.returncode == 0
    (received,) = server.runs.values()
    assert steps(received) == EPOCHS[:3]
    for step in received.history[1:]:
        assert set(step["valid/confusion_matrix"]["filenames"]) <= set(received.files)


# What leaves the machine, and what is said last


@pytest.mark.parametrize(
    ("wandb", "switch"), [("offline", ""), ("auto", "WANDB_MODE=dryrun"), ("online", "WANDB_DISABLED=true")]
)
def test_nothing_is_sent_where_config_or_environment_is_against_it(
    wandb: str, switch: str, server: WandbServer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switch:
        monkeypatch.setenv(*switch.split("="))
    tracking = started(run, wandb=wandb)
    tracking.log_pictures({"train/batch": PICTURE}, update=0)
    log_epoch(tracking, 1)
    tracking.finish()
    assert server.num_requests == 0
    (note,) = tracking.notes
    assert "nothing leaves this machine" in note


ENDS_BY_A_FAULT = """
import sys
from pathlib import Path
import psutil
from accelerate import Accelerator
from maskcls.config import Config
from maskcls.errors import Fault
from maskcls.program import errors_end_the_program
from maskcls.words import Words
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking

run, wandb, happens = sys.argv[1:]
Accelerator(cpu=True)
config = Config(data_dir="data", dataset_args={"output": "mask"}, tensorboard=False, wandb=wandb)
with errors_end_the_program():
    tracking = Tracking.start(config, RunFolder(Path(run)), Words("en"))
    with tracking:
        for update in range(100):
            tracking.log({"train/loss": 1.0}, epoch=1, update=update)
        if happens == "server goes":
            print("go", flush=True)
            sys.stdin.readline()
        if happens == "service dies":
            for child in psutil.Process().children():
                child.kill()
                child.wait()
        raise Fault("the message")
"""


@pytest.mark.parametrize(
    ("wandb", "happens"), [("offline", ""), ("online", ""), ("online", "service dies"), ("online", "server goes")]
)
def test_after_a_fault_nothing_of_wandb_stands_beside_our_message(
    wandb: str, happens: str, server: WandbServer, run: RunFolder
) -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", ENDS_BY_A_FAULT, str(run.path), wandb, happens], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        if happens == "server goes":
            assert script.stdout is not None and script.stdout.readline() == "go\n"
            server.behaviour = "hangs up"
        _, errors = script.communicate("\n", timeout=HANG)
    finally:
        script.kill()
    assert (script.returncode, errors) == (3, "error: the message\n")
    if wandb == "online" and not happens:
        (received,) = server.runs.values()
        assert received.exit_codes == [3]


def test_train_py_arrives_and_says_so(server: WandbServer, sample: Path, tmp_path: Path) -> None:
    settings = overrides(sample, tmp_path, model="vit", wandb="auto", epochs=2, report="true")
    done = run_script("train.py", "--config", "configs/exp.yaml", *settings, MASKCLS_LANG="ko")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"사람 사진이 {server.url}에 업로드됨") == 2  # at the start and at the end
    (received,) = server.runs.values()
    run = RunFolder(tmp_path / "runs" / received.fields["displayName"])
    lines = run.history()
    assert [step["_step"] for step in received.history] == sorted({0, *(line["update"] for line in lines)})
    by_step = {step["_step"]: step for step in received.history}
    for line in lines:
        assert {name: by_step[line["update"]][name] for name in line if name != "update"} == {
            name: value for name, value in line.items() if name != "update"
        }
    assert {"train/batch", "valid/batch"} <= by_step[0].keys()
    (model,) = server.of_type("model")
    assert model.files["model.safetensors"] == (run.best / "model.safetensors").read_bytes()
    (report,) = server.of_type("report")
    assert report.files["report.html"] == run.report.read_bytes()
    assert received.exit_codes == [0]
