"""What is changed at random in a training photo, and how much: recipes are rows of strengths.

How it is changed, is in augmenter.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskcls.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """Strengths; 0 (1 for min_area) switches a thing off. Geometry and colour follow torchvision's meanings.

    shift: cut image_size out of the stored pixels at random (else at the centre). min_area: instead cut a part of this
    share of the area to 1, of shape 3:4 to 4:3, and resize it. flip: probability of a mirror image. rotation: up to so
    many degrees either way. zoom: scale by 1 +- zoom. stretch: width against height by 1 +- stretch. brightness,
    contrast, saturation: factor 1 +- it. hue: turned by up to so many full circles either way. blur: up to this share
    of the neighbours' mean. erase: probability of a rectangle of 2 to 20 % of the area filled with the mean colour.

    mixup: probability that a pair of photos is blended; cutmix: that a rectangle is exchanged between them;
    half_cutmix: that the right side is, from a share of the width within half_range on. None of the three happens
    after epoch mixing_epochs.
    """

    shift: bool = False
    min_area: float = 1.0
    flip: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    half_cutmix: float = 0.0
    half_range: Sequence[float] = (0.4, 0.6)
    mixing_epochs: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least, most = {"rotation": (0, 180), "half_range": (0, 1), "mixing_epochs": (0, math.inf)}.get(name, (0, 1))
            numbers = value if isinstance(value, Sequence) else [0 if value is None else value]
            if not all(isinstance(number, int | float) and least <= number <= most for number in numbers):
                raise UserError(f"augmentation_args: {name} is {value!r}; it goes from {least} to {most}")
        if len(self.half_range) != 2 or self.half_range[0] > self.half_range[1]:
            raise UserError(f"augmentation_args: half_range is {self.half_range!r}; it is [least, most]")
        if self.mixup + self.cutmix + self.half_cutmix > 1:
            raise UserError("augmentation_args: the probabilities mixup, cutmix and half_cutmix add up to more than 1")

    def __call__(self, **strengths: Any) -> Augmentation:
        """Returns this recipe with other strengths."""
        return replace(self, **strengths)

    @property
    def mixes(self) -> bool:
        """Whether neighbours in a batch are mixed, so that they have to stay together."""
        return self.mixup + self.cutmix + self.half_cutmix > 0


_CUT_AND_FLIP: dict[str, Any] = {"shift": True, "flip": 0.5}

AUGMENTATIONS = {
    "none": Augmentation(),  # training sees what validation sees
    # Small shift, mirror image, slight brightness: what the best public entries on this task found to help.
    "light": Augmentation(**_CUT_AND_FLIP, brightness=0.1),
    # Turned, zoomed and recoloured a little.
    "standard": Augmentation(
        **_CUT_AND_FLIP, rotation=10.0, zoom=0.1, stretch=0.05, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
    ),
    # For training from scratch, where the network has seen nothing else.
    "strong": Augmentation(
        **_CUT_AND_FLIP,
        rotation=15.0,
        zoom=0.2,
        stretch=0.1,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.05,
        blur=0.3,
        erase=0.25,
    ),
}
