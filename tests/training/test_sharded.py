"""States of a model whose weights lie in parts on two processes (FSDP2), on CPU: this file is also the launched script."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from maskcls.evaluation.selection import BestScore
from maskcls.modeling.model import vit
from maskcls.training.average import WeightAverage
from maskcls.training.checkpoint import Progress, newest_state, restore, save_state, weights_of
from maskcls.training.interval import Interval
from maskcls.training.loop import Learner
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from tests.helpers import run


@pytest.mark.slow
def test_a_sharded_model_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    done = run(__file__, tmp_path, processes=2, PYTHONPATH=".")
    assert done.stdout.strip() == "2 processes, DTensor, same weights, same average", done.stderr


def sharded_learner() -> Learner:
    """Returns a tiny ViT with every layer sharded over the processes, as accelerate shards it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    network = vit(
        image_size=(32, 32), id2label={0: "male", 1: "female"}, attention="eager", patch_size=16, hidden_size=8,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
    ).to(memory_format=torch.contiguous_format)  # fmt: skip
    mesh = init_device_mesh("cpu", (2,))
    for layer in network.vit.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (1 + update))
    interval = Interval(torch.device("cpu"), "gender")
    return Learner(network, network, optimizer, schedule, False, WeightAverage(network, 0.9), interval)


def make_updates(learner: Learner, numbers: range) -> None:
    """Makes an update for each number, which keys its random pixels."""
    for number in numbers:
        pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(number))
        learner.model(pixel_values=pixels).logits.square().mean().backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        learner.scheduler.step()
        assert learner.average is not None
        learner.average.update(learner.model)


def averaged_weights(learner: Learner) -> dict[str, torch.Tensor]:
    """Returns the moving average, whole, on the main process."""
    with learner.averaged():
        return weights_of(learner.model)


def main() -> None:
    """Compares six updates with three, a saved and restored state, and three more."""
    launch, folder = Launch(), RunFolder(Path(sys.argv[1]))
    whole, resumed = sharded_learner(), sharded_learner()
    make_updates(whole, range(3))
    save_state(launch, whole, Progress(BestScore("f1")), folder, data_key="faces")
    make_updates(whole, range(3, 6))
    launch.accelerator.wait_for_everyone()
    state, _ = newest_state(folder)
    assert state is not None
    restore(launch, resumed, state, data_key="faces")
    make_updates(resumed, range(3, 6))
    weights, again = weights_of(whole.model), weights_of(resumed.model)
    average, average_again = averaged_weights(whole), averaged_weights(resumed)
    if launch.is_main:
        assert len(weights) == len(average) > 10
        assert any(not torch.equal(weights[name], average[name]) for name in weights)
        same = all(torch.equal(weights[name], again[name]) for name in weights)
        same_average = all(torch.equal(average[name], average_again[name]) for name in average)
        kind = type(next(iter(resumed.model.parameters()))).__name__
        print(
            f"{launch.num_processes} processes, {kind}, {'same' if same else 'other'} weights, "
            f"{'same' if same_average else 'other'} average"
        )
    launch.accelerator.wait_for_everyone()
    launch.accelerator.end_training()


if __name__ == "__main__":
    main()
