"""The only code that runs the model: one epoch of training, and prediction for validation and inference alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer

from maskcls.data.dataset import Photos
from maskcls.data.loader import map_ahead, split_evenly
from maskcls.data.photo import BadPhotos
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.views import VIEWS, View, mean_of_views
from maskcls.evaluation.metrics import Score, measure
from maskcls.labels import head_predictions, head_probabilities, headline, targets_of
from maskcls.machine import threads_ahead
from maskcls.modeling.loss import HeadLosses
from maskcls.modeling.scheduler import steps_on_score
from maskcls.training.average import WeightAverage
from maskcls.training.batches import Batches
from maskcls.training.log_interval import LogInterval, NotFinite
from maskcls.training.sharding import share_buffers

MAX_SKIPPED = 10  # updates of one epoch that nan_policy: skip_update leaves out before it gives up


class Learner:
    """What changes while a run learns, and what it learns by."""

    def __init__(
        self, accelerator: Accelerator, network: nn.Module, model: nn.Module, losses: HeadLosses, optimizer: Optimizer,
        scheduler: Any, *, ema_decay: float | None = None,
    ) -> None:  # fmt: skip
        """network: as it is saved. model, optimizer: what Accelerate makes of them: wrapped, sharded, compiled.

        scheduler: not prepared, a prepared one steps once per process. ema_decay: of the moving average, if any.
        """
        self.accelerator, self.network, self.model, self.losses = accelerator, network, model, losses
        self.optimizer, self.scheduler, self.steps_on_score = optimizer, scheduler, steps_on_score(scheduler)
        self.average = WeightAverage(model, ema_decay) if ema_decay else None
        self.interval = LogInterval(accelerator.device, headline(losses.output))
        self.num_updates = 0  # optimizer updates since the start of the run, skipped ones among them
        self.num_skipped = 0  # updates of this epoch that were skipped because they were not finite

    def averaged(self) -> AbstractContextManager[None]:
        """Puts the moving average, if there is one, into the model for as long as the context lasts."""
        return self.average.applied(self.model) if self.average else nullcontext()

    def validated(self, loss: float) -> None:
        """Steps a schedule that waits for a validation. Raises NotFinite when the loss is no number."""
        if not math.isfinite(loss):
            raise NotFinite(self.num_updates)
        if self.steps_on_score:
            self.scheduler.step(loss)


class EndlessOverflow(NotFinite):
    """fp16 overflowed in update after update, until its scale of the loss was below 1."""


def train_one_epoch(
    learner: Learner, batches: Batches, *, epoch: int, first_update: int = 0, log_interval: int,
    max_grad_norm: float | None, skips_non_finite: bool = False,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """Makes one pass over the photos, from `first_update` on; yields after every update. Collective.

    What it yields is empty, or the means every log_interval updates and at the end. An update whose loss or gradient
    is not finite raises NotFinite when the interval is read; with skips_non_finite it is left out, which costs a
    device sync an update, and only more than MAX_SKIPPED of an epoch raise. With fp16, updates that overflow are left
    out (a device sync an update, too), and EndlessOverflow is raised when no scale of the loss helps.
    """
    learner.model.train()
    learner.num_skipped = learner.num_skipped if first_update else 0
    accelerator, losses, interval, plan = learner.accelerator, learner.losses, learner.interval, batches.plan
    process, loss_scale = accelerator.process_index, _loss_scale(accelerator)
    updates = batches.loaded(epoch, process, first_update=first_update)
    for update in range(first_update + 1, plan.num_updates + 1):
        with interval.waiting():
            micro_batches = next(updates)
        seen = []
        for number, loaded in enumerate(micro_batches, start=1):
            seed_dropout(accelerator.device, plan.seed, learner.num_updates, number, process)
            batch = batches.augmented(loaded, epoch=epoch)
            is_last = number == len(micro_batches)  # gradients meet once per update, not once per micro batch
            with nullcontext() if is_last else accelerator.no_sync(learner.model):
                logits = learner.model(pixel_values=batch.x).logits.float()  # 16 bits when the weights are sharded
                loss_sum = losses.total(losses.per_head(logits, batch.targets)).sum()
                # DDP averages over processes; this makes it the mean over the photos of the whole update.
                accelerator.backward(loss_sum * (accelerator.num_processes / plan.batch_size))
            seen.append((loss_sum.detach(), head_predictions(logits.detach(), losses.output), batch.labels))
        learner.num_updates += 1
        if _is_wanted(learner, [loss_sum for loss_sum, _, _ in seen], max_grad_norm, skips_non_finite):
            for micro_batch in seen:
                interval.add(*micro_batch)
            learner.optimizer.step()
            former_scale, loss_scale = loss_scale, _loss_scale(accelerator)
            if loss_scale < 1:
                raise EndlessOverflow(learner.num_updates)
            if loss_scale >= former_scale:  # lowered: fp16 overflowed, and the optimizer has left the update out
                if not learner.steps_on_score:
                    learner.scheduler.step()
                if learner.average is not None:
                    learner.average.update(learner.model)
        learner.optimizer.zero_grad()
        is_read = update % log_interval == 0 or update == plan.num_updates
        yield interval.close(accelerator, learner.optimizer.param_groups[0]["lr"]) if is_read else {}


def _loss_scale(accelerator: Accelerator) -> float:
    """Returns what fp16 multiplies the loss with, 1 without fp16. A device sync with fp16.

    Accelerate does not see what a fused optimizer leaves out inside its kernel; the scale tells it of every optimizer.
    """
    return accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0


def _is_wanted(
    learner: Learner, loss_sums: Sequence[Tensor], max_grad_norm: float | None, skips_non_finite: bool
) -> bool:
    """Clips the gradient, watches it and the loss, and returns whether the optimizer shall use it. Collective."""
    accelerator, watched = learner.accelerator, sum(loss_sums[1:], loss_sums[0])
    looks_at_norm = accelerator.scaler is None  # fp16's own scale makes gradients overflow, and skips those updates
    skips_non_finite = skips_non_finite and looks_at_norm
    if max_grad_norm is not None or skips_non_finite:
        norm = accelerator.clip_grad_norm_(learner.model.parameters(), max_grad_norm or torch.inf)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        watched = watched + norm if looks_at_norm else watched
    if not skips_non_finite:
        learner.interval.watch(learner.num_updates, watched)
        return True
    if bool(norm.isfinite()):  # the same on every process, unlike the loss: a bad loss spoils the shared gradient
        return True
    learner.num_skipped += 1
    if learner.num_skipped > MAX_SKIPPED:
        raise NotFinite(learner.num_updates)
    if accelerator.is_main_process:
        print(f"skipped update {learner.num_updates}: its gradient is not finite")
    return False


@torch.no_grad()  # no inference_mode: training could not use the memory for gathered weights that a first forward makes
def predict(
    accelerator: Accelerator,
    model: nn.Module,
    photos: Photos,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    views: Sequence[View] = VIEWS["none"],
    progress: Callable[[int], object] = lambda num_photos: None,
) -> Tensor:
    """Returns the logits (N, C) float32 on the CPU, in the order of the photos, the same on every process. Collective.

    views: what the model is shown of each photo, one after the other; the logits are those of all of them.
    Raises BadPhotos, on every process, naming all photos that cannot be read.
    """
    model.eval()
    share_buffers(accelerator, model)
    own = split_evenly(np.arange(len(photos)), accelerator.num_processes)  # the first part is the longest
    mine = own[accelerator.process_index]
    # As many forwards on every process, for all take part in each of a sharded model: a process without photos (or
    # with bad ones) gives it a black one. The first tells how many logits there are.
    num_batches = max(-(-len(own[0]) // batch_size), 1)
    batches = [mine[number * batch_size : (number + 1) * batch_size] for number in range(num_batches)]
    black = torch.zeros(1, *preprocessing.stored_size, 3, dtype=torch.uint8)
    problems: list[str] = []

    def load(batch: np.ndarray) -> Tensor | None:
        try:
            return photos.pixels(batch) if len(batch) else None
        except BadPhotos as error:  # read on: the message names every bad photo
            problems.extend(error.args)
            return None

    logits = []
    loading = map_ahead(load, batches, num_threads=threads_ahead(accelerator.device), ahead=2)
    for batch, loaded in zip(batches, loading, strict=True):
        pixels = (black if loaded is None else loaded).to(accelerator.device, non_blocking=True)
        each = (model(pixel_values=view.seen(preprocessing, pixels)).logits for view in views)
        said = [own.to(torch.float32, copy=True) for own in each]  # CUDA graphs overwrite theirs
        logits.append(mean_of_views(said)[: 0 if loaded is None else None])
        progress(len(batch))
    if problems := gather_object(problems):
        raise BadPhotos(*problems).of_launch()
    gathered = _gathered(accelerator, torch.cat(logits), [len(part) for part in own]).cpu()
    assert len(gathered) == len(photos), f"{len(gathered)} predictions for {len(photos)} photos"
    return gathered


def score(
    logits: Tensor, labels: np.ndarray, losses: HeadLosses | None, *, output: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns (scores, head -> confusion counts) of all gathered logits (N, C) against labels (N, attributes).

    Scores are loss (the criterion's mean over photos; left out without `losses`) and every metric, of the headline and
    of each other head. An attribute without a head of its own has its negative log-likelihood as loss.
    """
    targets = targets_of(torch.from_numpy(labels), output)
    scores: dict[str, float] = {}
    if losses is not None:
        per_head = losses.per_head(logits, targets)
        scores["loss"] = float(losses.total(per_head).mean())
        for head, probabilities in head_probabilities(logits, output).items():
            if head != headline(output):
                truth = probabilities.gather(1, targets[head][:, None]).clamp(min=1e-12)
                scores[Score(head, "loss").name(headline(output))] = float(per_head.get(head, -truth.log()).mean())
    predictions = {head: values.numpy() for head, values in head_predictions(logits, output).items()}
    measured, matrices = measure(predictions, {head: values.numpy() for head, values in targets.items()}, output=output)
    return scores | measured, matrices


def _gathered(accelerator: Accelerator, own: Tensor, lengths: Sequence[int]) -> Tensor:
    """Returns all processes' rows, of the given numbers, one after the other. Collective."""
    if accelerator.num_processes == 1:
        return own
    longest = max(lengths)
    padded = torch.cat([own, own.new_zeros(longest - len(own), own.shape[1])])
    parts = accelerator.gather(padded).split(longest)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def seed_dropout(device: torch.device, seed: int, update: int, number: int, process: int) -> None:
    """Keys the generators that dropout and drop path draw from, so that a resumed run draws what it would have.

    Those of the CPU and of the device alone: torch.manual_seed asks every kind of device that there may be.
    """
    key = (((seed * 1_000_003 + update) * 1_009 + number) * 1_009 + process) % 2**63
    torch.default_generator.manual_seed(key)
    if device.type in ("cuda", "mps", "xpu"):
        torch.get_device_module(device).manual_seed(key)
