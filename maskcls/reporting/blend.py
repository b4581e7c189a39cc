"""`maskcls blend`: candidates read and checked, what is printed about their blend, and the blend.yaml that is saved.

infer.py answers with that file. Reads the files of runs without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from maskcls.errors import UserError, joined
from maskcls.evaluation import paired
from maskcls.evaluation.blend import MEASURE, Blend, agreement
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.predictions import Predictions
from maskcls.reporting.text import aligned, short_names, signed
from maskcls.training.blend_file import BlendFile, is_blend_file
from maskcls.training.ensemble import Answerer, read_ensemble
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

SCORED = ("blend", "best_single", "mean")  # what a Blend has scores of


@dataclass(frozen=True)
class Candidate:
    """What may become a member: a run, three attribute runs as one, or folds."""

    name: str  # as short as tells candidates apart
    text: str  # as --model_dir takes it
    answerer: Answerer
    predictions: Predictions  # of people that it has not learnt from


def read_candidates(texts: Sequence[str]) -> list[Candidate]:
    """Returns candidates about the same photos in one order.

    Raises UserError with every candidate that cannot be read, has not finished, is about another task or other photos,
    or has learnt from people that it would be scored on.
    """
    if len(texts) < 2:
        raise UserError("a blend needs two candidates or more, as in maskcls blend runs/exp runs/exp1")
    found: list[Candidate] = []
    problems: list[str] = []
    for text, name in zip(texts, short_names(texts), strict=True):
        try:
            if is_blend_file(text):
                raise UserError(f"{text} is a blend itself: name its members")
            answerer = read_ensemble(text)
            if own_problems := [problem for run in answerer.runs for problem in _problems_of(run)]:
                problems += own_problems
            else:
                found.append(Candidate(name, text, answerer, answerer.predictions()))
        except UserError as error:
            problems.append(str(error) if text in str(error) else f"{text}: {error}")
    problems += _problems_together(found)
    if problems:
        raise UserError(joined(problems, "problems of candidates that cannot be blended"))
    tables = paired.on_common_photos([one.predictions for one in found])
    return [replace(one, predictions=table) for one, table in zip(found, tables, strict=True)]


def _problems_of(run: RunFolder) -> Iterator[str]:
    """Yields why a run cannot be a member, or part of one."""
    try:
        RunFolder.existing(run.path)
        validated = set(run.read_predictions().people.tolist())
    except UserError as error:
        yield str(error)
        return
    if not run.best.is_dir():
        yield f"{run.path} has no best/: its training ended before the first epoch did"
    if run.last.exists() and not run.finished.exists():
        yield f"{run.path} has not finished: its predictions are not yet those that it will end with"
    if not run.train_profiles.is_file():
        yield f"{run.path} has no {run.train_profiles.name}, which says whom it has learnt from"
    if learnt := run.trained_people() & validated:
        yield f"{run.path} was trained on {len(learnt):,} of the people that it validated, for example {min(learnt)}"


def _problems_together(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Yields why candidates, which may be none, cannot be scored on the same photos."""
    if not candidates:
        return
    tasks = {one.name: one.predictions.headline for one in candidates}
    if len({*tasks.values()}) > 1:
        named = ", ".join(f"{name} {head}" for name, head in tasks.items())
        yield (
            f"the candidates predict different things: {named}; "
            "three attribute runs are one candidate as runs/mask+runs/gender+runs/age"
        )
        return
    people = [set(one.predictions.people.tolist()) for one in candidates]
    everybody = set().union(*people)
    for one, own in zip(candidates, people, strict=True):
        missing = everybody - own
        if learnt := missing & one.answerer.trained_people():
            yield (
                f"{one.name} was trained on {len(learnt):,} of the people that others validated, for example "
                f"{min(learnt)}, and would be scored on what it remembers: blend folds, or runs of one valid_profile"
            )
        elif missing:
            yield (
                f"{one.name} did not validate {len(missing):,} of the people that others did, for example "
                f"{min(missing)}: blend folds that cover each other, or runs of one valid_profile"
            )
    if any(own != everybody for own in people):
        return
    tables = paired.on_common_photos([one.predictions for one in candidates])
    for one, table in zip(candidates, tables, strict=True):
        if num_others := len(one.predictions) - len(table):
            yield f"{one.name} validated {num_others:,} photos of these people that others did not"
        if (is_other := (table.labels != tables[0].labels).any(1)).any():
            yield (
                f"{one.name} gives {is_other.sum():,} photos other labels than {candidates[0].name}, for example "
                f"{table.keys[is_other][0]}: train both with the same label_fixes"
            )


def blend_file(candidates: Sequence[Candidate], found: Blend) -> BlendFile:
    """Returns what is saved of a blend."""
    chosen = [(one.text, count) for one, count in zip(candidates, found.counts.tolist(), strict=True) if count]
    scores = {name: asdict(interval) for name, interval in zip(SCORED, found.scores, strict=True)}
    gains = {f"above_{name}": asdict(gain.interval) for name, gain in zip(SCORED[1:], found.differences, strict=True)}
    about = {"measure": MEASURE, "num_people": found.differences[0].num_people, "num_photos": len(found.answers)}
    decision = Decision.fit_tempered(found.answers)
    return BlendFile(dict(chosen), decision, {**about, **scores, **gains})


def blend_text(names: Sequence[str], found: Blend, word: Words) -> str:
    """Returns the blend for the console: people, candidates and weights, scores, differences, agreement of answers."""
    num_people, num_parts = found.differences[0].num_people, len(found.counts_without)
    about = word("blend_about", people=num_people, photos=len(found.answers), parts=num_parts, others=num_parts - 1)
    numbered = [f"{number:{len(str(len(names)))}}  {name}" for number, name in enumerate(names, start=1)]
    measure = word.measure(MEASURE)

    shares, times = found.counts / found.counts.sum(), (found.counts_without > 0).sum(0)
    weights = [f"{count} ({share:.0%})" for count, share in zip(found.counts, shares, strict=True)]
    parts = [f"{number}/{num_parts}" for number in times]
    heads = [word("blend_candidate"), measure, word("blend_weight"), word("blend_parts")]
    members = [heads, *map(list, zip(numbered, map(str, found.alone), weights, parts, strict=True))]

    titles = [word("the_blend"), word("the_best_single"), word("the_mean")]
    scores = [["", measure], *([title, str(interval)] for title, interval in zip(titles, found.scores, strict=True))]
    chosen = [name for name, count in zip(names, found.counts, strict=True) if count]
    says = [word("blend_is_one", name=chosen[0])] if len(chosen) == 1 else []
    for title, difference in zip(titles[1:], found.differences, strict=True):
        interval = difference.interval
        scores.append([word("blend_against", other=title), signed(interval)])
        key = "says_alike" if not interval.is_clear else "says_better" if interval.value > 0 else "says_worse"
        value = f"{interval.value:+.3f}" if key == "says_alike" else f"{abs(interval.value):.3f}"
        says.append(word(key, other=title, score=measure, difference=value))

    same, kappas = agreement(found.candidates)
    matrix = [[word("blend_agreement"), *map(str, range(1, len(names) + 1))]]
    for row, title in enumerate(numbered):
        above, below = ([f"{value:.3f}" for value in values[row]] for values in (same, kappas))
        matrix.append([title, *below[:row], "-", *above[row + 1 :]])
    return "\n\n".join([about, aligned(members), aligned(scores), "\n".join(says), aligned(matrix)])
