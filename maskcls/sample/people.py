"""Makes up the people of the sample data: who they are, and the look that their photos share. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskcls.labels import age_group

Colour = tuple[int, int, int]

RACES = ("Asian", "White", "Black", "Indian")
_AGE_RANGES = ((18, 29), (30, 59), (60, 82))  # years, both ends included, in the order of the age groups
_GREY = (206, 204, 202)
_SKIN_COLOURS: dict[str, tuple[Colour, Colour]] = {  # from ... to
    "Asian": ((236, 196, 162), (222, 178, 142)),
    "White": ((244, 208, 184), (230, 186, 160)),
    "Black": ((132, 88, 62), (98, 64, 46)),
    "Indian": ((190, 138, 100), (160, 112, 78)),
}
_HAIR_COLOURS: dict[str, tuple[Colour, ...]] = {
    "Asian": ((26, 22, 24), (44, 32, 28), (84, 54, 38)),
    "White": ((60, 42, 30), (112, 76, 46), (176, 134, 82), (122, 58, 34)),
    "Black": ((22, 18, 18), (34, 26, 24), (58, 38, 28)),
    "Indian": ((24, 20, 22), (40, 28, 24), (62, 40, 28)),
}
_CLOTHES: dict[bool, tuple[Colour, ...]] = {  # by: is female
    False: ((48, 58, 84), (66, 66, 70), (62, 92, 84), (120, 140, 172), (104, 84, 66), (226, 228, 230)),
    True: ((188, 72, 86), (224, 164, 172), (150, 110, 160), (232, 214, 170), (86, 148, 148), (240, 234, 228)),
}
_IRISES: tuple[Colour, ...] = ((62, 38, 24), (48, 30, 22), (84, 60, 34), (76, 104, 122))
_FRAMES: tuple[Colour, ...] = ((24, 22, 24), (92, 58, 36), (120, 122, 128), (60, 28, 36))
_EARRINGS: tuple[Colour, ...] = ((236, 204, 120), (232, 236, 242), (196, 60, 90))


@dataclass(frozen=True)
class Person:
    """Who somebody is, and what stays the same in all their photos.

    Lengths are in head units: half a face is 1 wide. `maturity` and `seniority` (0..1) are smooth steps of the apparent
    age around 30 and 60, so that neighbouring age groups blur into each other at the boundary, as in life.
    """

    gender: str
    race: str
    age: int
    maturity: float
    seniority: float
    skin: Colour
    hair: Colour
    temples: Colour
    greyness: float
    jaw: float
    fullness: float
    chin: float
    eye_size: float
    brow: float
    lips: Colour
    lip_height: float
    iris: Colour
    beard: float
    hair_volume: float
    hair_length: float
    fringe: float
    sweep: float
    recession: float
    wave: float
    has_bun: bool
    glasses: Colour | None
    earrings: Colour | None
    clothes: Colour
    has_collar: bool
    neckline: float
    shoulders: float

    @property
    def is_female(self) -> bool:
        """Whether the folder name says female."""
        return self.gender == "female"


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Returns the first colour with this share (0..1) of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def make_person(gender: str, group: int, generator: np.random.Generator) -> Person:
    """Returns a person of this gender and age group (0..2); race, age and look are drawn at random.

    No feature decides alone: each is a distribution, and those of men and women, of young and old, overlap.
    """

    def between(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    def happens(chance: float) -> bool:
        return bool(generator.random() < chance)

    def one_of(colours: tuple[Colour, ...]) -> Colour:
        return colours[generator.integers(len(colours))]

    def by_gender(female: tuple[float, float], male: tuple[float, float]) -> float:
        return between(*(female if is_female else male))

    is_female = gender == "female"
    race = RACES[generator.integers(len(RACES))]
    age = int(generator.integers(_AGE_RANGES[group][0], _AGE_RANGES[group][1] + 1))
    assert age_group(age) == group
    apparent_age = age + generator.normal(0, 1.2)
    maturity = float(1 / (1 + np.exp((30.0 - apparent_age) / 1.6)))
    seniority = float(1 / (1 + np.exp((59.5 - apparent_age) / 2.5)))

    skin = mix(*_SKIN_COLOURS[race], between(0, 1))
    skin = mix(skin, (176, 150, 120) if sum(skin) > 400 else (104, 84, 70), 0.3 * maturity + 0.1 * seniority)
    skin = mix(skin, (255, 150, 130), 0.16 * (1 - maturity))
    is_dyed = is_female and happens(0.12)
    greyness = min(1.0, (0.13 * maturity + 0.82 * seniority) * between(0.7, 1.2)) * (0.6 if is_dyed else 1)
    hair = mix(one_of(_HAIR_COLOURS[race]), _GREY, greyness)
    is_short = happens(0.07 if is_female else 0.95)
    has_bun = is_female and not is_short and happens(0.18)
    has_fringe = happens((0.65 if is_female else 0.25) - (0.4 if is_female else 0.2) * maturity)
    loss = 0.0 if is_female else between(0, 0.14) * maturity + between(0, 0.34) * seniority
    clothes = one_of(_CLOTHES[is_female == happens(0.92)])
    return Person(
        gender=gender,
        race=race,
        age=age,
        maturity=maturity,
        seniority=seniority,
        skin=skin,
        hair=hair,
        temples=mix(hair, _GREY, 0.55 * maturity * (1 - greyness)),
        greyness=greyness,
        jaw=by_gender((0.68, 0.79), (0.83, 0.95)),
        fullness=between(0.94, 1.04) - 0.05 * seniority,
        chin=by_gender((1.32, 1.42), (1.38, 1.5)),
        eye_size=by_gender((0.95, 1.15), (0.82, 1.0)) * (1 - 0.07 * maturity - 0.06 * seniority),
        brow=by_gender((0.024, 0.04), (0.058, 0.09)),
        lips=mix(skin, (196, 62, 78) if is_female else (160, 84, 76), by_gender((0.45, 0.8), (0.25, 0.45))),
        lip_height=by_gender((0.09, 0.12), (0.06, 0.09)),
        iris=one_of(_IRISES if race == "White" else _IRISES[:3]),
        beard=0.0 if is_female else 0.75 if happens(0.3) else between(0.02, 0.16),
        hair_volume=by_gender((0.18, 0.3), (0.05, 0.15)) * (1 - 0.3 * seniority),
        hair_length=between(0, 0.3) if is_short or has_bun else by_gender((0.85, 2.3), (0.5, 0.9)),
        fringe=(between(0.45, 1.0) if has_fringe else between(0, 0.2)) * (0.4 if has_bun else 1),
        sweep=between(-1, 1),
        recession=loss + between(-0.03, 0.05),
        wave=between(0, 0.1),
        has_bun=has_bun,
        glasses=one_of(_FRAMES) if happens(0.1 + 0.05 * maturity + 0.4 * seniority) else None,
        earrings=one_of(_EARRINGS) if is_female and happens(0.8) else None,
        clothes=mix(clothes, (196, 186, 172), 0.25 * maturity + 0.15 * seniority),
        has_collar=happens(0.05 + 0.5 * maturity),
        neckline=between(2.05, 2.5),
        shoulders=by_gender((1.65, 1.95), (2.15, 2.6)),
    )
