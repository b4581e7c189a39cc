"""Every script of benchmarks/ explains itself and refuses what it does not know; parts end within their bounds."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.parts import MARK, Outcome, Part, last_lines, run_parts
from maskcls.data.profiles import profile_folders
from tests import made
from tests.helpers import ROOT

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Returns a call of a script in this process, which has imported torch: its exit code and what it prints."""

    def call(script: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_measures_and_refuses_an_unknown_argument(
    script: Path, called: Callable[..., tuple[int, str, str]]
) -> None:
    code, output, _ = called(script, "--help")
    assert code == 0
    assert f"benchmarks/{script.name}" in output and "usage:" in output
    code, output, error = called(script, "--unknown")
    assert (code, output) == (2, "")
    assert error.startswith("usage:")
    assert "unrecognized arguments: --unknown" in error or "arguments are required" in error


@pytest.mark.parametrize("arguments, problem", [
    ("epoch nowhere", "argument folder: there is no folder nowhere"),
    ("fuzz 0", "argument cases: 0 is less than 1"),
    ("gpu", "--out is missing: the folder for gpu.md, gpu.json and gpu.log"),
    ("gpu --out OUT --parts model", "--parts: no part 'model'. Did you mean 'models'?"),
    ("gpu --out OUT --seconds 0", "argument --seconds: 0 is not between 0 and a million"),
    ("gpu --out setup.cfg", "--out setup.cfg is not writable: File exists"),
    ("kills 30 2,0", "argument processes: 0 is less than 1"),
    ("seeds many", "argument people: invalid count value: 'many'"),
    ("suspects 150 x", "argument seed: invalid int value: 'x'"),
    ("views nowhere", "argument RUN: there is no folder nowhere"),
    ("winning configs nowhere", "argument other_folds: there is no folder nowhere"),
    ("train_step 0", "argument rounds: 0 is less than 1"),
])  # fmt: skip
def test_a_wrong_argument_is_named(
    arguments: str,
    problem: str,
    called: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    name, *words = arguments.replace("OUT", str(tmp_path / "out")).split()
    code, output, error = called(ROOT / "benchmarks" / f"{name}.py", *words)
    assert (code, output) == (2, "")
    assert problem in error


def test_help_is_quick_because_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import contextlib, os, runpy, sys\n"
        "for script in sys.argv[1:]:\n"
        "    sys.argv, sys.path = [script, '--help'], [os.path.dirname(script), *sys.path]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
        "        runpy.run_path(script, run_name='__main__')\n"
        "    print(script, [name for name in ('torch', 'datasets', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{script} []" for script in SCRIPTS], done.stderr
    assert len(SCRIPTS) >= 12 and {"gpu", "kills", "train_step"} <= {script.stem for script in SCRIPTS}


@pytest.mark.slow
def test_every_step_to_the_final_answer_is_compared_over_the_people_of_all_folds(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made.folds(sample, tmp_path, name=output, output=output).path for output in ("class", "all")]
    script = ROOT / "benchmarks" / "winning.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, folders)])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    people = profile_folders(tmp_path / "images")
    assert any(line.startswith(f"{7 * len(people)} photos of {len(people)} people") for line in lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    steps = ["", ", flip", ", 5 views", ", decision", ", by person", ", all of it"]
    against = {row[0]: row[1] for row in rows[1:]}
    assert len(against) == 2 * len(steps) + 6 and all(len(row) == 6 for row in rows)
    assert [against[f"class{step}"] for step in steps] == ["", *["class"] * 5]
    assert against["blend"] == against["mean"] == against["blend, all of it"] == "the better one"


# Parts


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


LEAVES = "import json, os; json.dump({'result': 3}, open(os.environ['MASKCLS_PART_RESULT'], 'w'))"
# A process that starts another one in a session of its own, which outlives a kill of its group.
HANGS = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "print('started', flush=True)\ntime.sleep(60)"
)


def run_all(parts: list[Part], folder: Path, *, seconds: float = 60, num_at_once: int = 1) -> dict[str, Outcome]:
    return run_parts(parts, folder, until=time.monotonic() + seconds, num_at_once=num_at_once, environment={})


def marked() -> set[int]:
    """Returns the numbers of the processes that HANGS is made of, whoever is their parent."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found |= {process.pid} if MARK in process.environ() and "sleep(60)" in process.cmdline()[-1] else set()
    return found


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    parts = [
        Part("fails", python("print('step 1'); raise ValueError('no kernel for this')"), 30),
        Part("dies", python("import os; os.kill(os.getpid(), 9)"), 30),
        Part("hangs", python(HANGS), 1.5),
        Part("works/well", python(LEAVES), 30),
        Part("builds on it", python(LEAVES), 30, needs="works/well"),
        Part("builds on nothing", python(LEAVES), 30, needs="fails"),
        Part("elsewhere", python(LEAVES), 30, not_here="GPUs here: 0, needed: 1"),
    ]
    outcomes = run_all(parts, tmp_path, num_at_once=3)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "fails": "failed", "dies": "failed", "hangs": "timed out", "works/well": "ok", "builds on it": "ok",
        "builds on nothing": "skipped", "elsewhere": "skipped",
    }  # fmt: skip
    assert outcomes["fails"].reason[-2:] == ["ValueError: no kernel for this", "ended with code 1"]
    assert outcomes["fails"].output.startswith("step 1\n")
    assert outcomes["dies"].reason == ["ended with signal 9"]
    assert outcomes["hangs"].reason == ["started", "took more than 2 s"]
    assert 1.5 <= outcomes["hangs"].seconds < 15
    assert outcomes["works/well"].values == outcomes["builds on it"].values == {"result": 3}
    assert outcomes["builds on nothing"].reason == ["it builds on fails, whose end was: failed"]
    assert outcomes["elsewhere"].reason == ["GPUs here: 0, needed: 1"]


@pytest.mark.slow
def test_all_processes_of_a_part_end_with_it_in_whatever_session_they_are(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(Exception):
        pass

    def look(outcome: Outcome) -> None:  # while `hangs` runs
        until = time.monotonic() + 25
        while len(marked()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        seen.append(len(marked()))
        raise Watched

    parts = [Part("hangs", python(HANGS), 30), Part("works", python(LEAVES), 30)]
    with pytest.raises(Watched):
        run_parts(parts, tmp_path, until=time.monotonic() + 60, num_at_once=2, environment={}, ended=look)
    assert seen == [2]
    assert marked() == set()


@pytest.mark.slow
def test_the_whole_ends_in_time_and_says_which_parts_had_none(tmp_path: Path) -> None:
    parts = [Part("long", python(HANGS), 100), Part("next", python(LEAVES), 100)]
    outcomes = run_all(parts, tmp_path, seconds=2)
    assert outcomes["long"].status == "timed out"
    assert outcomes["long"].reason[-1] == "took more than 2 s, all that was left"
    assert (outcomes["next"].status, outcomes["next"].reason) == ("timed out", ["no time was left"])


@pytest.mark.slow
def test_a_timed_part_runs_alone(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, time; at = pathlib.Path(os.environ['MASKCLS_PART_RESULT']); "
        "began = time.time(); time.sleep(0.3); at.write_text(f'[{{\"span\": [{began}, {time.time()}]}}]'[1:-1])"
    )
    parts = [Part(name, python(code), 30, is_alone=name == "timed") for name in ("a", "b", "timed", "c")]
    spans = {name: outcome.values["span"] for name, outcome in run_all(parts, tmp_path, num_at_once=2).items()}
    assert max(spans["a"][0], spans["b"][0]) < min(spans["a"][1], spans["b"][1])  # beside each other
    assert max(spans["a"][1], spans["b"][1]) <= spans["timed"][0] and spans["timed"][1] <= spans["c"][0]


def test_the_reason_is_the_programs_and_not_its_launchers() -> None:
    launcher = "Traceback (most recent call last):\n  File launch.py\nsubprocess.CalledProcessError: Command ...\n"
    output = f"decoding 5 %\rdecoding 100 %\n\nTypeError: numpy() of a cuda tensor\n{launcher}"
    assert last_lines(output) == ["decoding 100 %", "TypeError: numpy() of a cuda tensor"]
    assert last_lines("\n".join(f"line {number}" for number in range(99)))[0] == "line 87"
