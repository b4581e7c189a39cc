"""Wrong answers, the surest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskcls.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Mistake:
    """The surest of a person's photos that got the same wrong answer."""

    row: int  # of the predictions
    head: str
    truth: int
    predicted: int
    confidence: float
    num_wrong: int  # photos of this person with this mistake
    num_photos: int  # photos of this person with this truth


def mistakes(predictions: Predictions) -> dict[str, list[Mistake]]:
    """Returns every mistake by attribute, in order of confidence."""
    return {head: _mistakes(predictions, head) for head in predictions.attributes}


def _mistakes(predictions: Predictions, head: str) -> list[Mistake]:
    truth, predicted = predictions.truth(head), predictions.predicted(head)
    confidence = predictions.probabilities[head][np.arange(len(truth)), predicted]
    seen = Counter(zip(predictions.people.tolist(), truth.tolist(), strict=True))
    rows: dict[tuple[str, int, int], list[int]] = {}
    for row in np.flatnonzero(truth != predicted)[np.argsort(-confidence[truth != predicted], kind="stable")]:
        key = (str(predictions.people[row]), int(truth[row]), int(predicted[row]))
        rows.setdefault(key, []).append(int(row))
    found = []
    for (person, right, wrong), same in rows.items():
        labels = {"truth": right, "predicted": wrong}
        counts = {"num_wrong": len(same), "num_photos": seen[person, right]}
        found.append(Mistake(row=same[0], head=head, **labels, **counts, confidence=float(confidence[same[0]])))
    return found


def worst(by_head: Mapping[str, Sequence[Mistake]], limit: int) -> list[Mistake]:
    """Returns the mistakes in order of confidence; when there are more than `limit`, every head keeps its share."""
    share = -(-limit // max(len(by_head), 1))
    kept = [mistake for found in by_head.values() for mistake in found[:share]]
    others = [mistake for found in by_head.values() for mistake in found[share:]]
    kept += sorted(others, key=lambda mistake: -mistake.confidence)[: max(limit - len(kept), 0)]
    return sorted(kept, key=lambda mistake: -mistake.confidence)[:limit]
