"""The sections about how good the answers are: summary, comparison, confusion, groups, calibration, agreement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from maskcls.evaluation.decision import Decision
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.selection import epochs_done
from maskcls.evaluation.unsure import Coverage, coverage
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PHOTO, headline
from maskcls.paths import read_json
from maskcls.reporting import charts
from maskcls.reporting.report.folds import says_spread
from maskcls.reporting.report.material import NUM_SUSPECTS, Material
from maskcls.reporting.text import decision_line
from maskcls.training.folds_folder import FoldsFolder

# A mean confidence within this distance of the accuracy is called believable.
BELIEVABLE = 0.03


def summary(material: Material) -> dict[str, Any]:
    """Returns the main scores with their intervals, and what a person should know after a minute, in sentences.

    Without scores, where nobody validated.
    """
    if not material.has_validation:
        return {"scores": {}, "says": list(_says_nobody(material))}
    predictions, scores = material.findings.predictions, material.findings.scores
    says: list[str] = []
    for sentences in (
        _says_comparison,
        says_spread,
        _says_heads,
        _says_confusion,
        _says_people,
        _says_confidence,
        _says_gaps,
    ):
        with suppress(Exception):  # the section of that name says what is missing
            says += sentences(material)
    people = set(predictions.people.tolist())
    shown = {score: scores[score] for score in material.main_scores}
    return {"scores": shown, "says": says, "photos": len(predictions), "people": len(people)}


def _says_nobody(material: Material) -> Iterator[str]:
    counts = {"epoch": epochs_done(material.history), "epochs": material.config.epochs}
    yield material.word("says_everybody", people=f"{len(material.first_run.trained_people()):,}", **counts)
    folds = FoldsFolder.of(material.first_run)
    scored = read_json(folds.finished).get("scores", {}).get("f1") if folds else None
    yield material.word("says_no_scores")
    if scored is None:
        yield material.word("says_ask_folds")
    else:
        score = material.score_title(Score(headline(material.config.output), "f1"))
        yield material.word("says_folds", score=score, interval=Interval(**scored))


def _says_comparison(material: Material) -> Iterator[str]:
    if material.against is not None:
        score, found = next(iter(material.differences.items()))
        value = found.interval.value
        key = "says_alike" if not found.interval.is_clear else "says_better" if value > 0 else "says_worse"
        difference = f"{value:+.3f}".replace("-", "−") if key == "says_alike" else f"{abs(value):.3f}"
        title = material.score_title(score)
        yield material.word(key, other=material.against.path.name, score=title, difference=difference)


def _says_heads(material: Material) -> Iterator[str]:
    values = {score.head: material.findings.scores[score].value for score in material.accuracies}
    if len(values) > 1:
        best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        shares = {"best_value": f"{values[best]:.1%}", "worst_value": f"{values[worst]:.1%}"}
        yield material.word("says_heads", best=material.word(best), worst=material.word(worst), **shares)


def _says_confusion(material: Material) -> Iterator[str]:
    head = min(material.accuracies, key=lambda score: material.findings.scores[score].value).head
    counts = material.findings.confusion(head)
    wrong = counts - np.diag(counts.diagonal())
    truth, predicted = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    count, total, word = int(wrong[truth, predicted]), int(counts[truth].sum()), material.word
    if count:
        labels = {"truth": word.class_name(head, truth), "predicted": word.class_name(head, predicted)}
        numbers = {"count": f"{count:,}", "total": f"{total:,}", "share": f"{count / total:.1%}"}
        yield word("says_confusion", head=word(head), **labels, **numbers)


def _says_people(material: Material) -> Iterator[str]:
    if share := material.findings.contradictions.get("any"):
        yield material.word("says_people", share=f"{share.value:.1%}")


def _says_confidence(material: Material) -> Iterator[str]:
    predictions = material.findings.predictions
    confidence = float(predictions.probabilities[predictions.headline].max(1).mean())
    accuracy = material.findings.scores[Score(predictions.headline, "acc")].value
    is_near = abs(confidence - accuracy) < BELIEVABLE
    key = "says_calibrated" if is_near else "says_sure" if confidence > accuracy else "says_unsure"
    yield material.word(key, confidence=f"{confidence:.1%}", accuracy=f"{accuracy:.1%}")


def _says_gaps(material: Material) -> Iterator[str]:
    found, scores = material.findings.gaps, material.accuracies
    clear = [gap for gap in found if gap.difference.is_clear and gap.group not in OF_PHOTO and gap.score in scores]
    if clear:
        gap = max(clear, key=lambda gap: gap.difference.value)
        higher, lower = (material.value_title(gap.group, value) for value in (gap.higher, gap.lower))
        titles = {"head": material.word(gap.score.head), "group": material.group_title(gap.group)}
        yield material.word("says_gap", **titles, higher=higher, lower=lower, difference=points(gap.difference))
    elif found:
        yield material.word("says_no_gap")


def points(difference: Interval) -> str:
    """Returns a difference of shares in percentage points, with its interval."""
    text = f"{100 * difference.value:.1f} [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
    return text.replace("-", "−")


def comparison(material: Material) -> dict[str, Any]:
    """Returns every score's difference to the other run, over the people that both validated."""
    return {"differences": material.differences}


def confusion(material: Material) -> dict[str, Any]:
    """Returns the counts of every head, the headline's first, and the headings of the classes.

    A level of headings for each attribute: its names from left to right, and over how many classes each stands.
    """
    heads, levels, num_classes = material.findings.predictions.probabilities, [], len(HEAD_CLASSES["class"])
    span = num_classes
    for head in ATTRIBUTES:
        names = material.word.class_names(head)
        span //= len(names)
        levels.append({"span": span, "names": names * (num_classes // (span * len(names)))})
    return {
        "counts": {head: material.findings.confusion(head) for head in heads},
        "levels": levels,
        "strong": charts.STRONG,
    }


def groups(material: Material) -> dict[str, Any]:
    """Returns accuracy by group, as a chart and as rows, and the gaps between groups."""
    findings, headline = material.findings, material.findings.predictions.headline
    attributes = material.accuracies
    names = {score: score.name(headline) for score in [*attributes, Score(headline, "acc")]}
    first = min(attributes, key=lambda score: findings.scores[score].value)
    data: list[dict[str, Any]] = []
    for part in findings.slices:
        titles = {"group": material.group_title(part.group), "name": material.value_title(part.group, part.value)}
        counts = {"photos": part.num_photos, "people": part.num_people}
        data += [{**titles, "score": name, **vars(part.scores[score]), **counts} for score, name in names.items()]
    overall = {name: findings.scores[score].value for score, name in names.items()}
    return {
        "slices": findings.slices,
        "scores": names,
        "first": first,
        "gaps": sorted(findings.gaps, key=lambda gap: (not gap.difference.is_clear, -gap.difference.value)),
        "charts": {"groups": charts.dots(data, overall, material.word, measure=names[first], about="slices_note")},
    }


def calibration(material: Material) -> dict[str, Any]:
    """Returns the reliability curve, ECE and temperature of every head, and what --unsure keeps of what it promises."""
    word, findings = material.word, material.findings
    drawn = {
        f"reliability_{head}": charts.reliability(head, found, word) for head, found in findings.calibration.items()
    }
    decision = Decision.load(material.folder.decision)  # plain: a run of an older version
    line = decision_line(decision, word) if decision.steps else ""
    return {"heads": findings.calibration, "decision": line, "coverage": _coverage(material, decision), "charts": drawn}


def _coverage(material: Material, decision: Decision) -> dict[str, list[Coverage]]:
    """Returns what the sets are worth that are made of probabilities after their temperatures, as in infer.py."""
    predictions = material.findings.predictions
    if decision.temperature is not None and decision.temperature.is_on:
        said = decision.tempered(predictions.probabilities, material.config.output)
        predictions = replace(predictions, probabilities=said)
    return coverage(predictions, material.findings.draws)


def consistency(material: Material) -> dict[str, Any]:
    """Returns the share of people with contradictory answers, and the labels that the model contradicts most."""
    return {"shares": material.findings.contradictions, "suspects": material.findings.suspects[:NUM_SUSPECTS]}
