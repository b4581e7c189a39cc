"""Pictures of a run: confusion matrices, curves, and sheets of labelled photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskcls.data.augmentation import Transform
from maskcls.data.loader import BatchPlan
from maskcls.labels import HEAD_CLASSES, headline, targets_of
from maskcls.reporting.figure import new_figure
from maskcls.training.loop import Photos

NUM_BATCH_PHOTOS = 16


def confusion_picture(matrices: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns (H, W, 3) uint8: one panel per head, rows are the truth; colour is the share of the row."""
    names = list(matrices)
    if len(names) > 1:  # the 18 classes at the left, the heads below each other at the right
        figure = new_figure(figsize=(15, 11), layout="constrained")
        panels = figure.subplot_mosaic([[names[0], head] for head in names[1:]], width_ratios=[3, 1])
    else:
        figure = new_figure(figsize=(11, 11) if len(matrices[names[0]]) > 3 else (5, 5), layout="constrained")
        panels = {names[0]: figure.subplots()}
    for head, matrix in matrices.items():
        axes, classes = panels[head], HEAD_CLASSES[head]
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(classes)), classes, rotation=90 if len(classes) > 3 else 0, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        axes.set(
            xlabel="predicted", ylabel="truth", title=f"{head}: {np.trace(matrix) / max(matrix.sum(), 1):.1%} right"
        )
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{number}", ha="center", va="center", fontsize=7, color=colour)
    return _pixels(figure)


def curves_picture(history: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Returns (H, W, 3) uint8: loss, headline scores, every head's accuracy, and learning rate, from metrics.jsonl."""
    train = [line for line in history if "train/loss" in line]
    valid = [line for line in history if "valid/loss" in line]
    figure = new_figure(figsize=(13, 7), layout="constrained")
    panels = {
        "loss": (["train/loss", "valid/loss"], None),
        "headline": (["train/acc", "valid/acc", "train/f1", "valid/f1"], (0, 1)),
        "heads": (sorted({name for line in valid for name in line if name.endswith("_acc")}), (0, 1)),
        "learning rate": (["train/lr"], None),
    }
    for axes, (title, (names, limits)) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name in names:
            lines = train if name.startswith("train") else valid
            updates, values = zip(*((line["update"], line[name]) for line in lines), strict=True)
            axes.plot(updates, values, label=name, **({"marker": "."} if lines is valid else {"alpha": 0.6}))
        axes.set(title=title, xlabel="update", ylim=limits)
        axes.grid(alpha=0.3)
        if names:
            axes.legend(fontsize=8)
    return _pixels(figure)


def batch_pictures(
    train: Photos, valid: Photos, transform: Transform, plan: BatchPlan, output: str
) -> dict[str, np.ndarray]:
    """Returns the first augmented training photos and some validation photos, as the model sees them."""
    x, first = first_batch(train, transform, plan)
    device = transform.mean.device
    spread = np.linspace(0, len(valid.rows) - 1, min(16, len(valid.rows))).astype(int)
    y = transform.plain(valid.pixels(valid.rows[spread]).to(device))
    return {
        "train/batch": photo_sheet(x, _captions(train, first, output)),
        "valid/batch": photo_sheet(_as_photos(y, transform), _captions(valid, spread, output)),
    }


def first_batch(train: Photos, transform: Transform, plan: BatchPlan) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first augmented training photos, (N, H, W, 3) uint8, and their positions in the split (N,)."""
    keys = plan.order(1)[: min(NUM_BATCH_PHOTOS, plan.batch_size)]
    positions = keys % plan.num_photos
    device = transform.mean.device
    photos = torch.from_numpy(keys).to(device)
    x = transform.augmented(train.pixels(train.rows[positions]).to(device), photos, epoch=1)
    x, _ = transform.mixed(x, {}, photos, epoch=1)
    return _as_photos(x, transform), positions


def _as_photos(x: torch.Tensor, transform: Transform) -> np.ndarray:
    """Returns (B, H, W, 3) uint8 of normalised x (B, 3, H, W)."""
    colours = (x * transform.std + transform.mean) * 255
    return colours.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _captions(photos: Photos, positions: np.ndarray, output: str) -> list[str]:
    assert photos.labels is not None
    head = headline(output)
    return [HEAD_CLASSES[head][label] for label in targets_of(photos.labels[positions], output)[head].tolist()]


def photo_sheet(photos: np.ndarray, captions: Sequence[str], *, columns: int = 8) -> np.ndarray:
    """Returns (H, W, 3) uint8: photos (N, h, w, 3) uint8 in rows, each 160 pixels wide with its caption below.

    With Pillow: a run starts with such sheets, and matplotlib would take a second of its start.
    """
    from PIL import Image, ImageDraw

    width, caption_height = 160, 18
    height = round(width * photos.shape[1] / photos.shape[2])
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + caption_height)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (photo, caption) in enumerate(zip(photos, captions, strict=True)):
        left, top = i % columns * (width + 4), i // columns * (height + caption_height)
        sheet.paste(Image.fromarray(photo).resize((width, height)), (left, top))
        draw.text((left + 2, top + height + 3), caption, fill="black")
    return np.asarray(sheet)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 as a PNG."""
    from PIL import Image

    Image.fromarray(picture).save(path)


def _pixels(figure: Any) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
