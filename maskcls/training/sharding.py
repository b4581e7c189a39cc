"""Weights that lie in parts over the GPUs of a launch (FSDP2): what image models need beside what Accelerate does."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from maskcls.errors import UserError


def prepare(accelerator: Accelerator, network: Any, optimizer: Optimizer) -> tuple[nn.Module, Any]:
    """Returns model and optimizer as Accelerate wraps, shards and compiles them. Collective.

    Raises UserError for the first version of FSDP.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return accelerator.prepare(network, optimizer)
    if not accelerator.is_fsdp2:
        raise UserError("the launch's fsdp_config has fsdp_version 1: set fsdp_version: 2").of_launch()
    plugin, layers = accelerator.state.fsdp_plugin, {type(module).__name__ for module in network.modules()}
    if plugin.transformer_cls_names_to_wrap is None:  # transformers also names layers that CLIP has for texts alone
        named = getattr(network, "_no_split_modules", None) or ()
        plugin.transformer_cls_names_to_wrap = sorted(layers.intersection(named))
    network.to(memory_format=torch.contiguous_format)  # FSDP2 shards no channels-last weights
    _set_precision(accelerator, network)
    # Accelerate shards the input embeddings once more by themselves. ViT's lie inside a layer that is a part already,
    # ConvNeXt and ResNet have none and raise.
    network.get_input_embeddings = lambda: None
    try:
        return accelerator.prepare(network, optimizer)
    finally:
        del network.get_input_embeddings


def prepare_to_predict(accelerator: Accelerator, network: nn.Module) -> nn.Module:
    """Returns a network that learns no more as Accelerate wraps and compiles it: whole, on every device.

    Accelerate leaves it where it is when the launch shards what learns.
    """
    return accelerator.prepare_model(network.to(accelerator.device), evaluation_mode=True)


def _set_precision(accelerator: Accelerator, network: nn.Module) -> None:
    """Lets gradients meet in whole precision, as they do without sharding; Accelerate would add them up in 16 bits."""
    plugin = accelerator.state.fsdp_plugin
    if plugin.mixed_precision_policy is None:
        return
    weights = plugin.mixed_precision_policy.param_dtype
    plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=weights, reduce_dtype=torch.float32)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        # Its statistics stay in whole precision, and so must its weights: the operations choose, as without sharding.
        plugin.mixed_precision_policy = MixedPrecisionPolicy()
        network.forward = torch.autocast(accelerator.device.type, weights)(network.forward)


def gather_no_more(model: nn.Module) -> None:
    """Leaves every process with its own parts of the weights, whatever the last forward has left gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def share_buffers(accelerator: Accelerator, model: nn.Module) -> None:
    """Gives all processes the main one's statistics of batch normalisation, as DDP does by itself. Collective."""
    if accelerator.distributed_type == DistributedType.FSDP:
        broadcast(list(model.buffers()))
