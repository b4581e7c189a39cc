"""Each mistake of a user, typed as a user types it: one clear message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import infer
import train
from maskcls import cli
from maskcls.cli import SCRIPTS, main
from maskcls.config import load_config
from tests.helpers import ROOT, overrides

Mischief = Callable[[Path], list[str]]


@pytest.fixture
def people(sample: Path, tmp_path: Path) -> Path:
    """Returns a copy of the sample data that a test may spoil."""
    shutil.copytree(sample, tmp_path / "data")
    return tmp_path / "data"


def first_profile(data: Path) -> Path:
    return data / "images" / (data / "train_profiles.txt").read_text().split()[0]


def rename_profiles(data: Path) -> list[str]:
    """Spoils three folder names, in three ways."""
    names = (data / "train_profiles.txt").read_text().split()
    new = [names[0].replace("_", "-"), "x_woman_Asian_30", "y_male_Asian_old", *names[3:]]
    for old, name in zip(names, new, strict=True):
        (data / "images" / old).rename(data / "images" / name)
    (data / "train_profiles.txt").write_text("\n".join(new))
    return []


def write(name: str, text: str) -> Mischief:
    def spoil(data: Path) -> list[str]:
        (data / name).write_text(text)
        return []

    return spoil


def list_a_stranger(data: Path) -> list[str]:
    with (data / "train_profiles.txt").open("a") as file:
        file.write("009998_male_Asian_30\n009999_male_Asian_31\n")
    return []


def list_one_twice(data: Path) -> list[str]:
    shutil.copy(data / "train_profiles.txt", data / "valid_profiles.txt")
    return []


def empty_a_profile(data: Path) -> list[str]:
    for photo in first_profile(data).iterdir():
        photo.unlink() if photo.is_file() else shutil.rmtree(photo)
    return []


def name_in_another_encoding(data: Path) -> list[str]:
    """As a zip of a Korean Windows leaves it; the folder is not in the lists."""
    shutil.copytree(first_profile(data), data / "images" / os.fsdecode("김_male_Asian_30".encode("cp949")))
    return ["train_profile=null"]


def name_with_a_line_break(data: Path) -> list[str]:
    shutil.copytree(first_profile(data), data / "images" / "x_male_South\nAsian_30")
    return ["train_profile=null"]


def paint_all_photos_black(data: Path) -> list[str]:
    for path in (data / "images").glob("0*/*"):
        if not path.name.startswith("."):
            Image.new("RGB", (30, 40)).save(path)
    return []


def spoil_two_photos(data: Path) -> list[str]:
    cut, fake = (next(first_profile(data).glob(f"{stem}.*")) for stem in ("mask1", "normal"))
    cut.write_bytes(cut.read_bytes()[:2000])
    fake.write_text("this is no picture")
    return []


def give(*arguments: str) -> Mischief:
    return lambda data: list(arguments)


TRAINING: dict[str, tuple[Mischief, list[str]]] = {
    "unknown key": (give("epoch=3"), ["unknown key 'epoch'. Did you mean 'epochs'?"]),
    "mistyped value": (give("epochs=many"), ["epochs is 'many'"]),
    "missing key": (give("data_dir=null"), ["data_dir is None"]),
    "several at once": (give("epoch=3", "lr=fast", "criterion=focl"), ["3 problems", "'epoch'", "'fast'", "'focal'"]),
    "unknown name": (give("model=vitt"), ["unknown model 'vitt'. Did you mean 'vit'? Known: auto, convnext, convnextv2, vit"]),
    "unknown argument": (give("criterion_args={gama: 1}", "criterion=focal"), ["focal takes no 'gama'. Did you mean 'gamma'?"]),
    "unknown model field": (give("model=auto", "model_args={model_type: resnet, dephts: [1]}"), ["takes no 'dephts'. Did you mean 'depths'?"]),
    "head width": (give("model_args.num_labels=5"), ["num_labels is 5, but output 'mask' needs 3"]),
    "num_classes": (give("num_classes=18"), ["num_classes is 18, but output 'mask' has 3 classes"]),
    "data_dir missing": (give("data_dir=/nowhere"), ["data_dir /nowhere does not exist"]),
    "list missing": (give("train_profile=/nowhere.txt"), ["profile list /nowhere.txt does not exist"]),
    "empty list": (write("train_profiles.txt", "\n \n"), ["train_profiles.txt is empty"]),
    "no folder": (list_a_stranger, ["2 problems", "009998_male_Asian_30 is listed", "009999_male_Asian_31 is listed"]),
    "in both lists": (list_one_twice, ["10 people are in both the training and the validation list"]),
    "folder names": (rename_profiles, ["3 problems", "is not id_gender_race_age", "gender 'woman'", "age 'old'"]),
    "name in another encoding": (name_in_another_encoding, ["is not UTF-8, in CP949 it is '김_male_Asian_30'", "convmv"]),
    "name with a line break": (name_with_a_line_break, [r"'x_male_South\nAsian_30' holds a line break"]),
    "bad photos, all black": (paint_all_photos_black, ["the std computed of 70 training photos is [0.0, 0.0, 0.0]; it divides"]),
    "profile without photos": (empty_a_profile, ["has no photos"]),
    "bad photos": (spoil_two_photos, ["2 photos cannot be read", "truncated", "is not an image"]),
    "bad photos, no cache": (lambda data: [*spoil_two_photos(data), "cache=none"], ["2 photos cannot be read"]),
    "too few people": (give("valid_profile=null", "train_profile=null", "num_folds=3"), ["not enough people", "Lower num_folds"]),
    "batch too large": (give("train_batch_size=999"), ["train_batch_size is 999, but there are 70 training photos"]),
    "weights of the wrong length": (give("criterion_args={weight: [1, 2]}"), ["weight is [1, 2]; it is 'balanced' or 3 numbers"]),
    "refused by the optimizer": (give("optimizer=SGD", "optimizer_args={momentum: -1}"), ["optimizer SGD cannot be built"]),
    "refused by the schedule": (give("scheduler_args={warmup_updates: soon}"), ["scheduler_args: warmup_updates is 'soon'; it is a number, 0 or more"]),
    "refused by the criterion": (give("criterion=focal", "criterion_args={gamma: many}"), ["criterion_args: gamma is 'many'; it is a number"]),
    "no such Hub model without a network": (give("model_args={pretrained: nobody/nothing}"), ["neither a folder here nor in Hugging Face's cache", "hf download nobody/nothing"]),
    "augmentation out of range": (give("augmentation_args={flip: 2}"), ["augmentation_args: flip is 2; it goes from 0 to 1"]),
    "image too small for the model": (give("image_size=2"), ["image_size [2, 2] does not fit convnext"]),
    "not a model folder": (give("model_args={pretrained: /nowhere}"), ["pretrained model /nowhere does not exist"]),
    "model_dir not writable": (give("model_dir=setup.cfg/runs"), [f"model_dir {ROOT}/setup.cfg/runs is not writable"]),
    "cache_dir not writable": (give("cache_dir=setup.cfg/cache"), [f"cache_dir {ROOT}/setup.cfg/cache cannot be written"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINING)
def test_training_with(
    name: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spoil, words = TRAINING[name]
    arguments = [*overrides(people, tmp_path, model="convnext"), *spoil(people)]
    monkeypatch.setattr("sys.argv", ["train.py", "--config", str(ROOT / "configs" / "mask.yaml"), *arguments])
    with pytest.raises(SystemExit) as ended:
        train.main()
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert "error: " in message
    assert "Traceback" not in message
    for word in words:
        assert word in message
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    if not name.startswith("bad photos"):  # of these only the decoding knows
        assert "decoding" not in message and not list(tmp_path.glob("cache/pixels/*"))


# `{file}` is a file that is nothing else, `{empty}` an empty folder, `{config}` a config.
COMMANDS = """
    runs {file}                                             | {file} is a file, not a folder
    runs {empty}/nothing                                    | {empty}/nothing does not exist
    runs ''                                                 | a path is empty
    runs ~no-one/runs                                       | ~no-one/runs: there is no such home folder
    runs --csv                                              | expected one argument
    runs --nope                                             | unrecognized arguments: --nope
    report {file}                                           | run folder {file} is a file, not a folder
    report {empty}                                          | {empty} is not a run folder
    report {empty}/nothing                                  | run folder {empty}/nothing does not exist
    report {empty} --lang xx                                | unknown language 'xx'
    compare {empty}                                         | {empty}/config.yaml: No such file or directory
    compare {empty} {file}                                  | 2 runs that cannot be compared
    compare '' ,                                            | a path is empty
    blend {empty}                                           | a blend needs two candidates or more
    blend {empty} {file}                                    | 2 problems of candidates that cannot be blended
    blend {empty} {file} -o {file}                          | {file} is there and is no blend.yaml
    blend '' ,                                              | a path is empty
    blend {empty} {file} --lang xx                          | unknown language 'xx'
    diff {empty}                                            | the following arguments are required: B
    diff {empty} {file}                                     | table of answers {empty}/output.csv does not exist
    suspects {file}                                         | {file}/valid_predictions.parquet does not exist
    suspects {empty}/nothing                                | {empty}/nothing/valid_predictions.parquet does not exist
    suspects {empty} --top 0                                | --top is 0; it is at least 1
    suspects {empty} -o ''                                  | a path is empty
    sample-data {file}                                      | {file} cannot be written
    sample-data {file}/data                                 | {file}/data cannot be written
    sample-data {empty}/data --people 0                     | the number of people must be at least 1, not 0
    sample-data {empty}/data --seed -1                      | the seed must be 0 or more, not -1
    sample-data ''                                          | a path is empty
    init {file}                                             | {file} cannot be written
    init ''                                                 | a path is empty
    schema more                                             | unrecognized arguments: more
    check                                                   | the following arguments are required: --config
    check --config {empty}                                  | config file {empty} is a folder, not a file
    check --config {file}                                   | {file}: expected `key: value` lines
    check --config {empty}/nothing                          | config file {empty}/nothing does not exist
    check --config ''                                       | a path is empty
    check --config {config} more                            | override 'more' is not of the form key=value
    check --config {config} --lang xx                       | unknown language 'xx'
    check --config {config} model_dir={file}/runs           | no go: model_dir {file}/runs is not writable
    folds                                                   | give --config
    folds --config {empty}                                  | config file {empty} is a folder, not a file
    train                                                   | give --config
    train --check                                           | give --config
    train --config {empty}                                  | config file {empty} is a folder, not a file
    train --config {config} --lr 0.1 epoch=3                | 2 problems
    train --config {config} --lang xx                       | unknown language 'xx'
    train --config {config} model_dir={file}/runs           | model_dir {file}/runs is not writable
    train --resume {file}                                   | run folder {file} is a file, not a folder
    train --resume {empty}                                  | {empty} is not a run folder
    train --resume {empty}/nothing                          | run folder {empty}/nothing does not exist
    train --resume ''                                       | a path is empty
    train --resume auto                                     | --resume auto looks for a run of a config
    train --resume auto --config {empty}                    | config file {empty} is a folder, not a file
    infer                                                   | the following arguments are required: --model_dir
    infer --model_dir {file}                                | run folder {file} is a file, not a folder
    infer --model_dir {empty}                               | {empty} is not a run folder
    infer --model_dir ''                                    | a path is empty
    infer --model_dir {empty} --batch_size x                | invalid int value: 'x'
    infer --model_dir {empty} --nope                        | unrecognized arguments: --nope
    nothing                                                 | invalid choice: 'nothing'
"""


@pytest.mark.parametrize("line", COMMANDS.strip().splitlines())
def test_a_command_that_cannot_be_done_says_why_and_leaves_nothing(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "exp.yaml").write_text("data_dir: nowhere\ndataset_args: {output: mask}\n")
    places = {"file": tmp_path / "file", "empty": tmp_path / "empty", "config": tmp_path / "exp.yaml"}
    command, words = (part.strip().format(**places) for part in line.split("|"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["maskcls", *shlex.split(command)])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "") and words in output.err and "error: " in output.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "exp.yaml", "file"]


def test_the_commands_that_are_typed_wrongly_are_all_there_are() -> None:
    typed = {line.split()[0] for line in COMMANDS.strip().splitlines()}
    assert typed == {*SCRIPTS, *cli.COMMANDS, "nothing"}


@pytest.fixture(scope="module")
def finished_run(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("finished")
    train.train(load_config(ROOT / "configs" / "mask.yaml", overrides(sample, folder, model="convnext")))
    yield folder / "runs" / "exp"


def no_config(run: Path, data: Path) -> list[str]:
    (run / "config.yaml").unlink()
    return []


def cut_weights(run: Path, data: Path) -> list[str]:
    weights = run / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return []


def no_weights(run: Path, data: Path) -> list[str]:
    (run / "best" / "model.safetensors").unlink()
    return []


def info(text: str) -> Callable[[Path, Path], list[str]]:
    def spoil(run: Path, data: Path) -> list[str]:
        first, second = sorted(path.name for path in (data / "eval" / "images").iterdir())[:2]
        (data / "eval" / "info.csv").write_text(text.format(first=first, second=second))
        return []

    return spoil


def photo_in_another_encoding(run: Path, data: Path) -> list[str]:
    (data / "eval" / "info.csv").unlink()
    (data / "eval" / "images" / os.fsdecode("김.jpg".encode("cp949"))).touch()
    return []


def photo_beside_profiles(run: Path, data: Path) -> list[str]:
    (data / "images" / "thumb.jpg").touch()
    return ["--infer_data_dir", str(data / "images")]


def bad_evaluation_photos(run: Path, data: Path) -> list[str]:
    for photo in sorted((data / "eval" / "images").iterdir())[3:5]:
        photo.write_bytes(photo.read_bytes()[:1500])
    return ["--batch_size", "4"]


INFERENCE: dict[str, tuple[Callable[[Path, Path], list[str]], list[str]]] = {
    "a folder that is no run": (no_config, ["is not a run folder: it has no config.yaml"]),
    "cut weights": (cut_weights, ["is not a whole model"]),
    "missing weights": (no_weights, ["is not a whole model"]),
    "no ImageID": (info("name,ans\n{first},0\n"), ["has no column ImageID"]),
    "duplicates": (info("ImageID,ans\n{first},0\n{first},0\n"), ["line 3", "duplicate", "first in line 2"]),
    "climbing out": (info("ImageID,ans\n../{first},0\n/etc/passwd,0\n"), ["2 problems", "is not the name of a file"]),
    "missing files": (info("ImageID,ans\nx.jpg,0\n{first},0\ny.jpg,0\n"), ["2 problems", "has no 'x.jpg'", "has no 'y.jpg'"]),
    "no rows": (info("ImageID,ans\n"), ["has no rows"]),
    "bad photos": (bad_evaluation_photos, ["2 photos cannot be read"]),
    "no such folder": (lambda run, data: ["--infer_data_dir", "/nowhere"], ["infer_data_dir /nowhere does not exist"]),
    "another encoding": (photo_in_another_encoding, ["is not UTF-8, in CP949 it is", "convmv"]),
    "photos beside profiles": (photo_beside_profiles, ["holds photos (thumb.jpg) and profile folders (0000"]),
    "a photo as folder": (lambda run, data: ["--infer_data_dir", str(data / "eval" / "info.csv")], ["info.csv is a file, not a folder"]),
    "batch size": (lambda run, data: ["--batch_size", "0"], ["--batch_size is 0"]),
    "output not writable": (lambda run, data: ["--output_dir", "setup.cfg/out"], [f"output folder {ROOT}/setup.cfg/out is not writable"]),
}  # fmt: skip


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_with(
    name: str, people: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    run = tmp_path / "exp"
    shutil.copytree(finished_run, run)
    spoil, words = INFERENCE[name]
    arguments = ["--model_dir", str(run), "--infer_data_dir", str(people / "eval"), *spoil(run, people)]
    monkeypatch.setattr("sys.argv", ["infer.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        infer.main()
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in message
    for word in words:
        assert word in message
    assert not (run / "output.csv").exists()
    assert not (run / "probabilities.parquet").exists()


def test_inference_tells_what_it_leaves_out_and_which_photos_show_nothing(
    finished_run: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = people / "eval" / "images"
    (people / "eval" / "info.csv").unlink()
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    for name in ("a.HEIC", "b.heic", ".hidden.jpg", "notes.txt"):
        (images / name).touch()
    Image.new("RGB", (30, 40)).save(images / "black.png")
    infer.infer(str(finished_run), str(people / "eval"), batch_size=None, output_dir=str(tmp_path / "out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ignored 4 entries that are no photos by their names: 2 .heic, 1 hidden, 1 .txt"
    assert lines[1].startswith("warning  photos of a kind that cannot be read are left out: 2 .heic. Convert them")
    assert lines[2] == "warning  1 photos show nothing, all their pixels have one colour: black.png"
    assert lines[3].startswith("4 photos in")
