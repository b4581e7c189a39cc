"""Sheets of labelled photos, as the model sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from maskcls.data.dataset import Photos
from maskcls.labels import HEAD_CLASSES, headline, targets_of
from maskcls.training.batches import NUM_SHOWN, Batches


def batch_pictures(batches: Batches, valid: Photos) -> dict[str, np.ndarray]:
    """Returns the first augmented training photos and some validation photos, as the model sees them."""
    x, first = batches.first_pictures()
    spread = np.linspace(0, len(valid) - 1, min(NUM_SHOWN, len(valid))).astype(int)
    preprocessing, device = batches.augmenter.preprocessing, batches.augmenter.device
    y = preprocessing.pictures(preprocessing.seen(valid.pixels(spread).to(device)))
    return {
        "train/batch": photo_sheet(x, _captions(batches.photos, first, batches.output)),
        "valid/batch": photo_sheet(y, _captions(valid, spread, batches.output)),
    }


def _captions(photos: Photos, positions: np.ndarray, output: str) -> list[str]:
    head = headline(output)
    labels = targets_of(torch.from_numpy(photos.labels[positions]), output)[head]
    return [HEAD_CLASSES[head][label] for label in labels.tolist()]


def photo_sheet(photos: np.ndarray, captions: Sequence[str], *, columns: int = 8) -> np.ndarray:
    """Returns (H, W, 3) uint8: photos (N, h, w, 3) uint8 in rows, each 160 pixels wide with its caption below."""
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
