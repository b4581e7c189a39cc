"""Draws hair: what hangs behind the head, and what lies on it and before the shoulders."""

from __future__ import annotations

import numpy as np

from maskcls.sample.people import Person, mix
from maskcls.sample.shapes import BLACK, Shape, both_sides, corners, curve, ellipse, outline, smooth

_STRAND_STEPS = np.linspace(0, 1, 8)[:, None]


def _crown(person: Person) -> np.ndarray:
    volume = person.hair_volume
    y = (-1.35 - volume, -1.25 - volume * 0.9, -0.92 - volume * 0.5, -0.4)
    return corners((0, 0.53, 0.91, 1.03 + volume * 0.5), y)


def behind(person: Person) -> list[Shape]:
    """Returns what is seen of the hair behind head and neck, with a bun."""
    dark, is_long = mix(person.hair, BLACK, 0.25), person.hair_length > 0.5
    length, edge = max(person.hair_length, 0.25), 1.04 + person.hair_volume * 0.5
    flare = 0.06 + person.wave if is_long else -0.12
    part = np.array((0.25, 0.5, 0.75, 1.0))
    x = (*_crown(person)[:, 0], *(edge + flare * part + person.wave * np.sin(9 * part)), 0.5, 0)
    y = (*_crown(person)[:, 1], *(part * (length + 0.1) - 0.1), length + 0.1, length + 0.08)
    bun = [Shape(ellipse(0.1 * person.sweep, -1.6 - person.hair_volume * 0.5, 0.42, 0.36), dark, -0.3)]
    return [*bun[: person.has_bun], Shape(outline(x, y), dark, -0.3)]


def before(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns the hair before the face: the cap from crown to hairline, the temples, locks beside the face, strands."""
    fringe, back, burn, sweep = person.fringe, person.recession, 0.05 if person.is_female else 0.25, person.sweep
    high = corners((0.985, 0.94, 0.84, 0.56, 0), (burn, -0.3, -0.6 - back * 0.2, -0.88 - back, -0.94 - back * 0.75))
    low = corners((0.985, 0.93, 0.8, 0.5, 0), (burn, -0.25, -0.45, -0.44, -0.4))
    right = high * (1 - fringe) + low * fringe
    line = np.concatenate([right, right[-2::-1] * (-1, 1)])  # from the right temple to the left one
    line[2:-2, 1] += 0.14 * sweep * line[2:-2, 0] * (0.4 + fringe)
    hairline, crown = smooth(line), _crown(person)
    outer = smooth(np.concatenate([crown[::-1] * (-1, 1), crown[1:]]))
    temple = curve((0.9, 1.02, 1.03, 0.98, 0.95), (-0.8, -0.5, -0.2, burn, -0.3), closed=True)
    shapes = [Shape(np.concatenate([outer, hairline]), person.hair, 0.15)]
    shapes += both_sides([Shape(temple, person.temples, 0.1)])
    if person.earrings:
        shapes += both_sides([Shape(ellipse(1.04, 0.5, 0.06, 0.08), person.earrings)])

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
    lock = Shape(curve((edge - 0.06, *inner_x, *outer_x), y, closed=True), person.hair, 0.1)
    share = generator.uniform(0.1, 0.9, 8)
    start = np.stack([0.84 + 0.2 * share, np.full(8, -0.5)], axis=1)
    bend = np.stack([0.9 + 0.22 * share + wave, np.full(8, length * 0.4)], axis=1)
    end = np.stack([0.9 + 0.2 * share, np.full(8, length - 0.06)], axis=1)
    return both_sides([lock, *_strands(person, start, bend, end, generator)])


def _strands(
    person: Person, start: np.ndarray, bend: np.ndarray, end: np.ndarray, generator: np.random.Generator
) -> list[Shape]:
    """Returns thin curves, lighter and darker than the hair, and some grey ones; each array is (N, 2)."""
    t, sheen, grey = _STRAND_STEPS, mix(person.hair, (214, 176, 140), 0.6), mix(person.hair, (228, 226, 224), 0.5)
    shapes = []
    for a, b, c in zip(start, bend, end, strict=True):
        tone = float(generator.normal(0, 0.25))
        colour = mix(person.hair, sheen if tone > 0 else BLACK, min(abs(tone), 0.5))
        colour = grey if generator.random() < person.greyness else colour
        shapes.append(Shape((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c, colour, 0.15, 0.014))
    return shapes
