"""From a photo to stored pixels to what the model sees, and back to a picture: one object, saved with the run.

Training, validation, inference and the report's pictures use the same; what training adds at random is augmenter.py's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from maskcls.data.photo import GREY, BadPhotos, PhotoError, decoded, is_on_its_side, opened
from maskcls.errors import UserError, reason_of
from maskcls.machine import is_accelerator
from maskcls.paths import write_json

# A JPEG may be shrunk while it is decoded (DCT scaling, 2 to 3 times faster) to no less than so many times the pixels
# that are kept: on photos the result differs by less than half a level on average.
DRAFT = 2
STATISTICS = ("mean", "std")


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes what a model sees.

    image_size: (height, width) in pixels that the model sees. fit: squash, pad or crop. crop_box: (left, top, right,
    bottom) as fractions of the photo, or None. margin: stored pixels exceed image_size by this fraction, so that
    training can cut at random; validation and inference see the centre. mean, std: of each colour, 0..1; None until
    they are computed.
    """

    image_size: tuple[int, int]
    fit: str = "squash"
    crop_box: Sequence[float] | None = None
    margin: float = 0.0
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "crop_box", *STATISTICS):  # lists, as in YAML and JSON, cannot be keys of a table
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(map(float, given) if name in STATISTICS else given))

    @classmethod
    def load(cls, path: Path) -> Preprocessing:
        """Returns what `save` wrote. Raises UserError when the file is missing or something else."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path}: {reason_of(error)}") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is not what train.py wrote: {error}") from None

    def save(self, path: Path) -> None:
        """Writes it as JSON, whole or not at all."""
        write_json(path, asdict(self))

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the stored pixels."""
        height, width = self.image_size
        return round(height * (1 + self.margin)), round(width * (1 + self.margin))

    @property
    def stored_as(self) -> dict[str, Any]:
        """What decides about the stored pixels, in a form that JSON can hold: all but mean and std."""
        return {name: value for name, value in asdict(self).items() if name not in STATISTICS}

    @property
    def is_complete(self) -> bool:
        """Whether mean and std are known."""
        return self.mean is not None and self.std is not None

    def with_statistics(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocessing:
        """Returns it with what it lacks of mean and std."""
        return replace(self, mean=self.mean or mean, std=self.std or std)

    # From a photo to stored pixels

    def read(self, photo: Mapping[str, Any]) -> np.ndarray:
        """Returns the stored pixels, (H', W', 3) uint8, of an undecoded Image column's value: its path or its bytes.

        Raises BadPhotos when it is not a whole image.
        """
        try:
            with opened(io.BytesIO(photo["bytes"]) if photo["bytes"] else photo["path"]) as image:
                least = None
                if self.crop_box is None and not is_on_its_side(image):
                    height, width = self.stored_size
                    least = (DRAFT * width, DRAFT * height)
                return self.stored(decoded(image, least=least))
        except PhotoError as error:
            raise BadPhotos(f"{photo['path'] or 'an embedded photo'}: {error}") from None

    def read_file(self, path: Path) -> np.ndarray:
        """Returns the stored pixels of a file. Raises BadPhotos as `read` does."""
        return self.read({"path": str(path), "bytes": None})

    def stored(self, image: Image) -> np.ndarray:
        """Returns (H', W', 3) uint8 of stored_size of RGB: within 1 level of Pillow's antialiased BILINEAR."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last
        height, width = pixels.shape[2:]
        if self.crop_box:
            left, top, right, bottom = self.crop_box
            x0, y0 = min(round(left * width), width - 1), min(round(top * height), height - 1)
            pixels = pixels[:, :, y0 : max(round(bottom * height), y0 + 1), x0 : max(round(right * width), x0 + 1)]
        return _fitted(pixels, self.stored_size, self.fit)[0].permute(1, 2, 0).contiguous().numpy()

    # From stored pixels to what the model sees

    def seen(self, pixels: Tensor) -> Tensor:
        """Returns (B, 3, H, W) float32, the normalised centre of stored pixels (B, H', W', 3) uint8."""
        height, width = self.image_size
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        return self.normalised(pixels[:, top : top + height, left : left + width])

    def normalised(self, x: Tensor, brightness: Tensor | None = None) -> Tensor:
        """Returns (B, 3, H, W) float32, channels last, of x (B, H, W, 3) uint8 times brightness (B,), cut at white."""
        (*_, scale, shift), (batch, height, width, _) = constants_on(self, x.device), x.shape
        rows = torch.empty(batch, height, width * 3, device=x.device)
        # On a CPU photo by photo, so that all passes over one find it in the processor's cache.
        for i in [slice(None)] if is_accelerator(x.device) else range(batch):
            part = rows[i]
            part.view(x[i].shape).copy_(x[i])
            if brightness is not None:
                part.mul_(brightness[i, None, None]).clamp_(max=255)
            torch.addcmul(shift, part, scale, out=part)
        return rows.view(batch, height, width, 3).permute(0, 3, 1, 2)

    def pictures(self, x: Tensor) -> np.ndarray:
        """Returns (B, H, W, 3) uint8, to be shown, of what the model sees, x (B, 3, H, W)."""
        mean, std, *_ = constants_on(self, x.device)
        colours = (x * std + mean) * 255
        return colours.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@lru_cache(maxsize=16)
def constants_on(preprocessing: Preprocessing, device: torch.device) -> list[Tensor]:
    """Returns mean and std, (3, 1, 1), and scale and shift, (W * 3,), that normalise pixels as they lie, row by row.

    They are made once: to make one on a GPU waits for the GPU.
    """
    mean, std = (torch.tensor(getattr(preprocessing, name), device=device)[:, None, None] for name in STATISTICS)
    rows = [row.flatten().repeat(preprocessing.image_size[1]) for row in (1 / (255 * std), -mean / std)]
    return [mean, std, *rows]


def _fitted(pixels: Tensor, size: tuple[int, int], fit: str) -> Tensor:
    """Returns pixels (1, 3, H, W) uint8 resized to `size` = (height, width)."""
    height, width = pixels.shape[2:]
    scale = {"pad": min, "crop": max}.get(fit, max)(size[0] / height, size[1] / width)
    if fit == "crop":  # the largest centred part that has the target's shape
        crop_height, crop_width = max(round(size[0] / scale), 1), max(round(size[1] / scale), 1)
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        pixels = pixels[:, :, top : top + crop_height, left : left + crop_width]
    inner = (max(round(height * scale), 1), max(round(width * scale), 1)) if fit == "pad" else size
    if tuple(pixels.shape[2:]) != inner:
        pixels = interpolate(pixels, inner, mode="bilinear", antialias=True)
    if inner != size:
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        pixels = pad(pixels, (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top), value=GREY)
    return pixels
