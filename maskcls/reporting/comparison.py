"""Run folders side by side: their configs, their scores, and what can be said about the difference.

What `maskcls compare` prints, saves and draws. Reads the files of a run without torch, so that it answers at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls.errors import UserError, did_you_mean, joined
from maskcls.evaluation.intervals import Difference, Interval, paired_difference, score_intervals
from maskcls.evaluation.predictions import Predictions, combined_attributes, joined_people
from maskcls.labels import HEAD_CLASSES
from maskcls.paths import full_path, written_whole
from maskcls.reporting.figure import new_figure
from maskcls.reporting.text import aligned
from maskcls.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Keys that say where and how a run works, not what it learns.
RUNTIME_KEYS = (
    "name", "model_dir", "cache", "cache_dir", "num_workers", "valid_batch_size", "log_interval",
    "checkpoint_interval", "wandb", "wandb_project", "tensorboard", "infer_data_dir",
)  # fmt: skip
WIDEST_CELL = 40  # characters of a config value in the printed table
# Files of fonts with Hangul, as Linux, Windows and macOS name them.
HANGUL_FONTS = ("NotoSansCJK-Regular", "NotoSansCJKkr-Regular", "NanumGothic", "malgun", "AppleSDGothicNeo")


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
    differences: list[Difference]  # of each later run and the first
    verdicts: list[str]  # for each: better, worse or not distinguishable
    notes: list[str]  # which people, and what else a reader must know


def read_run(text: str) -> Run:
    """Returns the run that an argument of `maskcls compare` names.

    `runs/a`; three single-attribute runs as `runs/mask+runs/gender+runs/age`; folds of one recipe as
    `runs/f0,runs/f1,...`. Raises UserError when a folder is not a finished run or when the parts do not fit together.
    """
    folds = [[full_path(part) for part in _split(fold, "+")] for fold in _split(text, ",")]
    configs, tables = [], []
    for folders in folds:
        configs += [flat(RunFolder(folder).read_config()) for folder in folders]
        parts = [Predictions.load(RunFolder(folder).predictions) for folder in folders]
        tables.append(combined_attributes(parts) if len(parts) > 1 else parts[0])
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: dict.fromkeys(config.get(key, "-") for config in configs) for key in keys}
    config = {key: " | ".join(texts) for key, texts in values.items() if key not in RUNTIME_KEYS}
    return Run(text, config, joined_people(tables) if len(tables) > 1 else tables[0])


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
    short = [re.sub(r"[^+,]*/(?=[^+,/])", "", text).rstrip("/") for text in texts]
    names = short if len(set(short)) == len(short) else texts
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def compare(runs: Sequence[Run], *, score: str = "f1", only_common: bool = False) -> Comparison:
    """Returns the runs side by side, and each later one against the first.

    `score` is a name of metrics.jsonl; without a head it is about what all runs predict: the 18 classes, or else the
    attribute. Raises UserError when the runs validated different photos and `only_common` is not set, when none is in
    common, when they predict different things, or when the score is unknown.
    """
    spoken = [run.predictions.probabilities for run in runs]
    heads = [head for head in HEAD_CLASSES if all(head in probabilities for probabilities in spoken)]
    if not heads:
        raise UserError(
            f"the runs predict different things: {', '.join(f'{r.name} {r.predictions.headline}' for r in runs)}. "
            "Three attribute runs are compared with others as runs/mask+runs/gender+runs/age"
        )
    headline = "class" if "class" in heads else heads[0]
    known = {name if head == headline else f"{head}_{name}": (head, name) for head in heads for name in ("acc", "f1")}
    wanted = score.removeprefix(f"{headline}_")
    if wanted not in known:
        raise UserError(f"unknown score {score!r}.{did_you_mean(score, list(known))} Known: {', '.join(known)}")
    tables, notes = _on_the_same_photos(runs, only_common=only_common)
    intervals = [score_intervals(table) for table in tables]
    first = tables[0]
    head, name = known[wanted]
    differences = [
        paired_difference(first, t, first.score_name(head, name) if t.headline == first.headline else f"{head}_{name}")
        for t in tables[1:]
    ]
    prefix = "" if headline == "class" else f"{headline}_"  # a lone f1 would be read as that of the 18 classes
    keys = dict.fromkeys(key for run in runs for key in run.config)
    config = {key: [run.config.get(key, "-") for run in runs] for key in keys}
    return Comparison(
        tuple(run.name for run in runs),
        {key: values for key, values in config.items() if len({*values}) > 1},
        {
            f"{prefix}{name}": [i[table.score_name(*place)] for i, table in zip(intervals, tables, strict=True)]
            for name, place in known.items()
        },
        f"{prefix}{wanted}", differences, verdicts(differences), notes,
    )  # fmt: skip


def verdicts(differences: Sequence[Difference]) -> list[str]:
    """Returns better, worse or not distinguishable for each, corrected for their number.

    A difference counts when its 95 % interval leaves out 0 and its two-sided probability of chance stays below 5 %
    after Holm's correction. Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    chances = [2 * min(d.probability_better, 1 - d.probability_better) for d in differences]
    words = []
    for difference, chance in zip(differences, holm(chances), strict=True):
        is_real = difference.is_clear and chance < 0.05
        words.append("not distinguishable" if not is_real else "better" if difference.interval.value > 0 else "worse")
    return words


def holm(chances: Sequence[float]) -> list[float]:
    """Returns p values corrected by Holm's method, in the order given."""
    corrected, largest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = largest
    return corrected


def _on_the_same_photos(runs: Sequence[Run], *, only_common: bool) -> tuple[list[Predictions], list[str]]:
    """Returns each run's predictions of the photos that all validated, in the same order and with the same labels."""
    tables = [run.predictions for run in runs]
    keys = [np.char.add(np.char.add(table.people, "/"), table.files) for table in tables]
    common = reduce(np.intersect1d, keys)
    orders = [np.argsort(own) for own in keys]
    rows = [order[np.searchsorted(own, common, sorter=order)] for own, order in zip(keys, orders, strict=True)]
    same = [table.rows(which) for table, which in zip(tables, rows, strict=True)]
    people = f"{len(np.unique(same[0].people)):,} people ({len(common):,} photos)"
    each = [
        f"{run.name} {len(np.unique(table.people)):,} people ({len(table):,} photos)"
        for run, table in zip(runs, tables, strict=True)
    ]
    notes = [f"{people} that all runs validated"]
    if any(len(own) > len(common) for own in keys):
        if not len(common):
            raise UserError(f"the runs have no validated person in common: {', '.join(each)}")
        if not only_common:
            raise UserError(
                f"the runs validated different people or photos: {', '.join(each)}; {people} are common to all. "
                "Compare them on these with --common, or train with the same valid_profile"
            )
        notes = [f"{notes[0]}; of {', '.join(each)}"]
    labels = same[0].labels
    for run, table in zip(runs[1:], same[1:], strict=True):
        if num_other := int((table.labels != labels).any(1).sum()):
            notes.append(
                f"{num_other:,} photos carry other labels in {run.name}; those of {runs[0].name} count for all"
            )
    return [replace(table, labels=labels) for table in same], notes


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
        [name, signed(difference.interval), _percent(_sureness(difference)), verdict]
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
        rows.append({
            "what": "difference", "name": comparison.score, "run": run, **vars(difference.interval),
            "probability": _sureness(difference), "verdict": verdict, "num_people": difference.num_people,
            "num_photos": difference.num_photos,
        })  # fmt: skip
    return rows


def comparison_picture(comparison: Comparison) -> Figure:
    """Returns the picture: every run's score and every difference from the first, dots with 95 % intervals."""
    figure = new_figure(figsize=(11, 1.6 + 0.45 * len(comparison.names)), dpi=120, layout="constrained")
    names, families = drawable_names(comparison.names)
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, comparison.scores[comparison.score], ["tab:blue"] * len(names))
    left.set_title(f"{comparison.score}, 95 % intervals over people")
    left.set_yticks(range(len(names)), names, fontfamily=families)
    left.invert_yaxis()  # shared: the first run stands on top of both
    differences = [Interval(0, 0, 0), *(difference.interval for difference in comparison.differences)]
    words = ["", *comparison.verdicts]
    colours = {"better": "tab:green", "worse": "tab:red"}
    _dots(right, differences, [colours.get(word, "tab:gray") for word in words])
    right.axvline(0, color="black", linewidth=0.8)
    for place, (interval, word) in enumerate(zip(differences, words, strict=True)):
        right.annotate(
            word, (interval.value, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    right.set_title(f"difference from {names[0]}", fontfamily=families)
    right.set_ylim(len(names) - 0.5, -0.7)
    return figure


def drawable_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns names as a picture can show them, without boxes, and the font families to draw them with.

    Hangul needs an installed font; without one it is written in Latin letters: 실험 as silheom. Of any other character
    that no font has its code is drawn.
    """
    from matplotlib import font_manager, rcParams

    families = list(rcParams["font.family"])
    fonts = [font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))]
    if not all(map(str.isascii, names)):
        # The folders are read, because matplotlib keeps a list that is older than a font installed since.
        files = {Path(file).stem: file for file in font_manager.findSystemFonts()}
        for file in [files[name] for name in HANGUL_FONTS if name in files][:1]:
            font_manager.fontManager.addfont(file)
            fonts.append(font_manager.get_font(file))
            families.append(fonts[-1].family_name)

    def shown(character: str) -> str:
        if any(font.get_char_index(ord(character)) for font in fonts):
            return character
        syllable = re.fullmatch("HANGUL SYLLABLE (.+)", unicodedata.name(character, ""))
        return syllable[1].lower() if syllable else character.encode("ascii", "backslashreplace").decode()

    # macOS spells a syllable of a folder's name in parts, which fonts draw side by side.
    return ["".join(map(shown, unicodedata.normalize("NFC", name))) for name in names], families


def _dots(axes: Any, intervals: Sequence[Interval], colours: Sequence[str]) -> None:
    for place, (interval, colour) in enumerate(zip(intervals, colours, strict=True)):
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
        axes.plot(interval.value, place, "o", color=colour)
    axes.grid(axis="x", alpha=0.3)


def save_figure(path: Path, figure: Figure) -> None:
    """Writes a picture in the form that the ending names. Raises UserError when there is none or writing fails."""
    if not path.suffix:  # matplotlib would write another file
        raise UserError(f"{path} has no ending that says which form the picture has: .png, .svg or .pdf")
    try:
        with written_whole(path) as unfinished:
            figure.savefig(unfinished)
    except ValueError as error:  # an ending that matplotlib does not know
        raise UserError(f"{path}: {error}") from None


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested keys as dotted ones, with their values as text; numbers with 6 digits."""
    texts: dict[str, str] = {}
    for key, value in config.items():
        texts |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _text(value)}
    return texts


def signed(interval: Interval) -> str:
    """Returns a difference as +0.012 [-0.004, +0.028]."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _split(text: str, separator: str) -> list[str]:
    """Returns the parts of an argument; a folder whose own name holds the separator stays whole."""
    return [text] if full_path(text).is_dir() else text.split(separator)


def _sureness(difference: Difference) -> float:
    """Returns the share of resamples that lie on the side of the difference seen."""
    better = difference.probability_better
    return better if difference.interval.value > 0 else 1 - better


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
