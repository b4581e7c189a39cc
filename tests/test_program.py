"""Every program ends with one message and the exit code that says what happened, whoever reads its output."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

CLOSED = "| (exec 0<&-; sleep 1)"  # a reader that wants nothing at all


def ended(body: str, *, output: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Returns a program that did what `body` says; output: where the shell sends what it prints, as in > /dev/full."""
    code = (
        f"import sys\nfrom maskcls.program import errors_end_the_program\nwith errors_end_the_program():\n    {body}\n"
    )
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {output}', sys.executable, code],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("bytearray(2**62)", 3, "error: out of memory: Python has none left. Fewer photos at once take less: "),
        ("raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried to allocate 9 bytes')", 3,
         "error: out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Fewer "),
        ("open('/none/such')", 3, "error: /none/such: No such file or directory"),
        ("open('/dev/full', 'w', 1).write('x\\n')", 3, "error: No space left on device"),
        ("raise ConnectionResetError(104, 'gone')", 3, "error: Connection reset by peer"),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_ends_with_one_message_and_its_code(body: str, code: int, message: str) -> None:
    program = ended(body)
    assert (program.returncode, program.stdout) == (code, "")
    assert program.stderr.startswith(message) and program.stderr.count("\n") == 1


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    program = ended("raise RuntimeError('size mismatch')")
    assert program.returncode == 1
    assert program.stderr.startswith("Traceback") and program.stderr.endswith("RuntimeError: size mismatch\n")


@pytest.mark.parametrize(
    "body", ["print('x\\n' * 100_000)", "[print('x') for _ in range(100_000)]", "print('x', end='')"]
)
def test_a_reader_who_wants_no_more_is_left_without_a_word(body: str) -> None:
    program = ended(body, output=CLOSED)
    assert (program.returncode, program.stderr) == (141, "")


def test_help_goes_through_a_pipe_too() -> None:
    program = ended("import train; sys.argv[1:] = ['--help']; train.main()", output=CLOSED)
    assert (program.returncode, program.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_a_full_disk_does_not_take_is_said_once() -> None:
    program = ended("print('x' * 100_000)", output="> /dev/full")
    assert (program.returncode, program.stderr) == (3, "error: standard output: No space left on device\n")


def test_any_text_can_be_printed_in_any_encoding() -> None:
    text = "실험 \\udcb0"  # a name that is no UTF-8 is read so
    program = ended(f"print('{text}'); raise OSError(2, '', '{text}')", PYTHONIOENCODING="ascii")
    assert program.stdout == "\\uc2e4\\ud5d8 \\udcb0\n"
    assert program.stderr == "error: \\uc2e4\\ud5d8 \\udcb0: No such file or directory\n"
    assert ended(f"print('{text}')", PYTHONIOENCODING="utf-8").stdout == "실험 \\udcb0\n"


def test_a_line_is_in_the_file_when_it_is_printed(tmp_path: Path) -> None:
    body = f"print('line'); print(open('{tmp_path}/log').read(), file=sys.stderr)"
    assert ended(body, output=f"> {tmp_path}/log").stderr == "line\n\n"


def test_a_program_without_standard_output_ends_as_any_other() -> None:
    assert ended("print('x')", output=">&-").returncode == 0


def test_a_closed_terminal_does_not_change_the_code() -> None:
    terminal, end = pty.openpty()
    code = (
        "from maskcls.errors import Stopped\n"
        "from maskcls.program import errors_end_the_program\n"
        "with errors_end_the_program():\n    input()\n    raise Stopped('everything saved')\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    os.close(terminal)
    program.communicate(b"go on\n", timeout=30)
    assert program.returncode == 75
