"""Metrics equal scikit-learn's, without a network, whole or batch by batch."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from maskcls.evaluation.metrics import METRICS, confusion_counts, measure, metric, values_of
from maskcls.labels import HEAD_CLASSES, OUTPUT_HEADS

Labels = tuple[int, np.ndarray, np.ndarray]  # K, predictions, truth


@st.composite
def labelled(draw: st.DrawFn) -> Labels:
    """Draws labels of K classes, among them sets in which some classes are absent."""
    num_classes = draw(st.sampled_from([2, 3, 18]))
    present = st.sampled_from(sorted(draw(st.sets(st.integers(0, num_classes - 1), min_size=1))))
    pairs = draw(st.lists(st.tuples(present, present), min_size=1, max_size=40))
    predictions, truth = np.array(pairs).T
    return num_classes, predictions, truth


ONLY_ONE_CLASS: Labels = (18, np.array([17, 17]), np.array([17, 17]))
ALL_WRONG: Labels = (3, np.array([0, 0, 1]), np.array([1, 1, 0]))


@settings(max_examples=150, deadline=None)
@given(labelled())
@example(ONLY_ONE_CLASS)
@example(ALL_WRONG)
def test_the_metrics_are_scikit_learns_absent_classes_included(case: Labels) -> None:
    num_classes, predictions, truth = case
    labels = range(num_classes)
    counts = confusion_counts(predictions, truth, num_classes)
    np.testing.assert_array_equal(counts, sklearn.confusion_matrix(truth, predictions, labels=labels))
    for own, theirs in (
        (values_of("f1", counts), sklearn.f1_score),
        (values_of("balanced_acc", counts), sklearn.recall_score),
    ):
        reference = theirs(truth, predictions, labels=labels, average=None, zero_division=0)
        np.testing.assert_allclose(own, reference, rtol=0, atol=1e-12)
    assert values_of("acc", counts) == pytest.approx(sklearn.accuracy_score(truth, predictions), rel=0, abs=1e-12)
    if set(truth) == set(labels):
        own = values_of("balanced_acc", counts).mean()
        assert own == pytest.approx(sklearn.balanced_accuracy_score(truth, predictions), rel=0, abs=1e-12)


def test_macro_f1_is_the_one_of_the_tasks_scorer() -> None:
    truth, predictions = np.array([0, 0, 5, 17, 17, 3]), np.array([0, 5, 5, 17, 2, 3])
    report: Any = sklearn.classification_report(truth, predictions, labels=range(18), zero_division=0, output_dict=True)
    own = values_of("f1", confusion_counts(predictions, truth, 18)).mean()
    assert own == pytest.approx(report["macro avg"]["f1-score"], rel=0, abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "balanced_acc"])
def test_a_class_that_is_absent_counts_0_in_a_mean_over_classes(name: str) -> None:
    all_right = np.array([0, 1, 0, 1])
    assert values_of(name, confusion_counts(all_right, all_right, 3)).tolist() == [1.0, 1.0, 0.0]
    assert metric(name).compute(predictions=all_right, references=all_right, num_classes=3) == {name: 2 / 3}


def test_rows_are_the_truth_and_columns_the_predictions() -> None:
    counts = confusion_counts(np.array([2, 2, 0]), np.array([1, 1, 0]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
    assert counts.dtype == np.int64


def test_no_photos_give_0_and_no_division_by_zero() -> None:
    empty = np.array([], dtype=np.int64)
    counts = confusion_counts(empty, empty, 3)
    assert {name: float(values_of(name, counts).mean()) for name in METRICS} == dict.fromkeys(METRICS, 0.0)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a metric reached for the network")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


PREDICTIONS, TRUTH = np.array([0, 2, 1, 1, 0, 2, 2]), np.array([0, 1, 1, 1, 2, 2, 0])
EXPECTED = {
    "acc": 4 / 7,
    "f1": sklearn.f1_score(TRUTH, PREDICTIONS, average="macro"),
    "balanced_acc": sklearn.balanced_accuracy_score(TRUTH, PREDICTIONS),
}


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("name", METRICS)  # each has an expected value, or KeyError
def test_a_metric_is_an_evaluate_module_that_needs_no_network(name: str) -> None:
    metric.cache_clear()
    module = metric(name)
    assert isinstance(module, evaluate.Metric)
    assert set(module.features) == {"predictions", "references"} and module.description
    result = module.compute(predictions=PREDICTIONS, references=TRUTH, num_classes=3)
    assert list(result) == [name]
    np.testing.assert_allclose(result[name], EXPECTED[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_batches_give_what_one_compute_gives_and_leave_nothing_behind(name: str) -> None:
    module = metric(name)
    for _ in range(2):  # the second round would see what the first left
        for start in range(0, 7, 3):  # 3, 3 and 1
            module.add_batch(predictions=PREDICTIONS[start : start + 3], references=TRUTH[start : start + 3])
        np.testing.assert_allclose(module.compute(num_classes=3)[name], EXPECTED[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_measure_names_and_values_every_score(output: str) -> None:
    generator = np.random.default_rng(0)
    heads = list(HEAD_CLASSES) if output in ("all", "class") else [output]
    predictions = {head: generator.integers(0, len(HEAD_CLASSES[head]), 50) for head in heads}
    truth = {head: generator.integers(0, len(HEAD_CLASSES[head]), 50) for head in heads}
    scores, matrices = measure(predictions, truth, output=output)
    prefixes = ["", *(f"{head}_" for head in heads[1:])]
    assert list(scores) == [f"{prefix}{name}" for prefix in prefixes for name in ("acc", "f1", "balanced_acc")]
    assert list(matrices) == heads
    for head, prefix in zip(heads, prefixes, strict=True):
        labels = range(len(HEAD_CLASSES[head]))
        f1 = sklearn.f1_score(truth[head], predictions[head], labels=labels, average="macro", zero_division=0)
        assert scores[f"{prefix}acc"] == pytest.approx(np.mean(truth[head] == predictions[head]), rel=0, abs=1e-12)
        assert scores[f"{prefix}f1"] == pytest.approx(f1, rel=0, abs=1e-12)
        reference = sklearn.confusion_matrix(truth[head], predictions[head], labels=labels)
        np.testing.assert_array_equal(matrices[head], reference)
    assert all(type(value) is float for value in scores.values())  # they are written as JSON


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_writes_nothing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's user may have no HOME that can be written, and would know after the first epoch."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "file" / "cannot"))
    monkeypatch.chdir(tmp_path)
    fresh = metric.__wrapped__(name)
    assert fresh.compute(predictions=[0, 1], references=[0, 1], num_classes=2).keys() == {name}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
