"""Views: what a model may be shown of one photo, to answer with the mean of what it says of each.

A view is a part of the stored pixels, so a photo is read and copied to the device once however many there are. Random
changes do not belong here, they are augmenter.py's.

Measured out of fold on 1,320 people (benchmarks/views.py, a small ResNet at 64 pixels; 95 % intervals in pairs over
people): `5` has 0.011 [0.002, 0.020] more macro F1 and 0.011 [0.003, 0.019] more accuracy than one view; `flip` has
0.008 [0.002, 0.015] more accuracy, in F1 the interval of its 0.007 holds 0. The mean is taken before the softmax: after
it, F1 differs by 0.000 [-0.002, 0.002] for `flip` and -0.001 [-0.005, 0.002] for `5`, and every head would need a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError, did_you_mean
from maskcls.machine import is_accelerator


@dataclass(frozen=True)
class View:
    """The middle of the stored pixels, resized to what the model sees.

    size: of that part, as a multiple of image_size: below 1 it is zoomed in, above 1 it shows more of the margin.
    is_mirrored: left and right change places.
    """

    size: float = 1.0
    is_mirrored: bool = False

    def seen(self, preprocessing: Preprocessing, pixels: Tensor) -> Tensor:
        """Returns (B, 3, H, W) float32, normalised, of stored pixels (B, H', W', 3) uint8.

        Beyond the stored pixels, of which a photo without a margin has none to spare, the outermost ones go on.
        """
        x = pixels.permute(0, 3, 1, 2)  # (B, 3, H', W')
        for axis, length in zip((2, 3), preprocessing.image_size, strict=True):
            x = _middle(x, axis, round(length * self.size))
        if tuple(x.shape[2:]) != preprocessing.image_size:
            # A CPU has a quick kernel for bytes, other devices have one for numbers only.
            x = interpolate(x.float() if is_accelerator(x.device) else x, preprocessing.image_size, mode="bilinear")
        return preprocessing.normalised((x.flip(3) if self.is_mirrored else x).permute(0, 2, 3, 1))


def _middle(x: Tensor, axis: int, length: int) -> Tensor:
    """Returns the middle `length` pixels of an axis."""
    first, num_pixels = (x.shape[axis] - length) // 2, x.shape[axis]
    if length <= num_pixels:
        return x.narrow(axis, first, length)
    return x.index_select(axis, torch.arange(first, first + length, device=x.device).clamp(0, num_pixels - 1))


def mean_of_views(logits: Sequence[Tensor]) -> Tensor:
    """Returns the logits (B, C) of all views' (B, C): their mean."""
    return logits[0] if len(logits) == 1 else torch.stack(list(logits)).mean(0)


def views_of(name: str) -> Sequence[View]:
    """Returns a row of VIEWS. Raises UserError when there is none of this name."""
    if name not in VIEWS:
        raise UserError(f"unknown tta {name!r}.{did_you_mean(name, list(VIEWS))} Known: {', '.join(VIEWS)}")
    return VIEWS[name]


_CENTRE, _MIRRORED = View(), View(is_mirrored=True)

VIEWS: dict[str, Sequence[View]] = {
    "none": (_CENTRE,),  # what training validates with
    "flip": (_CENTRE, _MIRRORED),
    "5": (_CENTRE, _MIRRORED, View(size=0.9), View(size=1.1), View(size=1.1, is_mirrored=True)),
}
