"""What a model said about photos of known people, whatever form its head has; the file that a run keeps it in.

Reports, comparisons and the search for wrong labels read only this, so that all head forms can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import ArrowException, OSFile, parquet

from maskcls.errors import UserError
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, labels_of, likeliest, targets_of
from maskcls.paths import replacing

LABEL_COLUMNS = tuple(attribute.column for attribute in ATTRIBUTES.values())
COLUMNS = {"people": "profile", "files": "file", "paths": "path", "ages": "age", "races": "race"}  # of the file
FACTS = (*COLUMNS, "labels")  # of each photo, beside the probabilities
NUM_PARTS = 5  # of the people: what is fitted on four of them is judged on the fifth


@dataclass(frozen=True)
class Predictions:
    """N photos, their truth, and the probabilities of every head that the model speaks about."""

    people: np.ndarray  # (N,) str: profile folder names
    files: np.ndarray  # (N,) str: file names inside them
    paths: np.ndarray  # (N,) str: where they lay; empty in the file of an older version
    labels: np.ndarray  # (N, attributes) int64
    ages: np.ndarray  # (N,) int64 years
    races: np.ndarray  # (N,) str
    probabilities: Mapping[str, np.ndarray]  # head -> (N, K) float32

    def __len__(self) -> int:
        return len(self.people)

    @property
    def headline(self) -> str:
        """The head that the main score is about: the classes when the model speaks about all attributes."""
        return headline_of(self.probabilities)

    @property
    def attributes(self) -> list[str]:
        """The attributes that the model speaks about."""
        return [head for head in ATTRIBUTES if head in self.probabilities]

    @cached_property
    def keys(self) -> np.ndarray:
        """What tells photos apart, (N,) str: person/file."""
        return np.char.add(np.char.add(self.people, "/"), self.files)

    def truth(self, head: str) -> np.ndarray:
        """Returns the true labels (N,) of a head."""
        return targets_of(self.labels, head)[head]

    def predicted(self, head: str) -> np.ndarray:
        """Returns the predicted labels (N,) of a head: those of metrics.jsonl.

        Where there are classes, an attribute is the one of the likeliest class, so that all answers fit together.
        """
        if head in ATTRIBUTES and "class" in self.probabilities:
            return labels_of(likeliest(self.probabilities["class"]))[head]
        return likeliest(self.probabilities[head])

    def photo(self, row: int, data_dir: str | Path) -> Path:
        """Returns the path of a photo: where it lay, or, when it is gone, where the profile folders lie now."""
        path = Path(self.paths[row])
        return path if path.is_file() else Path(data_dir, self.people[row], self.files[row])

    def rows(self, which: np.ndarray) -> Predictions:
        """Returns the photos that `which` selects: (N,) bool, or row numbers."""
        chosen = {head: values[which] for head, values in self.probabilities.items()}
        return Predictions(**{name: getattr(self, name)[which] for name in FACTS}, probabilities=chosen)

    def save(self, path: Path) -> None:
        """Writes Parquet: profile, file, path, LABEL_COLUMNS, age, race, then {head}_{label} columns, float32."""
        facts = {"profile": self.people, "file": self.files, "path": self.paths}
        facts |= {name: self.labels[:, number] for number, name in enumerate(LABEL_COLUMNS)}
        facts |= {"age": self.ages, "race": self.races}
        with replacing(path) as unfinished:
            write_probabilities(unfinished, facts, self.probabilities)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Returns what `save` wrote. Raises UserError when the file is missing or something else."""
        try:
            columns, probabilities = read_probabilities(path)
            if not len(columns["profile"]):
                raise UserError(f"{path} holds no photos: train the run again")
            columns.setdefault("path", np.full(len(columns["profile"]), ""))
            kinds = dict.fromkeys(COLUMNS, str) | {"ages": np.int64}
            facts = {name: columns[column].astype(kinds[name]) for name, column in COLUMNS.items()}
            labels = np.stack([columns[name] for name in LABEL_COLUMNS], axis=1).astype(np.int64)
            return cls(**facts, labels=labels, probabilities=probabilities)
        except (FileNotFoundError, NotADirectoryError):
            why = "the run has not finished an epoch, or is of an older version"
            raise UserError(f"{path} does not exist: {why}") from None
        except (OSError, ArrowException, KeyError, ValueError) as error:
            raise UserError(f"{path} is not a table of predictions: {error}") from None


def headline_of(probabilities: Mapping[str, np.ndarray]) -> str:
    """Returns the head that the main score is about: the classes when there is more than one head."""
    return next(iter(probabilities)) if len(probabilities) == 1 else "class"


def parts_of_people(predictions: Predictions, *, num_parts: int = NUM_PARTS, seed: int = 0) -> np.ndarray:
    """Returns the part (N,) that each photo's person is in: seeded, and with as many people of each kind in each."""
    _, first, person = np.unique(predictions.people, return_index=True, return_inverse=True)
    kinds = predictions.truth("class")[first]
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(kinds[order], kind="stable")]
    parts = np.empty(len(first), np.int64)
    parts[order] = np.arange(len(first)) % num_parts
    return parts[person]


def write_probabilities(path: Path, facts: Mapping[str, Any], probabilities: Mapping[str, np.ndarray]) -> None:
    """Writes Parquet: a column of each fact, then {head}_{label} columns of the probabilities (N, K)."""
    of_heads = {
        f"{head}_{label}": column for head, values in probabilities.items() for label, column in enumerate(values.T)
    }
    # Not by its name: of one like a:b/... pyarrow would take a part for a protocol.
    with path.open("wb") as file:
        parquet.write_table(pyarrow.table({**facts, **of_heads}), file)


def read_probabilities(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns what `write_probabilities` wrote: every column (N,), and head -> (N, K).

    Raises OSError, ArrowException or KeyError when it is missing or something else.
    """
    # Not by its name (see above), nor Python's file: pyarrow's threads let go of that late, and when Python is just
    # ending then, the process aborts.
    with OSFile(str(path)) as file:
        table = parquet.read_table(file)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    probabilities = {
        head: np.stack([columns[f"{head}_{label}"] for label in range(len(classes))], axis=1)
        for head, classes in HEAD_CLASSES.items()
        if f"{head}_0" in columns
    }
    return columns, probabilities
