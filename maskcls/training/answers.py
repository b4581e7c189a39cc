"""What a prediction leaves: an answer and probabilities for every photo, and scores where the labels are known.

Answers are read back here as well, to be compared with others.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow import ArrowException

from maskcls.errors import UserError, joined, listed, reason_of
from maskcls.evaluation.metrics import measure, values_of
from maskcls.evaluation.predictions import headline_of, read_probabilities, write_probabilities
from maskcls.labels import HEAD_CLASSES, num_classes, targets_of
from maskcls.paths import check_writable, write_json, written_whole
from maskcls.tables import read_table
from maskcls.training.run_folder import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from maskcls.data.dataset import Photos

    Integers = Tensor | np.ndarray  # (N,) int64

COLUMNS = ("ImageID", "ans")  # of every table of answers


@dataclass(frozen=True)
class Answers:
    """The files of a prediction by name, in the folder of its run or in another."""

    path: Path

    table = Entry("output.csv")  # ImageID, ans, and what was asked for besides
    probabilities = Entry(
        "probabilities.parquet"
    )  # ImageID, what was asked for besides, then {head}_{label} columns, float32
    scores = Entry("infer_metrics.json")
    confusion_matrix = Entry("infer_confusion_matrix.png")
    page = Entry("answers.html")  # to look at

    @classmethod
    def into(cls, folder: Path) -> Answers:
        """Returns where the answers go; `folder` is made when it is missing. Raises UserError when it takes none."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"output folder {folder} is not writable: {reason_of(error)}") from None
        check_writable("output folder", folder)
        return cls(folder)

    def save(
        self, image_ids: Sequence[str], answers: Integers, probabilities: Mapping[str, Any],
        *, columns: Mapping[str, Sequence[object]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Writes `table` and `probabilities`, both whole or not at all; what an earlier prediction left besides goes.

        answers: (N,) the headline's labels; probabilities: head -> (N, K), tensors or arrays. columns: what stands in
        both besides, name -> N cells. Raises what `written_whole` does.
        """
        arrays = {head: np.asarray(values, np.float32) for head, values in probabilities.items()}
        with written_whole(self.table) as table, written_whole(self.probabilities) as unfinished:
            write_probabilities(unfinished, {"ImageID": list(image_ids), **columns}, arrays)
            rows = zip(image_ids, answers.tolist(), *columns.values(), strict=True)
            with table.open("w", newline="", encoding="utf-8") as text:
                csv.writer(text, lineterminator="\n").writerows([(*COLUMNS, *columns), *rows])
            for former in (self.scores, self.confusion_matrix, self.page):
                former.unlink(missing_ok=True)

    def save_scores(self, scores: Mapping[str, Any]) -> None:
        """Writes `scores`. Raises what `written_whole` does."""
        with written_whole(self.scores) as unfinished:
            write_json(unfinished, scores)


def names_of(head: str, labels: Integers) -> list[str]:
    """Returns the labels (N,) of a head in words, the same in all languages: worn, female, 30-59."""
    return [HEAD_CLASSES[head][label] for label in labels.tolist()]


def answer_scores(
    answers: Mapping[str, np.ndarray], photos: Photos, trained_people: set[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns (what infer_metrics.json holds, head -> confusion counts) of answers (N,) by head, the headline first.

    trained_people: those that any of the models has learnt from.
    """
    headline = next(iter(answers))
    scores, matrices = measure(answers, targets_of(photos.labels, headline), output=headline)
    per_class = dict(zip(HEAD_CLASSES[headline], values_of("f1", matrices[headline]).tolist(), strict=True))
    seen = trained_people.intersection(photos.people)
    counts = {"photos": len(photos), "people": len(photos.people), "people_trained_on": len(seen)}
    return {**counts, **scores, "f1_per_class": per_class}, matrices


@dataclass(frozen=True)
class AnswerTable:
    """Answers as they were written, perhaps long ago and elsewhere."""

    path: Path
    image_ids: list[str]
    labels: np.ndarray  # (N,) int64
    probabilities: Mapping[str, np.ndarray]  # head -> (N, K); none where they do not lie beside

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def head(self) -> str | None:
        """What the answers are about; None: the numbers may be those of any of several."""
        if self.probabilities:
            return headline_of(self.probabilities)
        most = max(len(classes) for head, classes in HEAD_CLASSES.items() if head != "class")
        return "class" if self.labels.max() >= most else None


def read_answers(path: Path) -> AnswerTable:
    """Returns a table of answers: a file, or that of the folder that infer.py wrote to.

    Raises UserError when there is none, or with every row that is no answer.
    """
    path = Answers(path).table if path.is_dir() else path
    rows = read_table(path, f"table of answers {path}")
    header = rows[0][1] if rows else []
    if missing := [column for column in COLUMNS if header.count(column) != 1]:
        raise UserError(f"{path} needs the column {missing[0]} once; its first line has {listed(header) or 'nothing'}")
    name_at, label_at = map(header.index, COLUMNS)
    labels: dict[str, int] = {}
    problems = []
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            problem = f"{len(cells)} cells, but the header has {len(header)}"
        elif (name := cells[name_at]) in labels:
            problem = f"duplicate {name}"
        elif not re.fullmatch("[0-9]{1,2}", cells[label_at]) or int(cells[label_at]) >= num_classes("class"):
            problem = f"{cells[label_at]!r} is no answer, which is a number from 0 to {num_classes('class') - 1}"
        else:
            labels[name] = int(cells[label_at])
            continue
        problems.append(f"{path}, line {line}: {problem}")
    if problems or not labels:
        raise UserError(joined(problems, "problems in a table of answers") if problems else f"{path} has no rows")
    answers = np.array(list(labels.values()))
    return AnswerTable(path, list(labels), answers, _probabilities_beside(path, list(labels), answers))


def _probabilities_beside(path: Path, image_ids: list[str], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns those that were written with a table, none when they are of other photos or answers."""
    try:
        columns, probabilities = read_probabilities(Answers(path.parent).probabilities)
    except (OSError, ArrowException, KeyError):  # answers can be compared without
        return {}
    fits = columns["ImageID"].tolist() == image_ids and labels.max() < len(HEAD_CLASSES[headline_of(probabilities)])
    return probabilities if fits else {}
