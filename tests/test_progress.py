"""One bar on a terminal, plain lines in a file."""

from __future__ import annotations

import math
import os
import pty
import termios
from pathlib import Path
from select import select

import pytest

from maskcls.data.dataset import build_table
from maskcls.data.pixel_cache import PixelCache
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.profiles import find_photos, profile_folders
from maskcls.progress import SECONDS_BETWEEN_LINES, Progress


def test_a_file_gets_a_line_for_facts_and_otherwise_one_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    assert SECONDS_BETWEEN_LINES == 30
    with Progress("decoding", "photo", 2_000, done=1_000) as progress:
        for _ in range(500):
            progress.update()
        progress.update(2, {"loss": "0.5", "lr": "1.0e-03"})
        progress.update()
    with Progress("looking", "photo", seconds_between_lines=0) as progress:
        progress.update(3)
        progress.update(4)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "decoding  photo 1,502/2,000  loss 0.5  lr 1.0e-03", "looking  photo 3", "looking  photo 7",
    ]  # fmt: skip
    assert printed.err == ""


def test_what_is_not_shown_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("decoding", "photo", 2, is_shown=False, seconds_between_lines=0) as progress:
        progress.update(1, {"loss": "0.5"})
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_the_facts_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 100))
    with os.fdopen(end, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with Progress("epoch 1/2", "update", 5, done=1, seconds_between_lines=math.inf) as progress:
            progress.update(1, {"loss": "0.5"})
            progress.update(3)
        shown = b""
        while b" " * 50 not in shown and select([master], [], [], 5)[0]:  # the bar is wiped at its end
            shown += os.read(master, 10_000)
    os.close(master)
    assert b"epoch 1/2" in shown and b"1/5" in shown and shown.count(b"\r") > 1
    assert capsys.readouterr().out == ""


def test_decoding_tells_in_a_file_how_far_it_is(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        Progress.__init__, "__kwdefaults__", {**Progress.__init__.__kwdefaults__, "seconds_between_lines": 0}
    )
    photos, _ = find_photos(sample / "images", profile_folders(sample / "images")[:1])
    table = build_table(photos, sample / "images")
    PixelCache(table, Preprocessing((16, 16)), tmp_path).look_through(num_threads=0)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"decoding  photo {number}/7" for number in range(1, 8)]
    assert printed.err == ""
