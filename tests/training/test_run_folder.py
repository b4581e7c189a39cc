"""The run folder: a new one for every run, whole files only, and clear words when something is missing."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from maskcls.config import Config
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.profiles import profile_lines
from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision
from maskcls.evaluation.findings import Findings
from maskcls.evaluation.selection import BestScore
from maskcls.paths import read_json
from maskcls.training.run_folder import RunFolder, check_outputs
from tests import made
from tests.helpers import as_nobody, files_of_at_most


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def some_config() -> Config:
    return Config(data_dir="data", dataset_args={"output": "mask"}, lr=3e-4)


def test_runs_are_named_exp_exp1_exp2(tmp_path: Path) -> None:
    model_dir = tmp_path / "runs" / "of" / "today"  # made when missing
    made = [RunFolder.create(str(model_dir), "exp").path for _ in range(3)]
    assert made == [model_dir / "exp", model_dir / "exp1", model_dir / "exp2"]
    assert RunFolder.create(str(model_dir), "other").path == model_dir / "other"
    assert names(model_dir) == ["exp", "exp1", "exp2", "other"]


def test_a_gap_is_filled_and_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "exp").write_text("notes", encoding="utf-8")
    (tmp_path / "exp2").mkdir()
    assert RunFolder.create(str(tmp_path), "exp").path.name == "exp1"
    assert RunFolder.create(str(tmp_path), "exp").path.name == "exp3"
    assert (tmp_path / "exp").read_text(encoding="utf-8") == "notes"


def test_eight_launches_at_the_same_moment_get_eight_folders(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def launch(_: int) -> str:
        together.wait()
        return RunFolder.create(str(tmp_path), "exp").path.name

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(launch, range(8)))
    assert made == names(tmp_path) == ["exp", *(f"exp{number}" for number in range(1, 8))]


def test_a_fold_that_another_command_has_begun_is_not_trained_under_the_name_of_another_fold(tmp_path: Path) -> None:
    (tmp_path / "folds.yaml").touch()
    RunFolder.create(str(tmp_path), "fold0")
    with pytest.raises(UserError, match="fold0 is there already: another command has begun to train this fold"):
        RunFolder.create(str(tmp_path), "fold0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold0", "folds.yaml"]


def test_a_damaged_list_of_people_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.train_profiles.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"train_profiles.txt is not what train.py wrote: 'utf-8' codec"):
        run.trained_people()


def test_a_model_dir_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model_dir = tmp_path / "file" / "runs"
    with pytest.raises(UserError, match=rf"^model_dir {re.escape(str(model_dir))} is not writable: Not a directory$"):
        RunFolder.create(str(model_dir), "exp")


def test_a_saved_config_opens_again_as_it_was(tmp_path: Path) -> None:
    run, config = RunFolder.create(str(tmp_path), "exp"), some_config()
    config.save(run.config)
    run.best.mkdir()
    opened, loaded = RunFolder.open(str(run.path))
    assert (opened, loaded) == (run, config.model_copy(update={"num_classes": 3}))


def test_a_folder_without_a_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))} is not a run folder: it has no config\.yaml$"):
        RunFolder.open(str(tmp_path))
    with pytest.raises(UserError, match=r"^run folder .*/nowhere does not exist$"):
        RunFolder.open(str(tmp_path / "nowhere"))


def test_a_run_without_a_best_ended_too_early(tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path), "exp")
    some_config().save(run.config)
    with pytest.raises(UserError, match=r"exp has no best/: its training ended before the first epoch did$"):
        RunFolder.open(str(run.path))


def test_a_run_says_in_which_precision_it_was_validated(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.precision() == "no"  # a run of an older version has no such file
    for given, expected in (("bf16", "bf16"), ("fp16", "fp16"), ("no", "no"), ("fp8", "no")):
        run.save_environment(mixed_precision=given)
        assert run.precision() == expected
    for text in ("", "[]", "{}", "\udcff"):
        (tmp_path / "environment.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        assert run.precision() == "no"


def test_the_split_is_written_as_lists_that_a_config_can_name(tmp_path: Path) -> None:
    train, valid = ["000001_female_Asian_45", "000002_male_Asian_52"], ["001498-1_male_Asian_23"]
    RunFolder(tmp_path).save_split(train, valid)
    assert list(profile_lines(tmp_path / "train_profiles.txt")) == train
    assert list(profile_lines(tmp_path / "valid_profiles.txt")) == valid


def test_history_is_what_was_logged_in_its_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.history() == []
    lines = [{"epoch": 1, "update": 3, "train/loss": 0.125}, {"epoch": 1, "update": 6, "valid/f1": 1.0}]
    for line in lines:
        run.log(line)
    assert run.history() == lines
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_the_log_is_cut_back_to_what_was_saved(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.log_bytes() == 0
    assert run.cut_log(0) == ""  # nothing was logged yet
    run.log({"update": 1})
    length = run.log_bytes()
    assert length == run.metrics.stat().st_size > 0
    run.log({"update": 2})
    with run.metrics.open("a", encoding="utf-8") as file:
        file.write('{"update": 3, "tra')  # killed in the middle of a line
    assert run.cut_log(length) == ""
    assert run.history() == [{"update": 1}]
    run.log({"update": 2})
    assert run.history() == [{"update": 1}, {"update": 2}]


@pytest.mark.parametrize(("size", "whole"), [(28, 2), (20, 1), (5, 0), (0, 0)])
def test_a_log_that_somebody_has_shortened_keeps_its_whole_lines_and_that_is_reported(
    size: int, whole: int, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    for update in (1, 2, 3):
        run.log({"update": update})  # 14 bytes
    length = run.log_bytes()
    os.truncate(run.metrics, size)
    assert run.cut_log(length) == (
        f"{tmp_path}/metrics.jsonl has {size} bytes of the 42 that it had when the state was saved: "
        "its last lines are lost, and with them a part of the curves"
    )
    run.log({"update": 4})
    assert run.history() == [*({"update": update} for update in range(1, whole + 1)), {"update": 4}]


@pytest.mark.parametrize("line", ['{"update": 3, "tra', "[1]", "\0\0"])
def test_a_line_that_is_no_line_of_a_log_is_named(line: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log({"update": 1})
    with run.metrics.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is no line of a log: delete that line$"):
        run.history()


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.save_split(["a"], ["b"])
    run.name_on_server()
    name = run.wandb_id.read_text(encoding="utf-8")
    with files_of_at_most(0), pytest.raises(OSError, match="File too large"):
        run.save_split(["c"], ["d"])
    assert run.trained_people() == {"a"} and run.name_on_server() == name
    assert names(tmp_path) == ["train_profiles.txt", "valid_profiles.txt", "wandb_id"]


def test_a_run_keeps_its_preprocessing_and_an_older_one_has_it_in_its_config(tmp_path: Path) -> None:
    run, config = RunFolder(tmp_path), Config(data_dir="data", dataset_args={"output": "mask"}, fit="pad", margin=0.5)
    config.save(run.config)
    with pytest.raises(UserError, match=r"preprocessing.json does not exist, and .*config.yaml has no mean and std"):
        run.read_preprocessing()
    config.with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2]).save(run.config)
    known = Preprocessing((224, 224), "pad", None, 0.5, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert run.read_preprocessing() == known
    replace(known, mean=(0.1, 0.1, 0.1)).save(run.preprocessing)
    assert run.read_preprocessing() == replace(known, mean=(0.1, 0.1, 0.1))


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from maskcls.training.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})).locked():\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "locked\n"
    run, problem = RunFolder(tmp_path), rf"^{re.escape(str(tmp_path))} is being trained by another process$"
    with pytest.raises(UserError, match=problem), run.locked():
        pass
    other.kill()  # however it ends
    other.communicate()
    with run.locked() as warning, pytest.raises(UserError, match=problem), run.locked():
        pass
    assert warning is None
    with run.locked():  # which was let go
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_reported_and_trains(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with RunFolder(tmp_path).locked() as warning:
        assert warning == f"{tmp_path} lies on a disk without file locks: do not train in it twice at once"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_run_folder_that_cannot_be_written_is_reported_before_training(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))} is not writable: Permission denied$"):
        RunFolder(tmp_path).locked().__enter__()


def test_a_run_that_cannot_write_is_reported_before_its_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = some_config().model_copy(update={"model_dir": str(tmp_path / "file" / "runs")})
    problem = f"model_dir {tmp_path}/file/runs is not writable: Not a directory"
    with pytest.raises(UserError, match=f"^{re.escape(problem)}$"):
        check_outputs(config, None)
    run = RunFolder(tmp_path / "exp")
    run.path.mkdir()
    check_outputs(config, run)  # what goes on makes no folder
    (run.path / "metrics.jsonl").touch(mode=0o400)
    if os.geteuid():  # root may write everything
        with pytest.raises(UserError, match=r"^run folder .*/exp is not writable: metrics\.jsonl may not be changed$"):
            check_outputs(config, run)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_run_is_not_writable(everybodys: Path) -> None:
    run = RunFolder(everybodys / "exp")
    run.path.mkdir(mode=0o755)
    problem = f"run folder {run.path} is not writable: "
    assert as_nobody(lambda: check_outputs(some_config(), run)) == f"{problem}Permission denied"
    run.path.chmod(0o777)
    assert as_nobody(lambda: check_outputs(some_config(), run)) == ""
    run.metrics.touch()
    assert as_nobody(lambda: check_outputs(some_config(), run)) == f"{problem}metrics.jsonl may not be changed"


def test_the_end_leaves_a_decision_and_scores_which_go_when_the_run_resumes(tmp_path: Path) -> None:
    run, best = RunFolder(tmp_path), BestScore("f1")
    best.update({"f1": 0.5}, 2)
    said = made.predictions(10)
    run.finish(best, Findings(said), output="all", seconds=3)
    assert Decision.load(run.decision) == Decision.fit(said, "all") != Decision()
    finished = read_json(run.finished)
    assert list(finished) == ["criterion", "value", "epoch", "seconds", "scores"]
    assert (finished["epoch"], finished["seconds"]) == (2, 3) and "age_f1" in finished["scores"]
    run.reopen()
    run.reopen()
    assert names(tmp_path) == []
