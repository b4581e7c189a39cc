"""The report of a run, read as a file: its numbers, its languages, what it escapes, and what it does without a part."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import vl_convert
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from maskcls.cli import report as command
from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.metrics import METRICS, Score, measure
from maskcls.evaluation.predictions import Predictions
from maskcls.evaluation.unsure import coverage
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.reporting.report import mistakes, page, scores
from maskcls.reporting.report.document import script_hash
from maskcls.reporting.report.material import Material
from maskcls.reporting.report.page import write_report
from maskcls.reporting.thumbnails import jpeg
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words
from tests import made
from tests.helpers import Parsed

SCRIPT_END = "000002_male_</script><script>alert(2)</script>_30"


@pytest.fixture(scope="module")
def runs(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """Returns a run, and a better one with other settings."""
    folder = tmp_path_factory.mktemp("runs")
    worse = made.run(sample, folder, hostile=True, accuracy=0.6)
    Decision(temperature=Step(Interval(0.02, 0.01, 0.03), dict.fromkeys(ATTRIBUTES, 1.5))).save(worse.decision)
    return worse, made.run(sample, folder, hostile=True, name="better", accuracy=0.99, epochs=4)


@pytest.fixture(scope="module")
def written(runs: tuple[RunFolder, RunFolder]) -> str:
    """Returns the page of the first run."""
    return write_report(runs[0], language="en").read_text(encoding="utf-8")


def missing(text: str) -> list[str]:
    """Returns the reasons why sections of an English page have no content."""
    return re.findall(r'<p class="missing">Not available: (.*?)</p>', text)


def test_every_section_has_its_content(written: str) -> None:
    parsed = Parsed(written)
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == [name for name in page.SECTIONS if name not in ("comparison", "folds")]
    assert missing(written) == []
    linked = [attributes["href"] for tag, attributes in parsed.elements if tag == "a"]
    assert linked == ["#content", *(f"#{name}" for name in sections)]
    drawn = [attributes["data-chart"] for attributes in parsed.having("data-chart")]
    assert sorted(drawn) == sorted(made.embedded(written)["charts"])  # type: ignore[call-overload]
    assert len(drawn) == 4 + 1 + 4  # curves, groups, calibration of four heads


def test_the_main_score_is_that_of_the_predictions(written: str, runs: tuple[RunFolder, RunFolder]) -> None:
    predictions = Predictions.load(runs[0].path / "valid_predictions.parquet")
    f1 = f1_score(
        predictions.truth("class"), predictions.predicted("class"), labels=range(18), average="macro", zero_division=0
    )
    assert f'<div class="tile-title">18 classes: macro-F1</div>\n<div class="tile-value">{f1:.3f}</div>' in written


def test_a_row_of_metrics_is_all_that_a_score_of_the_log_with_an_interval_in_the_report_needs(
    monkeypatch: pytest.MonkeyPatch, sample: Path, tmp_path: Path
) -> None:
    def kappa(right: np.ndarray, true: np.ndarray, answered: np.ndarray) -> np.ndarray:
        num_photos = true.sum(-1)
        chance = (true * answered).sum(-1) / num_photos**2
        return (right.sum(-1) / num_photos - chance) / (1 - chance)

    monkeypatch.setitem(METRICS, "kappa", kappa)
    run = made.run(sample, tmp_path)
    table = Predictions.load(run.predictions)
    heads = table.probabilities
    logged, _ = measure({h: table.predicted(h) for h in heads}, {h: table.truth(h) for h in heads}, output="all")
    intervals = Findings(table).named_scores
    for head in heads:
        name = Score(head, "kappa").name("class")
        assert logged[name] == pytest.approx(cohen_kappa_score(table.truth(head), table.predicted(head)))
        assert intervals[name].value == pytest.approx(logged[name])
        assert intervals[name].low < intervals[name].value < intervals[name].high
    page = write_report(run, language="ko").read_text(encoding="utf-8")
    assert (
        f'<div class="tile-title">18개 클래스: kappa</div>\n<div class="tile-value">{logged["kappa"]:.3f}</div>' in page
    )
    assert '<div class="tile-title">18개 클래스: 균형 정확도</div>' in page


def test_the_coverage_of_unsure_is_shown_where_the_people_are_enough(runs: tuple[RunFolder, RunFolder]) -> None:
    """It is that of the probabilities after the temperatures of the run's decision, as in infer.py."""
    table, of_few = made.predictions(60, accuracy=0.7), made.predictions(8)
    pages = [
        write_report(runs[0], language="ko", findings=Findings(known)).read_text("utf-8") for known in (table, of_few)
    ]
    assert ["확실하지 않은 답" in page for page in pages] == [True, False]
    tempered = Decision.load(runs[0].decision).tempered(table.probabilities, "all")
    expected = coverage(replace(table, probabilities=tempered), Findings(table).draws)
    assert expected != coverage(table, Findings(table).draws)
    assert sum(map(len, expected.values())) == 4 * 2  # heads; 99 % is more than 48 people can promise
    for row in (row for rows in expected.values() for row in rows):
        covered = f"{row.covered.value:.1%} <small>{100 * row.covered.low:.1f} – {row.covered.high:.1%}</small>"
        cells = (f"{100 * (1 - row.risk):.0f}%", covered, f"{row.answered.value:.1%}")
        assert "".join(f'<td class="n">{cell}</td>' for cell in cells) in pages[0]


def test_the_decision_is_said_where_a_run_has_one(written: str, runs: tuple[RunFolder, RunFolder]) -> None:
    assert "decisions: temperature on (log-likelihood +0.020 [+0.010, +0.030])" in written
    of_an_older_version = Material(runs[1], None, "en", Findings(made.predictions(8)))
    assert scores.calibration(of_an_older_version)["decision"] == ""


def test_the_confusion_matrices_are_those_of_scikit_learn(written: str, runs: tuple[RunFolder, RunFolder]) -> None:
    predictions = Predictions.load(runs[0].path / "valid_predictions.parquet")
    cells = Parsed(written).having("data-count")
    for head, classes in HEAD_CLASSES.items():
        size = len(classes)
        expected = confusion_matrix(predictions.truth(head), predictions.predicted(head), labels=range(size))
        own, cells = cells[: size * size], cells[size * size :]
        assert [int(cell["data-count"]) for cell in own] == expected.flatten().tolist()
        shares = expected / np.maximum(expected.sum(1, keepdims=True), 1) * 100
        np.testing.assert_allclose([float(cell["data-share"]) for cell in own], shares.flatten(), atol=0.51)
    assert cells == []


def test_every_chart_is_a_valid_vega_lite_chart(written: str) -> None:
    charts = made.embedded(written)["charts"]
    assert len(charts) == 9  # type: ignore[arg-type]
    for name, chart in charts.items():  # type: ignore[attr-defined]
        assert "<path" in vl_convert.vegalite_to_svg({**chart, "width": 300}), name


def test_nothing_is_fetched_and_scripts_run_by_their_hash_only(written: str) -> None:
    parsed = Parsed(written)
    sources = [a[name] for _, a in parsed.elements for name in ("src", "href") if name in a]
    assert len(sources) > 40
    assert all(source.startswith(("data:", "#")) for source in sources)
    policy = next(a["content"] for a in parsed.having("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    assert len(scripts) == 2
    assert all(script_hash(script) in policy for script in scripts)
    assert "unsafe-eval" not in policy


def test_names_of_people_cannot_become_elements(sample: Path, tmp_path: Path) -> None:
    run = made.run(sample, tmp_path, hostile=True, accuracy=0.4)
    path = run.path / "valid_predictions.parquet"
    predictions = Predictions.load(path)
    other = next(name for name in predictions.people if name != made.HOSTILE)
    people = np.where(predictions.people == other, SCRIPT_END, predictions.people)
    races = np.where(people == SCRIPT_END, '"><img src=y onerror=alert(3)>', predictions.races)
    replace(predictions, people=people, races=races).save(path)
    text = write_report(run, language="en").read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert len([tag for tag, _ in parsed.elements if tag == "script"]) == 3
    assert all(a["src"].startswith("data:image/jpeg") for tag, a in parsed.elements if tag == "img")
    assert not parsed.having("onerror")
    profiles = {a["data-profile"] for a in parsed.having("data-profile")}
    assert {made.HOSTILE, SCRIPT_END} <= profiles  # as data they are whole
    assert {made.HOSTILE, SCRIPT_END} <= set(made.embedded(text)["people"])  # type: ignore[call-overload]


def test_a_person_behind_a_card_has_all_photos_with_their_answers(
    written: str, runs: tuple[RunFolder, RunFolder]
) -> None:
    people = made.embedded(written)["people"]
    predictions = Predictions.load(runs[0].path / "valid_predictions.parquet")
    assert made.HOSTILE in people  # type: ignore[operator]
    for name, person in people.items():  # type: ignore[attr-defined]
        rows = np.flatnonzero(predictions.people == name)
        assert sorted(photo["file"] for photo in person["photos"]) == sorted(predictions.files[rows].tolist())
        by_file = {photo["file"]: photo for photo in person["photos"]}
        for row in rows:
            photo = by_file[predictions.files[row]]
            assert photo["image"].startswith("data:image/jpeg;base64,")
            for head, answer in zip(ATTRIBUTES, photo["answers"], strict=True):
                right = predictions.truth(head)[row] == predictions.predicted(head)[row]
                assert (answer["head"], answer["isRight"]) == (Words("en")(head), right)
                assert answer["answer"] == Words("en").class_name(head, int(predictions.predicted(head)[row]))


def test_only_the_first_cards_have_a_picture_of_what_the_model_looked_at(written: str) -> None:
    alts = [a.get("alt", "") for tag, a in Parsed(written).elements if tag == "img"]
    cards = [number for number, alt in enumerate(alt for alt in alts if alt) if alt == "looked at"]
    assert cards == list(range(1, 2 * mistakes.NUM_SHOWN_FIRST, 2))  # beside each of the first photos
    assert "where the model found evidence for its answer: Grad-CAM." in written


@pytest.mark.parametrize(("output", "model", "heads"), [("class", "vit", 3), ("gender", "convnext", 1)])
def test_other_forms_of_heads_have_a_report_too(
    sample: Path, tmp_path: Path, output: str, model: str, heads: int
) -> None:
    text = write_report(made.run(sample, tmp_path, output=output, model=model), language="en").read_text("utf-8")
    assert missing(text) == []
    assert len({a["data-head"] for a in Parsed(text).having("data-kind")}) == heads
    method = {"vit": "attention rollout", "convnext": "Grad-CAM"}[model]
    assert f"where the model found evidence for its answer: {method}." in text


def test_a_run_without_files_has_a_line_for_each_missing_part(tmp_path: Path) -> None:
    text = write_report(RunFolder(tmp_path), language="en").read_text(encoding="utf-8")
    reasons = missing(text)
    assert len(reasons) == len(page.SECTIONS) - 2  # comparison, folds
    assert sum("valid_predictions.parquet does not exist" in reason for reason in reasons) == 6
    assert sum("config.yaml does not exist" in reason for reason in reasons) == 2
    assert sum("metrics.jsonl has no lines" in reason for reason in reasons) == 2


def test_a_run_whose_photos_and_model_are_gone_says_so_and_shows_the_rest(sample: Path, tmp_path: Path) -> None:
    run = made.run(sample, tmp_path, accuracy=0.3)  # every photo is a mistake or a suspect, and shown
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(run.best)
    (run.path / "environment.json").unlink()
    text = write_report(run, language="en").read_text(encoding="utf-8")
    assert missing(text) == [f"data_dir {tmp_path}/images does not exist"]
    num_photos = len(Predictions.load(run.path / "valid_predictions.parquet"))
    assert f"{num_photos} photos could not be read from {tmp_path}/images." in text
    assert f"What the model looked at is not available: {run.best} does not exist." in text
    assert "<img" not in text[text.index("<body>") : text.index("content-data")]


def test_damaged_files_become_lines_too(sample: Path, tmp_path: Path) -> None:
    run = made.run(sample, tmp_path)
    (run.path / "valid_predictions.parquet").write_bytes(b"no table")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "upd')
    reasons = missing(write_report(run, language="en").read_text(encoding="utf-8"))
    assert sum("is not a table of predictions" in reason for reason in reasons) == 6
    assert any("is no line of a log" in reason for reason in reasons)


def test_numbers_that_json_does_not_know_are_left_out(sample: Path, tmp_path: Path) -> None:
    run = made.run(sample, tmp_path)
    run.log(
        {
            "epoch": 4,
            "update": 8,
            "train/loss": float("nan"),
            "valid/loss": float("inf"),
            "valid/f1": 0.5,
            "valid/acc": 0.5,
        }
    )
    text = write_report(run, language="en").read_text(encoding="utf-8")
    assert missing(text) == []
    points = made.embedded(text)["charts"]["chart_loss"]["data"]["values"]  # type: ignore[index]
    assert len(points) == 9
    assert max(point["update"] for point in points) == 6
    table = Predictions.load(run.predictions)
    table.probabilities["gender"][3] = float("nan")
    table.save(run.predictions)
    assert "NaN" not in json.dumps(made.embedded(write_report(run, language="en").read_text(encoding="utf-8")))


def test_pictures_shrink_until_the_file_is_small_enough(
    runs: tuple[RunFolder, RunFolder], monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    assert "Pictures were made smaller" not in written
    whole = len(written.encode())
    monkeypatch.setattr(page, "MAX_BYTES", whole - 20_000)
    text = write_report(runs[0], language="en").read_text(encoding="utf-8")
    assert len(text.encode()) <= whole - 20_000
    assert "Pictures were made smaller" in text
    assert missing(text) == []


def test_the_full_gallery_of_a_large_run_stays_below_the_limit() -> None:
    sizes = mistakes.SIZES
    assert sizes[0].num_mistakes == 60
    assert all(a.thumbnail >= b.thumbnail and a.num_mistakes >= b.num_mistakes for a, b in pairwise(sizes))
    # Noise is the hardest picture for JPEG: the smallest size fits whatever the photos show.
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    thumbnail, photo = (
        len(jpeg(Image.fromarray(noise[0][:size, :size]))) for size in (sizes[-1].thumbnail, sizes[-1].photo)
    )
    most = sizes[-1].num_mistakes * (2 * thumbnail + 7 * photo) + 10 * 7 * photo
    assert most < page.MAX_BYTES - 1_500_000


def test_a_comparison_shows_what_differs_and_whether_it_is_real(runs: tuple[RunFolder, RunFolder]) -> None:
    worse, better = runs
    text = write_report(better, language="en", against=worse).read_text(encoding="utf-8")
    assert missing(text) == []
    assert "Better than exp by 0." in text
    assert "Against exp, on the 84 photos of 12 people that both validated." in text
    rows = re.findall(r'<tr><th scope="row">([a-z_]+)</th><td>(\w+)</td><td>(\w+)</td></tr>', text.replace("<wbr>", ""))
    assert rows == [("epochs", "4", "3")]
    back = write_report(worse, language="en", against=better).read_text(encoding="utf-8")
    assert "Worse than better by 0." in back
    alike = write_report(worse, language="en", against=worse).read_text(encoding="utf-8")
    assert "Not distinguishable from exp" in alike
    assert "No difference." in alike


def test_runs_of_other_people_are_not_compared(runs: tuple[RunFolder, RunFolder], sample: Path, tmp_path: Path) -> None:
    other = made.run(sample, tmp_path, name="other")
    path = other.path / "valid_predictions.parquet"
    predictions = Predictions.load(path)
    replace(predictions, people=np.char.add("9", predictions.people)).save(path)
    text = write_report(runs[0], language="en", against=other).read_text(encoding="utf-8")
    assert missing(text) == [f"{other.path} and {runs[0].path} validated no common photo"]


def test_the_report_speaks_korean(runs: tuple[RunFolder, RunFolder]) -> None:
    text = write_report(runs[1], language="ko", against=runs[0]).read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert parsed.elements[0] == ("html", {"lang": "ko"})
    assert "표시할 수 없음" not in text
    for key in ("summary", "confusion", "mistakes", "class_counts", "batch"):
        assert Words("ko")(key) in parsed.text
        assert not re.search(rf">{Words('en')(key)}<", text)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_writes_the_report_and_says_where(
    runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs[1].path / "report.html"
    path.unlink(missing_ok=True)
    command.run(arguments(str(runs[1].path), "--against", str(runs[0].path), "--lang", "en"))
    assert re.fullmatch(rf"report {re.escape(str(path))} \([0-9.]+ MB\)\n", capsys.readouterr().out)
    assert "Better than exp" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in runs[1].path.iterdir() if entry.name.startswith(".")] == []


def test_the_command_refuses_what_is_no_run(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    for line in ([str(tmp_path)], [str(runs[0].path), "--against", str(tmp_path)]):
        with pytest.raises(UserError, match=f"{tmp_path} is not a run folder: it has no config.yaml"):
            command.run(arguments(*line))
    (tmp_path / "config.yaml").write_text("site_name: documents\n")
    with pytest.raises(UserError, match=f"{tmp_path} is not a run folder: its config.yaml is none that train.py wrote"):
        command.run(arguments(str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_report_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone/report\.html cannot be written: No such file or directory"):
        write_report(RunFolder(tmp_path / "gone"), language="en")


def test_material_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    material = Material(RunFolder(tmp_path), None, "en")
    with pytest.raises(UserError, match=r"valid_predictions\.parquet does not exist"):
        _ = material.findings
