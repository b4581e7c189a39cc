"""What a model looked at: maps against plain loops, and against toys whose evidence lies at a known place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from maskcls.config import TABLES
from maskcls.labels import id2label
from maskcls.reporting.attention import attention_maps
from tests.helpers import TINY


def tiny(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    fields = yaml.safe_load(TINY[name]) | more
    build = TABLES["model"].builder(name)
    return build(**fields, image_size=(48, 32), id2label=id2label("all", 8), attention="eager")


def photos(number: int = 3) -> torch.Tensor:
    return torch.rand(number, 3, 48, 32, generator=torch.Generator().manual_seed(1))


ANSWERS = {"mask": torch.tensor([0, -1, 2]), "gender": torch.tensor([-1, 1, -1]), "age": torch.tensor([-1, -1, -1])}


@pytest.mark.parametrize("name", sorted(TINY))
def test_every_model_gives_maps_from_0_to_1_of_the_size_of_the_photo(name: str) -> None:
    maps = attention_maps(tiny(name), photos(), ANSWERS, output="all")
    assert maps is not None
    assert maps.shape == (3, 48, 32)
    assert maps.min() >= 0
    assert maps.max() <= 1 + 1e-6
    assert maps.std((1, 2)).max() > 0  # Grad-CAM may find no evidence at all in a photo


def test_rollout_is_the_product_of_the_layers_with_their_residual_paths() -> None:
    model, x = tiny("vit"), photos()
    with torch.no_grad():
        attentions = model(pixel_values=x, output_attentions=True).attentions
    maps = attention_maps(model, x, ANSWERS, output="all")
    assert maps is not None
    for photo in range(3):
        reach = np.eye(7)
        for layer in attentions:
            mean = np.mean([head.numpy() for head in layer[photo]], axis=0)
            reach = (0.5 * mean + 0.5 * np.eye(7)) @ reach
        cells = torch.tensor(reach[0, 1:].reshape(3, 2))[None, None]
        expected = nn.functional.interpolate(cells.float(), (48, 32), mode="bicubic")[0, 0].clamp(min=0).numpy()
        np.testing.assert_allclose(maps[photo], expected / expected.max(), atol=1e-5)


class Toy(nn.Module):
    """A classifier of mask states by the mean of each colour; its feature map is the picture at an eighth."""

    config = SimpleNamespace()

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> SimpleNamespace:
        cells = nn.functional.avg_pool2d(pixel_values, 8)
        return SimpleNamespace(logits=cells.mean((2, 3)) * 20, hidden_states=(pixel_values, cells))


def test_grad_cam_finds_the_place_that_speaks_for_the_answer_asked_for() -> None:
    x = torch.zeros(1, 3, 96, 96)
    x[0, 0, :16, :16] = 1  # red at the top left speaks for class 0
    x[0, 2, 80:, 80:] = 1  # blue at the bottom right for class 2
    for answer, place in ((0, (4, 4)), (2, (92, 92))):
        maps = attention_maps(Toy(), x, {"mask": torch.tensor([answer])}, output="mask")  # type: ignore[arg-type]
        assert maps is not None
        assert maps[0][place] > 0.7
        assert maps[0][95 - place[0], 95 - place[1]] < 0.05


def test_an_early_feature_map_is_taken_when_the_last_one_is_too_coarse() -> None:
    x = torch.zeros(1, 3, 24, 24)  # the toy's last map has 3 x 3 cells
    x[0, 0, 2:4, 2:4] = 1
    maps = attention_maps(Toy(), x, {"mask": torch.tensor([0])}, output="mask")  # type: ignore[arg-type]
    assert maps is not None
    assert (maps[0] > 0.5).sum() <= 16  # a cell of the coarse map has 64 pixels


@pytest.mark.parametrize("name", ["vit", "auto"])
def test_a_photo_has_the_same_map_alone_and_among_others(name: str) -> None:
    model = tiny(name)
    together = attention_maps(model, photos(), ANSWERS, output="all")
    alone = attention_maps(model, photos()[1:2], {head: labels[1:2] for head, labels in ANSWERS.items()}, output="all")
    assert together is not None
    assert alone is not None
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)


def test_a_model_without_attention_to_the_whole_picture_and_without_maps_gives_none() -> None:
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.for_model(
        "swin", image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=8
    )
    swin = AutoModelForImageClassification.from_config(config, attn_implementation="eager")
    assert attention_maps(swin, torch.rand(3, 3, 32, 32), ANSWERS, output="all") is None
