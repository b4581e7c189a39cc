"""From profile folders to predictions: every shipped config, every output form, one and two processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from pyarrow import parquet
from safetensors import safe_open
from transformers import AutoModelForImageClassification

from infer import infer
from maskcls.config import load_config
from maskcls.data.profiles import parse_profile
from maskcls.errors import UserError
from maskcls.labels import STEMS
from maskcls.training.request import run_to_resume
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, TINY, files_of_at_most, json_lines, overrides, rows, run
from train import train

CONFIGS = {path.stem: path for path in sorted((ROOT / "configs").glob("*.yaml"))}


def test_the_shipped_configs_are_these() -> None:
    assert set(CONFIGS) == {
        "demo", "exp", "convnextv2_tiny", "multi_head", "gender_bce", "mask", "age", "real_faces",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_trains_an_epoch_and_predicts(name: str, sample: Path, tmp_path: Path) -> None:
    model = yaml.safe_load(CONFIGS[name].read_text())["model"]
    more = {"model_args": TINY[model].replace("}", ", num_labels: 1}")} if name == "gender_bce" else {}
    train(load_config(CONFIGS[name], overrides(sample, tmp_path, model=model, **more)))
    folder = tmp_path / "runs" / "exp"

    assert {path.name for path in folder.iterdir()} == {
        "best", "class_counts.json", "config.yaml", "confusion_matrix.png", "curves.png", "decision.json",
        "environment.json", "finished.json", "last", ".lock", "metrics.jsonl", "preprocessing.json", "train_profiles.txt",
        "valid_predictions.parquet", "valid_profiles.txt",
    }  # fmt: skip
    counts = json.loads((folder / "class_counts.json").read_text())
    assert sum(counts["class"]) == sum(counts["gender"]) == len((folder / "train_profiles.txt").read_text().split()) * 7
    lines = json_lines(folder / "metrics.jsonl")
    num_updates = len((folder / "train_profiles.txt").read_text().split()) * 7 // 12
    assert [line["update"] for line in lines if "train/loss" in line][-1] == num_updates
    assert all({"epoch", "update"} <= line.keys() for line in lines)
    assert {"train/loss", "train/lr", "train/images_per_second", "train/acc", "train/f1"} <= lines[0].keys()
    assert {"valid/loss", "valid/acc", "valid/f1"} <= lines[-1].keys()
    output = load_config(folder / "config.yaml").output
    if output in ("all", "class"):
        assert {
            f"valid/{head}_{score}" for head in ("mask", "gender", "age") for score in ("acc", "f1", "loss")
        } <= lines[-1].keys()

    infer(str(folder), None, batch_size=None, output_dir=None)
    answers = rows(folder / "output.csv")
    assert [row["ImageID"] for row in answers] == [row["ImageID"] for row in rows(sample / "eval" / "info.csv")]
    table = parquet.read_table(folder / "probabilities.parquet").to_pydict()
    head = "class" if output in ("all", "class") else output
    num_classes = load_config(folder / "config.yaml").num_classes
    probabilities = np.stack([table[f"{head}_{label}"] for label in range(num_classes or 0)], axis=1)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), [int(row["ans"]) for row in answers])
    width = {"all": 8, "class": 18, "mask": 3, "gender": 1, "age": 3}[output]
    assert AutoModelForImageClassification.from_pretrained(folder / "best").config.num_labels == width


def photo_label(name: str, head: str) -> int:
    """Returns what the path of a photo says: its mask state, gender or age group."""
    profile, file = name.split("/")
    person = parse_profile(profile)
    return {**STEMS[Path(file).stem], **person.labels}[head]


@pytest.mark.parametrize("ema_decay", [pytest.param("null", marks=pytest.mark.slow), 0.99])
def test_inference_on_profile_folders_has_the_scores_that_validation_had(
    ema_decay: object, sample: Path, tmp_path: Path
) -> None:
    more = {"ema_decay": ema_decay, "lr": 0.01, "train_batch_size": 5}  # far from the average within an epoch
    config = load_config(CONFIGS["multi_head"], overrides(sample, tmp_path, model="vit", **more))
    train(config)
    folder = tmp_path / "runs" / "exp"
    people = tmp_path / "people"
    people.mkdir()
    for name in (sample / "valid_profiles.txt").read_text().split():
        (people / name).symlink_to(sample / "images" / name)
    infer(str(folder), str(people), batch_size=5, output_dir=str(tmp_path / "out"))
    scores = json.loads((tmp_path / "out" / "infer_metrics.json").read_text())
    valid = json_lines(folder / "metrics.jsonl")[-1]
    assert np.mean(list(scores["f1_per_class"].values())) == pytest.approx(scores["f1"])
    assert len(scores["f1_per_class"]) == 18
    assert scores["photos"] == len(rows(tmp_path / "out" / "output.csv"))
    for name in ("acc", "f1", "mask_acc", "gender_f1", "age_acc"):
        assert scores[name] == pytest.approx(valid[f"valid/{name}"], abs=1e-9)
    table = parquet.read_table(tmp_path / "out" / "probabilities.parquet").to_pydict()
    for head in ("mask", "gender", "age"):  # and the very same probabilities
        truth = [photo_label(name, head) for name in table["ImageID"]]
        loss = -np.mean([np.log(table[f"{head}_{label}"][row]) for row, label in enumerate(truth)])
        assert loss == pytest.approx(valid[f"valid/{head}_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_disk_that_has_no_room_for_the_report_costs_nothing_else(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"report": "true", "cache": "none"}
    with files_of_at_most(500_000):  # the report is larger than the rest
        train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
    folder = tmp_path / "runs" / "exp"
    printed = capsys.readouterr().out
    assert "best valid/f1 " in printed and f"next: python infer.py --model_dir {folder}" in printed
    assert (
        f"warning: {folder}/report.html cannot be written: File too large. Everything else is there; to make the report "
        f"again: maskcls report {folder}"
    ) in printed
    assert (folder / "finished.json").exists()
    assert [path.name for path in folder.iterdir() if "report" in path.name or "unfinished" in path.name] == []


@pytest.mark.slow
def test_a_run_without_cache_sees_the_same_pixels_and_so_has_the_same_losses(sample: Path, tmp_path: Path) -> None:
    losses = []
    for cache in ("memory_map", "none"):
        more = {"cache": cache, "name": cache, "dataset_args.mean": "null"}
        train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
        losses.append(
            [
                line.get("train/loss", line.get("valid/loss"))
                for line in json_lines(tmp_path / "runs" / cache / "metrics.jsonl")
            ]
        )
    assert len(losses[0]) > 2
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_split_is_drawn_and_saved_when_no_validation_list_is_given(sample: Path, tmp_path: Path) -> None:
    more = {"train_profile": "null", "valid_profile": "null", "num_folds": 2, "fold": 1}
    train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
    folder = tmp_path / "runs" / "exp"
    train_people = set((folder / "train_profiles.txt").read_text().split())
    valid_people = set((folder / "valid_profiles.txt").read_text().split())
    assert not train_people & valid_people
    assert len(train_people) == len(valid_people) == 6
    assert train_people | valid_people == {p.name for p in (sample / "images").iterdir() if not p.name.startswith(".")}


@pytest.mark.slow
def test_mean_and_std_given_are_the_ones_that_inference_uses(sample: Path, tmp_path: Path) -> None:
    more = {"dataset_args": "{output: mask, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6]}"}
    train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
    known = RunFolder(tmp_path / "runs" / "exp").read_preprocessing()
    assert (known.mean, known.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.slow
def test_early_stopping_ends_a_run_that_does_not_get_better(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"epochs": 9, "early_stopping_patience": 2, "lr": "1e-12", "scheduler": "constant"}
    train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
    epochs = [line["epoch"] for line in json_lines(tmp_path / "runs" / "exp" / "metrics.jsonl") if "valid/f1" in line]
    assert epochs == [1, 2, 3]
    assert "stopped: f1 has not been better for 2 epochs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"scheduler": "ReduceLROnPlateau", "scheduler_args": "{patience: 0, threshold: 10}", "epochs": 3},
        {"optimizer": "SGD", "optimizer_args": "{momentum: 0.9}", "scheduler": "OneCycleLR", "scheduler_args": "{max_lr: 0.1}"},
        {"optimizer": "Lion", "lr": "1e-4", "ema_decay": 0.9, "max_device_batch_size": 5},
        {"augmentation": "strong", "augmentation_args": "{mixup: 0.5, cutmix: 0.5}", "criterion": "f1", "criterion_args": "{}"},
    ],
    ids=["plateau", "one_cycle", "lion_ema_accumulation", "mixing"],
)  # fmt: skip
def test_other_optimizers_schedules_and_recipes_train(more: dict[str, object], sample: Path, tmp_path: Path) -> None:
    train(load_config(CONFIGS["mask"], overrides(sample, tmp_path, model="convnext", **more)))
    lines = json_lines(tmp_path / "runs" / "exp" / "metrics.jsonl")
    assert all(np.isfinite(line.get("train/loss", line.get("valid/loss"))) for line in lines)
    if more.get("scheduler") == "ReduceLROnPlateau":
        rates = [line["train/lr"] for line in lines if "train/lr" in line]
        assert rates[-1] < rates[0]


@pytest.mark.slow
def test_any_number_of_processes_and_passes_gives_the_same_run(sample: Path, tmp_path: Path) -> None:
    """1 and 4 processes, 1, 2 and 4 passes: the same loss in every update; and with 2 the same predictions.

    One process is this one, which saves two starts; the script and the command are started by others.
    """
    results = {}
    for processes, most in ((1, "null"), (1, 4), (4, 2)):
        name = f"{processes}x{most}"
        more = {
            "name": name, "epochs": 2, "train_batch_size": 16, "max_device_batch_size": most, "log_interval": 1,
            "augmentation": "standard", "augmentation_args": "{mixup: 0.4, cutmix: 0.4, erase: 0.5}",
        }  # fmt: skip
        given = overrides(sample, tmp_path, model="vit", **more)
        if processes == 1:
            train(load_config(CONFIGS["multi_head"], given))
        else:
            # Nobody tells them that they are on a CPU.
            trained = run("train.py", "--config", CONFIGS["multi_head"], *given, processes=processes,
                          ACCELERATE_USE_CPU=None)  # fmt: skip
            assert trained.returncode == 0, trained.stderr
            assert f"devices  {processes} x cpu" in trained.stdout
        folder = tmp_path / "runs" / name
        assert json.loads((folder / "environment.json").read_text())["num_processes"] == processes
        results[name] = json_lines(folder / "metrics.jsonl")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == results.keys()  # one folder a launch
    lines = results.pop("1xnull")
    assert len([line for line in lines if "train/loss" in line]) == 8
    for name, other_lines in results.items():
        assert len(lines) == len(other_lines)
        for line, other in zip(lines, other_lines, strict=True):
            assert line.keys() == other.keys()
            for key in line.keys() - {"train/images_per_second", "train/waiting_share", "train/peak_memory_gb"}:
                assert other[key] == pytest.approx(line[key], rel=1e-5, abs=1e-6), (name, key)

    answers = []
    for name in ("1xnull", "4x2"):
        folder = tmp_path / "runs" / name
        if name == "1xnull":
            infer(str(folder), None, batch_size=7, output_dir=None)
        else:
            predicted = run("-m", "maskcls", "infer", "--model_dir", folder, "--batch_size", "7", processes=2)
            assert predicted.returncode == 0, predicted.stderr
        answers.append((rows(folder / "output.csv"), parquet.read_table(folder / "probabilities.parquet")))
    (one, probabilities_one), (two, probabilities_two) = answers
    assert one == two
    for column in probabilities_one.column_names[1:]:
        np.testing.assert_allclose(
            probabilities_one[column].to_numpy(), probabilities_two[column].to_numpy(), atol=1e-5
        )


@pytest.mark.slow
def test_a_compiled_model_is_saved_under_its_own_names(sample: Path, tmp_path: Path) -> None:
    arguments = overrides(sample, tmp_path, model="vit")
    trained = run("train.py", "--config", CONFIGS["age"], *arguments, ACCELERATE_DYNAMO_BACKEND="EAGER")
    assert trained.returncode == 0, trained.stderr
    with safe_open(tmp_path / "runs" / "exp" / "best" / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
    assert names
    assert not [name for name in names if "_orig_mod" in name or name.startswith("module.")]
    infer(str(tmp_path / "runs" / "exp"), None, batch_size=None, output_dir=None)


@pytest.mark.slow
def test_two_processes_end_together_with_one_message_when_a_photo_is_bad(sample: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    shutil.copytree(sample / "images", people)
    (cut,) = (people / (sample / "train_profiles.txt").read_text().split()[1]).glob("normal.*")
    cut.write_bytes(cut.read_bytes()[:3000])
    arguments = overrides(sample, tmp_path, model="vit", data_dir=people)
    ended = run("train.py", "--config", CONFIGS["multi_head"], *arguments, processes=2, timeout=120)
    assert ended.returncode != 0
    assert ended.stderr.count("error: ") == 1
    assert f"{cut}: image file is truncated" in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_nobody_needs_a_home(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user has none; what a run cannot write would be known only after its first epoch."""
    home, settings = "/proc/nobody", overrides(sample, tmp_path, model="convnext")
    done = run("train.py", "--config", "configs/mask.yaml", *settings, HOME=home)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("infer.py", "--model_dir", tmp_path / "runs" / "exp", "--infer_data_dir", sample / "images", HOME=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "runs" / "exp" / "infer_metrics.json").exists()  # profile folders: their names are the truth
    at_home = [value for value in settings if not value.startswith("cache_dir=")]
    monkeypatch.setenv("HOME", home)
    with pytest.raises(UserError, match=f"^cache_dir {home}/.cache/maskcls cannot be written: "):
        train(load_config(CONFIGS["mask"], at_home))


@pytest.mark.slow
def test_folders_may_be_called_anything_and_are_found_from_anywhere(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    settings = overrides(sample, tmp_path, model="convnext")
    train(load_config(CONFIGS["mask"], [*settings, "model_dir=~/s3:a::b c", "cache_dir=http:cache"]))
    made = tmp_path / "home" / "s3:a::b c" / "exp"
    assert made.is_dir() and (tmp_path / "work" / "http:cache" / "pixels").is_dir()
    monkeypatch.chdir(tmp_path)
    infer("~/s3:a::b c/exp", None, batch_size=None, output_dir="out:1")
    assert {path.name for path in (tmp_path / "out:1").iterdir()} >= {"output.csv", "probabilities.parquet"}
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("HOME", "/nowhere")
    resumed, config = run_to_resume("s3:a::b c/exp", None, ["epochs=2"])
    assert resumed is not None and config.cache_dir == str(tmp_path / "work" / "http:cache")
    train(config, resumed)
    assert len(json_lines(made / "metrics.jsonl")) > 3 and (made / "finished.json").exists()
    assert not [path.name for path in tmp_path.rglob("*") if path.name in ("~", "nowhere")]
