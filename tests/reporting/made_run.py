"""A run folder as train.py leaves it, made in a second: tiny untrained model, invented answers, drawn photos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from maskcls.config import TABLES, Config, load_config
from maskcls.data.profiles import find_photos, profile_folders
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, id2label, joint, num_outputs
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, TINY

# A folder name that would run a script if it were not escaped; `/` cannot stand in one.
HOSTILE = "000001_female_<img src=x onerror=alert(1)>_45"


def made_run(
    sample: Path, folder: Path, *, name: str = "exp", output: str = "all", model: str = "auto", seed: int = 0,
    error: float = 0.5, hostile: bool = False, epochs: int = 3,
) -> RunFolder:  # fmt: skip
    """Returns a finished run whose model is wrong about a share of the photos; its photos are a copy of the sample's."""
    images = folder / "images"
    if not images.exists():
        shutil.copytree(sample / "images", images)
    people = profile_folders(images)
    if hostile and HOSTILE not in people:
        (images / people[0]).rename(images / HOSTILE)
        people = profile_folders(images)
    config = load_config(ROOT / "configs" / "demo.yaml", [
        f"data_dir={images}", f"cache_dir={folder}/cache", f"model_dir={folder}", f"name={name}", f"model={model}",
        f"model_args={TINY[model]}", "image_size=[48, 32]", "train_batch_size=12", f"dataset_args.output={output}",
        f"epochs={epochs}",
    ]).with_statistics([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])  # fmt: skip
    run = RunFolder(folder / name)
    run.path.mkdir()
    config.save(run.config)
    run.save_split(people[:6], people[6:])
    run.save_environment(num_processes=1, mixed_precision="no")
    for epoch in range(1, epochs + 1):
        for update in (1, 2):
            speed = {"train/images_per_second": 100.0, "train/waiting_share": 0.25, "train/peak_memory_gb": 1.5}
            scores = {"train/loss": 2 / (epoch + update), "train/acc": 0.5, "train/f1": 0.4, "train/lr": 1e-3}
            run.log({"epoch": epoch, "update": 2 * epoch - 2 + update, **scores, **speed})
        heads = {f"valid/{head}_acc": 0.5 + epoch / 10 for head in ATTRIBUTES}
        run.log(
            {"epoch": epoch, "update": 2 * epoch, "valid/loss": 1 / epoch, "valid/acc": 0.5, "valid/f1": 0.4, **heads}
        )
    save_tiny_model(config, run)
    invented(images, people, output=output, seed=seed, error=error).save(run.path / "valid_predictions.parquet")
    return run


def saved_run(folder: Path, predictions: Predictions | None = None, **config: Any) -> Path:
    """Returns a run folder with a config and, when given, its predictions."""
    (folder / "best").mkdir(parents=True)
    values = {"data_dir": "photos", "dataset_args": {"output": "all"}, "epochs": 3, "model": "vit", **config}
    (folder / "config.yaml").write_text(yaml.dump(values))
    if predictions is not None:
        predictions.save(folder / "valid_predictions.parquet")
    return folder


def save_tiny_model(config: Config, run: RunFolder) -> None:
    """Writes best/ with random weights."""
    torch.manual_seed(0)
    names = id2label(config.output, num_outputs(config.output))
    build = TABLES["model"].builder(config.model)
    size = config.height_width
    build(**config.model_args, image_size=size, id2label=names, attention="eager").save_pretrained(run.best)


def invented(images: Path, people: list[str], *, output: str, seed: int, error: float) -> Predictions:
    """Returns sure answers about all photos of the people, a share of them wrong."""
    random = np.random.default_rng(seed)
    photos, _ = find_photos(images, people)
    labels = np.array([[photo.labels[name] for name in ATTRIBUTES] for photo in photos])
    probabilities = {}
    for column, head in enumerate(ATTRIBUTES):
        logits = random.normal(size=(len(photos), len(HEAD_CLASSES[head])))
        logits[np.arange(len(photos)), labels[:, column]] += 4 * (random.random(len(photos)) > error)
        probabilities[head] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    together = {"class": joint(probabilities), **probabilities}
    chosen = together if output in ("all", "class") else {output: probabilities[output]}
    return Predictions(
        np.array([photo.profile for photo in photos]), np.array([photo.file for photo in photos]), labels,
        np.array([photo.age for photo in photos]), np.array([photo.race for photo in photos]), chosen,
    )  # fmt: skip


def embedded(page: str) -> dict[str, object]:
    """Returns the data that a report holds for its script."""
    start = page.index('id="content-data">') + len('id="content-data">')
    content: dict[str, object] = json.loads(page[start : page.index("</script>", start)])
    return content
