"""What all folds say together is written and said: scores, the epoch, and how their probabilities become answers."""

from __future__ import annotations

import json
from pathlib import Path

from maskcls.evaluation.decision import Decision
from maskcls.evaluation.predictions import Predictions
from maskcls.reporting.folds import summary
from maskcls.reporting.text import decision_line
from maskcls.words import Words
from tests import made


def test_the_decision_of_folds_is_that_of_each_seed_and_of_their_mean(tmp_path: Path) -> None:
    said = [made.predictions(30, accuracy=0.7, seed=seed) for seed in (0, 1)]
    epochs = [{"f1": 0.4}, {"f1": 0.5}]
    folds = made.folds_folder(tmp_path / "exp", *said, num_folds=2, seeds=(42, 43), scores=epochs, report=False)
    for run in folds.runs().values():
        run.finished.write_text(json.dumps({"epoch": 2, "value": 0.5}))
    text = summary(folds, folds.read_config(), Words("en"), lang="en")
    mean, decision = Predictions.load(folds.predictions), Decision.load(folds.decision)
    members = list(folds.tables().values())
    assert decision == Decision.fit(mean, "all", members=members) != Decision.fit(mean, "all")
    assert decision_line(decision, Words("en")) in text.splitlines()
    finished = json.loads(folds.finished.read_text())
    assert finished["epoch"] == 2 and len(finished["runs"]) == 4 and "age_f1" in finished["scores"]
