"""The report of a cross-validation: everybody's answers out of fold, and what is each fold's own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Draws
from maskcls.evaluation.metrics import Score
from maskcls.evaluation.trainings import TrainingNoise, Trainings
from maskcls.labels import HEAD_CLASSES
from maskcls.reporting.report import page
from maskcls.reporting.report.folds import Spread
from maskcls.reporting.report.material import Material
from maskcls.reporting.report.page import write_report
from maskcls.training.folds_folder import FoldsFolder
from tests import made
from tests.helpers import maskcls
from tests.reporting.test_report import Parsed, missing

F1 = Score("class", "f1")


@pytest.fixture(scope="module")
def groups(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FoldsFolder, FoldsFolder]:
    """Returns a cross-validation with two seeds, and one of a model that is always right, without photos and models."""
    folder = tmp_path_factory.mktemp("folds")
    worse = made.folds(sample, folder, seeds=(42, 43), hostile=True, accuracy=0.6)
    table = worse.out_of_fold()
    right = {head: np.eye(len(classes), dtype=np.float32)[table.truth(head)] for head, classes in HEAD_CLASSES.items()}
    output, scores = {"output": "class"}, [{"loss": 1.0, "f1": 0.5, "acc": 0.5}]
    always = replace(table, probabilities=right)
    return worse, made.folds_folder(folder / "better", always, num_folds=3, dataset_args=output, scores=scores)


@pytest.fixture(scope="module")
def written(groups: tuple[FoldsFolder, FoldsFolder]) -> str:
    """Returns the page of the first."""
    return write_report(groups[0], language="en").read_text(encoding="utf-8")


def test_every_section_has_its_content(written: str, groups: tuple[FoldsFolder, FoldsFolder]) -> None:
    parsed = Parsed(written)
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == [name for name in page.SECTIONS if name != "comparison"]
    assert missing(written) == []
    assert "Report of a cross-validation" in written
    assert "3 folds, seeds 42, 43" in written
    drawn = [attributes["data-chart"] for attributes in parsed.having("data-chart")]
    assert sorted(drawn) == sorted(made.embedded(written)["charts"])  # type: ignore[call-overload]
    assert len(drawn) == 1 + 4 + 1 + 4  # folds, curves, groups, calibration of four heads
    predictions = groups[0].out_of_fold()
    assert "84 photos of 12 people, each answered by models that had not trained on the person" in written
    f1 = Findings(predictions).scores[F1].value
    assert f'<div class="tile-title">18 classes: macro-F1</div>\n<div class="tile-value">{f1:.3f}</div>' in written


def test_folds_and_seeds_stand_with_their_own_scores_and_their_spread(
    written: str, groups: tuple[FoldsFolder, FoldsFolder]
) -> None:
    runs = groups[0].finished_runs()
    scores = {key: Findings(run.read_predictions()).scores[F1] for key, run in runs.items()}
    section = written[written.index('<section id="folds"') : written.index('<section id="confusion"')]
    for (seed, fold), interval in scores.items():
        row = section[section.index(f"fold {fold}, seed {seed}</th>") :]
        assert row.split("</td>")[1].strip().startswith(f'<td class="n">{interval.value:.3f}<br>')
    by_seed = [Findings(table).scores[F1].value for table in groups[0].tables().values()]
    means = [np.mean([scores[seed, fold].value for seed in (42, 43)]) for fold in range(3)]
    for title, expected in {
        "standard deviation between folds": np.std(means, ddof=1),
        "standard deviation between seeds": np.std(by_seed, ddof=1),
    }.items():
        row = section[section.index(title) :]
        assert row.split("</td>")[1] == f'<td class="n">{expected:.3f}'
    found = Spread.of(Material(groups[0], None, "en"), F1)
    assert (found.low, found.high, found.deviation) == pytest.approx((min(means), max(means), np.std(means, ddof=1)))
    assert f"The folds lie between {found.low:.3f} and {found.high:.3f} (18 classes: macro-F1)" in written
    data = made.embedded(written)["charts"]["folds"]["data"]["values"]  # type: ignore[index]
    assert [(row["group"], row["name"]) for row in data] == [
        (f"seed {seed}", f"fold {fold}") for seed in (42, 43) for fold in range(3)
    ]


def test_folds_that_differ_in_nothing_but_their_people_have_the_spread_of_these(tmp_path: Path) -> None:
    group = made.folds_folder(tmp_path / "exp", made.predictions(400, heads=["age"]), num_folds=20)
    spread = Spread.of(Material(group, None, "en"), Score("age", "acc"))
    assert spread.of_people == pytest.approx(spread.deviation, rel=0.3)
    # A quarter of the people are hard, of whose photos it gets a fifth right; of a fold's 20 people the mean is taken.
    assert spread.of_people == pytest.approx(np.sqrt((0.25 * 0.75 * 0.8**2 + 0.25 * 0.8 * 0.2 / 7) / 20), rel=0.1)


def test_a_curve_stands_for_each_run_and_a_stronger_one_for_their_mean(written: str) -> None:
    chart = made.embedded(written)["charts"]["chart_folds_loss"]  # type: ignore[index]
    rows = chart["data"]["values"]
    titles = [f"fold {fold}, seed {seed}" for seed in (42, 43) for fold in range(3)]
    assert list(dict.fromkeys(row["series"] for row in rows)) == [*titles, "mean"]
    assert [row["value"] for row in rows if row["series"] == "mean"] == pytest.approx([1, 1 / 2, 1 / 3])
    weak, strong = chart["layer"][:2]
    assert weak["transform"] == [{"filter": "datum.series !== 'mean'"}]
    assert strong["mark"]["strokeWidth"] > 2 * weak["mark"]["strokeWidth"]
    assert "Best epoch on average over the folds: 1 of 3, chosen by valid/f1. Thin lines: each fold." in written


def test_the_cost_is_that_of_all_runs(written: str) -> None:
    facts = dict(zip(("runs", "epochs", "updates"), ("6", "18", "36"), strict=True))
    for title, value in facts.items():
        assert f"<dt>{title}</dt><dd>{value}</dd>" in written


def test_mistakes_are_looked_at_by_the_model_that_had_not_learnt_from_the_person(
    groups: tuple[FoldsFolder, FoldsFolder],
) -> None:
    material = Material(groups[0], None, "en")
    for (seed, _), run in groups[0].finished_runs().items():
        if seed == 42:
            for person in run.validated_people():
                assert material.run_about(person) == run
                assert person not in run.trained_people()
    assert len({material.run_about(str(person)) for person in material.findings.predictions.people}) == 3


def test_a_model_that_is_gone_costs_the_maps_alone(groups: tuple[FoldsFolder, FoldsFolder], tmp_path: Path) -> None:
    group = FoldsFolder(shutil.copytree(groups[0].path, tmp_path / "exp"))
    shutil.rmtree(group.path / "fold1" / "best")
    text = write_report(group, language="en").read_text(encoding="utf-8")
    assert missing(text) == []
    assert f"What the model looked at is not available: {group.path}/fold1/best does not exist." in text


def test_cross_validations_are_compared_over_all_people_and_seeds(groups: tuple[FoldsFolder, FoldsFolder]) -> None:
    worse, better = groups
    text = write_report(better, language="en", against=worse).read_text(encoding="utf-8")
    assert len(missing(text)) == 2  # data, cost
    draws = Draws.of(worse.out_of_fold().people)
    seeds = [Findings(table, draws).scores[F1].value for table in worse.tables().values()]
    difference = Findings(better.out_of_fold()).scores[F1].value - float(np.mean(seeds))
    section = text[text.index('<section id="comparison"') : text.index('<section id="folds"')]
    assert "Against exp, on the 84 photos of 12 people that both validated." in section
    found = [Findings(table, draws) for table in worse.tables().values()]
    noise = TrainingNoise.between([Trainings(found, worse.fold_of_people())], F1)
    assert noise is not None
    assert f"for one seed, a standard deviation of {noise.deviation:.3f} in 18 classes: macro-F1." in section
    assert f'<th scope="row">18 classes: macro-F1</th><td class="n">{difference:+.3f}</td>' in section
    assert '<th scope="row">dataset_<wbr>args.<wbr>output</th><td>class</td><td>all</td>' in text
    of_run = write_report(better.finished_runs()[42, 0], language="en", against=worse).read_text(encoding="utf-8")
    assert "Against exp, on the 28 photos of 4 people that both validated." in of_run


def test_the_report_speaks_korean(groups: tuple[FoldsFolder, FoldsFolder]) -> None:
    text = write_report(groups[0], language="ko", against=groups[1]).read_text(encoding="utf-8")
    assert missing(text) == []
    for said in (
        "교차 검증 보고서",
        "fold 3개, 시드 42, 43",
        "fold 2, 시드 43",
        "시드 사이 표준편차",
        "fold 평균으로 최고 에폭",
    ):
        assert said in text


def test_the_command_writes_it_and_refuses_folds_that_are_not_all_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = made.folds_folder(tmp_path / "exp", made.predictions(20), scores=[{"loss": 1.0, "f1": 0.5, "acc": 0.5}])
    maskcls("report", group.path, "--against", group.path / "fold0", "--lang", "en")
    assert capsys.readouterr().out.startswith(f"report {group.report} (")
    (group.path / "fold3" / "finished.json").unlink()
    with pytest.raises(SystemExit) as ended:
        maskcls("report", group.path)
    assert ended.value.code == 2
    assert f"{group.path}/fold3 has not finished" in capsys.readouterr().err
    with pytest.raises(UserError, match="fold3 has not finished"):
        group.out_of_fold()
