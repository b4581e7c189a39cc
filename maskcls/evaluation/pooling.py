"""One answer per person: where it is known whose photos they are, gender and age are decided once, from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PERSON, class_of, joint


def heads_of_people(heads: Iterable[str]) -> list[str]:
    """Returns those of the heads that are about the person. Raises UserError without any: nothing can be pooled."""
    heads = list(heads)
    if found := [head for head in OF_PERSON if head in heads]:
        return found
    of_person = " and ".join(OF_PERSON)
    raise UserError(f"--group_by decides {of_person} once per person; {', '.join(heads)} is decided for each photo")


def pooled(probabilities: Mapping[str, np.ndarray], groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns each head's probabilities (N, K) float64, those of gender and age the mean of all photos of a group.

    The mask state stays the photo's own. Where there are classes, they become the product of the attributes, so that
    all answers fit together. groups: (N,) whose photo each is; None: nobody says it, and nothing is pooled. The mean of
    logarithms gave the same answers up to noise, and lets one photo that is sure outvote several. Raises UserError as
    `heads_of_people`.
    """
    if groups is None:
        return dict(probabilities)
    _, group = np.unique(groups, return_inverse=True)
    found = {head: values.astype(np.float64) for head, values in probabilities.items()}
    for head in heads_of_people(found):
        sums = np.stack([np.bincount(group, column) for column in found[head].T], axis=1)  # (groups, K)
        found[head] = (sums / np.bincount(group)[:, None])[group]
    if "class" in found:
        found["class"] = joint({head: found[head] for head in ATTRIBUTES})
    return found


def agreed(answers: Mapping[str, np.ndarray], groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns the answers (N,) of every head to what was `pooled`, with one gender and age for each group, if any.

    Only offsets of classes can part the photos of a person again, with their masks; then most photos decide.
    """
    if groups is None:
        return dict(answers)
    _, group = np.unique(groups, return_inverse=True)
    found = dict(answers)
    for head in heads_of_people(found):
        votes = np.zeros((group.max() + 1, len(HEAD_CLASSES[head])))
        np.add.at(votes, (group, found[head]), 1)
        found[head] = votes.argmax(1)[group]
    if "class" in found:
        found["class"] = class_of({head: found[head] for head in ATTRIBUTES})
    return found


def pooled_people(predictions: Predictions) -> Predictions:
    """Returns the predictions with gender and age pooled over the photos of each person. Raises as `pooled`."""
    return replace(predictions, probabilities=pooled(predictions.probabilities, predictions.people))
