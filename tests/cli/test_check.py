"""`maskcls check`: go for photos that can be trained on, no go with the reason, nothing left behind."""

from __future__ import annotations

import argparse
import csv
import importlib
import shutil
import sys
from pathlib import Path

import pytest

from maskcls.cli import COMMANDS
from tests.helpers import ROOT, maskcls, overrides

CONFIG = ROOT / "configs" / "mask.yaml"


def check(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Returns exit code, lines and error of `maskcls check`."""
    code = 0
    try:
        maskcls("check", "--config", CONFIG, *arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    output = capsys.readouterr()
    return code, output.out.splitlines(), output.err.rpartition("\r")[2]  # after the progress bar


@pytest.fixture
def photos(sample: Path, tmp_path: Path) -> Path:
    """Returns a copy of the sample that a test may damage."""
    return Path(shutil.copytree(sample, tmp_path / "photos"))


@pytest.mark.slow
def test_good_photos_are_go_and_nothing_is_written(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = overrides(sample, tmp_path, model="convnext", epochs=7)
    code, lines, _ = check(capsys, *settings, "scheduler_args={warmup_updates: 1000}")
    assert code == 0
    assert any(
        line.startswith("warning  the warm-up takes 1,000 updates and the run has 35: it never") for line in lines
    )
    assert lines[-1] == "go, with 2 warnings to look at"  # 12 people are few
    assert [line.split()[0] for line in lines[-4:-1]] == ["time", "memory", "disk"]
    assert " for 7" in lines[-4] and "photos/s" in lines[-4]
    assert any(line.startswith("model    convnext") for line in lines)
    assert not (tmp_path / "runs").exists()
    assert not list((tmp_path / "cache").glob("pixels/*"))


@pytest.mark.slow
def test_train_py_checks_too_in_the_language_asked_for(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import train

    arguments = ["--config", str(CONFIG), "--check", "--lang", "ko"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *overrides(sample, tmp_path, model="convnext")])
    train.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("go")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_to_resume_is_checked_and_not_trained(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import train

    def typed(*arguments: str) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        code = 0
        try:
            train.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.rpartition("\r")[2]

    run = tmp_path / "runs" / "exp"
    assert typed("--config", str(CONFIG), *overrides(sample, tmp_path, model="convnext"))[0] == 0
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, lines, _ = typed("--check", "--resume", str(run), "epochs=2")
    assert (code, lines[0], lines[-1][:2]) == (0, f"resumed from {run}/last", "go")
    (run / "last" / "training.safetensors").write_bytes(b"cut")
    code, lines, error = typed("--resume", str(run), "--check")
    assert (code, lines) == (2, []) and error.startswith(f"error: no go: {run}/last is damaged: training.safetensors")
    (run / "last" / "training.safetensors").write_bytes(files[run / "last" / "training.safetensors"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_photos_that_would_end_the_run_are_all_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = sorted(path for path in (photos / "images").iterdir() if path.name.startswith("0"))
    first, second = (next(person.glob("normal.*")) for person in people[:2])
    first.write_bytes(b"not a photo")
    second.write_bytes(second.read_bytes()[:900])
    report = tmp_path / "found.csv"
    settings = overrides(photos, tmp_path, model="convnext")
    code, lines, error = check(capsys, "--fix-report", report, "--decode", *settings)
    assert code == 2
    assert error.startswith("error: no go: 2 errors in photos or lists")
    with report.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["severity"] == "error"]
    assert {(row["profile"], row["file"]) for row in rows} == {
        (path.parent.name, path.name) for path in (first, second)
    }
    assert lines[-1].startswith("found    2 errors") and lines[-1].endswith(f"all in {report}")


def test_a_person_in_both_lists_is_no_go(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person = (photos / "train_profiles.txt").read_text().split()[0]
    with (photos / "valid_profiles.txt").open("a") as file:
        file.write(f"{person}\n")
    code, lines, error = check(capsys, *overrides(photos, tmp_path, model="convnext"))
    assert code == 2 and "no go: 1 error in photos" in error
    assert any(line.startswith("error    leak") and person in line for line in lines)


def test_a_fold_that_cannot_be_drawn_is_no_go(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = overrides(photos, tmp_path, model="convnext", valid_profile="null", num_folds=9)
    code, lines, error = check(capsys, *settings)
    assert code == 2 and "no go" in error
    assert any(line.startswith("error    split: not enough people to deal") for line in lines)


@pytest.mark.slow
def test_an_update_that_is_not_finite_is_no_go(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"lr": "1e30", "optimizer": "SGD", "scheduler": "constant", "weight_decay": 0}
    code, _, error = check(capsys, *overrides(sample, tmp_path, model="convnext", **broken))
    assert code == 3 and error.startswith("error: no go: ") and "finite" in error
    assert "--resume" not in error


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model_dir=setup.cfg/runs", f"no go: model_dir {ROOT}/setup.cfg/runs is not writable: Not a directory"),
        ("optimizer_args={eps: -1}", "no go: optimizer AdamW cannot be built: Invalid epsilon value: -1"),
        ("train_batch_size=71", "no go: train_batch_size is 71, but there are 70 training photos"),
    ],
)
def test_what_needs_no_photo_is_reported_before_photos_are_looked_at(
    setting: str, words: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    next((photos / "images").glob("0*/normal.*")).write_bytes(b"not a photo")
    monkeypatch.chdir(ROOT)
    code, lines, error = check(capsys, *overrides(photos, tmp_path, model="convnext"), setting)
    assert (code, lines, error) == (2, [], f"error: {words}\n")


@pytest.mark.parametrize("key", ["cache_dir", "model_dir"])
def test_a_disk_without_room_is_no_go(
    key: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/proc and the like have no room, but no photo is written there either: the numbers are those of such a disk."""
    full, usage = tmp_path / "full", shutil.disk_usage
    full.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage("/proc" if path == full else path))
    code, _, error = check(capsys, *overrides(sample, tmp_path, model="convnext"), f"{key}={full}")
    assert (code, error) == (2, f"error: no go: the disk of {key} {full} has no room for a run\n")


def test_overrides_are_taken_as_train_py_takes_them(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = overrides(sample, tmp_path, model="convnext")
    code, _, error = check(capsys, *settings, "--epochs=none", "epochs=0", "--lr", "fast")
    assert code == 2
    for words in ("override epochs=0: epochs is 0", "write --lr=fast", "override --lr=fast: lr is 'fast'"):
        assert words in error


def test_a_command_without_a_config_takes_no_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        maskcls("runs", "--epochs=3")
    assert "unrecognized arguments: --epochs=3" in capsys.readouterr().err


def test_every_path_of_every_command_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = {}
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for name in COMMANDS:
        subparser = subparsers.add_parser(name)
        importlib.import_module(f"maskcls.cli.{name.replace('-', '_')}").add_arguments(subparser)
        paths = ("output", "csv") if name == "compare" else ("DIR", "RUN", "CSV", "FILE")  # it joins runs itself
        for action in subparser._actions:
            if action.metavar in paths or action.dest in paths:
                seen[name, action.dest] = subparser._get_value(action, "~/x")
    assert len(seen) >= 9 and set(seen.values()) == {tmp_path / "x"}


@pytest.mark.parametrize("command", [["runs", "~no-one/x"], ["report", "~no-one/x"], ["compare", "~no-one/x", "y"]])
def test_a_path_that_cannot_be_is_a_message(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        maskcls(*command)
    assert "~no-one/x: there is no such home folder" in capsys.readouterr().err
