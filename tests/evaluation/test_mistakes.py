"""The worst mistakes are the surest ones, one for each person and kind."""

from __future__ import annotations

import pytest

from maskcls.evaluation.findings import Findings
from maskcls.labels import ATTRIBUTES
from tests import made


def test_a_mistake_is_the_surest_photo_of_a_person_with_that_answer() -> None:
    predictions = made.predictions(100)
    found = Findings(predictions).worst_mistakes(1000)
    expected: dict[tuple[str, str, int, int], list[float]] = {}
    for head in ATTRIBUTES:
        for row in range(len(predictions)):
            truth, answer = int(predictions.truth(head)[row]), int(predictions.predicted(head)[row])
            if truth != answer:
                key = (head, str(predictions.people[row]), truth, answer)
                expected.setdefault(key, []).append(float(predictions.probabilities[head][row, answer]))
    shown = {(m.head, str(predictions.people[m.row]), m.truth, m.predicted): m for m in found}
    assert len(found) == len(shown) == len(expected) > 40
    for key, confidences in expected.items():
        assert shown[key].num_wrong == len(confidences)
        assert shown[key].confidence == pytest.approx(max(confidences))
    assert [m.confidence for m in found] == sorted((m.confidence for m in found), reverse=True)


def test_of_many_mistakes_every_head_keeps_its_share() -> None:
    findings = Findings(made.predictions(100))
    every, few = findings.worst_mistakes(1000), findings.worst_mistakes(9)
    assert len(few) == 9
    for head in ATTRIBUTES:
        best = [m for m in every if m.head == head][:3]
        assert len(best) == 3
        assert set(best) <= set(few)
