"""Whether a head's probabilities are right: reliability, expected calibration error, temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskcls.evaluation.predictions import Predictions
from maskcls.labels import likeliest

NUM_BINS = 15
TEMPERATURES = (0.05, 20.0)  # the range that is searched; an end means that no finite optimum lies inside


@dataclass(frozen=True)
class Bin:
    """The photos whose answers got a probability in one of NUM_BINS equal parts of 0..1."""

    num_photos: int
    confidence: float  # mean probability of the answers
    accuracy: float  # share of right answers


@dataclass(frozen=True)
class Calibration:
    """How well a head's probabilities agree with how often it is right."""

    temperature: float  # probabilities become softmax(log probabilities / temperature); above 1: too sure before
    ece: float
    ece_after: float
    bins: list[Bin]  # before the temperature; only those that hold photos


def calibrate(predictions: Predictions) -> dict[str, Calibration]:
    """Returns each head's calibration.

    The answer is the head's most probable label, its confidence that label's probability. The temperature minimises
    the mean negative log-likelihood of these photos; being one number, it hardly fits their noise, yet `ece_after` is
    measured on the photos it was fitted on.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    found = {}
    for head, probabilities in predictions.probabilities.items():
        truth = predictions.truth(head)
        log_probabilities = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
        temperature = fit_temperature(log_probabilities, truth)
        bins = reliability(probabilities, truth)
        after = reliability(with_temperature(log_probabilities, temperature), truth)
        found[head] = Calibration(temperature, expected_error(bins), expected_error(after), bins)
    return found


def fit_temperature(log_probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the temperature with the least mean negative log-likelihood, in TEMPERATURES, from (N, K) and (N,).

    In 1 / temperature the likelihood is convex, so its derivative changes sign once and is bisected. When every photo
    is answered rightly it has no minimum, and the lower end is returned.
    """
    of_truth = log_probabilities[np.arange(len(truth)), truth]
    low, high = (float(np.log(1 / end)) for end in reversed(TEMPERATURES))
    for _ in range(40):  # 6 / 2 ** 40
        middle = (low + high) / 2
        weights = with_temperature(log_probabilities, float(np.exp(-middle)))
        derivative = ((weights * log_probabilities).sum(1) - of_truth).mean()
        low, high = (low, middle) if derivative > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def with_temperature(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns softmax(log probabilities / temperature), (N, K) float64."""
    scaled = log_probabilities / temperature
    exponentials = np.exp(scaled - scaled.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> list[Bin]:
    """Returns the bins that hold photos, of probabilities (N, K) and truth (N,)."""
    confidence = probabilities.max(1)
    is_right = likeliest(probabilities) == truth
    edges = np.linspace(0, 1, NUM_BINS + 1)
    numbers = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, NUM_BINS - 1)
    members = [numbers == number for number in np.unique(numbers)]
    return [Bin(int(of.sum()), float(confidence[of].mean()), float(is_right[of].mean())) for of in members]


def expected_error(bins: list[Bin]) -> float:
    """Returns the expected calibration error: mean |accuracy - confidence| of the bins, weighted by their photos.

    The plug-in estimate: with few photos it is too large, because noise in a bin counts as error.
    """
    num_photos = sum(group.num_photos for group in bins)
    return sum(group.num_photos * abs(group.accuracy - group.confidence) for group in bins) / num_photos
