"""What added to the log-probability of each class makes macro F1 highest.

Argmax of calibrated probabilities is best for accuracy; macro F1 counts each class alike, so that a rare class is worth
more wrong answers than it is probable. Which offsets pay is found by coordinate ascent on the photos themselves.

Source: Lipton, Elkan and Narayanaswamy 2014, Thresholding Classifiers to Maximize F1 Score, for one class; the ascent
over several is ours.
"""

from __future__ import annotations

import numpy as np

LARGEST = 3.0  # an offset that multiplies odds by more than 20 fits single photos
MOST_SWEEPS = 10  # over all coordinates; usually no further offset moves after 3 to 6


def fit_offsets(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the offset of each group (G,), in -LARGEST..LARGEST, for log-probabilities (N, K) and truth (N,).

    groups: (G, K) bool, the classes that each offset is added to: of each class alone the identity. One offset after
    the other is put where macro F1 is highest, the others being as they are, until none moves.
    """
    offsets, scores = np.zeros(len(groups)), scores.copy()
    for _ in range(MOST_SWEEPS):
        has_moved = False
        for number, members in enumerate(groups):
            shift = best_shift(scores, truth, members, (-LARGEST - offsets[number], LARGEST - offsets[number]))
            if shift:
                has_moved, offsets[number] = True, offsets[number] + shift
                scores[:, members] += shift
        if not has_moved:
            break
    return offsets


def best_shift(scores: np.ndarray, truth: np.ndarray, members: np.ndarray, bounds: tuple[float, float]) -> float:
    """Returns what, added to the scores (N, K) of the member classes (K,) bool, makes macro F1 highest; 0 for nothing.

    Raising it moves the answers of photos, one by one, from the best class outside to the best member. Only these two
    classes' F1 change with each, so all shifts are weighed by one sort and cumulative sums. Of equal ones the nearest
    is taken, in the middle between the two photos that it parts.
    """
    num_classes, rows = len(members), np.arange(len(truth))
    inside, outside = np.flatnonzero(members), np.flatnonzero(~members)
    to, since = inside[scores[:, inside].argmax(1)], outside[scores[:, outside].argmax(1)]
    thresholds = scores[rows, since] - scores[rows, to]  # (N,) the shift at which a photo's answer moves
    thresholds -= 1e-12 * (to < since)  # of equal scores the first is the answer
    num_true = np.bincount(truth, minlength=num_classes)
    answers = np.where(thresholds < bounds[0], to, since)  # at the lowest shift
    num_answered = np.bincount(answers, minlength=num_classes)
    num_right = np.bincount(truth[answers == truth], minlength=num_classes)
    moving = np.flatnonzero((thresholds >= bounds[0]) & (thresholds <= bounds[1]))
    moving = moving[np.argsort(thresholds[moving], kind="stable")]
    gains = np.zeros(len(moving))
    for sign, classes in ((1, to[moving]), (-1, since[moving])):
        gains += _changes(classes, truth[moving] == classes, sign, num_right, num_true + num_answered)
    scored = np.concatenate([[0.0], np.cumsum(gains)])  # of the shift before, between and behind the photos
    edges = np.concatenate([[bounds[0]], thresholds[moving], [bounds[1]]])
    shifts = (edges[1:] + edges[:-1]) / 2
    now = scored[np.searchsorted(thresholds[moving], 0.0)]
    scored[np.diff(edges) < 1e-9] = -np.inf  # between equals there is no shift
    if scored.max() <= now + 1e-12:
        return 0.0
    best = np.flatnonzero(scored >= scored.max() - 1e-12)
    return float(shifts[best[np.abs(shifts[best]).argmin()]])


def _changes(
    classes: np.ndarray, is_right: np.ndarray, sign: int, num_right: np.ndarray, num_both: np.ndarray
) -> np.ndarray:
    """Returns how F1 of an answer's class changes (M,) with each answer in turn that is given (sign 1) or taken (-1).

    num_right, num_both: (K,) before, photos answered rightly, and photos of plus photos answered with each class.
    """
    order = np.argsort(classes.astype(np.int16), kind="stable")  # by class, within it one after the other
    classes, hits = classes[order], np.cumsum(is_right[order])
    starts = np.searchsorted(classes, np.arange(len(num_right)))  # (K,) of each class
    before = np.concatenate([[0], hits])[starts]
    right = num_right[classes] + sign * (hits - before[classes])
    both = num_both[classes] + sign * (np.arange(1, len(classes) + 1) - starts[classes])
    values = 2 * right / np.maximum(both, 1)
    former = np.concatenate([[0.0], values[:-1]])
    is_first = np.arange(len(classes)) == starts[classes]
    former[is_first] = (2 * num_right / np.maximum(num_both, 1))[classes[is_first]]
    changes = np.empty(len(classes))
    changes[order] = values - former
    return changes
