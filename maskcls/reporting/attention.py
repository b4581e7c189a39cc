"""What a model looked at: attention rollout for vision transformers, Grad-CAM for convolutional networks.

Maps explain little by themselves; beside a mistake they show whether the model saw the face, the mask or the wall.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from maskcls.labels import head_probabilities

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A feature map with fewer cells on its shorter side says too little about where; an earlier one is taken then.
MIN_CELLS = 6


def attention_maps(
    model: PreTrainedModel, x: Tensor, answers: Mapping[str, Tensor], *, output: str
) -> np.ndarray | None:
    """Returns (B, H, W) float32 maps from 0 to 1, or None for a model that has neither attention nor feature maps.

    model: a transformers image classifier, on the device of x, built with attention "eager" (other implementations do
    not give their attention away). x: (B, 3, H, W) normalised. answers: head -> (B,) the label whose evidence is
    looked for, -1 for a photo where another head is asked. Rollout does not depend on the answers.
    """
    model.eval()
    is_transformer = has_attention(model)
    with torch.set_grad_enabled(not is_transformer):  # rollout needs none, and a ViT-B's graph takes gigabytes
        asked = {"output_attentions": is_transformer, "output_hidden_states": not is_transformer}
        outputs = model(pixel_values=x.detach().requires_grad_(not is_transformer), **asked)
        if is_transformer:
            cells = _rollout(outputs.attentions or (), x, model)
        else:
            cells = _activation_map(outputs.hidden_states, _evidence(outputs.logits, answers, output))
    if cells is None:
        return None
    maps = interpolate(cells[:, None].float(), x.shape[2:], mode="bicubic", align_corners=False)[:, 0].clamp(min=0)
    highest = maps.amax((1, 2), keepdim=True)
    return (maps / highest.clamp(min=1e-12)).detach().cpu().numpy()


def has_attention(model: PreTrainedModel) -> bool:
    """Returns whether the model is a transformer: its maps are attention rollout, others are Grad-CAM."""
    return bool(getattr(model.config, "num_attention_heads", None))


def _evidence(logits: Tensor, answers: Mapping[str, Tensor], output: str) -> Tensor:
    """Returns the sum of the log-probabilities of all answers asked for; photos do not depend on each other."""
    probabilities = head_probabilities(logits, output)
    total = logits.new_zeros(())
    for head, labels in answers.items():
        asked = labels >= 0
        total = total + probabilities[head][asked, labels[asked]].clamp(min=1e-12).log().sum()
    return total


def _rollout(attentions: tuple[Tensor, ...], x: Tensor, model: PreTrainedModel) -> Tensor | None:
    """Returns (B, h, w): how much each patch reaches the class token through all layers.

    Each layer is the mean over heads, mixed half and half with the identity for the residual path.
    Source: Abnar and Zuidema, arXiv:2005.00928.
    """
    shapes = {attention.shape for attention in attentions}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 4 or shape[2] != shape[3]:
        return None  # attention in windows, as of Swin, or none at all
    size = shape[2]
    identity = torch.eye(size, device=x.device)
    reach = identity.expand(len(x), size, size)
    for attention in attentions:
        reach = (attention.detach().float().mean(1) + identity) / 2 @ reach  # (B, T, T); rows sum to 1
    patch = model.config.patch_size
    grid = (x.shape[2] // patch, x.shape[3] // patch)
    num_patches = grid[0] * grid[1]
    return reach[:, 0, -num_patches:].unflatten(1, grid) if size > num_patches else None


def _activation_map(hidden_states: tuple[Tensor, ...] | None, evidence: Tensor) -> Tensor | None:
    """Returns (B, h, w): where the features lie that raise the evidence.

    Source: Grad-CAM, Selvaraju et al., arXiv:1610.02391; there of the last feature map, here of the last one that has
    MIN_CELLS (small pictures leave 3 x 3 cells at the end, which cover the whole face).
    """
    maps = [state for state in hidden_states or () if state.ndim == 4]
    if not maps:
        return None
    chosen = next((state for state in reversed(maps) if min(state.shape[2:]) >= MIN_CELLS), maps[-1])
    (gradient,) = torch.autograd.grad(evidence, chosen)
    return (gradient.mean((2, 3), keepdim=True) * chosen).sum(1).clamp(min=0)
