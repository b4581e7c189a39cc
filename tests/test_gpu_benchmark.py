"""benchmarks/gpu.py without a GPU: what needs none really runs, the rest is listed as skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import accelerate_configs, all_parts, chosen
from benchmarks.gpu_work import PARTS, SIZES, missing_packages
from benchmarks.measure import training_flops
from maskcls.config import TABLES
from maskcls.modeling.model import MODELS
from tests.helpers import run

HERE = {"num_gpus": 0, "missing": []}


@pytest.mark.slow
def test_what_needs_no_gpu_runs_and_the_rest_is_said_to_be_skipped(tmp_path: Path) -> None:
    timed = "throughput/convnext_tiny,throughput/convnext_tiny+compiled"
    parts = f"precision,configs,models/resnet,resume,infer,{timed},inference_rate"
    done = run("benchmarks/gpu.py", "--size", "tiny", "--at-once", "2", "--out", tmp_path / "out", "--parts", parts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"gpu.md", "gpu.json", "gpu.log"}

    facts = json.loads((tmp_path / "out/gpu.json").read_text())
    assert facts["device"].startswith("no GPU; ") and facts["driver"] is None and facts["num_gpus"] == 0
    assert facts["torch"] == torch.__version__ and {"accelerate", "transformers", "commit", "size"} <= facts.keys()
    assert 0 < facts["seconds"] < 180 and facts["missing"] == []
    found = {part["name"]: part for part in facts["parts"]}
    ran = {
        "machine", "sample", "whole", "precision/bf16", "configs/cpu", "models/resnet", "resume", "infer",
        "throughput/convnext_tiny", "inference_rate",
    }  # fmt: skip
    assert {name for name, part in found.items() if part["status"] == "ok"} == ran
    skipped = {name: part["reason"] for name, part in found.items() if part["status"] == "skipped"}
    assert skipped["configs/fsdp2_bf16"] == ["GPUs here: 0, needed: 1"]
    assert skipped["configs/multi_gpu_bf16"] == ["GPUs here: 0, needed: 2"]
    assert found.keys() == ran | skipped.keys()

    assert found["resume"]["values"]["largest_difference"] == 0  # on a CPU nothing is left to chance
    assert found["precision/bf16"]["values"]["furthest"] > 0  # it was another precision
    assert len(found["whole"]["values"]["losses"]) == 20
    speed = found["throughput/convnext_tiny"]["values"]
    assert speed["images_per_second"] > 0 and 0 < speed["mfu"] < 1 and 0 <= speed["waiting_share"] < 1
    assert found["inference_rate"]["values"]["photos_per_second"] > 0

    lines = (tmp_path / "out/gpu.md").read_text().splitlines()
    assert sum(line.startswith("| convnext_tiny | ") and line.endswith(" s |") for line in lines) == 1
    assert sum(line.startswith(tuple(f"| {name} | {part['status']} |" for name, part in found.items()))
               for line in lines) == len(found)  # fmt: skip
    assert "===== resume: ok" in (tmp_path / "out/gpu.log").read_text()


def test_a_part_that_does_not_end_well_stands_in_the_table_and_gives_exit_code_1(tmp_path: Path) -> None:
    done = run("benchmarks/gpu.py", "--size", "tiny", "--seconds", "0.1", "--out", tmp_path, "--parts", "resume")
    assert done.returncode == 1
    assert "| machine | timed out | no time was left | 0 |" in (tmp_path / "gpu.md").read_text()
    assert "it builds on machine, whose end was: timed out" in done.stdout


def test_every_file_of_accelerate_configs_and_every_model_has_a_part() -> None:
    for num_gpus, fitting in ((0, 1), (1, 3), (2, 6)):
        parts = {part.name: part for part in all_parts([], {"num_gpus": num_gpus, "missing": []})}
        own = [parts[f"configs/{path.stem}"] for path in accelerate_configs()]
        assert sum(not part.not_here for part in own) == fitting
    assert {name.partition("/")[0] for name in parts} | {"machine"} == set(PARTS)
    for size in SIZES.values():
        assert {model for model, _ in size.architectures.values()} == set(TABLES["model"].names())


def test_what_a_chosen_part_needs_is_chosen_too() -> None:
    parts = all_parts([], HERE)
    assert [part.name for part in chosen(parts, ["resume"])] == ["sample", "whole", "resume"]
    assert [part.name for part in chosen(parts, ["precision/bf16"])] == ["sample", "whole", "precision/bf16"]
    assert len(chosen(parts, ["throughput"])) == 6
    assert chosen(parts, []) == parts


def test_a_missing_package_is_named_with_the_line_that_gets_it_and_only_its_parts_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert missing_packages() == ([], "pip install")
    versions = {"wandb": None, "pydantic": None, "torch": "2.9.1"}
    monkeypatch.setattr("benchmarks.gpu_work.version_of", lambda name: versions.get(name, "3"))
    names, pip = missing_packages()
    assert {"wandb", "pydantic", "torch"} <= set(names)
    assert "'wandb>=0.31'" in pip and "'pydantic<3,>=2.10'" in pip

    parts = {part.name: part.not_here for part in all_parts([], {"num_gpus": 1, "missing": ["datasets", "wandb"]})}
    assert parts["models/vit"] == "missing: datasets"
    assert parts["throughput/vit_small_16"] == ""


def test_the_operations_of_an_image_are_those_of_forward_and_backward() -> None:
    model = MODELS["vit"](
        image_size=(224, 224), id2label=dict.fromkeys(range(18), ""), attention="eager", hidden_size=192,
        num_attention_heads=3, intermediate_size=768,
    ).to("meta")  # fmt: skip
    counted = training_flops(model, (224, 224), torch.device("meta"))
    # Touvron et al., arXiv:2012.12877: 1.26 G multiply-adds for ViT-Ti/16's forward pass; the backward pass takes two
    # of it, without the gradient of the pixels. torch counts a multiply-add as two.
    assert counted == pytest.approx(3 * 2 * 1.26e9, rel=0.03)
