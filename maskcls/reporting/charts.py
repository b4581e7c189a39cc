"""Charts as Vega-Lite specifications: report.html embeds them, and drawing.py makes pictures of them.

Colours are the variables of report/style.css, so that dark mode, print and pictures need no other chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls.evaluation.intervals import Interval
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.words import Words

if TYPE_CHECKING:
    from maskcls.evaluation.calibration import Calibration
    from maskcls.reporting.comparison import Comparison

Spec = dict[str, Any]

MAX_POINTS = 400  # of a curve; more than a screen can show
ROW_HEIGHT = 24
SEPARATOR = "\u241f"  # between the group and the value of a row; no folder name holds it
VERDICT_COLOURS = {"better": "var(--right-ink)", "worse": "var(--wrong)"}


def curves(history: Sequence[Mapping[str, Any]], word: Words) -> dict[str, Spec]:
    """Returns the charts of loss, headline scores, every head's accuracy and learning rate, from metrics.jsonl."""
    train, valid = word("train"), word("valid")
    folders, measures = {valid: "valid", train: "train"}, ("f1", "acc")
    scores = {f"{word(m)}, {split}": f"{folder}/{m}" for split, folder in folders.items() for m in measures}
    panels: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
        "chart_loss": ({train: "train/loss", valid: "valid/loss"}, {}),
        "chart_scores": (scores, {"is_share": True, "legend_columns": 2}),
        "chart_heads": ({word(head): f"valid/{head}_acc" for head in ATTRIBUTES}, {"is_share": True}),
        "chart_rate": ({word("learning_rate"): "train/lr"}, {"number_format": ".2e"}),
    }
    found = {}
    for title, (names, form) in panels.items():
        series = {label: points for label, name in names.items() if (points := _points(history, name))}
        if series:
            found[title] = lines(word(title), series, x_title=word("update"), **form)
    return found


def curves_sheet(history: Sequence[Mapping[str, Any]], word: Words) -> Spec:
    """Returns the same charts in one, as a picture shows them: with titles and without what follows the pointer."""
    panels = [
        {**chart, "title": chart["description"], "width": 540, "height": 240, "layer": chart["layer"][:2]}
        for chart in curves(history, word).values()
    ]
    return {"concat": panels, "columns": 2, "resolve": {"scale": {"color": "independent"}}}


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found = [(line["update"], line[name]) for line in history if name in line and np.isfinite(line[name])]
    return found[:: max(-(-len(found) // MAX_POINTS), 1)]


def lines(
    description: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_title: str, is_share: bool = False,
    number_format: str = ".3f", legend_columns: int = 3,
) -> Spec:  # fmt: skip
    """Returns one line per series of (update, value) points, with all values of the update nearest to the pointer."""
    names = list(series)
    data = [
        {"update": update, "value": value, "series": name}
        for name, points in series.items()
        for update, value in points
    ]
    colours = [f"var(--series-{number + 1})" for number in range(len(names))]
    scale = {"domain": [0, 1]} if is_share else {"zero": False}
    axis = {"tickCount": 5, **({"format": ".0%"} if is_share else {})}
    y = {"field": "value", "type": "quantitative", "title": None, "scale": scale, "axis": axis}
    number_format = ".1%" if is_share else number_format
    legend = {"columns": legend_columns} if len(names) > 1 else None
    tooltips = [{"field": "update", "type": "quantitative", "title": x_title, "format": ","}]
    tooltips += [{"field": name, "type": "quantitative", "format": number_format} for name in names]
    few = [name for name, points in series.items() if len(points) <= 60]
    near = {"type": "point", "fields": ["update"], "nearest": True, "on": "pointerover", "clear": "pointerout"}
    return {
        "description": description,
        "height": 210,
        "data": {"values": data},
        "encoding": {"x": {"field": "update", "type": "quantitative", "title": x_title, "axis": {"tickCount": 6}}},
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"},
                "encoding": {
                    "y": y,
                    "color": {"field": "series", "scale": {"domain": names, "range": colours}, "legend": legend},
                },
            },
            {
                "transform": [{"filter": {"field": "series", "oneOf": few}}],
                "mark": {"type": "point", "filled": True, "size": 26, "opacity": 1},
                "encoding": {"y": y, "color": {"field": "series"}},
            },
            {
                "transform": [{"pivot": "series", "value": "value", "groupby": ["update"]}],
                "params": [{"name": "near", "select": near}],
                "mark": {"type": "rule", "color": "var(--muted)", "strokeWidth": 1},
                "encoding": {
                    "opacity": {"condition": {"param": "near", "empty": False, "value": 0.6}, "value": 0},
                    "tooltip": tooltips,
                },
            },
        ],
    }


def dots(
    description: str, rows: Sequence[Mapping[str, Any]], overall: Mapping[str, float], *, measure: str,
    titles: Mapping[str, str],
) -> Spec:  # fmt: skip
    """Returns a dot with its interval per row {group, name, score, value, low, high, photos, people}, groups together.

    The signal `measure` chooses the score that is shown; overall: score -> the value of all photos, a dashed line.
    titles: the words for score, interval, photos, people.
    """
    order: dict[str, None] = {}
    data = []
    for row in rows:
        place = f"{row['group']}{SEPARATOR}{row['name']}"
        order |= {row["group"]: None, place: None}
        interval = f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        data.append({**row, "place": place, "interval": interval})
    lowest = min(row["low"] for row in rows)
    x = {
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [max(0.0, int(lowest * 10 - 0.01) / 10), 1]},
        "axis": {"format": ".0%", "orient": "top", "grid": True, "tickCount": 5},
    }
    is_group = f"indexof(datum.value, '{SEPARATOR}') < 0"
    y = {
        "field": "place",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(order), "paddingInner": 0.2},
        "axis": {
            "labelExpr": f"slice(datum.value, indexof(datum.value, '{SEPARATOR}') + 1)",
            "labelFontWeight": {"condition": {"test": is_group, "value": "bold"}, "value": "normal"},
            "labelColor": {"condition": {"test": is_group, "value": "var(--ink)"}, "value": "var(--muted)"},
            "labelLimit": 140,
        },
    }
    fields = {"name": " ", "interval": titles["score"], "photos": titles["photos"], "people": titles["people"]}
    tooltip = [{"field": field, "title": title} for field, title in fields.items()]
    shown = [{"filter": "datum.score === measure"}]
    everybody = {
        "data": {"values": [{"score": score, "value": value} for score, value in overall.items()]},
        "transform": shown,
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "var(--muted)"},
        "encoding": {"x": {**x, "field": "value"}},
    }
    return {
        "description": description,
        "height": ROW_HEIGHT * len(order),  # Vega-Lite warns of {"step": ...} beside width "container"
        "params": [{"name": "measure", "value": measure}],
        "data": {"values": data},
        "transform": shown,
        "layer": [everybody, *_intervals(x, y=y, tooltip=tooltip, color={"value": "var(--series-1)"})],
    }


def _intervals(x: Spec, **encoding: Any) -> list[Spec]:
    """Returns the layers of a dot with its interval for every row {value, low, high}."""
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "opacity": 0.45},
            "encoding": {**encoding, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**encoding, "x": {**x, "field": "value"}},
        },
    ]


def reliability(description: str, calibration: Calibration, word: Words) -> Spec:
    """Returns confidence against accuracy in bins; a dot's size is its number of photos, the diagonal is the ideal."""
    data = [
        {"confidence": part.confidence, "accuracy": part.accuracy, "photos": part.num_photos}
        for part in calibration.bins
    ]
    form = {
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True},
    }
    confidence = {"field": "confidence", "title": word("confidence")}
    accuracy = {"field": "accuracy", "title": word("acc")}
    photos = {"field": "photos", "title": word("photos")}
    size = {**photos, "type": "quantitative", "legend": None, "scale": {"range": [20, 320], "zero": True}}
    return {
        "description": description,
        "height": 220,
        "data": {"values": data},
        "encoding": {"x": {**confidence, **form}, "y": {**accuracy, **form}},
        "layer": [
            {
                "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "var(--muted)", "strokeWidth": 1},
            },
            {"mark": {"type": "line", "color": "var(--series-1)", "strokeWidth": 1, "opacity": 0.4}},
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "color": "var(--series-1)"},
                "encoding": {
                    "size": size,
                    "tooltip": [{**confidence, "format": ".1%"}, {**accuracy, "format": ".1%"}, photos],
                },
            },
        ],
    }


def confusion(matrices: Mapping[str, np.ndarray]) -> Spec:
    """Returns the confusion matrix of every head, the first at the left and the others below each other."""
    first, *others = (_matrix(head, counts) for head, counts in matrices.items())
    return {"hconcat": [first, {"vconcat": others}]} if others else first


def _matrix(head: str, counts: np.ndarray) -> Spec:
    """Returns a confusion matrix: rows are the truth; right is blue, wrong orange, the stronger the row's share."""
    classes = HEAD_CLASSES[head]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    data = [
        {"truth": classes[row], "predicted": classes[column], "count": int(count), "share": shares[row, column]}
        for (row, column), count in np.ndenumerate(counts)
        if count
    ]

    def place(field: str, angle: int) -> Spec:
        labels = {"labelAngle": angle, "labelLimit": 0, "labelOverlap": False, "ticks": False, "domain": False}
        return {"field": field, "type": "nominal", "scale": {"domain": classes, "padding": 0.02}, "axis": labels}

    right = {"test": "datum.truth === datum.predicted", "value": "var(--accent)"}
    strong = {"test": "datum.share > 0.5", "value": "var(--on-accent)"}
    strength = {"type": "quantitative", "scale": {"domain": [0, 1], "range": [0.08, 0.96]}, "legend": None}
    side = max(44 * len(classes), 240)
    return {
        "title": f"{head}: {np.trace(counts) / max(counts.sum(), 1):.1%} right",
        "width": side,
        "height": side,
        "view": {"stroke": "var(--line)"},
        "data": {"values": data},
        "encoding": {"x": place("predicted", -90 if len(classes) > 3 else 0), "y": place("truth", 0)},
        "layer": [
            {
                "mark": {"type": "rect", "cornerRadius": 3},
                "encoding": {
                    "color": {"condition": right, "value": "var(--wrong)"},
                    "opacity": {"field": "share", **strength},
                },
            },
            {
                "mark": {"type": "text", "fontSize": 12},
                "encoding": {
                    "text": {"field": "count", "type": "quantitative"},
                    "color": {"condition": strong, "value": "var(--ink)"},
                },
            },
        ],
    }


def comparison(found: Comparison) -> Spec:
    """Returns every run's score, and every difference from the first run, as dots with 95 % intervals."""
    differences = [Interval(0, 0, 0), *(difference.interval for difference in found.differences)]
    title = f"{found.score}, 95 % intervals over people"
    scores = _runs(title, found.scores[found.score], ["var(--series-1)"] * len(found.names))
    verdicts = ["", *found.verdicts]
    colours = [VERDICT_COLOURS.get(verdict, "var(--muted)") for verdict in verdicts]
    changes = _runs(f"difference from {found.names[0]}", differences, colours, verdicts)
    zero = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "color": "var(--ink)"},
        "encoding": {"x": {"field": "zero", "type": "quantitative"}},
    }
    panels = [scores, {**changes, "layer": [zero, *changes["layer"]]}]
    return {"params": [{"name": "names", "value": found.names}], "hconcat": panels}


def _runs(title: str, intervals: Sequence[Interval], colours: Sequence[str], verdicts: Sequence[str] = ()) -> Spec:
    """Returns a row for each run, with its verdict above the dot."""
    data = [
        {"run": run, **vars(interval), "colour": colour, "verdict": verdict}
        for run, (interval, colour, verdict) in enumerate(zip_longest(intervals, colours, verdicts, fillvalue=""))
    ]
    scale = {"zero": False, "padding": 16}
    x = {"type": "quantitative", "title": None, "scale": scale, "axis": {"grid": True, "tickCount": 6}}
    names = {"labelExpr": "names[datum.value]", "labelLimit": 400}  # by number: two runs may have one name
    y = {"field": "run", "type": "nominal", "title": None, "axis": names}
    dot = _intervals(x, y=y, color={"field": "colour", "type": "nominal", "scale": None})
    said = {"mark": {"type": "text", "dy": -12}, "encoding": {**dot[1]["encoding"], "text": {"field": "verdict"}}}
    height = 2 * ROW_HEIGHT * len(data)
    return {"title": title, "width": 480, "height": height, "data": {"values": data}, "layer": [*dot, said]}
