"""Runs side by side: simulated runs of known quality are told apart, or not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.metrics import METRICS, Score
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.trainings import TrainingNoise, Trainings
from maskcls.labels import HEAD_CLASSES
from maskcls.reporting.comparison import Run, compare, comparison_rows, comparison_text, flat, read_run, read_runs
from maskcls.tables import write_rows
from maskcls.training.blend_file import BlendFile
from tests import made


def simulated(numbers: Sequence[int], *, error: float, seed: int, heads: Sequence[str] = ()) -> Predictions:
    """Returns a model whose age is wrong for this share and whose mask for 2 % of the photos."""
    accuracy = {"mask": 0.98, "gender": 1.0, "age": 1 - error}
    return made.predictions(made.people(numbers), heads=heads or list(HEAD_CLASSES), accuracy=accuracy, seed=seed)


def a_run(name: str, predictions: Predictions, **config: str) -> Run:
    return Run(name, config, [predictions])


def test_equal_models_are_not_distinguishable_and_a_clearly_better_one_is_better() -> None:
    people = range(150)
    first = a_run("a", simulated(people, error=0.3, seed=0))
    equal = a_run("b", simulated(people, error=0.3, seed=1))
    better = a_run("c", simulated(people, error=0.05, seed=2))
    result = compare([first, equal, better])
    assert result.verdicts == ["not distinguishable", "better"]
    assert compare([better, first]).verdicts == ["worse"]
    assert [difference.num_people for difference in result.differences] == [150, 150]


def test_other_people_are_refused_with_their_numbers_unless_common_is_given() -> None:
    whole, part = simulated(range(40), error=0.3, seed=0), simulated(range(30, 60), error=0.1, seed=1)
    runs = [a_run("a", whole), a_run("b", part)]
    with pytest.raises(
        UserError,
        match=r"different people or photos: a 40 people \(280 photos\), b 30 people \(210 photos\); 10 people "
        r"\(70 photos\) are common to all\. Compare them on these with --common, or train with the same valid_profile",
    ):
        compare(runs)
    result = compare(runs, only_common=True)
    on_these = [whole.rows(np.arange(30 * 7, 40 * 7)), part.rows(np.arange(10 * 7))]
    assert (
        result.differences
        == compare([a_run(run.name, table) for run, table in zip(runs, on_these, strict=True)]).differences
    )
    assert result.notes == [
        "10 people (70 photos) that all runs validated; of a 40 people (280 photos), b 30 people (210 photos)"
    ]
    with pytest.raises(UserError, match=r"no validated person in common: a 40 people \(280 photos\), c 5 people"):
        compare([runs[0], a_run("c", simulated(range(70, 75), error=0.1, seed=1))], only_common=True)


def test_the_order_of_the_photos_does_not_matter() -> None:
    first, second = simulated(range(20), error=0.3, seed=0), simulated(range(20), error=0.3, seed=1)
    shuffled = second.rows(np.random.default_rng(0).permutation(len(second)))
    plain, other = (compare([a_run("a", first), a_run("b", table)]) for table in (second, shuffled))
    assert plain.scores == other.scores
    assert plain.differences == other.differences


def test_other_labels_of_the_same_photos_are_said_and_those_of_the_first_run_count() -> None:
    table = simulated(range(20), error=0.3, seed=0)
    fixed = table.labels.copy()
    fixed[:3, 1] = 1 - fixed[:3, 1]
    result = compare([a_run("a", table), a_run("b", replace(table, labels=fixed))])
    assert result.notes[1] == "3 photos carry other labels in b; those of a count for all"
    assert result.scores["gender_acc"][1].value == pytest.approx(1)


def test_the_scores_are_those_of_scikit_learn_for_each_head_form() -> None:
    whole = simulated(range(50), error=0.3, seed=0)
    single = simulated(range(50), error=0.1, seed=1, heads=["age"])
    both = compare([a_run("a", whole), a_run("b", whole)], score="age_f1")
    assert list(both.scores) == [f"{head}{s}" for head in ("", "mask_", "gender_", "age_") for s in METRICS]
    mixed = compare([a_run("a", whole), a_run("b", single)])
    assert (list(mixed.scores), mixed.score, both.score) == ([f"age_{s}" for s in METRICS], "age_f1", "age_f1")
    for result, place, table in [(both, 0, whole), (mixed, 0, whole), (mixed, 1, single)]:
        truth, said = table.truth("age"), table.predicted("age")
        assert result.scores["age_acc"][place].value == pytest.approx(accuracy_score(truth, said))
        assert result.scores["age_f1"][place].value == pytest.approx(f1_score(truth, said, average="macro"))
    three = compare([a_run("a", whole), a_run("b", whole), a_run("c", single)])
    assert [d.interval.value for d in three.differences] == [0, mixed.differences[0].interval.value]
    for order in ([whole, single], [single, whole]):
        runs = [a_run(name, table) for name, table in zip("ab", order, strict=True)]
        low, high = (f1_score(table.truth("age"), table.predicted("age"), average="macro") for table in order)
        for score in ("f1", "age_f1"):
            assert compare(runs, score=score).differences[0].interval.value == pytest.approx(high - low)


def test_scores_and_outputs_that_do_not_fit_are_named() -> None:
    whole, age, mask = (simulated(range(9), error=0.3, seed=0, heads=heads) for heads in ((), ["age"], ["mask"]))
    with pytest.raises(
        UserError, match=r"unknown score 'aeg_f1'\. Did you mean 'age_f1'\? Known: acc, f1, balanced_acc, mask_acc,"
    ):
        compare([a_run("a", whole), a_run("b", whole)], score="aeg_f1")
    with pytest.raises(UserError, match=r"unknown score 'mask_f1'\..* Known: acc, f1, balanced_acc$"):
        compare([a_run("a", whole), a_run("b", age)], score="mask_f1")
    with pytest.raises(UserError, match=r"predict different things: a age, b mask\. .* runs/mask\+runs/gender"):
        compare([a_run("a", age), a_run("b", mask)])


def test_three_attribute_runs_are_read_as_one(tmp_path: Path) -> None:
    whole = simulated(range(20), error=0.3, seed=0)
    parts = [
        str(
            made.run_folder(
                tmp_path / head,
                simulated(range(20), error=0.3, seed=0, heads=[head]),
                dataset_args={"output": head},
                lr=0.1,
            )
        )
        for head in ("gender", "age", "mask")
    ]
    together, single = read_runs(["+".join(parts), str(made.run_folder(tmp_path / "all", whole, lr=0.1))])
    assert (together.name, single.name) == ("gender+age+mask", "all")
    assert (together.config["dataset_args.output"], together.config["lr"]) == ("gender | age | mask", "0.1")
    result = compare([together, single])
    assert result.differences[0].interval.value == 0
    assert result.verdicts == ["not distinguishable"]
    assert list(result.config) == ["dataset_args.output"]
    with pytest.raises(UserError, match=r"mask: to be combined, runs predict mask, gender, age, one each"):
        read_runs([f"{parts[1]}+{parts[2]}", parts[0]])


def test_folds_are_read_as_one_run_of_all_their_people(tmp_path: Path) -> None:
    whole = simulated(range(20), error=0.3, seed=0)
    folds = [
        made.run_folder(tmp_path / f"f{fold}", whole.rows(np.arange(140) // 70 == fold), fold=fold, name=f"f{fold}")
        for fold in (0, 1)
    ]
    joined = read_run(",".join(map(str, folds)))
    assert joined.predictions.people.tolist() == whole.people.tolist()
    assert joined.config["fold"] == "0 | 1"
    assert "name" not in joined.config
    half = made.run_folder(tmp_path / "half", whole.rows(np.arange(105)))
    with pytest.raises(UserError, match="half: the runs validated some of the same people: to be averaged they"):
        read_runs([f"{folds[0]},{half}", str(folds[1])])


def test_seeds_of_folds_folders_put_the_noise_between_trainings_into_the_difference(tmp_path: Path) -> None:
    def folder(name: str, *tables: Predictions, **config: float) -> str:
        return str(made.folds_folder(tmp_path / name, *tables, **config).path)

    a = [simulated(range(60), error=error, seed=seed) for seed, error in enumerate((0.2, 0.3, 0.4))]
    b = [simulated(range(60), error=error, seed=seed) for seed, error in enumerate((0.15, 0.25), start=5)]
    once = simulated(range(60), error=0.2, seed=9)
    texts = [folder("a", *a), folder("b", *b, lr=0.1), folder("once", once)]
    result = compare(read_runs(texts))
    f1 = [[Findings(table).scores[Score("class", "f1")].value for table in tables] for tables in (a, b)]
    assert [score.value for score in result.scores["f1"][:2]] == pytest.approx([np.mean(f1[0]), np.mean(f1[1])])
    assert result.differences[0].interval.value == pytest.approx(np.mean(f1[1]) - np.mean(f1[0]))
    folds = {person: number % 5 for number, person in enumerate(sorted(made.people(60)))}
    recipes = [Trainings([*map(Findings, tables)], folds) for tables in (a, b)]
    noises = [TrainingNoise.between(known, Score("class", "f1")) for known in (recipes, recipes[:1])]
    assert [difference.noise for difference in result.differences] == noises
    deviations = [noise.deviation for noise in noises if noise]
    assert result.config == {"seed": ["42 | 43 | 44", "42 | 43", "42"], "lr": ["-", "0.1", "-"]}
    assert result.notes == ["60 people (420 photos) that all runs validated"]

    lines = comparison_text(result).splitlines()
    assert lines[-2] == (
        "Scores are means over seeds. The noise between trainings is in the differences, beside that of the people."
    )
    assert lines[-1].startswith(
        "Its standard deviation, of one seed, is as a and the other show it: "
        f"{deviations[0]:.4f} (b, 15 degrees of freedom), {deviations[1]:.4f} (once, 10 degrees of freedom)."
    )
    rows = [row for row in comparison_rows(result) if row["what"] == "difference"]
    assert rows[0]["deviation_of_seeds"] == pytest.approx(deviations[0])
    lines = comparison_text(compare(read_runs([texts[2], folder("again", once), texts[0]]))).splitlines()
    assert lines[-1] == "It is not in the difference of again, trained once as once is."
    alone = comparison_text(compare(read_runs([texts[2], f"{tmp_path}/again"]))).splitlines()
    assert alone[-1] == (
        "All of this is about these weights: another seed of the same recipe moves a score as well; folds with --seeds "
        "say how far."
    )


def test_a_folds_folder_alone_is_compared_with_itself_by_its_seeds(tmp_path: Path) -> None:
    tables = [simulated(range(60), error=0.3, seed=seed) for seed in range(3)]
    folds = made.folds_folder(tmp_path / "exp", *tables, seeds=(7, 8, 9))
    seeds = read_runs([str(folds.path)])
    result = compare(seeds, is_one_recipe=True)
    assert result.names == ("seed 7", "seed 8", "seed 9")
    assert result.config == {"seed": ["7", "8", "9"]}
    noise = TrainingNoise.between([Trainings([*map(Findings, tables)], folds.fold_of_people())], Score("class", "f1"))
    assert noise is not None
    assert (result.noise, noise.degrees) == (noise, 10)
    assert noise.widest == pytest.approx(2.228 * np.sqrt(2) * noise.deviation, rel=0.05)  # Student's t of 10 degrees
    assert comparison_text(result).splitlines()[-2:] == [
        "These are seeds of one recipe: their differences are noise. Standard deviation of f1 between seeds: "
        f"{noise.deviation:.4f} (10 degrees of freedom);",
        f"two seeds are less than {noise.widest:.3f} apart in 95 % of cases, as far as so few trainings can tell.",
    ]
    once = made.folds_folder(tmp_path / "once", tables[0])
    needs = (
        "a comparison needs two runs or more, as in maskcls compare runs/exp runs/exp1, or a folds folder of several"
    )
    with pytest.raises(UserError, match=f"once has one seed: {needs} seeds"):
        read_runs([str(once.path)])
    with pytest.raises(UserError, match=f"once/fold0 is one run: {needs} seeds"):
        read_runs([str(once.path / "fold0")])


def test_a_blend_is_read_as_one_and_it_is_said_that_it_was_chosen_on_these_people(tmp_path: Path) -> None:
    runs = [made.run_folder(tmp_path / n, simulated(range(9), error=0.3, seed=i)) for i, n in enumerate("ab")]
    BlendFile({str(run): 1 for run in runs}).write(tmp_path / "blend.yaml")
    result = compare(read_runs([str(runs[0]), f"{tmp_path}/blend.yaml"]))
    assert result.notes[1:] == [
        "blend.yaml was chosen by its answers to such photos, which flatters it; maskcls blend scores it on other people"
    ]
    listed = compare(read_runs([str(runs[0]), ",".join(map(str, runs))]))
    assert listed.notes[1:] == [] and listed.differences == result.differences


def test_a_folder_named_with_a_plus_stays_whole(tmp_path: Path) -> None:
    table = simulated(range(5), error=0.3, seed=0)
    texts = [f"{made.run_folder(tmp_path / 'mask+gender', table)}/", str(made.run_folder(tmp_path / "lr1,5", table))]
    assert [len(run.predictions) for run in read_runs(texts)] == [35, 35]


def test_runs_of_the_same_name_keep_their_folders(tmp_path: Path) -> None:
    table = simulated(range(5), error=0.3, seed=0)
    texts = [str(made.run_folder(tmp_path / folder / "exp", table)) for folder in ("a", "b")]
    assert [run.name for run in read_runs(texts)] == ["a/exp", "b/exp"]


def test_all_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = made.run_folder(tmp_path / "broken")
    (broken / "config.yaml").write_text("a: [")
    listed = made.run_folder(tmp_path / "listed")
    (listed / "config.yaml").write_text("- 1")
    with pytest.raises(UserError) as raised:
        read_runs([str(made.run_folder(tmp_path / "new")), str(tmp_path / "no"), str(broken), str(listed)])
    lines = str(raised.value).splitlines()
    assert lines[0] == "4 runs that cannot be compared:"
    for line, end in zip(
        lines[1:],
        ["version", "config.yaml: No such file or directory", "expected", "expected `key: value` lines"],
        strict=True,
    ):
        assert end in line
        assert line.count(str(tmp_path)) == 1
    assert "new/valid_predictions.parquet does not exist" in lines[1]
    assert "broken/config.yaml is not valid YAML" in lines[3]


def test_only_config_keys_that_differ_and_matter_are_shown() -> None:
    table = simulated(range(5), error=0.3, seed=0)
    first = {"lr": 0.001, "model_args": {"depth": 3, "sizes": [1, 2]}, "augmentation_args": {}, "max_grad_norm": None}
    second = {
        **first,
        "lr": 0.0010000001,
        "model_args": {"depth": 4, "sizes": [1, 2]},
        "augmentation_args": {"flip": {"p": 0.5}},
        "max_grad_norm": 1.0,
    }
    assert flat(first) == {
        "lr": "0.001", "model_args.depth": "3", "model_args.sizes": "[1, 2]", "max_grad_norm": "null",
    }  # fmt: skip
    result = compare([a_run("a", table, **flat(first)), a_run("b", table, **flat(second))])
    assert result.config == {
        "model_args.depth": ["3", "4"], "max_grad_norm": ["null", "1"], "augmentation_args.flip.p": ["-", "0.5"],
    }  # fmt: skip
    same = compare([a_run("a", table), a_run("b", table)])
    assert "config: the same, as far as it decides what is learnt" in comparison_text(same)


def test_text_table_and_picture_say_the_same(tmp_path: Path) -> None:
    people = range(100)
    runs = [
        a_run("first", simulated(people, error=0.3, seed=0), lr="0.1"),
        a_run("second", simulated(people, error=0.3, seed=1), lr="x" * 50),
        a_run("third", simulated(people, error=0.02, seed=2), lr="0.1"),
    ]
    result = compare(runs, score="acc")
    text = comparison_text(result)
    lines = text.splitlines()
    assert lines[0] == "100 people (700 photos) that all runs validated"
    assert next(line for line in lines if line.startswith("lr")).split() == ["lr", "0.1", "x" * 37 + "...", "0.1"]
    difference = result.differences[1].interval
    assert f"third              {difference.value:+.3f} [{difference.low:+.3f}, " in text
    assert lines[lines.index(next(line for line in lines if line.startswith("acc against first"))) + 2].endswith(
        "> 99.9 %     better"
    )
    assert "Verdicts are corrected for 2 runs being compared with first (Holm)." in text
    assert "Holm" not in comparison_text(compare(runs[:2]))

    write_rows(tmp_path / "c.csv", comparison_rows(result))
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["config"] * 3 + ["score"] * 4 * len(METRICS) * 3 + ["difference"] * 2
    assert (rows[-1]["run"], rows[-1]["name"], rows[-1]["verdict"]) == ("third", "acc", "better")
    assert float(rows[-1]["low"]) == difference.low
    # The sureness is that of the sign seen, whichever it is.
    better = result.differences[0].probability_better
    expected = better if result.differences[0].interval.value > 0 else 1 - better
    assert float(rows[-2]["probability"]) == pytest.approx(expected)
