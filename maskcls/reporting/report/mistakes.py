"""The gallery of the worst mistakes, and the photos of the people in it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.mistakes import Mistake
from maskcls.reporting.report.material import NUM_SUSPECTS, Material
from maskcls.reporting.thumbnails import jpeg, thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskcls.training.run_folder import RunFolder

NUM_SHOWN_FIRST = 24  # cards before "show more"; only these have a picture of what the model looked at
ATTENTION_BATCH = 8  # photos at once: the attention of a ViT-B takes 22 MB a photo


@dataclass(frozen=True)
class Size:
    """How much the pictures may take: the longer side of a thumbnail and of a person's photos, and how many cards."""

    thumbnail: int
    photo: int
    num_mistakes: int


# The page takes the first with which it stays below its limit.
SIZES = (Size(144, 96, 60), Size(128, 80, 60), Size(96, 64, 60), Size(96, 64, 30), Size(64, 48, 24))


def mistakes(material: Material, size: Size = SIZES[0]) -> dict[str, Any]:
    """Returns the cards of the gallery, the kinds to filter by, and the people's photos for the dialog."""
    findings, word = material.findings, material.word
    predictions, found = findings.predictions, findings.worst_mistakes(size.num_mistakes)
    data_dir = _data_dir(material)
    maps: dict[Mistake, str] = {}
    try:
        maps, method = _looked_at(material, found[:NUM_SHOWN_FIRST], data_dir, size)
        looked_at = word("attention_note", method=method)
    except Exception as error:  # the gallery is worth showing without
        looked_at = word("no_maps", reason=str(error))
    cards = {}
    for mistake in found:
        photo = thumbnail(predictions.photo(mistake.row, data_dir), size.thumbnail)
        cards[mistake] = {"photo": photo, "image": photo and jpeg(photo), "map": maps.get(mistake)}
    by_head = Counter(mistake.head for mistake in found)
    kinds = Counter((mistake.head, mistake.truth, mistake.predicted) for mistake in found)
    names = {str(predictions.people[mistake.row]) for mistake in found}
    names |= {suspect.profile for suspect in findings.suspects[:NUM_SUSPECTS]}
    people = _people(material, sorted(names), data_dir, size)
    return {
        "cards": cards,
        "heads": {head: by_head[head] for head in predictions.attributes if by_head[head]},
        "kinds": sorted(kinds.items()),
        "people": people,
        "looked_at": looked_at,
        "first": NUM_SHOWN_FIRST,
        "num_missing": sum(photo["image"] is None for person in people.values() for photo in person["photos"]),
        "folder": data_dir,
        "is_shrunk": size is not SIZES[0],
    }


def _data_dir(material: Material) -> str:
    try:
        return material.config.data_dir
    except Exception:  # no readable config: photos that are not where they lay are missing, and the page says so
        return ""


def _people(material: Material, names: list[str], data_dir: str, size: Size) -> dict[str, dict[str, Any]]:
    """Returns profile -> {about, photos: [{file, image, answers}]} with texts in the report's language."""
    predictions, word = material.findings.predictions, material.word
    answers = {head: (predictions.truth(head), predictions.predicted(head)) for head in predictions.attributes}
    people = {}
    for name in names:
        photos = []
        rows = np.flatnonzero(predictions.people == name)
        for row in rows[np.argsort(predictions.files[rows])]:
            photo = thumbnail(predictions.photo(row, data_dir), size.photo)
            said = []
            for head, (truth, predicted) in answers.items():
                label, answer = int(truth[row]), int(predicted[row])
                texts = {"answer": word.class_name(head, answer), "truth": word.class_name(head, label)}
                confidence = f"{predictions.probabilities[head][row, answer]:.1%}"
                said.append({"head": word(head), **texts, "isRight": label == answer, "confidence": confidence})
            photos.append({"file": str(predictions.files[row]), "image": photo and jpeg(photo), "answers": said})
        gender = word.class_name("gender", int(predictions.truth("gender")[rows[0]]))
        about = [gender, str(predictions.ages[rows[0]]), str(predictions.races[rows[0]])]
        people[name] = {"about": " · ".join(about), "photos": photos}
    return people


def _looked_at(material: Material, found: list[Mistake], data_dir: str, size: Size) -> tuple[dict[Mistake, str], str]:
    """Returns pictures of what the model looked at when it made the mistakes whose photos are there, and the method.

    Of a cross-validation each model is asked about the people that it had not learnt from. Raises UserError when there
    is no model to ask, or none that can say it.
    """
    by_run: dict[RunFolder, list[Mistake]] = {}
    for mistake in found:
        person = str(material.findings.predictions.people[mistake.row])
        by_run.setdefault(material.run_about(person), []).append(mistake)
    pictures: dict[Mistake, str] = {}
    method = ""
    for run, of_run in (by_run or {material.first_run: []}).items():
        seen, method = _seen_by(run, material, of_run, data_dir, size)
        pictures |= seen
    return pictures, method


def _seen_by(
    run: RunFolder, material: Material, found: list[Mistake], data_dir: str, size: Size
) -> tuple[dict[Mistake, str], str]:
    import torch

    from maskcls.data.photo import BadPhotos
    from maskcls.modeling.model import load_model
    from maskcls.reporting.attention import attention_maps, has_attention

    if not run.best.is_dir():
        raise UserError(f"{run.best} does not exist")
    predictions, preprocessing = material.findings.predictions, run.read_preprocessing()
    model = load_model(str(run.best), attention="eager").float()
    pixels: dict[Mistake, np.ndarray] = {}
    for mistake in found:
        with suppress(BadPhotos):  # it has no photo in the gallery either
            pixels[mistake] = preprocessing.read_file(predictions.photo(mistake.row, data_dir))
    pictures = {}
    for start in range(0, len(pixels), ATTENTION_BATCH):
        batch = list(pixels)[start : start + ATTENTION_BATCH]
        x = preprocessing.seen(torch.from_numpy(np.stack([pixels[mistake] for mistake in batch])))
        answers = {
            head: torch.tensor([mistake.predicted if mistake.head == head else -1 for mistake in batch])
            for head in predictions.attributes
        }
        maps = attention_maps(model, x, answers, output=material.config.output)
        if maps is None:
            raise UserError(f"a {model.config.model_type} has neither attention to the whole picture nor feature maps")
        for mistake, photo, where in zip(batch, preprocessing.pictures(x), maps, strict=True):
            pictures[mistake] = jpeg(_lit(photo, where, size.thumbnail))
    return pictures, material.word("rollout" if has_attention(model) else "cam")


def _lit(photo: np.ndarray, where: np.ndarray, size: int) -> Image:
    """Returns the photo (H, W, 3) in dim grey under a map (H, W): from orange to bright yellow where it is high."""
    from PIL import Image

    strength = np.clip(where, 0, 1)[:, :, None]
    colour = np.array([255, 110, 20]) + strength * np.array([0, 120, 70])
    lit = photo.mean(2, keepdims=True) * 0.62 * (1 - 0.72 * strength) + colour * 0.72 * strength
    image = Image.fromarray(lit.clip(0, 255).astype(np.uint8))
    scale = size / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
