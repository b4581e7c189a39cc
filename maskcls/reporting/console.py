"""The lines that train.py and infer.py print, and the one progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from maskcls.config import Config
from maskcls.data.dataset import FaceData
from maskcls.data.loader import BatchPlan
from maskcls.evaluation.selection import BestScore
from maskcls.labels import AGE_GROUPS, GENDERS, MASKS, encode_class
from maskcls.training.run_folder import RunFolder


def split_table(labels: np.ndarray, splits: Mapping[str, np.ndarray], people: Mapping[str, int]) -> str:
    """Returns the people and the photos per class of each split; labels (N, 3), splits: name -> rows."""
    counts = {
        name: np.bincount(encode_class(*labels[rows].T), minlength=18).reshape(3, 2, 3) for name, rows in splits.items()
    }
    head = f"{'photos':>22}" + "".join(f"{f'{gender} {age}':>14}" for gender in GENDERS for age in AGE_GROUPS)
    lines = [head]
    for name, count in counts.items():
        for mask, mask_name in enumerate(MASKS):
            cells = "".join(f"{number:>14,}" for number in count[mask].flatten())
            lines.append(f"{name:>11} {mask_name:>10}{cells}")
        lines.append(f"{name:>11} {'all':>10}  {people[name]:,} people, {len(splits[name]):,} photos")
    return "\n".join(lines)


def start_lines(config: Config, data: FaceData, plan: BatchPlan, accelerator: Accelerator, network: nn.Module) -> str:
    """Returns what a person wants to see before a run starts: on which photos, what runs where, and how it is split."""
    height, width = config.height_width
    rows = {"train": data.train_rows, "valid": data.valid_rows}
    people = {name: len(data.people(split)) for name, split in rows.items()}
    share = plan.batch_size / plan.num_devices / plan.num_accumulated
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    num_passed_over = data.num_passed_over
    return "\n".join([
        split_table(data.labels(), rows, people),
        f"passed over {num_passed_over} hidden or non-image files" if num_passed_over else "every file is a photo",
        *([f"labels   {data.num_corrected_photos} photos of {data.num_corrected_people} people corrected by "
           f"{config.label_fixes}; {data.num_unmatched_fixes} rows match no folder"] if config.label_fixes else []),
        f"model    {config.model}, {num_parameters:,} parameters, {height} x {width} pixels, output {config.output}",
        f"devices  {plan.num_devices} x {accelerator.device.type}, precision {accelerator.mixed_precision}",
        f"update   {plan.batch_size} photos = {plan.num_devices} devices x {plan.num_accumulated} passes x {share:g}; "
        f"{plan.num_updates} updates an epoch, {config.epochs} epochs",
    ])  # fmt: skip


def epoch_bar(epoch: int, num_epochs: int, num_updates: int, first_update: int, *, is_shown: bool) -> tqdm[NoReturn]:
    """Returns the progress bar of one epoch, over its updates; first_update of them are done."""
    title = f"epoch {epoch}/{num_epochs}"
    return tqdm(total=num_updates, initial=first_update, desc=title, unit="update", disable=not is_shown, leave=False)


def postfix(values: Mapping[str, float]) -> dict[str, str]:
    """Returns what the progress bar shows beside time and ETA."""
    return {
        "loss": f"{values['train/loss']:.3f}", "lr": f"{values['train/lr']:.1e}",
        "images/s": f"{values['train/images_per_second']:.0f}", "waiting": f"{values['train/waiting_share']:.0%}",
    }  # fmt: skip


def advice(values: Mapping[str, float], accelerator: Accelerator, *, uses_cache: bool) -> str:
    """Returns a line when the first interval shows time that a setting would save, else nothing."""
    lines = []
    if values["train/waiting_share"] > 0.1:
        setting = "put cache_dir on a faster disk" if uses_cache else "set cache: memory_map, or raise num_workers"
        lines.append(f"{values['train/waiting_share']:.0%} of the time waits for photos: {setting}")
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no" and _has_bf16():
        lines.append("this processor has bf16: --config_file accelerate_configs/cpu.yaml trains 1.5 to 2 times faster")
    return "".join(f"advice   {line}\n" for line in lines)


def _has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def epoch_line(epoch: int, num_epochs: int, scores: Mapping[str, float], *, seconds: float, is_best: bool) -> str:
    """Returns one epoch's validation in a line, with the names of metrics.jsonl."""
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    return f"epoch {epoch}/{num_epochs}  {numbers}  {duration(seconds)}{'  best' if is_best else ''}"


def end_lines(run: RunFolder, best: BestScore, *, seconds: float, notes: Sequence[str]) -> str:
    """Returns the best score, where things lie, and the next command to type."""
    return "\n".join(
        [
            f"best valid/{best.criterion} {best.value:.4f} in epoch {best.epoch}; {duration(seconds)} in all",
            f"model {run.best}, pictures {run.path / 'confusion_matrix.png'} and {run.path / 'curves.png'}",
            *notes,
            f"next: python infer.py --model_dir {run.path}",
        ]
    )


def duration(seconds: float) -> str:
    """Returns 42 s, 3 min 20 s or 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
