"""Who answers, as it is typed: lists, products, folds and blends; what they said together; and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.predictions import Predictions
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.training.answerer import Mean, Product, Single
from maskcls.training.ensemble import open_ensemble, output_folder, photos_folder, precision_of, read_ensemble
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from tests import made

SURE = Interval(0.01, 0.005, 0.015)


def a_run(
    folder: Path, *, output: str = "class", people: Sequence[int] = range(6), seed: int = 0, **config: object
) -> str:
    """Returns a run folder with predictions about people, and no model."""
    heads = list(HEAD_CLASSES) if output in ("class", "all") else [output]
    said = made.predictions(made.people(people), heads=heads, seed=seed)
    path = made.run_folder(
        folder, said, dataset_args={"output": output, "mean": [0.5] * 3, "std": [0.25] * 3}, **config
    )
    RunFolder(path).save_split(made.people(range(20, 24)), made.people(people))
    return str(path)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder, where one works, with the runs a, b, mask, gender and age, all about the same people."""
    for number, name in enumerate(["a", "b", "mask", "gender", "age"]):
        a_run(tmp_path / name, output=name if name in ATTRIBUTES else "class", seed=number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_by(*names: str) -> list[Predictions]:
    return [Predictions.load(RunFolder(Path(name).absolute()).predictions) for name in names]


def test_a_text_is_read_as_it_is_typed(runs: Path) -> None:
    answerer = read_ensemble("a,mask+gender+age,b", [2, 1, 1])
    assert isinstance(answerer, Mean) and [type(one) for one in answerer.members] == [Single, Product, Single]
    assert answerer.weights == (0.5, 0.25, 0.25)
    assert [run.path.name for run in answerer.runs] == ["a", "mask", "gender", "age", "b"]
    assert answerer.output_heads == tuple(HEAD_CLASSES)
    assert isinstance(read_ensemble("a"), Single)
    assert read_ensemble("a,b,a").runs == read_ensemble("a,b").runs  # a run is asked once
    a_run(runs / "lr1,5+x")
    assert [run.path.name for run in read_ensemble("lr1,5+x/").runs] == ["lr1,5+x"]


def test_probabilities_are_averaged_by_weight_and_attributes_multiplied(runs: Path) -> None:
    answerer = read_ensemble("a,mask+gender+age", [3, 1])
    random = np.random.default_rng(0)
    said = {
        run.path: table.probabilities
        for run, table in zip(answerer.runs, said_by("a", "mask", "gender", "age"), strict=True)
    }
    said = {
        path: {head: random.dirichlet(np.ones(values.shape[1]), 5) for head, values in table.items()}
        for path, table in said.items()
    }
    found = answerer.combined(said)
    mask, gender, age = (said[runs / head][head] for head in ATTRIBUTES)
    product = (mask[:, :, None, None] * gender[:, None, :, None] * age[:, None, None, :]).reshape(5, 18)
    np.testing.assert_allclose(found["class"], 0.75 * said[runs / "a"]["class"] + 0.25 * product, rtol=1e-12)
    np.testing.assert_allclose(found["age"], 0.75 * said[runs / "a"]["age"] + 0.25 * age, rtol=1e-12)
    assert answerer.decision == Decision()


def test_members_that_validated_the_same_photos_are_averaged_whatever_their_order(runs: Path) -> None:
    one, other = said_by("a", "b")
    other.rows(np.random.default_rng(0).permutation(len(other))).save(RunFolder(runs / "b").predictions)
    table = read_ensemble("a,b", [3, 1]).predictions()
    order = np.argsort(one.keys)
    assert table.keys.tolist() == one.keys[order].tolist()
    means = 0.75 * one.probabilities["class"] + 0.25 * other.probabilities["class"]
    np.testing.assert_allclose(table.probabilities["class"], means[order], rtol=1e-6)


def test_folds_named_one_by_one_are_joined_and_anything_between_is_refused(runs: Path) -> None:
    a_run(runs / "f1", people=range(6, 10))
    joined = read_ensemble("a,f1,b").predictions()
    assert len(joined) == 10 * 7 and len(set(joined.people.tolist())) == 10
    means = read_ensemble("a,b").predictions()
    np.testing.assert_allclose(joined.probabilities["class"][: 6 * 7], means.probabilities["class"], rtol=1e-12)
    a_run(runs / "part", people=range(3, 9))
    with pytest.raises(UserError, match="validated some of the same people: to be averaged they validate the same"):
        read_ensemble("a,part").predictions()
    fixed = said_by("b")[0]
    fixed.labels[:3, 1] = 1 - fixed.labels[:3, 1]
    fixed.save(RunFolder(runs / "b").predictions)
    with pytest.raises(UserError, match="the runs to be averaged give 3 photos different labels"):
        read_ensemble("a,b").predictions()
    with pytest.raises(UserError, match="the runs predict different things: age, class, gender, mask and mask"):
        read_ensemble("a,mask").predictions()


def test_a_folds_folder_stands_for_its_runs_and_its_decision(tmp_path: Path) -> None:
    folds = FoldsFolder(tmp_path / "exp")
    for seed in (42, 43):
        for fold in range(2):
            name = f"fold{fold}" if seed == 42 else f"fold{fold}_seed{seed}"
            config = {"people": range(3 * fold, 3 * fold + 3), "fold": fold, "num_folds": 2}
            made_run = a_run(folds.path / name, output="all", seed=seed + fold, **config)
            RunFolder(Path(made_run)).finished.touch()
            others = made.people(range(3 * (1 - fold), 3 * (1 - fold) + 3))
            RunFolder(Path(made_run)).save_split(others, made.people(range(3 * fold, 3 * fold + 3)))
    shutil.copyfile(folds.path / "fold0" / "config.yaml", folds.config)
    temperatures = {"mask": 2.0, "gender": 0.5, "age": 1.5}
    Decision(temperature=Step(SURE, temperatures)).save(folds.decision)
    Decision(temperature=Step(SURE, dict.fromkeys(ATTRIBUTES, 9.0))).save(folds.run_of(42, 0).decision)  # of one fold
    whole, plain = read_ensemble(str(folds.path)), read_ensemble(str(folds.path), decision="plain")
    assert [run.path.name for run in whole.runs] == ["fold0", "fold1", "fold0_seed43", "fold1_seed43"]
    assert whole.decision == Decision.load(folds.decision) and plain.decision == Decision()
    assert output_folder(whole, None) == folds.path
    out_of_fold, said = folds.out_of_fold(), plain.predictions()
    mine, theirs = np.argsort(said.keys), np.argsort(out_of_fold.keys)
    assert said.keys[mine].tolist() == out_of_fold.keys[theirs].tolist()
    for head in HEAD_CLASSES:
        np.testing.assert_allclose(said.probabilities[head][mine], out_of_fold.probabilities[head][theirs], rtol=1e-6)
    # Each member has its temperature before the mean.
    tables = [Predictions.load(folds.run_of(seed, 0).predictions).probabilities["mask"] for seed in (42, 43)]
    tempered = [np.sqrt(table) / np.sqrt(table).sum(1, keepdims=True) for table in tables]
    found = whole.predictions()
    rows = [found.keys.tolist().index(key) for key in Predictions.load(folds.run_of(42, 0).predictions).keys]
    np.testing.assert_allclose(found.probabilities["mask"][rows], np.mean(tempered, axis=0), rtol=1e-5)
    folds.run_of(43, 1).finished.unlink()
    shutil.rmtree(folds.run_of(42, 1).path)
    with pytest.raises(
        UserError, match=r"exp/fold1 is missing: the folds are not all trained; .*\n.*fold1_seed43 has not"
    ):
        read_ensemble(str(folds.path))


def test_a_blend_names_members_weights_and_a_decision(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Decision(offsets=Step(SURE, {"mask": [0.0, 0.5, 0.0], "gender": [0.0, 0.1], "age": [0.0, 0.0, 1.0]}))
    (runs / "out").mkdir()
    write_blend(
        runs / "out",
        f"members: {{../a: 2, ../mask+../gender+../age: 1, '../a,../b': 1}}\ndecision: {steps.to_dict()}\nscores: {{}}\n",
    )
    monkeypatch.chdir("/")
    answerer = read_ensemble(f"{runs}/out/blend.yaml")
    assert isinstance(answerer, Mean) and answerer.weights == (0.5, 0.25, 0.25)
    assert [type(one) for one in answerer.members] == [Single, Product, Mean]
    assert [run.path for run in answerer.runs] == [runs / name for name in ("a", "mask", "gender", "age", "b")]
    assert answerer.decision == steps and output_folder(answerer, None) == runs / "out"
    assert read_ensemble(f"{runs}/out/blend.yaml", decision="plain").decision == Decision()


def write_blend(folder: Path, text: str) -> None:
    (folder / "blend.yaml").write_text(text)


def test_every_member_of_a_blend_that_cannot_be_read_is_named(runs: Path) -> None:
    for name in ("exp", "exp1"):
        (runs / name).mkdir()
        shutil.copyfile(runs / "a" / "config.yaml", runs / name / "folds.yaml")
    write_blend(runs, "members: {exp: 1, a: 1, b+exp1: 1, '~xyz/c': 1}")
    with pytest.raises(UserError) as error:
        read_ensemble("blend.yaml")
    assert [line.removeprefix(f"  - {runs}") for line in str(error.value).splitlines()] == [
        f"2 problems in {runs}/blend.yaml:", "/exp holds no run of a fold", "/exp1 holds no run of a fold",
    ]  # fmt: skip


REFUSED = [
    ("a,b", "1", "--weights 1 does not match the members, which are a, b$"),
    ("a", "1,2", "--weights 1,2 does not match the members, which are a$"),
    ("a,b", "1,x", "--weights 1,x are not numbers with commas between them, as in --weights 2,1,1"),
    ("a,b", "1,0", "--weights holds 0; a weight is a number above 0"),
    ("a,b", "1,nan", "--weights holds nan; a weight is a number above 0"),
    ("a,,b", None, "^'': a path is empty$"),
    ("none.yaml", None, "blend .*/none.yaml does not exist"),
    ("a,mask", None, r"members answer different questions: .*/a class, .*/mask mask; three attribute runs answer as one"),
    ("a,mask+mask+age", None, r"to be combined, runs predict mask, gender, age, one each: .*mask mask, .*mask mask, .*age age"),
    ("a,mask+gender", None, "to be combined, runs predict mask, gender, age, one each"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "weights", "problem"), REFUSED)
def test_an_ensemble_that_cannot_be_is_refused(text: str, weights: str | None, problem: str, runs: Path) -> None:
    with pytest.raises(UserError, match=problem):
        open_ensemble(text, weights)
    assert precision_of(text) == "no"


def test_an_unknown_decision_is_refused(runs: Path) -> None:
    with pytest.raises(UserError, match=r"unknown --decision 'plan'\. Did you mean 'plain'\? Known: saved, plain"):
        read_ensemble("a", decision="plan")


def test_every_run_that_is_damaged_or_still_learns_is_named(runs: Path) -> None:
    shutil.rmtree(runs / "b" / "best")
    (runs / "age" / "config.yaml").unlink()
    (runs / "mask" / "last").mkdir()
    (runs / "gender" / "preprocessing.json").write_text("{")
    with pytest.raises(UserError) as error:
        open_ensemble("a,b,mask+gender+age,nowhere")
    lines = str(error.value).splitlines()
    assert lines[0] == "5 problems with those that answer together:"
    for line, words in zip(lines[1:], [
        "b has no best/: its training ended before the first epoch did",
        "mask has not finished: an ensemble takes no run that still learns (train.py --resume ",
        "gender/preprocessing.json is not what train.py wrote: ", "age is not a run folder: it has no config.yaml",
        "nowhere does not exist",
    ], strict=True):  # fmt: skip
        assert words in line
    assert open_ensemble("mask").runs == [RunFolder(runs / "mask")]  # alone it may answer while it learns


def test_decisions_that_cannot_be_read_are_named_and_left_alone_when_plain(runs: Path) -> None:
    for name in ("a", "mask"):
        (runs / name / "decision.json").write_text("{")
    with pytest.raises(
        UserError, match=r"(?s)^2 members .*/a/decision.json is not a decision.*/mask/decision.json is not"
    ):
        open_ensemble("a,b,mask+gender+age")
    assert len(open_ensemble("a,b,mask+gender+age", decision="plain").runs) == 5


def test_a_list_has_no_folder_of_its_own(runs: Path) -> None:
    for text in ("a,b", "mask+gender+age"):
        answerer = read_ensemble(text)
        with pytest.raises(UserError, match=rf"^--output_dir is missing: {re.escape(text)} are several, which have no"):
            output_folder(answerer, None)
        assert output_folder(answerer, "out") == runs / "out"
    assert output_folder(read_ensemble("a"), None) == runs / "a"


def test_the_folder_to_predict_is_the_one_that_all_configs_name(runs: Path) -> None:
    for name, photos in {"c": "eval", "d": "eval", "e": "other"}.items():
        a_run(runs / name, infer_data_dir=photos)
    assert photos_folder(read_ensemble("c,d"), None) == runs / "eval"
    assert photos_folder(read_ensemble("c,e"), "there") == runs / "there"
    with pytest.raises(UserError, match=r"name different folders to predict, give --infer_data_dir: .*/eval, .*/other"):
        photos_folder(read_ensemble("c,e"), None)
    with pytest.raises(
        UserError, match=r"no folder to predict: give --infer_data_dir, or set infer_data_dir in .*a/con"
    ):
        photos_folder(read_ensemble("a"), None)


def test_the_precision_is_that_of_all_runs_or_the_whole_one(runs: Path) -> None:
    for name, precision in {"a": "bf16", "b": "fp16"}.items():
        RunFolder(runs / name).save_environment(mixed_precision=precision)
    a_run(runs / "c")
    RunFolder(runs / "c").save_environment(mixed_precision="bf16")
    assert [precision_of(text) for text in ("a", "a,c", "a,b", "mask", "a,mask", "nowhere")] == [
        "bf16", "bf16", "no", "no", "no", "no",
    ]  # fmt: skip


def test_people_that_any_member_learnt_from_are_known(runs: Path) -> None:
    RunFolder(runs / "b").save_split(["x"], ["y"])
    RunFolder(runs / "age").save_split(["z"], ["y"])
    assert read_ensemble("a,b").trained_people() == {*made.people(range(20, 24)), "x"}
    assert read_ensemble("mask+gender+age").trained_people() == {*made.people(range(20, 24)), "z"}
