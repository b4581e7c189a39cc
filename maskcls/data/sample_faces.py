"""Draws photo-like pictures of a made-up person.

Everything is in head units (the face is 2 wide, the eyes lie at y = 0, y points down), drawn at twice the photo's size
and shrunk. What is soft (the form of the face, the light and its colour) is a map, painted at a quarter of the photo's
size, blurred, enlarged and multiplied. Who the people are, files and folders do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from maskcls.data.sample_people import Colour, Person, mix

WIDTH, HEIGHT = 384, 512  # pixels, as the real photos

_DRAWING_FACTOR = 2  # drawn at this multiple of the photo's size: shrinking smooths every edge
_FORM_FACTOR = 0.25
_NEUTRAL_BITS = 7  # the value 2 ** 7 in the form map leaves a pixel as it is
_BLACK, _WHITE = (14, 12, 14), (250, 250, 248)
_CIRCLE = np.stack([np.cos(np.arange(24) * pi / 12), np.sin(np.arange(24) * pi / 12)], axis=1)
_CURVE_STEPS = np.arange(5)[:, None] / 5
# Weights of a corner's four neighbours at each step of a Catmull-Rom curve, (5, 4).
_CURVE_BASIS = (
    _CURVE_STEPS ** np.arange(4) @ np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
)
_STRAND_STEPS = np.linspace(0, 1, 8)[:, None]
# (colour of the cloth, of its seams), by the kind of mask; mask1..mask4 are of these kinds in this order.
_MASKS: dict[str, tuple[tuple[Colour, Colour], ...]] = {
    "surgical": (((138, 190, 218), (104, 156, 190)), ((156, 206, 186), (122, 172, 154))),
    "folded": (((236, 238, 240), (196, 200, 206)), ((226, 216, 202), (190, 178, 164))),
    "dark": (((42, 42, 48), (24, 24, 28)), ((52, 58, 84), (32, 36, 58))),
    "dotted": (
        ((150, 154, 162), (98, 102, 112)),
        ((206, 150, 160), (240, 222, 226)),
        ((96, 120, 104), (208, 214, 196)),
    ),
}


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
    room = _room(generator)
    layers = _back_hair(person), _body(person), _head(person, generator), _front_hair(person, generator)
    return [_photo(person, layers, room, stem, noise, generator) for stem in stems]


def _photo(
    person: Person,
    layers: tuple[list[Shape], ...],
    room: Image.Image,
    stem: str,
    noise: np.ndarray,
    generator: np.random.Generator,
) -> Image.Image:
    back_hair, body, head, front_hair = layers
    x, y = generator.normal((WIDTH / 2, 236), 10).tolist()
    roll, yaw, pitch = generator.normal(0, (0.05, 0.14, 0.05)).tolist()
    still = Pose(x, y, float(generator.uniform(84, 102)))
    moved = replace(still, x=x + 30 * roll, roll=roll, yaw=yaw, pitch=pitch)
    light = float(generator.uniform(-1, 1))  # -1: from the left, 1: from the right
    mask = [] if stem == "normal" else _mask(person, stem, generator)

    left, top = generator.integers(0, 96, 2).tolist()
    canvas = room.crop((left, top, left + WIDTH * _DRAWING_FACTOR, top + HEIGHT * _DRAWING_FACTOR))
    _paint(canvas, back_hair, moved, _DRAWING_FACTOR)
    _paint(canvas, body, still, _DRAWING_FACTOR)
    front = [*head, *_features(person, generator), *mask, *_glasses(person), *front_hair]
    _paint(canvas, front, moved, _DRAWING_FACTOR)

    form = Image.new("RGB", (WIDTH // 4, HEIGHT // 4), _tone(1 << _NEUTRAL_BITS))
    _paint(form, _form(person, mask, light), moved, _FORM_FACTOR)
    form = _light_up(form.filter(ImageFilter.BoxBlur(2.5)), light, generator)
    return _expose(canvas.reduce(_DRAWING_FACTOR), _enlarge(form, (WIDTH, HEIGHT), 2), noise, generator)


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


def _paint(image: Image.Image, shapes: list[Shape], pose: Pose, factor: float) -> None:
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


def _body(person: Person) -> list[Shape]:
    neck, wide, low = 0.43 if person.is_female else 0.63, person.shoulders, person.neckline
    skin, shade = mix(person.skin, _BLACK, 0.1), mix(person.clothes, _BLACK, 0.3)
    opening_x, opening_y = (neck + 0.06, 0.3, 0), (1.73, 0.25 * 1.73 + 0.75 * low, low)
    torso = _outline((neck + 0.05, neck + 0.4, wide * 0.8, wide, wide + 0.12, 0), (1.72, 1.9, 2.12, 2.5, 4.2, 4.3))
    sleeve = _curve((wide * 0.72, wide * 0.7, wide * 0.74), (3.0, 3.5, 4.2))
    shapes = [
        Shape(_outline((neck, neck, neck + 0.14, 0), (0.9, 1.6, 1.84, 2.0)), skin),
        Shape(torso, person.clothes),
        *_both_sides([Shape(sleeve, shade, width=0.03)]),
        Shape(_outline((0, *opening_x), (1.4, *opening_y)), skin),
    ]
    if person.has_collar:
        flap = _points((neck + 0.02, 0, 0.4, neck + 0.2), (1.62, low, low + 0.22, 1.84))
        shapes += _both_sides([Shape(flap, mix(person.clothes, _WHITE, 0.25))])
        return [*shapes, Shape(_points((0, 0), (low, 4.2)), shade, width=0.025)]
    return [*shapes, Shape(_outline(opening_x, opening_y, closed=False), shade, width=0.05)]


def _face(person: Person) -> np.ndarray:
    wide, jaw, chin = person.fullness, person.jaw, person.chin
    jowl = jaw * 0.76 + 0.03 * person.seniority
    x = (0, 0.52, 0.88, wide, wide * 0.98, jaw + 0.06, jowl, 0.27, 0)
    return _outline(x, (-1.34, -1.25, -0.88, -0.3, 0.25, 0.72, 1.12, chin - 0.03, chin))


def _head(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns ears, the face's skin, and what age and beard leave on it."""
    skin, dark, jaw = person.skin, mix(person.skin, _BLACK, 0.38), person.jaw
    lines = 0.05 + 0.6 * person.maturity + 0.3 * person.seniority  # how deep they are
    ear = Shape(_ellipse(1.0, 0.16, 0.13, 0.27), mix(skin, (170, 70, 60), 0.18), -0.2)
    shapes = _both_sides([ear, Shape(_ellipse(1.02, 0.16, 0.06, 0.16), mix(skin, _BLACK, 0.25), -0.2)])
    shapes.append(Shape(_face(person), skin))
    if person.beard:
        beard_y = (0.76, 0.74, 0.95, 0.62 if person.beard > 0.5 else 0.5, 1.13, person.chin - 0.02, person.chin)
        beard = _outline((0, 0.3, 0.5, jaw * 0.95, jaw * 0.74, 0.25, 0), beard_y)
        shapes.append(Shape(beard, mix(skin, person.hair, person.beard), 0.25))
    for _ in range(int(person.seniority * 9)):
        x, y, radius = generator.uniform((-0.75, -0.8, 0.015), (0.75, 0.6, 0.04)).tolist()
        shapes.append(Shape(_ellipse(x, y, radius, radius * 0.8), mix(skin, dark, 0.35), 0.5))
    for row in range(1 + round(2 * person.maturity)):
        y, reach = -0.46 - 0.12 * row, 0.5 - 0.06 * row
        wrinkle = _curve(
            (-reach, -reach / 2, 0, reach / 2, reach), (y + 0.02, y - 0.025, y + 0.01, y - 0.025, y + 0.02)
        )
        shapes.append(Shape(wrinkle, mix(skin, dark, lines * 0.75), 0.6, 0.016 + 0.014 * lines))
    bag = 0.02 + 0.02 * person.maturity + 0.015 * person.seniority
    side = [
        Shape(_curve((0.24, 0.38, 0.42), (0.55, 0.72, 0.96)), mix(skin, dark, lines * 0.7), 0.55, 0.03),
        Shape(_curve((0.22, 0.42, 0.62), (0.15, 0.24, 0.15)), mix(skin, dark, lines * 0.75), 0.6, bag),
    ]
    for turn in (-0.07, 0.0, 0.07)[: 1 + round(2 * person.seniority)]:
        foot = _points((0.7, 0.84), (0.02 + turn * 0.5, 0.03 + turn * 1.6))
        side.append(Shape(foot, mix(skin, dark, 0.8 * max(0.0, lines - 0.2)), 0.5, 0.018))
    return shapes + _both_sides(side)


def _features(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns eyes, brows, nose and mouth, with the expression of one photo."""
    opening, smile, lift, gaze, gap = generator.normal((1, 0.06, 0, 0, 0), (0.1, 0.03, 0.02, 0.03, 0.025)).tolist()
    nose_x = (-0.19, -0.17, -0.06, 0, 0.06, 0.17, 0.19)
    nose = _curve(nose_x, (0.54, 0.63, 0.64, 0.68, 0.64, 0.63, 0.54))
    return [
        *_both_sides(_eye(person, opening, lift)),
        *(shape for side in (-0.42, 0.42) for shape in _iris(person, side + gaze, opening)),
        Shape(nose, mix(person.skin, _BLACK, 0.24), 0.85, 0.025),
        *_both_sides([Shape(_ellipse(0.085, 0.625, 0.045, 0.02), mix(person.skin, _BLACK, 0.55), 0.85)]),
        *_mouth(person, smile, max(0.0, gap)),
    ]


def _eye_height(person: Person, opening: float) -> float:
    return 0.1 * person.eye_size * opening * (1 - 0.25 * person.seniority)


def _eye(person: Person, opening: float, lift: float) -> list[Shape]:
    """Returns the right eye but its iris, and its brow."""
    skin, half, tall = person.skin, 0.2 * person.eye_size, _eye_height(person, opening)
    corner_x, corner_y = 0.42 + half, -0.02 + 0.03 * person.seniority
    upper = _curve((0.42 - half, 0.42 - half * 0.4, 0.42 + half * 0.4, corner_x), (0.02, -tall, -tall * 0.95, corner_y))
    lower = _curve(
        (corner_x, 0.42 + half * 0.3, 0.42 - half / 2, 0.42 - half), (corner_y, tall * 0.7, tall * 0.6, 0.02)
    )
    shadow, lid, liner = (
        (mix(skin, (110, 50, 80), 0.5), 0.08, 0.055) if person.is_female else (mix(skin, _BLACK, 0.26), 0.016, 0.024)
    )
    height, arch, thick = (-0.27 - lift, 0.07, person.brow) if person.is_female else (-0.24 - lift, 0.03, person.brow)
    brow_y = (height + thick, height - thick * 0.6, height - arch - thick, height + 0.04, height - arch + thick)
    brow = _curve((0.18, 0.2, 0.5, 0.72, 0.48), brow_y, closed=True)
    shapes = [
        Shape(upper - (0, 0.055), shadow, 0.6, lid),
        Shape(np.concatenate([upper, lower]), mix((236, 232, 228), skin, 0.15), 0.6),
        Shape(upper, mix(skin, _BLACK, 0.95 if person.is_female else 0.75), 0.6, liner),
        Shape(lower, mix(skin, _BLACK, 0.3), 0.6, 0.012),
        Shape(brow, mix(mix(person.hair, _BLACK, 0.3), skin, 0.15), 0.65),
    ]
    if person.is_female:
        lash = _points((corner_x, corner_x + 0.06), (corner_y, corner_y - 0.06))
        shapes.append(Shape(lash, mix(skin, _BLACK, 0.9), 0.6, 0.03))
    return shapes


def _iris(person: Person, x: float, opening: float) -> list[Shape]:
    tall = _eye_height(person, opening)
    return [
        Shape(_ellipse(x, -0.01, tall * 0.9, tall * 0.9), person.iris, 0.6),
        Shape(_ellipse(x, -0.01, tall * 0.45, tall * 0.45), _BLACK, 0.6),
        Shape(_ellipse(x - 0.03, -0.045, 0.018, 0.018, 8), _WHITE, 0.6),
    ]


def _mouth(person: Person, smile: float, gap: float) -> list[Shape]:
    half, tall, y, corner = 0.32 if person.is_female else 0.35, person.lip_height, 0.93, 0.93 - smile
    middle_x, middle_y = (
        (-half * 0.4, 0, half * 0.4),
        (y + 0.01 - gap * 0.3, y + 0.02 - gap * 0.3, y + 0.01 - gap * 0.3),
    )
    upper_y = (corner, y - tall * 0.85, y - tall * 0.6, y - tall * 0.85, corner, *middle_y)
    lower_y = (corner, *(value + gap for value in middle_y), corner, y + tall * 1.1 + gap, y + tall * 1.1 + gap)
    upper = _curve((-half, -0.09, 0, 0.09, half, *middle_x[::-1]), upper_y, closed=True)
    lower = _curve((-half, *middle_x, half, 0.15, -0.15), lower_y, closed=True)
    line = _curve((-half, *middle_x, half), (corner, *middle_y, corner))
    return [
        Shape(upper, mix(person.lips, _BLACK, 0.1), 0.65),
        Shape(lower, person.lips, 0.65),
        Shape(line, mix(person.lips, _BLACK, 0.55), 0.65, 0.022 + gap),
    ]


def _mask(person: Person, stem: str, generator: np.random.Generator) -> list[Shape]:
    """Returns the mask of this photo, first the cloth, its straps and seams last."""
    kinds = tuple(_MASKS)
    kind = kinds["1234".index(stem[-1])] if stem[-1] in "1234" else kinds[generator.integers(len(kinds))]
    cloth, seam = _MASKS[kind][generator.integers(len(_MASKS[kind]))]
    jaw, chin = person.jaw, person.chin
    if stem != "incorrect_mask":
        top, bottom, wide, low = float(generator.uniform(0.22, 0.36)), chin + 0.06, person.fullness * 0.95, jaw * 0.83
    elif generator.random() < 0.6:  # under the nose
        top, bottom, wide, low = float(generator.uniform(0.7, 0.78)), chin + 0.1, jaw + 0.03, jaw * 0.8
    else:  # on the chin
        top, bottom, wide, low = float(generator.uniform(1.08, 1.16)), chin + 0.26, jaw + 0.03, jaw * 0.8
    peak = top - (0.07 if kind == "folded" and top < 0.5 else 0.0)
    middle, edge = (top + 0.14 + bottom) / 2, top + 0.14
    outline_y = (peak, peak + 0.03, top + 0.1, edge + 0.02, edge + 0.18, middle + 0.2, bottom - 0.04, bottom)
    outline = _outline((0, 0.2, 0.5, wide, wide * 0.985, low, 0.36, 0), outline_y)
    hem_y = (top + 0.12, peak + 0.05, peak + 0.025, peak + 0.05, top + 0.12)
    strap = cloth if kind == "dark" else mix(cloth, _WHITE, 0.4)
    upper, lower = _points((wide * 0.95, 1.04), (edge + 0.04, 0.0)), _points((low, 1.05), (middle + 0.15, 0.4))
    return [
        Shape(outline, cloth, 0.6),
        *_both_sides([Shape(upper, strap, 0.05, 0.03), Shape(lower, strap, 0.05, 0.03)]),
        Shape(_curve((-0.5, -0.2, 0, 0.2, 0.5), hem_y), seam, 0.62, 0.02),
        *_seams(kind, wide, peak, top, bottom, seam),
    ]


def _seams(kind: str, wide: float, peak: float, top: float, bottom: float, colour: Colour) -> list[Shape]:
    span = bottom - top
    if kind == "dotted":
        rows = np.arange(top + 0.2, bottom - 0.1, 0.15)
        dots = [(x + 0.09 * (row % 2), y) for row, y in enumerate(rows) for x in np.arange(-0.54, 0.5, 0.18)]
        return [Shape(_ellipse(x, y, 0.028, 0.028, 8), colour, 0.6) for x, y in dots]
    if kind == "dark":
        return [Shape(_points((0, 0.01, 0), (peak + 0.02, (top + bottom) / 2, bottom - 0.02)), colour, 0.7, 0.02)]
    # Of each fold: half its width, its height at the ends, its height in the middle; shares of the mask's.
    folds = [(0.93, 0.3, 0.26), (0.93, 0.4, 0.74)]
    if kind == "surgical":
        folds = [(0.86, 0.34, 0.39), (0.78, 0.54, 0.59), (0.62, 0.72, 0.77)]
    curves = [_curve((-wide * x, 0, wide * x), (top + span * a, top + span * b, top + span * a)) for x, a, b in folds]
    return [Shape(curve, colour, 0.6, 0.02) for curve in curves]


def _glasses(person: Person) -> list[Shape]:
    if person.glasses is None:
        return []
    rim = np.concatenate([_ellipse(0.43, 0.03, 0.3, 0.22), _ellipse(0.43, 0.03, 0.3, 0.22)[:2]])
    temple = Shape(_points((0.72, 1.0), (-0.02, -0.02)), person.glasses, 0.4, 0.035)
    bridge = Shape(_curve((-0.14, 0, 0.14), (0, -0.05, 0)), person.glasses, 0.8, 0.035)
    return [*_both_sides([Shape(rim, person.glasses, 0.75, 0.035), temple]), bridge]


def _crown(person: Person) -> np.ndarray:
    volume = person.hair_volume
    y = (-1.35 - volume, -1.25 - volume * 0.9, -0.92 - volume * 0.5, -0.4)
    return _points((0, 0.53, 0.91, 1.03 + volume * 0.5), y)


def _back_hair(person: Person) -> list[Shape]:
    dark, is_long = mix(person.hair, _BLACK, 0.25), person.hair_length > 0.5
    length, edge = max(person.hair_length, 0.25), 1.04 + person.hair_volume * 0.5
    flare = 0.06 + person.wave if is_long else -0.12
    part = np.array((0.25, 0.5, 0.75, 1.0))
    x = (*_crown(person)[:, 0], *(edge + flare * part + person.wave * np.sin(9 * part)), 0.5, 0)
    y = (*_crown(person)[:, 1], *(part * (length + 0.1) - 0.1), length + 0.1, length + 0.08)
    bun = [Shape(_ellipse(0.1 * person.sweep, -1.6 - person.hair_volume * 0.5, 0.42, 0.36), dark, -0.3)]
    return [*bun[: person.has_bun], Shape(_outline(x, y), dark, -0.3)]


def _front_hair(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns the hair before the face: the cap from crown to hairline, the temples, locks beside the face, strands."""
    fringe, back, burn, sweep = person.fringe, person.recession, 0.05 if person.is_female else 0.25, person.sweep
    high = _points((0.985, 0.94, 0.84, 0.56, 0), (burn, -0.3, -0.6 - back * 0.2, -0.88 - back, -0.94 - back * 0.75))
    low = _points((0.985, 0.93, 0.8, 0.5, 0), (burn, -0.25, -0.45, -0.44, -0.4))
    right = high * (1 - fringe) + low * fringe
    line = np.concatenate([right, right[-2::-1] * (-1, 1)])  # from the right temple to the left one
    line[2:-2, 1] += 0.14 * sweep * line[2:-2, 0] * (0.4 + fringe)
    hairline, crown = _smooth(line), _crown(person)
    outer = _smooth(np.concatenate([crown[::-1] * (-1, 1), crown[1:]]))
    temple = _curve((0.9, 1.02, 1.03, 0.98, 0.95), (-0.8, -0.5, -0.2, burn, -0.3), closed=True)
    shapes = [Shape(np.concatenate([outer, hairline]), person.hair, 0.15)]
    shapes += _both_sides([Shape(temple, person.temples, 0.1)])
    if person.earrings:
        shapes += _both_sides([Shape(_ellipse(1.04, 0.5, 0.06, 0.08), person.earrings)])

    x = generator.uniform(-0.97, 0.97, 42)
    start = np.stack([0.4 * x + 0.27 * sweep, -1.32 - person.hair_volume * generator.uniform(0.2, 0.9, 42)], axis=1)
    end_y = np.interp(-x, -hairline[:, 0], hairline[:, 1]) + generator.uniform(-0.02, 0.06, 42)
    shapes += _strands(person, start, np.stack([x, start[:, 1] + x**4 / 2], 1), np.stack([x, end_y], 1), generator)
    return shapes + (_locks(person, generator) if person.hair_length > 0.5 else [])


def _locks(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns long hair before the ears and shoulders, on both sides."""
    length, edge, wave = person.hair_length, 1.02 + person.hair_volume * 0.5, person.wave
    inner_x, outer_x = (0.8, 0.9, 0.88 + wave, 0.85 - wave, 0.98), (edge + 0.04, edge + 0.09 + wave, edge + 0.02)
    y = (-0.66, -0.62, -0.1, 0.4, length * 0.75, length, length - 0.12, length * 0.6, -0.3)
    lock = Shape(_curve((edge - 0.06, *inner_x, *outer_x), y, closed=True), person.hair, 0.1)
    share = generator.uniform(0.1, 0.9, 8)
    start = np.stack([0.84 + 0.2 * share, np.full(8, -0.5)], axis=1)
    bend = np.stack([0.9 + 0.22 * share + wave, np.full(8, length * 0.4)], axis=1)
    end = np.stack([0.9 + 0.2 * share, np.full(8, length - 0.06)], axis=1)
    return _both_sides([lock, *_strands(person, start, bend, end, generator)])


def _strands(
    person: Person, start: np.ndarray, bend: np.ndarray, end: np.ndarray, generator: np.random.Generator
) -> list[Shape]:
    """Returns thin curves, lighter and darker than the hair, and some grey ones; each array is (N, 2)."""
    t, sheen, grey = _STRAND_STEPS, mix(person.hair, (214, 176, 140), 0.6), mix(person.hair, (228, 226, 224), 0.5)
    shapes = []
    for a, b, c in zip(start, bend, end, strict=True):
        tone = float(generator.normal(0, 0.25))
        colour = mix(person.hair, sheen if tone > 0 else _BLACK, min(abs(tone), 0.5))
        colour = grey if generator.random() < person.greyness else colour
        shapes.append(Shape((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c, colour, 0.15, 0.014))
    return shapes


def _form(person: Person, mask: list[Shape], light: float) -> list[Shape]:
    """Returns the soft light and shade on the head and its mask, in tones around the neutral one."""
    face, shine_x = _face(person), (-0.85, -0.45, 0, 0.45, 0.85)
    blush = (152, 134, 132) if person.is_female else _tone(136)
    side = [
        Shape(_ellipse(0.42, -0.06, 0.28, 0.16), _tone(110), 0.55),
        Shape(_ellipse(0.5, 0.4, 0.2, 0.15), blush, 0.6),
        Shape(_ellipse(0.66, 0.72, 0.12, 0.22), _tone(128 - 14 * person.seniority), 0.5),
        Shape(_ellipse(0.42, 0.18, 0.2, 0.06), _tone(134 - 34 * person.maturity), 0.55),
    ]
    shapes = [
        Shape(_ellipse(0, 1.5, 0.41 if person.is_female else 0.6, 0.3), _tone(86), -0.2),
        Shape(face, _tone(106)),
        Shape(face * (0.84, 0.87) + (0.1 * light, 0), _tone(131), 0.3),
        Shape(_ellipse(0.06 * light, -0.62, 0.5, 0.22), _tone(142), 0.5),
        Shape(_curve(shine_x, (-1.0, -1.26, -1.34, -1.26, -1.0)), _tone(150), 0.2, 0.1),
        *_both_sides(side),
        Shape(_points((-0.04 * light, -0.26 if light > 0 else 0.26, 0), (-0.1, 0.58, 0.68)), _tone(98), 0.75),
        Shape(_points((0.02 * light, 0.03 * light), (-0.05, 0.56)), _tone(158), 0.85, 0.1),
        Shape(_ellipse(0, 0.73, 0.18, 0.06), _tone(106), 0.7),
        Shape(_ellipse(0, 1.13, 0.18, 0.05), _tone(104), 0.6),
    ]
    if mask:
        cloth, middle = mask[0].points, mask[0].points.mean(axis=0)
        inside = (cloth - middle) * (0.8, 0.72) + middle + (0.1 * light, -0.02)
        shapes += [Shape(cloth, _tone(112), 0.6), Shape(inside, _tone(138), 0.65)]
    return shapes


def _tone(value: float) -> Colour:
    return round(value), round(value), round(value)


def _both_sides(shapes: list[Shape]) -> list[Shape]:
    """Returns the mirror images of the shapes, then the shapes."""
    return [*(replace(shape, points=shape.points * (-1, 1)) for shape in shapes), *shapes]


def _points(x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    return np.array((x, y), dtype=np.float64).T


def _ellipse(x: float, y: float, width: float, height: float, num_points: int = 24) -> np.ndarray:
    return _CIRCLE[:: len(_CIRCLE) // num_points] * (width, height) + (x, y)


def _curve(x: Sequence[float], y: Sequence[float], closed: bool = False) -> np.ndarray:
    return _smooth(_points(x, y), closed)


def _outline(x: Sequence[float], y: Sequence[float], closed: bool = True) -> np.ndarray:
    """Returns the curve through these points of the right half and, back on the left, through their mirror images."""
    right = _points(x, y)
    left = right[::-1] * (-1, 1)
    return _smooth(np.concatenate([right, left[int(x[-1] == 0) : len(left) - int(x[0] == 0)]]), closed)


def _smooth(points: np.ndarray, closed: bool = False) -> np.ndarray:
    """Returns a Catmull-Rom curve through the points, (N, 2)."""
    before, after = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([before, points, after])
    windows = padded[np.arange(len(padded) - 3)[:, None] + np.arange(4)]  # (N, 4, 2)
    return np.concatenate([(_CURVE_BASIS @ windows).reshape(-1, 2), points[:1] if closed else points[-1:]])
