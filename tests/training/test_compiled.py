"""Models that are compiled and learn on two processes (DDP), on CPU: this file is also the launched script."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.utils import TorchDynamoPlugin
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from maskcls.config import load_config
from maskcls.training.builders import build_learner, open_data
from maskcls.training.loop import predict, train_one_epoch
from maskcls.training.processes import Launch
from maskcls.training.state import weights_of
from tests.helpers import ROOT, open_faces, overrides, run

PLUGINS = {
    "not compiled": TorchDynamoPlugin(),
    "compiled as a whole": TorchDynamoPlugin(backend="eager"),
    "compiled by regions": TorchDynamoPlugin(backend="eager", use_regional_compilation=True),
}


@pytest.mark.slow
def test_compiled_or_not_two_processes_learn_the_same_and_their_gradients_meet_once_an_update(
    sample: Path, tmp_path: Path
) -> None:
    done = run(__file__, tmp_path, sample, processes=2, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if "gradients met" in line]
    assert printed == [f"{how}: gradients met 6 times in 6 updates of 2 micro batches" for how in PLUGINS]


def learnt(
    how: str, launch: Launch, folder: Path, sample: Path
) -> tuple[list[str], dict[str, torch.Tensor], torch.Tensor]:
    """Returns the kinds of modules, the averaged weights and the logits after two epochs, each with a prediction."""
    accelerator = launch.accelerator
    accelerator.free_memory()
    accelerator.state.dynamo_plugin = PLUGINS[how]
    config = load_config(
        ROOT / "configs" / "multi_head.yaml",
        overrides(
            sample, folder, model="vit", ema_decay=0.8, max_grad_norm=0.5, train_batch_size=20, lr=0.01,
            max_device_batch_size=5,
        ),
    )  # fmt: skip
    data = open_data(config, launch)
    learner, _ = build_learner(config, launch, data)
    faces = open_faces(config, launch, data)
    assert learner.model.gradient_as_bucket_view  # gradients lie where they meet, not a second time elsewhere
    meetings: list[int] = []  # of a bucket: here one takes all weights
    learner.model.register_comm_hook(
        meetings, lambda met, bucket: met.append(bucket.index()) or allreduce_hook(None, bucket)
    )
    for epoch in (1, 2):
        updates = train_one_epoch(
            learner, faces.batches, epoch=epoch, log_interval=2,
            max_grad_norm=0.5,
        )  # fmt: skip
        for _ in updates:
            pass
        with learner.averaged():
            some = replace(faces.data.valid, rows=faces.data.valid.rows[:7])
            logits = predict(accelerator, learner.model, some, faces.preprocessing, batch_size=3)
            weights = weights_of(learner.model)
    launch.say(
        f"{how}: gradients met {len(meetings)} times in {learner.num_updates} updates of "
        f"{faces.plan.num_accumulated} micro batches"
    )
    assert set(weights) == set(learner.network.state_dict() if launch.is_main else {})
    return [type(module).__name__ for module in learner.model.modules()], weights, logits


def main() -> None:
    """Learns without compiling, and compiled in both ways."""
    folder, sample = Path(sys.argv[1]), Path(sys.argv[2])
    launch = Launch()
    assert launch.num_processes == 2
    (plain, weights, logits), whole, regions = (learnt(how, launch, folder, sample) for how in PLUGINS)
    assert plain[0] == regions[0][0] == "DistributedDataParallel" and whole[0][0] == "OptimizedModule"
    assert plain.count("OptimizedModule") == 0 and regions[0].count("OptimizedModule") > 2
    for _, other_weights, other_logits in (whole, regions):
        torch.testing.assert_close(other_weights, weights, rtol=0, atol=1e-5)
        torch.testing.assert_close(other_logits, logits, rtol=0, atol=1e-5)
    launch.accelerator.end_training()


if __name__ == "__main__":
    main()
