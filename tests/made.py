"""Predictions and run folders that nobody had to train for: people, answers and photos made of a number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import ArrayLike

from maskcls.config import Config, load_config
from maskcls.data.profiles import parse_profile, profile_folders
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, STEMS, joint, labels_of, likeliest
from maskcls.reporting.answers_page import Answered
from maskcls.training.builders import build_model
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, TINY

FILES = [f"{stem}.jpg" for stem in STEMS]
HARD = 0.8  # share of the photos of a person about whom a model is wrong that it is wrong about
# A folder name that would run a script if it were not escaped; `/` cannot stand in one.
HOSTILE = "000001_female_<img src=x onerror=alert(1)>_45"


def people(numbers: int | Sequence[int], *, races: Sequence[str] = ("Asian",)) -> list[str]:
    """Returns profile folders of people, the first ones or those of these numbers; a number is always the same person.

    Races come in turn; gender and age, 18 to 79, are drawn.
    """
    numbers = range(numbers) if isinstance(numbers, int) else numbers
    genders = np.random.default_rng(0).integers(0, 2, max(numbers) + 1)
    ages = np.random.default_rng(1).integers(18, 80, max(numbers) + 1)
    return [named(n, gender=genders[n], age=ages[n], race=races[n % len(races)]) for n in numbers]


def named(number: int, *, gender: int = 0, age: int = 45, race: str = "Asian") -> str:
    """Returns the profile folder of a person."""
    return f"{number:06d}_{HEAD_CLASSES['gender'][gender]}_{race}_{age}"


def predictions(
    of: int | Sequence[str],
    *,
    files: ArrayLike = FILES,
    heads: Sequence[str] = tuple(HEAD_CLASSES),
    accuracy: float | Mapping[str, ArrayLike] = 0.8,
    seed: int = 0,
    answers: Mapping[str, ArrayLike] | None = None,
    sure: float | None = None,
    probabilities: Mapping[str, ArrayLike] | None = None,
) -> Predictions:
    """Returns what a model says about every photo of the people; the classes are the product of its three attributes.

    Most mistakes about gender and age are a person's: few people, most of their photos. Those about the mask are a
    photo's. seed: decides which, not who the people are.

    of: profile folders, or how many of `people`. files: (F,) or (P, F) names. accuracy: of all attributes or by
    attribute, one number or what broadcasts to (P, F). answers: by attribute (P, F) or (P * F,) labels, in place of
    those that accuracy gives. sure: probability of the answers; drawn from 0.6 to 1 when there is none.
    probabilities: by head (P, F, K) or (P * F, K), in place of all of this.
    """
    who = [parse_profile(name) for name in (people(of) if isinstance(of, int) else of)]
    files = np.broadcast_to(files, (len(who), np.shape(files)[-1]))
    stems = [[STEMS[Path(file).stem] for file in row] for row in files]
    truth = {
        head: np.array(
            [
                [(person.labels if attribute.of_person else said)[head] for said in row]
                for person, row in zip(who, stems, strict=True)
            ]
        )
        for head, attribute in ATTRIBUTES.items()
    }  # (P, F) each
    if probabilities is None:
        random = np.random.default_rng(seed)
        shares = accuracy if isinstance(accuracy, Mapping) else dict.fromkeys(ATTRIBUTES, accuracy)
        said = answers or {head: _answers(head, truth[head], shares[head], random) for head in ATTRIBUTES}
        sureness = random.uniform(0.6, 1, files.size) if sure is None else np.full(files.size, sure)
        every = {head: _probabilities(head, np.ravel(labels), sureness) for head, labels in said.items()}
        every["class"] = joint(every)
        probabilities = {head: every[head] for head in heads}
    return Predictions(
        people=np.repeat([person.name for person in who], files.shape[1]),
        files=files.ravel(),
        paths=np.full(files.size, ""),
        labels=np.stack([values.ravel() for values in truth.values()], axis=1),
        ages=np.repeat([person.age for person in who], files.shape[1]),
        races=np.repeat([person.race for person in who], files.shape[1]),
        probabilities={
            head: np.asarray(values, np.float32).reshape(-1, len(HEAD_CLASSES[head]))
            for head, values in probabilities.items()
        },
    )


def two_halves(num_people: int) -> list[Predictions]:
    """Returns what two models say about age groups: each knows those of one half of the photos, and knows when."""
    truth = predictions(num_people).truth("age")
    knows = np.eye(3)[truth]
    unsure = 1 / 3 + np.random.default_rng(0).uniform(0, 0.01, knows.shape)
    is_first = (np.arange(len(truth)) < len(truth) // 2)[:, None]
    tables = (np.where(half, knows, unsure) for half in (is_first, ~is_first))
    return [predictions(num_people, probabilities={"age": table}) for table in tables]


def _answers(head: str, truth: np.ndarray, accuracy: ArrayLike, random: np.random.Generator) -> np.ndarray:
    """Returns labels (P, F), so many of them wrong."""
    share, is_hard = 1 - np.asarray(accuracy), np.ones((len(truth), 1), bool)
    if ATTRIBUTES[head].of_person:
        share, is_hard = HARD, random.random((len(truth), 1)) < share / HARD
    is_wrong = is_hard & (random.random(truth.shape) < share)
    return (truth + is_wrong * random.integers(1, len(HEAD_CLASSES[head]), truth.shape)) % len(HEAD_CLASSES[head])


def _probabilities(head: str, labels: np.ndarray, sureness: np.ndarray) -> np.ndarray:
    """Returns (N, K): the sureness for the label, the rest shared by the others."""
    is_label = np.eye(len(HEAD_CLASSES[head]), dtype=bool)[labels]
    return np.where(is_label, sureness[:, None], (1 - sureness[:, None]) / (len(HEAD_CLASSES[head]) - 1))


def said(num_photos: int, *, seed: int, heads: Sequence[str] = tuple(HEAD_CLASSES)) -> dict[str, np.ndarray]:
    """Returns what a model says about photos that nobody knows, head -> (N, K)."""
    random = np.random.default_rng(seed)
    every = {head: random.dirichlet(np.ones(len(HEAD_CLASSES[head])), num_photos) for head in ATTRIBUTES}
    every = {"class": joint(every), **every}
    return {head: every[head] for head in heads}


def answered(
    paths: Sequence[Path], probabilities: Mapping[str, np.ndarray], members: Mapping[str, Mapping[str, np.ndarray]] = {},
) -> Answered:  # fmt: skip
    """Returns the likeliest answers about the photos."""
    head = next(iter(probabilities))
    labels = {head: likeliest(probabilities[head])}
    labels |= labels_of(labels[head]) if head == "class" else {}
    return Answered([path.name for path in paths], list(map(str, paths)), labels, probabilities, members)


def run_folder(
    folder: Path, said: Predictions | None = None, *, scores: Sequence[Mapping[str, float]] = (), **config: Any
) -> Path:
    """Returns a new run folder: config.yaml, best/, and what is given of the predictions and each epoch's scores."""
    (folder / "best").mkdir(parents=True)
    values = {"data_dir": "photos", "dataset_args": {"output": "all"}, "epochs": 3, "model": "vit", **config}
    (folder / "config.yaml").write_text(yaml.dump(values))
    if said is not None:
        said.save(folder / "valid_predictions.parquet")
    for epoch, of_epoch in enumerate(scores, start=1):
        RunFolder(folder).log({"epoch": epoch, "update": epoch, "train/loss": 1.0, "train/f1": 0.99})
        RunFolder(folder).log(
            {"epoch": epoch, "update": epoch, **{f"valid/{name}": value for name, value in of_epoch.items()}}
        )
    return folder


def folds_folder(
    folder: Path,
    *said: Predictions,
    num_folds: int = 5,
    seeds: Sequence[int] = (42, 43, 44, 45),
    scores: Sequence[Mapping[str, float]] = (),
    **config: Any,
) -> FoldsFolder:
    """Returns a new folds folder, finished but for finished.json: what a model of each seed says about everybody.

    Person n is validated by fold n % num_folds. Its run folders are those of `run_folder`.
    """
    values = {"num_folds": num_folds, "seed": seeds[0], **config}
    for seed, table in zip(seeds, said, strict=False):
        names, numbers = np.unique(table.people, return_inverse=True)
        for fold in range(num_folds):
            path = folder / (f"fold{fold}" if seed == seeds[0] else f"fold{fold}_seed{seed}")
            own = table.rows(numbers % num_folds == fold)
            run = RunFolder(run_folder(path, own, scores=scores, **{**values, "seed": seed, "fold": fold}))
            is_own = np.isin(names, own.people)
            run.save_split(names[~is_own].tolist(), names[is_own].tolist())
            run.finished.write_text(json.dumps({"seconds": 60.0}))
    folds = FoldsFolder(folder)
    shutil.copyfile(folder / "fold0" / "config.yaml", folds.config)
    folds.out_of_fold().save(folds.predictions)
    return folds


def run(
    sample: Path,
    folder: Path,
    *,
    name: str = "exp",
    output: str = "all",
    model: str = "auto",
    seed: int = 0,
    accuracy: float = 0.7,
    hostile: bool = False,
    epochs: int = 3,
    valid: slice | None = None,
    overrides: Sequence[str] = (),
) -> RunFolder:
    """Returns a run as train.py leaves it, but for its model, which has learnt nothing: its answers are made up.

    It is about a copy of the sample's photos. valid: which of its people are validated; all of them when there is none,
    although half of them are in the list of training.
    """
    images = folder / "images"
    if not images.exists():
        shutil.copytree(sample / "images", images)
    profiles = profile_folders(images)
    if hostile and HOSTILE not in profiles:
        (images / profiles[0]).rename(images / HOSTILE)
        profiles = profile_folders(images)
    config = load_config(ROOT / "configs" / "demo.yaml", [
        f"data_dir={images}", f"cache_dir={folder}/cache", f"model_dir={(folder / name).parent}",
        f"name={Path(name).name}", f"model={model}",
        f"model_args={TINY[model]}", "image_size=[48, 32]", "train_batch_size=12", f"dataset_args.output={output}",
        f"epochs={epochs}", *overrides,
    ]).with_statistics([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])  # fmt: skip
    run = RunFolder(folder / name)
    run.path.mkdir()
    config.save(run.config)
    validated = profiles[valid or slice(6, None)]
    run.save_split([name for name in profiles if name not in validated], validated)
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
    profiles = validated if valid else profiles
    files = [sorted(path.name for path in (images / name).iterdir() if path.stem in STEMS) for name in profiles]
    heads_of = list(HEAD_CLASSES) if config.output in ("all", "class") else [config.output]
    predictions(profiles, files=files, heads=heads_of, accuracy=accuracy, seed=seed).save(run.predictions)
    return run


def folds(sample: Path, folder: Path, *, name: str = "exp", seeds: Sequence[int] = (42,), **of_run: Any) -> FoldsFolder:
    """Returns a folds folder with three folds, whose runs are those of `run`; finished but for finished.json."""
    folds = FoldsFolder(folder / name)
    folds.path.mkdir(parents=True)
    for number, seed in enumerate(seeds):
        for fold in range(3):
            path = f"{name}/fold{fold}" if seed == seeds[0] else f"{name}/fold{fold}_seed{seed}"
            own = [f"fold={fold}", "num_folds=3", f"seed={seed}"]
            made = run(
                sample, folder, name=path, valid=slice(fold, None, 3), seed=3 * number + fold, overrides=own, **of_run
            )
            made.finished.write_text(json.dumps({"seconds": 60.0}))
    shutil.copyfile(folds.path / "fold0" / "config.yaml", folds.config)
    folds.out_of_fold().save(folds.predictions)
    return folds


def save_tiny_model(config: Config, run: RunFolder) -> None:
    """Writes best/ with the random weights of the config's seed."""
    build_model(config, torch.device("cpu")).save_pretrained(run.best)


def embedded(page: str) -> dict[str, object]:
    """Returns the data that a report holds for its script."""
    start = page.index('id="content-data">') + len('id="content-data">')
    content: dict[str, object] = json.loads(page[start : page.index("</script>", start)])
    return content
