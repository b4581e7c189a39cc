"""What an offline wandb run holds of a finished run, read back from its file, against other ways to the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_curve

from maskcls.config import load_config
from maskcls.data.preprocessing import Preprocessing
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.metrics import METRICS
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import HEAD_CLASSES
from maskcls.reporting import dashboard
from maskcls.reporting.dashboard import RECALLS, THUMBNAIL, log_results, precisions
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking
from maskcls.words import Words
from tests import made
from tests.helpers import ROOT, of_kind, values_of, wandb_records
from tests.wandb_server import own_wandb

REPORT = "<!doctype html><html><head><title>exp</title></head><body>0.668</body></html>"


@dataclass
class Logged:
    """A run whose results were logged offline, and what its wandb file says."""

    run: RunFolder
    findings: Findings
    notes: list[str]
    home: Path
    folder: Path  # of the offline run
    records: list[Any] = field(repr=False)

    @property
    def predictions(self) -> Predictions:
        return self.findings.predictions

    @property
    def summary(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for record in of_kind(self.records, "summary"):
            values |= values_of(record.update)
        return values

    def file(self, name: str) -> Path:
        """Returns the media file of a key under results/."""
        return self.folder / "files" / self.summary[f"results/{name}"]["path"]

    def table(self, name: str) -> list[dict[str, Any]]:
        content = json.loads(self.file(name).read_text(encoding="utf-8"))
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def artifact(self, kind: str) -> Any:
        (found,) = (record for record in of_kind(self.records, "artifact") if record.type == kind)
        return found


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nobody's login, settings or runs: everything of wandb lies here or in the run folders."""
    import wandb

    folder = tmp_path_factory.mktemp("home")
    Accelerator(cpu=True)  # Accelerate's trackers log through its state
    with pytest.MonkeyPatch.context() as patch:
        own_wandb(patch, folder)
        yield folder
    wandb.teardown()


def log_offline(run: RunFolder, home: Path) -> Logged:
    """Returns what wandb has of a run after `log_results`, as train.py calls it."""
    import wandb

    run = RunFolder(Path(os.path.relpath(run.path)))  # as with the model_dir that configs have: runs
    findings = Findings(Predictions.load(run.predictions))
    tracking = Tracking.start(load_config(run.config, ["wandb=offline", "tensorboard=false"]), run, Words("en"))
    tracking.catch_up()
    log_results(tracking, run, findings, report=run.path / "report.html")
    tracking.finish()
    wandb.teardown()  # its service writes the end of the file a moment after finish
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    return Logged(run, findings, tracking.notes[1:], home, file.parent, wandb_records(file))


@pytest.fixture(scope="module")
def logged(sample: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Returns a run of 5 epochs, the fourth of them the best, that lacks one photo of a mistake."""
    run = made.run(sample, tmp_path_factory.mktemp("runs"), name="all heads", accuracy=0.4)
    for epoch, f1 in ((4, 0.9), (5, 0.2)):
        run.log({"epoch": epoch, "update": 2 * epoch, "valid/loss": 1 / epoch, "valid/acc": f1, "valid/f1": f1})
    (run.path / "report.html").write_text(REPORT, encoding="utf-8")
    predictions = Predictions.load(run.predictions)
    row = Findings(predictions).worst_mistakes(60)[0].row
    (Path(load_config(run.config).data_dir) / predictions.people[row] / predictions.files[row]).unlink()
    return log_offline(run, home)


def test_the_summary_is_about_the_best_epoch_with_an_interval_for_every_score(logged: Logged) -> None:
    assert logged.summary["best_epoch"] == 4
    assert logged.summary["valid/loss"] == 1 / 4  # not 1 / 5, which came last
    assert len(logged.findings.named_scores) == 4 * len(METRICS)
    for name, interval in logged.findings.named_scores.items():
        shown = [logged.summary[f"valid/{name}{end}"] for end in ("", "_low", "_high")]
        assert shown == [interval.value, interval.low, interval.high]


def test_results_take_no_step_of_their_own_so_that_a_run_that_goes_on_loses_none(logged: Logged) -> None:
    history = [values_of(record.item) for record in of_kind(logged.records, "history")]
    assert [line["_step"] for line in history] == [1, 2, 3, 4, 5, 6, 8, 10]
    assert history[-1]["valid/f1"] == 0.2 and "results/slices" in history[-1]


def test_the_confusion_matrices_are_those_of_scikit_learn(logged: Logged) -> None:
    charts = {}
    for record in of_kind(logged.records, "config"):
        charts |= values_of(record.update).get("_wandb", {}).get("visualize", {})
    assert len(logged.predictions.probabilities) == 4
    for head, classes in HEAD_CLASSES.items():
        assert charts[f"results/confusion_{head}"]["panel_config"]["panelDefId"] == "wandb/confusion_matrix/v1"
        expected = confusion_matrix(
            logged.predictions.truth(head), logged.predictions.predicted(head), labels=range(len(classes))
        )
        assert {
            (row["Actual"], row["Predicted"]): row["nPredictions"] for row in logged.table(f"confusion_{head}_table")
        } == {(classes[i], classes[j]): number for (i, j), number in np.ndenumerate(expected)}


def test_the_precision_recall_charts_have_21_points_for_every_class(logged: Logged) -> None:
    for head, classes in HEAD_CLASSES.items():
        points = [list(row.values()) for row in logged.table(f"precision_recall_{head}_table")]
        assert len(points) == 21 * len(classes)
        compare_with_scikit_learn(logged.predictions, head, points)


def test_a_class_that_no_photo_has_gets_no_curve_and_the_others_keep_theirs(logged: Logged) -> None:
    some = logged.predictions.rows(logged.predictions.truth("mask") != 0)
    for head, chart in zip(HEAD_CLASSES, dashboard._curves(some).values(), strict=True):
        assert {row[0] for row in chart.table.data} == {HEAD_CLASSES[head][label] for label in some.truth(head)}
        compare_with_scikit_learn(some, head, chart.table.data)


def compare_with_scikit_learn(predictions: Predictions, head: str, points: list[list[Any]]) -> None:
    """Compares the rows (class, precision, recall) of a head with `reference`."""
    truth = predictions.truth(head)
    for label in np.unique(truth):
        shown = [numbers for name, *numbers in points if name == HEAD_CLASSES[head][label]]
        expected = reference(predictions.probabilities[head][:, label], truth == label)
        np.testing.assert_allclose(shown, np.stack([expected, RECALLS], axis=1), atol=1e-12)


def reference(probabilities: np.ndarray, is_class: np.ndarray) -> list[float]:
    """Returns the precisions from scikit-learn's curve, without the point at recall 0 that it adds."""
    precision, recall, _ = precision_recall_curve(is_class, probabilities)
    return [precision[:-1][recall[:-1] >= value - 1e-9].max() for value in RECALLS]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60))
def test_precisions_are_those_of_scikit_learn_with_ties_too(photos: list[tuple[int, bool]]) -> None:
    probabilities = np.array([value / 8 for value, _ in photos], np.float32)
    is_class = np.array([truth for _, truth in photos])
    is_class[0] = True
    np.testing.assert_allclose(precisions(probabilities, is_class), reference(probabilities, is_class), atol=1e-12)


def test_the_curves_are_those_of_wandbs_own_chart(logged: Logged) -> None:
    import wandb

    # 59, 11 and 11 photos: no recall but 1 is one of RECALLS, where wandb's comparison is left to rounding.
    truth = logged.predictions.truth("mask")
    some = logged.predictions.rows(np.delete(np.arange(len(truth)), [list(truth).index(label) for label in range(3)]))
    assert np.bincount(some.truth("mask")).tolist() == [59, 11, 11]
    theirs = wandb.plot.pr_curve(
        some.truth("mask"), some.probabilities["mask"], labels=list(HEAD_CLASSES["mask"])
    ).table.data
    ours = dashboard._curves(some)["results/precision_recall_mask"].table.data
    expected = {(name, recall): precision for name, precision, recall in theirs if recall > 0}  # there it adds a point
    assert len(expected) == 60
    shown = {(name, round(recall, 3)): precision for name, precision, recall in ours}
    assert {key: shown[key] for key in expected} == pytest.approx(expected, abs=0.00051)  # it rounds to 3 digits


def test_the_worst_mistakes_come_with_answers_and_small_photos(logged: Logged) -> None:
    config = load_config(logged.run.config)
    expected = logged.findings.worst_mistakes(60)
    rows = logged.table("worst_mistakes")
    tables = [record for record in of_kind(logged.records, "artifact") if "worst_mistakes" in record.name]
    (contents,) = (table.manifest.contents for table in tables)
    entries = {entry.path: Path(entry.local_path) for entry in contents}
    stored = json.loads(entries.pop("results/worst_mistakes.table.json").read_text(encoding="utf-8"))
    assert len(rows) == len(expected) == len(stored["data"]) == 60
    num_photos = 0
    for row, mistake, (image, *_) in zip(rows, expected, stored["data"], strict=True):
        person, file = logged.predictions.people[mistake.row], logged.predictions.files[mistake.row]
        assert list(row.values())[1:] == [
            mistake.head, HEAD_CLASSES[mistake.head][mistake.truth], HEAD_CLASSES[mistake.head][mistake.predicted],
            pytest.approx(mistake.confidence), person, file, mistake.num_wrong, mistake.num_photos,
        ]  # fmt: skip
        photo = Path(config.data_dir) / person / file
        if image is None:
            assert not photo.exists()
            continue
        shown = np.asarray(Image.open(entries[image["path"]])).astype(float)
        whole = Preprocessing((shown.shape[0], shown.shape[1])).read({"path": str(photo), "bytes": None})
        assert max(shown.shape) == THUMBNAIL and np.abs(shown - whole).mean() < 8  # JPEG
        num_photos += 1
    num_missing = sum(row["photo"] is None for row in rows)
    assert num_photos > 50 and num_photos + num_missing == 60 and num_missing >= 1


def test_a_photo_that_is_gone_is_counted_and_named(logged: Logged) -> None:
    num_missing = sum(row["photo"] is None for row in logged.table("worst_mistakes"))
    (note,) = logged.notes
    assert note.startswith(f"wandb shows {num_missing} of 60 mistakes without a photo, the first: ")
    assert "No such file" in note


def test_slices_and_gaps_are_tables_with_their_intervals(logged: Logged) -> None:
    parts, rows = logged.findings.slices, logged.table("slices")
    assert len(parts) == len(rows) > 8
    for part, row in zip(parts, rows, strict=True):
        assert (row["group"], row["value"], row["photos"], row["people"]) == (
            part.group, part.value, part.num_photos, part.num_people,
        )  # fmt: skip
        for score in logged.findings.scores:
            name = score.name("class")
            shown = None if row[name] is None else Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
            assert shown == part.scores.get(score)
    assert any(row["mask_f1"] is None for row in rows)  # among photos of one mask state
    assert logged.table("gaps") == [] == logged.findings.gaps  # 12 people: too few to compare


def test_gaps_between_large_groups_are_in_their_table(logged: Logged) -> None:
    copies = np.repeat(np.arange(6), len(logged.predictions))
    many = logged.predictions.rows(np.tile(np.arange(len(logged.predictions)), 6))
    many = replace(many, people=np.char.add(many.people, copies.astype(str)))
    findings = Findings(many)
    table, expected = dashboard._slices(findings)["results/gaps"], findings.gaps
    assert len(expected) > 4
    assert [tuple(row) for row in table.data] == [
        (gap.group, gap.score.name("class"), gap.higher, gap.lower, gap.difference.value, gap.difference.low, gap.difference.high,
         gap.difference.is_clear)
        for gap in expected
    ]  # fmt: skip


def test_the_model_is_an_artifact_that_names_the_files_of_the_run_folder_and_copies_none(logged: Logged) -> None:
    model = logged.artifact("model")
    assert model.name == "all-heads" and {"best", "all-heads"} <= set(model.aliases)
    metadata = json.loads(model.metadata)
    assert (metadata["epoch"], metadata["output"], metadata["valid/f1"]) == (4, "all", 0.9)
    best = logged.run.best.resolve()
    entries = {entry.path: Path(entry.local_path) for entry in model.manifest.contents}
    assert entries == {name.name: name for name in best.iterdir()} and "model.safetensors" in entries
    sizes = [path.stat().st_size for path in logged.folder.rglob("*") if path.is_file()]
    assert (best / "model.safetensors").stat().st_size not in sizes


def test_the_report_is_a_panel_and_an_artifact_that_a_new_report_does_not_change(logged: Logged) -> None:
    assert logged.summary["results/report"]["_type"] == "html-file"
    assert logged.file("report").read_text(encoding="utf-8") == REPORT
    report = logged.artifact("report")
    (entry,) = report.manifest.contents
    assert report.name == "all-heads-report" and entry.path == "report.html" and "all-heads" in report.aliases
    assert Path(entry.local_path) == (logged.folder / "report.html").resolve()
    assert Path(entry.local_path).read_text(encoding="utf-8") == REPORT


def test_nothing_is_left_in_the_home_folder_and_every_file_of_an_artifact_lies_in_the_run_folder(
    logged: Logged,
) -> None:
    local = [
        Path(entry.local_path) for record in of_kind(logged.records, "artifact") for entry in record.manifest.contents
    ]
    assert len(local) > 50
    assert all(path.is_absolute() and path.is_relative_to(logged.run.path.resolve()) for path in local)
    assert all(path.is_file() for path in local)
    assert not [path for path in logged.home.rglob("artifacts/**/*") if path.is_file()]
    assert "WANDB_DATA_DIR" not in os.environ


def test_what_fails_is_a_warning_and_a_note_and_the_rest_is_there(
    sample: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made.run(sample, tmp_path, output="gender", epochs=1)
    shutil.rmtree(run.best)  # and there is no report.html
    shutil.rmtree(tmp_path / "images")
    after = log_offline(run, home)
    gone, panel, model, report = after.notes
    assert gone.startswith(f"wandb shows {len(after.table('worst_mistakes'))} of ")
    assert panel.startswith("wandb has no report panel: ")
    assert model.startswith("wandb has no model: ") and str(run.best) in model
    assert report.startswith("wandb has no report artifact: ") and "report.html" in report
    assert capsys.readouterr().out.splitlines() == [f"warning: {note}" for note in after.notes]
    assert {row["head"] for row in after.table("worst_mistakes")} == {"gender"}
    assert all(row["photo"] is None for row in after.table("worst_mistakes"))
    assert len(after.table("precision_recall_gender_table")) == 42
    assert after.summary["best_epoch"] == 1 and after.summary["valid/f1_low"] == after.findings.named_scores["f1"].low
    assert not [record for record in of_kind(after.records, "artifact") if record.type in ("model", "report")]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("exp", "exp"),
        ("vit_b-16.v2", "vit_b-16.v2"),
        ("all heads: 2", "all-heads-2"),
        ("한국", "1eb7da6d"),
        ("중국", "3b31f8d5"),
        ("한국 vit", "vit-316abf54"),
        ("!!!", "run"),
        ("x" * 300, "x" * 100 + "-0d4e2ca9"),
    ],
)
def test_the_name_of_an_artifact_is_one_that_wandb_takes_and_keeps_experiments_apart(name: str, clean: str) -> None:
    import wandb

    assert dashboard._artifact_name(name) == clean
    assert wandb.Artifact(f"{clean}-report", "report").name == f"{clean}-report"


def test_a_wandb_that_does_not_answer_is_not_waited_for(
    logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "SECONDS_TO_LOG", 0.1)
    answers = threading.Event()
    never: Callable[..., bool] = lambda *_, **__: answers.wait(5)  # noqa: E731
    silent = SimpleNamespace(dir=str(tmp_path / "wandb" / "files"), log=never)
    tracker = SimpleNamespace(name="wandb", run=silent, flush=lambda: None)
    tracking = Tracking([tracker], logged.run, [])
    log_results(tracking, logged.run, logged.findings, report=None)
    assert tracking.notes == ["wandb has not taken all results within 0.1 seconds"]
    assert capsys.readouterr().out == "warning: wandb has not taken all results within 0.1 seconds\n"
    answers.set()
    for thread in threading.enumerate():
        if thread.daemon and thread.name.endswith("(act)"):
            thread.join(60)


def test_without_wandb_nothing_is_done_and_wandb_is_not_imported(logged: Logged) -> None:
    before = sorted(logged.run.path.rglob("*"))
    log_results(Tracking([], logged.run, []), logged.run, logged.findings, report=None)
    assert sorted(logged.run.path.rglob("*")) == before
    code = "import sys, train, maskcls.reporting.journal\nprint([name for name in sys.modules if name == 'wandb'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
