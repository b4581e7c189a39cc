"""What goes wrong while a run learns, as messages that name the cause and what to set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from maskcls.config import Config
from maskcls.data.dataset import FaceData
from maskcls.data.loader import BatchPlan
from maskcls.data.photo import BadPhotos
from maskcls.data.pixels import DevicePixels
from maskcls.errors import Fault, is_out_of_memory, listed, reason_of
from maskcls.machine import peak_memory_gb
from maskcls.paths import command
from maskcls.program import is_closed
from maskcls.training.batches import Batches
from maskcls.training.log_interval import NotFinite
from maskcls.training.loop import EndlessOverflow, Learner
from maskcls.training.processes import raise_if_left_alone
from maskcls.training.run_folder import RunFolder, write_lines


@contextmanager
def faults_as_messages(
    config: Config, learner: Learner, data: FaceData, batches: Batches, run: RunFolder | None
) -> Iterator[None]:
    """Turns what the training loop raises into messages.

    run: the one that resumes from its folder; None: it is only tried out.

    Raises Fault, is_shared for what every process sees.
    """
    resume = f" To resume: {command('train', '--resume', run.path)}" if run else ""
    try:
        yield
    except EndlessOverflow as error:
        raise Fault(
            f"fp16 overflowed in update {error.update} and before, however little the loss was scaled up. Start with "
            f"--mixed_precision bf16 (or no, on GPUs without bf16), or lower lr.{resume}"
        ).of_launch() from None
    except NotFinite as error:
        what = _broken_update(config, learner, batches, run, error.update)
        raise Fault(f"{what}.{resume}").of_launch() from None
    except BadPhotos as error:
        fault = Fault(f"{error}.{resume}")
        raise (fault.of_launch() if error.is_shared else fault) from None
    except OSError as error:
        reader_left = isinstance(error, BrokenPipeError) and is_closed(sys.stdout)
        where = error.filename or ("standard output" if reader_left else run and run.path)
        saved = " The last state that was saved is whole." if run and run.last.exists() else ""
        raise Fault(f"{where}: {reason_of(error)}.{saved}{resume}") from None
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            what, setting = _out_of_memory(config, learner, data, batches.plan)
            raise Fault(f"{what}.{resume}{f' {setting}' if resume and setting else ''}") from None
        if isinstance(error, RuntimeError):
            raise_if_left_alone(error)
        raise


def _out_of_memory(config: Config, learner: Learner, data: FaceData, plan: BatchPlan) -> tuple[str, str]:
    """Returns what is known about memory that was not there, and what to set, key=value, if a setting helps."""
    device, reader = learner.accelerator.device, data.train.reader
    if learner.model.training:
        where, key, same = f"in update {learner.num_updates + 1}", "max_device_batch_size", "updates"
        photos, least = -(-plan.batch_size // (plan.num_processes * plan.num_accumulated)), plan.unit
    else:
        where, key, same = f"in the prediction after update {learner.num_updates}", "valid_batch_size", "answers"
        photos, least = min(config.valid_batch_size, -(-len(data.valid) // plan.num_processes)), 1
    setting, mends = "", []
    if photos > least:
        setting = f"{key}={max(photos // 2, least)}"
        mends.append(f"Set {setting}: the {same} stay the same")
    if isinstance(reader, DevicePixels):
        kept = np.prod(reader.shape) / 1e9
        mends.append(f"cache=none leaves {kept:.1f} GB of photos out of {device}, and decodes them in every epoch")
    mends = mends or ["Set a smaller image_size or a smaller model"]
    return (
        f"{device} ran out of memory {where}, with {photos} photo{'s' * (photos > 1)} at once, after a peak of "
        f"{peak_memory_gb(device):.2f} GB. {'; '.join(mends)}"
    ), setting


def _broken_update(config: Config, learner: Learner, batches: Batches, run: RunFolder | None, update: int) -> str:
    """Returns what is known about an update of the run (from 1) whose loss is not finite; writes its photos' names."""
    num_updates = batches.plan.num_updates
    epoch, number = (update - 1) // num_updates + 1, (update - 1) % num_updates + 1
    photos = batches.paths(epoch, number)
    file = run.not_finite(update) if run else None
    if file and learner.accelerator.is_main_process:
        write_lines(file, photos)
    named = listed("/".join(Path(photo).parts[-2:]) for photo in photos)
    where = f", all in {file}" if file else ""
    saved = " The saved state is from before it." if run and run.last.exists() else ""
    return (
        f"the loss or gradient of update {update} (epoch {epoch}, update {number} of {num_updates}) is not "
        f"finite. Its photos: {named}{where}.{saved} Lower lr, or set max_grad_norm=1"
        + ("" if config.nan_policy == "skip_update" else ", or nan_policy=skip_update")
    )
