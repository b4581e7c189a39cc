"""Paths of the user's config and command line, in the user's words."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from maskcls.errors import UserError
from maskcls.paths import (
    check_writable,
    command,
    file_problem,
    folder_problem,
    full_path,
    replacing,
    shipped,
    top_level,
    write_problem,
    written_whole,
)  # fmt: skip
from tests.helpers import ROOT


def test_a_path_is_expanded_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert full_path("~/runs") == Path("/home/someone/runs")
    assert full_path("runs/../a:b") == tmp_path / "a:b"
    assert full_path("/data/images/") == Path("/data/images")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "^a path is empty$"),
        ("~no-one/runs", "^~no-one/runs: there is no such home folder"),
        ("a\0b", "holds a NUL"),
    ],
)
def test_what_stands_for_no_path_is_reported(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        full_path(text)


def test_a_link_stays_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert full_path(tmp_path / "link") == tmp_path / "link"


def test_what_is_wrong_with_a_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    assert folder_problem(tmp_path / "folder") is None
    assert file_problem(tmp_path / "file") is None
    assert folder_problem(tmp_path / "file") == "is a file, not a folder"
    assert file_problem(tmp_path / "folder") == "is a folder, not a file"
    for problem in (folder_problem, file_problem):
        assert problem(tmp_path / "nothing") == "does not exist"
        assert problem(tmp_path / "file" / "below") == "does not exist"
        assert "cannot be read" in (problem(Path("a\0b")) or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_path_without_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0)
    assert "Permission denied" in (folder_problem(tmp_path / "folder") or "")


def test_the_next_command_fits_where_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert top_level() == ROOT  # of a wheel: tests/test_packaging.py
    assert command("train", "--resume", Path("runs/exp"), "lr=1e-4") == "python train.py --resume runs/exp lr=1e-4"
    assert shipped("configs/exp.yaml") == Path("configs/exp.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "infer.py").touch()  # somebody else's
    assert shipped("configs/exp.yaml") == ROOT / "configs/exp.yaml"
    assert command("infer", "--model_dir", "my runs/exp") == "maskcls infer --model_dir 'my runs/exp'"


def test_a_file_that_is_written_whole_takes_its_place_or_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")
    for error in (KeyboardInterrupt, OSError(errno.ENOSPC, "?"), UserError("else")):
        with pytest.raises((KeyboardInterrupt, UserError)), written_whole(path) as unfinished:
            unfinished.write_text("half")
            assert unfinished.suffix == ".csv" and unfinished.parent == tmp_path
            raise error
        assert [file.name for file in tmp_path.iterdir()] == ["a.csv"] and path.read_text() == "before"
    with written_whole(path) as unfinished:
        unfinished.write_text("after")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"] and path.read_text() == "after"


def test_what_cannot_be_made_is_reported_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.csv"
    with pytest.raises(FileNotFoundError) as caught, replacing(path) as unfinished:
        unfinished.write_text("")
    assert caught.value.filename == str(path)


def test_of_two_that_write_a_file_at_once_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with written_whole(path) as first:
        first.write_text("first")
        with written_whole(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"] and path.read_text() == "first"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.ENOENT])
def test_a_full_disk_is_a_fault_and_a_path_where_nothing_can_be_written_a_mistake(number: int) -> None:
    problem = write_problem(Path("/a/b"), OSError(number, "pyarrow's own words"))
    assert str(problem) == f"/a/b cannot be written: {os.strerror(number)}"
    assert problem.exit_code == (2 if number in (errno.EACCES, errno.ENOENT) else 3)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable("model_dir", tmp_path)
    check_writable("model_dir", tmp_path / "new" / "deep")
    assert not list(tmp_path.iterdir())


def test_why_a_folder_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(UserError, match=rf"^model_dir {re.escape(str(folder))} is not writable: Not a directory$"):
            check_writable("model_dir", folder)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: full)
        with pytest.raises(UserError, match=r"is not writable: No space left on device$"):
            check_writable("model_dir", tmp_path)
