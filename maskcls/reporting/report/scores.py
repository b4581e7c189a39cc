"""The sections about how good the answers are: summary, comparison, confusion, groups, calibration, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from maskcls.errors import UserError
from maskcls.evaluation.consistency import contradictions
from maskcls.evaluation.intervals import Difference, paired_difference
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.reporting import charts
from maskcls.reporting.report.material import Material, percent

# A mean confidence within this distance of the accuracy is called believable.
BELIEVABLE = 0.03


def summary(material: Material) -> dict[str, Any]:
    """Returns every score with its interval, and what a person should know after a minute, in sentences."""
    predictions = material.predictions
    main = [score for score in ("f1", "acc") if score in material.intervals]
    others = [score for head in material.heads if (score := predictions.score_name(head, "acc")) not in main]
    says: list[str] = []
    for sentence in (_says_comparison, _says_heads, _says_confusion, _says_people, _says_confidence, _says_gaps):
        with suppress(Exception):  # the section of that name says what is missing
            says += sentence(material)
    return {
        "scores": [_score(material, score) for score in [*main, *others]],
        "all_scores": [_score(material, score) for score in material.intervals],
        "says": says,
        "photos": len(predictions),
        "people": len(set(predictions.people.tolist())),
    }


def _score(material: Material, name: str) -> dict[str, Any]:
    interval = material.intervals[name]
    return {
        "title": material.score_title(name), "is_share": name.endswith("acc"),
        "value": interval.value, "low": interval.low, "high": interval.high,
    }  # fmt: skip


def _says_comparison(material: Material) -> list[str]:
    if material.against is None:
        return []
    found = _differences(material)["f1"]
    key = "says_alike" if not found.is_clear else "says_better" if found.interval.value > 0 else "says_worse"
    difference = f"{found.interval.value:+.3f}" if key == "says_alike" else f"{abs(found.interval.value):.3f}"
    other, score = material.against.path.name, material.score_title("f1")
    return [material.word(key, other=other, score=score, difference=difference.replace("-", "−"))]


def _says_heads(material: Material) -> list[str]:
    if len(material.heads) < 2:
        return []
    values = {head: material.accuracy(head).value for head in material.heads}
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return [material.word("says_heads", best=material.word(best), best_value=percent(values[best]),
                          worst=material.word(worst), worst_value=percent(values[worst]))]  # fmt: skip


def _says_confusion(material: Material) -> list[str]:
    head = min(material.heads, key=lambda head: material.accuracy(head).value)
    counts = confusion_counts(material.predictions, head)
    wrong = counts - np.diag(counts.diagonal())
    truth, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    count, total = int(wrong[truth, predicted]), int(counts[truth].sum())
    if not count:
        return []
    return [material.word(
        "says_confusion", head=material.word(head), truth=material.word.class_name(head, int(truth)),
        predicted=material.word.class_name(head, int(predicted)), count=f"{count:,}", total=f"{total:,}",
        share=percent(count / total),
    )]  # fmt: skip


def _says_people(material: Material) -> list[str]:
    found = contradictions(material.predictions)
    return [material.word("says_people", share=percent(found["any"].value))] if "any" in found else []


def _says_confidence(material: Material) -> list[str]:
    head = material.predictions.headline
    probabilities = material.predictions.probabilities[head]
    confidence, accuracy = float(probabilities.max(1).mean()), material.accuracy(head).value
    is_near = abs(confidence - accuracy) < BELIEVABLE
    key = "says_calibrated" if is_near else "says_sure" if confidence > accuracy else "says_unsure"
    return [material.word(key, confidence=percent(confidence), accuracy=percent(accuracy))]


def _says_gaps(material: Material) -> list[str]:
    scores = [material.predictions.score_name(head, "acc") for head in material.heads]
    clear = [gap for gap in material.gaps if gap.is_clear and gap.group != "mask" and gap.score in scores]
    if not clear:
        return [material.word("says_no_gap")] if material.gaps else []
    gap = max(clear, key=lambda gap: gap.difference.value)
    head = gap.score.rpartition("_")[0] or material.predictions.headline
    return [material.word(
        "says_gap", head=material.word(head), group=_group_title(material, gap.group),
        higher=_value_title(material, gap.group, gap.higher), lower=_value_title(material, gap.group, gap.lower),
        difference=_points(gap.difference),
    )]  # fmt: skip


def _points(difference: Any) -> str:
    value, low, high = (
        f"{100 * part:.1f}".replace("-", "−") for part in (difference.value, difference.low, difference.high)
    )
    return f"{value} [{low}, {high}]"


def comparison(material: Material) -> dict[str, Any]:
    """Returns every score's difference to the other run, over the people that both validated."""
    if material.against is None:
        return {"rows": []}
    found = _differences(material)
    first = next(iter(found.values()))
    return {
        "other": material.against.path.name, "people": first.num_people, "photos": first.num_photos,
        "rows": [
            {"title": material.score_title(score), "value": difference.interval.value, "low": difference.interval.low,
             "high": difference.interval.high, "better": difference.probability_better, "is_clear": difference.is_clear}
            for score, difference in found.items()
        ],
    }  # fmt: skip


def _differences(material: Material) -> Mapping[str, Difference]:
    assert material.against is not None
    here, other = material.predictions, Predictions.load(material.against.predictions)
    keys = [np.char.add(np.char.add(part.people, "/"), part.files) for part in (here, other)]
    common = np.intersect1d(keys[0], keys[1])
    if not len(common):
        raise UserError(f"{material.against.path} and {material.run.path} validated no common photo")
    a, b = other.rows(np.isin(keys[1], common)), here.rows(np.isin(keys[0], common))
    if a.headline != b.headline:
        raise UserError(f"{material.against.path} predicts {a.headline}, {material.run.path} {b.headline}")
    scores = sorted(material.intervals, key=lambda score: score != "f1")  # the main score first
    return {score: paired_difference(a, b, score) for score in scores}


def confusion_counts(predictions: Predictions, head: str) -> np.ndarray:
    """Returns (K, K) counts; rows are the truth."""
    size = len(HEAD_CLASSES[head])
    cells = predictions.truth(head) * size + predictions.predicted(head)
    return np.bincount(cells, minlength=size**2).reshape(size, size)


def confusion(material: Material) -> dict[str, Any]:
    """Returns the matrix of every head, the headline's first."""
    heads = list(dict.fromkeys([material.predictions.headline, *material.heads]))
    matrices = []
    for head in heads:
        counts = confusion_counts(material.predictions, head)
        names = [material.word.class_name(head, label) for label in range(len(counts))]
        rows = []
        for truth, row in enumerate(counts):
            total = int(row.sum())
            cells = [
                {"count": int(count), "share": count / total if total else 0.0, "is_right": truth == predicted,
                 "says": material.word("cell", truth=names[truth], predicted=names[predicted], count=f"{count:,}",
                                       total=f"{total:,}", share=percent(count / total if total else 0))}
                for predicted, count in enumerate(row)
            ]  # fmt: skip
            rows.append({"name": names[truth], "cells": cells})
        right = float(counts.trace() / max(counts.sum(), 1))
        matrices.append({"head": head, "title": material.word(head), "names": names, "rows": rows,
                         "right": material.word("right_share", share=percent(right))})  # fmt: skip
    levels = {head: [material.word.class_name(head, label) for label in range(len(HEAD_CLASSES[head]))]
              for head in ATTRIBUTES}  # fmt: skip
    return {"matrices": matrices, "levels": levels}


def groups(material: Material) -> dict[str, Any]:
    """Returns accuracy by group, as a chart and as rows, and the gaps between groups."""
    scores = [material.predictions.score_name(head, "acc") for head in material.heads]
    if material.predictions.headline == "class":
        scores.append("acc")
    rows: list[dict[str, Any]] = [
        {"group": _group_title(material, part.group), "name": _value_title(material, part.group, part.value),
         "photos": part.num_photos, "people": part.num_people,
         "scores": {score: part.scores[score] for score in scores if score in part.scores}}
        for part in material.slices
    ]  # fmt: skip
    data = [
        {"group": row["group"], "name": row["name"], "score": score, "value": interval.value, "low": interval.low,
         "high": interval.high, "photos": row["photos"], "people": row["people"]}
        for row in rows for score, interval in row["scores"].items()
    ]  # fmt: skip
    first = min(scores, key=lambda score: material.intervals[score].value if score != "acc" else 2)
    measures = [{"score": score, "title": material.score_title(score), "is_first": score == first} for score in scores]
    chart = charts.dots(
        material.word("slices_note"), data, {score: material.intervals[score].value for score in scores}, measure=first,
        titles={"score": material.word("acc"), "photos": material.word("photos"), "people": material.word("people")},
    )  # fmt: skip
    differences = [
        {"title": material.score_title(gap.score), "group": _group_title(material, gap.group),
         "higher": _value_title(material, gap.group, gap.higher), "lower": _value_title(material, gap.group, gap.lower),
         "points": _points(gap.difference), "is_clear": gap.is_clear}
        for gap in sorted(material.gaps, key=lambda gap: (not gap.is_clear, -gap.difference.value))
    ]  # fmt: skip
    return {"rows": rows, "measures": measures, "gaps": differences, "charts": {"groups": chart}}


def _group_title(material: Material, group: str) -> str:
    name, _, years = group.partition(" ")
    return f"{material.word('years')} {years.replace('-', '–')}" if years else material.word(name)


def _value_title(material: Material, group: str, value: str) -> str:
    classes = HEAD_CLASSES.get(group, ())
    return material.word.class_name(group, classes.index(value)) if value in classes else value


def calibration(material: Material) -> dict[str, Any]:
    """Returns the reliability curve, ECE and temperature of every head."""
    rows = [
        {"head": head, "title": material.word(head), "ece": found.ece, "ece_after": found.ece_after,
         "temperature": found.temperature, "chart": f"reliability_{head}"}
        for head, found in material.calibration.items()
    ]  # fmt: skip
    word = material.word
    return {"rows": rows, "charts": {
        f"reliability_{head}": charts.reliability(f"{word(head)}: {word('calibration')}", found, word)
        for head, found in material.calibration.items()
    }}  # fmt: skip


def consistency(material: Material) -> dict[str, Any]:
    """Returns the share of people with contradictory answers, and the labels that the model contradicts most."""
    rows = [
        {"title": material.word(head), "value": share.value, "low": share.low, "high": share.high}
        for head, share in contradictions(material.predictions).items()
    ]
    labels = [
        {"profile": found.profile, "stem": found.stem, "suspicion": found.suspicion, "reason": found.reason,
         "label": _value_title(material, found.head, found.label),
         "prediction": _value_title(material, found.head, found.prediction)}
        for found in material.suspects
    ]  # fmt: skip
    return {"rows": rows, "suspects": labels}
