"""When a run is saved: when it is due, when the run is asked to stop, and when its best epoch is over."""

from __future__ import annotations

import signal
import time

from maskcls.config import Config
from maskcls.errors import Stopped
from maskcls.evaluation.predictions import Predictions
from maskcls.paths import command
from maskcls.training.durable import disk_faults, put_in_place
from maskcls.training.interruption import StopRequest
from maskcls.training.log_interval import NotFinite
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.state import RunProgress, save_state, weights_of, write_model


class Saver:
    """Saves a run. As a context it listens to signals."""

    def __init__(
        self, launch: Launch, learner: Learner, run: RunFolder, progress: RunProgress, *, config: Config, data_key: str
    ) -> None:
        """config, data_key: see save_state."""
        self.progress, self._launch, self._learner, self._run = progress, launch, learner, run
        self._config, self._data_key = config, data_key
        self._every_updates, self._every_minutes = map(config.checkpoint_every, ("updates", "minutes"))
        self._stop = StopRequest()
        self._started, self._saved_at = time.time() - progress.seconds, time.monotonic()

    def __enter__(self) -> None:
        self._stop.listen(may_hang=self._launch.num_processes > 1)

    def __exit__(self, *_: object) -> None:
        self._stop.ignore()

    def save(self) -> None:
        """Writes `last/`. Collective; see save_state."""
        self.progress.seconds = time.time() - self._started
        save_state(self._launch, self._learner, self.progress, self._run, config=self._config, data_key=self._data_key)
        self._saved_at = time.monotonic()

    def save_best(self, predictions: Predictions | None) -> None:
        """Writes `best/` and what it said about the validation photos. Collective.

        predictions: None where nobody has validated it. Raises NotFinite when its weights are not, which a validation
        would have told.
        """
        with self._learner.averaged():
            weights = weights_of(self._learner.model)
        if predictions is None:
            is_broken = not all(value.isfinite().all() for value in weights.values())
            if any(self._launch.largest(int(is_broken))):  # the weights are whole on the main process alone
                raise NotFinite(self._learner.num_updates)

        def write() -> None:
            with put_in_place(self._run.best) as unfinished:
                write_model(self._learner.network, unfinished, weights)
            if predictions is not None:
                with disk_faults(self._run.predictions):
                    predictions.save(self._run.predictions)

        self._launch.on_main(write)

    def update_done(self) -> None:
        """Saves when it is due; saves and raises Stopped when any process was asked to stop. Collective."""
        self.progress.update += 1
        self._leave_or_save(self._is_due())

    def epoch_done(self) -> None:
        """Saves the state between two epochs. Raises Stopped as update_done does. Collective."""
        self.progress.epoch, self.progress.update = self.progress.epoch + 1, 0
        self._leave_or_save(True)

    def _is_due(self) -> bool:
        if self._every_updates:
            return self._learner.num_updates % self._every_updates == 0
        return self._every_minutes is not None and time.monotonic() - self._saved_at >= 60 * self._every_minutes

    def _leave_or_save(self, is_due: bool) -> None:
        self._stop.update_done()
        number, is_due_anywhere = self._launch.largest(self._stop.number, int(is_due))
        if number:
            self._stop.update_done()  # once more: a signal since the first may have begun to time what is a save now
        if number or is_due_anywhere:
            self.save()
        if number:
            raise Stopped(
                f"stopped by {signal.Signals(number).name} after update {self._learner.num_updates}, everything saved. "
                f"To resume: {command('train', '--resume', self._run.path)}"
            )
