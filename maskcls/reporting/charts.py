"""Vega-Lite charts. Colours are the page's CSS variables, so that dark mode and print need no other chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskcls.evaluation.calibration import Calibration
from maskcls.words import Words

Spec = dict[str, Any]

# As in style.css: Vega measures its texts with it.
FONTS = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans KR", "Noto Sans CJK KR", '
    '"Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic", sans-serif'
)
ROW_HEIGHT = 24
SEPARATOR = "\u241f"  # between the group and the value of a row; no folder name holds it


def _chart(description: str, data: Sequence[Mapping[str, Any]], **parts: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "height": 210,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "padding": 2,
        "data": {"values": data},
        **parts,
        "config": {
            "font": FONTS,
            "view": {"stroke": None},
            "axis": {
                "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--line)",
                "domainColor": "var(--line)", "tickColor": "var(--line)", "labelFontSize": 12, "titleFontSize": 12,
                "titleFontWeight": "normal", "titlePadding": 6, "tickSize": 4,
            },
            "axisX": {"grid": False},
            "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
            "legend": {
                "orient": "top", "direction": "horizontal", "title": None, "labelColor": "var(--ink)",
                "labelFontSize": 12, "symbolType": "stroke", "symbolStrokeWidth": 3, "padding": 0, "offset": 8,
            },
        },
    }  # fmt: skip


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
    tooltips = [{"field": "update", "type": "quantitative", "title": x_title, "format": ","}]
    tooltips += [{"field": name, "type": "quantitative", "format": number_format} for name in names]
    few = {name: len(points) <= 60 for name, points in series.items()}
    return _chart(
        description, data,
        encoding={"x": {"field": "update", "type": "quantitative", "title": x_title, "axis": {"tickCount": 6}}},
        layer=[
            {
                "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"},
                "encoding": {
                    "y": y,
                    "color": {"field": "series", "scale": {"domain": names, "range": colours},
                              "legend": {"columns": legend_columns} if len(names) > 1 else None},
                },
            },
            {
                "transform": [{"filter": {"field": "series", "oneOf": [name for name in names if few[name]]}}],
                "mark": {"type": "point", "filled": True, "size": 26, "opacity": 1},
                "encoding": {"y": y, "color": {"field": "series"}},
            },
            {
                "transform": [{"pivot": "series", "value": "value", "groupby": ["update"]}],
                "params": [{"name": "near", "select": {"type": "point", "fields": ["update"], "nearest": True,
                                                       "on": "pointerover", "clear": "pointerout"}}],
                "mark": {"type": "rule", "color": "var(--muted)", "strokeWidth": 1},
                "encoding": {
                    "opacity": {"condition": {"param": "near", "empty": False, "value": 0.6}, "value": 0},
                    "tooltip": tooltips,
                },
            },
        ],
    )  # fmt: skip


def dots(
    description: str, rows: Sequence[Mapping[str, Any]], overall: Mapping[str, float], *, measure: str,
    titles: Mapping[str, str],
) -> Spec:  # fmt: skip
    """Returns a dot with its interval per row {group, name, score, value, low, high, photos, people}, groups together.

    The signal `measure` chooses the score that is shown; overall: score -> the value of all photos, a dashed line.
    titles: the words for score, interval, photos, people.
    """
    order: list[str] = []
    data = []
    for row in rows:
        if row["group"] not in order:
            order.append(row["group"])
        place = f"{row['group']}{SEPARATOR}{row['name']}"
        if place not in order:
            order.append(place)
        interval = f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        data.append({**row, "place": place, "interval": interval})
    lowest = min(row["low"] for row in rows)
    x = {
        "type": "quantitative", "title": None, "scale": {"domain": [max(0.0, int(lowest * 10 - 0.01) / 10), 1]},
        "axis": {"format": ".0%", "orient": "top", "grid": True, "tickCount": 5},
    }  # fmt: skip
    y = {
        "field": "place", "type": "nominal", "title": None, "scale": {"domain": order, "paddingInner": 0.2},
        "axis": {
            "labelExpr": f"slice(datum.value, indexof(datum.value, '{SEPARATOR}') + 1)",
            "labelFontWeight": {"condition": {"test": f"indexof(datum.value, '{SEPARATOR}') < 0", "value": "bold"},
                                "value": "normal"},
            "labelColor": {"condition": {"test": f"indexof(datum.value, '{SEPARATOR}') < 0", "value": "var(--ink)"},
                           "value": "var(--muted)"},
            "labelLimit": 140,
        },
    }  # fmt: skip
    tooltip = [
        {"field": "name", "title": " "}, {"field": "interval", "title": titles["score"]},
        {"field": "photos", "title": titles["photos"]}, {"field": "people", "title": titles["people"]},
    ]  # fmt: skip
    shown = [{"filter": "datum.score === measure"}]
    spec = _chart(
        description, data, params=[{"name": "measure", "value": measure}],
        layer=[
            {
                "data": {"values": [{"score": score, "value": value} for score, value in overall.items()]},
                "transform": shown,
                "mark": {"type": "rule", "strokeDash": [4, 4], "color": "var(--muted)"},
                "encoding": {"x": {**x, "field": "value"}},
            },
            {
                "transform": shown,
                "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "color": "var(--series-1)",
                         "opacity": 0.45},
                "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "tooltip": tooltip},
            },
            {
                "transform": shown,
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": "var(--series-1)"},
                "encoding": {"y": y, "x": {**x, "field": "value"}, "tooltip": tooltip},
            },
        ],
    )  # fmt: skip
    return {**spec, "height": ROW_HEIGHT * len(order)}  # Vega-Lite warns of {"step": ...} beside width "container"


def reliability(description: str, calibration: Calibration, word: Words) -> Spec:
    """Returns confidence against accuracy in bins; a dot's size is its number of photos, the diagonal is the ideal."""
    data = [
        {"confidence": part.confidence, "accuracy": part.accuracy, "photos": part.num_photos}
        for part in calibration.bins
    ]
    domain = {"domain": [0, 1]}
    axis = {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True}
    x = {"field": "confidence", "type": "quantitative", "title": word("confidence"), "scale": domain, "axis": axis}
    y = {"field": "accuracy", "type": "quantitative", "title": word("acc"), "scale": domain, "axis": axis}
    spec = _chart(
        description, data,
        layer=[
            {
                "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "var(--muted)", "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "line", "color": "var(--series-1)", "strokeWidth": 1, "opacity": 0.4},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "color": "var(--series-1)"},
                "encoding": {
                    "x": x, "y": y,
                    "size": {"field": "photos", "type": "quantitative", "legend": None,
                             "scale": {"range": [20, 320], "zero": True}},
                    "tooltip": [
                        {"field": "confidence", "title": word("confidence"), "format": ".1%"},
                        {"field": "accuracy", "title": word("acc"), "format": ".1%"},
                        {"field": "photos", "title": word("photos")},
                    ],
                },
            },
        ],
    )  # fmt: skip
    return {**spec, "height": 220}
