"""Draws a head without its hair: ears, skin and its age, eyes, nose and mouth, and the soft light and shade on it."""

from __future__ import annotations

import numpy as np

from maskcls.sample.people import Person, mix
from maskcls.sample.shapes import BLACK, WHITE, Shape, both_sides, corners, curve, ellipse, outline, tone


def face_outline(person: Person) -> np.ndarray:
    """Returns the closed line around forehead, cheeks, jaw and chin."""
    wide, jaw, chin = person.fullness, person.jaw, person.chin
    jowl = jaw * 0.76 + 0.03 * person.seniority
    x = (0, 0.52, 0.88, wide, wide * 0.98, jaw + 0.06, jowl, 0.27, 0)
    return outline(x, (-1.34, -1.25, -0.88, -0.3, 0.25, 0.72, 1.12, chin - 0.03, chin))


def head(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns ears, the face's skin, and what age and beard leave on it."""
    skin, dark, jaw = person.skin, mix(person.skin, BLACK, 0.38), person.jaw
    lines = 0.05 + 0.6 * person.maturity + 0.3 * person.seniority  # how deep they are
    ear = Shape(ellipse(1.0, 0.16, 0.13, 0.27), mix(skin, (170, 70, 60), 0.18), -0.2)
    shapes = both_sides([ear, Shape(ellipse(1.02, 0.16, 0.06, 0.16), mix(skin, BLACK, 0.25), -0.2)])
    shapes.append(Shape(face_outline(person), skin))
    if person.beard:
        beard_y = (0.76, 0.74, 0.95, 0.62 if person.beard > 0.5 else 0.5, 1.13, person.chin - 0.02, person.chin)
        beard = outline((0, 0.3, 0.5, jaw * 0.95, jaw * 0.74, 0.25, 0), beard_y)
        shapes.append(Shape(beard, mix(skin, person.hair, person.beard), 0.25))
    for _ in range(int(person.seniority * 9)):
        x, y, radius = generator.uniform((-0.75, -0.8, 0.015), (0.75, 0.6, 0.04)).tolist()
        shapes.append(Shape(ellipse(x, y, radius, radius * 0.8), mix(skin, dark, 0.35), 0.5))
    for row in range(1 + round(2 * person.maturity)):
        y, reach = -0.46 - 0.12 * row, 0.5 - 0.06 * row
        wrinkle = curve((-reach, -reach / 2, 0, reach / 2, reach), (y + 0.02, y - 0.025, y + 0.01, y - 0.025, y + 0.02))
        shapes.append(Shape(wrinkle, mix(skin, dark, lines * 0.75), 0.6, 0.016 + 0.014 * lines))
    bag = 0.02 + 0.02 * person.maturity + 0.015 * person.seniority
    side = [
        Shape(curve((0.24, 0.38, 0.42), (0.55, 0.72, 0.96)), mix(skin, dark, lines * 0.7), 0.55, 0.03),
        Shape(curve((0.22, 0.42, 0.62), (0.15, 0.24, 0.15)), mix(skin, dark, lines * 0.75), 0.6, bag),
    ]
    for turn in (-0.07, 0.0, 0.07)[: 1 + round(2 * person.seniority)]:
        foot = corners((0.7, 0.84), (0.02 + turn * 0.5, 0.03 + turn * 1.6))
        side.append(Shape(foot, mix(skin, dark, 0.8 * max(0.0, lines - 0.2)), 0.5, 0.018))
    return shapes + both_sides(side)


def features(person: Person, generator: np.random.Generator) -> list[Shape]:
    """Returns eyes, brows, nose and mouth, with the expression of one photo."""
    opening, smile, lift, gaze, gap = generator.normal((1, 0.06, 0, 0, 0), (0.1, 0.03, 0.02, 0.03, 0.025)).tolist()
    nose_x = (-0.19, -0.17, -0.06, 0, 0.06, 0.17, 0.19)
    nose = curve(nose_x, (0.54, 0.63, 0.64, 0.68, 0.64, 0.63, 0.54))
    return [
        *both_sides(_eye(person, opening, lift)),
        *(shape for side in (-0.42, 0.42) for shape in _iris(person, side + gaze, opening)),
        Shape(nose, mix(person.skin, BLACK, 0.24), 0.85, 0.025),
        *both_sides([Shape(ellipse(0.085, 0.625, 0.045, 0.02), mix(person.skin, BLACK, 0.55), 0.85)]),
        *_mouth(person, smile, max(0.0, gap)),
    ]


def _eye_height(person: Person, opening: float) -> float:
    return 0.1 * person.eye_size * opening * (1 - 0.25 * person.seniority)


def _eye(person: Person, opening: float, lift: float) -> list[Shape]:
    """Returns the right eye but its iris, and its brow."""
    skin, half, tall = person.skin, 0.2 * person.eye_size, _eye_height(person, opening)
    corner_x, corner_y = 0.42 + half, -0.02 + 0.03 * person.seniority
    upper = curve((0.42 - half, 0.42 - half * 0.4, 0.42 + half * 0.4, corner_x), (0.02, -tall, -tall * 0.95, corner_y))
    lower = curve((corner_x, 0.42 + half * 0.3, 0.42 - half / 2, 0.42 - half), (corner_y, tall * 0.7, tall * 0.6, 0.02))
    shadow, lid, liner = (
        (mix(skin, (110, 50, 80), 0.5), 0.08, 0.055) if person.is_female else (mix(skin, BLACK, 0.26), 0.016, 0.024)
    )
    height, arch = (-0.27 - lift, 0.07) if person.is_female else (-0.24 - lift, 0.03)
    thick = person.brow
    brow_y = (height + thick, height - thick * 0.6, height - arch - thick, height + 0.04, height - arch + thick)
    brow = curve((0.18, 0.2, 0.5, 0.72, 0.48), brow_y, closed=True)
    shapes = [
        Shape(upper - (0, 0.055), shadow, 0.6, lid),
        Shape(np.concatenate([upper, lower]), mix((236, 232, 228), skin, 0.15), 0.6),
        Shape(upper, mix(skin, BLACK, 0.95 if person.is_female else 0.75), 0.6, liner),
        Shape(lower, mix(skin, BLACK, 0.3), 0.6, 0.012),
        Shape(brow, mix(mix(person.hair, BLACK, 0.3), skin, 0.15), 0.65),
    ]
    if person.is_female:
        lash = corners((corner_x, corner_x + 0.06), (corner_y, corner_y - 0.06))
        shapes.append(Shape(lash, mix(skin, BLACK, 0.9), 0.6, 0.03))
    return shapes


def _iris(person: Person, x: float, opening: float) -> list[Shape]:
    tall = _eye_height(person, opening)
    return [
        Shape(ellipse(x, -0.01, tall * 0.9, tall * 0.9), person.iris, 0.6),
        Shape(ellipse(x, -0.01, tall * 0.45, tall * 0.45), BLACK, 0.6),
        Shape(ellipse(x - 0.03, -0.045, 0.018, 0.018, 8), WHITE, 0.6),
    ]


def _mouth(person: Person, smile: float, gap: float) -> list[Shape]:
    half, tall, y, corner = 0.32 if person.is_female else 0.35, person.lip_height, 0.93, 0.93 - smile
    middle_x, middle_y = (-half * 0.4, 0, half * 0.4), [y + sag - gap * 0.3 for sag in (0.01, 0.02, 0.01)]
    upper_y = (corner, y - tall * 0.85, y - tall * 0.6, y - tall * 0.85, corner, *middle_y)
    lower_y = (corner, *(value + gap for value in middle_y), corner, y + tall * 1.1 + gap, y + tall * 1.1 + gap)
    upper = curve((-half, -0.09, 0, 0.09, half, *middle_x[::-1]), upper_y, closed=True)
    lower = curve((-half, *middle_x, half, 0.15, -0.15), lower_y, closed=True)
    line = curve((-half, *middle_x, half), (corner, *middle_y, corner))
    return [
        Shape(upper, mix(person.lips, BLACK, 0.1), 0.65),
        Shape(lower, person.lips, 0.65),
        Shape(line, mix(person.lips, BLACK, 0.55), 0.65, 0.022 + gap),
    ]


def shading(person: Person, mask: list[Shape], light: float) -> list[Shape]:
    """Returns the soft light and shade on the head and its mask, in tones around the neutral one."""
    face, shine_x = face_outline(person), (-0.85, -0.45, 0, 0.45, 0.85)
    blush = (152, 134, 132) if person.is_female else tone(136)
    side = [
        Shape(ellipse(0.42, -0.06, 0.28, 0.16), tone(110), 0.55),
        Shape(ellipse(0.5, 0.4, 0.2, 0.15), blush, 0.6),
        Shape(ellipse(0.66, 0.72, 0.12, 0.22), tone(128 - 14 * person.seniority), 0.5),
        Shape(ellipse(0.42, 0.18, 0.2, 0.06), tone(134 - 34 * person.maturity), 0.55),
    ]
    shapes = [
        Shape(ellipse(0, 1.5, 0.41 if person.is_female else 0.6, 0.3), tone(86), -0.2),
        Shape(face, tone(106)),
        Shape(face * (0.84, 0.87) + (0.1 * light, 0), tone(131), 0.3),
        Shape(ellipse(0.06 * light, -0.62, 0.5, 0.22), tone(142), 0.5),
        Shape(curve(shine_x, (-1.0, -1.26, -1.34, -1.26, -1.0)), tone(150), 0.2, 0.1),
        *both_sides(side),
        Shape(corners((-0.04 * light, -0.26 if light > 0 else 0.26, 0), (-0.1, 0.58, 0.68)), tone(98), 0.75),
        Shape(corners((0.02 * light, 0.03 * light), (-0.05, 0.56)), tone(158), 0.85, 0.1),
        Shape(ellipse(0, 0.73, 0.18, 0.06), tone(106), 0.7),
        Shape(ellipse(0, 1.13, 0.18, 0.05), tone(104), 0.6),
    ]
    if mask:
        cloth, middle = mask[0].points, mask[0].points.mean(axis=0)
        inside = (cloth - middle) * (0.8, 0.72) + middle + (0.1 * light, -0.02)
        shapes += [Shape(cloth, tone(112), 0.6), Shape(inside, tone(138), 0.65)]
    return shapes
