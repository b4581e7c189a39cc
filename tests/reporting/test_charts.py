"""What the charts of report and pictures show."""

from __future__ import annotations

from typing import Any

import vl_convert

from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.paired import Difference
from maskcls.reporting import charts, drawing
from maskcls.reporting.comparison import Comparison
from maskcls.words import Words

HISTORY: list[dict[str, Any]] = [
    {"update": 5, "train/loss": 2.0, "train/acc": 0.2, "train/f1": 0.1, "train/lr": 1e-3},
    {"update": 10, "train/loss": float("nan"), "train/acc": 0.3, "train/f1": 0.2, "train/lr": 5e-4},
    {"update": 10, "valid/loss": 1.5, "valid/acc": 0.4, "valid/f1": 0.3, "valid/mask_acc": 0.9, "valid/mask_f1": 0.8},
]


def comparison(first: str = "first", second: str = "second") -> Comparison:
    """Returns runs of which the second is better."""
    difference = Difference(Interval(0.1, 0.05, 0.2), 0.9, 10, 70)
    scores = [Interval(0.5, 0.4, 0.6), Interval(0.6, 0.5, 0.7)]
    return Comparison((first, second), {}, {"f1": scores}, "f1", [difference], ["better"], [], None)


def points(chart: charts.Spec) -> dict[str, list[tuple[float, float]]]:
    """Returns series -> (update, value)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in chart["data"]["values"]:
        found.setdefault(row["series"], []).append((row["update"], row["value"]))
    return found


def test_curves_show_what_the_log_holds_and_leave_out_what_is_no_number() -> None:
    found = charts.curves(HISTORY, Words("en"))
    assert {name: points(chart) for name, chart in found.items()} == {
        "chart_loss": {"train": [(5, 2.0)], "valid": [(10, 1.5)]},
        "chart_scores": {
            "macro-F1, valid": [(10, 0.3)],
            "accuracy, valid": [(10, 0.4)],
            "macro-F1, train": [(5, 0.1), (10, 0.2)],
            "accuracy, train": [(5, 0.2), (10, 0.3)],
        },
        "chart_heads": {"mask": [(10, 0.9)]},
        "chart_rate": {"learning rate": [(5, 1e-3), (10, 5e-4)]},
    }
    assert list(charts.curves(HISTORY[:1], Words("en"))) == ["chart_loss", "chart_scores", "chart_rate"]


def test_a_long_curve_is_thinned_to_what_a_screen_can_show() -> None:
    history = [{"update": update, "train/lr": 1.0} for update in range(1001)]
    drawn = points(charts.curves(history, Words("en"))["chart_rate"])["learning rate"]
    assert [update for update, _ in drawn] == list(range(0, 1001, 3))


def test_a_comparison_names_the_runs_and_shows_scores_differences_and_verdicts() -> None:
    chart = charts.comparison(comparison("exp", "exp"))
    assert chart["params"] == [{"name": "names", "value": ("exp", "exp")}]
    left, right = ([list(row.values()) for row in panel["data"]["values"]] for panel in chart["hconcat"])
    assert left == [[0, 0.5, 0.4, 0.6, "var(--series-1)", ""], [1, 0.6, 0.5, 0.7, "var(--series-1)", ""]]
    assert right == [[0, 0, 0, 0, "var(--muted)", ""], [1, 0.1, 0.05, 0.2, "var(--right-ink)", "better"]]
    svg = vl_convert.vegalite_to_svg(drawing.in_page(chart))
    assert svg.count(">exp<") == 2 * 2 and svg.count("better<") == 1
