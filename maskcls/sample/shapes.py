"""What everything is drawn of: filled areas and lines in head units, and the pose that puts them into a picture.

In head units a face is 2 wide, the eyes lie at y = 0, y points down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from maskcls.sample.people import Colour

BLACK, WHITE = (14, 12, 14), (250, 250, 248)

_CIRCLE = np.stack([np.cos(np.arange(24) * pi / 12), np.sin(np.arange(24) * pi / 12)], axis=1)
_CATMULL_ROM = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
# Weights of a corner's four neighbours at each step of such a curve, (5, 4).
_CURVE_BASIS = (np.arange(5)[:, None] / 5) ** np.arange(4) @ _CATMULL_ROM


@dataclass(frozen=True)
class Shape:
    """A filled area (`width` 0) or a line; `depth` is how far its middle stands out towards the viewer."""

    points: np.ndarray  # (N, 2) float64, head units
    colour: Colour
    depth: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Where a head is: its middle in pixels of the photo, pixels per head unit, angles in radians."""

    x: float
    y: float
    scale: float
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0


def paint(image: Image.Image, shapes: list[Shape], pose: Pose, factor: float) -> None:
    """Draws the shapes in their order; all are placed at once, as placing each alone would take longer than drawing."""
    lengths = [len(shape.points) for shape in shapes]
    x, y = np.concatenate([shape.points for shape in shapes]).T
    bulge = np.repeat([shape.depth for shape in shapes], lengths) * np.sqrt(np.clip(1 - (x / 1.15) ** 2, 0, 1))
    x, y = x * cos(pose.yaw) + bulge * sin(pose.yaw), y + bulge * sin(pose.pitch) - 1  # the head rolls about the chin
    scale = pose.scale * factor
    placed = np.empty((len(x), 2))
    placed[:, 0] = pose.x * factor + scale * (x * cos(pose.roll) - y * sin(pose.roll))
    placed[:, 1] = pose.y * factor + scale * (x * sin(pose.roll) + y * cos(pose.roll) + 1)
    flat = placed.ravel().tolist()
    draw = ImageDraw.Draw(image)
    start = 0
    for shape, length in zip(shapes, lengths, strict=True):
        end = start + 2 * length
        if shape.width:
            draw.line(flat[start:end], fill=shape.colour, width=max(1, round(shape.width * scale)))
        else:
            draw.polygon(flat[start:end], fill=shape.colour)
        start = end


def tone(value: float) -> Colour:
    """Returns a grey, 0..255."""
    return round(value), round(value), round(value)


def both_sides(shapes: list[Shape]) -> list[Shape]:
    """Returns the mirror images of the shapes, then the shapes."""
    return [*(replace(shape, points=shape.points * (-1, 1)) for shape in shapes), *shapes]


def corners(x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """Returns points by their coordinates, (N, 2)."""
    return np.array((x, y), dtype=np.float64).T


def ellipse(x: float, y: float, width: float, height: float, num_points: int = 24) -> np.ndarray:
    """Returns points around a middle, (num_points, 2); width and height are its radii."""
    return _CIRCLE[:: len(_CIRCLE) // num_points] * (width, height) + (x, y)


def curve(x: Sequence[float], y: Sequence[float], closed: bool = False) -> np.ndarray:
    """Returns the smooth curve through these points, (N, 2)."""
    return smooth(corners(x, y), closed)


def outline(x: Sequence[float], y: Sequence[float], closed: bool = True) -> np.ndarray:
    """Returns the curve through these points of the right half and, back on the left, through their mirror images."""
    right = corners(x, y)
    left = right[::-1] * (-1, 1)
    return smooth(np.concatenate([right, left[int(x[-1] == 0) : len(left) - int(x[0] == 0)]]), closed)


def smooth(points: np.ndarray, closed: bool = False) -> np.ndarray:
    """Returns a Catmull-Rom curve through the points, (N, 2)."""
    before, after = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([before, points, after])
    windows = padded[np.arange(len(padded) - 3)[:, None] + np.arange(4)]  # (N, 4, 2)
    return np.concatenate([(_CURVE_BASIS @ windows).reshape(-1, 2), points[:1] if closed else points[-1:]])
