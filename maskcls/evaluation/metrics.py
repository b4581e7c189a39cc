"""Metrics as `evaluate` modules that ship with the package (no network), and the scores of a run made of them.

Names are those of metrics.jsonl, wandb and TensorBoard without their `valid/`: acc, f1, mask_acc, mask_f1, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from maskcls.labels import HEAD_CLASSES, headline


@dataclass(frozen=True)
class Score:
    """What is measured: `f1` of `gender`."""

    head: str
    measure: str

    def name(self, headline: str) -> str:
        """Returns its name in metrics.jsonl of a model with this main head: f1, gender_f1, ..."""
        return self.measure if self.head == headline else f"{self.head}_{self.measure}"


def confusion_counts(predictions: np.ndarray, references: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns (K, K) int64 counts: rows are the truth, columns the predictions, as scikit-learn's confusion_matrix."""
    cells = np.asarray(references, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1_per_class(counts: np.ndarray) -> np.ndarray:
    """Returns (K,) F1 of each class from confusion counts; a class in neither predictions nor truth gets 0.

    Source: sklearn.metrics.f1_score(average=None, labels=range(K), zero_division=0).
    """
    hits = np.diag(counts)
    seen = counts.sum(0) + counts.sum(1)  # 2 tp + fp + fn
    return 2 * hits / np.maximum(seen, 1)


@cache
def metric(name: str) -> Any:
    """Returns the evaluate.Metric `accuracy`, `macro_f1`, `per_class_f1` or `confusion_matrix`.

    Their compute takes predictions, references and num_classes. The import of evaluate takes seconds, so it is here.
    """
    import datasets
    import evaluate

    class Shipped(evaluate.Metric):
        """One row of METRICS as an evaluate module: no file of its own, no download."""

        def _info(self) -> evaluate.MetricInfo:
            label = datasets.Value("int64")
            return evaluate.MetricInfo(
                description=METRICS[name].__doc__ or "", citation="", inputs_description="integer labels, (N,)",
                features=datasets.Features({"predictions": label, "references": label}),
            )  # fmt: skip

        def _build_data_dir(self) -> str:  # evaluate's own makes a folder in HOME for files that are never written
            return self._data_dir_root

        def _compute(self, predictions: Any, references: Any, num_classes: int) -> dict[str, Any]:
            return {name: METRICS[name](confusion_counts(predictions, references, num_classes))}

    return Shipped(keep_in_memory=True, experiment_id=name)


def accuracy(counts: np.ndarray) -> float:
    """Returns the share of photos on the diagonal."""
    return float(np.diag(counts).sum() / max(counts.sum(), 1))


def macro_f1(counts: np.ndarray) -> float:
    """Returns the mean F1 over all classes of the task, absent ones counted 0."""
    return float(f1_per_class(counts).mean())


def per_class_f1(counts: np.ndarray) -> list[float]:
    """Returns the F1 of each class."""
    return f1_per_class(counts).tolist()


def confusion_matrix(counts: np.ndarray) -> list[list[int]]:
    """Returns the counts: rows are the truth, columns the predictions."""
    return counts.tolist()


def measure(
    predictions: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], *, output: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns (scores, head -> confusion counts) of integer labels by head.

    Scores: acc and f1 of the headline task, and {head}_acc and {head}_f1 of every head given.
    """
    scores: dict[str, float] = {}
    matrices = {}
    for head, predicted in predictions.items():
        given = {"predictions": predicted, "references": references[head], "num_classes": len(HEAD_CLASSES[head])}
        prefix = "" if head == headline(output) else f"{head}_"
        scores[f"{prefix}acc"] = metric("accuracy").compute(**given)["accuracy"]
        scores[f"{prefix}f1"] = metric("macro_f1").compute(**given)["macro_f1"]
        matrices[head] = np.asarray(metric("confusion_matrix").compute(**given)["confusion_matrix"])
    return scores, matrices


METRICS = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "per_class_f1": per_class_f1,
    "confusion_matrix": confusion_matrix,
}
