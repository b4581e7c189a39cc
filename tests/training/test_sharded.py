"""Models whose weights lie in parts on two processes (FSDP2), on CPU: this file is also the launched script."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from infer import infer
from maskcls.config import TABLES, Config, load_config
from maskcls.data.dataset import FaceData
from maskcls.data.photo import BadPhotos
from maskcls.data.pixels import Pixels
from maskcls.errors import UserError
from maskcls.evaluation.selection import BestScore
from maskcls.labels import id2label, num_outputs
from maskcls.reporting.check import check
from maskcls.training.builders import build_learner, open_data
from maskcls.training.loop import Learner, predict, train_one_epoch
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.training.sharding import prepare, prepare_to_predict
from maskcls.training.state import RunProgress, newest_state, restore, save_state, weights_of
from tests.helpers import ROOT, Faces, open_faces, overrides, rows, run
from train import train

MODELS = ("vit", "convnext", "auto")  # auto: a ResNet


@pytest.mark.slow
def test_sharded_models_train_predict_and_resume_as_others_do(sample: Path, tmp_path: Path) -> None:
    environment = launched("fsdp2_bf16")
    assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["FSDP_VERSION"] == "2"
    done = run(__file__, tmp_path, sample, processes=2, **environment)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith("checked ")]
    assert printed == [*(f"checked {model}" for model in MODELS), "checked check, train and infer"]
    launch = Launch()  # and one process alone goes on with what the two have saved
    for model in MODELS:
        config = config_of(model, tmp_path, sample)
        learner, _ = build_learner(config, launch, open_data(config, launch))
        state, damages = newest_state(RunFolder(tmp_path / model))
        assert state is not None and not damages
        restore(launch, learner, state, data_key="faces")
        saved = load_file(state.folder / "training.safetensors")
        assert learner.num_updates == 2 and type(next(learner.model.parameters()).data) is not DTensor
        for kind, weights in (("raw", weights_of(learner.model)), ("average", averaged_weights(learner))):
            assert same(weights, {name: saved[f"{kind}|{name}"] for name in weights}) and len(weights) > 20


def test_the_first_version_of_fsdp_is_refused() -> None:
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=False)
    with pytest.raises(UserError, match=r"^the launch's fsdp_config has fsdp_version 1: set fsdp_version: 2$"):
        prepare(cast(Accelerator, accelerator), nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))


def launched(name: str) -> dict[str, str]:
    """Returns what `accelerate launch` says to a script through its environment for one of our machine shapes."""
    file = str(ROOT / "accelerate_configs" / f"{name}.yaml")
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", file, "train.py"]))
    environment = prepare_multi_gpu_env(arguments)
    names = [name for name in environment if name.startswith(("ACCELERATE_", "FSDP_"))]
    return {"PYTHONPATH": str(ROOT), **{name: environment[name] for name in names if name != "ACCELERATE_USE_CPU"}}


class SomeBad:
    """Pixels some of which cannot be read."""

    def __init__(self, pixels: Pixels, bad: set[int]) -> None:
        self.pixels, self.bad, self.shape = pixels, bad, pixels.shape

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        if problems := [f"photo {row}" for row in rows.tolist() if row in self.bad]:
            raise BadPhotos(*problems)
        return self.pixels(rows)


def config_of(model: str, folder: Path, sample: Path, **more: object) -> Config:
    """Returns the config of a tiny run that clips, accumulates and averages."""
    more = {
        "ema_decay": 0.8, "max_grad_norm": 0.5, "train_batch_size": 10, "max_device_batch_size": 3, "lr": 0.01, **more,
    }  # fmt: skip
    return load_config(
        ROOT / "configs" / "multi_head.yaml", [*overrides(sample, folder, model=model, **more), f"model={model}"]
    )


def plain_network(config: Config) -> nn.Module:
    """Returns the network as build_learner draws it, whole and in whole precision."""
    torch.manual_seed(config.seed)
    return TABLES["model"].builder(config.model)(
        **config.model_args, image_size=config.height_width, id2label=id2label("all", num_outputs("all")),
        attention="eager",
    )  # fmt: skip


def forget_models(launch: Launch) -> None:
    """Makes Accelerate forget the models of before: of their parameters it finds none, and of their layers too many."""
    launch.accelerator.free_memory()
    launch.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    launch.accelerator.state.fsdp_plugin.set_mixed_precision("bf16")


def built(config: Config, launch: Launch, data: FaceData) -> Learner:
    """Returns a learner whose weights, and those of each of its layers, are sharded."""
    forget_models(launch)
    learner, _ = build_learner(config, launch, data)
    assert sum(isinstance(module, FSDPModule) for module in learner.model.modules()) >= 3
    assert {type(weight.data) for weight in learner.model.parameters()} == {DTensor}
    return learner


def make_updates(learner: Learner, faces: Faces, numbers: range) -> None:
    """Makes some updates of the first epoch."""
    updates = train_one_epoch(
        learner, faces.batches, epoch=1, first_update=numbers.start,
        log_interval=2, max_grad_norm=0.5,
    )  # fmt: skip
    for _ in zip(numbers, updates, strict=False):
        pass
    assert learner.num_updates == numbers.stop


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Returns whether all weights are the same to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def averaged_weights(learner: Learner) -> dict[str, torch.Tensor]:
    """Returns the moving average, whole, on the main process."""
    with learner.averaged():
        return weights_of(learner.model)


def check_precision(accelerator: Accelerator, learner: Learner, network: nn.Module, faces: Faces) -> None:
    """Compares logits and the gradient of both processes' photos with those of the network that is not sharded."""
    x = faces.preprocessing.seen(faces.data.valid.pixels(np.arange(8)))
    own = x.split(4)[accelerator.process_index]
    logits = learner.model.train()(pixel_values=own).logits.float()
    accelerator.backward(logits.square().mean())
    network.train()
    halves = [network(pixel_values=half).logits for half in x.split(4)]  # apart, for batch normalisation
    torch.testing.assert_close(logits, halves[accelerator.process_index], rtol=0.05, atol=0.05)
    torch.cat(halves).square().mean().backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    flat, expected, in_16_bits = [], [], True
    for name, weight in learner.model.named_parameters():
        whole = weight.grad.full_tensor()
        in_16_bits &= bool((whole == whole.bfloat16()).all())
        flat.append(whole.flatten())
        expected.append(gradients[name].flatten())
    error = (torch.cat(flat) - torch.cat(expected)).norm() / torch.cat(expected).norm()
    assert error < 0.05, f"the gradient is wrong by {error:.3f}"
    assert not in_16_bits, "gradients were added up in 16 bits"
    learner.optimizer.zero_grad()


def check_predictions(accelerator: Accelerator, learner: Learner, network: nn.Module, faces: Faces) -> None:
    """Predicts any number of photos, some of them bad, under the moving average."""
    preprocessing, every = faces.preprocessing, replace(faces.data.valid, rows=faces.data.valid.rows[:7])
    raw = weights_of(learner.model)
    with learner.averaged():
        served = weights_of(learner.model)
        logits = predict(accelerator, learner.model, every, preprocessing, batch_size=8)
        for num in range(1, len(every)):  # 1: the second process has none; 5: it makes a batch less
            part = replace(every, rows=every.rows[::-1][:num])
            own = predict(accelerator, learner.model, part, preprocessing, batch_size=2)
            torch.testing.assert_close(own, logits.flip(0)[:num], rtol=0.02, atol=0.02)
        for bad in every.rows[[0, -1]]:  # on one process
            some_bad = replace(every, reader=cast(Pixels, SomeBad(every.reader, {int(bad)})))
            with pytest.raises(BadPhotos, match=f"^photo {bad}$") as caught:
                predict(accelerator, learner.model, some_bad, preprocessing, batch_size=2)
            assert caught.value.is_shared
    assert same(raw, weights_of(learner.model))
    if accelerator.is_main_process:
        assert not same(raw, served)
        network.load_state_dict(served)
        with torch.no_grad():
            expected = network.eval()(pixel_values=preprocessing.seen(every.pixels(np.arange(7)))).logits
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)


def check_model(model: str, launch: Launch, folder: Path, sample: Path) -> None:
    """Trains, predicts, saves and goes on with one architecture."""
    accelerator = launch.accelerator
    config = config_of(model, folder, sample)
    data = open_data(config, launch)
    whole = built(config, launch, data)
    faces = open_faces(config, launch, data)
    assert faces.plan.num_accumulated == 2 and faces.plan.num_updates >= 4
    network = plain_network(config)
    check_precision(accelerator, whole, network, faces)

    make_updates(whole, faces, range(2))
    check_predictions(accelerator, whole, network, faces)
    run_folder = RunFolder(folder / model)
    save_state(launch, whole, RunProgress(BestScore("f1")), run_folder, config=config, data_key="faces")
    make_updates(whole, faces, range(2, 4))
    resumed = built(config, launch, data)
    state, _ = newest_state(run_folder)
    assert state is not None
    restore(launch, resumed, state, data_key="faces")
    # As after a stop between an epoch's last update and its validation: the first forward is none of training.
    predict(accelerator, resumed.model, faces.data.valid, faces.preprocessing, batch_size=4)
    make_updates(resumed, faces, range(2, 4))
    assert same(weights_of(whole.model), weights_of(resumed.model))
    assert same(averaged_weights(whole), averaged_weights(resumed))
    logits = [
        predict(accelerator, learner.model, faces.data.valid, faces.preprocessing, batch_size=4)
        for learner in (whole, resumed)
    ]
    assert torch.equal(*logits)


def check_programs(launch: Launch, folder: Path, sample: Path) -> None:
    """Runs `train.py --check`, train.py and infer.py."""
    config = config_of("vit", folder / "programs", sample)
    forget_models(launch)
    check(config, launch, None, lang="en")
    forget_models(launch)
    train(config, launch=launch)
    run_folder = folder / "programs" / "runs" / "exp"
    infer(str(run_folder), None, batch_size=4, output_dir=None)
    launch.accelerator.wait_for_everyone()
    answers = rows(run_folder / "output.csv")
    assert [row["ImageID"] for row in answers] == [row["ImageID"] for row in rows(sample / "eval" / "info.csv")]


def check_device(launch: Launch) -> None:
    """A network that is to predict goes to the device, although the launch shards those that learn."""
    launch.accelerator.state.device = torch.device("meta")
    launch.accelerator.native_amp = False
    model = prepare_to_predict(launch.accelerator, nn.Linear(2, 2))
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def main() -> None:
    """Checks every architecture by itself, then the programs."""
    folder, sample = Path(sys.argv[1]), Path(sys.argv[2])
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU  # Accelerate shards on GPUs only
    launch = Launch()
    assert launch.num_processes == 2 and launch.accelerator.is_fsdp2 and launch.accelerator.mixed_precision == "bf16"
    for model in MODELS:
        check_model(model, launch, folder, sample)
        launch.say(f"checked {model}")
    check_programs(launch, folder, sample)
    check_device(launch)
    launch.say("checked check, train and infer")
    launch.accelerator.end_training()


if __name__ == "__main__":
    main()
