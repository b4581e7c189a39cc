"""Photos become pixels of one geometry, the same from the cache and on the fly, and the cache survives accidents."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.Image import Image, Resampling

from maskcls.data import pixels, profiles
from maskcls.data.dataset import build_table, inference_data
from maskcls.data.pixels import (
    BadPhotos,
    DecodedPixels,
    DevicePixels,
    Geometry,
    build_cache,
    cache_folder,
    decode,
    find_bad_photos,
    mean_and_std,
    on_device,
    open_cache,
    photos_of_one_colour,
)
from maskcls.errors import UserError
from tests.helpers import as_nobody

RED, GREEN, BLUE = (250, 10, 20), (30, 240, 40), (50, 60, 230)
SMALL = Geometry((24, 18), margin=0.125)
PERSON = "000001_female_Asian_45"


def stripes(*colours: tuple[int, int, int], height: int = 20, width: int = 20) -> Image:
    """Returns stripes side by side, each `width` wide."""
    row = np.repeat(np.array(colours, np.uint8), width, axis=0)
    return Pillow.fromarray(np.repeat(row[None], height, axis=0))


def waves(height: int, width: int) -> np.ndarray:
    """Returns a smooth picture (H, W, 3) uint8 with details of a few pixels."""
    y, x = np.mgrid[:height, :width]
    return (128 + 90 * np.stack([np.sin(x / 3), np.cos(y / 3), np.sin((x + y) / 4)], 2)).astype(np.uint8)


def is_all(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour, np.uint8)).all())


def table_of(images: Path, cache: Path) -> Dataset:
    return build_table(profiles.find_photos(images, profiles.profile_folders(images))[0], images, cache)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns a folder with one person and her seven photos of noise, 30 x 40 pixels."""
    random = np.random.default_rng(0)
    (tmp_path / "images" / PERSON).mkdir(parents=True)
    for stem in profiles.STEMS:
        noise = random.integers(0, 256, (40, 30, 3), np.uint8)
        Pillow.fromarray(noise).save(tmp_path / "images" / PERSON / f"{stem}.png")
    return tmp_path / "images"


@pytest.fixture
def decoded_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that collects the name of every photo that is decoded."""
    names: list[str] = []
    real = pixels.decode

    def noted(image: dict[str, object], geometry: Geometry) -> np.ndarray:
        names.append(str(image["path"]))
        return real(image, geometry)

    monkeypatch.setattr(pixels, "decode", noted)
    return names


def levels_apart(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean absolute difference; two photos of the sample are tens of levels apart."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


# Geometry


@pytest.mark.parametrize(
    ("size", "margin", "stored"),
    [((80, 60), 0.0, (80, 60)), ((80, 60), 0.125, (90, 68)), ((224, 224), 0.125, (252, 252)), ((8, 8), 1.0, (16, 16))],
)
def test_the_stored_size_has_the_margin_around_it(
    size: tuple[int, int], margin: float, stored: tuple[int, int]
) -> None:
    geometry = Geometry(size, margin=margin)
    assert geometry.stored_size == stored
    picture = geometry.apply(stripes(RED))
    assert (picture.shape, picture.dtype, is_all(picture, RED)) == ((*stored, 3), np.uint8, True)


def test_squash_stretches_the_whole_photo() -> None:
    picture = Geometry((10, 10)).apply(stripes(RED, GREEN))  # 20 high, 40 wide
    assert picture.shape == (10, 10, 3)
    assert is_all(picture[:, :4], RED)
    assert is_all(picture[:, 6:], GREEN)


def test_pad_keeps_the_shape_and_fills_with_grey() -> None:
    wide = Geometry((20, 20), fit="pad").apply(stripes(RED, GREEN))  # 20 high, 40 wide -> 10 high, 20 wide
    assert is_all(wide[:5], (128, 128, 128))
    assert is_all(wide[15:], (128, 128, 128))
    assert is_all(wide[5:15, :9], RED)
    assert is_all(wide[5:15, 11:], GREEN)
    high = Geometry((20, 20), fit="pad").apply(stripes(RED, height=80))
    assert is_all(high[:, 7:12], RED)
    grey = (high == 128).all(axis=(0, 2))
    assert grey.sum() == 15
    assert grey[:7].all()


def test_crop_keeps_the_shape_and_cuts_the_centre() -> None:
    picture = Geometry((20, 20), fit="crop").apply(stripes(RED, GREEN, BLUE))  # 20 high, 60 wide
    assert is_all(picture, GREEN)
    high = Geometry((10, 20), fit="crop").apply(stripes(RED, height=80).transpose(Pillow.Transpose.ROTATE_90))
    assert high.shape == (10, 20, 3)
    turned = Pillow.fromarray(np.asarray(stripes(RED, GREEN, BLUE)).transpose(1, 0, 2))  # 60 high, 20 wide
    assert is_all(Geometry((20, 20), fit="crop").apply(turned), GREEN)


def test_a_photo_of_the_right_shape_is_the_same_under_every_fit() -> None:
    photo = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    results = [Geometry((20, 15), fit=fit).apply(photo) for fit in ("squash", "pad", "crop")]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert np.array_equal(Geometry((40, 30)).apply(photo), np.asarray(photo))  # and untouched at its own size


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
    picture = Geometry((16, 16), fit=fit, crop_box=box).apply(stripes(RED, GREEN, BLUE))
    inside = picture[7:9, 7:9] if fit == "pad" else picture
    assert picture.shape == (16, 16, 3)
    assert is_all(inside, colour)


def test_a_crop_box_that_holds_no_pixel_takes_the_nearest_one() -> None:
    for box in [(0.999, 0.999, 1, 1), (0, 0, 0.001, 0.001)]:
        assert is_all(Geometry((4, 4), crop_box=box).apply(stripes(RED)), RED)


@pytest.mark.parametrize("size", [(80, 60), (224, 224), (90, 300), (600, 500), (512, 384), (33, 7)])
def test_squash_is_within_one_level_of_pillows_bilinear(size: tuple[int, int], sample: Path) -> None:
    photo = Pillow.open(next((sample / "images").glob("*/normal.*"))).convert("RGB")
    ours = Geometry(size).apply(photo).astype(int)
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
    assert np.abs(Geometry(size, fit="crop").apply(photo).astype(int) - np.asarray(cut)).max() <= 1
    scale = min(height / 512, width / 384)
    inner = photo.resize((round(384 * scale), round(512 * scale)), Resampling.BILINEAR)
    padded = Pillow.new("RGB", (width, height), (128, 128, 128))
    padded.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    assert np.abs(Geometry(size, fit="pad").apply(photo).astype(int) - np.asarray(padded)).max() <= 1


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
    decoded = decode({"path": str(tmp_path / "photo.png"), "bytes": None}, Geometry(expected.shape[:2]))
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
    decoded = decode({"path": str(tmp_path / name), "bytes": None}, Geometry((6, 6)))
    assert (decoded.shape, decoded.dtype) == ((6, 6, 3), np.uint8)
    assert np.abs(decoded.astype(int) - np.array(colour)).max() <= 1


@pytest.mark.parametrize(
    "geometry",
    [
        SMALL,
        Geometry((80, 60)),
        Geometry((80, 60), margin=0.125),
        Geometry((96, 96), "crop"),
        Geometry((96, 96), "pad"),
        Geometry((80, 60), crop_box=(0.25, 0.25, 0.75, 0.75)),
        Geometry((64, 48), crop_box=(0.1, 0.1, 0.9, 0.9)),
        Geometry((80, 60), crop_box=(0.2, 0.2, 0.7, 0.8)),
    ],
    ids=str,
)
def test_a_jpeg_that_is_shrunk_while_it_is_decoded_differs_by_less_than_a_level(
    geometry: Geometry, sample: Path
) -> None:
    paths = sorted((sample / "images").glob("*/normal.jpg"))
    for path in paths:
        with Pillow.open(path) as photo:
            whole = geometry.apply(photo)
        assert levels_apart(decode({"path": str(path), "bytes": None}, geometry), whole) < 1
    assert len(paths) > 5


def test_a_jpeg_that_is_hardly_larger_than_its_pixels_is_not_shrunk(sample: Path) -> None:
    path = next((sample / "images").glob("*/normal.jpg"))
    for size in [(200, 150), (512, 384), (600, 600)]:
        with Pillow.open(path) as photo:
            assert np.array_equal(
                decode({"path": str(path), "bytes": None}, Geometry(size)), Geometry(size).apply(photo)
            )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_jpeg_is_shrunk_by_its_upright_shape(orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(waves(400, 100)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    with Pillow.open(tmp_path / "photo.jpg") as photo:
        upright = ImageOps.exif_transpose(photo)
        size = (upright.height // 8, upright.width // 2)
        decoded = decode({"path": str(tmp_path / "photo.jpg"), "bytes": None}, Geometry(size))
        assert levels_apart(decoded, Geometry(size).apply(upright)) < 1


def test_a_photo_may_come_as_bytes(tmp_path: Path) -> None:
    stripes(RED).save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    assert is_all(decode({"path": None, "bytes": content}, Geometry((6, 6))), RED)
    with pytest.raises(BadPhotos, match=r"^an embedded photo: it is not an image$"):
        decode({"path": None, "bytes": b"not a photo"}, Geometry((6, 6)))


def test_the_cache_and_the_fly_give_the_same_bits(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 32)
    table = table_of(sample / "images", tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=2)
    mapped, decoded = open_cache(table, SMALL, tmp_path), DecodedPixels(table, SMALL, num_threads=3)
    assert mapped.shape == decoded.shape == (84, 27, 20, 3)
    for rows in (np.arange(84), np.random.default_rng(0).permutation(84)[:50], np.array([83, 0, 31, 32, 31])):
        from_cache, on_the_fly = mapped(rows), decoded(rows)
        assert from_cache.dtype == on_the_fly.dtype == torch.uint8
        assert torch.equal(from_cache, on_the_fly)
        for row, picture in list(zip(rows, from_cache, strict=True))[:3]:  # and they are those of the photo
            with Pillow.open(table["path"][int(row)]) as photo:
                assert levels_apart(SMALL.apply(photo), picture.numpy()) < 1
    assert len(list(cache_folder(table, SMALL, tmp_path).glob("*.arrow"))) == 3
    assert len({bytes(picture.numpy()) for picture in mapped(np.arange(84))}) == 84  # no row stands for another


def test_pixels_kept_on_a_device_are_those_of_the_cache(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 32)
    table = table_of(sample / "images", tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    mapped = open_cache(table, SMALL, tmp_path)
    kept = DevicePixels(mapped, torch.device("cpu"))
    rows = np.random.default_rng(1).permutation(84)
    assert kept.shape == mapped.shape
    assert torch.equal(kept(rows), mapped(rows))
    assert on_device(mapped, torch.device("cpu")) is mapped


def test_the_evaluation_folder_is_decoded_on_the_fly(sample: Path, tmp_path: Path) -> None:
    data = inference_data(sample / "eval", tmp_path)
    read = DecodedPixels(data.table, SMALL)(np.array([3, 1]))
    for picture, row in zip(read, (3, 1), strict=True):
        with Pillow.open(sample / "eval" / "images" / data.image_ids[row]) as photo:
            assert levels_apart(SMALL.apply(photo), picture.numpy()) < 1


def test_photos_that_show_nothing_are_known_after_they_were_read_on_the_fly(images: Path, tmp_path: Path) -> None:
    stripes(RED).save(images / PERSON / "mask2.png")
    table = table_of(images, tmp_path)
    read = DecodedPixels(table, SMALL, num_threads=2)
    row = list(table["stem"]).index("mask2")
    read(np.array([i for i in range(7) if i != row]))
    assert read.of_one_colour == set()
    read(np.arange(7))
    assert read.of_one_colour == {row}


def test_a_batch_from_the_cache_belongs_to_the_caller(images: Path, tmp_path: Path) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    mapped = open_cache(table, SMALL, tmp_path)
    first = mapped(np.arange(7))
    before = first.clone()
    first.zero_()
    assert torch.equal(mapped(np.arange(7)), before)


# The cache


def test_a_second_call_decodes_nothing(images: Path, tmp_path: Path, decoded_names: list[str]) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=2)
    assert len(decoded_names) == 7
    build_cache(table_of(images, tmp_path), SMALL, tmp_path, num_workers=2)
    assert len(decoded_names) == 7


def test_another_photo_or_geometry_has_another_folder(images: Path, tmp_path: Path) -> None:
    table = table_of(images, tmp_path)
    geometries = [
        SMALL, Geometry((18, 24), margin=0.125), Geometry((24, 18)), Geometry((24, 18), "pad", margin=0.125),
        Geometry((24, 18), crop_box=(0, 0, 1, 0.5), margin=0.125),
    ]  # fmt: skip
    folders = {cache_folder(table, geometry, tmp_path) for geometry in geometries}
    assert len(folders) == len(geometries)
    assert cache_folder(table, Geometry((24, 18), crop_box=[0, 0, 1, 0.5], margin=0.125), tmp_path) in folders
    photo = images / PERSON / "normal.png"
    stripes(RED).save(photo)
    os.utime(photo, ns=(0, 1))
    changed = table_of(images, tmp_path)
    assert cache_folder(changed, SMALL, tmp_path) not in folders
    build_cache(table, SMALL, tmp_path / "old", num_workers=0)
    build_cache(changed, SMALL, tmp_path, num_workers=0)
    row = list(changed["stem"]).index("normal")
    assert is_all(open_cache(changed, SMALL, tmp_path)(np.array([row]))[0].numpy(), RED)


def test_a_cache_folder_may_be_called_as_a_protocol_is(images: Path, tmp_path: Path) -> None:
    cache = tmp_path / "s3:a::b"
    table = table_of(images, cache)
    build_cache(table, Geometry((8, 6)), cache, num_workers=0)
    assert len(open_cache(table, Geometry((8, 6)), cache)(np.arange(2))) == 2
    assert [path.name for path in tmp_path.iterdir() if "b" in path.name] == ["s3:a::b"]


def test_photos_that_cannot_be_read_are_all_named_in_one_message(images: Path, tmp_path: Path) -> None:
    folder = images / PERSON
    whole = folder / "mask1.png"
    Pillow.open(whole).resize((300, 300)).save(folder / "mask2.png")
    stored = (folder / "mask2.png").read_bytes()
    (folder / "mask2.png").write_bytes(stored[: len(stored) // 2])
    (folder / "mask3.png").write_text("not a photo")
    (folder / "mask4.png").write_bytes(b"")
    Pillow.open(whole).resize((300, 300)).save(folder / "mask5.jpg")
    (folder / "mask5.png").unlink()
    stored = (folder / "mask5.jpg").read_bytes()
    (folder / "mask5.jpg").write_bytes(stored[:-1000])
    table = table_of(images, tmp_path)
    bad = [str(folder / name) for name in ("mask2.png", "mask3.png", "mask4.png", "mask5.jpg")]
    reads: list[Callable[[], object]] = [
        lambda: build_cache(table, SMALL, tmp_path, num_workers=0),
        lambda: build_cache(table, SMALL, tmp_path, num_workers=3),
        lambda: find_bad_photos(table, SMALL, tmp_path, num_workers=3),
        lambda: DecodedPixels(table, SMALL)(np.arange(7)),
    ]
    for read in reads:
        with pytest.raises(BadPhotos) as error:
            read()
        assert str(error.value).splitlines()[0] == "4 photos cannot be read:"
        assert len(error.value.args) == 4
        for problem, path in zip(str(error.value).splitlines()[1:], bad, strict=True):
            assert problem.startswith(f"  - {path}: ")
        assert f"{bad[1]}: it is not an image" in str(error.value)
        assert f"{bad[2]}: it is not an image" in str(error.value)
        assert not (cache_folder(table, SMALL, tmp_path) / "complete").exists()
        assert not (cache_folder(table, SMALL, tmp_path) / "readable").exists()
    assert DecodedPixels(table, SMALL)(np.array([0])).shape == (1, 27, 20, 3)  # the others can be read


def test_no_shard_is_written_after_a_bad_photo(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hold the pixels of the wrong photos, and a later launch would take them for finished."""
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 2)
    names = sorted(f"{stem}.png" for stem in profiles.STEMS)
    (images / PERSON / names[2]).write_text("not a photo")
    table = table_of(images, tmp_path)
    with pytest.raises(BadPhotos):
        build_cache(table, SMALL, tmp_path, num_workers=2)
    assert [path.name for path in cache_folder(table, SMALL, tmp_path).glob("*.arrow")] == ["00000000.arrow"]


def test_a_cache_is_whole_after_the_bad_photo_is_mended(images: Path, tmp_path: Path) -> None:
    photo = images / PERSON / "normal.png"
    stored = photo.read_bytes()
    photo.write_text("not a photo")
    with pytest.raises(BadPhotos, match=r"^[^\n]*normal\.png: it is not an image$"):
        build_cache(table_of(images, tmp_path), SMALL, tmp_path, num_workers=1)
    photo.write_bytes(stored)
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=1)
    assert torch.equal(open_cache(table, SMALL, tmp_path)(np.arange(7)), DecodedPixels(table, SMALL)(np.arange(7)))


def test_a_killed_launch_costs_only_the_shards_that_it_had_not_finished(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_names: list[str]
) -> None:
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 2)
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=2)
    folder = cache_folder(table, SMALL, tmp_path)
    expected = open_cache(table, SMALL, tmp_path)(np.arange(7))
    shards = sorted(folder.glob("*.arrow"))
    assert [shard.name for shard in shards] == [f"0000000{start}.arrow" for start in (0, 2, 4, 6)]
    for shard in shards:
        os.utime(shard, ns=(1, 1))
    (folder / "complete").unlink()
    shards[1].rename(folder / "00000002.unfinished")
    (folder / "00000002.unfinished").write_bytes(b"half")
    decoded_names.clear()
    build_cache(table, SMALL, tmp_path, num_workers=2)
    assert [shard.stat().st_mtime_ns == 1 for shard in shards] == [True, False, True, True]
    assert len(decoded_names) == 2
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(shard.name for shard in shards), "complete"])
    assert torch.equal(open_cache(table, SMALL, tmp_path)(np.arange(7)), expected)


def test_a_launch_that_lost_only_the_marker_decodes_nothing(
    images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    (cache_folder(table, SMALL, tmp_path) / "complete").unlink()
    build_cache(table, SMALL, tmp_path, num_workers=0)
    assert len(decoded_names) == 7
    assert (cache_folder(table, SMALL, tmp_path) / "complete").exists()


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def half_zeroed(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


@pytest.mark.parametrize("has_marker", [True, False])
@pytest.mark.parametrize("damage", [truncated, Path.unlink, zeroed, half_zeroed])
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(
    damage: Callable[[Path], None], has_marker: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    decoded_names: list[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 2)
    monkeypatch.setattr(pixels, "SIGN_STEP", 1024)
    monkeypatch.setattr(pixels, "SIGN_BYTES", 64)
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=2)
    expected = open_cache(table, SMALL, tmp_path)(np.arange(7))
    folder = cache_folder(table, SMALL, tmp_path)
    damage(folder / "00000002.arrow")
    if not has_marker:  # a launch was killed, and its machine lost its power
        if damage is half_zeroed:
            pytest.skip("what a killed launch left has no checksum yet")
        (folder / "complete").unlink()
    decoded_names.clear()
    build_cache(table, SMALL, tmp_path, num_workers=2)
    assert len(decoded_names) == 2
    assert torch.equal(open_cache(table, SMALL, tmp_path)(np.arange(7)), expected)
    build_cache(table, SMALL, tmp_path, num_workers=2)
    assert len(decoded_names) == 2


@pytest.mark.parametrize("content", [b"", bytes(100), b"[]", b"{}", b'{"signs": {"x": 1}}', b"\xff"])
def test_a_damaged_marker_is_written_again_without_decoding(
    content: bytes, images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    marker = cache_folder(table, SMALL, tmp_path) / "complete"
    whole = marker.read_bytes()
    marker.write_bytes(content)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    assert (marker.read_bytes(), len(decoded_names)) == (whole, 7)


@pytest.mark.parametrize("damage", [truncated, Path.unlink, zeroed])
def test_a_cache_that_is_damaged_when_it_is_opened_is_told_with_the_folder_to_delete(
    damage: Callable[[Path], None], images: Path, tmp_path: Path
) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    folder = cache_folder(table, SMALL, tmp_path)
    damage(folder / "00000000.arrow")
    with pytest.raises(UserError, match=rf"^the decoded photos in {folder} are not whole \(.+\): delete that folder$"):
        open_cache(table, SMALL, tmp_path)


def test_machines_whose_common_disk_has_no_locks_may_build_at_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr(pixels, "SHARD_PHOTOS", 2)
    table = table_of(images, tmp_path)
    real, barrier = pixels._write_shards, Barrier(2)

    def together(*arguments: object, **more: object) -> None:
        barrier.wait(30)
        real(*arguments, **more)

    monkeypatch.setattr(pixels, "_write_shards", together)
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(build_cache, table, SMALL, tmp_path, num_workers=1) for _ in range(2)]
        for build in builds:
            build.result(60)
    assert torch.equal(open_cache(table, SMALL, tmp_path)(np.arange(7)), DecodedPixels(table, SMALL)(np.arange(7)))
    names = {path.name for path in cache_folder(table, SMALL, tmp_path).iterdir()}
    assert names == {"complete", *(f"0000000{start}.arrow" for start in (0, 2, 4, 6))}


def test_what_a_killed_launch_left_unfinished_is_removed(images: Path, tmp_path: Path) -> None:
    table = table_of(images, tmp_path)
    folder = cache_folder(table, SMALL, tmp_path)
    folder.mkdir(parents=True)
    (folder / "00000000-0123.unfinished").write_bytes(b"half")
    build_cache(table, SMALL, tmp_path, num_workers=0)
    assert {path.name for path in folder.iterdir()} == {"00000000.arrow", "complete"}


def test_a_lock_that_cannot_be_taken_is_told_with_its_folder(images: Path, tmp_path: Path) -> None:
    table = table_of(images, tmp_path)
    folder = cache_folder(table, SMALL, tmp_path)
    Path(f"{folder}.lock").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"^cache_dir {tmp_path} cannot be written: Is a directory$"):
        build_cache(table, SMALL, tmp_path, num_workers=0)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("read_all", [build_cache, find_bad_photos])
def test_photos_that_show_nothing_are_known_once_all_are_read(
    read_all: Callable[..., None], fit: str, images: Path, tmp_path: Path
) -> None:
    geometry = Geometry((24, 18), fit)
    table = table_of(images, tmp_path)
    read_all(table, geometry, tmp_path, num_workers=0)
    assert photos_of_one_colour(table, geometry, tmp_path) == []
    stripes(RED).save(images / PERSON / "mask2.png")
    Pillow.new("L", (50, 20), 128).save(images / PERSON / "normal.png")
    corner = np.full((20, 20, 3), 9, np.uint8)
    corner[-8:, -8:] = 200
    Pillow.fromarray(corner).save(images / PERSON / "mask3.png")
    table = table_of(images, tmp_path)
    assert photos_of_one_colour(table, geometry, tmp_path) == []  # not read yet
    for _ in range(2):
        read_all(table, geometry, tmp_path, num_workers=2)
        expected = [str(images / PERSON / name) for name in ("mask2.png", "normal.png")]
        assert photos_of_one_colour(table, geometry, tmp_path) == expected


def test_photos_are_looked_through_once_and_not_in_every_run(
    images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images, tmp_path)
    find_bad_photos(table, SMALL, tmp_path, num_workers=2)
    find_bad_photos(table, SMALL, tmp_path, num_workers=2)
    assert len(decoded_names) == 7
    build_cache(table, SMALL, tmp_path / "other", num_workers=0)
    find_bad_photos(table, SMALL, tmp_path / "other", num_workers=2)  # the decoded pixels are proof enough
    assert len(decoded_names) == 14


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_names: list[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    table = table_of(images, tmp_path)
    needed = 7 * 27 * 20 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, needed))
    with pytest.raises(UserError) as error:
        build_cache(table, SMALL, tmp_path, num_workers=0)
    folder = cache_folder(table, SMALL, tmp_path)
    assert str(error.value) == (
        f"the decoded photos take 0.0 GB, but {folder} has 0.0 GB free: "
        "set cache_dir to a larger disk, lower image_size, or set cache: none"
    )
    assert decoded_names == []
    assert not (folder / "complete").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 2 * needed))
    build_cache(table, SMALL, tmp_path, num_workers=0)
    assert (folder / "complete").exists()


def test_a_cache_folder_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    table = table_of(images, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^cache_dir {tmp_path}/file cannot be written: Not a directory$"):
        build_cache(table, SMALL, tmp_path / "file", num_workers=0)


def test_decoding_tells_where_it_goes_and_how_large_it_is(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(images, tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0, show=False)
    assert capsys.readouterr() == ("", "")
    build_cache(table, Geometry((300, 300)), tmp_path, num_workers=0, show=True)
    folder = cache_folder(table, Geometry((300, 300)), tmp_path)
    assert capsys.readouterr().out.startswith(f"decoding once to {folder}: 2 MB (")


def test_a_launch_waits_for_another_that_is_decoding_and_uses_its_pixels(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(sample / "images", tmp_path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy\n"
        "from maskcls.data import pixels, profiles\n"
        "from maskcls.data.dataset import build_table\n"
        "images, cache = map(Path, sys.argv[1:])\n"
        "table = build_table(profiles.find_photos(images, profiles.profile_folders(images))[0], images, cache)\n"
        "names, real = [], pixels.decode\n"
        "pixels.decode = lambda image, geometry: names.append(image['path']) or real(image, geometry)\n"
        "geometry = pixels.Geometry((24, 18), margin=0.125)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('going', (pixels.cache_folder(table, geometry, cache) / 'complete').exists(), flush=True)\n"
        "pixels.build_cache(table, geometry, cache, num_workers=1)\n"
        "print(len(names), int(pixels.open_cache(table, geometry, cache)(numpy.arange(84)).long().sum()))\n"
    )
    command = [sys.executable, "-c", code, str(sample / "images"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        names: list[str] = []
        real = pixels.decode

        def let_the_other_go(image: dict[str, object], geometry: Geometry) -> np.ndarray:
            names.append(str(image["path"]))
            if len(names) == 1:
                child.stdin.write("go\n")
                child.stdin.flush()
                assert child.stdout.readline() == "going False\n"
                time.sleep(0.2)  # it is at the lock now
            return real(image, geometry)

        monkeypatch.setattr(pixels, "decode", let_the_other_go)
        build_cache(table, SMALL, tmp_path, num_workers=0)
        printed = child.communicate(timeout=60)[0].split()
    total = int(open_cache(table, SMALL, tmp_path)(np.arange(84)).long().sum())
    assert (child.returncode, printed, len(names)) == (0, ["0", str(total)], 84)
    assert {path.name for path in cache_folder(table, SMALL, tmp_path).iterdir()} == {"00000000.arrow", "complete"}
    assert len([path for path in (tmp_path / "pixels").iterdir() if path.is_dir()]) == 1


# Statistics


def test_mean_and_std_are_numpys_over_all_pixels() -> None:
    random = np.random.default_rng(0)
    stored = random.integers(0, 256, (600, 5, 4, 3), np.uint8)
    stored[..., 1] //= 3  # darker and less spread
    rows = random.permutation(600)[:530]
    mean, std = mean_and_std(lambda some: torch.from_numpy(stored[some]), rows, least_std=0.001)
    values = stored[rows].astype(np.float64) / 255
    assert mean == pytest.approx(values.mean((0, 1, 2)), abs=1e-6)
    assert std == pytest.approx(values.std((0, 1, 2)), abs=1e-6)
    root_mean_square = np.sqrt((values**2).mean((0, 1, 2)))  # what the original code returned for std
    assert (np.abs(np.array(std) - root_mean_square) > 0.05).all()
    assert all(isinstance(value, float) for value in [*mean, *std])


def test_mean_and_std_of_the_sample_are_the_same_from_the_cache_and_on_the_fly(sample: Path, tmp_path: Path) -> None:
    table = table_of(sample / "images", tmp_path)
    build_cache(table, SMALL, tmp_path, num_workers=0)
    rows = np.arange(0, 84, 2)
    from_cache = mean_and_std(open_cache(table, SMALL, tmp_path), rows, least_std=0.001)
    assert from_cache == mean_and_std(DecodedPixels(table, SMALL), rows[::-1], least_std=0.001)
    assert from_cache != mean_and_std(open_cache(table, SMALL, tmp_path), rows + 1, least_std=0.001)
    values = DecodedPixels(table, SMALL)(rows).numpy() / 255
    assert from_cache[0] == pytest.approx(values.mean((0, 1, 2)), abs=1e-6)
    assert from_cache[1] == pytest.approx(values.std((0, 1, 2)), abs=1e-6)


def test_photos_of_one_colour_have_no_spread_and_are_refused() -> None:
    words = (
        r"^the std computed of 3 training photos is \[0.0, 0.0, 0.0\]; it divides, so it cannot be 0 or less than 0.001"
    )
    with pytest.raises(UserError, match=words):
        mean_and_std(
            lambda rows: torch.full((len(rows), 2, 2, 3), 51, dtype=torch.uint8), np.arange(3), least_std=0.001
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_half_built_cache_is_told(images: Path, everybodys: Path) -> None:
    table, geometry = table_of(images, everybodys), Geometry((8, 6))
    build_cache(table, geometry, everybodys, num_workers=0)
    assert as_nobody(lambda: build_cache(table, geometry, everybodys, num_workers=0)) == ""  # what is whole may be read
    for file in cache_folder(table, geometry, everybodys).iterdir():
        file.unlink()
    message = as_nobody(lambda: build_cache(table, geometry, everybodys, num_workers=0))
    assert message.startswith(f"cache_dir {everybodys} cannot be written: ") and "Permission denied" in message
