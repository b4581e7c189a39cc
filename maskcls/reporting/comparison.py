"""Run folders side by side: their configs, their scores, and what can be said about the difference.

What `maskcls compare` prints, saves and draws. Reads the files of a run without torch, so that it answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskcls.config import RUNTIME_KEYS
from maskcls.errors import UserError, did_you_mean, joined
from maskcls.evaluation import paired
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import HEAD_CLASSES
from maskcls.reporting.text import aligned, short_names
from maskcls.training.ensemble import read_ensemble
from maskcls.yaml_file import read_values

WIDEST_CELL = 40  # characters of a config value in the printed table


@dataclass(frozen=True)
class Run:
    """One entry of a comparison: a run, three attribute runs combined, or folds joined."""

    name: str
    config: Mapping[str, str]  # dotted key -> value as text, without RUNTIME_KEYS
    predictions: Predictions


@dataclass(frozen=True)
class Comparison:
    """Runs on the same people, and how each later one differs from the first."""

    names: tuple[str, ...]
    config: Mapping[str, list[str]]  # keys that differ -> each run's value
    scores: Mapping[str, list[Interval]]  # score -> each run's value and interval
    score: str  # the one that the differences are about
    differences: list[paired.Difference]  # of each later run and the first
    verdicts: list[str]  # for each: better, worse or not distinguishable
    notes: list[str]  # which people, and what else a reader must know


def read_run(text: str) -> Run:
    """Returns the run that an argument of `maskcls compare` names.

    As --model_dir of infer.py; of several runs that is what they say together, on their own validation photos. Raises
    UserError when a folder is not a run with predictions or when the parts do not fit together.
    """
    answerer = read_ensemble(text)
    configs = [flat(read_values(run.config)) for run in answerer.runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: dict.fromkeys(config.get(key, "-") for config in configs) for key in keys}
    config = {key: " | ".join(texts) for key, texts in values.items() if key not in RUNTIME_KEYS}
    return Run(text, config, answerer.predictions())


def read_runs(texts: Sequence[str]) -> list[Run]:
    """Returns the runs of a command line, named as shortly as tells them apart.

    Raises UserError with the problems of all of them, or when there are fewer than two.
    """
    if len(texts) < 2:
        raise UserError("a comparison needs two runs or more, as in maskcls compare runs/exp runs/exp1")
    runs, problems = [], []
    for text in texts:
        try:
            runs.append(read_run(text))
        except UserError as error:
            problems.append(str(error) if text in str(error) else f"{text}: {error}")
    if problems:
        raise UserError(joined(problems, "runs that cannot be compared"))
    return [replace(run, name=name) for run, name in zip(runs, short_names(texts), strict=True)]


def compare(runs: Sequence[Run], *, score: str = "f1", only_common: bool = False) -> Comparison:
    """Returns the runs side by side, and each later one against the first.

    `score` is a name of metrics.jsonl; without a head it is about what all runs predict: the classes, or else the
    attribute. Raises UserError when the runs validated different photos and `only_common` is not set, when none is in
    common, when they predict different things, or when the score is unknown.
    """
    heads = [head for head in HEAD_CLASSES if all(head in run.predictions.probabilities for run in runs)]
    if not heads:
        raise UserError(
            f"the runs predict different things: {', '.join(f'{r.name} {r.predictions.headline}' for r in runs)}. "
            "Three attribute runs are compared with others as runs/mask+runs/gender+runs/age"
        )
    tables, notes = _on_the_same_photos(runs, only_common=only_common)
    first = Findings(tables[0])
    findings = [first, *(Findings(table, first.draws) for table in tables[1:])]
    known = {known.name(heads[0]): known for known in first.scores if known.head in heads}
    wanted = known.get(score.removeprefix(f"{heads[0]}_"))
    if wanted is None:
        raise UserError(f"unknown score {score!r}.{did_you_mean(score, list(known))} Known: {', '.join(known)}")
    differences = [paired.paired_difference(first, other, wanted) for other in findings[1:]]
    keys = dict.fromkeys(key for run in runs for key in run.config)
    config = {key: [run.config.get(key, "-") for run in runs] for key in keys}
    return Comparison(
        names=tuple(run.name for run in runs),
        config={key: values for key, values in config.items() if len({*values}) > 1},
        # Of single attributes with their heads, too: a lone f1 would be read as that of the classes.
        scores={known.name("class"): [found.scores[known] for found in findings] for known in known.values()},
        score=wanted.name("class"),
        differences=differences,
        verdicts=paired.verdicts(differences),
        notes=notes,
    )


def _on_the_same_photos(runs: Sequence[Run], *, only_common: bool) -> tuple[list[Predictions], list[str]]:
    """Returns each run's predictions of the photos that all validated, with the labels of the first, and the notes."""
    tables = paired.on_common_photos([run.predictions for run in runs])
    common = _counted(tables[0])
    each = ", ".join(f"{run.name} {_counted(run.predictions)}" for run in runs)
    notes = [f"{common} that all runs validated"]
    if any(len(run.predictions) > len(tables[0]) for run in runs):
        if not len(tables[0]):
            raise UserError(f"the runs have no validated person in common: {each}")
        if not only_common:
            raise UserError(
                f"the runs validated different people or photos: {each}; {common} are common to all. "
                "Compare them on these with --common, or train with the same valid_profile"
            )
        notes = [f"{notes[0]}; of {each}"]
    labels = tables[0].labels
    for run, table in zip(runs[1:], tables[1:], strict=True):
        if num_other := int((table.labels != labels).any(1).sum()):
            others = f"{num_other:,} photos carry other labels in {run.name}"
            notes.append(f"{others}; those of {runs[0].name} count for all")
    return [replace(table, labels=labels) for table in tables], notes


def _counted(table: Predictions) -> str:
    return f"{len(np.unique(table.people)):,} people ({len(table):,} photos)"


def comparison_text(comparison: Comparison) -> str:
    """Returns the comparison for the console: people, config differences, scores, differences, how to read them."""
    first, others = comparison.names[0], comparison.names[1:]
    parts = ["\n".join(comparison.notes)]
    if comparison.config:
        rows = [[key, *map(_cut, values)] for key, values in comparison.config.items()]
        parts.append(aligned([["config", *comparison.names], *rows]))
    else:
        parts.append("config: the same, as far as it decides what is learnt")
    rows = [[score, *map(str, values)] for score, values in comparison.scores.items()]
    parts.append(aligned([["score and 95 % interval", *comparison.names], *rows]))
    rows = [
        [name, signed(difference.interval), _percent(difference.sureness), verdict]
        for name, difference, verdict in zip(others, comparison.differences, comparison.verdicts, strict=True)
    ]
    parts.append(aligned([[f"{comparison.score} against {first}", "difference", "probability", "verdict"], *rows]))
    reading = [
        "probability: that other people, drawn like these, would show a difference of the same sign.",
        "All of this is about these weights: another seed of the same recipe moves a score as well.",
    ]
    if len(others) > 1:
        reading.insert(1, f"Verdicts are corrected for {len(others)} runs being compared with {first} (Holm).")
    return "\n\n".join([*parts, "\n".join(reading)])


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns the comparison as rows of a CSV, one fact each: what (config, score, difference), name, run, value."""
    rows: list[dict[str, Any]] = []
    for key, texts in comparison.config.items():
        for run, text in zip(comparison.names, texts, strict=True):
            rows.append({"what": "config", "name": key, "run": run, "value": text})
    for score, intervals in comparison.scores.items():
        for run, interval in zip(comparison.names, intervals, strict=True):
            rows.append({"what": "score", "name": score, "run": run, **vars(interval)})
    for run, difference, verdict in zip(comparison.names[1:], comparison.differences, comparison.verdicts, strict=True):
        row = {"what": "difference", "name": comparison.score, "run": run, **vars(difference.interval)}
        row |= {"probability": difference.sureness, "verdict": verdict}
        rows.append(row | {"num_people": difference.num_people, "num_photos": difference.num_photos})
    return rows


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested keys as dotted ones, with their values as text; numbers with 6 digits."""
    texts: dict[str, str] = {}
    for key, value in config.items():
        texts |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _text(value)}
    return texts


def signed(interval: Interval) -> str:
    """Returns a difference as +0.012 [-0.004, +0.028]."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _percent(share: float) -> str:
    return "> 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST_CELL else f"{text[: WIDEST_CELL - 3]}..."
