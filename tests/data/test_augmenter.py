"""Random numbers are keyed by the photo, and every change is what Pillow or a plain loop makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from maskcls.data.augmentation import AUGMENTATIONS, Augmentation
from maskcls.data.augmenter import DRAWS, Augmenter, _blurred, _plane_rotation, keyed_uniform
from maskcls.data.preprocessing import Preprocessing

SEED, EPOCH = 11, 3
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
HEIGHT, WIDTH = 24, 18
CPU = torch.device("cpu")
STORED = (28, 22)  # 4 spare rows and columns
ONE_OF_EACH = {"all": Augmentation(True, 1.0, 0.5, 20, 0.2, 0.1, 0.4, 0.4, 0.4, 0.1, 0.0, 0.5)}
RECIPES = AUGMENTATIONS | ONE_OF_EACH


def augmenter(mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD, **strengths: float) -> Augmenter:
    return Augmenter(
        Augmentation(**strengths), Preprocessing((HEIGHT, WIDTH), mean=mean, std=std), seed=SEED, device=CPU
    )


def levels(**strengths: float) -> Augmenter:
    """Returns one whose results are the colours themselves, 0..1."""
    return augmenter((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **strengths)


def noise(num_photos: int, low: int = 0, high: int = 256, size: tuple[int, int] = STORED) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(low, high, (num_photos, *size, 3), generator=random, dtype=torch.uint8)


def waves(size: tuple[int, int]) -> np.ndarray:
    """Returns a smooth picture (H, W, 3) uint8, not the same under any turn or mirror."""
    y, x = np.mgrid[: size[0], : size[1]]
    bands = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 6), np.sin(x / 11) * np.cos(y / 8)]
    return (128 + 90 * np.stack(bands, 2)).astype(np.uint8)


def drawn(photos: torch.Tensor) -> dict[str, list[float]]:
    draws = keyed_uniform(photos, len(DRAWS), seed=SEED, epoch=EPOCH)
    return {name: draws[:, column].tolist() for column, name in enumerate(DRAWS)}


# Random numbers


def split_mix(x: int) -> int:
    """SplitMix64's output for the state x, in Python's own integers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def uniform_by_hand(seed: int, epoch: int, photo: int, draw: int) -> float:
    key = split_mix(split_mix(split_mix(split_mix(seed) + epoch) + photo) + draw)
    return (key >> 40) / 2**24


def test_the_reference_is_splitmix64() -> None:
    """Against the first outputs for seed 1234567, as published with the generator (rosettacode.org)."""
    outputs = [split_mix(1234567 + step * 0x9E3779B97F4A7C15) for step in range(4)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]


def test_the_numbers_are_those_of_the_reference() -> None:
    for seed, epoch in [(0, 0), (42, 1), (2**31, 500), (2**63 - 1, 3)]:
        photos = torch.tensor([0, 1, 2, 18_899, 2**40])
        draws = keyed_uniform(photos, 7, seed=seed, epoch=epoch)
        for row, photo in enumerate(photos.tolist()):
            for draw in range(7):
                assert draws[row, draw].item() == uniform_by_hand(seed, epoch, photo, draw)


def test_numbers_are_even_over_the_unit_interval() -> None:
    draws = keyed_uniform(torch.arange(100_000), 4, seed=1, epoch=1)
    assert (draws.dtype, draws.shape) == (torch.float32, (100_000, 4))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean(0).tolist() == pytest.approx([1 / 2] * 4, abs=0.005)  # 5 standard errors
    assert draws.std(0).tolist() == pytest.approx([math.sqrt(1 / 12)] * 4, abs=0.005)
    for column in range(4):
        counts = torch.histc(draws[:, column], 20, 0, 1)
        assert (counts - 5000).abs().max() < 5 * math.sqrt(5000)
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.02


def test_neighbouring_keys_are_not_alike() -> None:
    photos = torch.arange(20_000)
    base = keyed_uniform(photos, 1, seed=1, epoch=1)[:, 0]
    for other in (
        keyed_uniform(photos, 1, seed=2, epoch=1)[:, 0],
        keyed_uniform(photos, 1, seed=1, epoch=2)[:, 0],
        keyed_uniform(photos + 1, 1, seed=1, epoch=1)[:, 0],
        keyed_uniform(photos, 2, seed=1, epoch=1)[:, 1],
    ):
        assert abs(torch.corrcoef(torch.stack([base, other]))[0, 1]) < 0.04
        assert (base == other).float().mean() < 0.001


def test_no_two_draws_of_an_epoch_are_the_same_column() -> None:
    draws = keyed_uniform(torch.arange(64), len(DRAWS), seed=0, epoch=0)
    assert len({tuple(column) for column in draws.T.tolist()}) == len(DRAWS) == len(set(DRAWS))
    epochs = {
        tuple(keyed_uniform(torch.arange(4), 2, seed=s, epoch=e).flatten().tolist()) for s in range(9) for e in range(9)
    }
    assert len(epochs) == 81


def test_a_photo_has_the_same_numbers_in_any_batch() -> None:
    photos = torch.tensor([7, 3, 900, 3])
    together = keyed_uniform(photos, 5, seed=SEED, epoch=EPOCH)
    for row, photo in enumerate(photos):
        assert torch.equal(keyed_uniform(photo[None], 5, seed=SEED, epoch=EPOCH)[0], together[row])
    assert torch.equal(keyed_uniform(photos, 2, seed=SEED, epoch=EPOCH), together[:, :2])
    assert keyed_uniform(photos[:0], 5, seed=SEED, epoch=EPOCH).shape == (0, 5)


# Plain, cut and mirrored


def test_without_strengths_training_sees_what_validation_sees() -> None:
    pixels, photos = noise(3), torch.arange(3)
    assert torch.equal(augmenter().augmented(pixels, photos, epoch=EPOCH), augmenter().preprocessing.seen(pixels))
    assert AUGMENTATIONS["none"] == Augmentation()


def test_flip_only_mirrors() -> None:
    pixels, photos = noise(40), torch.arange(40)
    plain = augmenter().preprocessing.seen(pixels)
    torch.testing.assert_close(augmenter(flip=1.0).augmented(pixels, photos, epoch=EPOCH), plain.flip(3))
    halved = augmenter(flip=0.5).augmented(pixels, photos, epoch=EPOCH)
    is_mirrored = [draw < 0.5 for draw in drawn(photos)["flip"]]
    for row in range(40):
        torch.testing.assert_close(halved[row], plain[row].flip(2) if is_mirrored[row] else plain[row])
    assert 10 < sum(is_mirrored) < 30


def test_shift_cuts_every_window_of_the_stored_pixels() -> None:
    pixels, photos = noise(200), torch.arange(200)
    cut = (levels(shift=True).augmented(pixels, photos, epoch=EPOCH) * 255).round().to(torch.uint8)
    draw, windows = drawn(photos), set()
    for row in range(200):
        top, left = int(draw["top"][row] * 5), int(draw["left"][row] * 5)
        assert torch.equal(cut[row], pixels[row, top : top + HEIGHT, left : left + WIDTH].permute(2, 0, 1))
        windows.add((top, left))
    assert len(windows) == 25


def test_pixels_without_spare_cannot_be_shifted() -> None:
    pixels = noise(4, size=(HEIGHT, WIDTH))
    augmented = augmenter(shift=True).augmented(pixels, torch.arange(4), epoch=EPOCH)
    torch.testing.assert_close(augmented, augmenter().preprocessing.seen(pixels))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_makes_the_same_pictures(name: str) -> None:
    preprocessing, pixels, photos = Preprocessing((HEIGHT, WIDTH), mean=MEAN, std=STD), noise(32), torch.arange(32)
    made = [
        Augmenter(RECIPES[name], preprocessing, seed=SEED, device=device)
        .augmented(pixels.to(device), photos.to(device), epoch=EPOCH)
        .cpu()
        for device in (CPU, torch.device("cuda"))
    ]
    torch.testing.assert_close(made[1], made[0], rtol=0, atol=0.01)


# Colour, against Pillow (whose results are whole levels: it rounds or cuts off once or twice)


@pytest.mark.parametrize(
    ("name", "enhance", "tolerance"),
    [
        ("brightness", ImageEnhance.Brightness, 1.0),
        ("contrast", ImageEnhance.Contrast, 1.5),
        ("saturation", ImageEnhance.Color, 1.5),
    ],
)
def test_colour_changes_are_pillows(name: str, enhance: type, tolerance: float) -> None:
    pixels, photos = noise(16, 90, 160), torch.arange(16)  # far enough from 0 and 255: nothing is clipped
    ours = levels(**{name: 0.3}).augmented(pixels, photos, epoch=EPOCH) * 255
    factors = [1 + (draw * 2 - 1) * 0.3 for draw in drawn(photos)[name]]
    for row, factor in enumerate(factors):
        photo = Image.fromarray(pixels[row, 2:26, 2:20].numpy())
        pillows = np.asarray(enhance(photo).enhance(factor)).astype(np.float32)
        assert np.abs(ours[row].permute(1, 2, 0).numpy() - pillows).max() <= tolerance
    assert max(factors) > 1.1
    assert min(factors) < 0.9


def test_all_colour_changes_together_are_pillows_one_after_the_other() -> None:
    pixels, photos = noise(16, 100, 150), torch.arange(16)
    strengths = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    ours = levels(**strengths).augmented(pixels, photos, epoch=EPOCH) * 255
    draw = drawn(photos)
    for row in range(16):
        photo = Image.fromarray(pixels[row, 2:26, 2:20].numpy())
        for name, enhance in zip(strengths, enhancers, strict=True):
            photo = enhance(photo).enhance(1 + (draw[name][row] * 2 - 1) * 0.2)
        difference = np.abs(ours[row].permute(1, 2, 0).numpy() - np.asarray(photo).astype(np.float32))
        assert difference.max() <= 1.2 * 1.2 + 1.2 + 1  # Pillow cuts off up to a level after each of the three


def test_colours_stay_between_black_and_white() -> None:
    pixels, photos = noise(32), torch.arange(32)
    strong = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.5}
    colours = levels(**strong).augmented(pixels, photos, epoch=EPOCH)
    assert (colours.min(), colours.max()) == (0.0, 1.0)
    normalised = augmenter(**strong).augmented(pixels, photos, epoch=EPOCH)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(normalised * std + mean, colours, rtol=0, atol=1e-4)


def _hue_rotation(turns: torch.Tensor) -> torch.Tensor:
    """Returns (B, 3, 3): what a hue turn does to (red, green, blue)."""
    made = levels(hue=0.5)
    return made._from_yiq @ _plane_rotation(turns) @ made._to_yiq


def test_a_hue_turn_of_nothing_or_of_full_circles_changes_nothing() -> None:
    for turns in (0.0, 1.0, -1.0, 2.0):
        turn = _hue_rotation(torch.tensor([turns]))[0]
        torch.testing.assert_close(turn, torch.eye(3), rtol=0, atol=1e-4)
    pixels, photos = noise(4), torch.arange(4)
    barely = levels(hue=1e-7).augmented(pixels, photos, epoch=EPOCH)
    torch.testing.assert_close(barely, levels().preprocessing.seen(pixels), rtol=0, atol=1e-4)


def test_a_hue_turn_keeps_greys_and_brightness_and_comes_back() -> None:
    turns = torch.tensor([0.1, 0.25, -0.4, 0.5])
    matrices = _hue_rotation(turns)
    grey, luma = torch.ones(3, 1), torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(matrices @ grey, grey.expand(4, 3, 1), rtol=0, atol=1e-3)
    torch.testing.assert_close(luma @ matrices, luma.expand(4, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(_hue_rotation(-turns) @ matrices, torch.eye(3).expand(4, 3, 3), rtol=0, atol=1e-4)
    assert ((matrices - torch.eye(3)).abs().amax((1, 2)) > 0.3).all()


def test_hue_moves_colours() -> None:
    pixels, photos = noise(8, 100, 156), torch.arange(8)
    turned, plain = levels(hue=0.5).augmented(pixels, photos, epoch=EPOCH), levels().preprocessing.seen(pixels)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((turned * luma).sum(1), (plain * luma).sum(1), rtol=0, atol=2e-3)
    assert (turned - plain).abs().mean() > 0.02


# Turned, zoomed, stretched, against Pillow


@pytest.mark.parametrize("name", ["rotation", "zoom", "stretch"])
def test_the_weakest_turn_zoom_or_stretch_changes_nothing(name: str) -> None:
    pixels, photos = noise(8), torch.arange(8)
    barely = levels(**{name: 1e-6}).augmented(pixels, photos, epoch=EPOCH)
    torch.testing.assert_close(barely, levels().preprocessing.seen(pixels), rtol=0, atol=1e-3)
    mirrored = levels(**{name: 1e-6}, flip=1.0).augmented(pixels, photos, epoch=EPOCH)
    torch.testing.assert_close(mirrored, levels().preprocessing.seen(pixels).flip(3), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "strength"), [("rotation", 30.0), ("zoom", 0.3), ("stretch", 0.3)])
def test_geometry_is_pillows(name: str, strength: float) -> None:
    """Away from the border, where ours mirrors the picture and Pillow's is black."""
    size, photos = (64, 48), torch.arange(12)
    picture = waves((80, 60))
    made = Augmenter(
        Augmentation(**{name: strength}), Preprocessing(size, mean=(0, 0, 0), std=(1, 1, 1)), seed=SEED, device=CPU
    )
    pixels = torch.from_numpy(picture)[None].expand(12, -1, -1, -1)
    ours = made.augmented(pixels, photos, epoch=EPOCH).permute(0, 2, 3, 1).numpy() * 255
    column = {"rotation": "turn"}.get(name, name)
    for row, draw in enumerate(drawn(photos)[column]):
        amount = (draw * 2 - 1) * strength
        if name == "rotation":  # counterclockwise, as Pillow turns
            turned = Image.fromarray(picture).rotate(amount, Image.Resampling.BILINEAR)
        else:
            scale_x, scale_y = 1 / (1 + amount), (1 / (1 + amount) if name == "zoom" else 1.0)
            matrix = (scale_x, 0, 30 * (1 - scale_x), 0, scale_y, 40 * (1 - scale_y))
            turned = Image.fromarray(picture).transform(
                (60, 80), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
            )
        pillows = np.asarray(turned)[8:72, 6:54].astype(np.float32)
        difference = np.abs(ours[row] - pillows)[16:-16, 12:-12]
        assert difference.max() <= 2.0
        assert (
            np.abs(picture[8:72, 6:54].astype(np.float32) - pillows)[16:-16, 12:-12].max() > 2
            or abs(amount) < 0.1 * strength
        )


def test_a_quarter_turn_by_hand() -> None:
    """A draw of 1 under rotation 90: the picture is turned counterclockwise, pixel for pixel."""
    pixels = noise(1, size=(HEIGHT, HEIGHT))
    made = Augmenter(
        Augmentation(rotation=90), Preprocessing((HEIGHT, HEIGHT), mean=MEAN, std=STD), seed=SEED, device=CPU
    )
    draw = {name: torch.tensor([0.5]) for name in DRAWS} | {"turn": torch.tensor([1.0])}
    turned = made._turned(pixels.permute(0, 3, 1, 2), draw)
    expected = torch.rot90(pixels[0], 1, (0, 1)).permute(2, 0, 1).float()
    torch.testing.assert_close(turned[0], expected, rtol=0, atol=0.1)


def test_shift_and_turn_together_show_the_shifted_window() -> None:
    picture, photos = torch.from_numpy(waves(STORED))[None].expand(16, -1, -1, -1), torch.arange(16)
    moved = levels(shift=True, rotation=1e-6).augmented(picture, photos, epoch=EPOCH) * 255
    draw = drawn(photos)
    for row in range(16):
        top, left = draw["top"][row] * 4, draw["left"][row] * 4
        matrix = (1, 0, left, 0, 1, top)
        shifted = Image.fromarray(picture[0].numpy()).transform(
            (WIDTH, HEIGHT), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        difference = np.abs(moved[row].permute(1, 2, 0).numpy() - np.asarray(shifted).astype(np.float32))
        assert difference[1:-1, 1:-1].max() <= 1.5


# Erased


def test_erasing_fills_one_rectangle_with_the_mean_colour() -> None:
    pixels, photos = torch.full((400, 64, 64, 3), 255, dtype=torch.uint8), torch.arange(400)
    made = Augmenter(Augmentation(erase=1.0), Preprocessing((64, 64), mean=MEAN, std=STD), seed=SEED, device=CPU)
    erased = made.augmented(pixels, photos, epoch=EPOCH)
    inside = erased == 0
    assert torch.equal(erased[~inside], made.preprocessing.seen(pixels)[~inside])
    areas, ratios = [], []
    for picture in inside:
        assert torch.equal(picture[0], picture[1])
        assert torch.equal(picture[0], picture[2])
        rows, columns = picture[0].any(1), picture[0].any(0)
        assert torch.equal(picture[0], rows[:, None] & columns[None, :])  # a rectangle
        height, width = int(rows.sum()), int(columns.sum())
        assert rows.nonzero()[:, 0].diff().eq(1).all()  # without gaps
        assert columns.nonzero()[:, 0].diff().eq(1).all()
        # A side is cut to whole pixels: less than one away from what was drawn.
        assert (height + 1) * (width + 1) > 0.02 * 64 * 64
        assert (height - 1) * (width - 1) < 0.20 * 64 * 64
        areas.append(height * width / 64**2)
        ratios.append(height / width)
    assert np.mean(areas) == pytest.approx(0.11, abs=0.01)
    assert min(areas) < 0.03
    assert max(areas) > 0.19
    assert 1 / 4 < min(ratios) < 1 / 2.5
    assert 2.5 < max(ratios) < 4
    covered = inside[:, 0].float().mean(0)
    assert (covered.amax(1) > 0).all()  # every row and column is met now and then, the last ones too
    assert (covered.amax(0) > 0).all()


def test_erasing_meets_the_given_share_of_photos() -> None:
    pixels, photos = torch.full((2000, HEIGHT, WIDTH, 3), 255, dtype=torch.uint8), torch.arange(2000)
    erased = augmenter(erase=0.25).augmented(pixels, photos, epoch=EPOCH)
    assert (erased == 0).any(3).any(2).any(1).float().mean().item() == pytest.approx(0.25, abs=0.04)


# Batches, epochs and recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_photo_looks_the_same_in_any_batch(name: str) -> None:
    made = Augmenter(RECIPES[name], Preprocessing((HEIGHT, WIDTH), mean=MEAN, std=STD), seed=SEED, device=CPU)
    pixels, photos = noise(12), torch.arange(100, 112)
    together = made.augmented(pixels, photos, epoch=EPOCH)
    order = torch.tensor([5, 11, 0, 7])
    torch.testing.assert_close(
        made.augmented(pixels[order], photos[order], epoch=EPOCH), together[order], rtol=0, atol=1e-5
    )
    for row in (0, 11):
        alone = made.augmented(pixels[[row]], photos[[row]], epoch=EPOCH)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "none"])
def test_another_epoch_seed_or_photo_looks_other(name: str) -> None:
    def make(seed: int, epoch: int, first: int) -> torch.Tensor:
        made = Augmenter(RECIPES[name], Preprocessing((HEIGHT, WIDTH), mean=MEAN, std=STD), seed=seed, device=CPU)
        return made.augmented(pixels, torch.arange(first, first + 6), epoch=epoch)

    pixels = noise(1).expand(6, -1, -1, -1)
    base = make(1, 1, 0)
    assert torch.equal(make(1, 1, 0), base)
    for other in (make(2, 1, 0), make(1, 2, 0), make(1, 1, 6)):
        assert not torch.isclose(other, base).flatten(1).all(1).any()
    assert not torch.isclose(base[1:], base[:-1]).flatten(1).all(1).any()


@pytest.mark.parametrize("num_photos", [1, 5])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_finite_pictures(name: str, num_photos: int) -> None:
    made = Augmenter(RECIPES[name], Preprocessing((HEIGHT, WIDTH), mean=MEAN, std=STD), seed=SEED, device=CPU)
    pixels = noise(num_photos)
    for epoch in (1, 2):
        x = made.augmented(pixels, torch.arange(num_photos), epoch=epoch)
        assert (x.shape, x.dtype) == ((num_photos, 3, HEIGHT, WIDTH), torch.float32)
        assert x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        assert x.isfinite().all()
        low, high = -torch.tensor(MEAN) / torch.tensor(STD), (1 - torch.tensor(MEAN)) / torch.tensor(STD)
        assert (x >= low[:, None, None] - 1e-4).all()
        assert (x <= high[:, None, None] + 1e-4).all()
    assert pixels.equal(noise(num_photos))  # the stored pixels are left alone


def test_a_resized_part_is_pillows_crop_and_resize() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(8, 3, 3, 3), (64, 48), mode="bicubic").clamp(0, 1)
    pixels = (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()
    made = Augmenter(
        Augmentation(min_area=0.2),
        Preprocessing((24, 18), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        seed=1,
        device=CPU,
    )
    ours = (made.augmented(pixels, torch.arange(8), epoch=2) * 255).permute(0, 2, 3, 1).numpy()
    draws = dict(zip(DRAWS, keyed_uniform(torch.arange(8), len(DRAWS), seed=1, epoch=2).unbind(1), strict=True))
    tops, lefts, heights, widths = (values.round().int().tolist() for values in made._part((64, 48), draws))
    for row in range(8):
        assert 0.15 < heights[row] * widths[row] / (64 * 48) <= 1
        box = (lefts[row], tops[row], lefts[row] + widths[row], tops[row] + heights[row])
        photo = Image.fromarray(pixels[row].numpy()).crop(box).resize((18, 24), Image.Resampling.BILINEAR)
        assert np.abs(ours[row] - np.asarray(photo, np.float32)).max() <= 1.01
    turned = made._turned(pixels.permute(0, 3, 1, 2), draws).permute(0, 2, 3, 1).numpy()  # as a GPU does it
    assert np.abs(ours - turned).mean() < 3  # not antialiased, and not rounded to whole pixels


def test_blur_moves_a_pixel_towards_the_mean_of_its_neighbours() -> None:
    x = torch.zeros(2, 3, 5, 5)
    x[:, :, 2, 2] = 1
    blurred = _blurred(x, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(blurred[0], x[0])
    kernel = torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0])
    torch.testing.assert_close(blurred[1, 0], kernel[:, None] * kernel)
    torch.testing.assert_close(_blurred(torch.ones(1, 3, 4, 4), torch.tensor([0.7])), torch.ones(1, 3, 4, 4))


# Mixed


def one_hot_targets(num_photos: int) -> dict[str, torch.Tensor]:
    return {"photo": torch.eye(num_photos), "parity": torch.eye(2)[torch.arange(num_photos) % 2]}


def flat(num_photos: int) -> torch.Tensor:
    """Returns pictures (B, 3, H, W) that hold their own number everywhere."""
    return torch.arange(num_photos).float()[:, None, None, None].expand(-1, 3, 32, 32).clone()


@pytest.mark.parametrize("strengths", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 0.4}])
@pytest.mark.parametrize("num_photos", [2, 7, 40])
def test_targets_are_mixed_as_the_pictures_are(strengths: dict[str, float], num_photos: int) -> None:
    x, photos = flat(num_photos), torch.arange(num_photos) + 50
    targets = one_hot_targets(num_photos)
    mixed, soft = augmenter(**strengths).mixed(x, targets, photos, epoch=EPOCH)
    assert (mixed.shape, mixed.dtype) == (x.shape, torch.float32)
    kinds = {"blended": 0, "cut": 0, "alone": 0}
    for row in range(num_photos):
        partner = row ^ 1 if row ^ 1 < num_photos else row
        shares = soft["photo"][row]
        assert shares.sum().item() == pytest.approx(1, abs=1e-6)
        assert set(shares.nonzero()[:, 0].tolist()) <= {row, partner}
        own = shares[row].item()
        assert 0.5 - 0.05 <= own <= 1  # the rectangle's sides are rounded to pixels
        assert soft["parity"][row, row % 2].item() == pytest.approx(own if partner != row else 1, abs=1e-6)
        # On average over the pixels the picture is as much its own as the target says.
        assert mixed[row].mean().item() == pytest.approx(own * row + (1 - own) * partner, abs=1e-3)
        if own == 1:
            assert torch.equal(mixed[row], x[row])
            kinds["alone"] += 1
        elif len(mixed[row].unique()) == 1:
            kinds["blended"] += 1
        else:
            assert mixed[row].unique().tolist() == sorted([row, partner])
            kinds["cut"] += 1
    if num_photos == 40:
        assert (kinds["blended"] > 0) == ("mixup" in strengths)
        assert (kinds["cut"] > 0) == ("cutmix" in strengths)
        assert (kinds["alone"] > 0) == (len(strengths) == 2)
    assert torch.equal(targets["photo"], torch.eye(num_photos))  # what was given is left alone
    assert torch.equal(x, flat(num_photos))


def test_cutmix_exchanges_one_rectangle_between_the_two() -> None:
    x = flat(200)
    mixed, soft = augmenter(cutmix=1.0).mixed(x, one_hot_targets(200), torch.arange(200), epoch=EPOCH)
    num_cut, met = 0, torch.zeros(32, 32, dtype=torch.bool)
    for first in range(0, 200, 2):
        from_second = mixed[first, 0] == first + 1
        assert torch.equal(mixed[first + 1, 0] == first, from_second)
        assert torch.equal(from_second, from_second.any(1)[:, None] & from_second.any(0)[None, :])
        assert soft["photo"][first, first + 1].item() == pytest.approx(from_second.float().mean().item(), abs=1e-6)
        assert soft["photo"][first + 1, first].item() == pytest.approx(from_second.float().mean().item(), abs=1e-6)
        num_cut += bool(from_second.any())
        met |= from_second
    assert num_cut >= 90
    assert met.any(1).all()  # every row and column is exchanged now and then
    assert met.any(0).all()


def test_half_cutmix_joins_a_left_side_with_the_partners_right_side() -> None:
    x = flat(200)
    mixed, soft = augmenter(half_cutmix=1.0, half_range=(0.25, 0.75)).mixed(
        x, one_hot_targets(200), torch.arange(200), epoch=EPOCH
    )
    edges, width = set(), x.shape[3]
    for row in range(200):
        partner = row ^ 1
        edge = int((mixed[row, 0, 0] == row).sum())
        edges.add(edge)
        assert torch.equal(mixed[row, :, :, :edge], x[row, :, :, :edge])
        assert torch.equal(mixed[row, :, :, edge:], x[partner, :, :, edge:])
        assert soft["photo"][row, row].item() == pytest.approx(edge / width)
        assert soft["photo"][row, partner].item() == pytest.approx(1 - edge / width)
    assert (min(edges), max(edges)) == (width // 4, width * 3 // 4)


def test_mixing_ends_with_its_last_epoch() -> None:
    x, targets, photos = flat(8), one_hot_targets(8), torch.arange(8)
    made = augmenter(mixup=1.0, mixing_epochs=3)
    assert not torch.equal(made.mixed(x, targets, photos, epoch=3)[0], x)
    assert torch.equal(made.mixed(x, targets, photos, epoch=4)[0], x)


def test_a_pair_is_mixed_the_same_in_any_batch() -> None:
    made = augmenter(mixup=0.5, cutmix=0.5)
    x, photos = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    together, soft = made.mixed(x, one_hot_targets(8), photos, epoch=EPOCH)
    alone, soft_alone = made.mixed(x[4:6], {"photo": torch.eye(8)[4:6]}, photos[4:6], epoch=EPOCH)
    torch.testing.assert_close(alone, together[4:6])
    torch.testing.assert_close(soft_alone["photo"], soft["photo"][4:6])
    swapped, _ = made.mixed(x[[5, 4]], {"photo": torch.eye(8)[[5, 4]]}, photos[[5, 4]], epoch=EPOCH)
    torch.testing.assert_close(swapped, together[[5, 4]])


@pytest.mark.parametrize("num_photos", [0, 1])
def test_nobody_to_mix_with_changes_nothing(num_photos: int) -> None:
    x, targets = flat(num_photos), one_hot_targets(num_photos)
    mixed, soft = augmenter(mixup=1.0).mixed(x, targets, torch.arange(num_photos), epoch=EPOCH)
    assert torch.equal(mixed, x)
    assert soft is targets


def test_without_mixing_nothing_is_mixed() -> None:
    x, targets = flat(4), one_hot_targets(4)
    assert augmenter(flip=1.0).mixed(x, targets, torch.arange(4), epoch=EPOCH) == (x, targets)
