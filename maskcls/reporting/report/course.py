"""The sections about how the run went: learning curves, data, config, time and environment."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from maskcls.config import RUNTIME_KEYS, Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.selection import best_epoch, validations
from maskcls.labels import class_counts, targets_of
from maskcls.paths import read_json
from maskcls.reporting import charts
from maskcls.reporting.comparison import flat
from maskcls.reporting.console import duration
from maskcls.reporting.report.material import Material
from maskcls.reporting.thumbnails import jpeg

BATCH_PHOTO_SIZE = 112  # pixels


def curves(material: Material) -> dict[str, Any]:
    """Returns the charts of loss, scores and learning rate, and every epoch's validation as rows."""
    found = validations(material.history)
    names, best = list(next(iter(found.values()), ())), None
    if found and (epoch := best_epoch(found, criterion := material.config.best_criterion)):
        best = material.word("best_epoch", epoch=epoch, epochs=len(found), criterion=f"valid/{criterion}")
    return {"charts": charts.curves(material.history, material.word), "names": names, "epochs": found, "best": best}


def photos(material: Material) -> dict[str, Any]:
    """Returns the photos per class of both splits, and the first training batch after augmentation."""
    import torch

    from maskcls.data.pixels import DecodedPixels
    from maskcls.training.batches import Batches
    from maskcls.training.builders import build_augmenter, build_plan, read_data

    run = material.run
    validating = str(run.valid_profiles) if material.config.has_validation else "none"
    lists = {"train_profile": str(run.train_profiles), "valid_profile": validating}
    config = material.config.model_copy(update=lists)
    preprocessing, data = run.read_preprocessing(), read_data(config)
    data = data.opened(DecodedPixels(data.table, preprocessing))
    splits = {"train": data.train, "valid": data.valid} if len(data.valid) else {"train": data.train}
    counts = {name: class_counts(photos.labels)["class"] for name, photos in splits.items()}
    people = [len(photos.people) for photos in splits.values()]

    plan = build_plan(config, data.train, num_processes=1)
    augmenter = build_augmenter(config, preprocessing, torch.device("cpu"))
    pictures, positions = Batches(data.train, plan, augmenter, config.output).first_pictures()
    labels = targets_of(data.train.labels[positions], "class")["class"].tolist()
    batch = list(zip(map(_small, pictures), labels, strict=True))
    return {"counts": counts, "largest": max(map(max, counts.values())), "people": people, "batch": batch}


def _small(picture: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((BATCH_PHOTO_SIZE, BATCH_PHOTO_SIZE))
    return jpeg(image, quality=75)


def config_difference(material: Material) -> dict[str, Any]:
    """Returns the settings that differ from the other run's, or from the defaults, but where and how it ran."""
    ours = flat(material.config.model_dump())
    if material.against is not None:
        theirs = flat(load_config(material.against.config).model_dump())
    else:
        fields = Config.model_fields.items()
        theirs = flat({key: field.default for key, field in fields if not field.is_required()})
    rows = [
        (key, ours.get(key, "—"), theirs.get(key, "—"))
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key) and key not in RUNTIME_KEYS
    ]
    return {"rows": rows}


def cost(material: Material) -> dict[str, Any]:
    """Returns how fast and on what the run trained."""
    train = [line for line in material.history if "train/images_per_second" in line]
    facts = {}
    if train:
        updates = np.diff([0, *(line["update"] for line in train)])
        photos = updates * material.config.train_batch_size
        seconds = photos / [line["train/images_per_second"] for line in train]
        waiting = float((seconds * [line["train/waiting_share"] for line in train]).sum() / seconds.sum())
        facts = {
            "images_per_second": f"{photos.sum() / seconds.sum():,.0f}",
            "waiting_share": f"{waiting:.1%}",
            "peak_memory": f"{max(line['train/peak_memory_gb'] for line in train):.2f} GB",
            "training_time": duration(float(seconds.sum()), material.word),
            "epochs": f"{train[-1]['epoch']}",
            "updates": f"{train[-1]['update']:,}",
        }
    environment = {}
    for key, value in read_json(material.run.environment).items():
        if key == "command":
            value = shlex.join(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "—"
        environment[key] = "—" if value is None else str(value)
    if not environment and not facts:
        raise UserError(f"{material.run.environment} cannot be read")
    return {"facts": facts, "environment": environment}
