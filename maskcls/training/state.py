"""What a run needs to resume, saved and restored: the state of its learner, and how far it is.

`last/` is the newest state and `previous/` the one before; StateFolder names their files, none of which can execute
code. There are no random states: every draw is keyed by seed, epoch, update and photo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as whole_state

from maskcls.config import Config
from maskcls.errors import UserError, is_out_of_memory, joined
from maskcls.evaluation.selection import BestScore
from maskcls.training.durable import damage_of, put_in_place, unfinished_beside, write_manifest
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder, StateFolder

FORMAT = 1  # raised when older states cannot be read any more
# Of a schedule's state: what the config builds, whose epochs may have changed (and what JSON would give other keys).
REBUILT = {"milestones", "total_steps", "total_iters", "T_max", "_schedule_phases"}
WHOLE = whole_state.StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass
class RunProgress:
    """How far a run is, apart from what its learner holds."""

    best: BestScore
    epoch: int = 1  # that is not over, from 1
    update: int = 0  # its updates that are done
    seconds: float = 0.0  # that the run has taken, over all its starts
    log_bytes: int = 0  # length of metrics.jsonl


@dataclass(frozen=True)
class State:
    """A state as it lies on disk, known to be whole."""

    folder: Path
    numbers: Mapping[str, Any] = field(repr=False)  # training.json

    @property
    def position(self) -> tuple[int, int]:
        """(epoch, its updates that are done)."""
        return self.numbers["progress"]["epoch"], self.numbers["progress"]["update"]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns the model's whole weights on the CPU under their own names, sharded or compiled as it may be. Collective.

    Empty on all processes but the main one.
    """
    state = whole_state.get_model_state_dict(model, options=WHOLE)
    return {name: value.clone() for name, value in state.items()}  # type: ignore[union-attr]  # not the live ones on CPU


def write_model(network: Any, folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes the weights as transformers does, safetensors and config. Call it in one process of a launch."""
    network.save_pretrained(folder, state_dict=dict(weights))  # it empties the dict that it is given


def save_state(
    launch: Launch, learner: Learner, progress: RunProgress, run: RunFolder, *, config: Config, data_key: str
) -> None:
    """Writes the run's state to `last/` and keeps the one that was there as `previous/`. Collective.

    data_key stands for the photos and labels that the run learns from, config for how: the run's own config.yaml may be
    edited.

    Raises NotFinite instead of writing weights that a broken update has spoilt, and Fault, on every process, when the
    disk does not take the state; what was there stays.
    """
    sums = learner.interval.sums(launch.accelerator)
    raw = weights_of(learner.model)
    with learner.averaged():
        served = weights_of(learner.model) if learner.average else raw
    optimizer = _optimizer_state(learner.model, _bare(learner.optimizer))
    tensors, numbers = _split(optimizer.get("state", {}))  # none but on the main process
    tensors |= {f"raw|{name}": value for name, value in raw.items()}  # save_pretrained gives them other names
    if learner.average:
        tensors |= {f"average|{name}": value for name, value in served.items()}

    def write() -> None:
        scaler = launch.accelerator.scaler
        with put_in_place(run.last, former=run.previous) as unfinished:
            progress.log_bytes = run.log_bytes()
            write_model(learner.network, unfinished, served)
            files = StateFolder(unfinished)
            save_file({name: value.contiguous() for name, value in tensors.items()}, files.tensors)
            everything = {
                "format": FORMAT,
                "data_key": data_key,
                "progress": asdict(progress),
                "num_updates": learner.num_updates,
                "num_skipped": learner.num_skipped,
                "interval": sums,
                "optimizer": numbers,
                "param_groups": optimizer["param_groups"],
                "scheduler": _numbers_of(learner.scheduler.state_dict()),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "average_updates": learner.average.num_updates if learner.average else None,
            }
            files.numbers.write_text(json.dumps(everything), encoding="utf-8")
            config.save(files.config)
            write_manifest(unfinished)

    launch.on_main(write)


def newest_state(run: RunFolder) -> tuple[State | None, list[str]]:
    """Returns the newest whole state of a run (None: it has saved none), and what is wrong with those that are damaged.

    Raises UserError when there are states, and all are damaged.
    """
    states, problems = [], []
    for folder in (run.last, run.previous, unfinished_beside(run.last)):
        if not folder.exists():
            continue
        problem = damage_of(folder)
        if problem is None:
            states.append(State(folder, json.loads(StateFolder(folder).numbers.read_text(encoding="utf-8"))))
        elif folder in (run.last, run.previous):  # a kill leaves an unfinished one, which nobody misses
            problems.append(f"{folder} is damaged: {problem}")
    if problems and not states:
        raise UserError(joined(problems, f"problems: {run.path} has no whole state to resume from"))
    return max(states, key=lambda state: state.position, default=None), problems


def restore(launch: Launch, learner: Learner, state: State, *, data_key: str) -> RunProgress:
    """Puts a state into a learner that was built anew, and returns how far the run was. Collective.

    Any number of processes may read what any other number wrote. Raises UserError when model or optimizer are others.
    """
    numbers, optimizer, problem = state.numbers, _bare(learner.optimizer), ""
    if numbers["format"] != FORMAT:
        problem = "was written by another version of maskcls and cannot be resumed"
    elif numbers["data_key"] != data_key:
        problem = "was learnt from other photos or labels than data_dir and the lists now give"
    if problem:
        raise UserError(f"{state.folder} {problem}").of_launch()
    tensors: dict[str, Any] = launch.on_each(lambda: _read(StateFolder(state.folder).tensors))
    raw, average = (
        {name.removeprefix(kind): tensors.pop(name) for name in list(tensors) if name.startswith(kind)}
        for kind in ("raw|", "average|")
    )
    try:
        # The optimizer first: filling in its state makes a step, which must not touch the weights that follow.
        if numbers["optimizer"]:
            optimizer_state = {"state": _joined(tensors, numbers["optimizer"]), "param_groups": numbers["param_groups"]}
            whole_state.set_optimizer_state_dict(learner.model, optimizer, optimizer_state, options=WHOLE)
        else:  # SGD without momentum, or nothing learnt yet
            for group, saved in zip(optimizer.param_groups, numbers["param_groups"], strict=True):
                group.update(saved)
        if learner.average:
            whole_state.set_model_state_dict(learner.model, average, options=WHOLE)
            learner.average.restart(learner.model, num_updates=numbers["average_updates"])
        whole_state.set_model_state_dict(learner.model, raw, options=WHOLE)
    except (RuntimeError, KeyError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{state.folder} does not fit this model and optimizer: {error}") from None
    _match_layout(optimizer)
    learner.scheduler.load_state_dict(numbers["scheduler"])
    scaler = launch.accelerator.scaler
    if scaler is not None and numbers["scaler"]:
        scaler.load_state_dict(numbers["scaler"])
    learner.interval.restore(numbers["interval"])
    learner.num_updates, learner.num_skipped = numbers["num_updates"], numbers["num_skipped"]
    progress = numbers["progress"]
    return RunProgress(**{**progress, "best": BestScore(**progress["best"])})


def _read(file: Path) -> dict[str, Tensor]:
    """Returns copies: as views they would keep the file open, and Windows renames no folder with an open file in it."""
    try:
        return {name: value.clone() for name, value in load_file(file).items()}
    except OSError:  # the main process has read all of it
        raise UserError(f"{file} is not seen here: model_dir must lie on a disk that all machines share") from None


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the optimizer's whole state. Torch would make a step to fill in one that is empty. Collective."""
    if optimizer.state:
        return whole_state.get_optimizer_state_dict(model, optimizer, options=WHOLE)
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return {"state": {}, "param_groups": groups}


def _split(state: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Returns parameter -> name -> value as tensors by "parameter|name", and the rest as it is."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, values in state.items():
        tensors |= {f"{parameter}|{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        numbers[parameter] = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
    return tensors, numbers


def _joined(tensors: Mapping[str, Tensor], numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns what `_split` took apart."""
    state = {parameter: dict(values) for parameter, values in numbers.items()}
    for key, value in tensors.items():
        parameter, _, name = key.rpartition("|")
        state[parameter][name] = value
    return state


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives the optimizer's tensors their parameters' memory layout, which fused kernels take for granted."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _numbers_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a schedule's state without what the config builds again: functions and lengths."""
    kept = {name: value for name, value in state.items() if name not in REBUILT}
    return json.loads(json.dumps(kept, default=lambda value: None))
