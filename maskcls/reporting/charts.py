"""Charts as Vega-Lite specifications: report.html embeds them, and drawing.py makes pictures of them.

Colours are the variables of report/style.css, so that dark mode, print and pictures need no other chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.metrics import Score
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.words import Words

if TYPE_CHECKING:
    from maskcls.evaluation.calibration import Calibration
    from maskcls.reporting.comparison import Comparison

Spec = dict[str, Any]

MAX_POINTS = 400  # of a curve; more than a screen can show
ROW_HEIGHT = 24
SEPARATOR = "\u241f"  # between the group and the value of a row; no folder name holds it
STRONG = 0.7  # share of a confusion matrix's row from which on light text reads better than dark
VERDICT_COLOURS = {"better": "var(--right-ink)", "worse": "var(--wrong)"}


def curves(history: Sequence[Mapping[str, Any]], word: Words) -> dict[str, Spec]:
    """Returns the charts of loss, headline scores, every head's accuracy and learning rate, from metrics.jsonl."""
    train, valid = word("train"), word("valid")
    splits, measures = {valid: "valid", train: "train"}, ("f1", "acc")
    scores = {f"{word(m)}, {title}": f"{split}/{m}" for title, split in splits.items() for m in measures}
    panels = {
        "chart_loss": (".3f", {train: "train/loss", valid: "valid/loss"}),
        "chart_scores": (".1%", scores),
        "chart_heads": (".1%", {word(head): f"valid/{Score(head, 'acc').name('class')}" for head in ATTRIBUTES}),
        "chart_rate": (".2e", {word("learning_rate"): "train/lr"}),
    }
    found = {}
    for title, (number_format, names) in panels.items():
        series = {label: points for label, name in names.items() if (points := _points(history, name))}
        if series:
            found[title] = _lines(title, series, number_format, word)
    return found


def curves_of_folds(
    logs: Mapping[str, Mapping[int, Mapping[str, float]]], means: Mapping[int, Mapping[str, float]], word: Words
) -> dict[str, Spec]:
    """Returns the charts of loss and headline scores, a line for each fold and a stronger one for their mean.

    logs: of each fold, and means, of all: epoch -> scores. And a chart of the mean accuracy of every head.
    """
    mean = word("mean")

    def points(log: Mapping[int, Mapping[str, float]], name: str) -> list[tuple[float, float]]:
        return [(epoch, scores[name]) for epoch, scores in log.items() if np.isfinite(scores.get(name, np.nan))]

    panels = {"chart_folds_loss": ("loss", ".3f"), "chart_folds_f1": ("f1", ".1%"), "chart_folds_acc": ("acc", ".1%")}
    found = {}
    for title, (name, number_format) in panels.items():
        series = {fold: points(log, name) for fold, log in [*logs.items(), (mean, means)]}
        found[title] = _lines(title, series, number_format, word, strong=mean)
    heads = {word(head): points(means, Score(head, "acc").name("class")) for head in ATTRIBUTES}
    if any(heads.values()):
        found["chart_folds_heads"] = _lines("chart_folds_heads", heads, ".1%", word, by="epoch")
    return found


def curves_sheet(history: Sequence[Mapping[str, Any]]) -> Spec:
    """Returns the same charts in one for a picture: with titles, without what follows the pointer, and in English.

    Not every machine has a font with Hangul.
    """
    panels = [
        {**chart, "title": chart["description"], "width": 540, "height": 240, "layer": chart["layer"][:2]}
        for chart in curves(history, Words("en")).values()
    ]
    return {"concat": panels, "columns": 2, "resolve": {"scale": {"color": "independent"}}}


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found = [(line["update"], line[name]) for line in history if name in line and np.isfinite(line[name])]
    return found[:: max(-(-len(found) // MAX_POINTS), 1)]


def _lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], number_format: str, word: Words, *,
    by: str = "update", strong: str | None = None,
) -> Spec:  # fmt: skip
    """Returns one line per series of (x, value) points, with all values of the x nearest to the pointer.

    by: what x counts. strong: the series that stands out among others of one colour; then x counts epochs.
    """
    names, by = list(series), "epoch" if strong else by
    data = [{by: x, "value": y, "series": name} for name, points in series.items() for x, y in points]
    colours = {"domain": names, "range": [f"var(--series-{number + 1})" for number in range(len(names))]}
    legend: Spec | None = {"columns": 2 if len(names) == 4 else 3} if len(names) > 1 else None
    if strong:
        colours["range"] = [f"var({'--series-1' if name == strong else '--muted'})" for name in names]
        legend = {"values": [strong]}
    if number_format.endswith("%") and not strong:
        y = _number("value", scale={"domain": [0, 1]}, axis={"tickCount": 5, "format": ".0%"})
    else:
        y = _number("value", scale={"zero": False}, axis={"tickCount": 5, "format": number_format} if strong else {})
    few = [name for name, points in series.items() if len(points) <= 60 and strong in (None, name)]
    near = {"type": "point", "fields": [by], "nearest": True, "on": "pointerover", "clear": "pointerout"}
    opacity = {"condition": {"param": "near", "empty": False, "value": 0.6}, "value": 0}
    tooltip = [_number(by, word(by), format=","), *(_number(name, name, format=number_format) for name in names)]
    of_few = {"transform": [{"filter": {"field": "series", "oneOf": few}}]}
    pivot = {"pivot": "series", "value": "value", "groupby": [by]}
    by_update = {"transform": [pivot], "params": [{"name": "near", "select": near}]}
    line = {"y": y, "color": {"field": "series", "scale": colours, "legend": legend}}
    point = {"y": y, "color": {"field": "series"}}
    lines = [_layer("line", line, strokeWidth=2, strokeJoin="round")]
    if strong:
        others = {"transform": [{"filter": f"datum.series !== '{strong}'"}]}
        lines = [
            _layer("line", line, strokeWidth=1.2, opacity=0.5) | others,
            _layer("line", line, strokeWidth=3) | of_few,
        ]
    return {
        "description": word(title),
        "height": 210,
        "data": {"values": data},
        "encoding": {"x": _number(by, word(by), axis={"tickCount": 6})},
        "layer": [
            *lines,
            _layer("point", point, filled=True, size=26, opacity=1) | of_few,
            _layer("rule", {"opacity": opacity, "tooltip": tooltip}, color="var(--muted)", strokeWidth=1) | by_update,
        ],
    }


def dots(
    rows: Sequence[Mapping[str, Any]], overall: Mapping[str, float], word: Words, *, measure: str, about: str
) -> Spec:
    """Returns a dot with its interval per row {group, name, score, value, low, high, photos, people}, groups together.

    The signal `measure` chooses the score that is shown; overall: score -> the value of all photos, a dashed line.
    about: key of what the chart shows, in words.
    """
    order: dict[str, None] = {}
    data = []
    for row in rows:
        place = f"{row['group']}{SEPARATOR}{row['name']}"
        order |= {row["group"]: None, place: None}
        interval = f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        data.append({**row, "place": place, "interval": interval})
    first = max(0.0, int(min(row["low"] for row in rows) * 10 - 0.01) / 10)
    last = min(1.0, -int(-10 * max(row["high"] for row in rows) - 1) / 10)
    x = {"scale": {"domain": [first, last]}, "axis": {"format": ".0%", "orient": "top", "grid": True, "tickCount": 5}}
    is_group = f"indexof(datum.value, '{SEPARATOR}') < 0"
    labels = {
        "labelExpr": f"slice(datum.value, indexof(datum.value, '{SEPARATOR}') + 1)",
        "labelFontWeight": {"condition": {"test": is_group, "value": "bold"}, "value": "normal"},
        "labelColor": {"condition": {"test": is_group, "value": "var(--ink)"}, "value": "var(--muted)"},
        "labelLimit": 140,
    }
    y = _name("place", scale={"domain": list(order), "paddingInner": 0.2}, axis=labels)
    titles = {"name": " ", "interval": word("score"), "photos": word("photos"), "people": word("people")}
    tooltip = [{"field": field, "title": title} for field, title in titles.items()]
    shown = {"transform": [{"filter": "datum.score === measure"}]}
    line = _layer("rule", {"x": _number("value", **x)}, strokeDash=[4, 4], color="var(--muted)")
    everybody = line | shown | {"data": {"values": [{"score": name, "value": overall[name]} for name in overall]}}
    return {
        "description": word(about),
        "height": ROW_HEIGHT * len(order),  # Vega-Lite warns of {"step": ...} beside width "container"
        "params": [{"name": "measure", "value": measure}],
        "data": {"values": data},
        **shown,
        "layer": [everybody, *_intervals(x, y=y, tooltip=tooltip, color={"value": "var(--series-1)"})],
    }


def reliability(head: str, calibration: Calibration, word: Words) -> Spec:
    """Returns confidence against accuracy in bins; a dot's size is its number of photos, the diagonal is the ideal."""
    bins = calibration.bins
    data = [{"confidence": of.confidence, "accuracy": of.accuracy, "photos": of.num_photos} for of in bins]
    share = {"scale": {"domain": [0, 1]}, "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True}}
    confidence, accuracy = ("confidence", word("confidence")), ("accuracy", word("acc"))
    photos = {"field": "photos", "title": word("photos")}
    dot = {
        "size": _number("photos", legend=None, scale={"range": [20, 320], "zero": True}),
        "tooltip": [_number(*confidence, format=".1%"), _number(*accuracy, format=".1%"), photos],
    }
    ideal = {"data": {"values": [{"confidence": share, "accuracy": share} for share in (0, 1)]}}
    return {
        "description": f"{word(head)}: {word('calibration')}",
        "height": 220,
        "data": {"values": data},
        "encoding": {"x": _number(*confidence, **share), "y": _number(*accuracy, **share)},
        "layer": [
            _layer("line", {}, strokeDash=[4, 4], color="var(--muted)", strokeWidth=1) | ideal,
            _layer("line", {}, color="var(--series-1)", strokeWidth=1, opacity=0.4),
            _layer("point", dot, filled=True, opacity=0.9, color="var(--series-1)"),
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
    scale = {"domain": classes, "padding": 0.02}
    labels = {"labelLimit": 0, "labelOverlap": False, "ticks": False, "domain": False}
    upright = {"labelAngle": -90 if len(classes) > 3 else 0}
    right = {"test": "datum.truth === datum.predicted", "value": "var(--accent)"}
    strong = {"test": f"datum.share > {STRONG}", "value": "var(--on-accent)"}
    strength = _number("share", scale={"domain": [0, 1], "range": [0.08, 0.96]}, legend=None)  # as in style.css
    cell = {"color": {"condition": right, "value": "var(--wrong)"}, "opacity": strength}
    count = {"text": _number("count"), "color": {"condition": strong, "value": "var(--ink)"}}
    side = max(44 * len(classes), 240)
    return {
        "title": f"{head}: {np.trace(counts) / max(counts.sum(), 1):.1%} right",
        "width": side,
        "height": side,
        "view": {"stroke": "var(--line)"},
        "data": {"values": data},
        "encoding": {
            "x": _name("predicted", "predicted", scale=scale, axis=labels | upright),
            "y": _name("truth", "truth", scale=scale, axis=labels),
        },
        "layer": [_layer("rect", cell, cornerRadius=3), _layer("text", count, fontSize=12)],
    }


def comparison(found: Comparison) -> Spec:
    """Returns every run's score, and every difference from the first run, as dots with 95 % intervals."""
    title = f"{found.score}, 95 % intervals over people"
    scores = _runs(title, found.scores[found.score], ["var(--series-1)"] * len(found.names))
    differences = [Interval(0, 0, 0), *(difference.interval for difference in found.differences)]
    verdicts = ["", *found.verdicts]
    colours = [VERDICT_COLOURS.get(verdict, "var(--muted)") for verdict in verdicts]
    title = f"difference from {found.names[0]}"
    if any(difference.noise for difference in found.differences):
        title += ", with the noise between trainings"
    changes = _runs(title, differences, colours, verdicts)
    zero = _layer("rule", {"x": {"datum": 0}}, color="var(--ink)")
    changes["layer"].insert(0, zero | {"data": {"values": [{}]}})
    return {"params": [{"name": "names", "value": found.names}], "hconcat": [scores, changes]}


def _runs(title: str, intervals: Sequence[Interval], colours: Sequence[str], verdicts: Sequence[str] = ()) -> Spec:
    """Returns a row for each run, with its verdict above the dot."""
    data = [
        {"run": run, **vars(interval), "colour": colour, "verdict": verdict}
        for run, (interval, colour, verdict) in enumerate(zip_longest(intervals, colours, verdicts, fillvalue=""))
    ]
    x = {"scale": {"zero": False, "padding": 16}, "axis": {"grid": True, "tickCount": 6}}
    names = {"labelExpr": "names[datum.value]", "labelLimit": 400}  # by number: two runs may have one name
    of_run = {"y": _name("run", axis=names), "color": {"field": "colour", "type": "nominal", "scale": None}}
    verdict = _layer("text", {**of_run, "x": _number("value", **x), "text": {"field": "verdict"}}, dy=-12)
    layers = [*_intervals(x, **of_run), verdict]
    height = 2 * ROW_HEIGHT * len(data)
    return {"title": title, "width": 480, "height": height, "data": {"values": data}, "layer": layers}


def _intervals(x: Spec, **encoding: Any) -> list[Spec]:
    """Returns the layers of a dot with its interval for every row {value, low, high}."""
    interval = {**encoding, "x": _number("low", **x), "x2": {"field": "high"}}
    return [
        _layer("rule", interval, strokeWidth=3, strokeCap="round", opacity=0.45),
        _layer("point", {**encoding, "x": _number("value", **x)}, filled=True, size=70, opacity=1),
    ]


def _layer(mark: str, encoding: Spec, **style: Any) -> Spec:
    """Returns what is drawn for every row of the data: how, and what its fields decide."""
    return {"mark": {"type": mark, **style}, "encoding": encoding}


def _number(field: str, title: str | None = None, /, **form: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **form}


def _name(field: str, title: str | None = None, /, **form: Any) -> Spec:
    return {"field": field, "type": "nominal", "title": title, **form}
