"""Several runs answer together: the numbers are those of each run, photos are read once, in one process and in two."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from torch import nn

import infer
from maskcls.config import load_config
from maskcls.data.inference import inference_data
from maskcls.data.loader import split_evenly
from maskcls.data.pixels import DecodedPixels
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.profiles import profile_folders
from maskcls.errors import UserError
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, head_probabilities
from maskcls.modeling.model import attention_for, load_model
from maskcls.training import answering
from maskcls.training.answering import ask, chunks, load_runs, num_kept
from maskcls.training.blend_file import BlendFile
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.loop import predict
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from tests import made
from tests.helpers import ROOT, rows, run

# Each with another form of its output, another model, another size or fit of the photos, or other weights.
RUNS: dict[str, dict[str, Any]] = {
    "class": {"output": "class"},
    "class2": {"output": "class", "overrides": ["seed=7"]},
    "all": {"output": "all", "model": "vit", "overrides": ["fit=pad", "valid_batch_size=5"]},
    "mask": {"output": "mask", "overrides": ["image_size=[32, 32]"]},
    "gender": {"output": "gender", "overrides": ["criterion=BCELoss"]},
    "age": {"output": "age", "model": "convnext", "overrides": ["image_size=[64, 48]"]},
}
A_BATCH = 1  # byte to keep: too few, so that a chunk is one batch


@pytest.fixture(scope="module")
def runs(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: made.run(sample, folder, name=name, **given) for name, given in RUNS.items()}


@pytest.fixture(scope="module")
def alone(
    runs: dict[str, RunFolder], sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the answers of each run alone."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: answers(str(run.path), sample / "eval", folder / name) for name, run in runs.items()}


def answers(text: str, photos: Path, out: Path | None, **options: Any) -> dict[str, np.ndarray]:
    """Returns the columns of what infer writes, ans among them."""
    target = None if out is None else str(out)
    infer.infer(text, str(photos), **{"batch_size": None, **options}, output_dir=target)
    return written(out or Path(text))


def written(out: Path) -> dict[str, np.ndarray]:
    table, labelled = parquet.read_table(out / "probabilities.parquet"), rows(out / "output.csv")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    assert [row["ImageID"] for row in labelled] == columns["ImageID"].tolist()
    return {**columns, "ans": np.array([int(row["ans"]) for row in labelled])}


def of_head(columns: Mapping[str, np.ndarray], head: str) -> np.ndarray:
    return np.stack([columns[f"{head}_{label}"] for label in range(len(HEAD_CLASSES[head]))], axis=1)


def equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: object) -> tuple[object, str]:
    """Returns exit code and message of infer.py."""
    monkeypatch.setattr(sys, "argv", ["infer.py", *map(str, command)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        infer.main()
    return error.value.code, capsys.readouterr().err


# the numbers


def test_one_run_gives_its_own_probabilities_bit_for_bit_also_as_an_ensemble_of_one(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path, tmp_path: Path
) -> None:
    folder, launch, photos = runs["all"], Launch(), inference_data(sample / "eval").photos
    preprocessing = folder.read_preprocessing()
    photos = replace(photos, reader=DecodedPixels(photos.table, preprocessing))
    network = load_model(str(folder.best), attention=attention_for(launch.accelerator.device))
    logits = predict(launch.accelerator, network, photos, preprocessing, batch_size=5)
    for head, values in head_probabilities(logits, "all").items():
        np.testing.assert_array_equal(of_head(alone["all"], head), values.numpy())
    BlendFile({str(folder.path): 3}).write(tmp_path / "blend.yaml")
    assert equal(answers(str(tmp_path / "blend.yaml"), sample / "eval", tmp_path / "out"), alone["all"])


def test_two_runs_give_the_mean_of_their_probabilities(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path, tmp_path: Path
) -> None:
    text = f"{runs['class'].path},{runs['all'].path}"
    both = answers(text, sample / "eval", tmp_path / "both")
    weighted = answers(text, sample / "eval", tmp_path / "weighted", weights="3,1")
    assert both["ImageID"].tolist() == alone["class"]["ImageID"].tolist()
    for head in HEAD_CLASSES:
        one, other = (of_head(alone[name], head).astype(np.float64) for name in ("class", "all"))
        np.testing.assert_array_equal(of_head(both, head), ((one + other) / 2).astype(np.float32))
        np.testing.assert_allclose(of_head(weighted, head), 0.75 * one + 0.25 * other, rtol=1e-6)
    np.testing.assert_array_equal(both["ans"], of_head(both, "class").argmax(1))


def test_every_member_answers_by_the_views_that_are_asked_for(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path, tmp_path: Path
) -> None:
    names = ("class", "all")
    each = [answers(str(runs[name].path), sample / "eval", tmp_path / name, tta="flip") for name in names]
    text = ",".join(str(runs[name].path) for name in names)
    both = of_head(answers(text, sample / "eval", tmp_path / "both", tta="flip"), "class")
    one, other = (of_head(columns, "class").astype(np.float64) for columns in each)
    np.testing.assert_array_equal(both, ((one + other) / 2).astype(np.float32))
    assert not any(equal(columns, alone[name]) for name, columns in zip(names, each, strict=True))


def test_three_attribute_runs_give_the_product(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path, tmp_path: Path
) -> None:
    text = "+".join(str(runs[head].path) for head in ("gender", "age", "mask"))
    columns = answers(text, sample / "eval", tmp_path / "out")
    mask, gender, age = (of_head(alone[head], head) for head in ATTRIBUTES)
    product = np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(-1, 18)
    np.testing.assert_allclose(of_head(columns, "class"), product, rtol=1e-6)
    for head in ATTRIBUTES:
        np.testing.assert_array_equal(of_head(columns, head), of_head(alone[head], head))
    np.testing.assert_array_equal(columns["ans"], mask.argmax(1) * 6 + gender.argmax(1) * 3 + age.argmax(1))


# photos are read once, and never too many are kept


def everything(runs: Mapping[str, RunFolder]) -> str:
    """Returns all runs as one ensemble: three members, of which one is three runs."""
    return f"{runs['class'].path},{runs['class2'].path},{runs['all'].path}," + "+".join(
        str(runs[head].path) for head in ATTRIBUTES
    )


def test_a_photo_is_decoded_once_for_all_runs_that_see_it_alike_also_over_chunks(
    runs: dict[str, RunFolder], sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, photos = Launch(), inference_data(sample / "eval").photos
    loaded = load_runs(launch, list(runs.values()))
    whole = ask(launch, loaded, photos, batch_size=4)
    read: Counter[tuple[object, str]] = Counter()
    kept: list[int] = []
    decode, forget = Preprocessing.read, answering.KeptPixels.forget

    def counted(self: Preprocessing, photo: Mapping[str, Any]) -> np.ndarray:
        read[json.dumps(self.stored_as), photo["path"]] += 1
        return decode(self, photo)

    def noted(self: answering.KeptPixels) -> None:
        kept.append(len(self))
        forget(self)

    monkeypatch.setattr(Preprocessing, "read", counted)
    monkeypatch.setattr(answering.KeptPixels, "forget", noted)
    monkeypatch.setattr(answering, "BYTES_KEPT", 9 * 3 * int(np.prod(runs["class"].read_preprocessing().stored_size)))
    chunked = ask(launch, loaded, photos, batch_size=4)
    # class, class2 and gender see photos alike; all has a border, mask and age other sizes.
    assert set(read.values()) == {1} and len(read) == 4 * len(photos)
    assert kept == [8, len(photos) - 8]  # of a batch of four the ninth is none
    for path, said in whole.said.items():
        assert equal(chunked.said[path], said)


@given(num_photos=st.integers(0, 50), num_processes=st.integers(1, 5), own=st.integers(1, 20))
def test_chunks_give_each_process_the_photos_that_it_has_without_chunks_in_their_order(
    num_photos: int, num_processes: int, own: int
) -> None:
    parts = list(chunks(num_photos, num_processes, own))
    for process, share in enumerate(split_evenly(np.arange(num_photos), num_processes)):
        mine = [split_evenly(part, num_processes)[process] for part in parts]
        assert np.concatenate(mine).tolist() == share.tolist()
        assert all(len(part) == own for part in mine[: len(share) // own])  # so batches are the same


def test_what_is_kept_is_whole_batches_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "BYTES_KEPT", 1000)
    assert num_kept((5, 4, 3), [4, 7]) == 14  # 16 photos of 60 bytes, in batches of 7
    assert num_kept((50, 40, 3), [4, 7]) == 7  # a batch at least


def test_bad_photos_of_all_chunks_are_named_and_nothing_is_written(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    shutil.copytree(sample / "eval", tmp_path / "eval")
    photos = sorted((tmp_path / "eval" / "images").iterdir())
    bad = [photos[1], photos[-2]]
    for photo in bad:
        photo.write_bytes(b"no photo")
    monkeypatch.setattr(answering, "BYTES_KEPT", A_BATCH)
    text = f"{runs['class'].path},{runs['class2'].path}"
    command = ("--model_dir", text, "--infer_data_dir", tmp_path / "eval", "--output_dir", tmp_path / "out")
    code, message = ended(monkeypatch, capsys, *command, "--batch_size", 4)
    assert code == 2 and message.splitlines()[0] == "error: 2 photos cannot be read:"
    assert all(str(photo) in message for photo in bad)
    assert list((tmp_path / "out").iterdir()) == []


# what is refused, and what is said


def damaged(source: RunFolder, folder: Path, number: float | None) -> Path:
    """Returns a copy of a run whose weights are cut off, or one of them a number."""
    copy = RunFolder(Path(shutil.copytree(source.path, folder)))
    file = copy.best / "model.safetensors"
    if number is None:
        file.write_bytes(file.read_bytes()[:1000])
    else:
        weights = load_file(file)
        weights["classifier.1.weight"].fill_(number)
        save_file(weights, file, metadata={"format": "pt"})
    return copy.path


def test_every_run_with_damaged_weights_is_named_before_a_photo_is_read(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    cut, broken = damaged(runs["class"], tmp_path / "cut", None), damaged(runs["class2"], tmp_path / "nan", np.nan)
    monkeypatch.setattr(DecodedPixels, "__call__", lambda self, rows: pytest.fail("a photo was read"))
    command = ("--infer_data_dir", sample / "eval", "--output_dir", tmp_path / "out")
    code, message = ended(monkeypatch, capsys, "--model_dir", f"{cut},{runs['class'].path},{broken}", *command)
    lines = message.splitlines()
    assert (code, lines[0]) == (2, "error: 2 runs that cannot answer:")
    assert f"{cut}/best is not a whole model" in lines[1] and f"{broken}/best holds weights that are not" in lines[2]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_of_another_task_than_its_config_is_refused(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    other = RunFolder(Path(shutil.copytree(runs["class"].path, tmp_path / "exp")))
    shutil.rmtree(other.best)
    shutil.copytree(runs["mask"].best, other.best)
    with pytest.raises(
        UserError, match=r"exp/best has 3 outputs, which are not those of output 'class' of .*exp/config"
    ):
        load_runs(Launch(), [other])


def test_one_model_at_a_time_lies_on_a_device_and_a_single_one_stays(
    runs: dict[str, RunFolder], sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is an accelerator; here the processor is taken for one, and it is noted who lies there."""
    launch, photos = Launch(), inference_data(sample / "eval").photos
    lying: set[nn.Module] = set()
    seen: list[set[nn.Module]] = []
    move = nn.Module.to

    def noted(self: nn.Module, target: Any = None, **given: Any) -> nn.Module:
        if target is not None:
            (lying.discard if target == "cpu" else lying.add)(self)
        return move(self, target, **given) if target is not None else move(self, **given)

    def asked(accelerator: Any, model: nn.Module, *given: Any, **named: Any) -> Any:
        seen.append({*lying})
        assert model in lying
        return predict(accelerator, model, *given, **named)

    monkeypatch.setattr(answering, "is_accelerator", lambda device: True)
    monkeypatch.setattr(nn.Module, "to", noted)
    monkeypatch.setattr(answering, "predict", asked)
    monkeypatch.setattr(answering, "BYTES_KEPT", A_BATCH)
    loaded = load_runs(launch, [runs["class"], runs["class2"]])
    assert not lying
    ask(launch, loaded, photos, batch_size=7)
    assert seen == 2 * [{loaded[0].model}, {loaded[1].model}] and not lying
    seen.clear()
    (only,) = load_runs(launch, [runs["class"]])
    assert lying == {only.model}
    ask(launch, [only], photos, batch_size=7)
    assert seen == [{only.model}] and lying == {only.model}


def test_every_run_whose_answers_are_no_numbers_is_named(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    huge = [damaged(runs[name], tmp_path / name, 3e38) for name in ("class", "class2")]
    command = ("--infer_data_dir", sample / "eval", "--output_dir", tmp_path / "out")
    text = f"{huge[0]},{runs['all'].path},{huge[1]}"
    code, message = ended(monkeypatch, capsys, "--model_dir", text, *command)
    lines = message.splitlines()
    assert (code, lines[0]) == (2, "error: 2 runs whose answers are no numbers:")
    for line, path in zip(lines[1:], huge, strict=True):
        assert line.startswith(f"  - {path}/best gives ") and line.endswith("in precision no: nothing was written")
    assert list((tmp_path / "out").iterdir()) == []


COMMANDS = {
    "a list without a folder": ([], "--output_dir is missing: "),
    "other tasks": (["--model_dir", "{class},{mask}"], "members answer different questions: "),
    "weights": (["--weights", "1,2,3"], "--weights 1,2,3 does not match the members, which are "),
    "a decision": (["--decision", "save"], "unknown --decision 'save'. Did you mean 'saved'?"),
    "batch size": (["--batch_size", "0"], "--batch_size is 0; it is at least 1"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_names_several_runs_is_refused_for(
    name: str, runs: dict[str, RunFolder], sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    more, words = COMMANDS[name]
    given = ["--model_dir", "{class},{all}", "--infer_data_dir", str(sample / "eval"), *more]
    paths = {name: run.path for name, run in runs.items()}
    code, message = ended(monkeypatch, capsys, *(word.format(**paths) for word in given))
    assert code == 2 and message.startswith(f"error: {words}") and message.count("\n") == 1


def test_runs_of_other_precisions_answer_in_whole_precision_and_that_is_said(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = RunFolder(Path(shutil.copytree(runs["class"].path, tmp_path / "bf16")))
    other.save_environment(num_processes=1, mixed_precision="bf16")
    monkeypatch.setattr("maskcls.machine.cpu_has_bf16", lambda: True)
    both = answers(f"{other.path},{runs['class'].path}", sample / "eval", tmp_path / "out")
    assert equal(both, alone["class"])
    printed = capsys.readouterr().out
    assert f"2 models answer together: {other.path},{runs['class'].path}\n" in printed
    assert "trained in different precisions (bf16, no): all answer in precision no\n" in printed
    answers(f"{other.path},{runs['class'].path}", sample / "eval", tmp_path / "out", lang="ko")
    assert "학습할 때 쓴 정밀도가 서로 다릅니다(bf16, no)" in capsys.readouterr().out


def test_folds_answer_in_their_folder_and_people_that_any_of_them_learnt_from_are_counted(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds, people = FoldsFolder(tmp_path / "exp"), profile_folders(sample / "images")
    folds.path.mkdir()
    halves = people[:3], people[3:6]
    for number, name in enumerate(["class", "class2"]):
        fold = RunFolder(Path(shutil.copytree(runs[name].path, folds.path / f"fold{number}")))
        fold.finished.write_text("{}")
        fold.save_split(halves[1 - number], halves[number])
    folds.config.write_text(fold.config.read_text().replace("num_folds: 5", "num_folds: 2"))
    assert load_config(folds.config).num_folds == 2
    answers(str(folds.path), sample / "images", None)
    printed, scores = capsys.readouterr().out, json.loads((folds.path / "infer_metrics.json").read_text())
    assert (scores["people"], scores["people_trained_on"]) == (len(people), 6)
    assert f"warning: at least one of the models was trained on 6 of these {len(people)} people: " in printed
    assert scores["f1"] == pytest.approx(np.mean(list(scores["f1_per_class"].values())))


# several processes

# Says how many there are, and keeps no more than a batch.
IN_CHUNKS = f"""
import infer
from maskcls.training import answering, processes

start = processes.Launch.__init__

def told(self, **given):
    start(self, **given)
    self.say(f"world {{self.num_processes}}")

processes.Launch.__init__, answering.BYTES_KEPT = told, {A_BATCH}
infer.main()
"""


@pytest.mark.slow
def test_two_processes_answer_as_one_in_chunks_too(runs: dict[str, RunFolder], sample: Path, tmp_path: Path) -> None:
    one = answers(everything(runs), sample / "eval", tmp_path / "one", batch_size=3)
    script = tmp_path / "infer_in_chunks.py"
    script.write_text(IN_CHUNKS)
    command = (script, "--model_dir", everything(runs), "--infer_data_dir", sample / "eval")
    done = run(*command, "--output_dir", tmp_path / "two", "--batch_size", "3", processes=2, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert "world 2\n" in done.stdout
    two = written(tmp_path / "two")
    assert one["ImageID"].tolist() == two["ImageID"].tolist() and one["ans"].tolist() == two["ans"].tolist()
    for head in HEAD_CLASSES:
        np.testing.assert_allclose(of_head(one, head), of_head(two, head), atol=1e-6)


def test_asking_gives_tables_in_the_order_of_the_photos_whatever_the_groups(
    runs: dict[str, RunFolder], alone: dict[str, dict[str, np.ndarray]], sample: Path
) -> None:
    launch, photos = Launch(), inference_data(sample / "eval").photos
    seen: list[int] = []
    loaded = load_runs(launch, [runs["mask"], runs["class"]])
    answered = ask(launch, loaded, photos, batch_size=None, progress=seen.append)
    assert sum(seen) == 2 * len(photos) and answered.of_one_colour == []
    for name in ("mask", "class"):
        np.testing.assert_array_equal(answered.said[runs[name].path][name], of_head(alone[name], name))
