"""Two tables of answers about the same photos: which answers differ, and about what. `maskcls diff` prints it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from maskcls.errors import UserError, listed
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, labels_of
from maskcls.reporting.text import aligned, short_names
from maskcls.training.answers import AnswerTable, names_of
from maskcls.words import Words

COLUMNS = ("ImageID", "ans_a", "ans_b", "name_a", "name_b")
NUM_SHOWN = 20  # photos, and kinds of change, that the console names


@dataclass(frozen=True)
class Difference:
    """How the answers of one table, before, differ from those of another, after."""

    names: tuple[str, str]
    head: str | None  # what the answers are about; None: not known
    image_ids: np.ndarray  # (N,) str
    before: np.ndarray  # (N,) int64 labels
    after: np.ndarray  # (N,)
    sureness: tuple[np.ndarray | None, np.ndarray | None]  # (N,) each: how probable each was held; None: not known

    @property
    def rows(self) -> np.ndarray:
        """The photos that are answered differently."""
        return np.flatnonzero(self.before != self.after)

    @property
    def of_attributes(self) -> dict[str, int]:
        """The number of photos on which an attribute is answered differently, where answers are classes."""
        if self.head != "class":
            return {}
        before, after = labels_of(self.before), labels_of(self.after)
        return {head: int((before[head] != after[head]).sum()) for head in ATTRIBUTES}

    @property
    def kinds(self) -> list[tuple[tuple[int, int], int]]:
        """The changes of a label to another with their numbers of photos, the most frequent first."""
        pairs = zip(self.before[self.rows].tolist(), self.after[self.rows].tolist(), strict=True)
        return sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))

    def label(self, label: int, word: Words) -> str:
        """Returns an answer as a person reads it: its number, where it is not known what it is about."""
        return word.class_name(self.head, int(label)) if self.head else str(label)

    def change(self, before: int, after: int, word: Words) -> str:
        """Returns a change of an answer to another as a person reads it."""
        return f"{self.label(before, word)} → {self.label(after, word)}"


def difference_of(before: AnswerTable, after: AnswerTable) -> Difference:
    """Returns how two tables differ, whatever their order.

    Raises UserError when they are not about the same photos, or not about the same thing.
    """
    ids = set(before.image_ids), set(after.image_ids)
    parts = (before.path, ids[0] - ids[1]), (after.path, ids[1] - ids[0])
    if only := [f"{len(names):,} only in {path} ({listed(sorted(names))})" for path, names in parts if names]:
        raise UserError(f"the tables are about other photos: {'; '.join(only)}; {len(ids[0] & ids[1]):,} in both")
    heads = [table.head for table in (before, after)]
    known = list(dict.fromkeys(filter(None, heads)))
    if len(known) > 1:
        raise UserError(f"the tables answer other questions: {before.path} {heads[0]}, {after.path} {heads[1]}")
    head = known[0] if known else None
    for table, other in ((before, after), (after, before)):
        if head and table.labels.max() >= len(HEAD_CLASSES[head]):
            raise UserError(f"{table.path} has answers that are not about {head}, as those of {other.path} are")
    place = {name: row for row, name in enumerate(after.image_ids)}
    order = np.array([place[name] for name in before.image_ids])
    sureness = _sureness(before), _sureness(after)
    paths = [table.path for table in (before, after)]
    folders = [path.parent for path in paths] if paths[0].name == paths[1].name else paths
    first, second = short_names(list(map(str, folders)))
    return Difference(
        names=(first, second),
        head=head,
        image_ids=np.array(before.image_ids),
        before=before.labels,
        after=after.labels[order],
        sureness=(sureness[0], None if sureness[1] is None else sureness[1][order]),
    )


def _sureness(table: AnswerTable) -> np.ndarray | None:
    if not table.probabilities:
        return None
    return np.take_along_axis(table.probabilities[str(table.head)], table.labels[:, None], axis=1)[:, 0]


def difference_text(difference: Difference, word: Words) -> str:
    """Returns how many answers differ, about what, and the first photos."""
    total, rows = len(difference.before), difference.rows
    parts = [word("differ", total=total, count=len(rows), share=len(rows) / total)]
    if not len(rows):
        return parts[0]
    if difference.head is None:
        parts.append(word("head_unknown"))
    if of := difference.of_attributes:
        parts.append(aligned([[word(head), f"{count:,}", f"{count / total:.1%}"] for head, count in of.items()]))
    kinds = [[difference.change(*pair, word), f"{count:,}"] for pair, count in difference.kinds]
    names = " → ".join(difference.names)
    parts.append(aligned([[names, word("photos")], *kinds[:NUM_SHOWN]]))
    if len(kinds) > NUM_SHOWN:
        parts[-1] += "\n" + word("more", count=len(kinds) - NUM_SHOWN)
    shown = rows[:NUM_SHOWN].tolist()
    changes = [difference.change(difference.before[row], difference.after[row], word) for row in shown]
    parts.append(aligned(list(zip(difference.image_ids[shown].tolist(), changes, strict=True))))
    if len(rows) > NUM_SHOWN:
        parts[-1] += "\n" + word("more_photos", count=len(rows) - NUM_SHOWN)
    return "\n\n".join(parts)


def difference_rows(difference: Difference) -> list[list[object]]:
    """Returns the photos that are answered differently as rows of a table with COLUMNS."""
    rows, head = difference.rows, difference.head
    answers = [labels[rows] for labels in (difference.before, difference.after)]
    names = [names_of(head, labels) if head else [""] * len(rows) for labels in answers]
    return list(
        map(list, zip(difference.image_ids[rows].tolist(), *map(np.ndarray.tolist, answers), *names, strict=True))
    )
