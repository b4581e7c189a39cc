"""People whose photos get different answers, and labels that are probably wrong.

Gender and age belong to the person, so all photos of a person are one piece of evidence; the mask state belongs to the
photo. Only predictions by a model that did not learn from the photo (its run validated it) say anything here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PERSON

LIKELY = 0.5  # the suspicion from which on another label is proposed
SWAP_ODDS = 10  # how much better two exchanged labels must explain two photos than the labels do
SURE_YEARS = 5  # a face gives away the age to some five years; nearer to a cut, a label is hard rather than wrong
_FIRST_YEARS = np.array([*ATTRIBUTES["age"].first_years, 1000])  # of each age group, and of none
_LEAST_PROBABILITY = 1e-3  # below it, one photo that is sure would outvote six that are less so


@dataclass(frozen=True)
class Suspect:
    """How probable it is that one label is wrong: a person's gender or age, or a photo's mask state."""

    profile: str
    stem: str  # empty: all photos of the person
    head: str
    label: str
    prediction: str  # the most probable other label
    suspicion: float  # 0..1; orders the rows, is not a calibrated probability
    num_photos: int  # photos that speak for the prediction; both of a swap
    reason: str

    @property
    def is_likely(self) -> bool:
        """Whether the evidence is for the prediction rather than the label."""
        return self.suspicion >= LIKELY


def contradictions(predictions: Predictions) -> dict[str, Interval]:
    """Returns the share of people whose photos get different answers, by head, and `any` of them.

    People are independent of each other, so the interval is Wilson's: a bootstrap gives nearly the same but for
    shares near 0 and 1, where it claims to be certain. Empty when the model speaks about none of the person's.
    """
    names, person = np.unique(predictions.people, return_inverse=True)
    differs = {}
    for head in OF_PERSON:
        if head in predictions.probabilities:
            answers = np.unique(np.stack([person, predictions.predicted(head)]), axis=1)[0]
            differs[head] = np.bincount(answers, minlength=len(names)) > 1
    if differs:
        differs["any"] = np.any(list(differs.values()), axis=0)
    return {head: _share(values) for head, values in differs.items()}


def _share(values: np.ndarray) -> Interval:
    """Returns the share of true values with Wilson's 95 % interval."""
    n, share, z = len(values), float(values.mean()), 1.96
    middle = share + z * z / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2))
    return Interval(share, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n)))


def suspects(predictions: Predictions) -> list[Suspect]:
    """Returns every person's gender and age and every photo's mask state, as far as predicted, most suspicious first.

    The suspicion is the probability of the best other label, each label's probability first divided by the mean that
    the people (photos) of that label get: what is little for one class is much for another.
    Person: the mean of the photos' log-probabilities (not the sum, which would take seven photos of one session for
    seven witnesses), times the share of photos that speak for that label; age within SURE_YEARS of the other group
    counts less in proportion. Photo: two siblings whose labels, exchanged, explain both predictions SWAP_ODDS times
    better are a swap, and one suspicion, from the mean of their log-odds.

    Source: Northcutt, Jiang and Chuang, Confident Learning (JAIR 70, 2021), for out-of-fold probabilities and the
    per-class thresholds; pooling over a person, the years and the swaps are ours.
    """
    found: list[Suspect] = []
    for head in predictions.probabilities:
        if head in ATTRIBUTES:
            found += (_person_suspects if head in OF_PERSON else _photo_suspects)(predictions, head)
    return sorted(found, key=lambda suspect: (-suspect.suspicion, suspect.profile, suspect.head, suspect.stem))


def _person_suspects(predictions: Predictions, head: str) -> list[Suspect]:
    names, first, person = np.unique(predictions.people, return_index=True, return_inverse=True)
    num_photos, labels = np.bincount(person), predictions.truth(head)[first]
    logs = _log_probabilities(predictions, head)
    pooled = np.stack([np.bincount(person, column) for column in logs.T], axis=1) / num_photos[:, None]
    other, suspicion = _best_other(pooled, labels)
    votes = np.bincount(person, predictions.predicted(head) == other[person]).astype(np.int64)
    suspicion = suspicion * votes / num_photos
    notes = [""] * len(names)
    if head == "age":
        ages = predictions.ages[first]
        years = np.where(other > labels, _FIRST_YEARS[other] - ages, ages - _FIRST_YEARS[other + 1] + 1)
        suspicion = suspicion * np.minimum(years / SURE_YEARS, 1)
        near = [f"{number} year{'s' if number != 1 else ''}" for number in years]
        notes = [f"; labelled {age}, {years} from it" for age, years in zip(ages, near, strict=True)]
    answers = [HEAD_CLASSES[head][to] for to in other]
    counts = [f"{speak} of {number} photos say " for speak, number in zip(votes, num_photos, strict=True)]
    reasons = ["".join(parts) for parts in zip(counts, answers, notes, strict=True)]
    return _suspects(head, labels, other, names, [""] * len(names), suspicion, votes, reasons)


def _photo_suspects(predictions: Predictions, head: str) -> list[Suspect]:
    labels, classes = predictions.truth(head), HEAD_CLASSES[head]
    logs = _log_probabilities(predictions, head)
    other, suspicion = _best_other(logs, labels)
    stems = [PurePath(file).stem for file in predictions.files.tolist()]
    said = predictions.probabilities[head][np.arange(len(other)), other]
    reasons = [f"probability of {classes[to]} {value:.2f}" for to, value in zip(other, said, strict=True)]
    num_photos = np.ones(len(labels), np.int64)
    for one, two, gain in _swaps(predictions.people, labels, logs):
        suspicion[[one, two]], num_photos[[one, two]] = 1 / (1 + np.exp(-gain / 2)), 2
        other[[one, two]] = labels[[two, one]]
        odds = f"exchanged, the two labels explain the predictions {np.exp(gain):,.0f} times better"
        reasons[one], reasons[two] = (f"swapped with {stems[sibling]}: {odds}" for sibling in (two, one))
    return _suspects(head, labels, other, predictions.people, stems, suspicion, num_photos, reasons)


def _suspects(head: str, labels: np.ndarray, other: np.ndarray, *columns: Iterable[Any]) -> list[Suspect]:
    """Returns what stands in the columns of profiles, stems, suspicions, numbers of photos and reasons, row by row."""
    classes = HEAD_CLASSES[head]
    found = []
    for label, to, profile, stem, suspicion, num_photos, reason in zip(labels, other, *columns, strict=True):
        place = {"profile": str(profile), "stem": stem, "head": head}
        says = {"label": classes[label], "prediction": classes[to], "reason": reason}
        found.append(Suspect(**place, **says, suspicion=float(suspicion), num_photos=int(num_photos)))
    return found


def _swaps(people: np.ndarray, labels: np.ndarray, logs: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns (row, row of a sibling, log odds of exchanged labels); each row at most once, the clearest pairs first.

    The thresholds of the classes would cancel out of the odds.
    """
    pairs = []
    order = np.argsort(people, kind="stable")
    for rows in np.split(order, np.flatnonzero(people[order][1:] != people[order][:-1]) + 1):
        given = logs[rows][:, labels[rows]]  # [i, j]: how well photo i goes with the label of photo j
        own = np.diag(given)
        gains = given + given.T - own[:, None] - own[None, :]
        for i, j in np.argwhere(np.triu(gains) > np.log(SWAP_ODDS)):
            pairs.append((int(rows[i]), int(rows[j]), float(gains[i, j])))
    swaps, taken = [], set[int]()
    for one, two, gain in sorted(pairs, key=lambda pair: -pair[2]):
        if one not in taken and two not in taken:
            swaps.append((one, two, gain))
            taken |= {one, two}
    return swaps


def _log_probabilities(predictions: Predictions, head: str) -> np.ndarray:
    return np.log(np.maximum(predictions.probabilities[head].astype(np.float64), _LEAST_PROBABILITY))


def _best_other(logs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (best other label, its probability), both (N,), from unnormalised log-probabilities (N, K).

    Every probability is first divided by the mean of those that are labelled so.
    """
    rows = np.arange(len(labels))
    probabilities = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    num_labelled = np.bincount(labels, minlength=logs.shape[1])
    confidence = np.bincount(labels, probabilities[rows, labels], minlength=logs.shape[1]) / np.maximum(num_labelled, 1)
    confidence[num_labelled == 0] = confidence[num_labelled > 0].mean()  # nobody shows what is usual for that label
    relative = probabilities / confidence
    relative /= relative.sum(1, keepdims=True)
    relative[rows, labels] = -1
    return relative.argmax(1), relative.max(1)
