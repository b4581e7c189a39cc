"""Whatever is asked of the findings is computed once, from the same resamples."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

from maskcls.evaluation import calibration, consistency, intervals, mistakes, slices
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws
from maskcls.evaluation.metrics import METRICS
from tests import made

ASKED = (
    "scores", "resampled", "named_scores", "slices", "gaps", "calibration", "contradictions", "suspects", "mistakes",
)  # fmt: skip


def everything(found: Findings) -> list[Any]:
    return [*(getattr(found, name) for name in ASKED), [part.scores for part in found.slices], found.worst_mistakes(9)]


def test_everything_is_computed_once_however_often_it_is_asked_for() -> None:
    table, calls = made.predictions(30), Counter[str]()
    rooms = {room.__file__ for room in (calibration, consistency, intervals, mistakes, slices)}

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename in rooms:
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        found = Findings(table)
        once = everything(found)
        first = calls.copy()
        again = everything(found)
    finally:
        sys.setprofile(None)
    assert again == once
    for name in ("calibrate", "contradictions", "suspects", "mistakes", "slices", "gaps", "of"):
        assert first[name] == 1, name  # of: the draws
    assert first["resampled_scores"] == 1 + len(found.slices)
    assert {name for name in calls if calls[name] != first[name] and not name.startswith("<")} == {"worst"}


def test_findings_of_the_same_people_share_their_draws() -> None:
    draws = Draws.of(made.predictions(9).people, num_resamples=50, seed=3)
    one, other = (Findings(made.predictions(9, seed=seed), draws) for seed in (0, 1))
    assert one.draws is other.draws is draws
    assert {len(resampled.values) for resampled in one.resampled.values()} == {50}
    assert one.scores != other.scores


def test_scores_have_the_names_of_the_log() -> None:
    whole = Findings(made.predictions(9))
    assert list(whole.named_scores)[:2] == ["acc", "f1"] and "gender_f1" in whole.named_scores
    assert list(whole.named_scores.values()) == list(whole.scores.values())
    assert list(Findings(made.predictions(9, heads=["age"])).named_scores) == list(METRICS)
