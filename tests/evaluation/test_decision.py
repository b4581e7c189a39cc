"""Steps are on only where they help people that they were not fitted on; answers and probabilities fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OUTPUT_HEADS, head_predictions, head_probabilities
from tests import made

GAIN, NO_GAIN = Interval(0.02, 0.01, 0.03), Interval(0.02, -0.01, 0.05)
NUM_LOGITS = {output: sum(len(HEAD_CLASSES[head]) for head in heads) for output, heads in OUTPUT_HEADS.items()}


def said(logits: torch.Tensor, output: str) -> dict[str, np.ndarray]:
    return {head: values.numpy() for head, values in head_probabilities(logits, output).items()}


def table(num_people: int, output: str, *, sharpness: float = 1.0, seed: int = 0) -> Predictions:
    """Returns predictions whose logits are `sharpness` times those that the labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_people * 7, NUM_LOGITS[output], generator=generator)
    truth = made.predictions(num_people).labels.copy()
    for head, values in head_probabilities(logits, output).items():
        if head in OUTPUT_HEADS[output]:
            drawn = values.multinomial(1, generator=generator)[:, 0].numpy()
            if head == "class":
                truth = np.stack([drawn // 6, drawn // 3 % 2, drawn % 3], axis=1)
            else:
                truth[:, list(ATTRIBUTES).index(head)] = drawn
    return replace(made.predictions(num_people, probabilities=said(logits * sharpness, output)), labels=truth)


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_plain_answers_are_those_of_the_logits_ties_too(output: str) -> None:
    logits = torch.randn(500, NUM_LOGITS[output], generator=torch.Generator().manual_seed(1)).bfloat16()
    logits = (logits * 8).round() / 8  # many ties
    plain = Decision()
    probabilities = said(logits, output)
    assert plain.tempered(probabilities, output) == probabilities
    answers, expected = plain.decided(probabilities), head_predictions(logits, output)
    assert list(answers) == list(probabilities) and len(answers) == len(expected)
    for head, labels in answers.items():
        assert np.array_equal(labels, expected[head].numpy()), head


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_a_known_temperature_is_found_on_and_taken_back(output: str) -> None:
    decision = Decision.fit(table(200, output, sharpness=3), output)
    assert decision.temperature is not None and decision.temperature.is_on
    assert list(decision.temperature.values) == list(OUTPUT_HEADS[output])
    assert list(decision.temperature.values.values()) == pytest.approx([3] * len(OUTPUT_HEADS[output]), rel=0.1)
    sharp, right = table(50, output, sharpness=3, seed=1), table(50, output, seed=1)
    whole = Decision(temperature=Step(GAIN, dict.fromkeys(OUTPUT_HEADS[output], 3.0)))
    after = whole.tempered(sharp.probabilities, output)
    assert list(after) == list(sharp.probabilities)
    for head, values in after.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, right.probabilities[head], atol=1e-5)
    right_one = Decision.fit(table(200, output), output).temperature
    assert right_one is not None and not right_one.is_on


def test_a_step_that_may_gain_nothing_does_nothing() -> None:
    shift = {"class": np.linspace(-3, 3, 18).tolist()}
    off = Decision(*(Step(NO_GAIN, values) for values in ({"class": 3.0}, {}, shift)))
    probabilities = table(50, "class").probabilities
    assert off.tempered(probabilities, "class") == probabilities
    for head, labels in off.decided(probabilities).items():
        assert np.array_equal(labels, Decision().decided(probabilities)[head])


def test_offsets_of_heads_are_those_of_their_classes() -> None:
    probabilities = table(50, "class").probabilities
    by_head = {"mask": [0.5, 0.0, -1.0], "gender": [0.0, 0.7], "age": [0.0, 0.1, 1.0]}
    by_class = [m + g + a for m in by_head["mask"] for g in by_head["gender"] for a in by_head["age"]]
    answers = [Decision(offsets=Step(GAIN, values)).decided(probabilities) for values in (by_head, {"class": by_class})]
    expected = (np.log(probabilities["class"].astype(float)) + by_class).argmax(1)
    for said_so in answers:
        assert np.array_equal(said_so["class"], expected)
        assert np.array_equal(said_so["age"], expected % 3)
    assert not np.array_equal(expected, probabilities["class"].argmax(1))


def test_separate_answers_are_the_likeliest_of_each_attribute() -> None:
    probabilities = table(50, "class").probabilities
    answers = Decision(separate=Step(GAIN, {})).decided(probabilities)
    for head in ATTRIBUTES:
        assert np.array_equal(answers[head], probabilities[head].argmax(1))
    assert not np.array_equal(answers["class"], probabilities["class"].argmax(1))
    shifted = Decision(
        separate=Step(GAIN, {}), offsets=Step(GAIN, {"mask": [0, 0, 0], "gender": [0, 0.7], "age": [0] * 3})
    )
    moved = shifted.decided(probabilities)
    assert np.array_equal(moved["age"], answers["age"]) and np.array_equal(moved["mask"], answers["mask"])
    assert np.array_equal(moved["gender"], np.add(np.log(probabilities["gender"]), [0, 0.7]).argmax(1))


def test_a_decision_that_was_saved_is_the_same_and_a_missing_one_is_plain(tmp_path: Path) -> None:
    decision = Decision.fit(table(60, "all", sharpness=2), "all")
    decision.save(tmp_path / "decision.json")
    assert Decision.load(tmp_path / "decision.json") == decision != Decision()
    assert Decision.from_dict(decision.to_dict()) == decision
    assert Decision.load(tmp_path / "of_an_old_run.json") == Decision()


@pytest.mark.parametrize("text", ["", "[]", '{"temperature": {}}', '{"other": {"gain": {}}}', '{"offsets": 3}'])
def test_what_is_no_decision_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "decision.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"decision\.json is not a decision that train\.py wrote"):
        Decision.load(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=r"decision\.json cannot be read: "):
        Decision.load(file)
