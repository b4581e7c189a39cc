"""Bins and errors equal plain loops; the temperature is where torch's optimiser and a dense grid find it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from maskcls.evaluation.calibration import (
    NUM_BINS,
    TEMPERATURES,
    Bin,
    calibrate,
    expected_error,
    fit_temperature,
    reliability,
    with_temperature,
)
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import head_probabilities
from tests import made


def table(num_people: int, *, sharpness: float, seed: int = 0) -> Predictions:
    """Returns the predictions of three heads whose logits are `sharpness` times those the labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_people * 7, 8, generator=generator)
    labels = [values.softmax(1).multinomial(1, generator=generator)[:, 0] for values in logits.split([3, 2, 3], dim=1)]
    said = {head: values.numpy() for head, values in head_probabilities(logits * sharpness, "all").items()}
    return replace(made.predictions(num_people, probabilities=said), labels=torch.stack(labels, 1).numpy())


def test_bins_and_error_equal_plain_loops() -> None:
    predictions = table(71, sharpness=2)
    for head, calibration in calibrate(predictions).items():
        probabilities, truth = predictions.probabilities[head], predictions.truth(head)
        error, bins = 0.0, []
        for number in range(NUM_BINS):
            low, high = number / NUM_BINS, (number + 1) / NUM_BINS
            photos = [row for row in range(497) if low < probabilities[row].max() <= high]
            if photos:
                confidence = float(np.mean([probabilities[row].max() for row in photos]))
                accuracy = float(np.mean([probabilities[row].argmax() == truth[row] for row in photos]))
                bins.append((len(photos), confidence, accuracy))
                error += len(photos) / 497 * abs(accuracy - confidence)
        found = [(b.num_photos, b.confidence, b.accuracy) for b in calibration.bins]
        assert len(found) == len(bins) > 5
        np.testing.assert_allclose(found, bins, rtol=1e-6)
        assert calibration.ece == pytest.approx(error, rel=1e-6)


def test_a_hand_worked_error() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    bins = reliability(probabilities, np.array([0, 0, 1, 0]))  # sure 0.9 and 0.8; right 2 of 2 and 1 of 2
    assert [(group.num_photos, group.accuracy) for group in bins] == [(2, 0.5), (2, 1.0)]
    assert expected_error(bins) == pytest.approx((2 * 0.3 + 2 * 0.1) / 4)


def test_a_sure_answer_lies_in_the_last_bin() -> None:
    probabilities = np.array([[1 / 32, 31 / 32], [0.0, 1.0]])
    assert reliability(probabilities, np.array([1, 1])) == [Bin(2, 63 / 64, 1.0)]


def test_a_probability_at_an_edge_belongs_to_the_bin_below_it() -> None:
    edge = np.linspace(0, 1, NUM_BINS + 1)[10]
    probabilities = np.array([[value, 1 - value] for value in (edge - 0.01, edge, edge + 0.01)])
    assert [group.num_photos for group in reliability(probabilities, np.array([0, 0, 0]))] == [2, 1]


def torchs_temperature(log_probabilities: np.ndarray, truth: np.ndarray) -> float:
    values, labels = torch.from_numpy(log_probabilities), torch.from_numpy(truth)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-15
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(values / log_temperature.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_temperature.detach().exp())


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_where_torch_and_a_dense_grid_find_it(sharpness: float) -> None:
    predictions = table(214, sharpness=sharpness)
    calibrations = calibrate(predictions)
    assert list(calibrations) == ["class", "mask", "gender", "age"]
    for head, calibration in calibrations.items():
        truth = predictions.truth(head)
        log_probabilities = np.log(predictions.probabilities[head].astype(np.float64))
        assert calibration.temperature == pytest.approx(torchs_temperature(log_probabilities, truth), rel=1e-5)
        grid = np.linspace(0.2, 5, 601)
        losses = [-np.log(with_temperature(log_probabilities, t)[np.arange(1498), truth]).mean() for t in grid]
        assert calibration.temperature == pytest.approx(grid[np.argmin(losses)], abs=0.0081)


def test_too_sure_probabilities_get_the_temperature_that_made_them_and_a_small_error() -> None:
    for calibration in calibrate(table(857, sharpness=3)).values():
        assert calibration.temperature == pytest.approx(3, rel=0.1)
        assert calibration.ece > 0.1
        assert calibration.ece_after < 0.03


def test_right_probabilities_stay_as_they_are() -> None:
    for calibration in calibrate(table(857, sharpness=1)).values():
        assert calibration.temperature == pytest.approx(1, rel=0.06)
        assert calibration.ece < 0.03


def test_all_right_and_all_wrong_answers_end_at_the_ends_of_the_range() -> None:
    log_probabilities = np.log(np.array([[0.9, 0.1], [0.3, 0.7]]))
    low, high = TEMPERATURES
    assert fit_temperature(log_probabilities, np.array([0, 1])) == pytest.approx(low)
    assert fit_temperature(log_probabilities, np.array([1, 0])) == pytest.approx(high)


def test_probabilities_of_exactly_0_are_no_error() -> None:
    certain = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    files = ["mask1.jpg", "incorrect_mask.jpg", "normal.jpg", "incorrect_mask.png"]  # the last answer is surely wrong
    predictions = made.predictions(1, files=files, probabilities={"mask": certain})
    with np.errstate(all="raise"):
        calibration = calibrate(predictions)["mask"]
    assert calibration.ece == pytest.approx(0.25)
    assert calibration.temperature == pytest.approx(TEMPERATURES[1])
    assert np.isfinite(calibration.ece_after) and calibration.ece_after < 0.25
