"""Photos to probabilities: what every run of an ensemble says, each photo decoded once for all that see it alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from json import dumps
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskcls.config import Config
from maskcls.data.dataset import Photos
from maskcls.data.loader import split_evenly
from maskcls.data.photo import BadPhotos
from maskcls.data.pixels import DecodedPixels, KeptPixels
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.views import VIEWS, View
from maskcls.errors import UserError, joined
from maskcls.labels import head_probabilities, widths
from maskcls.machine import is_accelerator
from maskcls.modeling.model import attention_for, load_model
from maskcls.training.builders import decoded_pixels
from maskcls.training.loop import predict
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.sharding import prepare_to_predict

BYTES_KEPT = 512 * 2**20  # of decoded pixels, which a process keeps for the other models that see photos alike


@dataclass(frozen=True)
class LoadedRun:
    """A run that can be asked about photos."""

    folder: RunFolder
    config: Config
    preprocessing: Preprocessing
    model: nn.Module  # as Accelerate wraps it


@dataclass(frozen=True)
class Answered:
    """What the runs have said about N photos, the same on every process."""

    said: dict[Path, dict[str, np.ndarray]]  # folder of a run -> head -> probabilities (N, K) float32
    of_one_colour: list[int]  # photos that show nothing


def check_batch_size(batch_size: int | None) -> None:
    """Raises UserError when it is not None and no number of photos."""
    if batch_size is not None and batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}; it is at least 1")


def load_runs(launch: Launch, runs: Sequence[RunFolder]) -> list[LoadedRun]:
    """Returns the runs with their models, a single one's on the device, else in the processor's memory. Collective.

    Raises UserError naming every run that is damaged.
    """
    device = launch.accelerator.device

    def load() -> list[LoadedRun]:
        loaded, problems = [], []
        for run in runs:
            try:
                (_, config), preprocessing = RunFolder.open(run.path), run.read_preprocessing()
                network = load_model(str(run.best), attention=attention_for(device))
                if (width := network.config.num_labels) not in widths(config.output):
                    wanted = f"output {config.output!r} of {run.config}"
                    raise UserError(f"{run.best} has {width} outputs, which are not those of {wanted}")
                loaded.append(LoadedRun(run, config, preprocessing, network))
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError(joined(problems, "runs that cannot answer"))
        return loaded

    loaded = launch.on_each(load)
    for number, run in enumerate(loaded):
        loaded[number] = replace(run, model=prepare_to_predict(launch.accelerator, run.model))
        _make_room(loaded, loaded[number], device)
    return loaded


def ask(
    launch: Launch, runs: Sequence[LoadedRun], photos: Photos, *, batch_size: int | None,
    views: Sequence[View] = VIEWS["none"], progress: Callable[[int], object] = lambda num_photos: None,
) -> Answered:  # fmt: skip
    """Returns what every run says about the photos, in their order. Collective.

    Photos are decoded once for all runs that see them alike, in chunks of no more than BYTES_KEPT; one model is on the
    device at a time. batch_size: photos that a process takes at once; None: each run's valid_batch_size. views: as for
    `predict`. Raises BadPhotos with all photos that cannot be read, and UserError when a run's answers are not finite
    numbers.
    """
    logits: dict[Path, Tensor] = {}
    of_one_colour: set[int] = set()
    for group in _seeing_alike(runs):
        problems: list[str] = []
        reader, own = decoded_pixels(group[0].config, photos.table, group[0].preprocessing), len(photos)
        pixels: KeptPixels | DecodedPixels = reader
        if len(group) > 1:
            pixels = KeptPixels(reader)
            own = num_kept(reader.shape[1:], [batch_size or run.config.valid_batch_size for run in group])
        for part in chunks(len(photos), launch.num_processes, own):
            chunk = replace(photos, rows=photos.rows[part], reader=pixels)
            for run in group[:1] if problems else group:  # the message names the bad photos of all chunks
                try:
                    of_chunk = _logits(launch, runs, run, chunk, batch_size=batch_size, views=views, progress=progress)
                except BadPhotos as error:
                    problems += error.args
                    break
                everything = logits.setdefault(run.folder.path, of_chunk.new_empty(len(photos), of_chunk.shape[1]))
                everything[torch.from_numpy(part)] = of_chunk
            if isinstance(pixels, KeptPixels):
                pixels.forget()
        if problems:
            raise BadPhotos(*problems).of_launch()
        of_one_colour.update(*launch.all_of(reader.of_one_colour))
    _check_finite(launch, runs, logits)
    said = {
        run.folder.path: {
            head: values.numpy()
            for head, values in head_probabilities(logits[run.folder.path], run.config.output).items()
        }
        for run in runs
    }
    return Answered(said, sorted(of_one_colour))


def num_kept(shape: Sequence[int], batch_sizes: Sequence[int]) -> int:
    """Returns how many photos of stored pixels (H', W', 3) a process keeps: whole batches, at least one."""
    largest = max(batch_sizes)
    return max(BYTES_KEPT // int(np.prod(shape)) // largest, 1) * largest


def chunks(num_photos: int, num_processes: int, own: int) -> Iterator[np.ndarray]:
    """Yields positions of photos in parts; of each `split_evenly` gives a process the next `own` of its whole share.

    So the batches are those of all photos at once, when their size divides `own`.
    """
    shares = split_evenly(np.arange(num_photos), num_processes)  # the first is the longest
    for start in range(0, max(len(shares[0]), 1), own):
        yield np.concatenate([share[start : start + own] for share in shares])


def _seeing_alike(runs: Sequence[LoadedRun]) -> list[list[LoadedRun]]:
    """Returns the runs whose photos are decoded alike, together."""

    def seen(run: LoadedRun) -> str:
        return dumps(run.preprocessing.stored_as)

    return [list(group) for _, group in groupby(sorted(runs, key=seen), key=seen)]


def _logits(
    launch: Launch, runs: Sequence[LoadedRun], run: LoadedRun, photos: Photos, *, batch_size: int | None,
    views: Sequence[View], progress: Callable[[int], object],
) -> Tensor:  # fmt: skip
    """Returns the run's logits (N, C), as `predict`, with its model on the device for so long."""
    accelerator, size = launch.accelerator, batch_size or run.config.valid_batch_size
    model = run.model if len(runs) == 1 else run.model.to(accelerator.device)
    try:
        return predict(accelerator, model, photos, run.preprocessing, batch_size=size, views=views, progress=progress)
    finally:
        _make_room(runs, run, accelerator.device)


def _make_room(runs: Sequence[LoadedRun], run: LoadedRun, device: torch.device) -> None:
    """Takes a run's model from the device; the only one stays there."""
    if len(runs) > 1 and is_accelerator(device):
        run.model.to("cpu")


def _check_finite(launch: Launch, runs: Sequence[LoadedRun], logits: Mapping[Path, Tensor]) -> None:
    problems = []
    for run in runs:
        given = logits[run.folder.path]
        if num_broken := int((~given.isfinite().all(1)).sum()):  # every process holds the same
            problems.append(
                f"{run.folder.best} gives {num_broken:,} of {len(given):,} photos answers that are not finite numbers, "
                f"in precision {launch.accelerator.mixed_precision}: nothing was written"
            )
    if problems:
        raise UserError(joined(problems, "runs whose answers are no numbers")).of_launch()
