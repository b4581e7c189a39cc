"""The lines of train.py, infer.py and the check, in English as they have always been and in Korean without a rest."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from infer import infer
from maskcls.config import load_config
from maskcls.data.dataset import FaceData, Photos
from maskcls.data.inspection import Finding
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.selection import BestScore
from maskcls.labels import labels_of
from maskcls.reporting import console
from maskcls.reporting.check import check, finding_lines
from maskcls.reporting.text import width
from maskcls.training.builders import build_learner, open_data, open_pixels
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words
from tests.helpers import ROOT, overrides
from train import train

ENGLISH, KOREAN = Words("en"), Words("ko")

# What stays as it is in Korean: names of metrics.jsonl and of the config, units, and what is typed.
NAMES = {
    "loss", "acc", "f1", "balanced_acc", "mask", "gender", "age", "valid", "tensorboard", "python", "infer", "py", "model_dir", "vit",
    "convnext", "auto", "cpu", "no", "output", "cache_dir", "cache", "memory_map", "num_workers", "MB", "GB", "go",
    "x", "best", "bf16", "config_file", "lr",
}  # fmt: skip


def english_in(text: str) -> list[str]:
    """Returns the English words of a text, without NAMES, heads' scores and paths."""
    without_paths = re.sub(r"\S*/\S+", "", text)
    found = re.findall(r"(?<!\d)[A-Za-z][A-Za-z0-9_]*", without_paths)
    return [
        word
        for word in found
        if word not in NAMES and not re.fullmatch("(mask|gender|age)_(loss|acc|f1|balanced_acc)", word)
    ]


def faces_of(labels: np.ndarray, people: list[str], *, num_train: int) -> FaceData:
    """Returns photos with these labels (N, 3), of which the first are for training."""
    columns = {name: labels[:, number] for number, name in enumerate(("mask", "gender", "age_group"))}
    table = Dataset.from_dict({**columns, "profile": people})
    splits = (Photos(table, rows) for rows in np.split(np.arange(len(labels)), [num_train]))
    return FaceData(*splits, Counter(), None)


def test_the_table_of_the_split_counts_every_class_and_its_columns_stand_in_both_languages() -> None:
    labels = np.array([[0, 0, 0]] * 1234 + [[1, 1, 2]] * 2 + [[2, 0, 1]])
    people = [f"person {number % 1000}" for number in range(1234)] + ["one", "one", "another"]
    data = faces_of(labels, people, num_train=1234)
    english, korean = (console.split_table(data, word).split("\n") for word in (ENGLISH, KOREAN))
    groups = ("male <30", "male 30-59", "male >=60", "female <30", "female 30-59", "female >=60")
    assert english[0] == f"{'photos':>22}{''.join(f'{group:>14}' for group in groups)}"
    assert english[1].split() == ["train", "worn", "1,234", "0", "0", "0", "0", "0"]
    assert english[3].split()[:2] == ["train", "not_worn"]
    assert english[4] == "      train        all  1,000 people, 1,234 photos"
    assert english[6].split() == ["valid", "incorrect", "0", "0", "0", "0", "0", "2"]
    assert english[7].split() == ["valid", "not_worn", "0", "1", "0", "0", "0", "0"]
    assert " ".join(korean[0].split()) == "사진 남성 <30 남성 30-59 남성 >=60 여성 <30 여성 30-59 여성 >=60"
    assert korean[4].endswith("전체  1,000명, 사진 1,234장")
    for lines, last in ((english, "all"), (korean, "전체")):
        sums = lines[4::4]
        assert {width(line) for line in lines if line not in sums} == {22 + 6 * 14}
        assert {width(line[: line.index(last)] + last) for line in sums} == {22}


def lines_at_start(sample: Path, tmp_path: Path, **settings: object) -> dict[str, list[str]]:
    """Returns what is printed before a run of these settings, in both languages."""
    settings = {"epochs": 1, "train_batch_size": 6} | settings
    config = load_config(ROOT / "configs" / "mask.yaml", overrides(sample, tmp_path, model="convnext", **settings))
    launch = Launch()
    data, _ = open_pixels(config, launch, open_data(config, launch))
    learner, plan = build_learner(config, launch, data)
    return {
        language: console.start_lines(config, data, plan, learner, word).split("\n")
        for language, word in (("en", ENGLISH), ("ko", KOREAN))
    }


def test_classes_without_photos_are_reported_for_each_split(sample: Path, tmp_path: Path) -> None:
    names = [path.name for path in (sample / "images").iterdir() if not path.name.startswith(".")]
    men = sorted(name for name in names if "_male_" in name)
    (tmp_path / "train.txt").write_text("\n".join(men[:-1]))
    (tmp_path / "valid.txt").write_text(men[-1])
    lists = {"train_profile": tmp_path / "train.txt", "valid_profile": tmp_path / "valid.txt"}
    of_gender = lines_at_start(sample, tmp_path, **lists, **{"dataset_args.output": "gender"})
    assert "warning  no training photo is of these classes, which cannot be learnt: female" in of_gender["en"]
    assert "warning  no validation photo is of these classes, which count 0 in f1: female" in of_gender["en"]
    assert "경고     학습 사진이 없어 배울 수 없는 클래스: 여성" in of_gender["ko"]
    of_mask = lines_at_start(sample, tmp_path, **lists)
    assert not [line for line in of_mask["en"] if line.startswith("warning")]
    group = men[-1].rpartition("_")[2]
    others = [name for name, years in (("under 30", range(30)), ("30–59", range(30, 60)), ("60+", range(60, 121)))
              if int(group) not in years]  # fmt: skip
    of_all = lines_at_start(sample, tmp_path, **lists, **{"dataset_args.output": "all"})
    (line,) = [line for line in of_all["en"] if "count 0 in f1" in line]
    assert line.endswith(f": female, {', '.join(others)}")


def test_of_the_18_classes_those_are_reported_that_the_attributes_alone_do_not_explain() -> None:
    labels = np.array([[0, 0, 0], [1, 1, 1], [2, 0, 2], *([mask, 0, 0] for mask in range(3))])
    every = np.stack(list(labels_of(np.arange(18)).values()), axis=1)
    data = faces_of(np.concatenate([labels, every]), [""] * (len(labels) + 18), num_train=len(labels))
    (line,) = console._absent_lines(data, "class", ENGLISH)
    assert "worn · male · 30–59" in line and line.endswith("and 3 more")
    assert console._absent_lines(data, "mask", ENGLISH) == []


def test_corrections_about_other_people_are_reported_with_whom_they_change(sample: Path, tmp_path: Path) -> None:
    data = shutil.copytree(sample, tmp_path / "data")
    old = (data / "train_profiles.txt").read_text().split()[0]
    other = "000020_" + old.partition("_")[2]
    (data / "images" / old).rename(data / "images" / other)
    for name in ("train_profiles.txt", "valid_profiles.txt"):
        (data / name).write_text((data / name).read_text().replace(old, other))
    fixes = ROOT / "configs" / "label_fixes.csv"
    printed = lines_at_start(data, tmp_path, label_fixes=fixes)
    assert f"labels   2 photos of 1 people corrected by {fixes}; 13 rows match no folder" in printed["en"]
    assert (
        f"warning  13 of the 15 rows of {fixes} match no folder: is it about these people? It corrects {other}"
        in printed["en"]
    )
    assert any(line.startswith("경고     ") and line.endswith(f"수정된 사람: {other}") for line in printed["ko"])
    (tmp_path / "own.csv").write_text(f"profile,stem,mask,gender,age\n{other},,,female,\nnobody,,,female,\n")
    assert not [line for line in lines_at_start(data, tmp_path, label_fixes=tmp_path / "own.csv")["en"]
                if line.startswith("warning")]  # fmt: skip


@pytest.mark.parametrize("cache", ["memory_map", "none"])
def test_photos_that_show_nothing_and_kinds_that_are_left_out_are_reported(
    cache: str, sample: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(sample, tmp_path / "data")
    person = data / "images" / (data / "train_profiles.txt").read_text().split()[0]
    next(person.glob("normal.*")).unlink()
    Image.new("RGB", (60, 80), "black").save(person / "normal.png")
    for name in ("a.heic", "b.HEIC", "c.txt"):
        (person / name).touch()
    printed = lines_at_start(data, tmp_path, cache=cache)
    assert f"warning  1 photos show nothing, all their pixels have one colour: {person}/normal.png" in printed["en"]
    assert f"경고     모든 픽셀이 한 가지 색인 사진 1장: {person}/normal.png" in printed["ko"]
    assert "ignored 5 entries that are no photos by their names: 2 hidden, 2 .heic, 1 .txt" in printed["en"]
    assert (
        "warning  photos of a kind that cannot be read are left out: 2 .heic. Convert them to JPEG or PNG"
        in printed["en"]
    )
    assert "경고     읽을 수 없는 형식의 사진 제외: 2 .heic. JPEG나 PNG로 변환하세요" in printed["ko"]


def test_an_epoch_is_a_line_with_the_names_of_the_log() -> None:
    scores = {"loss": 0.51234, "f1": 0.8}
    line = console.epoch_line(3, 15, scores, ENGLISH, seconds=200, is_best=True)
    assert line == "epoch 3/15  loss 0.5123  f1 0.8000  3 min 20 s  best"
    assert console.epoch_line(3, 15, scores, ENGLISH, seconds=42.4, is_best=False) == (
        "epoch 3/15  loss 0.5123  f1 0.8000  42 s"
    )
    line = console.epoch_line(3, 15, scores, KOREAN, seconds=200, is_best=True)
    assert line == "에폭 3/15  loss 0.5123  f1 0.8000  3분 20초  최고"


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (0, "0 s", "0초"),
        (59.6, "1 min 00 s", "1분 00초"),
        (3599, "59 min 59 s", "59분 59초"),
        (7500, "2 h 05 min", "2시간 05분"),
    ],
)
def test_a_duration_is_read_at_a_glance(seconds: float, english: str, korean: str) -> None:
    assert console.duration(seconds, ENGLISH) == english
    assert console.duration(seconds, KOREAN) == korean


def test_the_end_says_the_scores_where_things_lie_and_what_to_type_next(tmp_path: Path) -> None:
    run, best = RunFolder(tmp_path), BestScore("f1")
    best.update({"f1": 0.5}, 2)
    intervals = {"f1": Interval(0.5, 0.4, 0.6), "age_acc": Interval(0.7, 0.65, 0.75)}

    def lines(word: Any) -> list[str]:
        return console.end_lines(run, best, intervals, word, seconds=61, notes=["a note"]).split("\n")

    assert lines(ENGLISH) == [
        "best valid/f1 0.5000 in epoch 2; 1 min 01 s in all",
        "  f1       0.500 [0.400, 0.600]",
        "  age_acc  0.700 [0.650, 0.750]",
        "  in brackets: 95 % interval over people",
        f"model {run.best}",
        "a note",
        f"next: python infer.py --model_dir {tmp_path}",
    ]
    run.report.touch()
    assert lines(ENGLISH)[4] == f"model {run.best}, report {run.report}"
    assert lines(KOREAN)[0] == "최고 valid/f1 0.5000 (에폭 2), 총 1분 01초"
    assert lines(KOREAN)[4] == f"모델 {run.best}, 보고서 {run.report}"
    assert english_in("\n".join(lines(KOREAN)).replace("a note", "")) == []


def test_advice_names_the_setting_that_would_save_time() -> None:
    device: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), mixed_precision="bf16")
    waits = {"train/waiting_share": 0.3}
    assert console.advice(waits, device, ENGLISH, uses_cache=True) == (
        "advice   30% of the time waits for photos: put cache_dir on a faster disk\n"
    )
    assert "set cache: memory_map" in console.advice(waits, device, ENGLISH, uses_cache=False)
    assert console.advice({"train/waiting_share": 0.1}, device, ENGLISH, uses_cache=True) == ""
    for uses_cache, setting in ((True, "cache_dir"), (False, "num_workers")):
        text = console.advice(waits, device, KOREAN, uses_cache=uses_cache)
        assert text.startswith("조언     시간의 30%") and setting in text and english_in(text) == []


def test_advice_names_the_file_that_makes_a_processor_quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device: Any = SimpleNamespace(device=SimpleNamespace(type="cpu"), mixed_precision="no")
    monkeypatch.setattr(console, "cpu_has_bf16", lambda: True)
    for folder, file in ((ROOT, "accelerate_configs/cpu.yaml"), (tmp_path, f"{ROOT}/accelerate_configs/cpu.yaml")):
        monkeypatch.chdir(folder)
        line = console.advice({"train/waiting_share": 0}, device, ENGLISH, uses_cache=True)
        assert line == f"advice   this processor has bf16: --config_file {file} trains 1.5 to 2 times faster\n"
    monkeypatch.setattr(console, "cpu_has_bf16", lambda: False)
    assert console.advice({"train/waiting_share": 0}, device, ENGLISH, uses_cache=True) == ""


def test_advice_names_the_precision_that_makes_a_gpu_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), mixed_precision="no")
    monkeypatch.setattr(console, "quickest_precision", lambda: "fp16")
    assert console.advice({"train/waiting_share": 0}, device, ENGLISH, uses_cache=True) == (
        "advice   the GPU computes in float32: accelerate launch --mixed_precision fp16 is faster\n"
    )
    monkeypatch.setattr(console, "quickest_precision", lambda: "no")
    assert console.advice({"train/waiting_share": 0}, device, ENGLISH, uses_cache=True) == ""


def test_findings_keep_their_columns_and_are_reported_in_english(tmp_path: Path) -> None:
    findings = [
        Finding("error", "split", "no people"),
        *[Finding("note", "stem", "odd", profile="a", file="b.jpg")] * 7,
    ]
    assert finding_lines(findings, None, ENGLISH).split("\n")[-3:] == [
        "note     stem: a/b.jpg: odd", "note     stem: 2 more, see --fix-report", "found    1 error, 7 notes",
    ]  # fmt: skip
    lines = finding_lines(findings, tmp_path / "f.csv", KOREAN).split("\n")
    assert lines[0] == "오류     split: no people"
    assert lines[-2:] == ["참고     stem: 2건 더", f"결과     오류 1건, 참고 7건, 전체는 {tmp_path / 'f.csv'}"]
    assert finding_lines([], None, KOREAN) == "결과     알릴 것 없음"


def test_a_check_a_run_and_a_prediction_speak_korean_to_the_last_word(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"epochs": 3, "early_stopping_patience": 1, "lr": "1e-12", "scheduler": "constant"}
    config = load_config(ROOT / "configs" / "mask.yaml", overrides(sample, tmp_path, model="convnext", **more))
    check(config, Launch(), None, lang="ko")
    checked = capsys.readouterr().out.split("\n")
    assert checked[-2].startswith("go: 학습 가능, 살펴볼 경고 ")
    findings = [line for line in checked if re.match("오류|경고|참고", line)]  # they are in English
    train(config, lang="ko")
    run = tmp_path / "runs" / "exp"
    trained = capsys.readouterr().out.split("\n")
    infer(str(run), None, batch_size=None, output_dir=None, lang="ko")
    printed = "\n".join([*(line for line in checked if line not in findings), *trained, capsys.readouterr().out])
    for expected in (
        f"실험     {run}\n", "에폭 2/3  loss", "조기 종료: 1에폭 동안 f1 개선 없음\n", "대괄호 안: 사람 단위 95% 신뢰구간\n",
        f"다음: python infer.py --model_dir {run}\n", f"답 {run / 'output.csv'}, 확률 ", "메모리   프로세스당 ",
    ):  # fmt: skip
        assert expected in printed
    assert english_in(re.sub("^decoding once to.*", "", printed, flags=re.MULTILINE)) == []


def test_a_run_whose_output_goes_to_a_file_has_no_bar_and_a_line_for_each_log_interval(
    sample: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = load_config(ROOT / "configs" / "mask.yaml", overrides(sample, tmp_path, model="convnext", epochs=2))
    train(config, lang="ko")
    printed = capfd.readouterr()
    updates = [line.split("  ")[:2] for line in printed.out.splitlines() if "업데이트 " in line and "에폭 " in line]
    assert [line for line in updates if line[0].startswith("에폭")] == [
        [f"에폭 {epoch}/2", f"업데이트 {update}/5"] for epoch in (1, 2) for update in (2, 4, 5)
    ]
    line = next(line for line in printed.out.splitlines() if line.startswith("에폭 1/2  업데이트 2/5"))
    assert re.fullmatch(r"에폭 1/2  업데이트 2/5  loss \d\.\d{3}  lr \d\.\de-\d\d  장/초 \d+  대기 \d+%", line)
    assert "\r" not in printed.out + printed.err and "it/s" not in printed.err
    infer(str(tmp_path / "runs" / "exp"), None, batch_size=None, output_dir=None)
    printed = capfd.readouterr()
    assert "\r" not in printed.out + printed.err and "predicting" not in printed.err
