"""The results of a run in wandb, as the report shows them: scores, charts, mistakes with photos, report and model.

Imports wandb: only where a run has it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from maskcls.config import Config, load_config
from maskcls.data.photo import BadPhotos
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.selection import best_epoch, epochs_done, validations
from maskcls.labels import HEAD_CLASSES
from maskcls.training.run_folder import RunFolder
from maskcls.training.tracking import Tracking
from maskcls.training.wandb_tracker import within

NUM_MISTAKES = 60
THUMBNAIL = 160  # pixels of the longer side: 60 photos are 0.3 MB
RECALLS = np.linspace(0, 1, 21)  # where a precision-recall curve has points: 21 rows for each class
NAME_LENGTH = 100  # characters of an experiment's name in an artifact's name
COLUMNS = ("photo", "head", "truth", "prediction", "confidence", "person", "file", "wrong photos", "photos")
ENDS = {"value": "", "low": "_low", "high": "_high"}  # of the names of an interval's numbers
SECONDS_TO_LOG = 60.0  # online, wandb asks its server about each artifact, and asks again for long


def log_results(tracking: Tracking, run: RunFolder, findings: Findings | None, *, report: Path | None) -> None:
    """Adds a finished run's results to its wandb run. In the main process, before the trackers end.

    The summary gets the best epoch (`best_epoch`, every score as valid/{name}, with _low and _high where it has an
    interval); under results/ stand charts and tables, the artifacts are the model and the report. findings: None where
    nobody validated; then there are neither scores nor charts of them, and `best_epoch` is the last.
    What fails or takes longer than SECONDS_TO_LOG is a warning and a note; the rest is there.
    """
    tracking.flush()
    wandb_run = tracking.wandb_run
    if wandb_run is None:  # it failed just then, or before
        return
    problems: list[str] = []

    def log() -> None:
        with _noted(problems, "results"), _staged_in(Path(wandb_run.dir).parent):
            _log_all(wandb_run, run, findings, report, problems)

    in_time = within(SECONDS_TO_LOG, log)
    late = [] if in_time else [f"wandb has not taken all results within {SECONDS_TO_LOG:g} seconds"]
    for problem in [*problems, *late]:  # what a late thread finds when wandb has ended is no news
        tracking.notes.append(problem)
        print(f"warning: {problem}")


def _log_all(
    wandb_run: Any, run: RunFolder, findings: Findings | None, report: Path | None, problems: list[str]
) -> None:
    config, history = load_config(run.config), run.history()
    validated = validations(history)
    best = best_epoch(validated, config.best_criterion) or epochs_done(history)
    scores = {f"valid/{name}": value for name, value in validated.get(best, {}).items()}
    parts: dict[str, Callable[[], dict[str, Any]]] = {}
    if findings is not None:
        parts = {
            "confusion matrices": lambda: _confusion_matrices(findings.predictions),
            "precision-recall curves": lambda: _curves(findings.predictions),
            "worst mistakes": lambda: _mistakes(findings, run, config, problems),
            "slices": lambda: _slices(findings),
        }
    if report is not None:  # it brings its own style
        parts["report panel"] = lambda: {"results/report": wandb.Html(report, inject=False)}
    for name, values in parts.items():
        with _noted(problems, name):
            wandb_run.log(values(), step=history[-1]["update"])  # no step of its own: a run that resumes needs the next
    with _noted(problems, "summary"):
        # First the step is closed: with it, wandb sets the summary to the last epoch.
        wandb_run.log({"best_epoch": best}, step=history[-1]["update"], commit=True)
        ends = {} if findings is None else interval_ends(findings)
        wandb_run.summary.update({"best_epoch": best, **scores, **ends})
    with _noted(problems, "model"):
        _log_model(wandb_run, run, config, {"epoch": best, "output": config.output, **scores})
    if report is not None:
        with _noted(problems, "report artifact"):
            _log_report(wandb_run, run, config, report)


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Has wandb keep its copies of tables and their photos in the run folder, not in the home folder for ever."""
    former = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
        if former is not None:
            os.environ["WANDB_DATA_DIR"] = former


@contextmanager
def _noted(problems: list[str], part: str) -> Iterator[None]:
    """Turns a failure of a part into a problem."""
    try:
        yield
    except Exception as error:  # wandb raises its own errors, requests', OSError; none may end a run that has trained
        problems.append(f"wandb has no {part}: {error}")


def interval_ends(findings: Findings) -> dict[str, float]:
    """Returns every score as valid/{name}, with _low and _high."""
    return {
        f"valid/{name}{ENDS[part]}": value
        for name, interval in findings.named_scores.items()
        for part, value in vars(interval).items()
    }


def _confusion_matrices(predictions: Predictions) -> dict[str, Any]:
    charts = {}
    for head in predictions.probabilities:
        answers = {"y_true": predictions.truth(head).tolist(), "preds": predictions.predicted(head).tolist()}
        title, classes = f"{head}: truth and prediction", HEAD_CLASSES[head]
        charts[f"results/confusion_{head}"] = wandb.plot.confusion_matrix(**answers, class_names=classes, title=title)
    return charts


def _curves(predictions: Predictions) -> dict[str, Any]:
    """Returns a chart per head, drawn as wandb.plot.pr_curve does; that would need scikit-learn, and takes the wrong
    probabilities when a class is missing among the photos.
    """
    charts = {}
    for head, probabilities in predictions.probabilities.items():
        truth = predictions.truth(head)
        rows = [
            [HEAD_CLASSES[head][label], float(precision), float(recall)]
            for label in np.unique(truth)
            for recall, precision in zip(RECALLS, precisions(probabilities[:, label], truth == label), strict=True)
        ]
        table = wandb.Table(["class", "precision", "recall"], rows)
        axes = {"x": "recall", "y": "precision", "class": "class"}
        titles = {"title": f"{head}: precision and recall", "x-axis-title": "Recall", "y-axis-title": "Precision"}
        charts[f"results/precision_recall_{head}"] = wandb.plot_table("wandb/area-under-curve/v0", table, axes, titles)
    return charts


def precisions(probabilities: np.ndarray, is_class: np.ndarray) -> np.ndarray:
    """Returns the highest precision at a recall of at least each of RECALLS, from (N,) and (N,) bool with one true."""
    order = np.argsort(-probabilities, kind="stable")
    is_last = np.append(np.diff(probabilities[order]) != 0, True)  # photos with equal probabilities come in together
    num_found = np.cumsum(is_class[order])[is_last]
    precision = num_found / (np.flatnonzero(is_last) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return best_from_here[np.searchsorted(num_found / num_found[-1], RECALLS - 1e-9)]


def _mistakes(findings: Findings, run: RunFolder, config: Config, problems: list[str]) -> dict[str, Any]:
    predictions, preprocessing = findings.predictions, run.read_preprocessing()
    height, width = preprocessing.image_size
    scale = THUMBNAIL / max(height, width)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    small = replace(preprocessing, image_size=size, margin=0.0)
    table, unread = wandb.Table([*COLUMNS]), []
    for mistake in findings.worst_mistakes(NUM_MISTAKES):
        photo = None
        try:
            photo = wandb.Image(small.read_file(predictions.photo(mistake.row, config.data_dir)), file_type="jpg")
        except BadPhotos as error:
            unread.append(error)
        truth, answer = HEAD_CLASSES[mistake.head][mistake.truth], HEAD_CLASSES[mistake.head][mistake.predicted]
        file = str(predictions.people[mistake.row]), str(predictions.files[mistake.row])
        counts = mistake.num_wrong, mistake.num_photos
        table.add_data(photo, mistake.head, truth, answer, mistake.confidence, *file, *counts)
    if unread:
        share = f"{len(unread)} of {len(table.data)} mistakes"
        problems.append(f"wandb shows {share} without a photo, the first: {unread[0]}")
    return {"results/worst_mistakes": table}


def _slices(findings: Findings) -> dict[str, Any]:
    names = {score: score.name(findings.predictions.headline) for score in findings.scores}
    ends = ENDS.values()
    by_group = wandb.Table(
        ["group", "value", "photos", "people", *(name + end for name in names.values() for end in ends)]
    )
    for part in findings.slices:
        intervals = [vars(part.scores[score]).values() if score in part.scores else [None] * 3 for score in names]
        by_group.add_data(part.group, part.value, part.num_photos, part.num_people, *chain(*intervals))
    gaps = wandb.Table(["group", "score", "higher", "lower", *(f"difference{end}" for end in ends), "is_clear"])
    for gap in findings.gaps:
        difference = *vars(gap.difference).values(), gap.difference.is_clear
        gaps.add_data(gap.group, names[gap.score], gap.higher, gap.lower, *difference)
    return {"results/slices": by_group, "results/gaps": gaps}


def _log_model(wandb_run: Any, run: RunFolder, config: Config, metadata: dict[str, Any]) -> None:
    """Logs best/ as a version of the experiment's model; its runs (folds too) are versions of one model.

    Nothing is copied: wandb uploads, now or at `wandb sync`, the files of the run folder.
    """
    artifact = wandb.Artifact(_artifact_name(config.name), "model", metadata=metadata)
    artifact.add_dir(str(run.best.resolve()), skip_cache=True, policy="immutable")
    wandb_run.log_artifact(artifact, aliases=["best", _artifact_name(run.path.name)])


def _log_report(wandb_run: Any, run: RunFolder, config: Config, report: Path) -> None:
    copy = Path(wandb_run.dir).parent.resolve() / report.name  # the report may be made again before `wandb sync`
    shutil.copyfile(report, copy)
    artifact = wandb.Artifact(f"{_artifact_name(config.name)}-report", "report")
    artifact.add_file(str(copy), skip_cache=True, policy="immutable")
    wandb_run.log_artifact(artifact, aliases=[_artifact_name(run.path.name)])


def _artifact_name(name: str) -> str:
    """Returns a name that wandb takes: ASCII letters, digits and -_. only, at most 128 with our endings.

    What is lost of other scripts comes back as a short hash, so that 한국 and 중국 stay two models.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")[:NAME_LENGTH]
    if name.isascii() and len(name) <= NAME_LENGTH:
        return clean or "run"
    return "-".join(filter(None, [clean, sha256(name.encode()).hexdigest()[:8]]))
