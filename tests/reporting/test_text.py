"""Text in the terminal keeps its columns, in Hangul too."""

from __future__ import annotations

import unicodedata

import pytest

from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.intervals import Interval
from maskcls.reporting.text import decision_line, padded, short_names, width
from maskcls.words import Words


@pytest.mark.parametrize(
    ("text", "places"), [("", 0), ("mask_acc", 8), ("마스크", 6), ("남성 <30", 8), ("猫a", 3), ("한글", 4), ("é", 1)]
)
def test_hangul_takes_two_places_however_it_is_spelt(text: str, places: int) -> None:
    for form in ("NFC", "NFD"):
        spelt = unicodedata.normalize(form, text)
        assert width(spelt) == places
        assert padded(spelt, 10) == spelt + " " * (10 - places)
        assert padded(spelt, 10, right=True) == " " * (10 - places) + spelt
    assert padded(text, places - 1) == text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["runs/a", "runs/b/"], ["a", "b"]), (["runs/m+runs/g+runs/a", "runs/x"], ["m+g+a", "x"]),
        (["runs/one/fold0", "runs/two/fold0"], ["one/fold0", "two/fold0"]),
        (["/x/r/one/f0,/x/r/one/f1", "/x/r/two/f0,/x/r/two/f1"], ["one/f0,one/f1", "two/f0,two/f1"]),
        (["a", "a"], ["a", "a"]), (["a", "runs/a"], ["a", "runs/a"]), ([",", ""], [",", ""]), ([], []),
    ],
)  # fmt: skip
def test_runs_are_named_as_shortly_as_tells_them_apart(texts: list[str], expected: list[str]) -> None:
    assert short_names(texts) == expected


def test_a_line_says_what_is_on_and_what_each_step_gains() -> None:
    on, off = Step(Interval(0.0204, 0.0101, 0.03), {}), Step(Interval(-0.001, -0.012, 0.009), {})
    decision = Decision(temperature=on, separate=off, offsets=off)
    assert decision_line(decision, Words("en")) == (
        "decisions: temperature on (log-likelihood +0.020 [+0.010, +0.030]); "
        "attributes each by itself off (f1 -0.001 [-0.012, +0.009]); offsets off (f1 -0.001 [-0.012, +0.009])"
    )
    assert decision_line(Decision(temperature=on), Words("ko")) == "판정: 온도 켬 (로그 가능도 +0.020 [+0.010, +0.030])"
    assert decision_line(Decision(), Words("en")) == "decisions: none, too few people to fit any"
