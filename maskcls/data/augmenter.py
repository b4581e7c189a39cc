"""Stored uint8 pixels -> what the model sees: random cut, flip, turn, colour, erasing; batched, on the training device.

Every random number is keyed by (seed, epoch, photo, draw): a photo gets the same picture in an epoch whatever batch,
device or process it meets. augmentation.py says what is changed, and how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from maskcls.data.augmentation import Augmentation
from maskcls.data.preprocessing import Preprocessing, constants_on
from maskcls.machine import is_accelerator

# Draws of one photo, by name -> column of keyed_uniform's result.
DRAWS = (
    "top", "left", "area", "ratio", "flip", "turn", "zoom", "stretch",
    "brightness", "contrast", "saturation", "hue", "blur",
    "erase", "erase_area", "erase_ratio", "erase_top", "erase_left", "mix", "mix_share", "mix_top", "mix_left",
)  # fmt: skip


def keyed_uniform(photos: Tensor, num_draws: int, *, seed: int, epoch: int) -> Tensor:
    """Returns (B, num_draws) float32 in [0, 1), a pure function of (seed, epoch, photo, draw) on any device.

    photos: (B,) int64. Source: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), applied once per key.
    """
    draws = torch.arange(num_draws, device=photos.device)
    start = _mixed_number(_mixed_number(seed) + epoch)
    keys = _mixed(_mixed(photos + (start - 2**64 if start >= 2**63 else start))[:, None] + draws)
    return ((keys >> 40) & 0xFFFFFF).float() / 2**24  # 24 bits: what float32 holds


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's step on int64, whose products wrap around; `& mask` makes the shifts logical."""
    x = x + -0x61C8864680B583EB  # the golden ratio, 0x9E3779B97F4A7C15
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & (2**33 - 1))


def _mixed_number(x: int) -> int:
    """The same step on one number, 0 to 2**64 - 1: in Python it costs no launch and no device sync."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


class Augmenter:
    """Applies an augmentation to stored pixels, and what follows in every case: their preprocessing."""

    def __init__(
        self, augmentation: Augmentation, preprocessing: Preprocessing, *, seed: int, device: torch.device
    ) -> None:
        self.augmentation, self.preprocessing, self.seed, self.device = augmentation, preprocessing, seed, device
        # Constants are made once: to make one on a GPU waits for the GPU.
        self._mean, self._std, *_ = constants_on(preprocessing, device)
        to_yiq = [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
        self._to_yiq = torch.tensor(to_yiq, device=device)
        self._from_yiq, self._luma = torch.linalg.inv(self._to_yiq), self._to_yiq[0]

    def augmented(self, pixels: Tensor, photos: Tensor, *, epoch: int) -> Tensor:
        """Returns (B, 3, H, W) float32, augmented and normalised, of stored pixels; photos (B,) key the draws."""
        strength = self.augmentation
        if strength == Augmentation():
            return self.preprocessing.seen(pixels)
        draws = keyed_uniform(photos, len(DRAWS), seed=self.seed, epoch=epoch)
        draw = dict(zip(DRAWS, draws.unbind(1), strict=True))
        is_part, is_turned = strength.min_area < 1, strength.rotation or strength.zoom or strength.stretch
        if is_turned or (is_part and is_accelerator(pixels.device)):
            x = self._coloured(self._turned(pixels.permute(0, 3, 1, 2), draw), draw)
        else:
            x = (self._resized_parts if is_part else self._cut)(pixels, draw)
            x = _mirrored(x, draw["flip"] < strength.flip)
            if strength.contrast or strength.saturation or strength.hue:
                x = self._coloured(x.permute(0, 3, 1, 2), draw)
            else:
                x = self.preprocessing.normalised(x, 1 + (draw["brightness"] * 2 - 1) * strength.brightness)
        x = _blurred(x, draw["blur"] * strength.blur) if strength.blur else x
        return self._erased(x, draw) if strength.erase else x

    def _cut(self, pixels: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Returns (B, H, W, 3) uint8: windows of the stored pixels."""
        height, width = self.preprocessing.image_size
        spare_top, spare_left = pixels.shape[1] - height, pixels.shape[2] - width
        shift = self.augmentation.shift
        tops = (draw["top"] * (spare_top + 1)).long() if shift else torch.full_like(draw["top"], spare_top // 2).long()
        lefts = (draw["left"] * (spare_left + 1)).long() if shift else torch.full_like(tops, spare_left // 2)
        if is_accelerator(pixels.device):  # one gather; a loop of copies would launch a kernel per photo
            rows = (tops[:, None] + torch.arange(height, device=pixels.device))[:, :, None]
            columns = (lefts[:, None] + torch.arange(width, device=pixels.device))[:, None, :]
            return pixels[torch.arange(len(pixels), device=pixels.device)[:, None, None], rows, columns]
        windows = pixels.new_empty(len(pixels), height, width, 3)
        for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
            windows[i] = pixels[i, top : top + height, left : left + width]
        return windows

    def _part(self, stored_size: Sequence[int], draw: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Returns top, left, height, width, (B,) float32 each, in stored pixels: RandomResizedCrop's part.

        Source: Szegedy et al., arXiv:1409.4842, as in torchvision, but clamped to the photo instead of drawn again.
        """
        stored_height, stored_width = stored_size
        least = self.augmentation.min_area
        area = (least + (1 - least) * draw["area"]) * stored_height * stored_width
        ratio = torch.exp((draw["ratio"] * 2 - 1) * math.log(4 / 3)) * stored_width / stored_height
        height = (area / ratio).sqrt().clamp(max=stored_height)
        width = (area * ratio).sqrt().clamp(max=stored_width)
        return draw["top"] * (stored_height - height), draw["left"] * (stored_width - width), height, width

    def _resized_parts(self, pixels: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Returns (B, H, W, 3) uint8: a random part of each photo, resized antialiased; for CPUs."""
        parts = torch.stack(self._part(pixels.shape[1:3], draw), 1).round().int().tolist()
        resized = pixels.new_empty(len(pixels), *self.preprocessing.image_size, 3)
        for i, (top, left, height, width) in enumerate(parts):
            part = pixels[i : i + 1, top : top + max(height, 1), left : left + max(width, 1)].permute(0, 3, 1, 2)
            part = interpolate(part, self.preprocessing.image_size, mode="bilinear", antialias=True)
            resized[i] = part[0].permute(1, 2, 0)
        return resized

    def _turned(self, x: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Returns (B, 3, H, W) float32, 0..255: cut, flip, rotation, zoom and stretch in one sampling step."""
        strength = self.augmentation
        stored_height, stored_width = x.shape[2:]
        height, width = self.preprocessing.image_size
        angle = (draw["turn"] * 2 - 1) * math.radians(strength.rotation)
        zoom = 1 + (draw["zoom"] * 2 - 1) * strength.zoom
        stretch = 1 + (draw["stretch"] * 2 - 1) * strength.stretch
        mirror = 1 - 2 * (draw["flip"] < strength.flip).float()
        # Output pixel (u, v), in pixels from the centre, shows the stored pixel A (u, v) + offset.
        along_x, along_y = mirror / (zoom * stretch), 1 / zoom
        offset_x = (draw["left"] - 0.5) * (stored_width - width) * strength.shift
        offset_y = (draw["top"] - 0.5) * (stored_height - height) * strength.shift
        if strength.min_area < 1:
            top, left, part_height, part_width = self._part((stored_height, stored_width), draw)
            along_x, along_y = along_x * part_width / width, along_y * part_height / height
            offset_x, offset_y = left + part_width / 2 - stored_width / 2, top + part_height / 2 - stored_height / 2
        a, b = along_x * angle.cos(), -along_y * angle.sin()
        c, d = along_x * angle.sin(), along_y * angle.cos()
        # torch measures both pictures in halves of their own width and height.
        first = torch.stack([a * width / stored_width, b * height / stored_width, offset_x * 2 / stored_width], 1)
        second = torch.stack([c * width / stored_height, d * height / stored_height, offset_y * 2 / stored_height], 1)
        theta = torch.stack([first, second], 1)
        grid = affine_grid(theta, [len(x), 3, height, width], align_corners=False)
        return grid_sample(x.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _coloured(self, x: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Returns x with its colours changed and normalised, float32.

        All four changes and the normalisation are one affine map of (red, green, blue): one 3x3 product per pixel.
        """
        strength = self.augmentation
        mean, std, luma = self._mean, self._std, self._luma
        batch, (height, width) = len(x), x.shape[2:]
        x = x.to(torch.float32, memory_format=torch.contiguous_format)

        def factor(name: str) -> Tensor:
            return 1 + (draw[name] * 2 - 1)[:, None, None] * getattr(strength, name)

        identity = torch.eye(3, device=x.device)
        matrix = factor("brightness") * identity.expand(batch, 3, 3)
        offset = x.new_zeros(batch, 3, 1)
        if strength.contrast:  # towards the mean luma of the photo, as Pillow and torchvision do
            grey = (x.mean((2, 3)) @ luma)[:, None, None] * factor("brightness")
            matrix, offset = factor("contrast") * matrix, ((1 - factor("contrast")) * grey).expand(batch, 3, 1)
        if strength.saturation:
            towards = factor("saturation") * identity + (1 - factor("saturation")) * luma.expand(3, 3)
            matrix, offset = towards @ matrix, towards @ offset
        if strength.hue:
            turn = self._from_yiq @ _plane_rotation((draw["hue"] * 2 - 1) * strength.hue) @ self._to_yiq
            matrix, offset = turn @ matrix, turn @ offset
        scale = 1 / (255 * std[:, :, 0])  # (3, 1)
        x = torch.baddbmm(offset * scale - mean[:, :, 0] / std[:, :, 0], matrix * scale, x.flatten(2))
        x = x.unflatten(2, (height, width))
        return torch.minimum(torch.maximum(x, -mean / std), (1 - mean) / std)

    def _erased(self, x: Tensor, draw: dict[str, Tensor]) -> Tensor:
        height, width = x.shape[2:]
        area = (0.02 + 0.18 * draw["erase_area"]) * height * width
        ratio = torch.exp((draw["erase_ratio"] * 2 - 1) * math.log(3.3))
        box_height, box_width = (area * ratio).sqrt().clamp(max=height), (area / ratio).sqrt().clamp(max=width)
        inside = _box(x, draw["erase_top"], draw["erase_left"], box_height, box_width)
        return x.masked_fill(inside & (draw["erase"] < self.augmentation.erase)[:, None, None, None], 0.0)

    def mixed(
        self, x: Tensor, targets: dict[str, Tensor], photos: Tensor, *, epoch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns x and the soft targets, head -> (B, K), with neighbours (0 and 1, 2 and 3, ...) mixed pairwise."""
        strength = self.augmentation
        is_over = strength.mixing_epochs is not None and epoch > strength.mixing_epochs
        if not strength.mixes or is_over or len(x) < 2:
            return x, targets
        partner = torch.arange(len(x), device=x.device) ^ 1
        partner = torch.where(partner < len(x), partner, partner - 1)  # the last of an odd number is alone
        draws = keyed_uniform(torch.minimum(photos, photos[partner]), len(DRAWS), seed=self.seed, epoch=epoch)
        draw = dict(zip(DRAWS, draws.unbind(1), strict=True))
        is_blend = draw["mix"] < strength.mixup
        is_cut = ~is_blend & (draw["mix"] < strength.mixup + strength.cutmix)
        is_half = ~is_blend & ~is_cut & (draw["mix"] < strength.mixup + strength.cutmix + strength.half_cutmix)

        height, width = x.shape[2:]
        share = 0.5 + 0.5 * draw["mix_share"]  # each keeps the greater part of itself
        side = (1 - share).sqrt()
        cut = _box(x, draw["mix_top"], draw["mix_left"], side * height, side * width)
        first, last = strength.half_range
        edge = ((first + (last - first) * draw["mix_share"]) * width).round()
        half = (torch.arange(width, device=x.device) >= edge[:, None])[:, None, None, :].expand_as(cut)
        given = (cut & is_cut[:, None, None, None]) | (half & is_half[:, None, None, None])  # pixels of the partner
        own = torch.where(is_blend[:, None, None, None], share[:, None, None, None], 1 - given.float())
        kept = own.mean((1, 2, 3))[:, None]
        x = own * x + (1 - own) * x[partner]
        return x, {head: kept * target + (1 - kept) * target[partner] for head, target in targets.items()}


def _mirrored(x: Tensor, is_mirrored: Tensor) -> Tensor:
    """Returns x (B, H, W, 3), those photos mirrored; on a CPU one by one, a form for which torch has a fast kernel."""
    if is_accelerator(x.device):
        return torch.where(is_mirrored[:, None, None, None], x.flip(2), x)
    for i in is_mirrored.nonzero().flatten().tolist():
        x[i] = x[i : i + 1].permute(0, 3, 1, 2).flip(3)[0].permute(1, 2, 0)
    return x


def _blurred(x: Tensor, share: Tensor) -> Tensor:
    """Returns x (B, 3, H, W), each pixel moved by share (B,) towards the mean of its neighbours, along both axes."""
    for axis in (2, 3):
        last = x.shape[axis] - 1
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
        after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        x = torch.lerp(x, (before + after) / 2, share[:, None, None, None])
    return x


def _box(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Returns (B, 1, H, W) bool: inside each photo's rectangle, placed by top and left in [0, 1)."""
    height, width = height.round(), width.round()
    first_row, first_column = (top * (x.shape[2] - height + 1)).floor(), (left * (x.shape[3] - width + 1)).floor()
    rows = torch.arange(x.shape[2], device=x.device)[None, :]
    columns = torch.arange(x.shape[3], device=x.device)[None, :]
    in_rows = (rows >= first_row[:, None]) & (rows < (first_row + height)[:, None])
    in_columns = (columns >= first_column[:, None]) & (columns < (first_column + width)[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _plane_rotation(turns: Tensor) -> Tensor:
    """Returns (B, 3, 3): YIQ's colour plane turned by so many full circles, its brightness kept."""
    cos, sin = (turns * 2 * math.pi).cos(), (turns * 2 * math.pi).sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).unflatten(1, (3, 3))
