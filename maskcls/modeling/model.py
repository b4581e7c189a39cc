"""ViT, ConvNeXt, ConvNeXtV2 and any other transformers image classifier: pixels in, logits out.

A builder starts from pretrained weights (a Hub id or a local folder) or from scratch, for any image size. Architecture
arguments left at None are those of the pretrained model, or transformers' defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from maskcls.errors import Fault, UserError, did_you_mean, is_out_of_memory, listed
from maskcls.machine import is_accelerator
from maskcls.paths import DISK_ERRORS, folder_problem
from maskcls.registry import check_number

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Code that lies beside a model's weights is never run, and nobody is asked whether it may.
NO_CODE = {"trust_remote_code": False}
SECONDS_TO_REACH = 5  # the Hub
Size = tuple[int, int]  # (height, width) in pixels


def attention_for(device: torch.device) -> str | None:
    """Returns the attention kernel for a builder's `attention`: eager on a CPU, elsewhere None, transformers' choice.

    On a CPU the fused kernel's backward is slow in bf16. Elsewhere a ViT gets the fused one, and a model without
    attention is not asked for it: ConvNeXt and ResNet refuse to be.
    """
    return None if is_accelerator(device) else "eager"


@dataclass(frozen=True)
class Architecture:
    """A type of transformers' image classifiers, and the fields of its config that a YAML may give."""

    model_type: str | None  # None: that of `pretrained`, or the argument model_type
    takes: tuple[str, ...] | None  # None: any field that the type has

    def __call__(
        self,
        *,
        image_size: Size,
        id2label: Mapping[int, str],
        attention: str | None,
        pretrained: str | None = None,
        num_labels: int | None = None,
        **fields: Any,
    ) -> PreTrainedModel:
        """Returns the model, with a logit for each of id2label (num_labels only repeats how many).

        Raises UserError when it cannot be built, or does not take pictures of `image_size`.
        """
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging

        logging.disable_progress_bar()  # its bars for loading and saving a single file
        model_type = self.model_type or fields.pop("model_type", None)
        if pretrained is None and model_type is None:
            raise UserError("model auto needs model_args.pretrained or model_args.model_type, for example resnet")
        config = _config(model_type, pretrained, {name: value for name, value in fields.items() if value is not None})
        weights = _pretrained_weights(pretrained) if pretrained else {}
        stored_size = getattr(config, "image_size", None)  # of the position embeddings
        config.id2label, config.label2id = dict(id2label), {name: i for i, name in id2label.items()}
        if hasattr(config, "image_size"):
            config.image_size = list(image_size)
        _try_out(config, image_size, attention)
        model = AutoModelForImageClassification.from_config(config, attn_implementation=attention, **NO_CODE)
        if weights:
            _load(model, weights, str(pretrained), stored_size)
        return model.to(memory_format=torch.channels_last)  # as pixels lie; convolutions are 1.1 to 1.2 times faster


def _try_out(config: Any, image_size: Size, attention: str | None) -> None:
    """Raises UserError when a model cannot be built or used; on the meta device, where it costs nothing."""
    from transformers import AutoModelForImageClassification

    wrong = (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError)
    try:
        with torch.device("meta"):
            trial = AutoModelForImageClassification.from_config(config, attn_implementation=attention, **NO_CODE).eval()
    except wrong as error:
        raise UserError(f"model_args: {config.model_type} cannot be built: {error}") from None
    try:
        trial(pixel_values=torch.empty(1, 3, *image_size, device="meta"))
    except wrong as error:
        raise UserError(f"image_size {list(image_size)} does not fit {config.model_type}: {error}") from None


def _config(model_type: str | None, pretrained: str | None, fields: dict[str, Any]) -> Any:
    """Returns the transformers config with the given fields. Raises UserError when there is none, or it lacks one."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    classifiers = list(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    if model_type is not None and model_type not in classifiers:  # transformers itself would name its 500 types
        near = did_you_mean(str(model_type), classifiers)
        raise UserError(f"transformers has no image classifier of type {model_type!r}.{near}")
    build = partial(_loaded, AutoConfig, pretrained) if pretrained else partial(AutoConfig.for_model, str(model_type))
    try:
        known = build()
    except (OSError, ValueError) as error:
        what = f"pretrained model {pretrained!r}" if pretrained else f"model_type {model_type!r}"
        raise _load_problem(f"{what} cannot be loaded", error) from None
    if model_type not in (None, known.model_type):
        raise UserError(f"{pretrained} holds a {known.model_type}, not a {model_type}")
    if known.model_type not in classifiers:
        raise UserError(f"transformers has no image classifier of type {known.model_type!r}")
    for name in fields:
        if not hasattr(known, name):
            raise UserError(f"model_args: {known.model_type} takes no {name!r}.{did_you_mean(name, list(vars(known)))}")
        if name.endswith(("_prob", "drop_path_rate")):
            check_number("model_args", name, fields[name], most=1)
    width, heads = (fields.get(name, getattr(known, name, 0)) for name in ("hidden_size", "num_attention_heads"))
    if isinstance(width, int) and isinstance(heads, int) and heads and width % heads:
        raise UserError(f"model_args: num_attention_heads {heads} does not divide hidden_size {width}")
    if ("depths" in fields or "hidden_sizes" in fields) and hasattr(known, "hidden_sizes"):
        depths, sizes = fields.get("depths", known.depths), fields.get("hidden_sizes", known.hidden_sizes)
        if not isinstance(depths, Sequence) or not isinstance(sizes, Sequence):
            raise UserError(f"model_args: depths {depths} and hidden_sizes {sizes} are lists")
        if len(depths) != len(sizes):
            raise UserError(f"model_args: depths {depths} and hidden_sizes {sizes} differ in length")
        if hasattr(known, "num_stages"):
            fields = {**fields, "num_stages": len(depths)}
    try:
        return build(**fields)
    except Exception as error:  # the config classes' own validation raises several kinds
        raise UserError(f"model_args: {known.model_type} cannot be built: {' '.join(str(error).split())}") from None


def _loaded(kind: Any, pretrained: str, **fields: Any) -> Any:
    """Returns a transformers config or model: of a folder or what the Hub's cache holds, otherwise of the Hub.

    What is here is taken without asking the Hub, and the Hub is asked once before transformers tries it for 20 seconds.

    Raises UserError when it is not here and the Hub cannot be reached, and what transformers raises.
    """
    if not isinstance(pretrained, str):
        raise UserError(f"model_args: pretrained is {pretrained!r}; it is a Hub id, a folder or null")
    if (folder := Path(pretrained)).is_absolute() and (problem := folder_problem(folder)):
        raise UserError(f"pretrained model {pretrained} {problem}")
    try:
        return kind.from_pretrained(pretrained, local_files_only=True, **NO_CODE, **fields)
    except OSError:
        if folder.is_dir():
            raise
    if problem := _hub_problem():
        raise UserError(
            f"pretrained model {pretrained!r} is neither a folder here nor in Hugging Face's cache, and {problem}. "
            f"Where there is a network: hf download {pretrained} --local-dir {folder.name}, bring that folder here and "
            "set model_args.pretrained to it; or train from scratch: model_args.pretrained=null"
        )
    return kind.from_pretrained(pretrained, **NO_CODE, **fields)


def _hub_problem() -> str | None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_REACH)
    except Exception as error:  # its HTTP library's own, or that HF_HUB_OFFLINE is set
        return f"{constants.ENDPOINT} cannot be reached ({error})"
    return None


def _pretrained_weights(pretrained: str) -> dict[str, torch.Tensor]:
    """Returns the state dict of a Hub id or local folder, as its own config built it."""
    from transformers import AutoModelForImageClassification

    try:
        weights = _loaded(AutoModelForImageClassification, pretrained).state_dict()
    except UserError:
        raise
    except Exception as error:  # json, safetensors, OSError, RuntimeError
        raise _load_problem(f"pretrained model {pretrained!r} cannot be loaded", error) from None
    _check_finite(weights, f"pretrained model {pretrained!r}")
    return weights


def _load_problem(what: str, error: Exception) -> Exception:
    """Returns what to raise when transformers could not load something: its reason in a line."""
    if is_out_of_memory(error):
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "trust_remote_code" in str(error):
        reason = (
            "it is built by Python code of its own (auto_map in its config.json), which is never run. Take a model "
            "that transformers has itself"
        )
    is_disk = isinstance(error, OSError) and error.errno in DISK_ERRORS
    return (Fault if is_disk else UserError)(f"{what}: {reason}")


def _check_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Raises UserError when a model could answer nothing but NaN."""
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise UserError(f"{what} holds weights that are not finite numbers: {listed(broken)}")


def _load(model: PreTrainedModel, weights: Mapping[str, torch.Tensor], source: str, stored_size: Any) -> None:
    """Loads pretrained weights; the head is new when its width differs, position embeddings are resized.

    Raises UserError when other weights do not fit: changed architecture arguments would silently start from noise.
    """
    fitting, misfits = model.state_dict(), []
    for name, parameter in fitting.items():
        given = weights.get(name)
        if given is not None and name.endswith("position_embeddings") and given.shape != parameter.shape:
            given = _resized_positions(given, model.config, stored_size)
        if given is not None and given.shape == parameter.shape:
            fitting[name] = given
        elif not name.startswith("classifier."):
            misfits.append(name)
    if misfits:
        raise UserError(f"{source} has no fitting weights for {listed(misfits)}")
    model.load_state_dict(fitting)


def _resized_positions(positions: torch.Tensor, config: Any, stored_size: Any) -> torch.Tensor | None:
    """Returns (1, 1 + h * w, D) for the config's image size from (1, 1 + s * s, D); the first is the class token's."""
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    grid = (config.image_size[0] // patch, config.image_size[1] // patch)
    height, width = (stored_size, stored_size) if isinstance(stored_size, int) else stored_size
    if positions.shape[1] != 1 + (height // patch) * (width // patch) or positions.shape[2] != config.hidden_size:
        return None  # another patch size, another width, or more than one token without a place (DeiT)
    square = positions[:, 1:].unflatten(1, (height // patch, width // patch)).permute(0, 3, 1, 2)  # (1, D, s, s)
    resized = interpolate(square, grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], 1)


def load_model(folder: str, *, attention: str | None) -> PreTrainedModel:
    """Returns the model that a run saved. Raises UserError when the folder is damaged or no model."""
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()  # of reading a single file
    try:
        model, report = AutoModelForImageClassification.from_pretrained(
            folder, attn_implementation=attention, local_files_only=True, output_loading_info=True, **NO_CODE
        )
    except Exception as error:  # json, safetensors, OSError, RuntimeError: all mean that the folder is not whole
        raise _load_problem(f"{folder} is not a whole model", error) from None
    if report["missing_keys"] or report["mismatched_keys"]:
        raise UserError(f"{folder} is not a whole model: weights are missing")
    _check_finite(model.state_dict(), folder)
    return model.to(memory_format=torch.channels_last)


MODELS = {
    # Source: Dosovitskiy et al., arXiv:2010.11929; default size ViT-B/16.
    "vit": Architecture(
        "vit",
        takes=(
            "patch_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
        ),
    ),
    # patch_size is the stem's stride. Source: Liu et al., arXiv:2201.03545; default ConvNeXt-T.
    "convnext": Architecture(
        "convnext", takes=("patch_size", "hidden_sizes", "depths", "drop_path_rate", "layer_scale_init_value")
    ),
    # Source: Woo et al., arXiv:2301.00808; default Tiny.
    "convnextv2": Architecture("convnextv2", takes=("patch_size", "hidden_sizes", "depths", "drop_path_rate")),
    "auto": Architecture(None, takes=None),
}
