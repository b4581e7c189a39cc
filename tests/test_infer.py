"""What infer.py leaves and says: nothing of an earlier prediction, nothing half-written, nothing that is no answer."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from pyarrow import parquet
from safetensors.torch import load_file, save_file

import infer
from maskcls import cli
from maskcls.config import load_config
from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.intervals import Interval
from maskcls.labels import HEAD_CLASSES
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, Parsed, files_of_at_most, overrides, rows
from train import train

ALWAYS = {"output.csv", "probabilities.parquet", "answers.html"}
RESULTS = {*ALWAYS, "infer_metrics.json", "infer_confusion_matrix.png"}


@pytest.fixture(scope="module")
def finished_run(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(load_config(ROOT / "configs" / "mask.yaml", overrides(sample, folder, model="convnext")))
    return folder / "runs" / "exp"


def people_of(sample: Path, folder: Path, *lists: str) -> Path:
    """Returns a folder with the profiles of the lists."""
    folder.mkdir()
    for name in lists:
        for profile in (sample / name).read_text().split():
            (folder / profile).symlink_to(sample / "images" / profile)
    return folder


def predict(run: Path, photos: Path, out: Path, *, lang: str = "en") -> set[str]:
    """Returns what lies in `out` after a prediction."""
    infer.infer(str(run), str(photos), batch_size=None, output_dir=str(out), lang=lang)
    return {path.name for path in out.iterdir()}


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: object) -> tuple[object, str]:
    """Returns exit code and message of infer.py, or of the maskcls command."""
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        (infer if command[0] == "infer.py" else cli).main()
    return error.value.code, capsys.readouterr().err


def test_scores_of_an_earlier_prediction_are_not_left_beside_new_answers(
    finished_run: Path, sample: Path, tmp_path: Path
) -> None:
    labelled = people_of(sample, tmp_path / "people", "valid_profiles.txt")
    assert predict(finished_run, labelled, tmp_path / "out") == RESULTS
    assert predict(finished_run, sample / "eval", tmp_path / "out") == ALWAYS


def test_a_saved_decision_is_taken_unless_plain_answers_are_asked_for(
    finished_run: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(shutil.copytree(finished_run, tmp_path / "run"))

    def predicted(name: str, decision: str = "saved") -> tuple[str, np.ndarray]:
        infer.infer(str(run.path), str(sample / "eval"), batch_size=None, output_dir=name, decision=decision)
        table = parquet.read_table(f"{name}/probabilities.parquet")
        probabilities = np.stack([table[f"mask_{label}"].to_numpy() for label in range(3)], axis=1)
        return Path(name, "output.csv").read_text(), probabilities

    run.decision.unlink()
    of_an_old_run = predicted(f"{tmp_path}/old")
    assert "decisions:" not in capsys.readouterr().out
    sure = Interval(0.02, 0.01, 0.03)
    decision = Decision(temperature=Step(sure, {"mask": 2.0}), offsets=Step(sure, {"mask": [0.0, 0.0, 20.0]}))
    decision.save(run.decision)
    plain, saved = (predicted(f"{tmp_path}/{name}", name) for name in ("plain", "saved"))
    assert capsys.readouterr().out.count("decisions: temperature on (log-likelihood +0.020") == 1
    assert plain[0] == of_an_old_run[0] and np.array_equal(plain[1], of_an_old_run[1])
    assert saved[0].count("\n") == saved[0].count(",2\n") + 1 > plain[0].count(",2\n") + 1
    np.testing.assert_allclose(saved[1], decision.tempered({"mask": plain[1]}, "mask")["mask"])


def test_answers_have_a_page_and_names_when_asked_for(
    finished_run: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    other, out = shutil.copytree(finished_run, tmp_path / "other"), tmp_path / "out"
    command = ("--infer_data_dir", sample / "eval", "--output_dir", out, "--names", "--lang", "ko")
    monkeypatch.setattr(sys, "argv", ["infer.py", "--model_dir", f"{finished_run},{other}", *map(str, command)])
    infer.main()
    classes = HEAD_CLASSES["mask"]
    answers = rows(out / "output.csv")
    assert list(answers[0]) == ["ImageID", "ans", "name"]
    assert [row["name"] for row in answers] == [classes[int(row["ans"])] for row in answers]
    assert f"페이지 {out}/answers.html" in capsys.readouterr().out
    page = Parsed((out / "answers.html").read_text(encoding="utf-8"))
    assert "모든 사진에서 모든 모델의 답이 같습니다." in page.text  # of two equal members
    assert "학습 데이터" in page.text  # how many of each class were trained on is known
    assert sum(tag == "img" for tag, _ in page.elements) > len(answers)


def test_people_that_the_run_was_trained_on_are_counted(
    finished_run: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    num_valid, num_train = (len((sample / f"{name}_profiles.txt").read_text().split()) for name in ("valid", "train"))
    everybody = people_of(sample, tmp_path / "all", "valid_profiles.txt", "train_profiles.txt")
    predict(finished_run, everybody, tmp_path / "out")
    printed = f"warning: the run was trained on {num_train} of these {num_valid + num_train} people: "
    assert printed in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "infer_metrics.json").read_text())
    assert (metrics["people"], metrics["people_trained_on"]) == (num_valid + num_train, num_train)
    predict(finished_run, everybody, tmp_path / "out", lang="ko")
    assert f"경고: 이 {num_valid + num_train}명 중 {num_train}명은 학습에 쓰인 사람" in capsys.readouterr().out
    others = people_of(sample, tmp_path / "others", "valid_profiles.txt")
    predict(finished_run, others, tmp_path / "out")
    assert "trained on" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "infer_metrics.json").read_text())["people_trained_on"] == 0


def test_with_its_mirror_image_a_photo_is_answered_as_the_mirror_image_is(
    finished_run: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, mirrored = tmp_path / "photos", tmp_path / "mirrored"
    for folder in (photos, mirrored):
        folder.mkdir()
    for path in sorted((sample / "eval" / "images").iterdir()):
        with Image.open(path) as photo:
            photo.save(photos / f"{path.stem}.png")
            ImageOps.mirror(photo).save(mirrored / f"{path.stem}.png")

    def answered(folder: Path, *options: str) -> np.ndarray:
        command = [
            "infer.py",
            "--model_dir",
            finished_run,
            "--infer_data_dir",
            folder,
            "--output_dir",
            tmp_path / "out",
        ]
        monkeypatch.setattr(sys, "argv", [*map(str, command), *options])
        infer.main()
        table = parquet.read_table(tmp_path / "out" / "probabilities.parquet").drop_columns("ImageID")
        return np.stack([column.to_numpy() for column in table.columns])

    def differs(*options: str) -> float:
        return float(np.abs(answered(photos, *options) - answered(mirrored, *options)).max())

    assert differs("--tta") < 1e-3 < differs()
    assert np.array_equal(answered(photos, "--tta"), answered(photos, "--tta", "flip"))
    assert np.array_equal(answered(photos, "--tta", "none"), answered(photos))
    of_five = answered(photos, "--tta", "5")
    assert all(np.abs(of_five - answered(photos, *options)).max() > 1e-5 for options in ([], ["--tta"]))


def test_unknown_views_are_a_mistake_of_the_command_line(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = ended(monkeypatch, capsys, "infer.py", "--model_dir", finished_run, "--tta", "flop")
    assert (code, message) == (2, "error: unknown tta 'flop'. Did you mean 'flip'? Known: none, flip, 5\n")


@pytest.mark.parametrize("number", [float("nan"), 3e38])  # 3e38 is finite, and what comes of it is not
def test_answers_that_are_not_finite_are_refused(
    number: float, finished_run: Path, sample: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = shutil.copytree(finished_run, tmp_path / "exp")
    weights = load_file(run / "best" / "model.safetensors")
    weights["classifier.weight"].fill_(number)
    save_file(weights, run / "best" / "model.safetensors", metadata={"format": "pt"})
    code, message = ended(
        monkeypatch, capsys,
        "infer.py", "--model_dir", run, "--infer_data_dir", sample / "eval", "--output_dir", tmp_path / "out",
    )  # fmt: skip
    assert code == 2 and message.startswith(f"error: {run}/best ") and "not finite numbers" in message
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_ends_a_prediction_as_a_fault_and_leaves_nothing_unfinished(
    finished_run: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    out, photos = tmp_path / "out", tmp_path / "photos"
    photos.mkdir()
    photo = next((sample / "eval" / "images").iterdir())
    for number in range(60):  # names that take more than 5,000 bytes however they are packed
        name = "".join(hashlib.sha256(bytes([number, part])).hexdigest() for part in range(3))
        (photos / f"{name}.jpg").symlink_to(photo)
    predict(finished_run, sample / "eval", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    command = ("infer.py", "--model_dir", finished_run, "--infer_data_dir", photos, "--output_dir", out)
    with files_of_at_most(5_000):
        code, message = ended(monkeypatch, capsys, *command)
    assert code == 3, message
    assert message == f"error: {out}/probabilities.parquet cannot be written: File too large\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_ends_the_sample_data_as_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(0):
        code, message = ended(monkeypatch, capsys, "maskcls", "sample-data", tmp_path / "data", "--people", "1")
    assert (code, message) == (3, f"error: {tmp_path}/data cannot be written: File too large\n")
