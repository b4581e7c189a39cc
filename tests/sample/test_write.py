"""The drawn sample data has the real data's layout, and the same seed gives the same bytes."""

from __future__ import annotations

import argparse
import csv
import hashlib
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskcls.cli import sample_data
from maskcls.cli.sample_data import demo_command
from maskcls.config import load_config
from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES, age_group, labels_of
from maskcls.sample.people import make_person
from maskcls.sample.write import STEMS, SampleDataSummary, write_sample_data
from tests.helpers import ROOT

NUM_PEOPLE = 12
SEED = 2  # with this one the few photos have all four extensions


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleDataSummary]:
    directory = tmp_path_factory.mktemp("sample") / "data"
    return directory, write_sample_data(directory, num_people=NUM_PEOPLE, seed=SEED)


def test_the_layout_and_the_counts_are_exact(sample: tuple[Path, SampleDataSummary]) -> None:
    directory, summary = sample
    assert {path.name for path in directory.iterdir()} == {
        "images",
        "train_profiles.txt",
        "valid_profiles.txt",
        "eval",
        "eval_truth.csv",
    }
    assert {path.name for path in (directory / "eval").iterdir()} == {"images", "info.csv"}
    profiles = visible(directory / "images")
    assert len(profiles) == NUM_PEOPLE
    for profile in profiles:
        assert sorted(photo.stem for photo in visible(profile)) == sorted(STEMS)
        identity, gender, _, age = profile.name.split("_")
        assert len(identity) == 6 and identity.isdigit() and gender in HEAD_CLASSES["gender"] and 18 <= int(age) <= 82
    assert (summary.num_train_people, summary.num_valid_people, summary.num_eval_people) == (10, 2, 2)
    assert (summary.num_profile_photos, summary.num_eval_photos) == (NUM_PEOPLE * 7, 2 * 7)


def test_every_photo_opens_at_384_x_512_in_the_format_that_its_name_says(
    sample: tuple[Path, SampleDataSummary],
) -> None:
    directory, summary = sample
    photos = [photo for profile in visible(directory / "images") for photo in visible(profile)]
    photos += (directory / "eval/images").iterdir()
    for path in photos:
        with Image.open(path) as photo:
            photo.load()
            assert (photo.size, photo.mode) == ((384, 512), "RGB")
            assert photo.format == ("PNG" if path.suffix == ".png" else "JPEG")
            assert np.asarray(photo).std() > 15  # a picture, not an empty canvas
    assert len(photos) == summary.num_profile_photos + summary.num_eval_photos == 98


def test_real_folders_mess_is_there(sample: tuple[Path, SampleDataSummary]) -> None:
    images = sample[0] / "images"
    extensions = Counter(photo.suffix for profile in visible(images) for photo in visible(profile))
    assert extensions.keys() == {".jpg", ".jpeg", ".JPG", ".png"}
    assert extensions[".jpg"] > NUM_PEOPLE * 7 / 2
    assert (images / ".DS_Store").is_file() and (images / ".ipynb_checkpoints").is_dir()
    assert len(list(images.glob("*/._mask1.jpg"))) == 2


def test_the_lists_name_every_folder_exactly_once(sample: tuple[Path, SampleDataSummary]) -> None:
    train, valid = (path.read_text().splitlines() for path in (sample[1].train_profile, sample[1].valid_profile))
    assert not set(train) & set(valid)
    assert sorted(train + valid) == sorted(profile.name for profile in visible(sample[0] / "images"))


@pytest.mark.parametrize("num_people", [1, 2, 6, 31, 150])
def test_both_lists_are_even_over_gender_and_age_group(num_people: int) -> None:
    from maskcls.sample.write import _split

    train, valid = _split(num_people, seed=3)
    assert sorted(train + valid) == list(range(num_people))
    assert len(valid) == (0 if num_people == 1 else max(1, round(num_people / 5)))
    for part in (train, valid):
        cells = [sum(number % 6 == cell for number in part) for cell in range(6)]
        assert max(cells) - min(cells) <= 2 if part is train else max(cells) - min(cells) <= 1


def test_people_are_spread_evenly_and_ages_vary_inside_a_group(sample: tuple[Path, SampleDataSummary]) -> None:
    names = [profile.name.split("_") for profile in visible(sample[0] / "images")]
    assert set(Counter((gender, age_group(int(age))) for _, gender, _, age in names).values()) == {NUM_PEOPLE // 6}
    for group, bounds in enumerate([(18, 29), (30, 59), (60, 82)]):
        ages = [make_person("male", group, np.random.default_rng(number)).age for number in range(200)]
        assert (min(ages), max(ages)) == bounds


def test_the_evaluation_set_and_its_truth_agree(sample: tuple[Path, SampleDataSummary]) -> None:
    directory = sample[0]
    info, truth = (
        list(csv.DictReader(path.open())) for path in (directory / "eval/info.csv", directory / "eval_truth.csv")
    )
    names = [row["ImageID"] for row in info]
    assert [row["ImageID"] for row in truth] == names != sorted(names)
    assert sorted(names) == sorted(path.name for path in (directory / "eval/images").iterdir())
    assert {row["ans"] for row in info} == {"0"}
    assert all(len(name) == 44 and int(name[:40], 16) >= 0 and name.endswith(".jpg") for name in names)
    # The two people are the first two cells, men below 30 and from 30 to 59; each has 5 + 1 + 1 photos.
    labels = Counter(tuple(labels_of(int(row["ans"])).values()) for row in truth)
    assert labels == {(mask, 0, group): 5 if mask == 0 else 1 for mask in range(3) for group in range(2)}


def test_evaluation_people_are_other_people(sample: tuple[Path, SampleDataSummary]) -> None:
    profiles = {digest(photo) for profile in visible(sample[0] / "images") for photo in visible(profile)}
    others = {digest(photo) for photo in (sample[0] / "eval/images").iterdir()}
    assert len(profiles) == NUM_PEOPLE * 7 and len(others) == 14 and not profiles & others


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("first", 5), ("second", 5), ("other", 6)):
        write_sample_data(tmp_path / name, num_people=2, seed=seed)
    first, second, other = (contents(tmp_path / name) for name in ("first", "second", "other"))
    assert len(first) == 2 * 7 + 7 + 2 + 4  # photos, evaluation photos, two lists and two tables, junk
    assert first == second
    assert not set(photos_of(first)) & set(photos_of(other))


def test_a_person_looks_the_same_whatever_the_number_of_people(
    sample: tuple[Path, SampleDataSummary], tmp_path: Path
) -> None:
    write_sample_data(tmp_path / "few", num_people=3, seed=SEED, num_eval_people=1)
    few, many = contents(tmp_path / "few"), contents(sample[0])
    shared = [path for path in few if path.startswith(("images", "eval/images"))]
    assert len(shared) == 3 * 7 + 7 + 2
    assert {path: few[path] for path in shared} == {path: many[path] for path in shared}


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"num_people": 0, "seed": 0}, "the number of people must be at least 1, not 0"),
        ({"num_people": 1, "seed": 0, "num_eval_people": 0}, "number of evaluation people must be at least 1, not 0"),
        ({"num_people": 1, "seed": -1}, "the seed must be 0 or more, not -1"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    numbers: dict[str, int], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        write_sample_data(tmp_path / "data", **numbers)
    assert not (tmp_path / "data").exists()


def test_a_folder_with_images_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"images exists already: name another folder, or delete that one first"):
        write_sample_data(tmp_path, num_people=1, seed=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["images"]


def test_the_command_writes_the_data_and_says_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    sample_data.add_arguments(parser)
    assert (parser.parse_args(["x"]).people, parser.parse_args(["x"]).seed) == (150, 0)
    sample_data.run(parser.parse_args([str(tmp_path / "data"), "--people", "2"]))
    printed = capsys.readouterr().out
    assert "14 photos, 1 people to train on, 1 to validate" in printed
    assert "7 photos of 1 others" in printed
    assert printed.splitlines()[-1].startswith("next        python train.py --config configs/demo.yaml data_dir=")
    assert (tmp_path / "data/eval_truth.csv").is_file()


def test_the_next_command_trains_on_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert demo_command(ROOT / "demo") == "python train.py --config configs/demo.yaml"
    _, script, option, file, *overrides = shlex.split(demo_command(tmp_path / "my data"))
    assert (script, option, file) == ("train.py", "--config", "configs/demo.yaml")
    config, demo = load_config(file, overrides), load_config(file)
    changed = {key for key, value in config.model_dump().items() if value != demo.model_dump()[key]}
    assert changed == {"data_dir", "train_profile", "valid_profile", "infer_data_dir", "model_dir", "cache_dir"}
    assert config.train_profile == str(tmp_path / "my data/train_profiles.txt")
    assert (config.model_dir, config.infer_data_dir) == (f"{tmp_path}/my data/runs", f"{tmp_path}/my data/eval")
    monkeypatch.chdir(tmp_path)  # installed, with no checkout at hand
    assert demo_command(tmp_path / "demo") == f"maskcls train --config {ROOT}/configs/demo.yaml"


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, maskcls.sample.write, maskcls.cli.sample_data; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): digest(path) for path in directory.rglob("*") if path.is_file()}


def photos_of(digests: dict[str, str]) -> list[str]:
    return [digest for path, digest in digests.items() if "images/" in path and "/." not in path]
