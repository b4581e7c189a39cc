"""answers.html: what was answered, to look at before it is handed in: counts, doubts, disagreement, photos by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.errors import in_a_line
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, likeliest
from maskcls.paths import read_json, written_whole
from maskcls.reporting.report.document import document
from maskcls.reporting.text import short_names
from maskcls.reporting.thumbnails import packed
from maskcls.training.answerer import Answerer, Mean, Probabilities, Said
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

NUM_LEAST_SURE = 16  # photos of each attribute
NUM_DISPUTED = 24  # photos
NUM_IN_SHEET = 160  # photos of all labels together
CARD, SMALL = 128, 112  # pixels: the longer side of a photo on a card, and of one in the sheet


@dataclass(frozen=True)
class Answered:
    """What was answered about N photos, and by whom."""

    image_ids: Sequence[str]
    paths: Sequence[str]  # where the photos lie
    labels: Mapping[str, np.ndarray]  # head -> (N,) what was decided, the headline's first
    probabilities: Probabilities  # head -> (N, K) that it was decided from
    # Of an ensemble: member -> head -> (N, K).
    members: Mapping[str, Probabilities] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The head that the answers are about."""
        return next(iter(self.labels))

    @property
    def attributes(self) -> list[str]:
        """The attributes that were answered."""
        return [head for head in ATTRIBUTES if head in self.labels]

    def sureness(self, head: str) -> np.ndarray:
        """Returns the probability (N,) of what was answered."""
        return np.take_along_axis(self.probabilities[head], self.labels[head][:, None], axis=1)[:, 0]

    @cached_property
    def votes(self) -> dict[str, np.ndarray]:
        """The headline's likeliest label (N,) of each member, which may leave nobody."""
        return {name: likeliest(said[self.headline]) for name, said in self.members.items()}


def of_members(answerer: Answerer, said: Said) -> dict[str, Probabilities]:
    """Returns what each member of a mean says, by name; nothing of those that are no mean."""
    members = answerer.members if isinstance(answerer, Mean) else ()
    return {member.name: member.combined(said) for member in members}


def page_line(path: Path, answered: Answered, runs: Iterable[RunFolder], word: Words) -> str:
    """Writes the page and returns a line that says where it lies, or why there is none: answers are worth more."""
    try:
        write_answers_page(path, answered, runs, word)
    except Exception as error:
        return word("no_page", reason=in_a_line(error))
    return word("where_page", path=path)


def write_answers_page(path: Path, answered: Answered, runs: Iterable[RunFolder], word: Words) -> None:
    """Writes the page. Raises what `written_whole` does. Call it in one process of a launch.

    It opens no more than some hundred photos, however many were answered. runs: whose training photos the answers are
    compared with.
    """
    sections = {"answer_counts": counts(answered, list(runs), word), "least_sure": least_sure(answered, word)}
    if len(answered.members) > 1:
        sections["disagreement"] = disagreement(answered, word)
    sections["contact_sheet"] = contact_sheet(answered, word)
    name, kind = path.parent.name, word("kind_of_answers")
    page = document(word, sections, kind=kind, title=f"{kind}: {name}", name=name, about=word(answered.headline))
    with written_whole(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def counts(answered: Answered, runs: Sequence[RunFolder], word: Words) -> dict[str, Any]:
    """Returns how often each label was answered, beside its share of the photos that the runs were trained on."""
    trained = [read_json(run.class_counts) for run in runs]
    tables = {}
    for head, labels in answered.labels.items():
        found = np.bincount(labels, minlength=len(HEAD_CLASSES[head]))
        learnt = np.sum([of_run[head] for of_run in trained if head in of_run], axis=0) if all(trained) else 0
        shares, expected = found / len(labels), learnt / max(np.sum(learnt), 1)
        top = max(shares.max(), np.max(expected))
        rows = zip(word.class_names(head), found.tolist(), shares, np.broadcast_to(expected, found.shape), strict=True)
        tables[head] = {"rows": list(rows), "top": top}
    sureness = answered.sureness(answered.headline)
    facts = {"photos": f"{len(sureness):,}", "mean_confidence": f"{sureness.mean():.1%}"}
    if len(answered.members) > 1:
        votes = np.stack(list(answered.votes.values()))
        facts["unanimous"] = f"{(votes == votes[0]).all(0).mean():.1%}"
    return {"facts": facts, "tables": tables, "has_training": bool(trained) and all(trained)}


def least_sure(answered: Answered, word: Words) -> dict[str, Any]:
    """Returns for each attribute the cards of the photos with the least probable answers."""
    chosen = {head: np.argsort(answered.sureness(head), kind="stable")[:NUM_LEAST_SURE] for head in answered.attributes}
    images = _images(answered, np.concatenate(list(chosen.values())), CARD)
    return {
        "cards": {head: [_card(answered, head, row, images, word) for row in rows] for head, rows in chosen.items()}
    }


def disagreement(answered: Answered, word: Words) -> dict[str, Any]:
    """Returns how often each two members answer differently, and the photos about which most of them do."""
    names, head = dict(zip(answered.members, short_names(list(answered.members)), strict=True)), answered.headline
    differ = {pair: answered.votes[pair[0]] != answered.votes[pair[1]] for pair in combinations(names, 2)}
    shares = {pair: differs.mean() for pair, differs in differ.items()}
    num_pairs = np.sum(list(differ.values()), axis=0)
    order = np.lexsort((answered.sureness(head), -num_pairs))  # of those alike the least sure first
    rows = order[: min(NUM_DISPUTED, np.count_nonzero(num_pairs))]
    images = _images(answered, rows, CARD)
    cards = []
    for row in rows:
        votes = {names[member]: int(labels[row]) for member, labels in answered.votes.items()}
        said = {label: [name for name, vote in votes.items() if vote == label] for label in votes.values()}
        by_number = sorted(said.items(), key=lambda item: -len(item[1]))
        votes_of = [(word.class_name(head, label), of) for label, of in by_number]
        cards.append(_card(answered, head, row, images, word) | {"votes": votes_of})
    shares |= {(b, a): share for (a, b), share in shares.items()}
    table = [[shares.get((a, b)) for b in names] for a in names]
    return {"names": list(names.values()), "table": table, "cards": cards}


def contact_sheet(answered: Answered, word: Words) -> dict[str, Any]:
    """Returns some photos of every label that was answered, evenly out of all of them."""
    head, labels = answered.headline, answered.labels[answered.headline]
    each = NUM_IN_SHEET // len(HEAD_CLASSES[head])
    by_label = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
    chosen = {label: rows[:: -(-len(rows) // each)] for label, rows in by_label.items()}
    images = _images(answered, np.concatenate(list(chosen.values())), SMALL)
    sheets = []
    for label, rows in chosen.items():
        cards = [_card(answered, head, row, images, word) for row in rows]
        sheets.append({"name": word.class_name(head, label), "count": len(by_label[label]), "cards": cards})
    return {"sheets": sheets}


def _card(answered: Answered, head: str, row: int, images: Mapping[int, str | None], word: Words) -> dict[str, Any]:
    """Returns a photo with its answer and the likeliest other one, and how probable both are."""
    values, label = answered.probabilities[head][row], int(answered.labels[head][row])
    other = int(np.argmax(np.where(np.arange(len(values)) == label, -1, values)))
    said = [(word.class_name(head, answer), float(values[answer])) for answer in (label, other)]
    return {"id": answered.image_ids[row], "image": images[row], "said": said}


def _images(answered: Answered, rows: np.ndarray, size: int) -> dict[int, str | None]:
    """Returns row -> small picture, None where the photo cannot be read."""
    paths = {row: Path(answered.paths[row]) for row in rows.tolist()}
    images = packed(paths.values(), size)
    return {row: images[path] for row, path in paths.items()}
