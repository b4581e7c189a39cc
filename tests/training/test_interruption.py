"""Signals: the first one is remembered until the update is done, the second Ctrl-C leaves, and a hang is left too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from maskcls.training.interruption import SECONDS_OF_ONE_CTRL_C, SIGNALS, StopRequest
from tests.helpers import ROOT

HANG = 30.0  # seconds: no statement about speed


@pytest.fixture
def stop() -> Iterator[StopRequest]:
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


def test_signals_do_again_what_they_did_before() -> None:
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


def left(lines: str, *, may_hang: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Returns a process that listens, does what `lines` say, and would end well much later."""
    code = (
        "import os, signal, time\n"
        "from maskcls.training import interruption\n"
        "interruption.SECONDS_OF_ONE_CTRL_C, interruption.SECONDS_TO_FINISH_UPDATE = 0.2, 0.4\n"
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


def test_updates_that_take_long_have_longer_to_finish() -> None:
    ended = left("time.sleep(0.4); stop.update_done(); send('SIGTERM'); time.sleep(0.7); print('done')", may_hang=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_a_process_that_waits_for_another_one_hears_signals_too() -> None:
    """Python would call a handler only after the wait, which for a lost partner is never."""
    ended = left(
        "import threading, torch\n"
        "store = torch.distributed.TCPStore('127.0.0.1', 0, 1, True)\n"
        "threading.Timer(0.5, send, ['SIGTERM']).start()\n"
        "store.get('what nobody sets')\n", may_hang=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (3, "the other processes do not answer: left\n")
