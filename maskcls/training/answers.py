"""What a prediction leaves: an answer and probabilities for every photo, and scores where the labels are known."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from maskcls.errors import UserError, reason_of
from maskcls.evaluation.predictions import write_probabilities
from maskcls.paths import check_writable, write_json, written_whole
from maskcls.training.run_folder import Entry


@dataclass(frozen=True)
class Answers:
    """The files of a prediction by name, in the folder of its run or in another."""

    path: Path

    table = Entry("output.csv")  # ImageID, ans
    probabilities = Entry("probabilities.parquet")  # ImageID, then {head}_{label} columns, float32
    scores = Entry("infer_metrics.json")
    confusion_matrix = Entry("infer_confusion_matrix.png")

    @classmethod
    def into(cls, folder: Path) -> Answers:
        """Returns where the answers go; `folder` is made when it is missing. Raises UserError when it takes none."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"output folder {folder} is not writable: {reason_of(error)}") from None
        check_writable("output folder", folder)
        return cls(folder)

    def save(self, image_ids: Sequence[str], answers: Tensor, probabilities: Mapping[str, Tensor]) -> None:
        """Writes `table` and `probabilities`, both whole or not at all; what an earlier prediction scored goes.

        answers: (N,) the headline's labels; probabilities: head -> (N, K). Raises what `written_whole` does.
        """
        arrays = {head: values.numpy() for head, values in probabilities.items()}
        with written_whole(self.table) as table, written_whole(self.probabilities) as unfinished:
            write_probabilities(unfinished, {"ImageID": list(image_ids)}, arrays)
            rows = zip(image_ids, answers.tolist(), strict=True)
            with table.open("w", newline="", encoding="utf-8") as text:
                csv.writer(text, lineterminator="\n").writerows([("ImageID", "ans"), *rows])
            for former in (self.scores, self.confusion_matrix):
                former.unlink(missing_ok=True)

    def save_scores(self, scores: Mapping[str, Any]) -> None:
        """Writes `scores`. Raises what `written_whole` does."""
        with written_whole(self.scores) as unfinished:
            write_json(unfinished, scores)
