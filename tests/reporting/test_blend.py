"""Candidates of a blend are refused for every reason at once; what is found is said in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskcls.errors import UserError
from maskcls.evaluation.blend import blend
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.predictions import Predictions
from maskcls.reporting.blend import blend_file, blend_text, read_candidates
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words
from tests import made


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_run(path: str, said: Predictions, *, trained: Sequence[str] = ()) -> RunFolder:
    """Returns a run that validated these people and was trained on those."""
    run = RunFolder(made.run_folder(Path(path).absolute(), said))
    run.save_split(trained, np.unique(said.people).tolist())
    return run


def refusal(*texts: str) -> str:
    with pytest.raises(UserError) as raised:
        read_candidates(texts)
    return str(raised.value)


def test_candidates_are_brought_onto_the_same_photos_in_one_order(at_home: Path) -> None:
    table = made.predictions(30)
    made.folds_folder(at_home / "runs/folds", made.predictions(30, seed=1))
    a_run("runs/exp", table.rows(np.random.default_rng(0).permutation(len(table))))
    for head in ("mask", "gender", "age"):
        a_run(f"runs/{head}", made.predictions(30, heads=[head]))
    texts = ["runs/folds", "runs/exp", "runs/mask+runs/gender+runs/age"]
    found = read_candidates(texts)
    assert [one.name for one in found] == ["folds", "exp", "mask+gender+age"]
    assert [one.text for one in found] == texts
    for one in found:
        assert np.array_equal(one.predictions.keys, found[0].predictions.keys)
        assert len(one.predictions) == 210
    assert found[1].predictions.probabilities["class"] == pytest.approx(found[2].predictions.probabilities["class"])


def test_one_candidate_is_no_blend() -> None:
    assert refusal("runs/exp") == "a blend needs two candidates or more, as in maskcls blend runs/exp runs/exp1"


def test_every_candidate_that_cannot_be_a_member_is_named(at_home: Path) -> None:
    table = made.predictions(6)
    people = np.unique(table.people).tolist()
    a_run("whole", table)
    a_run("bare", table).best.rmdir()
    a_run("learning", table).last.mkdir()
    a_run("leak", table, trained=people[2:5])
    a_run("damaged", table).predictions.write_bytes(b"PAR1")
    folds = made.folds_folder(at_home / "folds", table)
    folds.run_of(42, 3).finished.unlink()
    Path("blend.yaml").write_text("members: {whole: 1}\n")
    lines = refusal("whole", "nowhere", "bare", "learning", "leak", "damaged", "folds", "blend.yaml").splitlines()
    assert lines[0] == "7 problems of candidates that cannot be blended:"
    expected = [
        f"run folder {at_home}/nowhere does not exist",
        f"{at_home}/bare has no best/: its training ended before the first epoch did",
        f"{at_home}/learning has not finished: its predictions are not yet those that it will end with",
        f"{at_home}/leak was trained on 3 of the people that it validated, for example {people[2]}",
        f"{at_home}/damaged/valid_predictions.parquet is not a table of predictions",
        f"{at_home}/folds/fold3 has not finished; the command that trains the folds goes on",
        "blend.yaml is a blend itself: name its members",
    ]
    for line, text in zip(lines[1:], expected, strict=True):
        assert line.startswith(f"  - {text}") or f": {text}" in line


def test_a_candidate_of_which_nobody_can_tell_whom_it_has_learnt_from_is_refused(at_home: Path) -> None:
    a_run("a", made.predictions(12))
    a_run("b", made.predictions(12, seed=1)).train_profiles.unlink()
    assert refusal("a", "b") == f"{at_home}/b has no train_profiles.txt, which says whom it has learnt from"


def test_a_candidate_that_has_learnt_from_people_of_another_is_refused_with_the_way_out(at_home: Path) -> None:
    table = made.predictions(20)
    people = np.unique(table.people).tolist()
    is_early = np.isin(table.people, people[:8])
    made.folds_folder(at_home / "folds", made.predictions(20, seed=1))
    a_run("exp", table.rows(is_early), trained=people[8:])
    assert refusal("folds", "exp") == (
        f"exp was trained on 12 of the people that others validated, for example {people[8]}, and would be scored on "
        "what it remembers: blend folds, or runs of one valid_profile"
    )
    a_run("other", table.rows(~is_early), trained=people[:8])
    both = refusal("exp", "other")
    assert "exp was trained on 12 of the people" in both and "other was trained on 8 of the people" in both


def test_folds_that_do_not_cover_each_other_and_folds_that_overlap_are_refused(at_home: Path) -> None:
    table = made.predictions(20)
    people = np.unique(table.people).tolist()
    made.folds_folder(at_home / "all", table)
    for name, chosen in {"f0": people[:9], "f1": people[9:19], "f2": people[8:]}.items():
        a_run(name, table.rows(np.isin(table.people, chosen)))
    assert refusal("all", "f0,f1") == (
        f"f0,f1 did not validate 1 of the people that others did, for example {people[19]}: blend folds that cover "
        "each other, or runs of one valid_profile"
    )
    assert "f0,f2: the runs validated some of the same people" in refusal("all", "f0,f2")


def test_other_tasks_other_photos_and_other_labels_are_refused(at_home: Path) -> None:
    table = made.predictions(8)
    fixed = table.labels.copy()
    fixed[3:5, 0] = 2 - fixed[3:5, 0]
    a_run("exp", table)
    a_run("less", table.rows(np.arange(len(table)) % 7 != 6))
    a_run("fixed", replace(table, labels=fixed))
    a_run("gender", made.predictions(8, heads=["gender"]))
    assert refusal("exp", "gender") == (
        "the candidates predict different things: exp class, gender gender; three attribute runs are one candidate as "
        "runs/mask+runs/gender+runs/age"
    )
    assert refusal("exp", "less") == "exp validated 8 photos of these people that others did not"
    labels = refusal("exp", "fixed")
    assert labels.startswith(
        f"fixed gives {(fixed != table.labels).any(1).sum()} photos other labels than exp, for example"
    )
    assert labels.endswith(": train both with the same label_fixes")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_text_says_weights_scores_and_whether_there_is_a_gain(language: str) -> None:
    found, word = blend(made.two_halves(60)), Words(language)
    about, members, scores, says, agreement = blend_text(["a", "b"], found, word).split("\n\n")
    assert "60" in about and "420" in about
    rows = [line.split() for line in members.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["1", "a"], ["2", "b"]]
    assert [int(row[5]) for row in rows] == found.counts.tolist()
    assert str(found.scores[0]) in scores.splitlines()[1] and str(found.alone[1]) in members.splitlines()[2]
    gain, against_mean = (difference.interval for difference in found.differences)
    assert gain.low > 0 and not against_mean.is_clear
    best, mean = word("the_best_single"), word("the_mean")
    measure = word.measure("f1")
    assert says.splitlines() == [
        word("says_better", other=best, score=measure, difference=f"{gain.value:.3f}"),
        word("says_alike", other=mean, score=measure, difference=f"{against_mean.value:+.3f}"),
    ]
    assert len(agreement.splitlines()) == 3 and agreement.splitlines()[2].split()[3] == "-"


def test_a_gain_that_may_be_chance_is_called_so_and_so_is_a_blend_of_one() -> None:
    tables = [made.predictions(40, accuracy=0.9, seed=seed) for seed in (0, 0)]
    text = blend_text(["a", "copy"], blend(tables), Words("en"))
    assert "On everybody a alone is chosen: no other adds to it.\n" in text
    assert "Not distinguishable from the best single candidate: macro-F1 differs by +0.000" in text


def test_what_is_saved_are_the_chosen_with_their_counts_and_the_scores(at_home: Path) -> None:
    for name, accuracy in {"good": 1.0, "bad": 0.5}.items():
        a_run(name, made.predictions(20, accuracy=accuracy))
    candidates = read_candidates(["bad", "good"])
    found = blend([one.predictions for one in candidates])
    file = blend_file(candidates, found)
    assert file.members == {"good": 1}
    assert file.decision == Decision.fit_tempered(found.answers) != Decision()
    assert list(file.scores) == [
        "measure", "num_people", "num_photos", "blend", "best_single", "mean", "above_best_single", "above_mean",
    ]  # fmt: skip
    assert file.scores["blend"] == vars(found.scores[0])
    assert (file.scores["num_people"], file.scores["num_photos"]) == (20, 140)
