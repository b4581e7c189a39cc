"""Photos become pixels of one form, and those what a model sees; the same object is saved with a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.Image import Image, Resampling

from maskcls.data.photo import BadPhotos
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from tests.data.drawn import BLUE, GREEN, RED, SMALL, is_all, levels_apart, stripes, waves

# From a photo to stored pixels


@pytest.mark.parametrize(
    ("size", "margin", "stored"),
    [((80, 60), 0.0, (80, 60)), ((80, 60), 0.125, (90, 68)), ((224, 224), 0.125, (252, 252)), ((8, 8), 1.0, (16, 16))],
)
def test_the_stored_size_has_the_margin_around_it(
    size: tuple[int, int], margin: float, stored: tuple[int, int]
) -> None:
    preprocessing = Preprocessing(size, margin=margin)
    assert preprocessing.stored_size == stored
    picture = preprocessing.stored(stripes(RED))
    assert (picture.shape, picture.dtype, is_all(picture, RED)) == ((*stored, 3), np.uint8, True)


def test_squash_stretches_the_whole_photo() -> None:
    picture = Preprocessing((10, 10)).stored(stripes(RED, GREEN))  # 20 high, 40 wide
    assert picture.shape == (10, 10, 3)
    assert is_all(picture[:, :4], RED)
    assert is_all(picture[:, 6:], GREEN)


def test_pad_keeps_the_shape_and_fills_with_grey() -> None:
    wide = Preprocessing((20, 20), fit="pad").stored(stripes(RED, GREEN))  # 20 high, 40 wide -> 10 high, 20 wide
    assert is_all(wide[:5], (128, 128, 128))
    assert is_all(wide[15:], (128, 128, 128))
    assert is_all(wide[5:15, :9], RED)
    assert is_all(wide[5:15, 11:], GREEN)
    high = Preprocessing((20, 20), fit="pad").stored(stripes(RED, height=80))
    assert is_all(high[:, 7:12], RED)
    grey = (high == 128).all(axis=(0, 2))
    assert grey.sum() == 15
    assert grey[:7].all()


def test_crop_keeps_the_shape_and_cuts_the_centre() -> None:
    picture = Preprocessing((20, 20), fit="crop").stored(stripes(RED, GREEN, BLUE))  # 20 high, 60 wide
    assert is_all(picture, GREEN)
    high = Preprocessing((10, 20), fit="crop").stored(stripes(RED, height=80).transpose(Pillow.Transpose.ROTATE_90))
    assert high.shape == (10, 20, 3)
    turned = Pillow.fromarray(np.asarray(stripes(RED, GREEN, BLUE)).transpose(1, 0, 2))  # 60 high, 20 wide
    assert is_all(Preprocessing((20, 20), fit="crop").stored(turned), GREEN)


def test_a_photo_of_the_right_shape_is_the_same_under_every_fit() -> None:
    photo = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    results = [Preprocessing((20, 15), fit=fit).stored(photo) for fit in ("squash", "pad", "crop")]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert np.array_equal(Preprocessing((40, 30)).stored(photo), np.asarray(photo))  # and untouched at its own size


@pytest.mark.parametrize(
    ("box", "colour"),
    [
        ((0, 0, 1 / 3, 1), RED),
        ((1 / 3, 0, 2 / 3, 1), GREEN),
        ((2 / 3, 0.2, 1, 0.6), BLUE),
        ([0.4, 0, 0.41, 0.01], GREEN),
    ],
)
@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_a_crop_box_is_in_fractions_of_width_and_height(box: tuple[float, ...], colour: tuple, fit: str) -> None:
    picture = Preprocessing((16, 16), fit=fit, crop_box=box).stored(stripes(RED, GREEN, BLUE))
    inside = picture[7:9, 7:9] if fit == "pad" else picture
    assert picture.shape == (16, 16, 3)
    assert is_all(inside, colour)


def test_a_crop_box_that_holds_no_pixel_takes_the_nearest_one() -> None:
    for box in [(0.999, 0.999, 1, 1), (0, 0, 0.001, 0.001)]:
        assert is_all(Preprocessing((4, 4), crop_box=box).stored(stripes(RED)), RED)


@pytest.mark.parametrize("size", [(80, 60), (224, 224), (90, 300), (600, 500), (512, 384), (33, 7)])
def test_squash_is_within_one_level_of_pillows_bilinear(size: tuple[int, int], sample: Path) -> None:
    photo = Pillow.open(next((sample / "images").glob("*/normal.*"))).convert("RGB")
    ours = Preprocessing(size).stored(photo).astype(int)
    pillows = np.asarray(photo.resize(size[::-1], Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - pillows).max() <= 1
    assert ours.std() > 10


@pytest.mark.parametrize("size", [(80, 60), (90, 300), (224, 100)])
def test_crop_and_pad_are_within_one_level_of_pillows_bilinear(size: tuple[int, int], sample: Path) -> None:
    photo = Pillow.open(next((sample / "images").glob("*/normal.*"))).convert("RGB")  # 384 x 512
    height, width = size
    shrink = min(512 / height, 384 / width)
    cut_height, cut_width = round(height * shrink), round(width * shrink)
    left, top = (384 - cut_width) // 2, (512 - cut_height) // 2
    cut = photo.crop((left, top, left + cut_width, top + cut_height)).resize((width, height), Resampling.BILINEAR)
    assert np.abs(Preprocessing(size, fit="crop").stored(photo).astype(int) - np.asarray(cut)).max() <= 1
    scale = min(height / 512, width / 384)
    inner = photo.resize((round(384 * scale), round(512 * scale)), Resampling.BILINEAR)
    padded = Pillow.new("RGB", (width, height), (128, 128, 128))
    padded.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    assert np.abs(Preprocessing(size, fit="pad").stored(photo).astype(int) - np.asarray(padded)).max() <= 1


# Decoding


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),  # the first row is the right side: a quarter turn clockwise
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_a_photo_is_turned_upright(
    orientation: int, upright: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    expected = upright(stored)
    decoded = Preprocessing(expected.shape[:2]).read({"path": str(tmp_path / "photo.png"), "bytes": None})
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("name", "photo", "colour"),
    [
        ("grey.png", Pillow.new("L", (9, 9), 77), (77, 77, 77)),
        ("grey.jpg", Pillow.new("L", (9, 9), 77), (77, 77, 77)),
        ("grey_alpha.png", Pillow.new("LA", (9, 9), (77, 255)), (77, 77, 77)),
        ("alpha.png", Pillow.new("RGBA", (9, 9), (*RED, 255)), RED),
        ("glass.png", Pillow.new("RGBA", (9, 9), (*RED, 0)), (128, 128, 128)),
        ("palette.png", Pillow.new("RGB", (9, 9), GREEN).quantize(2), GREEN),
        ("palette.gif", Pillow.new("RGB", (9, 9), GREEN).quantize(2), GREEN),
        ("one_bit.png", Pillow.new("1", (9, 9), 1), (255, 255, 255)),
        ("plain.bmp", Pillow.new("RGB", (9, 9), BLUE), BLUE),
        ("plain.tiff", Pillow.new("RGB", (9, 9), BLUE), BLUE),
        ("plain.webp", Pillow.new("RGB", (9, 9), (99, 99, 99)), (99, 99, 99)),
        ("ink.jpg", Pillow.new("CMYK", (9, 9), (0, 0, 0, 155)), (100, 100, 100)),
    ],
)
def test_every_kind_of_picture_becomes_three_colours(name: str, photo: Image, colour: tuple, tmp_path: Path) -> None:
    photo.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    decoded = Preprocessing((6, 6)).read({"path": str(tmp_path / name), "bytes": None})
    assert (decoded.shape, decoded.dtype) == ((6, 6, 3), np.uint8)
    assert np.abs(decoded.astype(int) - np.array(colour)).max() <= 1


@pytest.mark.parametrize(
    "preprocessing",
    [
        SMALL,
        Preprocessing((80, 60)),
        Preprocessing((80, 60), margin=0.125),
        Preprocessing((96, 96), "crop"),
        Preprocessing((96, 96), "pad"),
        Preprocessing((80, 60), crop_box=(0.25, 0.25, 0.75, 0.75)),
        Preprocessing((64, 48), crop_box=(0.1, 0.1, 0.9, 0.9)),
        Preprocessing((80, 60), crop_box=(0.2, 0.2, 0.7, 0.8)),
    ],
    ids=str,
)
def test_a_jpeg_that_is_shrunk_while_it_is_decoded_differs_by_less_than_a_level(
    preprocessing: Preprocessing, sample: Path
) -> None:
    paths = sorted((sample / "images").glob("*/normal.jpg"))
    for path in paths:
        with Pillow.open(path) as photo:
            whole = preprocessing.stored(photo)
        assert levels_apart(preprocessing.read({"path": str(path), "bytes": None}), whole) < 1
    assert len(paths) > 5


def test_a_jpeg_that_is_hardly_larger_than_its_pixels_is_not_shrunk(sample: Path) -> None:
    path = next((sample / "images").glob("*/normal.jpg"))
    for size in [(200, 150), (512, 384), (600, 600)]:
        with Pillow.open(path) as photo:
            assert np.array_equal(
                Preprocessing(size).read({"path": str(path), "bytes": None}), Preprocessing(size).stored(photo)
            )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_jpeg_is_shrunk_by_its_upright_shape(orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(waves(400, 100)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    with Pillow.open(tmp_path / "photo.jpg") as photo:
        upright = ImageOps.exif_transpose(photo)
        size = (upright.height // 8, upright.width // 2)
        decoded = Preprocessing(size).read({"path": str(tmp_path / "photo.jpg"), "bytes": None})
        assert levels_apart(decoded, Preprocessing(size).stored(upright)) < 1


def test_a_photo_may_come_as_bytes(tmp_path: Path) -> None:
    stripes(RED).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    assert is_all(Preprocessing((6, 6)).read({"path": None, "bytes": content}), RED)
    with pytest.raises(BadPhotos, match=r"^an embedded photo: it is not an image$"):
        Preprocessing((6, 6)).read({"path": None, "bytes": b"not a photo"})


# From stored pixels to what the model sees, and back

SEEN = Preprocessing((24, 18), margin=0.125, mean=[0.5, 0.4, 0.3], std=[0.2, 0.25, 0.3])


def stored_noise(num_photos: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (num_photos, *SEEN.stored_size, 3), generator=random, dtype=torch.uint8)


def test_a_model_sees_the_normalised_centre() -> None:
    pixels = stored_noise(3)
    centre = pixels[:, 1:25, 1:19].permute(0, 3, 1, 2) / 255
    expected = (centre - torch.tensor(SEEN.mean)[:, None, None]) / torch.tensor(SEEN.std)[:, None, None]
    seen = SEEN.seen(pixels)
    assert (seen.shape, seen.dtype) == ((3, 3, 24, 18), torch.float32)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_what_a_model_sees_can_be_shown_again() -> None:
    pixels = stored_noise(3)
    shown = SEEN.pictures(SEEN.seen(pixels))
    assert shown.dtype == np.uint8 and np.array_equal(shown, pixels[:, 1:25, 1:19].numpy())
    assert SEEN.pictures(torch.tensor([-99.0, 0.0, 99.0])[None, :, None, None])[0, 0, 0].tolist() == [0, 102, 255]


# Beside a run


@pytest.mark.parametrize("known", [SMALL, SEEN, Preprocessing((9, 7), "pad", [0, 0.1, 1 / 3, 1], 0.25, (0, 0.5, 1))])
def test_what_is_saved_is_read_as_it_was(known: Preprocessing, tmp_path: Path) -> None:
    known.save(tmp_path / "preprocessing.json")
    assert Preprocessing.load(tmp_path / "preprocessing.json") == known
    assert set(json.loads((tmp_path / "preprocessing.json").read_text())) == {
        "image_size", "fit", "crop_box", "margin", "mean", "std",
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "[]", "{", '{"fit": "pad"}', '{"image_size": [1, 2], "size": 3}', "\xff"])
def test_another_file_in_its_place_is_reported(content: str, tmp_path: Path) -> None:
    file = tmp_path / "preprocessing.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=rf"^{file} is not what train.py wrote: "):
        Preprocessing.load(file)
    with pytest.raises(UserError, match=r"none\.json: No such file or directory$"):
        Preprocessing.load(tmp_path / "none.json")


def test_mean_and_std_that_are_given_are_kept_and_open_ones_are_filled_in() -> None:
    given = Preprocessing((4, 4), std=[0.1, 0.2, 0.3])
    known = given.with_statistics([0.5, 0.5, 0.5], [0.9, 0.9, 0.9])
    assert (known.mean, known.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert (given.is_complete, known.is_complete) == (False, True)
    assert given.stored_as == known.stored_as  # decoded once, whatever they are
