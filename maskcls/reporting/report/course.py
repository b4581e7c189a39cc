"""The sections about how the run went: learning curves, data, config, time and environment."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from maskcls.config import RUNTIME_KEYS, Config, load_config
from maskcls.data.dataset import Photos
from maskcls.errors import UserError
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.selection import best_epoch, validations
from maskcls.labels import class_counts, targets_of
from maskcls.paths import read_json
from maskcls.reporting import charts
from maskcls.reporting.comparison import flat
from maskcls.reporting.console import duration
from maskcls.reporting.report.material import Material
from maskcls.reporting.thumbnails import jpeg
from maskcls.training.folds import chosen_epoch, mean_scores
from maskcls.training.folds_folder import FoldsFolder

BATCH_PHOTO_SIZE = 112  # pixels


def curves(material: Material) -> dict[str, Any]:
    """Returns the charts of loss, scores and learning rate, and every epoch's validation as rows.

    Of a cross-validation, each fold's lines with their mean, whose values are the rows.
    """
    if material.folds:
        return _curves_of_folds(material, material.folds)
    found = validations(material.history)
    names, best = list(next(iter(found.values()), ())), None
    if found and (epoch := best_epoch(found, criterion := material.config.best_criterion)):
        best = material.word("best_epoch", epoch=epoch, epochs=len(found), criterion=f"valid/{criterion}")
    return {"charts": charts.curves(material.history, material.word), "names": names, "epochs": found, "best": best}


def _curves_of_folds(material: Material, folds: FoldsFolder) -> dict[str, Any]:
    means = mean_scores(folds)
    logs = {title: validations(history) for title, history in material.histories.items()}
    chosen = {"epoch": chosen_epoch(folds, means), "epochs": max(means)}
    best = material.word("best_epoch_of_folds", **chosen, criterion=f"valid/{material.config.best_criterion}")
    drawn = charts.curves_of_folds(logs, means, material.word)
    return {"charts": drawn, "names": [*means[1]], "epochs": means, "best": best}


def photos(material: Material) -> dict[str, Any]:
    """Returns the photos per class of both splits, or of all folds, and the first training batch after augmentation."""
    import torch

    from maskcls.data.pixels import DecodedPixels
    from maskcls.training.batches import Batches
    from maskcls.training.builders import build_augmenter, build_plan, read_data

    run = material.first_run
    validating = str(run.valid_profiles) if material.config.has_validation else "none"
    lists = {"train_profile": str(run.train_profiles), "valid_profile": validating}
    config = material.config.model_copy(update=lists)
    preprocessing, data = run.read_preprocessing(), read_data(config)
    data = data.opened(DecodedPixels(data.table, preprocessing))
    splits: dict[str, Photos | Predictions] = {"train": data.train, "valid": data.valid}
    if material.folds:
        splits = {"all": material.findings.predictions}
    splits = {name: photos for name, photos in splits.items() if len(photos)}
    counts = {name: class_counts(photos.labels)["class"] for name, photos in splits.items()}
    people = [len(set(photos.people)) for photos in splits.values()]

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
    """Returns how fast and on what it trained: of a cross-validation, of all runs together, and the first's machine."""
    logs = [[line for line in log if "train/images_per_second" in line] for log in material.histories.values()]
    facts = {}
    if train := [line for log in logs for line in log]:
        updates = np.concatenate([np.diff([0, *(line["update"] for line in log)]) for log in logs])
        photos = updates * material.config.train_batch_size
        seconds = photos / [line["train/images_per_second"] for line in train]
        waiting = float((seconds * [line["train/waiting_share"] for line in train]).sum() / seconds.sum())
        facts = {"runs": f"{len(logs)}"} if material.folds else {}
        facts |= {
            "images_per_second": f"{photos.sum() / seconds.sum():,.0f}",
            "waiting_share": f"{waiting:.1%}",
            "peak_memory": f"{max(line['train/peak_memory_gb'] for line in train):.2f} GB",
            "training_time": duration(float(seconds.sum()), material.word),
            "epochs": f"{sum(log[-1]['epoch'] for log in logs if log)}",
            "updates": f"{updates.sum():,}",
        }
    environment, run = {}, material.first_run
    for key, value in read_json(run.environment).items():
        if key == "command":
            value = shlex.join(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "—"
        environment[key] = "—" if value is None else str(value)
    if not environment and not facts:
        raise UserError(f"{run.environment} cannot be read")
    return {"facts": facts, "environment": environment}
