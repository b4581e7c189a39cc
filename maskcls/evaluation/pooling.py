"""One answer per person: where it is known whose photos they are, gender and age are decided once, from all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, OF_PERSON, joint


def pooled(probabilities: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, np.ndarray]:
    """Returns each head's probabilities (N, K) float64, those of gender and age the mean of all photos of a group.

    The mask state stays the photo's own. Where there are classes, they become the product of the attributes, so that
    all answers fit together. groups: (N,) whose photo it is, in any form. The mean of logarithms instead gives the same
    answers up to noise, and lets a photo that is sure outvote several.
    Raises UserError when no head is about the person: nothing could be pooled.
    """
    of_person = [head for head in OF_PERSON if head in probabilities]
    if not of_person:
        raise UserError(
            f"nothing to pool: {' and '.join(OF_PERSON)} are of the person, {', '.join(probabilities)} is of the photo"
        )
    _, group = np.unique(groups, return_inverse=True)
    found = {head: values.astype(np.float64) for head, values in probabilities.items()}
    num_photos = np.bincount(group)[:, None]
    for head in of_person:
        sums = np.stack([np.bincount(group, column) for column in found[head].T], axis=1)  # (groups, K)
        found[head] = (sums / num_photos)[group]
    if "class" in found:
        found["class"] = joint({head: found[head] for head in ATTRIBUTES})
    return found


def pooled_people(predictions: Predictions) -> Predictions:
    """Returns the predictions with gender and age pooled over the photos of each person. Raises as `pooled`."""
    return replace(predictions, probabilities=pooled(predictions.probabilities, predictions.people))
