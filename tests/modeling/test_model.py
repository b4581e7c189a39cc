"""Models take any size, start from scratch or from weights that fit, and say what does not fit."""

from __future__ import annotations

import io
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskcls.errors import UserError
from maskcls.modeling.model import MODELS, attention_for, load_model

NAMES = {0: "worn", 1: "incorrect", 2: "not_worn"}
OTHER_NAMES = {0: "male", 1: "female"}
VIT = {
    "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
CONVNEXT = {"hidden_sizes": [8, 16], "depths": [1, 2]}
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
TINY: dict[str, dict[str, Any]] = {"vit": VIT, "convnext": CONVNEXT, "convnextv2": CONVNEXT, "auto": RESNET}
SIZES = [(64, 64), (64, 48)]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # for when it has been imported already


def build(
    name: str, *, image_size: tuple[int, int] = (64, 64), id2label: dict[int, str] = NAMES, **arguments: Any
) -> Any:
    """Returns a tiny model, deterministic, ready to compare."""
    torch.manual_seed(0)
    given = arguments if "pretrained" in arguments else {**TINY[name], **arguments}
    return MODELS[name](image_size=image_size, id2label=id2label, attention="eager", **given).eval()


def photos(size: tuple[int, int], num: int = 2) -> torch.Tensor:
    return torch.randn(num, 3, *size, generator=torch.Generator().manual_seed(1))


def saved(folder: Path, name: str, **arguments: Any) -> tuple[str, Any]:
    """Returns the folder of a tiny saved model, and the model."""
    model = build(name, **arguments)
    model.save_pretrained(folder)
    return str(folder), model


def body(model: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("classifier.")}


def positions(model: Any) -> torch.Tensor:
    return model.state_dict()["vit.embeddings.position_embeddings"]


def test_the_tests_cover_every_row_of_the_table() -> None:
    assert TINY.keys() == MODELS.keys()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TINY)
def test_a_model_from_scratch_gives_a_logit_for_each_label_at_any_shape(name: str, size: tuple[int, int]) -> None:
    logits = build(name, image_size=size)(pixel_values=photos(size)).logits
    assert logits.shape == (2, 3) and logits.dtype == torch.float32 and logits.isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_one_label_gives_one_logit(name: str) -> None:
    model = build(name, id2label={0: "female"})
    assert model(pixel_values=photos((64, 64))).logits.shape == (2, 1)
    assert model.config.num_labels == 1


@pytest.mark.parametrize("name", TINY)
def test_architecture_arguments_are_those_that_were_given(name: str) -> None:
    config, fields = build(name).config, TINY[name]
    assert {field: getattr(config, field) for field in fields} == fields


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_the_same_initial_weights(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert first.keys() == second.keys() and len(first) > 5
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", TINY)
def test_a_pretrained_folder_gives_its_weights_and_a_head_of_the_new_width(tmp_path: Path, name: str) -> None:
    folder, original = saved(tmp_path, name)
    model = build(name, pretrained=folder, id2label=OTHER_NAMES)
    own, given = body(model), body(original)
    assert own.keys() == given.keys() and len(own) > 5
    assert all(torch.equal(own[key], given[key]) for key in own)
    assert model(pixel_values=photos((64, 64))).logits.shape == (2, 2)
    assert (model.config.id2label, model.config.num_labels) == (OTHER_NAMES, 2)


@pytest.mark.parametrize("name", TINY)
def test_a_pretrained_folder_of_the_same_width_keeps_its_head_too(tmp_path: Path, name: str) -> None:
    folder, original = saved(tmp_path, name)
    x = photos((64, 64))
    torch.testing.assert_close(
        build(name, pretrained=folder)(pixel_values=x).logits, original(pixel_values=x).logits, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
def test_position_embeddings_of_the_same_size_stay_bit_for_bit(tmp_path: Path, size: tuple[int, int]) -> None:
    folder, original = saved(tmp_path, "vit", image_size=size)
    assert torch.equal(positions(build("vit", pretrained=folder, image_size=size)), positions(original))


@pytest.mark.parametrize("to_size", [(96, 96), (32, 32), (96, 64), (48, 128)])
@pytest.mark.parametrize("from_size", SIZES)
def test_position_embeddings_are_interpolated_to_another_size(
    tmp_path: Path, from_size: tuple[int, int], to_size: tuple[int, int]
) -> None:
    folder, original = saved(tmp_path, "vit", image_size=from_size)
    model = build("vit", pretrained=folder, image_size=to_size)
    new, old = positions(model), positions(original)
    height, width = to_size[0] // 16, to_size[1] // 16
    assert new.shape == (1, 1 + height * width, 16)
    assert torch.equal(new[:, 0], old[:, 0])  # the class token has no place
    grid = old[0, 1:].reshape(from_size[0] // 16, from_size[1] // 16, 16).permute(2, 0, 1)[None]
    reference = torch.nn.functional.interpolate(grid, (height, width), mode="bicubic", antialias=True)
    torch.testing.assert_close(new[0, 1:].reshape(height, width, 16).permute(2, 0, 1)[None], reference)
    assert model(pixel_values=photos(to_size)).logits.shape == (2, 3)


@pytest.mark.parametrize("to_size", [(96, 96), (96, 64)])
def test_a_constant_position_grid_stays_constant_and_a_gradient_keeps_its_direction(
    tmp_path: Path, to_size: tuple[int, int]
) -> None:
    original = build("vit")
    with torch.no_grad():
        grid = original.vit.embeddings.position_embeddings[0, 1:].view(4, 4, 16)
        grid[:] = 0.5
        grid[..., 1] = torch.arange(4.0)[:, None]  # grows downwards only
    original.save_pretrained(tmp_path)
    height, width = to_size[0] // 16, to_size[1] // 16
    new = positions(build("vit", pretrained=str(tmp_path), image_size=to_size))[0, 1:].view(height, width, 16)
    torch.testing.assert_close(new[..., 0], torch.full((height, width), 0.5), rtol=0, atol=1e-5)
    assert (new[1:, :, 1] > new[:-1, :, 1]).all()
    torch.testing.assert_close(new[..., 1], new[:, :1, 1].expand(height, width), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "misfit"),
    [
        ("vit", {"hidden_size": 32}, "vit.embeddings.cls_token"),
        ("vit", {"num_hidden_layers": 3}, "vit.layers.2."),
        ("vit", {"patch_size": 8}, "patch_embeddings.projection.weight"),
        ("convnext", {"depths": [2, 2]}, "stages.0.layers.1."),
        ("convnextv2", {"hidden_sizes": [8, 24]}, "stages.1."),
    ],
)
def test_an_architecture_that_does_not_fit_the_weights_is_reported_and_never_starts_from_noise(
    tmp_path: Path, name: str, change: dict[str, Any], misfit: str
) -> None:
    folder, _ = saved(tmp_path, name)
    with pytest.raises(UserError) as caught:
        build(name, pretrained=folder, **change)
    assert f"{folder} has no fitting weights for " in str(caught.value)
    assert misfit in str(caught.value)


def test_a_folder_of_another_model_type_is_reported(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path, "vit")
    with pytest.raises(UserError, match=r"holds a vit, not a convnext$"):
        build("convnext", pretrained=folder)


def test_a_folder_without_a_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build("vit", pretrained=str(tmp_path))
    assert str(caught.value).startswith(f"pretrained model {str(tmp_path)!r} cannot be loaded: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_offline", [False, True])
def test_a_hub_id_that_cannot_be_reached_is_reported_at_once_with_what_to_do(
    is_offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session, constants

    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
        close_session()  # it remembers whether it is offline
        naps: list[float] = []
        monkeypatch.setattr(time, "sleep", naps.append)  # the Hub's client sleeps before it tries again
        with pytest.raises(UserError) as caught:
            build("vit", pretrained="nobody/no-such-model")
    close_session()
    assert naps == []
    assert str(caught.value).startswith(
        "pretrained model 'nobody/no-such-model' is neither a folder here nor in Hugging Face's cache, and "
        f"{constants.ENDPOINT} cannot be reached ("
    )
    assert str(caught.value).endswith(
        "Where there is a network: hf download nobody/no-such-model --local-dir no-such-model, bring that folder here "
        "and set model_args.pretrained to it; or train from scratch: model_args.pretrained=null"
    )


def test_what_is_here_is_taken_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = saved(tmp_path, "vit")
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert build("vit", pretrained=folder) is not None


@pytest.mark.parametrize(
    ("pretrained", "words"),
    [
        ("/nowhere/vit", "pretrained model /nowhere/vit does not exist"),
        (3, "pretrained is 3; it is a Hub id, a folder"),
    ],
)
def test_what_is_neither_a_hub_id_nor_a_folder_is_reported(pretrained: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build("vit", pretrained=pretrained)


@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_pretrained_folder_with_damaged_weights_is_reported(tmp_path: Path, damage: str) -> None:
    folder, _ = saved(tmp_path, "vit")
    weights = tmp_path / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.unlink()
    with pytest.raises(UserError, match=r"^pretrained model .* cannot be loaded: "):
        build("vit", pretrained=folder)


def test_auto_suggests_the_config_field_that_was_meant() -> None:
    with pytest.raises(
        UserError, match=r"^model_args: resnet takes no 'embeding_size'\. Did you mean 'embedding_size'\?$"
    ):
        build("auto", embeding_size=8)


def test_auto_needs_pretrained_or_model_type() -> None:
    with pytest.raises(UserError, match=r"^model auto needs model_args\.pretrained or model_args\.model_type"):
        MODELS["auto"](image_size=(64, 64), id2label=NAMES, attention="eager")


def test_auto_tells_an_unknown_model_type_and_one_that_classifies_no_images() -> None:
    with pytest.raises(
        UserError, match=r"^transformers has no image classifier of type 'resnett'\. Did you mean 'resnet'\?$"
    ):
        MODELS["auto"](image_size=(64, 64), id2label=NAMES, attention="eager", model_type="resnett")
    with pytest.raises(
        UserError, match=r"^transformers has no image classifier of type 'bert'\. Did you mean 'beit'\?$"
    ):
        MODELS["auto"](image_size=(64, 64), id2label=NAMES, attention="eager", model_type="bert")


def test_auto_takes_a_pretrained_folder_without_a_model_type(tmp_path: Path) -> None:
    folder, original = saved(tmp_path, "convnext")
    model = MODELS["auto"](image_size=(64, 64), id2label=NAMES, attention="eager", pretrained=folder).eval()
    x = photos((64, 64))
    torch.testing.assert_close(model(pixel_values=x).logits, original(pixel_values=x).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["convnext", "convnextv2", "auto"])
def test_depths_and_hidden_sizes_of_different_lengths_are_reported(name: str) -> None:
    with pytest.raises(
        UserError, match=r"^model_args: depths \[1, 1, 1\] and hidden_sizes \[8, 16\] differ in length$"
    ):
        build(name, depths=[1, 1, 1])


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("vit", {"num_attention_heads": 3}, "3"),  # 16 wide: it would attend with 15 numbers
        ("vit", {"num_attention_heads": 0}, "vit"),
        ("vit", {"patch_size": 0}, "vit"),
        ("vit", {"hidden_size": "wide"}, "hidden_size"),
        ("vit", {"hidden_dropout_prob": 2.0}, "dropout"),
        ("convnext", {"depths": 2}, "depths"),
        ("convnext", {"hidden_sizes": [8, 0]}, "convnext"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_reported(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=r"^model_args") as caught:
        build(name, **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "size"), [("vit", (64, 8)), ("convnext", (4, 4))])
def test_a_picture_smaller_than_what_the_model_looks_at_is_reported(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="image_size"):
        build(name, image_size=size)


def test_a_picture_smaller_than_a_pretrained_patch_is_reported(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path, "vit")
    with pytest.raises(UserError, match="image_size"):
        build("vit", pretrained=folder, image_size=(8, 8))


SAVED_FORMS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "convnext": CONVNEXT,
    "convnextv2": CONVNEXT,
    "resnet": {name: value for name, value in RESNET.items() if name != "model_type"},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "dinov2": {"patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "beit": VIT,
}


@pytest.mark.parametrize("model_type", SAVED_FORMS)
def test_a_saved_model_loads_to_the_same_logits(tmp_path: Path, model_type: str) -> None:
    torch.manual_seed(0)
    fields = SAVED_FORMS[model_type]
    model = MODELS["auto"](
        image_size=(64, 64), id2label=NAMES, attention="eager", model_type=model_type, **fields
    ).eval()
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), attention="eager").eval()
    x = photos((64, 64))
    torch.testing.assert_close(loaded(pixel_values=x).logits, model(pixel_values=x).logits, rtol=0, atol=1e-6)
    assert loaded.config.id2label == NAMES


@pytest.mark.parametrize("name", TINY)
def test_a_saved_folder_is_a_plain_transformers_folder_that_names_its_labels(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForImageClassification

    folder, model = saved(tmp_path, name, image_size=(64, 48))
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {str(number): label for number, label in NAMES.items()}
    assert config["label2id"] == {label: number for number, label in NAMES.items()}
    loaded = AutoModelForImageClassification.from_pretrained(folder).eval()
    x = photos((64, 48))
    torch.testing.assert_close(loaded(pixel_values=x).logits, model(pixel_values=x).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "damage", ["cut weights", "no weights", "no config", "config is no JSON", "a weight missing", "another width"]
)
def test_a_damaged_best_folder_is_reported(tmp_path: Path, damage: str) -> None:
    folder, _ = saved(tmp_path, "vit")
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no config":
        config.unlink()
    elif damage == "config is no JSON":
        config.write_text('{"model_type": "vit",', encoding="utf-8")
    else:
        state = load_file(weights)
        state.pop("classifier.weight")
        if damage == "another width":
            state["classifier.weight"] = torch.zeros(5, 16)
        save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load_model(folder, attention="eager")
    assert str(caught.value).startswith(f"{folder} is not a whole model: ")
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_exist_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a whole model: "):
        load_model(str(tmp_path / "best"), attention="eager")


@pytest.mark.parametrize("name", TINY)
def test_beside_an_accelerator_every_model_is_built_with_the_attention_that_it_has(name: str) -> None:
    attention = attention_for(torch.device("meta"))
    model = MODELS[name](image_size=(64, 64), id2label=NAMES, attention=attention, **TINY[name])
    assert model.config._attn_implementation == ("sdpa" if name == "vit" else "eager")


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_is_loaded_beside_an_accelerator(name: str, tmp_path: Path) -> None:
    build(name).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), attention=attention_for(torch.device("meta")))
    assert model.config._attn_implementation == ("sdpa" if name == "vit" else "eager")


def test_on_a_cpu_attention_is_eager() -> None:
    assert attention_for(torch.device("cpu")) == "eager"


# What is never run, and never used


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """Returns a folder whose model is built by code that lies in it, and that leaves a sign when it is run."""
    folder = tmp_path / "with_code"
    saved(folder, "vit")
    classes = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}
    config = {"model_type": "of_its_own", "architectures": ["Model"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n", encoding="utf-8")
    return folder


def test_code_that_lies_beside_weights_is_neither_run_nor_asked_about(
    with_code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # whoever asks is told yes
    for load, what in (
        (lambda: build("auto", pretrained=str(with_code)), f"pretrained model {str(with_code)!r} cannot be loaded"),
        (lambda: load_model(str(with_code), attention="eager"), f"{with_code} is not a whole model"),
    ):
        with pytest.raises(UserError) as caught:
            load()
        assert str(caught.value) == (
            f"{what}: it is built by Python code of its own (auto_map in its config.json), which is never run. Take a "
            "model that transformers has itself"
        )
    assert not (with_code.parent / "was_run").exists()
    assert "[y/N]" not in "".join(capsys.readouterr())


def test_a_model_of_transformers_is_loaded_without_the_code_beside_it(tmp_path: Path) -> None:
    folder, model = saved(tmp_path / "vit", "vit")
    config = json.loads((tmp_path / "vit" / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForImageClassification": "own.Model"}
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "vit" / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n", encoding="utf-8")
    x = photos((64, 64))
    torch.testing.assert_close(load_model(folder, attention="eager").eval()(x).logits, model(x).logits)
    torch.testing.assert_close(build("vit", pretrained=folder)(x).logits, model(x).logits)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(number: float, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path, "vit")
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.bias"][1] = number
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load_model(folder, attention="eager")
    assert str(caught.value) == f"{folder} holds weights that are not finite numbers: classifier.bias"
    with pytest.raises(UserError, match=r"^pretrained model .* holds weights that are not finite numbers: classifier"):
        build("vit", pretrained=folder)
