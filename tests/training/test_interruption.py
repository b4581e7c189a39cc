"""Signals: the first one is remembered until the update is done, the second Ctrl-C leaves, and a hang is left too."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from maskcls.training.interruption import SECONDS_OF_ONE_CTRL_C, SIGNALS, StopRequest
from tests.helpers import ROOT

HANG = 30.0  # seconds: no statement about speed


@pytest.fixture
def terminal() -> Iterator[None]:
    """Lets the signals do what they do in a terminal, also where the tests run in the background or under nohup."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def stop(terminal: None) -> Iterator[StopRequest]:
    request = StopRequest()
    request.listen(may_hang=False)
    yield request
    request.ignore()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_the_process_goes_on(number: signal.Signals, stop: StopRequest) -> None:
    assert stop.number == 0
    os.kill(os.getpid(), number)
    assert stop.number == number
    stop.update_done()
    assert stop.number == number


def test_the_first_of_several_signals_counts_and_ctrl_c_twice_within_a_second_is_once(stop: StopRequest) -> None:
    for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert stop.number == signal.SIGUSR1


def test_signals_do_again_what_they_did_before(terminal: None) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    request = StopRequest()
    request.listen(may_hang=True)
    assert all(signal.getsignal(number) != handler for number, handler in zip(SIGNALS, before, strict=True))
    request.ignore()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)
    assert request.number == 0


def left(
    lines: str, *, may_hang: bool = False, ignored: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Returns a process that listens, does what `lines` say, and would end well much later."""
    code = (
        "import os, signal, sys, time\n"
        "from maskcls.training import interruption\n"
        "interruption.SECONDS_OF_ONE_CTRL_C, interruption.SECONDS_TO_FINISH_UPDATE = 0.2, 0.4\n"
        "for number in interruption.SIGNALS: signal.signal(number, signal.SIG_DFL)\n"  # as a terminal starts it
        f"for name in {ignored}: signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
        "stop = interruption.StopRequest()\n"
        f"stop.listen(may_hang={may_hang})\n"
        "def send(name): os.kill(os.getpid(), getattr(signal, name))\n"
    ) + lines
    environment = {name: value for name, value in os.environ.items() if name != "RANK"} | environment
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def test_a_second_ctrl_c_after_the_first_ones_second_leaves_at_once() -> None:
    ended = left(
        "send('SIGINT'); send('SIGINT'); time.sleep(0.5); print('on', flush=True); send('SIGINT'); time.sleep(60)"
    )
    assert (ended.returncode, ended.stdout) == (130, "on\n")
    assert ended.stderr == "interrupted twice: left at once, without saving\n"
    assert SECONDS_OF_ONE_CTRL_C == 1.0  # what the sentence in the name says


def test_ctrl_c_after_a_request_of_the_scheduler_leaves_too_but_another_request_does_not() -> None:
    ended = left("send('SIGTERM'); time.sleep(0.5); send('SIGTERM'); send('SIGUSR1'); time.sleep(0.2)\n"
                 "print('on', flush=True); send('SIGINT'); time.sleep(60)", RANK="1")  # fmt: skip
    assert (ended.returncode, ended.stdout) == (130, "on\n")
    assert ended.stderr == "rank 1: interrupted twice: left at once, without saving\n"


def test_a_process_whose_update_does_not_end_leaves_with_its_rank_and_the_reason() -> None:
    ended = left("send('SIGTERM'); time.sleep(60)", may_hang=True, RANK="3")
    assert (ended.returncode, ended.stderr) == (3, "rank 3: the other processes do not answer: left\n")


def test_a_process_that_comes_to_the_end_of_its_update_is_not_ended() -> None:
    ended = left("send('SIGTERM'); time.sleep(0.1); stop.update_done(); time.sleep(0.6); print('saved')", may_hang=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "saved\n", "")


@pytest.mark.slow
def test_a_signal_that_comes_while_the_processes_agree_to_stop_does_not_end_the_saving() -> None:
    """The other process has been told before: this one is asked to stop when its update is already done."""
    ended = left(
        "from types import SimpleNamespace\n"
        "from maskcls.errors import Stopped\n"
        "from maskcls.training.saver import Saver\n"
        "from maskcls.training.state import RunProgress\n"
        "def largest(*numbers): send('SIGTERM'); time.sleep(0.2); return [signal.SIGTERM, 0]\n"
        "launch = SimpleNamespace(num_processes=2, largest=largest)\n"
        "learner, run = SimpleNamespace(num_updates=7), SimpleNamespace(path='runs/exp')\n"
        "config = SimpleNamespace(checkpoint_every=lambda unit: None)\n"
        "saver = Saver(launch, learner, run, RunProgress(None), config=config, data_key='')\n"
        "saver.save = lambda: time.sleep(0.8)\n"
        "try:\n"
        "    with saver: saver.update_done()\n"
        "except Stopped as stopped: print(stopped)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("stopped by SIGTERM after update 7, everything saved.")


def test_updates_that_take_long_have_longer_to_finish() -> None:
    ended = left("time.sleep(0.4); stop.update_done(); send('SIGTERM'); time.sleep(0.7); print('done')", may_hang=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_process_that_waits_for_another_one_hears_signals_too() -> None:
    """Python would call a handler only after the wait, which for a lost partner is never."""
    ended = left(
        "import threading, torch\n"
        "store = torch.distributed.TCPStore('127.0.0.1', 0, 1, True)\n"
        "threading.Timer(0.5, send, ['SIGTERM']).start()\n"
        "store.get('what nobody sets')\n", may_hang=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (3, "the other processes do not answer: left\n")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    """As SIGHUP under nohup, and SIGINT in the background of a script."""
    for name, other in (("SIGINT", "SIGHUP"), ("SIGHUP", "SIGINT")):
        lines = f"send('{name}'); send('{name}'); time.sleep(0.4); send('{name}'); print(stop.number)\n"
        lines += f"send('{other}'); print(signal.Signals(stop.number).name); stop.ignore()\n"
        lines += f"print(signal.getsignal(signal.{name}).name)"
        ended = left(lines, ignored=[name])
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"0\n{other}\nSIG_IGN\n", "")


@pytest.mark.parametrize("how", ["nohup {}", "trap '' INT; {}", "({} &); wait"])
def test_a_program_started_by_nohup_or_in_the_background_is_not_stopped_by_what_its_starter_ignores(how: str) -> None:
    code = (
        "import os, signal\nfrom maskcls.training.interruption import StopRequest\n"
        "stop = StopRequest()\nstop.listen(may_hang=False)\n"
        "ignored = [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_IGN]\n"
        "[os.kill(os.getpid(), n) for n in ignored]\nprint(len(ignored), stop.number)"
    )
    shell = ["bash", "-c", how.format('"$0" -c "$1"') + " 2>/dev/null | cat", sys.executable, code]
    ended = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False)
    assert ended.stdout in ("1 0\n", "2 0\n")  # 2: the tests themselves run so


def test_a_run_whose_terminal_is_closed_saves_and_ends_although_it_prints(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        "from maskcls.errors import Stopped\n"
        "from maskcls.program import errors_end_the_program\n"
        "from maskcls.training.interruption import StopRequest\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "with errors_end_the_program():\n"
        "    stop = StopRequest()\n    stop.listen(may_hang=False)\n    print('ready')\n"
        "    while not stop.number: time.sleep(0.01)\n"
        "    print('epoch 3/15'); print('a bar', file=sys.stderr)\n"
        "    Path(sys.argv[1]).write_text(signal.Signals(stop.number).name)\n"
        "    raise Stopped('everything saved')\n"
    )
    master, terminal = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "saved"], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    said = b""
    while not said.endswith(b"\n"):  # a terminal may give a line in pieces
        said += os.read(master, 100)
    assert said == b"ready\r\n"
    os.close(master)
    assert run.wait(HANG) == 75
    assert (tmp_path / "saved").read_text() == "SIGHUP"


def test_a_system_without_the_signals_of_unix_hears_the_others() -> None:
    code = (
        "import signal\ndel signal.SIGHUP, signal.SIGUSR1\nfrom maskcls.training import interruption\n"
        "stop = interruption.StopRequest()\nstop.listen(may_hang=False)\nstop.ignore()\n"
        "print(*(number.name for number in interruption.SIGNALS))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=False
    )
    assert (ended.stdout, ended.stderr) == ("SIGTERM SIGINT\n", "")
