"""Draws what people wear: clothes below the neck, a mask, glasses."""

from __future__ import annotations

import numpy as np

from maskcls.sample.people import Colour, Person, mix
from maskcls.sample.shapes import BLACK, WHITE, Shape, both_sides, corners, curve, ellipse, outline

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


def body(person: Person) -> list[Shape]:
    """Returns neck and shoulders, and what covers them."""
    neck, wide, low = 0.43 if person.is_female else 0.63, person.shoulders, person.neckline
    skin, shade = mix(person.skin, BLACK, 0.1), mix(person.clothes, BLACK, 0.3)
    opening_x, opening_y = (neck + 0.06, 0.3, 0), (1.73, 0.25 * 1.73 + 0.75 * low, low)
    torso = outline((neck + 0.05, neck + 0.4, wide * 0.8, wide, wide + 0.12, 0), (1.72, 1.9, 2.12, 2.5, 4.2, 4.3))
    sleeve = curve((wide * 0.72, wide * 0.7, wide * 0.74), (3.0, 3.5, 4.2))
    shapes = [
        Shape(outline((neck, neck, neck + 0.14, 0), (0.9, 1.6, 1.84, 2.0)), skin),
        Shape(torso, person.clothes),
        *both_sides([Shape(sleeve, shade, width=0.03)]),
        Shape(outline((0, *opening_x), (1.4, *opening_y)), skin),
    ]
    if person.has_collar:
        flap = corners((neck + 0.02, 0, 0.4, neck + 0.2), (1.62, low, low + 0.22, 1.84))
        shapes += both_sides([Shape(flap, mix(person.clothes, WHITE, 0.25))])
        return [*shapes, Shape(corners((0, 0), (low, 4.2)), shade, width=0.025)]
    return [*shapes, Shape(outline(opening_x, opening_y, closed=False), shade, width=0.05)]


def mask(person: Person, stem: str, generator: np.random.Generator) -> list[Shape]:
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
    y = (peak, peak + 0.03, top + 0.1, edge + 0.02, edge + 0.18, middle + 0.2, bottom - 0.04, bottom)
    hem_y = (top + 0.12, peak + 0.05, peak + 0.025, peak + 0.05, top + 0.12)
    strap = cloth if kind == "dark" else mix(cloth, WHITE, 0.4)
    upper, lower = corners((wide * 0.95, 1.04), (edge + 0.04, 0.0)), corners((low, 1.05), (middle + 0.15, 0.4))
    return [
        Shape(outline((0, 0.2, 0.5, wide, wide * 0.985, low, 0.36, 0), y), cloth, 0.6),
        *both_sides([Shape(upper, strap, 0.05, 0.03), Shape(lower, strap, 0.05, 0.03)]),
        Shape(curve((-0.5, -0.2, 0, 0.2, 0.5), hem_y), seam, 0.62, 0.02),
        *_seams(kind, wide, peak, top, bottom, seam),
    ]


def _seams(kind: str, wide: float, peak: float, top: float, bottom: float, colour: Colour) -> list[Shape]:
    span = bottom - top
    if kind == "dotted":
        rows = np.arange(top + 0.2, bottom - 0.1, 0.15)
        dots = [(x + 0.09 * (row % 2), y) for row, y in enumerate(rows) for x in np.arange(-0.54, 0.5, 0.18)]
        return [Shape(ellipse(x, y, 0.028, 0.028, 8), colour, 0.6) for x, y in dots]
    if kind == "dark":
        return [Shape(corners((0, 0.01, 0), (peak + 0.02, (top + bottom) / 2, bottom - 0.02)), colour, 0.7, 0.02)]
    # Of each fold: half its width, its height at the ends, its height in the middle; shares of the mask's.
    folds = [(0.93, 0.3, 0.26), (0.93, 0.4, 0.74)]
    if kind == "surgical":
        folds = [(0.86, 0.34, 0.39), (0.78, 0.54, 0.59), (0.62, 0.72, 0.77)]
    folded = [curve((-wide * x, 0, wide * x), (top + span * a, top + span * b, top + span * a)) for x, a, b in folds]
    return [Shape(fold, colour, 0.6, 0.02) for fold in folded]


def glasses(person: Person) -> list[Shape]:
    """Returns frame and bridge; nothing for who wears none."""
    if person.glasses is None:
        return []
    rim = np.concatenate([ellipse(0.43, 0.03, 0.3, 0.22), ellipse(0.43, 0.03, 0.3, 0.22)[:2]])
    temple = Shape(corners((0.72, 1.0), (-0.02, -0.02)), person.glasses, 0.4, 0.035)
    bridge = Shape(curve((-0.14, 0, 0.14), (0, -0.05, 0)), person.glasses, 0.8, 0.035)
    return [*both_sides([Shape(rim, person.glasses, 0.75, 0.035), temple]), bridge]
