"""Run folders side by side: their configs, their scores, and what can be said about the difference.

What `maskcls compare` prints, saves and draws. Reads the files of a run without torch, so that it answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskcls.config import RUNTIME_KEYS
from maskcls.errors import UserError, did_you_mean, joined, listed
from maskcls.evaluation import paired
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.trainings import TrainingNoise, Trainings
from maskcls.labels import HEAD_CLASSES
from maskcls.paths import full_path
from maskcls.reporting.text import aligned, short_names, signed
from maskcls.training.blend_file import is_blend_file
from maskcls.training.ensemble import read_ensemble
from maskcls.training.folds_folder import FoldsFolder
from maskcls.yaml_file import read_values

WIDEST_CELL = 40  # characters of a config value in the printed table


@dataclass(frozen=True)
class Run:
    """One entry of a comparison: a run, three attribute runs combined, folds joined, or a folds folder."""

    name: str
    config: Mapping[str, str]  # dotted key -> value as text, without RUNTIME_KEYS
    tables: Sequence[Predictions]  # of the same photos: one, or of a folds folder one for each seed
    folds: Mapping[str, int] = field(default_factory=dict)  # of a folds folder: profile -> fold
    is_chosen: bool = False  # by its answers: a blend.yaml

    @property
    def predictions(self) -> Predictions:
        """What the first seed says; the photos and the heads are those of all."""
        return self.tables[0]


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
    noise: TrainingNoise | None  # where the runs are the seeds of one recipe


def read_run(text: str) -> Run:
    """Returns the run that an argument of `maskcls compare` names.

    As --model_dir of infer.py; of several runs that is what they say together, on their own validation photos, but of a
    folds folder what each seed's runs say. Raises UserError when a folder is not a run with predictions or when the
    parts do not fit together.
    """
    answerer, folds = read_ensemble(text), FoldsFolder(full_path(text))
    configs = [flat(read_values(run.config)) for run in answerer.runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: dict.fromkeys(config.get(key, "-") for config in configs) for key in keys}
    config = {key: " | ".join(texts) for key, texts in values.items() if key not in RUNTIME_KEYS}
    if folds.is_folds():
        return Run(text, config, [*folds.tables().values()], folds.fold_of_people())
    return Run(text, config, [answerer.predictions()], is_chosen=is_blend_file(text))


def read_seeds(text: str) -> list[Run]:
    """Returns the seeds of a folds folder as runs of their own. Raises UserError when it is none, or has one alone."""
    run, folds = read_run(text), FoldsFolder(full_path(text))
    if len(run.tables) == 1:
        few = f"{text} has one seed" if folds.is_folds() else f"{text} is one run"
        raise UserError(
            f"{few}: a comparison needs two runs or more, as in maskcls compare runs/exp runs/exp1, or a folds folder "
            "of several seeds"
        )
    seeds = zip(folds.seeds, run.tables, strict=True)
    return [Run(f"seed {seed}", {**run.config, "seed": str(seed)}, [table], run.folds) for seed, table in seeds]


def read_runs(texts: Sequence[str]) -> list[Run]:
    """Returns the runs of a command line, named as shortly as tells them apart; of one alone its seeds.

    Raises UserError with the problems of all of them, or as `read_seeds`.
    """
    if len(texts) == 1:
        return read_seeds(texts[0])
    runs, problems = [], []
    for text in texts:
        try:
            runs.append(read_run(text))
        except UserError as error:
            problems.append(str(error) if text in str(error) else f"{text}: {error}")
    if problems:
        raise UserError(joined(problems, "runs that cannot be compared"))
    return [replace(run, name=name) for run, name in zip(runs, short_names(texts), strict=True)]


def compare(
    runs: Sequence[Run], *, score: str = "f1", only_common: bool = False, is_one_recipe: bool = False
) -> Comparison:
    """Returns the runs side by side, and each later one against the first.

    Of a run with several seeds the scores are means over them. is_one_recipe: the runs are the seeds of one. score: a
    name of metrics.jsonl; without a head it is about what all runs predict: the classes, or else the attribute. Raises
    UserError when the runs validated different photos and `only_common` is not set, when none is in common, when they
    predict different things, or when the score is unknown.
    """
    heads = [head for head in HEAD_CLASSES if all(head in run.predictions.probabilities for run in runs)]
    if not heads:
        raise UserError(
            f"the runs predict different things: {', '.join(f'{r.name} {r.predictions.headline}' for r in runs)}. "
            "Three attribute runs are compared with others as runs/mask+runs/gender+runs/age"
        )
    tables, notes = _on_the_same_photos(runs, only_common=only_common)
    first = Findings(tables[0][0])
    findings = [[Findings(table, first.draws) for table in of_run] for of_run in tables]
    trainings = [Trainings(found, run.folds) for run, found in zip(runs, findings, strict=True)]
    known = {known.name(heads[0]): known for known in first.scores if known.head in heads}
    wanted = known.get(score.removeprefix(f"{heads[0]}_"))
    if wanted is None:
        raise UserError(f"unknown score {score!r}.{did_you_mean(score, list(known))} Known: {', '.join(known)}")
    differences = [paired.recipe_difference(trainings[0], other, wanted) for other in trainings[1:]]
    one_recipe = [Trainings([found[0] for found in findings], runs[0].folds)]
    keys = dict.fromkeys(key for run in runs for key in run.config)
    config = {key: [run.config.get(key, "-") for run in runs] for key in keys}
    return Comparison(
        names=tuple(run.name for run in runs),
        config={key: values for key, values in config.items() if len({*values}) > 1},
        # Of single attributes with their heads, too: a lone f1 would be read as that of the classes.
        scores={kind.name("class"): [recipe.mean(kind).interval() for recipe in trainings] for kind in known.values()},
        score=wanted.name("class"),
        differences=differences,
        verdicts=paired.verdicts(differences),
        notes=notes,
        noise=TrainingNoise.between(one_recipe, wanted) if is_one_recipe else None,
    )


def _on_the_same_photos(runs: Sequence[Run], *, only_common: bool) -> tuple[list[list[Predictions]], list[str]]:
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
    flattered = "was chosen by its answers to such photos, which flatters it; maskcls blend scores it on other people"
    notes += [f"{run.name} {flattered}" for run in runs if run.is_chosen]
    of_runs = [[paired.on_common_photos([table, tables[0]])[0] for table in run.tables] for run in runs]
    return [[replace(table, labels=labels) for table in of_run] for of_run in of_runs], notes


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
    reading = ["probability: that other people, drawn like these, would show a difference of the same sign."]
    if len(others) > 1:
        reading.append(f"Verdicts are corrected for {len(others)} runs being compared with {first} (Holm).")
    return "\n\n".join([*parts, "\n".join([*reading, *_noise_lines(comparison)])])


def _noise_lines(comparison: Comparison) -> list[str]:
    """Returns what is known about how far other seeds would move the scores, and where it is counted."""
    if found := comparison.noise:
        return [
            f"These are seeds of one recipe: their differences are noise. Standard deviation of {comparison.score} "
            f"between seeds: {found.deviation:.4f} ({found.degrees} degrees of freedom);",
            f"two seeds are less than {found.widest:.3f} apart in 95 % of cases, as far as so few trainings can tell.",
        ]
    first, *others = comparison.names
    of_each = dict(zip(others, comparison.differences, strict=True))
    known = {name: difference.noise for name, difference in of_each.items() if difference.noise}
    if not known:
        weights = "All of this is about these weights: another seed of the same recipe moves a score as well"
        return [f"{weights}; folds with --seeds say how far."]
    measured = (f"{noise.deviation:.4f} ({name}, {noise.degrees} degrees of freedom)" for name, noise in known.items())
    lines = [
        "Scores are means over seeds. The noise between trainings is in the differences, beside that of the people.",
        f"Its standard deviation, of one seed, is as {first} and the other show it: {', '.join(measured)}.",
    ]
    if unknown := [name for name in of_each if name not in known]:
        lines.append(f"It is not in the difference of {listed(unknown)}, trained once as {first} is.")
    return lines


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
        row |= {"deviation_of_seeds": difference.noise.deviation} if difference.noise else {}
        rows.append(row | {"num_people": difference.num_people, "num_photos": difference.num_photos})
    return rows


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested keys as dotted ones, with their values as text; numbers with 6 digits."""
    texts: dict[str, str] = {}
    for key, value in config.items():
        texts |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _text(value)}
    return texts


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
