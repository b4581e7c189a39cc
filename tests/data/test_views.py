"""Views of a photo: where each part lies, that mirrors are mirrors, and that photos without a margin have views too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskcls.data.preprocessing import Preprocessing
from maskcls.data.views import VIEWS, View, mean_of_views, views_of
from maskcls.errors import UserError

HEIGHT, WIDTH = 20, 30
MARGINS = (0.0, 0.1, 0.5)


def preprocessing(margin: float) -> Preprocessing:
    """Returns one whose normalised colours are the levels of the stored pixels."""
    return Preprocessing((HEIGHT, WIDTH), margin=margin, mean=(0.0,) * 3, std=(1 / 255,) * 3)


def photos(margin: float) -> torch.Tensor:
    """Returns stored pixels (2, H', W', 3) of noise."""
    size = preprocessing(margin).stored_size
    return torch.randint(256, (2, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen(view: View, margin: float, pixels: torch.Tensor | None = None) -> np.ndarray:
    """Returns what a view shows, (B, H, W, 3)."""
    x = view.seen(preprocessing(margin), photos(margin) if pixels is None else pixels)
    assert (x.shape[1:], x.dtype) == ((3, HEIGHT, WIDTH), torch.float32)
    return x.permute(0, 2, 3, 1).numpy().round(3)


@pytest.mark.parametrize("margin", MARGINS)
def test_the_first_view_of_every_row_is_what_validation_sees(margin: float) -> None:
    exact = Preprocessing((HEIGHT, WIDTH), margin=margin, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    centre = exact.seen(photos(margin))
    assert len(VIEWS) == 3
    for views in VIEWS.values():
        assert torch.equal(views[0].seen(exact, photos(margin)), centre)


@pytest.mark.parametrize("margin", MARGINS)
def test_no_two_views_of_a_row_show_the_same(margin: float) -> None:
    for name, views in VIEWS.items():
        shown = {seen(view, margin).tobytes() for view in views}
        assert len(shown) == len(views) == {"none": 1, "flip": 2, "5": 5}[name]


@pytest.mark.parametrize("margin", MARGINS)
def test_a_mirrored_view_shows_what_the_view_shows_of_a_mirrored_photo(margin: float) -> None:
    pixels = photos(margin)[:, :, : preprocessing(margin).stored_size[1] // 2 * 2]  # an even width has a middle
    for size in (0.8, 1.0, 1.2):
        mirrored = seen(View(size, is_mirrored=True), margin, pixels)
        assert np.array_equal(mirrored, seen(View(size), margin, pixels)[:, :, ::-1])
        assert np.abs(mirrored - seen(View(size), margin, pixels.flip(2))).max() <= 1


def test_beyond_the_stored_pixels_the_outermost_ones_go_on() -> None:
    shown = seen(View(1.2), 0.0, torch.full((1, HEIGHT, WIDTH, 3), 7, dtype=torch.uint8))
    assert (shown == 7).all()
    bright_border = torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    bright_border[:, :, 0] = bright_border[:, 0] = 200
    shown = seen(View(1.5), 0.0, bright_border)[0, :, :, 0]
    assert (shown[:3] == 200).all() and (shown[:, :4] == 200).all()  # a sixth of either axis lies outside
    assert (shown[5:, 7:] == 0).all()


@pytest.mark.parametrize("size", [0.8, 1.2])
def test_a_view_of_another_size_shows_less_or_more_of_the_photo_around_the_same_centre(size: float) -> None:
    columns = torch.arange(45, dtype=torch.uint8) * 4  # a ramp: every column's level tells where it comes from
    ramp = columns[None, None, :, None].expand(1, 30, 45, 3)
    shown = seen(View(size), 0.5, ramp)[0, 0, 1:-1, 0]
    first = (45 - 30 * size) // 2  # of the window; output column u lies at (u + 0.5) * size - 0.5 in it
    expected = 4 * (first + (np.arange(1, 29) + 0.5) * size - 0.5)
    assert np.abs(shown - expected).max() <= 1


def test_logits_of_views_become_their_mean() -> None:
    a, b = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, -1.0]])
    assert mean_of_views([a]) is a
    assert mean_of_views([a, b]).tolist() == [[1.5, 1.0]]


def test_unknown_views_are_named_with_the_nearest_known_ones() -> None:
    assert views_of("flip") is VIEWS["flip"]
    with pytest.raises(UserError, match=r"^unknown tta 'flop'\. Did you mean 'flip'\? Known: none, flip, 5$"):
        views_of("flop")
