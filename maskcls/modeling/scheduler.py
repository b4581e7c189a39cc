"""Learning-rate schedules, ours and torch's by name. One step is one optimizer update on every number of processes."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from maskcls.errors import UserError
from maskcls.registry import check_number


def warmup_cosine(
    optimizer: Optimizer,
    *,
    total_updates: int,
    warmup_updates: int | None = None,
    warmup_fraction: float = 0.05,
    min_lr_fraction: float = 0.01,
) -> LRScheduler:
    """Returns a linear rise over warmup_updates (or warmup_fraction of all), then half a cosine down to
    min_lr_fraction of the learning rate. No warm-up at all is fine. Source: Loshchilov and Hutter, arXiv:1608.03983.
    """
    check_number("scheduler_args", "warmup_updates", warmup_updates or 0)
    check_number("scheduler_args", "warmup_fraction", warmup_fraction, most=1)
    check_number("scheduler_args", "min_lr_fraction", min_lr_fraction, most=1)
    warmup = round(warmup_fraction * total_updates) if warmup_updates is None else warmup_updates

    def factor(update: int) -> float:
        if update < warmup:
            return (update + 1) / (warmup + 1)
        progress = min((update - warmup) / max(total_updates - warmup, 1), 1.0)
        return min_lr_fraction + (1 - min_lr_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, *, total_updates: int, warmup_updates: int = 0) -> LRScheduler:
    """Returns a learning rate that stays as it is after a linear rise over warmup_updates."""
    check_number("scheduler_args", "warmup_updates", warmup_updates)
    return LambdaLR(optimizer, lambda update: min((update + 1) / (warmup_updates + 1), 1.0))


def build_scheduler(
    scheduler: Callable[..., LRScheduler], arguments: Mapping[str, Any], optimizer: Optimizer, *, total_updates: int
) -> LRScheduler:
    """Returns the schedule; torch's T_max, total_steps and total_iters are total_updates when left out.

    Raises UserError when the schedule refuses an argument.
    """
    lengths = {"total_updates", "T_max", "total_steps", "total_iters"} & inspect.signature(scheduler).parameters.keys()
    options = {**dict.fromkeys(lengths, total_updates), **arguments}
    try:
        _try_out(scheduler(_apart(optimizer), **options), total_updates)
        return scheduler(optimizer, **options)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"scheduler {scheduler.__name__} cannot be built: {error}") from None


def _apart(optimizer: Optimizer) -> Optimizer:
    """Returns an optimizer of the same weights, whose learning rates are its own."""
    copied = copy.copy(optimizer)
    copied.param_groups = [dict(group) for group in optimizer.param_groups]
    return copied


def _try_out(scheduler: LRScheduler, total_updates: int) -> None:
    """Makes the first and the last step: torch looks at most arguments only when it uses them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no update has been made
        if steps_on_score(scheduler):
            scheduler.step(1.0)  # type: ignore[arg-type]  # here it is no epoch
            return
        scheduler.step()
        scheduler.last_epoch = total_updates - 1
        scheduler.step()


def steps_on_score(scheduler: LRScheduler) -> bool:
    """Returns whether the schedule steps once per validation, on its score, instead of on every update."""
    return isinstance(scheduler, ReduceLROnPlateau)


SCHEDULERS = {"constant": constant, "warmup_cosine": warmup_cosine}
