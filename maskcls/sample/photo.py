"""Draws photo-like pictures of a made-up person.

Shapes are drawn at twice the photo's size and shrunk. What is soft (the form of the face, the light and its colour) is
a map, painted at a quarter of the photo's size, blurred, enlarged and multiplied. Who the people are, files and folders
do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from maskcls.sample import clothes, face, hair
from maskcls.sample.people import Person
from maskcls.sample.shapes import Pose, paint, tone

WIDTH, HEIGHT = 384, 512  # pixels, as the real photos

_DRAWING_FACTOR = 2  # drawn at this multiple of the photo's size: shrinking smooths every edge
_FORM_FACTOR = 0.25
_NEUTRAL_BITS = 7  # the value 2 ** 7 in the form map leaves a pixel as it is


def make_noise(generator: np.random.Generator) -> np.ndarray:
    """Returns sensor noise, (3/2 HEIGHT, 3/2 WIDTH, 3) int16. Photos cut windows: new noise costs more than a face."""
    size = (HEIGHT * 3 // 2, WIDTH * 3 // 2)
    grain = generator.normal(0, 2.4, (*size, 1)) + generator.normal(0, 1.4, (*size, 3))
    return np.rint(grain + 0.4 * (np.roll(grain, 1, 0) + np.roll(grain, 1, 1))).astype(np.int16)


def draw_photos(
    person: Person, stems: Sequence[str], noise: np.ndarray, generator: np.random.Generator
) -> list[Image.Image]:
    """Returns one photo, WIDTH x HEIGHT, for each of the stems (`mask1`..., `incorrect_mask`, `normal`).

    Pose, light, expression and mask differ; the rest is drawn up once. `noise` comes from `make_noise`.
    """
    room, back_hair, body = _room(generator), hair.behind(person), clothes.body(person)
    head, front_hair = face.head(person, generator), hair.before(person, generator)
    photos = []
    for stem in stems:
        x, y = generator.normal((WIDTH / 2, 236), 10).tolist()
        roll, yaw, pitch = generator.normal(0, (0.05, 0.14, 0.05)).tolist()
        still = Pose(x, y, float(generator.uniform(84, 102)))
        moved = replace(still, x=x + 30 * roll, roll=roll, yaw=yaw, pitch=pitch)
        light = float(generator.uniform(-1, 1))  # -1: from the left, 1: from the right
        mask = [] if stem == "normal" else clothes.mask(person, stem, generator)

        left, top = generator.integers(0, 96, 2).tolist()
        canvas = room.crop((left, top, left + WIDTH * _DRAWING_FACTOR, top + HEIGHT * _DRAWING_FACTOR))
        paint(canvas, back_hair, moved, _DRAWING_FACTOR)
        paint(canvas, body, still, _DRAWING_FACTOR)
        front = [*head, *face.features(person, generator), *mask, *clothes.glasses(person), *front_hair]
        paint(canvas, front, moved, _DRAWING_FACTOR)

        form = Image.new("RGB", (WIDTH // 4, HEIGHT // 4), tone(1 << _NEUTRAL_BITS))
        paint(form, face.shading(person, mask, light), moved, _FORM_FACTOR)
        form = _light_up(form.filter(ImageFilter.BoxBlur(2.5)), light, generator)
        exposed = _expose(canvas.reduce(_DRAWING_FACTOR), _enlarge(form, (WIDTH, HEIGHT), 2), noise, generator)
        photos.append(exposed)
    return photos


def _light_up(form: Image.Image, light: float, generator: np.random.Generator) -> Image.Image:
    """Returns the form map under a light from one side, with an exposure and a colour temperature."""
    warmth, exposure = generator.normal(0, 0.035), generator.uniform(0.82, 1.16)
    tint = exposure * np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    across = np.linspace(-1, 1, form.width, dtype=np.float32)[None, :] * light * float(generator.uniform(0.05, 0.26))
    down = np.linspace(-1, 1, form.height, dtype=np.float32)[:, None] * float(generator.uniform(-0.14, 0.04))
    lit = np.asarray(form) * ((1 + across + down)[..., None] * tint)
    return Image.fromarray(np.minimum(lit, 255).astype(np.uint8))


def _expose(photo: Image.Image, form: Image.Image, noise: np.ndarray, generator: np.random.Generator) -> Image.Image:
    """Returns photo * form + noise, in 16-bit integers: floats would double the time."""
    top, left = generator.integers(0, (HEIGHT // 2, WIDTH // 2))
    pixels = np.multiply(np.asarray(photo), np.asarray(form), dtype=np.uint16)  # (H, W, 3)
    pixels >>= _NEUTRAL_BITS
    values = pixels.view(np.int16)
    values += noise[top : top + HEIGHT, left : left + WIDTH]
    return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))


def _enlarge(image: Image.Image, size: tuple[int, int], step: int) -> Image.Image:
    """Returns a blurred image at this size in blocks of `step` pixels: unseen, in a third of the time."""
    small = image.resize((size[0] // step, size[1] // step), Image.Resampling.BILINEAR)
    return small.resize(size, Image.Resampling.NEAREST)


def _room(generator: np.random.Generator) -> Image.Image:
    """Returns a blurred background with a few soft shapes, larger than the canvas: photos show parts of it."""
    low, high = generator.integers(70, 215, (2, 1, 1, 1)) + generator.integers(-22, 23, (2, 1, 1, 3))
    down = np.linspace(0, 1, 80)[:, None, None]
    room = Image.fromarray(np.broadcast_to(low * (1 - down) + high * down, (80, 60, 3)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(room)
    for _ in range(generator.integers(0, 5)):
        x, y, width, height = generator.integers((-10, -10, 8, 8), (60, 70, 36, 50)).tolist()
        red, green, blue = generator.integers(110, 185, 3).tolist()
        shape = draw.rectangle if generator.random() < 0.6 else draw.ellipse
        shape((x, y, x + width, y + height), fill=(red, green, blue))
    room = room.filter(ImageFilter.GaussianBlur(float(generator.uniform(1.5, 4))))
    return _enlarge(room, (WIDTH * _DRAWING_FACTOR + 96, HEIGHT * _DRAWING_FACTOR + 96), 4)
