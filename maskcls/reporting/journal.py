"""What a person sees of a run while it learns and when it is done: lines, bar, pictures, dashboards, report."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from maskcls.config import Config
from maskcls.data.dataset import FaceData, Photos
from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.selection import NUM_VALIDATED
from maskcls.labels import HEAD_CLASSES, class_counts, headline, targets_of
from maskcls.paths import command, write_json
from maskcls.progress import Progress
from maskcls.reporting import charts, console
from maskcls.reporting.drawing import drawn, pixels
from maskcls.reporting.report.page import write_report
from maskcls.reporting.text import decision_line
from maskcls.training.batches import NUM_SHOWN, Batches
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.state import RunProgress, State, newest_state
from maskcls.training.tracking import Tracking
from maskcls.words import Words

SHOWN_MEANS = ("train/loss", "train/acc", "train/f1")  # in an epoch's line, where nobody validates


class Journal:
    """Tells how a run goes, on the console, in the run folder and in the trackers. In the main process.

    As a context it cuts the log to what the state knows and starts the trackers, and ends them however the run ends.
    """

    def __init__(
        self, config: Config, run: RunFolder, learner: Learner, data: FaceData, batches: Batches, progress: RunProgress,
        *, language: str,
    ) -> None:  # fmt: skip
        self._config, self._run, self._progress = config, run, progress
        self._learner, self._data, self._batches = learner, data, batches
        self._language, self._word = language, Words(language)
        self._has_advised = False
        self._means: Mapping[str, float] = {}  # of the newest log line

    def __enter__(self) -> None:
        if warning := self._run.cut_log(self._progress.log_bytes):
            print(f"warning: {warning}")
        known = self._batches.augmenter.preprocessing
        self._tracking = Tracking.start(self._config.with_statistics(known.mean, known.std), self._run, self._word)
        self._start_epoch(self._progress.epoch, done=self._progress.update)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        self._tracking.__exit__(kind)

    def started(self) -> None:
        """Shows what is about to be learnt from which photos, and writes how many of each class there are."""
        write_json(self._run.class_counts, class_counts(self._data.train.labels))
        self._tracking.log_pictures(_batch_pictures(self._batches, self._data.valid), update=0)
        self._tracking.catch_up()
        print(console.start_lines(self._config, self._data, self._batches.plan, self._learner, self._word))
        print(self._word("start_run", path=self._run.path))
        for note in self._tracking.notes:
            print(f"         {note}")
        if self._progress.epoch > self._config.last_epoch:
            print(console.all_trained_line(self._config, self._word))

    def update(self, values: Mapping[str, float]) -> None:
        """Counts an update, and logs the means since the last log line when there are any."""
        self._bar.update(1, console.update_facts(values, self._word) if values else None)
        if values:
            self._means = values
            self._tracking.log(values, epoch=self._progress.epoch, update=self._learner.num_updates)
            if not self._has_advised:
                uses_cache, accelerator = self._config.cache == "memory_map", self._learner.accelerator
                print(console.advice(values, accelerator, self._word, uses_cache=uses_cache), end="")
                self._has_advised = True

    def epoch(self, scores: Mapping[str, float], matrices: Mapping[str, np.ndarray], *, is_best: bool) -> None:
        """Logs an epoch's validation, and shows its confusion matrices when it is the best so far.

        Where nobody validates, the epoch's line shows the newest means of training.
        """
        self._bar.close()
        epoch, update = self._progress.epoch, self._learner.num_updates
        values = {f"valid/{name}": value for name, value in scores.items()} or {NUM_VALIDATED: 0}
        self._tracking.log(values, epoch=epoch, update=update)
        if is_best and scores:
            picture = drawn(charts.confusion(matrices))
            self._run.confusion_matrix.write_bytes(picture)
            self._tracking.log_pictures({"valid/confusion_matrix": pixels(picture)}, update=update)
        seconds = time.time() - self._epoch_started
        shown = scores or {name: self._means[name] for name in SHOWN_MEANS if name in self._means}
        of_epochs, is_best = self._config.last_epoch, is_best and bool(scores)
        print(console.epoch_line(epoch, of_epochs, shown, self._word, seconds=seconds, is_best=is_best))
        self._start_epoch(epoch + 1)

    def stopped_early(self) -> None:
        """Says that the best epoch lies too far back."""
        self._bar.close()
        patience = self._config.early_stopping_patience
        print(self._word("stopped", criterion=self._config.best_criterion, epochs=patience))

    def finished(self, findings: Findings | None) -> None:
        """Draws the curves, writes the report, adds the results to wandb, and says where everything lies.

        findings: None where nobody validated.
        """
        self._bar.close()
        run, word, notes = self._run, self._word, self._tracking.notes
        run.curves.write_bytes(drawn(charts.curves_sheet(run.history())))
        report = None
        if self._config.report:
            try:
                report = write_report(run, language=self._language, findings=findings)
            except UserError as error:  # as when the disk is full: the run is finished all the same
                notes.append(word("no_report", reason=error, command=command("report", run.path)))
        if self._tracking.wandb_run is not None:
            from maskcls.reporting.dashboard import log_results

            log_results(self._tracking, run, findings, report=report)
        self._tracking.finish()
        best, seconds, config = self._progress.best, self._progress.seconds, self._config
        if config.last_epoch < config.epochs and self._progress.epoch == config.last_epoch + 1:
            print(word("stopped_after", epoch=config.last_epoch, epochs=config.epochs))
        if findings is not None:
            notes.append(decision_line(Decision.load(run.decision), word))
        scores = None if findings is None else findings.named_scores
        print(console.end_lines(run, best, scores, word, seconds=seconds, notes=notes))

    def _start_epoch(self, epoch: int, *, done: int = 0) -> None:
        """Opens the bar of an epoch of which so many updates are done."""
        num_epochs, num_updates = self._config.last_epoch, self._batches.plan.num_updates
        title, unit = self._word("epoch_of", epoch=epoch, epochs=num_epochs), self._word("update")
        is_shown = epoch <= num_epochs
        self._bar = Progress(title, unit, num_updates, done=done, is_shown=is_shown, seconds_between_lines=math.inf)
        self._epoch_started = time.time()


class NoJournal:
    """The journal of every process but the main one."""

    def started(self, *_: object, **__: object) -> None:
        """Does nothing, as all of it does nothing."""

    __enter__ = __exit__ = update = epoch = stopped_early = finished = started


def state_to_resume(launch: Launch, run: RunFolder, word: Words) -> State | None:
    """Returns the newest state of a run (None: it has saved none), and says from where it resumes. Collective.

    Raises UserError as `newest_state` does.
    """
    state, damages = launch.on_main(lambda: newest_state(run))
    launch.say("\n".join([*damages, word("resumed", folder=state.folder) if state else word("starting_again")]))
    return state


def _batch_pictures(batches: Batches, valid: Photos) -> dict[str, np.ndarray]:
    """Returns the first augmented training photos and some validation photos, if any, as the model sees them."""
    x, first = batches.first_pictures()
    output = batches.output
    train_sheet = {"train/batch": _photo_sheet(x, batches.photos.labels[first], output)}
    if not len(valid):
        return train_sheet
    spread = np.linspace(0, len(valid) - 1, min(NUM_SHOWN, len(valid))).astype(int)
    preprocessing, device = batches.augmenter.preprocessing, batches.augmenter.device
    y = preprocessing.pictures(preprocessing.seen(valid.pixels(spread).to(device)))
    return {**train_sheet, "valid/batch": _photo_sheet(y, valid.labels[spread], output)}


def _photo_sheet(photos: np.ndarray, labels: np.ndarray, output: str) -> np.ndarray:
    """Returns (H, W, 3) uint8: photos (N, h, w, 3) uint8 in rows, each 160 pixels wide with its class below."""
    from PIL import Image, ImageDraw

    columns, width, caption_height = 8, 160, 18
    height = round(width * photos.shape[1] / photos.shape[2])
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + caption_height)), "white")
    draw = ImageDraw.Draw(sheet)
    head = headline(output)
    for i, (photo, label) in enumerate(zip(photos, targets_of(labels, output)[head].tolist(), strict=True)):
        left, top = i % columns * (width + 4), i // columns * (height + caption_height)
        sheet.paste(Image.fromarray(photo).resize((width, height)), (left, top))
        draw.text((left + 2, top + height + 3), HEAD_CLASSES[head][label], fill="black")
    return np.asarray(sheet)
