"""What an epoch ends with: the model's answers about the validation photos, and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from maskcls.data.dataset import Photos
from maskcls.data.preprocessing import Preprocessing
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import head_probabilities
from maskcls.training.loop import Learner, predict, score


@dataclass(frozen=True)
class Validation:
    """What a model says about the validation photos; without photos it has neither scores nor predictions."""

    photos: Photos
    output: str
    logits: Tensor | None = None  # (N, C) float32, on the CPU
    scores: Mapping[str, float] = field(default_factory=dict)
    matrices: Mapping[str, np.ndarray] = field(default_factory=dict)  # head -> confusion counts

    @property
    def predictions(self) -> Predictions | None:
        """The answers in the form that a run keeps."""
        if self.logits is None:
            return None
        of_heads = head_probabilities(self.logits, self.output)
        columns = {"people": "profile", "paths": "path", "ages": "age", "races": "race"}
        facts = {name: self.photos.column(column) for name, column in columns.items()}
        files = np.array([Path(path).name for path in facts["paths"].tolist()])
        probabilities = {head: values.numpy() for head, values in of_heads.items()}
        return Predictions(**facts, files=files, labels=self.photos.labels, probabilities=probabilities)


def validate(learner: Learner, photos: Photos, preprocessing: Preprocessing, *, batch_size: int) -> Validation:
    """Returns what the model (its average, if it has one) says about the photos. Collective.

    Steps a schedule that waits for it. Every process holds the same gathered logits, so every process gets the same
    scores. Raises BadPhotos as predict, and NotFinite when the loss is no number.
    """
    output = learner.losses.output
    if not len(photos):
        return Validation(photos, output)
    with learner.averaged():
        logits = predict(learner.accelerator, learner.model, photos, preprocessing, batch_size=batch_size)
    scores, matrices = score(logits, photos.labels, learner.losses, output=output)
    learner.validated(scores["loss"])
    return Validation(photos, output, logits, scores, matrices)
