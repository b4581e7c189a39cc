"""Metrics as functions of counts, as `evaluate` modules that ship with the package (no network), and scores by name.

Names are those of metrics.jsonl, wandb and TensorBoard without their `valid/`: acc, f1, mask_acc, mask_f1, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from maskcls.labels import HEAD_CLASSES, headline


@dataclass(frozen=True)
class Score:
    """What is measured: `f1` of `gender`."""

    head: str
    measure: str  # a row of METRICS, or loss

    def name(self, headline: str) -> str:
        """Returns its name in metrics.jsonl of a model with this main head: f1, gender_f1, ..."""
        return self.measure if self.head == headline else f"{self.head}_{self.measure}"


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# A metric takes three counts of photos for each class, (..., K) float64: answered rightly, of the class, and answered
# with it. It returns (...), or (..., K): a value for each class, NaN for one that does not occur. Then the score is
# their mean over all classes of the task, and a class that does not occur counts 0.


def accuracy(right: np.ndarray, true: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Returns the share of photos that are answered rightly."""
    return right.sum(-1) / true.sum(-1)


def f1(right: np.ndarray, true: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Returns the F1 of each class. Source: sklearn.metrics.f1_score(labels=range(K), zero_division=0)."""
    return 2 * right / (true + answered)


def recall(right: np.ndarray, true: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Returns the share of each class's photos that are answered rightly; their mean is the balanced accuracy.

    Source: sklearn.metrics.recall_score(labels=range(K), zero_division=0). Its balanced_accuracy_score leaves out a
    class that does not occur; here it counts 0, as in f1, so that runs with other validation photos are not flattered.
    """
    return right / true


def confusion_counts(predictions: np.ndarray, references: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns (K, K) int64 counts: rows are the truth, columns the predictions, as scikit-learn's confusion_matrix."""
    cells = np.asarray(references, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def values_of(measure: str, counts: np.ndarray) -> np.ndarray:
    """Returns a metric of confusion counts (K, K): (), or (K,) for each class, 0 for one that does not occur."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(METRICS[measure](counts.diagonal(), counts.sum(1), counts.sum(0)))


@cache
def metric(name: str) -> Any:
    """Returns a row of METRICS as an evaluate.Metric; its compute takes predictions, references and num_classes.

    The import of evaluate takes seconds, so it is here.
    """
    import datasets
    import evaluate

    class Shipped(evaluate.Metric):
        """No file of its own, no download."""

        def _info(self) -> evaluate.MetricInfo:
            label = datasets.Value("int64")
            features = datasets.Features({"predictions": label, "references": label})
            texts = {"description": METRICS[name].__doc__ or name, "inputs_description": "integer labels, (N,)"}
            return evaluate.MetricInfo(**texts, citation="", features=features)

        def _build_data_dir(self) -> str:  # evaluate's own makes a folder in HOME for files that are never written
            return self._data_dir_root

        def _compute(self, predictions: Any, references: Any, num_classes: int) -> dict[str, Any]:
            return {name: float(values_of(name, confusion_counts(predictions, references, num_classes)).mean())}

    return Shipped(keep_in_memory=True, experiment_id=name)


def measure(
    predictions: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], *, output: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns (every score of every head given, by its name; head -> confusion counts) of integer labels by head."""
    scores: dict[str, float] = {}
    matrices = {}
    for head, predicted in predictions.items():
        truth, num_classes = references[head], len(HEAD_CLASSES[head])
        for name in METRICS:
            found = metric(name).compute(predictions=predicted, references=truth, num_classes=num_classes)
            scores[Score(head, name).name(headline(output))] = found[name]
        matrices[head] = confusion_counts(predicted, truth, num_classes)
    return scores, matrices


METRICS: dict[str, Metric] = {"acc": accuracy, "f1": f1, "balanced_acc": recall}
