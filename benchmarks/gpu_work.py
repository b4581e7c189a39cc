"""What each part of benchmarks/gpu.py does, in a process of its own: real runs of train.py and infer.py, read back."""

from __future__ import annotations

import configparser
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.measure import ROOT, matmul_peak, training_flops
from maskcls.training.environment import version_of

LOSS_AGREES = 1e-3  # relative, in fp32 without TF32
LOSS_IS_NEAR = 0.05  # relative, of bf16 and fp16 to fp32
PROBABILITY_AGREES = 1e-3
FP32 = {"ACCELERATE_MIXED_PRECISION": "no", "NVIDIA_TF32_OVERRIDE": "0"}
CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
LAUNCH = ("-m", "accelerate.commands.launch", "--quiet", "--main_process_port", "0")
NUM_EPOCHS = 4


@dataclass(frozen=True)
class Size:
    """How large everything is. architectures: name -> (model, model_args) of the runs; timed: of what is measured."""

    image_size: tuple[int, int]
    num_people: int
    num_eval_people: int
    batch_size: int  # a fifth of the training photos: an epoch has five updates
    architectures: Mapping[str, tuple[str, Mapping[str, Any]]]
    timed: Mapping[str, tuple[str, Mapping[str, Any]]]
    timed_image_size: tuple[int, int]
    timed_batch_size: int
    timed_updates: int  # in each epoch; the first warms up
    timed_epochs: int


SIZES = {
    "full": Size(
        (224, 224), 60, 300, 64,
        {
            "vit": ("vit", {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}),
            "convnext": ("convnext", {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]}),
            "convnextv2": ("convnextv2", {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]}),
            "resnet": ("auto", {"model_type": "resnet", "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512],
                                "depths": [2, 2, 2, 2]}),
        },
        {
            "vit_small_16": ("vit", {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}),
            "vit_base_16": ("vit", {}),
            "convnext_tiny": ("convnext", {}),
        },
        (224, 224), 256, 8, 7,
    ),
    "tiny": Size(
        (48, 32), 12, 2, 14,
        {
            "vit": ("vit", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                            "intermediate_size": 64}),
            "convnext": ("convnext", {"hidden_sizes": [16, 32], "depths": [1, 1]}),
            "convnextv2": ("convnextv2", {"hidden_sizes": [16, 32], "depths": [1, 1]}),
            "resnet": ("auto", {"model_type": "resnet", "layer_type": "basic", "embedding_size": 16,
                                "hidden_sizes": [16, 32], "depths": [1, 1]}),
        },
        {
            "vit_small_16": ("vit", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}),
            "vit_base_16": ("vit", {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}),
            "convnext_tiny": ("convnext", {"hidden_sizes": [16, 32], "depths": [1, 1]}),
        },
        (32, 32), 8, 2, 3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Work:
    """The folder that all parts share, and the size."""

    folder: Path
    size: Size

    def run(self, name: str) -> Path:
        """Returns the folder of a run."""
        return self.folder / "runs" / name


def machine(work: Work) -> dict[str, Any]:
    """Returns what a figure belongs to, and the packages of setup.cfg that are not here as it wants them."""
    import platform

    import torch

    from maskcls.machine import num_cores, processor

    num_gpus = torch.cuda.device_count()
    missing, pip = missing_packages()
    device = torch.cuda.get_device_name() if num_gpus else f"no GPU; {processor()}"
    said = f"{num_gpus} x {device}" if num_gpus else device
    return {
        "result": f"{said}; missing: {', '.join(missing) or 'nothing'}" + (f": {pip}" if missing else ""),
        "device": device, "num_gpus": num_gpus, "driver": _driver(), "cores": num_cores(),
        "python": platform.python_version(), "cuda": torch.version.cuda, "missing": missing, "pip": pip,
        **{name: version_of(name) for name in ("torch", "accelerate", "transformers")},
    }  # fmt: skip


def missing_packages() -> tuple[list[str], str]:
    """Returns the names of what setup.cfg needs and is not here, or not in that version, and the line that gets it."""
    from packaging.requirements import Requirement

    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = parser["options"]["install_requires"].splitlines()
    wanted = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    missing = [one for one in wanted if not one.specifier.contains(version_of(one.name) or "0", prereleases=True)]
    return [one.name for one in missing], " ".join(["pip install", *(repr(str(one)) for one in missing)])


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip()


def sample(work: Work) -> dict[str, Any]:
    """Draws the photos of all runs."""
    from maskcls.sample.write import write_sample_data

    size = work.size
    made = write_sample_data(
        work.folder / "sample", num_people=size.num_people, seed=0, num_eval_people=size.num_eval_people
    )
    return {"result": f"{made.num_profile_photos} photos to train and validate on, {made.num_eval_photos} to predict"}


def whole(work: Work) -> dict[str, Any]:
    """Trains in fp32 on this machine's device: what other parts are compared with."""
    losses = train(work, "whole", environment=FP32)
    return {"result": _curve(losses), "losses": losses}


def precision(work: Work, name: str) -> dict[str, Any]:
    """Compares the losses of the same updates: fp32 on the CPU, or bf16 or fp16 here, with fp32 here."""
    environment = {**FP32, **CPU} if name == "fp32" else {**FP32, "ACCELERATE_MIXED_PRECISION": name}
    losses = train(work, f"precision_{name}", environment=environment)
    what = "on the CPU, fp32 without TF32" if name == "fp32" else name
    return _compared(work, losses, LOSS_AGREES if name == "fp32" else LOSS_IS_NEAR, what)


def configs(work: Work, name: str) -> dict[str, Any]:
    """Trains as a file of accelerate_configs/ says, over all GPUs when it is for several."""
    import torch

    file = ROOT / "accelerate_configs" / f"{name}.yaml"
    text, num_gpus = file.read_text(encoding="utf-8"), torch.cuda.device_count()
    options = [] if "distributed_type: 'NO'" in text else ["--num_processes", str(num_gpus)]
    if "num_machines: 1" not in text:  # its several machines are this one
        options += ["--num_machines", "1", "--machine_rank", "0", "--main_process_ip", "127.0.0.1"]
    losses = train(work, f"config_{name}", launcher=[*LAUNCH, "--config_file", str(file), *options])
    facts = json.loads((work.run(f"config_{name}") / "environment.json").read_text(encoding="utf-8"))
    if facts["mixed_precision"] not in text or facts["num_processes"] != (num_gpus if options else 1):
        raise SystemExit(f"it ran in {facts['mixed_precision']} with {facts['num_processes']} processes")
    return {"result": f"{facts['num_processes']} processes, {facts['mixed_precision']}: {_curve(losses)}"}


def models(work: Work, name: str) -> dict[str, Any]:
    """Trains a small model of a kind in bf16."""
    losses = train(work, f"model_{name}", name, environment={"ACCELERATE_MIXED_PRECISION": "bf16"})
    return {"result": _curve(losses)}


def compiled(work: Work, name: str) -> dict[str, Any]:
    """Trains with torch.compile and compares with fp32 without."""
    how, _, model = name.partition("_")
    environment = {
        **FP32, "ACCELERATE_DYNAMO_BACKEND": "inductor",
        "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": str(how == "regional").lower(),
    }  # fmt: skip
    losses = train(work, f"compiled_{name}", model, environment=environment)
    if model == "vit":
        return _compared(work, losses, LOSS_AGREES, f"compiled ({how})")
    return {"result": _curve(losses)}


def fsdp2(work: Work, name: str) -> dict[str, Any]:
    """Trains a model in shards with clipping and an average, and resumes from its state."""
    file = ROOT / "accelerate_configs/fsdp2_bf16.yaml"
    launcher = [*LAUNCH, "--config_file", str(file), "--num_processes", "1"]
    losses = train(work, f"fsdp2_{name}", name, launcher=launcher, ema_decay=0.9, max_grad_norm=1.0)
    losses = resume(work, f"fsdp2_{name}", launcher=launcher, epochs=NUM_EPOCHS + 1)
    return {"result": f"{_curve(losses)}, the last epoch from a saved state"}


def killed(work: Work) -> dict[str, Any]:
    """Kills a run in the middle (SIGKILL), resumes it, and compares with the run that nobody stopped."""
    from safetensors.numpy import load_file

    folder, environment = work.run("killed"), {**os.environ, **FP32}
    arguments = settings(work, "killed", "vit", checkpoint_interval="3 updates")
    process = subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT, env=environment)
    while process.poll() is None and not (folder / "last/manifest.json").exists():
        time.sleep(0.001)
    process.kill()
    process.wait()
    num_logged = len(losses_of(folder)) if (folder / "metrics.jsonl").exists() else 0
    if (folder / "finished.json").exists() or not 0 < num_logged < 5 * NUM_EPOCHS:
        raise SystemExit(f"it was to be killed in the middle, but had logged {num_logged} updates")
    losses = resume(work, "killed", environment=FP32)
    weights, expected = (load_file(run / "last/model.safetensors") for run in (folder, work.run("whole")))
    apart = max(float(abs(weights[name] - expected[name]).max()) for name in expected)
    largest = max(float(abs(values).max()) for values in expected.values())
    same = "bit-equal weights" if apart == 0 else f"weights differ by {apart:.1e} at most, the largest is {largest:.2f}"
    found = _compared(work, losses, LOSS_AGREES, f"killed after {num_logged} updates, then resumed")
    return {**found, "result": f"{found['result']}; {same}", "largest_difference": apart}


def infer(work: Work) -> dict[str, Any]:
    """Predicts with infer.py here and, beside a GPU, on the CPU too, and compares the answers."""
    import torch

    here = _answers(work, "here", FP32)
    if not torch.cuda.is_available():
        return {"result": f"{len(here)} photos"}
    apart = abs(here - _answers(work, "on_cpu", {**FP32, **CPU})).max()
    if apart > PROBABILITY_AGREES:
        raise SystemExit(f"probabilities on GPU and CPU differ by {apart:.1e}")
    return {"result": f"{len(here)} photos, probabilities as on the CPU to {apart:.1e}", "largest_difference": apart}


def _answers(work: Work, name: str, environment: Mapping[str, str]) -> Any:
    """Returns (N, K) float64, what infer.py writes to probabilities.parquet."""
    import numpy as np
    from pyarrow import parquet

    output = work.folder / f"answers_{name}"
    _run(["infer.py", "--model_dir", str(work.run("whole")), "--output_dir", str(output)], environment)
    table = parquet.read_table(output / "probabilities.parquet").drop_columns("ImageID")
    return np.stack([column.to_numpy() for column in table.columns], 1).astype(np.float64)


def throughput(work: Work, name: str) -> dict[str, Any]:
    """Measures the project's own epoch in bf16, pixels on the device, of a model, as it is or compiled."""
    name, _, how = name.partition("+")
    os.environ |= {"ACCELERATE_MIXED_PRECISION": "bf16"}
    os.environ |= {"ACCELERATE_DYNAMO_BACKEND": "inductor"} if how == "compiled" else {}
    import numpy as np

    from maskcls.config import Config
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.training.batches import Batches
    from maskcls.training.builders import build_augmenter, build_learner
    from maskcls.training.loop import train_one_epoch
    from maskcls.training.processes import Launch

    size, launch = work.size, Launch()
    device, num_photos = launch.accelerator.device, size.timed_batch_size * size.timed_updates
    model, architecture = size.timed[name]
    config = Config(
        data_dir="random pixels", dataset_args={"output": "all", "mean": [0.5] * 3, "std": [0.25] * 3},
        image_size=list(size.timed_image_size), model=model, model_args=dict(architecture), max_grad_norm=1.0,
        train_batch_size=size.timed_batch_size, epochs=size.timed_epochs, log_interval=size.timed_updates,
    )  # fmt: skip
    preprocessing = Preprocessing(**config.preprocessing)
    data = random_photos((num_photos, *preprocessing.stored_size, 3), device)
    learner, plan = build_learner(config, launch, data)
    batches = Batches(data.train, plan, build_augmenter(config, preprocessing, device), config.output)
    flops = training_flops(learner.network, config.height_width, device)
    seen, first_epoch = [], time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        for values in train_one_epoch(
            learner, batches, epoch=epoch, log_interval=config.log_interval, max_grad_norm=config.max_grad_norm,
        ):  # fmt: skip
            seen += [values] if values else []
        if epoch == 1:
            first_epoch = time.perf_counter() - first_epoch
    peak = matmul_peak(device, is_bf16=True)
    rates = [values["train/images_per_second"] for values in seen[1:]]
    found = {
        "images_per_second": median(rates), "range": [min(rates), max(rates)],
        "mfu": median(rates) * flops / peak, "tflops_peak": peak / 1e12, "gflops_per_image": flops / 1e9,
        "waiting_share": float(np.mean([values["train/waiting_share"] for values in seen[1:]])),
        "peak_memory_gb": seen[-1]["train/peak_memory_gb"], "first_epoch_seconds": first_epoch,
    }  # fmt: skip
    shown = f"{found['images_per_second']:,.0f} images/s, {found['mfu']:.1%} of the matmul peak"
    return {"result": shown, **found}


def random_photos(shape: tuple[int, int, int, int], device: Any) -> Any:
    """Returns photos without files, as the dataset gives them: random pixels (N, H, W, 3) on the device, and labels."""
    import numpy as np
    import torch
    from datasets import Dataset

    from maskcls.data.dataset import FaceData, Photos
    from maskcls.data.pixels import DevicePixels

    class RandomPixels:
        """What a cache holds."""

        def __init__(self) -> None:
            self.shape = shape

        def __call__(self, rows: Any) -> Any:
            """Returns (B, H, W, 3) uint8."""
            return torch.from_numpy(random.integers(256, size=(len(rows), *shape[1:]), dtype="uint8"))

    random = np.random.default_rng(0)
    labels = random.integers([3, 2, 3], size=(shape[0], 3))
    table = Dataset.from_dict({name: labels[:, column] for column, name in enumerate(["mask", "gender", "age_group"])})
    data = FaceData(Photos(table, np.arange(shape[0])), Photos(table, np.arange(0)), Counter(), None)
    return data.opened(DevicePixels(RandomPixels(), device))  # type: ignore[arg-type]


def inference_rate(work: Work) -> dict[str, Any]:
    """Measures photos/s from files to answers, decoding included and start-up not, with the run's best model."""
    from benchmarks.infer import our_rate

    images, model = str(work.folder / "sample/eval/images"), str(work.run("whole") / "best")
    our_rate(images, model, "bf16", image_size=work.size.image_size)  # warms up
    rate = our_rate(images, model, "bf16", image_size=work.size.image_size)
    return {"result": f"{rate:,.0f} photos/s from files", "photos_per_second": rate}


def settings(work: Work, name: str, model: str, **more: object) -> list[str]:
    """Returns the arguments of train.py for a run: drawn photos, no weights of others, nothing outside the folder.

    An epsilon that large keeps AdamW from blowing up rounding, so that curves can be compared.
    """
    size, drawn = work.size, work.folder / "sample"
    kind, arguments = size.architectures[model]
    values = {
        "name": name, "data_dir": drawn / "images", "train_profile": drawn / "train_profiles.txt",
        "valid_profile": drawn / "valid_profiles.txt", "infer_data_dir": drawn / "eval",
        "model_dir": work.folder / "runs", "cache_dir": work.folder / "cache", "image_size": list(size.image_size),
        "model": kind, "model_args": json.dumps(arguments), "augmentation": "light",
        "train_batch_size": size.batch_size, "epochs": NUM_EPOCHS, "log_interval": 1, "lr": 1.0e-3,
        "optimizer_args": "{eps: 1.0e-3}", "wandb": "disabled", "tensorboard": "false", "report": "false", **more,
    }  # fmt: skip
    return ["--config", "configs/demo.yaml", *(f"{key}={value}" for key, value in values.items())]


def train(
    work: Work, name: str, model: str = "vit", *, launcher: Sequence[str] = (),
    environment: Mapping[str, str] | None = None, **more: object,
) -> list[float]:  # fmt: skip
    """Returns the loss of every update of a new run."""
    _run([*launcher, "train.py", *settings(work, name, model, **more)], environment or {})
    return _checked(work, name, NUM_EPOCHS)


def resume(
    work: Work, name: str, *, launcher: Sequence[str] = (), environment: Mapping[str, str] | None = None,
    epochs: int = NUM_EPOCHS,
) -> list[float]:  # fmt: skip
    """Returns the loss of every update of a run that resumes."""
    _run([*launcher, "train.py", "--resume", str(work.run(name)), f"epochs={epochs}"], environment or {})
    return _checked(work, name, epochs)


def losses_of(run: Path) -> list[float]:
    """Returns the losses that a run has logged; the last line may be half-written."""
    lines = [line for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return [line["train/loss"] for line in map(json.loads, lines) if "train/loss" in line]


def _checked(work: Work, name: str, epochs: int) -> list[float]:
    losses = losses_of(work.run(name))
    if len(losses) != 5 * epochs or not all(map(math.isfinite, losses)):
        raise SystemExit(f"{5 * epochs} finite losses were expected, not {losses}")
    return losses


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs a script of the repository; what it prints is this part's output."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _curve(losses: Sequence[float]) -> str:
    return f"loss {mean(losses[:5]):.3f} to {mean(losses[-5:]):.3f} in {len(losses)} updates"


def _compared(work: Work, losses: Sequence[float], tolerance: float, what: str) -> dict[str, Any]:
    """Returns how far a curve is from that of the run `whole`; ends the part when that is too far."""
    expected = losses_of(work.run("whole"))
    furthest = max(abs(one - other) / abs(other) for one, other in zip(losses, expected, strict=True))
    if furthest > tolerance:
        raise SystemExit(f"{what}: a loss differs by {furthest:.1e}, allowed {tolerance:.0e}: {losses} and {expected}")
    return {"result": f"{what}: {len(losses)} losses agree to {furthest:.1e}", "furthest": furthest, "losses": losses}


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "sample": sample,
    "whole": whole,
    "precision": precision,
    "configs": configs,
    "models": models,
    "compile": compiled,
    "fsdp2": fsdp2,
    "resume": killed,
    "infer": infer,
    "throughput": throughput,
    "inference_rate": inference_rate,
}
