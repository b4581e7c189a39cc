"""Every reader gives the same pixels of a photo, and mean and std are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from maskcls.data import pixel_cache
from maskcls.data.photo import BadPhotos
from maskcls.data.pixel_cache import PixelCache
from maskcls.data.pixels import DecodedPixels, DevicePixels, KeptPixels, mean_and_std, on_device
from maskcls.errors import UserError
from tests.data.drawn import PERSON, RED, SMALL, levels_apart, stripes, table_of


def test_the_cache_and_the_fly_give_the_same_bits(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 32)
    table = table_of(sample / "images")
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    mapped, decoded = PixelCache(table, SMALL, tmp_path).open(), DecodedPixels(table, SMALL, num_threads=3)
    assert mapped.shape == decoded.shape == (84, 27, 20, 3)
    for rows in (np.arange(84), np.random.default_rng(0).permutation(84)[:50], np.array([83, 0, 31, 32, 31])):
        from_cache, on_the_fly = mapped(rows), decoded(rows)
        assert from_cache.dtype == on_the_fly.dtype == torch.uint8
        assert torch.equal(from_cache, on_the_fly)
        for row, picture in list(zip(rows, from_cache, strict=True))[:3]:  # and they are those of the photo
            with Pillow.open(table["path"][int(row)]) as photo:
                assert levels_apart(SMALL.stored(photo), picture.numpy()) < 1
    assert len(list(PixelCache(table, SMALL, tmp_path).folder.glob("*.arrow"))) == 3
    assert len({bytes(picture.numpy()) for picture in mapped(np.arange(84))}) == 84  # no row stands for another


def test_pixels_kept_on_a_device_are_those_of_the_cache(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 32)
    table = table_of(sample / "images")
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    mapped = PixelCache(table, SMALL, tmp_path).open()
    kept = DevicePixels(mapped, torch.device("cpu"))
    rows = np.random.default_rng(1).permutation(84)
    assert kept.shape == mapped.shape
    assert torch.equal(kept(rows), mapped(rows))
    assert on_device(mapped, torch.device("cpu")) is mapped


def test_photos_that_show_nothing_are_known_after_they_were_read_on_the_fly(images: Path, tmp_path: Path) -> None:
    stripes(RED).save(images / PERSON / "mask2.png")
    table = table_of(images)
    read = DecodedPixels(table, SMALL, num_threads=2)
    row = list(table["stem"]).index("mask2")
    read(np.array([i for i in range(7) if i != row]))
    assert read.of_one_colour == set()
    read(np.arange(7))
    assert read.of_one_colour == {row}


def test_pixels_that_are_kept_are_decoded_once_until_they_are_forgotten(sample: Path) -> None:
    class Counting(DecodedPixels):
        rows: ClassVar[list[int]] = []

        def __call__(self, rows: np.ndarray) -> torch.Tensor:
            self.rows.extend(rows.tolist())
            return super().__call__(rows)

    table = table_of(sample / "images")
    kept, decoded = KeptPixels(Counting(table, SMALL)), DecodedPixels(table, SMALL)
    assert kept.shape == decoded.shape
    for rows in ([5, 3, 4], [3, 4, 6, 7], [7, 5]):
        assert torch.equal(kept(np.array(rows)), decoded(np.array(rows)))
    assert Counting.rows == [5, 3, 4, 6, 7] and len(kept) == 5
    kept.forget()
    assert len(kept) == 0
    kept(np.array([4]))
    assert Counting.rows[5:] == [4]


def test_a_photo_that_cannot_be_read_is_not_kept(images: Path) -> None:
    (images / PERSON / "mask1.png").write_bytes(b"nothing")
    kept = KeptPixels(DecodedPixels(table_of(images), SMALL))
    for _ in range(2):
        with pytest.raises(BadPhotos, match="mask1"):
            kept(np.arange(7))
    assert len(kept) == 0


def test_a_batch_from_the_cache_belongs_to_the_caller(images: Path, tmp_path: Path) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    mapped = PixelCache(table, SMALL, tmp_path).open()
    first = mapped(np.arange(7))
    before = first.clone()
    first.zero_()
    assert torch.equal(mapped(np.arange(7)), before)


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
    table = table_of(sample / "images")
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    rows = np.arange(0, 84, 2)
    from_cache = mean_and_std(PixelCache(table, SMALL, tmp_path).open(), rows, least_std=0.001)
    assert from_cache == mean_and_std(DecodedPixels(table, SMALL), rows[::-1], least_std=0.001)
    assert from_cache != mean_and_std(PixelCache(table, SMALL, tmp_path).open(), rows + 1, least_std=0.001)
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
