"""The section of a cross-validation: what each fold's model scores, and how far folds and seeds are apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

import numpy as np

from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Resampled
from maskcls.evaluation.metrics import Score
from maskcls.reporting import charts
from maskcls.reporting.report.material import Material


@dataclass(frozen=True)
class Spread:
    """How far the folds' scores are apart, and how far they would be if only their people differed."""

    low: float
    high: float
    deviation: float  # standard deviation
    of_people: float  # the one that resampled people show within the folds

    @classmethod
    def of(cls, material: Material, score: Score) -> Spread:
        """Returns the spread of a score; a fold's is the mean over its seeds."""
        of_folds: dict[int, list[Resampled]] = {}
        for (_, fold), findings in material.fold_findings.items():
            of_folds.setdefault(fold, []).append(findings.resampled[score])
        means = [Resampled.mean(of_fold) for of_fold in of_folds.values()]
        values = [mean.value for mean in means]
        of_people = float(np.sqrt(np.mean([np.nanvar(mean.values) for mean in means])))
        return cls(min(values), max(values), stdev(values), of_people)


def folds(material: Material) -> dict[str, Any]:
    """Returns the scores of every fold and of every seed's folds together, as a chart and as rows, and their spread."""
    word, scores = material.word, [score for score in material.main_scores if score.measure in ("f1", "acc")]
    main, of_seeds, data, rows = scores[0], material.seed_findings, [], []
    for title, ((seed, fold), findings) in zip(material.runs, material.fold_findings.items(), strict=True):
        group, name = word("seed_number", seed=seed), word("fold_number", fold=fold)
        people = len(set(findings.predictions.people.tolist()))
        counts = {"photos": len(findings.predictions), "people": people}
        data.append({"group": group, "name": name, "score": main.measure, **vars(findings.scores[main]), **counts})
        rows.append((title, people, findings.scores))
    everybody = len(set(material.findings.predictions.people.tolist()))
    rows += [(word("seed_of_all", seed=seed), everybody, findings.scores) for seed, findings in of_seeds.items()]
    overall = {main.measure: material.findings.scores[main].value}
    spreads = {score: Spread.of(material, score) for score in scores}
    return {
        "rows": rows,
        "scores": scores,
        "between_folds": {score: spread.deviation for score, spread in spreads.items()},
        "of_people": {score: spread.of_people for score, spread in spreads.items()},
        "between_seeds": _between_seeds(of_seeds.values(), scores) if len(of_seeds) > 1 else {},
        "charts": {"folds": charts.dots(data, overall, word, measure=main.measure, about="folds_note")},
    }


def _between_seeds(of_seeds: Collection[Findings], scores: Sequence[Score]) -> dict[Score, float]:
    """Returns the standard deviation of each score between seeds, each over all people."""
    return {score: stdev(findings.scores[score].value for findings in of_seeds) for score in scores}


def says_spread(material: Material) -> Iterator[str]:
    """Says how far the folds are apart in the main score."""
    if material.folds:
        score = material.main_scores[0]
        numbers = {name: f"{value:.3f}" for name, value in vars(Spread.of(material, score)).items()}
        yield material.word("says_spread", score=material.score_title(score), **numbers)
