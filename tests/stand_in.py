"""torch's meta device in place of a GPU: what meets what, what makes the program wait, and what is launched.

Meta tensors have shapes, types and devices but no numbers, so a whole update of any model takes a second and no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from maskcls.config import Config, load_config
from maskcls.training.builders import build_learner, open_data
from maskcls.training.loop import train_one_epoch
from maskcls.training.processes import Launch
from tests.helpers import ROOT, Faces, open_faces

META = torch.device("meta")
aten = torch.ops.aten

# What reads a number back, or makes a result whose size depends on numbers: the program waits for a GPU.
WAITS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.bincount,
    aten.repeat_interleave, aten.equal, aten.is_nonzero,
}  # fmt: skip
COPIES = {aten._to_copy, aten.copy_}
# Memory is asked for, nothing is launched.
FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten.detach}


class Watch:
    """Notes what happens on the meta device while it is entered.

    launches: operations that a GPU would run. waits: those for which the program would wait. on_cpu: operations on
    tensors of the CPU, as long as a launch each. Raises AssertionError where tensors of two devices meet (a single
    number of the CPU may, it travels with the launch), and for float64.
    """

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.on_cpu: Counter[str] = Counter()
        self.waits: list[str] = []
        self._modes = ExitStack()

    def __enter__(self) -> Watch:
        self._modes.enter_context(_Constants(self))
        self._modes.enter_context(_Operations(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.close()


class _Constants(TorchFunctionMode):
    """Notes tensors of Python numbers that are made on the device: a GPU's are copied there, and meta's are not."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, Tensor.new_tensor) and result.device == META:
            self.watch.waits.append(f"{func.__name__} of numbers")
        return result


class _Operations(TorchDispatchMode):
    """Notes and judges all other operations."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        packet, name = func.overloadpacket, str(func)
        is_here = any(tensor.device == META for tensor in given)
        met = {tensor.device.type for tensor in given if tensor.dim() or tensor.device == META}
        if is_here and (packet in WAITS or _indexes_by_mask(packet, args)):
            self.watch.waits.append(name)
            return tree_map(_there, func(*tree_map(_here, args), **tree_map(_here, kwargs)))
        if packet in COPIES:
            return self._copied(func, args, kwargs, given)
        if func._can_decompose():  # in inference mode they come whole
            with self:
                return func.decompose(*args, **kwargs)
        assert len(met) < 2, f"{name} meets tensors of {' and '.join(sorted(met))}"
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.device == META]
        assert all(tensor.dtype != torch.float64 for tensor in made), f"{name} makes float64, which Apple's GPUs lack"
        if not func.is_view and packet not in FREE and func.namespace != "profiler":
            (self.watch.launches if is_here or made else self.watch.on_cpu)[name] += 1
        return result

    def _copied(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]) -> Any:
        source = given[-1]
        target = given[0].device if func.overloadpacket is aten.copy_ else kwargs.get("device") or source.device
        if source.device != META and target == META:
            if source.dim() and not kwargs.get("non_blocking", args[2] if len(args) > 2 else False):
                self.watch.waits.append(f"{func} to the device, blocking")
            self.watch.launches[str(func)] += 1
        elif source.device == META and target != META:
            self.watch.waits.append(f"{func} to the CPU")
            read = _here(source).to(kwargs.get("dtype") or source.dtype)
            return given[0].copy_(read) if func.overloadpacket is aten.copy_ else read
        elif target == META:
            self.watch.launches[str(func)] += 1
        return func(*args, **kwargs)


def _here(leaf: Any) -> Any:
    """Returns a tensor of the CPU, of ones, in place of one of the device."""
    return torch.ones(leaf.shape, dtype=leaf.dtype) if isinstance(leaf, Tensor) and leaf.device == META else leaf


def _there(leaf: Any) -> Any:
    return leaf.to(META) if isinstance(leaf, Tensor) else leaf


def _indexes_by_mask(packet: Any, args: tuple[Any, ...]) -> bool:
    """Whether it is x[mask]: how many numbers that is only the device knows."""
    if packet not in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
        return False
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])


# As torch.autocast does for CUDA, of what our models and losses use.
IN_BF16 = {"linear", "conv2d", "matmul", "__matmul__", "bmm", "mm", "addmm", "baddbmm"}
IN_FLOAT32 = {"layer_norm", "softmax", "log_softmax", "norm", "sum", "pow", "__pow__", "exp", "log", "softplus"}


class _Autocast(TorchFunctionMode, ContextDecorator):
    """What torch.autocast does to the operations of our models, which the real one refuses to do on meta tensors."""

    def __init__(self, device_type: str, dtype: torch.dtype, **options: Any) -> None:
        super().__init__()
        assert device_type == "meta"
        self.dtype = dtype

    def _recreate_cm(self) -> _Autocast:
        return _Autocast("meta", self.dtype)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "scaled_dot_product_attention":
            return _fused_attention(*(tensor.to(self.dtype) for tensor in args), **kwargs)
        dtype = self.dtype if name in IN_BF16 else torch.float32 if name in IN_FLOAT32 else None

        def cast(leaf: Any) -> Any:
            is_cast = dtype is not None and isinstance(leaf, Tensor) and leaf.is_floating_point()
            return leaf.to(dtype) if is_cast else leaf

        return func(*tree_map(cast, args), **tree_map(cast, kwargs))


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, *, attn_mask: None = None, dropout_p: float, is_causal: bool,
    scale: float, **other: Any,
) -> Tensor:  # fmt: skip
    """The one kernel that a GPU has for it; on meta tensors torch would take it apart."""
    assert attn_mask is None
    return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]


@contextmanager
def standing_in(*, precision: str = "bf16") -> Iterator[Launch]:
    """Yields a launch of one process whose device is meta, with the kernels that torch has for a GPU."""
    kernels = lambda: ["meta", "cpu"]  # noqa: E731
    real = torch.autocast

    def autocast(device_type: str, dtype: torch.dtype, **options: Any) -> Any:
        return (_Autocast if device_type == "meta" else real)(device_type, dtype, **options)

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_MIXED_PRECISION", precision)
            patch.setattr(import_module("torch.optim.optimizer"), "_get_fused_kernels_supported_devices", kernels)
            patch.setattr(_foreach_utils, "_get_foreach_kernels_supported_devices", kernels)
            patch.setattr(torch, "autocast", autocast)
            launch = Launch()
            for state in (PartialState._shared_state, AcceleratorState._shared_state):
                state["device"] = META
            assert launch.accelerator.device == META
            yield launch
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def shipped(name: str, sample: Path, cache: Path, *more: str) -> Config:
    """Returns a config of configs/, on the sample's photos, from scratch: what it downloads has the same layers."""
    config = load_config(ROOT / "configs" / f"{name}.yaml", [
        f"data_dir={sample}/images", f"train_profile={sample}/train_profiles.txt",
        f"valid_profile={sample}/valid_profiles.txt", f"cache_dir={cache}", "train_batch_size=16", *more,
    ])  # fmt: skip
    arguments = {key: value for key, value in config.model_args.items() if key != "pretrained"}
    return config.model_copy(update={"model_args": arguments})


def epoch(
    config: Config, launch: Launch, *, log_interval: int = 3, skips: bool = False
) -> tuple[Faces, Any, list[Watch]]:
    """Returns the faces, the learner and what was watched, update by update, of an epoch of the real loop."""
    data = open_data(config, launch)
    with META:  # no numbers, so no time for initial weights
        learner, _ = build_learner(config, launch, data)
    faces = open_faces(config, launch, data)
    updates = train_one_epoch(
        learner, faces.batches, epoch=1,
        log_interval=log_interval, max_grad_norm=config.max_grad_norm, skips_non_finite=skips,
    )  # fmt: skip
    watched = []
    for _ in range(faces.plan.num_updates):
        with Watch() as watch:
            next(updates)
        watched.append(watch)
    assert next(updates, None) is None
    return faces, learner, watched
