"""The sections about how good the answers are: summary, comparison, confusion, groups, calibration, agreement."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from maskcls.evaluation.metrics import Score
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.reporting import charts
from maskcls.reporting.report.material import NUM_SUSPECTS, Material, percent
from maskcls.words import Words

# A mean confidence within this distance of the accuracy is called believable.
BELIEVABLE = 0.03


def summary(material: Material) -> dict[str, Any]:
    """Returns the main scores with their intervals, and what a person should know after a minute, in sentences."""
    predictions = material.findings.predictions
    main = [score for score in material.findings.scores if score.head == predictions.headline]
    main.sort(key=lambda score: score.measure != "f1")
    others = [score for score in _accuracies(material) if score not in main]
    says: list[str] = []
    for sentence in (_says_comparison, _says_heads, _says_confusion, _says_people, _says_confidence, _says_gaps):
        with suppress(Exception):  # the section of that name says what is missing
            says += sentence(material)
    return {
        "scores": [_score(material, score) for score in [*main, *others]],
        "says": says,
        "photos": len(predictions),
        "people": len(set(predictions.people.tolist())),
    }


def _accuracies(material: Material) -> list[Score]:
    """Returns the accuracy of every attribute."""
    return [Score(head, "acc") for head in material.findings.predictions.attributes]


def _score(material: Material, score: Score) -> dict[str, Any]:
    is_share = score.measure.endswith("acc")
    return {"title": material.title(score), "is_share": is_share, **vars(material.findings.scores[score])}


def _says_comparison(material: Material) -> list[str]:
    if material.against is None:
        return []
    score, found = next(iter(material.differences.items()))
    value = found.interval.value
    key = "says_alike" if not found.is_clear else "says_better" if value > 0 else "says_worse"
    difference = f"{value:+.3f}" if key == "says_alike" else f"{abs(value):.3f}"
    other, title = material.against.path.name, material.title(score)
    return [material.word(key, other=other, score=title, difference=difference.replace("-", "−"))]


def _says_heads(material: Material) -> list[str]:
    values = {score.head: material.findings.scores[score].value for score in _accuracies(material)}
    if len(values) < 2:
        return []
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return [material.word("says_heads", best=material.word(best), best_value=percent(values[best]),
                          worst=material.word(worst), worst_value=percent(values[worst]))]  # fmt: skip


def _says_confusion(material: Material) -> list[str]:
    head = min(_accuracies(material), key=lambda score: material.findings.scores[score].value).head
    counts = material.findings.confusion(head)
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
    found = material.findings.contradictions
    return [material.word("says_people", share=percent(found["any"].value))] if "any" in found else []


def _says_confidence(material: Material) -> list[str]:
    predictions = material.findings.predictions
    confidence = float(predictions.probabilities[predictions.headline].max(1).mean())
    accuracy = material.findings.scores[Score(predictions.headline, "acc")].value
    is_near = abs(confidence - accuracy) < BELIEVABLE
    key = "says_calibrated" if is_near else "says_sure" if confidence > accuracy else "says_unsure"
    return [material.word(key, confidence=percent(confidence), accuracy=percent(accuracy))]


def _says_gaps(material: Material) -> list[str]:
    found, scores = material.findings.gaps, _accuracies(material)
    clear = [gap for gap in found if gap.is_clear and gap.group != "mask" and gap.score in scores]
    if not clear:
        return [material.word("says_no_gap")] if found else []
    gap = max(clear, key=lambda gap: gap.difference.value)
    return [material.word(
        "says_gap", head=material.word(gap.score.head), group=_group_title(material, gap.group),
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
    found = material.differences
    first = next(iter(found.values()))
    return {
        "other": material.against.path.name,
        "people": first.num_people,
        "photos": first.num_photos,
        "rows": [
            {
                "title": material.title(score),
                **vars(difference.interval),
                "better": difference.probability_better,
                "is_clear": difference.is_clear,
            }
            for score, difference in found.items()
        ],
    }


def confusion(material: Material) -> dict[str, Any]:
    """Returns the matrix of every head, the headline's first."""
    matrices = []
    for head in material.findings.predictions.probabilities:
        counts = material.findings.confusion(head)
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
                         "levels": _levels(material.word) if head == "class" else [],
                         "right": material.word("right_share", share=percent(right))})  # fmt: skip
    return {"matrices": matrices}


def _levels(word: Words) -> list[dict[str, Any]]:
    """Returns the headings of the classes, an attribute below the other: names from left to right, classes of each."""
    levels, span = [], len(HEAD_CLASSES["class"])
    for head in ATTRIBUTES:
        names = [word.class_name(head, label) for label in range(len(HEAD_CLASSES[head]))]
        span //= len(names)
        levels.append({"span": span, "names": names * (len(HEAD_CLASSES["class"]) // (span * len(names)))})
    return levels


def groups(material: Material) -> dict[str, Any]:
    """Returns accuracy by group, as a chart and as rows, and the gaps between groups."""
    findings, headline = material.findings, material.findings.predictions.headline
    attributes = _accuracies(material)
    names = {score: score.name(headline) for score in dict.fromkeys([*attributes, Score(headline, "acc")])}
    first = min(attributes, key=lambda score: findings.scores[score].value)
    rows: list[dict[str, Any]] = [
        {"group": _group_title(material, part.group), "name": _value_title(material, part.group, part.value),
         "photos": part.num_photos, "people": part.num_people,
         "scores": {name: part.scores[score] for score, name in names.items()}}
        for part in findings.slices
    ]  # fmt: skip
    data = [
        {"group": row["group"], "name": row["name"], "score": score, **vars(interval),
         "photos": row["photos"], "people": row["people"]}
        for row in rows for score, interval in row["scores"].items()
    ]  # fmt: skip
    measures = [
        {"score": name, "title": material.title(score), "is_first": score == first} for score, name in names.items()
    ]
    overall = {name: findings.scores[score].value for score, name in names.items()}
    chart = charts.dots(data, overall, material.word, measure=names[first])
    differences = [
        {"title": material.title(gap.score), "group": _group_title(material, gap.group),
         "higher": _value_title(material, gap.group, gap.higher), "lower": _value_title(material, gap.group, gap.lower),
         "points": _points(gap.difference), "is_clear": gap.is_clear}
        for gap in sorted(findings.gaps, key=lambda gap: (not gap.is_clear, -gap.difference.value))
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
        for head, found in material.findings.calibration.items()
    ]  # fmt: skip
    word = material.word
    return {"rows": rows, "charts": {
        f"reliability_{head}": charts.reliability(f"{word(head)}: {word('calibration')}", found, word)
        for head, found in material.findings.calibration.items()
    }}  # fmt: skip


def consistency(material: Material) -> dict[str, Any]:
    """Returns the share of people with contradictory answers, and the labels that the model contradicts most."""
    rows = [{"title": material.word(head), **vars(share)} for head, share in material.findings.contradictions.items()]
    labels = [
        {"profile": found.profile, "stem": found.stem, "suspicion": found.suspicion, "reason": found.reason,
         "label": _value_title(material, found.head, found.label),
         "prediction": _value_title(material, found.head, found.prediction)}
        for found in material.findings.suspects[:NUM_SUSPECTS]
    ]  # fmt: skip
    return {"rows": rows, "suspects": labels}
