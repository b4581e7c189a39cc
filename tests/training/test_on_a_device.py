"""What runs on one device, on torch's meta device in place of a GPU: nothing meets the CPU, and nothing waits for it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import infer
import train
from benchmarks.launches import RECIPES, augmentation_launches, config_launches
from maskcls.config import load_config
from maskcls.data.augmentation import AUGMENTATIONS, Augmentation
from maskcls.data.augmenter import Augmenter
from maskcls.data.pixels import DecodedPixels, DevicePixels, MappedPixels
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.views import VIEWS
from maskcls.labels import HEAD_CLASSES, OUTPUT_HEADS, num_outputs
from maskcls.modeling.loss import CRITERIA, build_losses
from maskcls.reporting.check import estimate_lines
from maskcls.training import processes
from maskcls.training.builders import build_learner, open_data
from maskcls.training.loop import predict
from maskcls.training.preflight import try_out
from maskcls.words import Words
from tests.helpers import ROOT, json_lines, overrides
from tests.stand_in import META, Watch, epoch, shipped, standing_in

CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
STRENGTHS = {
    "shift": True, "min_area": 0.5, "rotation": 10.0, "mixing_epochs": None, "half_range": (0.4, 0.6),
}  # fmt: skip
READS = ["aten._to_copy.default to the CPU"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "name", [name if name == "multi_head" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_an_update_and_a_prediction_of_every_shipped_config_stay_on_the_device(
    name: str, sample: Path, cache: Path
) -> None:
    with standing_in() as launch:
        faces, learner, watched = epoch(shipped(name, sample, cache), launch)
        assert isinstance(faces.data.train.reader, DevicePixels) and len(watched) >= 4
        reads = [number % 3 == 0 or number == len(watched) for number in range(1, len(watched) + 1)]
        assert [watch.waits for watch in watched] == [READS if is_read else [] for is_read in reads]
        assert min(watch.launches.total() for watch in watched) > 100
        assert not any(watch.on_cpu for watch, is_read in zip(watched, reads, strict=True) if not is_read)
        assert {parameter.device for parameter in learner.model.parameters()} == {META}
        with Watch() as watch:
            logits = predict(launch.accelerator, learner.model, faces.data.valid, faces.preprocessing, batch_size=5)
        assert watch.waits == READS and logits.shape[0] == len(faces.data.valid) > 5
        once = watch.launches["aten.convolution.default"]
        with Watch() as watch:
            predict(
                launch.accelerator, learner.model, faces.data.valid, faces.preprocessing, batch_size=5,
                views=VIEWS["5"],
            )  # fmt: skip
        assert watch.waits == READS and watch.launches["aten.convolution.default"] == 5 * once > 0


@pytest.mark.slow
@pytest.mark.parametrize("cache_kind", ["memory_map", "none"])
def test_pixels_that_do_not_stay_on_the_device_come_without_making_it_wait(
    cache_kind: str, sample: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskcls.data.pixels.free_memory", lambda device: 1.0)
    with standing_in() as launch:
        faces, _, watched = epoch(shipped("demo", sample, cache, f"cache={cache_kind}"), launch)
    assert isinstance(faces.data.train.reader, DecodedPixels if cache_kind == "none" else MappedPixels)
    assert [watch.waits for watch in watched if watch.waits] == [READS, READS]


@pytest.mark.slow
def test_accumulated_passes_do_not_wait_either(sample: Path, cache: Path) -> None:
    with standing_in() as launch:
        _, _, watched = epoch(shipped("demo", sample, cache, "max_device_batch_size=4"), launch)
    assert [len(watch.waits) for watch in watched].count(1) == 2 == sum(len(watch.waits) for watch in watched)


@pytest.mark.slow
def test_leaving_out_broken_updates_costs_one_wait_an_update(sample: Path, cache: Path) -> None:
    with standing_in() as launch:
        _, _, watched = epoch(shipped("demo", sample, cache), launch, skips=True)
    assert [len(watch.waits) for watch in watched[:3]] == [1, 1, 2]


@pytest.mark.slow
def test_weights_gradients_and_averages_are_float32_whatever_the_model_computes_in(sample: Path, cache: Path) -> None:
    casts = {}
    for precision in ("no", "bf16"):
        with standing_in(precision=precision) as launch:
            _, learner, watched = epoch(shipped("real_faces", sample, cache), launch)
        states = [value for state in learner.optimizer.state.values() for value in state.values()]
        kept = [*learner.model.parameters(), *learner.average.weights, *states]
        assert {tensor.dtype for tensor in kept} == {torch.float32} and len(kept) > 100
        casts[precision] = watched[1].launches["aten._to_copy.default"]
    assert casts["bf16"] > casts["no"] + 40  # so the stand-in does compute in bf16


@pytest.mark.slow
@pytest.mark.parametrize("cache_kind", ["memory_map", "none"])
def test_a_check_counts_the_photos_that_a_run_will_keep_on_the_device(
    cache_kind: str, sample: Path, tmp_path: Path
) -> None:
    """A check decodes what it looks at, so that its own peak has no photos in it."""
    config = shipped("demo", sample, tmp_path, f"cache={cache_kind}")
    with standing_in() as launch, Watch():
        data = open_data(config, launch)
        with META:
            learner, plan = build_learner(config, launch, data)
        estimate = try_out(config, launch, data, learner, plan, None)
    stored = Preprocessing(**config.preprocessing).stored_size
    kept = len(data.table) * int(np.prod(stored)) * 3 / 1e9 if cache_kind == "memory_map" else 0.0
    assert estimate.kept_gb == kept and estimate.memory_gb > 0.05 + kept
    line = estimate_lines(config, estimate, Words("en")).splitlines()[1]
    assert line.startswith("memory ") and ("photos that stay on the device" in line) == (cache_kind == "memory_map")


# augmentation


def strengths() -> dict[str, Augmentation]:
    """Returns every recipe, every strength by itself, and all at once."""
    alone = {
        field.name: replace(Augmentation(), **{field.name: STRENGTHS.get(field.name, 0.5)})
        for field in fields(Augmentation)
    }
    everything = replace(AUGMENTATIONS["strong"], min_area=0.5, mixup=0.3, cutmix=0.3, half_cutmix=0.4)
    return {**AUGMENTATIONS, **alone, "everything": everything}


@pytest.mark.parametrize("name", strengths())
def test_every_strength_of_the_augmentation_stays_on_the_device(name: str) -> None:
    preprocessing = Preprocessing((24, 18), mean=(0.5,) * 3, std=(0.25,) * 3)
    augmenter = Augmenter(strengths()[name], preprocessing, seed=1, device=META)
    keys = torch.arange(6, device=META)
    targets = {head: torch.empty(6, len(HEAD_CLASSES[head]), device=META) for head in OUTPUT_HEADS["all"]}
    with Watch() as watch:
        x = augmenter.augmented(torch.empty(6, 28, 22, 3, dtype=torch.uint8, device=META), keys, epoch=3)
        x, targets = augmenter.mixed(x, targets, keys, epoch=3)
    assert watch.waits == [] and watch.launches.total() > 1 and not watch.on_cpu
    assert (x.shape, x.dtype, x.device) == ((6, 3, 24, 18), torch.float32, META)
    assert {target.device for target in targets.values()} == {META}


@pytest.mark.parametrize("margin", [0.0, 0.2])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_cut_on_the_device(name: str, margin: float) -> None:
    preprocessing = Preprocessing((24, 18), margin=margin, mean=(0.5,) * 3, std=(0.25,) * 3)
    pixels = torch.empty(6, *preprocessing.stored_size, 3, dtype=torch.uint8, device=META)
    preprocessing.seen(pixels)  # makes the constants
    with Watch() as watch:
        seen = [view.seen(preprocessing, pixels) for view in VIEWS[name]]
    assert watch.waits == [] and watch.launches.total() > 1 and not watch.on_cpu
    assert {(x.shape, x.dtype, x.device) for x in seen} == {((6, 3, 24, 18), torch.float32, META)}


@pytest.mark.parametrize("name", RECIPES)
def test_the_launches_of_every_recipe_are_those_of_the_documentation(name: str) -> None:
    assert f"| {name} | {augmentation_launches(name)} |\n" in (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.slow
def test_the_launches_of_an_update_are_those_of_the_documentation(sample: Path, cache: Path) -> None:
    update, casts, prediction = config_launches("real_faces", sample, cache)
    row = f"| real_faces | {update} | {casts} | {prediction} |\n"
    assert row in (ROOT / "docs" / "performance.md").read_text(), row


# losses


@pytest.mark.parametrize("output", OUTPUT_HEADS)
@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_with_its_weights_lies_on_the_device(name: str, output: str) -> None:
    arguments: dict[str, Any] = {"weight": "balanced"}
    if name == "weighted_sum":
        arguments = {
            "terms": [{"criterion": other, "criterion_args": arguments} for other in CRITERIA if other != name]
        }
    losses = build_losses(
        CRITERIA[name], arguments, output=output, head_weights={}, device=META,
        num_per_class={head: [3] * len(classes) for head, classes in HEAD_CLASSES.items()},
    )  # fmt: skip
    logits = torch.zeros(4, num_outputs(output), device=META, requires_grad=True)
    targets = {head: torch.ones(4, len(HEAD_CLASSES[head]), device=META) for head in OUTPUT_HEADS[output]}
    with Watch() as watch:
        losses.total(losses.per_head(logits, targets)).sum().backward()
    assert logits.grad is not None and logits.grad.device == META
    assert watch.waits == [] and watch.launches.total() > 5


# whole programs


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vit", "convnext", "convnextv2", "auto"])
def test_a_whole_run_and_its_inference_work_on_a_device(
    model: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = overrides(sample, tmp_path, model=model, ema_decay=0.9)
    config = load_config(ROOT / "configs" / "exp.yaml", [*chosen, f"model={model}"])
    precisions: list[str] = []
    torch.__future__.set_swap_module_params_on_conversion(
        True
    )  # as on a GPU, a weight that moves stays the same object
    try:
        with standing_in() as launch, Watch() as watch:
            monkeypatch.setattr(processes, "Launch", lambda precision: precisions.append(precision) or launch)
            train.train(config, launch=launch)
            infer.infer(f"{tmp_path}/runs/exp", None, batch_size=None, output_dir=None)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    run = tmp_path / "runs" / "exp"
    assert json_lines(run / "metrics.jsonl") and (run / "best").is_dir() and (run / "output.csv").is_file()
    assert watch.launches.total() > 1000 and precisions == ["bf16"]


# the stand-in itself


@pytest.mark.parametrize("work", [
    lambda x, cpu: x + cpu, lambda x, cpu: x[cpu.long()], lambda x, cpu: torch.where(x > 0, x, cpu),
    lambda x, cpu: torch.cat([x, cpu]), lambda x, cpu: x.mul_(cpu),
])  # fmt: skip
def test_the_stand_in_refuses_tensors_of_two_devices(work: Any) -> None:
    with Watch(), pytest.raises((AssertionError, RuntimeError), match=r"meets tensors of cpu and meta|same device"):
        work(torch.zeros(3, device=META), torch.zeros(3))


@pytest.mark.parametrize("work", [
    lambda x: x.sum().item(), lambda x: bool((x > 0).any()), lambda x: x.cpu(), lambda x: x.tolist(), lambda x: x[x > 0],
    lambda x: x.nonzero(), lambda x: x.to("cpu", torch.float64), lambda x: torch.zeros(3).copy_(x),
    lambda x: torch.zeros(3).to(META), lambda x: torch.masked_select(x, x > 0), lambda x: x.long().bincount(),
    lambda x: torch.tensor([1.0, 2.0, 3.0], device=META), lambda x: float(x[0]),
])  # fmt: skip
def test_the_stand_in_counts_what_makes_the_program_wait(work: Any) -> None:
    with Watch() as watch:
        work(torch.zeros(3, device=META))
    assert len(watch.waits) == 1, watch.waits


def test_the_stand_in_counts_launches_and_not_what_costs_none() -> None:
    with Watch() as watch:
        x = torch.empty(3, 4, device=META)
        x = x.view(4, 3).transpose(0, 1).detach()[:2] * 2 + np.pi
        x = x.add(torch.ones(())) + torch.zeros(2, 4).to(META, non_blocking=True)
    assert watch.launches.total() == 5 and watch.waits == []


def test_the_stand_in_has_no_float64_as_apples_devices() -> None:
    with Watch(), pytest.raises(AssertionError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device=META)
